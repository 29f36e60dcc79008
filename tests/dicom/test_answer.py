"""Response Identifiers: what an answer carries, in which order, and in which characters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import read_dataset

from pacsnode.dicom.answer import ONLINE, UNAVAILABLE, AnswerEncoder
from pacsnode.dicom.attributes import BY_KEYWORD, Attribute, extra_key
from pacsnode.dicom.character_sets import (
    AFFECTED_VRS,
    DEFAULT_CHARACTER_SETS,
    CharacterSets,
    choose_character_sets,
    encode_text,
)
from pacsnode.dicom.data_elements import DataElement, encode_elements
from pacsnode.dicom.date_time import normalise_date, normalise_time
from pacsnode.dicom.information_model import STUDY_ROOT, Level
from pacsnode.dicom.matching import ItemKey, ItemMatching
from pacsnode.dicom.matching_keys import parse_matching_key
from pacsnode.dicom.query import ItemRequest, Query, ReturnKey
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of
from pacsnode.dicom.values import Item, ItemElement, Value

_IMPLICIT = encoding_of("1.2.840.10008.1.2")
_EXPLICIT = encoding_of("1.2.840.10008.1.2.1")
_LATIN_1 = CharacterSets.parse(["ISO_IR 100"])
_TEXT_KEYWORDS = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "PatientComments",
    "StudyInstanceUID",
    "NumberOfStudyRelatedInstances",
)
_CODE_VALUE, _CODING_SCHEME, _CODE_MEANING = 0x00080100, 0x00080102, 0x00080104
_PRIVATE = extra_key(Level.STUDY, tag=0x0019000C, vr="LO", private_creator="EXAMPLE 1.0")


def _query(
    *keys: ReturnKey | str,
    character_sets: CharacterSets = DEFAULT_CHARACTER_SETS,
    private_creators: tuple[tuple[int, str], ...] = (),
) -> Query:
    """A query that returns these keys; one without a particular request by its keyword."""
    return_keys = tuple(_key(BY_KEYWORD[k]) if isinstance(k, str) else k for k in keys)
    return Query(
        model=STUDY_ROOT,
        level=Level.STUDY,
        matching_keys=(),
        return_keys=return_keys,
        has_unsupported_keys=False,
        character_sets=character_sets,
        private_creators=private_creators,
    )


def _key(attribute: Attribute, items: ItemRequest | None = None) -> ReturnKey:
    return ReturnKey(attribute, attribute.tag, items)


def _encode(query: Query, values: Sequence[Value | None], encoding: Encoding = _EXPLICIT) -> bytes:
    return AnswerEncoder(query, "PACS", encoding).encode(values)


def _decoded(answer: bytes, encoding: Encoding = _EXPLICIT) -> Dataset:
    return read_dataset(BytesIO(answer), encoding.is_implicit_vr, is_little_endian=True)


def _plainly(query: Query, values: Mapping[Attribute, str], encoding: Encoding) -> bytes:
    """The answer of text values, element by element, as PS3.5 7.1 and rule D-18 say."""
    texts = {attribute: _returned(attribute, text) for attribute, text in values.items()}
    affected = [(a.vr, text) for a, text in texts.items() if a.vr in AFFECTED_VRS]
    character_sets = choose_character_sets(
        [text for vr, text in affected if vr != "PN"],
        query.character_sets,
        person_names=[text for vr, text in affected if vr == "PN"],
    )
    elements = [
        DataElement(0x00080052, "CS", b"STUDY"),
        DataElement(0x00080054, "AE", b"PACS"),
        DataElement(0x00080056, "CS", b"ONLINE"),
    ]
    if character_sets is not None:
        terms = "\\".join(character_sets.terms)
        elements.append(DataElement(0x00080005, "CS", terms.encode()))
    for attribute, text in texts.items():
        value = encode_text(text, attribute.vr, character_sets or DEFAULT_CHARACTER_SETS)
        elements.append(DataElement(attribute.tag, attribute.vr, value))
    return encode_elements(sorted(elements, key=lambda element: element.tag), encoding)


def _returned(attribute: Attribute, text: str) -> str:
    if attribute.vr == "DA":
        return normalise_date(text)
    return normalise_time(text) if attribute.vr == "TM" else text


_PLAIN = st.text(st.characters(max_codepoint=0x7E), max_size=70)
_ANY_TEXT = st.one_of(
    _PLAIN,
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "ignore").decode()),
    st.sampled_from(["2020.01.15", "10:15:30", "20200115", "Müller^Jörg", "山田^太郎"]),
    _PLAIN.map(lambda text: text * 40),
)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Query, dict[Attribute, str]]:
    keywords = draw(st.lists(st.sampled_from(_TEXT_KEYWORDS), unique=True))
    values = {}
    for keyword in keywords:
        attribute = BY_KEYWORD[keyword]
        is_affected = attribute.vr in AFFECTED_VRS or attribute.vr in {"DA", "TM"}
        text = draw(_ANY_TEXT if is_affected else _PLAIN)
        is_encodable = attribute.vr in AFFECTED_VRS
        values[attribute] = (
            text if is_encodable else text.encode("latin-1", "ignore").decode("latin-1")
        )
    requested = draw(st.sampled_from([DEFAULT_CHARACTER_SETS, _LATIN_1]))
    return _query(*keywords, character_sets=requested), values


@given(case=_cases(), encoding=st.sampled_from([_IMPLICIT, _EXPLICIT]))
def test_answers_are_what_a_plain_encoder_makes(
    case: tuple[Query, dict[Attribute, str]], encoding: Encoding
) -> None:
    """However an answer is put together, its bytes are those of one element after the other."""
    query, values = case
    answer = AnswerEncoder(query, "PACS", encoding).encode(list(values.values()))
    assert answer == _plainly(query, values, encoding)


def test_elements_are_in_the_order_of_their_tags() -> None:
    """Whatever the order of the request, the answer ascends (PS3.5 7.1)."""
    query = _query("PatientID", "StudyInstanceUID", "StudyDate")
    answer = _decoded(_encode(query, ["EX1", "1.2.3", "20200115"]))
    assert [element.keyword for element in answer] == [
        "StudyDate",
        "QueryRetrieveLevel",
        "RetrieveAETitle",
        "InstanceAvailability",
        "PatientID",
        "StudyInstanceUID",
    ]


def test_an_answer_to_no_key_has_the_control_elements() -> None:
    """Level, Retrieve AE Title and availability stand in every answer (D-3, D-6, D-7)."""
    answer = _decoded(_encode(_query(), []))
    assert {element.keyword: element.value for element in answer} == {
        "QueryRetrieveLevel": "STUDY",
        "RetrieveAETitle": "PACS",
        "InstanceAvailability": "ONLINE",
    }


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("encoding", [_IMPLICIT, _EXPLICIT])
def test_an_attribute_without_a_value_has_zero_length(
    value: str | None, encoding: Encoding
) -> None:
    """An empty answer says that nothing is known; a missing one that nobody keeps it (D-5)."""
    answer = _decoded(_encode(_query("StudyID", "PatientName"), [value, value], encoding), encoding)
    assert answer.StudyID == ""
    assert answer.PatientName == ""


@pytest.mark.parametrize(("availability"), [ONLINE, UNAVAILABLE])
@pytest.mark.parametrize("name", ["Example^Emma", "Müller^Jörg"])
def test_the_availability_is_that_of_the_match(availability: str, name: str) -> None:
    """One encoder serves matches whose files are there and others (D-7)."""
    encoder = AnswerEncoder(_query("PatientName"), "PACS", _EXPLICIT)
    assert _decoded(encoder.encode([name], availability)).InstanceAvailability == availability


def test_plain_text_has_no_character_set() -> None:
    """The element is omitted where it is not needed (D-18, K-30)."""
    query = _query("PatientName", character_sets=_LATIN_1)
    assert "SpecificCharacterSet" not in _decoded(_encode(query, ["Example^Emma"]))


@pytest.mark.parametrize(
    ("name", "terms"), [("Müller^Jörg", "ISO_IR 100"), ("Иванов^Иван", "ISO_IR 192")]
)
def test_the_sets_of_the_request_are_used_where_they_can(name: str, terms: str) -> None:
    """Else an answer is in UTF-8, each for itself (D-18, K-29, K-31)."""
    encoder = AnswerEncoder(_query("PatientName", character_sets=_LATIN_1), "PACS", _EXPLICIT)
    answer = _decoded(encoder.encode([name]))
    assert answer.SpecificCharacterSet == terms
    assert answer.PatientName == name
    assert "SpecificCharacterSet" not in _decoded(encoder.encode(["Example^Emma"]))


def test_old_dates_and_times_are_returned_in_todays_form() -> None:
    """A DA has eight bytes in an answer, however it was stored (D-8)."""
    answer = _decoded(_encode(_query("StudyDate", "StudyTime"), ["2020.01.15", "10:15:30"]))
    assert (answer.StudyDate, answer.StudyTime) == ("20200115", "101530")


def test_text_too_long_for_its_vr_is_of_unknown_vr() -> None:
    """What 16 bits cannot count is sent as UN in Explicit VR (PS3.5 6.2.2 note 5)."""
    text = "A" * 0x10000
    answer = _encode(_query("StudyDescription", "StudyInstanceUID"), [text, "1.2.3"])
    assert b"\x08\x00\x30\x10UN\x00\x00\x00\x00\x01\x00" + text.encode() in answer
    assert _decoded(answer).StudyInstanceUID == "1.2.3"


def test_a_private_key_stands_in_the_block_of_the_request() -> None:
    """It comes back where the requestor has asked for it, with its creator (D-11)."""
    key = ReturnKey(_PRIVATE, 0x0019110C)
    query = _query(key, "PatientID", private_creators=((0x00190011, "EXAMPLE 1.0"),))
    for value in ("plain", "größer"):
        answer = _decoded(_encode(query, [value, "EX1"]))
        assert answer[0x00190011].value == "EXAMPLE 1.0"
        assert answer[0x0019110C].value == value


def _code(value: str, meaning: str, **more: str) -> Item:
    code = {
        _CODE_VALUE: ItemElement("SH", value),
        _CODING_SCHEME: ItemElement("SH", "99EX"),
        _CODE_MEANING: ItemElement("LO", meaning),
    }
    return {
        **code,
        **{BY_KEYWORD[k].tag: ItemElement(BY_KEYWORD[k].vr, v) for k, v in more.items()},
    }


@pytest.mark.parametrize("encoding", [_IMPLICIT, _EXPLICIT])
def test_a_sequence_is_returned_whole(encoding: Encoding) -> None:
    """A universal key asks for all items with everything in them (C-26, J-142, J-143)."""
    items = (_code("1", "one"), _code("2", "zwölf"))
    answer = _decoded(_encode(_query("ProcedureCodeSequence"), [items], encoding), encoding)
    assert answer.SpecificCharacterSet == "ISO_IR 192"
    assert [
        (item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
        for item in answer.ProcedureCodeSequence
    ] == [("1", "99EX", "one"), ("2", "99EX", "zwölf")]


def test_of_an_item_only_what_was_asked_for_is_returned() -> None:
    """Elements that an item has not are returned without a value (C-26, D-5, J-144)."""
    request = ItemRequest({_CODE_VALUE: ("SH", None), 0x0008010B: ("CS", None)})
    key = _key(BY_KEYWORD["ProcedureCodeSequence"], request)
    (item,) = _decoded(_encode(_query(key), [(_code("1", "one"),)])).ProcedureCodeSequence
    assert {element.keyword: element.value for element in item} == {
        "CodeValue": "1",
        "ContextGroupExtensionFlag": "",
    }


def test_items_that_do_not_match_are_not_returned() -> None:
    """Only the matching items of a sequence are in the answer (C-26, J-141)."""
    two = ItemMatching((ItemKey(_CODE_VALUE, "SH", parse_matching_key("SH", "2")),))
    key = replace(_key(BY_KEYWORD["ProcedureCodeSequence"]), matching=two)
    items = (_code("1", "one"), _code("2", "two"))
    (item,) = _decoded(_encode(_query(key), [items])).ProcedureCodeSequence
    assert item.CodeMeaning == "two"


def test_a_sequence_within_a_sequence_is_asked_for_likewise() -> None:
    """What is asked for of the inner items holds for them (C-26)."""
    inner = ItemRequest({_CODE_MEANING: ("LO", None)})
    request = ItemRequest({0x00321064: ("SQ", inner)})
    item: Item = {
        0x00400007: ItemElement("LO", "step"),
        0x00321064: ItemElement("SQ", (_code("1", "one"),)),
    }
    key = _key(BY_KEYWORD["RequestAttributesSequence"], request)
    (answered,) = _decoded(_encode(_query(key), [(item,)])).RequestAttributesSequence
    assert [element.keyword for element in answered] == ["RequestedProcedureCodeSequence"]
    (code,) = answered.RequestedProcedureCodeSequence
    assert {element.keyword: element.value for element in code} == {"CodeMeaning": "one"}


def test_dates_within_items_are_returned_in_todays_form() -> None:
    """Rule D-8 holds in items that were asked for."""
    request = ItemRequest({0x00080020: ("DA", None)})
    items = (_code("1", "one", StudyDate="2020.01.15"),)
    key = _key(BY_KEYWORD["ProcedureCodeSequence"], request)
    (item,) = _decoded(_encode(_query(key), [items])).ProcedureCodeSequence
    assert item.StudyDate == "20200115"


def test_a_sequence_without_items_has_zero_length() -> None:
    """An empty sequence is an Attribute without a value (D-5)."""
    query = _query("ProcedureCodeSequence", "PatientID")
    assert _encode(query, [(), "EX1"]) == _encode(query, [None, "EX1"])
    assert len(_decoded(_encode(query, [None, "EX1"])).ProcedureCodeSequence) == 0


@pytest.mark.parametrize("encoding", [_IMPLICIT, _EXPLICIT])
def test_numbers_in_binary_are_returned_in_binary(encoding: Encoding) -> None:
    """Rows is a US, though the catalog has its number as text."""
    answer = _decoded(_encode(_query("Rows", "PatientID"), ["512", "EX1"], encoding), encoding)
    assert (answer.Rows, answer.PatientID) == (512, "EX1")
