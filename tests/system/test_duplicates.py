"""The same SOP Instance UID again: one row, one file, the first content is kept (F-20, F-21)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from pydicom.uid import CTImageStorage

from tests.support.destination import Destination, destination
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.node import Node, running_node
from tests.support.wire import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Association,
    Response,
    find,
    identifier_of,
    move,
    storage_contexts,
)

pytestmark = pytest.mark.system

_SENDERS = 8


@pytest.fixture(scope="module")
def receiver() -> Iterator[Destination]:
    """The move destination that shows what is kept."""
    with destination("DEST", (CTImageStorage,)) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, receiver: Destination) -> Iterator[Node]:
    """A node with an empty archive."""
    receiver.forget()
    remote_aes = [{"ae_title": "DEST", "host": "127.0.0.1", "port": receiver.port}]
    with running_node(tmp_path, remote_aes=remote_aes) as running:
        yield running


def _store(node: Node, instance: Instance) -> Response:
    with Association(node.address, storage_contexts([instance])) as association:
        return association.c_store(instance)


def _held(node: Node) -> list[str]:
    """Return the SOP Instance UID of every row."""
    uids = []
    studies, _ = find(node.address, STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID=""))
    for study in studies:
        upper = {"StudyInstanceUID": study.StudyInstanceUID}
        series_found, _ = find(
            node.address, STUDY_ROOT_FIND, identifier_of("SERIES", **upper, SeriesInstanceUID="")
        )
        for series in series_found:
            keys = {**upper, "SeriesInstanceUID": series.SeriesInstanceUID, "SOPInstanceUID": ""}
            images, _ = find(node.address, STUDY_ROOT_FIND, identifier_of("IMAGE", **keys))
            uids += [image.SOPInstanceUID for image in images]
    return uids


def _delivered(node: Node, receiver: Destination, instance: Instance) -> list[bytes]:
    study = str(instance.study_instance_uid)
    move(node.address, STUDY_ROOT_MOVE, "DEST", identifier_of("STUDY", StudyInstanceUID=study))
    return [store.encoded_data_set for store in receiver.received]


def test_an_identical_duplicate_is_a_success_and_changes_nothing(
    node: Node, receiver: Destination
) -> None:
    """The same bytes again: 0000, one row, one file, delivered once (F-20)."""
    instance = encoded(ct_data_set())

    statuses = [_store(node, instance).status for _ in range(3)]

    assert statuses == [0x0000] * 3
    assert _held(node) == [instance.sop_instance_uid]
    assert len(node.stored_files()) == 1
    assert _delivered(node, receiver, instance) == [instance.encoded_data_set]


def test_a_duplicate_with_other_content_is_answered_with_a_warning_and_the_first_is_kept(
    node: Node, receiver: Destination
) -> None:
    """B000 with a comment, for Success would promise retrieval; the first is delivered (F-20)."""
    first = ct_data_set()
    second = ct_data_set(
        SOPInstanceUID=first.SOPInstanceUID,
        StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=first.SeriesInstanceUID,
        PatientID="EX2",
    )
    assert _store(node, encoded(first)).status == 0x0000

    response = _store(node, encoded(second))

    assert f"{response.status:04X}" == "B000"
    assert response.error_comment
    assert _held(node) == [first.SOPInstanceUID]
    assert _delivered(node, receiver, encoded(first)) == [encoded(first).encoded_data_set]


def test_a_duplicate_in_another_study_does_not_make_that_study(node: Node) -> None:
    """The study of a refused duplicate is not listed: it would be empty (F-20)."""
    first = ct_data_set()
    second = ct_data_set(SOPInstanceUID=first.SOPInstanceUID)
    _store(node, encoded(first))

    assert f"{_store(node, encoded(second)).status:04X}" == "B000"

    answers, _ = find(node.address, STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID=""))
    assert [answer.StudyInstanceUID for answer in answers] == [first.StudyInstanceUID]


def test_a_duplicate_is_refused_where_the_configuration_says_so(tmp_path: Path) -> None:
    """With on_duplicate: reject other content gets a Cxxx status, identical content 0000 (F-20)."""
    first = ct_data_set()
    other = ct_data_set(SOPInstanceUID=first.SOPInstanceUID)
    with running_node(tmp_path, storage={"on_duplicate": "reject"}) as node:
        assert _store(node, encoded(first)).status == 0x0000
        assert _store(node, encoded(first)).status == 0x0000

        response = _store(node, encoded(other))

        assert response.status & 0xF000 == 0xC000
        assert response.error_comment
        assert len(node.stored_files()) == 1


def test_a_file_that_is_gone_from_the_disk_is_replaced(node: Node, receiver: Destination) -> None:
    """A sender that sends again heals the archive: 0000, and it is delivered (F-20)."""
    instance = encoded(ct_data_set())
    _store(node, instance)
    for path in node.stored_files():
        path.unlink()

    assert f"{_store(node, instance).status:04X}" == "0000"

    assert _delivered(node, receiver, instance) == [instance.encoded_data_set]


def test_a_file_that_is_damaged_on_the_disk_is_replaced(node: Node, receiver: Destination) -> None:
    """One byte of the kept file has changed: sent again, the object is sound again (F-20)."""
    instance = encoded(ct_data_set())
    _store(node, instance)
    (path,) = node.stored_files()
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    assert f"{_store(node, instance).status:04X}" == "0000"

    assert len(node.stored_files()) == 1
    assert _delivered(node, receiver, instance) == [instance.encoded_data_set]


def test_one_uid_sent_by_many_at_once_ends_as_one_row_and_one_file(
    node: Node, receiver: Destination
) -> None:
    """Eight associations send the same object at the same moment: all 0000 (F-21)."""
    instance = encoded(ct_data_set(rows=64, columns=64))
    start = Barrier(_SENDERS)

    def send(_: int) -> int:
        with Association(node.address, storage_contexts([instance])) as association:
            start.wait(30)
            return association.c_store(instance).status

    with ThreadPoolExecutor(_SENDERS) as pool:
        statuses = list(pool.map(send, range(_SENDERS)))

    assert statuses == [0x0000] * _SENDERS
    assert _held(node) == [instance.sop_instance_uid]
    assert len(node.stored_files()) == 1
    assert _delivered(node, receiver, instance) == [instance.encoded_data_set]


def test_one_uid_with_different_content_sent_by_many_at_once_has_one_winner(
    node: Node, receiver: Destination
) -> None:
    """One Success, seven warnings, and what is delivered is what the winner sent (F-20, F-21)."""
    first = ct_data_set()
    uids = {
        keyword: first[keyword].value
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    }
    variants = [encoded(ct_data_set(**uids, StudyID=f"V{number}")) for number in range(_SENDERS)]
    start = Barrier(_SENDERS)

    def send(variant: Instance) -> int:
        with Association(node.address, storage_contexts([variant])) as association:
            start.wait(30)
            return association.c_store(variant).status

    with ThreadPoolExecutor(_SENDERS) as pool:
        statuses = list(pool.map(send, variants))

    assert sorted(statuses) == [0x0000, *[0xB000] * (_SENDERS - 1)]
    assert _held(node) == [first.SOPInstanceUID]
    winner = variants[statuses.index(0x0000)]
    assert _delivered(node, receiver, winner) == [winner.encoded_data_set]
