"""How long the node takes from the bytes of a data set to what the catalog keeps of it.

The instances differ from each other as those of a series do, so that what the reader remembers of
earlier ones helps it as much as it does with a modality, and no more. Each is read as the node
reads it: through a view of a memory map, its pixels behind it. What it says of patient, study and
series is decoded where these are new, as it is then.
"""

import mmap
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import read_instance
from pacsnode.dicom.part10 import Received, file_header

_INSTANCES: Final = 200  # strange ones have more values than the reader remembers
_ROUNDS: Final = 20
_LARGE_HEADER_ELEMENTS: Final = 300
_NANOSECONDS_PER_MICROSECOND: Final = 1000
_FIRST_NUMBER: Final = 100_000  # all numbers have as many digits
_OF_SERIES: Final = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "SOPClassUID": CTImageStorage,
    "StudyDate": "20260105",
    "SeriesDate": "20260105",
    "ContentDate": "20260105",
    "StudyTime": "101500.123000",
    "SeriesTime": "101712.000000",
    "AccessionNumber": "BENCH0001",
    "Modality": "CT",
    "Manufacturer": "None",
    "InstitutionName": "Made-up Hospital",
    "ReferringPhysicianName": "Sample^Samuel",
    "StationName": "CT1",
    "StudyDescription": "Head without contrast",
    "SeriesDescription": "Axial 1.0",
    "ManufacturerModelName": "Made up",
    "PatientName": "M\u00fcller^Anna",
    "PatientID": "BENCH1000000",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "PatientAge": "055Y",
    "BodyPartExamined": "HEAD",
    "SliceThickness": 1,
    "KVP": 120,
    "DataCollectionDiameter": 500,
    "SoftwareVersions": "1.0",
    "ProtocolName": "Head routine",
    "ReconstructionDiameter": 250,
    "GantryDetectorTilt": 0,
    "TableHeight": 150,
    "ExposureTime": 1000,
    "XRayTubeCurrent": 200,
    "ConvolutionKernel": "H30s",
    "PatientPosition": "HFS",
    "StudyID": "1",
    "SeriesNumber": 2,
    "AcquisitionNumber": 1,
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PositionReferenceIndicator": "",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": 64,
    "Columns": 64,
    "PixelSpacing": [1, 1],
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
    "WindowCenter": 40,
    "WindowWidth": 80,
    "RescaleIntercept": -1024,
    "RescaleSlope": 1,
    "PixelData": bytes(2 * 64 * 64),
}
_SEQUENCE_KEYWORDS: Final = (
    "ReferencedStudySequence",
    "ReferencedPerformedProcedureStepSequence",
    "ReferencedImageSequence",
    "SourceImageSequence",
    "AnatomicRegionSequence",
    "ProcedureCodeSequence",
    "RequestAttributesSequence",
    "PatientOrientationCodeSequence",
)
_TEXT_VRS: Final = frozenset({"LO", "PN", "SH"})


@dataclass(frozen=True, slots=True)
class HeaderRead:
    """One measurement.

    Attributes:
        name: what was read, in a few words.
        microseconds: for one instance: the median of a round, and of all rounds the least, because
            whatever else the machine does can only add to it.
    """

    name: str
    microseconds: float


def main() -> None:
    """Print the measurements."""
    for read in measure_header_reads():
        print(f"{read.microseconds:8.1f} us  {read.name}")


def measure_header_reads() -> list[HeaderRead]:
    """Measure the reading of small and large headers, and the writing of a file's header."""
    reads = []
    for title, make, levels in (
        ("CT", _small_header, (Level.IMAGE,)),
        ("CT of a patient of its own", _strange_header, tuple(Level)),
        ("CT with sequences", _large_header, (Level.IMAGE,)),
        ("CT with sequences, the first of its study", _large_header, tuple(Level)),
    ):
        data_sets = [make(number) for number in range(_INSTANCES)]
        for transfer_syntax_uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
            name = f"{title}, {_count_elements(data_sets[0])} elements, {transfer_syntax_uid.name}"
            with ExitStack() as stack:
                views = (
                    stack.enter_context(_mapped(_encoded(data_set, transfer_syntax_uid)))
                    for data_set in data_sets
                )
                calls = [partial(_read, view, transfer_syntax_uid, levels) for view in views]
                reads.append(HeaderRead(name, _microseconds(calls)))
    received = (
        Received(CTImageStorage, generate_uid(), ExplicitVRLittleEndian, "MODALITY", "PACSNODE")
        for _ in range(_INSTANCES)
    )
    calls_for_files = [partial(file_header, each) for each in received]
    reads.append(HeaderRead("File Meta Information, written", _microseconds(calls_for_files)))
    return reads


