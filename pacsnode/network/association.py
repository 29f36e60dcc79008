"""An accepted association: pynetdicom's, with our own negotiation and dispatch of requests.

pynetdicom keeps the state machine, the PDUs and the DIMSE messages. We replace three things: who
and what is accepted (its acceptor takes its own order of Transfer Syntaxes and copies all contexts
for each association), what a request leads to (its service classes send statuses of their own), and
how much is read from the socket at a time. A test fails if a name we override is gone.

Source: PS3.8 9.2; PS3.7 7; rules H-1 to H-18.
"""

import queue
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, SOPClassExtendedNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from pacsnode.dicom.ae import normalise_ae_title
from pacsnode.logs import label
from pacsnode.network import activity_log
from pacsnode.network.negotiation import (
    STORAGE_APPLICATION_INFORMATION,
    AssociationPolicy,
    Refusal,
)
from pacsnode.network.storage_sop_classes import STORAGE_SOP_CLASSES

_RECEIVE_LENGTH_BYTES: Final = 256 * 1024
# No setting allows longer ones; an A-ASSOCIATE-RQ has no announced limit, but never comes near.
_LONGEST_PDU_BYTES: Final = 2 * 1024 * 1024
_MOST_UNSENT_MESSAGES: Final = 16
_LOOK_SECONDS: Final = 0.001
# How often pynetdicom's loop looks for something to do while an association is negotiated: that is
# over soon, and each look it sleeps through makes it later.
_NEGOTIATION_LOOK_SECONDS: Final = 0.0001
# PS3.8 9.2.1: before an A-ASSOCIATE-RQ, and after one that could not be understood.
_STATES_WITHOUT_REQUEST: Final = frozenset({"Sta2", "Sta13"})


class Gate(Protocol):
    """Decides whether there is room for another association, and keeps count."""

    def refusal(self) -> Refusal | None:
        """Return why no association is let in at the moment; None if one is."""

    def leave(self, association: "AcceptedAssociation") -> None:
        """Take note that an association is over."""


Serve = Callable[["AcceptedAssociation", Any, PresentationContext], None]


