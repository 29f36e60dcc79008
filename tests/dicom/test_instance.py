"""What a data set says of itself."""

import contextlib
import time
import tracemalloc
import zlib
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from pacsnode.dicom import instance as instance_module
from pacsnode.dicom.attributes import BY_KEYWORD, Keys, extra_key
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import (
    InstanceHeader,
    InstanceReader,
    _decode_items_remembered,
    read_instance,
)
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.values import ItemElement, Value, _decode_remembered
from tests.support.instances import ct_data_set, encoded

_IMPLICIT = "1.2.840.10008.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_BIG = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"


def _header(**attributes: Any) -> InstanceHeader:  # noqa: ANN401 - any value of a Data Element
    instance = encoded(ct_data_set(**attributes))
    return read_instance(instance.encoded_data_set, instance.transfer_syntax_uid)


def _values(header: InstanceHeader) -> dict[str, Value]:
    """The values of all levels."""
    return {keyword: value for level in Level for keyword, value in header.values(level).items()}


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
    header = _read(_UIDS)
    assert header.sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"
    assert header.sop_instance_uid == "1.3"
    assert header.study_instance_uid == "1.4"
    assert header.series_instance_uid == "1.5"
    assert [dict(header.values(level)) for level in Level] == [
        {},
        {"StudyInstanceUID": "1.4"},
        {"SeriesInstanceUID": "1.5"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": "1.3"},
    ]
    assert not header.is_damaged


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


@pytest.mark.parametrize("transfer_syntax_uid", [_IMPLICIT, _EXPLICIT, _BIG])
def test_values_are_the_same_in_every_encoding(transfer_syntax_uid: str) -> None:
    """The catalog does not know how an instance was encoded."""
    instance = encoded(ct_data_set(PatientID="EX9"), transfer_syntax_uid)
    header = read_instance(instance.encoded_data_set, transfer_syntax_uid)
    assert _values(header)["PatientID"] == "EX9"
    assert _values(header)["SeriesNumber"] == "1"
    assert _values(header)["Rows"] == "8"
    assert header.study_instance_uid == instance.study_instance_uid


def test_values_have_no_padding_and_keep_their_inner_spaces() -> None:
    """Spaces at both ends are cut, those between words are not (C-3)."""
    assert _values(_read({**_UIDS, 0x00081030: b"  CT  head  "}))["StudyDescription"] == "CT  head"


def test_each_of_several_values_loses_its_padding() -> None:
    """Values are told apart after decoding (C-1, D-8)."""
    header = _read({**_UIDS, 0x00201070: b" 1 \\ 2"})
    assert _values(header)["OtherStudyNumbers"] == "1\\2"


@pytest.mark.parametrize("value", [b"", b"  ", b"\\", b" \\ \\"])
def test_an_attribute_without_a_value_is_left_out(value: bytes) -> None:
    """Empty and absent are one state (I-14)."""
    assert "OtherPatientNames" not in _values(_read({**_UIDS, 0x00101001: value}))


def test_text_is_decoded_with_the_set_that_the_data_set_declares() -> None:
    """The catalog holds Unicode (C-25)."""
    sets = {0x00080005: b"ISO_IR 100", 0x00100010: b"M\xfcller^Anna"}
    assert _values(_read({**_UIDS, **sets}))["PatientName"] == "M\u00fcller^Anna"


def test_text_of_no_declared_set_that_is_utf_8_is_read_so() -> None:
    """Senders forget the declaration (D-15)."""
    name = "M\u00fcller^Anna".encode()
    assert _values(_read({**_UIDS, 0x00100010: name}))["PatientName"] == "M\u00fcller^Anna"


def test_an_unknown_character_set_does_not_fail_the_store() -> None:
    """What can be read is kept (F-25)."""
    sets = {0x00080005: b"ISO_IR 999", 0x00100010: b"A\xfcB^Anna "}
    assert _values(_read({**_UIDS, **sets}))["PatientName"].startswith("A")


def test_a_value_of_the_wrong_form_is_kept_as_it_is() -> None:
    """A date that is none does no harm: level 2 need not validate (F-7, C-16)."""
    assert _values(_read({**_UIDS, 0x00080020: b"20209999"}))["StudyDate"] == "20209999"


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
    assert _values(read_instance(uids + unknown, _EXPLICIT))["StudyID"] == "S42"


def test_what_stands_in_a_sequence_does_not_describe_the_instance() -> None:
    """The Study Instance UID of a referenced study is not ours."""
    other = ct_data_set(StudyInstanceUID="9.9.9", PatientID="OTHER")
    header = _header(ReferencedStudySequence=[other], PatientID="EX1", StudyInstanceUID="1.1.1")
    assert header.study_instance_uid == "1.1.1"
    assert _values(header)["PatientID"] == "EX1"


def test_pixels_are_no_value() -> None:
    """Only catalogued attributes are read."""
    assert "PixelData" not in _values(_header())


# --- values that are remembered


def test_the_same_bytes_mean_another_text_in_another_character_set() -> None:
    """What was decoded for one instance is not handed to one of other sets (D-15)."""
    name = {0x00100010: b"K\xf3s^Anna "}
    latin_1 = _read({**_UIDS, 0x00080005: b"ISO_IR 100", **name})
    cyrillic = _read({**_UIDS, 0x00080005: b"ISO_IR 144", **name})
    assert _values(latin_1)["PatientName"] == "K\u00f3s^Anna"
    assert _values(cyrillic)["PatientName"] == "K\u0453s^Anna"


def test_the_same_bytes_mean_another_text_in_another_vr() -> None:
    """Leading spaces count in LT, Patient Comments, and not in LO (C-3)."""
    header = _read({**_UIDS, 0x00081030: b" same ", 0x00104000: b" same "})
    assert _values(header)["StudyDescription"] == "same"
    assert _values(header)["PatientComments"] == " same"


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
    assert _values(header)["StudyDescription"] == values[0x00081030].decode()
    assert _decode_remembered.cache_info().currsize == before


def test_character_sets_without_end_are_read_at_their_beginning() -> None:
    """Text is still decoded with the sets that are known (D-17)."""
    sets = {0x00080005: b"ISO_IR 100" + b"\\X" * 5000, 0x00100010: b"M\xfcller^Anna"}
    assert _values(_read({**_UIDS, **sets}))["PatientName"] == "M\u00fcller^Anna"


def test_the_number_of_remembered_values_has_a_bound() -> None:
    """Every instance has values of its own."""
    assert _decode_remembered.cache_info().maxsize == 2048


# --- what is decoded, and when


def _text(header: InstanceHeader, keyword: str) -> str:
    return header.text(BY_KEYWORD[keyword])


def test_one_text_is_had_without_the_others() -> None:
    """The text of an Attribute is that of the values of its level."""
    header = _read({**_UIDS, 0x00100020: b"EX1 ", 0x00100010: b"A^B "})
    assert (_text(header, "PatientID"), _text(header, "IssuerOfPatientID")) == ("EX1", "")
    assert header.values(Level.PATIENT) == {"PatientID": "EX1", "PatientName": "A^B"}


def test_a_level_is_decoded_when_it_is_asked_for() -> None:
    """Of most instances nobody asks what they say of their patient, study and series."""
    with mock.patch.object(instance_module, "_decode_items_remembered") as decode_items:
        header = _header(RequestAttributesSequence=[Dataset()], AnatomicRegionSequence=[Dataset()])
        assert decode_items.call_count == 0
        header.values(Level.IMAGE)
        assert decode_items.call_count == 1
        header.values(Level.SERIES)
        header.values(Level.SERIES)
        assert decode_items.call_count == 2


def _item(**attributes: Any) -> Dataset:  # noqa: ANN401 - any value of a Data Element
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


_CODE = {
    0x00080100: ItemElement("SH", "T-D1100"),
    0x00080102: ItemElement("SH", "SRT"),
    0x00080104: ItemElement("LO", "Head"),
}


@pytest.mark.parametrize("transfer_syntax_uid", [_IMPLICIT, _EXPLICIT, _BIG, _DEFLATED])
@pytest.mark.parametrize("has_length", [True, False])
def test_a_sequence_is_its_items(transfer_syntax_uid: str, has_length: bool) -> None:  # noqa: FBT001
    """Whatever it is encoded in (PS3.5 7.5)."""
    item = _item(CodeValue="T-D1100", CodingSchemeDesignator="SRT", CodeMeaning="Head")
    item.is_undefined_length_sequence_item = not has_length
    data_set = ct_data_set(AnatomicRegionSequence=[item, item], PregnancyStatus=4)
    data_set["AnatomicRegionSequence"].is_undefined_length = not has_length
    value = encoded(data_set, transfer_syntax_uid).encoded_data_set
    if transfer_syntax_uid == _DEFLATED:
        value = zlib.compress(value, wbits=-zlib.MAX_WBITS)
    header = read_instance(value, transfer_syntax_uid)
    assert header.values(Level.IMAGE)["AnatomicRegionSequence"] == (_CODE, _CODE)
    assert header.values(Level.STUDY)["PregnancyStatus"] == "4"


def test_a_sequence_without_items_is_left_out() -> None:
    """It is as unknown as an absent one (C-5, I-14)."""
    assert "RequestAttributesSequence" not in _values(_header(RequestAttributesSequence=[]))


def test_a_sequence_sent_as_un_is_read() -> None:
    """UN holds Implicit VR Little Endian, whatever is around it (PS3.5 6.2.2 note 2)."""
    item = b"\xfe\xff\x00\xe0\x10\x00\x00\x00" + _raw(0x00080100, b"T-D1100 ")
    sequence = b"\x08\x00\x18\x22UN\x00\x00" + len(item).to_bytes(4, "little") + item
    data_set = encoded(ct_data_set(), _EXPLICIT).encoded_data_set
    header = read_instance(data_set + sequence, _EXPLICIT)
    assert header.values(Level.IMAGE)["AnatomicRegionSequence"] == (
        {0x00080100: ItemElement("SH", "T-D1100")},
    )


@pytest.mark.parametrize(
    "value",
    [
        b"no items",
        b"\xfe\xff\x00\xe0\x10\x00\x00\x00short",
        b"\xfe\xff\x00\xe0\x08\x00\x00\x00" + b"\x08\x00\x00\x01\xff\x00\x00\x00",
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    ],
    ids=["text", "item too long", "element too long", "no end"],
)
def test_a_damaged_sequence_is_left_out(value: bytes) -> None:
    """The instance is kept, and catalogued as far as it can be read (F-7, F-25)."""
    header = _read({**_UIDS, 0x00082218: value, 0x00080008: b"ORIGINAL"})
    assert header.values(Level.SERIES)
    assert not header.is_damaged
    assert header.values(Level.IMAGE)["ImageType"] == "ORIGINAL"
    assert "AnatomicRegionSequence" not in header.values(Level.IMAGE)
    assert header.is_damaged


def test_a_sequence_in_the_place_of_a_text_is_no_text() -> None:
    """Its items are not read as characters (F-7)."""
    sequence = b"\x10\x00\x10\x00SQ\x00\x00\x08\x00\x00\x00" + b"\xfe\xff\x00\xe0" + bytes(4)
    data_set = encoded(ct_data_set(PatientName=None), _EXPLICIT).encoded_data_set
    assert "PatientName" not in _values(read_instance(data_set + sequence, _EXPLICIT))


def test_an_endless_list_of_numbers_is_left_out() -> None:
    """No Explicit VR could carry it; its text would be several times as long (PS3.5 7.1.2)."""
    header = _read({**_UIDS, 0x00280010: bytes(65_536), 0x00280011: bytes(65_534)})
    values = header.values(Level.IMAGE)
    assert "Rows" not in values
    assert values["Columns"] == "\\".join(["0"] * 32_767)
    assert header.is_damaged


@pytest.mark.parametrize("kind", ["items", "elements", "nested"])
def test_a_hostile_data_set_costs_little(kind: str) -> None:
    """Sequences of a megabyte each, in all places there are, are not taken apart."""
    item = b"\xfe\xff\x00\xe0"
    value = {
        "items": (item + bytes(4)) * 131_072,
        "elements": item + (131_071 * 8).to_bytes(4, "little") + _raw(0x00080100, b"") * 131_071,
        "nested": _nested(4_000),
    }[kind]
    tags = [a.tag for a in BY_KEYWORD.values() if a.vr == "SQ" and a.level is Level.STUDY]
    data_set = b"".join(
        _raw(tag, value) for tag, value in sorted({**_UIDS, **dict.fromkeys(tags, value)}.items())
    )
    header = read_instance(data_set, _IMPLICIT)
    tracemalloc.start()
    started_at = time.process_time()
    try:
        values = header.values(Level.STUDY)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(values) == ["StudyInstanceUID"]
    assert header.is_damaged
    assert peak_bytes < 20_000_000
    assert time.process_time() - started_at < 5  # far less, but for a machine that is busy


def _nested(depth: int) -> bytes:
    """Sequences within sequences, all with their lengths."""
    value = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + len(value).to_bytes(4, "little") + value
        value = _raw(0x00082218, item)
    return value[8:]


# --- the statement about patient, study and series


_STATEMENT = {
    **_UIDS,
    0x00100010: b"A^B ",
    0x00081030: b"Head",
    0x001021C0: b"\x01\x00",
    0x00400275: b"\xfe\xff\x00\xe0\x00\x00\x00\x00",
}


def test_instances_that_say_the_same_have_the_same_statement() -> None:
    """What differs between the images of a series is no part of it."""
    one, other = _read(_STATEMENT), _read({**_STATEMENT, 0x00080018: b"1.7\0", 0x00200013: b"2 "})
    assert one.statement == other.statement
    assert len(one.statement) == 16


def test_the_statement_is_always_the_same() -> None:
    """It is kept, and compared by other processes on other days."""
    assert _read(_STATEMENT).statement.hex() == "3e08d8720e41beee102bd53216984a0b"


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (0x00100010, b"A^C "),
        (0x00100010, b""),
        (0x00100010, None),
        (0x00081030, b"head"),
        (0x0020000E, b"1.6\0"),
        (0x001021C0, b"\x02\x00"),
        (0x00400275, b""),
        (0x00080005, b"ISO_IR 192"),
        (0x00101001, b"A^B "),
        (0x00181030, b""),
    ],
)
def test_another_word_makes_another_statement(tag: int, value: bytes | None) -> None:
    """Each Attribute of the three levels counts, and the character sets that it is written in."""
    other = {t: v for t, v in {**_STATEMENT, tag: value}.items() if v is not None}
    assert _read(other).statement != _read(_STATEMENT).statement


