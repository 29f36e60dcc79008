"""SQL conditions mean what dicom.matching.matches says: on the rule book's vectors and beyond."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary

from pacsnode.dicom.attributes import BY_KEYWORD, MATCHED_VRS, Attribute, extra_key
from pacsnode.dicom.identifier import parse_query
from pacsnode.dicom.information_model import STUDY_ROOT, Level
from pacsnode.dicom.matching import (
    AllOf,
    EmptyValue,
    EqualText,
    ItemKey,
    ItemMatching,
    Matching,
    NameMatching,
    UidList,
    Universal,
    matches,
    matches_span,
)
from pacsnode.dicom.matching_keys import MalformedKey, parse_combined_key, parse_matching_key
from pacsnode.dicom.query import CombinedKey, MatchingKey, QueryOptions
from pacsnode.dicom.text_values import normalise_text
from pacsnode.dicom.values import Item, ItemElement, Value
from tests.catalog.one_row import OneRow, as_read, has_one_value
from tests.support.identifiers import IMPLICIT, identifier
from tests.support.vectors import MATCHING_VECTORS, Vector, expected_of, matching_of, stored_of

# One Attribute with columns of its own for each VR that has one.
_IN_COLUMNS = {
    attribute.vr: attribute
    for attribute in map(
        BY_KEYWORD.__getitem__,
        (
            "PatientAge",
            "Modality",
            "StudyDate",
            "PatientWeight",
            "SeriesNumber",
            "StudyDescription",
            "PatientComments",
            "PatientName",
            "AccessionNumber",
            "StudyTime",
            "FrameOfReferenceUID",
        ),
    )
}
_VRS = sorted(MATCHED_VRS)
# One Attribute without columns for each VR, with several values.
_FURTHER = {
    vr: extra_key(Level.STUDY, tag=0x00191000 + number, vr=vr, private_creator="TEST 1.0")
    for number, vr in enumerate(_VRS)
}
_SEQUENCE = _FURTHER["SQ"]
_ITEM_TAG = 0x00400009
_MULTIPLE = "multiple value matching"


@pytest.fixture(scope="module")
def one_row(module_folder: Path) -> OneRow:
    """The catalog of one row that the tests of this module change one after the other."""
    return OneRow(module_folder)


def _found(
    one_row: OneRow, vr: str, stored: Value, matching: Matching, *, match_unknown: bool
) -> dict[str, bool]:
    """Return what SQL finds, wherever the catalog keeps the value."""
    value = as_read(stored, vr) if isinstance(stored, str) else stored
    places: dict[str, tuple[Attribute, Value, Matching]] = {
        "further": (_FURTHER[vr], value, matching)
    }
    if vr in _IN_COLUMNS and isinstance(value, str) and has_one_value(value, vr):
        places["columns"] = (_IN_COLUMNS[vr], value, matching)
    if not isinstance(matching, Universal):
        # Beside an item that has nothing of it.
        item: Item = {_ITEM_TAG: ItemElement(vr, value)}
        key = ItemMatching((ItemKey(_ITEM_TAG, vr, matching),))
        places["item"] = (_SEQUENCE, (item,), key)
        nested = ItemMatching((ItemKey(_ITEM_TAG, "SQ", key),))
        places["nested item"] = (_SEQUENCE, ({_ITEM_TAG: ItemElement("SQ", (item,))},), nested)
    found = {}
    for name, (attribute, held, asked) in places.items():
        with one_row.holding({attribute: held}):
            key_of = MatchingKey(attribute, asked)
            found[name] = one_row.is_matched(key_of, match_unknown=match_unknown)
    return found


@pytest.mark.parametrize("match_unknown", [False, True])
@pytest.mark.parametrize("vector", MATCHING_VECTORS, ids=lambda vector: vector["id"])
def test_a_vector_in_sql(one_row: OneRow, vector: Vector, *, match_unknown: bool) -> None:
    """Every vector comes out in SQL as the table says, in both settings (section J, C-5)."""
    expected = expected_of(vector, match_unknown=match_unknown)
    matching = matching_of(vector)
    if matching is None:
        assert expected == "refused"
        return
    found = _found(one_row, vector["vr"], stored_of(vector), matching, match_unknown=match_unknown)
    assert found == dict.fromkeys(found, expected == "match")


_many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _agrees(
    one_row: OneRow,
    vr: str,
    stored: Value,
    key: str,
    *,
    negotiated: str = "",
    names: NameMatching = NameMatching(),  # noqa: B008 - immutable
) -> None:
    """SQL finds a value where `matches` does, wherever the catalog keeps it."""
    try:
        matching = parse_matching_key(
            vr,
            key,
            empty_value=True,
            multiple_values=negotiated == _MULTIPLE,
            names=names,
        )
    except MalformedKey:
        return
    for match_unknown in (False, True):
        found = _found(one_row, vr, stored, matching, match_unknown=match_unknown)
        expected = matches(matching, vr, stored, match_unknown=match_unknown)
        assert found == dict.fromkeys(found, expected), (vr, stored, key, match_unknown)


_text = "aB\u00e9\u0301\u5c71*?[]%_'\"^- \x00\x01"
_text_keys = _text + "\\"


@_many
@given(
    st.sampled_from(["LO", "SH", "LT", "ST", "UC", "UR", "UT"]),
    st.text(_text_keys, max_size=6),
    st.text(_text_keys, max_size=6),
    st.sampled_from(["", _MULTIPLE]),
)
@example("LO", "\x01", "X", "")
@example("LO", "e\u0301", "\u00e9", "")
@example("LT", " a", "?a", "")
@example("SH", "a\x00b", "a", "")
@example("LO", "a\\B", "B\\a", _MULTIPLE)
def test_text_agrees(one_row: OneRow, vr: str, stored: str, key: str, negotiated: str) -> None:
    """SQL finds a text exactly where the rule of matching does (C-9, C-12, I-5 to I-10, B-16)."""
    _agrees(one_row, vr, stored, key, negotiated=negotiated)


@_many
@given(
    st.sampled_from(["AE", "CS", "AS", "UI"]),
    st.text("AB12.*? _\x00\x02", max_size=5).filter(lambda text: normalise_text(text, "CS")),
    st.text("AB12.*? _\\", max_size=6),
    st.sampled_from(["", _MULTIPLE]),
)
@example("CS", "A\x00B", "A", "")
@example("CS", "A\x02B", "AB", "")
@example("CS", "A", "B\\A", "")
@example("UI", "1.2", "1.20\\1.2", "")
@example("CS", "A\\B", "B\\A", _MULTIPLE)
def test_codes_and_uids_agree(
    one_row: OneRow, vr: str, stored: str, key: str, negotiated: str
) -> None:
    """SQL finds a code or UID exactly where the rule of matching does (C-10, C-12, I-9)."""
    _agrees(one_row, vr, stored, key, negotiated=negotiated)


_names = st.text("aB^= \\\u00c4\u00e4\u00df\u304b\u3099[]", max_size=8)
_name_keys = st.text("aB^=*? \u00c4\u3099[\\", max_size=8)


@_many
@given(
    _names,
    _name_keys,
    st.builds(NameMatching, st.booleans(), st.booleans(), st.booleans()),
    st.sampled_from(["", _MULTIPLE]),
)
@example("Smith", "Smith^*", NameMatching(), "")
@example("^^", "a", NameMatching(), "")
@example("a=b", "*=b", NameMatching(), "")
@example("x=ab", "*ab", NameMatching(), "")
@example("\u00c4", "\u0301", NameMatching(ignores_accents=True), "")
def test_names_agree(
    one_row: OneRow, stored: str, key: str, names: NameMatching, negotiated: str
) -> None:
    """SQL finds a name exactly where the rule of matching does, in all settings (C-30 to C-33)."""
    _agrees(one_row, "PN", stored, key, names=names, negotiated=negotiated)


_dates = st.sampled_from(
    ["", "20200115", "2020.01.15", "20200116", "19000228", "20201332", "99991231", "00000000"]
)
_ranges = st.builds(
    "".join, st.lists(st.sampled_from(["20200115", "2020.01.16", "-", "\\"]), max_size=4)
)


def _lists(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map("\\".join)


@_many
@given(_lists(_dates), _ranges | st.just('""'))
def test_dates_agree(one_row: OneRow, stored: str, key: str) -> None:
    """SQL finds a date exactly where the rule of matching does (C-15, C-16, C-24)."""
    _agrees(one_row, "DA", stored, key)


_times = st.sampled_from(["", "10", "1015", "101530", "101530.5", "235960", "10:15:30", "2400"])


@_many
@given(
    _lists(_times),
    st.builds("".join, st.lists(st.sampled_from(["1015", "101530.25", "11", "-", "\\"])))
    | _times.filter(bool)
    | st.just('""'),
)
def test_times_agree(one_row: OneRow, stored: str, key: str) -> None:
    """SQL finds a time exactly where the rule of matching does (C-17 to C-19)."""
    _agrees(one_row, "TM", stored, key)


_date_times = st.sampled_from(
    ["", "2020", "20200115", "2020011510", "20200115101530.5+0100", "20200115-0500", "2020011525"]
)


@_many
@given(_lists(_date_times), st.lists(_date_times, max_size=2).map("-".join) | st.just('""'))
@example("20200115101530+0100", "20200115091530")
def test_date_times_agree(one_row: OneRow, stored: str, key: str) -> None:
    """SQL finds a date-time exactly where the rule of matching does (C-18 to C-21)."""
    _agrees(one_row, "DT", stored, key)


@_many
@given(
    st.sampled_from(["IS", "DS"]),
    st.text("0123.-+eE*\\", max_size=6),
    st.text("0123.-+eE*\\", max_size=6),
)
@example("IS", "99999999999", "099999999999")
@example("DS", "1.50", "15e-1")
@example("DS", "0.1", "0.10000000000000000001")
@example("DS", "1e999", "1e998")
def test_numbers_agree(one_row: OneRow, vr: str, stored: str, key: str) -> None:
    """SQL finds a number exactly where the rule of matching does (C-9, C-22)."""
    _agrees(one_row, vr, stored, key)


_integers = _lists(st.integers(0, 2**16 - 1).map(str))
_floats = _lists(
    st.sampled_from(["0.5", "5e-324", "1.7976931348623157e+308", "nan", "inf", "-0.0", "0.0"])
)


@_many
@given(
    st.tuples(st.sampled_from(["US", "UL"]), _integers, _integers)
    | st.tuples(st.sampled_from(["FL", "FD"]), _floats, _floats)
    | st.tuples(
        st.just("AT"),
        *[_lists(st.sampled_from(["00080020", "0008001A", "FFFEE000"]))] * 2,
    )
)
@example(("UL", "4294967295", "4294967295"))
@example(("FD", "-0.0", "0.0"))
def test_binary_values_agree(one_row: OneRow, case: tuple[str, str, str]) -> None:
    """SQL finds a number in binary or a tag exactly where the rule of matching does (C-9)."""
    _agrees(one_row, *case)


_ELEMENTS = {
    0x00080100: ("SH", st.sampled_from(["", "1", "2", "1\\2"])),
    0x00080102: ("SH", st.sampled_from(["", "DCM", "SCT"])),
    0x00400002: ("DA", st.sampled_from(["", "20200115", "20201332"])),
    0x0040A123: ("PN", st.sampled_from(["", "Smith^J", "Doe=\u5c71"])),
    0x00280010: ("US", st.sampled_from(["", "1", "2"])),
}
_ITEM_KEYS = {
    0x00080100: ("1", "?", '""'),
    0x00080102: ("DCM", "S*", '""'),
    0x00400002: ("20200101-", "20200116-20200115", '""'),
    0x0040A123: ("smith*", "=*", "=\u5c71", "doe"),
    0x00280010: ("1", "1\\3"),
}
_NESTED = 0x00400440


def _elements(draw: st.DrawFn) -> dict[int, ItemElement]:
    tags = draw(st.sets(st.sampled_from(sorted(_ELEMENTS)), max_size=4))
    item = {}
    for tag in sorted(tags):
        vr, values = _ELEMENTS[tag]
        # Another VR than the data dictionary's now and then, and bytes.
        sent_as = draw(st.sampled_from([vr, vr, vr, "LO", "UN"]))
        text = draw(values)
        item[tag] = ItemElement(sent_as, text.encode() if sent_as == "UN" else text)
    return item


@st.composite
def _items(draw: st.DrawFn, depth: int = 0) -> tuple[Item, ...]:
    items = []
    for _ in range(draw(st.integers(0, 3))):
        item = _elements(draw)
        if depth < 2 and draw(st.booleans()):
            item[_NESTED] = ItemElement("SQ", draw(_items(depth + 1)))
        items.append(item)
    return tuple(items)


@st.composite
def _item_matchings(draw: st.DrawFn, depth: int = 0) -> ItemMatching:
    tags = draw(st.sets(st.sampled_from(sorted(_ITEM_KEYS)), min_size=1, max_size=3))
    keys = []
    for tag in sorted(tags):
        vr = _ELEMENTS[tag][0]
        matching = parse_matching_key(vr, draw(st.sampled_from(_ITEM_KEYS[tag])), empty_value=True)
        if not isinstance(matching, Universal):
            keys.append(ItemKey(tag, vr, matching))
    if depth < 2 and (not keys or draw(st.booleans())):
        keys.append(ItemKey(_NESTED, "SQ", draw(_item_matchings(depth + 1))))
    return ItemMatching(tuple(keys))


@settings(_many, max_examples=150)
@given(_items(), _item_matchings())
def test_items_agree(one_row: OneRow, items: tuple[Item, ...], matching: ItemMatching) -> None:
    """SQL finds an item exactly where the rule of matching does, nested ones too (C-26, C-5)."""
    regions = BY_KEYWORD["AnatomicRegionSequence"]
    in_study = MatchingKey(BY_KEYWORD["AnatomicRegionsInStudyCodeSequence"], matching)
    with one_row.holding({_SEQUENCE: items, regions: items}):
        for match_unknown in (False, True):
            expected = matches(matching, "SQ", items, match_unknown=match_unknown)
            found = [
                one_row.is_matched(key, match_unknown=match_unknown)
                for key in (MatchingKey(_SEQUENCE, matching), in_study)
            ]
            assert found == [expected] * 2


@_many
@given(
    _dates,
    _times,
    st.tuples(*[st.sampled_from(["", "20200114", "20200115", "20200116", "2020.01.15"])] * 2),
    st.tuples(*[st.sampled_from(["", "1015", "101530", "10", "2359"])] * 2),
    st.sampled_from(["Study", "Acquisition"]),
)
@example("20200115", "", ("20200115", "20200116"), ("2359", "10"), "Study")
def test_combined_dates_and_times_agree(
    one_row: OneRow,
    stored_date: str,
    stored_time: str,
    days: tuple[str, str],
    times: tuple[str, str],
    what: str,
) -> None:
    """SQL finds a date and time in a range of both exactly where the rule does (B-12)."""
    date, time = BY_KEYWORD[f"{what}Date"], BY_KEYWORD[f"{what}Time"]
    span = parse_combined_key("-".join(days), "-".join(times))
    if span is None or (span[0] and span[1] and span[0] > span[1]):
        return
    key = CombinedKey(date, time, *span)
    with one_row.holding({date: stored_date, time: stored_time}):
        for match_unknown in (False, True):
            found = one_row.is_matched(key, match_unknown=match_unknown)
            assert found == matches_span(
                *span, stored_date, stored_time, match_unknown=match_unknown
            )


@pytest.mark.parametrize(
    ("vr", "stored", "expected"),
    [
        ("PN", "^^", True),
        ("PN", "", True),
        ("LO", "\x01", True),
        ("DA", "00000000", False),
        ("CS", "", True),
        ("TM", "rubbish", False),
        ("DT", "", True),
    ],
)
@pytest.mark.parametrize("match_unknown", [False, True])
def test_empty_value_matching_agrees(
    one_row: OneRow, vr: str, stored: str, *, expected: bool, match_unknown: bool
) -> None:
    """An empty name is one of delimiters only; a date that cannot be read is not empty (B-17)."""
    found = _found(one_row, vr, stored, EmptyValue(), match_unknown=match_unknown)
    assert found == dict.fromkeys(found, expected)
    assert matches(EmptyValue(), vr, stored, match_unknown=match_unknown) == expected


def test_all_of_several_keys_have_to_match(one_row: OneRow) -> None:
    """Of a key whose parts must all match, one that does not suffices to miss (B-16)."""
    modality = BY_KEYWORD["Modality"]
    with one_row.holding({modality: "CT"}):
        key = AllOf((EqualText("CT"), EqualText("PT")))
        assert not one_row.is_matched(MatchingKey(modality, key))


@pytest.mark.parametrize("match_unknown", [False, True])
@pytest.mark.parametrize(
    ("modalities", "key", "expected"),
    [
        (["CT", "MR"], "MR", True),  # J-200
        (["CT", "PT"], "PT", True),  # J-130
        (["CT", "PT"], "CT\\MR", True),  # J-131
        (["CT", "PT"], "M*", False),
        (["CT", ""], "MR", False),
        ([""], "MR", None),  # J-138
        (["", ""], "MR", None),
        (["CT", "PT"], '""', False),
        (["", ""], '""', True),
    ],
)
def test_modalities_of_several_series(
    one_row: OneRow,
    modalities: list[str],
    key: str,
    *,
    expected: bool | None,
    match_unknown: bool,
) -> None:
    """The values are those of the series; only empties are unknown (A-11, C-5, C-23)."""
    modality, in_study = BY_KEYWORD["Modality"], BY_KEYWORD["ModalitiesInStudy"]
    first, *others = [{modality: value} for value in modalities]
    matching = MatchingKey(in_study, parse_matching_key("CS", key, empty_value=True))
    with one_row.holding(first, *others):
        found = one_row.is_matched(matching, match_unknown=match_unknown)
    assert found == (match_unknown if expected is None else expected)


@pytest.mark.parametrize(("key", "expected"), [("PT\\CT", True), ("CT\\MR", False)])
def test_each_of_several_modalities_may_be_of_another_series(
    one_row: OneRow, key: str, *, expected: bool
) -> None:
    """All that are asked for have to be in the study, in whichever series (B-16: J-132, J-133)."""
    modality, in_study = BY_KEYWORD["Modality"], BY_KEYWORD["ModalitiesInStudy"]
    matching = parse_matching_key("CS", key, multiple_values=True)
    with one_row.holding({modality: "CT"}, {modality: "PT"}, {modality: "SR"}):
        found = one_row.is_matched(MatchingKey(in_study, matching))
    assert found == expected


def test_a_sop_class_of_any_instance_is_one_of_the_study(one_row: OneRow) -> None:
    """SOP Classes in Study takes a list of UIDs (A-11, C-10)."""
    sop_class, in_study = BY_KEYWORD["SOPClassUID"], BY_KEYWORD["SOPClassesInStudy"]
    with one_row.holding({sop_class: "1.2.3"}, {sop_class: "1.2.4"}):
        for uids, expected in ((("1.2.9", "1.2.4"), True), (("1.2",), False)):
            key = MatchingKey(in_study, UidList(uids))
            assert one_row.is_matched(key) == expected


@pytest.mark.parametrize("length", [20, 21, 40_000])
def test_a_uid_list_may_have_any_length(one_row: OneRow, length: int) -> None:
    """A UID at the end of a list beyond SQLite's number of variables is found (C-10)."""
    uids = (*(f"1.9.{n}" for n in range(length - 1)), "1.2.3")
    for attribute in (_IN_COLUMNS["UI"], _FURTHER["UI"]):
        with one_row.holding({attribute: "1.2.3"}):
            assert one_row.is_matched(MatchingKey(attribute, UidList(uids)))
            assert not one_row.is_matched(MatchingKey(attribute, UidList(uids[:-1])))


