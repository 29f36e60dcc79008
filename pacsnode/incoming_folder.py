"""The folder `incoming` of a store: each writer has one of its own in it, and a lock on that.

A writer is a process. The kernel drops its lock when it dies, however it dies: so another one can
tell what is abandoned.
"""

import errno
import fcntl
import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pacsnode.folders import FOLDER_MODE, lock_folder, remove_empty_folder, try_lock_folder


class IncomingFolder:
    """One writer's folder in `incoming`. Every method may raise OSError."""

    def __init__(self, parent: Path) -> None:
        """Make the folder, lock it, and check that files in it can have a second name.

        Args:
            parent: the folder `incoming`; it exists.

        Raises:
            OSError: the folder cannot be made, or the file system has no hard links.
        """
        self._parent = parent
        self._folder = parent / secrets.token_hex(8)
        self._prefix = f"{self._folder}/"
        self._numbers = itertools.count(1)
        with self._quiet():
            self._folder.mkdir(mode=FOLDER_MODE)
            self._lock = lock_folder(self._folder)
        try:
            self._check_hard_links()
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            self.release()
            raise

    def new_path(self) -> str:
        """Return a path that no file of this writer has had."""
        return f"{self._prefix}{next(self._numbers)}"

    def has_name_of(self, path: Path, other_than: Path | None = None) -> bool:
        """Tell whether a file has a name in any writer's folder, or is gone itself.

        Args:
            path: of the file.
            other_than: a name in a writer's folder that does not count.
        """
        try:
            status = path.stat()
        except FileNotFoundError:
            return True
        return status.st_nlink > 1 and status.st_ino in self._inodes(other_than)

    def abandoned(self, report: Callable[[Path, OSError], None]) -> Iterator[Path]:
        """Yield the files that writers that are gone have left, and take them over.

        The caller decides about each and removes it; an empty folder of a writer that is gone is
        removed here.

        Args:
            report: told of what is no file, and of folders that cannot be used; they stay.
        """
        for folder in self._parent.iterdir():
            if folder == self._folder:
                continue
            try:
                with self._quiet():
                    lock = try_lock_folder(folder)
            except OSError as error:
                report(folder, error)
                continue
            if lock is None:
                continue
            try:
                yield from self._files(folder, report)
                remove_empty_folder(folder)
            except OSError as error:
                report(folder, error)
            finally:
                os.close(lock)

    def _files(self, folder: Path, report: Callable[[Path, OSError], None]) -> Iterator[Path]:
        """Yield the regular files in a folder."""
        with os.scandir(folder) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
            else:
                report(Path(entry.path), OSError(errno.EINVAL, "it is no file"))

    def close(self) -> None:
        """Leave. What an interrupt has left is abandoned when the process ends.

        Not before: a thread that outlives an aborted association may still be at work on it.
        """
        if remove_empty_folder(self._folder):
            self.release()

    def release(self) -> None:
        """Give up the lock, as the end of the process does."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _inodes(self, other_than: Path | None) -> Iterator[int]:
        """Yield the inodes of all names in `incoming` but one; what goes may be left out."""
        left_out = str(other_than)
        for folder in self._parent.iterdir():
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                yield from (entry.inode() for entry in entries if entry.path != left_out)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keep other processes from looking for abandoned folders, for a moment.

        Between its making and its locking a writer's folder would look abandoned.
        """
        descriptor = os.open(self._parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _check_hard_links(self) -> None:
        first, second = self._folder / "first", self._folder / "second"
        first.touch(mode=0o640)
        os.link(first, second)
        first.unlink()
        second.unlink()
