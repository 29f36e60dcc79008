"""Which fragments belong to which frame."""

import struct
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate_extended, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from pacsnode.conversion.codecs import ENCAPSULATED_UNCOMPRESSED
from pacsnode.conversion.errors import ConversionError
from tests.support.dcmtk import run_tool
from tests.support.instances import read_part10
from tests.support.pixel_objects import (
    Pixels,
    convert_and_read,
    encode_with_dcmtk,
    gradient,
    image,
    native_pixels,
    write_encapsulated,
    write_image,
)

_FRAMES = gradient((3, 8, 9))
_DO_NOT_FIT = "the pixels do not have as many frames as Number of Frames says"


@pytest.fixture
def codestreams(tmp_path: Path) -> list[bytes]:
    """Return one JPEG-LS codestream a frame, with its length rounded up to a multiple of four."""
    path = write_image(image(_FRAMES, "MONOCHROME2"), tmp_path / "whole", JPEGLSLossless)
    frames = [*generate_frames(dcmread(path).PixelData, number_of_frames=3)]
    return [frame + bytes(-len(frame) % 4) for frame in frames]


@pytest.mark.parametrize("has_table", [True, False], ids=["offset table", "no table"])
@pytest.mark.parametrize("fragments", [1, 2, 4])
def test_frames_of_several_fragments(
    tmp_path: Path, codestreams: list[bytes], fragments: int, *, has_table: bool
) -> None:
    """Frames are found by the Basic Offset Table, and where there is none by their first bytes."""
    path = write_encapsulated(
        image(_FRAMES, "MONOCHROME2"),
        codestreams,
        tmp_path / "fragments",
        JPEGLSLossless,
        fragments_per_frame=fragments,
        has_table=has_table,
    )
    assert _pixels(path) == _FRAMES.tolist()


def test_one_frame_of_many_fragments(tmp_path: Path) -> None:
    """All fragments of an image of one frame are that frame, as DCMTK cuts it."""
    pixels = gradient((1, 64, 64), "u2", 0, 65535)
    native = write_image(image(pixels, "MONOCHROME2"), tmp_path / "native")
    path = encode_with_dcmtk(native, tmp_path / "cut", "dcmcjpeg", "+e1", "+fs", "1")
    assert _pixels(path) == pixels.tolist()


def test_frames_as_dcmtk_cuts_them(tmp_path: Path) -> None:
    """Frames in fragments of a kilobyte, with and without an offset table, are found."""
    pixels = gradient((3, 64, 64), "u2", 0, 65535)
    native = write_image(image(pixels, "MONOCHROME2"), tmp_path / "native")
    for option in ("+ot", "-ot"):
        path = encode_with_dcmtk(native, tmp_path / option, "dcmcjpeg", "+e1", "+fs", "1", option)
        assert _pixels(path) == pixels.tolist()


def test_a_wrong_offset_table_does_not_matter_where_nothing_is_cut(
    tmp_path: Path, codestreams: list[bytes]
) -> None:
    """With a fragment a frame the table says nothing new, and some writers fill it wrongly."""
    path = write_encapsulated(
        image(_FRAMES, "MONOCHROME2"), codestreams, tmp_path / "wrong", JPEGLSLossless
    )
    content = path.read_bytes()
    table = content.index(struct.pack("<HHL", 0xFFFE, 0xE000, 12)) + 8
    path.write_bytes(content[:table] + b"\xee" * 12 + content[table + 12 :])
    assert _pixels(path) == _FRAMES.tolist()


def test_extended_offset_table(tmp_path: Path, codestreams: list[bytes]) -> None:
    """The Extended Offset Table is used, and vanishes with what it points into."""
    data_set = image(_FRAMES, "MONOCHROME2")
    pixel_data, offsets, lengths = encapsulate_extended(codestreams)
    data_set.ExtendedOffsetTable = offsets
    data_set.ExtendedOffsetTableLengths = lengths
    path = write_encapsulated(data_set, codestreams, tmp_path / "extended", JPEGLSLossless)
    converted = convert_and_read(path)
    assert native_pixels(converted).tolist() == _FRAMES.tolist()
    assert "ExtendedOffsetTable" not in converted
    assert "ExtendedOffsetTableLengths" not in converted
    assert pixel_data


def test_frames_found_by_the_extended_table_alone(tmp_path: Path) -> None:
    """Uncompressed frames in two fragments each show no start: only the table tells."""
    pixels = gradient((2, 8, 8))
    frames = [frame.tobytes() for frame in pixels]
    data_set = image(pixels, "MONOCHROME2")
    data_set.ExtendedOffsetTable = struct.pack("<2Q", 0, 64 + 16)
    data_set.ExtendedOffsetTableLengths = struct.pack("<2Q", 64, 64)
    path = write_encapsulated(
        data_set,
        frames,
        tmp_path / "extended",
        ENCAPSULATED_UNCOMPRESSED,
        fragments_per_frame=2,
        has_table=False,
    )
    assert _pixels(path) == pixels.tolist()


