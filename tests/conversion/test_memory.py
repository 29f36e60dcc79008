"""Memory stays flat, however large an object is."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pacsnode.conversion.codecs import ENCAPSULATED_UNCOMPRESSED
from tests.support.instances import ct_data_set, encoded

_MIB = 1024 * 1024
_PIXELS_BYTES = 256 * _MIB
_MOST_ADDED_BYTES = 24 * _MIB
_PROGRAM = """
import sys
from pathlib import Path
from pacsnode.conversion.converter import Converter
from pacsnode.conversion.errors import ConversionError

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

before = peak()
path, source, target = sys.argv[1:]
length = 0
with Converter(Path(path).parent) as converter:
    try:
        with converter.convert(Path(path), 0, source, target) as converted:
            length = sum(len(piece) for piece in converted.pieces())
            assert length == converted.length_bytes
    except ConversionError as error:
        assert str(error).startswith("the pixels do not have as many frames"), error
print(length, peak() - before)
"""


@pytest.fixture(scope="module")
def native(module_folder: Path) -> Path:
    """A native data set with 256 MiB of pixels."""
    head = encoded(ct_data_set(PixelData=None)).encoded_data_set
    path = module_folder / "native"
    with path.open("wb") as file:
        file.write(head + b"\xe0\x7f\x10\0OW\0\0" + _PIXELS_BYTES.to_bytes(4, "little"))
        file.truncate(file.tell() + _PIXELS_BYTES)
    return path


@pytest.fixture(scope="module")
def encapsulated(module_folder: Path) -> Path:
    """An encapsulated data set of 16 frames of 16 MiB."""
    rows, frames = 2048, 16
    data_set = ct_data_set(PixelData=None, Rows=rows, Columns=4 * rows // 2 * 2, NumberOfFrames=16)
    path = module_folder / "encapsulated"
    frame_bytes = rows * 4 * rows * 2
    with path.open("wb") as file:
        file.write(encoded(data_set).encoded_data_set)
        file.write(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0")
        for _ in range(frames):
            file.write(b"\xfe\xff\x00\xe0" + frame_bytes.to_bytes(4, "little"))
            file.seek(frame_bytes, 1)
        file.write(b"\xfe\xff\xdd\xe0\0\0\0\0")
    return path


@pytest.mark.parametrize(
    "target", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_a_large_native_object(native: Path, target: str) -> None:
    """Re-encoding 256 MiB takes at most 24 MiB more than Python itself."""
    length, added = _run(native, ExplicitVRLittleEndian, target)
    assert added < _MOST_ADDED_BYTES
    assert length > _PIXELS_BYTES or target == DeflatedExplicitVRLittleEndian


def test_a_large_encapsulated_object(encapsulated: Path) -> None:
    """So does decoding as much, but in the process that decodes."""
    length, added = _run(encapsulated, ENCAPSULATED_UNCOMPRESSED, ImplicitVRLittleEndian)
    assert added < _MOST_ADDED_BYTES
    assert length > 16 * 2048 * 8192 * 2


@pytest.mark.parametrize("table", ["basic", "extended"])
def test_a_table_as_large_as_the_object(tmp_path: Path, table: str) -> None:
    """What stands for an offset table, but is longer than any, is not read."""
    path = tmp_path / "table"
    tables = {"basic": 0, "extended": 0, table: _PIXELS_BYTES}
    with path.open("wb") as file:
        file.write(encoded(ct_data_set(PixelData=None, NumberOfFrames=2)).encoded_data_set)
        file.write(struct.pack("<HH2s2xL", 0x7FE0, 1, b"OV", tables["extended"]))
        file.seek(tables["extended"], 1)
        file.write(struct.pack("<HH2s2xL", 0x7FE0, 0x10, b"OB", 0xFFFFFFFF))
        file.write(struct.pack("<HHL", 0xFFFE, 0xE000, tables["basic"]))
        file.seek(tables["basic"], 1)
        file.write((struct.pack("<HHL", 0xFFFE, 0xE000, 64) + bytes(64)) * 3)
        file.write(struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))
    length, added = _run(path, RLELossless, ExplicitVRLittleEndian)
    assert added < _MOST_ADDED_BYTES
    assert not length


def test_many_items_with_pixels(tmp_path: Path) -> None:
    """Pixels of items that are few enough for memory one by one do not stay there all together."""
    items, side = 48, 1024
    path = tmp_path / "items"
    item = encoded(ct_data_set(PixelData=None, Rows=side, Columns=side)).encoded_data_set
    run_lengths = b"\x81\0" * (side * side // 128)  # PS3.5 G.3.1: 128 times 0
    frame = struct.pack("<16L", 2, 64, 64 + len(run_lengths), *bytes(13)) + run_lengths * 2
    item += struct.pack("<HH2s2xL", 0x7FE0, 0x10, b"OB", 0xFFFFFFFF)
    item += struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    item += struct.pack("<HHL", 0xFFFE, 0xE000, len(frame)) + frame
    item += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    sequence = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    header = struct.pack("<HH2s2xL", 0x0088, 0x0200, b"SQ", items * len(sequence))
    path.write_bytes(header + sequence * items)
    length, added = _run(path, RLELossless, ExplicitVRLittleEndian)
    assert added < _MOST_ADDED_BYTES
    assert length > items * side * side * 2


def _run(path: Path, source: str, target: str) -> tuple[int, int]:
    """Return the length of the result, and by how much the peak of the memory grew.

    The length is 0 if the frames cannot be told apart.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), source, target],
        capture_output=True,
        text=True,
        check=True,
    )
    length, added = done.stdout.split()
    return int(length), int(added)
