"""Query/Retrieve MOVE as an SCP, up to the first sub-operation: what is to be sent, and whereto.

Source: PS3.4 C.4.2; rules E-1 to E-6.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import CatalogError, StoredInstance
from pacsnode.dicom.ae import RemoteAE, normalise_ae_title
from pacsnode.dicom.identifier import parse_retrieval
from pacsnode.dicom.information_model import InformationModel, Level
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.transfer_syntax import Encoding


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """A C-MOVE request.

    Attributes:
        model: of the presentation context.
        identifier: as it was received.
        encoding: of the presentation context.
        move_destination: the title as it was received.
        is_relational: unique keys of upper levels may be missing.
    """

    model: InformationModel
    identifier: bytes
    encoding: Encoding
    move_destination: str
    is_relational: bool = False


@dataclass(frozen=True, slots=True)
class MovePlan:
    """What a C-MOVE is to do.

    Attributes:
        destination: whereto.
        level: of the request.
        instances: what is to be sent, in this order, each once.
    """

    destination: RemoteAE
    level: Level
    instances: tuple[StoredInstance, ...]


def plan_move(
    request: MoveRequest, catalog: Catalog, remote_aes: Mapping[str, RemoteAE]
) -> MovePlan:
    """Return what a request asks for; nothing has been sent, so any refusal can still be made.

    Args:
        request: what is asked.
        catalog: where the instances are looked up.
        remote_aes: the destinations we know, by AE title.

    Raises:
        DimseFailure: 0xC001 or 0xA900, the identifier breaks the rules; 0xA801, the destination is
            not known; 0xA701, the catalog failed.

    Source: PS3.4 C.4.2.3.1; rules E-3, E-4, E-6.
    """
    retrieval = parse_retrieval(
        request.model, request.identifier, request.encoding, relational=request.is_relational
    )
    destination = remote_aes.get(normalise_ae_title(request.move_destination))
    if destination is None:
        raise DimseFailure(
            Status.MOVE_DESTINATION_UNKNOWN,
            f"Move Destination {normalise_ae_title(request.move_destination)} is not configured",
        )
    try:
        instances = catalog.locate(retrieval)
    except CatalogError as error:
        raise DimseFailure(Status.CANNOT_COUNT_MATCHES, "the catalog failed") from error
    return MovePlan(destination, retrieval.level, tuple(instances))
