"""Native data sets in other native encodings."""

import struct
from itertools import permutations
from pathlib import Path

import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pacsnode.conversion.errors import ConversionError
from tests.support.dcmtk import dcmdump, run_tool
from tests.support.instances import ct_data_set, encoded, encoded_data_set_of, sr_data_set
from tests.support.pixel_objects import as_file, convert_bytes, convert_file

_NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
_DCMCONV_OPTIONS = {
    ImplicitVRLittleEndian: "+ti",
    ExplicitVRLittleEndian: "+te",
    ExplicitVRBigEndian: "+tb",
    DeflatedExplicitVRLittleEndian: "+td",
}
_PAIRS = [*permutations(_NATIVE, 2)]
_IMPLICIT_TO_EXPLICIT = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_LITTLE_TO_BIG = (ExplicitVRLittleEndian, ExplicitVRBigEndian)


def _example() -> Dataset:
    """Return a data set with a value of each VR, sequences of either form, and private elements."""
    data_set = ct_data_set(PixelAspectRatio=["1", "1"])
    data_set.FrameIncrementPointer = [0x00181063, 0x00181065]  # AT
    data_set.SelectorFDValue = [1.5, -2.5]
    data_set.SelectorFLValue = [0.5, 1e30]
    data_set.SelectorSLValue = [-5, 6]
    data_set.SelectorULValue = [7, 4_000_000_000]
    data_set.SelectorSSValue = -2
    data_set.SelectorUVValue = 2**63
    data_set.SelectorSVValue = -(2**62)
    data_set.SelectorOBValue = b"bytes!"
    data_set.SelectorODValue = struct.pack("<2d", 1.25, -1e300)
    data_set.SelectorOFValue = struct.pack("<2f", 1.25, -1e30)
    data_set.SelectorOLValue = struct.pack("<2L", 1, 2**31)
    data_set.SelectorOVValue = struct.pack("<2Q", 1, 2**63)
    data_set.SelectorOWValue = struct.pack("<2H", 1, 2**15)
    data_set.SelectorUTValue = "text " * 20_000
    data_set.SelectorUCValue = "more text"
    data_set.SelectorURValue = "http://example.org/"
    data_set.RetrieveURI = ""
    nested = sr_data_set()
    nested.is_undefined_length_sequence_item = True
    nested["ContentSequence"].is_undefined_length = True
    data_set.ReferencedImageSequence = [nested, sr_data_set(), Dataset()]
    data_set.ReferencedStudySequence = []
    data_set.SmallestImagePixelValue = 300
    data_set.private_block(0x0009, "Example", create=True).add_new(1, "UN", b"unknown!")
    data_set.add_new(0xFFFCFFFC, "OB", bytes(100))
    return data_set


@pytest.fixture(scope="module")
def example(module_folder: Path) -> dict[str, bytes]:
    """The example in each native Transfer Syntax, converted by DCMTK from what pydicom wrote."""
    start = encoded(_example(), ExplicitVRLittleEndian).encoded_data_set
    path = as_file(start, ExplicitVRLittleEndian, module_folder / "start")
    data_sets = {}
    for uid, option in _DCMCONV_OPTIONS.items():
        done = run_tool("dcmconv", option, "-e", str(path), str(module_folder / uid))
        assert done.exit_code == 0, done.output
        data_sets[uid] = encoded_data_set_of(module_folder / uid)
    return data_sets


@pytest.mark.parametrize(("source", "target"), _PAIRS)
def test_as_dcmtk_converts(
    tmp_path: Path, example: dict[str, bytes], source: str, target: str
) -> None:
    """The result has the elements and values that DCMTK's dcmconv gives; dcmdump reads it."""
    converted = convert_bytes(example[source], tmp_path, [source, target])
    path = as_file(converted, target, tmp_path / "converted")
    dcmdump(path)
    theirs = as_file(example[target], target, tmp_path / "theirs")
    assert _flat(dcmread(path)) == _flat(dcmread(theirs))


@pytest.mark.parametrize(("source", "target"), _PAIRS)
def test_round_trip(tmp_path: Path, example: dict[str, bytes], source: str, target: str) -> None:
    """There and back again, each value has the bytes that it had."""
    again = convert_bytes(example[source], tmp_path, [source, target, source])
    if source == ImplicitVRLittleEndian:
        assert again == example[source]
    before = as_file(example[source], source, tmp_path / "before")
    after = as_file(again, source, tmp_path / "after")
    assert _flat(dcmread(after)) == _flat(dcmread(before))


