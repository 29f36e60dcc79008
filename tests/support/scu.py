"""A Service Class User made of pynetdicom, for what it does well: negotiation in all its items."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import (
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import PresentationContext

from pacsnode.network.toolkit import configure_pynetdicom

NegotiationItem = (
    SCP_SCU_RoleSelectionNegotiation
    | SOPClassCommonExtendedNegotiation
    | SOPClassExtendedNegotiation
)


@contextmanager
def associated(
    address: tuple[str, int],
    contexts: Sequence[PresentationContext],
    items: Sequence[NegotiationItem] = (),
    *,
    handlers: Sequence[EventHandlerType] = (),
    called_ae_title: str = "PACSNODE",
    calling_ae_title: str = "SCU",
) -> Iterator[Association]:
    """Hold an association with the node; whether it was established is for the test to see.

    Args:
        address: of the node.
        contexts: to propose.
        items: further ones of the request.
        handlers: of events: of a C-STORE, for a C-GET.
        called_ae_title: of the node.
        calling_ae_title: ours.
    """
    configure_pynetdicom()
    entity = AE(calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    association = entity.associate(
        address[0],
        address[1],
        contexts=list(contexts),
        ae_title=called_ae_title,
        ext_neg=list(items),
        evt_handlers=list(handlers),
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def declared_as_storage(
    sop_class_uid: str, service_class_uid: str, *related_general: str
) -> SOPClassCommonExtendedNegotiation:
    """Return the item that says which service a SOP class belongs to (PS3.7 D.3.3.6)."""
    item = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid = sop_class_uid
    item.service_class_uid = service_class_uid
    item.related_general_sop_class_identification = list(related_general)
    return item


def application_information(sop_class_uid: str, value: bytes) -> SOPClassExtendedNegotiation:
    """Return the item that asks for options of a SOP class (PS3.7 D.3.3.5)."""
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = sop_class_uid
    item.service_class_application_information = value
    return item
