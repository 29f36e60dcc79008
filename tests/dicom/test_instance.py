"""What a data set says of itself."""

from typing import Any

import pytest

from pacsnode.dicom.instance import InstanceHeader, _decode_remembered, read_instance
from pacsnode.dicom.status import DimseFailure
from tests.support.instances import ct_data_set, encoded

_IMPLICIT = "1.2.840.10008.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"


def _header(**attributes: Any) -> InstanceHeader:  # noqa: ANN401 - any value of a Data Element
    instance = encoded(ct_data_set(**attributes))
    return read_instance(instance.encoded_data_set, instance.transfer_syntax_uid)


def _raw(tag: int, value: bytes) -> bytes:
    """An element in Implicit VR Little Endian."""
    group, element = (tag >> 16).to_bytes(2, "little"), (tag & 0xFFFF).to_bytes(2, "little")
    return group + element + len(value).to_bytes(4, "little") + value


_UIDS = {
    0x00080016: b"1.2.840.10008.5.1.4.1.1.2\0",
    0x00080018: b"1.3\0",
    0x0020000D: b"1.4\0",
    0x0020000E: b"1.5\0",
}


def _read(values: dict[int, bytes]) -> InstanceHeader:
    return read_instance(
        b"".join(_raw(tag, value) for tag, value in sorted(values.items())), _IMPLICIT
    )


def test_four_uids_are_enough() -> None:
    """Nothing else has to be there for an instance to be kept (F-7)."""
    assert _read(_UIDS) == InstanceHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.3",
        study_instance_uid="1.4",
        series_instance_uid="1.5",
        values={
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "SOPInstanceUID": "1.3",
            "StudyInstanceUID": "1.4",
            "SeriesInstanceUID": "1.5",
        },
    )


@pytest.mark.parametrize("tag", _UIDS)
@pytest.mark.parametrize("value", [None, b"", b"\0\0", b"  "], ids=repr)
def test_a_missing_uid_is_answered_with_c001(tag: int, value: bytes | None) -> None:
    """Absent, empty and only padding are the same; the tag at fault goes with it (F-3)."""
    values = {**_UIDS, tag: value}
    with pytest.raises(DimseFailure) as refusal:
        _read({tag: value for tag, value in values.items() if value is not None})
    assert refusal.value.status == 0xC001
    assert refusal.value.offending_elements == (tag,)


@pytest.mark.parametrize(
    ("tag", "status"),
    [(0x00080016, 0xC001), (0x00080018, 0x0117), (0x0020000D, 0xC001), (0x0020000E, 0xC001)],
)
@pytest.mark.parametrize("value", [b"1.2.x ", b"../../etc ", b"1.2\\1.3 ", b"1" * 66])
def test_an_invalid_uid_is_refused(tag: int, status: int, value: bytes) -> None:
    """0117 for the SOP Instance UID, C001 for the others (I-2, F-3)."""
    with pytest.raises(DimseFailure) as refusal:
        _read({**_UIDS, tag: value})
    assert (refusal.value.status, refusal.value.offending_elements) == (status, (tag,))


def test_a_refusal_does_not_hold_the_value() -> None:
    """A comment names the attribute only: its value may be of a patient."""
    with pytest.raises(DimseFailure) as refusal:
        _read({**_UIDS, 0x0020000D: b"Example^Emma"})
    assert refusal.value.comment == "StudyInstanceUID is no UID"


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_a_truncated_data_set_is_answered_with_c000(cut: int) -> None:
    """What cannot be decoded to its end is not kept (F-3)."""
    instance = encoded(ct_data_set())
    with pytest.raises(DimseFailure) as refusal:
        read_instance(instance.encoded_data_set[:-cut], instance.transfer_syntax_uid)
    assert refusal.value.status == 0xC000


def test_a_data_set_with_file_meta_information_is_answered_with_c000() -> None:
    """Group 0002 has no place in a data set (F-12)."""
    with pytest.raises(DimseFailure) as refusal:
        _read({**_UIDS, 0x00020010: b"1.2\0"})
    assert refusal.value.status == 0xC000


@pytest.mark.parametrize("transfer_syntax_uid", [_IMPLICIT, _EXPLICIT, "1.2.840.10008.1.2.2"])
def test_values_are_the_same_in_every_encoding(transfer_syntax_uid: str) -> None:
    """The catalog does not know how an instance was encoded."""
    instance = encoded(ct_data_set(PatientID="EX9"), transfer_syntax_uid)
    header = read_instance(instance.encoded_data_set, transfer_syntax_uid)
    assert header.values["PatientID"] == "EX9"
    assert header.values["SeriesNumber"] == "1"
    assert header.study_instance_uid == instance.study_instance_uid


def test_values_have_no_padding_and_keep_their_inner_spaces() -> None:
    """Spaces at both ends are cut, those between words are not (C-3)."""
    assert _read({**_UIDS, 0x00081030: b"  CT  head  "}).values["StudyDescription"] == "CT  head"


