"""What a data set says of its pixels.

Source: PS3.3 C.7.6.3.
"""

from dataclasses import dataclass
from typing import Final

from pacsnode.conversion.errors import ConversionError
from pacsnode.conversion.span import (
    BITS_ALLOCATED,
    BITS_STORED,
    COLUMNS,
    NUMBER_OF_FRAMES,
    PHOTOMETRIC_INTERPRETATION,
    PIXEL_REPRESENTATION,
    PLANAR_CONFIGURATION,
    ROWS,
    SAMPLES_PER_PIXEL,
    Span,
)

_BITS_OF_A_BYTE: Final = 8
_MOST_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class ImagePixels:
    """The Attributes that say how pixels are encoded, named by their keywords.

    Attributes:
        rows: at least 1.
        columns: at least 1.
        samples_per_pixel: 1 or 3.
        bits_allocated: 1, or a multiple of 8 up to 64.
        bits_stored: 1 to `bits_allocated`.
        pixel_representation: 0 or 1.
        planar_configuration: 0 where there is one sample.
        photometric_interpretation: printable ASCII.
        number_of_frames: at least 1.
    """

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    planar_configuration: int
    photometric_interpretation: str
    number_of_frames: int

    @property
    def frame_bits(self) -> int:
        """How many bits a native frame has, all samples of it at the full rate."""
        return self.rows * self.columns * self.samples_per_pixel * self.bits_allocated

    @property
    def frame_bytes_decoded(self) -> int:
        """How many bytes a frame has where each sample has bytes of its own."""
        return self.frame_bits if self.bits_allocated == 1 else self.frame_bits // _BITS_OF_A_BYTE


def read_image_pixels(span: Span) -> ImagePixels:
    """Return what a data set or item says of its own pixels.

    Raises:
        ConversionError: something that is needed is missing, or makes no sense.

    Source: PS3.3 C.7.6.3.1; PS3.5 8.1.1.
    """
    pixels = ImagePixels(
        rows=_number(span, ROWS, "Rows"),
        columns=_number(span, COLUMNS, "Columns"),
        samples_per_pixel=_number(span, SAMPLES_PER_PIXEL, "Samples per Pixel"),
        bits_allocated=_number(span, BITS_ALLOCATED, "Bits Allocated"),
        bits_stored=_number(span, BITS_STORED, "Bits Stored"),
        pixel_representation=_number(span, PIXEL_REPRESENTATION, "Pixel Representation"),
        planar_configuration=span.number(PLANAR_CONFIGURATION) or 0,
        photometric_interpretation=_text(span.value(PHOTOMETRIC_INTERPRETATION)),
        number_of_frames=_number_of_frames(span),
    )
    bits = pixels.bits_allocated
    is_sound = (
        pixels.rows > 0
        and pixels.columns > 0
        and pixels.samples_per_pixel in (1, 3)
        and (bits == 1 or bits % _BITS_OF_A_BYTE == 0)
        and 1 <= pixels.bits_stored <= bits <= _MOST_BITS
        and pixels.pixel_representation in (0, 1)
        and pixels.planar_configuration in (0, 1)
    )
    if not is_sound:
        raise ConversionError("what the data set says of its pixels makes no sense")
    return pixels


def _number(span: Span, tag: int, name: str) -> int:
    number = span.number(tag)
    if number is None:
        raise ConversionError(f"{name} is missing")
    return number


def _number_of_frames(span: Span) -> int:
    """Return Number of Frames; an image without it has one."""
    text = _text(span.value(NUMBER_OF_FRAMES)) or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ConversionError("Number of Frames is no positive number")
    return int(text)


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")
