"""Requests on the wire and the responses to them: each refusal with its status and comment."""

import logging
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from select import select
from typing import Any, NoReturn

import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from pacsnode.catalog.records import CatalogError
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.attributes import STANDARD_KEYS
from pacsnode.network import handlers
from pacsnode.network.handlers import _together
from pacsnode.network.negotiation import AETitlePolicy
from pacsnode.network.upper_layer import UpperLayer
from pacsnode.services.c_find import Found
from pacsnode.services.c_find import find as find_matches
from pacsnode.services.keep import DuplicatePolicy
from tests.catalog.rows import add_all, new_instance
from tests.support.destination import destination
from tests.support.hostile import P_DATA, pdu, pdv
from tests.support.instances import ct_data_set, encoded, new_uid, sr_data_set
from tests.support.server import RunningServer, ServerSettings, running_server
from tests.support.waiting import wait_until
from tests.support.wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    NO_DATA_SET,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    WITH_DATA_SET,
    Association,
    AssociationAbortedError,
    ProposedContext,
    Requestor,
    Response,
    encoded_identifier,
    find,
    identifier_of,
    query_contexts,
    storage_contexts,
    store_all,
)

_SOP_CLASS, _SOP_INSTANCE = 0x0002, 0x1000


def _us(number: int) -> bytes:
    return struct.pack("<H", number)


