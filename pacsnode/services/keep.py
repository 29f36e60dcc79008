"""Safe keeping: an instance's file, then its row, and what happens when its UID is known already.

Joins the file store and the catalog for those who bring instances in (C-STORE and import). The file
is on the disk before the row, so a row never points at nothing; if the row cannot be written, the
file is taken back.

Source: PS3.4 B.4.1; rules F-2, F-20, F-21.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import KeptFile, NewInstance, StoredInstance
from pacsnode.dicom.data_elements import Buffer
from pacsnode.dicom.instance import InstanceHeader
from pacsnode.dicom.part10 import Part10Error, read_file_meta
from pacsnode.file_store import FilePlace, FileStore, FileStoreError, IncomingFile

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


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps what arrives in one store and its catalog."""

    file_store: FileStore
    catalog: Catalog
    on_duplicate: DuplicatePolicy = DuplicatePolicy.KEEP_FIRST

    def keep(self, file: IncomingFile, arrival: Arrival) -> Keeping:
        """Keep a written file and catalogue it; both are on the disk when this returns.

        Raises:
            FileStoreError: the file could not be kept; nothing of it is left.
            CatalogError: the row could not be written; nothing of the file is left.
        """
        kept = KeptFile(
            path=file.keep(arrival.place),
            transfer_syntax_uid=arrival.transfer_syntax_uid,
            data_set_sha256=arrival.data_set_sha256,
            data_set_length_bytes=arrival.data_set_length_bytes,
        )
        instance = NewInstance(arrival.header, kept, arrival.source_ae_title)
        addition = self.catalog.add(instance)
        if addition.existing is None:
            return Keeping(Outcome.ADDED, kept.path, addition.has_other_patient)
        return self._keep_duplicate(file, arrival.place, instance, addition.existing)

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


def data_set_digest(data_set: Buffer) -> bytes:
    """Return the SHA-256 of a data set's bytes, which tells whether two are the same."""
    return hashlib.sha256(data_set).digest()