def test_each_of_several_values_loses_its_padding() -> None:
    """Values are told apart after decoding (C-1, D-8)."""
    header = _read({**_UIDS, 0x00201070: b" 1 \\ 2"})
    assert header.values["OtherStudyNumbers"] == "1\\2"


@pytest.mark.parametrize("value", [b"", b"  ", b"\\", b" \\ \\"])
def test_an_attribute_without_a_value_is_left_out(value: bytes) -> None:
    """Empty and absent are one state (I-14)."""
    assert "OtherPatientNames" not in _read({**_UIDS, 0x00101001: value}).values


def test_text_is_decoded_with_the_set_that_the_data_set_declares() -> None:
    """The catalog holds Unicode (C-25)."""
    sets = {0x00080005: b"ISO_IR 100", 0x00100010: b"M\xfcller^Anna"}
    assert _read({**_UIDS, **sets}).values["PatientName"] == "M\u00fcller^Anna"


def test_text_of_no_declared_set_that_is_utf_8_is_read_so() -> None:
    """Senders forget the declaration (D-15)."""
    name = "M\u00fcller^Anna".encode()
    assert _read({**_UIDS, 0x00100010: name}).values["PatientName"] == "M\u00fcller^Anna"


def test_an_unknown_character_set_does_not_fail_the_store() -> None:
    """What can be read is kept (F-25)."""
    sets = {0x00080005: b"ISO_IR 999", 0x00100010: b"A\xfcB^Anna "}
    assert _read({**_UIDS, **sets}).values["PatientName"].startswith("A")


def test_a_value_of_the_wrong_form_is_kept_as_it_is() -> None:
    """A date that is none does no harm: level 2 need not validate (F-7, C-16)."""
    assert _read({**_UIDS, 0x00080020: b"20209999"}).values["StudyDate"] == "20209999"


def test_an_element_sent_as_un_is_still_text() -> None:
    """The VR of the dictionary counts."""
    uids = b"".join(
        tag.to_bytes(4, "big")[1::-1]
        + tag.to_bytes(4, "big")[:1:-1]
        + b"UI"
        + len(value).to_bytes(2, "little")
        + value
        for tag, value in sorted(_UIDS.items())
    )
    unknown = b"\x20\x00\x10\x00UN\x00\x00\x04\x00\x00\x00S42 "
    assert read_instance(uids + unknown, _EXPLICIT).values["StudyID"] == "S42"


def test_what_stands_in_a_sequence_does_not_describe_the_instance() -> None:
    """The Study Instance UID of a referenced study is not ours."""
    other = ct_data_set(StudyInstanceUID="9.9.9", PatientID="OTHER")
    header = _header(ReferencedStudySequence=[other], PatientID="EX1", StudyInstanceUID="1.1.1")
    assert header.study_instance_uid == "1.1.1"
    assert header.values["PatientID"] == "EX1"


def test_pixels_are_no_value() -> None:
    """Only catalogued attributes are read."""
    assert "PixelData" not in _header().values


# --- values that are remembered


def test_the_same_bytes_mean_another_text_in_another_character_set() -> None:
    """What was decoded for one instance is not handed to one of other sets (D-15)."""
    name = {0x00100010: b"K\xf3s^Anna "}
    latin_1 = _read({**_UIDS, 0x00080005: b"ISO_IR 100", **name})
    cyrillic = _read({**_UIDS, 0x00080005: b"ISO_IR 144", **name})
    assert latin_1.values["PatientName"] == "K\u00f3s^Anna"
    assert cyrillic.values["PatientName"] == "K\u0453s^Anna"


def test_the_same_bytes_mean_another_text_in_another_vr() -> None:
    """Leading spaces count in LT, Patient Comments, and not in LO (C-3)."""
    header = _read({**_UIDS, 0x00081030: b" same ", 0x00104000: b" same "})
    assert header.values["StudyDescription"] == "same"
    assert header.values["PatientComments"] == " same"


@pytest.mark.parametrize(
    "values",
    [
        {0x00081030: b"x" * 257},
        {0x00080005: b"NOBODY KNOWS " * 20, 0x00081030: b"some description"},
    ],
    ids=["long value", "long terms"],
)
def test_what_is_long_is_not_remembered(values: dict[int, bytes]) -> None:
    """A sender cannot fill the memory with values that nobody else sends."""
    _read(_UIDS)
    before = _decode_remembered.cache_info().currsize
    header = _read({**_UIDS, **values})
    assert header.values["StudyDescription"] == values[0x00081030].decode()
    assert _decode_remembered.cache_info().currsize == before


def test_character_sets_without_end_are_read_at_their_beginning() -> None:
    """Text is still decoded with the sets that are known (D-17)."""
    sets = {0x00080005: b"ISO_IR 100" + b"\\X" * 5000, 0x00100010: b"M\xfcller^Anna"}
    assert _read({**_UIDS, **sets}).values["PatientName"] == "M\u00fcller^Anna"


def test_the_number_of_remembered_values_has_a_bound() -> None:
    """Every instance has values of its own."""
    assert _decode_remembered.cache_info().maxsize == 2048
