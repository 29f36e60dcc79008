"""Request Identifiers understood or refused, and Response Identifiers."""

from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.dicom.data_elements import read_elements
from pacsnode.dicom.identifier import (
    Query,
    encode_failed_list,
    encode_match,
    parse_query,
    parse_retrieval,
)
from pacsnode.dicom.information_model import PATIENT_ROOT, STUDY_ROOT, InformationModel, Level
from pacsnode.dicom.matching import AnyOf, EqualText, Interval, UidList, WildCard
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.transfer_syntax import encoding_of

_IMPLICIT = encoding_of("1.2.840.10008.1.2")
_EXPLICIT = encoding_of("1.2.840.10008.1.2.1")

_CHARACTER_SET = 0x00080005
_LEVEL = 0x00080052
_VIEW = 0x00080053
_AE_TITLE = 0x00080054
_AVAILABILITY = 0x00080056
_STUDY_DATE = 0x00080020
_STUDY_TIME = 0x00080030
_ACCESSION = 0x00080050
_MODALITY = 0x00080060
_STUDY_DESCRIPTION = 0x00081030
_NAME = 0x00100010
_PATIENT_ID = 0x00100020
_STUDY = 0x0020000D
_SERIES = 0x0020000E
_STUDY_INSTANCES = 0x00201208
_IMAGE = 0x00080018

_Keys = Mapping[int, bytes | str]


def _identifier(level: str | None, keys: _Keys) -> bytes:
    """An identifier in Implicit VR Little Endian; values as they are given."""
    elements = {tag: v if isinstance(v, bytes) else v.encode() for tag, v in keys.items()}
    if level is not None:
        elements[_LEVEL] = level.encode()
    return b"".join(
        (tag >> 16).to_bytes(2, "little")
        + (tag & 0xFFFF).to_bytes(2, "little")
        + len(value).to_bytes(4, "little")
        + value
        for tag, value in sorted(elements.items())
    )


def _query(level: str | None, keys: _Keys, model: InformationModel = STUDY_ROOT) -> Query:
    return parse_query(model, _identifier(level, keys), _IMPLICIT)


def _refused_query(
    level: str | None, keys: _Keys, model: InformationModel = STUDY_ROOT
) -> DimseFailure:
    with pytest.raises(DimseFailure) as refusal:
        _query(level, keys, model)
    return refusal.value


def _refused_move(
    level: str | None, keys: _Keys, model: InformationModel = PATIENT_ROOT
) -> DimseFailure:
    with pytest.raises(DimseFailure) as refusal:
        parse_retrieval(model, _identifier(level, keys), _IMPLICIT)
    return refusal.value


def _returned(query: Query) -> list[str]:
    return [attribute.keyword for attribute in query.return_attributes]


def _matched(query: Query) -> dict[str, object]:
    return {key.attribute.keyword: key.matching for key in query.matching_keys}


# --- the level (A-3, B-19)


@pytest.mark.parametrize(
    "level", [None, "", "  ", "INSTANCE", "IMAGES", "STUDY\\SERIES", "PATIENT"]
)
def test_a_level_that_is_none_of_the_model_is_refused(level: str | None) -> None:
    """Missing, empty, an unknown word, several, or PATIENT in the Study Root: A900 (B-19, A-3)."""
    for refusal in (
        _refused_query(level, {_STUDY: ""}),
        _refused_move(level, {_STUDY: "1.2"}, STUDY_ROOT),
    ):
        assert (refusal.status, refusal.offending_elements) == (0xA900, (_LEVEL,))


