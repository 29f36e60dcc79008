"""The walk over Data Elements, and their encoding."""

import contextlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from pacsnode.dicom.data_elements import (
    DataElement,
    DataSetError,
    encode_elements,
    encode_items,
    length_of_group,
    read_contents,
    read_elements,
    vr_of,
)
from pacsnode.dicom.part10 import Part10Error, read_file_meta
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of
from tests.support.instances import ct_data_set, encoded, sr_data_set

_IMPLICIT = encoding_of("1.2.840.10008.1.2")
_EXPLICIT = encoding_of("1.2.840.10008.1.2.1")
_BIG = encoding_of("1.2.840.10008.1.2.2")
_DEFLATED = encoding_of("1.2.840.10008.1.2.1.99")
_ENCODINGS = {"implicit": _IMPLICIT, "explicit": _EXPLICIT, "big": _BIG, "deflated": _DEFLATED}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LAST = b"\x10\x00\x20\x00LO\x04\x00LAST"  # (0010,0020) after what is stepped over
_PYDICOM_FILES = sorted((Path(pydicom.__file__).parent / "data").rglob("*.dcm"))


def _short(tag: int, vr: bytes, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def _long(tag: int, vr: bytes, value: bytes, length: int | None = None, order: str = "<") -> bytes:
    length = len(value) if length is None else length
    return struct.pack(order + "HH2s2xL", tag >> 16, tag & 0xFFFF, vr, length) + value


def _implicit(tag: int, value: bytes, length: int | None = None, order: str = "<") -> bytes:
    """Also items and delimiters, which have no VR in any encoding."""
    length = len(value) if length is None else length
    return struct.pack(order + "HHL", tag >> 16, tag & 0xFFFF, length) + value


def _deflate(data_set: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data_set) + stream.flush()


def _encode(data_set: Dataset, encoding: Encoding) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = encoding.is_implicit_vr
    buffer.is_little_endian = encoding.is_little_endian
    write_dataset(buffer, data_set)
    return _deflate(buffer.getvalue()) if encoding.is_deflated else buffer.getvalue()


@pytest.mark.parametrize("name", _ENCODINGS)
def test_a_value_is_read_in_every_encoding(name: str) -> None:
    """Text values come out as they are encoded, with their padding (PS3.5 7.1)."""
    elements = read_elements(
        _encode(ct_data_set(PatientID="ABC"), _ENCODINGS[name]), _ENCODINGS[name]
    )
    assert elements[0x00100020] == DataElement(0x00100020, "LO", b"ABC ")


@pytest.mark.parametrize("name", _ENCODINGS)
def test_only_wanted_elements_are_returned(name: str) -> None:
    """The others are stepped over."""
    data_set = _encode(sr_data_set(), _ENCODINGS[name])
    wanted = {0x00100020, 0x0020000D, 0x00999999}
    assert set(read_elements(data_set, _ENCODINGS[name], wanted)) == {0x00100020, 0x0020000D}


@pytest.mark.parametrize("name", _ENCODINGS)
def test_every_cut_of_a_data_set_within_an_element_is_noticed(name: str) -> None:
    """A truncated data set is refused wherever it is cut but between two elements."""
    encoding = _ENCODINGS[name]
    small = Dataset()
    small.SOPClassUID, small.PatientID = "1.2.34", "ABCD"
    data_set = _encode(small, encoding)
    border = len(data_set) - (12 if name != "deflated" else len(data_set))
    for length in range(1, len(data_set)):
        if length != border:
            with pytest.raises(DataSetError):
                read_elements(data_set[:length], encoding)


def test_an_empty_data_set_has_no_elements() -> None:
    """Nothing is not damaged."""
    assert read_elements(b"", _EXPLICIT) == {}


@pytest.mark.parametrize("vr", [b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OV"])
def test_a_vr_with_a_long_header_is_stepped_over(vr: bytes) -> None:
    """Two reserved bytes and 32 bits of length follow it (PS3.5 table 7.1-1)."""
    elements = read_elements(_long(0x00080001, vr, _implicit(_ITEM, b"")) + _LAST, _EXPLICIT)
    assert elements[0x00100020].value == b"LAST"


def test_a_vr_that_nobody_knows_has_a_long_header() -> None:
    """VRs of later editions are laid out so (PS3.5 7.1.2)."""
    elements = read_elements(_long(0x00080001, b"ZZ", b"1234") + _LAST, _EXPLICIT)
    assert elements[0x00080001] == DataElement(0x00080001, "ZZ", b"1234")
    assert elements[0x00100020].value == b"LAST"


@pytest.mark.parametrize("filler", [b"\0\0", b"  ", b"??"])
def test_a_vr_of_filler_is_read_as_un(filler: bytes) -> None:
    """Senders that do not know a VR leave filler in its place, with a long header."""
    elements = read_elements(_long(0x00091001, filler, b"1234") + _LAST, _EXPLICIT)
    assert elements[0x00091001] == DataElement(0x00091001, "UN", b"1234")
    assert elements[0x00100020].value == b"LAST"


def test_an_element_without_vr_in_an_explicit_data_set_has_a_length_of_32_bits() -> None:
    """Some senders mix implicit elements in."""
    elements = read_elements(_implicit(0x00080050, b"ACC1") + _LAST, _EXPLICIT)
    assert elements[0x00080050] == DataElement(0x00080050, "SH", b"ACC1")
    assert elements[0x00100020].value == b"LAST"


def _in_items(*contents: bytes, order: str = "<") -> bytes:
    """Items of undefined length and the end of their sequence."""
    items = b"".join(
        _implicit(_ITEM, content, _UNDEFINED, order) + _implicit(_ITEM_END, b"", order=order)
        for content in contents
    )
    return items + _implicit(_SEQUENCE_END, b"", order=order)


def test_nested_sequences_of_undefined_length_are_stepped_over() -> None:
    """What stands in an item is not taken for the top level (PS3.5 7.5)."""
    inner_id = _short(0x00100020, b"LO", b"ITEM")
    inner = _long(0x00081110, b"SQ", _in_items(inner_id, b""), _UNDEFINED)
    data_set = _long(0x00081115, b"SQ", _in_items(inner_id + inner, inner), _UNDEFINED) + _LAST
    elements = read_elements(data_set, _EXPLICIT)
    assert elements[0x00081115] == DataElement(0x00081115, "SQ", data_set[12:-12], item_count=2)
    assert elements[0x00100020].value == b"LAST"
    assert len(elements) == 2


def test_items_with_and_without_length_may_stand_side_by_side() -> None:
    """Each item says for itself how it ends (PS3.5 7.5.2)."""
    inner_id = _short(0x00100020, b"LO", b"ITEM")
    items = _implicit(_ITEM, inner_id) + _in_items(inner_id)
    data_set = _long(0x00081115, b"SQ", items, _UNDEFINED) + _LAST
    assert read_elements(data_set, _EXPLICIT)[0x00100020].value == b"LAST"


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_items_of_a_sequence_are_counted(count: int) -> None:
    """With and without length, of the sequence and of the items; nested ones do not count."""
    nested = _long(0x00081110, b"SQ", _in_items(b"", b""), _UNDEFINED)
    undefined = _long(0x00081115, b"SQ", _in_items(*[nested] * count), _UNDEFINED)
    defined = _long(0x00081115, b"SQ", _implicit(_ITEM, nested) * count)
    for data_set in (undefined + _LAST, defined + _LAST):
        assert read_elements(data_set, _EXPLICIT)[0x00081115].item_count == count


def test_un_of_undefined_length_holds_implicit_vr() -> None:
    """Whatever the data set is encoded in (PS3.5 6.2.2 note 2)."""
    inner = _implicit(0x00091002, _in_items(_implicit(0x00091003, b"ABCD")), _UNDEFINED)
    items = _in_items(_implicit(0x00091001, b"1234") + inner)
    data_set = _long(0x00091000, b"UN", items, _UNDEFINED) + _LAST
    assert read_elements(data_set, _EXPLICIT)[0x00100020].value == b"LAST"


def test_un_of_undefined_length_within_an_item_holds_implicit_vr() -> None:
    """The rule holds at every depth."""
    unknown = _long(0x00091000, b"UN", _in_items(_implicit(0x00091001, b"1234")), _UNDEFINED)
    data_set = _long(0x00081115, b"SQ", _in_items(unknown), _UNDEFINED) + _LAST
    assert read_elements(data_set, _EXPLICIT)[0x00100020].value == b"LAST"


def test_encapsulated_pixels_are_stepped_over() -> None:
    """Fragments may hold anything, also what looks like a delimiter (PS3.5 A.4)."""
    trap = _implicit(_SEQUENCE_END, b"")
    fragments = _implicit(_ITEM, b"") + _implicit(_ITEM, trap) + _implicit(_ITEM, b"\xff\xd8")
    pixels = _long(0x7FE00010, b"OB", fragments + trap, _UNDEFINED)
    padding = _long(0xFFFCFFFC, b"OB", b"\0\0")
    elements = read_elements(pixels + padding, _EXPLICIT)
    assert elements[0x7FE00010] == DataElement(0x7FE00010, "OB", fragments + trap)
    assert elements[0xFFFCFFFC].value == b"\0\0"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        _implicit(_ITEM, b""),
        _implicit(_ITEM, b"", _UNDEFINED),
        _implicit(_ITEM, b"12", 4),
        _implicit(_ITEM, b"", _UNDEFINED) + _implicit(_SEQUENCE_END, b""),
        _short(0x00100020, b"LO", b"ABCD") + _implicit(_SEQUENCE_END, b""),
        _implicit(_ITEM_END, b"") + _implicit(_SEQUENCE_END, b""),
    ],
)
def test_a_sequence_without_its_delimiters_is_refused(value: bytes) -> None:
    """A missing or misplaced delimiter is noticed (PS3.5 7.5.2)."""
    with pytest.raises(DataSetError):
        read_elements(_long(0x00081115, b"SQ", value, _UNDEFINED), _EXPLICIT)


def test_sequences_without_end_do_not_exhaust_the_stack() -> None:
    """Ten thousand open sequences are refused as damaged, not with another error."""
    opening = _long(0x00081115, b"SQ", _implicit(_ITEM, b"", _UNDEFINED), _UNDEFINED)
    with pytest.raises(DataSetError, match="nested too deeply"):
        read_elements(opening * 10_000, _EXPLICIT)


@pytest.mark.parametrize("tag", [0x00000002, 0x00020010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD])
@pytest.mark.parametrize("encoding", [_EXPLICIT, _IMPLICIT], ids=["explicit", "implicit"])
def test_an_element_that_no_data_set_holds_is_refused(tag: int, encoding: Encoding) -> None:
    """Groups 0000 and 0002, and items outside of a sequence, break a data set (F-12)."""
    has_no_vr = encoding.is_implicit_vr or tag >> 16 == 0xFFFE
    element = _implicit(tag, b"") if has_no_vr else _short(tag, b"UI", b"")
    with pytest.raises(DataSetError, match="has no place in a data set"):
        read_elements(element, encoding)


def test_low_groups_are_taken_where_the_reader_says_so() -> None:
    """File Meta Information is read by the same walk (PS3.10 7.1)."""
    element = _short(0x00020010, b"UI", b"1.2\0")
    assert set(read_elements(element, _EXPLICIT, takes_low_groups=True)) == {0x00020010}


def test_private_elements_are_read_like_others() -> None:
    """A private creator is LO, another private element UN where no VR is encoded (PS3.5 7.8.1)."""
    data_set = _implicit(0x00090010, b"ACME") + _implicit(0x00091001, b"1234")
    assert read_elements(data_set, _IMPLICIT) == {
        0x00090010: DataElement(0x00090010, "LO", b"ACME"),
        0x00091001: DataElement(0x00091001, "UN", b"1234"),
    }


def test_elements_out_of_order_are_all_found() -> None:
    """Order is the sender's duty; we look at each element (F-7)."""
    data_set = _LAST + _short(0x00080050, b"SH", b"ACC1")
    assert set(read_elements(data_set, _EXPLICIT)) == {0x00080050, 0x00100020}


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x00100010, "PN"),
        (0x00080000, "UL"),
        (0x00090010, "LO"),
        (0x00091010, "UN"),
        (0x7FE00010, "OB"),
        (0x00080002, "UN"),
        (0x60003000, "OB"),
    ],
)
def test_the_dictionary_gives_the_vr_where_none_is_encoded(tag: int, vr: str) -> None:
    """Unknown and private elements are UN, group lengths UL, private creators LO."""
    assert vr_of(tag) == vr


