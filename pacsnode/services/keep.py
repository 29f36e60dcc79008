"""Safe keeping: an instance's file, then its row, and what happens when its UID is known already.

Joins the file store and the catalog for those who bring instances in (C-STORE and import). The file
is on the disk before the row, so a row never points at nothing; if the row cannot be written, the
file is taken back.

Each thread brings the content of its file to the disk itself. What follows is the same work for
all: those who get there together have the folders synced once, and their rows committed in one
transaction (rounds.py).

Source: PS3.4 B.4.1; rules F-2, F-20, F-21.
"""

import errno
import hashlib
import mmap
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Final

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import (
    Addition,
    CatalogUnavailable,
    KeptFile,
    NewInstance,
    StoredInstance,
)
from pacsnode.dicom.instance import InstanceHeader, InstanceReader
from pacsnode.dicom.part10 import Part10Error, read_file_meta
from pacsnode.file_names import FilePlace
from pacsnode.file_store import FileStore, FileStoreError, IncomingFile
from pacsnode.services.rounds import Rounds

_READ_LENGTH_BYTES: Final = 1024 * 1024
_LONGEST_IN_MEMORY_BYTES: Final = 64 * 1024 * 1024  # of a file that is looked at
_IS_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
# What a disk or a file system says of content that it has lost.
_IS_UNREADABLE: Final = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})
_SETTLING_SECONDS: Final = 1.0  # between a commit and the end of its writer: it takes microseconds
_SETTLING_LOOK_SECONDS: Final = 0.005


class DuplicatePolicy(Enum):
    """What becomes of another content under a SOP Instance UID that is kept (rule F-20)."""

    KEEP_FIRST = "keep_first"  # the newcomer is put into quarantine
    REJECT = "reject"


class _Condition(Enum):
    """What has been found out about a file that is kept."""

    SOUND = auto()
    MISSING = auto()
    DAMAGED = auto()  # its bytes were read, and are others than those that were received
    UNREADABLE = auto()  # the disk does not give them
    UNSETTLED = auto()  # somebody may still take it back


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
        reader: of what arrives, by the keys of the catalog.
    """

    file_store: FileStore
    catalog: Catalog
    on_duplicate: DuplicatePolicy = DuplicatePolicy.KEEP_FIRST
    reader: InstanceReader = field(init=False, repr=False, compare=False)
    _rounds: Rounds[NewInstance, Addition] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", InstanceReader(self.catalog.keys))
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
            FileStoreError: the file cannot be synced, or it cannot be told whether the file that
                the catalog names is sound.
            CatalogError: the row cannot be written.
        """
        self.file_store.sync_kept(path)
        instance = arrival.as_new_instance(path)
        addition, outcome = self.catalog.add(instance), Outcome.ADDED
        existing = addition.existing
        if existing is not None and self._condition(existing.file) is not _Condition.SOUND:
            addition, outcome = self.catalog.replace(instance, existing.file), Outcome.REPLACED
        if addition.existing is None:
            return Keeping(outcome, path, addition.has_other_patient)
        first = addition.existing.file
        if first.data_set_sha256 == arrival.data_set_sha256:
            return Keeping(Outcome.ALREADY_KEPT, first.path)
        return Keeping(Outcome.REJECTED)

    def _catalogue(self, instances: Sequence[NewInstance]) -> Sequence[Addition | Exception]:
        """Make the names of files durable, then commit their rows; return what came of each.

        A folder that cannot be synced fails those in it, and is not tried again: the kernel tells
        only once that a write was lost.
        """
        failed = self.file_store.sync_folders(instance.file.path for instance in instances)
        durable = [instance for instance in instances if instance.file.path not in failed]
        additions = iter(self._add_all(durable) if durable else ())
        return [failed.get(instance.file.path) or next(additions) for instance in instances]

    def _add_all(self, instances: Sequence[NewInstance]) -> Sequence[Addition | Exception]:
        """Commit rows together; one by one where that fails, so that no instance fails another.

        Where the catalog itself is what fails, each would only wait for it again.
        """
        try:
            return self.catalog.add_all(instances)
        except CatalogUnavailable as error:
            return [error] * len(instances)
        except Exception as error:  # noqa: BLE001 - returned: its own caller raises it
            if len(instances) == 1:
                return (error,)
        additions: list[Addition | Exception] = []
        for instance in instances:
            try:
                additions.append(self.catalog.add(instance))
            except CatalogUnavailable as error:
                return additions + [error] * (len(instances) - len(additions))
            except Exception as error:  # noqa: BLE001 - likewise
                additions.append(error)
        return additions

    def _keep_duplicate(
        self, file: IncomingFile, place: FilePlace, newcomer: NewInstance, first: StoredInstance
    ) -> Keeping:
        """Decide about an instance whose SOP Instance UID is catalogued (rule F-20)."""
        path = newcomer.file.path
        is_repetition = newcomer.file.data_set_sha256 == first.file.data_set_sha256
        if first.file.path == path:
            condition = _Condition.MISSING  # else the newcomer could not have its very name
        else:
            condition = self._condition(first.file)
            if condition is _Condition.SOUND and is_repetition:
                condition = self._wait_until_settled(first.file, file)
        if condition is not _Condition.SOUND:
            replacement = self.catalog.replace(newcomer, first.file)
            if replacement.existing is not None:
                return self._keep_duplicate(file, place, newcomer, replacement.existing)
            if condition is _Condition.DAMAGED:
                # The row names the newcomer already; that must stand even if a failing disk does
                # not let go of what was damaged, which nothing names any more. What could not be
                # read stays: perhaps somebody can.
                with suppress(FileStoreError):
                    self.file_store.remove(first.file.path)
            return Keeping(Outcome.REPLACED, path, replacement.has_other_patient)
        file.withdraw()
        if is_repetition:
            return Keeping(Outcome.ALREADY_KEPT, first.file.path)
        if self.on_duplicate is DuplicatePolicy.REJECT:
            return Keeping(Outcome.REJECTED)
        aside = file.quarantine(place, newcomer.file.data_set_sha256)
        return Keeping(Outcome.IN_QUARANTINE, aside)

    def _wait_until_settled(self, kept: KeptFile, own: IncomingFile) -> _Condition:
        """Make sure that a sound file that the catalog names is not taken back by its writer.

        A file that was lost, and comes again, gets the name that the catalog still has; until its
        writer is done it may be withdrawn. Any other one is settled as soon as its row is
        committed, but looks the same for another moment: that is waited for.

        Args:
            kept: what the catalog names.
            own: the caller's file. It is the same one if that was linked twice.
        """
        deadline = time.monotonic() + _SETTLING_SECONDS
        while self.file_store.has_first_name(kept.path, other_than=own.path):
            if time.monotonic() > deadline:
                return _Condition.UNSETTLED
            time.sleep(_SETTLING_LOOK_SECONDS)
        return _Condition.SOUND

    def _condition(self, kept: KeptFile) -> _Condition:
        """Find out whether a kept file still holds the bytes that were received.

        Raises:
            FileStoreError: that cannot be told now: the file cannot be opened or read for a reason
                that says nothing about it.
        """
        digest = hashlib.sha256()
        try:
            with self.file_store.open(kept.path) as file:
                file.seek(read_file_meta(file).data_set_offset)
                while part := file.read(_READ_LENGTH_BYTES):
                    digest.update(part)
        except Part10Error:
            return _Condition.DAMAGED
        except FileStoreError as error:
            return _condition_after(error.__cause__, error)
        except OSError as error:
            failure = FileStoreError(f"cannot read a kept file: {error.strerror}")
            failure.__cause__ = error
            return _condition_after(error, failure)
        is_same = digest.digest() == kept.data_set_sha256
        return _Condition.SOUND if is_same else _Condition.DAMAGED