class AcceptedAssociation(Association):
    """An association that a peer has requested; a thread of its own serves it.

    Attributes:
        number: of the association within this process.
        is_serving: a request is being served at the moment.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        number: int,
        ae: Any,  # noqa: ANN401 - pynetdicom's AE
        policy: AssociationPolicy,
        gate: Gate,
        serve: Serve,
    ) -> None:
        super().__init__(ae, "acceptor")
        self.name = f"association-{number}"
        self.number = number
        self.is_serving = False
        self._gate = gate
        self._serve = serve
        self._started_at = time.monotonic()
        self._connection = connection
        self._server = _ConnectionCloser()  # type: ignore[assignment]  # all that is asked of it
        self.acse = _Acceptor(self, policy, gate)
        self.dimse.msg_queue = _MessageQueue(self)
        connection.settimeout(self.acse_timeout)  # until it is accepted
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.set_socket(_ConnectionSocket(self, client_socket=connection))
        self.acceptor.maximum_length = ae.maximum_pdu_size
        self.acceptor.ae_title = ae.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        self.acceptor.implementation_class_uid = ae.implementation_class_uid
        self.acceptor.implementation_version_name = ae.implementation_version_name
        self.requestor.address_info = AddressInformation.from_tuple(connection.getpeername())

    @property
    def calling_ae_title(self) -> str:
        """Who requested it, in the normal form."""
        return normalise_ae_title(cast(A_ASSOCIATE, self.requestor.primitive).calling_ae_title)

    @property
    def called_ae_title(self) -> str:
        """Which of our titles it was requested of, in the normal form."""
        return normalise_ae_title(cast(A_ASSOCIATE, self.requestor.primitive).called_ae_title)

    @property
    def label(self) -> str:
        """What its lines in the log are marked with."""
        host = self.requestor.address
        if self.requestor.primitive is None:
            return f"{host}#{self.number}"
        return f"{self.calling_ae_title}->{self.called_ae_title}@{host}#{self.number}"

    @property
    def is_at_work(self) -> bool:
        """A request is being received, waits, or is being served."""
        is_receiving = self.dimse.message is not None
        return self.is_serving or is_receiving or not self.dimse.msg_queue.empty()

    @property
    def idle_seconds(self) -> float:
        """How long the peer has sent nothing."""
        idle_timer = self.dul._idle_timer  # noqa: SLF001
        return float(self.network_timeout or 0) - idle_timer.remaining

    def run(self) -> None:
        """Serve the association to its end; runs in its own thread."""
        try:
            super().run()
        except Exception:  # noqa: BLE001 - pynetdicom's threads would live on, and hold the place
            with label(self.label):
                activity_log.failed_unexpectedly("association")
            self.abort()
        finally:
            if self.requestor.primitive is None:
                with label(self.label):
                    activity_log.connection_without_request()
            elif not self.is_rejected:
                how = "released" if self.is_released else "aborted"
                with label(self.label):
                    activity_log.association_ended(how, time.monotonic() - self._started_at)
            self._gate.leave(self)

    def is_lost(self) -> bool:
        """Tell, while a request is served, whether the peer has gone."""
        return self.acse.is_aborted() or not self.dul.is_alive() or not self.is_established

    def end(self) -> None:
        """End it now: by an abort, or by closing the connection where it is not established."""
        if self.is_established:
            self.abort(block=False)
        else:
            with suppress(OSError):  # the peer was faster
                self._connection.shutdown(socket.SHUT_RDWR)

    def settle(self) -> None:
        """Be patient, now that it is established: a peer may be idle for long."""
        self._connection.settimeout(self.network_timeout)
        self.dul._run_loop_delay = _LOOK_SECONDS  # noqa: SLF001

    def wait_until_sent(self) -> None:
        """Return when few messages wait to be sent, or the peer has gone.

        To be called between the responses of a long series. pynetdicom reads nothing while it has
        something to send: a cancel would be seen behind the last response only, and what a slow
        peer does not take would pile up.
        """
        unsent, connection = self.dul.to_provider_queue, cast(AssociationSocket, self.dul.socket)
        if unsent.qsize() < _MOST_UNSENT_MESSAGES:
            return
        while (unsent.qsize() or connection.ready) and not self.is_lost():
            time.sleep(_LOOK_SECONDS)

    def _serve_request(self, msg: Any, context_id: int) -> None:  # noqa: ANN401
        """Serve one request; called by pynetdicom's loop for each message."""
        context = self._accepted_cx.get(context_id)
        if context is None:
            self.abort()  # rule H-18
            return
        self._is_paused = True
        self.is_serving = True
        try:
            with label(self.label):
                self._serve(self, msg, context)
        finally:
            self.is_serving = False
            self._is_paused = False
            # A long C-MOVE sends much and receives nothing: that is not idleness of the peer.
            self.dul._idle_timer.restart()  # noqa: SLF001


class _Acceptor(ACSE):
    """Association control with our own answers."""

    def __init__(self, assoc: AcceptedAssociation, policy: AssociationPolicy, gate: Gate) -> None:
        super().__init__(assoc)
        self._policy = policy
        self._gate = gate

    def _negotiate_as_acceptor(self) -> None:
        """Answer an A-ASSOCIATE-RQ; called by pynetdicom once it has arrived."""
        association = cast(AcceptedAssociation, self.assoc)
        with label(association.label):
            request = cast(A_ASSOCIATE, self.requestor.primitive)
            # Past its setter, which refuses a title that says nothing (rule H-2).
            self.requestor._ae_title = association.calling_ae_title  # noqa: SLF001
            refusal = self._gate_refusal(request, association)
            if refusal is not None:
                self.send_reject(*refusal.rejection)
                activity_log.association_rejected(refusal)
                association.kill()
                return
            self._accept(request, association)

    def _gate_refusal(
        self, request: A_ASSOCIATE, association: AcceptedAssociation
    ) -> Refusal | None:
        refusal = self._policy.refusal(
            str(request.application_context_name),
            association.calling_ae_title,
            association.called_ae_title,
        )
        return refusal or self._gate.refusal()

    def _accept(self, request: A_ASSOCIATE, association: AcceptedAssociation) -> None:
        declared = self.requestor.sop_class_common_extended
        proposed = request.presentation_context_definition_list
        answers = self._policy.negotiate(proposed, declared)
        accepted = {cast(int, cx.context_id): cx for cx in answers if cx.result == 0}
        refused = [cx for cx in answers if cx.result != 0]
        association._accepted_cx = accepted  # noqa: SLF001
        association._rejected_cx = refused  # noqa: SLF001
        for uid in self.requestor.sop_class_extended:
            # PS3.7 D.3.3.5: answered only if asked. Query and retrieve options are not offered.
            if uid in STORAGE_SOP_CLASSES:
                item = SOPClassExtendedNegotiation()
                item.sop_class_uid = uid
                item.service_class_application_information = STORAGE_APPLICATION_INFORMATION
                self.acceptor.add_negotiation_item(item)
        self.send_accept()
        association.is_established = True
        association.settle()
        activity_log.association_accepted(len(accepted), len(proposed))
        activity_log.contexts_refused(refused)


