"""Values of Data Elements as the catalog knows them: text, items of sequences, other bytes.

Text is decoded once, with the character sets of its own data set or item, and without padding
(rules C-3, C-25). Numbers in binary are text, too, in decimal. What is neither stays bytes.

Source: PS3.5 6.2, 7.5.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

from pacsnode.dicom.attributes import LAST_GROUP_OF_NO_KEY, SPECIFIC_CHARACTER_SET
from pacsnode.dicom.character_sets import (
    AFFECTED_VRS,
    DEFAULT_CHARACTER_SETS,
    CharacterSets,
    decode_text,
    encode_text,
)
from pacsnode.dicom.data_elements import (
    DataElement,
    DataSetError,
    encode_elements,
    encode_items,
    vr_of,
)
from pacsnode.dicom.items import Allowance, ItemContents, read_items
from pacsnode.dicom.text_values import split_values, trim
from pacsnode.dicom.transfer_syntax import IMPLICIT_VR_LITTLE_ENDIAN, Encoding, encoding_of

# The instances of a series share most of their values, so decoded ones are remembered. The bounds
# keep what hostile senders can fill with them below some megabytes.
_REMEMBERED_VALUES: Final = 2048
_LONGEST_REMEMBERED_VALUE: Final = 256
# Parsed ones are remembered, too. All Defined Terms there are, one after the other, are shorter.
_LONGEST_CHARACTER_SETS: Final = 512
_LONGEST_NUMBERS_BYTES: Final = 0xFFFE  # in the 16-bit length of Explicit VR

TEXT_VRS: Final = AFFECTED_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
# struct's name of each number in binary, and its length.
_NUMBERS: Final = {
    "US": ("H", 2),
    "SS": ("h", 2),
    "UL": ("L", 4),
    "SL": ("l", 4),
    "FL": ("f", 4),
    "FD": ("d", 8),
}
_TAG_LENGTH: Final = 4
NUMBER_VRS: Final = frozenset({*_NUMBERS, "AT"})


class ItemElement(NamedTuple):
    """One Data Element of an item: its VR and its value."""

    vr: str
    value: "Value"


Item = Mapping[int, ItemElement]
"""What one item of a sequence holds, by tag, in ascending order."""

Value = str | bytes | tuple[Item, ...]
"""Of a text VR, or a number in binary: text, several values separated by a backslash. Of SQ: its
items. Of any other VR: the bytes."""


def character_sets_of(elements: Mapping[int, DataElement]) -> CharacterSets:
    """Return the character sets that a data set or item declares for its text.

    Source: PS3.3 C.12.1.1.2; rule D-15.
    """
    element = elements.get(SPECIFIC_CHARACTER_SET)
    return DEFAULT_CHARACTER_SETS if element is None else parse_character_sets(element.value)


def parse_character_sets(value: bytes) -> CharacterSets:
    """Return the character sets that a value field of Specific Character Set names."""
    terms = decode_value(value[:_LONGEST_CHARACTER_SETS], "CS", DEFAULT_CHARACTER_SETS)
    return CharacterSets.parse(terms.split("\\")) if terms else DEFAULT_CHARACTER_SETS


def decode_value(value: bytes, vr: str, character_sets: CharacterSets) -> str:
    """Return the text of a value field of a text VR, each value without its padding.

    The dictionary's VR counts, not the encoded one: an element sent as UN is still text.

    Source: PS3.5 6.2; rules C-1, C-3, D-8.
    """
    # Terms that nobody knows have any number and form, so they would make keys of any size.
    if len(value) <= _LONGEST_REMEMBERED_VALUE and character_sets.is_known:
        return _decode_remembered(value, character_sets.terms, vr)
    return _decode_anew(value, character_sets, vr)


def decode_number(value: bytes, vr: str, *, is_little_endian: bool) -> str:
    """Return the numbers in a value field of a binary VR as text; '' if there are none.

    A tag (AT) has eight hexadecimal digits. What is too short for a number at the end is left out.

    Raises:
        DataSetError: there are more than these VRs have room for in Explicit VR.

    Source: PS3.5 6.2, 7.1.2.
    """
    if len(value) > _LONGEST_NUMBERS_BYTES:
        raise DataSetError("there are too many numbers")
    order = "<" if is_little_endian else ">"
    if vr == "AT":
        whole = value[: len(value) // _TAG_LENGTH * _TAG_LENGTH]
        return "\\".join(f"{g:04X}{e:04X}" for g, e in struct.iter_unpack(f"{order}HH", whole))
    code, length = _NUMBERS[vr]
    whole = value[: len(value) // length * length]
    return "\\".join(str(number) for (number,) in struct.iter_unpack(order + code, whole))


def decode_items(
    value: bytes,
    encoding: Encoding,
    character_sets: CharacterSets,
    allowance: Allowance | None = None,
    *,
    depth: int = 0,
) -> tuple[Item, ...]:
    """Return the items of a sequence, nested ones too.

    Args:
        value: the value field.
        encoding: of the items; see encoding_of_items.
        character_sets: of what the sequence is in; an item may have its own (rule C-25).
        allowance: what may be read of this and other sequences; None for one of its own.
        depth: the number of sequences around it.

    Raises:
        DataSetError: an item is damaged, they are nested too deeply, or there is too much of it.

    Source: PS3.5 7.5.
    """
    allowance = allowance or Allowance()
    if encoding.is_deflated:
        encoding = replace(encoding, is_deflated=False)  # what was in the stream is not
    items = read_items(value, encoding, allowance, depth)
    return _ItemDecoder(encoding, allowance).items(items, character_sets, depth)


def encoding_of_items(vr: str, encoding: Encoding) -> Encoding:
    """Return how the items of a sequence are encoded that was sent with a VR.

    Source: PS3.5 6.2.2 note 2 (UN holds Implicit VR Little Endian).
    """
    return encoding_of(IMPLICIT_VR_LITTLE_ENDIAN) if vr == "UN" else encoding


def encode_value(value: Value, vr: str, character_sets: CharacterSets, encoding: Encoding) -> bytes:
    """Return the value field for a value; what it decodes to is the value again.

    Raises:
        UnicodeEncodeError: the character sets cannot carry a text.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, tuple):
        return encode_items(_encode_item(item, character_sets, encoding) for item in value)
    if vr == "AT":
        tags = [int(tag, 16) for tag in value.split("\\") if tag]
        return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)
    if vr in _NUMBERS:
        code, _ = _NUMBERS[vr]
        number = float if code in "fd" else int
        return b"".join(struct.pack(f"<{code}", number(n)) for n in value.split("\\") if n)
    return encode_text(value, vr, character_sets)


