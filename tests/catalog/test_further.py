"""The JSON of values without columns: what is written, and that it is read back as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.catalog.further import (
    further_text,
    meaning_of,
    merged,
    shown,
    values_for,
    values_of,
)
from pacsnode.dicom.attributes import ATTRIBUTES, BY_KEYWORD, Attribute, Origin, extra_key
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.values import Item, ItemElement, Value

_FURTHER = [a for a in ATTRIBUTES if a.origin is Origin.STORED and not a.column]
_PRIVATE = extra_key(Level.IMAGE, tag=0x0019100C, vr="IS", private_creator='A "CREATOR"')
_SINGLE_VALUE_VRS = ("LT", "ST", "UT", "UR")
_TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI", "LT")


def _written(keyword: str, value: Value) -> object:
    """Return the member that is written for a value."""
    attribute = BY_KEYWORD[keyword]
    text = further_text({attribute: value})
    assert text is not None
    (member,) = json.loads(text).items()
    assert member[0] == attribute.name
    return member[1]


@pytest.mark.parametrize(
    ("keyword", "text", "written"),
    [
        ("ImageType", "ORIGINAL\\PRIMARY", ["ORIGINAL", "PRIMARY"]),
        ("ImageType", "ORIGINAL\\\\A", ["ORIGINAL", "", "A"]),
        ("MedicalAlerts", "e\u0301", [["e\u0301", "\u00e9"]]),
        ("MedicalAlerts", "\x01", [["\x01", ""]]),
        ("ImageComments", "a\\b", ["a\\b"]),
        (
            "OtherPatientNames",
            "A^B=C\\D",
            [["A^B=C", "a^b=c", "a^b", "c", ""], ["D", *"dd", "", ""]],
        ),
        ("AcquisitionDate", "2020.01.15", [["2020.01.15", 20200115]]),
        ("AcquisitionDate", "20201332", [["20201332", None]]),
        ("AcquisitionTime", "1015", [["1015", 36_900_000_000, 36_959_999_999]]),
        ("AcquisitionTime", "2400", [["2400", None, None]]),
        ("AcquisitionDateTime", "00010101+0001", [["00010101+0001", -60_000_000, 86_339_999_999]]),
        ("OtherStudyNumbers", "007\\x", [["007", 7], ["x", None]]),
        ("PatientBodyMassIndex", "2.5e1", [["2.5e1", 25]]),
        ("PatientBodyMassIndex", "1e999", [["1e999", None]]),
        ("Rows", "512", [["512", 512]]),
        ("MeasuredAPDimension", "", []),
    ],
)
def test_a_value_stands_beside_what_is_matched(keyword: str, text: str, written: object) -> None:
    """Each value has the text as received, and its matched form where that differs (D-8)."""
    assert _written(keyword, text) == written


def test_an_item_has_the_vr_and_values_of_each_element() -> None:
    """Text as outside of items, bytes in base64, items within items (C-26)."""
    item = {
        0x00080100: ItemElement("SH", "T1"),
        0x00080104: ItemElement("LO", ""),
        0x00091010: ItemElement("OB", b"\0\1"),
        0x00280010: ItemElement("US", "3"),
        0x0040A730: ItemElement("SQ", ({}, {0x00080020: ItemElement("DA", "20200101")})),
    }
    assert _written("ConceptNameCodeSequence", (item,)) == [
        {
            "00080100": ["SH", "T1"],
            "00080104": ["LO"],
            "00091010": ["OB", "AAE="],
            "00280010": ["US", ["3", 3]],
            "0040A730": ["SQ", {}, {"00080020": ["DA", ["20200101", 20200101]]}],
        }
    ]


def test_a_private_value_is_named_by_tag_and_creator() -> None:
    """Whatever block it had, its name has 0 for it (D-11)."""
    text = further_text({_PRIVATE: "7"})
    assert text is not None
    assert json.loads(text) == {'0019000C A "CREATOR"': [["7", 7]]}


def test_nothing_is_no_text() -> None:
    """An entity without such values has NULL, and NULL is read as no values."""
    assert further_text({}) is None
    assert values_of(None) == {}


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\"), max_size=9)


def _joined(vr: str) -> st.SearchStrategy[str]:
    if vr in _SINGLE_VALUE_VRS:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    return st.lists(_texts, max_size=3).map("\\".join)


def _numbers(vr: str) -> st.SearchStrategy[str]:
    number: st.SearchStrategy[object] = st.floats() if vr in "FLFD" else st.integers(0, 2**16 - 1)
    return st.lists(number.map(str), max_size=3).map("\\".join)


_plain_elements = st.one_of(
    *(_joined(vr).map(lambda text, vr=vr: ItemElement(vr, text)) for vr in _TEXT_VRS),
    *(_numbers(vr).map(lambda text, vr=vr: ItemElement(vr, text)) for vr in ("US", "FL", "FD")),
    st.just(ItemElement("AT", "00080020\\7FE00010")),
    st.binary(max_size=9).map(lambda value: ItemElement("OB", value)),
)


def _items(elements: st.SearchStrategy[ItemElement]) -> st.SearchStrategy[tuple[Item, ...]]:
    tags = st.integers(0x00080000, 0xFFFFFFFF)
    item = st.dictionaries(tags, elements, max_size=3)
    return st.lists(item, max_size=2).map(tuple)


_elements = st.recursive(
    _plain_elements, lambda inner: _items(inner).map(lambda items: ItemElement("SQ", items))
)


@st.composite
def _values(draw: st.DrawFn) -> dict[Attribute, Value]:
    attributes = draw(st.lists(st.sampled_from([*_FURTHER, _PRIVATE]), unique=True, max_size=4))
    values: dict[Attribute, Value] = {}
    for attribute in attributes:
        value: Value
        if attribute.vr == "SQ":
            value = draw(_items(_elements))
        elif attribute.vr in {"US", "UL", "FL", "FD"}:
            value = draw(_numbers(attribute.vr))
        else:
            value = draw(_joined(attribute.vr))
        if value:
            values[attribute] = value
    return values


@given(_values())
def test_what_is_written_is_read_back(values: dict[Attribute, Value]) -> None:
    """Every text, number, item and byte comes back exactly, and the text is JSON for any reader."""
    text = further_text(values)
    assert values_of(text) == {attribute.name: value for attribute, value in values.items()}
    assert values_for(text, {attribute.name: attribute for attribute in values}) == values
    if text is not None:
        json.loads(text, parse_constant=pytest.fail)


@given(_values(), _values())
def test_other_values_take_the_place_of_some(
    before: dict[Attribute, Value], after: dict[Attribute, Value]
) -> None:
    """Merging keeps what is not given, and writes what is as if it had been alone."""
    text = merged(further_text(before), after)
    assert values_of(text) == {a.name: value for a, value in (before | after).items()}


def test_a_value_of_another_vr_is_none_of_an_extra_key() -> None:
    """An extra key whose VR was changed is read anew, not taken for what it was."""
    as_text = extra_key(Level.IMAGE, tag=0x0019100C, vr="LO", private_creator='A "CREATOR"')
    text = further_text({_PRIVATE: "7"})
    assert values_for(text, {_PRIVATE.name: _PRIVATE}) == {_PRIVATE: "7"}
    assert values_for(text, {as_text.name: as_text}) == {}


@pytest.mark.parametrize(
    ("vr", "one", "other", "is_same"),
    [
        ("LO", "e\u0301", "\u00e9", True),
        ("LO", "A", "a", False),
        ("PN", "Example^Emma", "EXAMPLE^EMMA^^", True),
        ("DA", "2020.01.15", "20200115", True),
        ("DA", "unknown", "20200115", False),
        ("TM", "101530", "101530.000", True),
        ("TM", "101530", "101530.5", False),
        ("IS", "07", "7", True),
        ("DS", "x", "y", False),
        ("SQ", ({8: ItemElement("LO", "")},), ({},), True),
        ("SQ", ({8: ItemElement("PN", "A")},), ({8: ItemElement("PN", "a")},), True),
        ("SQ", ({8: ItemElement("LO", "A")},), ({}, {}), False),
        ("SQ", ({8: ItemElement("OB", b"A")},), ({8: ItemElement("OB", b"B")},), False),
    ],
)
def test_values_are_the_same_if_they_mean_the_same(
    vr: str, one: Value, other: Value, *, is_same: bool
) -> None:
    """Padding, case of names and precision of times make no difference (C-9, C-18, C-30)."""
    assert (meaning_of(vr, one) == meaning_of(vr, other)) is is_same


def test_a_value_is_shown_in_a_line() -> None:
    """Items are in braces, each value behind its tag, bytes only counted."""
    items = ({0x00080100: ItemElement("SH", "T1"), 0x00091010: ItemElement("OB", b"\0")}, {})
    assert shown(items) == "{(0008,0100) T1, (0009,1010) 1 bytes} {}"
    assert shown("A\\B") == "A\\B"
