"""The folder of DICOM files: writes them so that a power cut loses none that was kept.

How it works. A file is written under `incoming/<writer>/` and synced. Keeping it gives it a second
name (a hard link) under `studies/<Study Instance UID>/<Series Instance UID>/`, whose folder is then
synced. Only when the catalog has committed its row is the first name removed. So at any moment a
file is in one of three states that can be told apart without a scan:

- one name, in `incoming`: not kept; removed when its writer is gone;
- two names: kept, but perhaps without a row; whoever finds it asks the catalog;
- one name, in `studies`: kept and catalogued.

A file is never replaced: where its name is taken, it gets another one, and the catalog decides
which of the two counts. Writers (one for each process) hold a lock on their folder in `incoming`;
the kernel drops it when the process dies, however it dies.

Source: PS3.4 B.4.1 (what Success promises); rules F-2, F-21, F-23.
"""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from pacsnode.dicom.uid import is_valid_uid
from pacsnode.folders import (
    FOLDER_MODE,
    link_durably,
    lock_folder,
    make_folder,
    remove_empty_folder,
    sync,
    try_lock_folder,
)

_FILE_MODE: Final = 0o640
_REMEMBERED_FOLDERS: Final = 10_000
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FileStoreError(Exception):
    """A file could not be written, kept or read; the cause is chained."""


class NoSpaceError(FileStoreError):
    """The disk is full, or less than the reserve is free."""


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Where an instance's file belongs: its three UIDs.

    Raises:
        ValueError: one of them is not a valid UID. Nothing else ever becomes a file's name.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str

    def __post_init__(self) -> None:
        uids = (self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)
        if not all(is_valid_uid(uid) for uid in uids):
            raise ValueError("a file's place needs valid UIDs")


