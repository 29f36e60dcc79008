"""Attribute matching: what a key asks for, and whether a value answers it (PS3.4 C.2.2.2).

A key is classified once into one of the kinds below. `matches` says what each kind means; a catalog
turns the same kinds into conditions of its own, which have to agree with it.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

from pacsnode.dicom.date_time import (
    Range,
    date_interval,
    date_range,
    date_time_interval,
    date_time_range,
    time_interval,
    time_range,
)
from pacsnode.dicom.person_name import (
    fold,
    fold_component_groups,
    is_universal,
    pattern_alternatives,
)
from pacsnode.dicom.text_values import normalise_text, number_of, split_values
from pacsnode.dicom.wild_card import has_wild_card, matches_wild_card

WILD_CARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_RANGE_VRS = frozenset({"DA", "TM", "DT"})
_EMPTY_VALUE_VRS = frozenset(
    {"AE", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"}
)
_MULTIPLE_VALUES_VRS = frozenset({"AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"})
_EMPTY_VALUE_KEY = '""'


class MalformedKey(ValueError):  # noqa: N818 - named for what the requestor did
    """A key does not have a form that its VR allows; says how, without the key's value."""


@dataclass(frozen=True, slots=True)
class Universal:
    """Every entity matches, also one without a value (PS3.4 C.2.2.2.3)."""


@dataclass(frozen=True, slots=True)
class Never:
    """No known value matches: a range whose ends are the wrong way round (rules C-15, C-19)."""


@dataclass(frozen=True, slots=True)
class EmptyValue:
    """Entities match whose value is empty or absent (PS3.4 C.2.2.2.7).

    For PN that is an empty folded value, for all other VRs an empty normalised text: a date that
    cannot be read is unknown, yet not empty.
    """


@dataclass(frozen=True, slots=True)
class EqualText:
    """Some value has this normalised text, case-sensitive (PS3.4 C.2.2.2.1)."""

    text: str


@dataclass(frozen=True, slots=True)
class EqualNumber:
    """Some value is this number or, where it is no number, has this text (rule C-9).

    Attributes:
        number: of a key of VR IS within 32 bits, or of VR DS.
        text: the key as it was written, normalised.
    """

    number: Decimal
    text: str


