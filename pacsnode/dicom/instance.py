"""From a data set to what the catalog keeps of it: identifying UIDs and attribute values.

Source: PS3.4 B.2.3, B.4.1.2; PS3.3 C.12.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pacsnode.dicom.attributes import (
    BY_TAG,
    SPECIFIC_CHARACTER_SET,
    STORED_ATTRIBUTES,
    UNIQUE_KEY,
    Attribute,
)
from pacsnode.dicom.character_sets import DEFAULT_CHARACTER_SETS, CharacterSets, decode_text
from pacsnode.dicom.data_elements import Buffer, DataElement, DataSetError, read_values
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.text_values import split_values, trim
from pacsnode.dicom.transfer_syntax import encoding_of
from pacsnode.dicom.uid import is_valid_uid, normalise_uid

SOP_CLASS_UID_TAG: Final = 0x00080016
SOP_INSTANCE_UID_TAG: Final = 0x00080018
_STORED: Final = {attribute.tag: attribute for attribute in STORED_ATTRIBUTES}
_WANTED: Final = frozenset({SPECIFIC_CHARACTER_SET, *_STORED})
# The instances of a series share most of their values, so decoded ones are remembered. The bounds
# keep what hostile senders can fill with them below some megabytes.
_REMEMBERED_VALUES: Final = 2048
_LONGEST_REMEMBERED_VALUE: Final = 256
# Parsed ones are remembered, too. All Defined Terms there are, one after the other, are shorter.
_LONGEST_CHARACTER_SETS: Final = 512


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What a data set says of the SOP Instance it is.

    Attributes:
        sop_class_uid: (0008,0016), valid.
        sop_instance_uid: (0008,0018), valid.
        study_instance_uid: (0020,000D), valid.
        series_instance_uid: (0020,000E), valid.
        values: text of each stored Attribute by keyword: decoded, each value without its padding,
            several values separated by a backslash. An Attribute that is absent or empty is left
            out: both are one state (rule I-14).
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    values: Mapping[str, str]


def read_instance(data_set: Buffer, transfer_syntax_uid: str) -> InstanceHeader:
    """Return what a data set says of itself.

    Nothing but the four UIDs can fail: a missing or damaged value of another Attribute is kept as
    far as it can be read (rules F-7, F-25).

    Raises:
        DimseFailure: 0xC000, the data set cannot be decoded; 0xC001, one of the four UIDs is
            missing, or one but the SOP Instance UID is not valid; 0x0117, that is not valid.

    Source: PS3.4 B.2.3; rules F-3, F-7, I-2.
    """
    try:
        encoded = read_values(data_set, encoding_of(transfer_syntax_uid), _WANTED)
    except DataSetError as error:
        raise DimseFailure(Status.CANNOT_UNDERSTAND, f"undecodable: {error}") from error
    values = _decoded_values(encoded)
    return InstanceHeader(
        sop_class_uid=_identifying_uid(values, BY_TAG[SOP_CLASS_UID_TAG]),
        sop_instance_uid=_identifying_uid(
            values, UNIQUE_KEY[Level.IMAGE], Status.INVALID_SOP_INSTANCE
        ),
        study_instance_uid=_identifying_uid(values, UNIQUE_KEY[Level.STUDY]),
        series_instance_uid=_identifying_uid(values, UNIQUE_KEY[Level.SERIES]),
        values=values,
    )


def decode_value(element: DataElement, character_sets: CharacterSets, vr: str) -> str:
    """Return the decoded values of a Data Element, each without its padding.

    The dictionary's VR counts, not the encoded one: an element sent as UN is still text.

    Source: PS3.5 6.2; rules C-1, C-3, D-8.
    """
    return _decode(element.value, character_sets, vr)


def character_sets_of(elements: Mapping[int, DataElement]) -> CharacterSets:
    """Return the character sets that a data set declares for its text.

    Source: PS3.3 C.12.1.1.2; rule D-15.
    """
    element = elements.get(SPECIFIC_CHARACTER_SET)
    return DEFAULT_CHARACTER_SETS if element is None else _parse_character_sets(element.value)


def _decoded_values(encoded: Mapping[int, bytes]) -> dict[str, str]:
    """Return the text of the stored Attributes that have a value, by keyword."""
    character_sets = _parse_character_sets(encoded.get(SPECIFIC_CHARACTER_SET, b""))
    values = {}
    for tag, value in encoded.items():
        attribute = _STORED.get(tag)
        if attribute is not None:  # else it is Specific Character Set
            text = _decode(value, character_sets, attribute.vr)
            if text:
                values[attribute.keyword] = text
    return values


def _parse_character_sets(value: bytes) -> CharacterSets:
    terms = _decode(value[:_LONGEST_CHARACTER_SETS], DEFAULT_CHARACTER_SETS, "CS")
    return CharacterSets.parse(terms.split("\\")) if terms else DEFAULT_CHARACTER_SETS


def _decode(value: bytes, character_sets: CharacterSets, vr: str) -> str:
    """Return the text of a value field as `decode_value` does, from memory if it is there."""
    # Terms that nobody knows have any number and form, so they would make keys of any size.
    if len(value) <= _LONGEST_REMEMBERED_VALUE and character_sets.is_known:
        return _decode_remembered(value, character_sets.terms, vr)
    return _decode_anew(value, character_sets, vr)


@lru_cache(maxsize=_REMEMBERED_VALUES)
def _decode_remembered(value: bytes, terms: tuple[str, ...], vr: str) -> str:
    # The key has the terms, not the CharacterSets: their hash takes as long as all the rest.
    return _decode_anew(value, CharacterSets(terms), vr)


def _decode_anew(value: bytes, character_sets: CharacterSets, vr: str) -> str:
    text = decode_text(value, vr, character_sets)
    if "\\" not in text:
        return trim(text, vr)
    values = [trim(value, vr) for value in split_values(text, vr)]
    return "\\".join(values) if any(values) else ""


def _identifying_uid(
    values: Mapping[str, str], attribute: Attribute, status_if_invalid: Status = Status.MISSING_UID
) -> str:
    uid = normalise_uid(values.get(attribute.keyword, ""))
    if not uid:
        raise DimseFailure(Status.MISSING_UID, f"{attribute.keyword} is missing", attribute.tag)
    if not is_valid_uid(uid):
        raise DimseFailure(status_if_invalid, f"{attribute.keyword} is no UID", attribute.tag)
    return uid
