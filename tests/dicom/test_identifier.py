"""Request Identifiers understood or refused, and Response Identifiers."""

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.dicom.answer import AnswerEncoder
from pacsnode.dicom.attributes import BY_TAG, STANDARD_KEYS, extra_key
from pacsnode.dicom.attributes import Keys as KeysOfNode
from pacsnode.dicom.data_elements import read_elements
from pacsnode.dicom.identifier import (
    encode_failed_list,
    parse_query,
    parse_retrieval,
)
from pacsnode.dicom.information_model import (
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    InformationModel,
    Level,
)
from pacsnode.dicom.matching import (
    AllOf,
    AnyOf,
    EmptyValue,
    EqualNumber,
    EqualText,
    Interval,
    ItemKey,
    ItemMatching,
    NameMatching,
    Never,
    PersonName,
    UidList,
    WildCard,
)
from pacsnode.dicom.query import (
    CombinedKey,
    ItemRequest,
    MatchingKey,
    Query,
    QueryOptions,
    ReturnKey,
)
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.transfer_syntax import Encoding
from tests.support.identifiers import EXPLICIT, IMPLICIT, Keys, identifier

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

_PROCEDURE_CODE = 0x00081032
_CODE_VALUE = 0x00080100
_CODE_MEANING = 0x00080104
_REQUEST_ATTRIBUTES = 0x00400275
_RELATIONAL = QueryOptions(relational=True)


def _query(
    level: str | None,
    keys: Keys,
    options: QueryOptions = QueryOptions(),  # noqa: B008 - immutable
    *,
    model: InformationModel = STUDY_ROOT,
    keys_of_node: KeysOfNode = STANDARD_KEYS,
) -> Query:
    return parse_query(model, identifier(level, keys), IMPLICIT, keys=keys_of_node, options=options)


def _refused_query(
    level: str | None,
    keys: Keys,
    model: InformationModel = STUDY_ROOT,
    options: QueryOptions = QueryOptions(),  # noqa: B008 - immutable
) -> DimseFailure:
    with pytest.raises(DimseFailure) as refusal:
        _query(level, keys, options, model=model)
    return refusal.value


def _refused_move(
    level: str | None, keys: Keys, model: InformationModel = PATIENT_ROOT
) -> DimseFailure:
    with pytest.raises(DimseFailure) as refusal:
        parse_retrieval(model, identifier(level, keys), IMPLICIT)
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
    retrieval = parse_retrieval(STUDY_ROOT, identifier(level, {_STUDY: "1.2"}), IMPLICIT)
    assert retrieval.level is Level.STUDY


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_every_level_of_the_patient_root_can_be_asked_for(level: str) -> None:
    """The four defined terms are accepted (A-3)."""
    keys = {_PATIENT_ID: "EX1", _STUDY: "1.2", _SERIES: "1.3", _IMAGE: ""}
    upper = {_PATIENT_ID: "PATIENT", _STUDY: "STUDY", _SERIES: "SERIES", _IMAGE: "IMAGE"}
    names = list(upper.values())
    wanted = {tag: v for tag, v in keys.items() if names.index(upper[tag]) <= names.index(level)}
    assert _query(level, wanted, model=PATIENT_ROOT).level is Level[level]


@pytest.mark.parametrize("undecodable", [b"\x08", b"\x08\x00\x52\x00\xff\x00\x00\x00STUDY "])
def test_an_identifier_that_cannot_be_decoded_is_answered_with_c001(undecodable: bytes) -> None:
    """For C-FIND and C-MOVE alike (B-19)."""
    with pytest.raises(DimseFailure) as refused_query:
        parse_query(STUDY_ROOT, undecodable, IMPLICIT)
    with pytest.raises(DimseFailure) as refused_move:
        parse_retrieval(STUDY_ROOT, undecodable, IMPLICIT)
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
    query = _query("STUDY", {_STUDY: "", 0x00189321: ""})
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
    query = _query("IMAGE", keys, model=PATIENT_ROOT)
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
    request = identifier("STUDY", {_STUDY: "1.2", _STUDY_DATE: "rubbish"})
    assert parse_retrieval(STUDY_ROOT, request, IMPLICIT).unique_keys == {Level.STUDY: ("1.2",)}