class _MessageQueue(queue.Queue[Any]):
    """The messages that wait to be served.

    pynetdicom puts cancels aside by the Message ID they name. Requestors use a Message ID again, so
    a cancel that came when its request was over would hit the next one: what is there when a
    request arrives is older than the request, and dropped (rule D-30).
    """

    def __init__(self, association: AcceptedAssociation) -> None:
        super().__init__()
        self._association = association

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ANN401, FBT001, FBT002
        """Add a message, with the id of its context before it."""
        _, message = item  # None: pynetdicom's mark that nothing more comes
        if message is not None and message.MessageIDBeingRespondedTo is None:
            cancels = self._association.dimse.cancel_req
            if self.empty() and not self._association.is_serving:
                cancels.clear()
            cancels.pop(message.MessageID, None)
        super().put(item, block, timeout)


class _ConnectionSocket(AssociationSocket):
    """A connection that is read in large pieces, and acknowledges at once.

    A sender with Nagle's algorithm on, as most have it, waits for the acknowledgement of each small
    segment; the kernel would delay that by 40 ms, several times for each instance.
    """

    def recv(self, nr_bytes: int) -> bytearray:
        """Return up to this many bytes; fewer only if the peer has closed.

        Memory grows with what arrives, not with what a length field claims.
        """
        if nr_bytes > _LONGEST_PDU_BYTES:
            # Rule H-6: longer than announced is a protocol error; it is not even read.
            raise ConnectionAbortedError("a PDU is longer than any that we let peers send")
        if not self.assoc.is_established:
            # Something has come, so there is something to answer soon; not so on a silent one.
            self.assoc.dul._run_loop_delay = _NEGOTIATION_LOOK_SECONDS  # noqa: SLF001
        received = bytearray()
        connection = cast(socket.socket, self.socket)
        while len(received) < nr_bytes:
            try:
                part = connection.recv(min(nr_bytes - len(received), _RECEIVE_LENGTH_BYTES))
            except OSError:
                self._expect_no_request()
                raise
            if not part:
                self._expect_no_request()
                break
            # The kernel forgets this setting, so it is renewed with each read.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            received += part
        return received

    def close(self) -> None:
        """Close the connection; pynetdicom calls this where the peer need not be waited for."""
        self._expect_no_request()
        super().close()

    def _expect_no_request(self) -> None:
        """Let the association's thread end if it still waits for an A-ASSOCIATE-RQ.

        Else each connection of a port scan or health check would hold a place for as long as a
        negotiation may take.
        """
        dul = self.assoc.dul
        is_waiting = self.assoc.requestor.primitive is None and dul.to_user_queue.empty()
        if is_waiting and dul.state_machine.current_state in _STATES_WITHOUT_REQUEST:
            dul.to_user_queue.put(cast(A_ASSOCIATE, None))


class _ConnectionCloser:
    """Stands where pynetdicom expects the server: it is only asked to close connections."""

    @staticmethod
    def shutdown_request(connection: socket.socket) -> None:
        with suppress(OSError):  # the peer was faster
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
