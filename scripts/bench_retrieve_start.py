"""How long after a C-MOVE request the first instance is on its way.

Source: PS3.4 C.4.2; PS3.8 9.3.2, 9.3.3.
"""

import socket
import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from bench_figures import Figure, MeasureError
from bench_objects import SMALL, Template
from bench_peers import LOOPBACK, PACSNODE
from bench_programs import running_program
from bench_retrieve_client import C_MOVE, REQUESTOR, Client, Study
from bench_retrieve_rates import LARGEST_LENGTH_BYTES
from bench_retrieve_receiver import Receiver, new_receiver
from bench_workspace import NODELAY, Workspace

_INSTANCES = 2000
_AIM_MILLISECONDS = 100
_MILLISECONDS_PER_SECOND = 1000
_LEAST_RUNS = 5
_TIMEOUT_SECONDS = 30
_ASSOCIATE_RQ, _ASSOCIATE_AC = 0x01, 0x02
_PDU_HEADER_LENGTH = 6
_FIXED_LENGTH = 68  # of an A-ASSOCIATE-RQ or AC, before its items
_APPLICATION_CONTEXT, _PROPOSED, _ACCEPTED, _TRANSFER_SYNTAX = 0x10, 0x20, 0x21, 0x40
_ITEM_HEADER_LENGTH = 4
_CONTEXT_HEADER_LENGTH = 4
_USER_INFORMATION, _MAXIMUM_LENGTH, _IMPLEMENTATION_CLASS_UID = 0x50, 0x51, 0x52
_OUR_CLASS_UID = b"1.2.826.0.1.3680043.8.498.4"


def measure_start(workspace: Workspace) -> list[Figure]:
    """Measure the time from the request to the first byte of the first C-STORE-RQ.

    The association to the destination, which is a socket of this process, lies in between.
    """
    # Each C-MOVE to a port of its own: nobody else connects there, not even to try again.
    receivers = [
        replace(new_receiver(LARGEST_LENGTH_BYTES), ae_title=f"START-{number}")
        for number in range(max(workspace.runs, _LEAST_RUNS) + 1)
    ]
    known = (REQUESTOR, *(receiver.known for receiver in receivers))
    peer = replace(PACSNODE, known=known)
    client = Client(workspace.folders.objects / "retrieve", NODELAY.variables())
    with workspace.server(peer, NODELAY) as server:
        workspace.progress(f"start of a C-MOVE: archiving {_INSTANCES} instances")
        uid = workspace.archive_study(server, Template(SMALL), _INSTANCES, NODELAY)
        study = Study(server, uid, _INSTANCES)
        workspace.progress("start of a C-MOVE")
        first, *others = [_start_milliseconds(client, study, each) for each in receivers]
    return [
        Figure(
            f"start of a C-MOVE of {_INSTANCES} instances: median",
            statistics.median(others),
            "ms",
            below=_AIM_MILLISECONDS,
            remark="from the request, as movescu logs it, to the first byte behind the "
            f"A-ASSOCIATE-AC at the destination; the first of all took {first:.1f} ms, the "
            f"slowest of the {len(others)} others {max(others):.1f} ms",
        )
    ]


def _start_milliseconds(client: Client, study: Study, receiver: Receiver) -> float:
    """Let a C-MOVE begin, and break it off.

    Raises:
        MeasureError: it does not send.
    """
    command = client.command(study, C_MOVE, receiver)
    with closing(socket.create_server((LOOPBACK, receiver.port))) as listener:
        listener.settimeout(_TIMEOUT_SECONDS)
        with running_program(command, client.variables):
            try:
                connection, _ = listener.accept()
                sent_at = _first_byte_at(connection)
            except TimeoutError:
                raise MeasureError("the C-MOVE has sent nothing") from None
    return (sent_at - client.requested_at(C_MOVE)) * _MILLISECONDS_PER_SECOND


def _first_byte_at(connection: socket.socket) -> float:
    """Accept an association, return when the first byte of what follows came; break it off.

    Raises:
        MeasureError: something else came.
    """
    with closing(connection):
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pdu_type, length = struct.unpack(">BxL", _read(connection, _PDU_HEADER_LENGTH))
        if pdu_type != _ASSOCIATE_RQ:
            raise MeasureError(f"a PDU of type {pdu_type} came to the destination")
        connection.sendall(_associate_ac(_read(connection, length)))
        _read(connection, 1)
        return time.time()


def _read(connection: socket.socket, length: int) -> bytes:
    received = connection.recv(length, socket.MSG_WAITALL)
    if len(received) < length:
        raise MeasureError("the connection to the destination has ended")
    return received


def _associate_ac(request: bytes) -> bytes:
    """Return an A-ASSOCIATE-AC that takes every Presentation Context, in its first syntax.

    Args:
        request: an A-ASSOCIATE-RQ without its header.
    """
    items = b""
    for item_type, content in _items(request[_FIXED_LENGTH:]):
        if item_type == _APPLICATION_CONTEXT:
            items += _item(item_type, content)
        elif item_type == _PROPOSED:
            syntaxes = _items(content[_CONTEXT_HEADER_LENGTH:])
            syntax = next(uid for kind, uid in syntaxes if kind == _TRANSFER_SYNTAX)
            header = struct.pack(">B3x", content[0])
            items += _item(_ACCEPTED, header + _item(_TRANSFER_SYNTAX, syntax))
    information = _item(_MAXIMUM_LENGTH, struct.pack(">L", LARGEST_LENGTH_BYTES))
    information += _item(_IMPLEMENTATION_CLASS_UID, _OUR_CLASS_UID)
    body = request[:_FIXED_LENGTH] + items + _item(_USER_INFORMATION, information)
    return struct.pack(">BxL", _ASSOCIATE_AC, len(body)) + body


def _items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each item."""
    while encoded:
        item_type, length = struct.unpack_from(">BxH", encoded)
        yield item_type, encoded[_ITEM_HEADER_LENGTH : _ITEM_HEADER_LENGTH + length]
        encoded = encoded[_ITEM_HEADER_LENGTH + length :]


def _item(item_type: int, content: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(content)) + content
