"""The types of PDUs, and the header that each of them has.

Source: PS3.8 9.3.
"""

import struct
from typing import Final

ASSOCIATE_RQ: Final = 0x01
ASSOCIATE_AC: Final = 0x02
ASSOCIATE_RJ: Final = 0x03
P_DATA_TF: Final = 0x04
RELEASE_RQ: Final = 0x05
RELEASE_RP: Final = 0x06
ABORT: Final = 0x07

PDU_HEADER: Final = struct.Struct(">BxL")


def encode_pdu(kind: int, content: bytes) -> bytes:
    """Return a PDU of a type."""
    return PDU_HEADER.pack(kind, len(content)) + content
