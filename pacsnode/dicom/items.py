"""The items of a sequence: read in one go, nested ones too, and only so many.

A sequence of a few kilobytes can hold thousands of items that say nothing, and sequences within
them. So whoever reads has an allowance, which is the same for all that a level of a data set has.

Source: PS3.5 7.5, 6.2.2.
"""

from dataclasses import dataclass
from typing import Final

from pacsnode.dicom.data_elements import (
    ITEM,
    ITEM_DELIMITATION,
    ITEM_GROUP,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Buffer,
    DataSetError,
    Walk,
    vr_of,
)
from pacsnode.dicom.transfer_syntax import Encoding

MAXIMUM_DEPTH: Final = 16  # sequences within sequences; real ones have some six

# VR and value field of each element of an item, or its items, by tag.
ItemContents = dict[int, tuple[str, "bytes | list[ItemContents]"]]


@dataclass(slots=True)
class Allowance:
    """How much of sequences is still read; what is beyond is refused before it costs time.

    Attributes:
        bytes_left: of value fields. No sequence that anybody asks for in a query is longer.
        elements_left: items and their elements, nested ones too. The longest lists that instances
            refer to others by have some thousands.
    """

    bytes_left: int = 1024 * 1024
    elements_left: int = 20_000


def read_items(
    value: Buffer, encoding: Encoding, allowance: Allowance, depth: int = 0
) -> list[ItemContents]:
    """Return what the items of a sequence hold.

    An element without a VR has that of the data dictionary. A sequence that was sent as UN with a
    length is not looked into: it is encoded in a way of its own. Encapsulated pixels are left out.

    Args:
        value: the value field, with or without the delimiter of the sequence.
        encoding: of the items; not deflated.
        allowance: what may be read; it becomes less.
        depth: the number of sequences around it.

    Raises:
        DataSetError: an item is damaged, they are nested too deeply, or there is too much of it.

    Source: PS3.5 7.5, 6.2.2 note 2.
    """
    allowance.bytes_left -= len(value)
    if allowance.bytes_left < 0:
        raise DataSetError("sequences are too long")
    with memoryview(value) as view:
        walk = _ItemWalk(view, encoding, allowance)
        items, _ = walk.items(0, len(view), is_implicit_vr=encoding.is_implicit_vr, depth=depth)
    return items


class _ItemWalk(Walk):
    """One walk through the items of a sequence; `items` and `_item` call each other."""

    def __init__(self, value: memoryview, encoding: Encoding, allowance: Allowance) -> None:
        super().__init__(value, encoding)
        self._allowance = allowance

    def items(
        self, position: int, end: int, *, is_implicit_vr: bool, depth: int, has_end: bool = True
    ) -> tuple[list[ItemContents], int]:
        """Return the items of a sequence, and where it ends.

        Args:
            position: of its first item.
            end: of the sequence, or of what it is in, where it has no length.
            is_implicit_vr: of the items.
            depth: the number of sequences around it.
            has_end: it may end there; else it has no length, and has to have a delimiter.
        """
        if depth > MAXIMUM_DEPTH:
            raise DataSetError("sequences are nested too deeply")
        items: list[ItemContents] = []
        while position < end:
            tag, _, length, position = self._header(position, is_implicit_vr=True)
            if tag == SEQUENCE_DELIMITATION:
                return items, position
            if tag != ITEM:
                raise DataSetError("a sequence holds something that is not an item")
            has_length = length != UNDEFINED_LENGTH
            end_of_item = position + length if has_length else end
            if end_of_item > end:
                raise DataSetError("an item runs over the end of its sequence")
            item, position = self._item(
                position,
                end_of_item,
                is_implicit_vr=is_implicit_vr,
                depth=depth,
                has_end=has_length,
            )
            items.append(item)
        if position > end or not has_end:
            raise DataSetError("a sequence has no end")
        return items, end

    def _item(
        self, position: int, end: int, *, is_implicit_vr: bool, depth: int, has_end: bool
    ) -> tuple[ItemContents, int]:
        """Return what an item holds, and where the next one starts; as `items` does."""
        self._count_one()
        item: ItemContents = {}
        while position < end:
            tag, vr, length, start = self._header(position, is_implicit_vr=is_implicit_vr)
            if tag == ITEM_DELIMITATION and not has_end:
                return item, start
            if tag >> 16 == ITEM_GROUP:
                raise DataSetError("an item holds a delimiter of something else")
            self._count_one()
            has_length = length != UNDEFINED_LENGTH
            position = start + length if has_length else end
            if position > end:
                raise DataSetError("an element runs over the end of its item")
            name = vr.decode() if vr else vr_of(tag)
            if name == "SQ" or (name == "UN" and not has_length):
                items, position = self.items(
                    start,
                    position,
                    is_implicit_vr=is_implicit_vr or vr == b"UN",
                    depth=depth + 1,
                    has_end=has_length,
                )
                item[tag] = "SQ", items
            elif has_length:
                item[tag] = name, bytes(self._data_set[start:position])
            else:
                position = self._end_of_items(start, vr, is_implicit_vr=is_implicit_vr)
        if position > end or not has_end:
            raise DataSetError("an item has no end")
        return item, position

    def _count_one(self) -> None:
        self._allowance.elements_left -= 1
        if self._allowance.elements_left < 0:
            raise DataSetError("sequences have too many elements")
