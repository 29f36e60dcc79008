"""The VR of an element that was encoded without one.

Source: PS3.6 6; PS3.5 A.1, A.2, 7.8.1, 6.2.2; rule E-36.
"""

from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_VR

from pacsnode.conversion.span import (
    BITS_ALLOCATED,
    LUT_DESCRIPTOR,
    PIXEL_DATA,
    PIXEL_REPRESENTATION,
    WAVEFORM_BITS_ALLOCATED,
    Span,
)

_BITS_OF_A_BYTE: Final = 8
_ENTRIES_REMEMBERED: Final = 4096
_WAVEFORM_GROUP: Final = 0x5400
_LAST_CREATOR: Final = 0xFF
_FIRST_CREATOR: Final = 0x10
_BYTES_OR_WORDS: Final = "OB or OW"
_SIGNED_OR_NOT: Final = "US or SS"


def vr_of_implicit(tag: int, length: int, span: Span) -> bytes:
    """Return the VR that an element of an Implicit VR data set has in an explicit one.

    What the data dictionary does not know is UN; a private creator is LO.

    Args:
        tag: of the element.
        length: of its value in bytes.
        span: the data set or item that it stands in.

    Raises:
        ConversionError: the data set is damaged.

    Source: PS3.6 6; PS3.5 A.1, A.2, 7.8.1; PS3.3 C.7.6.3, C.11.1.1, C.10.9.1; rule E-36.
    """
    entry = _dictionary_entry(tag)
    if len(entry) == len("UN"):
        return entry.encode()
    if entry.startswith(_SIGNED_OR_NOT) and not _is_lut_data(entry, length):
        return b"SS" if span.nearest_number(PIXEL_REPRESENTATION) else b"US"
    if entry == _BYTES_OR_WORDS and _has_bytes(tag, span):
        return b"OB"
    if entry == "US or OW" and span.number(LUT_DESCRIPTOR) == 1:
        return b"US"
    return b"OW"


def _is_lut_data(entry: str, length: int) -> bool:
    """Tell whether it is a lookup table of more than one value, whose VR may be OW."""
    return entry.endswith("OW") and length > len(b"\0\0")


def _has_bytes(tag: int, span: Span) -> bool:
    """Tell whether a value of OB or OW holds bytes; where nothing tells, it holds words."""
    if tag == PIXEL_DATA:
        bits = span.nearest_number(BITS_ALLOCATED)
    elif tag >> 16 == _WAVEFORM_GROUP:
        bits = span.nearest_number(WAVEFORM_BITS_ALLOCATED)
    else:
        bits = None
    return bits is not None and bits <= _BITS_OF_A_BYTE


@lru_cache(maxsize=_ENTRIES_REMEMBERED)
def _dictionary_entry(tag: int) -> str:
    """Return what the data dictionary says of the VR of an element: one, or several with "or"."""
    group, number = tag >> 16, tag & 0xFFFF
    if group % 2:
        return "LO" if _FIRST_CREATOR <= number <= _LAST_CREATOR else "UN"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
