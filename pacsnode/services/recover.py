"""Clears up after a process that died: what it was writing, and what it kept without a row.

Source: rule F-2 (on any failure, undo).
"""

from pacsnode.catalog.catalog import Catalog
from pacsnode.dicom.part10 import Part10Error
from pacsnode.dicom.status import DimseFailure
from pacsnode.file_names import FilePlace
from pacsnode.file_store import AbandonedFile, FileStore
from pacsnode.services.keep import Arrival, Keeper, arrival_of


def recover(file_store: FileStore, catalog: Catalog) -> int:
    """Remove what writers that are gone have left, unless the catalog has it or can have it.

    A whole file that was kept without a row is catalogued: where the catalog is not as durable as
    the file, its sender may have been told that it is kept. What is removed was not acknowledged,
    so its sender still has it.

    Returns:
        How many files were cleared up.

    Raises:
        FileStoreError, CatalogError, OSError: storage or catalog fail.
    """
    keeper = Keeper(file_store, catalog)
    count = 0
    for abandoned in file_store.abandoned():
        place, kept_path = abandoned.place, abandoned.kept_path()
        if (
            place is not None
            and kept_path is not None
            and not _is_catalogued(abandoned, place, kept_path, keeper)
        ):
            file_store.remove(kept_path)
        abandoned.remove()
        count += 1
    return count


def _is_catalogued(
    abandoned: AbandonedFile, place: FilePlace, kept_path: str, keeper: Keeper
) -> bool:
    """Tell whether the catalog names a kept file.

    It does from now on if it names none that is sound, and this one is whole.
    """
    stored = keeper.catalog.stored_instance(place.sop_instance_uid)
    if stored is not None and stored.file.path == kept_path:
        return True
    arrival = _whole_arrival(abandoned)
    return arrival is not None and keeper.adopt(kept_path, arrival).path == kept_path


def _whole_arrival(abandoned: AbandonedFile) -> Arrival | None:
    """Return what an abandoned file holds; None if that is not all that was written to it."""
    try:
        arrival = arrival_of(abandoned.path)
    except (Part10Error, DimseFailure):
        return None
    return arrival if abandoned.is_whole(arrival.data_set_sha256) else None
