"""The associations of a worker: accepted, counted, limited, drained."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pacsnode.network import association as association_module
from pacsnode.network import server as server_module
from pacsnode.network.association import AcceptedAssociation
from pacsnode.network.negotiation import TOO_MANY_ASSOCIATIONS
from tests.support.hostile import associate_rq
from tests.support.server import LIMITS, RunningServer, ServerSettings, running_server
from tests.support.waiting import wait_until
from tests.support.wire import (
    VERIFICATION,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    ProposedContext,
)

_ECHO = [ProposedContext(VERIFICATION)]


def _rejection(running: RunningServer) -> tuple[int, int, int] | None:
    try:
        Association(running.address, _ECHO).release()
    except AssociationRejectedError as rejected:
        return rejected.triple
    return None


def test_associations_are_served_side_by_side(tmp_path: Path) -> None:
    """Ten associations that are open at once are all answered, and counted."""
    with running_server(tmp_path) as running, ExitStack() as stack:
        associations = [stack.enter_context(Association(running.address, _ECHO)) for _ in range(10)]
        assert [association.c_echo() for association in reversed(associations)] == [0x0000] * 10
        assert running.server.active == 10
        stack.close()
        running.wait_until_idle()
        assert (max(running.active_counts), running.active_counts[-1]) == (10, 0)


def test_one_association_too_many_is_rejected_as_transient(tmp_path: Path) -> None:
    """Beyond the limit the answer is (2,3,2), until one of those within it has ended (H-1)."""
    with running_server(tmp_path, ServerSettings(maximum_associations=2)) as running:
        with Association(running.address, _ECHO) as first, Association(running.address, _ECHO):
            assert _rejection(running) == (2, 3, 2)
            assert first.c_echo() == 0x0000
        running.wait_until_idle()
        assert _rejection(running) is None


def test_an_association_that_is_refused_does_not_count(tmp_path: Path) -> None:
    """However often one is refused, the count is that of the associations within the limit."""
    with running_server(tmp_path, ServerSettings(maximum_associations=1)) as running:
        with Association(running.address, _ECHO):
            assert [_rejection(running) for _ in range(3)] == [(2, 3, 2)] * 3
            assert running.active_counts[-1] == 1
        running.wait_until_idle()
        assert running.active_counts[-1] == 0


def test_a_refusal_takes_back_its_count_at_once(tmp_path: Path) -> None:
    """Other workers do not go on counting an association that was not let in."""
    with (
        running_server(tmp_path, ServerSettings(maximum_associations=1)) as running,
        Association(running.address, _ECHO),
    ):
        (accepted,) = running.server._running()
        assert running.server.admit(accepted) is TOO_MANY_ASSOCIATIONS
        assert running.active_counts[-2:] == [2, 1]


def test_while_draining_associations_are_rejected_as_transient(tmp_path: Path) -> None:
    """A modality that comes during a stop is told to try again; running ones go on (2,3,1)."""
    with running_server(tmp_path) as running, Association(running.address, _ECHO) as association:
        running.server.drain()
        assert _rejection(running) == (2, 3, 1)
        assert association.c_echo() == 0x0000


def test_draining_comes_before_the_limit(tmp_path: Path) -> None:
    """A node that stops says so, even if it is full (H-3)."""
    settings = ServerSettings(maximum_associations=1)
    with running_server(tmp_path, settings) as running, Association(running.address, _ECHO):
        running.server.drain()
        assert _rejection(running) == (2, 3, 1)


def test_while_retiring_nothing_is_accepted(tmp_path: Path) -> None:
    """A worker that retires closes its descriptor of the socket, which lives on for others."""
    with running_server(tmp_path) as running, Association(running.address, _ECHO) as association:
        running.server.retire()
        assert association.c_echo() == 0x0000
        assert running.server._listeners == []
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(running.address, timeout=20)


def test_retiring_does_not_end_the_socket_for_others(tmp_path: Path) -> None:
    """What shares the listening socket accepts on it after the worker has retired."""
    with running_server(tmp_path) as running:
        other = running.server._listeners[0].dup()
        running.server.retire()
        with socket.create_connection(running.address, timeout=20), other:
            other.settimeout(20)
            other.accept()[0].close()


def test_an_idle_association_is_aborted_while_draining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An association on which nothing happens does not hold up a stop."""
    monkeypatch.setattr(server_module, "_DRAIN_IDLE_SECONDS", 0.05)
    with running_server(tmp_path) as running:
        association = Association(running.address, _ECHO)
        running.server.drain()

        def is_aborted() -> bool:
            running.server.abort_idle()
            return running.server.active == 0

        wait_until(is_aborted, "the idle association to be aborted")
        with pytest.raises(AssociationAbortedError):
            association.receive()
        association.socket.close()


