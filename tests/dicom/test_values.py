"""Values of Data Elements: text, numbers in binary, and the items of sequences."""

import contextlib
import struct
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from pacsnode.dicom.character_sets import DEFAULT_CHARACTER_SETS, UTF_8, CharacterSets
from pacsnode.dicom.data_elements import DataSetError, read_elements
from pacsnode.dicom.items import MAXIMUM_DEPTH, Allowance
from pacsnode.dicom.part10 import read_file_meta
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of
from pacsnode.dicom.values import (
    Item,
    ItemElement,
    Value,
    decode_items,
    decode_number,
    decode_value,
    encode_value,
    encoding_of_items,
)

_IMPLICIT = encoding_of("1.2.840.10008.1.2")
_EXPLICIT = encoding_of("1.2.840.10008.1.2.1")
_BIG = encoding_of("1.2.840.10008.1.2.2")
_DEFLATED = encoding_of("1.2.840.10008.1.2.1.99")
_ENCODINGS = {"implicit": _IMPLICIT, "explicit": _EXPLICIT, "big": _BIG}
_LATIN_1 = CharacterSets.parse(["ISO_IR 100"])
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset({"OB", "OW", "SQ", "UC", "UN", "UR", "UT"})
_CODE_VALUE, _MEANING, _CODES = 0x00080100, 0x00080104, 0x00082218


def _element(
    tag: int, vr: str, value: bytes, encoding: Encoding = _EXPLICIT, length: int | None = None
) -> bytes:
    """An element; an item or a delimiter has no VR in any encoding."""
    order = "<" if encoding.is_little_endian else ">"
    length = len(value) if length is None else length
    group, number = tag >> 16, tag & 0xFFFF
    if encoding.is_implicit_vr or group == 0xFFFE:
        return struct.pack(order + "HHL", group, number, length) + value
    if vr in _LONG_VRS:
        return struct.pack(order + "HH2s2xL", group, number, vr.encode(), length) + value
    return struct.pack(order + "HH2sH", group, number, vr.encode(), length) + value


def _items(*contents: bytes, encoding: Encoding = _EXPLICIT, has_length: bool = True) -> bytes:
    """The value field of a sequence."""
    if has_length:
        return b"".join(_element(_ITEM, "", content, encoding) for content in contents)
    end = _element(_ITEM_END, "", b"", encoding)
    items = (_element(_ITEM, "", c, encoding, _UNDEFINED) + end for c in contents)
    return b"".join(items) + _element(_SEQUENCE_END, "", b"", encoding)


def _decoded(
    value: bytes,
    encoding: Encoding = _EXPLICIT,
    character_sets: CharacterSets = DEFAULT_CHARACTER_SETS,
) -> tuple[Item, ...]:
    return decode_items(value, encoding, character_sets)


# --- text and numbers


@pytest.mark.parametrize(
    ("value", "vr", "text"),
    [
        (b"  CT  head ", "LO", "CT  head"),
        (b" A \\ B", "LO", "A\\B"),
        (b"\\", "LO", ""),
        (b"1.2\0", "UI", "1.2"),
        (b" a\\b ", "LT", " a\\b"),
    ],
)
def test_text_has_no_padding(value: bytes, vr: str, text: str) -> None:
    """Each of several values loses its own (C-1, C-3)."""
    assert decode_value(value, vr, DEFAULT_CHARACTER_SETS) == text