# --- deflated


@pytest.mark.parametrize("padding", [b"\0", b"\0\0\0\0", b"rubbish"])
def test_what_follows_a_deflated_stream_does_not_count(padding: bytes) -> None:
    """The stream says where it ends; a NUL behind it makes its length even (PS3.5 A.5)."""
    assert read_elements(_deflate(_LAST) + padding, _DEFLATED)[0x00100020].value == b"LAST"


def test_a_deflated_stream_that_is_cut_off_is_refused() -> None:
    """Every cut of the stream is noticed."""
    stream = _deflate(_encode(ct_data_set(), _EXPLICIT))
    for length in range(0, len(stream), 7):
        with pytest.raises(DataSetError, match="cut off"):
            read_elements(stream[:length], _DEFLATED)


@pytest.mark.parametrize("stream", [b"\xff" * 40, _LAST, zlib.compress(_LAST)])
def test_what_is_no_deflated_stream_is_refused(stream: bytes) -> None:
    """Plain elements, and a stream with a zlib header, are no raw deflate stream (PS3.5 A.5)."""
    with pytest.raises(DataSetError):
        read_elements(stream, _DEFLATED)


_HUGE = 18 * 1024 * 1024


def test_pixels_beyond_what_is_kept_of_a_deflated_stream_do_no_harm() -> None:
    """The elements before them are found although the pixels are not kept."""
    data_set = _LAST + _long(0x7FE00010, b"OW", bytes(_HUGE))
    assert set(read_elements(_deflate(data_set), _DEFLATED)) == {0x00100020}


