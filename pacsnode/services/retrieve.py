"""Query/Retrieve MOVE and GET as an SCP, up to the first sub-operation: what is sent, and whereto.

Source: PS3.4 C.4.2, C.4.3; rules E-1 to E-6.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import CatalogError, StoredInstance
from pacsnode.dicom.ae import (
    MAXIMUM_AE_TITLE_LENGTH,
    RemoteAE,
    nearest_ae_title,
    normalise_ae_title,
)
from pacsnode.dicom.identifier import parse_retrieval
from pacsnode.dicom.information_model import InformationModel, Level
from pacsnode.dicom.query import Retrieval
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.transfer_syntax import Encoding
from pacsnode.dicom.uid import is_valid_uid


@dataclass(frozen=True, slots=True)
class RetrieveRequest:
    """What a C-MOVE and a C-GET request have in common.

    Attributes:
        model: of the presentation context.
        identifier: as it was received.
        encoding: of the presentation context.
        is_relational: unique keys of upper levels may be missing.
    """

    model: InformationModel
    identifier: bytes
    encoding: Encoding
    is_relational: bool = False


@dataclass(frozen=True, slots=True)
class RetrievePlan:
    """What is to be sent.

    Attributes:
        asked_for: model, level and UIDs of the request, in words; no Patient ID.
        instances: in this order, each once; none if nothing was found.
    """

    asked_for: str
    instances: tuple[StoredInstance, ...]


def plan_move(
    request: RetrieveRequest,
    move_destination: str,
    catalog: Catalog,
    remote_aes: Mapping[str, RemoteAE],
) -> tuple[RemoteAE, RetrievePlan]:
    """Return what a C-MOVE asks for; nothing has been sent, so any refusal can still be made.

    Args:
        request: what is asked.
        move_destination: the title as it was received; it may be any text.
        catalog: where the instances are looked up.
        remote_aes: the destinations we know, by AE title.

    Raises:
        DimseFailure: 0xC001 or 0xA900, the identifier breaks the rules; 0xA801, the destination is
            not known; 0xA701, the catalog failed.

    Source: PS3.4 C.4.2.3.1; rules E-3, E-4, E-6.
    """
    retrieval = _retrieval(request)
    destination = remote_aes.get(normalise_ae_title(move_destination))
    if destination is None:
        comment = _unknown_destination(move_destination, remote_aes)
        raise DimseFailure(Status.MOVE_DESTINATION_UNKNOWN, comment)
    return destination, _plan(request.model, retrieval, catalog)


def plan_get(request: RetrieveRequest, catalog: Catalog) -> RetrievePlan:
    """Return what a C-GET asks for; nothing has been sent, so any refusal can still be made.

    Raises:
        DimseFailure: 0xC001 or 0xA900, the identifier breaks the rules; 0xA701, the catalog failed.

    Source: PS3.4 C.4.3.3.1; rules E-3, E-6.
    """
    return _plan(request.model, _retrieval(request), catalog)


def _retrieval(request: RetrieveRequest) -> Retrieval:
    return parse_retrieval(
        request.model, request.identifier, request.encoding, relational=request.is_relational
    )


def _plan(model: InformationModel, retrieval: Retrieval, catalog: Catalog) -> RetrievePlan:
    try:
        instances = catalog.locate(retrieval)
    except CatalogError as error:
        raise DimseFailure(Status.CANNOT_COUNT_MATCHES, "the catalog failed") from error
    return RetrievePlan(f"{model.name} {_asked_for(retrieval)}", tuple(instances))


def _asked_for(retrieval: Retrieval) -> str:
    """Return level and unique keys as they stand in a line of the log."""
    level = retrieval.level
    if level is Level.PATIENT:
        return level.name
    first, *others = (uid if is_valid_uid(uid) else "?" for uid in retrieval.unique_keys[level])
    more = f" and {len(others)} more" if others else ""
    return f"{level.name} {first}{more}"


def _unknown_destination(move_destination: str, remote_aes: Mapping[str, RemoteAE]) -> str:
    """Return what is wrong with a Move Destination, and the title that was probably meant.

    Worded so that two titles of 16 characters fit into an Error Comment of 64.
    """
    title = normalise_ae_title(move_destination)
    if not title:
        return "Move Destination is empty, or is no single AE title"
    if len(title) > MAXIMUM_AE_TITLE_LENGTH:
        title = f"{title[: MAXIMUM_AE_TITLE_LENGTH - 2]}.."
    nearest = nearest_ae_title(title, remote_aes, likeness=0)
    if nearest is None:
        return f"Destination {title} unknown; remote_aes has no entry"
    return f"Destination {title} unknown; nearest: {nearest}"
