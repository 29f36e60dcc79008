"""pynetdicom as we use it: its switches; and the limits of associations.

Source: PS3.8 9.3; rules H-2, H-6.
"""

from dataclasses import dataclass

from pydicom import config
from pynetdicom import _config


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
