"""A remote Application Entity whose every byte the test decides, over real connections.

`destination` serves what tests of retrievals need; this one is for a single association, of which a
test says each PDU, right or wrong. It shares no code with the node.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from tests.support import hostile
from tests.support.wire import decoded_command, items_of

_SECONDS = 20
_FIXED_FIELDS_LENGTH = 68  # protocol version, both titles, reserved fields
_CONTEXT_PROPOSED, _CONTEXT_ANSWERED, _TRANSFER_SYNTAX = 0x20, 0x21, 0x40

Part = Callable[[socket.socket], None]


@contextmanager
def peer(*parts: Part) -> Iterator[int]:
    """Yield the port of a peer that plays these parts, each on a connection of its own, in turn.

    What a part raises, a failed assertion, is raised at the end of the block.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        listener.settimeout(_SECONDS)
        played = executor.submit(_play, listener, parts)
        try:
            yield listener.getsockname()[1]
        except BaseException:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            raise
        played.result(_SECONDS)


def _play(listener: socket.socket, parts: tuple[Part, ...]) -> None:
    for part in parts:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_SECONDS)
            part(connection)


def next_pdu(connection: socket.socket) -> tuple[int, bytes] | None:
    """Return type and content of the next PDU; None if the connection was closed instead."""
    try:
        header = _read(connection, 6)
        return header[0], _read(connection, int.from_bytes(header[2:], "big"))
    except (ConnectionError, EOFError):
        return None


def _read(connection: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise EOFError
        content += part
    return bytes(content)


def accept(
    connection: socket.socket,
    results: Mapping[int, int] | None = None,
    maximum_length: int = 131_072,
) -> bytes:
    """Accept the association that is requested; return the content of the request.

    Args:
        connection: where it is to come.
        results: by context; all others are accepted with the first Transfer Syntax.
        maximum_length: that is announced.
    """
    found = next_pdu(connection)
    assert found is not None
    kind, request = found
    assert kind == hostile.ASSOCIATE_RQ
    answers = [hostile.application_context()]
    for item_type, value in items_of(request[_FIXED_FIELDS_LENGTH:]):
        if item_type == _CONTEXT_PROPOSED:
            syntax = next(uid for kind, uid in items_of(value[4:]) if kind == _TRANSFER_SYNTAX)
            answers.append(answered_context(value[0], (results or {}).get(value[0], 0), syntax))
    answers.append(hostile.item(0x50, hostile.item(0x51, maximum_length.to_bytes(4, "big"))))
    connection.sendall(associate_accept(request, *answers))
    return request


def answered_context(context_id: int, result: int, transfer_syntax: bytes) -> bytes:
    """Return the answer to a proposed context (PS3.8 9.3.3.2)."""
    named = hostile.item(_TRANSFER_SYNTAX, transfer_syntax)
    return hostile.item(_CONTEXT_ANSWERED, bytes((context_id, 0, result, 0)) + named)


def associate_accept(request: bytes, *items: bytes) -> bytes:
    """Return an A-ASSOCIATE-AC of these items."""
    return hostile.pdu(hostile.ASSOCIATE_AC, request[:_FIXED_FIELDS_LENGTH] + b"".join(items))


def read_command(connection: socket.socket) -> dict[int, bytes]:
    """Return the command set of the next message, which comes in PDUs of one fragment each."""
    command = b""
    while True:
        found = next_pdu(connection)
        assert found is not None
        kind, content = found
        assert kind == hostile.P_DATA
        command += content[6:]
        if content[5] & hostile.LAST:
            return decoded_command(command)


def response(command: Mapping[int, bytes], status: int, **changes: bytes) -> bytes:
    """Return the response to a request in context 1; changes are elements, by `_` and number."""
    values = {
        0x0002: command[0x0002],
        0x0100: hostile.us(int.from_bytes(command[0x0100], "little") | 0x8000),
        0x0120: command[0x0110],
        0x0800: hostile.us(0x0101),
        0x0900: hostile.us(status),
    }
    values |= {int(name[1:], 16): value for name, value in changes.items()}
    return hostile.message(1, hostile.encoded_command(values))


def release_politely(connection: socket.socket) -> None:
    """Answer the release that is requested next."""
    assert next_pdu(connection) == (hostile.RELEASE_RQ, bytes(4))
    connection.sendall(hostile.pdu(hostile.RELEASE_RP, bytes(4)))
    assert next_pdu(connection) is None