def test_a_key_may_have_as_many_alternatives_as_fit_into_it(one_row: OneRow) -> None:
    """A name asked for with two thousand alternatives is found by the last of them (C-24)."""
    others = [chr(0x4E00 + number) for number in range(2_040)]
    key = parse_matching_key("PN", "\\".join([*others, "Example*"]))
    for attribute in (BY_KEYWORD["PatientName"], _FURTHER["PN"]):
        with one_row.holding({attribute: "Example^Emma"}):
            assert one_row.is_matched(MatchingKey(attribute, key))


def _as_large_as_it_may_be() -> dict[int, Any]:
    """Return keys that come near every limit on a request."""
    names = "\\".join([f"{chr(0x61 + n % 26)}^^^^^*" for n in range(100)])
    uids = "\\".join(f"1.2.{number}" for number in range(20))
    known = [(tag, entry[0]) for tag, entry in sorted(DicomDictionary.items()) if tag > 0x00080005]
    elements: dict[int, Any] = {tag: uids for tag, vr in known if vr == "UI"}
    codes = [tag for tag, vr in known if vr == "CS"]
    elements |= dict.fromkeys(codes[: 480 - len(elements)], "X*")
    deepest: dict[int, Any] = {0x0040A123: names}
    for _ in range(3):
        deepest = {0x0040A730: [deepest], 0x00080100: "X"}
    return {
        0x00100010: names,
        0x00080090: names,
        0x00081048: names,
        0x0020000D: uids,
        0x00080062: "\\".join(f"1.2.{number}" for number in range(5_000)),
        0x00081032: [elements],
        0x00080063: [deepest],
        0x00080061: "CT\\MR",
    }


