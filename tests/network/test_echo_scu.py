"""Asking a remote Application Entity whether it is there."""

from pathlib import Path

import pytest
from pynetdicom import AE, evt

from pacsnode.dicom.ae import RemoteAE
from pacsnode.network.echo_scu import EchoResult, echo
from tests.support.destination import destination
from tests.support.node import free_port
from tests.support.server import LIMITS, running_server


def _echo(port: int, ae_title: str = "PACSNODE") -> EchoResult:
    return echo(RemoteAE(ae_title, "127.0.0.1", port), calling_ae_title="ME", limits=LIMITS)


def test_a_node_answers(tmp_path: Path) -> None:
    """A pacsnode answers a pacsnode (H-5)."""
    with running_server(tmp_path) as running:
        assert _echo(running.address[1]) == EchoResult(is_answered=True, reason="")


def test_a_rejection_is_told(tmp_path: Path) -> None:
    """A wrong title is reported in the words of the Standard (H-1)."""
    with running_server(tmp_path) as running:
        result = _echo(running.address[1], "NOBODY")
    assert result == EchoResult(
        is_answered=False, reason="association rejected: Called AE title not recognised"
    )


# pynetdicom leaves the socket of a connection that was refused to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_there_is_told() -> None:
    """A port that nobody listens on is reported as not reachable."""
    result = _echo(free_port())
    assert not result.is_answered
    assert "not reachable" in result.reason


def test_a_name_that_cannot_be_looked_up_is_told() -> None:
    """A misspelt host name is an answer, not a traceback."""
    remote = RemoteAE("DEST", "no-such-host.invalid", 104)
    result = echo(remote, calling_ae_title="ME", limits=LIMITS)
    assert not result.is_answered
    assert result.reason.startswith("host name: ")


def test_a_peer_without_verification_is_told() -> None:
    """A peer that refuses the context is there, but does not answer (H-5)."""
    with destination() as running:
        result = _echo(running.port)
    assert result == EchoResult(
        is_answered=False, reason="it accepts none of the presentation contexts"
    )


def test_another_status_than_success_is_told() -> None:
    """A C-ECHO that is answered with a failure is no success."""
    entity = AE("OTHER")
    entity.add_supported_context("1.2.840.10008.1.1")
    handlers = [(evt.EVT_C_ECHO, lambda _: 0x0122)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        result = _echo(server.socket.getsockname()[1])
    finally:
        server.shutdown()
    assert result == EchoResult(is_answered=False, reason="status 0x0122")