def _condition_after(cause: BaseException | None, failure: FileStoreError) -> _Condition:
    """Return what an error on reading a file says of it; raise the failure if it says nothing."""
    number = cause.errno if isinstance(cause, OSError) else None
    if number in _IS_MISSING:
        return _Condition.MISSING
    if number in _IS_UNREADABLE:
        return _Condition.UNREADABLE
    raise failure


def arrival_of(path: Path, reader: InstanceReader) -> Arrival:
    """Return what a DICOM file holds.

    It is read before it is mapped, and only mapped if it is long: a bad sector behind a map, or an
    owner who makes the file shorter meanwhile, would end the process.

    Args:
        path: of the file.
        reader: of its data set.

    Raises:
        Part10Error: it is not a DICOM file.
        DimseFailure: its data set cannot be decoded, or lacks an identifying UID.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        meta = read_file_meta(file)
        file.seek(meta.data_set_offset)
        digest, length_bytes, parts = hashlib.sha256(), 0, []
        while part := file.read(_READ_LENGTH_BYTES):
            digest.update(part)
            length_bytes += len(part)
            if length_bytes <= _LONGEST_IN_MEMORY_BYTES:
                parts.append(part)
        if length_bytes <= _LONGEST_IN_MEMORY_BYTES:
            header = reader.read(b"".join(parts), meta.transfer_syntax_uid)
        else:
            parts.clear()
            with (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                memoryview(content) as view,
                view[meta.data_set_offset :] as data_set,
            ):
                header = reader.read(data_set, meta.transfer_syntax_uid)
        return Arrival(
            header=header,
            transfer_syntax_uid=meta.transfer_syntax_uid,
            data_set_sha256=digest.digest(),
            data_set_length_bytes=length_bytes,
            source_ae_title="",
        )