@pytest.mark.parametrize("number_of_frames", [1, 2, 4])
def test_another_number_of_frames(
    tmp_path: Path, codestreams: list[bytes], number_of_frames: int
) -> None:
    """More or fewer frames than Number of Frames are refused, not dropped or made up."""
    data_set = image(_FRAMES, "MONOCHROME2", NumberOfFrames=number_of_frames)
    path = write_encapsulated(data_set, codestreams, tmp_path / "wrong", JPEGLSLossless)
    assert _reason(path) == _DO_NOT_FIT


def test_a_table_that_is_too_long_does_not_matter_where_codestreams_show(
    tmp_path: Path, codestreams: list[bytes]
) -> None:
    """Tables longer than any of so many frames are as if they were not there."""
    data_set = image(_FRAMES, "MONOCHROME2")
    data_set.ExtendedOffsetTable = bytes(4 * 8)
    path = write_encapsulated(
        data_set, codestreams, tmp_path / "long", JPEGLSLossless, fragments_per_frame=2
    )
    content = path.read_bytes()
    table = content.index(struct.pack("<HHL", 0xFFFE, 0xE000, 12))
    longer = struct.pack("<HHL", 0xFFFE, 0xE000, 16) + content[table + 8 : table + 20] + bytes(4)
    path.write_bytes(content[:table] + longer + content[table + 20 :])
    assert _pixels(path) == _FRAMES.tolist()


@pytest.mark.parametrize(
    "offsets",
    [(0, 500), (8, 80), (0, 0), (80, 0), (0, 81)],
    ids=["behind the end", "not from the start", "twice", "backwards", "inside"],
)
def test_a_table_that_points_elsewhere(tmp_path: Path, offsets: tuple[int, int]) -> None:
    """Frames that only a wrong table could tell apart are refused, not mixed up."""
    pixels = gradient((2, 8, 8))
    data_set = image(pixels, "MONOCHROME2")
    data_set.ExtendedOffsetTable = struct.pack("<2Q", *offsets)
    path = write_encapsulated(
        data_set,
        [frame.tobytes() for frame in pixels],
        tmp_path / "elsewhere",
        ENCAPSULATED_UNCOMPRESSED,
        fragments_per_frame=2,
        has_table=False,
    )
    assert _reason(path) == _DO_NOT_FIT


def test_a_table_without_an_end(tmp_path: Path, codestreams: list[bytes]) -> None:
    """A first item of undefined length, which would be all of the file, is no table."""
    path = write_encapsulated(
        image(_FRAMES, "MONOCHROME2"), codestreams, tmp_path / "undefined", JPEGLSLossless
    )
    content = path.read_bytes()
    table = struct.pack("<HHL", 0xFFFE, 0xE000, 12)
    path.write_bytes(content.replace(table, table[:4] + b"\xff" * 4))
    assert _reason(path) == "the fragments of the pixels are damaged"


def test_a_frame_that_is_too_large(tmp_path: Path) -> None:
    """A fragment far larger than its frame is not handed to the process that decodes."""
    path = write_encapsulated(
        image(gradient((1, 8, 8)), "MONOCHROME2"),
        [bytes(17 * 1024 * 1024)],
        tmp_path / "large",
        RLELossless,
    )
    assert _reason(path) == "frame 1: it is larger than any of its size can be"


def test_no_fragments(tmp_path: Path) -> None:
    """Encapsulated pixels without any frame are refused."""
    path = write_encapsulated(
        image(_FRAMES, "MONOCHROME2"), [b"1234"], tmp_path / "empty", RLELossless
    )
    data_set = read_part10(path)[1]
    header = path.read_bytes()[: -len(data_set)]
    fragment = data_set.index(b"1234") - 8
    path.write_bytes(header + data_set[:fragment] + data_set[fragment + 12 :])
    assert _reason(path) == _DO_NOT_FIT


def test_fragments_without_an_end(tmp_path: Path) -> None:
    """Encapsulated pixels that are cut off are refused."""
    path = write_image(image(_FRAMES, "MONOCHROME2"), tmp_path / "cut", RLELossless)
    path.write_bytes(path.read_bytes()[:-8])
    assert _reason(path) == "the data set ends within an element"


def test_dcmtk_reads_what_comes_of_fragments(tmp_path: Path, codestreams: list[bytes]) -> None:
    """The result of decoding fragments is a data set that DCMTK can print."""
    path = write_encapsulated(
        image(_FRAMES, "MONOCHROME2"),
        codestreams,
        tmp_path / "fragments",
        JPEGLSLossless,
        fragments_per_frame=2,
    )
    convert_and_read(path)
    assert run_tool("dcmdump", "-q", f"{path}-converted.dcm").exit_code == 0


def _pixels(path: Path) -> list[Pixels]:
    return native_pixels(convert_and_read(path)).tolist()


def _reason(path: Path) -> str:
    with pytest.raises(ConversionError) as caught:
        convert_and_read(path, ExplicitVRLittleEndian)
    return str(caught.value)
