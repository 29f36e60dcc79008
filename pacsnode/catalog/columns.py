"""From an Attribute to its columns: the text that is returned, and beside it what is matched.

The text is kept as it was received (rule D-8). What is matched is made from it once, when the
instance is added, so that a query only compares (rules C-18, C-25, C-36, I-3 to I-7).
"""

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from pacsnode.dicom.attributes import STORED_ATTRIBUTES, Attribute
from pacsnode.dicom.date_time import date_interval, time_interval
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.person_name import fold, fold_component_groups
from pacsnode.dicom.text_values import normalise_text, number_of
from pacsnode.dicom.values import Value

ColumnValue = str | int | float | None
_ColumnValues = tuple[ColumnValue, ...]

# Dates, numbers and names repeat from instance to instance; each is read once.
_REMEMBERED_VALUES: Final = 4096


class Form(Enum):
    """How the value of an Attribute is prepared for matching."""

    VERBATIM = "verbatim"  # compared as it is: UI, CS, AE, AS
    TEXT = "text"  # NFC and trimmed
    NAME = "name"  # folded, whole and by component group
    DATE = "date"  # a day as an integer
    TIME = "time"  # the first and the last microsecond meant
    NUMBER = "number"


_FORMS = {
    **dict.fromkeys(("LO", "SH", "LT", "ST", "UT", "UC", "UR"), Form.TEXT),
    **dict.fromkeys(("IS", "DS"), Form.NUMBER),
    "PN": Form.NAME,
    "DA": Form.DATE,
    "TM": Form.TIME,
}
# What has columns of its own; the rest is kept as further.py says.
COLUMN_ATTRIBUTES: Final = {
    level: tuple(a for a in STORED_ATTRIBUTES if a.level is level and a.column) for level in Level
}
# Column name endings and SQL types, in the order of the values that matched_values() gives.
_MATCHED_COLUMNS = {
    Form.VERBATIM: (),
    Form.TEXT: (("match", "TEXT"),),
    Form.NAME: (
        ("folded", "TEXT"),
        ("alphabetic", "TEXT"),
        ("ideographic", "TEXT"),
        ("phonetic", "TEXT"),
    ),
    Form.DATE: (("day", "INTEGER"),),
    Form.TIME: (("from", "BIGINT"), ("to", "BIGINT")),
    Form.NUMBER: (("number", "DOUBLE PRECISION"),),
}


def form_of(attribute: Attribute) -> Form:
    """Return how the values of an Attribute are matched."""
    return _FORMS.get(attribute.vr, Form.VERBATIM)


def matched_column(attribute: Attribute, ending: str) -> str:
    """Return the name of one of the columns that an Attribute is matched by."""
    return f"{attribute.column}_{ending}"


def columns_of(attribute: Attribute) -> tuple[tuple[str, str], ...]:
    """Return names and SQL types of all the columns of an Attribute, the returned text first."""
    matched = _MATCHED_COLUMNS[form_of(attribute)]
    return (
        (attribute.column, "TEXT"),
        *((matched_column(attribute, ending), sql_type) for ending, sql_type in matched),
    )


def columns_at(level: Level) -> tuple[tuple[str, str], ...]:
    """Return names and SQL types of the columns of all Attributes of a level that have some."""
    return tuple(
        column for attribute in COLUMN_ATTRIBUTES[level] for column in columns_of(attribute)
    )


def row_values(level: Level, values: Mapping[str, Value]) -> list[ColumnValue]:
    """Return the values of a level's columns for the values of its Attributes, by keyword.

    Returns:
        In the order of columns_at(level).
    """
    row: list[ColumnValue] = []
    for keyword, vr, column_values, absent in _FILLED[level]:
        text = values.get(keyword)
        row += column_values(text, vr) if isinstance(text, str) else absent
    return row


def values_of_columns(attribute: Attribute, text: str) -> dict[str, ColumnValue]:
    """Return the values of the columns of one Attribute for its text, by their names."""
    names = [name for name, _ in columns_of(attribute)]
    values = _COLUMN_VALUES[form_of(attribute)](text, attribute.vr)
    return dict(zip(names, values, strict=True))


def _comparable(text: str, vr: str) -> _ColumnValues:
    """Return the text without control characters, for it is compared as it is returned.

    None of these VRs allows them; SQLite would compare up to a NUL or not, as it sees fit.

    Source: rules I-9, I-10.
    """
    return (normalise_text(text, vr) or text,)


def _text(text: str, vr: str) -> _ColumnValues:
    return (text, normalise_text(text, vr) or None)


@lru_cache(_REMEMBERED_VALUES)
def _name(text: str, _vr: str) -> _ColumnValues:
    return (text, fold(text) or None, *(group or None for group in fold_component_groups(text)))


@lru_cache(_REMEMBERED_VALUES)
def _date(text: str, _vr: str) -> _ColumnValues:
    day = date_interval(text)
    return (text, None if day is None else day[0])


@lru_cache(_REMEMBERED_VALUES)
def _time(text: str, _vr: str) -> _ColumnValues:
    return (text, *(time_interval(text) or (None, None)))


@lru_cache(_REMEMBERED_VALUES)
def _number(text: str, vr: str) -> _ColumnValues:
    number = number_of(normalise_text(text, vr), vr)
    return (text, None if number is None else float(number))


class _Filled(NamedTuple):
    """How the columns of one Attribute are filled.

    Attributes:
        keyword: of the Attribute.
        vr: its Value Representation.
        column_values: from its text and VR to the values of its columns.
        absent: the values of its columns where it has no text.
    """

    keyword: str
    vr: str
    column_values: Callable[[str, str], _ColumnValues]
    absent: _ColumnValues


_COLUMN_VALUES: Final[dict[Form, Callable[[str, str], _ColumnValues]]] = {
    Form.VERBATIM: _comparable,
    Form.TEXT: _text,
    Form.NAME: _name,
    Form.DATE: _date,
    Form.TIME: _time,
    Form.NUMBER: _number,
}


def _filled(attribute: Attribute) -> _Filled:
    return _Filled(
        keyword=attribute.keyword,
        vr=attribute.vr,
        column_values=_COLUMN_VALUES[form_of(attribute)],
        absent=(None,) * len(columns_of(attribute)),
    )


_FILLED: Final = {
    level: tuple(map(_filled, attributes)) for level, attributes in COLUMN_ATTRIBUTES.items()
}
