"""The items and sub-items that the PDUs of association establishment consist of.

Source: PS3.8 9.3.2, 9.3.3, D; PS3.7 D.3.3.
"""

import struct
from collections.abc import Iterator
from typing import Final

from pacsnode.dicom.uid import normalise_uid

APPLICATION_CONTEXT: Final = 0x10
PRESENTATION_CONTEXT_RQ: Final = 0x20
PRESENTATION_CONTEXT_AC: Final = 0x21
ABSTRACT_SYNTAX: Final = 0x30
TRANSFER_SYNTAX: Final = 0x40
USER_INFORMATION: Final = 0x50
MAXIMUM_LENGTH: Final = 0x51
IMPLEMENTATION_CLASS_UID_ITEM: Final = 0x52
ROLE_SELECTION: Final = 0x54
IMPLEMENTATION_VERSION_NAME_ITEM: Final = 0x55
EXTENDED_NEGOTIATION: Final = 0x56
COMMON_EXTENDED_NEGOTIATION: Final = 0x57

# Protocol version, two reserved bytes, both titles and 32 reserved bytes.
FIXED_FIELDS: Final = struct.Struct(">HH16s16s32s")
PROTOCOL_VERSION: Final = 1
# Whoever forgets the mandatory sub-item takes what everybody takes.
USUAL_MAXIMUM_LENGTH: Final = 16_384

_ITEM_HEADER: Final = struct.Struct(">BxH")


class AssociateError(ValueError):
    """A PDU of association establishment breaks the rules of encoding; the message says which."""


def read_items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each item or sub-item.

    Raises:
        AssociateError: one runs over the end.
    """
    position = 0
    while position < len(content):
        if position + _ITEM_HEADER.size > len(content):
            raise AssociateError("it ends within an item's header")
        kind, length = _ITEM_HEADER.unpack_from(content, position)
        position += _ITEM_HEADER.size
        if position + length > len(content):
            raise AssociateError(f"an item of type {kind:02X}H runs over the end")
        yield kind, content[position : position + length]
        position += length


def encode_item(kind: int, content: bytes) -> bytes:
    """Return an item or sub-item."""
    return _ITEM_HEADER.pack(kind, len(content)) + content


def read_uid(encoded: bytes) -> str:
    """Return a UID in its normal form."""
    return normalise_uid(encoded.decode("ascii", "replace"))


def read_maximum_length(content: bytes) -> int:
    """Return what a maximum length sub-item says.

    Raises:
        AssociateError: it has no four bytes.

    Source: PS3.8 D.1.
    """
    if len(content) != 4:  # noqa: PLR2004 - an unsigned integer of 32 bits
        raise AssociateError("the maximum length has no four bytes")
    return int.from_bytes(content, "big")
