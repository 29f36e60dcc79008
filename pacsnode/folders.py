"""Folders and names in them: durable once the folder is synced, and locked while their owner lives.

A lock on a folder ends with the process that holds it, however that ends.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o750  # patient data: nobody else's


def make_folder(folder: Path, *, is_durable: bool = True) -> None:
    """Make a folder with those above it; one that exists is left as it is.

    Args:
        folder: the lowest one.
        is_durable: they survive a power cut when this returns.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    if is_durable:
        for path in missing:
            sync(path.parent)


def sync(path: Path | str) -> None:
    """Bring a file's content, or a folder's names, to the disk.

    Raises:
        OSError: it cannot be opened, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(folder: Path) -> int:
    """Return a descriptor that holds the lock on a folder until it is closed.

    Raises:
        BlockingIOError: another one holds it.
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def try_lock_folder(folder: Path) -> int | None:
    """Return a descriptor with the lock, or None if its owner lives or the folder has gone.

    Raises:
        OSError: the folder cannot be opened for another reason.
    """
    try:
        descriptor = lock_folder(folder)
    except (BlockingIOError, FileNotFoundError, NotADirectoryError):
        return None
    if folder.is_dir():
        return descriptor
    os.close(descriptor)  # whoever had the lock removed the folder meanwhile
    return None


def remove_empty_folder(folder: Path) -> bool:
    """Remove a folder unless something is in it, and tell whether it is gone.

    Raises:
        OSError: it cannot be removed for another reason.
    """
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.ENOENT}:
            raise
        return error.errno == errno.ENOENT
    return True
