"""pynetdicom as it is set up."""

from pynetdicom import _config

from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID
from pacsnode.network.toolkit import AssociationLimits, application_entity, configure_pynetdicom

_LIMITS = AssociationLimits(
    maximum_pdu_length_bytes=70_000,
    negotiation_timeout_seconds=1,
    dimse_timeout_seconds=2,
    idle_timeout_seconds=3,
    connect_timeout_seconds=4,
)


def test_an_entity_has_the_limits_of_the_settings() -> None:
    """Each limit goes where pynetdicom looks for it (H-6, H-17)."""
    ae = application_entity("PACSNODE", _LIMITS)
    assert ae.maximum_pdu_size == 70_000
    assert (ae.acse_timeout, ae.dimse_timeout) == (1, 2)
    assert (ae.network_timeout, ae.connection_timeout) == (3, 4)


def test_an_entity_names_this_implementation() -> None:
    """The Implementation Class UID is ours, not that of the toolkit (H-14)."""
    ae = application_entity("PACSNODE", _LIMITS)
    assert ae.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert 1 <= len(ae.implementation_version_name or "") <= 16


def test_identifiers_are_not_logged() -> None:
    """No switch of the toolkit that writes identifiers into a log is on."""
    configure_pynetdicom()
    assert not _config.LOG_REQUEST_IDENTIFIERS
    assert not _config.LOG_RESPONSE_IDENTIFIERS
    assert not _config.UNRESTRICTED_STORAGE_SERVICE
