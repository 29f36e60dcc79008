"""Encoded data sets as they are read while they are sent: from a stored file, or converted.

Source: PS3.10 7.1; PS3.5 A.5; rules E-33, E-37.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from pacsnode.catalog.records import KeptFile
from pacsnode.conversion.converter import ConvertedDataSet
from pacsnode.dicom.data_elements import Buffer
from pacsnode.dicom.part10 import Part10Error, read_file_meta
from pacsnode.dicom.transfer_syntax import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN

_PREAMBLE_BYTES: Final = 128
# Prefix, and the group length of File Meta Information (PS3.10 7.1).
_START: Final = struct.Struct("<4sHH2sHL")
_USUAL_START: Final = (b"DICM", 0x0002, 0x0000, b"UL", 4)


class StoredDataSet:
    """The data set in a stored file, byte for byte; a context manager that closes the file.

    A deflated one of odd length is made even by a NUL: whoever made it has left that out, and
    messages of odd length are not allowed (PS3.5 A.5).

    Attributes:
        is_message: it may be sent; not so if it is of odd length, and not deflated.
    """

    def __init__(self, path: str | Path, file: KeptFile) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be read.
            Part10Error: it is not as it was kept.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._end = os.fstat(self._descriptor).st_size
            self._position = self._end - file.data_set_length_bytes
            is_deflated = file.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
            self.is_message = is_deflated or file.data_set_length_bytes % 2 == 0
            if self._position != self._usual_offset() and self._position != _offset(path):
                raise Part10Error("it is not as long as it was")  # noqa: TRY301
        except BaseException:
            os.close(self._descriptor)
            raise

    def _usual_offset(self) -> int | None:
        """Return where the data set starts if File Meta Information is as we write it."""
        start = os.pread(self._descriptor, _START.size, _PREAMBLE_BYTES)
        if len(start) < _START.size:
            return None
        *usual, length = _START.unpack(start)
        is_usual = tuple(usual) == _USUAL_START
        return _PREAMBLE_BYTES + _START.size + int(length) if is_usual else None

    @property
    def offset(self) -> int:
        """Where what is left starts, in bytes from the start of the file."""
        return self._position

    @property
    def length_bytes(self) -> int:
        """Of what is left; even."""
        length = self._end - self._position
        return length + length % 2

    def read_into(self, room: memoryview) -> None:
        """Fill a buffer with what comes next.

        Raises:
            OSError: it cannot be read, or has become shorter.
        """
        filled = 0
        while filled < len(room):
            count = os.preadv(self._descriptor, [room[filled:]], self._position)
            if count == 0:
                if self._position < self._end or len(room) - filled > 1:
                    raise OSError(0, "the file has become shorter")
                room[filled] = 0
                return
            self._position += count
            filled += count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _offset(path: str | Path) -> int:
    """Return where the data set starts, whoever wrote the file."""
    with Path(path).open("rb") as file:
        return read_file_meta(file).data_set_offset


class ConvertedReader:
    """A data set that is converted while it is sent."""

    def __init__(self, converted: ConvertedDataSet) -> None:
        self._length_bytes = converted.length_bytes
        self._pieces: Iterator[Buffer] = iter(converted.pieces())
        self._piece = memoryview(b"")

    @property
    def length_bytes(self) -> int:
        """Of all of it; even."""
        return self._length_bytes

    def read_into(self, room: memoryview) -> None:
        """Fill a buffer with what comes next.

        Raises:
            OSError: the stored file cannot be read.
            ConversionError: somebody shortened it meanwhile.
        """
        filled = 0
        while filled < len(room):
            if not self._piece:
                piece = next(self._pieces, None)
                if piece is None:
                    raise OSError(0, "the conversion has ended early")
                self._piece = memoryview(piece).cast("B")
            part = self._piece[: len(room) - filled]
            room[filled : filled + len(part)] = part
            self._piece = self._piece[len(part) :]
            filled += len(part)
