"""Specific Character Set: the vectors of the rule book, damage, and the way back."""

from pathlib import Path
from typing import TypedDict

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pacsnode.dicom.character_sets import (
    AFFECTED_VRS,
    DEFAULT_CHARACTER_SETS,
    UTF_8,
    CharacterSets,
    choose_character_sets,
    decode_text,
    encode_text,
)
from pacsnode.dicom.matching import matches
from pacsnode.dicom.matching_keys import parse_matching_key
from pacsnode.dicom.text_values import split_values


class Vector(TypedDict, total=False):
    """One row of character_set_vectors.yaml."""

    id: str
    rule: str
    vr: str
    stored_set: list[str]
    stored_bytes: str
    text: str
    request_set: list[str]
    key: str
    key_bytes: str
    expected: str
    answer_set: list[str] | None


_VECTORS: list[Vector] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "character_set_vectors.yaml").read_text("utf-8")
)
_NOT_WRITTEN = {"K-04", "K-05", "K-23"}
_each_vector = pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["id"])


@_each_vector
def test_stored_bytes_are_decoded_by_their_own_set(vector: Vector) -> None:
    """The bytes of each vector are the text beside them, one value (C-2, D-15 to D-22)."""
    character_sets = CharacterSets.parse(vector["stored_set"])
    text = decode_text(bytes.fromhex(vector["stored_bytes"]), vector["vr"], character_sets)
    assert text == vector["text"]
    assert len(split_values(text, vector["vr"])) == 1


@_each_vector
def test_a_key_in_its_own_set_is_compared_with_the_text(vector: Vector) -> None:
    """Key and value are compared as Unicode, whatever sets they came in (C-2)."""
    requested = CharacterSets.parse(vector["request_set"])
    vr = vector["vr"]
    key_bytes = vector.get("key_bytes")
    key = decode_text(bytes.fromhex(key_bytes), vr, requested) if key_bytes else vector["key"]
    is_match = matches(parse_matching_key(vr, key), vr, vector["text"])
    assert ("match" if is_match else "no match") == vector["expected"]


@_each_vector
def test_a_response_is_labelled_with_a_set_that_carries_it(vector: Vector) -> None:
    """The response has the expected label, and its bytes say what was stored (D-18)."""
    vr, text = vector["vr"], vector["text"]
    names = [text] if vr == "PN" else []
    texts = [text] if vr in AFFECTED_VRS - {"PN"} else []
    requested = CharacterSets.parse(vector["request_set"])
    chosen = choose_character_sets(texts, requested, person_names=names)
    assert (None if chosen is None else list(chosen.terms)) == vector["answer_set"]
    label = chosen or DEFAULT_CHARACTER_SETS
    assert decode_text(encode_text(text, vr, label), vr, label) == text


@pytest.mark.parametrize(
    "vector",
    [vector for vector in _VECTORS if vector["id"] not in _NOT_WRITTEN],
    ids=lambda vector: vector["id"],
)
def test_a_vector_is_written_as_it_was_read(vector: Vector) -> None:
    """Encoding in the stored set gives the bytes of the Standard's examples (D-20)."""
    encoded = encode_text(vector["text"], vector["vr"], CharacterSets.parse(vector["stored_set"]))
    assert encoded == bytes.fromhex(vector["stored_bytes"])


@pytest.mark.parametrize(
    "vector",
    [vector for vector in _VECTORS if vector["id"] in _NOT_WRITTEN],
    ids=lambda vector: vector["id"],
)
def test_text_in_a_set_that_is_only_read_is_refused(vector: Vector) -> None:
    """Non-ASCII text is written neither without a label nor in IR 58 (D-15, D-21)."""
    with pytest.raises(UnicodeEncodeError):
        encode_text(vector["text"], vector["vr"], CharacterSets.parse(vector["stored_set"]))


@pytest.mark.parametrize(
    ("values", "terms"),
    [
        ([], ()),
        ([""], ()),
        ([" ", ""], ()),
        (["ISO_IR 6"], ()),
        (["ISO 2022 IR 6"], ()),
        (["ISO_IR 100 "], ("ISO_IR 100",)),
        (["ISO_IR 100\0"], ("ISO_IR 100",)),
        (["ISO-IR 100"], ("ISO_IR 100",)),
        (["iso ir 100"], ("ISO_IR 100",)),
        (["ISO_IR_100"], ("ISO_IR 100",)),
        (["ISO 2022 IR 100"], ("ISO 2022 IR 100",)),
        (["latin1"], ("ISO_IR 100",)),
        (["ISO-8859-1"], ("ISO_IR 100",)),
        (["UTF-8"], ("ISO_IR 192",)),
        (["GBK"], ("GBK",)),
        (["", "ISO2022 IR 87"], ("", "ISO 2022 IR 87")),
        (["ISO 2022 IR 87"], ("", "ISO 2022 IR 87")),
        (["ISO 2022 IR 6", "ISO 2022 IR 87"], ("ISO 2022 IR 6", "ISO 2022 IR 87")),
        (["ISO_IR 13", "ISO 2022 IR 87"], ("ISO 2022 IR 13", "ISO 2022 IR 87")),
        (["ISO_IR 100", "ISO_IR 192"], ("ISO_IR 192",)),
        (["GB18030", "ISO_IR 192"], ("GB18030",)),
        (["ISO 2022 IR 58"], ("", "ISO 2022 IR 58")),
    ],
)
def test_a_term_is_understood_however_it_is_spelt(
    values: list[str], terms: tuple[str, ...]
) -> None:
    """Misspelt, padded and illegally combined terms become what was meant (D-19, D-22)."""
    character_sets = CharacterSets.parse(values)
    assert character_sets.terms == terms
    assert character_sets.is_declared == bool(terms)
    assert character_sets.is_known


