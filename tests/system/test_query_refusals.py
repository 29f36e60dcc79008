"""Which C-FIND Identifiers are refused, with which status, and what the response says of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from tests.support.instances import ct_data_set, encoded
from tests.support.node import running_node
from tests.support.wire import (
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    VERIFICATION,
    WITH_DATA_SET,
    Association,
    identifier_of,
    query_contexts,
    store_all,
)

pytestmark = pytest.mark.system

_LEVEL = (0x0008, 0x0052)
_PATIENT_ID = (0x0010, 0x0020)
_STUDY_UID = (0x0020, 0x000D)
_SERIES_UID = (0x0020, 0x000E)
_STUDY_DATE = (0x0008, 0x0020)
_STUDY_TIME = (0x0008, 0x0030)
_VIEW = (0x0008, 0x0053)
_CODES = (0x0008, 0x1032)

_INSTANCE = encoded(ct_data_set(PatientID="EX1"))
_STUDY = str(_INSTANCE.study_instance_uid)
_SERIES = str(_INSTANCE.series_instance_uid)


@pytest.fixture(scope="module")
def association(module_folder: Path) -> Iterator[Association]:
    """An association with a node that holds one instance."""
    with running_node(module_folder) as node:
        store_all(node.address, [_INSTANCE])
        with Association(node.address, query_contexts()) as opened:
            yield opened


def _code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    return item


@pytest.mark.parametrize(
    ("model", "level", "keys", "offending"),
    [
        pytest.param(*case[1:], id=case[0])
        for case in (
            ("no level", STUDY_ROOT_FIND, None, {"StudyInstanceUID": ""}, _LEVEL),
            ("empty level", STUDY_ROOT_FIND, "", {"StudyInstanceUID": ""}, _LEVEL),
            ("unknown level", STUDY_ROOT_FIND, "INSTANCE", {"StudyInstanceUID": ""}, _LEVEL),
            ("J-205 level not in model", STUDY_ROOT_FIND, "PATIENT", {"PatientID": ""}, _LEVEL),
            (
                "patient root, study without patient",
                PATIENT_ROOT_FIND,
                "STUDY",
                {"StudyInstanceUID": ""},
                _PATIENT_ID,
            ),
            (
                "patient root, series without patient",
                PATIENT_ROOT_FIND,
                "SERIES",
                {"StudyInstanceUID": _STUDY, "SeriesInstanceUID": ""},
                _PATIENT_ID,
            ),
            (
                "patient root, series without study",
                PATIENT_ROOT_FIND,
                "SERIES",
                {"PatientID": "EX1", "SeriesInstanceUID": ""},
                _STUDY_UID,
            ),
            (
                "patient root, image without series",
                PATIENT_ROOT_FIND,
                "IMAGE",
                {"PatientID": "EX1", "StudyInstanceUID": _STUDY, "SOPInstanceUID": ""},
                _SERIES_UID,
            ),
            (
                "J-203 study root, series without study",
                STUDY_ROOT_FIND,
                "SERIES",
                {"SeriesInstanceUID": ""},
                _STUDY_UID,
            ),
            (
                "study root, image without series",
                STUDY_ROOT_FIND,
                "IMAGE",
                {"StudyInstanceUID": _STUDY, "SOPInstanceUID": ""},
                _SERIES_UID,
            ),
            (
                "empty upper key",
                STUDY_ROOT_FIND,
                "SERIES",
                {"StudyInstanceUID": "", "SeriesInstanceUID": ""},
                _STUDY_UID,
            ),
            (
                "list in an upper key",
                STUDY_ROOT_FIND,
                "SERIES",
                {"StudyInstanceUID": f"{_STUDY}\\1.2.3", "SeriesInstanceUID": ""},
                _STUDY_UID,
            ),
            (
                "wildcard in an upper key",
                PATIENT_ROOT_FIND,
                "STUDY",
                {"PatientID": "EX*", "StudyInstanceUID": ""},
                _PATIENT_ID,
            ),
            (
                "impossible date",
                STUDY_ROOT_FIND,
                "STUDY",
                {"StudyInstanceUID": "", "StudyDate": "20201332"},
                _STUDY_DATE,
            ),
            (
                "date with wildcard",
                STUDY_ROOT_FIND,
                "STUDY",
                {"StudyInstanceUID": "", "StudyDate": "2020*"},
                _STUDY_DATE,
            ),
            (
                "date range with two dashes",
                STUDY_ROOT_FIND,
                "STUDY",
                {"StudyInstanceUID": "", "StudyDate": "20200101-20200102-20200103"},
                _STUDY_DATE,
            ),
            (
                "J-104 hour 24",
                STUDY_ROOT_FIND,
                "STUDY",
                {"StudyInstanceUID": "", "StudyTime": "2400"},
                _STUDY_TIME,
            ),
            (
                "J-105 half an hour number",
                STUDY_ROOT_FIND,
                "STUDY",
                {"StudyInstanceUID": "", "StudyTime": "021"},
                _STUDY_TIME,
            ),
            (
                "view that was not negotiated",
                STUDY_ROOT_FIND,
                "STUDY",
                {"StudyInstanceUID": "", "QueryRetrieveView": "CLASSIC"},
                _VIEW,
            ),
            (
                "J-146 sequence key with two items",
                STUDY_ROOT_FIND,
                "STUDY",
                {"StudyInstanceUID": "", "ProcedureCodeSequence": [_code("1"), _code("2")]},
                _CODES,
            ),
        )
    ],
)
def test_an_invalid_identifier_is_refused(
    association: Association,
    model: str,
    level: str | None,
    keys: dict[str, str | list[Dataset]],
    offending: tuple[int, int],
) -> None:
    """One response: A900 with Offending Element and Error Comment, no answer (B-2, B-19, B-20)."""
    responses = association.c_find(model, identifier_of(level, **keys))

    assert [f"{response.status:04X}" for response in responses] == ["A900"]
    assert responses[0].offending_elements == [offending]
    assert 0 < len(responses[0].error_comment) <= 64
    assert responses[0].encoded_data_set is None


def test_an_identifier_without_a_key_of_its_level_is_refused(association: Association) -> None:
    """Level and character set alone ask for nothing: A900 (B-3, J-208)."""
    identifier = identifier_of("STUDY", SpecificCharacterSet="ISO_IR 100")

    responses = association.c_find(STUDY_ROOT_FIND, identifier)

    assert [f"{response.status:04X}" for response in responses] == ["A900"]
    assert responses[0].error_comment


def test_a_missing_unique_key_of_the_level_is_universal_and_not_added(
    association: Association,
) -> None:
    """Another key of the level is enough; the answer holds what was asked (B-3, D-4)."""
    responses = association.c_find(STUDY_ROOT_FIND, identifier_of("STUDY", AccessionNumber=""))

    assert [response.status for response in responses] == [0xFF00, 0x0000]
    assert "StudyInstanceUID" not in responses[0].identifier


@pytest.mark.parametrize("level", ["study", " Study ", "STUDY "])
def test_the_level_is_read_without_case_and_padding(association: Association, level: str) -> None:
    """Lower case and padding of the level are forgiven; the answer carries the defined term."""
    responses = association.c_find(STUDY_ROOT_FIND, identifier_of(level, StudyInstanceUID=""))

    assert [response.status for response in responses] == [0xFF00, 0x0000]
    assert responses[0].identifier.QueryRetrieveLevel == "STUDY"


def test_an_empty_view_is_ignored(association: Association) -> None:
    """Query/Retrieve View without a value asks for nothing (B-14, D-10)."""
    identifier = identifier_of("STUDY", StudyInstanceUID="", QueryRetrieveView="")

    responses = association.c_find(STUDY_ROOT_FIND, identifier)

    assert responses[-1].status == 0x0000
    assert "QueryRetrieveView" not in responses[0].identifier


def test_a_list_of_patient_ids_at_patient_level_is_an_or(association: Association) -> None:
    """Several Patient IDs at their own level are alternatives (J-206)."""
    identifier = identifier_of("PATIENT", PatientID="EX1\\NOBODY")

    responses = association.c_find(PATIENT_ROOT_FIND, identifier)

    assert [response.status for response in responses] == [0xFF00, 0x0000]


def test_bytes_that_are_no_identifier_are_refused(association: Association) -> None:
    """An Identifier that cannot be decoded gets C001, and the association lives on (B-19)."""
    context_id = association.accepted(STUDY_ROOT_FIND)
    assert context_id is not None
    association.send_command(context_id, _find_request(STUDY_ROOT_FIND, association))
    # An element that claims more bytes than follow.
    association.send_data_set(context_id, bytes.fromhex("08005200") + b"\xff\xff\0\0STUDY ")

    response = association.receive()

    assert f"{response.status:04X}" == "C001"
    assert response.error_comment
    assert association.c_echo() == 0x0000


def test_a_sop_class_that_is_not_the_abstract_syntax_is_refused(association: Association) -> None:
    """A Study Root command in a Patient Root context gets 0122 (B-19)."""
    context_id = association.accepted(PATIENT_ROOT_FIND)
    assert context_id is not None
    association.send_command(context_id, _find_request(STUDY_ROOT_FIND, association))
    association.send_data_set(context_id, b"\x08\0\x52\0\x06\0\0\0STUDY \x20\0\x0d\0\0\0\0\0")

    assert f"{association.receive().status:04X}" == "0122"
    assert association.accepted(VERIFICATION) is not None
    assert association.c_echo() == 0x0000


def _find_request(sop_class_uid: str, association: Association) -> dict[int, bytes]:
    """Return the Command Set of a C-FIND request."""
    uid = sop_class_uid.encode()
    return {
        0x0002: uid + b"\0" * (len(uid) % 2),
        0x0100: b"\x20\0",
        0x0110: association.next_message_id().to_bytes(2, "little"),
        0x0700: b"\0\0",
        0x0800: WITH_DATA_SET.to_bytes(2, "little"),
    }
