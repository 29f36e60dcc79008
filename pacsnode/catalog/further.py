"""The values of Attributes that have no columns of their own: one JSON text for each entity.

How it is written. One object; each member is named by Attribute.name and holds the list of the
Attribute's values. A value stands for itself where that is what is compared, else as a list: the
text as it was received, then what is matched, made once as for a column (rules C-18, C-25, C-36).

- Text, UIDs, codes and tags: the text, or [text, normalised] where the two differ.
- PN: [text, folded, alphabetic, ideographic, phonetic], empty where a group is absent.
- DA: [text, day as YYYYMMDD], null for what is no date.
- TM, DT: [text, first, last microsecond], nulls for what is none; DT in UTC.
- IS, DS and numbers in binary: [text, number], null for what is no number.
- SQ: an object for each item; a member "GGGGEEEE" is [VR, value, value, ...], values being as
  above, bytes in base64.

Whatever is written is read back as it was, whether or not its Attribute is still a key.
"""

import base64
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pacsnode.dicom.attributes import Attribute, tag_text
from pacsnode.dicom.date_time import date_interval, date_time_interval, time_interval
from pacsnode.dicom.person_name import fold, fold_component_groups
from pacsnode.dicom.text_values import normalise_text, number_of, split_values
from pacsnode.dicom.values import TEXT_VRS, Item, ItemElement, Value

# The instances of a series share most of their values; each is written once. The bounds keep what
# hostile senders can fill with them below some megabytes.
_REMEMBERED_VALUES: Final = 4096
_LONGEST_REMEMBERED_VALUE: Final = 256

_BINARY_INTEGER_VRS: Final = frozenset({"US", "SS", "UL", "SL"})
_BINARY_FLOAT_VRS: Final = frozenset({"FL", "FD"})
_WRITTEN_AS_TEXT_VRS: Final = TEXT_VRS | _BINARY_INTEGER_VRS | _BINARY_FLOAT_VRS | {"AT"}
_NO_INTERVAL: Final = (None, None)

_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def further_text(values: Mapping[Attribute, Value]) -> str | None:
    """Return the text for the values of an entity, in their order; None if there are none."""
    members = [
        _remembered_member(attribute, value)
        if isinstance(value, str) and len(value) <= _LONGEST_REMEMBERED_VALUE
        else _member(attribute, value)
        for attribute, value in values.items()
    ]
    return f"{{{','.join(members)}}}" if members else None


def values_of(text: str | None) -> dict[str, Value]:
    """Return what further_text was given, by Attribute.name."""
    return {name: value_of(values) for name, values in _members(text).items()}


def value_of(values: list[Any]) -> Value:
    """Return the value of an Attribute from its member in a text that json has read."""
    if values and isinstance(values[0], dict):
        return tuple(map(_item, values))
    return _joined(values)


def values_for(text: str | None, attributes: Mapping[str, Attribute]) -> dict[Attribute, Value]:
    """Return the values of some Attributes, given by name; none that was written for another VR.

    An extra key may have been one with another VR before.
    """
    values: dict[Attribute, Value] = {}
    for name, member in _members(text).items():
        attribute = attributes.get(name)
        if attribute is not None:
            value = value_of(member)
            if not attribute.is_extra or _forms(attribute.vr, value) == member:
                values[attribute] = value
    return values


def merged(text: str | None, values: Mapping[Attribute, Value]) -> str | None:
    """Return a text with other values for some Attributes, and all else as it is."""
    members = _members(text)
    new = further_text(values)
    return _to_json(members | _members(new)) if members else new


def meaning_of(vr: str, value: Value) -> object:
    """Return something that is equal for values that mean the same.

    That is the matched form; but a time is where its interval begins, however precise it is.
    """
    if isinstance(value, str):
        return [_meaning_of_form(form) for form in _forms(vr, value)]
    if isinstance(value, bytes):
        return value
    return [
        {tag: meaning_of(element_vr, inner) for tag, (element_vr, inner) in item.items() if inner}
        for item in value
    ]


def shown(value: Value) -> str:
    """Return a value as a line of text for a person: of items, tags and values in braces."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return " ".join(
        "{{{}}}".format(
            ", ".join(f"{tag_text(tag)} {shown(inner)}" for tag, (_, inner) in item.items())
        )
        for item in value
    )


def _meaning_of_form(form: str | list[Any]) -> object:
    """Return what a value as it is written means: its text where nothing else is known of it."""
    if isinstance(form, str):
        return form
    return form[0] if form[1] is None else form[1]


def _members(text: str | None) -> dict[str, list[Any]]:
    members: dict[str, list[Any]] = {} if text is None else json.loads(text)
    return members


def _member(attribute: Attribute, value: Value) -> str:
    return f"{_to_json(attribute.name)}:{_to_json(_forms(attribute.vr, value))}"


@lru_cache(maxsize=_REMEMBERED_VALUES)
def _remembered_member(attribute: Attribute, value: str) -> str:
    return _member(attribute, value)


def _forms(vr: str, value: Value) -> list[Any]:
    """Return the values of a Value, each as it is written."""
    if isinstance(value, str):
        return [_form(vr, text) for text in split_values(value, vr)]
    if isinstance(value, bytes):
        return [base64.b64encode(value).decode()] if value else []
    return [
        {f"{tag:08X}": [vr, *_forms(vr, inner)] for tag, (vr, inner) in item.items()}
        for item in value
    ]


def _form(vr: str, text: str) -> str | list[Any]:
    """Return one value as it is written.

    Source: rules C-9, C-16 to C-20, C-31, I-3 to I-10.
    """
    match vr:
        case "PN":
            return [text, fold(text), *fold_component_groups(text)]
        case "DA":
            return [text, (date_interval(text) or _NO_INTERVAL)[0]]
        case "TM":
            return [text, *(time_interval(text) or _NO_INTERVAL)]
        case "DT":
            return [text, *(date_time_interval(text) or _NO_INTERVAL)]
        case "IS" | "DS" | "US" | "SS" | "UL" | "SL" | "FL" | "FD":
            return [text, _number(vr, text)]
        case _:
            normal = normalise_text(text, vr)
            return text if normal == text else [text, normal]


def _number(vr: str, text: str) -> float | None:
    """Return the number that a text means; None if it is none, or none that JSON can tell."""
    if not text:
        return None
    if vr in _BINARY_INTEGER_VRS:
        return int(text)
    if vr in _BINARY_FLOAT_VRS:
        number = float(text)
    else:
        decimal = number_of(normalise_text(text, vr), vr)
        if decimal is None:
            return None
        number = float(decimal)
    return number if math.isfinite(number) else None


def _joined(values: list[Any]) -> str:
    """Return the text of all values, as it was received."""
    return "\\".join(value if isinstance(value, str) else value[0] for value in values)


def _item(members: dict[str, list[Any]]) -> Item:
    return {int(name, 16): _element(*form) for name, form in members.items()}


def _element(vr: str, *values: Any) -> ItemElement:  # noqa: ANN401 - as json reads them
    if vr in _WRITTEN_AS_TEXT_VRS:
        return ItemElement(vr, _joined(list(values)))
    if vr == "SQ":
        return ItemElement(vr, tuple(map(_item, values)))
    return ItemElement(vr, base64.b64decode(values[0]) if values else b"")
