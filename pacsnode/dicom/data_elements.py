"""Data Elements as bytes: a walk over the element headers of a data set, and the way back.

The walk looks at every top-level element to the end of the data set, so that a truncated or
garbled one is noticed, but copies only the values it is asked for. Sequences and encapsulated
pixels are stepped over. It decodes no values: text needs the character sets (character_sets.py),
and a value that nobody asked for is nobody's business.

Source: PS3.5 7.1, 7.5, A.4.
"""

import struct
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from pydicom.datadict import dictionary_VR

from pacsnode.dicom.deflate import DeflateError, inflate
from pacsnode.dicom.transfer_syntax import Encoding

# PS3.5 table 7.1-1: two reserved bytes and a 32-bit length follow these VRs. A VR of a later
# edition is laid out like them as well.
SHORT_LENGTH_VRS: Final = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)
MAXIMUM_SHORT_LENGTH: Final = 0xFFFE
# No text that anybody wants to find is longer; but a sender may call a gigabyte a comment.
_LONGEST_WANTED_VALUE_BYTES: Final = 1024 * 1024
UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_HEADER_LENGTH: Final = 8
_LONG_HEADER_LENGTH: Final = 12
ITEM_GROUP: Final = 0xFFFE
ITEM: Final = 0xFFFEE000
ITEM_DELIMITATION: Final = 0xFFFEE00D
_ITEM_DELIMITATION_NUMBER: Final = ITEM_DELIMITATION & 0xFFFF
SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD
_ITEM_GROUPS: Final = frozenset({ITEM_GROUP})
_GROUPS_OF_NO_DATA_SET: Final = frozenset({0x0000, 0x0002, ITEM_GROUP})  # rule F-12
_PADDED_WITH_NUL: Final = frozenset({"UI", "OB", "UN"})  # PS3.5 6.2
FILLER_VRS: Final = frozenset({b"\0\0", b"  ", b"??"})
MAXIMUM_NESTING: Final = 64  # real ones have some six levels; recursion must not exhaust the stack

_DICTIONARY_ENTRIES_REMEMBERED: Final = 1024  # looking one up takes longer than reading a value
_CUT_IN_HEADER: Final = "the data set ends within an element's header"
_CUT_IN_VALUE: Final = "an element runs over the end of the data set"

Buffer = bytes | bytearray | memoryview


