"""What C-STORE refuses, and that a refused, aborted or half-sent object leaves nothing behind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, MRImageStorage

from tests.support.instances import Instance, ct_data_set, encoded, new_uid, sr_data_set
from tests.support.node import Node, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STUDY_ROOT_FIND,
    Association,
    AssociationAbortedError,
    ProposedContext,
    find,
    identifier_of,
    storage_contexts,
)

pytestmark = pytest.mark.system

_SOP_CLASS = (0x0008, 0x0016)
_SOP_INSTANCE = (0x0008, 0x0018)
_STUDY = (0x0020, 0x000D)
_SERIES = (0x0020, 0x000E)


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node that keeps running through all refusals."""
    with running_node(module_folder) as running:
        yield running


@pytest.fixture
def leaves_nothing(node: Node) -> Iterator[None]:
    """Neither a file anywhere below the storage folder nor a study is left by the test."""
    files, studies = node.stored_files(), _studies(node)
    yield
    # A worker may still be cleaning up after an association that ended without a word.
    wait_until(lambda: node.stored_files() == files, "the storage folder to be as before")
    assert _studies(node) == studies


def _studies(node: Node) -> set[str]:
    answers, final = find(
        node.address, STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID="")
    )
    assert final.status == 0x0000
    return {answer.StudyInstanceUID for answer in answers}


def _instance(**attributes: str) -> Instance:
    """Return a CT image whose values are taken as they are, valid or not."""
    data_set = ct_data_set()
    uid = data_set.SOPInstanceUID
    for keyword, value in identifier_of(None, **attributes).items():
        data_set[keyword] = value
    buffer = encoded(data_set, IMPLICIT_VR_LITTLE_ENDIAN)
    return replace(buffer, sop_class_uid=CTImageStorage, sop_instance_uid=uid)


def _without(*keywords: str) -> Instance:
    data_set = ct_data_set()
    uid = data_set.SOPInstanceUID
    for keyword in keywords:
        delattr(data_set, keyword)
    return replace(encoded(data_set), sop_class_uid=CTImageStorage, sop_instance_uid=uid)


def _cut(instance: Instance, length: int) -> Instance:
    return replace(instance, encoded_data_set=instance.encoded_data_set[:length])


@dataclass(frozen=True)
class Refusal:
    """An instance that is refused: how, and which element is to blame if one is."""

    make: Callable[[], Instance]
    status: int
    offending: tuple[int, int] | None = None


_PLAIN = encoded(ct_data_set())
_REFUSALS = {
    "SOP Instance UID of the command is another": Refusal(
        lambda: replace(encoded(ct_data_set()), sop_instance_uid=new_uid()), 0xA900, _SOP_INSTANCE
    ),
    "SOP Class UID of the command is another": Refusal(
        lambda: replace(encoded(ct_data_set()), sop_class_uid=MRImageStorage), 0xA900, _SOP_CLASS
    ),
    "no SOP Class UID": Refusal(lambda: _without("SOPClassUID"), 0xC001, _SOP_CLASS),
    "no SOP Instance UID": Refusal(lambda: _without("SOPInstanceUID"), 0xC001, _SOP_INSTANCE),
    "no Study Instance UID": Refusal(lambda: _without("StudyInstanceUID"), 0xC001, _STUDY),
    "no Series Instance UID": Refusal(lambda: _without("SeriesInstanceUID"), 0xC001, _SERIES),
    "empty Study Instance UID": Refusal(lambda: _instance(StudyInstanceUID=""), 0xC001, _STUDY),
    "Study Instance UID leads elsewhere": Refusal(
        lambda: _instance(StudyInstanceUID="../../../etc"), 0xC001, _STUDY
    ),
    "Series Instance UID too long": Refusal(
        lambda: _instance(SeriesInstanceUID="1." + "2" * 63), 0xC001, _SERIES
    ),
    "nothing at all": Refusal(
        lambda: replace(_PLAIN, sop_instance_uid=new_uid(), encoded_data_set=b""), 0xC001
    ),
    "garbage": Refusal(
        lambda: replace(
            _PLAIN, sop_instance_uid=new_uid(), encoded_data_set=b"\xff\xfe\xfd garbage " * 99
        ),
        0xC000,
    ),
    "ends inside the header": Refusal(lambda: _cut(encoded(ct_data_set()), 301), 0xC000),
    "ends inside the pixel data": Refusal(
        lambda: _cut(encoded(ct_data_set()), len(_PLAIN.encoded_data_set) - 20), 0xC000
    ),
    "ends inside a sequence": Refusal(
        lambda: _cut(encoded(sr := sr_data_set()), len(encoded(sr).encoded_data_set) - 10), 0xC000
    ),
    "contains File Meta Information": Refusal(
        lambda: replace(
            _PLAIN,
            sop_instance_uid=new_uid(),
            encoded_data_set=b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
            + _PLAIN.encoded_data_set,
        ),
        0xC000,
    ),
    "SOP Instance UID leads elsewhere": Refusal(
        lambda: replace(_instance(SOPInstanceUID="../../../x"), sop_instance_uid="../../../x"),
        0x0117,
    ),
    "SOP Instance UID is absolute": Refusal(
        lambda: replace(_instance(SOPInstanceUID="/tmp/x"), sop_instance_uid="/tmp/x"),  # noqa: S108
        0x0117,
    ),
    "SOP Instance UID has letters": Refusal(
        lambda: replace(_instance(SOPInstanceUID="1.2.abc"), sop_instance_uid="1.2.abc"), 0x0117
    ),
    "SOP Instance UID too long": Refusal(
        lambda: replace(
            _instance(SOPInstanceUID="1." + "2" * 63), sop_instance_uid="1." + "2" * 63
        ),
        0x0117,
    ),
    "SOP Instance UID has an empty component": Refusal(
        lambda: replace(_instance(SOPInstanceUID="1..2"), sop_instance_uid="1..2"), 0x0117
    ),
    "SOP Instance UID is empty": Refusal(
        lambda: replace(_instance(SOPInstanceUID=""), sop_instance_uid=""), 0x0117
    ),
}


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("name", _REFUSALS)
def test_a_refused_object_is_answered_with_the_right_status_and_a_reason(
    node: Node, name: str
) -> None:
    """Status by F-3 and F-6, Error Comment, Offending Element, both UIDs; the node serves on."""
    refusal = _REFUSALS[name]
    instance = refusal.make()

    with Association(node.address, storage_contexts([instance])) as association:
        response = association.c_store(instance)
        # The same association goes on: the next request is answered, too.
        again = association.c_store(instance)

    assert f"{response.status:04X}" == f"{refusal.status:04X}"
    assert 0 < len(response.error_comment) <= 64
    if refusal.offending is not None:
        assert response.offending_elements == [refusal.offending]
    if refusal.status != 0x0117:
        assert response.uid(0x0002) == instance.sop_class_uid
        assert response.uid(0x1000) == instance.sop_instance_uid
    assert again.status == response.status


