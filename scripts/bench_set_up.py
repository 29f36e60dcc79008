"""How long an association takes to be set up, as a requestor with much to propose meets it.

A plain socket sends an A-ASSOCIATE-RQ that was built before; so neither a toolkit nor the encoding
of the request counts.

Source: PS3.8 9.3.
"""

import socket
import struct
import time

from pynetdicom import StoragePresentationContexts

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_TRANSFER_SYNTAXES = (b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2")
_IMPLEMENTATION_CLASS_UID = b"1.2.826.0.1.3680043.8.498.3"
_MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: their ids are the odd numbers of one byte
_MAXIMUM_LENGTH_BYTES = 16384
_ASSOCIATE_AC = 0x02
_RELEASE_RQ = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
_PDU_HEADER_LENGTH = 6
_TIMEOUT_SECONDS = 30


class SetUpError(Exception):
    """The acceptor did something else than accepting the association."""


def set_up_seconds(address: tuple[str, int], called_ae_title: str) -> float:
    """Return the time from asking for the TCP connection to having read the A-ASSOCIATE-AC.

    128 contexts of storage with three Transfer Syntaxes each are proposed. The association is
    released afterwards, which does not count.

    Raises:
        OSError: there is no connection, or it was lost.
        SetUpError: the association was not accepted.
    """
    request = _associate_rq(called_ae_title.encode("ascii"))
    started_at = time.perf_counter()
    with socket.create_connection(address, _TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        pdu_type = _read_pdu(connection)
        seconds = time.perf_counter() - started_at
        if pdu_type != _ASSOCIATE_AC:
            raise SetUpError(f"the answer to A-ASSOCIATE-RQ is a PDU of type {pdu_type}")
        connection.sendall(_RELEASE_RQ)
        _read_pdu(connection)
    return seconds


def _read_pdu(connection: socket.socket) -> int:
    """Read one whole PDU and return its type."""
    header = _read(connection, _PDU_HEADER_LENGTH)
    pdu_type, length = struct.unpack(">BxL", header)
    _read(connection, length)
    return int(pdu_type)


def _read(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            raise SetUpError("the acceptor has closed the connection")
        received += part
    return bytes(received)


def _associate_rq(called_ae_title: bytes) -> bytes:
    """Return the PDU (PS3.8 9.3.2)."""
    uids = [str(context.abstract_syntax) for context in StoragePresentationContexts]
    contexts = b"".join(
        _presentation_context(2 * place + 1, uid.encode("ascii"))
        for place, uid in enumerate(uids[:_MOST_CONTEXTS])
    )
    user_information = _item(0x51, struct.pack(">L", _MAXIMUM_LENGTH_BYTES)) + _item(
        0x52, _IMPLEMENTATION_CLASS_UID
    )
    body = (
        struct.pack(">H2x16s16s32x", 1, called_ae_title.ljust(16), b"BENCH".ljust(16))
        + _item(0x10, _APPLICATION_CONTEXT)
        + contexts
        + _item(0x50, user_information)
    )
    return struct.pack(">BxL", 1, len(body)) + body


def _presentation_context(context_id: int, abstract_syntax: bytes) -> bytes:
    transfer_syntaxes = b"".join(_item(0x40, uid) for uid in _TRANSFER_SYNTAXES)
    return _item(
        0x20, struct.pack(">B3x", context_id) + _item(0x30, abstract_syntax) + transfer_syntaxes
    )


def _item(item_type: int, content: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(content)) + content
