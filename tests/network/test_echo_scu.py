"""Asking a remote Application Entity whether it is there."""

import socket
from pathlib import Path

import pytest

from pacsnode.dicom.ae import RemoteAE
from pacsnode.network.echo_scu import EchoResult, echo
from tests.support import hostile
from tests.support.destination import destination
from tests.support.node import free_port
from tests.support.peer import accept, next_pdu, peer, read_command, release_politely, response
from tests.support.server import LIMITS, running_server


def _echo(port: int, ae_title: str = "PACSNODE") -> EchoResult:
    return echo(RemoteAE(ae_title, "127.0.0.1", port), calling_ae_title="ME", limits=LIMITS)


def _failed(reason: str) -> EchoResult:
    return EchoResult(is_answered=False, reason=reason)


def test_a_node_answers(tmp_path: Path) -> None:
    """A pacsnode answers a pacsnode (H-5)."""
    with running_server(tmp_path) as running:
        assert _echo(running.address[1]) == EchoResult(is_answered=True, reason="")


def test_a_rejection_is_told(tmp_path: Path) -> None:
    """A wrong title is reported in the words of the Standard (H-1)."""
    with running_server(tmp_path) as running:
        result = _echo(running.address[1], "NOBODY")
    assert result == _failed("association rejected: called AE title not recognized (1, 1, 7)")


def test_nobody_there_is_told() -> None:
    """A port that nobody listens on is reported as not reachable."""
    assert _echo(free_port()) == _failed("not reachable: connection refused")


def test_a_name_that_cannot_be_looked_up_is_told() -> None:
    """A misspelt host name is an answer, not a traceback."""
    remote = RemoteAE("DEST", "no-such-host.invalid", 104)
    result = echo(remote, calling_ae_title="ME", limits=LIMITS)
    assert not result.is_answered
    assert result.reason.startswith("host name: ")


def test_a_peer_without_verification_is_told() -> None:
    """A peer that refuses the context is there, but does not answer (H-5)."""
    with destination() as running:
        assert _echo(running.port) == _failed("it does not accept Verification")


@pytest.mark.parametrize(("status", "reason"), [(0x0122, "status 0x0122"), (0, "")])
def test_the_status_is_told(status: int, reason: str) -> None:
    """A C-ECHO that is answered with a failure is no success."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        command = read_command(connection)
        assert command[0x0100] == hostile.us(0x0030)
        connection.sendall(response(command, status))
        release_politely(connection)

    with peer(part) as port:
        assert _echo(port) == EchoResult(is_answered=not reason, reason=reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (hostile.pdu(hostile.RELEASE_RQ, bytes(4)), "it has released the association"),
        (hostile.pdu(hostile.ABORT, bytes(4)), "the peer has aborted the association"),
        (b"", "the peer has closed the connection"),
    ],
)
def test_an_end_in_place_of_the_answer_is_told(content: bytes, reason: str) -> None:
    """Whatever the peer does instead (PS3.8 9.2.3, Sta6)."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        read_command(connection)
        connection.sendall(content)
        if content:
            next_pdu(connection)

    with peer(part) as port:
        assert _echo(port) == _failed(reason)
