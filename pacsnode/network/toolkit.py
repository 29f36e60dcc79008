"""pynetdicom as we use it: its switches, and the Application Entity that speaks.

Source: PS3.8 9.3; rules H-2, H-6, H-14.
"""

from dataclasses import dataclass

from pydicom import config
from pynetdicom import AE, _config

from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """Limits of time and size of associations.

    Attributes:
        maximum_pdu_length_bytes: of the P-DATA-TF we let peers send (rule H-6).
        negotiation_timeout_seconds: from the connection to the answer to A-ASSOCIATE-RQ.
        dimse_timeout_seconds: for the response to a request of ours, for a PDU that has begun,
            and between two of one message.
        idle_timeout_seconds: between two messages.
        connect_timeout_seconds: for a TCP connection of ours.
    """

    maximum_pdu_length_bytes: int
    negotiation_timeout_seconds: float
    dimse_timeout_seconds: float
    idle_timeout_seconds: float
    connect_timeout_seconds: float


def configure_pynetdicom() -> None:
    """Set the switches of pynetdicom; to be called before anything else of it is used."""
    # Its own log lines carry identifiers, and so patient data.
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # Odd titles and invalid UIDs in a command set are answered by their proper status.
    _config.CODECS = ("ascii", "latin-1")
    _config.VALIDATORS = {
        "AE": lambda _: (True, ""),
        "UI": lambda _: (True, ""),
    }
    # pydicom would check the values of command sets again, and warn of each it does not like.
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE


def application_entity(ae_title: str, limits: AssociationLimits) -> AE:
    """Return an Application Entity of ours.

    Args:
        ae_title: one of our titles.
        limits: of its associations.
    """
    ae = AE(ae_title=ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_pdu_size = limits.maximum_pdu_length_bytes
    ae.acse_timeout = limits.negotiation_timeout_seconds
    ae.dimse_timeout = limits.dimse_timeout_seconds
    ae.network_timeout = limits.idle_timeout_seconds
    ae.connection_timeout = limits.connect_timeout_seconds
    return ae
