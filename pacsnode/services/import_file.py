"""Brings a DICOM file that exists already into the store, with its bytes as they are.

A file that lies in the store already, at the place of its UIDs, stays there and is catalogued. That
is how rows come back that were lost: import the folder `studies` itself.

The whole file is kept, its own preamble and File Meta Information included: nothing is altered.
Where the two disagree, the data set says which instance it is: that is what peers receive.

Source: PS3.10 7.1; rule F-7.
"""

import errno
from enum import Enum
from pathlib import Path
from typing import Final

from pacsnode.dicom.part10 import Part10Error, read_file_meta
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.transfer_syntax import STORAGE_TRANSFER_SYNTAXES
from pacsnode.file_names import places_of
from pacsnode.file_store import FileStoreError, IncomingFile
from pacsnode.services.keep import Arrival, Keeper, Keeping, Outcome, arrival_of

# On another file system, not ours to link, or with too many names already.
_CANNOT_BE_LINKED: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK})


class ImportMode(Enum):
    """How a file comes into the store."""

    COPY = "copy"
    LINK = "link"  # another name of the same file: no space, but whoever writes it alters ours


class ImportRefused(Exception):  # noqa: N818 - a refusal is no error of ours
    """A file is not taken in; the message says why, without patient data."""


def import_file(path: Path, keeper: Keeper, mode: ImportMode) -> Keeping:
    """Keep and catalogue a file; when this returns it is on the disk, file and row.

    Raises:
        ImportRefused: it lies in `incoming`, it is not a DICOM file, its transfer syntax is none
            that we keep, it has no data set we can decode, or lacks an identifying UID.
        FileStoreError: the store cannot take it: that is not the file's fault.
        CatalogError: the catalog cannot take it.
    """
    kept_path = keeper.file_store.kept_path(path)
    if kept_path is not None:
        return _adopt(kept_path, keeper)
    if keeper.file_store.is_incoming(path):
        raise ImportRefused("is being received, or was left by a process that died")
    _check_is_dicom(path)
    with keeper.file_store.incoming() as file:
        if mode is ImportMode.LINK:
            _link(file, path)
        else:
            file.copy_from(path)
        # What is kept is looked at, not its source, which may change meanwhile.
        return keeper.keep(file, _arrival(file.path, keeper))


def _link(file: IncomingFile, path: Path) -> None:
    """Link a file into the store; refuse one that cannot be linked: that concerns it alone."""
    try:
        file.link_from(path)
    except FileStoreError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _CANNOT_BE_LINKED:
            raise ImportRefused(f"cannot be linked: {cause.strerror}; --copy takes it") from error
        raise


def _check_is_dicom(path: Path) -> None:
    """Refuse, before it is copied, what is not a DICOM file or cannot be read."""
    try:
        with path.open("rb") as file:
            meta = read_file_meta(file)
    except Part10Error as error:
        raise ImportRefused(str(error)) from error
    except OSError as error:
        raise ImportRefused(f"cannot be read: {error.strerror}") from error
    if meta.transfer_syntax_uid not in STORAGE_TRANSFER_SYNTAXES:
        raise ImportRefused(f"transfer syntax {meta.transfer_syntax_uid} is not kept")


def _adopt(kept_path: str, keeper: Keeper) -> Keeping:
    """Catalogue a file that lies in the store; one that is catalogued is not even read."""
    places = places_of(kept_path)
    for place in places:
        stored = keeper.catalog.stored_instance(place.sop_instance_uid)
        if stored is not None and stored.file.path == kept_path:
            return Keeping(Outcome.ALREADY_KEPT, kept_path)
    path = keeper.file_store.path(kept_path)
    _check_is_dicom(path)
    if keeper.file_store.has_first_name(kept_path):
        raise ImportRefused("is being received just now")
    try:
        arrival = _arrival(path, keeper)
    except OSError as error:
        raise ImportRefused(f"cannot be read: {error.strerror}") from error
    if arrival.place not in places:
        raise ImportRefused("lies in the store, but not at the place of its UIDs")
    return keeper.adopt(kept_path, arrival)


def _arrival(path: Path, keeper: Keeper) -> Arrival:
    """Return what a file holds; refuse one that is none."""
    try:
        return arrival_of(path, keeper.reader)
    except (Part10Error, DimseFailure) as refusal:
        raise ImportRefused(str(refusal)) from refusal
