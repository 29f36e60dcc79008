"""An accepted association on a connection of its own, with services that do as the test says."""

import gc
import logging
import socket
import struct
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom.uid import CTImageStorage

from pacsnode.network import association as association_module
from pacsnode.network import messages, transport
from pacsnode.network import upper_layer as upper_layer_module
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association import AcceptedAssociation
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import CommandSet, Primitive
from pacsnode.network.negotiation import AETitlePolicy, AssociationPolicy, Refusal
from pacsnode.network.toolkit import configure_pynetdicom
from pacsnode.network.upper_layer import Fragment, UpperLayer
from tests.support.hostile import (
    ABORT,
    ASSOCIATE_AC,
    COMMAND,
    LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    application_context,
    associate_rq,
    echo_elements,
    encoded_command,
    message,
    pdu,
    pdv,
    presentation_context,
    store_command,
    uid_value,
    us,
    user_information,
)
from tests.support.instances import ct_data_set, encoded
from tests.support.link import tcp_pair
from tests.support.server import LIMITS, running_server
from tests.support.waiting import wait_until
from tests.support.wire import (
    STUDY_ROOT_FIND,
    VERIFICATION,
    Association,
    identifier_of,
    query_contexts,
    storage_contexts,
)

_SECONDS = 20
_DIMSE_TIMEOUT_SECONDS = int(LIMITS.dimse_timeout_seconds)
_VERIFICATION_ID, _FIND_ID, _STORAGE_ID, _UNKNOWN_ID = 1, 3, 5, 77
_MEBIBYTE = 1024 * 1024
_REQUEST = associate_rq(
    application_context(),
    presentation_context(_VERIFICATION_ID, VERIFICATION),
    presentation_context(_FIND_ID, STUDY_ROOT_FIND),
    presentation_context(_STORAGE_ID, CTImageStorage),
    user_information(),
)
_ECHO = message(_VERIFICATION_ID, encoded_command(echo_elements()))
_RELEASE = pdu(RELEASE_RQ, bytes(4))


def _find_command(message_id: int = 7) -> bytes:
    return encoded_command(
        {
            0x0002: uid_value(STUDY_ROOT_FIND),
            0x0100: us(0x0020),
            0x0110: us(message_id),
            0x0700: us(0),
            0x0800: us(0x0001),
        }
    )


_FIND = message(_FIND_ID, _find_command(), b"identifier")


def _cancel(message_id: int = 7, context_id: int = _FIND_ID) -> bytes:
    return message(
        context_id,
        encoded_command({0x0100: us(0x0FFF), 0x0120: us(message_id), 0x0800: us(0x0101)}),
    )


class _Gate:
    """Lets everybody in."""

    def admit(self, association: AcceptedAssociation) -> Refusal | None:
        del association
        return None

    def leave(self, association: AcceptedAssociation) -> None:
        """Do nothing."""

    def close(self, association: AcceptedAssociation) -> None:
        """Do nothing."""


@dataclass
class _Services:
    """Remembers requests and data sets; what is done while a request is served, the test says."""

    serving: Callable[[AcceptedAssociation], None] = lambda _: None
    requests: list[Primitive] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    data_set: bytearray = field(default_factory=bytearray)
    is_finished: bool = False

    def receive_instance(
        self,
        association: AcceptedAssociation,
        context: PresentationContext,
        command_set: CommandSet,
    ) -> "_Services":
        del association, context, command_set
        return self

    def append(self, fragments: Sequence[memoryview]) -> None:
        self.counts.append(len(fragments))
        self.data_set += b"".join(fragments)

    def finish(self, last: Sequence[memoryview]) -> None:
        self.append(last)
        self.is_finished = True

    def discard(self) -> None:
        """Do nothing."""

    def serve(
        self, association: AcceptedAssociation, context: PresentationContext, request: Primitive
    ) -> None:
        self.requests.append(request)
        self.serving(association)
        response: Primitive = type(request)()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.Status = 0
        association.respond(context.context_id, response)


