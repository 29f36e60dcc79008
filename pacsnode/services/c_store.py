"""Storage as an SCP: a received data set is checked, kept, and only then acknowledged.

Source: PS3.4 B; rules F-1 to F-24.
"""

from dataclasses import dataclass

from pacsnode.catalog.records import CatalogError
from pacsnode.dicom.data_elements import Buffer
from pacsnode.dicom.instance import (
    SOP_CLASS_UID_TAG,
    SOP_INSTANCE_UID_TAG,
    InstanceHeader,
    read_instance,
)
from pacsnode.dicom.part10 import Received, file_header
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.uid import is_valid_uid
from pacsnode.file_store import FileStoreError, NoSpaceError
from pacsnode.services.keep import Arrival, Keeper, Keeping, Outcome, data_set_digest


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request with its data set.

    Attributes:
        received: what the command and the presentation context say.
        abstract_syntax: of the presentation context.
        data_set: the bytes as they were received, in the context's Transfer Syntax.
    """

    received: Received
    abstract_syntax: str
    data_set: Buffer


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """The answer to a C-STORE request that was kept: success, or a warning with its reason.

    Attributes:
        status: success or warning; a failure is raised instead.
        comment: for Error Comment; empty for success.
        keeping: what became of the instance.
    """

    status: Status
    comment: str
    keeping: Keeping


def store(request: StoreRequest, keeper: Keeper) -> StoreResponse:
    """Keep the instance of a request; when this returns it is on the disk, file and row.

    Raises:
        DimseFailure: it was refused, and nothing of it is left: 0x0122, its class is not that of
            its presentation context; 0x0117, its SOP Instance UID is not valid; 0xC000, its data
            set cannot be decoded; 0xC001, a UID is missing; 0xA900, command and data set differ;
            0xA700, file or catalog could not be written; 0xC002, by the policy on duplicates.

    Source: PS3.4 B.2.3; rules F-2, F-3, F-6.
    """
    received = request.received
    if received.sop_class_uid != request.abstract_syntax:
        raise DimseFailure(
            Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class is not that of the presentation context"
        )
    if not is_valid_uid(received.sop_instance_uid):
        raise DimseFailure(Status.INVALID_SOP_INSTANCE, "Affected SOP Instance UID is no UID")
    header = read_instance(request.data_set, received.transfer_syntax_uid)
    _check_same_instance(received, header)
    arrival = Arrival(
        header=header,
        transfer_syntax_uid=received.transfer_syntax_uid,
        data_set_sha256=data_set_digest(request.data_set),
        data_set_length_bytes=len(request.data_set),
        source_ae_title=received.calling_ae_title,
    )
    try:
        with keeper.file_store.incoming() as file:
            file.write((file_header(received), memoryview(request.data_set)))
            keeping = keeper.keep(file, arrival)
    except NoSpaceError as error:
        raise DimseFailure(Status.OUT_OF_RESOURCES, f"no space: {error}") from error
    except (FileStoreError, CatalogError) as error:
        # The comment stays general: paths are the administrator's, who finds them in the log.
        raise DimseFailure(Status.OUT_OF_RESOURCES, "storage or catalog failed") from error
    return _response(keeping)


def _check_same_instance(received: Received, header: InstanceHeader) -> None:
    """Refuse a data set that is another instance than its command says (rule F-6)."""
    if header.sop_class_uid != received.sop_class_uid:
        raise DimseFailure(
            Status.DATA_SET_DOES_NOT_MATCH,
            "SOP Class UID of command and data set differ",
            SOP_CLASS_UID_TAG,
        )
    if header.sop_instance_uid != received.sop_instance_uid:
        raise DimseFailure(
            Status.DATA_SET_DOES_NOT_MATCH,
            "SOP Instance UID of command and data set differ",
            SOP_INSTANCE_UID_TAG,
        )


def _response(keeping: Keeping) -> StoreResponse:
    match keeping.outcome:
        case Outcome.ADDED | Outcome.ALREADY_KEPT | Outcome.REPLACED:
            return StoreResponse(Status.SUCCESS, "", keeping)
        case Outcome.IN_QUARANTINE:
            comment = "other content is kept under this UID; this one is in quarantine"
            return StoreResponse(Status.DUPLICATE_IN_QUARANTINE, comment, keeping)
        case Outcome.REJECTED:
            raise DimseFailure(
                Status.DUPLICATE_REFUSED, "other content is kept under this SOP Instance UID"
            )