def _encode_item(item: Item, character_sets: CharacterSets, encoding: Encoding) -> bytes:
    return encode_elements(
        (
            DataElement(tag, vr, encode_value(value, vr, character_sets, encoding))
            for tag, (vr, value) in item.items()
        ),
        encoding,
    )


@dataclass(frozen=True, slots=True)
class _ItemDecoder:
    """Decodes what was read of the items of one encoding."""

    encoding: Encoding
    allowance: Allowance

    def items(
        self, items: Sequence[ItemContents], character_sets: CharacterSets, depth: int
    ) -> tuple[Item, ...]:
        return tuple(self._item(item, character_sets, depth) for item in items)

    def _item(self, item: ItemContents, character_sets: CharacterSets, depth: int) -> Item:
        _, declared = item.get(SPECIFIC_CHARACTER_SET, ("", None))
        if isinstance(declared, bytes):
            character_sets = parse_character_sets(declared)
        decoded = {}
        for tag in sorted(item):
            vr, value = item[tag]
            dictionary_vr = vr_of(tag)
            if vr == "UN":
                vr = dictionary_vr
            # A sequence that should be none, or the other way round, would be damage to those who
            # are sent it in Implicit VR.
            is_sound = dictionary_vr == "UN" or (vr == "SQ") == (dictionary_vr == "SQ")
            if is_sound and _is_kept(tag):
                decoded[tag] = self._element(vr, value, character_sets, depth)
        return decoded

    def _element(
        self,
        vr: str,
        value: bytes | list[ItemContents],
        character_sets: CharacterSets,
        depth: int,
    ) -> ItemElement:
        if isinstance(value, list):
            return ItemElement(vr, self.items(value, character_sets, depth + 1))
        if vr == "SQ":  # sent as UN
            encoding = encoding_of_items("UN", self.encoding)
            items = decode_items(value, encoding, character_sets, self.allowance, depth=depth + 1)
            return ItemElement(vr, items)
        if vr in TEXT_VRS:
            return ItemElement(vr, decode_value(value, vr, character_sets))
        if vr in NUMBER_VRS:
            is_little_endian = self.encoding.is_little_endian
            return ItemElement(vr, decode_number(value, vr, is_little_endian=is_little_endian))
        return ItemElement(vr, value)


def _is_kept(tag: int) -> bool:
    """Tell whether an element is one of an item, and does not say how that was encoded.

    That will be another way: its character sets, and the length of a group.
    """
    is_of_item = tag >> 16 > LAST_GROUP_OF_NO_KEY and tag & 0xFFFF != 0
    return is_of_item and tag != SPECIFIC_CHARACTER_SET


@lru_cache(maxsize=_REMEMBERED_VALUES)
def _decode_remembered(value: bytes, terms: tuple[str, ...], vr: str) -> str:
    # The key has the terms, not the CharacterSets: their hash takes as long as all the rest.
    return _decode_anew(value, CharacterSets(terms), vr)


def _decode_anew(value: bytes, character_sets: CharacterSets, vr: str) -> str:
    text = decode_text(value, vr, character_sets)
    if "\\" not in text:
        return trim(text, vr)
    values = [trim(value, vr) for value in split_values(text, vr)]
    return "\\".join(values) if any(values) else ""
