"""The folder of DICOM files: writes them so that a power cut loses none that was kept.

How it works. A file is written under `incoming/<writer>/`. Keeping it puts its place and a digest
into that name, gives it a second name (a hard link) under
`studies/<Study Instance UID>/<Series Instance UID>/`, and syncs it; then the folders of the second
name are synced, those of several files at once (sync_folders). Only when the catalog has committed
its row is the first name removed. So at any moment a file is in one of three states that can be
told apart without a scan:

- one name, in `incoming`: not kept; removed when its writer is gone;
- two names: kept, but perhaps without a row, and after a power cut perhaps not whole; whoever finds
  it asks the digest and the catalog;
- one name, in `studies`: kept and catalogued.

What is relied on: the file system keeps the order of what is done to names, as a journal does, so
after a power cut there is no second name whose first one was not there before it; fsync of a file
brings its content to the disk, fsync of a folder its names. On ext4 the commit of the journal that
the first of these forces carries the new file with both of its names, so that syncing the folders
after it is cheap; it makes it right on other file systems.

A file is never replaced: where its name is taken, it gets another one, and the catalog decides
which of the two counts. Writers (one for each process) hold a lock on their folder in `incoming`;
the kernel drops it when the process dies, however it dies.

Source: PS3.4 B.4.1 (what Success promises); rules F-2, F-21, F-23.
"""

import errno
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from pacsnode.dicom.data_elements import Buffer
from pacsnode.file_names import (
    STUDIES,
    FilePlace,
    lasting_path,
    name_with_place,
    place_and_digest_of,
    quarantine_name,
    short_digest,
)
from pacsnode.folders import FOLDER_MODE, make_folder
from pacsnode.incoming_folder import IncomingFolder
from pacsnode.study_folders import StudyFolders, unlink
from pacsnode.write_back import WriteBack

_FILE_MODE: Final = 0o640
_COPY_LENGTH_BYTES: Final = 1024 * 1024
_MOST_BUFFERS: Final = 1024  # that one call may write (IOV_MAX)
_PIECE_BYTES: Final = 64 * 1024
_BEGIN_LENGTH_BYTES: Final = 256 * 1024
_CHECKED_LENGTH_BYTES: Final = 64 * 1024 * 1024  # the reserve is looked at before each such part
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FileStoreError(Exception):
    """A file could not be written, kept or read; the cause is chained."""


class NoSpaceError(FileStoreError):
    """The disk is full, or less than the reserve is free."""


