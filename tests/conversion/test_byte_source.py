"""Bytes read piece by piece, and bytes put aside."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacsnode.conversion import byte_source
from pacsnode.conversion.byte_source import FileSource, Scratch, Section, WatchedSource
from pacsnode.conversion.errors import ConversionError

_BYTES = bytes(range(256))


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """An open file with each byte once."""
    path = tmp_path / "file"
    path.write_bytes(_BYTES)
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_a_file_from_an_offset(descriptor: int) -> None:
    """Positions count from the offset, and no more is read than there is."""
    source = FileSource(descriptor, 6)
    assert source.length == 250
    assert source.read(0, 4) == _BYTES[6:10]
    assert source.read(248, 100) == _BYTES[254:]
    assert source.read(300, 1) == b""


def test_an_offset_behind_the_end(descriptor: int) -> None:
    """A file that ends before its data set starts has an empty one."""
    assert FileSource(descriptor, 1000).length == 0


def test_reads_that_stop_short(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is read where the system gives a few bytes at a time."""
    pread = os.pread
    monkeypatch.setattr(
        byte_source.os, "pread", lambda file, length, at: pread(file, min(length, 7), at)
    )
    assert FileSource(descriptor, 0).read(0, 256) == _BYTES


def test_a_file_that_became_shorter(descriptor: int) -> None:
    """What is not there any more is an error, and no signal."""
    source = FileSource(descriptor, 0)
    os.truncate(descriptor, 100)
    with pytest.raises(ConversionError, match="became shorter"):
        source.read(90, 20)


@pytest.mark.parametrize("bytes_in_memory", [0, 10, 100, 1000])
def test_scratch(tmp_path: Path, bytes_in_memory: int) -> None:
    """What was put aside is read wherever it is, overwritten parts as they are now."""
    scratch = Scratch(tmp_path, bytes_in_memory)
    for start in range(0, 256, 8):
        assert scratch.write(_BYTES[start : start + 8]) == start
    scratch.overwrite(8, b"ABCDEFGH")
    scratch.overwrite(248, b"abcdefgh")
    expected = _BYTES[:8] + b"ABCDEFGH" + _BYTES[16:248] + b"abcdefgh"
    assert scratch.length == 256
    assert all(
        scratch.read(start, length) == expected[start : start + length]
        for start in range(0, 256, 5)
        for length in (1, 9, 120, 256)
    )
    scratch.close()


def test_a_scratch_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails while it is read fails the conversion."""
    scratch = Scratch(tmp_path, 0)
    scratch.write(b"to the file")
    scratch.write(b"in memory")

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(byte_source.os, "pread", fail)
    with pytest.raises(ConversionError, match="the scratch folder: Input/output error"):
        scratch.read(0, 4)
    scratch.close()


def test_space_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first byte on the disk, and again after each so many more, it is asked."""
    monkeypatch.setattr(byte_source, "_CHECKED_LENGTH_BYTES", 100)
    lengths = []

    def why_no_space() -> str:
        lengths.append(scratch.length)
        return ""

    scratch = Scratch(tmp_path, 10, why_no_space=why_no_space)
    scratch.write(bytes(10))
    assert lengths == []
    for _ in range(30):
        scratch.write(bytes(10))
    assert lengths == [10, 120, 230]
    scratch.overwrite(0, b"what is there already needs none")
    assert lengths == [10, 120, 230]
    scratch.close()


def test_space_that_is_refused(tmp_path: Path) -> None:
    """Nothing goes to the disk against a reason, and the reason is said."""
    scratch = Scratch(tmp_path, 10, why_no_space=lambda: "the disk is nearly full")
    scratch.write(bytes(10))
    with pytest.raises(ConversionError, match="the scratch folder: the disk is nearly full"):
        scratch.write(b"1")
    assert scratch._file is None
    scratch.close()


def test_a_section(descriptor: int) -> None:
    """A section starts at 0, and ends where it ends."""
    section = Section(FileSource(descriptor, 0), 16, 100)
    assert section.length == 100
    assert section.read(4, 10) == _BYTES[20:30]
    assert section.read(90, 100) == _BYTES[106:116]
    assert section.read(200, 1) == b""


def test_a_watched_source(descriptor: int) -> None:
    """Nothing is read any more once the check says so."""
    allowed = [None]
    source = WatchedSource(FileSource(descriptor, 0), allowed.pop)
    assert source.length == 256
    assert source.read(4, 2) == _BYTES[4:6]
    with pytest.raises(IndexError):
        source.read(4, 2)