# --- sequences: rule C-26


@pytest.mark.parametrize("items", [[], [{}]])
def test_a_sequence_key_without_an_item_that_asks_for_something_is_universal(
    items: list[Keys],
) -> None:
    """Zero items, or an empty one: the whole sequence is returned (C-26)."""
    query = _query("STUDY", {_PROCEDURE_CODE: items})
    assert query.return_keys == (ReturnKey(BY_TAG[_PROCEDURE_CODE], _PROCEDURE_CODE, None, None),)
    assert (_matched(query), query.pending_status) == ({}, 0xFF00)


def test_the_item_of_a_sequence_key_says_what_matches_and_what_is_returned() -> None:
    """Of each item that matches, the elements that were asked for (C-26)."""
    query = _query("STUDY", {_PROCEDURE_CODE: [{_CODE_VALUE: "P*", _CODE_MEANING: ""}]})
    matching = ItemMatching((ItemKey(_CODE_VALUE, "SH", WildCard("P*")),))
    request = ItemRequest({_CODE_VALUE: ("SH", None), _CODE_MEANING: ("LO", None)})
    assert _matched(query) == {"ProcedureCodeSequence": matching}
    attribute = BY_TAG[_PROCEDURE_CODE]
    assert query.return_keys == (ReturnKey(attribute, _PROCEDURE_CODE, request, matching),)
    assert query.pending_status == 0xFF00


def test_an_item_without_values_selects_none_of_its_kind() -> None:
    """All items are returned, each with what was asked for (C-26: J-144)."""
    query = _query("STUDY", {_PROCEDURE_CODE: [{_CODE_VALUE: "", _CODE_MEANING: "*"}]})
    (key,) = query.return_keys
    assert (_matched(query), key.matching) == ({}, None)
    assert key.items == ItemRequest({_CODE_VALUE: ("SH", None), _CODE_MEANING: ("LO", None)})


def test_a_sequence_within_an_item_is_understood_like_the_outer_one() -> None:
    """The rule is recursive; an empty inner sequence asks for all of it (C-26)."""
    inner = [{_CODE_VALUE: "X"}]
    item = {0x00400008: inner, 0x0040100A: [{}], 0x00400009: ""}
    query = _query("SERIES", {_STUDY: "1.2", _REQUEST_ATTRIBUTES: [item]})
    code = ItemMatching((ItemKey(_CODE_VALUE, "SH", EqualText("X")),))
    assert _matched(query)["RequestAttributesSequence"] == ItemMatching(
        (ItemKey(0x00400008, "SQ", code),)
    )
    assert query.return_keys[-1].items == ItemRequest(
        {
            0x00400008: ("SQ", ItemRequest({_CODE_VALUE: ("SH", None)})),
            0x00400009: ("SH", None),
            0x0040100A: ("SQ", None),
        }
    )


@pytest.mark.parametrize("tag", [_PROCEDURE_CODE, 0x00400340])
def test_a_sequence_key_of_two_items_is_refused(tag: int) -> None:
    """A900 with its tag, whether it is a supported key or not (B-19, C-26: J-146)."""
    refusal = _refused_query("STUDY", {_STUDY: "", tag: [{}, {}]})
    assert (refusal.status, refusal.offending_elements) == (0xA900, (tag,))


def test_two_items_within_an_item_are_refused() -> None:
    """The sequence at fault is named (B-19, C-26)."""
    item = {0x00400008: [{_CODE_VALUE: "X"}, {_CODE_VALUE: "Y"}]}
    refusal = _refused_query("SERIES", {_STUDY: "1.2", _REQUEST_ATTRIBUTES: [item]})
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x00400008,))


def test_a_malformed_value_within_an_item_is_refused() -> None:
    """The element at fault is named (B-19, B-20)."""
    item = {0x00400002: "2020"}
    refusal = _refused_query("SERIES", {_STUDY: "1.2", _REQUEST_ATTRIBUTES: [item]})
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x00400002,))