@pytest.mark.parametrize(
    "large",
    [
        _long(0x00420011, b"OB", bytes(_HUGE)),
        _long(0x52009230, b"SQ", _in_items(_long(0x00209116, b"OB", bytes(_HUGE))), _UNDEFINED),
    ],
    ids=["encapsulated document", "functional groups"],
)
def test_a_large_element_before_the_pixels_is_no_truncation(large: bytes) -> None:
    """A deflated document or multi-frame object of many megabytes is kept like any other (F-7)."""
    elements = read_elements(_deflate(_LAST + large), _DEFLATED, {0x00100020})
    assert set(elements) == {0x00100020}


def test_a_huge_deflated_stream_is_inflated_to_its_end() -> None:
    """Damage is noticed behind the part that is kept."""
    stream = _deflate(_LAST + _long(0x7FE00010, b"OW", bytes(_HUGE)))
    with pytest.raises(DataSetError):
        read_elements(stream[:-4], _DEFLATED)


# --- anything


@given(st.binary(max_size=400), st.sampled_from(sorted(_ENCODINGS)))
def test_garbage_raises_nothing_but_a_data_set_error(garbage: bytes, name: str) -> None:
    """Whatever comes over the network is read or refused."""
    with contextlib.suppress(DataSetError):
        read_elements(garbage, _ENCODINGS[name])


