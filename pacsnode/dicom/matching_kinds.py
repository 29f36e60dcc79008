"""Which kinds of matching a key has besides universal matching, in words for a person.

Source: PS3.4 C.2.2.2.
"""

from typing import Final

from pacsnode.dicom.attributes import Attribute
from pacsnode.dicom.matching import MULTIPLE_VALUES_VRS, RANGE_VRS, WILD_CARD_VRS
from pacsnode.dicom.text_values import NUMBER_VRS

_ALONE: Final = {"SQ": "sequence", "UI": "list of UIDs"}


def kinds_of_matching(attribute: Attribute) -> str:
    """Return the kinds of matching of an Attribute, separated by commas."""
    if not attribute.is_matched:
        return "universal only"
    if attribute.vr in _ALONE:
        return _ALONE[attribute.vr]
    kinds = ["single value"]
    if attribute.vr in NUMBER_VRS:
        kinds = ["single value (as a number)"]
    elif attribute.vr in RANGE_VRS:
        kinds.append("range")
    elif attribute.vr in WILD_CARD_VRS:
        kinds.append("wild card")
    if attribute.is_multiple and attribute.vr in MULTIPLE_VALUES_VRS:
        kinds.append("multiple values")
    return ", ".join(kinds)