@pytest.mark.parametrize("value", ["ISO_IR 999", "ISO_IR 58000", "KLINGON", "ISO_IR \u0661"])
def test_an_unknown_set_decodes_its_ascii_part(value: str) -> None:
    """Of a set we do not know, ASCII is text and every other byte U+FFFD (D-17)."""
    character_sets = CharacterSets.parse([value])
    assert not character_sets.is_known
    assert character_sets.is_declared
    assert decode_text(b"Smith\xff\xc3\xa9", "PN", character_sets) == "Smith" + "\ufffd" * 3
    assert choose_character_sets(["\u00e9"], character_sets) == UTF_8


def test_parsing_gives_a_parsed_value_back() -> None:
    """The terms of a parsed value parse to the same value."""
    for values in (["ISO_IR 100"], ["", "ISO 2022 IR 87"], ["ISO 2022 IR 13", "X"], ["GBK"]):
        parsed = CharacterSets.parse(values)
        assert CharacterSets.parse(parsed.terms) == parsed


@pytest.mark.parametrize("vr", ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"])
def test_a_vr_that_no_set_affects_keeps_damaged_bytes(vr: str) -> None:
    """In a VR of the default repertoire every byte is kept, whatever was declared (D-16)."""
    every_byte = bytes(range(256))
    text = decode_text(every_byte, vr, UTF_8)
    assert encode_text(text, vr, UTF_8) == every_byte


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\x1b$B;3ED", "\u5c71\u7530"),  # not switched back at the end
        (b"\x1b$B;3E", "\u5c71\ufffd"),  # half a character
        (b"\x1b$B;3\x1b(BX\\Y", "\u5c71X\\Y"),
        (b"\x1b$B;3\r\nABC", "\u5c71\r\nABC"),  # a line end brings value 1 back
        (b"\x1b$B!!;3\x1b(B", "\u3000\u5c71"),  # an ideographic space does not
        (b"A\x1bZB", "A\ufffdZB"),
        (b"\xb1\xff", "\ufffd\ufffd"),
        (b"\x1b)I\xd4\xcf", "\uff94\uff8f"),  # an undeclared set
        (b"\x1b)I\xd4\\\xd4", "\uff94\\\ufffd"),  # value 1 has no G1 again
    ],
)
def test_damaged_code_extension_is_read_as_far_as_possible(value: bytes, text: str) -> None:
    """What is no character becomes U+FFFD, and the text after a delimiter is sound (D-20)."""
    assert decode_text(value, "LO", CharacterSets.parse(["", "ISO 2022 IR 87"])) == text


def test_korean_without_escapes_is_read() -> None:
    """Bytes without an escape sequence mean the one G1 set that was declared (D-22)."""
    korean = CharacterSets.parse(["", "ISO 2022 IR 149"])
    assert decode_text(b"\xc8\xab^\xb1\xe6\xb5\xbf", "PN", korean) == "\ud64d^\uae38\ub3d9"


def test_a_backslash_in_long_text_does_not_end_the_active_set() -> None:
    """In LT a backslash is text, so the set that was switched to stays active (D-20, C-1)."""
    cyrillic = CharacterSets.parse(["ISO 2022 IR 100", "ISO 2022 IR 144"])
    assert decode_text(b"\x1b-L\xb8\\\xb8", "LT", cyrillic) == "\u0418\\\u0418"
    assert decode_text(b"\x1b-L\xb8\\\xb8", "LO", cyrillic) == "\u0418\\\u00b8"


def test_yen_delimits() -> None:
    """In ISO_IR 13 the byte 5CH delimits, although it is shown as yen (C-2)."""
    japanese = CharacterSets.parse(["ISO_IR 13"])
    text = decode_text(b"\xd4\\\xcf", "LO", japanese)
    assert split_values(text, "LO") == ["\uff94", "\uff8f"]
    with pytest.raises(UnicodeEncodeError):
        encode_text("\u00a5", "LO", japanese)


