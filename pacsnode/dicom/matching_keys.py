"""From the text of a key to what it asks for: one of the kinds of matching.py (PS3.4 C.2.2.2).

Source: PS3.4 C.2.2.2; rules B-12, B-16, B-17, C-1 to C-33.
"""

from pacsnode.dicom.date_time import Range, date_range, date_time_range, time_range
from pacsnode.dicom.matching import (
    DEFAULT_NAME_MATCHING,
    MULTIPLE_VALUES_VRS,
    RANGE_VRS,
    WILD_CARD_VRS,
    AllOf,
    AnyOf,
    EmptyValue,
    EqualNumber,
    EqualText,
    Interval,
    Matching,
    Moment,
    NameMatching,
    Never,
    PersonName,
    UidList,
    Universal,
    WildCard,
    known_values,
)
from pacsnode.dicom.person_name import (
    fold,
    fold_component_groups,
    groups_without_accents,
    is_universal,
    pattern_alternatives,
    without_accents,
)
from pacsnode.dicom.text_values import number_of
from pacsnode.dicom.wild_card import has_wild_card

_EMPTY_VALUE_VRS = frozenset(
    {"AE", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"}
)
_EMPTY_VALUE_KEY = '""'


class MalformedKey(ValueError):  # noqa: N818 - named for what the requestor did
    """A key does not have a form that its VR allows; says how, without the key's value."""


def parse_matching_key(
    vr: str,
    text: str,
    *,
    empty_value: bool = False,
    multiple_values: bool = False,
    offset_minutes: int = 0,
    names: NameMatching = DEFAULT_NAME_MATCHING,
) -> Matching:
    """Return what a key asks for.

    Args:
        vr: of the key; not SQ.
        text: the decoded Value Field, possibly several values.
        empty_value: empty value matching was negotiated.
        multiple_values: multiple value matching was negotiated and the Attribute may have several
            values.
        offset_minutes: of the node's time zone, for a DT key without an offset.
        names: how Person Names are matched.

    Raises:
        MalformedKey: a DA, TM or DT key is neither a value nor a range; or several values with a
            wild card where multiple value matching was negotiated.

    Source: PS3.4 C.2.2.2; rules C-1 to C-24, B-16, B-17, B-20.
    """
    values = list(dict.fromkeys(known_values(text, vr)))
    if values == [_EMPTY_VALUE_KEY] and empty_value and vr in _EMPTY_VALUE_VRS:
        return EmptyValue()
    is_multiple = multiple_values and len(values) > 1 and vr in MULTIPLE_VALUES_VRS
    if is_multiple and vr in WILD_CARD_VRS and any(map(has_wild_card, values)):
        raise MalformedKey("several values take no wild card")
    if not values or any(_is_universal_key(value, vr, names) for value in values):
        return Universal()
    if vr == "UI":
        return UidList(tuple(values))
    if vr == "PN":
        kinds: tuple[Matching, ...] = tuple(_person_name(value, names) for value in values)
    else:
        kinds = tuple(_classify(value, vr, offset_minutes) for value in values)
    if is_multiple:
        return AllOf(kinds)
    return _any_of(kinds)


def parse_combined_key(date: str, time: str) -> tuple[Moment | None, Moment | None] | None:
    """Return the one range that a DA and a TM key ask for together; None if each is for itself.

    Together they are if both are ranges of the same form: with both ends, or open at the same one.

    Args:
        date: the decoded Value Field of a key that parse_matching_key understands.
        time: the same, of the key for the time.

    Source: PS3.4 C.2.2.2.5.4; rule B-12.
    """
    dates, times = known_values(date, "DA"), known_values(time, "TM")
    if len(dates) != 1 or len(times) != 1 or "-" not in dates[0] or "-" not in times[0]:
        return None
    from_day, to_day = date_range(dates[0])
    from_time, to_time = time_range(times[0])
    if (from_day is None, to_day is None) != (from_time is None, to_time is None):
        return None
    lower = None if from_day is None or from_time is None else (from_day, from_time)
    upper = None if to_day is None or to_time is None else (to_day, to_time)
    return None if lower is upper else (lower, upper)


def _is_universal_key(value: str, vr: str, names: NameMatching) -> bool:
    """Whether one value of a key asks for no value in particular (rules C-11, C-15, C-32)."""
    if vr == "PN":
        folded = fold(value)
        return is_universal(without_accents(folded) if names.ignores_accents else folded)
    return not value.strip("*") or (vr in RANGE_VRS and value == "-")


def _classify(value: str, vr: str, offset_minutes: int) -> Matching:
    """What one value of a key asks for that is not universal (rule C-4)."""
    if vr in RANGE_VRS:
        return _interval(value, vr, offset_minutes)
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


def _person_name(value: str, names: NameMatching) -> PersonName:
    """The patterns of a PN key: for any group, or with `=` group by group (rule C-32)."""
    groups = fold_component_groups(value)
    if names.ignores_accents:
        groups = groups_without_accents(groups)
    has_one_group = "=" not in value
    alphabetic, ideographic, phonetic = (_patterns_of_group(group, names) for group in groups)
    if has_one_group and names.any_group:
        return PersonName(any_group=alphabetic, ignores_accents=names.ignores_accents)
    return PersonName((), alphabetic, ideographic, phonetic, names.ignores_accents)


def _patterns_of_group(group: str, names: NameMatching) -> tuple[str, ...]:
    """The patterns of one component group of a key; none where it asks for nothing."""
    if is_universal(group):
        return ()
    alternatives = pattern_alternatives(group)
    if names.family_name_alone and "^" not in group and not has_wild_card(group):
        return (*alternatives, f"{group}^*")
    return alternatives


def _any_of(kinds: tuple[Matching, ...]) -> Matching:
    """The alternatives without those that never match."""
    possible = tuple(kind for kind in dict.fromkeys(kinds) if not isinstance(kind, Never))
    if not possible:
        return Never()
    return possible[0] if len(possible) == 1 else AnyOf(possible)
