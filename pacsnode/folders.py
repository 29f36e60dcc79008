"""Folders that survive a power cut: a name is durable once the folder it stands in is synced."""

import os
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o750  # patient data: nobody else's


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, durably; one that exists is left as it is.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk.

    Raises:
        OSError: it cannot be opened, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
