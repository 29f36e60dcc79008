"""From a data set to what the catalog keeps of it: identifying UIDs and attribute values.

Source: PS3.4 B.2.3, B.4.1.2; PS3.3 C.12.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pacsnode.dicom.attributes import (
    BY_TAG,
    SPECIFIC_CHARACTER_SET,
    STORED_ATTRIBUTES,
    UNIQUE_KEY,
    Attribute,
)
from pacsnode.dicom.character_sets import DEFAULT_CHARACTER_SETS, CharacterSets, decode_text
from pacsnode.dicom.data_elements import Buffer, DataElement, DataSetError, read_elements
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.text_values import split_values, trim
from pacsnode.dicom.transfer_syntax import encoding_of
from pacsnode.dicom.uid import is_valid_uid, normalise_uid

SOP_CLASS_UID_TAG: Final = 0x00080016
SOP_INSTANCE_UID_TAG: Final = 0x00080018
_WANTED: Final = frozenset({SPECIFIC_CHARACTER_SET, *(a.tag for a in STORED_ATTRIBUTES)})


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
        elements = read_elements(data_set, encoding_of(transfer_syntax_uid), _WANTED)
    except DataSetError as error:
        raise DimseFailure(Status.CANNOT_UNDERSTAND, f"undecodable: {error}") from error
    values = _values(elements)
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
    text = decode_text(element.value, vr, character_sets)
    values = [trim(value, vr) for value in split_values(text, vr)]
    return "\\".join(values) if any(values) else ""


def character_sets_of(elements: Mapping[int, DataElement]) -> CharacterSets:
    """Return the character sets that a data set declares for its text.

    Source: PS3.3 C.12.1.1.2; rule D-15.
    """
    element = elements.get(SPECIFIC_CHARACTER_SET)
    terms = "" if element is None else decode_value(element, DEFAULT_CHARACTER_SETS, "CS")
    return CharacterSets.parse(terms.split("\\")) if terms else DEFAULT_CHARACTER_SETS


def _values(elements: Mapping[int, DataElement]) -> dict[str, str]:
    character_sets = character_sets_of(elements)
    values = {}
    for attribute in STORED_ATTRIBUTES:
        element = elements.get(attribute.tag)
        if element is not None:
            value = decode_value(element, character_sets, attribute.vr)
            if value:
                values[attribute.keyword] = value
    return values


def _identifying_uid(
    values: Mapping[str, str], attribute: Attribute, status_if_invalid: Status = Status.MISSING_UID
) -> str:
    uid = normalise_uid(values.get(attribute.keyword, ""))
    if not uid:
        raise DimseFailure(Status.MISSING_UID, f"{attribute.keyword} is missing", attribute.tag)
    if not is_valid_uid(uid):
        raise DimseFailure(status_if_invalid, f"{attribute.keyword} is no UID", attribute.tag)
    return uid
