"""The fast walk over Data Elements, held against a plain one; and what it may touch."""

import mmap
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.dicom import data_elements
from pacsnode.dicom.data_elements import (
    Buffer,
    DataSetError,
    length_of_group,
    read_contents,
    read_elements,
)
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of
from tests.support.plain_walk import PlainWalk

_IMPLICIT = encoding_of("1.2.840.10008.1.2")
_EXPLICIT = encoding_of("1.2.840.10008.1.2.1")
_DEFLATED = encoding_of("1.2.840.10008.1.2.1.99")
_BIG = encoding_of("1.2.840.10008.1.2.2")
_IMPLICIT_BIG = Encoding(is_implicit_vr=True, is_little_endian=False, is_deflated=False)
_ENCODINGS = st.sampled_from([_IMPLICIT, _EXPLICIT, _BIG, _IMPLICIT_BIG])
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SHORT_VRS = [b"CS", b"DA", b"LO", b"UI", b"US"]
_LONG_VRS = [b"OB", b"SQ", b"UN", b"UT", b"ZZ"]
_NO_VRS = [b"", b"\0\0", b"  ", b"??", b"lo", b"A1"]  # left out, filler, and what is no VR
_TAGS = st.sampled_from([0x00080018, 0x00081115, 0x00091010, 0x00100020, 0x00404000, 0x7FE00010])
_FOREIGN_TAGS = st.sampled_from([0x00000002, 0x00020010, _ITEM, _ITEM_END, _SEQUENCE_END])
_GROUPS_OF_NO_DATA_SET = frozenset({0x0000, 0x0002, 0xFFFE})


def _header(tag: int, vr: bytes, length: int, encoding: Encoding) -> bytes:
    """An element's header; that of an item, or where the encoding has none, without VR."""
    order = "<" if encoding.is_little_endian else ">"
    group, number = tag >> 16, tag & 0xFFFF
    if encoding.is_implicit_vr or not vr or group == 0xFFFE:
        return struct.pack(order + "HHL", group, number, length)
    if vr in _SHORT_VRS and length <= 0xFFFF:
        return struct.pack(order + "HH2sH", group, number, vr, length)
    return struct.pack(order + "HH2s2xL", group, number, vr, length)


