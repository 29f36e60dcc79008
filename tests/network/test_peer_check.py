"""A remote AE is tried out as a retrieval would meet it: batch by batch, sending nothing."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pacsnode.catalog.records import FailureCause, KeptFile, StoredInstance
from pacsnode.dicom.ae import RemoteAE
from pacsnode.file_store import FileStore
from pacsnode.network.peer_check import PeerCheck
from pacsnode.network.toolkit import AssociationLimits
from tests.support.destination import Conversation, Script, destination
from tests.support.wire import EXPLICIT_VR_LITTLE_ENDIAN

LIMITS = AssociationLimits(
    maximum_pdu_length_bytes=131_072,
    negotiation_timeout_seconds=5,
    dimse_timeout_seconds=5,
    idle_timeout_seconds=5,
    connect_timeout_seconds=5,
)
CLASSES = tuple(f"1.2.826.0.1.3680043.8.498.1.{number}" for number in range(70))


def _check(port: int, **settings: float) -> PeerCheck:
    remote = RemoteAE("DEST", "127.0.0.1", port, **settings)
    return PeerCheck(remote, calling_ae_title="PACSNODE", limits=LIMITS)


@pytest.fixture
def instances(tmp_path: Path) -> list[StoredInstance]:
    """An instance of each of seventy SOP classes; the last one has no file."""
    # File Meta Information of nothing but its group length, 0.
    content = bytes(128) + b"DICM" + bytes.fromhex("02000000554c040000000000") + b"data"
    made = []
    for number, sop_class_uid in enumerate(CLASSES):
        file = KeptFile(f"{number}.dcm", EXPLICIT_VR_LITTLE_ENDIAN, bytes(32), 4)
        made.append(StoredInstance(sop_class_uid, f"1.4.{number}", file))
        (tmp_path / "storage").mkdir(exist_ok=True)
        (tmp_path / "storage" / file.path).write_bytes(content)
    (tmp_path / "storage" / "69.dcm").unlink()
    return made


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[FileStore]:
    """Where their files are."""
    with closing(FileStore(tmp_path / "storage")) as made:
        yield made


def test_every_batch_is_negotiated(file_store: FileStore, instances: list[StoredInstance]) -> None:
    """Seventy classes in two syntaxes each are more than 128 contexts: two associations (E-32)."""
    with destination(sop_class_uids=CLASSES) as running:
        checked = list(_check(running.port).instances(instances, file_store))
    assert [(batch.proposed, batch.accepted) for batch in checked] == [(128, 128), (12, 12)]
    assert running.associations == 2
    assert running.endings == ["released", "released"]
    assert running.received == []
    causes = Counter(
        prospect.failure and prospect.failure.cause
        for batch in checked
        for prospect in batch.prospects
    )
    assert causes == {None: 69, FailureCause.FILE: 1}


def test_a_batch_that_is_not_let_in_fails_alone(
    file_store: FileStore, instances: list[StoredInstance]
) -> None:
    """The next one is tried all the same (E-32)."""
    connections = []

    def hang_up_first(talk: Conversation) -> None:
        connections.append(talk)
        if len(connections) == 1:
            talk.hang_up()

    script = Script(on_connection=hang_up_first)
    with destination(sop_class_uids=CLASSES, script=script) as running:
        checked = list(_check(running.port).instances(instances, file_store))
    assert [bool(batch.step.failure) for batch in checked] == [True, False]
    assert {p.failure.cause for p in checked[0].prospects if p.failure} == {
        FailureCause.NO_ASSOCIATION
    }


def test_an_association_that_is_lost_before_the_echo_is_answered_is_told() -> None:
    """The association came about, and the C-ECHO says how it ended."""
    script = Script(pace=_raise_on_third_piece())
    with destination(sop_class_uids=("1.2.840.10008.1.1",), script=script) as running:
        steps = list(_check(running.port).echo())
    assert [(step.name, bool(step.failure)) for step in steps] == [
        ("association", False),
        ("C-ECHO", True),
    ]


def _raise_on_third_piece():  # noqa: ANN202 - a closure of the test
    """Return a pace that breaks the connection when the first request comes."""
    pieces = []

    def pace() -> None:
        pieces.append(None)
        if len(pieces) == 3:  # head and body of the association request came before
            raise OSError

    return pace
