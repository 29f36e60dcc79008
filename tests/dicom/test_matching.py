"""Attribute matching: the vectors of the rule book, and its agreement with SQL."""

import sqlite3
from contextlib import closing
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pacsnode.dicom.matching import (
    AllOf,
    AnyOf,
    EqualNumber,
    EqualText,
    Interval,
    ItemKey,
    ItemMatching,
    Matching,
    NameMatching,
    Never,
    PersonName,
    Universal,
    WildCard,
    glob_pattern,
    matches,
    matches_span,
    matching_items,
)
from pacsnode.dicom.matching_keys import MalformedKey, parse_combined_key, parse_matching_key
from pacsnode.dicom.person_name import fold, fold_component_groups
from pacsnode.dicom.text_values import normalise_text, split_values, trim
from pacsnode.dicom.values import Item, ItemElement
from pacsnode.dicom.wild_card import matches_wild_card
from tests.support.vectors import MATCHING_VECTORS, Vector, expected_of, matching_of, stored_of


def _result(vector: Vector, *, match_unknown: bool) -> str:
    matching = matching_of(vector)
    if matching is None:
        return "refused"
    stored = stored_of(vector)
    is_match = matches(matching, vector["vr"], stored, match_unknown=match_unknown)
    return "match" if is_match else "no match"


@pytest.mark.parametrize("match_unknown", [False, True])
@pytest.mark.parametrize("vector", MATCHING_VECTORS, ids=lambda vector: vector["id"])
def test_a_vector(vector: Vector, *, match_unknown: bool) -> None:
    """Every row of the table holds, in both settings for unknown values (section J, C-5)."""
    assert _result(vector, match_unknown=match_unknown) == expected_of(
        vector, match_unknown=match_unknown
    )


def test_every_row_of_the_rule_book_is_a_vector() -> None:
    """None is left out, and each has a rule."""
    assert len({vector["id"] for vector in MATCHING_VECTORS}) == 156
    assert all(vector["rule"] for vector in MATCHING_VECTORS)


def test_a_number_that_is_no_number_is_compared_as_text() -> None:
    """An IS value beyond 32 bits equals only the same text (C-9, I-6)."""
    key = parse_matching_key("IS", "99999999999")
    assert key == EqualText("99999999999")
    assert matches(key, "IS", "99999999999")
    assert not matches(key, "IS", "099999999999")


def test_a_decimal_is_compared_by_number() -> None:
    """`1.50` and `15e-1` are one DS value (C-9)."""
    assert parse_matching_key("DS", "1.50") == EqualNumber(Decimal("1.5"), "1.50")
    assert matches(parse_matching_key("DS", "1.50"), "DS", "15e-1")


@pytest.mark.parametrize("key", ["NaN", "1_0", "\u0661", "1e9999999"])
def test_what_only_python_reads_as_a_number_is_text(key: str) -> None:
    """A DS key that PS3.5 does not allow is compared as text (C-9)."""
    assert parse_matching_key("DS", key) == EqualText(key)


def test_a_list_with_a_universal_value_is_universal() -> None:
    """`*` among several values asks for everything (C-11, C-24)."""
    assert parse_matching_key("CS", "CT\\*") == Universal()


def test_a_reversed_range_adds_nothing_to_a_list() -> None:
    """Of several ranges the reversed one is dropped (C-15, C-24)."""
    key = parse_matching_key("DA", "20200131-20200101\\20200115")
    assert key == Interval(20200115, 20200115)
    assert parse_matching_key("DA", "20200131-20200101") == Never()


def test_several_values_are_alternatives_by_default() -> None:
    """Several values of a key are alternatives, each once (C-24)."""
    assert parse_matching_key("CS", "CT\\MR\\CT") == AnyOf((EqualText("CT"), EqualText("MR")))


def test_multiple_value_matching_takes_no_wild_card() -> None:
    """Several values with a wild card are refused where all have to match (B-16)."""
    assert parse_matching_key("CS", "CT\\MR", multiple_values=True) == AllOf(
        (EqualText("CT"), EqualText("MR"))
    )
    with pytest.raises(MalformedKey):
        parse_matching_key("CS", "CT\\M*", multiple_values=True)