@pytest.mark.parametrize("target", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_round_trip_of_explicit_vr(tmp_path: Path, target: str) -> None:
    """Between encodings with VRs the whole data set comes back, byte by byte."""
    start = encoded(_example()).encoded_data_set
    uids = [ExplicitVRLittleEndian, target, ExplicitVRLittleEndian]
    assert convert_bytes(start, tmp_path, uids) == start


@pytest.mark.parametrize(
    ("name", "sibling"),
    [
        ("MR_small.dcm", "MR_small_bigendian.dcm"),
        ("MR_small.dcm", "MR_small_implicit.dcm"),
        ("MR_small_expb.dcm", "MR_small_implicit.dcm"),
        ("liver_1frame.dcm", "liver_expb_1frame.dcm"),
    ],
)
def test_files_that_have_a_sibling(tmp_path: Path, name: str, sibling: str) -> None:
    """Pixels of other makers' files in big and little endian become those of their siblings."""
    path, other = Path(get_testdata_file(name)), dcmread(get_testdata_file(sibling))
    target = other.file_meta.TransferSyntaxUID
    data_set = _convert_file_of(path, target, tmp_path)
    assert data_set.PixelData == other.PixelData
    assert data_set.Rows == other.Rows


def test_pixels_of_32_bits(tmp_path: Path) -> None:
    """OW is swapped in words of 16 bits however many a pixel has, as DCMTK does (PS3.5 Annex D)."""
    path = Path(get_testdata_file("rtdose.dcm"))
    ours = _convert_file_of(path, ExplicitVRBigEndian, tmp_path)
    theirs = tmp_path / "theirs"
    assert run_tool("dcmconv", "+tb", str(path), str(theirs)).exit_code == 0
    assert ours.PixelData == dcmread(theirs).PixelData


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        (0x00280106, b"\1\0", "US"),
        (0x00281101, bytes(6), "US"),
        (0x00283006, bytes(512), "OW"),
        (0x00281200, bytes(512), "OW"),
        (0x00281200, bytes(2), "US"),
        (0x60003000, bytes(8), "OW"),
        (0x60023000, bytes(8), "OW"),
        (0x50003000, bytes(8), "OW"),
        (0x54001010, bytes(8), "OW"),
        (0x7FE00010, bytes(8), "OW"),
        (0x00091010, b"any value!", "UN"),
        (0x00090010, b"Example ", "LO"),
        (0x00089999, b"not known!", "UN"),
        (0x00100010, b"Emma", "PN"),
        (0x00204000, b"x" * 65534, "LT"),
        (0x00204000, b"x" * 65536, "UN"),
    ],
    ids=lambda value: f"{value:08X}" if isinstance(value, int) else None,
)
def test_vr_of_an_implicit_element(tmp_path: Path, tag: int, value: bytes, expected: str) -> None:
    """Each element gets the VR of the dictionary, or of the rule for its tag (rule E-36)."""
    data_set = _implicit(tag, value)
    converted = convert_bytes(data_set, tmp_path, _IMPLICIT_TO_EXPLICIT)
    assert converted[4:6] == expected.encode()
    assert converted.endswith(value)


@pytest.mark.parametrize(
    ("before", "tag", "expected"),
    [
        ([(0x00280103, b"\1\0")], 0x00280106, "SS"),
        ([(0x00280103, b"\0\0")], 0x00280106, "US"),
        ([(0x00280100, b"\x08\0")], 0x7FE00010, "OB"),
        ([(0x00280100, b"\x01\0")], 0x7FE00010, "OB"),
        ([(0x00280100, b"\x10\0")], 0x7FE00010, "OW"),
        ([(0x00283002, b"\1\0\0\0\x10\0")], 0x00283006, "US"),
        ([(0x54001004, b"\x08\0")], 0x54001010, "OB"),
        ([(0x54001004, b"\x10\0")], 0x54001010, "OW"),
    ],
)
def test_vr_that_another_element_decides(
    tmp_path: Path, before: list[tuple[int, bytes]], tag: int, expected: str
) -> None:
    """Signedness, bits and lookup tables decide over the VR of what follows them."""
    data_set = b"".join(_implicit(*element) for element in [*before, (tag, b"\1\0")])
    converted = convert_bytes(data_set, tmp_path, _IMPLICIT_TO_EXPLICIT)
    at = converted.index(_implicit(tag, b"")[:4])
    assert converted[at + 4 : at + 6] == expected.encode()


def test_signedness_of_the_image_around_an_item(tmp_path: Path) -> None:
    """An item without a Pixel Representation has that of the image, even where that comes later."""
    inner = _implicit(0x00409211, b"\1\0")
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    data_set = _implicit(0x00089215, item) + _implicit(0x00280103, b"\1\0")
    converted = convert_bytes(data_set, tmp_path, _IMPLICIT_TO_EXPLICIT)
    assert b"\x40\x00\x11\x92SS" in converted


def test_unknown_sequence_keeps_its_inside(tmp_path: Path) -> None:
    """A private sequence of undefined length is UN, its items in Implicit VR Little Endian."""
    items = (
        struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        + _implicit(0x00100010, b"Emma")
        + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )
    data_set = struct.pack("<HHL", 0x0009, 0x1001, 0xFFFFFFFF) + items
    for target in (ExplicitVRLittleEndian, ExplicitVRBigEndian):
        converted = convert_bytes(data_set, tmp_path, [ImplicitVRLittleEndian, target])
        assert converted[4:8] == b"UN\0\0"
        assert converted[12:] == items
        back = convert_bytes(converted, tmp_path, [target, ImplicitVRLittleEndian])
        assert back == data_set