def test_bytes_that_move_to_another_attribute_make_another_statement() -> None:
    """Where one value ends and the next begins is part of it."""
    one = _read({**_UIDS, 0x00080080: b"AB", 0x00081010: b"CD"})
    other = _read({**_UIDS, 0x00080080: b"ABCD", 0x00081010: b""})
    assert one.statement != other.statement


def test_the_same_number_in_another_byte_order_is_another_statement() -> None:
    """The bytes alone do not say what they mean; whoever compares the values finds them equal."""
    numbers = ct_data_set(StudyInstanceUID="1.2", SeriesInstanceUID="1.3", PregnancyStatus=0x0101)
    little, big = (
        read_instance(encoded(numbers, uid).encoded_data_set, uid) for uid in (_EXPLICIT, _BIG)
    )
    assert little.values(Level.STUDY) == big.values(Level.STUDY)
    assert little.statement != big.statement


# --- extra keys


_CREATOR = "MADE UP"
_PRIVATE = extra_key(Level.SERIES, tag=0x0019000C, vr="IS", private_creator=_CREATOR)
_OTHER = extra_key(Level.SERIES, tag=0x0019000C, vr="LO", private_creator="SOMEBODY ELSE")
_KVP = extra_key(Level.IMAGE, tag=0x00180060)