# VR and value field of an element.
Contents = tuple[str, bytes]


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
        value: the value field as it is encoded, padding and delimiters included.
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
        wanted: the tags to return; None returns all. If tags are given, values of more than 1 MiB
            are returned empty.
        takes_low_groups: groups 0000 and 0002 are taken as well: it is File Meta Information, or
            an identifier, whose reader drops them.

    Raises:
        DataSetError: an element runs over the end, a delimiter is missing or out of place, a group
            that no data set holds occurs (0000, 0002), or a deflated stream is broken.

    Source: PS3.5 7.1, A.5.
    """
    foreign_groups = _ITEM_GROUPS if takes_low_groups else _GROUPS_OF_NO_DATA_SET
    found = _find(data_set, encoding, wanted, foreign_groups)
    return {
        tag: DataElement(tag, vr, value, _count_items(value, encoding) if vr == "SQ" else 0)
        for tag, (vr, value) in found.items()
    }


def read_contents(
    data_set: Buffer, encoding: Encoding, wanted: Container[int]
) -> dict[int, Contents]:
    """Return VR and value field of the wanted top-level Data Elements of a data set by tag.

    They are those of `read_elements`, in less time.

    Raises:
        DataSetError: as `read_elements` does.
    """
    return _find(data_set, encoding, wanted, _GROUPS_OF_NO_DATA_SET)


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
        return Walk(view, encoding).end_of_group(group)


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
            value += b"\0" if element.vr in _PADDED_WITH_NUL else b" "
        group, number = element.tag >> 16, element.tag & 0xFFFF
        if encoding.is_implicit_vr:
            parts.append(struct.pack("<HHL", group, number, len(value)))
            parts.append(value)
            continue
        vr = element.vr.encode()
        if vr in SHORT_LENGTH_VRS and len(value) > MAXIMUM_SHORT_LENGTH:
            vr = b"UN"
        form = "<HH2sH" if vr in SHORT_LENGTH_VRS else "<HH2s2xL"
        parts.append(struct.pack(form, group, number, vr, len(value)))
        parts.append(value)
    return b"".join(parts)


def encode_items(items: Iterable[bytes]) -> bytes:
    """Return the value field of a sequence with these items, each an encoded data set.

    The items are those of `encode_elements`: little endian. Their lengths are explicit.

    Source: PS3.5 7.5.1.
    """
    return b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item for item in items)


def _find(
    data_set: Buffer,
    encoding: Encoding,
    wanted: Container[int] | None,
    foreign_groups: Container[int],
) -> dict[int, Contents]:
    """Return the contents of the wanted elements by tag."""
    is_whole = True
    if encoding.is_deflated:
        try:
            data_set, is_whole = inflate(data_set)
        except DeflateError as error:
            raise DataSetError(str(error)) from error
    # Released on the way out, also by an error whose traceback still knows it: a map of a file
    # could not be closed else.
    with memoryview(data_set) as view:
        walk = Walk(view, encoding)
        try:
            walk.find(wanted, foreign_groups)
        except _EndError:
            if is_whole:
                raise
            # Else a large element stands where the inflated data set was cut.
        return walk.found


def _count_items(value: bytes, encoding: Encoding) -> int:
    """Return how many items a sequence has."""
    with memoryview(value) as view:
        return Walk(view, encoding).count_items()


@dataclass(frozen=True, slots=True)
class _ByteOrder:
    """What reads the fields of element headers in one byte order, at a position of a data set."""

    name: Literal["little", "big"]
    tag_and_length: Callable[[memoryview, int], tuple[int, int, int]]
    tag_vr_and_length: Callable[[memoryview, int], tuple[int, int, bytes, int]]
    length: Callable[[memoryview, int], tuple[int]]


_LITTLE_ENDIAN: Final = _ByteOrder(
    "little",
    tag_and_length=struct.Struct("<HHL").unpack_from,
    tag_vr_and_length=struct.Struct("<HH2sH").unpack_from,
    length=struct.Struct("<L").unpack_from,
)
_BIG_ENDIAN: Final = _ByteOrder(
    "big",
    tag_and_length=struct.Struct(">HHL").unpack_from,
    tag_vr_and_length=struct.Struct(">HH2sH").unpack_from,
    length=struct.Struct(">L").unpack_from,
)


class Walk:
    """One walk over the element headers of a data set.

    `find` goes along the top level. A value with a length is jumped over unseen, be it a sequence
    or a gigabyte of pixels in a mapped file. `_end_of_items` and `_end_of_item` call each other to
    find where a value of undefined length ends.

    Every element of every instance that is received comes through the loop of `find` or that of
    `_end_of_item`. That is why these two read the usual headers in place and from local names: a
    call for each would make the walk a quarter longer. `_header` says the same once more for
    those who are in no hurry.

    Items are read by a kind of it (items.py).

    Attributes:
        found: contents of the wanted elements by tag, as far as `find` has come.
    """

    def __init__(self, data_set: memoryview, encoding: Encoding) -> None:
        self.found: dict[int, Contents] = {}
        self._data_set = data_set
        self._end = len(data_set)
        self._is_implicit_vr = encoding.is_implicit_vr
        self._order = _LITTLE_ENDIAN if encoding.is_little_endian else _BIG_ENDIAN

    def find(  # noqa: C901, PLR0912 - the loop in one piece: see above
        self, wanted: Container[int] | None, foreign_groups: Container[int]
    ) -> None:
        """Find the wanted elements of the top level, and see that all elements are sound."""
        data_set, end, is_implicit_vr = self._data_set, self._end, self._is_implicit_vr
        tag_and_length = self._order.tag_and_length
        tag_vr_and_length = self._order.tag_vr_and_length
        longest = _LONGEST_WANTED_VALUE_BYTES if wanted is not None else UNDEFINED_LENGTH - 1
        position = 0
        while position < end:
            if position + _HEADER_LENGTH > end:
                raise _EndError(_CUT_IN_HEADER)
            if is_implicit_vr:
                group, number, length = tag_and_length(data_set, position)
                vr, start = b"", position + _HEADER_LENGTH
            else:
                group, number, vr, length = tag_vr_and_length(data_set, position)
                if vr in SHORT_LENGTH_VRS and group != ITEM_GROUP:
                    start = position + _HEADER_LENGTH
                else:
                    vr, length, start = self._other_header(position, group, vr)
            if length == UNDEFINED_LENGTH:
                position = self._end_of_items(start, vr, is_implicit_vr=is_implicit_vr)
            else:
                position = start + length
                if position > end:
                    raise _EndError(_CUT_IN_VALUE)
            if group in foreign_groups:
                raise DataSetError(f"({group:04X},{number:04X}) has no place in a data set")
            tag = group << 16 | number
            if wanted is None or tag in wanted:
                value = bytes(data_set[start:position]) if position - start <= longest else b""
                self.found[tag] = vr.decode() if vr else vr_of(tag), value

    def end_of_group(self, group: int) -> int:
        """Return where the first element that is not of a group starts."""
        start_of_tag = group.to_bytes(2, self._order.name)
        is_implicit_vr = self._is_implicit_vr
        position = 0
        while self._data_set[position : position + 2] == start_of_tag:
            _, vr, length, position = self._header(position, is_implicit_vr=is_implicit_vr)
            if length == UNDEFINED_LENGTH:
                position = self._end_of_items(position, vr, is_implicit_vr=is_implicit_vr)
            else:
                position += length
            if position > self._end:
                raise _EndError(_CUT_IN_VALUE)
        return position

    def _header(self, position: int, *, is_implicit_vr: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty where none is encoded), length, and where the value starts."""
        start = position + _HEADER_LENGTH
        if start > self._end:
            raise _EndError(_CUT_IN_HEADER)
        if is_implicit_vr:
            group, number, length = self._order.tag_and_length(self._data_set, position)
            return group << 16 | number, b"", length, start
        group, number, vr, length = self._order.tag_vr_and_length(self._data_set, position)
        if vr not in SHORT_LENGTH_VRS or group == ITEM_GROUP:
            vr, length, start = self._other_header(position, group, vr)
        return group << 16 | number, vr, length, start

    def _other_header(self, position: int, group: int, vr: bytes) -> tuple[bytes, int, int]:
        """Return VR, length and start of the value where the header is not VR and 16-bit length."""
        if vr in FILLER_VRS and group != ITEM_GROUP:
            vr = b"UN"
        elif group == ITEM_GROUP or not (vr.isalpha() and vr.isupper()):
            # Items and delimiters have no VR. Some senders leave out the VR of other elements, too,
            # or write two spaces or NULs; their length then has 32 bits (as pydicom reads it).
            (length,) = self._order.length(self._data_set, position + 4)
            return b"", length, position + _HEADER_LENGTH
        if position + _LONG_HEADER_LENGTH > self._end:
            raise _EndError(_CUT_IN_HEADER)
        (length,) = self._order.length(self._data_set, position + 8)
        return vr, length, position + _LONG_HEADER_LENGTH

    def _end_of_items(
        self, position: int, vr: bytes, *, is_implicit_vr: bool, depth: int = 0
    ) -> int:
        """Return where a value of undefined length ends: a sequence, or encapsulated pixels.

        Args:
            position: of its first item.
            vr: of its element.
            is_implicit_vr: of the data set or item that its element stands in.
            depth: the number of such values around it.
        """
        if depth > MAXIMUM_NESTING:
            raise DataSetError("sequences are nested too deeply")
        # PS3.5 6.2.2 note: UN of undefined length holds Implicit VR Little Endian.
        is_implicit_vr = is_implicit_vr or vr == b"UN"
        data_set, end, tag_and_length = self._data_set, self._end, self._order.tag_and_length
        while True:
            if position + _HEADER_LENGTH > end:
                raise _EndError("a sequence has no end")
            group, number, length = tag_and_length(data_set, position)
            tag = group << 16 | number
            position += _HEADER_LENGTH
            if tag == SEQUENCE_DELIMITATION:
                return position
            if tag != ITEM:
                raise DataSetError("a sequence holds something that is not an item")
            if length == UNDEFINED_LENGTH:
                position = self._end_of_item(position, is_implicit_vr=is_implicit_vr, depth=depth)
                continue
            position += length
            if position > end:
                raise _EndError("an item runs over the end of the data set")

    def _end_of_item(self, position: int, *, is_implicit_vr: bool, depth: int) -> int:
        """Return where an item of undefined length ends, which stands in a sequence of a depth."""
        data_set, end = self._data_set, self._end
        tag_and_length = self._order.tag_and_length
        tag_vr_and_length = self._order.tag_vr_and_length
        while position + _HEADER_LENGTH <= end:
            if is_implicit_vr:
                group, number, length = tag_and_length(data_set, position)
                vr, start = b"", position + _HEADER_LENGTH
            else:
                group, number, vr, length = tag_vr_and_length(data_set, position)
                if vr in SHORT_LENGTH_VRS and group != ITEM_GROUP:
                    start = position + _HEADER_LENGTH
                else:
                    vr, length, start = self._other_header(position, group, vr)
            if group == ITEM_GROUP and number == _ITEM_DELIMITATION_NUMBER:
                return start
            if length == UNDEFINED_LENGTH:
                position = self._end_of_items(
                    start, vr, is_implicit_vr=is_implicit_vr, depth=depth + 1
                )
            else:
                position = start + length
                if position > end:
                    raise _EndError(_CUT_IN_VALUE)
        raise _EndError(_CUT_IN_HEADER)

    def count_items(self) -> int:
        """Return how many items a sequence has, whose value field this is."""
        is_implicit_vr = self._is_implicit_vr
        position = count = 0
        while position < self._end:
            tag, _, length, position = self._header(position, is_implicit_vr=True)
            if tag != ITEM:
                return count  # the delimiter of the sequence
            count += 1
            if length == UNDEFINED_LENGTH:
                position = self._end_of_item(position, is_implicit_vr=is_implicit_vr, depth=0)
            else:
                position += length
        return count


@lru_cache(maxsize=_DICTIONARY_ENTRIES_REMEMBERED)
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
