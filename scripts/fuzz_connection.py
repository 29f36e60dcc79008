"""A connection on which everything has been sent, and which gives it away in odd pieces.

So that one thread is enough, and each input does the same whenever it is tried.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Final

from pacsnode.dicom.data_elements import Buffer

_AT_ONCE: Final = 0
# Around the lengths of headers; 0 is "nothing yet".
_PIECES_BYTES: Final = (0, 1, 2, 3, 5, 6, 7, 11, 12, 13, 64, 1000, 65_536)
_TIMEOUT_SECONDS: Final = 10.0


class StutteringConnection(socket.socket):
    """One end of a pair of sockets, which receives and sends in pieces.

    It says of its peer what a TCP connection would.
    """

    def __init__(self, connection: socket.socket, seed: int) -> None:
        """Take over a connection.

        Args:
            connection: one of a pair.
            seed: the same makes the same pieces; 0 makes none.
        """
        super().__init__(connection.family, connection.type, fileno=connection.detach())
        self._random = None if seed == _AT_ONCE else Random(seed)  # noqa: S311 - no secret

    def getpeername(self) -> tuple[str, int]:
        """Return where TCP would have come from."""
        return "127.0.0.1", 104

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override] # socket's takes any buffer
        """Receive at most the next piece."""
        size = nbytes or len(buffer)
        return super().recv_into(buffer, min(size, self._piece(size)), flags)

    def send(self, data: Buffer, flags: int = 0) -> int:  # type: ignore[override] # the same
        """Send at most the next piece."""
        return super().send(memoryview(data)[: self._piece(len(data))], flags)

    def _piece(self, size: int) -> int:
        if self._random is None:
            return size
        piece = self._random.choice(_PIECES_BYTES)
        if not piece:
            # The first is TCP's way to say it, the second TLS's.
            raise self._random.choice((BlockingIOError, ssl.SSLWantReadError))
        return piece


@contextmanager
def connection_with(
    stream: bytes, seed: int
) -> Iterator[tuple[StutteringConnection, socket.socket]]:
    """Yield a connection on which a stream has come and nothing more will, and its other end.

    Args:
        stream: short enough for the kernel to hold.
        seed: see StutteringConnection.
    """
    connection, peer = socket.socketpair()
    with StutteringConnection(connection, seed) as ours, peer:
        peer.settimeout(_TIMEOUT_SECONDS)
        peer.sendall(stream)
        peer.shutdown(socket.SHUT_WR)
        yield ours, peer


def received_by(peer: socket.socket) -> bytes:
    """Return what a peer receives until its connection is closed."""
    parts = []
    part = None
    while part != b"":
        # Closed with something unread in it, a pair of sockets says so once, and goes on.
        with suppress(ConnectionResetError):
            part = peer.recv(65_536)
            parts.append(part)
    return b"".join(parts)
