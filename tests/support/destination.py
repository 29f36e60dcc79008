"""A Move Destination that does as it is told, rule or no rule, and remembers what it was sent.

`storescp` of DCMTK is the peer of most tests; this one accepts only some SOP Classes or Transfer
Syntaxes, answers with chosen statuses, and misbehaves in each way that a peer was ever seen to. It
shares no code with the node: an independent reading of PS3.7 and PS3.8.

How it works: a thread for each connection reads PDUs and puts them together to messages. A Script
is asked at four points what to do; what it does not say is done as the Standard has it.
"""

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread

from pydicom.uid import CTImageStorage

from tests.support import hostile
from tests.support.conversation import C_ECHO, C_STORE, Conversation, ConversationOver
from tests.support.wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    decoded_command,
    items_of,
)

_NATIVE = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_RQ_HEAD_LENGTH = 68  # protocol version, both titles, reserved fields
_CALLING_NOT_RECOGNISED = (1, 1, 3)
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
_NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 3, 4
_JOIN_SECONDS = 10


@dataclass(frozen=True, slots=True)
class ReceivedStore:
    """One C-STORE request, and the association it came in.

    Attributes:
        association: its number among those of the destination, from 1.
        move_originator_ae_title: None if the request had none.
        move_originator_message_id: the same.
    """

    association: int
    calling_ae_title: str
    called_ae_title: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    message_id: int
    priority: int
    move_originator_ae_title: str | None
    move_originator_message_id: int | None
    encoded_data_set: bytes


@dataclass(slots=True)
class Destination:
    """A running destination.

    Attributes:
        port: where it listens, on loopback.
        associations: how many were accepted.
        proposed: of each association request: pairs of abstract syntax and transfer syntaxes.
        received: the requests in the order of arrival.
        endings: of associations, in the order in which they ended: "released", "aborted" or
            "lost", as the requestor did it; those that the destination ended are not among them.
        longest_pdu: that came with parts of messages, in bytes, without type and length.
    """

    ae_title: str
    port: int = 0
    associations: int = 0
    proposed: list[list[tuple[str, tuple[str, ...]]]] = field(default_factory=list)
    received: list[ReceivedStore] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    longest_pdu: int = 0
    lock: Lock = field(default_factory=Lock)

    def forget(self) -> None:
        """Forget what was received so far."""
        with self.lock:
            self.received.clear()
            self.proposed.clear()
            self.endings.clear()
            self.associations = self.longest_pdu = 0

    @property
    def received_uids(self) -> list[str]:
        """The SOP Instance UIDs in the order of arrival."""
        return [store.sop_instance_uid for store in self.received]


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Script:
    """What a destination does otherwise than a polite one.

    Attributes:
        rejects: result, source and reason of its A-ASSOCIATE-RJ; None accepts.
        most_associations: that it accepts in all before it rejects for now; 0 is no limit.
        maximum_length: of a PDU, as it announces it; 0 is no limit. It takes all the same.
        receive_buffer_bytes: how much the kernel takes in that it does not read; 0 leaves it to it.
        on_connection: called before the association request is read.
        on_command: called when the Command Set of a C-STORE has come, and its Data Set has not.
        on_store: called when all of a C-STORE has come, in place of the answer.
        pace: called before each piece that is read.
    """

    rejects: tuple[int, int, int] | None = None
    most_associations: int = 0
    maximum_length: int = 131072
    receive_buffer_bytes: int = 0
    on_connection: Callable[[Conversation], None] = _nothing
    on_command: Callable[[Conversation], None] = _nothing
    on_store: Callable[[Conversation, ReceivedStore], None] | None = None
    pace: Callable[[], None] = _nothing


