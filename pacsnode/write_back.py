"""Brings written files from memory to the disk, and gives the memory back.

What arrives is seldom read soon; so its pages need not stay in memory, and the page cache is left
to what is read. And the memory that was just in use is the fastest to write the next file to. A
virtual machine often gives free memory back to its host: every page of it that is written to has to
be fetched from there again, which takes longer than to write and sync it.

With posix_fadvise(POSIX_FADV_DONTNEED) Linux first begins to write back what is not on the disk
yet, without waiting, and then lets go of the pages that are.
"""

import os
import threading
from collections import deque
from contextlib import suppress
from typing import Final

# Small files are written to pages that are at hand anyway, and are not worth a request each.
_SMALLEST_BYTES: Final = 128 * 1024
_MOST_WAITING: Final = 16


class WriteBack:
    """The files of one store on their way to the disk; any thread may use it."""

    def __init__(self, *, is_durable: bool) -> None:
        """Begin with none.

        Args:
            is_durable: finish() waits until a file is on the disk; else the kernel is only asked
                to write it.
        """
        self._is_durable = is_durable
        self._lock = threading.Lock()
        self._waiting: deque[int] = deque()

    def begin(self, descriptor: int, position: int) -> None:
        """Have the kernel write what was written to a file since a position, without waiting.

        That is advice: where it is not taken, the file is written all the same.
        """
        with suppress(OSError):
            os.posix_fadvise(descriptor, position, 0, os.POSIX_FADV_DONTNEED)

    def finish(self, descriptor: int, length_bytes: int) -> None:
        """Bring a file to the disk, and give back its memory as soon as it is there.

        Args:
            descriptor: of the file, which stays open.
            length_bytes: of the file.

        Raises:
            OSError: it cannot be written.
        """
        if self._is_durable:
            os.fsync(descriptor)
        if length_bytes < _SMALLEST_BYTES:
            return
        self.begin(descriptor, 0)
        if not self._is_durable:
            with suppress(OSError):  # likewise, with no descriptor to spare
                self._let_go_later(os.dup(descriptor))

    def close(self) -> None:
        """Do not wait for files that the kernel is still writing."""
        with self._lock:
            while self._waiting:
                os.close(self._waiting.popleft())

    def _let_go_later(self, descriptor: int) -> None:
        """Keep a file open until some others have come: by then the kernel has written it."""
        with self._lock:
            self._waiting.append(descriptor)
            oldest = self._waiting.popleft() if len(self._waiting) > _MOST_WAITING else None
        if oldest is not None:
            self.begin(oldest, 0)
            os.close(oldest)
