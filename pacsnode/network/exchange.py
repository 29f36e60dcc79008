"""A request other than C-STORE and its responses, and the failures that every service answers.

Source: PS3.7 9.1, 9.3; rules D-31, E-9 to E-11, F-4.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

from pacsnode.dicom.identifier import encode_failed_list
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of
from pacsnode.dicom.uid import normalise_uid
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association import AcceptedAssociation
from pacsnode.network.command_set import Primitive, encode_find_response
from pacsnode.network.retrieval import SubOperations

_MAXIMUM_COUNT: Final = 0xFFFF  # the counters are US (rule E-20)


class Exchange:
    """A request and its responses.

    Attributes:
        association: on which it came.
        context: in which it came.
        request: pynetdicom's primitive.
    """

    def __init__(
        self, association: AcceptedAssociation, context: PresentationContext, request: Primitive
    ) -> None:
        self.association = association
        self.context = context
        self.request = request

    @property
    def encoding(self) -> Encoding:
        """How identifiers are encoded."""
        return encoding_of(self.context.transfer_syntax)

    @property
    def name(self) -> str:
        """What the request is called in the log."""
        return type(self.request).__name__.replace("_", "-")

    def identifier(self) -> bytes:
        """Return the encoded identifier of a query or retrieve request.

        Raises:
            DimseFailure: 0xC001, it has none.
        """
        identifier = self.request.Identifier
        content = bytes(identifier.getvalue()) if identifier is not None else b""
        if not content:
            raise DimseFailure(Status.IDENTIFIER_UNDECODABLE, "the request has no identifier")
        return content

    def check_sop_class(self) -> None:
        """Refuse a command whose class is not its context's (rule B-19).

        Raises:
            DimseFailure: 0x0122.
        """
        sop_class_uid = normalise_uid(str(self.request.AffectedSOPClassUID or ""))
        if sop_class_uid != self.context.abstract_syntax:
            raise DimseFailure(
                Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class is not that of the presentation context"
            )

    def respond(self, status: int, **fields: object) -> None:
        """Send a response with a status and further fields of the primitive."""
        response: Primitive = type(self.request)()
        response.MessageIDBeingRespondedTo = self.request.MessageID
        response.Status = int(status)
        # Rule F-4: both UIDs are optional in responses and equal those of the request.
        for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
            value = getattr(self.request, keyword, None)
            if value is not None:
                setattr(response, keyword, value)
        for keyword, value in fields.items():
            setattr(response, keyword, value)
        self.association.respond(self.context.context_id, response)

    def respond_failure(self, failure: DimseFailure) -> None:
        """Send the response that a failure asks for (rules D-31, F-4)."""
        offending = list(failure.offending_elements) or None
        fields = {"ErrorComment": failure.comment, "OffendingElement": offending}
        response = type(self.request)()  # its fields are there once it is made
        self.respond(
            failure.status,
            **{keyword: value for keyword, value in fields.items() if hasattr(response, keyword)},
        )

    def respond_matches(self, status: int, identifiers: Sequence[bytes]) -> None:
        """Send a Pending response of a C-FIND for each identifier, all at once (rule D-1)."""
        command_set = self._find_response(status, has_identifier=True)
        self.association.send_messages(self.context.context_id, command_set, identifiers)

    def respond_found(self, status: int) -> None:
        """Send the last response of a C-FIND that has not failed."""
        command_set = self._find_response(status, has_identifier=False)
        self.association.send_message(self.context.context_id, command_set)

    def _find_response(self, status: int, *, has_identifier: bool) -> bytes:
        return encode_find_response(
            str(self.request.AffectedSOPClassUID),
            self.request.MessageID,
            int(status),
            has_identifier=has_identifier,
        )

    def respond_pending(self, state: SubOperations) -> None:
        """Send a Pending response with all four counters (rule E-9)."""
        remaining, completed, failed, warning = map(_clamp, state.counts)
        self.respond(
            Status.PENDING,
            NumberOfRemainingSuboperations=remaining,
            NumberOfCompletedSuboperations=completed,
            NumberOfFailedSuboperations=failed,
            NumberOfWarningSuboperations=warning,
        )

    def respond_retrieved(self, state: SubOperations) -> None:
        """Send the final response: Remaining only if cancelled, the list only if some failed.

        Source: PS3.4 C.4.2.1.5, C.4.2.1.6, C.4.3.1.4; rules E-8 to E-11.
        """
        remaining, completed, failed, warning = map(_clamp, state.counts)
        status = state.final_status
        fields: dict[str, object] = {
            "NumberOfCompletedSuboperations": completed,
            "NumberOfFailedSuboperations": failed,
            "NumberOfWarningSuboperations": warning,
        }
        if status is Status.CANCEL:
            fields["NumberOfRemainingSuboperations"] = remaining
        if state.failed:
            fields["Identifier"] = BytesIO(encode_failed_list(state.failed, self.encoding))
        self.respond(status, **fields)


def _clamp(count: int) -> int:
    """Return a count as a counter can state it (rule E-20)."""
    return min(count, _MAXIMUM_COUNT)


def no_such_operation() -> DimseFailure:
    """Return the failure of a request that its context's service does not have (rule H-18)."""
    return DimseFailure(Status.UNRECOGNISED_OPERATION, "no such operation in this context")


def internal_error() -> DimseFailure:
    """Return the failure of a request that a fault of ours has ended."""
    return DimseFailure(Status.UNABLE_TO_PROCESS, "internal error, see the node's log")