@contextmanager
def destination(  # noqa: PLR0913 - what it accepts, what it answers, what else it does
    ae_title: str = "DEST",
    sop_class_uids: Sequence[str] = (CTImageStorage,),
    transfer_syntax_uids: Sequence[str] = _NATIVE,
    status_of: Callable[[ReceivedStore], int] = lambda _: 0x0000,
    *,
    rejects: bool = False,
    script: Script | None = None,
    port: int = 0,
) -> Iterator[Destination]:
    """Run a destination that accepts these SOP Classes in these Transfer Syntaxes.

    Args:
        ae_title: its title; any called title is accepted.
        sop_class_uids: all others are refused with result 3.
        transfer_syntax_uids: for each of the classes, in the order of preference.
        status_of: gives the status of the answer; may block to make the destination slow.
        rejects: refuse every association.
        script: what it does besides, or instead.
        port: 0 draws one.
    """
    asked = script or Script(rejects=_CALLING_NOT_RECOGNISED if rejects else None)
    listener = socket.create_server(("127.0.0.1", port))
    if asked.receive_buffer_bytes:  # before a connection is there: it sets its window
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked.receive_buffer_bytes)
    running = Destination(ae_title, listener.getsockname()[1])
    acceptor = _Acceptor(
        running, frozenset(sop_class_uids), tuple(transfer_syntax_uids), status_of, asked
    )
    thread = Thread(target=acceptor.serve, args=(listener,))
    thread.start()
    try:
        yield running
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(_JOIN_SECONDS)
        listener.close()
        acceptor.end()


