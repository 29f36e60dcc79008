"""A light requestor of queries: it counts answers and takes their time, and decodes none of them.

Source: PS3.7 9.3.1, 9.3.2, E.1; PS3.8 9.3.5.
"""

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bench_find_archive import SOP_CLASSES, data_set_of
from bench_requestor import Association, RequestorError, associate_rq
from pydicom.uid import UID

from pacsnode.dicom.attributes import BY_KEYWORD
from pacsnode.dicom.data_elements import DataElement, encode_elements
from pacsnode.dicom.information_model import STUDY_ROOT
from pacsnode.dicom.transfer_syntax import encoding_of

_IMPLICIT_VR: Final = UID("1.2.840.10008.1.2")
_FIND: Final = UID(STUDY_ROOT.find_uid)
_ENCODING: Final = encoding_of(_IMPLICIT_VR)
_ABSTRACT_SYNTAXES: Final = [_FIND, *SOP_CLASSES.values()]
_CONTEXT_IDS: Final = {uid: 2 * place + 1 for place, uid in enumerate(_ABSTRACT_SYNTAXES)}
_C_STORE_RQ, _C_FIND_RQ = 0x0001, 0x0020
_WITH_DATA_SET: Final = 0x0001
_STATUS: Final = 0x0900
_PENDING: Final = frozenset({0xFF00, 0xFF01})
_SUCCESS: Final = 0x0000
_P_DATA: Final = 0x04
_P_DATA_WITH_ONE_PDV: Final = struct.Struct(">BxLLBB")
_LENGTHS_AND_CONTROL: Final = struct.Struct(">2xLLBB")
_PDU_HEADER_LENGTH: Final = 6
_IS_COMMAND, _IS_LAST = 1, 2
_LONGEST_FRAGMENT_BYTES: Final = 16_000  # every peer takes PDUs of 16 KiB
_RECEIVED_BYTES: Final = 256 * 1024


class Finding(NamedTuple):
    """What became of one query.

    Attributes:
        answers: their number.
        first_seconds: from sending the request to the first answer, or to the last message.
        last_seconds: from sending the request to the response that says that there are no more.
    """

    answers: int
    first_seconds: float
    last_seconds: float


@dataclass(frozen=True, slots=True)
class Request:
    """A query in the Study Root, ready to be sent."""

    pdus: bytes


class QueryAssociation(Association):
    """An open association on which one query after the other is sent."""

    def __init__(self, address: tuple[str, int], called_ae_title: str) -> None:
        """Connect and have it accepted.

        Raises:
            OSError: there is no connection, or it was lost.
            RequestorError: it was not accepted.
        """
        request = associate_rq(called_ae_title, _ABSTRACT_SYNTAXES, (_IMPLICIT_VR,))
        super().__init__(address, request)

    def find(self, request: Request) -> Finding:
        """Send a query and read all its responses.

        Raises:
            OSError: the connection was lost.
            RequestorError: the query has failed.
        """
        answers, first = 0, 0.0
        started_at = time.perf_counter()
        self._connection.sendall(request.pdus)
        statuses: dict[bytes, int] = {}
        for is_command, content in self._fragments():
            if not is_command:
                first = first or time.perf_counter() - started_at
                continue
            status = statuses.get(content)
            if status is None:
                status = statuses[content] = _status(content)
            if status in _PENDING:
                answers += 1
                continue
            seconds = time.perf_counter() - started_at
            if status != _SUCCESS:
                raise RequestorError(f"a query was answered with status {status:04X}")
            return Finding(answers, first or seconds, seconds)
        raise RequestorError("a query has no end")

    def store(self, instance: Mapping[str, str]) -> None:
        """Send an instance of an archive.

        Raises:
            OSError: the connection was lost.
            RequestorError: it was not stored.
        """
        sop_class = UID(instance["SOPClassUID"])
        command = _command(
            sop_class, _C_STORE_RQ, _element(0x1000, _padded(instance["SOPInstanceUID"]))
        )
        context_id = _CONTEXT_IDS[sop_class]
        self._connection.sendall(_message(context_id, command, data_set_of(instance)))
        _, response = next(self._fragments())
        if _status(response) != _SUCCESS:
            raise RequestorError("an instance was not stored")

    def _fragments(self) -> Iterator[tuple[bool, bytes]]:
        """Yield the fragments that come: whether it is of a command, and its bytes."""
        received = b""
        while True:
            start = 0
            while len(received) - start >= _P_DATA_WITH_ONE_PDV.size:
                length, pdv_length, _, control = _LENGTHS_AND_CONTROL.unpack_from(received, start)
                end = start + _PDU_HEADER_LENGTH + length
                if end > len(received):
                    break
                if pdv_length + 4 != length:
                    raise RequestorError("something else came than a PDU with one fragment")
                is_command = bool(control & _IS_COMMAND)
                if is_command and not control & _IS_LAST:
                    raise RequestorError("a command set came in parts")
                yield is_command, received[start + _P_DATA_WITH_ONE_PDV.size : end]
                start = end
            more = self._connection.recv(_RECEIVED_BYTES)
            if not more:
                raise RequestorError("the acceptor has closed the connection")
            received = received[start:] + more
            if received[0] != _P_DATA:
                raise RequestorError(f"a PDU of type {received[0]} came")


def query(level: str, keys: Mapping[str, str]) -> Request:
    """Return a query: keyword and key value; an empty one asks for the value back."""
    elements = [DataElement(0x00080052, "CS", level.encode())]
    elements += [
        DataElement(BY_KEYWORD[keyword].tag, BY_KEYWORD[keyword].vr, value.encode())
        for keyword, value in keys.items()
    ]
    identifier = encode_elements(sorted(elements, key=lambda element: element.tag), _ENCODING)
    return Request(_message(_CONTEXT_IDS[_FIND], _command(_FIND, _C_FIND_RQ), identifier))


def _command(sop_class: UID, command_field: int, last: bytes = b"") -> bytes:
    """Return the command set of a request that has a data set."""
    elements = b"".join(
        (
            _element(0x0002, _padded(sop_class)),
            _element(0x0100, struct.pack("<H", command_field)),
            _element(0x0110, struct.pack("<H", 1)),
            _element(0x0700, struct.pack("<H", 0)),
            _element(0x0800, struct.pack("<H", _WITH_DATA_SET)),
            last,
        )
    )
    return _element(0x0000, struct.pack("<L", len(elements))) + elements


def _message(context_id: int, command_set: bytes, data_set: bytes) -> bytes:
    """Return a message as P-DATA-TF, one for each fragment."""
    return _p_data(context_id, _IS_COMMAND, command_set) + _p_data(context_id, 0, data_set)


def _p_data(context_id: int, control: int, content: bytes) -> bytes:
    starts: Sequence[int] = range(0, len(content), _LONGEST_FRAGMENT_BYTES)
    pdus = []
    for start in starts:
        fragment = content[start : start + _LONGEST_FRAGMENT_BYTES]
        length, last = len(fragment) + 2, _IS_LAST if start == starts[-1] else 0
        header = _P_DATA_WITH_ONE_PDV.pack(_P_DATA, length + 4, length, context_id, control | last)
        pdus.append(header + fragment)
    return b"".join(pdus)


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def _padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _status(command_set: bytes) -> int:
    """Return the Status of a response."""
    start = 0
    while start < len(command_set):
        _, number, length = struct.unpack_from("<HHL", command_set, start)
        if number == _STATUS:
            return int.from_bytes(command_set[start + 8 : start + 10], "little")
        start += 8 + length
    raise RequestorError("a response has no status")
