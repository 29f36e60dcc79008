"""An association that we request, of a destination that is sent to or asked whether it is there.

Source: PS3.8 7.1, 7.2, 9.2; PS3.7 9.3.1, 9.3.5.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pacsnode.dicom.ae import RemoteAE
from pacsnode.network.associate import PresentationContext, ProposedContext
from pacsnode.network.associate_items import AssociateError
from pacsnode.network.associate_request import (
    encode_associate_request,
    read_associate_accept,
    read_associate_reject,
)
from pacsnode.network.association_end import Abort, AssociationEnd
from pacsnode.network.command_set import CommandSet
from pacsnode.network.connecting import RequestError, connect
from pacsnode.network.message_sender import DataSetReader
from pacsnode.network.messages import (
    ResponseDeadline,
    check_response,
    drop_data_set,
    receive_command_set,
)
from pacsnode.network.pdu import ASSOCIATE_RJ
from pacsnode.network.toolkit import AssociationLimits
from pacsnode.network.transport import Timeouts
from pacsnode.network.upper_layer import UpperLayer

# How long a peer may take to close the connection, once all is said.
_LINGER_SECONDS: Final = 1.0
# All has been answered before the release: whoever waits for its end need not wait long. It hears
# nothing meanwhile, and should within five seconds (rule E-12).
_LONGEST_RELEASE_SECONDS: Final = 4.0


class RequestedAssociation:
    """An association with a remote Application Entity; one thread uses it.

    As a context manager it is released at the end of the block, and aborted if that is left by an
    error.

    Attributes:
        contexts: what was answered to each presentation context, in the order of the proposal.
    """

    contexts: tuple[PresentationContext, ...]

    def __init__(
        self,
        remote: RemoteAE,
        contexts: Sequence[ProposedContext],
        *,
        calling_ae_title: str,
        limits: AssociationLimits,
        while_waiting: Callable[[], None],
    ) -> None:
        """Request the association.

        Args:
            remote: whereto; its own time limits and calling AE title go before the others.
            contexts: to propose, at most 128.
            calling_ae_title: the title of ours to use.
            limits: of time and size.
            while_waiting: called now and then while the peer keeps us waiting; what it raises is
                raised here, after the request has been aborted.

        Raises:
            RequestError: it was not accepted.
        """
        connect_seconds = remote.connect_timeout_seconds or limits.connect_timeout_seconds
        negotiation_seconds = (
            remote.negotiation_timeout_seconds or limits.negotiation_timeout_seconds
        )
        self._dimse_timeout_seconds = remote.dimse_timeout_seconds or limits.dimse_timeout_seconds
        connection = connect(remote, connect_seconds, while_waiting)
        try:
            self._upper_layer = UpperLayer(
                connection,
                Timeouts(
                    negotiation_seconds=negotiation_seconds,
                    message_seconds=self._dimse_timeout_seconds,
                    idle_seconds=self._dimse_timeout_seconds,
                ),
            )
        except OSError as error:
            connection.close()
            raise RequestError("it has closed the connection") from error
        self._upper_layer.while_waiting = while_waiting
        try:
            self._negotiate(
                encode_associate_request(
                    remote.ae_title,
                    remote.calling_ae_title or calling_ae_title,
                    contexts,
                    limits.maximum_pdu_length_bytes,
                ),
                contexts,
            )
        except RequestError:
            self._upper_layer.close(0)
            raise
        except BaseException:
            self._upper_layer.send_abort(Abort.BY_USER)
            self._upper_layer.close(0)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.release()
        elif not isinstance(error, AssociationEnd):
            self.abort()
        elif error.abort is not None:
            self.abort(error.abort)
        else:
            self._leave(error)

    def _negotiate(self, request: bytes, contexts: Sequence[ProposedContext]) -> None:
        try:
            self._upper_layer.send(request)
            kind, content = self._upper_layer.receive_associate_answer()
            if kind == ASSOCIATE_RJ:
                raise RequestError(read_associate_reject(content))
            accept = read_associate_accept(content, contexts)
        except AssociationEnd as end:
            if end.abort is not None:
                self._upper_layer.send_abort(end.abort)
            is_other_protocol = end.abort is Abort.UNRECOGNISED_PDU
            no_dicom = "it does not speak DICOM: " if is_other_protocol else ""
            raise RequestError(f"{no_dicom}{end.reason}") from end
        except AssociateError as error:
            self._upper_layer.send_abort(Abort.INVALID_PARAMETER)
            raise RequestError(f"its answer to the association request: {error}") from error
        self.contexts = accept.contexts
        self._sent_in = 0  # the context of the latest request
        self._upper_layer.peer_maximum_length_bytes = accept.maximum_length_bytes

    def send(self, context_id: int, command_set: bytes) -> None:
        """Send a request without a data set.

        Raises:
            AssociationEnd: the association is over.
        """
        self._sent_in = context_id
        self._upper_layer.send_message(context_id, command_set, None)

    def send_instance(self, context_id: int, command_set: bytes, data_set: DataSetReader) -> None:
        """Send a C-STORE request.

        Raises:
            AssociationEnd: the association is over.
            OSError: the data set cannot be read; the association is to be aborted.
        """
        self._sent_in = context_id
        self._upper_layer.send_instance(context_id, command_set, data_set)

    def receive_response(self, message_id: int, while_waiting: Callable[[], None]) -> CommandSet:
        """Return the command set of the response to a request.

        Args:
            message_id: of the request.
            while_waiting: called now and then until it comes.

        Raises:
            AssociationEnd: the association is over, or no response has come in time.
        """
        deadline = ResponseDeadline(self._upper_layer, self._dimse_timeout_seconds)
        while not self._upper_layer.has_pdu(deadline.look_until):
            deadline.check()
            while_waiting()
        context_id, command_set = receive_command_set(
            self._upper_layer,
            is_within_message=True,
            timeout_seconds=self._dimse_timeout_seconds,
        )
        drop_data_set(self._upper_layer, context_id, command_set, self._dimse_timeout_seconds)
        check_response(command_set, message_id, is_in_context=context_id == self._sent_in)
        return command_set

    def release(self) -> None:
        """Release the association; a peer that does not answer is left."""
        try:
            self._upper_layer.send_release_request()
            self._upper_layer.receive_release(
                min(self._dimse_timeout_seconds, _LONGEST_RELEASE_SECONDS)
            )
        except AssociationEnd as end:
            if end.abort is not None:
                self._upper_layer.send_abort(end.abort)
        self._upper_layer.close(0)

    def abort(self, abort: Abort = Abort.BY_USER) -> None:
        """Abort the association."""
        self._upper_layer.send_abort(abort)
        self._upper_layer.close(_LINGER_SECONDS)

    def _leave(self, end: AssociationEnd) -> None:
        """Close the connection of an association that the peer has ended.

        Source: PS3.8 7.2.2: whoever is asked for the release agrees to it.
        """
        if end.is_released:
            with suppress(AssociationEnd):  # it does not wait for that
                self._upper_layer.send_release_response()
        self._upper_layer.close(_LINGER_SECONDS if end.is_released else 0)
