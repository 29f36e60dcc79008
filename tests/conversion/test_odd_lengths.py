"""Values of odd length, which no message may have: they are padded when they are re-encoded."""

import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pacsnode.conversion.errors import ConversionError
from tests.support.instances import encoded_data_set_of
from tests.support.pixel_objects import (
    as_file,
    convert_bytes,
    convert_file,
    gradient,
    image,
    write_image,
)

_NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = ("OB", "SQ", "UN", "UT")
# An element of each kind, and what it is padded with.
_PADDING = {
    (0x00080005, "CS"): b" ",
    (0x00080018, "UI"): b"\0",
    (0x00091001, "UN"): b"\0",
    (0x00100010, "PN"): b" ",
    (0x00720065, "OB"): b"\0",
    (0x00720068, "LT"): b" ",
    (0x00720070, "UT"): b" ",
}
_SEQUENCES = (0x00081115, 0x00400275)
# An element is its tag, its VR and its value, or the items of a sequence and whether its length is
# defined; an item is its elements and whether its length is.
_Items = list[tuple["list[_Element]", bool]]
_Element = tuple[int, str, "bytes | tuple[_Items, bool]"]


def _encoded(elements: list[_Element], *, is_padded: bool) -> bytes:
    """Return a data set in Explicit VR Little Endian."""
    return b"".join(_element(*element, is_padded=is_padded) for element in elements)


def _element(
    tag: int, vr: str, value: bytes | tuple[_Items, bool], *, is_padded: bool = False
) -> bytes:
    if isinstance(value, bytes):
        value += _PADDING.get((tag, vr), b"") * (len(value) % 2 if is_padded else 0)
        return _header(tag, vr, len(value)) + value
    items, is_defined = value
    encoded = b"".join(
        _enclosed(_bare(0xFFFEE000, 0), 0xFFFEE00D, _encoded(inside, is_padded=is_padded), is_it)
        for inside, is_it in items
    )
    return _enclosed(_header(tag, vr, 0), 0xFFFEE0DD, encoded, is_defined)


def _enclosed(header: bytes, delimiter: int, content: bytes, is_defined: bool) -> bytes:  # noqa: FBT001
    """Return what a header, whose length is at its end, stands before, with that length."""
    if is_defined:
        return header[:-4] + struct.pack("<L", len(content)) + content
    return header[:-4] + struct.pack("<L", _UNDEFINED) + content + _bare(delimiter, 0)


def _header(tag: int, vr: str, length: int) -> bytes:
    layout = "<HH2s2xL" if vr in _LONG_VRS else "<HH2sH"
    return struct.pack(layout, tag >> 16, tag & 0xFFFF, vr.encode(), length)


def _bare(tag: int, length: int) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)


_VALUES = st.tuples(st.sampled_from(sorted(_PADDING)), st.binary(max_size=5)).map(
    lambda drawn: (*drawn[0], drawn[1])
)


def _data_sets(elements: st.SearchStrategy[_Element]) -> st.SearchStrategy[list[_Element]]:
    return st.lists(elements, max_size=4, unique_by=lambda element: element[0]).map(
        lambda found: sorted(found, key=lambda element: element[0])
    )


def _sequences(elements: st.SearchStrategy[_Element]) -> st.SearchStrategy[_Element]:
    items = st.lists(st.tuples(_data_sets(elements), st.booleans()), max_size=3)
    return st.tuples(st.sampled_from(_SEQUENCES), st.just("SQ"), st.tuples(items, st.booleans()))


_TREES = _data_sets(st.recursive(_VALUES, _sequences, max_leaves=12))


@settings(max_examples=300, deadline=None)
@given(elements=_TREES, through=st.sampled_from([ImplicitVRLittleEndian, ExplicitVRBigEndian]))
def test_every_value_is_padded(elements: list[_Element], through: str) -> None:
    """Whatever they stand in, values are padded and all lengths around them counted anew."""
    uids = [ExplicitVRLittleEndian, through, ExplicitVRLittleEndian]
    with TemporaryDirectory() as folder:
        converted = convert_bytes(_encoded(elements, is_padded=False), Path(folder), uids)
    assert converted == _encoded(elements, is_padded=True)


@settings(max_examples=300, deadline=None)
@given(elements=_TREES)
def test_only_a_data_set_of_odd_length_is_padded(elements: list[_Element]) -> None:
    """In its own Transfer Syntax a data set of even length stays as it is, whatever is in it."""
    stored = _encoded(elements, is_padded=False)
    uids = [ExplicitVRLittleEndian, ExplicitVRLittleEndian]
    with TemporaryDirectory() as folder:
        converted = convert_bytes(stored, Path(folder), uids)
        deflated = convert_bytes(stored, Path(folder), [uids[0], DeflatedExplicitVRLittleEndian])
    assert converted == (_encoded(elements, is_padded=True) if len(stored) % 2 else stored)
    assert zlib.decompress(deflated, -zlib.MAX_WBITS) == stored
    assert len(deflated) % 2 == 0


_ODD = b"\x09\0\x10\0LO\4\0ACME\x09\0\1\x10LO\3\0abc\x09\0\2\x10UI\3\0" + b"1.2"
_ODD += b"\x09\0\3\x10OB\0\0" + struct.pack("<L", 2001) + bytes(2001)