@st.composite
def _elements(draw: st.DrawFn, encoding: Encoding, depth: int = 0) -> bytes:
    """Encoded elements, most of them sound: values of any VR, sequences, encapsulated pixels."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        tag = draw(_TAGS if draw(st.integers(0, 19)) else _FOREIGN_TAGS)
        vr = draw(st.sampled_from(_SHORT_VRS + _LONG_VRS + _NO_VRS))
        if depth < 3 and draw(st.booleans()):
            value = draw(_items(encoding, vr, depth))
            length = draw(st.sampled_from([len(value), _UNDEFINED]))
        else:
            value = draw(st.binary(max_size=8))
            length = len(value)
        parts.append(_header(tag, vr, length, encoding) + value)
    return b"".join(parts)


@st.composite
def _items(draw: st.DrawFn, encoding: Encoding, vr: bytes, depth: int) -> bytes:
    """Items with and without length, and the delimiter of their sequence."""
    inner = encoding
    if vr == b"UN" and draw(st.booleans()):
        inner = replace(encoding, is_implicit_vr=True)
    parts = []
    for _ in range(draw(st.integers(0, 2))):
        content = draw(_elements(inner, depth + 1))
        if draw(st.booleans()):
            parts.append(_header(_ITEM, b"", len(content), encoding) + content)
        else:
            end = _header(_ITEM_END, b"", 0, encoding)
            parts.append(_header(_ITEM, b"", _UNDEFINED, encoding) + content + end)
    return b"".join([*parts, _header(_SEQUENCE_END, b"", 0, encoding)])


@st.composite
def _damaged_data_sets(draw: st.DrawFn) -> tuple[bytes, Encoding]:
    """A data set that is sound, cut off, damaged in some bytes, or of another encoding."""
    encoding = draw(_ENCODINGS)
    data_set = draw(_elements(encoding))
    damage = draw(st.sampled_from(["none", "cut", "bytes", "encoding"]))
    place = draw(st.integers(0, len(data_set)))
    if damage == "cut":
        data_set = data_set[:place]
    elif damage == "bytes":
        bad = draw(st.one_of(st.binary(min_size=1, max_size=6), st.just(b"\xff\xff\xff\xff")))
        data_set = data_set[:place] + bad + data_set[place + len(bad) :]
    elif damage == "encoding":
        encoding = draw(_ENCODINGS)
    return data_set, encoding


def _outcome(read: Callable[[], Mapping[int, object]]) -> list[tuple[int, object]] | str:
    """What is found, in its order, or the text of the refusal."""
    try:
        return list(read().items())
    except DataSetError as error:
        return str(error)


_WANTED = st.none() | st.frozensets(_TAGS)


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
@given(damaged=_damaged_data_sets(), wanted=_WANTED, takes_low_groups=st.booleans())
def test_the_walk_finds_what_a_plain_one_finds(
    form: Callable[[bytes], Buffer],
    damaged: tuple[bytes, Encoding],
    wanted: frozenset[int] | None,
    takes_low_groups: bool,  # noqa: FBT001 - drawn
) -> None:
    """The same elements in the same order, or the same refusal (PS3.5 7.1, 7.5; F-3, F-12)."""
    data_set, encoding = damaged
    foreign_groups = {0xFFFE} if takes_low_groups else _GROUPS_OF_NO_DATA_SET
    assert _outcome(
        lambda: read_elements(form(data_set), encoding, wanted, takes_low_groups=takes_low_groups)
    ) == _outcome(lambda: PlainWalk(data_set, encoding).elements(wanted, foreign_groups))


@given(damaged=_damaged_data_sets(), wanted=st.frozensets(_TAGS))
def test_contents_alone_are_those_of_the_elements(
    damaged: tuple[bytes, Encoding], wanted: frozenset[int]
) -> None:
    """The quick way and the full one agree, on refusals too; but it counts no items."""
    data_set, encoding = damaged
    walk = PlainWalk(data_set, encoding)

    def contents() -> dict[int, tuple[str, bytes]]:
        found = walk.elements(wanted, _GROUPS_OF_NO_DATA_SET, counts=False)
        return {tag: (element.vr, element.value) for tag, element in found.items()}

    assert _outcome(lambda: read_contents(data_set, encoding, wanted)) == _outcome(contents)


@given(damaged=_damaged_data_sets(), wanted=_WANTED)
def test_what_is_cut_off_behind_the_inflated_part_ends_the_walk(
    damaged: tuple[bytes, Encoding], wanted: frozenset[int] | None
) -> None:
    """Elements up to the cut are found, wherever it is (F-7)."""
    data_set, encoding = damaged
    deflated = replace(encoding, is_deflated=True)
    plain = PlainWalk(data_set, encoding, is_whole=False)
    with mock.patch.object(data_elements, "inflate", return_value=(data_set, False)):
        assert _outcome(lambda: read_elements(b"", deflated, wanted)) == _outcome(
            lambda: plain.elements(wanted, _GROUPS_OF_NO_DATA_SET)
        )


@given(damaged=_damaged_data_sets(), group=st.sampled_from([0x0002, 0x0008, 0x0010]))
def test_the_end_of_a_group_is_where_a_plain_walk_sees_it(
    damaged: tuple[bytes, Encoding], group: int
) -> None:
    """Or the group is refused for the same reason (PS3.10 7.1)."""
    data_set, encoding = damaged
    assert _outcome(lambda: {0: length_of_group(data_set, encoding, group)}) == _outcome(
        lambda: {0: PlainWalk(data_set, encoding).end_of_group(group)}
    )


@pytest.mark.parametrize("depth", [63, 64, 65, 66])
@pytest.mark.parametrize("encoding", [_EXPLICIT, _IMPLICIT], ids=["explicit", "implicit"])
def test_as_many_levels_of_sequences_are_followed_as_by_a_plain_walk(
    depth: int, encoding: Encoding
) -> None:
    """The limit is the same in every encoding (F-3)."""
    opening = _header(0x00081115, b"SQ", _UNDEFINED, encoding)
    opening += _header(_ITEM, b"", _UNDEFINED, encoding)
    closing = _header(_ITEM_END, b"", 0, encoding) + _header(_SEQUENCE_END, b"", 0, encoding)
    data_set = opening * depth + closing * depth
    fast = _outcome(lambda: read_elements(data_set, encoding))
    assert fast == _outcome(
        lambda: PlainWalk(data_set, encoding).elements(None, _GROUPS_OF_NO_DATA_SET)
    )
    assert (fast == "sequences are nested too deeply") == (depth > 65)


@pytest.mark.parametrize("vr", [0x4F4C, 0x424F], ids=["LO", "OB"])
def test_the_length_of_a_delimiter_is_never_a_vr(vr: int) -> None:
    """Items and delimiters have none, whatever stands behind their tag (PS3.5 7.5)."""
    items = _header(_ITEM, b"", _UNDEFINED, _EXPLICIT) + _header(_ITEM_END, b"", vr, _EXPLICIT)
    sequence = _header(0x00081115, b"SQ", _UNDEFINED, _EXPLICIT) + items
    data_set = sequence + _header(_SEQUENCE_END, b"", vr, _EXPLICIT) + b"\x10\x00\x20\x00LO\x00\x00"
    assert set(read_contents(data_set, _EXPLICIT, {0x00100020, 0x00081115})) == {
        0x00081115,
        0x00100020,
    }


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"\x10\x00\x20\x00LO\x04\x00LA", _EXPLICIT),
        (b"\x02\x00\x10\x00UI\x00\x00", _EXPLICIT),
        (b"\x15\x11\x08\x00\xff\xff\xff\xff", _IMPLICIT),
        (b"\xff" * 40, _DEFLATED),
        (zlib.compress(bytes(1000), wbits=-15)[:-4], _DEFLATED),
    ],
    ids=["cut", "foreign group", "sequence", "damaged stream", "cut stream"],
)
def test_a_mapped_file_can_be_closed_while_its_refusal_is_handled(
    content: bytes, encoding: Encoding
) -> None:
    """No view of the map outlives the reading, although the traceback knows all frames (F-3)."""

    def read_and_close() -> None:
        with mmap.mmap(-1, len(content)) as memory:
            memory.write(content)
            with memoryview(memory) as data_set:
                read_elements(data_set, encoding)

    with pytest.raises(DataSetError):  # a map that is still in use raises BufferError
        read_and_close()


_PIXELS_LENGTH = 1024 * 1024 * 1024


@pytest.mark.parametrize("encoding", [_EXPLICIT, _IMPLICIT], ids=["explicit", "implicit"])
def test_pixels_are_not_copied(encoding: Encoding, tmp_path: Path) -> None:
    """The header of a multi-frame object of a gigabyte is read in little memory."""
    header = _header(0x00100020, b"LO", 4, encoding) + b"LAST"
    header += _header(0x7FE00010, b"OW", _PIXELS_LENGTH, encoding)
    path = tmp_path / "multi-frame"
    with path.open("w+b") as file:
        file.write(header)
        file.truncate(len(header) + _PIXELS_LENGTH)
        file.flush()
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as data_set,
        ):
            tracemalloc.start()
            try:
                contents = read_contents(data_set, encoding, {0x00100020})
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert contents == {0x00100020: ("LO", b"LAST")}
    assert peak_bytes < 100_000
