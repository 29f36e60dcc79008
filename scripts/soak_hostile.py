"""Peers that break off, fall silent or talk nonsense.

Source: PS3.8 9.3 (the PDUs that are cut short here).
"""

import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from soak_objects import SMALL
from soak_senders import Peer

from tests.support.wire import (
    VERIFICATION,
    Association,
    ProposedContext,
    storage_contexts,
)

# The timeouts of the node in the soak; short, so that each of them runs out again and again.
NEGOTIATION_TIMEOUT_SECONDS = 5
DIMSE_TIMEOUT_SECONDS = 10
IDLE_TIMEOUT_SECONDS = 10

_GRACE_SECONDS = 10.0
_MOST_HELD = 24
_P_DATA_HEADER = struct.pack(">BBI", 0x04, 0, 60_000)
_GARBAGE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    bytes.fromhex("16030100c8010000c40303") + bytes(190),  # TLS ClientHello
    struct.pack(">BBI", 0x01, 0, 0xFFFFFFFF) + bytes(64),  # A-ASSOCIATE-RQ of 4 GiB
    struct.pack(">BBI", 0x04, 0, 12) + bytes(12),  # P-DATA-TF without an association
    struct.pack(">BBI", 0xFF, 0, 4) + bytes(4),  # no PDU has this type
    bytes(range(256)),
)


@dataclass(slots=True)
class _Held:
    connection: socket.socket
    kind: str
    overdue_at: float


@dataclass(slots=True)
class Silences:
    """Connections on which nothing more is said; the node has to close each of them in time."""

    peer: Peer
    held: list[_Held] = field(default_factory=list)

    def open_some(self, random: Random) -> None:
        """Let go what the node has closed, then add silent connections of one sort."""
        self.look()
        if len(self.held) >= _MOST_HELD:
            return
        kind = random.choice(("silent", "garbage", "half a PDU", "idle"))
        match kind:
            case "silent":
                for _ in range(random.randint(1, 8)):
                    self._hold(self._connected(), kind, NEGOTIATION_TIMEOUT_SECONDS)
            case "garbage":
                connection = self._connected()
                connection.sendall(random.choice((*_GARBAGE, random.randbytes(500))))
                self._hold(connection, kind, NEGOTIATION_TIMEOUT_SECONDS)
            case "half a PDU":
                association = _in_mid_data_set(self.peer, random)
                association.socket.sendall(_P_DATA_HEADER + bytes(1000))
                self._hold(association.socket, kind, DIMSE_TIMEOUT_SECONDS)
            case _:
                association = Association(self.peer.address, [ProposedContext(VERIFICATION)])
                self._hold(association.socket, kind, IDLE_TIMEOUT_SECONDS)

    def look(self) -> None:
        """Let go what the node has closed, and what it should have closed long ago."""
        for held in tuple(self.held):
            is_closed = _is_closed(held.connection)
            if is_closed:
                self.peer.events.count(f"closed by the node: {held.kind}")
            elif time.monotonic() > held.overdue_at:
                self.peer.events.surprise(f"a connection was not closed in time: {held.kind}")
            else:
                continue
            held.connection.close()
            self.held.remove(held)

    def _connected(self) -> socket.socket:
        return socket.create_connection(self.peer.address, _GRACE_SECONDS)

    def _hold(self, connection: socket.socket, kind: str, timeout_seconds: float) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket module's own way
        overdue_at = time.monotonic() + timeout_seconds + _GRACE_SECONDS
        self.held.append(_Held(connection, kind, overdue_at))


def break_off(peer: Peer, random: Random) -> None:
    """Leave in the middle of a data set or of a PDU, in one of several ways."""
    association = _in_mid_data_set(peer, random)
    way = random.choice(("reset", "A-ABORT", "closed", "reset in a PDU", "closed in a PDU"))
    if way.endswith("in a PDU"):
        association.socket.sendall(_P_DATA_HEADER + bytes(random.randint(0, 50_000)))
    if way == "A-ABORT":
        association.abort()
    elif way.startswith("reset"):
        association.hang_up()
    else:
        association.socket.close()
    peer.events.count(f"broken off: {way}")


def _in_mid_data_set(peer: Peer, random: Random) -> Association:
    """Return an association in which part of a data set was sent; it is not in the ledger."""
    study = peer.ledger.new_study(random, random.choice((SMALL, None)))
    instance = peer.objects.instance(study, 0)
    association = Association(peer.address, storage_contexts([instance]))
    try:
        context_id = association.accepted(instance.sop_class_uid) or 1
        uids = instance.sop_class_uid.encode(), instance.sop_instance_uid.encode()
        association.send_store_request(context_id, *uids)
        part = instance.encoded_data_set[: random.randrange(len(instance.encoded_data_set))]
        association.send_data_set(context_id, part, is_complete=False)
    except BaseException:
        association.socket.close()
        raise
    return association


def _is_closed(connection: socket.socket) -> bool:
    """Tell whether the peer has closed a connection, whatever it said before."""
    with suppress(BlockingIOError):
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass
        return True
    return False
