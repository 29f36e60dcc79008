"""One key of a request identifier: what it asks for, be it a value or the item of a sequence.

Source: PS3.4 C.2.2.2, C.2.2.2.6.
"""

from collections.abc import Mapping
from typing import Final

from pydicom.datadict import dictionary_VM

from pacsnode.dicom.attributes import MATCHED_VRS, Attribute, tag_text
from pacsnode.dicom.character_sets import CharacterSets
from pacsnode.dicom.data_elements import DataElement, DataSetError, vr_of
from pacsnode.dicom.items import Allowance
from pacsnode.dicom.matching import WILD_CARD_VRS, ItemKey, ItemMatching, Matching, Universal
from pacsnode.dicom.matching_keys import MalformedKey, parse_matching_key
from pacsnode.dicom.query import ItemRequest, QueryOptions
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.text_values import NUMBER_VRS
from pacsnode.dicom.transfer_syntax import Encoding
from pacsnode.dicom.values import (
    Item,
    decode_items,
    decode_number,
    decode_value,
    encoding_of_items,
)

# Of a key's text, several values included. The longest value that a person asks for has 64; what
# is beyond this serves nobody, and a database has limits of its own for patterns.
_MAXIMUM_KEY_LENGTH: Final = 1024
# Of all keys but lists of UIDs: they become one statement.
_MAXIMUM_LENGTH_OF_ALL: Final = 4096
_MAXIMUM_ITEM_ELEMENTS: Final = 500
# Sequences within sequences; real ones have three. A database nests conditions only so far.
_MAXIMUM_DEPTH: Final = 4
_FIRST_PRIVATE_CREATOR, _LAST_PRIVATE_CREATOR = 0x0010, 0x00FF  # PS3.5 7.8.1
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


class KeyReader:
    """Reads the keys of one identifier.

    Attributes:
        has_ignored_values: a key within an item has a value that cannot be matched (rule D-5b).
    """

    def __init__(
        self, encoding: Encoding, character_sets: CharacterSets, options: QueryOptions
    ) -> None:
        """Take what holds for all keys: how they are encoded, and how they are understood."""
        self._encoding = encoding
        self._character_sets = character_sets
        self._options = options
        self._length_left = _MAXIMUM_LENGTH_OF_ALL
        self._allowance = Allowance(elements_left=_MAXIMUM_ITEM_ELEMENTS)
        self.has_ignored_values = False

    def text(self, element: DataElement, vr: str) -> str:
        """Return the text of a key that is no sequence."""
        if vr in NUMBER_VRS - {"DS", "IS"} or vr == "AT":
            is_little_endian = self._encoding.is_little_endian
            try:
                return decode_number(element.value, vr, is_little_endian=is_little_endian)
            except DataSetError as error:
                raise _undecodable(error) from error
        return decode_value(element.value, vr, self._character_sets)

    def matching(self, attribute: Attribute, element: DataElement) -> Matching:
        """Return what a key asks for that is no sequence.

        Raises:
            DimseFailure: 0xA900, it is malformed or too long; 0xC001, it cannot be decoded.
        """
        text = self.text(element, attribute.vr)
        return self._matching(attribute.vr, text, element.tag, is_multiple=attribute.is_multiple)

    def item(self, element: DataElement) -> tuple[ItemRequest | None, ItemMatching | None]:
        """Return what a sequence key asks to be returned, and which items are to match.

        Either is None where it is all: no item, or an empty one, asks for the whole sequence.

        Raises:
            DimseFailure: 0xA900, it has more than one item, or a key in it is malformed; 0xC001, it
                cannot be decoded.

        Source: PS3.4 C.2.2.2.6; rules C-26, B-19.
        """
        if not element.value:
            return None, None
        encoding = encoding_of_items(element.vr, self._encoding)
        try:
            items = decode_items(element.value, encoding, self._character_sets, self._allowance)
        except DataSetError as error:
            raise _undecodable(error) from error
        return self._request(items, element.tag)

    def _request(
        self, items: tuple[Item, ...], sequence_tag: int, depth: int = 1
    ) -> tuple[ItemRequest | None, ItemMatching | None]:
        if len(items) > 1:
            raise refused(sequence_tag, "takes one item only")
        if depth > _MAXIMUM_DEPTH:
            raise refused(sequence_tag, "is nested too deeply")
        elements: dict[int, tuple[str, ItemRequest | None]] = {}
        keys: list[ItemKey] = []
        for tag, (encoded_vr, value) in (items[0] if items else {}).items():
            if (tag >> 16) % 2:
                continue  # rule D-11: which block its creator has in the stored items is not known
            vr = encoded_vr if vr_of(tag) == "UN" else vr_of(tag)
            matching: Matching = Universal()
            nested = None
            if isinstance(value, tuple):
                vr = "SQ"
                nested, item_matching = self._request(value, tag, depth + 1)
                matching = item_matching or matching
            elif isinstance(value, str) and vr in MATCHED_VRS and vr != "SQ":
                matching = self._matching(vr, value, tag, is_multiple=_is_multiple(tag))
            else:
                self.has_ignored_values |= bool(value)
            elements[tag] = vr, nested
            if not isinstance(matching, Universal):
                keys.append(ItemKey(tag, vr, matching))
        return (
            ItemRequest(elements) if elements else None,
            ItemMatching(tuple(keys)) if keys else None,
        )

    def _matching(self, vr: str, text: str, tag: int, *, is_multiple: bool) -> Matching:
        if not self._character_sets.is_known and vr in WILD_CARD_VRS:
            # Rule D-17: the bytes that nobody can read may be any character.
            text = text.replace(_REPLACEMENT, "?")
        if vr != "UI":
            self._length_left -= len(text)
            if len(text) > _MAXIMUM_KEY_LENGTH or self._length_left < 0:
                raise refused(tag, "is too long")
        options = self._options
        try:
            return parse_matching_key(
                vr,
                text,
                empty_value=options.empty_value,
                multiple_values=options.multiple_values and is_multiple,
                offset_minutes=options.offset_minutes,
                names=options.names,
            )
        except MalformedKey as error:
            raise refused(tag, f"is malformed: {error}") from error


def private_creators_of(
    elements: Mapping[int, DataElement], character_sets: CharacterSets
) -> Mapping[int, str]:
    """Return the name of the creator of each private block of a data set, by the creator's tag.

    Source: PS3.5 7.8.1.
    """
    return {
        tag: decode_value(element.value, "LO", character_sets)
        for tag, element in elements.items()
        if (tag >> 16) % 2 and _FIRST_PRIVATE_CREATOR <= tag & 0xFFFF <= _LAST_PRIVATE_CREATOR
    }


def refused(tag: int, reason: str, keyword: str = "") -> DimseFailure:
    """Return the refusal of a key that breaks the rules (rules B-18, B-19)."""
    name = f"{tag_text(tag)} {keyword}" if keyword else tag_text(tag)
    return DimseFailure(Status.IDENTIFIER_DOES_NOT_MATCH, f"{name} {reason}", tag)


def _is_multiple(tag: int) -> bool:
    try:
        return dictionary_VM(tag) != "1"
    except KeyError:
        return False


def _undecodable(error: DataSetError) -> DimseFailure:
    return DimseFailure(Status.IDENTIFIER_UNDECODABLE, f"identifier undecodable: {error}")
