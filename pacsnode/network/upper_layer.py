"""The DICOM upper layer of a connection: PDUs in, PDUs out, without polling.

How it works. One thread owns the connection (transport.py) and its one buffer. It takes whatever
the kernel has, as much as the buffer holds, and hands out the fragments of messages as views into
that buffer: nothing is copied on its way from the kernel to the file. Where there is nothing it
sleeps until there is, or until a deadline. So an idle association costs nothing, and each deadline
holds whatever a peer does: bytes that trickle in do not put it off. What is sent is the matter of
message_sender.py.

The states of PS3.8 9.2 are the methods: `receive_associate_request` is Sta2 of the acceptor,
`receive_associate_answer` Sta5 and `receive_release` Sta7 of the requestor, `receive_fragment` Sta6
and `close` Sta13 of both.

Source: PS3.8 9.2, 9.3; rules H-6, H-17.
"""

import mmap
import socket
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from pacsnode.network.association_end import Abort, AssociationEnd
from pacsnode.network.message_sender import MessageSender
from pacsnode.network.p_data import IS_COMMAND, IS_LAST
from pacsnode.network.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    P_DATA_TF,
    PDU_HEADER,
    RELEASE_RP,
    RELEASE_RQ,
)
from pacsnode.network.transport import Timeouts

_PDV_HEADER: Final = struct.Struct(">LBB")
_CONTEXT_AND_CONTROL_BYTES: Final = 2

_BUFFER_BYTES: Final = 256 * 1024
_LONGEST_PDU_BYTES: Final = 2 * 1024 * 1024  # no setting lets peers send longer ones
# 128 contexts, each with all transfer syntaxes there are, take 170 KB.
_LONGEST_ASSOCIATE_PDU_BYTES: Final = 256 * 1024
_PRIVATE_MEMORY: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

_IDLE: Final = "idle for association.idle_timeout_seconds"
_SILENT: Final = "silent within a message for association.dimse_timeout_seconds"
_SLOW: Final = "a PDU took longer than association.dimse_timeout_seconds"


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