@dataclass(frozen=True, slots=True)
class Link:
    """An association that nobody serves yet, and the peer at the other end of its connection."""

    peer: socket.socket
    association: AcceptedAssociation
    services: _Services

    def serve(self, content: bytes) -> list[int]:
        """Serve it in this thread; return the types of the PDUs that the peer has got.

        Args:
            content: what the peer sends after its request, before it closes its end.
        """
        with ThreadPoolExecutor(2) as executor:
            sent = executor.submit(self._send_all, content)
            received = executor.submit(self._received)
            self.association.run()
            sent.result(_SECONDS)
            return received.result(_SECONDS)

    def serve_open(self, content: bytes) -> None:
        """Serve it in this thread, after sending; the peer does not close its end."""
        self.peer.sendall(_REQUEST + content)
        self.association.run()

    def _send_all(self, content: bytes) -> None:
        self.peer.sendall(_REQUEST + content)
        self.peer.shutdown(socket.SHUT_WR)

    def _received(self) -> list[int]:
        content = bytearray()
        while part := self.peer.recv(65_536):
            content += part
        kinds, start = [], 0
        while start < len(content):
            kind, length = struct.unpack_from(">BxL", content, start)
            kinds.append(int(kind))
            start += 6 + length
        return kinds


@pytest.fixture
def link() -> Iterator[Link]:
    """A connection on which nothing was sent yet."""
    configure_pynetdicom()
    peer, connection = tcp_pair()
    services = _Services()
    association = AcceptedAssociation(
        connection,
        number=1,
        limits=LIMITS,
        policy=AssociationPolicy(
            ae_titles=frozenset({"PACSNODE"}),
            remote_ae_titles=frozenset(),
            called=AETitlePolicy.KNOWN,
            calling=AETitlePolicy.ANY,
            additional_sop_classes=frozenset(),
        ),
        gate=_Gate(),
        services=services,
    )
    with peer, connection:
        yield Link(peer, association, services)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, `now`, which only the test moves on."""
    made = SimpleNamespace(now=1_000.0)
    for module in (association_module, messages, transport, upper_layer_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


# --- what is received


def _long_find(length: int) -> bytes:
    """Return a C-FIND whose identifier has so many bytes."""
    starts = range(0, length, 100_000)
    return pdu(P_DATA, pdv(_FIND_ID, COMMAND | LAST, _find_command())) + b"".join(
        pdu(
            P_DATA,
            pdv(
                _FIND_ID,
                LAST if start == starts[-1] else 0,
                bytes(min(100_000, length - start)),
            ),
        )
        for start in starts
    )


def test_an_identifier_of_a_mebibyte_is_served(link: Link) -> None:
    """A long list of UIDs is no attack."""
    kinds = link.serve(_long_find(_MEBIBYTE) + _RELEASE)
    assert kinds == [ASSOCIATE_AC, P_DATA, RELEASE_RP]
    assert len(link.services.requests[0].Identifier.getvalue()) == _MEBIBYTE


def test_a_longer_identifier_ends_the_association(link: Link) -> None:
    """It is not collected any further, and not served."""
    assert link.serve(_long_find(_MEBIBYTE + 2) + _RELEASE) == [ASSOCIATE_AC, ABORT]
    assert link.services.requests == []


def test_a_data_set_that_nobody_needs_is_not_kept(link: Link) -> None:
    """A C-ECHO with 4 MiB of data set is answered, and takes no memory for it."""
    command = encoded_command({**echo_elements(), 0x0800: us(0x0001)})
    part = pdu(P_DATA, pdv(_VERIFICATION_ID, 0, bytes(100_000)))
    content = b"".join(
        (
            pdu(P_DATA, pdv(_VERIFICATION_ID, COMMAND | LAST, command)),
            part * 42,
            pdu(P_DATA, pdv(_VERIFICATION_ID, LAST)),
            _RELEASE,
        )
    )
    sent = _REQUEST + content
    link.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    with ThreadPoolExecutor(1) as executor:
        sending = executor.submit(link.peer.sendall, sent)
        sending.add_done_callback(lambda _: link.peer.shutdown(socket.SHUT_WR))
        tracemalloc.start()
        try:
            link.association.run()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        sending.result(_SECONDS)
    assert len(link.services.requests) == 1
    assert peak_bytes < _MEBIBYTE


@pytest.mark.parametrize("length", [0, 1])
def test_tiny_fragments_do_not_pile_up(link: Link, length: int) -> None:
    """Fragments are handed on before what holds them takes more memory than they do."""
    content = bytes(number % 251 for number in range(5_000 * length))
    fragments = [content[number : number + length] for number in range(5_000)]
    pdvs = b"".join(pdv(_STORAGE_ID, 0, fragment) for fragment in fragments)
    command = pdv(_STORAGE_ID, COMMAND | LAST, store_command(encoded(ct_data_set())))
    last = pdv(_STORAGE_ID, LAST, b"last")
    kinds = link.serve(pdu(P_DATA, command) + pdu(P_DATA, pdvs + last) + _RELEASE)
    assert kinds == [ASSOCIATE_AC, RELEASE_RP]
    assert link.services.is_finished
    assert link.services.data_set == content + b"last"
    assert max(link.services.counts) <= 257


def test_a_command_set_cannot_be_stretched(
    link: Link,
    clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Empty fragments, each in time, do not keep an association open beyond the timeout (H-17)."""
    receive = UpperLayer.receive_fragment

    def receive_slowly(upper_layer: UpperLayer, *, is_within_message: bool) -> Fragment:
        clock.now += _DIMSE_TIMEOUT_SECONDS / 10
        return receive(upper_layer, is_within_message=is_within_message)

    monkeypatch.setattr(UpperLayer, "receive_fragment", receive_slowly)
    empty = pdu(P_DATA, pdv(_VERIFICATION_ID, COMMAND))
    with caplog.at_level(logging.INFO, "pacsnode"):
        assert link.serve(empty * 20 + _ECHO + _RELEASE) == [ASSOCIATE_AC, ABORT]
    assert link.services.requests == []
    reason = "a command set took longer than association.dimse_timeout_seconds"
    assert any(reason in text for text in caplog.messages)