@pytest.mark.parametrize("level", ["STUDY", "study", " Study ", "STUDY\0"])
def test_a_level_may_be_padded_and_in_lower_case(level: str) -> None:
    """It is accepted as it was meant (B-19)."""
    assert _query(level, {_STUDY: ""}).level is Level.STUDY
    retrieval = parse_retrieval(STUDY_ROOT, _identifier(level, {_STUDY: "1.2"}), _IMPLICIT)
    assert retrieval.level is Level.STUDY


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_every_level_of_the_patient_root_can_be_asked_for(level: str) -> None:
    """The four defined terms are accepted (A-3)."""
    keys = {_PATIENT_ID: "EX1", _STUDY: "1.2", _SERIES: "1.3", _IMAGE: ""}
    upper = {_PATIENT_ID: "PATIENT", _STUDY: "STUDY", _SERIES: "SERIES", _IMAGE: "IMAGE"}
    names = list(upper.values())
    wanted = {tag: v for tag, v in keys.items() if names.index(upper[tag]) <= names.index(level)}
    assert _query(level, wanted, PATIENT_ROOT).level is Level[level]


@pytest.mark.parametrize("identifier", [b"\x08", b"\x08\x00\x52\x00\xff\x00\x00\x00STUDY "])
def test_an_identifier_that_cannot_be_decoded_is_answered_with_c001(identifier: bytes) -> None:
    """For C-FIND and C-MOVE alike (B-19)."""
    with pytest.raises(DimseFailure) as refused_query:
        parse_query(STUDY_ROOT, identifier, _IMPLICIT)
    with pytest.raises(DimseFailure) as refused_move:
        parse_retrieval(STUDY_ROOT, identifier, _IMPLICIT)
    assert refused_query.value.status == refused_move.value.status == 0xC001


# --- unique keys of upper levels (B-1, B-2)

_BAD_UPPER_VALUES = ["", "  ", "\0", "\x01", "\\", "1.2\\1.3", "1.*", "1.?", "*"]


@pytest.mark.parametrize("value", [None, *_BAD_UPPER_VALUES], ids=repr)
def test_an_upper_unique_key_without_exactly_one_value_is_refused(value: str | None) -> None:
    """Missing, empty, several values, a wildcard: A900 with its tag, FIND and MOVE (B-2)."""
    keys = {} if value is None else {_STUDY: value}
    for refusal in (
        _refused_query("SERIES", {**keys, _SERIES: ""}),
        _refused_move("SERIES", {**keys, _SERIES: "1.3"}, STUDY_ROOT),
    ):
        assert (refusal.status, refusal.offending_elements) == (0xA900, (_STUDY,))


@pytest.mark.parametrize("value", [None, *_BAD_UPPER_VALUES], ids=repr)
def test_the_patient_id_is_an_upper_unique_key_of_the_patient_root(value: str | None) -> None:
    """It is needed at every level below PATIENT, as the UIDs are (B-1, B-2)."""
    keys = {} if value is None else {_PATIENT_ID: value}
    for refusal in (
        _refused_query("STUDY", {**keys, _STUDY: ""}, PATIENT_ROOT),
        _refused_move("STUDY", {**keys, _STUDY: "1.2"}, PATIENT_ROOT),
    ):
        assert (refusal.status, refusal.offending_elements) == (0xA900, (_PATIENT_ID,))


def test_the_highest_missing_unique_key_is_named() -> None:
    """An IMAGE query of the Patient Root needs three (B-1)."""
    keys = {_PATIENT_ID: "EX1", _SERIES: "1.3", _IMAGE: ""}
    assert _refused_query("IMAGE", keys, PATIENT_ROOT).offending_elements == (_STUDY,)


def test_the_patient_id_is_not_needed_in_the_study_root() -> None:
    """There it is a required key of the STUDY level, not a unique one (A-6)."""
    query = _query("SERIES", {_STUDY: "1.2", _SERIES: ""})
    assert _returned(query) == ["StudyInstanceUID", "SeriesInstanceUID"]


def test_one_value_given_twice_is_one_value() -> None:
    """What is meant is clear."""
    query = _query("SERIES", {_STUDY: "1.2\\1.2", _SERIES: ""})
    assert _matched(query) == {"StudyInstanceUID": UidList(("1.2",))}


# --- keys of the level and others (B-3, B-4, B-5, D-2, D-5)


def test_an_absent_unique_key_of_the_level_is_universal_and_not_returned() -> None:
    """Some other key of the level is enough; nothing is added that was not asked for (B-3, D-4)."""
    query = _query("STUDY", {_ACCESSION: "ACC1"})
    assert _returned(query) == ["AccessionNumber"]
    assert _matched(query) == {"AccessionNumber": EqualText("ACC1")}