class UpperLayer(MessageSender):
    """Our end of a connection, accepted or requested; one thread uses it, but for `interrupt`.

    Attributes:
        last_active_at: when the last PDU began, or `touch` was called, on the monotonic clock.
        on_full: called before the contents of fragments handed out are overwritten; None if nobody
            holds any.
    """

    def __init__(self, connection: socket.socket, timeouts: Timeouts) -> None:
        """Take over a connection.

        Raises:
            OSError: the peer has gone already.
        """
        super().__init__(connection, timeouts)
        self.last_active_at = time.monotonic()
        self.on_full: Callable[[], None] | None = None
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
        if length > _LONGEST_ASSOCIATE_PDU_BYTES:
            reason = f"the association request says that it has {length} bytes"
            raise AssociationEnd(reason, abort=Abort.BY_USER)
        return self._receive_content(length, limit)

    def receive_associate_answer(self) -> tuple[int, bytes]:
        """Return type and content, without its header, of the answer to an A-ASSOCIATE-RQ.

        It is an A-ASSOCIATE-AC or an A-ASSOCIATE-RJ.

        Raises:
            AssociationEnd: something else has come, it is too long, or not here in time.

        Source: PS3.8 9.2.3, state Sta5.
        """
        seconds = self._timeouts.negotiation_seconds
        limit = _Limit(
            time.monotonic() + seconds, f"no answer in {seconds:g} s", abort=Abort.BY_USER
        )
        kind, length = self._receive_pdu_header(limit)
        if kind == ABORT:
            raise AssociationEnd("it has aborted the association request")
        if kind not in {ASSOCIATE_AC, ASSOCIATE_RJ}:
            reason = f"it answers with a PDU of type {kind:02X}H"
            raise AssociationEnd(reason, abort=Abort.UNEXPECTED_PDU)
        if length > _LONGEST_ASSOCIATE_PDU_BYTES:
            reason = f"its answer says that it has {length} bytes"
            raise AssociationEnd(reason, abort=Abort.INVALID_PARAMETER)
        return kind, self._receive_content(length, limit)

    def receive_release(self, timeout_seconds: float) -> None:
        """Wait for the answer to a release that we have requested; what else comes is dropped.

        A peer that requests the release at the same time is answered, as the requestor has to.

        Args:
            timeout_seconds: for all of it.

        Raises:
            AssociationEnd: it has aborted, or says nothing in time.

        Source: PS3.8 7.2.2, 9.2.3, states Sta7, Sta9 and Sta11.
        """
        deadline = time.monotonic() + timeout_seconds
        limit = _Limit(deadline, "no answer to the release", Abort.BY_USER)
        self._receive_content(self._pdu_left_bytes, limit)
        self._pdv_left_bytes, self._pdu_left_bytes = -1, 0
        while time.monotonic() < deadline:
            kind, length = self._receive_pdu_header(limit)
            self._receive_content(length, limit)
            if kind == RELEASE_RP:
                return
            if kind == ABORT:
                raise AssociationEnd("the peer has aborted the association")
            if kind == RELEASE_RQ:
                self.send_release_response()
        raise AssociationEnd(limit.reason, abort=limit.abort)

    def _receive_content(self, length: int, limit: _Limit) -> bytes:
        """Return what a PDU has behind its header."""
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
            is_last = bool(self._control & IS_LAST)
        return Fragment(self._context_id, bool(self._control & IS_COMMAND), is_last, content)

    def rewind(self) -> None:
        """Use the buffer from its start again; nobody holds a fragment any more."""
        if self._start == self._end:
            self._start = self._end = 0

    def touch(self) -> None:
        """Take note that a message was served until now: what is left of a PDU has time again."""
        self.last_active_at = now = time.monotonic()
        self._pdu_limit = self._pdu_limit._replace(deadline=now + self._timeouts.message_seconds)

    def has_pdu(self, until: float = 0.0) -> bool:
        """Tell whether the rest of a PDU has come, or as much as the buffer holds.

        To be called while nobody holds a fragment.

        Args:
            until: a time of the monotonic clock to wait for it at most; 0.0 does not wait.

        Raises:
            AssociationEnd: the connection is over, or was interrupted.
        """
        self.raise_if_interrupted()
        self.rewind()
        while self._end - self._start < min(self._expected_bytes(), _BUFFER_BYTES):
            if self._end == _BUFFER_BYTES:
                self._make_room()
            room = self._buffer[self._end :]
            count = self._attempt(self._connection.recv_into, room, self._readable, until)
            if count is not None:
                self._take(count)
            elif time.monotonic() >= until:
                return False
            self.raise_if_interrupted()
        return True

    def _expected_bytes(self) -> int:
        """Return how many bytes make the rest of the PDU that has begun, or the next one."""
        if self._pdu_left_bytes:
            return self._pdu_left_bytes
        if self._end - self._start < PDU_HEADER.size:
            return PDU_HEADER.size
        kind, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        if not ASSOCIATE_RQ <= kind <= ABORT or length > _LONGEST_PDU_BYTES:
            return PDU_HEADER.size  # what is no PDU is not waited for: whoever reads it finds out
        return PDU_HEADER.size + int(length)

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
            raise AssociationEnd("the peer has aborted the association")
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
        until = self._look_at(limit.deadline)
        while (count := self._attempt(receive, room, self._readable, until)) is None:
            self.raise_if_interrupted()
            # Only now that there is nothing: what lies in the kernel was not late, we were.
            if time.monotonic() > limit.deadline:
                raise AssociationEnd(limit.reason, abort=limit.abort)
            if self.while_waiting is not None:
                self.while_waiting()
            until = self._look_at(limit.deadline)
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

    def close(self, linger_seconds: float) -> None:
        """Close the connection; see Transport."""
        super().close(linger_seconds)
        # An error whose traceback knows this would keep it until the collector comes.
        self._buffer = memoryview(b"")
