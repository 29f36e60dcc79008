"""Verification as an SCU: asks a remote Application Entity whether it is there.

Source: PS3.4 A.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.information_model import VERIFICATION_UID
from pacsnode.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pacsnode.network.associate import ProposedContext
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import encode_echo_request
from pacsnode.network.connecting import RequestError
from pacsnode.network.requested_association import RequestedAssociation
from pacsnode.network.toolkit import AssociationLimits

_CONTEXT_ID: Final = 1
_MESSAGE_ID: Final = 1
VERIFICATION_CONTEXT: Final = ProposedContext(
    _CONTEXT_ID,
    VERIFICATION_UID,
    (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN),  # rule H-5
)


@dataclass(frozen=True, slots=True)
class EchoResult:
    """What came of a C-ECHO.

    Attributes:
        is_answered: with status success.
        reason: what went wrong; empty if nothing did.
    """

    is_answered: bool
    reason: str


def echo(
    remote: RemoteAE,
    *,
    calling_ae_title: str,
    limits: AssociationLimits,
    while_waiting: Callable[[], None] = lambda: None,
) -> EchoResult:
    """Associate with a remote Application Entity, send a C-ECHO, release.

    Args:
        remote: whom.
        calling_ae_title: the title of ours to use, if it asks for no other.
        limits: of time and size.
        while_waiting: called now and then while it keeps us waiting.

    Source: PS3.7 9.1.5.
    """
    try:
        with RequestedAssociation(
            remote,
            [VERIFICATION_CONTEXT],
            calling_ae_title=calling_ae_title,
            limits=limits,
            while_waiting=while_waiting,
        ) as association:
            reason = echo_on(association, while_waiting)
    except RequestError as error:
        reason = str(error)
    except AssociationEnd as end:
        reason = end.reason or "it has released the association"
    return EchoResult(is_answered=not reason, reason=reason)


def echo_on(association: RequestedAssociation, while_waiting: Callable[[], None]) -> str:
    """Send a C-ECHO on an association that VERIFICATION_CONTEXT alone was proposed for.

    Args:
        association: for it.
        while_waiting: called now and then while the peer keeps us waiting.

    Returns:
        What went wrong; empty if it was answered with success.

    Raises:
        AssociationEnd: the association is over, or no response has come in time.
    """
    if not association.contexts[0].is_accepted:
        return "it does not accept Verification"
    association.send(_CONTEXT_ID, encode_echo_request(VERIFICATION_UID, _MESSAGE_ID))
    status = association.receive_response(_MESSAGE_ID, while_waiting).status
    return f"status 0x{status:04X}" if status else ""
