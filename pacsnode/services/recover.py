"""Clears up after a process that died: what it was writing, and what it kept without a row.

Source: rule F-2 (on any failure, undo).
"""

from pacsnode.catalog.catalog import Catalog
from pacsnode.dicom.instance import read_instance
from pacsnode.dicom.part10 import Part10Error, read_file_meta
from pacsnode.dicom.status import DimseFailure
from pacsnode.file_store import AbandonedFile, FilePlace, FileStore


def recover(file_store: FileStore, catalog: Catalog) -> int:
    """Remove what writers that are gone have left, unless the catalog has it.

    None of it was acknowledged without a row, so its sender still has it.

    Returns:
        How many files were cleared up.

    Raises:
        FileStoreError, CatalogError, OSError: storage or catalog fail.
    """
    count = 0
    for abandoned in file_store.abandoned():
        place = _place(abandoned)
        kept_path = abandoned.kept_at(place) if place is not None else None
        if place is not None and kept_path is not None:
            stored = catalog.stored_instance(place.sop_instance_uid)
            if stored is None or stored.file.path != kept_path:
                file_store.remove(kept_path)
        abandoned.remove()
        count += 1
    return count


def _place(abandoned: AbandonedFile) -> FilePlace | None:
    """Return where an abandoned file belongs; None if it was not written to its end."""
    try:
        with abandoned.path.open("rb") as file:
            meta = read_file_meta(file)
            file.seek(meta.data_set_offset)
            header = read_instance(file.read(), meta.transfer_syntax_uid)
    except (Part10Error, DimseFailure):
        return None
    return FilePlace(header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
