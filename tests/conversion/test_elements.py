"""Element headers as they are read and written."""

import struct

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pacsnode.conversion.element_reader import ElementReader, Header
from pacsnode.conversion.element_writer import HeaderWriter, vr_with_room, word_bytes_of
from pacsnode.conversion.errors import ConversionError
from pacsnode.dicom.transfer_syntax import encoding_of


class _Source:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def length(self) -> int:
        return len(self._data)

    def read(self, position: int, length: int) -> bytes:
        return self._data[position : position + length]


def _reader(data: bytes, uid: str = ExplicitVRLittleEndian) -> ElementReader:
    return ElementReader(_Source(data), encoding_of(uid))


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (b"\x08\0\x60\0CS\2\0", Header(0x00080060, b"CS", 2, 8)),
        (b"\x08\0\x60\0OB\0\0\2\0\0\0", Header(0x00080060, b"OB", 2, 12)),
        (b"\x08\0\x60\0ZZ\0\0\2\0\0\0", Header(0x00080060, b"ZZ", 2, 12)),
        (b"\x08\0\x60\0??\0\0\2\0\0\0", Header(0x00080060, b"UN", 2, 12)),
        (b"\x08\0\x60\0\2\0\0\0", Header(0x00080060, b"", 2, 8)),
        (b"\xfe\xff\x00\xe0CS\0\0", Header(0xFFFEE000, b"", 0x5343, 8)),
    ],
)
def test_a_header(encoded: bytes, expected: Header) -> None:
    """Headers are read as the walk of received data sets reads them."""
    assert _reader(encoded).header(0, len(encoded)) == expected


@pytest.mark.parametrize("length", range(12))
def test_a_header_that_is_cut_off(length: int) -> None:
    """A data set may end nowhere in a header."""
    encoded = b"\x08\0\x60\0OB\0\0\2\0\0\0"[:length]
    with pytest.raises(ConversionError, match="ends within an element"):
        _reader(encoded).header(0, length)


def test_deep_nesting_is_not_stepped_over() -> None:
    """Sequences nested a thousand times do not exhaust the stack."""
    start = struct.pack("<HHLHHL", 0x0008, 0x1115, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    reader = _reader(start * 1000, ImplicitVRLittleEndian)
    with pytest.raises(ConversionError, match="nested too deeply"):
        reader.end_of_value(reader.header(0, 16_000), 16_000)


def test_lengths_beyond_32_bits() -> None:
    """A value or an item that no length field has room for is refused."""
    writer = HeaderWriter(encoding_of(ExplicitVRLittleEndian))
    with pytest.raises(ConversionError, match="longer than its length field"):
        writer.element(0x7FE00010, b"OW", 2**32)
    with pytest.raises(ConversionError, match="longer than its length field"):
        writer.item(2**32)


@pytest.mark.parametrize(
    ("vr", "length", "expected"),
    [(b"LT", 65534, b"LT"), (b"LT", 65535, b"UN"), (b"OB", 65536, b"OB"), (b"UT", 2**20, b"UT")],
)
def test_room_for_a_value(vr: bytes, length: int, expected: bytes) -> None:
    """What a 16-bit length cannot say is UN (PS3.5 6.2.2)."""
    assert vr_with_room(vr, length) == expected


@pytest.mark.parametrize(
    ("vrs", "expected"),
    [
        ("AE AS CS DA DS DT IS LO LT OB PN SH ST TM UC UI UN UR UT", 1),
        ("AT OW SS US", 2),
        ("FL OF OL SL UL", 4),
        ("FD OD OV SV UV", 8),
    ],
)
def test_words_of_each_vr(vrs: str, expected: int) -> None:
    """Every VR of the Standard says how its bytes change places (PS3.5 7.3)."""
    assert {word_bytes_of(vr.encode()) for vr in vrs.split()} == {expected}
