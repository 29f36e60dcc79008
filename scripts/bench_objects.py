"""The objects that the bench sends: valid images of nobody, each with UIDs of its own.

The header of one object of a kind is encoded by pydicom; the others are made from its bytes by
putting in values of the same length, so that making them takes next to no time. They are the same
in every run of the bench.

Source: PS3.3 A.3, A.8.4; PS3.10 7.1.
"""

import struct
from dataclasses import dataclass
from io import BufferedWriter, BytesIO
from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    generate_uid,
)

_FIRST_NUMBER = 1_000_000  # all numbers have as many digits
_PIXEL_SIZE_BYTES = 2
_LENGTH_SIZE_BYTES = 4
_PRIME = 251  # so that neighbouring rows differ
# Low bytes that vary, high bytes within 12 bits.
_PATTERN = bytes(value for low in range(_PRIME) for value in (low, low % 16)) * 2048


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """A size of object.

    Attributes:
        name: for the command line and the tables.
        rows: height of the image.
        columns: width of the image.
        most_instances: of one measurement, by all senders together; bounds disk and memory.
        frames: more than one makes it a multi-frame image.
        is_hollow: its pixels are a hole in the file, and so all 0. It takes no room where it is
            sent from, but a disk may be quicker with it than with others.
    """

    name: str
    rows: int
    columns: int
    most_instances: int
    frames: int = 1
    is_hollow: bool = False

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        frames = f"x{self.frames}" if self.frames > 1 else ""
        return f"{self.name} {self.rows}x{self.columns}{frames}, {_size(self.pixels_length)}"

    @property
    def pixels_length(self) -> int:
        """Length of the pixel data in bytes."""
        return self.rows * self.columns * _PIXEL_SIZE_BYTES * self.frames


CT = ObjectKind("CT", rows=512, columns=512, most_instances=640)
SMALL = ObjectKind("small", rows=64, columns=64, most_instances=3000)
LARGE = ObjectKind("large", rows=512, columns=512, most_instances=2, frames=572)
HUGE = ObjectKind("huge", rows=512, columns=512, most_instances=1, frames=2048, is_hollow=True)
KINDS = (CT, SMALL)