def _read_extra(values: dict[int, bytes], *extra: Any) -> InstanceHeader:  # noqa: ANN401
    data_set = b"".join(_raw(tag, value) for tag, value in sorted({**_UIDS, **values}.items()))
    return InstanceReader(Keys(extra)).read(data_set, _IMPLICIT)


def test_an_extra_key_is_read_like_the_others() -> None:
    """And only by a reader of keys that have it."""
    values = {0x00180060: b"120 "}
    assert _read_extra(values, _KVP).values(Level.IMAGE)["KVP"] == "120"
    assert "KVP" not in _read_extra(values).values(Level.IMAGE)


@pytest.mark.parametrize("block", [0x10, 0x42, 0xFF])
def test_a_private_attribute_is_found_in_the_block_of_its_creator(block: int) -> None:
    """Whichever the sender has reserved (PS3.5 7.8.1)."""
    values = {0x00190000 | block: b"MADE UP ", 0x0019000C | block << 8: b"7 "}
    header = _read_extra(values, _PRIVATE)
    assert header.values(Level.SERIES)["(0019,xx0C) MADE UP"] == "7"
    assert header.text(_PRIVATE) == "7"


@pytest.mark.parametrize(
    "values",
    [
        {0x0019100C: b"7 "},
        {0x00190010: b"SOMEBODY ELSE ", 0x0019100C: b"7 "},
        {0x00190011: b"MADE UP ", 0x0019100C: b"7 "},
        {0x00210010: b"MADE UP ", 0x0019100C: b"7 "},
        {0x00190010: b"MADE UP ", 0x0019100D: b"7 "},
    ],
    ids=["no creator", "another creator", "another block", "another group", "another element"],
)
def test_a_private_element_of_somebody_else_is_not_taken(values: dict[int, bytes]) -> None:
    """The same tag means something else to each creator (PS3.5 7.8)."""
    header = _read_extra(values, _PRIVATE)
    assert list(header.values(Level.SERIES)) == ["SeriesInstanceUID"]