@pytest.mark.parametrize("through", _NATIVE, ids=lambda uid: uid)
def test_values_of_odd_length_are_padded(tmp_path: Path, through: str) -> None:
    """Some senders forget to; text gets a space, all else a NUL (PS3.5 6.2, 7.1.1)."""
    uids = [ExplicitVRLittleEndian, through, ExplicitVRLittleEndian]
    if through == DeflatedExplicitVRLittleEndian:
        assert convert_bytes(_ODD, tmp_path, uids[:2])
        uids = [uids[1], ExplicitVRLittleEndian]
        stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        start = stream.compress(_ODD) + stream.flush()
    else:
        start = _ODD
    converted = convert_bytes(start, tmp_path, uids)
    data_set = dcmread(as_file(converted, ExplicitVRLittleEndian, tmp_path / "converted"))
    values = [data_set[0x00091001 + n].value for n in range(3)]
    if through == ImplicitVRLittleEndian:
        assert values == [b"abc ", b"1.2\0", bytes(2002)]  # private: UN
    else:
        assert values == ["abc", "1.2", bytes(2002)]
        assert b"abc \x09\0" in converted
        assert b"1.2\0\x09\0" in converted


def test_an_odd_value_inside_what_is_unknown_stays(tmp_path: Path) -> None:
    """Nobody can say that it is a value: such a data set cannot be sent (PS3.8 E.1)."""
    data_set = b"\x09\0\1\x10UN\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0\x09\0\0\0"
    data_set += b"\x09\0\2\x10\1\0\0\0a" + b"\xfe\xff\xdd\xe0" + bytes(4)
    with pytest.raises(ConversionError, match="odd length"):
        convert_bytes(data_set, tmp_path, [ExplicitVRLittleEndian, ExplicitVRLittleEndian])


@pytest.mark.parametrize("target", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_two_odd_values_inside_what_is_unknown_stay(tmp_path: Path, target: str) -> None:
    """An element of VR UN and undefined length is passed on as it is."""
    inside = b"".join(_bare(tag, 1) + b"a" for tag in (0x00091002, 0x00091003))
    data_set = _header(0x00091001, "UN", _UNDEFINED) + _bare(0xFFFEE000, len(inside)) + inside
    data_set += _bare(0xFFFEE0DD, 0)
    uids = [ExplicitVRLittleEndian, target, ExplicitVRLittleEndian]
    assert convert_bytes(data_set, tmp_path, uids) == data_set


@pytest.mark.parametrize(
    ("tag", "value", "vr", "expected"),
    [
        (0x00100010, b"Ann", "PN", b"Ann "),
        (0x00080018, b"1.2", "UI", b"1.2\0"),
        (0x00090010, b"ABC", "LO", b"ABC "),
        (0x00091010, b"ABC", "UN", b"ABC\0"),
        (0x7FE00010, b"\1\2\3", "OW", b"\1\2\3\0"),
        (0x00204000, b"x" * 65535, "UN", b"x" * 65535 + b" "),
        (0x00204000, b"x" * 65533, "LT", b"x" * 65533 + b" "),
    ],
    ids=["text", "UID", "private creator", "private", "pixels", "too long for LT", "long"],
)
def test_an_implicit_value(
    tmp_path: Path, tag: int, value: bytes, vr: str, expected: bytes
) -> None:
    """It gets the VR of the dictionary, the padding of that VR, and a VR with room for both."""
    data_set = _bare(tag, len(value)) + value
    layout = "<HH2s2xL" if vr in ("OW", "UN") else "<HH2sH"
    header = struct.pack(layout, tag >> 16, tag & 0xFFFF, vr.encode(), len(expected))
    converted = convert_bytes(data_set, tmp_path, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    assert converted == header + expected
    same = convert_bytes(data_set, tmp_path, [ImplicitVRLittleEndian, ImplicitVRLittleEndian])
    assert same == _bare(tag, len(expected)) + expected


def test_pixels_of_bytes_in_big_endian(tmp_path: Path) -> None:
    """An odd number of pixels of a byte each passes to big endian, from an implicit VR."""
    data_set = _bare(0x00280100, 2) + b"\x08\0" + _bare(0x7FE00010, 3) + b"\1\2\3"
    converted = convert_bytes(data_set, tmp_path, [ImplicitVRLittleEndian, ExplicitVRBigEndian])
    assert converted.endswith(b"OB\0\0\0\0\0\4\1\2\3\0")


@pytest.mark.parametrize("target", _NATIVE)
def test_beside_pixels_that_are_decoded(tmp_path: Path, target: str) -> None:
    """Odd values around pixels, and an odd number of pixels, make no odd data set."""
    pixels = gradient((3, 3, 5))
    path = write_image(image(pixels, "MONOCHROME2"), tmp_path / "compressed", RLELossless)
    items: _Items = [([(0x00100010, "PN", b"Ann")], True)]
    odd = _element(0x00041220, "SQ", (items, True)) + _element(0x00041511, "UI", b"1.2.3")
    as_file(odd + encoded_data_set_of(path), RLELossless, path)
    converted = convert_file(path, target)
    assert len(converted) % 2 == 0
    data_set = dcmread(as_file(converted, target, tmp_path / "converted"))
    assert data_set[0x00041220][0].PatientName == "Ann"
    assert data_set.PixelData == pixels.tobytes() + b"\0"
