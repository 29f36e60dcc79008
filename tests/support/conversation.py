"""One association from an acceptor's side, for a script to act on: answer, or misbehave.

`destination` runs it. It shares no code with the node: an independent reading of PS3.7 and PS3.8.
"""

import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support import hostile

C_STORE, C_ECHO = b"\x01\x00", b"\x30\x00"
_NO_DATA_SET = b"\x01\x01"


class ConversationOver(Exception):  # noqa: N818 - a state, not a fault
    """The conversation is over; the argument says how it ended."""


@dataclass(slots=True)
class Conversation:
    """One association from the destination's side, for a script to act on.

    Attributes:
        number: among the associations of the destination, from 1.
        stores: how many C-STORE requests came on it so far, the latest included.
        command: the Command Set of the latest request: raw values by element number.
        context_id: of the latest request.
    """

    connection: socket.socket
    number: int = 0
    stores: int = 0
    command: dict[int, bytes] = field(default_factory=dict)
    context_id: int = 0
    contexts: dict[int, tuple[str, str]] = field(default_factory=dict)
    titles: tuple[str, str] = ("", "")

    def answer(self, status: int, error_comment: str = "", message_id: int | None = None) -> None:
        """Answer the latest request, with its Message ID unless another is given."""
        is_store = self.command[0x0100] == C_STORE
        values = {
            0x0002: self.command[0x0002],
            0x0100: hostile.us(0x8001 if is_store else 0x8030),
            0x0120: self.command[0x0110] if message_id is None else hostile.us(message_id),
            0x0800: _NO_DATA_SET,
            0x0900: hostile.us(status),
        }
        if is_store:
            values[0x1000] = self.command[0x1000]
        if error_comment:
            values[0x0902] = error_comment.encode() + b" " * (len(error_comment) % 2)
        self.say(hostile.message(self.context_id, hostile.encoded_command(values)))

    def say(self, content: bytes) -> None:
        """Send these bytes."""
        self.connection.sendall(content)

    def abort(self) -> None:
        """Send A-ABORT and hang up."""
        self.say(hostile.pdu(hostile.ABORT, bytes(4)))
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection without a word."""
        raise ConversationOver("")

    def reset(self) -> None:
        """Close the connection as a crash or a pulled cable would: with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConversationOver("")

    def ignore(self) -> None:
        """Read what comes and answer nothing any more, until the peer has had enough."""
        while self.connection.recv(1 << 16):
            pass
        raise ConversationOver("lost")

    def stop_reading(self) -> None:
        """Leave what comes where it is, until the peer has had enough."""
        waiting = select.poll()
        waiting.register(self.connection, select.POLLRDHUP)
        waiting.poll()
        raise ConversationOver("lost")

    def _read(self, length: int, pace: Callable[[], None]) -> bytes:
        content = bytearray()
        while len(content) < length:
            pace()
            part = self.connection.recv(min(length - len(content), 1 << 16))
            if not part:
                raise ConversationOver("lost")
            content += part
        return bytes(content)

    def read_pdu(self, pace: Callable[[], None]) -> tuple[int, bytes]:
        """Return type and body of the next PDU; `pace` is called before each piece of it."""
        pdu_type, _, length = struct.unpack(">BBI", self._read(6, pace))
        return int(pdu_type), self._read(length, pace)