def test_two_creators_may_have_the_same_element() -> None:
    """Each stands in its own block, and the statement tells them apart."""
    creators = {0x00190010: b"MADE UP ", 0x00190011: b"SOMEBODY ELSE "}
    header = _read_extra({**creators, 0x0019100C: b"7 ", 0x0019110C: b"eight "}, _PRIVATE, _OTHER)
    assert header.text(_PRIVATE) == "7"
    assert header.text(_OTHER) == "eight"
    one = _read_extra({**creators, 0x0019100C: b"7 "}, _PRIVATE, _OTHER)
    other = _read_extra({**creators, 0x0019110C: b"7 "}, _PRIVATE, _OTHER)
    assert one.statement != other.statement


def test_a_private_element_has_the_vr_that_its_key_says() -> None:
    """A sender that does not know it, or has no VRs, calls it UN."""
    for vr, value, expected in (
        ("US", b"\x07\x00", "7"),
        ("SQ", b"\xfe\xff\x00\xe0" + bytes(4), ({},)),
    ):
        key = extra_key(Level.IMAGE, tag=0x00291010, vr=vr, private_creator=_CREATOR)
        header = _read_extra({0x00290010: b"MADE UP ", 0x00291010: value}, key)
        assert header.values(Level.IMAGE)[key.keyword] == expected


