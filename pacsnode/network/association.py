"""An accepted association: negotiated, its messages received and handed on, and brought to an end.

One thread serves an association from its connection to its end, without any other: it receives a
message, has it served, sends the responses, receives the next. A C-STORE's data set is handed on
fragment by fragment while it arrives; the data set of any other message is small, and collected.
While a long request is served, whoever serves it asks now and then whether a cancel has come: only
then what has arrived is looked at.

Source: PS3.8 9.2; PS3.7 7, 9.3.2.3; rules H-1 to H-18.
"""

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from pacsnode.logs import label
from pacsnode.network import activity_log
from pacsnode.network.associate import (
    AssociateRequest,
    PresentationContext,
    encode_associate_accept,
    encode_associate_reject,
    read_associate_request,
)
from pacsnode.network.associate_items import AssociateError
from pacsnode.network.association_end import Abort, AssociationEnd
from pacsnode.network.command_set import (
    C_CANCEL_RQ,
    C_STORE_RQ,
    WITH_IDENTIFIER,
    CommandSet,
    CommandSetError,
    Primitive,
    encode_response,
    request_of,
)
from pacsnode.network.message_sender import DataSetReader
from pacsnode.network.messages import (
    ResponseDeadline,
    check_response,
    drop_data_set,
    receive_command_set,
    receive_data_fragment,
)
from pacsnode.network.negotiation import (
    APPLICATION_CONTEXT_NAME,
    AssociationPolicy,
    Refusal,
)
from pacsnode.network.toolkit import AssociationLimits
from pacsnode.network.transport import Timeouts
from pacsnode.network.upper_layer import UpperLayer

# Real identifiers have some hundred bytes; but a list of UIDs is long: 16,000 of them fit in.
# Decoded, an identifier takes up to forty times as much.
_LONGEST_IDENTIFIER_BYTES: Final = 1024 * 1024
# A view of a fragment takes more memory than a tiny fragment.
_MOST_PENDING_FRAGMENTS: Final = 256
_MOST_MESSAGES_LOOKED_AT: Final = 16  # cancels that name nothing: what is served has to go on
# How long a peer may take to close the connection, once all is said.
_LINGER_SECONDS: Final = 2.0


class Gate(Protocol):
    """Decides whether there is room for another association, and keeps count."""

    def admit(self, association: "AcceptedAssociation") -> Refusal | None:
        """Count an association that is requested; return why it is not let in, None if it is."""

    def leave(self, association: "AcceptedAssociation") -> None:
        """Take note that an association is over; its connection may linger."""

    def close(self, association: "AcceptedAssociation") -> None:
        """Take note that a connection is closed, whether it became an association or not."""


class Reception(Protocol):
    """A C-STORE whose data set is arriving."""

    def append(self, fragments: Sequence[memoryview]) -> None:
        """Take the next part of the data set; the fragments are not valid afterwards.

        Raises:
            AssociationEnd: it was refused, and does not end.
        """

    def finish(self, last: Sequence[memoryview]) -> None:
        """Take the last part and respond."""

    def discard(self) -> None:
        """Forget it: the data set will not arrive to its end."""


class Services(Protocol):
    """What is done with the requests of an association."""

    def receive_instance(
        self,
        association: "AcceptedAssociation",
        context: PresentationContext,
        command_set: CommandSet,
    ) -> Reception:
        """Begin to serve a C-STORE request."""

    def serve(
        self, association: "AcceptedAssociation", context: PresentationContext, request: Primitive
    ) -> None:
        """Serve any other request, to its last response."""