def _uid_value(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


@pytest.fixture
def association(server: RunningServer) -> Iterator[Association]:
    """An association with contexts for Verification, FIND, MOVE, and CT Images."""
    contexts = [*query_contexts(), *storage_contexts([encoded(ct_data_set())])]
    with Association(server.address, contexts) as associated:
        yield associated


def _store(
    association: Association, sop_class: bytes, sop_instance: bytes, data: bytes
) -> Response:
    context_id = association.accepted(CTImageStorage)
    assert context_id is not None
    association.send_store_request(context_id, sop_class, sop_instance)
    association.send_data_set(context_id, data)
    return association.receive()


def test_an_echo_is_answered(association: Association) -> None:
    """C-ECHO has status 0000 (H-5)."""
    assert association.c_echo() == 0x0000


def test_a_stored_instance_is_kept_bit_for_bit(
    server: RunningServer, association: Association
) -> None:
    """After 0000 the catalog names a file that holds exactly the bytes that were sent (F-2)."""
    instance = encoded(ct_data_set())
    response = association.c_store(instance)
    assert (response.status, response.error_comment) == (0x0000, "")
    assert response.uid(_SOP_CLASS) == instance.sop_class_uid
    assert response.uid(_SOP_INSTANCE) == instance.sop_instance_uid
    stored = server.catalog.stored_instance(instance.sop_instance_uid)
    assert stored is not None
    kept = server.file_store.path(stored.file.path).read_bytes()
    assert kept.endswith(instance.encoded_data_set)


def test_an_instance_in_tiny_fragments_is_kept_bit_for_bit(
    server: RunningServer, association: Association
) -> None:
    """Fragments of one byte, and empty ones between them, make the data set they are cut from."""
    instance = encoded(ct_data_set())
    content = instance.encoded_data_set
    context_id = association.accepted(CTImageStorage)
    assert context_id is not None
    association.send_store_request(
        context_id, CTImageStorage.encode(), instance.sop_instance_uid.encode()
    )
    pdvs = [
        pdv(context_id, 0, content[start : start + length])
        for start in range(len(content) - 1)
        for length in (0, 1)
    ]
    association.socket.sendall(
        b"".join(
            pdu(P_DATA, b"".join(pdvs[first : first + 10_000]))
            for first in range(0, len(pdvs), 10_000)
        )
    )
    association.send_data_set(context_id, content[-1:])
    assert association.receive().status == 0x0000
    stored = server.catalog.stored_instance(instance.sop_instance_uid)
    assert stored is not None
    assert server.file_store.path(stored.file.path).read_bytes().endswith(content)


@pytest.mark.parametrize(
    "uid",
    [b"1." + b"2" * 63, b"1.2." + b"3" * 200, b"no uid", b"1..2", b"../../etc/passwd", b"1.2.a"],
)
def test_a_sop_instance_uid_that_is_none_is_refused(association: Association, uid: bytes) -> None:
    """It is answered 0117 with both UIDs as they came, not by an abort (F-3, I-2)."""
    response = _store(association, CTImageStorage.encode(), uid, b"any bytes")
    assert response.status == 0x0117
    assert response.error_comment == "Affected SOP Instance UID is no UID"
    assert response.uid(_SOP_INSTANCE) == uid.decode()
    assert association.c_echo() == 0x0000


def test_a_class_that_is_not_the_contexts_is_refused(association: Association) -> None:
    """A command for another SOP class than that of its context has status 0122 (F-6, B-19)."""
    instance = encoded(ct_data_set())
    response = _store(
        association,
        BasicTextSRStorage.encode(),
        instance.sop_instance_uid.encode(),
        instance.encoded_data_set,
    )
    assert response.status == 0x0122
    assert response.error_comment == "SOP Class is not that of the presentation context"


@pytest.mark.parametrize(
    ("keyword", "offending"), [("SOPInstanceUID", (8, 0x18)), ("SOPClassUID", (8, 0x16))]
)
def test_a_data_set_of_another_instance_is_refused(
    server: RunningServer, association: Association, keyword: str, offending: tuple[int, int]
) -> None:
    """If command and data set differ the status is A900, with the element at fault (F-6)."""
    instance = encoded(ct_data_set())
    other = encoded(ct_data_set(**{"SOPInstanceUID": instance.sop_instance_uid, keyword: "1.2.3"}))
    response = _store(
        association,
        CTImageStorage.encode(),
        instance.sop_instance_uid.encode(),
        other.encoded_data_set,
    )
    assert response.status == 0xA900
    assert response.offending_elements == [offending]
    assert response.error_comment.endswith("of command and data set differ")
    assert server.catalog.stored_instance(instance.sop_instance_uid) is None


def test_a_data_set_that_cannot_be_decoded_is_refused(association: Association) -> None:
    """A data set that ends within an element has status C000 (F-3)."""
    instance = encoded(ct_data_set())
    broken = replace(instance, encoded_data_set=instance.encoded_data_set[:300])
    response = association.c_store(broken)
    assert response.status == 0xC000
    assert response.error_comment.startswith("undecodable: ")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_data_set_without_identity_is_refused(association: Association, keyword: str) -> None:
    """A missing Study or Series Instance UID has status C001 and is named (F-3)."""
    response = association.c_store(encoded(ct_data_set(**{keyword: None})))
    assert (response.status, response.error_comment) == (0xC001, f"{keyword} is missing")


def test_a_store_request_without_data_set_is_refused(association: Association) -> None:
    """A C-STORE that announces no data set lacks every UID: C001."""
    context_id = association.accepted(CTImageStorage)
    assert context_id is not None
    association.send_command(
        context_id,
        {
            0x0002: _uid_value(CTImageStorage),
            0x0100: _us(0x0001),
            0x0110: _us(7),
            0x0700: _us(0),
            0x0800: _us(NO_DATA_SET),
            0x1000: _uid_value("1.2.3"),
        },
    )
    response = association.receive()
    assert (response.status, response.error_comment) == (0xC001, "SOPClassUID is missing")


@pytest.mark.parametrize("shorter_by", [0, 1])
def test_a_data_set_longer_than_allowed_is_refused(tmp_path: Path, shorter_by: int) -> None:
    """Up to maximum_instance_bytes it is kept; one byte more is A700, with nothing left (F-3)."""
    instance = encoded(ct_data_set(rows=512, columns=512))
    allowed = len(instance.encoded_data_set) - shorter_by
    with (
        running_server(tmp_path, ServerSettings(maximum_instance_bytes=allowed)) as running,
        Association(running.address, storage_contexts([instance])) as association,
    ):
        response = association.c_store(instance)
        is_kept = running.catalog.stored_instance(instance.sop_instance_uid) is not None
        assert is_kept == (not shorter_by)
        assert [*running.file_store.folder.glob("incoming/*/*")] == []
    assert (response.status, response.error_comment) == (
        (0xA700, "data set is longer than storage.maximum_instance_bytes")
        if shorter_by
        else (0x0000, "")
    )


@pytest.mark.parametrize("refused_for", ["length", "uid"])
def test_a_refused_data_set_that_does_not_end_is_aborted(tmp_path: Path, refused_for: str) -> None:
    """What is refused is read on, so that the sender hears why, but not for ever."""
    instance = encoded(ct_data_set())
    uid = instance.sop_instance_uid if refused_for == "length" else "no uid"
    with (
        running_server(tmp_path, ServerSettings(maximum_instance_bytes=300_000)) as running,
        Association(running.address, storage_contexts([instance])) as association,
    ):
        association.send_store_request(1, CTImageStorage.encode(), uid.encode())
        # All that is sent fits into the buffers of the network: the abort stands behind it.
        for _ in range(16):
            association.send_data_set(1, bytes(100_000), is_complete=False)
        with pytest.raises(AssociationAbortedError):
            association.receive()
        association.socket.close()
        running.wait_until_idle()
        assert [*running.file_store.folder.glob("incoming/*/*")] == []


def test_a_sender_that_vanishes_within_a_data_set_leaves_nothing(tmp_path: Path) -> None:
    """A reset in the middle of an object leaves neither a file nor a row (F-2)."""
    instance = encoded(ct_data_set(rows=512, columns=512))
    with running_server(tmp_path) as running:
        association = Association(running.address, storage_contexts([instance]))
        association.send_store_request(1, CTImageStorage.encode(), b"1.2.3")
        association.send_data_set(1, instance.encoded_data_set[:400_000], is_complete=False)
        incoming = running.file_store.folder / "incoming"
        wait_until(lambda: [*incoming.glob("*/*")], "the first part to be written")
        association.hang_up()
        running.wait_until_idle()
        wait_until(lambda: not [*incoming.glob("*/*")], "the file to be removed")


def test_an_operation_that_the_context_has_not_is_refused(association: Association) -> None:
    """A C-ECHO in a context of FIND has status 0211, and the association lives on (H-18)."""
    context_id = association.accepted(STUDY_ROOT_FIND)
    assert context_id is not None
    association.send_command(
        context_id,
        {
            0x0002: _uid_value(VERIFICATION),
            0x0100: _us(0x0030),
            0x0110: _us(7),
            0x0800: _us(NO_DATA_SET),
        },
    )
    response = association.receive()
    assert (response.status, response.error_comment) == (
        0x0211,
        "no such operation in this context",
    )
    assert association.c_echo() == 0x0000


def test_a_find_of_another_model_is_refused(association: Association) -> None:
    """A C-FIND for the Patient Root in a context of the Study Root has status 0122 (B-19)."""
    response = _find_as(association, PATIENT_ROOT_FIND, b"")
    assert response.status == 0x0122


def _find_as(association: Association, sop_class: str, identifier: bytes | None) -> Response:
    context_id = association.accepted(STUDY_ROOT_FIND)
    assert context_id is not None
    association.send_command(
        context_id,
        {
            0x0002: _uid_value(sop_class),
            0x0100: _us(0x0020),
            0x0110: _us(7),
            0x0700: _us(0),
            0x0800: _us(NO_DATA_SET if identifier is None else WITH_DATA_SET),
        },
    )
    if identifier is not None:
        association.send_data_set(context_id, identifier)
    return association.receive()


@pytest.mark.parametrize("identifier", [None, b"\x08\x00\x52\x00\xff\x00\x00\x00STUDY"])
def test_an_identifier_that_cannot_be_decoded_is_refused(
    association: Association, identifier: bytes | None
) -> None:
    """A query without identifier, or with a damaged one, has status C001 (B-19)."""
    response = _find_as(association, STUDY_ROOT_FIND, identifier)
    assert response.status == 0xC001
    assert response.error_comment


@pytest.mark.parametrize(
    ("keys", "offending", "comment"),
    [
        (
            {"StudyDate": ""},
            (0x0008, 0x0052),
            "Query/Retrieve Level must be one of STUDY SERIES IMAGE",
        ),
        (
            {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": ""},
            (0x0020, 0x000D),
            "(0020,000D) StudyInstanceUID is needed at level SERIES",
        ),
        (
            {"QueryRetrieveLevel": "STUDY", "StudyDate": "2020*"},
            (0x0008, 0x0020),
            "(0008,0020) is malformed: not a date or a range of dates",
        ),
    ],
)
def test_an_identifier_that_breaks_the_rules_is_refused(
    association: Association, keys: dict[str, str], offending: tuple[int, int], comment: str
) -> None:
    """It has status A900 with the element at fault, and no answer before it (B-18, B-19)."""
    response = _find_as(
        association, STUDY_ROOT_FIND, encoded_identifier(identifier_of(None, **keys))
    )
    assert response.status == 0xA900
    assert response.offending_elements == [offending]
    assert response.error_comment.startswith(comment)
    assert response.encoded_data_set is None


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_a_move_without_unique_key_moves_nothing(association: Association, level: str) -> None:
    """A retrieve that names nothing has status A900, never the whole archive (B-19)."""
    identifier = identifier_of(level, StudyInstanceUID="")
    (response,) = association.c_move(STUDY_ROOT_MOVE, "DEST", identifier)
    assert response.status == 0xA900
    assert response.offending_elements == [(0x0020, 0x000D)]


@pytest.mark.parametrize("destination", ["NOWHERE", "A TITLE OF MORE THAN 16", "nowhere"])
def test_an_unknown_move_destination_is_refused(association: Association, destination: str) -> None:
    """The status is A801, without counters or data set (E-4)."""
    identifier = identifier_of("STUDY", StudyInstanceUID="1.2.3")
    (response,) = association.c_move(STUDY_ROOT_MOVE, destination, identifier)
    assert (response.status, response.encoded_data_set) == (0xA801, None)
    assert response.error_comment.startswith("Destination ")
    assert response.counters == (None, None, None, None)


def test_answers_carry_what_was_asked_and_where_to_get_it(server: RunningServer) -> None:
    """An answer has the keys, the level, and where it can be had, and no more (D-3, D-4)."""
    instance = encoded(
        ct_data_set(
            PatientID="EX7", PatientName="M\u00fcller^J\u00f6rg", SpecificCharacterSet="ISO_IR 100"
        )
    )
    store_all(server.address, [instance])
    identifier = identifier_of(
        "STUDY", StudyInstanceUID=instance.study_instance_uid or "", PatientName=""
    )
    (answer,), final = find(server.address, STUDY_ROOT_FIND, identifier)
    assert {element.keyword: str(element.value) for element in answer} == {
        "SpecificCharacterSet": "ISO_IR 192",
        "QueryRetrieveLevel": "STUDY",
        "RetrieveAETitle": "PACSNODE",
        "InstanceAvailability": "ONLINE",
        "PatientName": "M\u00fcller^J\u00f6rg",
        "StudyInstanceUID": instance.study_instance_uid,
    }
    assert (final.status, final.encoded_data_set) == (0x0000, None)


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ({"StudyDescription": "Example*"}, 0xFF00),
        ({"InstitutionName": ""}, 0xFF01),
        ({"Modality": "CT"}, 0xFF01),
        ({"NumberOfStudyRelatedSeries": "1"}, 0xFF01),
        ({"NumberOfStudyRelatedSeries": ""}, 0xFF00),
    ],
)
def test_a_key_that_is_not_supported_shows_in_the_status(
    server: RunningServer, association: Association, keys: dict[str, str], status: int
) -> None:
    """Pending is FF01 if an optional key was left out or ignored, else FF00 (D-2, B-5)."""
    instance = encoded(ct_data_set())
    store_all(server.address, [instance])
    uid = instance.study_instance_uid or ""
    pending, _ = association.c_find(
        STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID=uid, **keys)
    )
    assert pending.status == status