@dataclass(frozen=True, slots=True)
class WildCard:
    """Some value's normalised text fits a pattern with `*` and `?` (PS3.4 C.2.2.2.4)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class UidList:
    """Some value is one of these UIDs, compared as they are written (PS3.4 C.2.2.2.2)."""

    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """Some value's interval overlaps this one: stored lower <= upper and stored upper >= lower.

    The integers are those of date_time.py; None is an open end. `lower` is never above `upper`.

    Source: PS3.4 C.2.2.2.5; rules C-15 to C-21.
    """

    lower: int | None
    upper: int | None


@dataclass(frozen=True, slots=True)
class PersonName:
    """Some Person Name fits the patterns of the key (rules C-30 to C-33).

    A name is four columns of folded text: the groups of `fold_component_groups` ('' where absent)
    and the whole value of `fold`. Each field is a tuple of alternative patterns with `*` and `?`,
    folded like the columns; one without a wild card means equality, which GLOB gives as well. The
    name matches if all four of these hold:

    - `any_group` is empty, or one of its patterns fits one of the four columns;
    - `alphabetic` is empty, or one of its patterns fits the alphabetic column;
    - `ideographic` is empty, or one of its patterns fits the ideographic column;
    - `phonetic` is empty, or one of its patterns fits the phonetic column.

    At least one field is not empty: a key that asks for nothing is Universal. Columns stay without
    padding: what the trailing `^` of a padded group would have matched is cut off the patterns
    (`pattern_alternatives`), so `Smith^*` becomes `smith` and `smith^*`. No pattern fits '', so
    an absent group or an unknown name is never matched.
    """

    any_group: tuple[str, ...] = ()
    alphabetic: tuple[str, ...] = ()
    ideographic: tuple[str, ...] = ()
    phonetic: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of two or more alternatives matches (rule C-24)."""

    alternatives: tuple["Matching", ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each of two or more parts matches, each by any value (PS3.4 C.2.2.2.8, rule B-16)."""

    parts: tuple["Matching", ...]


Matching = (
    Universal
    | Never
    | EmptyValue
    | EqualText
    | EqualNumber
    | WildCard
    | UidList
    | Interval
    | PersonName
    | AnyOf
    | AllOf
)


def parse_matching_key(
    vr: str,
    text: str,
    *,
    empty_value: bool = False,
    multiple_values: bool = False,
    offset_minutes: int = 0,
) -> Matching:
    """Return what a key asks for.

    Args:
        vr: of the key; not SQ.
        text: the decoded Value Field, possibly several values.
        empty_value: empty value matching was negotiated.
        multiple_values: multiple value matching was negotiated and the Attribute may have several
            values.
        offset_minutes: of the node's time zone, for a DT key without an offset.

    Raises:
        MalformedKey: a DA, TM or DT key is neither a value nor a range; or several values with a
            wild card where multiple value matching was negotiated.

    Source: PS3.4 C.2.2.2; rules C-1 to C-24, B-16, B-17, B-20.
    """
    values = list(dict.fromkeys(_key_values(text, vr)))
    if values == [_EMPTY_VALUE_KEY] and empty_value and vr in _EMPTY_VALUE_VRS:
        return EmptyValue()
    is_multiple = multiple_values and len(values) > 1 and vr in _MULTIPLE_VALUES_VRS
    if is_multiple and vr in WILD_CARD_VRS and any(map(has_wild_card, values)):
        raise MalformedKey("several values take no wild card")
    if not values or any(_is_universal_key(value, vr) for value in values):
        return Universal()
    if vr == "UI":
        return UidList(tuple(values))
    kinds = tuple(_classify(value, vr, offset_minutes) for value in values)
    if is_multiple:
        return AllOf(kinds)
    return _any_of(kinds)


def matches(
    matching: Matching,
    vr: str,
    stored: str,
    *,
    match_unknown: bool = False,
    offset_minutes: int = 0,
) -> bool:
    """Tell whether a stored value answers a key.

    Args:
        matching: what the key asks for.
        vr: of the key and the value.
        stored: the decoded Value Field of the entity, possibly several values; '' if it is empty
            or absent. One matching value is enough.
        match_unknown: an entity whose value is not known matches every key, as PS3.4 C.2.2.1.1
            has it for Query/Retrieve (rule C-5), except that a damaged one is not `EmptyValue`.
        offset_minutes: of a stored DT without an offset.

    Source: PS3.4 C.2.2.2, C.2.2.3; rules C-5, C-23.
    """
    match matching:
        case Universal():
            return True
        case EmptyValue():
            return not _known_texts(stored, vr)
        case AnyOf(members) | AllOf(members):
            quantifier = any if isinstance(matching, AnyOf) else all
            return quantifier(
                matches(
                    member, vr, stored, match_unknown=match_unknown, offset_minutes=offset_minutes
                )
                for member in members
            )
        case Interval() | Never():
            intervals = _known_intervals(stored, vr, offset_minutes)
            overlaps = any(_overlaps(matching, interval) for interval in intervals)
            return overlaps if intervals else match_unknown
        case _:
            texts = _known_texts(stored, vr)
            return any(_fits(matching, text, vr) for text in texts) if texts else match_unknown


def glob_pattern(pattern: str) -> str:
    """Return the SQLite GLOB pattern that means the same as a wild card pattern.

    Source: PS3.4 C.2.2.2.4; rule C-36.
    """
    return re.sub(r"\*+", "*", pattern).replace("[", "[[]")


def _key_values(text: str, vr: str) -> list[str]:
    """The values of a key that ask for something, in the form in which they are compared."""
    values = (normalise_text(value, vr) for value in split_values(text, vr))
    return [value for value in values if (fold(value) if vr == "PN" else value)]


def _is_universal_key(value: str, vr: str) -> bool:
    """Whether one value of a key asks for no value in particular (rules C-11, C-15, C-32)."""
    if vr == "PN":
        return is_universal(fold(value))
    return not value.strip("*") or (vr in _RANGE_VRS and value == "-")


def _classify(value: str, vr: str, offset_minutes: int) -> Matching:
    """What one value of a key asks for that is not universal (rule C-4)."""
    if vr in _RANGE_VRS:
        return _interval(value, vr, offset_minutes)
    if vr == "PN":
        return _person_name(value)
    if vr in WILD_CARD_VRS and has_wild_card(value):
        return WildCard(value)
    number = number_of(value, vr)
    return EqualText(value) if number is None else EqualNumber(number, value)


def _interval(value: str, vr: str, offset_minutes: int) -> Matching:
    """The interval of a DA, TM or DT key."""
    try:
        lower, upper = _range(value, vr, offset_minutes)
    except ValueError as error:
        raise MalformedKey(str(error)) from None  # the cause may hold the value
    if lower is not None and upper is not None and lower > upper:
        return Never()
    return Interval(lower, upper)


def _range(value: str, vr: str, offset_minutes: int) -> Range:
    if vr == "DA":
        return date_range(value)
    if vr == "TM":
        return time_range(value)
    return date_time_range(value, offset_minutes)


def _person_name(value: str) -> PersonName:
    """The patterns of a PN key: for any group, or with `=` group by group (rule C-32)."""
    if "=" not in value:
        return PersonName(any_group=pattern_alternatives(fold(value)))
    alphabetic, ideographic, phonetic = (
        () if is_universal(group) else pattern_alternatives(group)
        for group in fold_component_groups(value)
    )
    return PersonName((), alphabetic, ideographic, phonetic)


def _any_of(kinds: tuple[Matching, ...]) -> Matching:
    """The alternatives without those that never match."""
    possible = tuple(kind for kind in dict.fromkeys(kinds) if not isinstance(kind, Never))
    if not possible:
        return Never()
    return possible[0] if len(possible) == 1 else AnyOf(possible)


def _known_texts(stored: str, vr: str) -> list[str]:
    """The stored values that say something, in the form in which they are compared."""
    return _key_values(stored, vr)


def _known_intervals(stored: str, vr: str, offset_minutes: int) -> list[tuple[int, int]]:
    """The intervals of the stored values that can be read (rules C-16, C-18)."""
    texts = _known_texts(stored, vr)
    if vr == "DA":
        found = [date_interval(text) for text in texts]
    elif vr == "TM":
        found = [time_interval(text) for text in texts]
    else:
        found = [date_time_interval(text, offset_minutes) for text in texts]
    return [interval for interval in found if interval]


def _overlaps(matching: Interval | Never, stored: tuple[int, int]) -> bool:
    if isinstance(matching, Never):
        return False
    is_early_enough = matching.upper is None or stored[0] <= matching.upper
    return is_early_enough and (matching.lower is None or stored[1] >= matching.lower)


def _fits(
    matching: EqualText | EqualNumber | WildCard | UidList | PersonName, text: str, vr: str
) -> bool:
    """Whether one known value answers a key."""
    match matching:
        case EqualText():
            return text == matching.text
        case EqualNumber():
            number = number_of(text, vr)
            return text == matching.text if number is None else number == matching.number
        case WildCard():
            return matches_wild_card(matching.pattern, text)
        case UidList():
            return text in matching.uids
        case PersonName():
            return _fits_name(matching, text)


def _fits_name(matching: PersonName, name: str) -> bool:
    groups = fold_component_groups(name)
    tests = (
        (matching.any_group, (*groups, fold(name))),
        (matching.alphabetic, groups[:1]),
        (matching.ideographic, groups[1:2]),
        (matching.phonetic, groups[2:]),
    )
    return all(
        not patterns
        or any(matches_wild_card(pattern, text) for pattern in patterns for text in texts)
        for patterns, texts in tests
    )