def test_a_refusal_does_not_tell_the_value() -> None:
    """A malformed key's exception holds nothing of the key, nor does its cause."""
    with pytest.raises(MalformedKey) as refused:
        parse_matching_key("DA", "19700231")
    assert "1970" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_empty_value_matching_does_not_find_a_damaged_date() -> None:
    """A date that cannot be read is not empty (B-17)."""
    key = parse_matching_key("DA", '""', empty_value=True)
    assert matches(key, "DA", "")
    assert not matches(key, "DA", "00000000", match_unknown=True)


def test_the_nodes_zone_holds_for_a_date_time_without_offset() -> None:
    """Key and value without an offset are in the node's time zone (C-20)."""
    key = parse_matching_key("DT", "2020011510", offset_minutes=60)
    assert matches(key, "DT", "20200115091530+0000")
    assert matches(key, "DT", "20200115101530", offset_minutes=60)
    assert not matches(key, "DT", "20200115101530")


@pytest.mark.parametrize(
    ("value", "vr", "values"),
    [
        ("", "LO", []),
        ("A\\\\B", "LO", ["A", "", "B"]),
        ("A\\B", "LT", ["A\\B"]),
        ("A\\B", "UR", ["A\\B"]),
        ("A\\B", "UC", ["A", "B"]),
    ],
)
def test_a_backslash_separates_values_except_in_long_text(
    value: str, vr: str, values: list[str]
) -> None:
    """Each backslash separates two values, even empty ones, but in LT, ST, UT and UR (C-1)."""
    assert split_values(value, vr) == values


@pytest.mark.parametrize(
    ("value", "vr", "trimmed", "normal"),
    [
        (" A  B ", "LO", "A  B", "A  B"),
        (" A ", "UC", " A", " A"),
        (" A \0", "LT", " A", " A"),
        ("1.2 \0", "UI", "1.2", "1.2"),
        ("A\x01B\x7f", "SH", "A\x01B\x7f", "AB\x7f"),
        ("A \0B", "SH", "A \0B", "A"),
        ("e\u0301", "LO", "e\u0301", "\u00e9"),
    ],
)
def test_a_value_is_trimmed_to_be_returned_and_normalised_to_be_compared(
    value: str, vr: str, trimmed: str, normal: str
) -> None:
    """Padding is cut for both; controls and composition matter for comparing alone (C-3, I-9)."""
    assert trim(value, vr) == trimmed
    assert normalise_text(value, vr) == normal


@given(st.text(), st.sampled_from(["LO", "LT", "UI", "CS"]))
def test_normalising_twice_changes_nothing(value: str, vr: str) -> None:
    """A normalised value is normal, and has no NUL for SQLite to stop at (I-9)."""
    normal = normalise_text(value, vr)
    assert normalise_text(normal, vr) == normal
    assert "\0" not in normal


def test_a_pattern_with_many_stars_is_decided() -> None:
    """Text and pattern of a length that backtracking would never end on are told apart (C-12)."""
    assert not matches_wild_card("*a" * 200 + "*b", "a" * 5000)


_glob_alphabet = "ab[]^-*?\u00e9\u5c71%_'"


@given(st.text(_glob_alphabet, max_size=8), st.text(_glob_alphabet.replace("*", "c"), max_size=8))
@example("A[B]*".lower(), "abc")
@example("[^a]", "b")
def test_glob_means_the_same_as_the_wild_card(pattern: str, text: str) -> None:
    """SQLite's GLOB decides as the wild card of the Standard does (C-36)."""
    with closing(sqlite3.connect(":memory:")) as connection:
        (by_sql,) = connection.execute("SELECT ? GLOB ?", (text, glob_pattern(pattern))).fetchone()
    assert bool(by_sql) == matches_wild_card(pattern, text)