@pytest.mark.parametrize("keys", [{}, {_MODALITY: ""}, {0x00091001: ""}, {_CHARACTER_SET: ""}])
def test_an_identifier_without_a_key_of_its_level_is_refused(keys: dict[int, str]) -> None:
    """A900 with the level's unique key (B-3)."""
    refusal = _refused_query("STUDY", keys)
    assert (refusal.status, refusal.offending_elements) == (0xA900, (_STUDY,))


def test_keys_of_upper_levels_only_are_no_key_of_the_level() -> None:
    """The unique keys above do not say what is asked for (B-3)."""
    refusal = _refused_query("SERIES", {_STUDY: "1.2", _NAME: ""})
    assert (refusal.status, refusal.offending_elements) == (0xA900, (_SERIES,))


def test_a_patient_attribute_is_a_key_of_the_study_level_in_the_study_root() -> None:
    """It is enough there, and not in the Patient Root (A-6)."""
    assert _returned(_query("STUDY", {_NAME: ""})) == ["PatientName"]
    keys = {_PATIENT_ID: "EX1", _NAME: ""}
    assert _refused_query("STUDY", keys, PATIENT_ROOT).offending_elements == (_STUDY,)


def test_another_key_of_an_upper_level_is_matched_and_returned() -> None:
    """An ignored filter would be a wrong answer (B-4)."""
    query = _query("SERIES", {_STUDY: "1.2", _ACCESSION: "ACC1", _SERIES: ""})
    assert _matched(query) == {
        "StudyInstanceUID": UidList(("1.2",)),
        "AccessionNumber": EqualText("ACC1"),
    }
    assert "AccessionNumber" in _returned(query)
    assert query.pending_status == 0xFF00


@pytest.mark.parametrize("value", ["", "CT"])
def test_a_key_of_a_lower_level_is_neither_matched_nor_returned(value: str) -> None:
    """Modality at STUDY level is unsupported: FF01 (B-5, D-2)."""
    query = _query("STUDY", {_STUDY: "", _MODALITY: value})
    assert (_returned(query), _matched(query)) == (["StudyInstanceUID"], {})
    assert query.pending_status == 0xFF01


def test_only_supported_keys_give_ff00() -> None:
    """All optional keys were handled like required ones (D-2)."""
    keys = {_STUDY: "", _STUDY_DESCRIPTION: "CT*", _STUDY_INSTANCES: ""}
    assert _query("STUDY", keys).pending_status is Status.PENDING


def test_an_unknown_standard_key_gives_ff01() -> None:
    """It is omitted, and the requestor told so (D-2, D-5)."""
    query = _query("STUDY", {_STUDY: "", 0x00081120: ""})
    assert (_returned(query), query.pending_status) == (["StudyInstanceUID"], 0xFF01)


def test_an_unknown_private_key_gives_ff00() -> None:
    """Private keys may be ignored (D-2, D-11)."""
    query = _query("STUDY", {_STUDY: "", 0x00090010: "ACME", 0x00091001: "X"})
    assert (_returned(query), query.pending_status) == (["StudyInstanceUID"], 0xFF00)


def test_a_counter_as_a_key_is_returned_and_not_matched() -> None:
    """Its value is ignored: FF01 (A-10, D-5)."""
    query = _query("STUDY", {_STUDY: "", _STUDY_INSTANCES: "7"})
    assert _returned(query) == ["StudyInstanceUID", "NumberOfStudyRelatedInstances"]
    assert (_matched(query), query.pending_status) == ({}, 0xFF01)


def test_the_unique_keys_of_upper_levels_are_returned_though_only_matched() -> None:
    """Each answer says what it belongs to, highest level first (D-3)."""
    keys = {_PATIENT_ID: "EX1", _STUDY: "1.2", _SERIES: "1.3", _IMAGE: ""}
    query = _query("IMAGE", keys, PATIENT_ROOT)
    unique = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    assert _returned(query) == unique


