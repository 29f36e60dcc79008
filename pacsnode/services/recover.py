"""Clears up after a process that died: what it was writing, and what it kept without a row.

Source: rule F-2 (on any failure, undo).
"""

from dataclasses import dataclass, field
from pathlib import Path

from pacsnode.catalog.catalog import Catalog
from pacsnode.dicom.part10 import Part10Error
from pacsnode.dicom.status import DimseFailure
from pacsnode.file_names import FilePlace
from pacsnode.file_store import AbandonedFile, FileStore, FileStoreError
from pacsnode.services.keep import Arrival, Keeper, arrival_of


@dataclass(slots=True)
class Recovery:
    """What came of clearing up.

    Attributes:
        cleared: how many files were cleared up.
        failures: what stays as it was, with the reason; a line for each.
    """

    cleared: int = 0
    failures: list[str] = field(default_factory=list)


def recover(file_store: FileStore, catalog: Catalog) -> Recovery:
    """Remove what writers that are gone have left, unless the catalog has it or can have it.

    A whole file that was kept without a row is catalogued: where the catalog is not as durable as
    the file, its sender may have been told that it is kept. What is removed was not acknowledged,
    so its sender still has it.

    What cannot be dealt with, such as a file behind a bad sector, keeps its names, and keeps the
    rest from nothing.

    Raises:
        FileStoreError: the folder `incoming` cannot be read.
        CatalogError: the catalog fails.
    """
    keeper = Keeper(file_store, catalog)
    recovery = Recovery()

    def note(path: Path, error: Exception) -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        recovery.failures.append(f"{path}: {reason}")

    for abandoned in file_store.abandoned(note):
        try:
            _clear_up(abandoned, keeper)
        except (FileStoreError, OSError) as error:
            note(abandoned.path, error)
        else:
            recovery.cleared += 1
    return recovery


def _clear_up(abandoned: AbandonedFile, keeper: Keeper) -> None:
    """Decide about a file, and remove its name in `incoming`.

    Raises:
        FileStoreError, OSError: it cannot be read, removed or made durable.
        CatalogError: the catalog fails.
    """
    place, kept_path = abandoned.place, abandoned.kept_path()
    if (
        place is not None
        and kept_path is not None
        and not _is_catalogued(abandoned, place, kept_path, keeper)
    ):
        keeper.file_store.remove(kept_path)
    abandoned.remove()


def _is_catalogued(
    abandoned: AbandonedFile, place: FilePlace, kept_path: str, keeper: Keeper
) -> bool:
    """Tell whether the catalog names a kept file.

    It does from now on if it names none that is sound, and this one is whole. A row that names its
    path may be about another content, which was lost: a file that came again got its name.
    """
    stored = keeper.catalog.stored_instance(place.sop_instance_uid)
    named = stored.file if stored is not None and stored.file.path == kept_path else None
    arrival = _whole_arrival(abandoned, keeper)
    if arrival is None:
        return named is not None  # whoever sends it again heals it
    if named is not None and named.data_set_sha256 == arrival.data_set_sha256:
        return True
    return keeper.adopt(kept_path, arrival).path == kept_path


def _whole_arrival(abandoned: AbandonedFile, keeper: Keeper) -> Arrival | None:
    """Return what an abandoned file holds; None if that is not all that was written to it."""
    try:
        arrival = arrival_of(abandoned.path, keeper.reader)
    except (Part10Error, DimseFailure):
        return None
    return arrival if abandoned.is_whole(arrival.data_set_sha256) else None