_SOUND = encoded(
    ct_data_set(
        RequestAttributesSequence=[_item(RequestedProcedureID="1")],
        AnatomicRegionSequence=[_item(CodeValue="1", CodeMeaning="Head")],
    )
).encoded_data_set


@given(st.integers(0, len(_SOUND) - 1), st.binary(min_size=1, max_size=6))
def test_a_damaged_data_set_is_refused_or_read_to_its_end(place: int, bad: bytes) -> None:
    """Nothing but a DimseFailure is raised, and none once it was taken (F-7, F-25)."""
    damaged = _SOUND[:place] + bad + _SOUND[place + len(bad) :]
    with contextlib.suppress(DimseFailure):
        header = read_instance(damaged, _EXPLICIT)
        for level in Level:
            assert all(header.values(level).values())


def test_the_same_items_mean_another_text_in_another_character_set() -> None:
    """Those that are remembered are not handed to an instance of other sets (C-25)."""
    item = b"\xfe\xff\x00\xe0\x0a\x00\x00\x00" + _raw(0x00080104, b"K\xf3")
    texts = [
        _read({**_UIDS, 0x00080005: terms, 0x00082218: item}).values(Level.IMAGE)
        for terms in (b"ISO_IR 100", b"ISO_IR 144", b"ISO_IR 100")
    ]
    assert [values["AnatomicRegionSequence"][0][0x00080104].value for values in texts] == [
        "K\u00f3",
        "K\u0453",
        "K\u00f3",
    ]


def test_long_items_are_not_remembered() -> None:
    """A sender cannot fill the memory with them."""
    _decode_items_remembered.cache_clear()
    for length in (1008, 1010):
        item = b"\xfe\xff\x00\xe0" + (length + 8).to_bytes(4, "little")
        value = item + _raw(0x00080104, b"x" * length)
        header = _read({**_UIDS, 0x00082218: value})
        assert len(header.values(Level.IMAGE)["AnatomicRegionSequence"]) == 1
    assert _decode_items_remembered.cache_info().currsize == 1
    assert _decode_items_remembered.cache_info().maxsize == 256
