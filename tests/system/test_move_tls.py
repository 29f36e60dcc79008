"""C-MOVE to a destination over TLS: DCMTK's storescp with a certificate made for the test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import collection, dcmtk
from tests.support.certificates import CertificateFiles, make_certificate
from tests.support.collection import NATIVE, S1
from tests.support.dcmtk import Receiver
from tests.support.instances import encoded_data_set_of
from tests.support.node import Node, running_node
from tests.support.wire import STUDY_ROOT_MOVE, Response, identifier_of, move, store_all

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Place:
    """A node, and a storescp over TLS that wants a certificate of whoever calls it."""

    node: Node
    receiver: Receiver

    def move(self, ae_title: str) -> Response:
        """Have S1 moved; return the final response."""
        identifier = identifier_of("STUDY", StudyInstanceUID=S1)
        return move(self.node.address, STUDY_ROOT_MOVE, ae_title, identifier)


def _tls_options(theirs: CertificateFiles, ours: CertificateFiles) -> list[str]:
    return ["+tls", str(theirs.key), str(theirs.certificate), "+cf", str(ours.certificate)]


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """Both; the node knows the receiver under several titles, each with other settings of TLS."""
    theirs, ours, others = (
        make_certificate(module_folder, name) for name in ("theirs", "ours", "others")
    )
    stranger = make_certificate(module_folder, "stranger", host="pacs.example")
    with (
        dcmtk.storescp(
            module_folder / "received", "TLS", None, *_tls_options(theirs, ours)
        ) as receiver,
        dcmtk.storescp(
            module_folder / "stranger", "STRANGER", None, *_tls_options(stranger, ours)
        ) as misnamed,
        dcmtk.storescp(module_folder / "plain", "PLAIN") as plain,
    ):
        shown = {"certificate_file": str(ours.certificate), "key_file": str(ours.key)}
        entries: dict[str, tuple[Receiver, dict[str, Any] | None]] = {
            "TLS": (receiver, {**shown, "ca_file": str(theirs.certificate)}),
            "WITHOUT": (receiver, None),
            "NOTSHOWN": (receiver, {"ca_file": str(theirs.certificate)}),
            "DISTRUSTED": (receiver, {**shown, "ca_file": str(others.certificate)}),
            "MISNAMED": (misnamed, {**shown, "ca_file": str(stranger.certificate)}),
            "UNCHECKED": (
                misnamed,
                {**shown, "ca_file": str(stranger.certificate), "checks_host_name": False},
            ),
            "PLAIN": (plain, {**shown, "ca_file": str(theirs.certificate)}),
        }
        remote_aes = [
            {
                "ae_title": title,
                "host": "127.0.0.1",
                "port": peer.port,
                "negotiation_timeout_seconds": 2,
                **({"tls": tls} if tls else {}),
            }
            for title, (peer, tls) in entries.items()
        ]
        with running_node(module_folder / "node", remote_aes=remote_aes) as node:
            store_all(node.address, list(NATIVE.values()))
            yield Place(node, receiver)


def test_a_study_arrives_over_tls(place: Place) -> None:
    """Each with the other's certificate: every byte (H-40)."""
    final = place.move("TLS")

    assert (final.status, final.counters) == (0x0000, (None, 4, 0, 0))
    received = {path.name.partition(".")[2]: path for path in place.receiver.files()}
    assert {uid: encoded_data_set_of(path) for uid, path in received.items()} == collection.of(
        NATIVE, S1
    )


def test_a_host_name_is_not_checked_where_that_was_said(place: Place) -> None:
    """A certificate of another host, with checks_host_name false."""
    final = place.move("UNCHECKED")

    assert (final.status, final.counters) == (0x0000, (None, 4, 0, 0))


@pytest.mark.parametrize(
    ("ae_title", "word"),
    [
        ("DISTRUSTED", "certificate"),
        ("MISNAMED", "certificate"),
        ("NOTSHOWN", ""),
        ("WITHOUT", ""),
        ("PLAIN", ""),
    ],
)
def test_nothing_is_sent_where_tls_does_not_come_about(
    place: Place, ae_title: str, word: str
) -> None:
    """A702, all failed, and the reason in the log (E-5)."""
    before = len(place.node.log)

    final = place.move(ae_title)

    assert (f"{final.status:04X}", final.counters) == ("A702", (None, 0, 4, 0))
    lines = [line for line in place.node.log[before:].splitlines() if " failed: " in line]
    assert len(lines) == 4
    assert all("no association: " in line and word in line for line in lines)
