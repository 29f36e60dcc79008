"""Data Elements as bytes: a walk over the element headers of a data set, and the way back.

The walk looks at every top-level element to the end of the data set, so that a truncated or
garbled one is noticed, but copies only the values it is asked for. Sequences and encapsulated
pixels are stepped over. It decodes no values: text needs the character sets (character_sets.py),
and a value that nobody asked for is nobody's business.

Source: PS3.5 7.1, 7.5, A.4.
"""

import struct
import zlib
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import Final

from pydicom.datadict import dictionary_VR

from pacsnode.dicom.transfer_syntax import Encoding

# PS3.5 table 7.1-1: two reserved bytes and a 32-bit length follow these VRs. A VR of a later
# edition is laid out like them as well.
_SHORT_LENGTH_VRS: Final = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_MAXIMUM_SHORT_LENGTH: Final = 0xFFFE
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_ITEM_GROUP: Final = 0xFFFE
_ITEM: Final = 0xFFFEE000
_ITEM_DELIMITATION: Final = 0xFFFEE00D
_SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD
_GROUPS_OF_NO_DATA_SET: Final = frozenset({0x0000, 0x0002, _ITEM_GROUP})  # rule F-12
_MAXIMUM_NESTING: Final = 64  # real ones have some six levels; recursion must not exhaust the stack

# How much of an inflated data set is looked at: all that stands before the pixels fits in easily.
_INFLATED_HEADER_LENGTH: Final = 16 * 1024 * 1024
_INFLATE_STEP_LENGTH: Final = 1024 * 1024

Buffer = bytes | bytearray | memoryview


class DataSetError(ValueError):
    """A data set breaks the rules of encoding; the message says how, without any value."""


class _EndError(DataSetError):
    """The bytes end before the element does."""


@dataclass(frozen=True, slots=True)
class DataElement:
    """One Data Element.

    Attributes:
        tag: group in the upper, element in the lower 16 bits.
        vr: two capital letters; for an implicit VR the one of the data dictionary, else UN.
        value: the value field as it is encoded, padding included; empty if its length is undefined.
        item_count: of a sequence; 0 for any other element.
    """

    tag: int
    vr: str
    value: bytes
    item_count: int = 0


def read_elements(
    data_set: Buffer,
    encoding: Encoding,
    wanted: Container[int] | None = None,
    *,
    takes_low_groups: bool = False,
) -> dict[int, DataElement]:
    """Return the wanted top-level Data Elements of a data set by tag.

    Args:
        data_set: the whole encoded data set.
        encoding: of its Transfer Syntax.
        wanted: the tags to return; None returns all. Values of undefined length (sequences,
            encapsulated pixels) are returned empty.
        takes_low_groups: groups 0000 and 0002 are taken as well: it is File Meta Information, or
            an identifier, whose reader drops them.

    Raises:
        DataSetError: an element runs over the end, a delimiter is missing or out of place, a group
            that no data set holds occurs (0000, 0002), or a deflated stream is broken.

    Source: PS3.5 7.1, A.5.
    """
    foreign_groups = {_ITEM_GROUP} if takes_low_groups else _GROUPS_OF_NO_DATA_SET
    header, is_whole = _inflate(data_set) if encoding.is_deflated else (data_set, True)
    # Released on the way out, also by an error whose traceback still knows it: a map of a file
    # could not be closed else.
    with memoryview(header) as view:
        return _Walk(view, encoding, is_whole=is_whole).elements(wanted, foreign_groups)


def length_of_group(data_set: Buffer, encoding: Encoding, group: int) -> int:
    """Return how many bytes at the start of a data set belong to a group.

    What follows may be encoded in another way: nothing of it is looked at but its group.

    Args:
        data_set: starts with an element's header.
        encoding: of the group; not deflated.
        group: its number.

    Raises:
        DataSetError: the group is damaged, or does not end within these bytes.
    """
    with memoryview(data_set) as view:
        return _Walk(view, encoding, is_whole=True).end_of_group(group)


def encode_elements(elements: Iterable[DataElement], encoding: Encoding) -> bytes:
    """Return Data Elements as an encoded data set; values of odd length are padded.

    Args:
        elements: in ascending order of their tags. A value that its VR has no room for is given
            as UN (PS3.5 6.2.2 note 5).
        encoding: little endian and not deflated, as all encodings of identifiers are.

    Source: PS3.5 7.1.
    """
    parts: list[bytes] = []
    for element in elements:
        value = element.value
        if len(value) % 2:
            value += b"\0" if element.vr == "UI" else b" "
        group, number = element.tag >> 16, element.tag & 0xFFFF
        if encoding.is_implicit_vr:
            parts.append(struct.pack("<HHL", group, number, len(value)))
            parts.append(value)
            continue
        vr = element.vr.encode()
        if vr in _SHORT_LENGTH_VRS and len(value) > _MAXIMUM_SHORT_LENGTH:
            vr = b"UN"
        form = "<HH2sH" if vr in _SHORT_LENGTH_VRS else "<HH2s2xL"
        parts.append(struct.pack(form, group, number, vr, len(value)))
        parts.append(value)
    return b"".join(parts)