@dataclass(slots=True)
class _Acceptor:
    """The threads of one destination."""

    running: Destination
    sop_class_uids: frozenset[str]
    transfer_syntax_uids: tuple[str, ...]
    status_of: Callable[[ReceivedStore], int]
    script: Script
    connections: list[tuple[Thread, socket.socket]] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Accept connections until the listener is shut down."""
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = Thread(target=self._converse, args=(Conversation(connection),))
                self.connections.append((thread, connection))
                thread.start()

    def end(self) -> None:
        """End every connection."""
        for thread, connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(_JOIN_SECONDS)

    def _converse(self, talk: Conversation) -> None:
        ending = "lost"
        with talk.connection:
            try:
                self.script.on_connection(talk)
                self._negotiate(talk)
                self._serve_requests(talk)
            except ConversationOver as over:
                ending = str(over)
            except OSError:
                pass
        if ending and talk.number:
            with self.running.lock:
                self.running.endings.append(ending)

    def _negotiate(self, talk: Conversation) -> None:
        """Answer the association request (PS3.8 9.3.2 to 9.3.4)."""
        _, body = talk.read_pdu(self.script.pace)
        if triple := self._refusal():
            talk.say(hostile.pdu(hostile.ASSOCIATE_RJ, bytes((0, *triple))))
            talk.ignore()
        talk.titles = body[20:36].decode("ascii").strip(), body[4:20].decode("ascii").strip()
        answers = [hostile.application_context()]
        proposed = []
        for item_type, value in items_of(body[_RQ_HEAD_LENGTH:]):
            if item_type == 0x20:
                abstract, *syntaxes = (
                    uid.rstrip(b"\0 ").decode() for _, uid in items_of(value[4:])
                )
                proposed.append((abstract, tuple(syntaxes)))
                answers.append(self._context_answer(talk, value[0], abstract, syntaxes))
        with self.running.lock:
            self.running.associations += 1
            self.running.proposed.append(proposed)
            talk.number = self.running.associations
        user = hostile.item(0x51, struct.pack(">I", self.script.maximum_length))
        user += hostile.item(0x52, b"1.2.826.0.1.3680043.8.498.3")
        answers.append(hostile.item(0x50, user))
        talk.say(hostile.pdu(hostile.ASSOCIATE_AC, body[:_RQ_HEAD_LENGTH] + b"".join(answers)))

    def _refusal(self) -> tuple[int, int, int] | None:
        """Return what an association is rejected with; None for one that is accepted."""
        most = self.script.most_associations
        with self.running.lock:
            has_all = bool(most) and self.running.associations >= most
        return _LOCAL_LIMIT_EXCEEDED if has_all else self.script.rejects

    def _context_answer(
        self, talk: Conversation, context_id: int, abstract: str, syntaxes: Sequence[str]
    ) -> bytes:
        """Return the Presentation Context Item of A-ASSOCIATE-AC (PS3.8 9.3.3.2)."""
        is_known = abstract in self.sop_class_uids
        chosen = next((uid for uid in self.transfer_syntax_uids if uid in syntaxes), None)
        result = 0
        if not is_known or chosen is None:
            result = _NO_TRANSFER_SYNTAX if is_known else _NO_ABSTRACT_SYNTAX
        else:
            talk.contexts[context_id] = (abstract, chosen)
        named = hostile.item(0x40, (chosen or syntaxes[0]).encode())
        return hostile.item(0x21, bytes((context_id, 0, result, 0)) + named)

    def _serve_requests(self, talk: Conversation) -> None:
        parts: dict[bool, bytearray] = {True: bytearray(), False: bytearray()}
        while True:
            for context_id, control, fragment in self._next_values(talk):
                is_command = bool(control & hostile.COMMAND)
                parts[is_command] += fragment
                if not control & hostile.LAST:
                    continue
                if is_command:
                    talk.context_id, talk.command = context_id, decoded_command(bytes(parts[True]))
                    parts[True].clear()
                    self._command_came(talk)
                else:
                    data_set = bytes(parts[False])
                    parts[False].clear()
                    self._store_came(talk, data_set)

    def _next_values(self, talk: Conversation) -> Iterator[tuple[int, int, bytes]]:
        """Yield context id, control header and fragment of the values in the next P-DATA-TF."""
        pdu_type, body = talk.read_pdu(self.script.pace)
        if pdu_type == hostile.RELEASE_RQ:
            talk.say(hostile.pdu(hostile.RELEASE_RP, bytes(4)))
            raise ConversationOver("released")
        if pdu_type != hostile.P_DATA:
            raise ConversationOver("aborted")
        with self.running.lock:
            self.running.longest_pdu = max(self.running.longest_pdu, len(body))
        start = 0
        while start < len(body):
            length = int.from_bytes(body[start : start + 4], "big")
            yield body[start + 4], body[start + 5], body[start + 6 : start + 4 + length]
            start += 4 + length

    def _command_came(self, talk: Conversation) -> None:
        if talk.command[0x0100] == C_ECHO:
            talk.answer(0x0000)
            return
        assert talk.command[0x0100] == C_STORE
        talk.stores += 1
        self.script.on_command(talk)

    def _store_came(self, talk: Conversation, data_set: bytes) -> None:
        store = _received(talk, data_set)
        with self.running.lock:
            self.running.received.append(store)
        if self.script.on_store is None:
            talk.answer(self.status_of(store))
        else:
            self.script.on_store(talk, store)


def _received(talk: Conversation, data_set: bytes) -> ReceivedStore:
    originator, originator_id = talk.command.get(0x1030), talk.command.get(0x1031)
    calling, called = talk.titles
    return ReceivedStore(
        association=talk.number,
        calling_ae_title=calling,
        called_ae_title=called,
        sop_class_uid=_text(talk.command[0x0002]),
        sop_instance_uid=_text(talk.command[0x1000]),
        transfer_syntax_uid=talk.contexts[talk.context_id][1],
        message_id=int.from_bytes(talk.command[0x0110], "little"),
        priority=int.from_bytes(talk.command[0x0700], "little"),
        move_originator_ae_title=None if originator is None else _text(originator),
        move_originator_message_id=(
            None if originator_id is None else int.from_bytes(originator_id, "little")
        ),
        encoded_data_set=data_set,
    )


def _text(value: bytes) -> str:
    return value.decode("ascii").strip(" \0")
