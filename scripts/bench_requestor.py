"""A light requestor: a plain socket that sends PDUs which were built before.

Neither a toolkit nor the encoding of a request counts in what is timed with it.

Source: PS3.7 9.3.5, E.1; PS3.8 9.3.
"""

import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

VERIFICATION = UID("1.2.840.10008.1.1")

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_TRANSFER_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_IMPLEMENTATION_CLASS_UID = b"1.2.826.0.1.3680043.8.498.3"
_MAXIMUM_LENGTH_BYTES = 16384
_ASSOCIATE_AC, _P_DATA, _RELEASE_RP = 0x02, 0x04, 0x06
_RELEASE_RQ = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
_PDU_HEADER_LENGTH = 6
_FIRST_CONTEXT_ID = 1
_WHOLE_COMMAND = 0x03  # PS3.8 E.2: a command, and its last fragment
_C_ECHO_RQ, _NO_DATA_SET = 0x0030, 0x0101
_SUCCESS = struct.pack("<HHLH", 0x0000, 0x0900, 2, 0x0000)
_TIMEOUT_SECONDS = 30


class RequestorError(Exception):
    """The acceptor did something else than what was asked for."""


class Association:
    """An association that was accepted; released at the end of its block."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        """Connect, request it, and read the A-ASSOCIATE-AC.

        Args:
            address: host and port.
            request: from `associate_rq`.

        Raises:
            OSError: there is no connection, or it was lost.
            RequestorError: it was not accepted.
        """
        self._connection = socket.create_connection(address, _TIMEOUT_SECONDS)
        try:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.sendall(request)
            self._read_pdu(_ASSOCIATE_AC)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with closing(self._connection):
            if exc_type is None:
                self._connection.sendall(_RELEASE_RQ)
                self._read_pdu(_RELEASE_RP)

    def echo(self) -> None:
        """Send a C-ECHO-RQ on the first Presentation Context and read the answer.

        Raises:
            OSError: the connection was lost.
            RequestorError: the answer is not Success.
        """
        self.exchange(_ECHO)

    def exchange(self, message: bytes) -> None:
        """Send a request and read the answer, which is one PDU.

        Args:
            message: the PDUs of a command set, and of its Data Set if there is one.

        Raises:
            OSError: the connection was lost.
            RequestorError: the answer is not Success.
        """
        self._connection.sendall(message)
        if _SUCCESS not in self._read_pdu(_P_DATA):
            raise RequestorError("the answer is not Success")

    def _read_pdu(self, expected: int) -> bytes:
        pdu_type, length = struct.unpack(">BxL", self._read(_PDU_HEADER_LENGTH))
        body = self._read(length)
        if pdu_type != expected:
            raise RequestorError(f"a PDU of type {expected} was expected, {pdu_type} came")
        return body

    def _read(self, length: int) -> bytes:
        received = bytearray()
        while len(received) < length:
            part = self._connection.recv(length - len(received))
            if not part:
                raise RequestorError("the acceptor has closed the connection")
            received += part
        return bytes(received)


def associate_rq(
    called_ae_title: str,
    abstract_syntaxes: Sequence[UID],
    transfer_syntaxes: Sequence[UID] = _TRANSFER_SYNTAXES,
) -> bytes:
    """Return an A-ASSOCIATE-RQ that proposes each with the same Transfer Syntaxes.

    Source: PS3.8 9.3.2.
    """
    contexts = b"".join(
        _presentation_context(2 * place + _FIRST_CONTEXT_ID, uid, transfer_syntaxes)
        for place, uid in enumerate(abstract_syntaxes)
    )
    user_information = _item(0x51, struct.pack(">L", _MAXIMUM_LENGTH_BYTES)) + _item(
        0x52, _IMPLEMENTATION_CLASS_UID
    )
    titles = (called_ae_title.encode("ascii").ljust(16), b"BENCH".ljust(16))
    body = (
        struct.pack(">H2x16s16s32x", 1, *titles)
        + _item(0x10, _APPLICATION_CONTEXT)
        + contexts
        + _item(0x50, user_information)
    )
    return struct.pack(">BxL", 1, len(body)) + body


def _presentation_context(
    context_id: int, abstract_syntax: UID, transfer_syntaxes: Sequence[UID]
) -> bytes:
    syntaxes = _item(0x30, abstract_syntax.encode("ascii"))
    syntaxes += b"".join(_item(0x40, uid.encode("ascii")) for uid in transfer_syntaxes)
    return _item(0x20, struct.pack(">B3x", context_id) + syntaxes)


def _item(item_type: int, content: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(content)) + content


def command_set(elements: Mapping[int, bytes]) -> bytes:
    """Return an encoded command set.

    Args:
        elements: values of even length by the second half of the tag, ascending.

    Source: PS3.7 6.3.1.
    """
    command = b"".join(_element(number, value) for number, value in elements.items())
    return _element(0x0000, struct.pack("<L", len(command))) + command


def _echo_rq() -> bytes:
    """Return the P-DATA-TF with a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    command = command_set(
        {
            0x0002: VERIFICATION.encode("ascii") + b"\0",
            0x0100: struct.pack("<H", _C_ECHO_RQ),
            0x0110: struct.pack("<H", 1),
            0x0800: struct.pack("<H", _NO_DATA_SET),
        }
    )
    value = struct.pack(">LBB", len(command) + 2, _FIRST_CONTEXT_ID, _WHOLE_COMMAND) + command
    return struct.pack(">BxL", _P_DATA, len(value)) + value


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0x0000, element, len(value)) + value


_ECHO = _echo_rq()
