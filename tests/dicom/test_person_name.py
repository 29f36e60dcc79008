"""Folding of Person Names and the patterns of their keys."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pacsnode.dicom.person_name import fold, fold_component_groups, pattern_alternatives


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        ("", ("", "", "")),
        ("^^=^=", ("", "", "")),
        ("Smith^John^^^", ("smith^john", "", "")),
        (" Smith ^ John ", ("smith^john", "", "")),
        ("de  la Cruz^Ana", ("de la cruz^ana", "", "")),
        ("A=B=C", ("a", "b", "c")),
        ("==C^", ("", "", "c")),
        ("A=B=C=D==", ("a", "b", "c=d")),
        ("A^B^C^D^E^F^^", ("a^b^c^d^e^f", "", "")),
        ("A\0B", ("a", "", "")),
        ("A\x01^B\x02=\x03", ("a^b", "", "")),
    ],
)
def test_a_name_has_three_folded_groups(value: str, groups: tuple[str, str, str]) -> None:
    """Blanks, trailing empties and controls go; surplus groups stay in the last (C-30, I-4)."""
    assert fold_component_groups(value) == groups


@pytest.mark.parametrize(
    ("value", "folded"),
    [
        ("A==C", "a==c"),
        ("=B=", "=b"),
        ("\u5c71\u7530\u3000\u592a\u90ce", "\u5c71\u7530 \u592a\u90ce"),
        ("\uff21", "a"),
    ],
)
def test_the_whole_value_is_its_groups_without_trailing_empties(value: str, folded: str) -> None:
    """The whole folded value keeps the place of each group (C-31); wide blanks are blanks."""
    assert fold(value) == folded


@given(st.text())
@example("\u0345\u03b1\u0301")
@example("\u00b4=\u0338^\u1fb3")
def test_folding_twice_changes_nothing(value: str) -> None:
    """The fold of a folded name is the same name (C-30)."""
    assert fold(fold(value)) == fold(value)


def test_every_single_character_folds_to_a_stable_form() -> None:
    """Folding is idempotent for each character of Unicode (C-30)."""
    characters = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert [c for c in characters if fold(fold(f"a{c}b")) != fold(f"a{c}b")] == []


def test_no_character_becomes_a_delimiter_or_wild_card() -> None:
    """Only the ASCII characters delimit and match any: look-alikes stay what they are (C-13)."""
    special = set("\\^=*?")
    lookalikes = [
        chr(code)
        for code in range(0x80, 0x110000)
        if special & set(unicodedata.normalize("NFKC", chr(code)))
    ]
    assert "\N{FULLWIDTH EQUALS SIGN}" in lookalikes
    assert [c for c in lookalikes if special & set(fold(f"a{c}b"))] == []


@given(st.text(), st.text())
def test_case_does_not_matter(family: str, given_name: str) -> None:
    """A name folds like its simple case variant (C-30)."""
    name = f"{family}^{given_name}"
    assert fold(name.casefold()) == fold(name)


@pytest.mark.parametrize(
    ("pattern", "alternatives"),
    [
        ("smith", ("smith",)),
        ("smith*", ("smith*",)),
        ("smith^*", ("smith", "smith^*")),
        ("smith^*^*", ("smith", "smith^*")),
        ("smith*^*", ("smith*",)),
        ("smith^**", ("smith", "smith^*")),
        ("smith^?*", ("smith^?*",)),
        ("*john", ("*john",)),
        ("a^^^^^^*", ("a^^", "a^^^", "a^^^^", "a^^^^^", "a^^^^^^*")),
    ],
)
def test_what_padding_would_match_is_cut_off_the_pattern(
    pattern: str, alternatives: tuple[str, ...]
) -> None:
    """A trailing run of `^` and `*` may be missing in the stored group, a `?` may not (C-33)."""
    assert pattern_alternatives(pattern) == alternatives