@pytest.mark.parametrize("lead", range(0x81, 0xFF))
@pytest.mark.parametrize("term", ["GB18030", "GBK"])
def test_no_trail_byte_delimits(lead: int, term: str) -> None:
    """5CH, 5EH, 2AH and 3FH behind a lead byte never become a character of their own (C-2)."""
    text = decode_text(bytes([lead, 0x5C, lead, 0x5E]), "PN", CharacterSets.parse([term]))
    assert len(text) == 2
    assert not set(text) & set("\\^")


def test_the_alphabetic_group_has_to_fit_into_value_1() -> None:
    """A name with ideographs in its first group is not written with escapes there (D-20)."""
    japanese = CharacterSets.parse(["", "ISO 2022 IR 87"])
    name = "\u5c71\u7530"
    assert encode_text(name, "LO", japanese)
    with pytest.raises(UnicodeEncodeError):
        encode_text(name, "PN", japanese)
    with pytest.raises(UnicodeEncodeError):
        encode_text(f"A={name}\\{name}", "PN", japanese)
    assert choose_character_sets([name], japanese) == japanese
    assert choose_character_sets([], japanese, person_names=[name]) == UTF_8


def test_an_exception_does_not_hold_the_text() -> None:
    """What a failed encoding raises could be logged without harm."""
    with pytest.raises(UnicodeEncodeError) as refused:
        encode_text("Secr\u5c71t", "PN", CharacterSets.parse(["ISO_IR 100"]))
    assert "Secr" not in refused.value.object
    assert refused.value.__context__ is None


def test_plain_text_needs_no_label() -> None:
    """All-ASCII text is sent without Specific Character Set, whatever was requested (D-18)."""
    assert choose_character_sets(["A", "B~\\"], UTF_8, person_names=["A^B"]) is None
    assert choose_character_sets([], UTF_8) is None


def test_escape_characters_are_not_sent_bare() -> None:
    """Text with an ESC is labelled with a set in which it begins no escape sequence (D-18)."""
    assert choose_character_sets(["\x1b$B"], CharacterSets.parse(["ISO_IR 100"])) == UTF_8


_sets = st.sampled_from(
    [
        CharacterSets.parse(values)
        for values in (
            [],
            ["ISO_IR 100"],
            ["ISO_IR 101"],
            ["ISO_IR 109"],
            ["ISO_IR 110"],
            ["ISO_IR 126"],
            ["ISO_IR 127"],
            ["ISO_IR 138"],
            ["ISO_IR 144"],
            ["ISO_IR 148"],
            ["ISO_IR 166"],
            ["ISO_IR 203"],
            ["ISO_IR 13"],
            ["ISO_IR 192"],
            ["GB18030"],
            ["GBK"],
            ["", "ISO 2022 IR 87", "ISO 2022 IR 159"],
            ["ISO 2022 IR 13", "ISO 2022 IR 87"],
            ["", "ISO 2022 IR 149"],
            ["", "ISO 2022 IR 58"],
            ["ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 149", "ISO 2022 IR 87"],
            ["KLINGON"],
        )
    ]
)
_mixed = st.text(
    st.one_of(
        st.sampled_from("ab^=\\~ \r\n\u00e9\u0416\u05e9\u0e19\uff94\u5c71\u7530\ud64d\uae38\u3000"),
        st.characters(),
    )
)


@given(_mixed, st.sampled_from(["LO", "LT", "PN"]), _sets)
@example("\u3164\u314e\u3157\u3147", "LO", CharacterSets.parse(["", "ISO 2022 IR 149"]))
def test_text_comes_back_or_is_refused(text: str, vr: str, character_sets: CharacterSets) -> None:
    """Encoding loses nothing: it gives the same text back, or raises (D-18)."""
    try:
        encoded = encode_text(text, vr, character_sets)
    except UnicodeEncodeError:
        return
    assert decode_text(encoded, vr, character_sets) == text


@given(_mixed, _mixed, _sets)
def test_the_chosen_set_carries_everything(text: str, name: str, requested: CharacterSets) -> None:
    """Whatever is requested, the chosen set encodes all texts and names (D-18)."""
    if any(0xD800 <= ord(character) < 0xE000 for character in text + name):
        return
    chosen = choose_character_sets([text], requested, person_names=[name])
    label = chosen or DEFAULT_CHARACTER_SETS
    assert decode_text(encode_text(text, "UT", label), "UT", label) == text
    assert decode_text(encode_text(name, "PN", label), "PN", label) == name


@given(st.binary(), st.sampled_from(["LO", "LT", "PN", "CS"]), _sets)
@example(b"\x1b$)C\xa4", "LO", CharacterSets.parse(["", "ISO 2022 IR 149"]))
@example(b"\x84\x31\xa4\x37\x84\x31\xa4\x38", "LO", CharacterSets.parse(["GB18030"]))
def test_any_bytes_become_text(value: bytes, vr: str, character_sets: CharacterSets) -> None:
    """No bytes raise or leave surrogates: the text can be stored as UTF-8 (I-13)."""
    decode_text(value, vr, character_sets).encode("utf-8")
