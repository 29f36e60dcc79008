"""Element headers of a data set that is read piece by piece.

Source: PS3.5 7.1, 7.5.
"""

import struct
from typing import Final, NamedTuple

from pacsnode.conversion.byte_source import ByteSource
from pacsnode.conversion.errors import ConversionError
from pacsnode.dicom.data_elements import (
    FILLER_VRS,
    ITEM,
    ITEM_DELIMITATION,
    ITEM_GROUP,
    MAXIMUM_NESTING,
    SEQUENCE_DELIMITATION,
    SHORT_LENGTH_VRS,
    UNDEFINED_LENGTH,
)
from pacsnode.dicom.transfer_syntax import IMPLICIT_VR_LITTLE_ENDIAN, Encoding, encoding_of

_WINDOW_LENGTH: Final = 64 * 1024
_HEADER_LENGTH: Final = 8
_LONG_HEADER_LENGTH: Final = 12
_CUT_OFF: Final = "the data set ends within an element"
_IMPLICIT_LITTLE: Final = encoding_of(IMPLICIT_VR_LITTLE_ENDIAN)


class Header(NamedTuple):
    """The header of a Data Element, an item or a delimiter.

    Attributes:
        tag: group in the upper, element in the lower 16 bits.
        vr: empty where none is encoded.
        length: of the value, in bytes; UNDEFINED_LENGTH if a delimiter ends it.
        value_start: the position of the value.
    """

    tag: int
    vr: bytes
    length: int
    value_start: int


def walk_over(reader: "ElementReader") -> None:
    """See that the elements of a data set fill it to its end.

    Raises:
        ConversionError: they do not.
    """
    position, end = 0, reader.source.length
    while position < end:
        header = reader.header(position, end)
        if header.tag >> 16 == ITEM_GROUP:
            raise ConversionError("an item or a delimiter stands where an element should")
        position = reader.end_of_value(header, end)


class ElementReader:
    """Reads element headers of one source, most quickly in ascending order."""

    def __init__(self, source: ByteSource, encoding: Encoding) -> None:
        self.source = source
        self.encoding = encoding
        order = "<" if encoding.is_little_endian else ">"
        self._tag_and_length = struct.Struct(f"{order}HHL").unpack_from
        self._tag_vr_and_length = struct.Struct(f"{order}HH2sH").unpack_from
        self._length = struct.Struct(f"{order}L").unpack_from
        self._is_implicit_vr = encoding.is_implicit_vr
        self._window = b""
        self._window_start = 0

    def inside_unknown(self) -> "ElementReader":
        """Return what reads the items of an element of VR UN and undefined length.

        Source: PS3.5 6.2.2.
        """
        if self.encoding == _IMPLICIT_LITTLE:
            return self
        return ElementReader(self.source, _IMPLICIT_LITTLE)

    def header(self, position: int, end: int) -> Header:
        """Return the header at a position, in a data set or item that ends there.

        Raises:
            ConversionError: it does not end before the data set does.
        """
        if position + _HEADER_LENGTH > end:
            raise ConversionError(_CUT_OFF)
        at = self._window_position(position)
        if self._is_implicit_vr:
            group, number, length = self._tag_and_length(self._window, at)
            return Header(group << 16 | number, b"", length, position + _HEADER_LENGTH)
        group, number, vr, length = self._tag_vr_and_length(self._window, at)
        tag = group << 16 | number
        if vr in SHORT_LENGTH_VRS and group != ITEM_GROUP:
            return Header(tag, vr, length, position + _HEADER_LENGTH)
        if group == ITEM_GROUP or not (vr in FILLER_VRS or (vr.isalpha() and vr.isupper())):
            # As pacsnode.dicom.data_elements has it: some senders leave out the VR.
            (length,) = self._length(self._window, at + 4)
            return Header(tag, b"", length, position + _HEADER_LENGTH)
        if position + _LONG_HEADER_LENGTH > end:
            raise ConversionError(_CUT_OFF)
        (length,) = self._length(self._window, at + 8)
        known_vr = b"UN" if vr in FILLER_VRS else vr
        return Header(tag, known_vr, length, position + _LONG_HEADER_LENGTH)

    def item_header(self, position: int, end: int) -> Header:
        """Return the header of an item, or of the delimiter behind the last one.

        Raises:
            ConversionError: it is none of them, or does not end before the data set does.
        """
        if position + _HEADER_LENGTH > end:
            raise ConversionError(_CUT_OFF)
        at = self._window_position(position)
        group, number, length = self._tag_and_length(self._window, at)
        tag = group << 16 | number
        if tag not in (ITEM, SEQUENCE_DELIMITATION):
            raise ConversionError("a sequence holds something that is not an item")
        return Header(tag, b"", length, position + _HEADER_LENGTH)

    def value(self, header: Header) -> bytes:
        """Return the value of an element, most quickly a short one whose header was just read."""
        at = header.value_start - self._window_start
        if 0 <= at <= len(self._window) - header.length:
            return self._window[at : at + header.length]
        return self.source.read(header.value_start, header.length)

    def end_of_value(self, header: Header, end: int, depth: int = 0) -> int:
        """Return where what follows an element starts.

        Args:
            header: of the element.
            end: of the data set or item that it stands in.
            depth: the number of sequences around it.

        Raises:
            ConversionError: the value does not end before the data set does, or is damaged.
        """
        if header.length != UNDEFINED_LENGTH:
            if header.value_start + header.length > end:
                raise ConversionError(_CUT_OFF)
            return header.value_start + header.length
        if depth > MAXIMUM_NESTING:
            raise ConversionError("sequences are nested too deeply")
        reader = self.inside_unknown() if header.vr == b"UN" else self
        return reader._end_of_items(header.value_start, end, depth)  # noqa: SLF001 - its own kind

    def _end_of_items(self, position: int, end: int, depth: int) -> int:
        while True:
            item = self.item_header(position, end)
            if item.tag == SEQUENCE_DELIMITATION:
                return item.value_start
            position = self.end_of_item(item, end, depth)

    def end_of_item(self, item: Header, end: int, depth: int = 0) -> int:
        """Return where what follows an item starts; arguments and errors as for `end_of_value`."""
        if item.length != UNDEFINED_LENGTH:
            return self.end_of_value(item, end)
        position = item.value_start
        while True:
            header = self.header(position, end)
            if header.tag == ITEM_DELIMITATION:
                return header.value_start
            position = self.end_of_value(header, end, depth + 1)

    def _window_position(self, position: int) -> int:
        """Return where a position is in the window, which then holds the header there."""
        at = position - self._window_start
        if at < 0 or at + _LONG_HEADER_LENGTH > len(self._window):
            self._window = self.source.read(position, _WINDOW_LENGTH)
            self._window_start = position
            if len(self._window) < _HEADER_LENGTH:
                raise ConversionError(_CUT_OFF)
            return 0
        return at