_SOUND = encoded(sr_data_set()).encoded_data_set


@given(st.integers(0, len(_SOUND) - 1), st.binary(min_size=1, max_size=6))
def test_a_damaged_data_set_raises_nothing_but_a_data_set_error(place: int, bad: bytes) -> None:
    """Damage in the middle of a sound data set is read over or refused."""
    damaged = _SOUND[:place] + bad + _SOUND[place + len(bad) :]
    for encoding in (_EXPLICIT, _IMPLICIT):
        with contextlib.suppress(DataSetError):
            read_elements(damaged, encoding)


@given(st.binary(max_size=300))
def test_a_damaged_deflated_data_set_raises_nothing_but_a_data_set_error(garbage: bytes) -> None:
    """A sound stream of garbage is as bad as garbage."""
    with contextlib.suppress(DataSetError):
        read_elements(_deflate(garbage), _DEFLATED)


# Truncated, without what makes a DICOM file, or (SC_rgb_jpeg) not encoded as they say.
_DAMAGED_FILES = {
    "ExplVR_BigEndNoMeta.dcm",
    "ExplVR_LitEndNoMeta.dcm",
    "MR_truncated.dcm",
    "SC_rgb_jpeg.dcm",
    "meta_missing_tsyntax.dcm",
    "no_meta.dcm",
    "rtplan_truncated.dcm",
    "rtstruct.dcm",
}