def _read(data_set: memoryview, transfer_syntax_uid: str, levels: Sequence[Level]) -> None:
    """Read an instance, and decode what it says of itself and of entities that are new."""
    header = read_instance(data_set, transfer_syntax_uid)
    for level in levels:
        header.values(level)


def _microseconds(calls: Sequence[Callable[[], object]]) -> float:
    medians = []
    for _ in range(_ROUNDS):
        durations = []
        for call in calls:
            started_at = time.perf_counter_ns()
            call()
            durations.append(time.perf_counter_ns() - started_at)
        medians.append(statistics.median(durations))
    return min(medians) / _NANOSECONDS_PER_MICROSECOND


@contextmanager
def _mapped(data_set: bytes) -> Iterator[memoryview]:
    with mmap.mmap(-1, len(data_set)) as memory:
        memory.write(data_set)
        with memoryview(memory) as view:
            yield view


def _encoded(data_set: Dataset, transfer_syntax_uid: UID) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid.is_implicit_VR
    buffer.is_little_endian = transfer_syntax_uid.is_little_endian
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def _count_elements(data_set: Dataset) -> int:
    """Return how many elements a data set has before its pixels, those in items included."""
    return sum(1 for element in data_set.iterall() if element.keyword != "PixelData")


def _small_header(number: int) -> Dataset:
    """Return the CT Image of a number in its series, as a scanner sends it."""
    data_set = Dataset()
    for keyword, value in _OF_SERIES.items():
        setattr(data_set, keyword, value)
    data_set.SOPInstanceUID = _uid("instance", str(number))
    data_set.StudyInstanceUID = _uid("study")
    data_set.SeriesInstanceUID = _uid("series")
    data_set.FrameOfReferenceUID = _uid("frame of reference")
    data_set.ContentTime = f"1018{number % 60:02}.{number:06}"
    data_set.InstanceNumber = number
    data_set.ImagePositionPatient = [-125, -125, number]
    data_set.SliceLocation = number
    return data_set


def _strange_header(number: int) -> Dataset:
    """Return a CT Image that shares hardly a value with the others."""
    data_set = _small_header(number)
    for element in data_set:
        if element.VR in _TEXT_VRS:
            element.value = f"{element.value}{_FIRST_NUMBER + number}"
    data_set.StudyInstanceUID = _uid("study", str(number))
    data_set.SeriesInstanceUID = _uid("series", str(number))
    data_set.FrameOfReferenceUID = _uid("frame of reference", str(number))
    return data_set


def _large_header(number: int) -> Dataset:
    """Return a CT Image with nested sequences of both kinds and with many private elements."""
    data_set = _small_header(number)
    for place, keyword in enumerate(_SEQUENCE_KEYWORDS):
        # One half with lengths, which are jumped over; the other without, which are walked through.
        _add_sequence(data_set, keyword, depth=2, has_length=place % 2 == 0)
    missing = _LARGE_HEADER_ELEMENTS + 1 - len(data_set)  # beside the pixels
    block = data_set.private_block(0x0019, "MADE UP", create=True)
    for element in range(missing - 1):
        block.add_new(element, "DS", str(element))
    return data_set


def _add_sequence(data_set: Dataset, keyword: str, depth: int, *, has_length: bool) -> None:
    """Add two items of five elements; the last of each is a sequence like it, down to a depth."""
    items = [_item(depth, has_length=has_length) for _ in range(2)]
    setattr(data_set, keyword, items)
    data_set[keyword].is_undefined_length = not has_length


def _item(depth: int, *, has_length: bool) -> Dataset:
    item = Dataset()
    item.is_undefined_length_sequence_item = not has_length
    item.ReferencedSOPClassUID = CTImageStorage
    item.ReferencedSOPInstanceUID = _uid("referenced")
    item.CodeValue = "121326"
    item.CodingSchemeDesignator = "DCM"
    if depth > 1:
        _add_sequence(
            item, "PurposeOfReferenceCodeSequence", depth=depth - 1, has_length=has_length
        )
    else:
        item.CodeMeaning = "Alternate SOP Class instance"
    return item


def _uid(*what: str) -> str:
    return generate_uid(entropy_srcs=["pacsnode bench header", *what])


if __name__ == "__main__":
    main()
