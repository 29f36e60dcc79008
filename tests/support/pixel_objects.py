"""Images whose pixels are known, in any Transfer Syntax, and conversions of them as tests see them.

Compressed ones are made by other people's encoders: DCMTK's tools and those that pydicom drives.
Nothing in them is of a person.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage

from pacsnode.conversion.converter import Converter
from pacsnode.dicom.part10 import Received, file_header, read_file_meta
from tests.support.dcmtk import run_tool
from tests.support.instances import ct_data_set

Pixels = np.ndarray[Any, np.dtype[Any]]
DECODING_MODULE = "pacsnode.conversion.decoding_process"
HANG_WITH_INTERPRETER_LOCK = 're.match("(a*)*b", "a" * 60)'
# The process as it is, but with another way to decode a frame.
_PROCESS_THAT = f"""
import sys, time, re, os
import {DECODING_MODULE} as process
def decode_frame(request, encoded):
    {{}}
process.decode_frame = decode_frame
process.main()
"""


def image(pixels: Pixels, photometric_interpretation: str, **attributes: Any) -> Dataset:  # noqa: ANN401
    """Return a native image with these pixels.

    Args:
        pixels: frames, rows, columns, and samples if there are three; of 8, 16 or 32 bits.
        photometric_interpretation: of them.
        attributes: keyword and value of others; Bits Stored is that of the array where not given.
    """
    frames, rows, columns, *samples = pixels.shape
    data_set = ct_data_set(rows, columns, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    del data_set.RescaleIntercept, data_set.RescaleSlope, data_set.ImageType
    bits = pixels.dtype.itemsize * 8
    data_set.SamplesPerPixel = samples[0] if samples else 1
    data_set.PhotometricInterpretation = photometric_interpretation
    if samples:
        data_set.PlanarConfiguration = 0
    data_set.NumberOfFrames = frames
    data_set.BitsAllocated = bits
    data_set.BitsStored = attributes.pop("BitsStored", bits)
    data_set.HighBit = data_set.BitsStored - 1
    data_set.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    native = pixels.tobytes()
    data_set.PixelData = native + b"\0" * (len(native) % 2)
    data_set["PixelData"].VR = "OB" if bits == 8 else "OW"
    return data_set


def write_image(data_set: Dataset, path: Path, transfer_syntax_uid: str = "") -> Path:
    """Write an image as a file; it is compressed where its Transfer Syntax says so."""
    uid = UID(transfer_syntax_uid or ExplicitVRLittleEndian)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if uid.is_compressed and not uid.is_deflated:
        data_set.compress(uid, generate_instance_uid=False)
    data_set.file_meta.TransferSyntaxUID = uid
    dcmwrite(path, data_set, enforce_file_format=True)
    return path


def write_encapsulated(
    data_set: Dataset,
    frames: Sequence[bytes],
    path: Path,
    transfer_syntax_uid: str,
    *,
    fragments_per_frame: int = 1,
    has_table: bool = True,
) -> Path:
    """Write an image with these encoded frames instead of its pixels."""
    data_set.PixelData = encapsulate(
        list(frames), fragments_per_frame=fragments_per_frame, has_bot=has_table
    )
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    data_set.file_meta = FileMetaDataset()
    # pydicom does not know each of them: it writes as for one that it knows.
    data_set.file_meta.TransferSyntaxUID = RLELossless
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, data_set)
    return as_file(buffer.getvalue(), transfer_syntax_uid, path)


def encode_with_dcmtk(native: Path, path: Path, *command: str) -> Path:
    """Compress a file with one of DCMTK's tools, `command` being its name and its options."""
    done = run_tool(*command, str(native), str(path))
    assert done.exit_code == 0, done.output
    return path


def convert_file(
    path: Path, target_transfer_syntax_uid: str, converter: Converter | None = None
) -> bytes:
    """Return the data set of a file after conversion; None: by a converter of its own."""
    if converter is None:
        with Converter(path.parent) as own_converter:
            return convert_file(path, target_transfer_syntax_uid, own_converter)
    with path.open("rb") as file:
        meta = read_file_meta(file)
    with converter.convert(
        path, meta.data_set_offset, meta.transfer_syntax_uid, target_transfer_syntax_uid
    ) as converted:
        data_set = b"".join(converted.pieces())
        assert len(data_set) == converted.length_bytes
    return data_set


def convert_bytes(data_set: bytes, folder: Path, transfer_syntax_uids: Sequence[str]) -> bytes:
    """Return a data set of the first Transfer Syntax after conversion to each of the others."""
    with Converter(folder) as converter:
        for source, target in pairwise(transfer_syntax_uids):
            path = folder / "data-set"
            path.write_bytes(data_set)
            with converter.convert(path, 0, source, target) as converted:
                data_set = b"".join(converted.pieces())
    return data_set


def as_file(data_set: bytes, transfer_syntax_uid: str, path: Path) -> Path:
    """Write an encoded data set as a DICOM file."""
    received = Received(SecondaryCaptureImageStorage, "1.2.3", transfer_syntax_uid, "TEST", "TEST")
    path.write_bytes(file_header(received) + data_set)
    return path


def convert_and_read(
    path: Path, target_transfer_syntax_uid: str = ExplicitVRLittleEndian
) -> Dataset:
    """Return what pydicom reads of a file after conversion."""
    data_set = convert_file(path, target_transfer_syntax_uid)
    new_path = path.with_name(f"{path.name}-converted.dcm")
    return dcmread(as_file(data_set, target_transfer_syntax_uid, new_path))


def native_pixels(data_set: Dataset) -> Pixels:
    """Return the pixels of a native image as numbers: frames, rows, columns, samples if three.

    Read here and not by pydicom, so that a wrong Attribute shows.
    """
    signedness = "i" if data_set.PixelRepresentation else "u"
    order = "<" if data_set.original_encoding[1] else ">"
    dtype = np.dtype(f"{order}{signedness}{data_set.BitsAllocated // 8}")
    frames = int(data_set.get("NumberOfFrames", 1))
    shape = [frames, data_set.Rows, data_set.Columns]
    count = int(np.prod(shape)) * data_set.SamplesPerPixel
    pixels = np.frombuffer(data_set.PixelData, dtype, count)
    if data_set.SamplesPerPixel == 1:
        return pixels.reshape(shape)
    if data_set.PlanarConfiguration == 0:
        return pixels.reshape([*shape, 3])
    return pixels.reshape([frames, 3, data_set.Rows, data_set.Columns]).transpose(0, 2, 3, 1)


def gradient(
    shape: Sequence[int], dtype: str = "u1", lowest: int = 0, highest: int = 255
) -> Pixels:
    """Return an image that is smooth, as images are, with every frame and sample another one."""
    frames, rows, columns, *samples = shape
    down, across = np.mgrid[0:rows, 0:columns] / max(rows, columns)
    layers = [
        [
            0.5 + 0.5 * np.sin(3 * down + (2 + sample) * across + frame)
            for sample in range(samples[0] if samples else 1)
        ]
        for frame in range(frames)
    ]
    unit = np.moveaxis(np.array(layers), 1, -1)
    scaled = (lowest + unit * (highest - lowest)).round().astype(dtype)
    return scaled if samples else scaled[..., 0]


def decoding_process_that(does: str) -> tuple[str, ...]:
    """Return the command of a decoding process that does something else instead of decoding.

    Args:
        does: a statement; `request` and `encoded` are there, and some modules.
    """
    return (sys.executable, "-c", _PROCESS_THAT.format(does))


def is_running(process_id: int) -> bool:
    """Tell whether a process lives; one that ended and was not waited for does not."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