class IncomingFile:
    """A file on its way in: written piece by piece, perhaps kept; gone on exit unless it was kept.

    Use as a context manager. What left the context with keep() not called, or with withdraw()
    called after it, or by an error, leaves nothing behind. An interrupt (KeyboardInterrupt,
    SystemExit) leaves everything as it is: the row may have been committed just before it came, and
    whoever recovers asks the catalog.
    """

    def __init__(
        self, store: "FileStore", folders: StudyFolders, write_back: WriteBack, path: str
    ) -> None:
        self._store = store
        self._folders = folders
        self._write_back = write_back
        self._path = path
        self._descriptor = -1  # open from the first byte until the file is kept
        self._length_bytes = 0
        self._checked_bytes = _CHECKED_LENGTH_BYTES
        self._begun_bytes = 0  # which the kernel was asked to bring to the disk
        self._kept: str | None = None

    @property
    def path(self) -> Path:
        """Where the file is until the context ends; keeping it changes that."""
        return Path(self._path)

    @property
    def length_bytes(self) -> int:
        """How much has been written."""
        return self._length_bytes

    def append(self, fragments: Sequence[Buffer]) -> None:
        """Write at the end of the file; nothing is synced before it is kept.

        Raises:
            NoSpaceError: the disk is full, or less than the reserve is free.
            FileStoreError: it cannot be written.
        """
        if self._length_bytes >= self._checked_bytes:
            self._store.check_free_space()
            self._checked_bytes = self._length_bytes + _CHECKED_LENGTH_BYTES
        try:
            if self._descriptor < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, _FILE_MODE)
            self._length_bytes += _write_all(self._descriptor, fragments, self._length_bytes)
            if self._length_bytes >= self._begun_bytes + _BEGIN_LENGTH_BYTES:
                # While the next part arrives; else all of a large object would wait for the end.
                self._write_back.begin(self._descriptor, self._begun_bytes)
                self._begun_bytes = self._length_bytes
        except OSError as error:
            raise _failure("cannot write the file", error) from error

    @contextmanager
    def content(self) -> Iterator[memoryview]:
        """Give what has been written so far, to be read until the context ends.

        Raises:
            FileStoreError: it cannot be read, or is kept already.
        """
        if not self._length_bytes:
            yield memoryview(b"")
            return
        if self._descriptor < 0:  # which to mmap would mean memory without a file
            raise FileStoreError("the file is closed")
        try:
            mapped = mmap.mmap(self._descriptor, self._length_bytes, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _failure("cannot read the file", error) from error
        except ValueError as error:
            raise FileStoreError("the file is shorter than what was written") from error
        view = memoryview(mapped)
        try:
            yield view
        finally:
            # The frames of an error may still hold a part of it, with which it goes then.
            with suppress(BufferError):
                view.release()
                mapped.close()

    def copy_from(self, source: Path) -> None:
        """Write the content of another file.

        Raises:
            NoSpaceError: the disk is full, or less than the reserve is free.
            FileStoreError: the source cannot be read, or the copy not written.
        """
        try:
            with source.open("rb", buffering=0) as file:
                self.append(())  # an empty source makes an empty file
                while part := file.read(_COPY_LENGTH_BYTES):
                    self.append((part,))
        except OSError as error:
            raise _failure("cannot copy the file", error) from error

    def link_from(self, source: Path) -> None:
        """Make the file another name of a file that exists, without copying its bytes.

        Raises:
            FileStoreError: the source is on another file system, or cannot be linked.
        """
        try:
            os.link(source.resolve(), self._path)  # Linux would link a symbolic link itself
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self._length_bytes = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise _failure("cannot link the file", error) from error

    def keep(self, place: FilePlace, data_set_sha256: bytes) -> str:
        """Give the file its lasting name, and bring its content to the disk.

        The name is durable when FileStore.sync_folders() has returned.

        Args:
            place: where it belongs.
            data_set_sha256: digest of its data set, by which recovery tells that it is whole.

        Returns:
            The lasting path, relative to the storage folder.

        Raises:
            NoSpaceError: the disk is full.
            FileStoreError: the name cannot be made, or the content not written.
        """
        try:
            with_place = name_with_place(self._path, place, data_set_sha256)
            os.rename(self._path, with_place)  # noqa: PTH104 - for each instance that comes
            self._path = with_place
            self._kept = self._folders.link(self._path, place)
            self._write_back.finish(self._descriptor, self._length_bytes)
            self._close()
        except OSError as error:
            raise _failure("cannot keep the file", error) from error
        return self._kept

    def withdraw(self) -> None:
        """Take the lasting name back: the file was kept in vain.

        Raises:
            FileStoreError: the name cannot be removed.
        """
        if self._kept is not None:
            self._store.remove(self._kept)
            self._kept = None

    def quarantine(self, place: FilePlace, data_set_sha256: bytes) -> str:
        """Keep the file aside instead of at its place, durably: it contradicts one that is kept.

        The digest is part of its name: a sender that tries again and again fills no disk.

        Args:
            place: where it would belong.
            data_set_sha256: digest of its data set.

        Returns:
            The path, relative to the storage folder.

        Raises:
            FileStoreError: the name cannot be made.
        """
        self.withdraw()
        try:
            return self._folders.link_aside(self._path, quarantine_name(place, data_set_sha256))
        except OSError as error:
            raise _failure("cannot put the file into quarantine", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # of a file that was not kept
            self._close()
        if kind is not None and not issubclass(kind, Exception):
            return
        if kind is not None:
            self.withdraw()  # if it fails the first name stays, by which recovery finds both
        try:
            unlink(self._path)
        except OSError as failure:
            raise _failure("cannot remove the incoming file", failure) from failure

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class FileStore:
    """The storage folder, as one process writes and reads it.

    Attributes:
        folder: the storage folder.
    """

    def __init__(self, folder: Path, *, reserve_bytes: int = 0, is_durable: bool = True) -> None:
        """Open the storage folder for writing, and make it where it does not exist.

        Args:
            folder: on a file system with hard links.
            reserve_bytes: with less than this free, nothing more is taken in.
            is_durable: what is kept survives a power cut; else no file and no folder is synced.

        Raises:
            FileStoreError: the folder cannot be made, written, or has no hard links.
        """
        self.folder = folder
        self._root = str(folder)
        self._reserve_bytes = reserve_bytes
        self._folders = StudyFolders(folder, is_durable=is_durable)
        self._write_back = WriteBack(is_durable=is_durable)
        try:
            make_folder(folder, is_durable=is_durable)
            for path in (folder / "incoming", folder / STUDIES):
                path.mkdir(mode=FOLDER_MODE, exist_ok=True)
            self._folders.sync_path(self._root)
            self._incoming = IncomingFolder(folder / "incoming")
        except OSError as error:
            raise FileStoreError(f"storage folder {folder}: {error.strerror}") from error

    def incoming(self) -> IncomingFile:
        """Return a new file to write.

        Raises:
            NoSpaceError: less than the reserve is free.
            FileStoreError: the free space cannot be told.
        """
        self.check_free_space()
        return IncomingFile(self, self._folders, self._write_back, self._incoming.new_path())

    def check_free_space(self) -> None:
        """Refuse to take more in if there is too little space.

        Raises:
            NoSpaceError: less than the reserve is free.
            FileStoreError: the free space cannot be told.
        """
        try:
            status = os.statvfs(self._root)
        except OSError as error:
            raise _failure("the storage folder is gone", error) from error
        if status.f_bavail * status.f_frsize < self._reserve_bytes:
            raise NoSpaceError("less than the reserve is free")

    def why_no_space(self) -> str:
        """Return why nothing more should be written on this disk; empty if it may be."""
        try:
            self.check_free_space()
        except FileStoreError as error:
            return str(error)
        return ""

    @property
    def scratch_folder(self) -> Path:
        """Where temporary files without a name may be made: on the same disk."""
        return Path(self._root)

    def sync_folders(self, relative_paths: Iterable[str]) -> dict[str, FileStoreError]:
        """Make the lasting names of files durable; each folder is synced once.

        Returns:
            The names that may not be durable, each with the failure of its folder.
        """
        failed: dict[str, FileStoreError] = {}
        for path, error in self._folders.sync(relative_paths).items():
            failed[path] = _failure("cannot sync a folder", error)
            failed[path].__cause__ = error
        return failed

    def sync_kept(self, relative_path: str) -> None:
        """Make a kept file durable that somebody else may have left unsynced, with its name.

        Raises:
            FileStoreError: it cannot be synced.
        """
        try:
            self._folders.sync_path(f"{self._root}/{relative_path}")
        except OSError as error:
            raise _failure("cannot sync a file", error) from error
        for failure in self.sync_folders((relative_path,)).values():
            raise failure

    def open(self, relative_path: str) -> BinaryIO:
        """Open a kept file for reading.

        Raises:
            FileStoreError: it is missing or cannot be read.
        """
        try:
            return self.path(relative_path).open("rb")
        except OSError as error:
            raise _failure("cannot read a kept file", error) from error

    def path(self, relative_path: str) -> Path:
        """Return where a kept file is."""
        return self.folder / relative_path

    def kept_path(self, path: Path) -> str | None:
        """Return the path of a file in `studies`, relative to the storage folder.

        Returns:
            None for a file that lies elsewhere.
        """
        folder, real = self.folder.resolve(), path.resolve()
        return str(real.relative_to(folder)) if real.is_relative_to(folder / STUDIES) else None

    def is_incoming(self, path: Path) -> bool:
        """Tell whether a file lies in `incoming`: its writer may not have come to its end."""
        return path.resolve().is_relative_to(self.folder.resolve() / "incoming")

    def has_first_name(self, relative_path: str, *, other_than: Path | None = None) -> bool:
        """Tell whether a file in `studies` has a name in `incoming`, too, or is gone meanwhile.

        Its writer may still take it back then. One that has none is not taken back any more: its
        row is committed, or it has lost it.

        Args:
            relative_path: of the file.
            other_than: a name in `incoming` that does not count; the caller's own.

        Raises:
            FileStoreError: `incoming` cannot be read.
        """
        try:
            return self._incoming.has_name_of(self.path(relative_path), other_than)
        except OSError as error:
            raise _failure("cannot read the names in incoming", error) from error

    def has(self, relative_path: str) -> bool:
        """Tell whether a kept file is there."""
        return self.path(relative_path).is_file()

    def remove(self, relative_path: str) -> None:
        """Remove a kept file that the catalog does not name.

        Raises:
            FileStoreError: it cannot be removed.
        """
        try:
            self._folders.remove(relative_path)
        except OSError as error:
            raise _failure("cannot remove a kept file", error) from error

    def abandoned(
        self, report: Callable[[Path, OSError], None] | None = None
    ) -> Iterator["AbandonedFile"]:
        """Yield what writers that are gone have left in `incoming`, and take it over.

        The caller decides about each and removes it.

        Args:
            report: told of what cannot be looked at, and why; it stays as it is.

        Raises:
            FileStoreError: `incoming` cannot be read.
        """
        try:
            for path in self._incoming.abandoned(report or _ignore):
                yield AbandonedFile(self, path)
        except OSError as error:
            raise _failure("cannot read incoming", error) from error

    def close(self) -> None:
        """Leave. What an interrupt has left in `incoming` is abandoned when the process ends."""
        self._write_back.close()
        self._incoming.close()


class AbandonedFile:
    """A file in `incoming` whose writer is gone.

    Attributes:
        path: its name there.
        place: where it was about to be kept; None if it was not.
    """

    def __init__(self, store: FileStore, path: Path) -> None:
        self._store = store
        self.path = path
        self.place: FilePlace | None = None
        self._digest = ""
        found = place_and_digest_of(path.name)
        if found is not None:
            self.place, self._digest = found

    def kept_path(self) -> str | None:
        """Return its lasting path, relative to the storage folder; None if it has none."""
        if self.place is None:
            return None
        series = lasting_path(self.place).rpartition("/")[0]
        with suppress(FileNotFoundError):  # others take files back, and then their empty folders
            for path in self._store.path(series).iterdir():
                if path.name.startswith(self.place.sop_instance_uid):
                    with suppress(FileNotFoundError):
                        if path.samefile(self.path):
                            return str(path.relative_to(self._store.folder))
        return None

    def is_whole(self, data_set_sha256: bytes) -> bool:
        """Tell by the digest of its data set whether all that was written to it is there."""
        return self._digest == short_digest(data_set_sha256)

    def remove(self) -> None:
        """Remove its name in `incoming`."""
        self.path.unlink(missing_ok=True)


def _ignore(_path: Path, _error: OSError) -> None:
    """Make nothing of an error."""


def _write_all(descriptor: int, fragments: Sequence[Buffer], position: int) -> int:
    """Write fragments at the end of a file, where a position is, and return how much that was.

    One call may write less than it is given (signals, limits).
    """
    total = 0
    for piece in _pieces(fragments, position):
        length = sum(map(len, piece))
        written = os.writev(descriptor, piece)
        if written < length:
            rest = memoryview(b"".join(piece))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        total += length
    return total


def _pieces(fragments: Sequence[Buffer], position: int) -> Iterator[list[memoryview]]:
    """Yield fragments in groups that one call may write, each up to a multiple of 64 KiB in a file.

    For a longer write the kernel looks for memory in larger blocks, which are seldom at hand. On a
    virtual machine that gives free memory back to its host, each has to be fetched from there: such
    a write then takes ten times as long.
    """
    room_bytes = _PIECE_BYTES - position % _PIECE_BYTES
    piece: list[memoryview] = []
    for fragment in fragments:
        left = memoryview(fragment)
        while left:
            piece.append(left[:room_bytes])
            left = left[room_bytes:]
            room_bytes -= len(piece[-1])
            if not room_bytes or len(piece) == _MOST_BUFFERS:
                yield piece
                piece, room_bytes = [], room_bytes or _PIECE_BYTES
    if piece:
        yield piece


def _failure(what: str, error: OSError) -> FileStoreError:
    reason = f"{what}: {error.strerror}"
    return NoSpaceError(reason) if error.errno in _NO_SPACE else FileStoreError(reason)
