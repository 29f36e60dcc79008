"""Safe keeping: an instance's file, then its row, and what happens when its UID is known already.

Joins the file store and the catalog for those who bring instances in (C-STORE and import). The file
is on the disk before the row, so a row never points at nothing; if the row cannot be written, the
file is taken back.

Each thread brings the content of its file to the disk itself. What follows is the same work for
all: those who get there together have the folders synced once, and their rows committed in one
transaction (rounds.py).

Source: PS3.4 B.4.1; rules F-2, F-20, F-21.
"""

import hashlib
import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import Addition, KeptFile, NewInstance, StoredInstance
from pacsnode.dicom.data_elements import Buffer
from pacsnode.dicom.instance import InstanceHeader, read_instance
from pacsnode.dicom.part10 import Part10Error, read_file_meta
from pacsnode.file_names import FilePlace
from pacsnode.file_store import FileStore, FileStoreError, IncomingFile
from pacsnode.services.rounds import Rounds

_READ_LENGTH_BYTES: Final = 1024 * 1024


class DuplicatePolicy(Enum):
    """What becomes of another content under a SOP Instance UID that is kept (rule F-20)."""

    KEEP_FIRST = "keep_first"  # the newcomer is put into quarantine
    REJECT = "reject"


class Outcome(Enum):
    """What became of an instance."""

    ADDED = "added"
    ALREADY_KEPT = "already kept"  # the same bytes; nothing to do
    REPLACED = "replaced"  # the file kept first was missing or damaged
    IN_QUARANTINE = "in quarantine"  # other content under the same UID, kept aside
    REJECTED = "rejected"  # the same, not kept