class AcceptedAssociation(threading.Thread):
    """An association that a peer has requested; a thread of its own serves it.

    Attributes:
        number: of the association within this process.
        is_at_work: a message whose command set has come is being received or served.
        calling_ae_title: who requested it, in the normal form; empty before the request.
        called_ae_title: which of our titles it was requested of, in the normal form.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        number: int,
        limits: AssociationLimits,
        policy: AssociationPolicy,
        gate: Gate,
        services: Services,
    ) -> None:
        """Take over a connection; `start` serves it.

        Raises:
            OSError: the peer has gone already.
        """
        super().__init__(name=f"association-{number}", daemon=True)
        self.number = number
        self.is_at_work = False
        self.calling_ae_title = ""
        self.called_ae_title = ""
        self._host = connection.getpeername()[0]
        self._limits = limits
        self._policy = policy
        self._gate = gate
        self._services = services
        self._upper_layer = UpperLayer(
            connection,
            Timeouts(
                negotiation_seconds=limits.negotiation_timeout_seconds,
                message_seconds=limits.dimse_timeout_seconds,
                idle_seconds=limits.idle_timeout_seconds,
            ),
        )
        self._contexts: dict[int, PresentationContext] = {}
        self._served_message_id: int | None = None  # of a request that a C-CANCEL may name
        self._is_cancelled = False
        self._sent_in = 0  # the context of the latest request of ours
        # What came while a request was served, to be looked at when it is.
        self._next: tuple[int, CommandSet] | None = None
        self._end: AssociationEnd | None = None

    @property
    def label(self) -> str:
        """What its lines in the log are marked with."""
        if not self._contexts and not self.calling_ae_title:
            return f"{self._host}#{self.number}"
        return f"{self.calling_ae_title}->{self.called_ae_title}@{self._host}#{self.number}"

    @property
    def idle_seconds(self) -> float:
        """How long the peer has sent nothing."""
        return time.monotonic() - self._upper_layer.last_active_at

    def run(self) -> None:
        """Serve the association to its end; runs in its own thread."""
        linger_seconds = 0.0
        try:
            linger_seconds = self._serve()
        except Exception:  # noqa: BLE001 - the thread's last word; the place it holds must be freed
            with label(self.label):
                activity_log.failed_unexpectedly("association")
            self._upper_layer.send_abort(Abort.BY_USER)
            linger_seconds = _LINGER_SECONDS
        finally:
            try:
                self._gate.leave(self)
            finally:
                self._upper_layer.close(linger_seconds)
                self._gate.close(self)

    def end(self, reason: str) -> None:
        """Have it aborted, or its connection closed; called by another thread."""
        self._upper_layer.interrupt(AssociationEnd(reason, abort=Abort.BY_USER))

    # --- for whoever serves a request

    def respond(self, context_id: int, response: Primitive) -> None:
        """Send a response; if the peer has gone, `is_lost` tells so."""
        self.send_message(context_id, *encode_response(response))

    def send_message(
        self, context_id: int, command_set: bytes, data_set: bytes | None = None
    ) -> None:
        """Send an encoded message; if the peer has gone, `is_lost` tells so."""
        if self._end is None:
            try:
                self._upper_layer.send_message(context_id, command_set, data_set)
            except AssociationEnd as end:
                self._end = end

    def send_messages(
        self, context_id: int, command_set: bytes, data_sets: Iterable[bytes]
    ) -> None:
        """Send messages of one command set together; if the peer has gone, `is_lost` tells so."""
        if self._end is None:
            try:
                self._upper_layer.send_messages(context_id, command_set, data_sets)
            except AssociationEnd as end:
                self._end = end

    @property
    def contexts(self) -> Collection[PresentationContext]:
        """Those that are accepted."""
        return self._contexts.values()

    def send_instance(self, context_id: int, command_set: bytes, data_set: DataSetReader) -> None:
        """Send a C-STORE request of ours, within a C-GET.

        Raises:
            AssociationEnd: the peer has gone, or it was interrupted.
            Exception: what reading the data set raises; the association is to be aborted.
        """
        if self._end is not None:
            raise self._end
        self._sent_in = context_id
        try:
            self._upper_layer.send_instance(context_id, command_set, data_set)
        except AssociationEnd as end:
            self._end = end
            raise
        except BaseException:
            # In the middle of a message nothing else can be said any more.
            reason = "a message could not be sent to its end"
            self._end = AssociationEnd(reason, abort=Abort.BY_USER)
            raise

    def receive_response(self, message_id: int, while_waiting: Callable[[], None]) -> CommandSet:
        """Return the command set of the response to a request of ours, within a C-GET.

        A cancel of the C-GET may come before it.

        Args:
            message_id: of the request.
            while_waiting: called now and then until it comes.

        Raises:
            AssociationEnd: the peer has gone, has sent something else, or nothing in time.
        """
        try:
            return self._receive_response(message_id, while_waiting)
        except CommandSetError as error:
            self._end = AssociationEnd(str(error), abort=Abort.BY_USER)
            raise self._end from error
        except AssociationEnd as end:
            self._end = end
            raise

    def _receive_response(self, message_id: int, while_waiting: Callable[[], None]) -> CommandSet:
        deadline = ResponseDeadline(self._upper_layer, self._limits.dimse_timeout_seconds)
        while self._end is None:
            # Who looked for a cancel meanwhile may have come upon it first.
            came, self._next = self._next, None
            if came or self._upper_layer.has_pdu(deadline.look_until):
                context_id, command_set = came or self._receive_command_set(is_within_message=True)
                if command_set.command_field == C_CANCEL_RQ:
                    self._note_cancel(context_id, command_set)
                    deadline.check()
                    continue
                self._drop_data_set(context_id, command_set)
                check_response(command_set, message_id, is_in_context=context_id == self._sent_in)
                self._upper_layer.touch()
                return command_set
            deadline.check()
            while_waiting()
        raise self._end

    def is_cancelled(self) -> bool:
        """Tell, while a request is served, whether a C-CANCEL for it has come (rule D-30)."""
        self._look()
        return self._is_cancelled

    def is_interrupted(self) -> bool:
        """Tell, while a request is served, whether `end` was called: it has to end at once."""
        return self._upper_layer.is_interrupted

    def is_lost(self) -> bool:
        """Tell, while a request is served, whether the peer was gone when `is_cancelled` looked."""
        return self._end is not None

    def _look(self) -> None:
        """Take note of what has come while a request is served: a cancel, or the end.

        A further request waits, and with it whatever is behind it: nobody may send one now.
        """
        try:
            self._upper_layer.raise_if_interrupted()
            for _ in range(_MOST_MESSAGES_LOOKED_AT):
                if self._is_over_or_told or not self._upper_layer.has_pdu():
                    break
                context_id, command_set = self._receive_command_set(is_within_message=True)
                if command_set.command_field == C_CANCEL_RQ:
                    self._note_cancel(context_id, command_set)
                else:
                    self._next = context_id, command_set
        except CommandSetError as error:
            self._end = AssociationEnd(str(error), abort=Abort.BY_USER)
        except AssociationEnd as end:
            self._end = end

    def _note_cancel(self, context_id: int, command_set: CommandSet) -> None:
        """Take note of a cancel; one that names another request belongs to nothing."""
        self._context(context_id)
        named = command_set.message_id_being_responded_to
        self._is_cancelled = self._is_cancelled or named == self._served_message_id

    @property
    def _is_over_or_told(self) -> bool:
        """There is nothing more to be learnt while a request is served."""
        return self._end is not None or self._next is not None or self._is_cancelled

    # --- the life of an association

    def _serve(self) -> float:
        """Serve the association; return how many seconds the peer has to close the connection."""
        try:
            request = self._receive_request()
        except AssociationEnd as end:
            with label(self.label):
                activity_log.connection_without_request(end.reason)
            return self._abort(end)
        self.calling_ae_title = request.calling_ae_title
        self.called_ae_title = request.called_ae_title
        with label(self.label):
            try:
                is_accepted = self._answer(request)
            except AssociationEnd as end:
                activity_log.connection_without_request(end.reason)
                return 0.0
            del request  # it may be large, and is not needed any more
            return self._serve_accepted() if is_accepted else _LINGER_SECONDS

    def _receive_request(self) -> AssociateRequest:
        content = self._upper_layer.receive_associate_request()
        try:
            return read_associate_request(content)
        except AssociateError as error:
            reason = f"the association request is damaged: {error}"
            raise AssociationEnd(reason, abort=Abort.BY_USER) from error

    def _answer(self, request: AssociateRequest) -> bool:
        """Accept or reject; return whether it was accepted."""
        refusal = self._policy.refusal(request) or self._gate.admit(self)
        if refusal is not None:
            activity_log.association_rejected(refusal)
            self._upper_layer.send(encode_associate_reject(*refusal.rejection))
            return False
        self._accept(request)
        return True

    def _serve_accepted(self) -> float:
        """Serve the association; return how many seconds the peer has to close the connection."""
        started_at = time.monotonic()
        end = self._serve_messages()
        seconds = time.monotonic() - started_at
        if end.is_released:
            activity_log.association_released(seconds)
            with suppress(AssociationEnd):  # a peer that does not wait for it
                self._upper_layer.send_release_response()
            return _LINGER_SECONDS
        activity_log.association_aborted(seconds, end.reason)
        return self._abort(end)

    def _abort(self, end: AssociationEnd) -> float:
        """Send the A-ABORT of an end, if it has one; return how many seconds the peer has then."""
        if end.abort is None:
            return 0.0
        self._upper_layer.send_abort(end.abort)
        return _LINGER_SECONDS

    def _accept(self, request: AssociateRequest) -> None:
        answers = self._policy.negotiate(request)
        self._contexts = {cx.context_id: cx for cx in answers if cx.is_accepted}
        self._upper_layer.peer_maximum_length_bytes = request.maximum_length_bytes
        maximum = self._limits.maximum_pdu_length_bytes
        self._upper_layer.send(
            encode_associate_accept(request, APPLICATION_CONTEXT_NAME, answers, maximum)
        )
        activity_log.association_accepted(len(self._contexts), len(answers))
        activity_log.contexts_refused(cx for cx in answers if not cx.is_accepted)

    def _serve_messages(self) -> AssociationEnd:
        """Serve messages until the association ends; return how it has."""
        try:
            while self._end is None:
                self._serve_message()
        except AssociationEnd as end:
            self._end = end
        # Tracebacks know this association, and would keep it until the collector comes.
        self._end.__cause__ = self._end.__context__ = None
        return self._end.with_traceback(None)

    def _serve_message(self) -> None:
        self._upper_layer.raise_if_interrupted()
        context_id, command_set = self._next or self._receive_command_set(is_within_message=False)
        self._next = None
        context = self._context(context_id)
        self.is_at_work = True
        try:
            if command_set.command_field == C_STORE_RQ:
                self._serve_store(context, command_set)
            elif command_set.command_field in WITH_IDENTIFIER:
                self._serve_query(context, command_set)
            else:
                self._serve_other(context, command_set)
        except CommandSetError as error:
            raise AssociationEnd(str(error), abort=Abort.BY_USER) from error
        finally:
            self._upper_layer.touch()
            self.is_at_work = False
        self._upper_layer.rewind()

    def _context(self, context_id: int) -> PresentationContext:
        """Return an accepted context (rule H-18)."""
        context = self._contexts.get(context_id)
        if context is None:
            reason = f"presentation context {context_id} was not accepted"
            raise AssociationEnd(reason, abort=Abort.BY_USER)
        return context

    def _serve_store(self, context: PresentationContext, command_set: CommandSet) -> None:
        reception = self._services.receive_instance(self, context, command_set)
        pending: list[memoryview] = []

        def append_pending() -> None:
            reception.append(pending)
            pending.clear()

        try:
            if command_set.has_data_set:
                self._upper_layer.on_full = append_pending
                is_last = False
                while not is_last:
                    fragment = receive_data_fragment(self._upper_layer, context.context_id)
                    is_last = fragment.is_last
                    if fragment.content:
                        pending.append(fragment.content)
                    if len(pending) > _MOST_PENDING_FRAGMENTS:
                        append_pending()
            reception.finish(pending)
        except BaseException:
            reception.discard()
            raise
        finally:
            self._upper_layer.on_full = None

    def _serve_query(self, context: PresentationContext, command_set: CommandSet) -> None:
        """Serve a request that has an identifier, and may be cancelled."""
        identifier = bytearray()
        is_last = not command_set.has_data_set
        while not is_last:
            fragment = receive_data_fragment(self._upper_layer, context.context_id)
            identifier += fragment.content
            is_last = fragment.is_last
            if len(identifier) > _LONGEST_IDENTIFIER_BYTES:
                raise AssociationEnd("an identifier is too long", abort=Abort.BY_USER)
        # A cancel that came before belonged to a request before: requestors use a Message ID again.
        self._served_message_id, self._is_cancelled = command_set.message_id, False
        request = request_of(command_set, context.context_id, bytes(identifier))
        self._services.serve(self, context, request)

    def _serve_other(self, context: PresentationContext, command_set: CommandSet) -> None:
        """Serve a request that needs no data set, or is for no service of ours."""
        self._drop_data_set(context.context_id, command_set)
        if command_set.is_response or command_set.command_field == C_CANCEL_RQ:
            return  # it belongs to nothing
        _ = command_set.message_id  # what has none cannot be answered
        request = request_of(command_set, context.context_id, b"")
        self._services.serve(self, context, request)

    def _drop_data_set(self, context_id: int, command_set: CommandSet) -> None:
        drop_data_set(
            self._upper_layer, context_id, command_set, self._limits.dimse_timeout_seconds
        )

    def _receive_command_set(self, *, is_within_message: bool) -> tuple[int, CommandSet]:
        """Return the presentation context of the next message, and its command set."""
        return receive_command_set(
            self._upper_layer,
            is_within_message=is_within_message,
            timeout_seconds=self._limits.dimse_timeout_seconds,
        )