def test_a_file_that_is_gone_is_unavailable(server: RunningServer) -> None:
    """At IMAGE level the answer tells that the file is missing (D-7)."""
    instance = encoded(ct_data_set())
    store_all(server.address, [instance])
    stored = server.catalog.stored_instance(instance.sop_instance_uid)
    assert stored is not None
    server.file_store.path(stored.file.path).unlink()
    identifier = identifier_of(
        "IMAGE",
        StudyInstanceUID=instance.study_instance_uid or "",
        SeriesInstanceUID=instance.series_instance_uid or "",
        SOPInstanceUID="",
    )
    (answer,), _ = find(server.address, STUDY_ROOT_FIND, identifier)
    assert answer.InstanceAvailability == "UNAVAILABLE"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, str, str]]:
    """A server that holds a series of 1,500 images, catalogued without their files."""
    with running_server(tmp_path_factory.mktemp("large")) as running:
        study, series = new_uid(), new_uid()
        add_all(
            running.catalog,
            (
                new_instance(
                    StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=str(n)
                )
                for n in range(1_500)
            ),
        )
        yield running, study, series


def _images_of(study: str, series: str) -> bytes:
    return encoded_identifier(
        identifier_of("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="")
    )


def _send_find(association: Association, message_id: int, identifier: bytes) -> int:
    context_id = association.accepted(STUDY_ROOT_FIND)
    assert context_id is not None
    association.send_command(
        context_id,
        {
            0x0002: _uid_value(STUDY_ROOT_FIND),
            0x0100: _us(0x0020),
            0x0110: _us(message_id),
            0x0700: _us(0),
            0x0800: _us(WITH_DATA_SET),
        },
    )
    association.send_data_set(context_id, identifier)
    return context_id


def _answers(association: Association) -> tuple[int, Response]:
    """Return how many matches come, and the final response."""
    count = 0
    while (response := association.receive()).status in (0xFF00, 0xFF01):
        count += 1
    return count, response


def test_a_cancel_right_behind_the_request_ends_it(large: tuple[RunningServer, str, str]) -> None:
    """A C-CANCEL in the same breath as its C-FIND is not lost: FE00, no identifier (D-30)."""
    running, study, series = large
    with Association(running.address, query_contexts()) as association:
        context_id = association.accepted(STUDY_ROOT_FIND)
        assert context_id is not None
        _send_find(association, 7, _images_of(study, series))
        association.send_cancel(context_id, 7)
        count, final = _answers(association)
    assert (final.status, final.encoded_data_set) == (0xFE00, None)
    assert count < 100


def test_a_cancel_amid_the_answers_ends_them(large: tuple[RunningServer, str, str]) -> None:
    """A C-CANCEL after the first match is seen long before the last one (D-30)."""
    running, study, series = large
    with Association(running.address, query_contexts()) as association:
        context_id = _send_find(association, 7, _images_of(study, series))
        assert association.receive().status == 0xFF00
        association.send_cancel(context_id, 7)
        count, final = _answers(association)
    assert final.status == 0xFE00
    assert count < 1_000


def test_a_cancel_that_comes_too_late_hits_nothing(large: tuple[RunningServer, str, str]) -> None:
    """A C-CANCEL for a request that is over is ignored, even if its Message ID is used again."""
    running, study, series = large
    identifier = _images_of(study, series)
    with Association(running.address, query_contexts()) as association:
        for _ in range(12):
            context_id = _send_find(
                association, 7, encoded_identifier(identifier_of("STUDY", StudyInstanceUID="1.2.3"))
            )
            assert association.receive().status == 0x0000
            association.send_cancel(context_id, 7)
            association.send_cancel(context_id, association.next_message_id() + 100)
        _send_find(association, 7, identifier)
        count, final = _answers(association)
        assert (count, final.status) == (1_500, 0x0000)
        context_id = _send_find(association, 7, identifier)
        association.send_cancel(context_id, 7)
        assert _answers(association)[1].status == 0xFE00


def test_a_requestor_that_hangs_up_ends_its_query(large: tuple[RunningServer, str, str]) -> None:
    """A query whose requestor has gone is not worked off to its end; nobody is left behind."""
    running, study, series = large
    association = Association(running.address, query_contexts())
    _send_find(association, 7, _images_of(study, series))
    assert association.receive().status == 0xFF00
    association.hang_up()
    running.wait_until_idle()


def test_more_answers_than_the_limit_are_no_success(tmp_path: Path) -> None:
    """With a limit of two, a third match gives A700 after the two (D-34)."""
    with running_server(tmp_path, ServerSettings(result_limit=2)) as running:
        store_all(running.address, [encoded(ct_data_set()) for _ in range(3)])
        answers, final = find(
            running.address, STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID="")
        )
        assert len(answers) == 2
        assert (final.status, final.error_comment) == (0xA700, "limit of 2 reached")