@pytest.mark.parametrize("match_unknown", [False, True])
def test_sqlite_takes_whatever_a_request_may_ask(one_row: OneRow, *, match_unknown: bool) -> None:
    """Keys at their limits make a statement that is not too long, deep or full of variables."""
    options = QueryOptions(relational=True)
    request = identifier("IMAGE", {0x00080018: "", **_as_large_as_it_may_be()})
    query = parse_query(STUDY_ROOT, request, IMPLICIT, options=options)
    assert len(query.matching_keys) == 8
    (items,) = (k for k in query.matching_keys if k.attribute.keyword == "ProcedureCodeSequence")
    assert isinstance(items.matching, ItemMatching)
    assert len(items.matching.keys) > 300
    with one_row.holding({}):
        one_row.is_matched(*query.matching_keys, match_unknown=match_unknown)


def test_a_unique_key_is_never_unknown(one_row: OneRow) -> None:
    """Where unknown values match every key, a missing Patient ID still does not (C-7)."""
    attribute = BY_KEYWORD["PatientID"]
    with one_row.holding({attribute: ""}):
        key = MatchingKey(attribute, EqualText("EX1"))
        assert not one_row.is_matched(key, match_unknown=True)


@pytest.mark.parametrize("creator", ['A"B', "A\\B", "A'B", "A.B[0]", "\u5c71\u00e9", "A B\x7f"])
def test_a_private_creator_may_have_any_characters(one_row: OneRow, creator: str) -> None:
    """Its name becomes part of a path in JSON, and nothing in it means anything there (D-11)."""
    attribute = extra_key(Level.STUDY, tag=0x00191001, vr="LO", private_creator=creator)
    other = extra_key(Level.STUDY, tag=0x00191001, vr="LO", private_creator="OTHER")
    with one_row.holding({other: "no", attribute: "yes"}):
        assert one_row.is_matched(MatchingKey(attribute, EqualText("yes")))
        assert not one_row.is_matched(MatchingKey(attribute, EqualText("no")))


@pytest.mark.parametrize("vr", ["DA", "PN", "IS", "SQ", "DT", "LO"])
def test_a_key_whose_vr_was_changed_finds_no_error(one_row: OneRow, vr: str) -> None:
    """What was catalogued by another VR is not found, and does not stop the query."""
    attribute = extra_key(Level.STUDY, tag=0x00191001, vr=vr, private_creator="TEST")
    matching: Matching = parse_matching_key(vr, "20200115") if vr != "SQ" else ItemMatching(())
    for held_vr, held in (("LO", "[not JSON"), ("SQ", ({0x00080100: ItemElement("SH", "x")},))):
        was = extra_key(Level.STUDY, tag=0x00191001, vr=held_vr, private_creator="TEST")
        if held_vr == vr:
            continue
        with one_row.holding({was: held}):
            assert not one_row.is_matched(MatchingKey(attribute, matching))
