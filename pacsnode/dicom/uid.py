"""Unique identifiers: their rules, and our own.

Source: PS3.5 9.
"""

import re
from functools import lru_cache
from typing import Final

# PS3.7 D.3.3.2: identifies this implementation, in associations and in the files it writes. Our
# own root by PS3.5 B.2 (a UUID as one component), not that of the toolkit below us.
IMPLEMENTATION_CLASS_UID: Final = "2.25.285198995703397093972974662594173796260"
IMPLEMENTATION_VERSION_NAME: Final = "PACSNODE_0_1"  # at most 16 characters

# Leading zeros in a component are illegal but harmless, and dropping them would make another
# identity (rule I-1); so they are let through.
_VALID_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
_MAXIMUM_LENGTH = 64


def is_valid_uid(uid: str) -> bool:
    """Tell whether a UID may be kept, and be part of a file's name.

    It has digits and single dots between them, and at most 64 characters; so it can never name
    a parent folder or hold a separator.

    Source: PS3.5 9.1; rules I-1, I-2, F-23.
    """
    return len(uid) <= _MAXIMUM_LENGTH and _has_valid_form(uid)


@lru_cache(maxsize=4096)
def _has_valid_form(uid: str) -> bool:
    """Tell whether a UID is well formed; each one is asked about several times on its way."""
    return _VALID_UID.fullmatch(uid) is not None


def normalise_uid(uid: str) -> str:
    """Return a UID without the padding at its ends: NUL, and spaces from sloppy senders.

    Source: PS3.5 9.1; rule I-1.
    """
    return uid.strip("\0 ")
