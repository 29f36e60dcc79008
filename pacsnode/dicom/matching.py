"""Attribute matching: what a key asks for, and whether a value answers it (PS3.4 C.2.2.2).

A key is classified once into one of the kinds below (matching_keys.py). `matches` says what each
kind means; a catalog turns the same kinds into conditions of its own, which have to agree with it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pacsnode.dicom.date_time import date_interval, date_time_interval, time_interval
from pacsnode.dicom.person_name import (
    fold,
    fold_component_groups,
    groups_without_accents,
    without_accents,
)
from pacsnode.dicom.text_values import NUMBER_VRS, normalise_text, number_of, split_values
from pacsnode.dicom.values import Item, ItemElement, Value
from pacsnode.dicom.wild_card import matches_wild_card

WILD_CARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
RANGE_VRS = frozenset({"DA", "TM", "DT"})
MULTIPLE_VALUES_VRS = frozenset({"AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"})
_TEXT_VRS = frozenset({"AE", "AS", "AT", "CS", "LO", "LT", "SH", "ST", "UC", "UI", "UR", "UT"})
_LAST_MICROSECOND_OF_DAY = 24 * 60 * 60 * 1_000_000 - 1


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
        number: of a key of VR IS within 32 bits, of VR DS, or of a number in binary.
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

    Where `ignores_accents` is set, the patterns have none, and a column is compared as
    `without_accents` returns it.
    """

    any_group: tuple[str, ...] = ()
    alphabetic: tuple[str, ...] = ()
    ideographic: tuple[str, ...] = ()
    phonetic: tuple[str, ...] = ()
    ignores_accents: bool = False


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of two or more alternatives matches (rule C-24)."""

    alternatives: tuple["Matching", ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each of two or more parts matches, each by any value (PS3.4 C.2.2.2.8, rule B-16)."""

    parts: tuple["Matching", ...]


@dataclass(frozen=True, slots=True)
class ItemKey:
    """What an element of an item must be like.

    Attributes:
        tag: of the element.
        vr: of the key, as the data dictionary has it.
        matching: what its value must be like; never Universal.
    """

    tag: int
    vr: str
    matching: "Matching"


@dataclass(frozen=True, slots=True)
class ItemMatching:
    """One and the same item of a sequence matches all these keys (PS3.4 C.2.2.2.6; rule C-26)."""

    keys: tuple[ItemKey, ...]


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
    | ItemMatching
)
Moment = tuple[int, int]
"""A day as the number YYYYMMDD, and a microsecond of it."""


@dataclass(frozen=True, slots=True)
class NameMatching:
    """How Person Names are matched; the defaults are rules C-30 to C-33.

    Attributes:
        family_name_alone: a key group of one component without a wild card finds every name that
            has this family name.
        ignores_accents: accents of letters do not count.
        any_group: a key without `=` is for any component group; else for the alphabetic one.
    """

    family_name_alone: bool = False
    ignores_accents: bool = False
    any_group: bool = True


DEFAULT_NAME_MATCHING = NameMatching()


def matches(
    matching: Matching,
    vr: str,
    stored: Value,
    *,
    match_unknown: bool = False,
    offset_minutes: int = 0,
) -> bool:
    """Tell whether a stored value answers a key.

    Args:
        matching: what the key asks for.
        vr: of the key and the value.
        stored: the value of the entity, possibly several; '' or no items if it is empty or absent.
            One matching value or item is enough.
        match_unknown: an entity whose value is not known matches every key, as PS3.4 C.2.2.1.1
            has it for Query/Retrieve (rule C-5), except that a damaged one is not `EmptyValue`.
        offset_minutes: of a stored DT without an offset.

    Source: PS3.4 C.2.2.2, C.2.2.3; rules C-5, C-23, C-26.
    """
    match matching:
        case Universal():
            return True
        case AnyOf(members) | AllOf(members):
            quantifier = any if isinstance(matching, AnyOf) else all
            return quantifier(
                matches(
                    member, vr, stored, match_unknown=match_unknown, offset_minutes=offset_minutes
                )
                for member in members
            )
        case ItemMatching():
            if not stored or not isinstance(stored, tuple):
                return match_unknown
            found = _matching_items(
                matching, stored, match_unknown=match_unknown, offset_minutes=offset_minutes
            )
            return next(found, None) is not None
        case _:
            # What is no text has no value that could be compared.
            text = stored if isinstance(stored, str) else ""
            is_match = _matches_text(matching, vr, text, offset_minutes)
            return match_unknown if is_match is None else is_match


