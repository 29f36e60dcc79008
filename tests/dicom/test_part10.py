"""DICOM files: the header we write, and the reading of others'."""

from dataclasses import replace
from io import BytesIO

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.dicom.part10 import FileMeta, Part10Error, Received, file_header, read_file_meta
from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID
from tests.support.instances import ct_data_set, encoded

_RECEIVED = Received(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    sop_instance_uid="1.2.3",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    calling_ae_title="MODALITY",
    called_ae_title="PACS",
)


def test_a_file_header_has_these_bytes() -> None:
    """Preamble, prefix, and table 7.1-1 in Explicit VR Little Endian (PS3.10 7.1, F-11)."""
    implementation = IMPLEMENTATION_CLASS_UID.encode()
    assert len(implementation) % 2 == 0
    group = b"".join(
        (
            b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01",
            b"\x02\x00\x02\x00UI\x1a\x001.2.840.10008.5.1.4.1.1.2\0",
            b"\x02\x00\x03\x00UI\x06\x001.2.3\0",
            b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0",
            b"\x02\x00\x12\x00UI" + len(implementation).to_bytes(2, "little") + implementation,
            b"\x02\x00\x13\x00SH\x0c\x00PACSNODE_0_1",
            b"\x02\x00\x16\x00AE\x08\x00MODALITY",
            b"\x02\x00\x17\x00AE\x08\x00MODALITY",
            b"\x02\x00\x18\x00AE\x04\x00PACS",
        )
    )
    group_length = b"\x02\x00\x00\x00UL\x04\x00" + len(group).to_bytes(4, "little")
    assert file_header(_RECEIVED) == bytes(128) + b"DICM" + group_length + group


@pytest.mark.parametrize(
    "changed",
    [
        {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"},
        {"sop_instance_uid": "1.2.3.45"},
        {"transfer_syntax_uid": "1.2.840.10008.1.2"},
        {"calling_ae_title": "OTHER"},
        {"called_ae_title": "OTHER"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_each_file_header_is_of_its_own_instance(changed: dict[str, str]) -> None:
    """Nothing of an earlier one is left in it, whatever differs (F-11)."""
    of_first = pydicom.dcmread(BytesIO(file_header(_RECEIVED))).file_meta
    received = replace(_RECEIVED, **changed)
    file_meta = pydicom.dcmread(BytesIO(file_header(received))).file_meta
    assert file_meta.MediaStorageSOPClassUID == received.sop_class_uid
    assert file_meta.MediaStorageSOPInstanceUID == received.sop_instance_uid
    assert file_meta.TransferSyntaxUID == received.transfer_syntax_uid
    assert file_meta.SourceApplicationEntityTitle == received.calling_ae_title
    assert file_meta.SendingApplicationEntityTitle == received.calling_ae_title
    assert file_meta.ReceivingApplicationEntityTitle == received.called_ae_title
    assert of_first != file_meta


def test_pydicom_reads_what_we_write() -> None:
    """A strict reader finds the instance, and the group length leads to the data set (F-11)."""
    instance = encoded(ct_data_set(PatientID="EX7"))
    received = Received(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax_uid,
        "MODALITY",
        "PACS",
    )
    header = file_header(received)
    file = pydicom.dcmread(BytesIO(header + instance.encoded_data_set), force=False)
    assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
    assert file.file_meta.FileMetaInformationGroupLength == len(header) - 144
    assert file.PatientID == "EX7"


def test_a_title_that_is_empty_is_left_out() -> None:
    """An empty AE value would be none: Source, Sending and Receiving AE Title are type 3 (F-11)."""
    received = Received("1.2", "1.3", "1.2.840.10008.1.2", "", "")
    file = pydicom.dcmread(BytesIO(file_header(received)))
    assert max(element.tag for element in file.file_meta) == 0x00020013


def _meta(*elements: bytes, group_length: int | None = None) -> bytes:
    group = b"".join(elements)
    length = len(group) if group_length is None else group_length
    return bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + length.to_bytes(4, "little") + group


_SYNTAX = b"\x02\x00\x10\x00UI\x12\x001.2.840.10008.1.2\0"
_DATA_SET = b"\x08\x00\x18\x00\x04\x00\x00\x001.2\0"


def test_what_we_write_is_read_back() -> None:
    """The three UIDs and the start of the data set."""
    header = file_header(_RECEIVED)
    assert read_file_meta(BytesIO(header + _DATA_SET)) == FileMeta(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        data_set_offset=len(header),
    )


@pytest.mark.parametrize("group_length", [0, 4, 1000, 0xFFFFFFFF])
def test_a_wrong_group_length_does_not_matter(group_length: int) -> None:
    """The end of group 0002 is where another group starts, whatever (0002,0000) says."""
    content = _meta(_SYNTAX, group_length=group_length)
    assert read_file_meta(BytesIO(content + _DATA_SET)).data_set_offset == len(content)


def test_a_missing_group_length_does_not_matter() -> None:
    """Files without (0002,0000) are read as well."""
    content = bytes(128) + b"DICM" + _SYNTAX
    assert read_file_meta(BytesIO(content + _DATA_SET)).data_set_offset == len(content)


@pytest.mark.parametrize("vr", [b"OB", b"UN", b"UR", b"UT"])
def test_an_element_with_a_long_header_does_not_hide_the_end(vr: bytes) -> None:
    """Presentation addresses (0002,0026) to (0002,0028) are UR, with 32 bits of length."""
    address = b"\x02\x00\x26\x00" + vr + b"\x00\x00\x08\x00\x00\x00http://x"
    content = _meta(_SYNTAX, address)
    assert read_file_meta(BytesIO(content + _DATA_SET)).data_set_offset == len(content)


def test_padding_of_the_uids_does_not_count() -> None:
    """A UID padded with a space is that UID (I-1)."""
    content = _meta(b"\x02\x00\x10\x00UI\x12\x001.2.840.10008.1.2 ")
    assert read_file_meta(BytesIO(content)).transfer_syntax_uid == "1.2.840.10008.1.2"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"DICM",
        bytes(132),
        bytes(128) + b"DICM",
        _meta(),
        _meta(b"\x02\x00\x10\x00UI\x00\x00"),
        _meta(b"\x02\x00\x10\x00UI\x04\x00JPEG"),
        _meta(_SYNTAX[:-3]),
        _meta(_SYNTAX, b"\x02\x00\x02\x01OB\x00\x00\xff\xff\xff\xff"),
        _meta(_SYNTAX, b"\x02\x00"),
    ],
)
def test_what_lacks_a_sound_file_meta_information_is_refused(content: bytes) -> None:
    """No prefix, no valid Transfer Syntax UID, or an element that is cut off (PS3.10 7.1)."""
    with pytest.raises(Part10Error):
        read_file_meta(BytesIO(content))


@given(st.binary(max_size=300))
def test_garbage_behind_the_prefix_raises_nothing_but_a_part_10_error(garbage: bytes) -> None:
    """Any file may be handed to an import."""
    try:
        meta = read_file_meta(BytesIO(bytes(128) + b"DICM" + garbage))
    except Part10Error:
        return
    assert 132 < meta.data_set_offset <= 132 + len(garbage)
