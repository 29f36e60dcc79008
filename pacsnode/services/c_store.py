"""Storage as an SCP: a data set is received piece by piece, checked, kept, and only then answered.

Source: PS3.4 B; rules F-1 to F-24.
"""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pacsnode.catalog.records import CatalogError
from pacsnode.dicom.data_elements import Buffer
from pacsnode.dicom.instance import (
    SOP_CLASS_UID_TAG,
    SOP_INSTANCE_UID_TAG,
    InstanceHeader,
)
from pacsnode.dicom.part10 import Received, file_header
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.uid import is_valid_uid
from pacsnode.file_store import FileStoreError, IncomingFile, NoSpaceError
from pacsnode.services.keep import Arrival, Keeper, Keeping, Outcome


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request, before its data set has come.

    Attributes:
        received: what the command and the presentation context say.
        abstract_syntax: of the presentation context.
    """

    received: Received
    abstract_syntax: str


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """The answer to a C-STORE request that was kept: success, or a warning with its reason.

    Attributes:
        status: success or warning; a failure is raised instead.
        comment: for Error Comment; empty for success.
        keeping: what became of the instance.
        length_bytes: of the data set.
    """

    status: Status
    comment: str
    keeping: Keeping
    length_bytes: int


class Reception:
    """The data set of one C-STORE request as it arrives; memory does not grow with it.

    A failure of any method is raised as DimseFailure and leaves nothing behind; nothing may be
    called after it. What is not finished is to be discarded.
    """

    def __init__(self, request: StoreRequest, keeper: Keeper, *, maximum_bytes: int = 0) -> None:
        """Begin to receive.

        Args:
            request: what is stored.
            keeper: where it is kept.
            maximum_bytes: a longer data set is refused; 0 is no limit.

        Raises:
            DimseFailure: 0x0122, its class is not that of its presentation context; 0x0117, its
                SOP Instance UID is not valid.

        Source: PS3.4 B.2.3; rules F-3, F-6.
        """
        if request.received.sop_class_uid != request.abstract_syntax:
            raise DimseFailure(
                Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class is not that of the presentation context"
            )
        if not is_valid_uid(request.received.sop_instance_uid):
            raise DimseFailure(Status.INVALID_SOP_INSTANCE, "Affected SOP Instance UID is no UID")
        self._received = request.received
        self._keeper = keeper
        self._maximum_bytes = maximum_bytes
        self._digest = hashlib.sha256()
        self._length_bytes = 0
        self._header_length_bytes = 0
        self._file: IncomingFile | None = None
        self._resources = ExitStack()

    def append(self, fragments: Sequence[Buffer]) -> None:
        """Write the next part of the data set to its file.

        Raises:
            DimseFailure: 0xA700, there is no space, or it is longer than allowed.
        """
        try:
            with self._resources:
                self._append(fragments)
                self._resources = self._resources.pop_all()
        except NoSpaceError as error:
            raise DimseFailure(Status.OUT_OF_RESOURCES, f"no space: {error}") from error
        except FileStoreError as error:
            raise _storage_failed() from error

    def finish(self, last: Sequence[Buffer]) -> StoreResponse:
        """Keep the instance, its last part included; when this returns it is on the disk.

        File and row both, unless the settings of durability say less.

        Raises:
            DimseFailure: it was refused: 0xC000, its data set cannot be decoded; 0xC001, a UID is
                missing; 0xA900, command and data set differ; 0xA700, it is longer than allowed,
                or file or catalog could not be written; 0xC002, by the policy on duplicates.

        Source: PS3.4 B.2.3; rules F-2, F-3, F-6.
        """
        try:
            with self._resources:
                return self._finish(last)
        except NoSpaceError as error:
            raise DimseFailure(Status.OUT_OF_RESOURCES, f"no space: {error}") from error
        except (FileStoreError, CatalogError) as error:
            raise _storage_failed() from error

    def discard(self) -> None:
        """Forget what has come.

        Raises:
            FileStoreError: it cannot be removed; that is done when the node starts again.
        """
        self._resources.close()

    def _append(self, fragments: Sequence[Buffer]) -> IncomingFile:
        self._length_bytes += sum(map(len, fragments))
        if self._maximum_bytes and self._length_bytes > self._maximum_bytes:
            raise DimseFailure(
                Status.OUT_OF_RESOURCES, "data set is longer than storage.maximum_instance_bytes"
            )
        for fragment in fragments:
            self._digest.update(fragment)
        file = self._file
        if file is None:
            file = self._file = self._resources.enter_context(self._keeper.file_store.incoming())
            header = file_header(self._received)
            self._header_length_bytes = len(header)
            fragments = (header, *fragments)
        file.append(fragments)
        return file

    def _finish(self, last: Sequence[Buffer]) -> StoreResponse:
        if self._file is None:
            # All of it is in memory, and looked at before a file is made of it.
            whole = last[0] if len(last) == 1 else b"".join(last)
            header = self._read_instance(whole)
            file = self._append(last)
        else:
            file = self._append(last)
            with file.content() as content, content[self._header_length_bytes :] as whole:
                header = self._read_instance(whole)
        arrival = Arrival(
            header=header,
            transfer_syntax_uid=self._received.transfer_syntax_uid,
            data_set_sha256=self._digest.digest(),
            data_set_length_bytes=self._length_bytes,
            source_ae_title=self._received.calling_ae_title,
        )
        return self._response(self._keeper.keep(file, arrival))

    def _read_instance(self, data_set: Buffer) -> InstanceHeader:
        """Return what the data set says; refuse one that is not what the command says (F-6)."""
        header = self._keeper.reader.read(data_set, self._received.transfer_syntax_uid)
        if header.sop_class_uid != self._received.sop_class_uid:
            raise DimseFailure(
                Status.DATA_SET_DOES_NOT_MATCH,
                "SOP Class UID of command and data set differ",
                SOP_CLASS_UID_TAG,
            )
        if header.sop_instance_uid != self._received.sop_instance_uid:
            raise DimseFailure(
                Status.DATA_SET_DOES_NOT_MATCH,
                "SOP Instance UID of command and data set differ",
                SOP_INSTANCE_UID_TAG,
            )
        return header

    def _response(self, keeping: Keeping) -> StoreResponse:
        match keeping.outcome:
            case Outcome.ADDED | Outcome.ALREADY_KEPT | Outcome.REPLACED:
                return StoreResponse(Status.SUCCESS, "", keeping, self._length_bytes)
            case Outcome.IN_QUARANTINE:
                comment = "other content is kept under this UID; this one is in quarantine"
                return StoreResponse(
                    Status.DUPLICATE_IN_QUARANTINE, comment, keeping, self._length_bytes
                )
            case Outcome.REJECTED:
                raise DimseFailure(
                    Status.DUPLICATE_REFUSED, "other content is kept under this SOP Instance UID"
                )


def _storage_failed() -> DimseFailure:
    # The comment stays general: paths are the administrator's, who finds them in the log.
    return DimseFailure(Status.OUT_OF_RESOURCES, "storage or catalog failed")
