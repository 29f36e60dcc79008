"""Dates and times as intervals of integers: what DA, TM and DT values and keys mean (PS3.5 6.2).

A value stands for the interval of its precision: `1015` is the whole minute. A key matches if its
interval and that of the stored value overlap (rule C-18). All intervals include both ends.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache

Interval = tuple[int, int]
Range = tuple[int | None, int | None]

_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})|([0-9]{4})\.([0-9]{2})\.([0-9]{2})")
_TIME = re.compile(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")
_OLD_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?")
_DATE_TIME = re.compile(
    r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})([0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?)?)?)?"
    r"(?:([+-])([0-9]{2})([0-9]{2}))?"
)
_MICROSECONDS_PER_SECOND = 1_000_000
_MICROSECONDS_PER_MINUTE = 60 * _MICROSECONDS_PER_SECOND
_MICROSECONDS_PER_HOUR = 60 * _MICROSECONDS_PER_MINUTE
_MICROSECONDS_PER_DAY = 24 * _MICROSECONDS_PER_HOUR
_LOWEST_OFFSET_MINUTES = -12 * 60
_HIGHEST_OFFSET_MINUTES = 14 * 60
_LEAP_SECOND = 60


def normalise_date(value: str) -> str:
    """Return an ACR-NEMA date (`2020.01.15`) in its modern form, and any other value unchanged.

    Source: PS3.5 6.2 (VR DA); rules C-16, D-8.
    """
    match = _DATE.fullmatch(value.strip(" "))
    return "".join(match.group(4, 5, 6)) if match and match[4] else value


def normalise_time(value: str) -> str:
    """Return an ACR-NEMA time (`10:15:30`) in its modern form, and any other value unchanged.

    Source: PS3.5 6.2 (VR TM); rules C-17, D-8.
    """
    return value.strip(" ").replace(":", "") if _OLD_TIME.fullmatch(value.strip(" ")) else value


@lru_cache(maxsize=4096)
def date_interval(value: str) -> Interval | None:
    """Return a DA value as two equal integers YYYYMMDD, or None if it is no date.

    Source: PS3.5 6.2 (VR DA); rule C-16.
    """
    match = _DATE.fullmatch(value.strip(" "))
    if match is None:
        return None
    year, month, day = (int(part) for part in match.groups() if part)
    if _day_number(year, month, day) is None:
        return None
    number = year * 10_000 + month * 100 + day
    return number, number


@lru_cache(maxsize=4096)
def time_interval(value: str) -> Interval | None:
    """Return first and last microsecond of the day that a TM value means; None if it is no time.

    A leap second counts as the last microsecond of its minute.

    Source: PS3.5 6.2 (VR TM); rules C-17, C-18.
    """
    match = _TIME.fullmatch(normalise_time(value).strip(" "))
    if match is None:
        return None
    hour, minute, second = (int(part or 0) for part in match.group(1, 2, 3))
    if hour > 23 or minute > 59 or second > _LEAP_SECOND:  # noqa: PLR2004
        return None
    start = hour * _MICROSECONDS_PER_HOUR + minute * _MICROSECONDS_PER_MINUTE
    if second == _LEAP_SECOND:
        return (start + _MICROSECONDS_PER_MINUTE - 1,) * 2
    start += second * _MICROSECONDS_PER_SECOND
    if match[4]:
        start += int(match[4].ljust(6, "0"))
        return start, start + 10 ** (6 - len(match[4])) - 1
    if match[3]:
        return start, start + _MICROSECONDS_PER_SECOND - 1
    return start, start + (_MICROSECONDS_PER_MINUTE if match[2] else _MICROSECONDS_PER_HOUR) - 1


@lru_cache(maxsize=4096)
def date_time_interval(value: str, offset_minutes: int = 0) -> Interval | None:
    """Return first and last microsecond (UTC, since the year 1) of a DT value; None if it is none.

    Args:
        value: one DT value.
        offset_minutes: the offset from UTC of a value without one, east positive.

    Source: PS3.5 6.2 (VR DT); rules C-18, C-20.
    """
    match = _DATE_TIME.fullmatch(value.strip(" "))
    if match is None:
        return None
    offset = _offset_minutes(match, offset_minutes)
    days = _days(match)
    within_day = time_interval(match[4]) if match[4] else (0, _MICROSECONDS_PER_DAY - 1)
    if offset is None or days is None or within_day is None:
        return None
    shift = offset * _MICROSECONDS_PER_MINUTE
    return (
        days[0] * _MICROSECONDS_PER_DAY + within_day[0] - shift,
        days[1] * _MICROSECONDS_PER_DAY + within_day[1] - shift,
    )


def date_range(key: str) -> Range:
    """Return the dates that a DA key asks for; None for an open end, both for a lone hyphen.

    The lower end is above the upper one if the key was written that way.

    Raises:
        ValueError: the key is neither a date nor a range of dates.

    Source: PS3.4 C.2.2.2.5; rules C-15, C-16.
    """
    return _range(key, date_interval, "date")


def time_range(key: str) -> Range:
    """Return the microseconds of the day that a TM key asks for, like `date_range`.

    Raises:
        ValueError: the key is neither a time nor a range of times.

    Source: PS3.4 C.2.2.2.5; rules C-17 to C-19.
    """
    return _range(key, time_interval, "time")


def date_time_range(key: str, offset_minutes: int = 0) -> Range:
    """Return the microseconds (UTC, since the year 1) that a DT key asks for, like `date_range`.

    A hyphen may also begin an offset. The first one that separates two valid values in order, or
    one from an open end, makes the key a range; without such a hyphen it is a single value.

    Raises:
        ValueError: the key is neither a date-time nor a range of them.

    Source: PS3.4 C.2.2.2.5; rules C-20, C-21.
    """

    def interval(value: str) -> Interval | None:
        return date_time_interval(value, offset_minutes)

    reversed_range = None
    for hyphen in re.finditer("-", key):
        parts = _ends(key[: hyphen.start()], key[hyphen.end() :], interval)
        if parts and _is_ordered(parts):
            return parts
        reversed_range = reversed_range or parts
    single = interval(key)
    if single:
        return single
    if reversed_range:
        return reversed_range
    raise ValueError("not a date-time or a range of date-times")


def _range(key: str, interval: Callable[[str], Interval | None], kind: str) -> Range:
    """The range of a key in which a hyphen can only separate."""
    lower, hyphen, upper = key.partition("-")
    ends = _ends(lower, upper, interval) if hyphen else interval(lower)
    if ends is None:
        raise ValueError(f"not a {kind} or a range of {kind}s")
    return ends


def _ends(lower: str, upper: str, interval: Callable[[str], Interval | None]) -> Range | None:
    """What the two sides of a hyphen span, or None if one of them is no value."""
    ends: list[int | None] = []
    for i, side in enumerate((lower, upper)):
        if not side.strip(" "):
            ends.append(None)
            continue
        span = interval(side)
        if span is None:
            return None
        ends.append(span[i])
    return ends[0], ends[1]


def _is_ordered(ends: Range) -> bool:
    """Whether the lower end is not above the upper one."""
    return ends[0] is None or ends[1] is None or ends[0] <= ends[1]


def _day_number(year: int, month: int, day: int) -> int | None:
    """Days since the first of January of the year 1; None for a day that does not exist."""
    try:
        return date(year, month, day).toordinal() - 1
    except ValueError:
        return None


def _days(match: re.Match[str]) -> Interval | None:
    """First and last day number of the year, month or day of a DT value."""
    year, month, day = int(match[1]), int(match[2] or 1), int(match[3] or 1)
    first = _day_number(year, month, day)
    if first is None:
        return None
    if match[3]:
        return first, first
    last_month = month if match[2] else 12
    last = next(filter(None, (_day_number(year, last_month, d) for d in (31, 30, 29, 28))))
    return first, last


def _offset_minutes(match: re.Match[str], default: int) -> int | None:
    """The offset of a DT value; None for one that does not exist."""
    if not match[5]:
        return default
    hours, minutes = int(match[6]), int(match[7])
    offset = (hours * 60 + minutes) * (-1 if match[5] == "-" else 1)
    is_offset = minutes < 60 and _LOWEST_OFFSET_MINUTES <= offset <= _HIGHEST_OFFSET_MINUTES  # noqa: PLR2004
    return offset if is_offset else None
