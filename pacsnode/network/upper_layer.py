"""The DICOM upper layer of an accepted connection: PDUs in, PDUs out, without polling.

How it works. One thread owns the connection and its one buffer. It takes whatever the kernel has,
as much as the buffer holds, and hands out the fragments of messages as views into that buffer:
nothing is copied on its way from the kernel to the file. Where there is nothing to read it sleeps
in poll(2) until there is, or until a deadline. What is sent goes to the kernel at once, from the
same thread. So an idle association costs nothing, and each deadline holds whatever a peer does:
bytes that trickle in do not put it off.

A sender with Nagle's algorithm on, as nearly all have it, sends a message in small segments and
waits for the acknowledgement of each, which the kernel would delay by 40 ms. So acknowledgement is
asked for before each wait; the kernel forgets the request soon.

A connection may be a TLS socket: it is always read before it is waited for, so that what the TLS
layer has decrypted already is not waited for again.

The states of PS3.8 9.2 that an acceptor has are the methods: `receive_associate_request` is Sta2,
`receive_fragment` Sta6, `close` Sta13.

Source: PS3.8 9.2, 9.3; rules H-6, H-17.
"""

import mmap
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from pacsnode.network.pdu import (
    ABORT,
    ASSOCIATE_RQ,
    P_DATA_TF,
    PDU_HEADER,
    RELEASE_RP,
    RELEASE_RQ,
    encode_pdu,
)

_PDV_HEADER: Final = struct.Struct(">LBB")
_P_DATA_WITH_ONE_PDV: Final = struct.Struct(">BxLLBB")
_PDV_OVERHEAD_BYTES: Final = 6  # a P-DATA-TF with one fragment is longer than it by so much
_CONTEXT_AND_CONTROL_BYTES: Final = 2
_IS_COMMAND: Final = 1
_IS_LAST: Final = 2

_BUFFER_BYTES: Final = 256 * 1024
_LONGEST_PDU_BYTES: Final = 2 * 1024 * 1024  # no setting lets peers send longer ones
# 128 contexts, each with all transfer syntaxes there are, take 170 KB.
_LONGEST_ASSOCIATE_RQ_BYTES: Final = 256 * 1024
# PDVs of a peer that takes PDUs of any length.
_LONGEST_SENT_PDU_BYTES: Final = 1024 * 1024
_SENT_TOGETHER_BYTES: Final = 256 * 1024
_LOOK_SECONDS: Final = 1.0
_PRIVATE_MEMORY: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

_IDLE: Final = "idle for association.idle_timeout_seconds"
_SILENT: Final = "silent within a message for association.dimse_timeout_seconds"
_SLOW: Final = "a PDU took longer than association.dimse_timeout_seconds"


class Abort(Enum):
    """Source and reason of an A-ABORT. Source: PS3.8 table 9-26."""

    BY_USER = (0, 0)
    UNRECOGNISED_PDU = (2, 1)
    UNEXPECTED_PDU = (2, 2)
    INVALID_PARAMETER = (2, 6)


