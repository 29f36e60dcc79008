"""A plain reader of PDUs, to hold the upper layer against: all bytes are there before it starts.

Source: PS3.8 9.3.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pacsnode.network.association_end import Abort

_ASSOCIATE_RQ, _P_DATA_TF, _RELEASE_RQ, _ABORT = 1, 4, 5, 7
_HEADER_BYTES: Final = 6
_LONGEST_PDU_BYTES: Final = 2 * 1024 * 1024
_LONGEST_ASSOCIATE_RQ_BYTES: Final = 256 * 1024


class Part(NamedTuple):
    """What has arrived of a command set or data set."""

    context_id: int
    is_command: bool
    is_last: bool
    content: bytes


@dataclass(slots=True)
class Reading:
    """What a stream of PDUs holds.

    Attributes:
        parts: one for each PDV.
        abort: how it is answered; None if not at all.
        is_released: it ends with a release request.
        longest_pdu_bytes: of its P-DATA-TF.
    """

    parts: list[Part] = field(default_factory=list)
    abort: Abort | None = None
    is_released: bool = False
    longest_pdu_bytes: int = 0


def read_messages(stream: bytes) -> Reading:
    """Return what the PDUs after an association's negotiation hold, up to whatever ends it."""
    reading = Reading()
    position = 0
    while len(stream) - position >= _HEADER_BYTES:
        kind, length = stream[position], int.from_bytes(stream[position + 2 : position + 6], "big")
        position += _HEADER_BYTES
        if not _ASSOCIATE_RQ <= kind <= _ABORT:
            reading.abort = Abort.UNRECOGNISED_PDU
        elif length > _LONGEST_PDU_BYTES or (kind == _P_DATA_TF and not length):
            reading.abort = Abort.INVALID_PARAMETER
        elif kind == _RELEASE_RQ:
            reading.is_released = True
        elif kind not in (_P_DATA_TF, _ABORT):
            reading.abort = Abort.UNEXPECTED_PDU
        if kind != _P_DATA_TF or reading.abort is not None:
            break
        reading.longest_pdu_bytes = max(reading.longest_pdu_bytes, length)
        if not _read_pdvs(stream[position : position + length], length, reading):
            break
        position += length
    return reading


def read_associate_request(stream: bytes) -> tuple[bytes | None, Abort | None]:
    """Return the content of the A-ASSOCIATE-RQ that a stream starts with, or its answer."""
    if len(stream) < _HEADER_BYTES:
        return None, None
    kind, length = stream[0], int.from_bytes(stream[2:_HEADER_BYTES], "big")
    if length > _LONGEST_PDU_BYTES:
        return None, Abort.BY_USER
    if kind != _ASSOCIATE_RQ:
        # PS3.8 table 9-10, Sta2: AA-2 for an A-ABORT, else AA-1.
        return None, None if kind == _ABORT else Abort.BY_USER
    if length > _LONGEST_ASSOCIATE_RQ_BYTES:
        return None, Abort.BY_USER
    content = stream[_HEADER_BYTES : _HEADER_BYTES + length]
    return (content, None) if len(content) == length else (None, None)


def joined(parts: Iterable[Part]) -> list[Part]:
    """Return the parts with those of the same command set or data set put together."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if last is None or last.is_last or last[:2] != part[:2]:
            found.append(part)
        else:
            found[-1] = part._replace(content=last.content + part.content)
    return found


def _read_pdvs(pdu: bytes, length: int, reading: Reading) -> bool:
    """Take note of the PDVs of a P-DATA-TF, of which a part may be missing; tell if it is whole."""
    position = 0
    while position < length:
        if length - position < _HEADER_BYTES:
            reading.abort = Abort.INVALID_PARAMETER
            return False
        header = pdu[position : position + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES:
            return False
        position += _HEADER_BYTES
        pdv_length = int.from_bytes(header[:4], "big") - 2
        if not 0 <= pdv_length <= length - position:
            reading.abort = Abort.INVALID_PARAMETER
            return False
        content = pdu[position : position + pdv_length]
        is_whole = len(content) == pdv_length
        if content or is_whole:
            is_last = bool(header[5] & 2) and is_whole
            reading.parts.append(Part(header[4], bool(header[5] & 1), is_last, content))
        if not is_whole:
            return False
        position += pdv_length
    return True
