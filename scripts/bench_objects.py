"""The objects that the bench sends: valid CT Images of nobody, each with UIDs of its own.

One object of a kind is encoded by pydicom; the others are made from its bytes by putting in values
of the same length, so that making them takes next to no time. They are the same in every run of
the bench.

Source: PS3.3 A.3; PS3.10 7.1.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

_FIRST_NUMBER = 1_000_000  # all numbers have as many digits
_PIXEL_SIZE_BYTES = 2
_PRIME = 251  # so that neighbouring rows differ


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """A size of object.

    Attributes:
        name: for the command line and the tables.
        rows: height of the image.
        columns: width of the image.
        most_instances: of one measurement, by all senders together; bounds disk and memory.
    """

    name: str
    rows: int
    columns: int
    most_instances: int

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        pixels_kilobytes = self.rows * self.columns * _PIXEL_SIZE_BYTES / 1000
        return f"{self.name} {self.rows}x{self.columns}, {pixels_kilobytes:.0f} kB"


KINDS = (
    ObjectKind("CT", rows=512, columns=512, most_instances=160),
    ObjectKind("small", rows=64, columns=64, most_instances=480),
)


class Template:
    """One encoded object of a kind, from which any number is made.

    Attributes:
        kind: which.
    """

    def __init__(self, kind: ObjectKind) -> None:
        """Encode it."""
        self._uids = _uids(kind, 0, 0)
        data_set = _ct_image(kind, self._uids)
        buffer = BytesIO()
        dcmwrite(buffer, data_set, enforce_file_format=True)
        header_length = len(buffer.getvalue()) - len(data_set.PixelData)
        self._header = buffer.getvalue()[:header_length]
        self._pixels = bytes(data_set.PixelData)
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
                file.write(self._pixels)
            paths.append(path)
        return paths

    def _header_of(self, series: int, number: int) -> bytes:
        header = self._header
        for old, new in zip(self._uids, _uids(self.kind, series, number), strict=True):
            header = header.replace(old.encode(), new.encode())
        header = header.replace(_patient_id(0), _patient_id(series))
        return header.replace(_padded_number(0), _padded_number(number), 1)


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


def _ct_image(kind: ObjectKind, uids: tuple[str, str, str]) -> Dataset:
    """Return a CT Image with every Attribute that the module tables require."""
    data_set = Dataset()
    data_set.file_meta = _file_meta(uids[2])
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.SOPClassUID = CTImageStorage
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID = uids
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.StudyDate = data_set.SeriesDate = data_set.ContentDate = "20260105"
    data_set.StudyTime = data_set.SeriesTime = data_set.ContentTime = "101500"
    data_set.AccessionNumber = "BENCH"
    data_set.Modality = "CT"
    data_set.Manufacturer = "None"
    data_set.ReferringPhysicianName = "Sample^Samuel"
    data_set.StudyDescription = "Made up"
    data_set.SeriesDescription = "Made up"
    data_set.PatientName = "Example^Emma"
    data_set.PatientID = _patient_id(0).decode()
    data_set.PatientBirthDate = "19700101"
    data_set.PatientSex = "O"
    data_set.KVP = 120
    data_set.PatientPosition = "HFS"
    data_set.StudyID = "1"
    data_set.SeriesNumber = 1
    data_set.AcquisitionNumber = 1
    data_set.InstanceNumber = _FIRST_NUMBER
    data_set.FrameOfReferenceUID = uids[0]
    data_set.PositionReferenceIndicator = ""
    data_set.SliceThickness = 1
    data_set.ImagePositionPatient = [0, 0, 0]
    data_set.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    _add_pixels(data_set, kind)
    return data_set


def _file_meta(sop_instance_uid: str) -> FileMetaDataset:
    file_meta = FileMetaDataset()
    file_meta.MediaStorageSOPClassUID = CTImageStorage
    file_meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return file_meta


def _add_pixels(data_set: Dataset, kind: ObjectKind) -> None:
    data_set.SamplesPerPixel = 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.Rows = kind.rows
    data_set.Columns = kind.columns
    data_set.PixelSpacing = [1, 1]
    data_set.BitsAllocated = 16
    data_set.BitsStored = 12
    data_set.HighBit = 11
    data_set.PixelRepresentation = 0
    data_set.RescaleIntercept = -1024
    data_set.RescaleSlope = 1
    # Low bytes that vary, high bytes within 12 bits.
    pattern = bytes(value for low in range(_PRIME) for value in (low, low % 16))
    size_bytes = kind.rows * kind.columns * _PIXEL_SIZE_BYTES
    data_set.PixelData = (pattern * (size_bytes // len(pattern) + 1))[:size_bytes]
