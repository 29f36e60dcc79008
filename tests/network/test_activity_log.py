"""The wording of the lines that an administrator reads."""

import pytest

from pacsnode.catalog.records import CatalogError
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.network import activity_log
from pacsnode.network.associate import PresentationContext
from pacsnode.network.negotiation import TOO_MANY_ASSOCIATIONS
from pacsnode.services.keep import Keeping, Outcome


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "pacsnode")


def test_a_refused_context_names_its_class(caplog: pytest.LogCaptureFixture) -> None:
    """Unknown classes, unknown syntaxes and roles we do not have are told apart, with the UID."""
    contexts = [
        PresentationContext(1, "1.2.3", "1.2.840.10008.1.2", 3),
        PresentationContext(3, "1.2.4", "1.2.840.10008.1.2", 4),
        PresentationContext(5, "1.2.5", "1.2.840.10008.1.2", 1),
    ]
    activity_log.contexts_refused(contexts)
    assert caplog.messages == [
        "context refused: SOP class 1.2.3 is not supported",
        "context refused: none of the transfer syntaxes offered for SOP class 1.2.4 is kept",
        "context refused: SOP class 1.2.5 is left without a role",
    ]


@pytest.mark.parametrize("result", [1, 3, 4])
@pytest.mark.parametrize("name", ["DOE^JANE", "1.2.a", "1." + "2" * 63, ""])
def test_a_class_that_is_no_uid_is_not_quoted(
    caplog: pytest.LogCaptureFixture, name: str, result: int
) -> None:
    """What stands in place of a UID may be a patient's name, or as long as a page."""
    activity_log.contexts_refused([PresentationContext(1, name, "1.2.840.10008.1.2", result)])
    (message,) = caplog.messages
    assert "SOP class without a valid UID is" in message
    assert not name or name not in message


def test_a_rejection_names_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever raises a limit must find which one it was."""
    activity_log.association_rejected(TOO_MANY_ASSOCIATIONS)
    assert caplog.messages == ["association rejected: association.maximum_associations is reached"]


@pytest.mark.parametrize(
    ("keeping", "warning"),
    [
        (Keeping(Outcome.ADDED, "a"), None),
        (Keeping(Outcome.ALREADY_KEPT, "a"), None),
        (Keeping(Outcome.IN_QUARANTINE, "quarantine/a"), "the newcomer is in quarantine/a"),
        (Keeping(Outcome.REPLACED, "a"), "was missing or damaged and has been replaced"),
        (Keeping(Outcome.ADDED, "a", has_other_patient=True), "states another patient than"),
    ],
)
def test_what_needs_a_person_is_a_warning(
    caplog: pytest.LogCaptureFixture, keeping: Keeping, warning: str | None
) -> None:
    """An ordinary instance is one line of information; anything odd is a warning beside it."""
    activity_log.instance_stored("1.2.3", keeping, 10)
    assert caplog.messages[0] == f"C-STORE 1.2.3: {keeping.outcome.value}, 10 bytes"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (warning is not None)
    assert all((warning or "") in text for text in warnings)


def test_a_refusal_has_status_comment_and_cause(caplog: pytest.LogCaptureFixture) -> None:
    """The cause, which the peer is not told, stands in the log."""
    failure = DimseFailure(Status.CATALOG_FAILED, "the catalog failed")
    failure.__cause__ = CatalogError("disk I/O error")
    activity_log.request_refused("C-FIND", failure)
    assert caplog.messages == ["C-FIND refused: 0xC002 the catalog failed (disk I/O error)"]


def test_a_destination_that_fails_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Title, host and port stand in the line, so that it can be looked for."""
    activity_log.destination_failed(RemoteAE("DEST", "host.example", 104), "gone")
    assert caplog.messages == ["move destination DEST at host.example:104: gone"]