def test_group_lengths_are_left_out(tmp_path: Path) -> None:
    """What counts bytes of the old encoding does not stand in the new one (PS3.5 7.2)."""
    group_length = _implicit(0x00080000, b"\x14\0\0\0") + _implicit(0x00080001, b"\1\0\0\0")
    data_set = group_length + _implicit(0x00080060, b"CT")
    converted = convert_bytes(data_set, tmp_path, _IMPLICIT_TO_EXPLICIT)
    assert converted == b"\x08\0\x60\0CS\2\0CT"


def test_group_lengths_stay_where_nothing_is_re_encoded(tmp_path: Path) -> None:
    """Deflating alone changes no element."""
    data_set = b"\x08\0\0\0UL\4\0\x0a\0\0\0\x08\0\x60\0CS\2\0CT"
    uids = [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian]
    assert convert_bytes(data_set, tmp_path, uids) == data_set


def test_a_deflated_data_set_has_an_even_length(tmp_path: Path) -> None:
    """A stream of odd length is followed by one NUL (PS3.5 A.5)."""
    uids = [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
    lengths = {
        len(convert_bytes(encoded(ct_data_set(StudyID="x" * n)).encoded_data_set, tmp_path, uids))
        % 2
        for n in range(8)
    }
    assert lengths == {0}


@pytest.mark.parametrize(
    ("data_set", "uids", "reason"),
    [
        (b"\x08\0\x60\0CS\4\0CT", _LITTLE_TO_BIG, "the data set ends within an element"),
        (b"\x08\0\x60", _LITTLE_TO_BIG, "the data set ends within an element"),
        (
            b"\x08\0\x60\0SQ\0\0\xff\xff\xff\xff",
            _LITTLE_TO_BIG,
            "the data set ends within an element",
        ),
        (
            b"\x08\0\x60\0SQ\0\0\x08\0\0\0" + bytes(8),
            _LITTLE_TO_BIG,
            "a sequence holds something that is not an item",
        ),
        (
            b"\xfe\xff\x00\xe0\0\0\0\0",
            _LITTLE_TO_BIG,
            "an item or a delimiter stands where an element should",
        ),
        (
            b"\x28\0\6\1US\3\0abc",
            _LITTLE_TO_BIG,
            "a value is no whole number of binary values",
        ),
        (
            b"\x28\0\6\1ZZ\0\0\2\0\0\0ab",
            _LITTLE_TO_BIG,
            "the byte order of an unknown VR cannot be changed",
        ),
        (
            b"\x28\0\0\1US\2\0\x10\0\xe0\x7f\x10\0OB\0\0\2\0\0\0ab",
            _LITTLE_TO_BIG,
            "pixels of more than a byte are said to be bytes",
        ),
        (
            b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\xdd\xe0\0\0\0\0",
            _LITTLE_TO_BIG,
            "encapsulated pixels stand in a native data set",
        ),
        (
            b"no deflated stream",
            (DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian),
            "the deflated data set is damaged",
        ),
        (
            b"",
            (DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian),
            "the deflated data set is cut off",
        ),
        (
            b"\x08\0\x60\0CS\4\0CT",
            (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian),
            "the data set ends within an element",
        ),
    ],
)
def test_what_cannot_be_converted(
    tmp_path: Path, data_set: bytes, uids: tuple[str, str], reason: str
) -> None:
    """A damaged data set, or one that the target cannot say, is refused with its reason."""
    with pytest.raises(ConversionError) as caught:
        convert_bytes(data_set, tmp_path, uids)
    assert str(caught.value) == reason


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """Sequences nested a thousand times do not exhaust the stack."""
    start = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 1000
    with pytest.raises(ConversionError, match="nested too deeply"):
        convert_bytes(start, tmp_path, (ExplicitVRLittleEndian, ImplicitVRLittleEndian))


def test_a_vr_of_a_later_edition_stays(tmp_path: Path) -> None:
    """A VR that nobody knows yet passes where the byte order stays (PS3.5 7.1.2)."""
    data_set = b"\x28\0\6\1ZZ\0\0\2\0\0\0ab"
    uids = (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian)
    assert convert_bytes(data_set, tmp_path, uids) == data_set


def _implicit(tag: int, value: bytes) -> bytes:
    """Return one element in Implicit VR Little Endian."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def _convert_file_of(path: Path, target: str, folder: Path) -> Dataset:
    """Return what pydicom reads of a file after conversion."""
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    return dcmread(as_file(convert_file(copy, target), target, folder / "converted"))


def _flat(data_set: Dataset) -> list[tuple[object, ...]]:
    """Return tags, nesting and values in order, without trailing padding and group lengths."""
    flat: list[tuple[object, ...]] = []
    for element in data_set:
        if element.tag == 0xFFFCFFFC or element.tag.element == 0:
            continue
        if element.VR == "SQ":
            flat.append((element.tag, [_flat(item) for item in element.value]))
        else:
            flat.append((element.tag, _value(element)))
    return flat


def _value(element: DataElement) -> object:
    value = element.value
    return value if isinstance(value, bytes | int | float) else str(value)