def test_a_busy_association_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a request is served the association is left alone, however long it takes."""
    monkeypatch.setattr(server_module, "_DRAIN_IDLE_SECONDS", -1)
    with running_server(tmp_path) as running, Association(running.address, _ECHO) as association:
        (accepted,) = running.server._running()
        accepted.is_at_work = True
        running.server.abort_idle()
        accepted.is_at_work = False
        assert association.c_echo() == 0x0000


def test_a_silent_association_is_aborted_while_retiring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that are not at work only the silent end; how many are left is told."""
    monkeypatch.setattr(server_module, "_LEAST_SILENT_SECONDS", 0.0)
    with (
        running_server(tmp_path) as running,
        Association(running.address, _ECHO) as busy,
    ):
        (accepted,) = running.server._running()
        accepted.is_at_work = True
        silent = Association(running.address, _ECHO)
        running.server.retire()
        assert running.server.abort_silent(1_000) == 2
        assert silent.c_echo() == 0x0000
        wait_until(lambda: running.server.abort_silent(0) == 1, "the silent one to be aborted")
        with pytest.raises(AssociationAbortedError):
            silent.receive()
        silent.socket.close()
        accepted.is_at_work = False
        assert busy.c_echo() == 0x0000


def test_a_pause_between_two_messages_is_no_silence(tmp_path: Path) -> None:
    """Without a drain timeout, too, a sender has a moment between two instances."""
    with running_server(tmp_path) as running, Association(running.address, _ECHO) as association:
        assert association.c_echo() == 0x0000
        assert running.server.abort_silent(0) == 1
        assert association.c_echo() == 0x0000


def test_all_associations_can_be_aborted(tmp_path: Path) -> None:
    """When time is over every association ends by an abort."""
    with running_server(tmp_path) as running:
        associations = [Association(running.address, _ECHO) for _ in range(3)]
        running.server.abort_all()
        running.wait_until_idle()
        for association in associations:
            with pytest.raises(AssociationAbortedError):
                association.receive()
            association.socket.close()


def test_a_peer_that_has_gone_before_it_is_accepted_is_forgotten(tmp_path: Path) -> None:
    """A connection that is reset in the backlog does not end the server."""
    with running_server(tmp_path) as running:
        for _ in range(20):
            connection = socket.create_connection(running.address, timeout=20)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        assert _rejection(running) is None
        running.wait_until_idle()