# --- what is never a key (A-12, A-13, B-14, B-15)


@pytest.mark.parametrize("tag", [0x00000002, 0x00020010, 0x00041130, 0x00060001, 0x00070010])
def test_groups_below_0008_are_dropped_silently(tag: int) -> None:
    """They are no keys, not even unsupported ones, and no damage (A-12)."""
    query = _query("STUDY", {_STUDY: "", tag: "1.2.840.10008.1.2.1\0"})
    assert (_returned(query), query.pending_status) == (["StudyInstanceUID"], 0xFF00)


@pytest.mark.parametrize("tag", [0x00080000, 0x00100000, 0x00200000])
def test_group_lengths_are_dropped_silently(tag: int) -> None:
    """Old requestors send them (A-12)."""
    query = _query("STUDY", {_STUDY: "", tag: b"\x10\0\0\0"})
    assert (_returned(query), query.pending_status) == (["StudyInstanceUID"], 0xFF00)


@pytest.mark.parametrize(
    "tag",
    [_CHARACTER_SET, _AE_TITLE, _AVAILABILITY, 0x00080201, 0x00880130, 0x00880140, 0x00090010],
)
def test_control_elements_are_never_matched(tag: int) -> None:
    """They steer, or are filled by us (A-13, B-15, D-15)."""
    query = _query("STUDY", {_STUDY: "", tag: "X"})
    assert (_returned(query), _matched(query)) == (["StudyInstanceUID"], {})
    assert query.pending_status == 0xFF00


def test_a_view_that_was_not_negotiated_is_refused() -> None:
    """The default view would be another answer than was asked for (B-14)."""
    for refusal in (
        _refused_query("STUDY", {_STUDY: "", _VIEW: "ENHANCED"}),
        _refused_move("STUDY", {_STUDY: "1.2", _VIEW: "CLASSIC"}, STUDY_ROOT),
    ):
        assert (refusal.status, refusal.offending_elements) == (0xA900, (_VIEW,))


@pytest.mark.parametrize("view", ["", "  "])
def test_an_empty_view_is_ignored(view: str) -> None:
    """It asks for nothing (B-14)."""
    assert _returned(_query("STUDY", {_STUDY: "", _VIEW: view})) == ["StudyInstanceUID"]


# --- the form of values (B-19, B-20, C-10, C-24)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (_STUDY_DATE, "2020"),
        (_STUDY_DATE, "20201332"),
        (_STUDY_DATE, "2020*"),
        (_STUDY_TIME, "2400"),
    ],
)
def test_a_malformed_date_or_time_is_refused_by_find(tag: int, value: str) -> None:
    """A900 with its tag (B-19, B-20)."""
    refusal = _refused_query("STUDY", {_STUDY: "", tag: value})
    assert (refusal.status, refusal.offending_elements) == (0xA900, (tag,))
    assert value not in refusal.comment


def test_a_malformed_date_is_ignored_by_move() -> None:
    """It is no unique key (B-19)."""
    identifier = _identifier("STUDY", {_STUDY: "1.2", _STUDY_DATE: "rubbish"})
    assert parse_retrieval(STUDY_ROOT, identifier, _IMPLICIT).unique_keys == {Level.STUDY: ("1.2",)}


@pytest.mark.parametrize("count", [0, 1])
def test_a_sequence_key_may_have_one_item(count: int) -> None:
    """It is an unsupported key here: omitted, FF01 (C-26, D-2)."""
    query = _query("STUDY", {_STUDY: "", 0x00081032: b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * count})
    assert (_returned(query), query.pending_status) == (["StudyInstanceUID"], 0xFF01)


def test_a_sequence_key_of_two_items_is_refused() -> None:
    """A900 with its tag (B-19, C-26)."""
    two_items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 2
    refusal = _refused_query("STUDY", {_STUDY: "", 0x00081032: two_items})
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x00081032,))


def test_a_wildcard_in_a_uid_of_the_level_is_literal_for_find() -> None:
    """It matches nothing, and is no error (B-19, C-12)."""
    assert _matched(_query("STUDY", {_STUDY: "1.2*"})) == {"StudyInstanceUID": UidList(("1.2*",))}


