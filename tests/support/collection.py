"""A small archive of made-up instances, for what is retrieved: native and compressed ones.

RET1  study S1: series of three CT Images, series of one structured report
      study S2: series of two CT Images
RET2  study S3: series of one CT Image
RET3  study S4: an image in each compression that others' tools and codecs know, Deflated and
      Big Endian among them
"""

from pathlib import Path
from types import MappingProxyType

import pydicom.data
from pydicom import dcmread

from tests.support.instances import (
    Instance,
    ct_data_set,
    encoded,
    encoded_data_set_of,
    sr_data_set,
    write_instance,
)

_ROOT = "1.2.826.0.1.3680043.8.498.85"
S1, S2, S3, S4 = (f"{_ROOT}.{number}" for number in range(1, 5))
S1_CT, S1_SR, S2_CT, S3_CT, S4_OT = f"{S1}.1", f"{S1}.2", f"{S2}.1", f"{S3}.1", f"{S4}.1"
_REAL = Path(pydicom.data.__file__).parent / "test_files"
# Each of another Transfer Syntax.
_COMPRESSED = (
    "SC_rgb_jpeg_dcmtk.dcm",
    "JPGExtended.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "JPEGLSNearLossless_08.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "693_J2KI.dcm",
    "SC_rgb_rle_2frame.dcm",
    "image_dfl.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
)

Instances = MappingProxyType[str, Instance]


def _native_instance(patient: str, study: str, series: str, number: int) -> Instance:
    make = sr_data_set if series == S1_SR else ct_data_set
    return encoded(
        make(
            PatientID=patient,
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=f"{series}.{number}",
            InstanceNumber=number,
        )
    )


NATIVE: Instances = MappingProxyType(
    {
        instance.sop_instance_uid: instance
        for instance in (
            *(_native_instance("RET1", S1, S1_CT, number) for number in (1, 2, 3)),
            _native_instance("RET1", S1, S1_SR, 1),
            *(_native_instance("RET1", S2, S2_CT, number) for number in (1, 2)),
            _native_instance("RET2", S3, S3_CT, 1),
        )
    }
)


def compressed(folder: Path) -> dict[str, Instance]:
    """Return the instances of S4 by UID; the folder is for files on the way."""
    found = {}
    for number, name in enumerate(_COMPRESSED, 1):
        data_set = dcmread(_REAL / name)
        data_set.PatientID = "RET3"
        data_set.StudyInstanceUID = S4
        data_set.SeriesInstanceUID = S4_OT
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = (
            f"{S4_OT}.{number}"
        )
        data_set.save_as(folder / name)
        found[data_set.SOPInstanceUID] = Instance(
            data_set.SOPClassUID,
            data_set.SOPInstanceUID,
            data_set.file_meta.TransferSyntaxUID,
            encoded_data_set_of(folder / name),
            S4,
            S4_OT,
            "RET3",
        )
    return found


def of(instances: Instances | dict[str, Instance], above: str) -> dict[str, bytes]:
    """Return the Data Sets of the instances of a patient, study or series, or of one instance."""
    return {
        uid: each.encoded_data_set
        for uid, each in instances.items()
        if above in (each.patient_id, each.study_instance_uid, each.series_instance_uid, uid)
    }


def pixels_of(instance: Instance, folder: Path) -> bytes:
    """Return the pixel data of an instance as pydicom decodes it, native and compressed alike."""
    return pixels_in(write_instance(instance, folder / f"{instance.sop_instance_uid}.dcm"))


def pixels_in(path: Path) -> bytes:
    """Return the pixel data of a file, in the colours that it is encoded in."""
    data_set = dcmread(path)
    return bytes(data_set.pixel_array.tobytes())
