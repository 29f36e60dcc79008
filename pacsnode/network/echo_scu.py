"""Verification as an SCU: asks a remote Application Entity whether it is there.

Source: PS3.4 A.
"""

from dataclasses import dataclass
from typing import Final

from pynetdicom.presentation import build_context

from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.information_model import VERIFICATION_UID
from pacsnode.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pacsnode.network.store_scu import why_not_established
from pacsnode.network.toolkit import AssociationLimits, application_entity, configure_pynetdicom

_TRANSFER_SYNTAXES: Final = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN]  # rule H-5


@dataclass(frozen=True, slots=True)
class EchoResult:
    """What came of a C-ECHO.

    Attributes:
        is_answered: with status success.
        reason: what went wrong; empty if nothing did.
    """

    is_answered: bool
    reason: str


def echo(remote: RemoteAE, *, calling_ae_title: str, limits: AssociationLimits) -> EchoResult:
    """Associate with a remote Application Entity, send a C-ECHO, release.

    Source: PS3.7 9.1.5.
    """
    configure_pynetdicom()
    ae = application_entity(calling_ae_title, limits)
    contexts = [build_context(VERIFICATION_UID, _TRANSFER_SYNTAXES)]
    try:
        association = ae.associate(
            remote.host, remote.port, contexts=contexts, ae_title=remote.ae_title
        )
    except OSError as error:  # of looking up its host name; all else pynetdicom catches
        return EchoResult(is_answered=False, reason=f"host name: {error.strerror}")
    if not association.is_established:
        return EchoResult(is_answered=False, reason=why_not_established(association))
    try:
        status = association.send_c_echo()
    finally:
        association.release()
    if "Status" not in status:
        return EchoResult(is_answered=False, reason="it does not respond")
    if status.Status != 0:
        return EchoResult(is_answered=False, reason=f"status 0x{status.Status:04X}")
    return EchoResult(is_answered=True, reason="")