class Template:
    """One encoded header of a kind, from which any number of objects is made.

    Attributes:
        kind: which.
    """

    def __init__(self, kind: ObjectKind) -> None:
        """Encode it."""
        self._uids = _uids(kind, 0, 0)
        buffer = BytesIO()
        dcmwrite(buffer, _image(kind, self._uids), enforce_file_format=True)
        # What is encoded last is the length of the Pixel Data, which are written for each object.
        self._header = buffer.getvalue()[:-_LENGTH_SIZE_BYTES]
        self.kind = kind

    def write_series(self, folder: Path, series: int, count: int) -> list[Path]:
        """Write the objects of one series, in a study and of a patient of its own.

        Args:
            folder: where to; made if it does not exist.
            series: its number; another one for each call with the same peer.
            count: how many.

        Returns:
            The files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number in range(count):
            path = folder / f"{number:06}.dcm"
            with path.open("wb") as file:
                file.write(self._header_of(series, number))
                self._write_pixels(file)
            paths.append(path)
        return paths

    def study_instance_uid(self, series: int) -> str:
        """Return the study of the series with this number."""
        return _uids(self.kind, series, 0)[0]

    def _header_of(self, series: int, number: int) -> bytes:
        header = self._header
        for old, new in zip(self._uids, _uids(self.kind, series, number), strict=True):
            header = header.replace(old.encode(), new.encode())
        header = header.replace(_patient_id(0), _patient_id(series))
        return header.replace(_padded_number(0), _padded_number(number), 1)

    def _write_pixels(self, file: BufferedWriter) -> None:
        length = self.kind.pixels_length
        file.write(struct.pack("<L", length))
        if self.kind.is_hollow:
            file.truncate(file.tell() + length)
            return
        while length > 0:
            length -= file.write(_PATTERN[:length])


def _size(length: int) -> str:
    megabytes = length / 1_000_000
    return f"{megabytes:.0f} MB" if megabytes > 1 else f"{length / 1000:.0f} kB"


def _uids(kind: ObjectKind, series: int, number: int) -> tuple[str, str, str]:
    """Return Study, Series and SOP Instance UID, each of 64 characters."""
    where = ["pacsnode bench", kind.name, str(series)]
    return (
        generate_uid(entropy_srcs=[*where, "study"]),
        generate_uid(entropy_srcs=[*where, "series"]),
        generate_uid(entropy_srcs=[*where, "instance", str(number)]),
    )


def _patient_id(series: int) -> bytes:
    return b"BENCH%d" % (_FIRST_NUMBER + series)


def _padded_number(number: int) -> bytes:
    """Return an Instance Number as it is encoded: padded to an even length."""
    return b"%d " % (_FIRST_NUMBER + number)


def _image(kind: ObjectKind, uids: tuple[str, str, str]) -> Dataset:
    """Return an image with every Attribute that the module tables require; the pixels are empty."""
    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID = uids
    data_set.StudyDate = data_set.SeriesDate = data_set.ContentDate = "20260105"
    data_set.StudyTime = data_set.SeriesTime = data_set.ContentTime = "101500"
    data_set.AccessionNumber = "BENCH"
    data_set.Manufacturer = "None"
    data_set.ReferringPhysicianName = "Sample^Samuel"
    data_set.StudyDescription = "Made up"
    data_set.SeriesDescription = "Made up"
    data_set.PatientName = "Example^Emma"
    data_set.PatientID = _patient_id(0).decode()
    data_set.PatientBirthDate = "19700101"
    data_set.PatientSex = "O"
    data_set.StudyID = "1"
    data_set.SeriesNumber = 1
    data_set.InstanceNumber = _FIRST_NUMBER
    if kind.frames > 1:
        _make_multi_frame(data_set, kind.frames)
    else:
        _make_ct(data_set)
    _describe_pixels(data_set, kind)
    data_set.file_meta = _file_meta(data_set)
    return data_set


def _make_ct(data_set: Dataset) -> None:
    data_set.SOPClassUID = CTImageStorage
    data_set.Modality = "CT"
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.KVP = 120
    data_set.PatientPosition = "HFS"
    data_set.AcquisitionNumber = 1
    data_set.FrameOfReferenceUID = data_set.StudyInstanceUID
    data_set.PositionReferenceIndicator = ""
    data_set.SliceThickness = 1
    data_set.ImagePositionPatient = [0, 0, 0]
    data_set.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data_set.PixelSpacing = [1, 1]
    data_set.RescaleIntercept = -1024


def _make_multi_frame(data_set: Dataset, frames: int) -> None:
    data_set.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    data_set.Modality = "OT"
    data_set.ConversionType = "SYN"
    data_set.NumberOfFrames = frames
    data_set.FrameIncrementPointer = Tag("FrameTime")
    data_set.FrameTime = 40
    data_set.BurnedInAnnotation = "NO"
    data_set.PresentationLUTShape = "IDENTITY"
    data_set.RescaleIntercept = 0
    data_set.RescaleType = "US"


def _describe_pixels(data_set: Dataset, kind: ObjectKind) -> None:
    data_set.SamplesPerPixel = 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.Rows = kind.rows
    data_set.Columns = kind.columns
    data_set.BitsAllocated = 16
    data_set.BitsStored = 12
    data_set.HighBit = 11
    data_set.PixelRepresentation = 0
    data_set.RescaleSlope = 1
    data_set.PixelData = b""


def _file_meta(data_set: Dataset) -> FileMetaDataset:
    file_meta = FileMetaDataset()
    file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    file_meta.MediaStorageSOPInstanceUID = UID(data_set.SOPInstanceUID)
    file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return file_meta