_names = st.text("ab^= \u00c4\u00e4", max_size=10)
_name_keys = st.text("ab^=*? \u00c4", max_size=10)


@given(_name_keys, _names)
@example("a^*", "a")
@example("a^*^*", "a^b")
@example("=b*", "a=b")
def test_person_name_means_the_same_in_sql(key: str, name: str) -> None:
    """GLOB on the four columns decides as `matches` does, without padding the columns (C-33)."""
    matching = parse_matching_key("PN", key)
    if isinstance(matching, PersonName):
        assert _matches_by_sql(matching, name) == matches(matching, "PN", name)
    else:
        assert matching == Universal()


@given(_name_keys, _names, st.sampled_from(["", "^", "^^^^"]))
def test_trailing_delimiters_of_a_name_do_not_matter(key: str, name: str, padding: str) -> None:
    """A name with trailing `^` is found by what finds it without (C-31)."""
    matching = parse_matching_key("PN", key)
    assert matches(matching, "PN", name) == matches(matching, "PN", name + padding)


@given(st.text("ab^* ", min_size=1, max_size=8), st.text("ab^", max_size=8))
def test_a_pattern_is_tried_on_the_group_padded_to_five_components(key: str, name: str) -> None:
    """A key without `?` finds whatever it would find in the group with all its `^` (C-33)."""
    folded = fold(name)
    padded = folded + "^" * (4 - folded.count("^"))
    if folded and matches_wild_card(fold(key), padded):
        assert matches(parse_matching_key("PN", key), "PN", name)


@given(_names)
def test_a_name_finds_itself(name: str) -> None:
    """A name without a wild card, used as a key, finds its entity (C-30)."""
    assert matches(parse_matching_key("PN", name), "PN", name, match_unknown=True)


def test_a_key_with_many_components_has_few_patterns() -> None:
    """However long a PN key is, its SQL stays short (C-33)."""
    matching = parse_matching_key("PN", "a" + "^?^*" * 1000)
    assert isinstance(matching, PersonName)
    assert len(matching.any_group) <= 5


# --- the settings for names


@pytest.mark.parametrize(
    ("key", "name", "is_match"),
    [
        ("Smith", "Smith^John", True),
        ("smith", "Smith", True),
        ("Smith", "Smithson^John", False),
        ("Smith^", "Smith^John", True),  # the key folds to one component
        ("Smith^J", "Smith^John", False),
        ("Smit?", "Smith^John", False),
        ("Smith*", "Smith^John", True),
        ("\u5c71\u7530", "Yamada^T=\u5c71\u7530^\u592a\u90ce", True),
        ("=\u5c71\u7530", "Yamada^T=\u5c71\u7530^\u592a\u90ce", True),
        ("Yamada=\u5c71", "Yamada^T=\u5c71\u7530^\u592a\u90ce", False),
    ],
)
def test_a_family_name_alone_finds_all_who_have_it(key: str, name: str, *, is_match: bool) -> None:
    """Where the setting is on; else `Smith` is the whole name (C-33: J-152)."""
    alone = parse_matching_key("PN", key, names=NameMatching(family_name_alone=True))
    assert matches(alone, "PN", name) == is_match


@pytest.mark.parametrize(
    ("key", "name", "is_match"),
    [
        ("Muller", "M\u00fcller", True),
        ("M\u00fcller", "Muller", True),
        ("m?ller*", "Mu\u0308ller^J", True),
        ("Mueller", "M\u00fcller", False),
        ("Sorensen", "S\u00f8rensen", False),  # no composed letter
        ("\u304b", "\u304c", False),  # another kana, not an accent
        ("\u0301", "Muller", True),  # nothing is left of the key
        ("\u03a0\u03b1\u03c0\u03b1", "\u03a0\u03b1\u03c0\u03ac", True),
    ],
)
def test_accents_do_not_count_where_they_are_ignored(
    key: str, name: str, *, is_match: bool
) -> None:
    """Where the setting is on; else they do (C-30: J-170)."""
    ignoring = parse_matching_key("PN", key, names=NameMatching(ignores_accents=True))
    assert matches(ignoring, "PN", name) == is_match