def test_as_many_answers_as_the_limit_are_success(tmp_path: Path) -> None:
    """A limit of two does not refuse two matches (D-34)."""
    with running_server(tmp_path, ServerSettings(result_limit=2)) as running:
        store_all(running.address, [encoded(ct_data_set()) for _ in range(2)])
        answers, final = find(
            running.address, STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID="")
        )
        assert (len(answers), final.status) == (2, 0x0000)


class _FailingCatalog:
    """A catalog whose every call raises."""

    keys = STANDARD_KEYS
    match_unknown = False

    def __init__(self, error: Exception) -> None:
        self._error = error

    def find(self, _: object) -> NoReturn:
        """Fail."""
        raise self._error

    locate = find


def test_a_catalog_that_fails_shows_in_the_status(tmp_path: Path) -> None:
    """A query has status C002, a retrieve A701 without counters (D-32, E-6)."""
    catalog = _FailingCatalog(CatalogError("disk I/O error"))
    settings = ServerSettings(remote_aes=[RemoteAE("DEST", "127.0.0.1", 104)])
    with (
        running_server(tmp_path, settings, catalog=catalog) as running,
        Association(running.address, query_contexts()) as association,
    ):
        identifier = identifier_of("STUDY", StudyInstanceUID="1.2.3")
        (found,) = association.c_find(STUDY_ROOT_FIND, identifier)
        (moved,) = association.c_move(STUDY_ROOT_MOVE, "DEST", identifier)
    assert (found.status, found.error_comment) == (0xC002, "the catalog failed")
    assert (moved.status, moved.encoded_data_set) == (0xA701, None)
    assert moved.counters == (None, None, None, None)


