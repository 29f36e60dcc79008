"""What did not arrive, and how an administrator learns why: the log and `pacsnode why`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, JPEG2000Lossless

from tests.support import collection
from tests.support.collection import NATIVE, S1, S1_CT, S1_SR, S2, S2_CT, S3, S4
from tests.support.conversation import Conversation
from tests.support.destination import Script, destination
from tests.support.instances import Instance
from tests.support.node import Node, free_port, running_node
from tests.support.wire import (
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    Association,
    Requestor,
    get,
    identifier_of,
    query_contexts,
    store_all,
)

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Place:
    """A node that holds the collection and knows PEER, and DOWN, where nobody listens."""

    node: Node
    port: int
    compressed: dict[str, Instance]

    def move(self, study: str, ae_title: str = "PEER") -> None:
        """Have a study moved by VIEWER."""
        requestor = Requestor(calling_ae_title=b"VIEWER")
        with Association(self.node.address, query_contexts(), requestor) as association:
            identifier = identifier_of("STUDY", StudyInstanceUID=study)
            association.c_move(STUDY_ROOT_MOVE, ae_title, identifier)

    def why(self, *arguments: str) -> list[str]:
        """Return the lines of `pacsnode why`, without the heads of columns."""
        done = self.node.run("why", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        _, *lines = done.stdout.splitlines()
        return [line for line in lines if line.strip(" ─━-")]


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """The node; nobody listens yet."""
    compressed = collection.compressed(module_folder)
    port = free_port()
    remote_aes = [
        {"ae_title": title, "host": "127.0.0.1", "port": number, "dimse_timeout_seconds": 1}
        for title, number in (("PEER", port), ("DOWN", free_port()))
    ]
    with running_node(module_folder / "node", remote_aes=remote_aes) as node:
        store_all(node.address, [*NATIVE.values(), *compressed.values()])
        yield Place(node, port, compressed)


def test_a_destination_that_is_down(place: Place) -> None:
    """One line for the study: when, who, whereto, how many, why; the same by AE title."""
    place.move(S1, "DOWN")

    (line,) = place.why(S1)
    for word in ("C-MOVE", "VIEWER", "DOWN", "4", "no association", "connection refused"):
        assert word in line
    assert place.why("DOWN") == [line]
    assert len(place.why(S1, "--all")) == 4


def test_a_refusal_with_a_comment(place: Place) -> None:
    """Found by study, series and instance; the status and the words of the destination."""
    refuse = Script(on_store=lambda talk, _: talk.answer(0xA700, "Quota of ward 5 is used up"))
    with destination("PEER", script=refuse, port=place.port):
        place.move(S2)

    for uid in (S2, S2_CT):
        (line,) = place.why(uid)
        for word in ("PEER", "refused", "A700", "Quota of ward 5 is used up"):
            assert word in line
    (line,) = place.why(f"{S2_CT}.1")
    assert "Quota of ward 5 is used up" in line


def test_what_a_destination_does_not_take(place: Place) -> None:
    """No context for the report; images have arrived and are not mentioned."""
    with destination("PEER", (CTImageStorage,), port=place.port):
        place.move(S1)

    (line,) = place.why(f"{S1_SR}.1")[:1]
    assert "no presentation context" in line
    # What failed in an earlier test was for another reason.
    assert not any("PEER" in line for line in place.why(f"{S1_CT}.1"))


def test_an_association_that_is_lost(place: Place) -> None:
    """Each instance that was not sent, after the second loss."""
    with destination("PEER", script=Script(on_store=_hang_up), port=place.port):
        place.move(S3)

    (line,) = place.why(S3)
    assert "association lost" in line


def test_a_destination_that_never_answers(place: Place) -> None:
    """Its own timeout is told."""
    with destination("PEER", script=Script(on_store=_ignore), port=place.port):
        place.move(S3)

    assert "no answer" in place.why(S3)[0]


def test_a_compression_that_a_destination_lacks(place: Place) -> None:
    """What it would have to be put into another compression for."""
    classes = {each.sop_class_uid for each in place.compressed.values()}
    with destination("PEER", [*classes], [JPEG2000Lossless], port=place.port):
        place.move(S4)

    failed = [
        uid
        for uid, each in place.compressed.items()
        if each.transfer_syntax_uid != JPEG2000Lossless
    ]
    assert len(place.why(S4, "--all")) == len(failed)


def test_a_get_without_roles(place: Place) -> None:
    """The requestor is the destination; it is found by its title."""
    got = get(place.node.address, STUDY_ROOT_GET, identifier_of("STUDY", StudyInstanceUID=S3), [])
    assert f"{got.final.status:04X}" == "A702"

    (line,) = place.why("WIRE")
    for word in ("C-GET", "WIRE", "no presentation context"):
        assert word in line


def test_what_has_not_failed(place: Place) -> None:
    """Nothing is said of an instance that was never asked for."""
    done = place.node.run("why", "1.2.3.4.5")

    assert "1.2.3.4.5" in done.stdout + done.stderr


def test_failures_outlive_a_restart(place: Place) -> None:
    """They are in the catalog."""
    before = place.why(S2)

    place.node.restart()

    assert place.why(S2) == before


def _hang_up(talk: Conversation, _: object) -> None:
    talk.hang_up()


def _ignore(talk: Conversation, _: object) -> None:
    talk.ignore()