@pytest.mark.parametrize(
    ("key", "is_match"),
    [("Yamada*", True), ("\u5c71\u7530*", False), ("=\u5c71\u7530*", True), ("*\u592a*", False)],
)
def test_a_key_may_be_for_the_alphabetic_group_alone(key: str, *, is_match: bool) -> None:
    """Where the setting is off; else it is for any group (C-32: J-159)."""
    matching = parse_matching_key("PN", key, names=NameMatching(any_group=False))
    assert matches(matching, "PN", "Yamada^T=\u5c71\u7530^\u592a\u90ce") == is_match


@given(_name_keys, _names)
def test_lenient_settings_find_no_less(key: str, name: str) -> None:
    """What is found by default is found where more is let pass, too (C-30 to C-33)."""
    lenient = NameMatching(family_name_alone=True, ignores_accents=True)
    if matches(parse_matching_key("PN", key), "PN", name):
        assert matches(parse_matching_key("PN", key, names=lenient), "PN", name)


# --- items: rule C-26

_VALUE, _SCHEME, _INNER = 0x00080100, 0x00080102, 0x00400008


def _item(value: str | None = None, scheme: str | None = None, *inner: Item) -> Item:
    item = {}
    if value is not None:
        item[_VALUE] = ItemElement("SH", value)
    if scheme is not None:
        item[_SCHEME] = ItemElement("SH", scheme)
    if inner:
        item[_INNER] = ItemElement("SQ", inner)
    return item


def _keys(**keys: Matching) -> ItemMatching:
    tags = {"value": (_VALUE, "SH"), "scheme": (_SCHEME, "SH"), "inner": (_INNER, "SQ")}
    return ItemMatching(tuple(ItemKey(*tags[name], matching) for name, matching in keys.items()))


def test_the_items_that_match_are_told() -> None:
    """An answer has them and no others, in their order (C-26: J-141)."""
    items = (_item("1", "A"), _item("2", "B"), _item("1", "B"))
    assert matching_items(_keys(scheme=EqualText("B")), items) == (items[1], items[2])
    assert matching_items(_keys(value=EqualText("1"), scheme=EqualText("B")), items) == items[2:]
    assert matching_items(_keys(value=EqualText("3")), items) == ()


def test_of_a_sequence_within_an_item_the_matching_items_are_told() -> None:
    """The rule is recursive; what is not matched stays whole (C-26)."""
    items = (_item("1", "A", _item("X"), _item("Y")), _item("2", "B", _item("Z")))
    found = matching_items(_keys(inner=_keys(value=EqualText("Y"))), items)
    assert found == (_item("1", "A", _item("Y")),)


def test_one_item_of_the_outer_sequence_has_to_hold_what_is_asked_of_the_inner() -> None:
    """The rule is recursive (C-26)."""
    items = (_item("1", "A", _item("X")), _item("2", "B", _item("Y"), _item("Z", "S")))
    both = _keys(value=EqualText("X"), scheme=EqualText("S"))
    assert not matches(_keys(inner=both), "SQ", items)
    z_in_2 = _keys(value=EqualText("2"), inner=_keys(value=WildCard("Z*")))
    assert matches(z_in_2, "SQ", items)
    z_in_1 = _keys(value=EqualText("1"), inner=_keys(value=WildCard("Z*")))
    assert not matches(z_in_1, "SQ", items)


@pytest.mark.parametrize(
    "items",
    [(), (_item(),), (_item(""),), (_item("", "A"),), ({_VALUE: ItemElement("DA", "20200115")},)],
)
def test_what_an_item_lacks_is_unknown(items: tuple[Item, ...]) -> None:
    """No items, no element, an empty one, or one of a VR that means another thing (C-5)."""
    key = _keys(value=EqualText("1"))
    assert matches(key, "SQ", items, match_unknown=True)
    assert not matches(key, "SQ", items)