def matching_items(
    matching: ItemMatching,
    items: tuple[Item, ...],
    *,
    match_unknown: bool = False,
    offset_minutes: int = 0,
) -> tuple[Item, ...]:
    """Return what an answer has of a sequence: the items that match, in their order.

    Of a sequence within them that is matched, too, they have only the items that match.

    Source: PS3.4 C.2.2.2.6; rule C-26.
    """

    def only_matching(matching: ItemMatching, items: tuple[Item, ...]) -> tuple[Item, ...]:
        found = _matching_items(
            matching, items, match_unknown=match_unknown, offset_minutes=offset_minutes
        )
        inner = {
            key.tag: key.matching for key in matching.keys if isinstance(key.matching, ItemMatching)
        }
        return tuple(with_only_matching(item, inner) if inner else item for item in found)

    def with_only_matching(item: Item, inner: Mapping[int, ItemMatching]) -> Item:
        return {
            tag: ItemElement(vr, only_matching(inner[tag], value))
            if tag in inner and isinstance(value, tuple)
            else ItemElement(vr, value)
            for tag, (vr, value) in item.items()
        }

    return only_matching(matching, items)


def matches_span(
    lower: Moment | None, upper: Moment | None, date: str, time: str, *, match_unknown: bool
) -> bool:
    """Tell whether a date and a time are one that lies within a range of date-times.

    Where the time is unknown, any time of the day counts: one of them lies within. Where the date
    is unknown, nothing is known.

    Args:
        lower: the first that is asked for; None for an open end.
        upper: the last one; not before `lower`.
        date: the decoded DA value of the entity; '' if it is empty or absent.
        time: its TM value.
        match_unknown: an unknown date matches.

    Source: PS3.4 C.2.2.2.5.4; rules B-12, C-18.
    """
    days = date_interval(normalise_text(date, "DA"))
    if days is None:
        return match_unknown
    first, last = time_interval(normalise_text(time, "TM")) or (0, _LAST_MICROSECOND_OF_DAY)
    day = days[0]
    return (lower is None or (day, last) >= lower) and (upper is None or (day, first) <= upper)


def known_values(text: str, vr: str) -> list[str]:
    """Return the values that say something, each in the form in which it is compared.

    Source: PS3.5 6.2; rules C-1, C-3, C-31.
    """
    values = (normalise_text(value, vr) for value in split_values(text, vr))
    return [value for value in values if (fold(value) if vr == "PN" else value)]


def comparable_vrs(vr: str) -> frozenset[str]:
    """Return the VRs whose values a key of a VR is compared with.

    An element of an item may have been sent with another VR than the data dictionary has. It is as
    good where values of both are compared in the same way; else nothing is known of it.
    """
    for vrs in (_TEXT_VRS, NUMBER_VRS):
        if vr in vrs:
            return vrs
    return frozenset({vr})


def glob_pattern(pattern: str) -> str:
    """Return the SQLite GLOB pattern that means the same as a wild card pattern.

    Source: PS3.4 C.2.2.2.4; rule C-36.
    """
    return re.sub(r"\*+", "*", pattern).replace("[", "[[]")


def _matches_text(
    matching: Never
    | EmptyValue
    | EqualText
    | EqualNumber
    | WildCard
    | UidList
    | Interval
    | PersonName,
    vr: str,
    stored: str,
    offset_minutes: int,
) -> bool | None:
    """Whether some value answers a key; None if no value is known."""
    match matching:
        case EmptyValue():
            return not known_values(stored, vr)
        case Interval() | Never():
            intervals = _known_intervals(stored, vr, offset_minutes)
            overlaps = any(_overlaps(matching, interval) for interval in intervals)
            return overlaps if intervals else None
        case _:
            texts = known_values(stored, vr)
            return any(_fits(matching, text, vr) for text in texts) if texts else None


def _known_intervals(stored: str, vr: str, offset_minutes: int) -> list[tuple[int, int]]:
    """The intervals of the stored values that can be read (rules C-16, C-18)."""
    texts = known_values(stored, vr)
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
            if number is None:
                return text == matching.text
            return float(number) == float(matching.number)  # as a database compares them
        case WildCard():
            return matches_wild_card(matching.pattern, text)
        case UidList():
            return text in matching.uids
        case PersonName():
            return _fits_name(matching, text)


def _matching_items(
    matching: ItemMatching, items: tuple[Item, ...], *, match_unknown: bool, offset_minutes: int
) -> Iterator[Item]:
    """The items of which each satisfies all keys; a missing element is unknown (rule C-5)."""
    for item in items:
        for key in matching.keys:
            vr, value = item.get(key.tag) or (key.vr, "")
            if vr not in comparable_vrs(key.vr):
                vr, value = key.vr, ""
            if not matches(
                key.matching, vr, value, match_unknown=match_unknown, offset_minutes=offset_minutes
            ):
                break
        else:
            yield item


def _fits_name(matching: PersonName, name: str) -> bool:
    groups, whole = fold_component_groups(name), fold(name)
    if matching.ignores_accents:
        groups, whole = groups_without_accents(groups), without_accents(whole)
    tests = (
        (matching.any_group, (*groups, whole)),
        (matching.alphabetic, groups[:1]),
        (matching.ideographic, groups[1:2]),
        (matching.phonetic, groups[2:]),
    )
    return all(
        not patterns
        or any(matches_wild_card(pattern, text) for pattern in patterns for text in texts)
        for patterns, texts in tests
    )
