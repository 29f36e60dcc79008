"""One data set, be it the whole one or an item, and what its elements say of one another.

Source: PS3.5 7.5.
"""

from typing import Final

from pacsnode.conversion.element_reader import ElementReader, Header
from pacsnode.dicom.data_elements import ITEM_DELIMITATION

SAMPLES_PER_PIXEL: Final = 0x00280002
PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
PLANAR_CONFIGURATION: Final = 0x00280006
NUMBER_OF_FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
PIXEL_REPRESENTATION: Final = 0x00280103
LOSSY_IMAGE_COMPRESSION: Final = 0x00282110
LUT_DESCRIPTOR: Final = 0x00283002
WAVEFORM_BITS_ALLOCATED: Final = 0x54001004
EXTENDED_OFFSET_TABLE: Final = 0x7FE00001
EXTENDED_OFFSET_TABLE_LENGTHS: Final = 0x7FE00002
PIXEL_DATA: Final = 0x7FE00010
_TELLING: Final = frozenset(
    {
        SAMPLES_PER_PIXEL,
        PHOTOMETRIC_INTERPRETATION,
        PLANAR_CONFIGURATION,
        NUMBER_OF_FRAMES,
        ROWS,
        COLUMNS,
        BITS_ALLOCATED,
        BITS_STORED,
        PIXEL_REPRESENTATION,
        LOSSY_IMAGE_COMPRESSION,
        LUT_DESCRIPTOR,
        WAVEFORM_BITS_ALLOCATED,
        EXTENDED_OFFSET_TABLE,
        EXTENDED_OFFSET_TABLE_LENGTHS,
        PIXEL_DATA,
    }
)
_LONGEST_VALUE: Final = 64  # of those that are read as numbers or text


class Span:
    """Where a data set or an item is, and those of its elements that tell how to read others."""

    def __init__(
        self,
        reader: ElementReader,
        start: int,
        end: int,
        surrounding: "Span | None" = None,
        *,
        is_delimited: bool = False,
    ) -> None:
        """Look at nothing yet.

        Args:
            reader: of the whole data set.
            start: the position of the first element.
            end: where the data set or item ends; at the latest if it is delimited.
            surrounding: the one that an item stands in.
            is_delimited: it is an item of undefined length.
        """
        self.reader = reader
        self.start = start
        self.end = end
        self.is_delimited = is_delimited
        self._surrounding = surrounding
        self._headers: dict[int, Header] | None = None

    @property
    def is_whole(self) -> bool:
        """It is the whole data set, not an item of it."""
        return self._surrounding is None

    def header(self, tag: int) -> Header | None:
        """Return the header of an element of this very data set or item; None if it has none.

        Raises:
            ConversionError: the data set is damaged before that element.
        """
        if self._headers is None:
            self._headers = self._find()
        return self._headers.get(tag)

    def value(self, tag: int) -> bytes:
        """Return the value of a short element of this very data set or item; empty if it has none.

        Raises:
            ConversionError: as `header` does.
        """
        header = self.header(tag)
        if header is None or header.length > _LONGEST_VALUE:
            return b""
        return self.reader.value(header)

    def number(self, tag: int) -> int | None:
        """Return the first number in an element of VR US; None if there is none here.

        Raises:
            ConversionError: as `header` does.
        """
        value = self.value(tag)[:2]
        order = "little" if self.reader.encoding.is_little_endian else "big"
        return int.from_bytes(value, order) if value else None  # type: ignore[arg-type]

    def nearest_number(self, tag: int) -> int | None:
        """Return the number of this data set or item, or of the nearest around it that has one.

        Raises:
            ConversionError: as `header` does.
        """
        number = self.number(tag)
        if number is None and self._surrounding is not None:
            return self._surrounding.nearest_number(tag)
        return number

    def _find(self) -> dict[int, Header]:
        found: dict[int, Header] = {}
        position = self.start
        while self.is_delimited or position < self.end:
            header = self.reader.header(position, self.end)
            if header.tag == ITEM_DELIMITATION or header.tag > PIXEL_DATA:
                break
            if header.tag in _TELLING:
                found[header.tag] = header
            if header.tag == PIXEL_DATA:
                break
            position = self.reader.end_of_value(header, self.end)
        return found