def test_without_a_thread_to_serve_it_a_connection_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that gives no more threads loses a connection, not the worker nor its count."""

    def fail(_: AcceptedAssociation) -> None:
        raise RuntimeError("can't start new thread")

    with running_server(tmp_path) as running:
        monkeypatch.setattr(AcceptedAssociation, "start", fail)
        with pytest.raises(AssociationAbortedError):
            Association(running.address, _ECHO)
        running.wait_until_idle()
        monkeypatch.undo()
        assert _rejection(running) is None


def _connect(running: RunningServer) -> socket.socket:
    """Connect, and return when the connection has been accepted."""
    before = len(running.server._connections)
    connection = socket.create_connection(running.address, timeout=20)
    wait_until(lambda: len(running.server._connections) > before, "the connection")
    return connection


def test_a_connection_without_a_request_takes_no_place(tmp_path: Path) -> None:
    """Who only connects keeps nobody out: only associations count against the limit (H-1)."""
    with (
        running_server(tmp_path, ServerSettings(maximum_associations=1)) as running,
        _connect(running),
        _connect(running),
        Association(running.address, _ECHO) as association,
    ):
        assert association.c_echo() == 0x0000
        assert running.server.active == 3
        assert max(running.active_counts) == 1
        assert _rejection(running) == (2, 3, 2)


def test_of_too_many_silent_connections_the_oldest_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port scanner loses its own connections; the newest, and associations, are left alone."""
    monkeypatch.setattr(server_module, "_MOST_SILENT_CONNECTIONS", 2)
    with (
        running_server(tmp_path) as running,
        Association(running.address, _ECHO) as association,
        _connect(running) as oldest,
        _connect(running),
        socket.create_connection(running.address, timeout=20),
    ):
        answer = oldest.recv(100)
        assert answer[:1] in (b"", b"\x07")  # closed; an abort may come first
        assert association.c_echo() == 0x0000
        wait_until(lambda: running.server.active == 3, "the oldest to be forgotten")


@contextmanager
def _lingering(running: RunningServer, first_bytes: bytes) -> Iterator[socket.socket]:
    """Have a connection aborted for what it sends first, and do not close it."""
    with socket.create_connection(running.address, timeout=20) as connection:
        connection.sendall(first_bytes)
        while connection.recv(100):
            pass
        wait_until(lambda: running.active_counts[-1] == 0, "the association to be over")
        yield connection


@pytest.mark.parametrize("first_bytes", [b"no PDU", associate_rq() + b"no PDU"])
def test_a_connection_that_lingers_is_one_until_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_bytes: bytes
) -> None:
    """A peer that leaves an aborted connection open takes no place, and does not hold up a stop."""
    monkeypatch.setattr(association_module, "_LINGER_SECONDS", 1_000)
    with running_server(tmp_path) as running, _lingering(running, first_bytes):
        assert running.server.active == 1
        assert running.active_counts[-1] == 0
        running.server.abort_all()
        running.wait_until_idle()


def test_a_connection_that_lingers_makes_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has itself aborted again and again does not pile up connections."""
    monkeypatch.setattr(association_module, "_LINGER_SECONDS", 1_000)
    monkeypatch.setattr(server_module, "_MOST_SILENT_CONNECTIONS", 1)
    with running_server(tmp_path) as running, _lingering(running, associate_rq() + b"no PDU"):
        (lingering,) = running.server._connections
        with socket.create_connection(running.address, timeout=20):
            lingering.join(20)
            assert not lingering.is_alive()
            assert lingering not in running.server._connections


def test_without_descriptors_the_oldest_silent_connection_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of descriptors, the server neither ends nor spins: the next one is served."""
    failures = iter([OSError(errno.EMFILE, os.strerror(errno.EMFILE))])
    accept = socket.socket.accept

    def accept_at_second_attempt(listener: socket.socket) -> tuple[socket.socket, object]:
        error = next(failures, None)
        if error is not None:
            raise error
        return accept(listener)

    with running_server(tmp_path) as running, _connect(running) as oldest:
        monkeypatch.setattr(socket.socket, "accept", accept_at_second_attempt)
        assert _rejection(running) is None
        assert oldest.recv(100)[:1] in (b"", b"\x07")
    assert "cannot accept a connection: Too many open files" in caplog.messages


def test_limits_are_those_of_the_settings(tmp_path: Path) -> None:
    """The Maximum Length that is announced follows the settings (H-6)."""
    settings = ServerSettings(limits=replace(LIMITS, maximum_pdu_length_bytes=70_000))
    with (
        running_server(tmp_path, settings) as running,
        Association(running.address, _ECHO) as association,
    ):
        assert association.maximum_pdu_length == 70_000
