"""The way to a remote Application Entity, and what is said where there is none."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pacsnode.dicom.ae import RemoteAE, TlsFiles
from pacsnode.network import connecting
from pacsnode.network.connecting import RequestError, connect
from tests.support.certificates import PASSPHRASE, CertificateFiles, make_certificate
from tests.support.link import TlsContexts, tls_contexts
from tests.support.node import free_port

_SECONDS = 20.0
_HERE = RemoteAE("DEST", "127.0.0.1", 104)


def _do_nothing() -> None:
    pass


def _connect(
    remote: RemoteAE, seconds: float = _SECONDS, while_waiting: Callable[[], None] = _do_nothing
) -> socket.socket:
    return connect(remote, seconds, while_waiting)


def _why_not(remote: RemoteAE, seconds: float = _SECONDS) -> str:
    with pytest.raises(RequestError) as refused:
        _connect(remote, seconds)
    return str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    """IPv4, IPv6, or whatever the name stands for."""
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    with (
        socket.create_server((host, 0), family=family) as listener,
        _connect(replace(_HERE, host=host, port=listener.getsockname()[1])) as connection,
    ):
        assert connection.family is family
        assert connection.getpeername() == listener.getsockname()


def test_nobody_there_is_told() -> None:
    """A port that nobody listens on."""
    assert _why_not(replace(_HERE, port=free_port())) == "not reachable: connection refused"


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("no-such-host.invalid", "host name: "),
        ("a" * 70 + ".invalid", "host name: it is none that may be looked up"),
        ("two..dots", "host name: it is none that may be looked up"),
    ],
)
def test_a_host_that_there_is_not_is_told(host: str, reason: str) -> None:
    """A misspelt name is an answer, not a traceback."""
    assert _why_not(replace(_HERE, host=host)).startswith(reason)


@pytest.fixture
def unanswered(monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteAE]:
    """A destination whose connections nobody answers: its backlog is full."""
    monkeypatch.setattr(connecting, "_LOOK_SECONDS", 0.02)
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fill = [socket.socket() for _ in range(3)]
    for each in fill:
        each.setblocking(False)  # noqa: FBT003
        each.connect_ex(listener.getsockname())
    yield replace(_HERE, port=listener.getsockname()[1])
    for each in (*fill, listener):
        each.close()


def test_whoever_does_not_answer_is_given_up_in_time(unanswered: RemoteAE) -> None:
    """A firewall that says nothing: until the time is over, and somebody is told meanwhile."""
    told: list[float] = []
    started_at = time.monotonic()
    with pytest.raises(RequestError, match="not reachable: no answer"):
        _connect(unanswered, 0.2, lambda: told.append(time.monotonic()))
    assert 0.2 <= time.monotonic() - started_at < _SECONDS
    assert len(told) > 2


def test_an_address_that_does_not_answer_leaves_time_for_the_others(
    unanswered: RemoteAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where IPv6 leads nowhere, the IPv4 address of the host is reached all the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ports = (unanswered.port, listener.getsockname()[1])
        found = [(socket.AF_INET, ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(connecting, "_addresses", lambda *_: found)
        with _connect(unanswered, 0.6) as connection:
            assert connection.getpeername() == listener.getsockname()


def test_a_name_server_that_does_not_answer_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The resolver may take as long as it likes; we do not, and somebody is told meanwhile."""
    monkeypatch.setattr(connecting, "_LOOK_SECONDS", 0.02)
    answers = threading.Event()
    look_up = socket.getaddrinfo

    def wait(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if not options["flags"] & socket.AI_NUMERICHOST:
            answers.wait(_SECONDS)
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    told: list[int] = []
    try:
        with pytest.raises(RequestError, match="host name: the name server does not answer"):
            _connect(replace(_HERE, host="localhost"), 0.2, lambda: told.append(1))
    finally:
        answers.set()
    assert len(told) > 2


# --- TLS


@pytest.fixture(scope="module")
def tls(module_folder: Path) -> TlsContexts:
    """The acceptor's side of TLS; its certificate is in certificate.pem."""
    return tls_contexts(module_folder)


def _accept_tls(tls: TlsContexts, listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.settimeout(_SECONDS)
    with tls.acceptor.wrap_socket(
        connection, server_side=True, suppress_ragged_eofs=True
    ) as secured:
        assert secured.version() in ("TLSv1.2", "TLSv1.3")
        assert secured.recv(5) == b"hello"


def test_a_connection_may_have_tls(tls: TlsContexts, module_folder: Path) -> None:
    """TLS 1.2 at least, with a certificate that is checked, and its host name too (H-40)."""
    files = TlsFiles(ca_file=module_folder / "certificate.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        accepted = executor.submit(_accept_tls, tls, listener)
        remote = RemoteAE("DEST", "localhost", listener.getsockname()[1], tls=files)
        with _connect(remote) as connection:
            connection.sendall(b"hello")
            accepted.result(_SECONDS)


def _refuse_tls(tls: TlsContexts, listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.settimeout(_SECONDS)
    with pytest.raises(OSError, match=r"alert|closed|reset|EOF"):
        tls.acceptor.wrap_socket(connection, server_side=True).recv(1)
    connection.close()


@pytest.mark.parametrize(
    ("host", "is_known", "words"),
    [("localhost", False, "self-signed|self signed"), ("127.0.0.1", True, "IP address mismatch")],
)
def test_a_certificate_that_is_not_accepted_is_told(
    tls: TlsContexts, module_folder: Path, host: str, *, is_known: bool, words: str
) -> None:
    """Of an authority that we do not know, or of another host (H-40)."""
    files = TlsFiles(ca_file=module_folder / "certificate.pem" if is_known else None)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        refused = executor.submit(_refuse_tls, tls, listener)
        remote = RemoteAE("DEST", host, listener.getsockname()[1], tls=files)
        with pytest.raises(
            RequestError, match=f"TLS: its certificate is not accepted: .*({words})"
        ):
            _connect(remote)
        refused.result(_SECONDS)


def test_the_host_name_is_not_checked_where_that_is_asked_for(
    tls: TlsContexts, module_folder: Path
) -> None:
    """Devices have certificates that name nothing they are called by (H-40)."""
    files = TlsFiles(ca_file=module_folder / "certificate.pem", checks_host_name=False)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        accepted = executor.submit(_accept_tls, tls, listener)
        with _connect(
            RemoteAE("DEST", "127.0.0.1", listener.getsockname()[1], tls=files)
        ) as secured:
            secured.sendall(b"hello")
            accepted.result(_SECONDS)


def test_a_peer_without_tls_is_told(module_folder: Path, tls: TlsContexts) -> None:
    """Whoever closes the connection, or says something else, has no TLS."""
    del tls
    files = TlsFiles(ca_file=module_folder / "certificate.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"no TLS here\r\n")

        answered = executor.submit(answer)
        remote = RemoteAE("DEST", "localhost", listener.getsockname()[1], tls=files)
        assert _why_not(remote).startswith("TLS: ")
        answered.result(_SECONDS)


def test_a_peer_that_is_silent_in_tls_is_given_up_in_time(
    module_folder: Path, tls: TlsContexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and does not shake hands; somebody is told meanwhile."""
    del tls
    monkeypatch.setattr(connecting, "_LOOK_SECONDS", 0.02)
    files = TlsFiles(ca_file=module_folder / "certificate.pem")
    told: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        remote = RemoteAE("DEST", "localhost", listener.getsockname()[1], tls=files)
        with pytest.raises(RequestError, match="TLS: no answer"):
            _connect(remote, 0.2, lambda: told.append(1))
    assert len(told) > 2


@pytest.fixture(scope="module")
def protected(module_folder: Path) -> CertificateFiles:
    """A certificate whose key has a passphrase."""
    return make_certificate(module_folder / "protected", "protected", passphrase=PASSPHRASE)


def test_files_that_cannot_be_used_are_told(tmp_path: Path, protected: CertificateFiles) -> None:
    """One that is missing, one that is none, a key that nobody is there to open."""
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    for files in (
        TlsFiles(ca_file=tmp_path / "missing.pem"),
        TlsFiles(ca_file=nothing),
        TlsFiles(certificate_file=protected.certificate, key_file=protected.key),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            remote = RemoteAE("DEST", "localhost", listener.getsockname()[1], tls=files)
            assert _why_not(remote).startswith("TLS: ")
