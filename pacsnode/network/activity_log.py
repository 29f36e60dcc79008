"""The lines that an administrator reads: one function for each event, which fixes its wording.

AE titles, UIDs, counts and durations; never a name, a date of birth or an identifier's values. The
label of the association stands on each line (logs.label). docs/operations.md lists them.
"""

import logging
from collections.abc import Iterable

from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.uid import is_valid_uid
from pacsnode.network.associate import PresentationContext
from pacsnode.network.negotiation import ContextResult, Refusal
from pacsnode.services.keep import Keeping, Outcome

_LOGGER = logging.getLogger("pacsnode.activity")


def shown_uid(uid: str) -> str:
    """Return a UID of a peer as it is shown; what is none may be anything, also a name."""
    return uid if is_valid_uid(uid) else "without a valid UID"


def association_accepted(accepted: int, proposed: int) -> None:
    """An association begins."""
    _LOGGER.info("association accepted: %d of %d presentation contexts", accepted, proposed)


def contexts_refused(contexts: Iterable[PresentationContext]) -> None:
    """Presentation contexts are refused: what the requestor has of them will not arrive."""
    for context in contexts:
        sop_class = shown_uid(context.abstract_syntax)
        if context.result == ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED:
            _LOGGER.warning("context refused: SOP class %s is not supported", sop_class)
        elif context.result == ContextResult.USER_REJECTION:
            _LOGGER.warning("context refused: SOP class %s is left without a role", sop_class)
        else:
            _LOGGER.warning(
                "context refused: none of the transfer syntaxes offered for SOP class %s is kept",
                sop_class,
            )


def association_rejected(refusal: Refusal) -> None:
    """An association is not let in."""
    _LOGGER.warning("association rejected: %s", refusal.reason)


def connection_without_request(reason: str) -> None:
    """A connection is over, and no association request has come on it."""
    _LOGGER.info("connection ended without an association: %s", reason)


def association_released(duration_seconds: float) -> None:
    """An association is over as it should be."""
    _LOGGER.info("association released after %.1f s", duration_seconds)


def association_aborted(duration_seconds: float, reason: str) -> None:
    """An association is over, by an abort of either side or the loss of the connection."""
    _LOGGER.warning("association aborted after %.1f s: %s", duration_seconds, reason)


def echoed() -> None:
    """A C-ECHO was answered."""
    _LOGGER.info("C-ECHO answered")


def instance_stored(sop_instance_uid: str, keeping: Keeping, length_bytes: int) -> None:
    """An instance was received and is on the disk."""
    _LOGGER.info("C-STORE %s: %s, %d bytes", sop_instance_uid, keeping.outcome.value, length_bytes)
    if keeping.outcome is Outcome.IN_QUARANTINE:
        _LOGGER.warning(
            "C-STORE %s: other content is kept under this UID; the newcomer is in %s",
            sop_instance_uid,
            keeping.path,
        )
    if keeping.outcome is Outcome.REPLACED:
        _LOGGER.warning(
            "C-STORE %s: the file kept first was missing or damaged and has been replaced",
            sop_instance_uid,
        )
    if keeping.has_other_patient:
        _LOGGER.warning(
            "C-STORE %s: states another patient than its study is filed under", sop_instance_uid
        )


def not_removed(reason: str) -> None:
    """What a sender left behind in the middle of an instance stays until the next start."""
    _LOGGER.warning("C-STORE broken off, and its incoming file stays: %s", reason)


def request_refused(request: str, failure: DimseFailure) -> None:
    """A request was answered with a failure."""
    cause = str(failure.__cause__ or "")
    more = f" ({cause})" if cause and cause not in failure.comment else ""
    _LOGGER.warning("%s refused: 0x%04X %s%s", request, failure.status, failure.comment, more)


def found(model: str, level: str, answers: int, duration_seconds: float, how: str) -> None:
    """A C-FIND is over."""
    _LOGGER.info(
        "C-FIND %s %s: %d answers in %.3f s, %s", model, level, answers, duration_seconds, how
    )


def sub_operation_failed(sop_instance_uid: str, cause: str, reason: str) -> None:
    """An instance could not be sent."""
    _LOGGER.warning("C-STORE sub-operation %s failed: %s: %s", sop_instance_uid, cause, reason)


def sub_operation_warned(sop_instance_uid: str, reason: str) -> None:
    """An instance was taken with a reservation."""
    _LOGGER.warning("C-STORE sub-operation %s: warning: %s", sop_instance_uid, reason)


def failures_not_kept(reason: str) -> None:
    """The catalog could not take what has failed: it is in the log alone."""
    _LOGGER.warning("failed sub-operations are not kept for `pacsnode why`: %s", reason)


def destination_failed(destination: RemoteAE, reason: str) -> None:
    """A move destination could not be reached, or went away."""
    _LOGGER.warning(
        "move destination %s at %s:%d: %s",
        destination.ae_title,
        destination.host,
        destination.port,
        reason,
    )


def retrieved(
    service: str, asked_for: str, destination: str, counts: str, duration_seconds: float, how: str
) -> None:
    """A C-MOVE or C-GET is over."""
    _LOGGER.info(
        "%s %s to %s: %s in %.1f s, %s",
        service,
        asked_for,
        destination,
        counts,
        duration_seconds,
        how,
    )


def failed_unexpectedly(request: str) -> None:
    """A request failed for a fault of our own."""
    # Called within the exception handler of handlers.py, whose exception it shows.
    _LOGGER.error("%s failed for a fault of this program", request, exc_info=True)  # noqa: LOG014
