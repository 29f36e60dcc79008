"""A data set in another native encoding, element by element.

Values stay what they are, but for the byte order of numbers; one of odd length, which none may
have, is padded. Sequences keep the form of their length, defined or not, and their lengths are
counted anew.

Group Length (gggg,0000) and Length to End (0008,0001) are left out: they are retired, count bytes
of the old encoding, and whoever re-encodes may drop them (PS3.5 7.2).

Source: PS3.5 6.2.2, 7.1, 7.3, 7.5, A.1 to A.5; rules E-33, E-36.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from pacsnode.conversion.assembly import Assembly, swapped
from pacsnode.conversion.byte_source import ByteSource
from pacsnode.conversion.element_reader import ElementReader, Header
from pacsnode.conversion.element_writer import (
    HeaderWriter,
    padding_of,
    vr_with_room,
    word_bytes_of,
)
from pacsnode.conversion.errors import ConversionError
from pacsnode.conversion.span import BITS_ALLOCATED, PIXEL_DATA, Span
from pacsnode.conversion.vr_choice import vr_of_implicit
from pacsnode.dicom.data_elements import (
    ITEM_DELIMITATION,
    ITEM_GROUP,
    MAXIMUM_NESTING,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
)
from pacsnode.dicom.transfer_syntax import Encoding

_LENGTH_TO_END: Final = 0x00080001
_BITS_OF_A_BYTE: Final = 8
_LONGEST_SHORT_VALUE: Final = 1024


@dataclass(frozen=True, slots=True)
class Substitute:
    """What stands in the new data set instead of an element of the old one.

    Attributes:
        vr: of the new element.
        value: of the new element, in little endian, of even length.
    """

    vr: bytes
    value: ByteSource


Substitutes = Mapping[int, Substitute | None]


class Substituter(Protocol):
    """Says which elements are replaced, in each data set and item."""

    def substitutes(self, span: Span) -> Substitutes:
        """Return by tag what is put in the place of elements, or added; None leaves one out."""


class Recoder:
    """Writes one data set in another encoding."""

    def __init__(
        self,
        reader: ElementReader,
        source: ByteSource,
        encoding: Encoding,
        assembly: Assembly,
        substituter: Substituter | None = None,
    ) -> None:
        """Prepare to write a data set.

        Args:
            reader: of the data set, which is not deflated.
            source: the data set as well; the new one is read from it later on.
            encoding: of the new data set; deflating is not looked at.
            assembly: takes the new data set.
            substituter: None if nothing is to be replaced.
        """
        self._reader = reader
        self._writer = HeaderWriter(encoding)
        self._source = source
        self._assembly = assembly
        self._substituter = substituter
        self._swaps = reader.encoding.is_little_endian != encoding.is_little_endian
        self._swaps_substitutes = not encoding.is_little_endian

    def write(self) -> None:
        """Write the whole data set.

        Raises:
            ConversionError: it is damaged, or cannot be said in the new encoding, or cannot be put
                aside.
            OSError: it cannot be read.
        """
        self._write_elements(Span(self._reader, 0, self._source.length), 0)

    def _write_elements(self, span: Span, depth: int) -> int:
        """Write the elements of a data set or item; return where what follows it starts."""
        substitutes: dict[int, Substitute | None] = {}
        if self._substituter is not None:
            substitutes = dict(sorted(self._substituter.substitutes(span).items()))
        position = span.start
        while span.is_delimited or position < span.end:
            header = self._reader.header(position, span.end)
            if header.tag == ITEM_DELIMITATION and span.is_delimited:
                self._write_substitutes(substitutes, UNDEFINED_LENGTH)
                return header.value_start
            if header.tag >> 16 == ITEM_GROUP:
                raise ConversionError("an item or a delimiter stands where an element should")
            if substitutes:
                self._write_substitutes(substitutes, header.tag)
            if header.tag in substitutes:
                self._write_substitute(header.tag, substitutes.pop(header.tag))
                position = self._reader.end_of_value(header, span.end)
            else:
                position = self._write_element(header, span, depth)
        self._write_substitutes(substitutes, UNDEFINED_LENGTH)
        return position

    def _write_substitutes(self, substitutes: dict[int, Substitute | None], before: int) -> None:
        """Write those that the old data set has no element for, up to a tag."""
        while substitutes and (tag := next(iter(substitutes))) < before:
            self._write_substitute(tag, substitutes.pop(tag))

    def _write_substitute(self, tag: int, substitute: Substitute | None) -> None:
        if substitute is None:
            return
        value, vr = substitute.value, substitute.vr
        self._assembly.add(self._writer.element(tag, vr, value.length))
        word_bytes = word_bytes_of(vr) if self._swaps_substitutes else 1
        self._assembly.copy(value, 0, value.length, word_bytes)

    def _write_element(self, header: Header, span: Span, depth: int) -> int:
        """Write an element; return where what follows it starts."""
        if header.tag & 0xFFFF == 0 or header.tag == _LENGTH_TO_END:
            return self._reader.end_of_value(header, span.end, depth)
        vr = header.vr or vr_of_implicit(header.tag, header.length, span)
        if vr == b"SQ":
            return self._write_sequence(header, span, depth)
        if header.length == UNDEFINED_LENGTH:
            return self._write_unknown(header, vr, span, depth)
        end = self._reader.end_of_value(header, span.end)
        padding = padding_of(vr, header.length)
        length = header.length + len(padding)
        vr = vr_with_room(vr, length)
        encoded = self._writer.element(header.tag, vr, length)
        word_bytes = self._word_bytes(header.tag, vr, span) if self._swaps else 1
        if header.length <= _LONGEST_SHORT_VALUE:
            # Nearly all are: one call each.
            value = self._reader.value(header)
            value = swapped(value, word_bytes) if word_bytes > 1 else value
            self._assembly.add(encoded + value + padding)
        else:
            self._assembly.add(encoded)
            self._assembly.copy(self._source, header.value_start, header.length, word_bytes)
            if padding:
                self._assembly.add(padding)
        return end

    def _word_bytes(self, tag: int, vr: bytes, span: Span) -> int:
        """Return how many bytes of a value change places."""
        bits = span.nearest_number(BITS_ALLOCATED) if tag == PIXEL_DATA and vr == b"OB" else None
        if bits is not None and bits > _BITS_OF_A_BYTE:
            # PS3.5 A.2 wants OW: nobody can know what the sender meant.
            raise ConversionError("pixels of more than a byte are said to be bytes")
        return word_bytes_of(vr)

    def _write_unknown(self, header: Header, vr: bytes, span: Span, depth: int) -> int:
        """Write an element of undefined length that is no known sequence.

        Source: PS3.5 6.2.2: Implicit VR Little Endian inside, in whatever data set it stands.
        """
        if vr != b"UN":
            raise ConversionError("encapsulated pixels stand in a native data set")
        unknown = header._replace(vr=b"UN")
        end = self._reader.end_of_value(unknown, span.end, depth)
        self._assembly.add(self._writer.element(header.tag, b"UN", UNDEFINED_LENGTH))
        self._assembly.copy(self._source, header.value_start, end - header.value_start)
        return end

    def _write_sequence(self, header: Header, span: Span, depth: int) -> int:
        """Write a sequence; return where what follows it starts."""
        if depth > MAXIMUM_NESTING:
            raise ConversionError("sequences are nested too deeply")
        is_delimited = header.length == UNDEFINED_LENGTH
        end = span.end if is_delimited else self._reader.end_of_value(header, span.end)
        start = self._assembly.add(self._writer.element(header.tag, b"SQ", header.length))
        length_before = self._assembly.length
        position = header.value_start
        while is_delimited or position < end:
            item = self._reader.item_header(position, end)
            if item.tag == SEQUENCE_DELIMITATION:
                # Some writers put one behind a sequence of defined length, too.
                self._assembly.add(self._writer.sequence_delimitation)
                position = item.value_start
                break
            position = self._write_item(item, end, span, depth)
        if is_delimited:
            return position
        if position != end:
            raise ConversionError("something stands behind the end of a sequence")
        length = self._assembly.length - length_before
        self._assembly.overwrite(start, self._writer.element(header.tag, b"SQ", length))
        return end

    def _write_item(self, item: Header, end: int, surrounding: Span, depth: int) -> int:
        """Write an item of a sequence that ends there; return where what follows it starts."""
        is_delimited = item.length == UNDEFINED_LENGTH
        if not is_delimited:
            end = self._reader.end_of_item(item, end)
        span = Span(self._reader, item.value_start, end, surrounding, is_delimited=is_delimited)
        start = self._assembly.add(self._writer.item(item.length))
        length_before = self._assembly.length
        position = self._write_elements(span, depth + 1)
        if is_delimited:
            self._assembly.add(self._writer.item_delimitation)
        else:
            length = self._assembly.length - length_before
            self._assembly.overwrite(start, self._writer.item(length))
        return position