@dataclass(frozen=True, slots=True)
class Keeping:
    """What became of an instance, and what an administrator should hear about it.

    Attributes:
        outcome: see there.
        path: relative to the storage folder; None if it was not written.
        has_other_patient: its study is filed under another patient than it states.
    """

    outcome: Outcome
    path: str | None = None
    has_other_patient: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """An instance on its way in: what it says of itself, and the bytes it says it with.

    Attributes:
        header: what its data set says.
        transfer_syntax_uid: of the data set.
        data_set_sha256: digest of the data set's bytes.
        data_set_length_bytes: their number.
        source_ae_title: who sent it; empty for an import.
    """

    header: InstanceHeader
    transfer_syntax_uid: str
    data_set_sha256: bytes
    data_set_length_bytes: int
    source_ae_title: str

    @property
    def place(self) -> FilePlace:
        """Where its file belongs."""
        return FilePlace(
            study_instance_uid=self.header.study_instance_uid,
            series_instance_uid=self.header.series_instance_uid,
            sop_instance_uid=self.header.sop_instance_uid,
        )

    def as_new_instance(self, path: str) -> NewInstance:
        """Return what the catalog is to hold of it when its file is kept at a path."""
        file = KeptFile(
            path=path,
            transfer_syntax_uid=self.transfer_syntax_uid,
            data_set_sha256=self.data_set_sha256,
            data_set_length_bytes=self.data_set_length_bytes,
        )
        return NewInstance(self.header, file, self.source_ae_title)


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps what arrives in one store and its catalog; for any number of threads at once.

    Attributes:
        file_store: where files are kept.
        catalog: where they are catalogued.
        on_duplicate: what becomes of other content under a UID that is kept.
    """

    file_store: FileStore
    catalog: Catalog
    on_duplicate: DuplicatePolicy = DuplicatePolicy.KEEP_FIRST
    _rounds: Rounds[NewInstance, Addition] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rounds", Rounds(self._catalogue))

    def keep(self, file: IncomingFile, arrival: Arrival) -> Keeping:
        """Keep a written file and catalogue it; both are on the disk when this returns.

        As far as the store and the catalog are durable.

        Raises:
            FileStoreError: the file could not be kept; nothing of it is left.
            CatalogError: the row could not be written; nothing of the file is left.
        """
        place = arrival.place
        path = file.keep(place, arrival.data_set_sha256)
        instance = arrival.as_new_instance(path)
        addition = self._rounds.do(instance)
        if addition.existing is None:
            return Keeping(Outcome.ADDED, path, addition.has_other_patient)
        return self._keep_duplicate(file, place, instance, addition.existing)

    def adopt(self, path: str, arrival: Arrival) -> Keeping:
        """Catalogue a file that has its lasting name already; it is never removed.

        Args:
            path: relative to the storage folder.
            arrival: what the file holds.

        Returns:
            Added; replaced, where the catalog named a file that is missing or damaged; already
            kept, perhaps as another file; or rejected.

        Raises:
            FileStoreError: the file cannot be synced.
            CatalogError: the row cannot be written.
        """
        self.file_store.sync_kept(path)
        instance = arrival.as_new_instance(path)
        addition, outcome = self.catalog.add(instance), Outcome.ADDED
        if addition.existing is not None and not self._is_sound(addition.existing.file):
            addition, outcome = (
                self.catalog.replace(instance, addition.existing.file),
                Outcome.REPLACED,
            )
        if addition.existing is None:
            return Keeping(outcome, path, addition.has_other_patient)
        first = addition.existing.file
        if first.data_set_sha256 == arrival.data_set_sha256:
            return Keeping(Outcome.ALREADY_KEPT, first.path)
        return Keeping(Outcome.REJECTED)

    def _catalogue(self, instances: Sequence[NewInstance]) -> Sequence[Addition | Exception]:
        """Make the names of files durable, then commit their rows; return what came of each.

        Rows that cannot be committed together are committed one by one: no instance fails another.
        A sync that fails is not tried again: the kernel tells only once that a write was lost.
        """
        self.file_store.sync_folders(instance.file.path for instance in instances)
        try:
            return self.catalog.add_all(instances)
        except Exception as error:  # noqa: BLE001 - returned: its own caller raises it
            if len(instances) == 1:
                return (error,)
        return [self._add_alone(instance) for instance in instances]

    def _add_alone(self, instance: NewInstance) -> Addition | Exception:
        try:
            return self.catalog.add(instance)
        except Exception as error:  # noqa: BLE001 - likewise
            return error

    def _keep_duplicate(
        self, file: IncomingFile, place: FilePlace, newcomer: NewInstance, first: StoredInstance
    ) -> Keeping:
        """Decide about an instance whose SOP Instance UID is catalogued (rule F-20)."""
        path = newcomer.file.path
        # Where the newcomer could have the very name of the first, the first was not there.
        if first.file.path == path or not self._is_sound(first.file):
            replacement = self.catalog.replace(newcomer, first.file)
            if replacement.existing is not None:
                return self._keep_duplicate(file, place, newcomer, replacement.existing)
            if first.file.path != path:
                # The row names the newcomer already; that must stand even if a failing disk does
                # not let go of what was damaged, which nothing names any more.
                with suppress(FileStoreError):
                    self.file_store.remove(first.file.path)
            return Keeping(Outcome.REPLACED, path, replacement.has_other_patient)
        file.withdraw()
        if newcomer.file.data_set_sha256 == first.file.data_set_sha256:
            return Keeping(Outcome.ALREADY_KEPT, first.file.path)
        if self.on_duplicate is DuplicatePolicy.REJECT:
            return Keeping(Outcome.REJECTED)
        aside = file.quarantine(place, newcomer.file.data_set_sha256)
        return Keeping(Outcome.IN_QUARANTINE, aside)

    def _is_sound(self, kept: KeptFile) -> bool:
        """Tell whether a kept file still holds the bytes that were received."""
        digest = hashlib.sha256()
        try:
            with self.file_store.open(kept.path) as file:
                file.seek(read_file_meta(file).data_set_offset)
                while part := file.read(_READ_LENGTH_BYTES):
                    digest.update(part)
        except (FileStoreError, Part10Error, OSError):
            return False
        return digest.digest() == kept.data_set_sha256


def arrival_of(path: Path) -> Arrival:
    """Return what a DICOM file holds.

    Raises:
        Part10Error: it is not a DICOM file.
        DimseFailure: its data set cannot be decoded, or lacks an identifying UID.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        meta = read_file_meta(file)
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
            view[meta.data_set_offset :] as data_set,
        ):
            return Arrival(
                header=read_instance(data_set, meta.transfer_syntax_uid),
                transfer_syntax_uid=meta.transfer_syntax_uid,
                data_set_sha256=data_set_digest(data_set),
                data_set_length_bytes=len(data_set),
                source_ae_title="",
            )


def data_set_digest(data_set: Buffer) -> bytes:
    """Return the SHA-256 of a data set's bytes, which tells whether two are the same."""
    return hashlib.sha256(data_set).digest()
