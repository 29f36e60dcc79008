"""pynetdicom as it is set up."""

from pynetdicom import _config

from pacsnode.network.toolkit import configure_pynetdicom


def test_identifiers_are_not_logged() -> None:
    """No switch of the toolkit that writes identifiers into a log is on."""
    configure_pynetdicom()
    assert not _config.LOG_REQUEST_IDENTIFIERS
    assert not _config.LOG_RESPONSE_IDENTIFIERS
    assert not _config.UNRESTRICTED_STORAGE_SERVICE
