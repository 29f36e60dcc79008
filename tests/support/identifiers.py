"""Request identifiers as bytes, made element by element: also those that no toolkit would send."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from pacsnode.dicom.transfer_syntax import encoding_of

IMPLICIT = encoding_of("1.2.840.10008.1.2")
EXPLICIT = encoding_of("1.2.840.10008.1.2.1")
QUERY_RETRIEVE_LEVEL = 0x00080052

# Text, the bytes of a value field, or the items of a sequence.
Keys = Mapping[int, Any]


def identifier(level: str | None, keys: Keys) -> bytes:
    """Return an identifier in Implicit VR Little Endian; values are sent as they are given.

    Args:
        level: None leaves it out.
        keys: by tag; a list is a sequence of items, each like `keys`.
    """
    elements = dict(keys)
    if level is not None:
        elements[QUERY_RETRIEVE_LEVEL] = level
    return encoded(elements)


def encoded(elements: Keys) -> bytes:
    """Return elements as a data set in Implicit VR Little Endian."""
    parts = []
    for tag, value in sorted(elements.items()):
        field = _value_field(value)
        parts.append(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(field)) + field)
    return b"".join(parts)


def _value_field(value: str | bytes | Sequence[Keys]) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    items = [encoded(item) for item in value]
    return b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item for item in items)