class IncomingFile:
    """A file on its way in: written, synced, perhaps kept; gone on exit unless it was kept.

    Use as a context manager. What left the context with keep() not called, or with withdraw()
    called after it, or by an error, leaves nothing behind. An interrupt (KeyboardInterrupt,
    SystemExit) leaves everything as it is: the row may have been committed just before it came, and
    whoever recovers asks the catalog.
    """

    def __init__(self, store: "FileStore", path: Path) -> None:
        self._store = store
        self._path = path
        self._kept: Path | None = None

    @property
    def path(self) -> Path:
        """Where the file is until the context ends."""
        return self._path

    def write(self, fragments: Iterable[bytes | memoryview]) -> None:
        """Write the whole file and sync it.

        Raises:
            NoSpaceError: the disk is full.
            FileStoreError: it cannot be written.
        """
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for fragment in fragments:
                    _write_all(file.fileno(), fragment)
                os.fsync(file.fileno())
        except OSError as error:
            raise _failure("cannot write the file", error) from error

    def copy_from(self, source: Path) -> None:
        """Write the file as a synced copy of another file.

        Raises:
            NoSpaceError: the disk is full.
            FileStoreError: the source cannot be read, or the copy not written.
        """
        try:
            shutil.copyfile(source, self._path)
            self._path.chmod(_FILE_MODE)
            sync(self._path)
        except OSError as error:
            raise _failure("cannot copy the file", error) from error

    def link_from(self, source: Path) -> None:
        """Make the file another name of a file that exists, without copying its bytes.

        Raises:
            FileStoreError: the source is on another file system, or cannot be linked.
        """
        try:
            os.link(source.resolve(), self._path)  # Linux would link a symbolic link itself
            sync(self._path)
        except OSError as error:
            raise _failure("cannot link the file", error) from error

    def keep(self, place: FilePlace) -> str:
        """Give the file its lasting name, durably.

        Returns:
            The lasting path, relative to the storage folder.

        Raises:
            NoSpaceError: the disk is full.
            FileStoreError: the name cannot be made.
        """
        try:
            self._kept = self._store.link(self._path, place)
        except OSError as error:
            raise _failure("cannot keep the file", error) from error
        return str(self._kept.relative_to(self._store.folder))

    def withdraw(self) -> None:
        """Take the lasting name back: the file was kept in vain.

        Raises:
            FileStoreError: the name cannot be removed.
        """
        if self._kept is not None:
            try:
                self._kept.unlink(missing_ok=True)
            except OSError as error:
                raise _failure("cannot remove the file", error) from error
            self._kept = None

    def quarantine(self, place: FilePlace, data_set_sha256: bytes) -> str:
        """Keep the file aside instead of at its place: it contradicts one that is kept.

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
            folder = self._store.quarantine_folder
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            sync(self._store.folder)
            path = folder / f"{place.sop_instance_uid}.{data_set_sha256.hex()[:16]}.dcm"
            try:
                link_durably(self._path, path)
            except FileExistsError:
                sync(folder)  # whoever put it there may not have done so yet
        except OSError as error:
            raise _failure("cannot put the file into quarantine", error) from error
        return str(path.relative_to(self._store.folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            return
        try:
            if kind is not None:
                self.withdraw()  # if it fails the first name stays, by which recovery finds both
            self._path.unlink(missing_ok=True)
        except OSError as failure:
            raise _failure("cannot remove the incoming file", failure) from failure


class FileStore:
    """The storage folder, as one process writes and reads it.

    Attributes:
        folder: the storage folder.
    """

    def __init__(self, folder: Path, *, reserve_bytes: int = 0) -> None:
        """Open the storage folder for writing, and make it where it does not exist.

        Args:
            folder: on a file system with hard links.
            reserve_bytes: with less than this free, nothing more is taken in.

        Raises:
            FileStoreError: the folder cannot be made, written, or has no hard links.
        """
        self.folder = folder
        self._reserve_bytes = reserve_bytes
        self._incoming = folder / "incoming" / secrets.token_hex(8)
        self._lock = -1
        self._durable_folders: set[Path] = set()
        try:
            make_folder(folder)
            for path in (folder / "incoming", self._studies):
                path.mkdir(mode=FOLDER_MODE, exist_ok=True)
            sync(folder)
            self._lock = self._make_incoming_folder()
            self._check_hard_links()
        except OSError as error:
            if self._lock >= 0:
                shutil.rmtree(self._incoming, ignore_errors=True)
            self._release()
            raise FileStoreError(f"storage folder {folder}: {error.strerror}") from error

    @property
    def quarantine_folder(self) -> Path:
        """Where files are kept that contradict one that is catalogued."""
        return self.folder / "quarantine"

    @property
    def _studies(self) -> Path:
        return self.folder / "studies"

    def incoming(self) -> IncomingFile:
        """Return a new file to write.

        Raises:
            NoSpaceError: less than the reserve is free.
            FileStoreError: the free space cannot be told.
        """
        try:
            free_bytes = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise _failure("the storage folder is gone", error) from error
        if free_bytes < self._reserve_bytes:
            raise NoSpaceError("less than the reserve is free")
        return IncomingFile(self, self._incoming / secrets.token_hex(8))

    def link(self, path: Path, place: FilePlace) -> Path:
        """Give a file its lasting name, next to one of the same UID if there is one; durably."""
        folder = self._studies / place.study_instance_uid / place.series_instance_uid
        self._make_series_folder(folder)
        lasting = folder / f"{place.sop_instance_uid}.dcm"
        try:
            link_durably(path, lasting)
        except FileExistsError:
            lasting = folder / f"{place.sop_instance_uid}.{secrets.token_hex(4)}.dcm"
            link_durably(path, lasting)
        return lasting

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

    def has(self, relative_path: str) -> bool:
        """Tell whether a kept file is there."""
        return self.path(relative_path).is_file()

    def remove(self, relative_path: str) -> None:
        """Remove a kept file that the catalog no longer names.

        Raises:
            FileStoreError: it cannot be removed.
        """
        try:
            self.path(relative_path).unlink(missing_ok=True)
        except OSError as error:
            raise _failure("cannot remove a kept file", error) from error

    def abandoned(self) -> Iterator["AbandonedFile"]:
        """Yield what writers that are gone have left in `incoming`, and take it over.

        The caller decides about each and removes it; an empty folder of a writer that is gone is
        removed here.
        """
        for folder in (self.folder / "incoming").iterdir():
            if folder == self._incoming:
                continue
            with self._incoming_lock():
                lock = try_lock_folder(folder)
            if lock is None:
                continue
            try:
                for path in folder.iterdir():
                    yield AbandonedFile(self, path)
                remove_empty_folder(folder)
            finally:
                os.close(lock)

    def close(self) -> None:
        """Leave. What an interrupt has left in `incoming` is abandoned when the process ends.

        Not before: a thread that outlives an aborted association may still be at work on it.
        """
        if remove_empty_folder(self._incoming):
            self._release()

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _make_series_folder(self, folder: Path) -> None:
        """Make the folders of a study and a series, durably.

        That a folder exists does not say that it would survive a power cut: another writer may have
        made it just now, its sync still to come. So each writer syncs the parents itself, once.
        """
        if folder in self._durable_folders and folder.is_dir():  # a person may have removed it
            return
        folder.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync(folder.parent)
        sync(self._studies)
        if len(self._durable_folders) >= _REMEMBERED_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def _make_incoming_folder(self) -> int:
        """Make this writer's folder and return the descriptor that holds its lock."""
        with self._incoming_lock():
            self._incoming.mkdir(mode=FOLDER_MODE)
            return lock_folder(self._incoming)

    @contextmanager
    def _incoming_lock(self) -> Iterator[None]:
        """Keep other processes from looking for abandoned folders, for a moment.

        Between its making and its locking a writer's folder would look abandoned.
        """
        descriptor = os.open(self.folder / "incoming", os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _check_hard_links(self) -> None:
        first, second = self._incoming / "first", self._incoming / "second"
        first.touch(mode=_FILE_MODE)
        os.link(first, second)
        first.unlink()
        second.unlink()


class AbandonedFile:
    """A file in `incoming` whose writer is gone.

    Attributes:
        path: its name there.
    """

    def __init__(self, store: FileStore, path: Path) -> None:
        self._store = store
        self.path = path

    def kept_at(self, place: FilePlace) -> str | None:
        """Return its lasting path, relative to the storage folder; None if it has none there."""
        folder = self._store.folder / "studies" / place.study_instance_uid
        for path in (folder / place.series_instance_uid).glob(f"{place.sop_instance_uid}*.dcm"):
            if path.samefile(self.path):
                return str(path.relative_to(self._store.folder))
        return None

    def remove(self) -> None:
        """Remove its name in `incoming`."""
        self.path.unlink(missing_ok=True)


def _write_all(descriptor: int, fragment: bytes | memoryview) -> None:
    """Write a fragment; a regular file may still take less than all at once (signals, limits)."""
    rest = memoryview(fragment)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _failure(what: str, error: OSError) -> FileStoreError:
    reason = f"{what}: {error.strerror}"
    return NoSpaceError(reason) if error.errno in _NO_SPACE else FileStoreError(reason)
