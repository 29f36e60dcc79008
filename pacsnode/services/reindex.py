"""Reindexing: the catalog learns from the kept files what it was not told when they came.

The files of some instances are read, then the catalog takes what they say in one short transaction,
and so on, in the order in which the instances were added. Those who store and query meanwhile wait
for no more than such a transaction. Each instance says itself whether it is done, so it can be
interrupted at any moment, and goes on where it was.

Source: rule F-25.
"""

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import PendingInstance
from pacsnode.dicom.instance import InstanceHeader, InstanceReader
from pacsnode.dicom.part10 import Part10Error, read_file_meta
from pacsnode.dicom.status import DimseFailure
from pacsnode.file_store import FileStore, FileStoreError

_BATCH_LENGTH: Final = 50
_LONGEST_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_HEAD_LENGTH_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that is not as the keys of the catalog ask for.

    Attributes:
        path: of its file, relative to the storage folder.
        reason: why.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReindexedBatch:
    """Some instances that have been dealt with.

    Attributes:
        count: how many they are.
        failures: those among them that still have to be reindexed.
    """

    count: int
    failures: tuple[Failure, ...]


class _UnreadableError(Exception):
    """The file of an instance does not say what is asked of it; says why."""


def reindex(file_store: FileStore, catalog: Catalog) -> Iterator[ReindexedBatch]:
    """Catalogue again what was catalogued with other keys; yield after each batch.

    A file that cannot be read holds up nothing.

    Raises:
        CatalogError: the catalog fails; what was yielded is done.
    """
    reader = InstanceReader(catalog.keys)
    above = 0
    while batch := catalog.pending_instances(above, _BATCH_LENGTH):
        above = batch[-1].key
        failures: list[Failure] = []
        headers: list[tuple[PendingInstance, InstanceHeader]] = []
        for pending in batch:
            try:
                headers.append((pending, _read(file_store, pending, reader)))
            except _UnreadableError as error:
                failures.append(Failure(pending.file.path, str(error)))
        done = catalog.reindex(headers)
        failures += [
            Failure(pending.file.path, "a value in it is damaged")
            for (pending, _), is_done in zip(headers, done, strict=True)
            if not is_done
        ]
        yield ReindexedBatch(len(batch), tuple(failures))


def _read(
    file_store: FileStore, pending: PendingInstance, reader: InstanceReader
) -> InstanceHeader:
    """Return what the file of an instance says.

    Raises:
        _UnreadableError: it cannot be read, or holds another instance.
    """
    try:
        with file_store.open(pending.file.path) as file:
            header = _header_of(file, reader)
    except (FileStoreError, Part10Error, DimseFailure) as error:
        raise _UnreadableError(str(error)) from error
    except OSError as error:
        raise _UnreadableError(f"cannot be read: {error.strerror}") from error
    uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
    if uids != (
        pending.study_instance_uid,
        pending.series_instance_uid,
        pending.sop_instance_uid,
    ):
        raise _UnreadableError("holds another instance than the one that was received")
    return header


def _header_of(file: BinaryIO, reader: InstanceReader) -> InstanceHeader:
    """Return what a DICOM file says of the instance in it.

    A long one is mapped, as no more than its beginning is looked at. That is read first: a bad
    sector behind a map would end the process.

    Raises:
        Part10Error: it is not a DICOM file.
        DimseFailure: its data set cannot be decoded, or lacks an identifying UID.
        OSError: it cannot be read.
    """
    meta = read_file_meta(file)
    file.seek(meta.data_set_offset)
    if os.fstat(file.fileno()).st_size <= _LONGEST_IN_MEMORY_BYTES:
        return reader.read(file.read(), meta.transfer_syntax_uid)
    file.read(_HEAD_LENGTH_BYTES)
    with (
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
        view[meta.data_set_offset :] as data_set,
    ):
        return reader.read(data_set, meta.transfer_syntax_uid)