class AssociationEnd(Exception):  # noqa: N818 - most ends are no errors
    """The association, or the connection before it, is over.

    Attributes:
        reason: for the administrator; empty after a release.
        is_released: the peer has asked for the release; it is to be answered.
        abort: the A-ABORT that is to be sent; None if there is nobody to send it to.
    """

    def __init__(
        self, reason: str, *, abort: Abort | None = None, is_released: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.abort = abort
        self.is_released = is_released


class Fragment(NamedTuple):
    """A fragment of a message, or the part of it that has arrived so far.

    Attributes:
        context_id: of the presentation context.
        is_command: of the command set; else of the data set.
        is_last: nothing more of the command set or data set follows.
        content: valid until the buffer is full (see `on_full`) or `rewind` is called.
    """

    context_id: int
    is_command: bool
    is_last: bool
    content: memoryview


class _Limit(NamedTuple):
    """Until when something must have come, and what it means if it has not."""

    deadline: float
    reason: str
    abort: Abort | None


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


class UpperLayer:
    """The acceptor's end of a connection; one thread uses it, but for `interrupt`.

    Attributes:
        last_active_at: when the last PDU began, or `touch` was called, on the monotonic clock.
        on_full: called before the contents of fragments handed out are overwritten; None if nobody
            holds any.
        peer_maximum_length_bytes: of the P-DATA-TF that the peer takes; 0 is no limit.
    """

    def __init__(self, connection: socket.socket, timeouts: Timeouts) -> None:
        """Take over a connection.

        Raises:
            OSError: the peer has gone already.
        """
        self.last_active_at = time.monotonic()
        self.on_full: Callable[[], None] | None = None
        self.peer_maximum_length_bytes = 0
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
        # Memory of a map is only taken when it is used, by the first large object.
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES, flags=_PRIVATE_MEMORY))
        self._start = self._end = 0  # of what has arrived and was not handed out
        self._pdu_left_bytes = 0
        self._pdv_left_bytes = -1  # between two PDVs
        self._pdu_limit = _Limit(0.0, _SLOW, Abort.BY_USER)
        self._context_id = self._control = 0

    # --- receiving

    def receive_associate_request(self) -> bytes:
        """Return the A-ASSOCIATE-RQ that a connection starts with, without its header.

        Raises:
            AssociationEnd: something else has come, it is too long, or not here in time.

        Source: PS3.8 9.2.3, state Sta2.
        """
        limit = _Limit(
            time.monotonic() + self._timeouts.negotiation_seconds,
            "no association request in association.negotiation_timeout_seconds",
            None,  # table 9-10: when ARTIM expires the connection is closed without a word (AA-2)
        )
        try:
            kind, length = self._receive_pdu_header(limit)
        except AssociationEnd as end:
            # Table 9-10, Sta2: whatever else it is, the A-ABORT has the user as its source (AA-1).
            end.abort = end.abort and Abort.BY_USER
            raise
        if kind != ASSOCIATE_RQ:
            # An A-ABORT is never answered (AA-2).
            answer = None if kind == ABORT else Abort.BY_USER
            raise AssociationEnd("the peer did not request an association", abort=answer)
        if length > _LONGEST_ASSOCIATE_RQ_BYTES:
            reason = f"the association request says that it has {length} bytes"
            raise AssociationEnd(reason, abort=Abort.BY_USER)
        content = bytearray()
        while len(content) < length:
            if self._start == self._end:
                self.rewind()
                self._receive_more(limit)
            part = self._buffer[self._start : min(self._end, self._start + length - len(content))]
            content += part
            self._start += len(part)
        return bytes(content)

    def receive_fragment(self, *, is_within_message: bool) -> Fragment:
        """Return the next fragment, or the next part of one that has not arrived as a whole.

        Args:
            is_within_message: a message has begun; so the peer may not be silent for as long as
                between two messages.

        Raises:
            AssociationEnd: by a release, an abort, a fault of the peer, or a timeout.

        Source: PS3.8 9.2.3, state Sta6; 9.3.5; E.2.
        """
        while self._pdv_left_bytes < 0:
            if self._pdu_left_bytes:
                self._begin_pdv()
            else:
                self._begin_pdu(is_within_message=is_within_message)
        if self._start == self._end and self._pdv_left_bytes:
            self._receive_more(self._pdu_limit)
        start = self._start
        self._start = min(self._end, start + self._pdv_left_bytes)
        content = self._buffer[start : self._start]
        length = len(content)
        self._pdu_left_bytes -= length
        self._pdv_left_bytes -= length
        is_last = False
        if not self._pdv_left_bytes:
            self._pdv_left_bytes = -1
            is_last = bool(self._control & _IS_LAST)
        return Fragment(self._context_id, bool(self._control & _IS_COMMAND), is_last, content)

    def rewind(self) -> None:
        """Use the buffer from its start again; nobody holds a fragment any more."""
        if self._start == self._end:
            self._start = self._end = 0

    def touch(self) -> None:
        """Take note that a message was served until now: what is left of a PDU has time again."""
        self.last_active_at = now = time.monotonic()
        self._pdu_limit = self._pdu_limit._replace(deadline=now + self._timeouts.message_seconds)

    def has_pdu(self) -> bool:
        """Tell whether the rest of a PDU has come, or as much as the buffer holds; does not wait.

        To be called while nobody holds a fragment.

        Raises:
            AssociationEnd: the connection is over, or was interrupted.
        """
        self.raise_if_interrupted()
        self.rewind()
        while self._end - self._start < min(self._expected_bytes(), _BUFFER_BYTES):
            if self._end == _BUFFER_BYTES:
                self._make_room()
            room = self._buffer[self._end :]
            count = self._attempt(self._connection.recv_into, room, self._readable, 0.0)
            if count is None:
                return False
            self._take(count)
        return True

    def _expected_bytes(self) -> int:
        """Return how many bytes make the rest of the PDU that has begun, or the next one."""
        if self._pdu_left_bytes:
            return self._pdu_left_bytes
        if self._end - self._start < PDU_HEADER.size:
            return PDU_HEADER.size
        _, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        return PDU_HEADER.size + int(length)

    def interrupt(self, end: AssociationEnd) -> None:
        """Have the thread that uses the connection raise this; called by another thread."""
        self._interruption = end
        with self._closing, suppress(OSError):  # the peer was faster, or it is closed
            # Not the TLS layer's own method, which would take the TLS layer off.
            socket.socket.shutdown(self._connection, socket.SHUT_RD)

    def raise_if_interrupted(self) -> None:
        """Raise what `interrupt` was given, if it was called.

        Raises:
            AssociationEnd: see there.
        """
        if self._interruption is not None:
            raise self._interruption

    def _begin_pdu(self, *, is_within_message: bool) -> None:
        """Take the header of a P-DATA-TF; any other PDU ends the association."""
        if self._start == self._end:
            if is_within_message:
                seconds, reason = self._timeouts.message_seconds, _SILENT
            else:
                self.rewind()
                seconds, reason = self._timeouts.idle_seconds, _IDLE
            self._receive_more(_Limit(time.monotonic() + seconds, reason, Abort.BY_USER))
        self.last_active_at = now = time.monotonic()
        self._pdu_limit = _Limit(now + self._timeouts.message_seconds, _SLOW, Abort.BY_USER)
        kind, length = self._receive_pdu_header(self._pdu_limit)
        if kind == P_DATA_TF:
            if not length:
                raise AssociationEnd("a P-DATA-TF is empty", abort=Abort.INVALID_PARAMETER)
            self._pdu_left_bytes = length
        elif kind == RELEASE_RQ:
            raise AssociationEnd("", is_released=True)
        elif kind == ABORT:
            raise AssociationEnd("the peer has aborted it")
        else:
            raise AssociationEnd(
                f"a PDU of type {kind:02X}H has no place here", abort=Abort.UNEXPECTED_PDU
            )

    def _receive_pdu_header(self, limit: _Limit) -> tuple[int, int]:
        """Return type and length of the PDU that begins, and step over both."""
        self._need(PDU_HEADER.size, limit)
        kind, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        self._start += PDU_HEADER.size
        if not ASSOCIATE_RQ <= kind <= ABORT:
            raise AssociationEnd(f"{kind:02X}H is no PDU type", abort=Abort.UNRECOGNISED_PDU)
        if length > _LONGEST_PDU_BYTES:
            # Rule H-6: longer than announced is a protocol error; it is not even read.
            raise AssociationEnd(
                f"a PDU says that it has {length} bytes", abort=Abort.INVALID_PARAMETER
            )
        return kind, length

    def _begin_pdv(self) -> None:
        """Take length, context and control of the next PDV of a PDU."""
        if self._pdu_left_bytes < _PDV_HEADER.size:
            raise AssociationEnd("a PDU ends within a PDV", abort=Abort.INVALID_PARAMETER)
        self._need(_PDV_HEADER.size, self._pdu_limit)
        length, self._context_id, self._control = _PDV_HEADER.unpack_from(self._buffer, self._start)
        self._start += _PDV_HEADER.size
        self._pdu_left_bytes -= _PDV_HEADER.size
        self._pdv_left_bytes = length - _CONTEXT_AND_CONTROL_BYTES
        if not 0 <= self._pdv_left_bytes <= self._pdu_left_bytes:
            reason = "the length of a PDV is wrong"
            raise AssociationEnd(reason, abort=Abort.INVALID_PARAMETER)

    def _need(self, count: int, limit: _Limit) -> None:
        """Return when so many bytes, few of them, lie in the buffer side by side."""
        while self._end - self._start < count:
            self._receive_more(limit)

    def _receive_more(self, limit: _Limit) -> None:
        """Read what the kernel has, and wait for something until the deadline."""
        self.raise_if_interrupted()
        if self._end == _BUFFER_BYTES:
            began_at = time.monotonic()
            self._make_room()
            # What we take to write it down is not the peer's time.
            limit = self._postponed(limit, time.monotonic() - began_at)
        receive, room = self._connection.recv_into, self._buffer[self._end :]
        while (count := self._attempt(receive, room, self._readable, limit.deadline)) is None:
            self.raise_if_interrupted()
            # Only now that there is nothing: what lies in the kernel was not late, we were.
            if time.monotonic() > limit.deadline:
                raise AssociationEnd(limit.reason, abort=limit.abort)
        self._take(count)

    def _take(self, count: int) -> None:
        """Take note of how much was read."""
        if not count:
            self.raise_if_interrupted()
            raise AssociationEnd("the peer has closed the connection")
        self._end += count

    def _postponed(self, limit: _Limit, seconds: float) -> _Limit:
        """Return a limit that is so much later; also for the rest of the PDU, if it is that."""
        later = limit._replace(deadline=limit.deadline + seconds)
        if limit is self._pdu_limit:
            self._pdu_limit = later
        return later

    def _make_room(self) -> None:
        """Let go of what was handed out, and move the little that was not to the start."""
        if self.on_full is not None:
            self.on_full()
        left = bytes(self._buffer[self._start : self._end])
        self._start, self._end = 0, len(left)
        self._buffer[: self._end] = left

    # --- sending

    def send(self, content: bytes) -> None:
        """Hand bytes to the kernel; returns when it has them all.

        Raises:
            AssociationEnd: the peer has gone, or takes nothing for the time of a message.
        """
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
                raise AssociationEnd("the peer takes nothing for association.dimse_timeout_seconds")
            elif self._interruption is not None:
                # In the middle of a PDU nothing else can be said any more.
                is_whole = len(left) == len(content)
                raise self._interruption if is_whole else AssociationEnd(self._interruption.reason)

    def send_message(self, context_id: int, command_set: bytes, data_set: bytes | None) -> None:
        """Send a message in as many P-DATA-TF as the peer's maximum length asks for.

        Raises:
            AssociationEnd: see `send`.

        Source: PS3.8 9.3.5, E.2; rule H-6.
        """
        pending, pending_bytes = [], 0
        contents = [(_IS_COMMAND, command_set)]
        if data_set is not None:
            contents.append((0, data_set))
        for control, content in contents:
            for part in self._p_data(context_id, control, content):
                pending.append(part)
                pending_bytes += len(part)
                if pending_bytes > _SENT_TOGETHER_BYTES:
                    self.send(b"".join(pending))
                    pending, pending_bytes = [], 0
        self.send(b"".join(pending))

    def send_messages(
        self, context_id: int, command_set: bytes, data_sets: Iterable[bytes]
    ) -> None:
        """Send messages that differ in their data sets only, all in one write.

        Raises:
            AssociationEnd: see `send`.

        Source: as of `send_message`.
        """
        command = b"".join(self._p_data(context_id, _IS_COMMAND, command_set))
        parts: list[bytes] = []
        for data_set in data_sets:
            parts.append(command)
            parts += self._p_data(context_id, 0, data_set)
        self.send(b"".join(parts))

    def _p_data(self, context_id: int, control: int, content: bytes) -> Iterator[bytes]:
        """Yield headers and fragments of a command set or data set."""
        maximum = self.peer_maximum_length_bytes or _LONGEST_SENT_PDU_BYTES
        # PS3.8 E.2: fragments have an even length; whoever takes less than one is given one.
        step = max(2, (min(maximum, _LONGEST_SENT_PDU_BYTES) - _PDV_OVERHEAD_BYTES) & ~1)
        for start in range(0, len(content) or 1, step):
            fragment = content[start : start + step]
            is_last = _IS_LAST if start + step >= len(content) else 0
            length = len(fragment)
            yield _P_DATA_WITH_ONE_PDV.pack(
                P_DATA_TF,
                length + _PDV_OVERHEAD_BYTES,
                length + _CONTEXT_AND_CONTROL_BYTES,
                context_id,
                control | is_last,
            )
            yield fragment

    def send_release_response(self) -> None:
        """Agree to a release.

        Raises:
            AssociationEnd: see `send`.

        Source: PS3.8 9.3.7.
        """
        self.send(encode_pdu(RELEASE_RP, bytes(4)))

    def send_abort(self, abort: Abort) -> None:
        """Abort; a peer that takes nothing hears of it by the end of the connection.

        Source: PS3.8 9.3.8.
        """
        pdu = memoryview(encode_pdu(ABORT, bytes((0, 0, *abort.value))))
        with suppress(AssociationEnd):
            self._attempt(self._connection.send, pdu, self._writable, 0.0)

    # --- the end

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
                    if not self._connection.recv_into(self._buffer):
                        break
                except (BlockingIOError, ssl.SSLWantReadError):
                    _wait(self._readable, deadline)
        except (OSError, ValueError):
            pass  # whatever it is, there is nobody to tell
        finally:
            with self._closing:
                self._connection.close()
            # An error whose traceback knows this would keep them until the collector comes.
            self._buffer = memoryview(b"")
            self._interruption = None

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
            reason = f"connection lost: {error.strerror or type(error).__name__}"
            raise AssociationEnd(reason) from error
        if deadline:
            if self._is_tcp and waiting_for is self._readable:
                with suppress(OSError):  # the next attempt tells
                    self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            _wait(waiting_for, deadline)
        return None


def _wait(possible: select.poll, deadline: float) -> None:
    """Sleep until it is possible, or the deadline."""
    possible.poll(max(0.0, deadline - time.monotonic()) * 1000)
