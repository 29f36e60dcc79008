"""A remote AE is tried out as a retrieval would meet it: batch by batch, sending nothing."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from pacsnode.catalog.records import FailureCause, KeptFile, StoredInstance
from pacsnode.conversion.converter import ODD_LENGTH
from pacsnode.dicom.ae import RemoteAE
from pacsnode.file_store import FileStore
from pacsnode.network.peer_check import PeerCheck, Prospect
from pacsnode.network.toolkit import AssociationLimits
from tests.support.destination import Conversation, Script, destination
from tests.support.wire import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

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


# File Meta Information of nothing but its group length, 0.
_HEADER = bytes(128) + b"DICM" + bytes.fromhex("02000000554c040000000000")


@pytest.fixture
def instances(tmp_path: Path) -> list[StoredInstance]:
    """An instance of each of seventy SOP classes; the last one has no file."""
    made = []
    for number, sop_class_uid in enumerate(CLASSES):
        file = KeptFile(f"{number}.dcm", EXPLICIT_VR_LITTLE_ENDIAN, bytes(32), 4)
        made.append(StoredInstance(sop_class_uid, f"1.4.{number}", file))
        (tmp_path / "storage").mkdir(exist_ok=True)
        (tmp_path / "storage" / file.path).write_bytes(_HEADER + b"data")
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


def _prospect(file_store: FileStore, stored_in: str, accepted: str, data_set: bytes) -> Prospect:
    """Return what becomes of an instance if its class is accepted in one transfer syntax."""
    file = KeptFile("one.dcm", stored_in, bytes(32), len(data_set))
    file_store.path(file.path).write_bytes(_HEADER + data_set)
    instance = StoredInstance(CLASSES[0], "1.4.1", file)
    with destination(sop_class_uids=CLASSES[:1], transfer_syntax_uids=(accepted,)) as running:
        (batch,) = _check(running.port).instances([instance], file_store)
    (prospect,) = batch.prospects
    return prospect


def test_an_encapsulated_data_set_of_odd_length_fails(file_store: FileStore) -> None:
    """No message may be of odd length, and nothing is compressed anew (PS3.5 A.4, E-37)."""
    prospect = _prospect(file_store, JPEG2000Lossless, JPEG2000Lossless, b"odd")
    assert prospect.failure
    assert prospect.failure.cause is FailureCause.CONVERSION
    assert prospect.failure.reason == ODD_LENGTH


def test_a_native_data_set_of_odd_length_is_encoded_again(file_store: FileStore) -> None:
    """In its own transfer syntax; one of even length goes out as it is."""
    for data_set, is_reencoded in ((b"odd", True), (b"even", False)):
        prospect = _prospect(
            file_store, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, data_set
        )
        assert prospect.failure is None
        assert prospect.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
        assert prospect.is_reencoded == is_reencoded


@pytest.mark.parametrize(
    ("stored_in", "accepted", "is_decompressed"),
    [
        (RLELossless, EXPLICIT_VR_LITTLE_ENDIAN, True),
        (RLELossless, RLELossless, False),
        (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, False),
    ],
)
def test_what_has_to_be_decompressed_is_told(
    file_store: FileStore, stored_in: str, accepted: str, *, is_decompressed: bool
) -> None:
    """Compressed pixels for a peer of native transfer syntaxes alone, and nothing else."""
    prospect = _prospect(file_store, stored_in, accepted, b"even")
    assert prospect.failure is None
    assert prospect.is_decompressed == is_decompressed


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