# --- while a request is served


def _look_for_cancel(link: Link, content: bytes) -> list[bool]:
    """Return what is known of a cancel while a C-FIND with Message ID 7 is served."""
    found: list[bool] = []
    link.services.serving = lambda association: (
        found.append(association.is_cancelled()) if not found else None
    )
    link.peer.sendall(_REQUEST + _FIND + content)
    link.peer.shutdown(socket.SHUT_WR)
    link.association.run()
    return found


@pytest.mark.parametrize(
    ("content", "is_cancelled"),
    [
        (_cancel(), True),
        (_cancel(8) + _cancel(), True),
        (_cancel(8) + _ECHO, False),
        (_cancel(6) + _cancel(8) + _ECHO, False),
        (_ECHO + _cancel(), False),
    ],
    ids=["own", "own behind another", "another", "two others", "behind a request"],
)
def test_a_cancel_concerns_the_request_it_names(
    link: Link, content: bytes, *, is_cancelled: bool
) -> None:
    """A cancel that names another Message ID cancels nothing (D-30)."""
    assert _look_for_cancel(link, content) == [is_cancelled]


def test_a_cancel_in_a_context_that_was_not_accepted_is_aborted(link: Link) -> None:
    """It is as wrong there as any other message, and cancels nothing (H-18)."""
    cancelled: list[tuple[bool, bool]] = []
    link.services.serving = lambda association: cancelled.append(
        (association.is_cancelled(), association.is_lost())
    )
    kinds = link.serve(_FIND + _cancel(context_id=_UNKNOWN_ID) + _RELEASE)
    assert cancelled == [(False, True)]
    assert kinds == [ASSOCIATE_AC, ABORT]


def test_a_pdu_that_has_begun_does_not_hold_up_a_request(link: Link) -> None:
    """Who has sent the first byte of a cancel gets answers; with its last byte it is one (D-30)."""
    cancel, found = _cancel(), []

    def serve(association: AcceptedAssociation) -> None:
        for number in range(len(cancel)):
            found.append(association.is_cancelled())
            link.peer.sendall(cancel[number : number + 1])
        wait_until(association.is_cancelled, "the cancel")
        found.append(association.is_cancelled())
        link.peer.sendall(_RELEASE)
        link.peer.shutdown(socket.SHUT_WR)

    link.services.serving = serve
    link.serve_open(_FIND)
    assert found == [False] * len(cancel) + [True]