@pytest.mark.usefixtures("leaves_nothing")
def test_a_sop_class_that_is_not_the_abstract_syntax_is_refused(node: Node) -> None:
    """An MR command in a CT context: 0122 or A900, nothing stored (F-6)."""
    instance = encoded(ct_data_set(SOPClassUID=MRImageStorage))
    context = ProposedContext(CTImageStorage, (EXPLICIT_VR_LITTLE_ENDIAN,))
    with Association(node.address, [context]) as association:
        association.send_store_request(
            1, MRImageStorage.encode(), instance.sop_instance_uid.encode()
        )
        association.send_data_set(1, instance.encoded_data_set)
        response = association.receive()

    assert response.status in {0x0122, 0xA900}
    assert response.error_comment


def test_a_space_padded_uid_in_the_command_is_the_same_uid(node: Node) -> None:
    """Padding is insignificant in the comparison of command and Data Set (F-6, I-1)."""
    instance = encoded(ct_data_set(SOPInstanceUID=new_uid()[:50].rstrip(".") + ".7"))
    padded = instance.sop_instance_uid + " " * (1 + len(instance.sop_instance_uid) % 2)
    with Association(node.address, storage_contexts([instance])) as association:
        association.send_store_request(1, CTImageStorage.encode(), padded.encode())
        association.send_data_set(1, instance.encoded_data_set)
        response = association.receive()

    assert f"{response.status:04X}" == "0000"


def test_missing_and_wrong_attributes_that_are_not_uids_are_no_reason_to_refuse(
    node: Node,
) -> None:
    """An object without patient, dates and modality is stored (F-7)."""
    keywords = ("PatientName", "PatientID", "StudyDate", "StudyTime", "Modality", "SeriesNumber")
    data_set = ct_data_set()
    for keyword in keywords:
        delattr(data_set, keyword)
    instance = encoded(data_set)
    with Association(node.address, storage_contexts([instance])) as association:
        assert f"{association.c_store(instance).status:04X}" == "0000"

    assert instance.study_instance_uid in _studies(node)


def _abort(association: Association) -> None:
    association.abort()


def _hang_up(association: Association) -> None:
    association.hang_up()


def _release(association: Association) -> None:
    """Release in the middle of a message: a protocol error that the node may answer as it likes."""
    try:
        association.release()
    except (AssociationAbortedError, AssertionError):
        association.socket.close()


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("end", [_abort, _hang_up, _release])
@pytest.mark.parametrize("sent_bytes", [0, 10, 100_000])
def test_a_half_sent_object_leaves_nothing_behind(
    node: Node, end: Callable[[Association], None], sent_bytes: int
) -> None:
    """The association ends in the middle of a Data Set: no file, no row, the node serves on."""
    instance = encoded(ct_data_set(rows=400, columns=400))
    association = Association(node.address, storage_contexts([instance]))
    association.send_store_request(1, CTImageStorage.encode(), instance.sop_instance_uid.encode())
    if sent_bytes:
        part = instance.encoded_data_set[:sent_bytes]
        association.send_data_set(1, part, is_complete=False)

    end(association)


def test_an_instance_answered_with_success_survives_the_abort_that_follows(node: Node) -> None:
    """Abort after the first of two objects: the first is found, of the second nothing is."""
    first, second = encoded(ct_data_set()), encoded(ct_data_set(rows=400, columns=400))
    files = len(node.stored_files())
    association = Association(node.address, storage_contexts([first]))
    assert association.c_store(first).status == 0x0000
    association.send_store_request(1, CTImageStorage.encode(), second.sop_instance_uid.encode())
    association.send_data_set(1, second.encoded_data_set[:50_000], is_complete=False)
    association.abort()

    wait_until(lambda: len(node.stored_files()) == files + 1, "the half object to be gone")
    studies = _studies(node)
    assert first.study_instance_uid in studies
    assert second.study_instance_uid not in studies
