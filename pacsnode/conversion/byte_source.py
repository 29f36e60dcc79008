"""Bytes that are read piece by piece: those of a file, and those put aside in a scratch.

Nothing is mapped: a file that became shorter would end the process (SIGBUS), and the mapped pages
of a gigabyte would count as its memory.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Protocol

from pacsnode.conversion.errors import ConversionError

_BYTES_IN_MEMORY: Final = 4 * 1024 * 1024
_CHECKED_LENGTH_BYTES: Final = 64 * 1024 * 1024  # written between two looks at the free space


def always_space() -> str:
    """Return an empty reason: nothing is against taking more space."""
    return ""


def always_go_on() -> None:
    """Let whatever is at work go on."""


class ByteSource(Protocol):
    """Bytes that can be read from any position."""

    @property
    def length(self) -> int:
        """How many there are."""

    def read(self, position: int, length: int) -> bytes:
        """Return `length` bytes from a position, fewer only where the source ends."""


class FileSource:
    """The bytes of an open file from an offset to where its end was when it was looked at."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._length = max(os.fstat(descriptor).st_size - offset, 0)

    @property
    def length(self) -> int:
        """The number of bytes behind the offset."""
        return self._length

    def read(self, position: int, length: int) -> bytes:
        """Return bytes of the file.

        Raises:
            ConversionError: the file became shorter.
            OSError: the file cannot be read.
        """
        wanted = max(min(length, self._length - position), 0)
        piece = os.pread(self._descriptor, wanted, self._offset + position)
        if len(piece) < wanted:
            piece += self._rest(position + len(piece), wanted - len(piece))
        return piece

    def _rest(self, position: int, length: int) -> bytes:
        """Return what one read did not: a read may stop short of what was asked for."""
        pieces = []
        while length:
            piece = os.pread(self._descriptor, length, self._offset + position)
            if not piece:
                raise ConversionError("the file became shorter while it was read")
            pieces.append(piece)
            position += len(piece)
            length -= len(piece)
        return b"".join(pieces)


class WatchedSource:
    """Bytes of another source, for as long as whoever reads them may go on."""

    def __init__(self, source: ByteSource, check: Callable[[], None]) -> None:
        """Read nothing yet.

        Args:
            source: of the bytes.
            check: called before each read; raises what ends it.
        """
        self._source = source
        self._check = check

    @property
    def length(self) -> int:
        """The number of bytes of the other source."""
        return self._source.length

    def read(self, position: int, length: int) -> bytes:
        """Return bytes of the other source; raises what it raises, and what the check does."""
        self._check()
        return self._source.read(position, length)


class Section:
    """Some bytes of another source, as a source of their own."""

    def __init__(self, source: ByteSource, start: int, length: int) -> None:
        self._source = source
        self._start = start
        self._length = length

    @property
    def length(self) -> int:
        """The number of bytes of the section."""
        return self._length

    def read(self, position: int, length: int) -> bytes:
        """Return bytes of the section; raises what the other source does."""
        wanted = max(min(length, self._length - position), 0)
        return self._source.read(self._start + position, wanted)


class Scratch:
    """Bytes put aside: in memory while they are few, else in a file that has no name.

    The file goes with the last process that has it open, whatever ends that process.
    """

    def __init__(
        self,
        folder: Path,
        bytes_in_memory: int = _BYTES_IN_MEMORY,
        *,
        why_no_space: Callable[[], str] = always_space,
        check: Callable[[], None] = always_go_on,
    ) -> None:
        """Begin with none.

        Args:
            folder: for the file, if one is needed.
            bytes_in_memory: at most; the rest goes to the file.
            why_no_space: asked before the first byte goes to the file, and before each further 64
                MiB do; says why they may not, or nothing.
            check: called before each `write`; raises what ends it.
        """
        self._folder = folder
        self._bytes_in_memory = bytes_in_memory
        self._why_no_space = why_no_space
        self._check = check
        self._allowed_bytes_in_file = 0
        self._file: IO[bytes] | None = None
        self._bytes_in_file = 0
        self._tail = bytearray()

    @property
    def length(self) -> int:
        """How many bytes were put aside."""
        return self._bytes_in_file + len(self._tail)

    def write(self, data: bytes | memoryview) -> int:
        """Add bytes; return the position of the first of them.

        Raises:
            ConversionError: the file cannot be made or written; the disk is full, say.
        """
        self._check()
        position = self.length
        if len(self._tail) + len(data) > self._bytes_in_memory:
            self._move_to_file()
        self._tail += data
        return position

    def overwrite(self, position: int, data: bytes) -> None:
        """Replace bytes that came with one `write`.

        Raises:
            ConversionError: as `write` does.
        """
        if position >= self._bytes_in_file:
            start = position - self._bytes_in_file
            self._tail[start : start + len(data)] = data
        else:
            self._write_to_file(position, data)

    def read(self, position: int, length: int) -> bytes:
        """Return bytes that were put aside.

        Raises:
            ConversionError: the file cannot be read.
        """
        start = position - self._bytes_in_file
        if start >= 0:
            return bytes(self._tail[start : start + length])
        in_file = self._read_from_file(position, min(length, -start))
        return in_file + bytes(self._tail[: max(length + start, 0)])

    def close(self) -> None:
        """Forget all bytes."""
        self._tail = bytearray()
        if self._file is not None:
            self._file.close()

    def _move_to_file(self) -> None:
        if self._tail:
            self._check_space(self._bytes_in_file + len(self._tail))
            self._write_to_file(self._bytes_in_file, self._tail)
            self._bytes_in_file += len(self._tail)
            self._tail = bytearray()

    def _check_space(self, bytes_in_file: int) -> None:
        if bytes_in_file <= self._allowed_bytes_in_file:
            return
        if reason := self._why_no_space():
            raise ConversionError(f"the scratch folder: {reason}")
        self._allowed_bytes_in_file = bytes_in_file + _CHECKED_LENGTH_BYTES

    def _write_to_file(self, position: int, data: bytes | bytearray) -> None:
        try:
            if self._file is None:
                # Unbuffered: what is left in a buffer could fail when the file is closed.
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            descriptor = self._file.fileno()
            with memoryview(data) as view:
                written = 0
                while written < len(view):
                    written += os.pwrite(descriptor, view[written:], position + written)
        except OSError as error:
            raise ConversionError(f"the scratch folder: {error.strerror}") from error

    def _read_from_file(self, position: int, length: int) -> bytes:
        if self._file is None:
            return b""
        try:
            pieces = []
            while length and (piece := os.pread(self._file.fileno(), length, position)):
                pieces.append(piece)
                position += len(piece)
                length -= len(piece)
            return b"".join(pieces)
        except OSError as error:
            raise ConversionError(f"the scratch folder: {error.strerror}") from error