@pytest.mark.parametrize(("value", "status"), [(b"\1\0", 0xFF01), (b"", 0xFF00)])
def test_an_element_of_an_item_that_cannot_be_matched_is_returned(
    value: bytes, status: int
) -> None:
    """Its value is ignored, and the requestor told so (C-9, D-2, D-5b)."""
    query = _query("STUDY", {_PROCEDURE_CODE: [{0x00420011: value}]})
    assert _matched(query) == {}
    assert query.return_keys[0].items == ItemRequest({0x00420011: ("OB", None)})
    assert query.pending_status == status


def test_private_elements_of_an_item_are_dropped() -> None:
    """They may be ignored; alone they do not make FF01 (D-2, D-11)."""
    item = {_CODE_VALUE: "X", 0x00090010: "ACME", 0x00091001: b"Y"}
    query = _query("STUDY", {_PROCEDURE_CODE: [item]})
    assert query.return_keys[0].items == ItemRequest({_CODE_VALUE: ("SH", None)})
    assert query.pending_status == 0xFF00


def test_a_binary_number_within_an_item_is_matched_by_number() -> None:
    """It is understood from its bytes (C-9)."""
    item = {0x00280010: b"\x00\x02"}
    query = _query("STUDY", {_PROCEDURE_CODE: [item]})
    assert _matched(query)["ProcedureCodeSequence"] == ItemMatching(
        (ItemKey(0x00280010, "US", EqualNumber(Decimal(512), "512")),)
    )


def test_an_item_key_is_decoded_with_its_own_set() -> None:
    """(0008,0005) of an item holds for the item (C-25: K-32)."""
    item = {_CHARACTER_SET: "ISO_IR 144", _CODE_MEANING: b"\xb8\xd2*"}
    query = _query("STUDY", {_CHARACTER_SET: "ISO_IR 100", _PROCEDURE_CODE: [item]})
    assert _matched(query)["ProcedureCodeSequence"] == ItemMatching(
        (ItemKey(_CODE_MEANING, "LO", WildCard("\u0418\u0432*")),)
    )


def test_alternate_representations_are_universal_only() -> None:
    """Values in the item are ignored: FF01 (A-8, C-26, D-5b)."""
    keys = {_STUDY: "1.2", _SERIES: "1.3", 0x00083001: [{0x00081155: "1.4"}]}
    query = _query("IMAGE", keys)
    assert "AlternateRepresentationSequence" not in _matched(query)
    assert query.return_keys[-1].matching is None
    assert query.pending_status == 0xFF01


def test_sequences_nested_without_end_are_refused() -> None:
    """What no device asks is not understood for the sake of it."""
    nested: list[Keys] = [{}]
    for _ in range(5):
        nested = [{0x00400008: nested, _CODE_VALUE: "X"}]
    refusal = _refused_query("SERIES", {_STUDY: "1.2", _REQUEST_ATTRIBUTES: nested})
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x00400008,))


# --- options: rules B-6, B-7, B-12, B-16, B-17


def test_relational_queries_need_no_upper_unique_keys() -> None:
    """A level without keys counts as all-match; its unique key is returned (B-7: J-204)."""
    query = _query("IMAGE", {_NAME: "Smith*", _MODALITY: "MR", _IMAGE: ""}, _RELATIONAL)
    assert _returned(query)[:2] == ["StudyInstanceUID", "SeriesInstanceUID"]
    assert set(_matched(query)) == {"PatientName", "Modality"}
    assert query.pending_status == 0xFF00


@pytest.mark.parametrize("value", ["", "1.2\\1.3", "*", "1.*"])
def test_an_upper_unique_key_of_a_relational_query_is_a_key_like_others(value: str) -> None:
    """It may have any form (B-7)."""
    query = _query("SERIES", {_STUDY: value, _SERIES: ""}, _RELATIONAL)
    assert _returned(query) == ["StudyInstanceUID", "SeriesInstanceUID"]


