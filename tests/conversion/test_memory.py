"""Memory stays flat, however large an object is."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
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

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

before = peak()
path, source, target = sys.argv[1:]
with Converter(Path(path).parent) as converter:
    with converter.convert(Path(path), 0, source, target) as converted:
        length = sum(len(piece) for piece in converted.pieces())
        assert length == converted.length_bytes
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


def _run(path: Path, source: str, target: str) -> tuple[int, int]:
    """Return the length of the result, and by how much the peak of the memory grew."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), source, target],
        capture_output=True,
        text=True,
        check=True,
    )
    length, added = done.stdout.split()
    return int(length), int(added)