def test_a_list_in_the_patient_id_of_the_level_means_any_of_them() -> None:
    """OR of the values (B-19, C-24)."""
    query = _query("PATIENT", {_PATIENT_ID: "A\\B*"}, PATIENT_ROOT)
    assert _matched(query) == {"PatientID": AnyOf((EqualText("A"), WildCard("B*")))}


def test_a_date_range_is_understood() -> None:
    """Both ends are included (C-15)."""
    query = _query("STUDY", {_STUDY_DATE: "20200101-20200131"})
    assert _matched(query) == {"StudyDate": Interval(20200101, 20200131)}


def test_a_key_of_absurd_length_is_refused() -> None:
    """A pattern of 1025 characters serves nobody; a list of UIDs may be long."""
    assert _refused_query("STUDY", {_STUDY_DESCRIPTION: "x" * 1025}).offending_elements == (
        _STUDY_DESCRIPTION,
    )
    uids = [f"1.2.{number}" for number in range(2000)]
    query = _query("STUDY", {_STUDY: "\\".join(uids)})
    assert _matched(query) == {"StudyInstanceUID": UidList(tuple(uids))}


def test_a_key_is_decoded_with_the_set_of_the_request() -> None:
    """(0008,0005) tells how the request's text is encoded (D-15)."""
    query = _query("STUDY", {_CHARACTER_SET: "ISO_IR 100", _STUDY_DESCRIPTION: b"Sch\xe4del"})
    assert _matched(query) == {"StudyDescription": EqualText("Sch\u00e4del")}


def test_undecodable_bytes_of_an_unknown_set_match_any_character() -> None:
    """In a VR with wildcards (D-17)."""
    query = _query("STUDY", {_CHARACTER_SET: "ISO_IR 999", _STUDY_DESCRIPTION: b"Sch\xe4del"})
    assert _matched(query) == {"StudyDescription": WildCard("Sch?del")}


# --- what C-MOVE asks for


@pytest.mark.parametrize(
    ("level", "keys", "tag"),
    [
        ("PATIENT", {}, _PATIENT_ID),
        ("STUDY", {_PATIENT_ID: "EX1"}, _STUDY),
        ("SERIES", {_PATIENT_ID: "EX1", _STUDY: "1.2"}, _SERIES),
        ("IMAGE", {_PATIENT_ID: "EX1", _STUDY: "1.2", _SERIES: "1.3"}, _IMAGE),
    ],
)
@pytest.mark.parametrize("value", [None, "", "\\", "*", "1.2*", "1.?"], ids=repr)
def test_a_move_without_a_plain_unique_key_is_refused(
    level: str, keys: dict[int, str], tag: int, value: str | None
) -> None:
    """Missing, empty or with a wildcard it never means everything: A900 (B-19)."""
    refusal = _refused_move(level, keys if value is None else {**keys, tag: value})
    assert (refusal.status, refusal.offending_elements) == (0xA900, (tag,))


def test_a_move_of_several_patients_is_refused() -> None:
    """Patient ID takes one value (B-19, E-1)."""
    assert _refused_move("PATIENT", {_PATIENT_ID: "A\\B"}).offending_elements == (_PATIENT_ID,)


def test_a_move_may_list_uids_at_its_level() -> None:
    """One value above, one or more at the level, each once (E-1, E-2)."""
    keys = {_PATIENT_ID: " EX1 ", _STUDY: "1.2\0", _SERIES: "1.4\\1.3\\1.4"}
    retrieval = parse_retrieval(PATIENT_ROOT, _identifier("SERIES", keys), _IMPLICIT)
    assert retrieval.unique_keys == {
        Level.PATIENT: ("EX1",),
        Level.STUDY: ("1.2",),
        Level.SERIES: ("1.4", "1.3"),
    }


