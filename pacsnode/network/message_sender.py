"""What is sent on an association: messages, in fragments that the peer takes, and the last words.

What is sent goes to the kernel at once, from the thread that sends it.

Source: PS3.8 9.3.5 to 9.3.8, E.2; rule H-6.
"""

import mmap
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

from pacsnode.network.association_end import Abort, AssociationEnd
from pacsnode.network.p_data import IS_COMMAND, fragment_length, fragments
from pacsnode.network.pdu import ABORT, RELEASE_RP, RELEASE_RQ, encode_pdu
from pacsnode.network.transport import Timeouts, Transport, connection_lost

_BUFFER_BYTES: Final = 256 * 1024
_MOST_PARTS: Final = 1024  # that one call may send (IOV_MAX)
_MOST_FRAGMENTS: Final = 500  # each has two parts; tiny ones would take much memory
_SENT_TOGETHER_BYTES: Final = 256 * 1024
_PRIVATE_MEMORY: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class DataSetReader(Protocol):
    """An encoded data set that is read while it is sent."""

    @property
    def length_bytes(self) -> int:
        """Of all of it; even."""

    def read_into(self, room: memoryview) -> None:
        """Fill a buffer, not longer than what is left, with what comes next.

        Raises:
            OSError: it cannot be read, or is shorter than it was.
        """


class MessageSender(Transport):
    """The sending half of our end of an association.

    Attributes:
        peer_maximum_length_bytes: of the P-DATA-TF that the peer takes; 0 is no limit.
    """

    def __init__(self, connection: socket.socket, timeouts: Timeouts) -> None:
        """Take over a connection.

        Raises:
            OSError: the peer has gone already.
        """
        super().__init__(connection, timeouts)
        self.peer_maximum_length_bytes = 0
        self._sending_buffer: memoryview | None = None  # made for the first instance that is sent

    def send_message(self, context_id: int, command_set: bytes, data_set: bytes | None) -> None:
        """Send a message in as many P-DATA-TF as the peer's maximum length asks for.

        Raises:
            AssociationEnd: see `send`.

        Source: PS3.8 9.3.5, E.2; rule H-6.
        """
        pending, pending_bytes = [], 0
        contents = [(IS_COMMAND, command_set)]
        if data_set is not None:
            contents.append((0, data_set))
        step = self._fragment_length()
        for control, content in contents:
            for part in fragments(context_id, control, content, step):
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
        step = self._fragment_length()
        command = b"".join(fragments(context_id, IS_COMMAND, command_set, step))
        parts: list[bytes | memoryview] = []
        for data_set in data_sets:
            parts.append(command)
            parts += fragments(context_id, 0, data_set, step)
        self.send(b"".join(parts))

    def send_instance(self, context_id: int, command_set: bytes, data_set: DataSetReader) -> None:
        """Send a message whose data set is read while it is sent, of whatever length.

        What is read goes to the kernel from one buffer, each fragment behind its header in one
        call: no bytes are joined, and memory does not grow with the data set. (Measured against
        sendfile for each fragment and against slices of a map, this takes the least time for the
        PDUs of 16 KiB that most peers take, and a file that cannot be read is an error, not a
        signal.)

        Raises:
            AssociationEnd: see `send`.
            OSError: the data set cannot be read; in the middle of a message only an abort is left.

        Source: as of `send_message`.
        """
        if self._sending_buffer is None:
            self._sending_buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES, flags=_PRIVATE_MEMORY))
        step = self._fragment_length()
        room = self._sending_buffer[: step * max(1, min(_BUFFER_BYTES // step, _MOST_FRAGMENTS))]
        parts = list(fragments(context_id, IS_COMMAND, command_set, step))
        left_bytes = data_set.length_bytes
        while True:
            part = room[: min(left_bytes, len(room))]
            data_set.read_into(part)
            left_bytes -= len(part)
            parts += fragments(context_id, 0, part, step, is_end=not left_bytes)
            self._send_parts(parts)
            if not left_bytes:
                return
            parts = []

    def _send_parts(self, parts: list[bytes | memoryview]) -> None:
        """Hand the kernel many parts, without joining them where that pays."""
        if len(parts) > _MOST_PARTS or isinstance(self._connection, ssl.SSLSocket):
            self.send(b"".join(parts))
            return
        while parts:
            try:
                count = self._connection.sendmsg(parts)
            except BlockingIOError:
                count = 0
            except OSError as error:
                raise connection_lost(error) from error
            parts = _unsent(parts, count)
            if parts:  # the kernel has no more room: what is left of this part waits for it
                self._send_all(parts[0], is_whole=False)
                del parts[0]

    def _fragment_length(self) -> int:
        return fragment_length(self.peer_maximum_length_bytes, _BUFFER_BYTES)

    def send_release_request(self) -> None:
        """Ask for the release.

        Raises:
            AssociationEnd: see `send`.

        Source: PS3.8 9.3.6.
        """
        self.send(encode_pdu(RELEASE_RQ, bytes(4)))

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


def _unsent(parts: list[bytes | memoryview], count: int) -> list[bytes | memoryview]:
    """Return what is left of some parts when so many bytes of them are gone."""
    for place, part in enumerate(parts):
        if count < len(part):
            return [memoryview(part)[count:], *parts[place + 1 :]]
        count -= len(part)
    return []
