"""pynetdicom as we use it: its switches, and the Application Entity that speaks.

Source: PS3.8 9.3; rules H-2, H-6, H-14.
"""

from dataclasses import dataclass

from pydicom import config
from pydicom.config import IGNORE, settings
from pynetdicom import AE, _config, dul
from pynetdicom.pdu import A_ASSOCIATE_RQ

from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """Limits of time and size of associations.

    Attributes:
        maximum_pdu_length_bytes: of the P-DATA-TF we let peers send (rule H-6).
        negotiation_timeout_seconds: from the connection to the answer to A-ASSOCIATE-RQ.
        dimse_timeout_seconds: for the response to a request of ours.
        idle_timeout_seconds: without any traffic.
        connect_timeout_seconds: for a TCP connection of ours.
    """

    maximum_pdu_length_bytes: int
    negotiation_timeout_seconds: float
    dimse_timeout_seconds: float
    idle_timeout_seconds: float
    connect_timeout_seconds: float


class _TolerantAssociateRequest(A_ASSOCIATE_RQ):
    """An A-ASSOCIATE-RQ whose titles may say nothing: our policy answers, not an abort (H-2).

    A title of spaces only is taken for one of NULs, which passes pynetdicom's checks and has the
    same normal form.
    """

    @property
    def called_ae_title(self) -> str:
        """The Called AE Title."""
        return str(super().called_ae_title)

    @called_ae_title.setter
    def called_ae_title(self, value: str | bytes | None) -> None:
        A_ASSOCIATE_RQ.called_ae_title.fset(self, _telling(value))  # type: ignore[attr-defined]

    @property
    def calling_ae_title(self) -> str:
        """The Calling AE Title."""
        return str(super().calling_ae_title)

    @calling_ae_title.setter
    def calling_ae_title(self, value: str | bytes | None) -> None:
        A_ASSOCIATE_RQ.calling_ae_title.fset(self, _telling(value))  # type: ignore[attr-defined]


def _telling(ae_title: str | bytes | None) -> str | bytes | None:
    return b"\0" if isinstance(ae_title, bytes) and not ae_title.strip() else ae_title


def configure_pynetdicom() -> None:
    """Set the switches of pynetdicom; to be called before anything else of it is used."""
    # Its own log lines carry identifiers, and so patient data.
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # pydicom would check each UID of a negotiation several times, a third of the time it takes.
    settings.reading_validation_mode = IGNORE
    # Rule H-2: odd titles do not abort an association, our own policy decides. Invalid UIDs are
    # answered by their proper status (0x0117), not by an abort.
    _config.CODECS = ("ascii", "latin-1")
    dul._PDU_TYPES[b"\x01"] = (_TolerantAssociateRequest, "Evt6")  # noqa: SLF001
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