def test_other_keys_of_a_move_are_ignored() -> None:
    """They are illegal there, and change nothing (B-19, E-1)."""
    keys = {_STUDY: "1.2", _NAME: "Nobody", _SERIES: "1.3", _IMAGE: "1.4"}
    retrieval = parse_retrieval(STUDY_ROOT, _identifier("STUDY", keys), _IMPLICIT)
    assert retrieval.unique_keys == {Level.STUDY: ("1.2",)}


# --- answers (D-3 to D-8, D-18, D-23)


def _answer(query: Query, values: Mapping[str, str]) -> bytes:
    return encode_match(query, {"InstanceAvailability": "ONLINE", **values}, "PACS", _EXPLICIT)


def _answered(query: Query, values: Mapping[str, str]) -> dict[int, bytes]:
    elements = read_elements(_answer(query, values), _EXPLICIT)
    return {tag: element.value for tag, element in elements.items()}


def test_an_answer_has_these_bytes() -> None:
    """Ascending tags, even lengths, level, title and availability besides what was asked (D-3)."""
    query = _query("STUDY", {_STUDY: "", _PATIENT_ID: "", _STUDY_DATE: ""})
    values = {"StudyInstanceUID": "1.2.3", "PatientID": "EX1"}
    assert _answer(query, values) == b"".join(
        (
            b"\x08\x00\x20\x00DA\x00\x00",
            b"\x08\x00\x52\x00CS\x06\x00STUDY ",
            b"\x08\x00\x54\x00AE\x04\x00PACS",
            b"\x08\x00\x56\x00CS\x06\x00ONLINE",
            b"\x10\x00\x20\x00LO\x04\x00EX1 ",
            b"\x20\x00\x0d\x00UI\x06\x001.2.3\0",
        )
    )


def test_an_answer_holds_nothing_that_was_not_asked_for() -> None:
    """What the catalog gives beyond it stays here (D-4)."""
    query = _query("STUDY", {_STUDY: ""})
    answered = _answered(query, {"StudyInstanceUID": "1.2", "PatientName": "Example^Emma"})
    assert set(answered) == {_LEVEL, _AE_TITLE, _AVAILABILITY, _STUDY}


@pytest.mark.parametrize("character_set", ["", "ISO_IR 100", "ISO_IR 192"])
def test_plain_text_is_answered_without_a_label(character_set: str) -> None:
    """(0008,0005) is absent where it is not needed (D-18)."""
    query = _query("STUDY", {_CHARACTER_SET: character_set, _STUDY_DESCRIPTION: ""})
    assert _CHARACTER_SET not in _answered(query, {"StudyDescription": "Head"})


def test_text_is_answered_in_the_requested_set_if_that_carries_it() -> None:
    """Label and bytes agree (D-18, D-23)."""
    query = _query("STUDY", {_CHARACTER_SET: "ISO_IR 100", _STUDY_DESCRIPTION: ""})
    answered = _answered(query, {"StudyDescription": "Sch\u00e4del"})
    assert answered[_CHARACTER_SET] == b"ISO_IR 100"
    assert answered[_STUDY_DESCRIPTION] == b"Sch\xe4del "


@pytest.mark.parametrize("character_set", ["", "ISO_IR 100", "ISO_IR 999"])
def test_text_that_the_requested_set_cannot_carry_is_answered_in_utf_8(character_set: str) -> None:
    """Never a replacement character, never a wrong label (D-18)."""
    query = _query("STUDY", {_CHARACTER_SET: character_set, _STUDY_DESCRIPTION: ""})
    answered = _answered(query, {"StudyDescription": "\u30e4\u30de"})
    assert answered[_CHARACTER_SET] == b"ISO_IR 192"
    assert answered[_STUDY_DESCRIPTION] == "\u30e4\u30de".encode()


def test_text_outside_of_the_affected_vrs_needs_no_label() -> None:
    """A UID or code string is never affected by a character set (D-16)."""
    query = _query("STUDY", {_STUDY: "", 0x00080061: ""})
    values = {"StudyInstanceUID": "1.2", "ModalitiesInStudy": "CT\\SR"}
    assert _answered(query, values)[0x00080061] == b"CT\\SR "
    assert _CHARACTER_SET not in _answered(query, values)


