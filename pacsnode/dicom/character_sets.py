"""Specific Character Set (0008,0005): text to Unicode and back (PS3.3 C.12.1.1.2, PS3.5 6.1).

A text VR is decoded by the Character Sets of its own Data Set or item; the catalog and the matching
know Unicode only. Text we send is labelled with a set that carries it without loss.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pacsnode.dicom.code_extension import (
    ISO_646,
    MULTI_BYTE_SETS,
    SINGLE_BYTE_SETS,
    CodeExtension,
)

AFFECTED_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""The VRs whose text is encoded as Specific Character Set says (PS3.5 6.1.2.2)."""

# Defined Term -> the codecs for reading and for writing. GBK is read as its superset GB18030, which
# has a character for every two-byte code: no trail byte 5CH is ever left over as a delimiter.
_STAND_ALONE_CODECS = {
    "ISO_IR 192": ("utf-8", "utf-8"),
    "GB18030": ("gb18030", "gb18030"),
    "GBK": ("gb18030", "gbk"),
}
_STAND_ALONE_SPELLINGS = {
    "UTF8": "ISO_IR 192",
    "ISOIR192": "ISO_IR 192",
    "ISO2022IR192": "ISO_IR 192",
    "GB18030": "GB18030",
    "ISO2022GB18030": "GB18030",
    "GBK": "GBK",
    "ISO2022GBK": "GBK",
}
_LATIN_1_SPELLINGS = frozenset({"LATIN1", "ISO88591", "ISOLATIN1"})
_NUMBERED_TERM = re.compile(r"ISO(2022)?(?:IR)?([0-9]+)")
_SEPARATORS = re.compile(r"[ _\-]+")
_ESC = "\x1b"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class CharacterSets:
    """The parsed value of Specific Character Set (0008,0005); made by `parse`.

    Attributes:
        terms: the Defined Terms as they are written in (0008,0005); empty for an absent element.
        is_known: every term is one that we can decode.
    """

    terms: tuple[str, ...]
    is_known: bool = True

    @staticmethod
    def parse(values: Sequence[str]) -> "CharacterSets":
        """Understand the values of (0008,0005), also misspelt ones and illegal combinations.

        The default repertoire written out (`ISO_IR 6`) means the same as an absent element. A set
        that stands alone wins over all other values. Never raises.

        Source: PS3.3 C.12.1.1.2; rules D-15, D-17, D-19, D-22.
        """
        return _parse(tuple(values))

    @property
    def is_declared(self) -> bool:
        """Whether the sender named any set but the default repertoire."""
        return bool(self.terms)


@lru_cache(maxsize=256)
def _parse(values: tuple[str, ...]) -> CharacterSets:
    """Parse the values; a node sees few different ones."""
    terms = [_normalise_term(value) for value in values]
    for term in terms:
        if term in _STAND_ALONE_CODECS:
            return CharacterSets((term,))
    while terms and not terms[-1]:
        terms.pop()
    if not terms or terms in (["ISO_IR 6"], ["ISO 2022 IR 6"]):
        return CharacterSets(())
    is_known = all(_number(term) is not None for term in terms)
    if len(terms) == 1 and _number(terms[0]) not in MULTI_BYTE_SETS:
        return CharacterSets(tuple(terms), is_known)
    extended = dict.fromkeys(_with_code_extension(term) for term in terms)
    # Value 1 names a single-byte set, and an empty value 1 the default repertoire.
    first_number = _number(terms[0])
    return CharacterSets(
        ("", *extended) if first_number in MULTI_BYTE_SETS else (*extended,), is_known
    )


DEFAULT_CHARACTER_SETS = CharacterSets(())
"""What holds where Specific Character Set is absent: the default repertoire."""

UTF_8 = CharacterSets(("ISO_IR 192",))
"""The set that carries every text."""


def decode_text(value: bytes, vr: str, character_sets: CharacterSets) -> str:
    r"""Return a Value Field as Unicode text, with its delimiters and padding, without escapes.

    A backslash in the text of a VR with several values is a real delimiter. Bytes that cannot be
    decoded become U+FFFD. Where no set is declared, bytes from 80H on are read as UTF-8 if they
    are valid UTF-8, else as ISO_IR 100. VRs that no set affects keep damaged bytes as ISO_IR 100
    would show them, so that nothing is lost. Never raises; never returns surrogates.

    Args:
        value: the whole Value Field, possibly several values.
        vr: the VR of the element.
        character_sets: those of the Data Set or item the element is in.

    Source: PS3.5 6.1.2; rules D-15 to D-21.
    """
    if vr not in AFFECTED_VRS:
        return value.decode("iso8859_1")
    if character_sets.terms and character_sets.terms[0] in _STAND_ALONE_CODECS:
        codec = _STAND_ALONE_CODECS[character_sets.terms[0]][0]
        return value.decode(codec, errors="replace")
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    if not character_sets.is_declared:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return _code_extension(character_sets.terms or ("ISO_IR 100",)).decode(value, _delimiters(vr))