def test_a_relational_query_may_have_no_key_of_its_level() -> None:
    """Keys of any level do; none at all do not (B-3, B-7)."""
    query = _query("IMAGE", {_STUDY: "1.2"}, _RELATIONAL)
    assert _matched(query) == {"StudyInstanceUID": UidList(("1.2",))}
    refusal = _refused_query("IMAGE", {_CHARACTER_SET: ""}, options=_RELATIONAL)
    assert (refusal.status, refusal.offending_elements) == (0xA900, (_IMAGE,))


def test_keys_of_lower_levels_stay_unsupported_in_a_relational_query() -> None:
    """The first child's value is no answer (B-5)."""
    query = _query("STUDY", {_STUDY: "", _MODALITY: "MR"}, _RELATIONAL)
    assert (_returned(query), query.pending_status) == (["StudyInstanceUID"], 0xFF01)


_COMBINED = QueryOptions(combined_date_time=True)


def test_ranges_of_date_and_time_are_one_range_where_negotiated() -> None:
    """From the first time of the first date to the last time of the last one (B-12)."""
    keys = {_STUDY_DATE: "20060705-20060707", _STUDY_TIME: "1000-1800"}
    query = _query("STUDY", keys, _COMBINED)
    assert _matched(query) == {}
    assert query.combined_keys == (
        CombinedKey(
            BY_TAG[_STUDY_DATE],
            BY_TAG[_STUDY_TIME],
            (20060705, 36_000_000_000),
            (20060707, 64_859_999_999),
        ),
    )
    assert _returned(query) == ["StudyDate", "StudyTime"]
    assert _query("STUDY", keys).combined_keys == ()


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("20200101-20200102", "1200-"),  # J-212
        ("20200101", "1200-1300"),
        ("20200101-20200102", "1200"),
        ("-20200102", "1200-"),
        ("-20200102\\20200103-", "-1200"),
        ("-", "-"),
        ("*", "10-"),
        ("", "10-"),
    ],
)
def test_other_forms_of_date_and_time_are_for_themselves(date: str, time: str) -> None:
    """Their forms differ, or one is no range (B-12)."""
    query = _query("STUDY", {_STUDY_DATE: date, _STUDY_TIME: time}, _COMBINED)
    assert query.combined_keys == ()
    separate = _query("STUDY", {_STUDY_DATE: date, _STUDY_TIME: time})
    assert _matched(query) == _matched(separate)


@pytest.mark.parametrize(
    ("times", "lower", "upper"),
    [
        (("20200101-", "12-"), (20200101, 43_200_000_000), None),
        (("-20200101", "-12"), None, (20200101, 46_799_999_999)),
    ],
)
def test_open_ranges_are_combined_too(times: tuple[str, str], lower: object, upper: object) -> None:
    """Both are open at the same end (B-12)."""
    date, time = times
    (key,) = _query("STUDY", {_STUDY_DATE: date, _STUDY_TIME: time}, _COMBINED).combined_keys
    assert (key.lower, key.upper) == (lower, upper)


def test_a_combined_range_may_end_at_an_earlier_time_of_a_later_day() -> None:
    """Only the whole has to be in order (B-12)."""
    keys = {_STUDY_DATE: "20200101-20200102", _STUDY_TIME: "1800-0600"}
    (key,) = _query("STUDY", keys, _COMBINED).combined_keys
    assert (key.lower, key.upper) == ((20200101, 64_800_000_000), (20200102, 21_659_999_999))
    keys[_STUDY_DATE] = "20200101-20200101"
    query = _query("STUDY", keys, _COMBINED)
    assert (query.combined_keys, _matched(query)) == ((), {"StudyDate": Never()})


def test_every_pair_of_date_and_time_is_combined() -> None:
    """Birth, series, content and the like, also where they have no columns (B-12)."""
    pairs = [
        (0x00080021, 0x00080031),
        (0x00080022, 0x00080032),
        (0x00080023, 0x00080033),
        (0x00100030, 0x00100032),
    ]
    keys: dict[int, str] = {_STUDY: "1.2", _SERIES: "1.3", _IMAGE: ""}
    for date_tag, time_tag in pairs:
        keys |= {date_tag: "20200101-", time_tag: "12-"}
    query = _query("IMAGE", keys, _COMBINED)
    assert {(key.date.tag, key.time.tag) for key in query.combined_keys} == set(pairs)


