"""The walk over Data Elements as plainly as it can be written: what the fast one is held against.

Each element header is read by one method, each rule stands in one place, and nothing is done for
speed.

Source: PS3.5 7.1, 7.5, A.4.
"""

import struct
from collections.abc import Container
from dataclasses import replace

from pacsnode.dicom.data_elements import DataElement, DataSetError, vr_of
from pacsnode.dicom.transfer_syntax import Encoding

_SHORT_LENGTH_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM_GROUP = 0xFFFE
_ITEM = 0xFFFEE000
_ITEM_DELIMITATION = 0xFFFEE00D
_SEQUENCE_DELIMITATION = 0xFFFEE0DD
_MAXIMUM_NESTING = 64


class EndError(DataSetError):
    """The bytes end before the element does."""


class PlainWalk:
    """One walk over the element headers of a data set."""

    def __init__(self, data_set: bytes, encoding: Encoding, *, is_whole: bool = True) -> None:
        """Begin at the start.

        Args:
            data_set: not deflated.
            encoding: of it.
            is_whole: False if the bytes were cut off behind what is of interest.
        """
        self._order = "<" if encoding.is_little_endian else ">"
        self._data_set = data_set
        self._end = len(data_set)
        self._is_whole = is_whole
        self._is_implicit_vr = encoding.is_implicit_vr

    def elements(
        self,
        wanted: Container[int] | None,
        foreign_groups: Container[int],
        *,
        counts: bool = True,
    ) -> dict[int, DataElement]:
        """Return the wanted elements of the top level, or raise DataSetError.

        Args:
            wanted: their tags; None for all.
            foreign_groups: those that have no place in it.
            counts: the items of sequences are counted.
        """
        found: dict[int, DataElement] = {}
        position = 0
        while position < self._end:
            try:
                tag, vr, length, start = self._header(position, is_implicit_vr=self._is_implicit_vr)
                position = self._step_over(start, vr, length)
                if tag >> 16 in foreign_groups:
                    place = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
                    raise DataSetError(f"{place} has no place in a data set")
                if wanted is None or tag in wanted:
                    name = vr.decode() if vr else vr_of(tag)
                    found[tag] = DataElement(tag, name, self._data_set[start:position])
            except EndError:
                if self._is_whole:
                    raise
                break
        if not counts:
            return found
        return {tag: replace(e, item_count=self._count(e)) for tag, e in found.items()}

    def end_of_group(self, group: int) -> int:
        """Return where the first element that is not of a group starts, or raise DataSetError."""
        start_of_tag = struct.pack(self._order + "H", group)
        position = 0
        while self._data_set[position : position + 2] == start_of_tag:
            _, vr, length, position = self._header(position, is_implicit_vr=self._is_implicit_vr)
            position = self._step_over(position, vr, length)
        return position

    def _count(self, element: DataElement) -> int:
        """Return how many items an element has."""
        if element.vr != "SQ":
            return 0
        encoding = Encoding(self._is_implicit_vr, self._order == "<", is_deflated=False)
        return PlainWalk(element.value, encoding)._count_items()

    def _header(self, position: int, *, is_implicit_vr: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty where none is encoded), length, and where the value starts."""
        if position + 8 > self._end:
            raise EndError("the data set ends within an element's header")
        if is_implicit_vr:
            group, number, length = struct.unpack_from(
                self._order + "HHL", self._data_set, position
            )
            return group << 16 | number, b"", length, position + 8
        group, number, vr, length = struct.unpack_from(
            self._order + "HH2sH", self._data_set, position
        )
        tag = group << 16 | number
        if group == _ITEM_GROUP or not (vr.isalpha() and vr.isupper()):
            # Items and delimiters have no VR. Some senders leave out the VR of other elements, too,
            # or write two spaces or NULs; their length then has 32 bits (as pydicom reads it).
            (length,) = struct.unpack_from(self._order + "L", self._data_set, position + 4)
            if group != _ITEM_GROUP and vr in {b"\0\0", b"  ", b"??"}:
                return self._long_header(tag, b"UN", position)
            return tag, b"", length, position + 8
        if vr in _SHORT_LENGTH_VRS:
            return tag, vr, length, position + 8
        return self._long_header(tag, vr, position)

    def _long_header(self, tag: int, vr: bytes, position: int) -> tuple[int, bytes, int, int]:
        if position + 12 > self._end:
            raise EndError("the data set ends within an element's header")
        (length,) = struct.unpack_from(self._order + "L", self._data_set, position + 8)
        return tag, vr, length, position + 12

    def _step_over(self, position: int, vr: bytes, length: int) -> int:
        """Return where the element after a value starts."""
        if length == _UNDEFINED_LENGTH:
            # PS3.5 6.2.2 note: UN of undefined length holds Implicit VR Little Endian.
            is_implicit_vr = self._is_implicit_vr or vr == b"UN"
            return self._step_over_items(position, is_implicit_vr=is_implicit_vr, depth=0)
        if position + length > self._end:
            raise EndError("an element runs over the end of the data set")
        return position + length

    def _step_over_items(self, position: int, *, is_implicit_vr: bool, depth: int) -> int:
        """Return where a sequence, or encapsulated pixels, of undefined length end."""
        if depth > _MAXIMUM_NESTING:
            raise DataSetError("sequences are nested too deeply")
        while True:
            if position + 8 > self._end:
                raise EndError("a sequence has no end")
            group, number, length = struct.unpack_from(
                self._order + "HHL", self._data_set, position
            )
            tag = group << 16 | number
            position += 8
            if tag == _SEQUENCE_DELIMITATION:
                return position
            if tag != _ITEM:
                raise DataSetError("a sequence holds something that is not an item")
            if length == _UNDEFINED_LENGTH:
                position = self._step_over_item(
                    position, is_implicit_vr=is_implicit_vr, depth=depth
                )
            elif position + length > self._end:
                raise EndError("an item runs over the end of the data set")
            else:
                position += length

    def _count_items(self) -> int:
        """Return how many items a sequence has, whose value field this is."""
        position = count = 0
        while position < self._end:
            tag, _, length, position = self._header(position, is_implicit_vr=True)
            if tag != _ITEM:
                return count  # the delimiter of the sequence
            count += 1
            if length == _UNDEFINED_LENGTH:
                is_implicit_vr = self._is_implicit_vr
                position = self._step_over_item(position, is_implicit_vr=is_implicit_vr, depth=0)
            else:
                position += length
        return count

    def _step_over_item(self, position: int, *, is_implicit_vr: bool, depth: int) -> int:
        """Return where an item of undefined length ends."""
        while True:
            tag, vr, length, position = self._header(position, is_implicit_vr=is_implicit_vr)
            if tag == _ITEM_DELIMITATION:
                return position
            if length != _UNDEFINED_LENGTH:
                position = self._step_over(position, vr, length)
            else:
                position = self._step_over_items(
                    position,
                    is_implicit_vr=is_implicit_vr or vr == b"UN",
                    depth=depth + 1,
                )