def encode_text(text: str, vr: str, character_sets: CharacterSets) -> bytes:
    """Return the Value Field for a text: `decode_text` gives exactly this text back.

    Not padded to even length. Escape sequences are written where several sets are declared; the
    alphabetic component group of a PN has to fit into value 1.

    Raises:
        UnicodeEncodeError: the sets cannot carry the text. The exception does not hold the text.

    Source: PS3.5 6.1.2.5.3, 6.2.1.2; rules D-18, D-20.
    """
    encoded = _encode(text, vr, character_sets)
    if encoded is None:
        codec = "\\".join(character_sets.terms) or "ISO_IR 6"
        raise UnicodeEncodeError(codec, _REPLACEMENT, 0, 1, "text not in the Character Sets")
    return encoded


def choose_character_sets(
    texts: Iterable[str], requested: CharacterSets, *, person_names: Iterable[str] = ()
) -> CharacterSets | None:
    """Choose the sets that a response with these texts is labelled with.

    Args:
        texts: the Value Fields of the VRs that a set affects, but PN.
        requested: the sets of the request.
        person_names: the Value Fields of VR PN; their alphabetic group has to fit into value 1.

    Returns:
        None if all is plain ASCII and the element is omitted; else the requested sets if they
        carry every text; else UTF-8.

    Source: PS3.4 C.4.1.1.3.2; rule D-18.
    """
    values = [(text, "LO") for text in texts] + [(name, "PN") for name in person_names]
    if all(_is_plain(text) for text, _ in values):
        return None
    if all(_encode(text, vr, requested) is not None for text, vr in values):
        return requested
    return UTF_8


def _encode(text: str, vr: str, character_sets: CharacterSets) -> bytes | None:
    """The Value Field for a text, or None if the sets cannot carry it."""
    if vr not in AFFECTED_VRS:
        return _encode_with("iso8859_1", text)
    if character_sets.terms and character_sets.terms[0] in _STAND_ALONE_CODECS:
        return _encode_with(_STAND_ALONE_CODECS[character_sets.terms[0]][1], text)
    if _is_plain(text):
        return text.encode("ascii")
    # ESC would be read as the start of an escape sequence.
    if _ESC in text or not (character_sets.is_declared and character_sets.is_known):
        return None
    code_extension = _code_extension(character_sets.terms)
    return code_extension.encode(text, _delimiters(vr), is_person_name=vr == "PN")


def _encode_with(codec: str, text: str) -> bytes | None:
    """The text in one codec, or None if that has not all of its characters."""
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        return None


def _is_plain(text: str) -> bool:
    """Whether the default repertoire carries the text."""
    return text.isascii() and _ESC not in text


def _delimiters(vr: str) -> str:
    """The characters that end a piece of text; control characters do so in every VR."""
    if vr == "PN":
        return "\\^="
    return "" if vr in {"LT", "ST", "UT"} else "\\"


@lru_cache(maxsize=256)
def _code_extension(terms: tuple[str, ...]) -> CodeExtension:
    """The sets that the terms name; terms we do not know are left out."""
    g0, g1 = SINGLE_BYTE_SETS.get(_number(terms[0]) or "", (ISO_646, None))
    extensions = []
    for number in map(_number, terms[1:]):
        if number in MULTI_BYTE_SETS:
            extensions.append(MULTI_BYTE_SETS[number])
        elif number in SINGLE_BYTE_SETS:
            extensions += [element for element in SINGLE_BYTE_SETS[number] if element]
    return CodeExtension(g0, g1, tuple(extensions))


def _normalise_term(value: str) -> str:
    """The Defined Term that a value means, however it is spelt; an unknown one as it is."""
    stripped = value.strip("\0 ")
    spelling = _SEPARATORS.sub("", stripped.upper())
    if spelling in _STAND_ALONE_SPELLINGS:
        return _STAND_ALONE_SPELLINGS[spelling]
    if spelling in _LATIN_1_SPELLINGS:
        return "ISO_IR 100"
    match = _NUMBERED_TERM.fullmatch(spelling)
    if match is None or match[2] not in SINGLE_BYTE_SETS | MULTI_BYTE_SETS:
        return stripped
    is_extension = match[1] or match[2] in MULTI_BYTE_SETS
    return f"ISO 2022 IR {match[2]}" if is_extension else f"ISO_IR {match[2]}"


def _with_code_extension(term: str) -> str:
    """The form that a term has beside others."""
    return term.replace("ISO_IR ", "ISO 2022 IR ") if _number(term) else term


def _number(term: str) -> str | None:
    """The registration number in a normalised term; '6' for an empty value, None if unknown."""
    if not term:
        return "6"
    number = term.rpartition(" IR ")[2].removeprefix("ISO_IR ")
    return number if number in SINGLE_BYTE_SETS or number in MULTI_BYTE_SETS else None