def test_empty_values_are_asked_for_where_negotiated() -> None:
    """`""` is an ordinary literal otherwise, within items too (B-17)."""
    keys: Keys = {_ACCESSION: '""', _PROCEDURE_CODE: [{_CODE_VALUE: '""'}]}
    for options, matching in (
        (QueryOptions(), EqualText('""')),
        (QueryOptions(empty_value=True), EmptyValue()),
    ):
        assert _matched(_query("STUDY", keys, options)) == {
            "AccessionNumber": matching,
            "ProcedureCodeSequence": ItemMatching((ItemKey(_CODE_VALUE, "SH", matching),)),
        }


def test_a_unique_key_is_never_empty_but_may_be_asked_so() -> None:
    """UI is not among the VRs of empty value matching: the key is a literal (B-17, C-7)."""
    query = _query("STUDY", {_STUDY: '""'}, QueryOptions(empty_value=True))
    assert _matched(query) == {"StudyInstanceUID": UidList(('""',))}


def test_several_values_all_have_to_match_where_negotiated() -> None:
    """In an Attribute that may have several; else they are alternatives (B-16, C-24)."""
    keys = {0x00080061: "CT\\MR", _ACCESSION: "A\\B"}
    matched = _matched(_query("STUDY", keys, QueryOptions(multiple_values=True)))
    assert matched["ModalitiesInStudy"] == AllOf((EqualText("CT"), EqualText("MR")))
    assert matched["AccessionNumber"] == AnyOf((EqualText("A"), EqualText("B")))


def test_the_settings_for_names_hold_for_every_name() -> None:
    """Also within items (C-30 to C-33)."""
    options = QueryOptions(names=NameMatching(family_name_alone=True, any_group=False))
    keys = {_NAME: "Smith", _PROCEDURE_CODE: [{0x0040A123: "Smith"}]}
    name = PersonName(alphabetic=("smith", "smith^*"))
    assert _matched(_query("STUDY", keys, options)) == {
        "PatientName": name,
        "ProcedureCodeSequence": ItemMatching((ItemKey(0x0040A123, "PN", name),)),
    }


# --- extra and private keys: rule D-11

_PRIVATE = extra_key(Level.STUDY, tag=0x00190001, vr="LO", private_creator="ACME 1.1")
_PRIVATE_SEQUENCE = extra_key(Level.STUDY, tag=0x00190002, vr="SQ", private_creator="ACME 1.1")
_OTHER_GROUP = extra_key(Level.SERIES, tag=0x00210001, vr="DS", private_creator="ACME 1.1")
_KEYS = KeysOfNode(
    (_PRIVATE, _PRIVATE_SEQUENCE, _OTHER_GROUP, extra_key(Level.STUDY, tag=0x00189321))
)


def test_an_extra_key_is_a_key_like_others() -> None:
    """The administrator has named it."""
    query = _query("STUDY", {0x00189321: []}, keys_of_node=_KEYS)
    assert (_returned(query), query.pending_status) == (["CTExposureSequence"], 0xFF00)


def test_a_private_key_is_matched_and_stands_in_the_block_of_the_request() -> None:
    """Its creator is in the request, and comes back with it (D-11)."""
    keys = {_STUDY: "", 0x00190011: "ACME 1.1 ", 0x00191101: "X*", 0x00190010: "OTHER"}
    query = _query("STUDY", keys, keys_of_node=_KEYS)
    assert query.return_keys[0] == ReturnKey(_PRIVATE, 0x00191101)
    assert query.matching_keys == (MatchingKey(_PRIVATE, WildCard("X*")),)
    assert query.private_creators == ((0x00190011, "ACME 1.1"),)
    assert query.pending_status == 0xFF00