def test_a_fault_of_ours_does_not_end_the_association(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception has status C010, is logged, and the next request is served (D-32)."""
    catalog = _FailingCatalog(ZeroDivisionError("a secret"))
    with (
        caplog.at_level(logging.ERROR, "pacsnode"),
        running_server(tmp_path, catalog=catalog) as running,
        Association(running.address, query_contexts()) as association,
    ):
        (response,) = association.c_find(
            STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID="1.2.3")
        )
        assert association.c_echo() == 0x0000
    assert response.status == 0xC010
    assert response.error_comment == "internal error, see the node's log"
    assert "C-FIND failed for a fault of this program" in caplog.messages


def test_a_duplicate_is_kept_aside_or_refused_by_policy(tmp_path: Path) -> None:
    """Other content under a UID has B000, or C002 where the setting says reject (F-20)."""
    first = encoded(ct_data_set())
    other = encoded(ct_data_set(SOPInstanceUID=first.sop_instance_uid))
    for policy, status in ((DuplicatePolicy.KEEP_FIRST, 0xB000), (DuplicatePolicy.REJECT, 0xC002)):
        folder = tmp_path / policy.value
        folder.mkdir()
        with (
            running_server(folder, ServerSettings(on_duplicate=policy)) as running,
            Association(running.address, storage_contexts([first])) as association,
        ):
            responses = [association.c_store(each) for each in (first, first, other)]
        assert [response.status for response in responses] == [0x0000, 0x0000, status]
        assert responses[2].error_comment


def test_a_move_accounts_for_each_instance(tmp_path: Path) -> None:
    """Pending has four counters and no data set; the final three, and the failed list (E-9, E-10).

    With nothing failed there is no data set.
    """
    study = new_uid()
    image = encoded(ct_data_set(StudyInstanceUID=study))
    report = encoded(sr_data_set(StudyInstanceUID=study))
    with (
        destination() as images_only,
        destination("BOTH", (CTImageStorage, BasicTextSRStorage)) as both,
    ):
        remote_aes = [
            RemoteAE("IMAGES", "127.0.0.1", images_only.port),
            RemoteAE("BOTH", "127.0.0.1", both.port),
        ]
        with running_server(tmp_path, ServerSettings(remote_aes=remote_aes)) as running:
            store_all(running.address, [image, report])
            identifier = identifier_of("STUDY", StudyInstanceUID=study)
            with Association(running.address, query_contexts()) as association:
                pending, partial = association.c_move(STUDY_ROOT_MOVE, "IMAGES", identifier)
                *_, complete = association.c_move(STUDY_ROOT_MOVE, "BOTH", identifier)
    assert (pending.status, pending.counters) == (0xFF00, (2, 0, 0, 0))
    assert pending.encoded_data_set is None
    assert (partial.status, partial.counters) == (0xB000, (None, 1, 1, 0))
    assert partial.failed_sop_instance_uids == {report.sop_instance_uid}
    assert (complete.status, complete.counters) == (0x0000, (None, 2, 0, 0))
    assert complete.encoded_data_set is None


def test_a_cancelled_move_tells_what_remains(tmp_path: Path) -> None:
    """A C-CANCEL gives FE00 with all four counters, and lets the one in flight end (E-9, E-17)."""
    study, is_cancelled = new_uid(), threading.Event()
    instances = [encoded(ct_data_set(StudyInstanceUID=study)) for _ in range(3)]
    with destination(status_of=lambda _: 0 if is_cancelled.wait(20) else 0xA700) as slow:
        settings = ServerSettings(remote_aes=[RemoteAE("SLOW", "127.0.0.1", slow.port)])
        with running_server(tmp_path, settings) as running:
            store_all(running.address, instances)
            identifier = identifier_of("STUDY", StudyInstanceUID=study)
            with Association(running.address, query_contexts()) as association:
                responses = association.start_move(STUDY_ROOT_MOVE, "SLOW", identifier)
                assert next(responses).status == 0xFF00
                wait_until(lambda: slow.received, "the first sub-operation")
                context_id = association.accepted(STUDY_ROOT_MOVE)
                assert context_id is not None
                association.send_cancel(context_id, association.message_id)
                (accepted,) = running.server._running()
                network = accepted._upper_layer._connection
                wait_until(lambda: select([network], [], [], 0)[0], "the cancel to arrive")
                is_cancelled.set()
                *_, final = responses
    assert (final.status, final.counters) == (0xFE00, (2, 1, 0, 0))
    assert final.encoded_data_set is None


@pytest.mark.parametrize(
    ("called", "calling"),
    [(b"SECOND", "SECOND"), (b" " * 16, "FIRST"), (bytes(16), "FIRST"), (b"M\xfcller", "FIRST")],
    ids=["ours", "blank", "no title", "Latin-1"],
)
def test_a_move_calls_by_the_title_it_was_sent_to(
    tmp_path: Path, called: bytes, calling: str
) -> None:
    """The destination sees the called title, or our first one if that says nothing (E-15, H-2)."""
    instance = encoded(ct_data_set())
    with destination() as there:
        settings = ServerSettings(
            ae_titles=("FIRST", "SECOND"),
            called=AETitlePolicy.ANY,
            remote_aes=[RemoteAE("DEST", "127.0.0.1", there.port)],
        )
        requestor = Requestor(called_ae_title=called)
        contexts = [*query_contexts(), *storage_contexts([instance])]
        with (
            running_server(tmp_path, settings) as running,
            Association(running.address, contexts, requestor) as association,
        ):
            assert association.c_store(instance).status == 0x0000
            identifier = identifier_of("STUDY", StudyInstanceUID=instance.study_instance_uid or "")
            *_, final = association.c_move(STUDY_ROOT_MOVE, "DEST", identifier)
    assert final.counters == (None, 1, 0, 0)
    assert [each.calling_ae_title for each in there.received] == [calling]


def test_a_response_without_a_request_is_ignored(association: Association) -> None:
    """A C-STORE response that belongs to nothing is not answered; the association lives on."""
    context_id = association.accepted(CTImageStorage)
    assert context_id is not None
    association.send_command(
        context_id,
        {
            0x0002: _uid_value(CTImageStorage),
            0x0100: _us(0x8001),
            0x0120: _us(7),
            0x0800: _us(NO_DATA_SET),
            0x0900: _us(0),
        },
    )
    assert association.c_echo() == 0x0000


def test_a_request_in_a_context_that_was_not_accepted_is_aborted(server: RunningServer) -> None:
    """An unknown context id ends the association by an abort (H-18)."""
    contexts = [ProposedContext(VERIFICATION), ProposedContext("1.2.3")]
    association = Association(server.address, contexts)
    association.send_command(
        3,
        {
            0x0002: _uid_value(VERIFICATION),
            0x0100: _us(0x0030),
            0x0110: _us(7),
            0x0800: _us(NO_DATA_SET),
        },
    )
    with pytest.raises(AssociationAbortedError):
        association.receive()
    association.socket.close()


def test_no_patient_data_is_logged(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither storing, nor finding, nor any refusal writes a name, an ID or a date of birth."""
    secret = {
        "PatientName": "Geheim^Gerda",
        "PatientID": "GEHEIM-1",
        "PatientBirthDate": "19010203",
    }
    instance = encoded(ct_data_set(**secret))
    other = encoded(sr_data_set(SOPInstanceUID=instance.sop_instance_uid, **secret))
    with caplog.at_level(logging.DEBUG, "pacsnode"):
        with Association(server.address, storage_contexts([instance, other])) as association:
            association.c_store(instance)
            association.c_store(other)
            association.c_store(replace(instance, encoded_data_set=instance.encoded_data_set[:300]))
        for level, keys in (
            ("PATIENT", secret),
            ("PATIENT", {**secret, "PatientBirthDate": "19010203x"}),
            ("STUDY", {"StudyDate": "19010203-19010203-"}),
        ):
            find(server.address, PATIENT_ROOT_FIND, identifier_of(level, **keys))
        with Association(server.address, query_contexts()) as association:
            association.c_move(PATIENT_ROOT_MOVE, "DEST", identifier_of("PATIENT", **secret))
        server.wait_until_idle()
    assert any("C-STORE" in message for message in caplog.messages)
    assert any("C-MOVE refused: 0xA801" in message for message in caplog.messages)
    text = "\n".join(caplog.messages).upper()
    assert "GEHEIM" not in text
    assert "19010203" not in text


def test_answers_do_not_pile_up_for_a_slow_reader(
    large: tuple[RunningServer, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the network takes nothing, the query waits with its next page (D-9)."""
    running, study, series = large
    takes, waits = threading.Event(), threading.Event()
    taken: list[Sequence[bytes]] = []

    def counted(pages: Iterator[Sequence[bytes]]) -> Iterator[Sequence[bytes]]:
        for page in pages:
            taken.append(page)
            yield page

    def find_counted(*arguments: Any, **more: Any) -> Found:  # noqa: ANN401
        found = find_matches(*arguments, **more)
        return replace(found, pages=counted(found.pages))

    def send_late(upper_layer: UpperLayer, content: bytes) -> None:
        waits.set()
        takes.wait(20)
        send(upper_layer, content)

    send = UpperLayer.send
    with Association(running.address, query_contexts()) as association:
        monkeypatch.setattr(UpperLayer, "send", send_late)
        monkeypatch.setattr(handlers, "find", find_counted)
        _send_find(association, 7, _images_of(study, series))
        assert waits.wait(20)
        assert len(taken) == 1
        takes.set()
        assert _answers(association)[0] == 1_500


def test_many_answers_go_into_one_write(
    large: tuple[RunningServer, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first few are sent at once, later ones together, some 64 KiB at most (D-1)."""
    running, study, series = large
    lengths: list[int] = []

    def send_measured(upper_layer: UpperLayer, content: bytes) -> None:
        lengths.append(len(content))
        send(upper_layer, content)

    send = UpperLayer.send
    with Association(running.address, query_contexts()) as association:
        monkeypatch.setattr(UpperLayer, "send", send_measured)
        _send_find(association, 7, _images_of(study, series))
        assert _answers(association)[0] == 1_500
    assert len(lengths) < 20
    assert lengths[0] < 10_000
    assert max(lengths) < 128 * 1024


def test_answers_are_cut_to_the_length_of_a_write() -> None:
    """Long answers go out in several writes, none beyond the bound but one that is alone."""
    page = [b"a" * length for length in (40_000, 20_000, 10_000, 100_000, 5, 65_536, 1)]
    assert [list(map(len, part)) for part in _together([page, [], [b"b"]])] == [
        [40_000, 20_000],
        [10_000],
        [100_000],
        [5],
        [65_536],
        [1],
        [1],
    ]


@pytest.mark.parametrize("maximum_length", [0, 7, 12, 100, 131_072])
def test_answers_keep_to_the_requestors_maximum_length(
    large: tuple[RunningServer, str, str], maximum_length: int
) -> None:
    """No PDU is longer than the requestor takes, and every answer is whole (PS3.8 D.1; H-6)."""
    running, study, series = large
    requestor = Requestor(maximum_length=maximum_length)
    with Association(running.address, query_contexts(), requestor) as association:
        _send_find(association, 7, _images_of(study, series))
        uids = set()
        while (response := association.receive()).status == 0xFF00:
            uids.add(response.identifier.SOPInstanceUID)
        assert response.status == 0x0000
        assert len(uids) == 1_500
        longest = association.longest_pdu
    # The shortest fragment there is has two bytes.
    assert longest <= max(maximum_length, 8) or not maximum_length


def test_a_slow_reader_gets_all_answers(large: tuple[RunningServer, str, str]) -> None:
    """A requestor that takes its answers late still gets each of them once."""
    running, study, series = large
    with Association(running.address, query_contexts()) as association:
        _send_find(association, 7, _images_of(study, series))
        wait_until(lambda: running.server.active, "the association")
        count, final = _answers(association)
    assert (count, final.status) == (1_500, 0x0000)


def test_an_answer_has_the_encoding_of_its_context(server: RunningServer) -> None:
    """A query in Explicit VR is answered in Explicit VR (PS3.7 6.3.1)."""
    store_all(server.address, [encoded(ct_data_set())])
    contexts = [ProposedContext(STUDY_ROOT_FIND, (EXPLICIT_VR_LITTLE_ENDIAN,))]
    with Association(server.address, contexts) as association:
        _send_find(association, 7, b"\x08\x00\x52\x00CS\x06\x00STUDY \x20\x00\x0d\x00UI\x00\x00")
        first = association.receive()
        assert b"\x20\x00\x0d\x00UI" in (first.encoded_data_set or b"")
        assert _answers(association)[1].status == 0x0000