@pytest.mark.parametrize(
    ("stored", "returned"),
    [("2020.01.15", b"20200115"), ("20200115", b"20200115")],
)
def test_a_date_is_returned_in_the_form_of_today(stored: str, returned: bytes) -> None:
    """An explicit DA has eight bytes (D-8)."""
    query = _query("STUDY", {_STUDY_DATE: ""})
    assert _answered(query, {"StudyDate": stored})[_STUDY_DATE] == returned


def test_a_time_is_returned_in_the_form_of_today() -> None:
    """Colons are of another age (D-8)."""
    query = _query("STUDY", {_STUDY_TIME: ""})
    assert _answered(query, {"StudyTime": "10:15:30"})[_STUDY_TIME] == b"101530"


def test_values_are_returned_as_stored() -> None:
    """Leading zeros, case and all values stay (D-8)."""
    query = _query("STUDY", {_ACCESSION: "", _NAME: "", 0x00201070: ""})
    values = {"AccessionNumber": "00123", "PatientName": "McX^a", "OtherStudyNumbers": "01\\2"}
    answered = _answered(query, values)
    assert answered[_ACCESSION] == b"00123 "
    assert answered[_NAME] == b"McX^a "
    assert answered[0x00201070] == b"01\\2"


def test_a_text_of_more_than_64_kilobytes_is_answered_whole() -> None:
    """What an implicit sender stored fits no explicit LT (I-11)."""
    query = _query("STUDY", {0x00104000: ""})
    assert _answered(query, {"PatientComments": "x" * 70_000})[0x00104000] == b"x" * 70_000


def test_an_answer_uses_the_encoding_of_its_presentation_context() -> None:
    """Implicit VR has no VRs."""
    query = _query("STUDY", {_STUDY: ""})
    values = {"InstanceAvailability": "ONLINE", "StudyInstanceUID": "1.2"}
    encoded_match = encode_match(query, values, "PACS", _IMPLICIT)
    assert encoded_match.endswith(b"\x20\x00\x0d\x00\x04\x00\x00\x001.2\0")


def test_the_failed_list_has_these_bytes() -> None:
    """One element, no character set (E-10)."""
    assert encode_failed_list(["1.2", "1.3"], _EXPLICIT) == b"\x08\x00\x58\x00UI\x08\x001.2\\1.3\0"


def test_a_failed_list_too_long_for_its_vr_ends_with_a_whole_uid() -> None:
    """Explicit UI has 16 bits of length; the list is cut there, and nowhere in a UID."""
    uids = [f"1.2.{number}" for number in range(100_000, 110_000)]
    (element,) = read_elements(encode_failed_list(uids, _EXPLICIT), _EXPLICIT).values()
    shown = element.value.decode().rstrip("\0").split("\\")
    assert shown == uids[: len(shown)]
    assert len(element.value) <= 65_534
    assert len("\\".join(uids[: len(shown) + 1])) > 65_534
    (whole,) = read_elements(encode_failed_list(uids, _IMPLICIT), _IMPLICIT).values()
    assert whole.value.decode().rstrip("\0").split("\\") == uids


@given(st.binary(max_size=200), st.sampled_from([_IMPLICIT, _EXPLICIT]))
def test_garbage_is_refused_as_a_dimse_failure(garbage: bytes, encoding: object) -> None:
    """Whatever the identifier is, the answer is a status."""
    for parse in (parse_query, parse_retrieval):
        with pytest.raises(DimseFailure):
            parse(STUDY_ROOT, garbage, encoding)


_TAGS = st.sampled_from(
    [_STUDY, _NAME, _PATIENT_ID, _STUDY_DATE, _STUDY_TIME, _CHARACTER_SET, _VIEW]
)


@given(st.dictionaries(_TAGS, st.binary(max_size=40)))
def test_any_values_are_understood_or_refused(keys: dict[int, bytes]) -> None:
    """A key with rubbish for a value never ends in another error."""
    with suppress(DimseFailure):
        query = _query("STUDY", keys)
        assert set(_matched(query)) <= set(_returned(query))
