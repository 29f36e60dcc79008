"""Attribute matching: the vectors of the rule book, and its agreement with SQL."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pacsnode.dicom.matching import (
    AllOf,
    AnyOf,
    EqualNumber,
    EqualText,
    Interval,
    MalformedKey,
    Never,
    PersonName,
    Universal,
    glob_pattern,
    matches,
    parse_matching_key,
)
from pacsnode.dicom.person_name import fold, fold_component_groups
from pacsnode.dicom.text_values import normalise_text, split_values, trim
from pacsnode.dicom.wild_card import matches_wild_card


class Vector(TypedDict, total=False):
    """One row of matching_vectors.yaml."""

    id: str
    vr: str
    stored: str
    key: str
    expected: str
    rule: str
    if_unknown: bool
    negotiated: str


_ALL: list[Vector] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "matching_vectors.yaml").read_text("utf-8")
)
_NOT_YET_EXECUTED = [vector for vector in _ALL if vector["vr"] == "SQ"]
_VECTORS = [vector for vector in _ALL if vector["vr"] != "SQ"]


def _result(vector: Vector, *, match_unknown: bool) -> str:
    negotiated = vector.get("negotiated")
    try:
        matching = parse_matching_key(
            vector["vr"],
            vector["key"],
            empty_value=negotiated == "empty value matching",
            multiple_values=negotiated == "multiple value matching",
        )
    except MalformedKey:
        return "refused"
    is_match = matches(matching, vector["vr"], vector["stored"], match_unknown=match_unknown)
    return "match" if is_match else "no match"


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["id"])
def test_a_vector_under_the_standards_letter(vector: Vector) -> None:
    """Every row of the table holds where an unknown value matches every key (C-5)."""
    assert _result(vector, match_unknown=True) == vector["expected"]


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["id"])
def test_a_vector_by_default(vector: Vector) -> None:
    """Every row holds where an unknown value matches no key, but the marked ones do not (C-5)."""
    expected = "no match" if vector.get("if_unknown") else vector["expected"]
    assert _result(vector, match_unknown=False) == expected


def test_only_sequence_vectors_are_left_out() -> None:
    """Each vector is executed, save those of sequence matching (C-26)."""
    assert [vector["id"] for vector in _NOT_YET_EXECUTED] == [f"J-{n}" for n in range(140, 147)]
    assert len(_VECTORS) + len(_NOT_YET_EXECUTED) == 156


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
