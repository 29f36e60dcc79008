"""Tiny valid SOP Instances that belong to nobody, and the encoded Data Sets of existing files.

Every value is made up. An `Instance` carries the Data Set as bytes, because the bytes are what is
sent, kept and compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

_PREAMBLE_LENGTH = 128
_META_IMPLEMENTATION_UID = "1.2.826.0.1.3680043.8.498.1"
_FIRST_NUMBER = 1_000_000


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP Instance as it goes over the wire.

    Attributes:
        sop_class_uid: what a sender puts into Affected SOP Class UID.
        sop_instance_uid: what a sender puts into Affected SOP Instance UID.
        transfer_syntax_uid: how `encoded_data_set` is encoded.
        encoded_data_set: the bytes after the File Meta Information.
        study_instance_uid: None if the Data Set has none.
        series_instance_uid: None if the Data Set has none.
        patient_id: None if the Data Set has none.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    encoded_data_set: bytes
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    patient_id: str | None = None


def new_uid() -> str:
    """Return a UID that was never used before."""
    return str(generate_uid())


def ct_data_set(rows: int = 8, columns: int = 8, **attributes: Any) -> Dataset:  # noqa: ANN401
    """Return a valid CT Image of a made-up patient.

    Args:
        rows: height of the image; two bytes a pixel.
        columns: width of the image.
        attributes: keyword and value; a value of None leaves the Attribute out.
    """
    data_set = _composite_data_set(CTImageStorage, "CT")
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.ImagePositionPatient = [0, 0, 0]
    data_set.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data_set.SliceThickness = 1
    data_set.PatientPosition = "HFS"
    data_set.PositionReferenceIndicator = ""
    data_set.AcquisitionNumber = 1
    data_set.KVP = 120
    data_set.FrameOfReferenceUID = new_uid()
    data_set.SamplesPerPixel = 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.Rows = rows
    data_set.Columns = columns
    data_set.PixelSpacing = [1, 1]
    data_set.BitsAllocated = 16
    data_set.BitsStored = 12
    data_set.HighBit = 11
    data_set.PixelRepresentation = 0
    data_set.RescaleIntercept = -1024
    data_set.RescaleSlope = 1
    data_set.PixelData = (bytes(range(256)) * (rows * columns // 128 + 1))[: 2 * rows * columns]
    return _with_attributes(data_set, attributes)


def sr_data_set(**attributes: Any) -> Dataset:  # noqa: ANN401
    """Return a valid Basic Text SR of a made-up patient; `attributes` as for `ct_data_set`."""
    data_set = _composite_data_set(BasicTextSRStorage, "SR")
    concept = Dataset()
    concept.CodeValue = "121060"
    concept.CodingSchemeDesignator = "DCM"
    concept.CodeMeaning = "History"
    data_set.ReferencedPerformedProcedureStepSequence = []
    data_set.PerformedProcedureCodeSequence = []
    data_set.ValueType = "CONTAINER"
    data_set.ConceptNameCodeSequence = [concept]
    data_set.ContinuityOfContent = "SEPARATE"
    data_set.CompletionFlag = "COMPLETE"
    data_set.VerificationFlag = "UNVERIFIED"
    text = Dataset()
    text.RelationshipType = "CONTAINS"
    text.ValueType = "TEXT"
    text.ConceptNameCodeSequence = [concept]
    text.TextValue = "Nothing to report."
    data_set.ContentSequence = [text]
    return _with_attributes(data_set, attributes)


def encoded(data_set: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Instance:
    """Return the Data Set as it goes over the wire in a native Transfer Syntax."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid == "1.2.840.10008.1.2"
    buffer.is_little_endian = transfer_syntax_uid != "1.2.840.10008.1.2.2"
    write_dataset(buffer, data_set)
    return Instance(
        sop_class_uid=str(data_set.get("SOPClassUID", CTImageStorage)),
        sop_instance_uid=str(data_set.get("SOPInstanceUID", None) or new_uid()),
        transfer_syntax_uid=transfer_syntax_uid,
        encoded_data_set=buffer.getvalue(),
        study_instance_uid=_text(data_set, "StudyInstanceUID"),
        series_instance_uid=_text(data_set, "SeriesInstanceUID"),
        patient_id=_text(data_set, "PatientID"),
    )


