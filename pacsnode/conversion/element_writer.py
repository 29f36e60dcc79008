"""Element headers for a data set in the making.

Source: PS3.5 7.1, 7.5.
"""

import struct
from typing import Final

from pacsnode.conversion.errors import ConversionError
from pacsnode.dicom.data_elements import (
    ITEM,
    ITEM_DELIMITATION,
    MAXIMUM_SHORT_LENGTH,
    SEQUENCE_DELIMITATION,
    SHORT_LENGTH_VRS,
    UNDEFINED_LENGTH,
)
from pacsnode.dicom.transfer_syntax import Encoding

# PS3.5 7.3: the values whose bytes are in another order in big endian, and how long each is. AT is
# a pair of 16-bit numbers.
_WORD_BYTES: Final = {
    **dict.fromkeys((b"AT", b"OW", b"SS", b"US"), 2),
    **dict.fromkeys((b"FL", b"OF", b"OL", b"SL", b"UL"), 4),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), 8),
}
_VRS_OF_TEXT: Final = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UR UT".split())
_VRS_OF_BYTES: Final = _VRS_OF_TEXT | {b"OB", b"UI", b"UN"}
_TOO_LONG: Final = "a value would be longer than its length field can say"


class HeaderWriter:
    """Encodes element headers in one encoding."""

    def __init__(self, encoding: Encoding) -> None:
        order = "<" if encoding.is_little_endian else ">"
        self._is_implicit_vr = encoding.is_implicit_vr
        self._implicit = struct.Struct(f"{order}HHL").pack
        self._short = struct.Struct(f"{order}HH2sH").pack
        self._long = struct.Struct(f"{order}HH2s2xL").pack

    def element(self, tag: int, vr: bytes, length: int) -> bytes:
        """Return the header of a Data Element.

        Args:
            tag: of the element.
            vr: one that has room for the length.
            length: of the value in bytes, or UNDEFINED_LENGTH.

        Raises:
            ConversionError: the value is too long for any VR.
        """
        if length > UNDEFINED_LENGTH:
            raise ConversionError(_TOO_LONG)
        if self._is_implicit_vr:
            return self._implicit(tag >> 16, tag & 0xFFFF, length)
        pack = self._short if vr in SHORT_LENGTH_VRS else self._long
        return pack(tag >> 16, tag & 0xFFFF, vr, length)

    def item(self, length: int) -> bytes:
        """Return the header of an item; errors as for `element`."""
        if length > UNDEFINED_LENGTH:
            raise ConversionError(_TOO_LONG)
        return self._implicit(ITEM >> 16, ITEM & 0xFFFF, length)

    @property
    def item_delimitation(self) -> bytes:
        """What ends an item of undefined length."""
        return self._implicit(ITEM_DELIMITATION >> 16, ITEM_DELIMITATION & 0xFFFF, 0)

    @property
    def sequence_delimitation(self) -> bytes:
        """What ends a sequence of undefined length."""
        return self._implicit(SEQUENCE_DELIMITATION >> 16, SEQUENCE_DELIMITATION & 0xFFFF, 0)


def vr_with_room(vr: bytes, length: int) -> bytes:
    """Return the VR if a value of that length has room in it, else UN.

    Source: PS3.5 6.2.2 note 5.
    """
    return b"UN" if vr in SHORT_LENGTH_VRS and length > MAXIMUM_SHORT_LENGTH else vr


def padding_of(vr: bytes, length: int) -> bytes:
    """Return what makes a value of that length even.

    Source: PS3.5 6.2, 7.1.1.
    """
    if length % 2 == 0:
        return b""
    return b" " if vr in _VRS_OF_TEXT else b"\0"


def word_bytes_of(vr: bytes) -> int:
    """Return how many bytes each binary value of a VR has; 1 where their order never changes.

    UN is Little Endian in every encoding.

    Raises:
        ConversionError: a VR of a later edition of the Standard.

    Source: PS3.5 7.3, 6.2.2.
    """
    if vr in _VRS_OF_BYTES:
        return 1
    try:
        return _WORD_BYTES[vr]
    except KeyError:
        raise ConversionError("the byte order of an unknown VR cannot be changed") from None
