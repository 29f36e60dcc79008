"""Values in a decoded Value Field: told apart, without padding, and as they are compared.

Source: PS3.5 6.2, 6.4.
"""

import re
import unicodedata
from decimal import Decimal
from math import isfinite

from pacsnode.dicom.control_characters import without_control_characters

_SINGLE_VALUE_TEXT_VRS = frozenset({"LT", "ST", "UT", "UR"})
_LEADING_SPACE_COUNTS_VRS = frozenset({"LT", "ST", "UT", "UR", "UC"})
_INTEGER = re.compile(r"[+-]?[0-9]+")
# An exponent of more digits is no number that a device measures, and expensive to compare.
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[Ee][+-]?[0-9]{1,3})?")
_INTEGER_VRS = frozenset({"IS", "SL", "SS", "UL", "US"})
NUMBER_VRS = _INTEGER_VRS | {"DS", "FD", "FL"}
_HIGHEST_INTEGER = 2**31 - 1  # PS3.5 6.2 (VR IS)


def split_values(value: str, vr: str) -> list[str]:
    r"""Return the values of a decoded Value Field as they are, empty ones too; none for ''.

    In LT, ST, UT and UR a backslash is text.

    Source: PS3.5 6.4; rule C-1.
    """
    if not value:
        return []
    return [value] if vr in _SINGLE_VALUE_TEXT_VRS else value.split("\\")


def trim(value: str, vr: str) -> str:
    """Return one value without its padding and otherwise as it is, fit to be returned.

    Source: PS3.5 6.2; rules C-3, D-8.
    """
    if vr in _LEADING_SPACE_COUNTS_VRS:
        return value.rstrip("\0 ")
    return value.strip("\0 ")


def normalise_text(value: str, vr: str) -> str:
    """Return one value in the form in which values are compared; PN has `fold` for that.

    Source: PS3.5 6.2; rules C-3, C-9, I-1, I-5 to I-10.
    """
    normal = trim(without_control_characters(trim(value, vr)), vr)
    return normal if normal.isascii() else unicodedata.normalize("NFC", normal)


def number_of(text: str, vr: str) -> Decimal | None:
    """Return the number in a normalised value, as text also of a binary VR; None if it is none.

    An IS of more than 32 bits is none, nor is what is too large for a binary number of 64 bits.

    Source: PS3.5 6.2 (VR DS, FD, FL, IS, SL, SS, UL, US); rules C-9, I-7.
    """
    if vr in _INTEGER_VRS:
        if not _INTEGER.fullmatch(text):
            return None
        number = Decimal(text)
        is_within = vr != "IS" or -_HIGHEST_INTEGER - 1 <= number <= _HIGHEST_INTEGER
        return number if is_within else None
    if vr not in NUMBER_VRS or not _DECIMAL.fullmatch(text):
        return None
    number = Decimal(text)
    return number if isfinite(number) else None