@pytest.mark.parametrize(
    "keys",
    [
        {0x00191101: "X"},
        {0x00190010: "ACME 1.1", 0x00191101: "X"},
        {0x00190011: "acme 1.1", 0x00191101: "X"},
        {0x00190011: "ACME 1.1", 0x00191103: "X"},
        {0x00210011: "ACME 1.1", 0x00211101: "X"},
    ],
)
def test_a_private_key_without_its_creator_in_its_block_is_dropped(keys: dict[int, str]) -> None:
    """Nor is one of a lower level, or of another number; alone they make no FF01 (D-2, D-11)."""
    query = _query("STUDY", {_STUDY: "", **keys}, keys_of_node=_KEYS)
    assert _returned(query) == ["StudyInstanceUID"]
    assert (_matched(query), query.private_creators) == ({}, ())
    assert query.pending_status == 0xFF00


def test_a_private_sequence_is_understood_without_a_dictionary() -> None:
    """Its VR is the administrator's, and its items are read (C-26, D-11)."""
    keys = {0x00190010: "ACME 1.1", 0x00191002: [{_CODE_VALUE: "X"}]}
    query = _query("STUDY", keys, keys_of_node=_KEYS)
    matching = ItemMatching((ItemKey(_CODE_VALUE, "SH", EqualText("X")),))
    assert query.matching_keys == (MatchingKey(_PRIVATE_SEQUENCE, matching),)
    two = {**keys, 0x00191002: [{_CODE_VALUE: "X"}, {}]}
    with pytest.raises(DimseFailure) as refusal:
        _query("STUDY", two, keys_of_node=_KEYS)
    assert refusal.value.offending_elements == (0x00191002,)


# --- the retired Patient/Study Only model


def test_the_patient_study_only_model_is_the_patient_root_cut_off() -> None:
    """Two levels; patient's keys belong to PATIENT (A-2, A-3)."""
    query = _query("STUDY", {_PATIENT_ID: "EX1", _STUDY: ""}, model=PATIENT_STUDY_ONLY)
    assert _returned(query) == ["PatientID", "StudyInstanceUID"]
    for level in ("SERIES", "IMAGE"):
        refusal = _refused_query(level, {_SERIES: ""}, PATIENT_STUDY_ONLY)
        assert (refusal.status, refusal.offending_elements) == (0xA900, (_LEVEL,))
    assert _refused_query("STUDY", {_STUDY: ""}, PATIENT_STUDY_ONLY).offending_elements == (
        _PATIENT_ID,
    )


# --- forms of values, once more


def test_a_wildcard_in_a_uid_of_the_level_is_literal_for_find() -> None:
    """It matches nothing, and is no error (B-19, C-12)."""
    assert _matched(_query("STUDY", {_STUDY: "1.2*"})) == {"StudyInstanceUID": UidList(("1.2*",))}


def test_a_list_in_the_patient_id_of_the_level_means_any_of_them() -> None:
    """OR of the values (B-19, C-24)."""
    query = _query("PATIENT", {_PATIENT_ID: "A\\B*"}, model=PATIENT_ROOT)
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
    retrieval = parse_retrieval(PATIENT_ROOT, identifier("SERIES", keys), IMPLICIT)
    assert retrieval.unique_keys == {
        Level.PATIENT: ("EX1",),
        Level.STUDY: ("1.2",),
        Level.SERIES: ("1.4", "1.3"),
    }


def test_a_relational_retrieval_may_lack_upper_unique_keys() -> None:
    """The key of its level is needed all the same, and others must be plain (B-9, B-19)."""
    keys = {_PATIENT_ID: "", _SERIES: "1.4"}
    retrieval = parse_retrieval(PATIENT_ROOT, identifier("SERIES", keys), IMPLICIT, relational=True)
    assert retrieval.unique_keys == {Level.SERIES: ("1.4",)}
    for wrong, tag in (
        ({_STUDY: "1.2"}, _SERIES),
        ({_STUDY: "1.*", _SERIES: "1.4"}, _STUDY),
        ({_STUDY: "1.2\\1.3", _SERIES: "1.4"}, _STUDY),
    ):
        with pytest.raises(DimseFailure) as refusal:
            parse_retrieval(PATIENT_ROOT, identifier("SERIES", wrong), IMPLICIT, relational=True)
        assert refusal.value.offending_elements == (tag,)