def _read_file(path: Path) -> dict[int, DataElement]:
    """Our reading of a file."""
    with path.open("rb") as file:
        meta = read_file_meta(file)
        file.seek(meta.data_set_offset)
        return read_elements(file.read(), encoding_of(meta.transfer_syntax_uid))


@pytest.mark.parametrize(
    "path", [p for p in _PYDICOM_FILES if p.name not in _DAMAGED_FILES], ids=lambda path: path.name
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_real_file_is_read_as_pydicom_reads_it(path: Path) -> None:
    """The same elements are found, and each value with a length is the same byte for byte."""
    ours, theirs = _read_file(path), pydicom.dcmread(path)
    assert set(ours) == {int(tag) for tag in theirs.keys()}  # noqa: SIM118 - a Dataset is no dict
    for tag, element in ours.items():
        raw = theirs.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.length != _UNDEFINED:
            assert element.value == (raw.value or b"")


@pytest.mark.parametrize("name", sorted(_DAMAGED_FILES))
def test_a_damaged_real_file_is_refused(name: str) -> None:
    """What is truncated, wrongly encoded or no DICOM file is noticed (F-3)."""
    (path,) = (path for path in _PYDICOM_FILES if path.name == name)
    with pytest.raises((Part10Error, DataSetError)):
        _read_file(path)


# --- encoding


@pytest.mark.parametrize("encoding", [_EXPLICIT, _IMPLICIT], ids=["explicit", "implicit"])
def test_what_is_encoded_is_read_back(encoding: Encoding) -> None:
    """Values come back, padded to even length: UI with NUL, text with a space (PS3.5 6.2)."""
    elements = [
        DataElement(0x00080018, "UI", b"1.2"),
        DataElement(0x00100010, "PN", b"A^B"),
        DataElement(0x00100020, "LO", b""),
    ]
    found = read_elements(encode_elements(elements, encoding), encoding)
    assert [element.value for element in found.values()] == [b"1.2\0", b"A^B ", b""]
    assert [element.vr for element in found.values()] == ["UI", "PN", "LO"]


def test_an_explicit_element_has_these_bytes() -> None:
    """Tag, VR, 16 bits of length; with a long VR two reserved bytes and 32 bits (PS3.5 7.1.2)."""
    elements = [DataElement(0x00100020, "LO", b"AB"), DataElement(0x00420011, "OB", b"\1\2")]
    assert encode_elements(elements, _EXPLICIT) == (
        b"\x10\x00\x20\x00LO\x02\x00AB" + b"\x42\x00\x11\x00OB\x00\x00\x02\x00\x00\x00\1\2"
    )


def test_a_value_too_long_for_its_vr_is_encoded_as_un() -> None:
    """A stored text of more than 65534 bytes is still returned whole (I-11, PS3.5 6.2.2)."""
    long_text = DataElement(0x00104000, "LT", b"x" * 70_000)
    encoded_text = encode_elements([long_text], _EXPLICIT)
    assert encoded_text[:12] == b"\x10\x00\x00\x40UN\x00\x00" + (70_000).to_bytes(4, "little")
    assert read_elements(encoded_text, _EXPLICIT)[0x00104000].value == b"x" * 70_000


def test_the_longest_value_of_a_short_header_keeps_its_vr() -> None:
    """65534 bytes still fit (PS3.5 7.1.2)."""
    text = DataElement(0x00104000, "LT", b"x" * 65_534)
    assert encode_elements([text], _EXPLICIT)[4:8] == b"LT\xfe\xff"


@pytest.mark.parametrize(
    ("behind", "cut"),
    [(b"\x08\x00\x05\x00", 0), (b"", 0), (b"\x02", 0)],
    ids=["another group", "the end", "half a tag"],
)
def test_a_group_ends_where_another_begins(behind: bytes, cut: int) -> None:
    """Nothing behind it is looked at but its group."""
    group = _long(0x00020001, b"OB", b"\0\1") + _long(0x00020026, b"UR", b"http")
    assert length_of_group(group + behind, _EXPLICIT, 2) == len(group) - cut


@pytest.mark.parametrize("make", [lambda g: g[:-1], lambda g: g + b"\x02\x00"])
def test_a_group_that_is_cut_off_is_refused(make: Callable[[bytes], bytes]) -> None:
    """A group has to end within the bytes that were read."""
    with pytest.raises(DataSetError):
        length_of_group(make(_short(0x00020010, b"UI", b"1.2\0")), _EXPLICIT, 2)


@pytest.mark.parametrize(("length", "kept"), [(1 << 20, 1 << 20), ((1 << 20) + 2, 0)])
def test_a_wanted_value_that_is_no_text_of_anybody_is_left_out(length: int, kept: int) -> None:
    """Beyond 1 MiB a value is stepped over: memory does not grow with what a sender makes up."""
    data_set = struct.pack("<HHL", 0x0010, 0x4000, length) + bytes(length)
    contents = read_contents(data_set, _IMPLICIT, {0x00104000})
    assert contents == {0x00104000: ("LT", bytes(kept))}


@pytest.mark.parametrize(("length", "is_kept"), [((1 << 20) - 24, True), ((1 << 20) - 22, False)])
def test_a_wanted_sequence_without_length_has_the_same_limit(
    length: int,
    is_kept: bool,  # noqa: FBT001 - a case
) -> None:
    """Its delimiters belong to what is kept of it."""
    items = _in_items(_implicit(0x00081155, bytes(length - 8)))
    sequence = struct.pack("<HHL", 0x0008, 0x1115, _UNDEFINED) + items
    contents = read_contents(sequence, _IMPLICIT, {0x00081115})
    assert contents == {0x00081115: ("SQ", items if is_kept else b"")}


@pytest.mark.parametrize("vr", ["OB", "UN", "UI"])
def test_bytes_are_padded_with_nul(vr: str) -> None:
    """And text with a space (PS3.5 6.2)."""
    assert encode_elements([DataElement(0x00420011, vr, b"\1")], _IMPLICIT)[8:] == b"\1\0"


def test_items_have_these_bytes() -> None:
    """Each has its length; the sequence has one, too, and no delimiter (PS3.5 7.5.1)."""
    assert encode_items([_LAST, b""]) == (
        b"\xfe\xff\x00\xe0\x0c\x00\x00\x00" + _LAST + b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    )