def _inflate(data_set: Buffer) -> tuple[bytes, bool]:
    """Return the first part of an inflated data set, and whether that is all of it.

    The rest is inflated as well, to see that the stream is sound, but not kept.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    header = bytearray()
    is_whole = True
    pending: bytes | memoryview = memoryview(data_set)
    try:
        while not stream.eof:
            inflated = stream.decompress(pending, _INFLATE_STEP_LENGTH)
            if not inflated and not stream.unconsumed_tail and not stream.eof:
                raise DataSetError("the deflated data set is cut off")
            if len(header) < _INFLATED_HEADER_LENGTH:
                header += inflated
            elif inflated:
                is_whole = False
            pending = stream.unconsumed_tail
    except zlib.error as error:
        raise DataSetError("the deflated data set is damaged") from error
    return bytes(header), is_whole


class _Walk:
    """One walk over the element headers of a data set."""

    def __init__(self, data_set: memoryview, encoding: Encoding, *, is_whole: bool) -> None:
        order = "<" if encoding.is_little_endian else ">"
        self._order = order
        self._data_set = data_set
        self._end = len(data_set)
        self._is_whole = is_whole
        self._is_implicit_vr = encoding.is_implicit_vr
        self._tag_and_length: Callable[[memoryview, int], tuple[int, int, int]] = struct.Struct(
            order + "HHL"
        ).unpack_from
        self._tag_vr_and_length: Callable[[memoryview, int], tuple[int, int, bytes, int]] = (
            struct.Struct(order + "HH2sH").unpack_from
        )
        self._long: Callable[[memoryview, int], tuple[int]] = struct.Struct(order + "L").unpack_from

    def elements(
        self, wanted: Container[int] | None, foreign_groups: Container[int]
    ) -> dict[int, DataElement]:
        """Return the wanted elements of the top level."""
        found: dict[int, DataElement] = {}
        position = 0
        while position < self._end:
            try:
                tag, vr, length, start = self._header(position, is_implicit_vr=self._is_implicit_vr)
                position = self._step_over(start, vr, length)
            except _EndError:
                if self._is_whole:
                    raise
                break  # a large element stands where the inflated data set was cut
            group = tag >> 16
            if group in foreign_groups:
                raise DataSetError(f"({group:04X},{tag & 0xFFFF:04X}) has no place in a data set")
            if wanted is None or tag in wanted:
                is_defined = length != _UNDEFINED_LENGTH
                value = bytes(self._data_set[start:position]) if is_defined else b""
                name = vr.decode() if vr else vr_of(tag)
                count = self._count_items(start, position) if name == "SQ" else 0
                found[tag] = DataElement(tag, name, value, count)
        return found

    def end_of_group(self, group: int) -> int:
        """Return where the first element that is not of a group starts."""
        start_of_tag = struct.pack(self._order + "H", group)
        position = 0
        while self._data_set[position : position + 2] == start_of_tag:
            _, vr, length, position = self._header(position, is_implicit_vr=self._is_implicit_vr)
            position = self._step_over(position, vr, length)
        return position

    def _header(self, position: int, *, is_implicit_vr: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty where none is encoded), length, and where the value starts."""
        if position + 8 > self._end:
            raise _EndError("the data set ends within an element's header")
        if is_implicit_vr:
            group, number, length = self._tag_and_length(self._data_set, position)
            return group << 16 | number, b"", length, position + 8
        group, number, vr, length = self._tag_vr_and_length(self._data_set, position)
        tag = group << 16 | number
        if group == _ITEM_GROUP or not (vr.isalpha() and vr.isupper()):
            # Items and delimiters have no VR. Some senders leave out the VR of other elements, too,
            # or write two spaces or NULs; their length then has 32 bits (as pydicom reads it).
            (length,) = self._long(self._data_set, position + 4)
            if group != _ITEM_GROUP and vr in {b"\0\0", b"  ", b"??"}:
                return self._long_header(tag, b"UN", position)
            return tag, b"", length, position + 8
        if vr in _SHORT_LENGTH_VRS:
            return tag, vr, length, position + 8
        return self._long_header(tag, vr, position)

    def _long_header(self, tag: int, vr: bytes, position: int) -> tuple[int, bytes, int, int]:
        if position + 12 > self._end:
            raise _EndError("the data set ends within an element's header")
        (length,) = self._long(self._data_set, position + 8)
        return tag, vr, length, position + 12

    def _step_over(self, position: int, vr: bytes, length: int) -> int:
        """Return where the element after a value starts."""
        if length == _UNDEFINED_LENGTH:
            # PS3.5 6.2.2 note: UN of undefined length holds Implicit VR Little Endian.
            is_implicit_vr = self._is_implicit_vr or vr == b"UN"
            return self._step_over_items(position, is_implicit_vr=is_implicit_vr, depth=0)
        if position + length > self._end:
            raise _EndError("an element runs over the end of the data set")
        return position + length

    def _step_over_items(self, position: int, *, is_implicit_vr: bool, depth: int) -> int:
        """Return where a sequence, or encapsulated pixels, of undefined length end."""
        if depth > _MAXIMUM_NESTING:
            raise DataSetError("sequences are nested too deeply")
        while True:
            if position + 8 > self._end:
                raise _EndError("a sequence has no end")
            group, number, length = self._tag_and_length(self._data_set, position)
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
                raise _EndError("an item runs over the end of the data set")
            else:
                position += length

    def _count_items(self, position: int, end: int) -> int:
        """Return how many items a sequence has, whose value lies between two positions."""
        count = 0
        while position < end:
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


def vr_of(tag: int) -> str:
    """Return the VR that the data dictionary gives to a tag; UN where it has none.

    Source: PS3.6 6; PS3.5 7.8.1 (private creators are LO).
    """
    group, element = tag >> 16, tag & 0xFFFF
    if element == 0:
        return "UL"
    if group % 2:
        return "LO" if 0x0010 <= element <= 0x00FF else "UN"  # noqa: PLR2004 - private creators
    try:
        return dictionary_VR(tag)[:2]  # "OB or OW" gives its first; we decode neither
    except KeyError:
        return "UN"