def test_other_keys_of_a_move_are_ignored() -> None:
    """They are illegal there, and change nothing (B-19, E-1)."""
    keys = {_STUDY: "1.2", _NAME: "Nobody", _SERIES: "1.3", _IMAGE: "1.4"}
    retrieval = parse_retrieval(STUDY_ROOT, identifier("STUDY", keys), IMPLICIT)
    assert retrieval.unique_keys == {Level.STUDY: ("1.2",)}


# --- answers (D-3 to D-8, D-18, D-23)


def _answer(query: Query, values: Mapping[str, str]) -> bytes:
    return _encoded(query, values, EXPLICIT)


def _encoded(query: Query, values: Mapping[str, str], encoding: Encoding) -> bytes:
    in_order = [values.get(key.attribute.keyword) for key in query.return_keys]
    return AnswerEncoder(query, "PACS", encoding).encode(in_order)


def _answered(query: Query, values: Mapping[str, str]) -> dict[int, bytes]:
    elements = read_elements(_answer(query, values), EXPLICIT)
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
    encoded = _encoded(query, {"StudyInstanceUID": "1.2"}, IMPLICIT)
    assert encoded.endswith(b"\x20\x00\x0d\x00\x04\x00\x00\x001.2\0")


def test_the_failed_list_has_these_bytes() -> None:
    """One element, no character set (E-10)."""
    assert encode_failed_list(["1.2", "1.3"], EXPLICIT) == b"\x08\x00\x58\x00UI\x08\x001.2\\1.3\0"


def test_a_failed_list_too_long_for_its_vr_is_whole() -> None:
    """Explicit UI has 16 bits of length: a longer list is UN (E-10; PS3.5 6.2.2 note 5)."""
    uids = [f"1.2.{number}" for number in range(100_000, 110_000)]
    for encoding, vr in ((EXPLICIT, "UN"), (IMPLICIT, "UI")):
        encoded = encode_failed_list(uids, encoding)
        (element,) = read_elements(encoded, encoding).values()
        assert element.value.decode().rstrip("\0").split("\\") == uids
        assert encoded[4:6] == vr.encode() or encoding is IMPLICIT


@given(st.binary(max_size=200), st.sampled_from([IMPLICIT, EXPLICIT]))
def test_garbage_is_refused_as_a_dimse_failure(garbage: bytes, encoding: object) -> None:
    """Whatever the identifier is, the answer is a status."""
    for parse in (parse_query, parse_retrieval):
        with pytest.raises(DimseFailure):
            parse(STUDY_ROOT, garbage, encoding)


_TAGS = st.sampled_from(
    [_STUDY, _NAME, _PATIENT_ID, _STUDY_DATE, _STUDY_TIME, _CHARACTER_SET, _VIEW, 0x00080063]
)
_ALL_OPTIONS = QueryOptions(
    relational=True,
    combined_date_time=True,
    empty_value=True,
    multiple_values=True,
    names=NameMatching(family_name_alone=True, ignores_accents=True),
)
# Bytes, or an item of bytes.
_VALUES = st.recursive(
    st.binary(max_size=40) | st.sampled_from([b"20200101-", b"1200-", b'""', b"A\\*"]),
    lambda values: st.lists(st.dictionaries(_TAGS, values, max_size=3), max_size=2),
    max_leaves=6,
)


@given(
    st.dictionaries(_TAGS, _VALUES), st.sampled_from([QueryOptions(), _RELATIONAL, _ALL_OPTIONS])
)
def test_any_values_are_understood_or_refused(keys: Keys, options: QueryOptions) -> None:
    """A key with rubbish for a value never ends in another error."""
    with suppress(DimseFailure):
        query = _query("STUDY", keys, options)
        assert set(_matched(query)) <= set(_returned(query))
        assert {key.date for key in query.combined_keys} <= set(query.return_attributes)
