"""Where each frame of encapsulated Pixel Data is.

Source: PS3.5 A.4, A.4.12 (offset tables).
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from pacsnode.conversion.byte_source import ByteSource
from pacsnode.conversion.element_reader import ElementReader, Header
from pacsnode.conversion.errors import ConversionError
from pacsnode.conversion.span import EXTENDED_OFFSET_TABLE, PIXEL_DATA, Span
from pacsnode.dicom.data_elements import SEQUENCE_DELIMITATION, UNDEFINED_LENGTH

# What each codestream starts with: SOI and the next marker; SOC and SIZ. A fragment inside of one
# cannot start like that.
_STARTS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
_LONGEST_START: Final = 4
_ITEM_HEADER_LENGTH: Final = 8
_MOST_FRAGMENTS: Final = 4 * 1024 * 1024
_PIECE_LENGTH: Final = 256 * 1024
_DAMAGED: Final = "the fragments of the pixels are damaged"
_DO_NOT_FIT: Final = "the pixels do not have as many frames as Number of Frames says"


@dataclass(frozen=True, slots=True)
class _OffsetTable:
    """Where an offset table is, and the type code of its entries for `array`."""

    start: int
    length: int
    type_code: str


@dataclass(frozen=True, slots=True)
class EncapsulatedFrame:
    """The fragments of one frame: where each starts, and how long each is."""

    source: ByteSource
    starts: Sequence[int]
    lengths: Sequence[int]

    @property
    def length(self) -> int:
        """The number of bytes of all fragments."""
        return sum(self.lengths)

    def pieces(self, piece_length: int) -> Iterator[bytes]:
        """Yield the bytes of all fragments in pieces of at most a length."""
        for start, length in zip(self.starts, self.lengths, strict=True):
            for offset in range(0, length, piece_length):
                yield self.source.read(start + offset, min(piece_length, length - offset))


def encapsulated_frames(span: Span, number_of_frames: int) -> Iterator[EncapsulatedFrame]:
    """Yield the frames of the Pixel Data of a data set or item.

    Fragments belong to frames one by one where their numbers are equal; else as the Extended or the
    Basic Offset Table says, else as codestreams start.

    Raises:
        ConversionError: the Pixel Data are damaged, or do not have that many frames.

    Source: PS3.5 A.4.
    """
    header = span.header(PIXEL_DATA)
    if header is None or header.length != UNDEFINED_LENGTH:
        raise ConversionError("the pixels are not encapsulated")
    table, starts, lengths = _fragments(span.reader, header, span.end)
    firsts = _firsts_of_frames(span, table, (starts, lengths), number_of_frames)
    for first, last in zip(firsts, chain(islice(firsts, 1, None), (len(starts),)), strict=True):
        yield EncapsulatedFrame(span.reader.source, starts[first:last], lengths[first:last])


def _fragments(
    reader: ElementReader, header: Header, end: int
) -> tuple[_OffsetTable, "array[int]", "array[int]"]:
    """Return the Basic Offset Table, and start and length of each fragment."""
    item = reader.item_header(header.value_start, end)
    if item.tag == SEQUENCE_DELIMITATION:
        raise ConversionError(_DO_NOT_FIT)
    if item.length == UNDEFINED_LENGTH:
        raise ConversionError(_DAMAGED)
    position = reader.end_of_item(item, end)
    table = _OffsetTable(item.value_start, item.length, "I")
    starts, lengths = array("Q"), array("Q")
    while (item := reader.item_header(position, end)).tag != SEQUENCE_DELIMITATION:
        if item.length == UNDEFINED_LENGTH or len(starts) >= _MOST_FRAGMENTS:
            raise ConversionError(_DAMAGED)
        position = reader.end_of_item(item, end)
        starts.append(item.value_start)
        lengths.append(item.length)
    return table, starts, lengths


def _firsts_of_frames(
    span: Span,
    basic_table: _OffsetTable,
    fragments: tuple["array[int]", "array[int]"],
    number_of_frames: int,
) -> Sequence[int]:
    """Return the index of the first fragment of each frame."""
    starts, _ = fragments
    if len(starts) == number_of_frames:
        return range(number_of_frames)
    if len(starts) < number_of_frames:
        raise ConversionError(_DO_NOT_FIT)
    source = span.reader.source
    for table in (_extended_table(span), basic_table):
        offsets = None if table is None else _offsets(source, table, number_of_frames)
        firsts = None if offsets is None else _indexes(starts, offsets)
        if firsts is not None:
            return firsts
    firsts = _codestream_starts(source, fragments)
    if len(firsts) != number_of_frames or firsts[0] != 0:
        raise ConversionError(_DO_NOT_FIT)
    return firsts


def _extended_table(span: Span) -> _OffsetTable | None:
    header = span.header(EXTENDED_OFFSET_TABLE)
    return None if header is None else _OffsetTable(header.value_start, header.length, "Q")


def _offsets(source: ByteSource, table: _OffsetTable, number_of_frames: int) -> "array[int] | None":
    """Return the entries of a table; None if it is not as long as one for that many frames is.

    Only such a one is read: a damaged file may have gigabytes in its place.
    """
    offsets = array(table.type_code)
    if table.length != number_of_frames * offsets.itemsize:
        return None
    for position in range(0, table.length, _PIECE_LENGTH):
        length = min(_PIECE_LENGTH, table.length - position)
        offsets.frombytes(source.read(table.start + position, length))
    return offsets


def _indexes(starts: "array[int]", offsets: "array[int]") -> "array[int] | None":
    """Return the index of the fragment at each offset; None if the table is not sound."""
    if offsets[0] != 0:
        return None
    indexes = array("I")
    index = -1
    for offset in offsets:
        start = starts[0] + offset
        index = bisect_left(starts, start, index + 1)
        if index == len(starts) or starts[index] != start:
            return None
        indexes.append(index)
    return indexes


def _codestream_starts(
    source: ByteSource, fragments: tuple["array[int]", "array[int]"]
) -> "array[int]":
    """Return the indexes of the fragments that a codestream starts with."""
    return array(
        "I",
        (
            index
            for index, (start, length) in enumerate(zip(*fragments, strict=True))
            if source.read(start, min(length, _LONGEST_START)).startswith(_STARTS)
        ),
    )
