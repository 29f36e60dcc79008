"""Dates and times as intervals."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.dicom.date_time import (
    date_interval,
    date_range,
    date_time_interval,
    date_time_range,
    normalise_date,
    normalise_time,
    time_interval,
    time_range,
)

_MICROSECOND = timedelta(microseconds=1)
_DAY = 86_400_000_000


def _since_year_1(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    moment = datetime(year, month, day, hour, minute, tzinfo=UTC)
    return (moment - datetime(1, 1, 1, tzinfo=UTC)) // _MICROSECOND


@pytest.mark.parametrize("value", ["20200229", " 20200229 ", "2020.02.29"])
def test_a_date_is_a_day(value: str) -> None:
    """A date in either form, padded or not, is one integer (C-16)."""
    assert date_interval(value) == (20200229, 20200229)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "2020",
        "202001",
        "00000000",
        "20201332",
        "20190229",
        "2020-01-15",
        "2020.0115",
        "*",
        "\u0662020011\u0665",
    ],
)
def test_what_is_no_day_is_unknown(value: str) -> None:
    """A value that names no real Gregorian day has no interval (C-16)."""
    assert date_interval(value) is None


@given(st.dates())
def test_the_order_of_dates_is_that_of_their_integers(day: date) -> None:
    """A written date is read back as its digits (C-16)."""
    digits = f"{day.year:04}{day.month:02}{day.day:02}"
    assert date_interval(digits) == (int(digits), int(digits))


@pytest.mark.parametrize(
    ("value", "lower", "upper"),
    [
        ("00", 0, 3_599_999_999),
        ("1015", 36_900_000_000, 36_959_999_999),
        ("101530", 36_930_000_000, 36_930_999_999),
        ("101530.5", 36_930_500_000, 36_930_599_999),
        ("101530.000001", 36_930_000_001, 36_930_000_001),
        ("10:15", 36_900_000_000, 36_959_999_999),
        ("10:15:30.5", 36_930_500_000, 36_930_599_999),
        ("235960", _DAY - 1, _DAY - 1),
        ("235960.5", _DAY - 1, _DAY - 1),
    ],
)
def test_a_time_is_the_interval_of_its_precision(value: str, lower: int, upper: int) -> None:
    """A time reaches to the last microsecond that begins with its digits (C-17, C-18)."""
    assert time_interval(value) == (lower, upper)


@pytest.mark.parametrize(
    "value",
    ["", "2400", "021", "1060", "101561", "101530.", "101530.1234567", "10:1530", "1015+0100"],
)
def test_what_is_no_time_is_unknown(value: str) -> None:
    """A value that breaks the grammar of TM has no interval (C-17)."""
    assert time_interval(value) is None


@given(st.times(), st.sampled_from([2, 4, 6, 8, 13]))
def test_a_time_is_within_its_own_interval(moment: time, length: int) -> None:
    """A time cut to any precision still covers the exact one (C-18)."""
    exact = time_interval(moment.strftime("%H%M%S.%f"))
    cut = time_interval(moment.strftime("%H%M%S.%f")[:length])
    assert exact
    assert cut
    assert cut[0] <= exact[0] == exact[1] <= cut[1]


@pytest.mark.parametrize(
    ("value", "lower", "upper"),
    [
        ("2020", _since_year_1(2020, 1, 1), _since_year_1(2021, 1, 1) - 1),
        ("202002", _since_year_1(2020, 2, 1), _since_year_1(2020, 3, 1) - 1),
        ("20200115", _since_year_1(2020, 1, 15), _since_year_1(2020, 1, 16) - 1),
        ("2020011510", _since_year_1(2020, 1, 15, 10), _since_year_1(2020, 1, 15, 11) - 1),
        (
            "202001151015-0530",
            _since_year_1(2020, 1, 15, 15, 45),
            _since_year_1(2020, 1, 15, 15, 46) - 1,
        ),
        ("0001+1400", -14 * 3_600_000_000, _since_year_1(2, 1, 1) - 14 * 3_600_000_000 - 1),
        ("9999", _since_year_1(9999, 1, 1), _since_year_1(9999, 12, 31) + _DAY - 1),
    ],
)
def test_a_date_time_is_an_interval_in_utc(value: str, lower: int, upper: int) -> None:
    """A DT value covers its precision, shifted by its offset (C-18, C-20)."""
    assert date_time_interval(value) == (lower, upper)


def test_an_offset_of_the_value_wins() -> None:
    """The default offset holds only for a value without its own (C-20)."""
    assert date_time_interval("2020+0000", 60) == date_time_interval("2020")
    assert date_time_interval("2020", 60) == date_time_interval("2020+0100")


@pytest.mark.parametrize(
    "value", ["", "202", "202013", "20200230", "0000", "2020+1500", "2020-1201", "2020+0160"]
)
def test_what_is_no_date_time_is_unknown(value: str) -> None:
    """A value that breaks the grammar of DT has no interval (C-20)."""
    assert date_time_interval(value) is None


@given(st.text("0123456789.:+-", max_size=20))
def test_an_interval_does_not_end_before_it_begins(value: str) -> None:
    """The lower end is never above the upper one, and no value raises (C-18)."""
    intervals = (date_interval(value), time_interval(value), date_time_interval(value))
    assert all(interval[0] <= interval[1] for interval in intervals if interval)


@given(st.datetimes())
def test_date_times_keep_their_order(moment: datetime) -> None:
    """A written DT is read back as the microseconds since the year 1 (C-20)."""
    text = moment.isoformat(timespec="microseconds")
    value = text.translate(str.maketrans("", "", "-:T"))
    exact = (moment - datetime(1, 1, 1)) // _MICROSECOND  # noqa: DTZ001 - both are naive
    assert date_time_interval(value) == (exact, exact)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("20200115", (20200115, 20200115)),
        ("20200101 - 20200131", (20200101, 20200131)),
        ("-20200131", (None, 20200131)),
        ("20200101-", (20200101, None)),
        ("-", (None, None)),
        ("20200131-20200101", (20200131, 20200101)),
    ],
)
def test_a_date_key_is_a_range(key: str, expected: tuple[int | None, int | None]) -> None:
    """A missing end is open; both ends belong to the range (C-15)."""
    assert date_range(key) == expected


@pytest.mark.parametrize("key", ["2020", "--", "20200101--20200131", "20200101-2020", "x"])
def test_a_malformed_date_key_is_refused(key: str) -> None:
    """What is neither a date nor a range of dates raises, without the key (C-15, B-20)."""
    with pytest.raises(ValueError, match=r"^not a date or a range of dates$"):
        date_range(key)


def test_a_time_range_ends_with_the_last_microsecond() -> None:
    """The end of a range covers its own precision (C-18)."""
    assert time_range("1000-1100") == (36_000_000_000, 39_659_999_999)


@pytest.mark.parametrize(
    ("key", "lower", "upper"),
    [
        ("2020-2021", "2020", "2021"),
        ("20200101-0500-", "20200101-0500", None),
        ("-2020-0500", None, "2020-0500"),
        ("2020-0500", "2020-0500", "2020-0500"),
        ("2020-0500-2021-0500", "2020-0500", "2021-0500"),
        ("2021-2020", "2021", "2020"),
    ],
)
def test_a_hyphen_in_a_date_time_separates_where_it_can(
    key: str, lower: str | None, upper: str | None
) -> None:
    """The first hyphen between two values in order separates; others begin an offset (C-21)."""
    first, _ = (date_time_interval(lower) if lower else None) or (None, None)
    _, last = (date_time_interval(upper) if upper else None) or (None, None)
    assert date_time_range(key) == (first, last)


@pytest.mark.parametrize("key", ["", "2020*", "--", "2020-13000000"])
def test_a_malformed_date_time_key_is_refused(key: str) -> None:
    """What is neither a date-time nor a range of them raises (B-20)."""
    with pytest.raises(ValueError, match="date-time"):
        date_time_range(key)


@pytest.mark.parametrize(
    ("value", "normal"),
    [("2020.01.15", "20200115"), ("20200115", "20200115"), ("junk", "junk"), ("2020.1.15",) * 2],
)
def test_an_old_date_is_returned_in_the_modern_form(value: str, normal: str) -> None:
    """Dots of an ACR-NEMA date go, all else stays (D-8)."""
    assert normalise_date(value) == normal


@pytest.mark.parametrize(
    ("value", "normal"),
    [("10:15", "1015"), ("10:15:30.5", "101530.5"), ("101530", "101530"), ("1:2", "1:2")],
)
def test_an_old_time_is_returned_in_the_modern_form(value: str, normal: str) -> None:
    """Colons of an ACR-NEMA time go, all else stays (D-8)."""
    assert normalise_time(value) == normal
