"""A data set in the making: pieces of other sources, and the headers and values in between.

Large values stay where they are until they are sent, and have their bytes swapped on the way.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pacsnode.conversion.byte_source import ByteSource, Scratch
from pacsnode.conversion.errors import ConversionError

_LONGEST_COPIED_VALUE: Final = 16 * 1024
_PIECE_LENGTH: Final = 256 * 1024  # below what the C library gives back to the system each time
_TYPE_CODES: Final = {2: "H", 4: "I", 8: "Q"}


@dataclass(slots=True)
class _Part:
    """Some bytes of a source, in words of so many bytes that are to be swapped; 1: as they are."""

    source: ByteSource
    start: int
    length: int
    word_bytes: int


class Assembly:
    """The parts of a data set in their order."""

    def __init__(self, scratch: Scratch) -> None:
        """Begin with none.

        Args:
            scratch: empty; takes what is not left in its source.
        """
        self._scratch = scratch
        self._parts: list[_Part] = []
        self.length = 0

    def add(self, data: bytes) -> int:
        """Add bytes; return where they are for `overwrite`.

        Raises:
            ConversionError: they cannot be put aside.
        """
        position = self._scratch.write(data)
        self.length += len(data)
        last = self._parts[-1] if self._parts else None
        if last is not None and last.source is self._scratch:
            last.length += len(data)
        else:
            self._parts.append(_Part(self._scratch, position, len(data), 1))
        return position

    def overwrite(self, position: int, data: bytes) -> None:
        """Replace bytes that were added by one `add`.

        Raises:
            ConversionError: they cannot be put aside.
        """
        self._scratch.overwrite(position, data)

    def copy(self, source: ByteSource, start: int, length: int, word_bytes: int = 1) -> None:
        """Add bytes of a source, with their byte order changed if a word has several.

        Raises:
            ConversionError: they are no whole number of words, or cannot be read or put aside.
            OSError: the source cannot be read.
        """
        _check_words(length, word_bytes)
        if length <= _LONGEST_COPIED_VALUE:
            value = source.read(start, length)
            self.add(swapped(value, word_bytes) if word_bytes > 1 else value)
            return
        self.length += length
        last = self._parts[-1] if self._parts else None
        if last is not None and _continues(last, source, start, word_bytes):
            last.length += length
        else:
            self._parts.append(_Part(source, start, length, word_bytes))

    def pieces(self) -> Iterator[bytes]:
        """Yield all bytes in pieces of at most 256 KiB.

        Raises:
            ConversionError: a source became shorter.
            OSError: a source cannot be read.
        """
        for part in self._parts:
            for start in range(0, part.length, _PIECE_LENGTH):
                length = min(_PIECE_LENGTH, part.length - start)
                piece = part.source.read(part.start + start, length)
                yield swapped(piece, part.word_bytes) if part.word_bytes > 1 else piece


def swapped(data: bytes, word_bytes: int) -> bytes:
    """Return words of 2, 4 or 8 bytes in the other byte order.

    Raises:
        ConversionError: the bytes are no whole number of words.
    """
    _check_words(len(data), word_bytes)
    words = array(_TYPE_CODES[word_bytes], data)
    words.byteswap()
    return words.tobytes()


def _check_words(length: int, word_bytes: int) -> None:
    if length % word_bytes:
        raise ConversionError("a value is no whole number of binary values")


def _continues(part: _Part, source: ByteSource, start: int, word_bytes: int) -> bool:
    return (
        part.source is source
        and part.start + part.length == start
        and part.word_bytes == word_bytes == 1
    )
