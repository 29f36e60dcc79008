"""A connection that never keeps its thread for longer than a deadline, and can be interrupted.

Where there is nothing to read, or no room for what is sent, it sleeps in poll(2) until there is. A
connection may be a TLS socket: it is always read before it is waited for, so that what the TLS
layer has decrypted already is not waited for again.

A sender with Nagle's algorithm on, as nearly all have it, sends a message in small segments and
waits for the acknowledgement of each, which the kernel would delay by 40 ms. So acknowledgement is
asked for before each wait; the kernel forgets the request soon.

Source: PS3.8 9.1.
"""

import fcntl
import select
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pacsnode.network.association_end import AssociationEnd

_LOOK_SECONDS: Final = 1.0
_DROPPED_AT_ONCE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take.

    Attributes:
        negotiation_seconds: from the connection to the end of its A-ASSOCIATE-RQ.
        message_seconds: for a PDU that has begun, between two of a message, and for taking what we
            send.
        idle_seconds: between two messages.

    Source: rule H-17.
    """

    negotiation_seconds: float
    message_seconds: float
    idle_seconds: float


class Transport:
    """A connection, accepted or requested; one thread uses it, but for `interrupt`.

    Attributes:
        while_waiting: called about every second while the peer keeps us waiting; None: nothing is.
    """

    def __init__(self, connection: socket.socket, timeouts: Timeouts) -> None:
        """Take over a connection.

        Raises:
            OSError: the peer has gone already.
        """
        self.while_waiting: Callable[[], None] | None = None
        self._connection = connection
        self._timeouts = timeouts
        self._interruption: AssociationEnd | None = None
        self._closing = threading.Lock()  # so that nobody interrupts a descriptor used again
        self._is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
        connection.settimeout(0)
        if self._is_tcp:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(connection, select.POLLIN)
        self._writable.register(connection, select.POLLOUT)

    def send(self, content: bytes | memoryview) -> None:
        """Hand bytes to the kernel; returns when it has them all.

        Raises:
            AssociationEnd: the peer has gone, or takes nothing for the time of a message.
        """
        self._send_all(content, is_whole=True)

    def _send_all(self, content: bytes | memoryview, *, is_whole: bool) -> None:
        """Send; unless it is whole, something went before that has to be finished."""
        left = memoryview(content)
        deadline = time.monotonic() + self._timeouts.message_seconds
        while left:
            # Not longer at a time: an interrupt is not seen by who waits to send.
            look_at = min(deadline, time.monotonic() + _LOOK_SECONDS)
            count = self._attempt(self._connection.send, left, self._writable, look_at)
            now = time.monotonic()
            if count is not None:
                left = left[count:]
                deadline = now + self._timeouts.message_seconds
            elif now > deadline:
                seconds = self._timeouts.message_seconds
                raise AssociationEnd(f"the peer takes nothing for {seconds:g} s")
            elif self._interruption is not None:
                if is_whole and len(left) == len(content):
                    raise self._interruption
                # In the middle of a PDU nothing else can be said any more.
                raise AssociationEnd(self._interruption.reason)
            elif self.while_waiting is not None:
                self.while_waiting()

    def unacknowledged_bytes(self) -> int:
        """Return how much of what was sent the peer's kernel has not taken yet."""
        try:
            answer = fcntl.ioctl(self._connection.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:  # it is closed
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def interrupt(self, end: AssociationEnd) -> None:
        """Have the thread that uses the connection raise this; called by another thread."""
        self._interruption = end
        with self._closing, suppress(OSError):  # the peer was faster, or it is closed
            # Not the TLS layer's own method, which would take the TLS layer off.
            socket.socket.shutdown(self._connection, socket.SHUT_RD)

    @property
    def is_interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._interruption is not None

    def raise_if_interrupted(self) -> None:
        """Raise what `interrupt` was given, if it was called.

        Raises:
            AssociationEnd: see there.
        """
        if self._interruption is not None:
            raise self._interruption

    def close(self, linger_seconds: float) -> None:
        """Close the connection, after the peer has had some time to close it first.

        A connection that is closed while something unread lies in it is reset, and what was sent
        last may be lost with it: an A-ABORT or A-ASSOCIATE-RJ that nobody reads.

        Source: PS3.8 9.2.3, state Sta13.
        """
        deadline = time.monotonic() + linger_seconds
        try:
            if linger_seconds:
                if isinstance(self._connection, ssl.SSLSocket):
                    with suppress(OSError, ValueError):  # the peer's is not waited for
                        self._connection.unwrap()  # RFC 8446 6.1: close_notify
                self._connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                try:
                    if not self._connection.recv(_DROPPED_AT_ONCE_BYTES):
                        break
                except (BlockingIOError, ssl.SSLWantReadError):
                    wait(self._readable, deadline)
        except (OSError, ValueError):
            pass  # whatever it is, there is nobody to tell
        finally:
            with self._closing:
                self._connection.close()
            # An error whose traceback knows this would keep it until the collector comes.
            self._interruption = None

    def _look_at(self, deadline: float) -> float:
        """Return until when to wait at once: not for long if somebody is to be told of it."""
        if self.while_waiting is None:
            return deadline
        return min(deadline, time.monotonic() + _LOOK_SECONDS)

    def _attempt(
        self,
        operation: Callable[[memoryview], int],
        content: memoryview,
        possible: select.poll,
        deadline: float,
    ) -> int | None:
        """Receive or send at once, and return how much; None after waiting for it to be possible.

        With a deadline of 0 it does not wait. A TLS layer may have to send in order to receive, and
        the other way round.
        """
        try:
            return operation(content)
        except BlockingIOError:
            waiting_for = possible
        except ssl.SSLWantReadError:
            waiting_for = self._readable
        except ssl.SSLWantWriteError:
            waiting_for = self._writable
        except OSError as error:
            raise connection_lost(error) from error
        if deadline:
            if self._is_tcp and waiting_for is self._readable:
                with suppress(OSError):  # the next attempt tells
                    self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            wait(waiting_for, deadline)
        return None


def connection_lost(error: OSError) -> AssociationEnd:
    """Return the end that an error of the network is."""
    tls = "TLS: " if isinstance(error, ssl.SSLError) else ""
    return AssociationEnd(f"connection lost: {tls}{words_of(error)}")


def words_of(error: Exception) -> str:
    """Return what an error of the network, of a name server or of TLS says, for a line in a log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        # Without what names a line of Python's own source.
        return (error.reason or str(error).partition(" (_ssl")[0]).replace("_", " ").lower()
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    if isinstance(error, UnicodeError):
        return "it is none that may be looked up"
    return str(error)


def wait(possible: select.poll, deadline: float) -> None:
    """Sleep until it is possible, or the deadline."""
    possible.poll(max(0.0, deadline - time.monotonic()) * 1000)
