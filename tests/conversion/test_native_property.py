"""Any data set that can be made comes back from every other encoding as it was."""

import struct
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pacsnode.conversion.errors import ConversionError
from tests.support.pixel_objects import convert_bytes

_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(
    {"OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UC", "UN", "UR", "UT", "UV", "SV"}
)
# Elements of the dictionary, one VR each, and the length of one of their values.
_PUBLIC = {
    0x00080005: ("CS", 2),
    0x00080018: ("UI", 2),
    0x00080060: ("CS", 2),
    0x00100010: ("PN", 2),
    0x00209165: ("AT", 4),
    0x00280010: ("US", 2),
    0x00189219: ("SS", 2),
    0x00720074: ("FD", 8),
    0x00720076: ("FL", 4),
    0x0072007C: ("SL", 4),
    0x00720078: ("UL", 4),
    0x00720082: ("SV", 8),
    0x00720083: ("UV", 8),
    0x00720065: ("OB", 2),
    0x00720067: ("OF", 4),
    0x00720069: ("OW", 2),
    0x00720073: ("OD", 8),
    0x00720075: ("OL", 4),
    0x00720081: ("OV", 8),
    0x00720068: ("LT", 2),
    0x00720070: ("UT", 2),
}
_SEQUENCES = (0x00081115, 0x00400275, 0x00400555)


def _header(tag: int, vr: str, length: int) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if vr in _LONG_VRS:
        return struct.pack("<HH2s2xL", group, number, vr.encode(), length)
    return struct.pack("<HH2sH", group, number, vr.encode(), length)


def _bare(tag: int, length: int) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)


@st.composite
def _public(draw: st.DrawFn) -> tuple[int, bytes]:
    tag = draw(st.sampled_from(sorted(_PUBLIC)))
    vr, size = _PUBLIC[tag]
    count = draw(st.integers(0, 5))
    value = draw(st.binary(min_size=count * size, max_size=count * size))
    return tag, _header(tag, vr, len(value)) + value


@st.composite
def _private(draw: st.DrawFn) -> tuple[int, bytes]:
    if draw(st.booleans()):
        return 0x00090010, _header(0x00090010, "LO", 8) + b"Example "
    tag = 0x00091000 | draw(st.integers(0, 0xFF))
    if draw(st.booleans()):
        value = draw(st.binary(max_size=10)) * 2
        return tag, _header(tag, "UN", len(value)) + value
    inner = _bare(0x00100010, 4) + b"Emma"
    length = draw(st.sampled_from([len(inner), _UNDEFINED]))
    item = _bare(0xFFFEE000, length) + inner
    item += _bare(0xFFFEE00D, 0) if length == _UNDEFINED else b""
    return tag, _header(tag, "UN", _UNDEFINED) + item + _bare(0xFFFEE0DD, 0)


def _data_sets(elements: st.SearchStrategy[tuple[int, bytes]]) -> st.SearchStrategy[bytes]:
    return st.lists(elements, max_size=6, unique_by=lambda element: element[0]).map(
        lambda found: b"".join(encoded for _, encoded in sorted(found))
    )


@st.composite
def _sequence(draw: st.DrawFn, elements: st.SearchStrategy[tuple[int, bytes]]) -> tuple[int, bytes]:
    tag = draw(st.sampled_from(_SEQUENCES))
    value = b""
    for content in draw(st.lists(_data_sets(elements), max_size=3)):
        if draw(st.booleans()):
            value += _bare(0xFFFEE000, len(content)) + content
        else:
            value += _bare(0xFFFEE000, _UNDEFINED) + content + _bare(0xFFFEE00D, 0)
    if draw(st.booleans()):
        return tag, _header(tag, "SQ", len(value)) + value
    return tag, _header(tag, "SQ", _UNDEFINED) + value + _bare(0xFFFEE0DD, 0)


_ELEMENTS = st.recursive(_public() | _private(), _sequence, max_leaves=12)
_OTHERS = st.lists(
    st.sampled_from(
        [
            ImplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
            ExplicitVRLittleEndian,
        ]
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(data_set=_data_sets(_ELEMENTS), ways=_OTHERS)
def test_every_way_round(data_set: bytes, ways: list[str]) -> None:
    """Whatever encodings it went through, a data set comes back byte by byte."""
    uids = [ExplicitVRLittleEndian, *ways, ExplicitVRLittleEndian]
    with TemporaryDirectory() as folder:
        assert convert_bytes(data_set, Path(folder), uids) == data_set


@settings(max_examples=300, deadline=None)
@given(
    data_set=_data_sets(_ELEMENTS),
    damage=st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)),
    is_cut=st.booleans(),
    source=st.sampled_from([ImplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian]),
    target=st.sampled_from([ImplicitVRLittleEndian, ExplicitVRBigEndian]),
)
def test_damage_is_refused_or_passed_on(
    data_set: bytes, damage: tuple[int, bytes], source: str, target: str, *, is_cut: bool
) -> None:
    """A damaged data set is converted or refused; nothing else ever happens."""
    at = damage[0] % (len(data_set) + 1)
    damaged = data_set[:at] + damage[1] + (b"" if is_cut else data_set[at + len(damage[1]) :])
    with TemporaryDirectory() as folder, suppress(ConversionError):
        convert_bytes(damaged, Path(folder), [source, target])