def test_an_element_of_a_like_vr_is_comparable() -> None:
    """What was sent as LO is found by the SH of the data dictionary."""
    assert matches(_keys(value=EqualText("1")), "SQ", ({_VALUE: ItemElement("LO", "1")},))


# --- combined date and time: rule B-12

_HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("date", "time", "is_match"),
    [
        ("20200101", "1200", True),
        ("20200101", "1159", False),
        ("20200102", "0900", True),  # J-210
        ("20200102", "1230", True),  # J-211
        ("20200102", "1330", True),
        ("20200102", "1401", False),
        ("20200102", "14", True),  # some time of that hour
        ("20200102", "", True),
        ("20200102", "rubbish", True),
        ("20200103", "", False),
        ("2020.01.01", "13:00", True),
    ],
)
def test_a_span_of_days_and_times(date: str, time: str, *, is_match: bool) -> None:
    """From noon of one day to two o'clock of the next (B-12)."""
    lower, upper = (20200101, 12 * _HOUR), (20200102, 14 * _HOUR)
    assert matches_span(lower, upper, date, time, match_unknown=False) == is_match


def test_an_unknown_date_is_unknown_whatever_its_time() -> None:
    """It matches where unknown values do (B-12, C-5)."""
    for match_unknown in (False, True):
        for date in ("", "20201332"):
            found = matches_span((20200101, 0), None, date, "1200", match_unknown=match_unknown)
            assert found == match_unknown


def test_combined_keys_have_the_same_form() -> None:
    """Both ends, or open at the same one; one value each (B-12: J-212)."""
    both = parse_combined_key("20200101-20200102", "1200-1300")
    assert both == ((20200101, 12 * _HOUR), (20200102, 13 * _HOUR + 60_000_000 - 1))
    assert parse_combined_key("20200101-", "12-") == ((20200101, 12 * _HOUR), None)
    assert parse_combined_key("20200101-20200102", "12-") is None
    assert parse_combined_key("20200101", "1200") is None
    assert parse_combined_key("20200101-\\20200301-", "12-") is None


# --- numbers in binary: rule C-9


@pytest.mark.parametrize(
    ("vr", "key", "stored", "is_match"),
    [
        ("US", "512", "256\\512", True),
        ("US", "512", "256", False),
        ("UL", "4294967295", "4294967295", True),
        ("FD", "0.5", "0.5", True),
        ("FD", "-0.0", "0.0", True),
        ("FD", "nan", "nan", True),
        ("AT", "00080020", "00080020", True),
        ("AT", "00080020", "00080021", False),
    ],
)
def test_a_number_in_binary_is_compared_by_number(
    vr: str, key: str, stored: str, *, is_match: bool
) -> None:
    """A tag is compared as such (C-9)."""
    assert matches(parse_matching_key(vr, key), vr, stored) == is_match


def _matches_by_sql(matching: PersonName, name: str) -> bool:
    groups = fold_component_groups(name)
    columns = {
        "alphabetic": groups[0],
        "ideographic": groups[1],
        "phonetic": groups[2],
        "folded": fold(name),
    }
    tests = [
        (matching.any_group, list(columns)),
        (matching.alphabetic, ["alphabetic"]),
        (matching.ideographic, ["ideographic"]),
        (matching.phonetic, ["phonetic"]),
    ]
    conditions = []
    parameters = []
    for patterns, names in tests:
        pairs = [(column, pattern) for column in names for pattern in patterns]
        if pairs:
            conditions.append("(" + " OR ".join(f"{column} GLOB ?" for column, _ in pairs) + ")")
            parameters += [glob_pattern(pattern) for _, pattern in pairs]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE names (alphabetic, ideographic, phonetic, folded)")
        connection.execute("INSERT INTO names VALUES (?, ?, ?, ?)", tuple(columns.values()))
        sql = "SELECT count(*) FROM names WHERE " + " AND ".join(conditions)  # noqa: S608
        (count,) = connection.execute(sql, parameters).fetchone()
    return bool(count)
