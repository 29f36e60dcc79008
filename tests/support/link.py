"""Both ends of one connection: a local pair, TCP, or TLS with a certificate of its own."""

import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 20


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """What both ends of a TLS connection need."""

    acceptor: ssl.SSLContext
    requestor: ssl.SSLContext


def tls_contexts(folder: Path) -> TlsContexts:
    """Return contexts for a self-signed certificate, which is made with the openssl program.

    Args:
        folder: where certificate and key are written.
    """
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    )
    acceptor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    acceptor.load_cert_chain(certificate, key)
    requestor = ssl.create_default_context(cafile=str(certificate))
    return TlsContexts(acceptor, requestor)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return the requestor's and the acceptor's end of a TCP connection; both block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        requestor = socket.create_connection(listener.getsockname(), timeout=_SECONDS)
        acceptor, _ = listener.accept()
    acceptor.settimeout(_SECONDS)
    return requestor, acceptor


def local_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection that has no network below it."""
    requestor, acceptor = socket.socketpair()
    requestor.settimeout(_SECONDS)
    return requestor, acceptor


def tls_pair(contexts: TlsContexts) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Return both ends of a TLS connection, the handshake done.

    An end of the connection without its close_notify is an error at the requestor's end.
    """
    requestor, acceptor = tcp_pair()
    with ThreadPoolExecutor(1) as executor:
        accepted = executor.submit(contexts.acceptor.wrap_socket, acceptor, server_side=True)
        requested = contexts.requestor.wrap_socket(
            requestor, server_hostname="localhost", suppress_ragged_eofs=False
        )
        return requested, accepted.result(_SECONDS)