def many_instances(count: int, **attributes: Any) -> Iterator[Instance]:  # noqa: ANN401
    """Yield CT Images of one series that differ in SOP Instance UID and Instance Number.

    Made by replacing bytes in one encoded Data Set, so that a sender is not slowed down.

    Args:
        count: how many; below nine million.
        attributes: as for `ct_data_set`.
    """
    uid_root = new_uid()[:48].rstrip(".")
    first_uid = f"{uid_root}.{_FIRST_NUMBER}"
    template = encoded(
        ct_data_set(SOPInstanceUID=first_uid, InstanceNumber=_FIRST_NUMBER, **attributes)
    )
    first_number = f"{_FIRST_NUMBER} ".encode()
    for number in range(_FIRST_NUMBER, _FIRST_NUMBER + count):
        uid = f"{uid_root}.{number}"
        data = template.encoded_data_set.replace(first_uid.encode(), uid.encode())
        yield replace(
            template,
            sop_instance_uid=uid,
            encoded_data_set=data.replace(first_number, f"{number} ".encode(), 1),
        )


def write_instance(instance: Instance, path: Path) -> Path:
    """Write the instance in the DICOM File Format with the least File Meta Information."""
    meta = b"".join(
        (
            _meta_element(0x0001, b"OB", b"\0\1"),
            _meta_element(0x0002, b"UI", _uid_bytes(instance.sop_class_uid)),
            _meta_element(0x0003, b"UI", _uid_bytes(instance.sop_instance_uid)),
            _meta_element(0x0010, b"UI", _uid_bytes(instance.transfer_syntax_uid)),
            _meta_element(0x0012, b"UI", _uid_bytes(_META_IMPLEMENTATION_UID)),
        )
    )
    group_length = _meta_element(0x0000, b"UL", len(meta).to_bytes(4, "little"))
    head = bytes(_PREAMBLE_LENGTH) + b"DICM" + group_length + meta
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + instance.encoded_data_set)
    return path


def read_part10(path: Path) -> tuple[dict[int, bytes], bytes]:
    """Split a DICOM file into File Meta Information and the encoded Data Set.

    Returns:
        The raw values of group 0002 by element number, and all bytes that follow. A file without
        preamble and File Meta Information has none of the former.

    Source: PS3.10 7.1.
    """
    content = path.read_bytes()
    start = _PREAMBLE_LENGTH + 4 if content[_PREAMBLE_LENGTH:][:4] == b"DICM" else 0
    meta: dict[int, bytes] = {}
    while content[start : start + 2] == b"\x02\x00":
        element = int.from_bytes(content[start + 2 : start + 4], "little")
        if content[start + 4 : start + 6] in (b"OB", b"UN"):
            length = int.from_bytes(content[start + 8 : start + 12], "little")
            start += 12
        else:
            length = int.from_bytes(content[start + 6 : start + 8], "little")
            start += 8
        meta[element] = content[start : start + length]
        start += length
    return meta, content[start:]


def encoded_data_set_of(path: Path) -> bytes:
    """Return the bytes of the Data Set in a DICOM file."""
    return read_part10(path)[1]


def _composite_data_set(sop_class_uid: str, modality: str) -> Dataset:
    """Return what every composite instance has: patient, study, series, SOP common."""
    data_set = Dataset()
    data_set.SOPClassUID = sop_class_uid
    data_set.SOPInstanceUID = new_uid()
    data_set.StudyDate = "20200115"
    data_set.ContentDate = "20200115"
    data_set.StudyTime = "101530"
    data_set.ContentTime = "101530"
    data_set.AccessionNumber = "ACC1"
    data_set.Modality = modality
    data_set.Manufacturer = "Example"
    data_set.ReferringPhysicianName = "Doctor^Daisy"
    data_set.StudyDescription = "Example study"
    data_set.PatientName = "Example^Emma"
    data_set.PatientID = "EX1"
    data_set.PatientBirthDate = "19700102"
    data_set.PatientSex = "F"
    data_set.StudyInstanceUID = new_uid()
    data_set.SeriesInstanceUID = new_uid()
    data_set.StudyID = "S1"
    data_set.SeriesNumber = 1
    data_set.InstanceNumber = 1
    return data_set


def _with_attributes(data_set: Dataset, attributes: dict[str, Any]) -> Dataset:
    """Return the data set with these values; None takes the Attribute out."""
    for keyword, value in attributes.items():
        if value is not None:
            setattr(data_set, keyword, value)
        elif keyword in data_set:
            delattr(data_set, keyword)
    return data_set


def _text(data_set: Dataset, keyword: str) -> str | None:
    value = data_set.get(keyword)
    return str(value) if value else None


def _uid_bytes(uid: str) -> bytes:
    value = uid.encode()
    return value + b"\0" * (len(value) % 2)


def _meta_element(element: int, vr: bytes, value: bytes) -> bytes:
    """Return one element of group 0002 in Explicit VR Little Endian."""
    head = b"\x02\x00" + element.to_bytes(2, "little") + vr
    if vr == b"OB":
        return head + b"\0\0" + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value