@pytest.mark.parametrize(
    ("vr", "form", "numbers", "text"),
    [
        ("US", "H", (512, 65535), "512\\65535"),
        ("SS", "h", (-1,), "-1"),
        ("UL", "L", (4294967295, 0), "4294967295\\0"),
        ("SL", "l", (-2147483648,), "-2147483648"),
        ("FL", "f", (0.5, -3.0), "0.5\\-3.0"),
        ("FD", "d", (0.1, 1e300), "0.1\\1e+300"),
        ("AT", "H", (0x0008, 0x0020), "00080020"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_in_binary_are_text(
    vr: str, form: str, numbers: tuple[float, ...], text: str, order: str
) -> None:
    """In decimal, a tag in hexadecimal digits, whatever the byte order (PS3.5 6.2)."""
    value = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
    assert decode_number(value, vr, is_little_endian=order == "<") == text
    if order == "<":
        assert encode_value(text, vr, DEFAULT_CHARACTER_SETS, _EXPLICIT) == value


@pytest.mark.parametrize("vr", ["US", "SS", "UL", "SL", "FL", "FD", "AT"])
def test_no_number_is_no_text(vr: str) -> None:
    """A value field that ends within its only number has none (F-7)."""
    assert decode_number(b"", vr, is_little_endian=True) == ""
    assert decode_number(b"\1", vr, is_little_endian=True) == ""
    assert encode_value("", vr, DEFAULT_CHARACTER_SETS, _EXPLICIT) == b""


def test_a_number_that_is_cut_off_is_left_out() -> None:
    """Those before it are read (F-7)."""
    assert decode_number(b"\1\0\2\0\3", "US", is_little_endian=True) == "1\\2"


def test_more_numbers_than_an_explicit_vr_can_carry_are_refused() -> None:
    """Their text would be several times as long (PS3.5 7.1.2)."""
    with pytest.raises(DataSetError, match="too many numbers"):
        decode_number(bytes(65_536), "US", is_little_endian=True)


@pytest.mark.parametrize(("vr", "form"), [("FL", "f"), ("FD", "d")])
@given(st.data())
def test_every_floating_point_number_comes_back(vr: str, form: str, data: st.DataObject) -> None:
    """The shortest text of a number is enough to make the number again."""
    width = 32 if vr == "FL" else 64
    numbers = data.draw(st.lists(st.floats(width=width, allow_nan=False), max_size=4))
    value = struct.pack(f"<{len(numbers)}{form}", *numbers)
    text = decode_number(value, vr, is_little_endian=True)
    assert encode_value(text, vr, DEFAULT_CHARACTER_SETS, _EXPLICIT) == value


@given(st.binary(max_size=40), st.sampled_from(["US", "SS", "UL", "SL", "AT"]), st.booleans())
def test_any_bytes_are_numbers(value: bytes, vr: str, is_little_endian: bool) -> None:  # noqa: FBT001
    """All but those of a number that is cut off come back."""
    text = decode_number(value, vr, is_little_endian=is_little_endian)
    if is_little_endian:
        whole = encode_value(text, vr, DEFAULT_CHARACTER_SETS, _EXPLICIT)
        assert value.startswith(whole)
        assert len(value) - len(whole) < 4


# --- items


@pytest.mark.parametrize("name", _ENCODINGS)
@pytest.mark.parametrize("has_length", [True, False])
def test_items_are_read_in_every_encoding(name: str, has_length: bool) -> None:  # noqa: FBT001
    """With and without lengths: text, numbers, bytes and nested items (PS3.5 7.5)."""
    encoding = _ENCODINGS[name]
    order = "<" if encoding.is_little_endian else ">"
    inner = _items(
        _element(_CODE_VALUE, "SH", b"T-1 ", encoding), encoding=encoding, has_length=has_length
    )
    content = (
        _element(_CODE_VALUE, "SH", b"T-2 ", encoding)
        + _element(_CODES, "SQ", inner, encoding, None if has_length else _UNDEFINED)
        + _element(0x00280010, "US", struct.pack(order + "H", 512), encoding)
        + _element(0x7FE00010, "OB", b"\1\2", encoding)
    )
    value = _items(content, b"", encoding=encoding, has_length=has_length)
    pixels = "OW" if encoding.is_implicit_vr else "OB"
    first, second = _decoded(value, encoding)
    assert first == {
        _CODE_VALUE: ItemElement("SH", "T-2"),
        _CODES: ItemElement("SQ", ({_CODE_VALUE: ItemElement("SH", "T-1")},)),
        0x00280010: ItemElement("US", "512"),
        0x7FE00010: ItemElement(first[0x7FE00010].vr, b"\1\2"),
    }
    assert first[0x7FE00010].vr in {"OB", pixels}
    assert second == {}


def test_the_items_of_a_deflated_data_set_are_not_deflated() -> None:
    """The stream is around the whole data set (PS3.5 A.5)."""
    value = _items(_element(_CODE_VALUE, "SH", b"T-1 "))
    assert _decoded(value, _DEFLATED) == _decoded(value, _EXPLICIT)


def test_an_item_may_have_a_length_where_its_sequence_has_none() -> None:
    """Each says for itself how it ends (PS3.5 7.5.2)."""
    content = _element(_CODE_VALUE, "SH", b"T-1 ")
    value = _items(content) + _items(content, has_length=False)
    assert len(_decoded(value)) == 2


def test_what_follows_the_delimiter_of_a_sequence_is_not_read() -> None:
    """It ends there (PS3.5 7.5.2)."""
    assert _decoded(_items(b"", has_length=False) + b"rest") == ({},)


def test_a_sequence_without_items_has_none() -> None:
    """With a length of zero, and with its delimiter alone."""
    assert _decoded(b"") == ()
    assert _decoded(_items(has_length=False)) == ()


@pytest.mark.parametrize("order", ["<", ">"])
def test_un_with_a_length_holds_implicit_vr_little_endian(order: str) -> None:
    """A nested sequence, too, whatever is around it (PS3.5 6.2.2 note 2)."""
    encoding = _EXPLICIT if order == "<" else _BIG
    inner = _items(
        _element(_CODE_VALUE, "SH", b"T-1 ", _IMPLICIT)
        + _element(0x00280010, "US", b"\0\2", _IMPLICIT),
        encoding=_IMPLICIT,
    )
    value = _items(_element(_CODES, "UN", inner, encoding), encoding=encoding)
    nested = {_CODE_VALUE: ItemElement("SH", "T-1"), 0x00280010: ItemElement("US", "512")}
    assert _decoded(value, encoding) == ({_CODES: ItemElement("SQ", (nested,))},)


def test_un_without_a_length_is_a_sequence() -> None:
    """Also where nobody knows the Attribute, as in a private block (PS3.5 6.2.2 note 2)."""
    inner = _items(
        _element(0x00091002, "", b"1234", _IMPLICIT), encoding=_IMPLICIT, has_length=False
    )
    value = _items(_element(0x00091001, "UN", inner, length=_UNDEFINED))
    nested = {0x00091002: ItemElement("UN", b"1234")}
    assert _decoded(value) == ({0x00091001: ItemElement("SQ", (nested,))},)


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        (_CODE_VALUE, b"T-1 ", ItemElement("SH", "T-1")),
        (0x00280010, b"\0\2", ItemElement("US", "512")),
        (0x00091001, b"1234", ItemElement("UN", b"1234")),
    ],
)
def test_an_element_sent_as_un_has_the_vr_of_the_dictionary(
    tag: int, value: bytes, expected: ItemElement
) -> None:
    """Its value is what it would be (D-8)."""
    assert _decoded(_items(_element(tag, "UN", value))) == ({tag: expected},)


def test_an_item_has_its_elements_in_the_order_of_their_tags() -> None:
    """That is how they are sent on (PS3.5 7.1)."""
    content = _element(_MEANING, "LO", b"Head") + _element(_CODE_VALUE, "SH", b"T-1 ")
    assert [list(item) for item in _decoded(_items(content))] == [[_CODE_VALUE, _MEANING]]


@pytest.mark.parametrize("tag", [0x00080000, 0x00020010, 0x00080005])
def test_what_says_how_an_item_was_encoded_is_not_kept(tag: int) -> None:
    """Lengths of groups and character sets do not hold for what is sent on."""
    vr = {0x00080000: "UL", 0x00020010: "UI", 0x00080005: "CS"}[tag]
    assert _decoded(_items(_element(tag, vr, bytes(4)))) == ({},)


@pytest.mark.parametrize(
    "element",
    [_element(_CODES, "LO", b"Head"), _element(_MEANING, "SQ", _items(b""))],
    ids=["text for a sequence", "a sequence for text"],
)
def test_what_should_be_a_sequence_or_none_is_left_out(element: bytes) -> None:
    """Whoever is sent it in Implicit VR reads it as the dictionary says, and finds damage."""
    text = _element(_CODE_VALUE, "SH", b"T-1 ")
    assert _decoded(_items(text + element)) == ({_CODE_VALUE: ItemElement("SH", "T-1")},)


def test_encapsulated_pixels_of_an_icon_are_left_out() -> None:
    """They could not be sent on in an encoding without fragments (PS3.5 A.4)."""
    fragments = _items(b"", b"\xff\xd8") + _element(_SEQUENCE_END, "", b"")
    content = _element(_CODE_VALUE, "SH", b"T-1 ")
    content += _element(0x7FE00010, "OB", fragments, length=_UNDEFINED)
    content += _element(0xFFFCFFFC, "OB", b"\0\0")
    assert [list(item) for item in _decoded(_items(content))] == [[_CODE_VALUE, 0xFFFCFFFC]]


# --- character sets


def test_an_item_is_read_with_the_sets_of_its_data_set() -> None:
    """What it does not declare itself holds for it as for the rest (PS3.3 C.12.1.1.2)."""
    value = _items(_element(_MEANING, "LO", b"Kn\xf6chel "))
    assert _decoded(value, character_sets=_LATIN_1) == (
        {_MEANING: ItemElement("LO", "Kn\u00f6chel")},
    )


def test_an_item_is_read_with_its_own_sets() -> None:
    """They go before those of the data set, for this item and those in it (C-25, K-32)."""
    text = _element(_MEANING, "LO", b"\xb8\xd2\xd0\xdd")
    inner = _element(_CODES, "SQ", _items(text))
    own = _element(0x00080005, "CS", b"ISO_IR 144")
    first, second = _decoded(_items(own + text + inner, text), character_sets=_LATIN_1)
    ivan = ItemElement("LO", "\u0418\u0432\u0430\u043d")
    assert first == {_MEANING: ivan, _CODES: ItemElement("SQ", ({_MEANING: ivan},))}
    assert second == {_MEANING: ItemElement("LO", "\u00b8\u00d2\u00d0\u00dd")}


def test_the_sets_of_an_item_hold_for_what_stands_before_them() -> None:
    """A sender that does not sort its elements still means the whole item (C-25)."""
    content = _element(_MEANING, "LO", b"\xb8\xd2") + _element(0x00080005, "CS", b"ISO_IR 144")
    assert _decoded(_items(content)) == ({_MEANING: ItemElement("LO", "\u0418\u0432")},)


# --- damage, and what is too much


_TEXT = _element(_CODE_VALUE, "SH", b"T-1 ")


@pytest.mark.parametrize(
    "value",
    [
        b"\xfe\xff\x00",
        _TEXT,
        _element(_ITEM_END, "", b""),
        _element(_ITEM, "", _TEXT, length=len(_TEXT) + 2),
        _element(_ITEM, "", _TEXT, length=len(_TEXT) - 2) + bytes(2),
        _element(_ITEM, "", _TEXT, length=_UNDEFINED),
        _items(_TEXT + _element(_ITEM_END, "", b"")),
        _items(_TEXT + _element(_ITEM, "", b"")),
        _items(_TEXT + b"\x08\x00"),
        _items(_element(_CODES, "SQ", _items(_TEXT)[:-2])),
        _items(_element(_CODES, "SQ", _items(_TEXT), length=_UNDEFINED)),
        _items(_element(_CODES, "SQ", b"", length=8)) + _items(b""),
        _items(_element(_CODES, "UN", b"1234")),
    ],
    ids=[
        "half an item",
        "an element",
        "a delimiter",
        "an item beyond the end",
        "an item that ends within an element",
        "an item without end",
        "a delimiter in an item with a length",
        "an item in an item",
        "half an element",
        "an inner item beyond the end",
        "an inner sequence without end",
        "an inner sequence beyond its item",
        "no items in UN",
    ],
)
def test_damaged_items_are_refused(value: bytes) -> None:
    """Nothing is guessed of what is not there (PS3.5 7.5)."""
    with pytest.raises(DataSetError):
        _decoded(value)


def _nested(depth: int, vr: str = "SQ", *, has_length: bool = True) -> bytes:
    """The value field of a sequence that has so many others in it."""
    value = b""
    for _ in range(depth):
        encoding = _IMPLICIT if vr == "UN" else _EXPLICIT
        length = None if has_length else _UNDEFINED
        value = _items(
            _element(_CODES, vr, value or _items(has_length=has_length), encoding, length),
            encoding=encoding,
            has_length=has_length,
        )
    return value


@pytest.mark.parametrize("has_length", [True, False])
def test_sequences_are_read_to_a_depth(has_length: bool) -> None:  # noqa: FBT001
    """No real ones are deeper; the stack would be at an end somewhere."""
    assert len(_decoded(_nested(MAXIMUM_DEPTH, has_length=has_length))) == 1
    for depth in (MAXIMUM_DEPTH + 1, 300):
        with pytest.raises(DataSetError, match="nested too deeply"):
            _decoded(_nested(depth, has_length=has_length))


def test_sequences_sent_as_un_count_as_deep_as_others() -> None:
    """Each is read by itself, but the depth goes on."""
    implicit = _items(_nested(MAXIMUM_DEPTH, "UN")[8:], encoding=_IMPLICIT)
    value = _items(_element(_CODES, "UN", implicit))
    with pytest.raises(DataSetError, match="nested too deeply"):
        _decoded(value)


@pytest.mark.parametrize(
    ("items", "elements", "is_read"), [(20_000, 0, True), (20_001, 0, False), (1, 20_000, False)]
)
def test_so_many_items_and_elements_are_read(
    items: int,
    elements: int,
    is_read: bool,  # noqa: FBT001 - a case
) -> None:
    """A megabyte of empty ones is not taken apart."""
    value = _items(*[_element(_CODE_VALUE, "SH", b"") * elements] * items)
    if is_read:
        assert len(_decoded(value)) == items
    else:
        with pytest.raises(DataSetError, match="too many elements"):
            _decoded(value)


def test_an_allowance_is_used_up() -> None:
    """What one sequence has cost is not there for the next."""
    allowance = Allowance(bytes_left=100, elements_left=3)
    value = _items(_TEXT)
    decode_items(value, _EXPLICIT, DEFAULT_CHARACTER_SETS, allowance)
    assert allowance == Allowance(bytes_left=100 - len(value), elements_left=1)
    with pytest.raises(DataSetError, match="too many elements"):
        decode_items(value, _EXPLICIT, DEFAULT_CHARACTER_SETS, allowance)
    with pytest.raises(DataSetError, match="too long"):
        decode_items(bytes(100), _EXPLICIT, DEFAULT_CHARACTER_SETS, allowance)


@given(st.binary(max_size=200), st.sampled_from(sorted(_ENCODINGS)))
def test_garbage_raises_nothing_but_a_data_set_error(garbage: bytes, name: str) -> None:
    """Whatever comes over the network is read or refused."""
    encoding = _ENCODINGS[name]
    for value in (garbage, _items(garbage, encoding=encoding)):
        with contextlib.suppress(DataSetError):
            _decoded(value, encoding)


_SOUND = _items(
    _TEXT
    + _element(_CODES, "SQ", _items(_TEXT, has_length=False), length=_UNDEFINED)
    + _element(_CODES + 1, "SQ", _items(_TEXT, _TEXT))
    + _element(0x00091001, "UN", _items(_TEXT, has_length=False), length=_UNDEFINED),
    has_length=False,
)


@given(st.integers(0, len(_SOUND) - 1), st.binary(min_size=1, max_size=6))
def test_damaged_items_raise_nothing_but_a_data_set_error(place: int, bad: bytes) -> None:
    """Damage in the middle of sound items is read over or refused."""
    damaged = _SOUND[:place] + bad + _SOUND[place + len(bad) :]
    for encoding in _ENCODINGS.values():
        with contextlib.suppress(DataSetError):
            _decoded(damaged, encoding)


# --- the way back


_TEXT_ALPHABET = st.characters(
    codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\\"
)
_ELEMENTS = {
    0x00080020: ("DA", st.sampled_from(["20260105", "20260105\\20260106", ""])),
    _CODE_VALUE: ("SH", st.text(_TEXT_ALPHABET, max_size=8)),
    0x00081155: ("UI", st.sampled_from(["1.2.3", "1.2.3.4", ""])),
    0x00091001: ("UN", st.binary(max_size=4).map(lambda value: value * 2)),
    0x00100010: ("PN", st.sampled_from(["Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "A^B"])),
    0x00280009: ("AT", st.sampled_from(["00181063", "00181063\\00181065", ""])),
    0x00280010: ("US", st.integers(0, 65535).map(str)),
    0x00281053: ("DS", st.sampled_from(["1", "-1.5\\2"])),
    0x0040A160: ("UT", st.text(_TEXT_ALPHABET, max_size=8)),
}


def _elements_with(inner: st.SearchStrategy[tuple[Item, ...]]) -> st.SearchStrategy[Item]:
    """Items with some of these elements; the sequence's items are drawn from `inner`."""
    optional: dict[int, st.SearchStrategy[ItemElement]] = {
        tag: st.builds(ItemElement, st.just(vr), values) for tag, (vr, values) in _ELEMENTS.items()
    }
    optional[_CODES] = st.builds(ItemElement, st.just("SQ"), inner)
    return st.fixed_dictionaries({}, optional=optional).map(lambda item: dict(sorted(item.items())))


_ITEMS: st.SearchStrategy[tuple[Item, ...]] = st.recursive(
    st.just(()), lambda inner: st.lists(_elements_with(inner), max_size=3).map(tuple), max_leaves=4
)


@pytest.mark.parametrize("name", ["implicit", "explicit"])
@given(items=_ITEMS)
def test_items_come_back(name: str, items: tuple[Item, ...]) -> None:
    """What is encoded for an answer is read as the same items (D-8)."""
    encoding = _ENCODINGS[name]
    value = encode_value(items, "SQ", UTF_8, encoding)
    assert decode_items(value, encoding, UTF_8) == items


@given(items=_ITEMS)
def test_pydicom_reads_what_is_encoded(items: tuple[Item, ...]) -> None:
    """An independent reader finds the same items in the same order (PS3.5 7.5)."""
    value = _element(_CODES, "SQ", encode_value(items, "SQ", UTF_8, _EXPLICIT))
    read = pydicom.dcmread(DicomBytesIO(value), force=True)
    assert [list(map(int, item.keys())) for item in read[_CODES]] == [list(i) for i in items]


def test_a_text_that_the_sets_cannot_carry_is_refused() -> None:
    """Also deep in a sequence; the caller chooses sets that can (D-18)."""
    items = ({_CODES: ItemElement("SQ", ({_MEANING: ItemElement("LO", "\u5c71")},))},)
    with pytest.raises(UnicodeEncodeError):
        encode_value(items, "SQ", _LATIN_1, _EXPLICIT)


@pytest.mark.parametrize("name", _ENCODINGS)
def test_items_of_pydicom_are_read(name: str) -> None:
    """An independent writer, with lengths and without (PS3.5 7.5)."""
    encoding = _ENCODINGS[name]
    for has_length in (True, False):
        item = _pydicom_item(has_length=has_length, CodeValue="T-1")
        item.ConceptCodeSequence = [_pydicom_item(has_length=has_length, CodeMeaning="Head")]
        item["ConceptCodeSequence"].is_undefined_length = not has_length
        outer = Dataset()
        outer.AnatomicRegionSequence = [item]
        outer["AnatomicRegionSequence"].is_undefined_length = not has_length
        buffer = DicomBytesIO()
        buffer.is_implicit_VR = encoding.is_implicit_vr
        buffer.is_little_endian = encoding.is_little_endian
        write_dataset(buffer, outer)
        value = buffer.getvalue()[8 if encoding.is_implicit_vr else 12 :]
        inner = {_MEANING: ItemElement("LO", "Head")}
        assert _decoded(value, encoding) == (
            {_CODE_VALUE: ItemElement("SH", "T-1"), 0x0040A168: ItemElement("SQ", (inner,))},
        )


def _pydicom_item(*, has_length: bool, **attributes: Any) -> Dataset:  # noqa: ANN401
    item = Dataset()
    item.is_undefined_length_sequence_item = not has_length
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


# Not of Part 10, or damaged.
_OTHER_FILES = frozenset(
    {
        "ExplVR_BigEndNoMeta.dcm",
        "ExplVR_LitEndNoMeta.dcm",
        "MR_truncated.dcm",
        "SC_rgb_jpeg.dcm",
        "meta_missing_tsyntax.dcm",
        "no_meta.dcm",
        "rtplan_truncated.dcm",
        "rtstruct.dcm",
    }
)
_FILES = sorted(
    path
    for path in (Path(pydicom.__file__).parent / "data").rglob("*.dcm")
    if path.name not in _OTHER_FILES
)


def _shape(value: Value) -> object:
    """The tags of items, and of those in them."""
    if not isinstance(value, tuple):
        return None
    return [{tag: _shape(element.value) for tag, element in item.items()} for item in value]


def _pydicom_shape(value: object) -> object:
    if not isinstance(value, Sequence):
        return None
    return [
        {
            int(element.tag): _pydicom_shape(element.value)
            for element in item
            if element.tag.group > 7 and element.tag.element and element.tag != 0x00080005
        }
        for item in value
    ]


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_the_sequences_of_a_real_file_are_read_as_pydicom_reads_them(path: Path) -> None:
    """The same items are found in each, and the same elements in them, at every depth."""
    with path.open("rb") as file:
        meta = read_file_meta(file)
        file.seek(meta.data_set_offset)
        data_set = file.read()
    encoding, theirs = encoding_of(meta.transfer_syntax_uid), pydicom.dcmread(path)
    for tag, element in read_elements(data_set, encoding).items():
        if isinstance(theirs[tag].value, Sequence):
            items = decode_items(
                element.value, encoding_of_items(element.vr, encoding), DEFAULT_CHARACTER_SETS
            )
            assert _shape(items) == _pydicom_shape(theirs[tag].value)