def test_an_association_is_not_idle_when_a_request_was_served(
    link: Link, clock: SimpleNamespace
) -> None:
    """Time that we took to serve it does not count as the peer's silence."""

    def serve(_: AcceptedAssociation) -> None:
        clock.now += 100

    link.services.serving = serve
    assert link.serve(_ECHO) == [ASSOCIATE_AC, P_DATA]
    assert link.association.idle_seconds == 0
    assert not link.association.is_at_work


def test_an_end_is_seen_between_two_requests_that_came_together(link: Link) -> None:
    """Requests that wait already do not put off a stop of the node; the peer is told."""
    link.services.serving = lambda association: association.end("the node is stopping")
    assert link.serve(_ECHO * 3) == [ASSOCIATE_AC, P_DATA, ABORT]
    assert len(link.services.requests) == 1


# --- the end


def test_a_release_that_cannot_be_answered_is_one_line(
    link: Link, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A requestor that does not wait for the answer has released its association all the same."""

    def fail(_: UpperLayer) -> None:
        raise AssociationEnd("connection lost: Broken pipe")

    monkeypatch.setattr(UpperLayer, "send_release_response", fail)
    with caplog.at_level(logging.DEBUG, "pacsnode"):
        link.serve(_RELEASE)
    accepted, released = caplog.messages
    assert accepted.startswith("association accepted")
    assert released.startswith("association released after ")


@pytest.fixture
def _without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def _release(association: Association) -> None:
    association.release()


def _abort(association: Association) -> None:
    association.abort()


def _hang_up(association: Association) -> None:
    association.hang_up()


def _send_garbage(association: Association) -> None:
    association.socket.sendall(b"no PDU")
    association.socket.close()


def _find_nothing(association: Association) -> None:
    (response,) = association.c_find(STUDY_ROOT_FIND, identifier_of("NONE"))
    assert response.status == 0xA900
    association.release()


def _store_damaged(association: Association) -> None:
    association.send_store_request(1, CTImageStorage.encode(), b"1.2.3")
    association.send_data_set(1, bytes(300_000))
    assert association.receive().status == 0xC000
    association.release()


def _store_half(association: Association) -> None:
    association.send_store_request(1, CTImageStorage.encode(), b"1.2.3")
    association.send_data_set(1, bytes(300_000), is_complete=False)
    association.hang_up()


def _store_refused_half(association: Association) -> None:
    association.send_store_request(1, CTImageStorage.encode(), b"no uid")
    association.send_data_set(1, bytes(300_000), is_complete=False)
    association.abort()


@pytest.mark.usefixtures("_without_collector")
@pytest.mark.parametrize(
    "end",
    [
        *(_release, _abort, _hang_up, _send_garbage, _find_nothing),
        *(_store_damaged, _store_half, _store_refused_half),
    ],
)
def test_an_association_that_is_over_is_freed_at_once(
    tmp_path: Path, end: Callable[[Association], None]
) -> None:
    """Its buffer does not wait for the garbage collector, which sees no reason to come."""
    with running_server(tmp_path) as running:
        contexts = [*storage_contexts([encoded(ct_data_set())]), *query_contexts()]
        association = Association(running.address, contexts)
        reference = weakref.ref(running.server._running()[0])
        end(association)
        running.wait_until_idle()
        wait_until(lambda: reference() is None, "the association to be freed")


@pytest.mark.usefixtures("_without_collector")
def test_an_association_that_was_ended_is_freed_at_once(tmp_path: Path) -> None:
    """The same if it was the node that ended it."""
    with running_server(tmp_path) as running:
        association = Association(running.address, storage_contexts([encoded(ct_data_set())]))
        reference = weakref.ref(running.server._running()[0])
        running.server.abort_all()
        association.socket.close()
        running.wait_until_idle()
        wait_until(lambda: reference() is None, "the association to be freed")
