"""From an Attribute to its columns: the text that is returned, and beside it what is matched.

The text is kept as it was received (rule D-8). What is matched is made from it once, when the
instance is added, so that a query only compares (rules C-18, C-25, C-36, I-3 to I-7).
"""

from collections.abc import Mapping
from enum import Enum

from pacsnode.dicom.attributes import STORED_ATTRIBUTES, Attribute
from pacsnode.dicom.date_time import date_interval, time_interval
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.person_name import fold, fold_component_groups
from pacsnode.dicom.text_values import normalise_text, number_of

ColumnValue = str | int | float | None


class Form(Enum):
    """How the value of an Attribute is prepared for matching."""

    VERBATIM = "verbatim"  # compared as it is: UI, CS, AE, AS; and what is not matched
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
    return _FORMS.get(attribute.vr, Form.VERBATIM) if attribute.is_matched else Form.VERBATIM


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
    """Return names and SQL types of the columns of all stored Attributes of a level."""
    return tuple(
        column
        for attribute in STORED_ATTRIBUTES
        if attribute.level is level
        for column in columns_of(attribute)
    )


def row_values(level: Level, values: Mapping[str, str]) -> dict[str, ColumnValue]:
    """Return the values of a level's columns for the text of its Attributes, by column name."""
    row: dict[str, ColumnValue] = {}
    for attribute in STORED_ATTRIBUTES:
        if attribute.level is level:
            text = _comparable(attribute, values.get(attribute.keyword))
            names = [name for name, _ in columns_of(attribute)]
            row.update(zip(names, (text, *_matched_values(attribute, text)), strict=True))
    return row


def _comparable(attribute: Attribute, text: str | None) -> str | None:
    """Return the text without control characters where it is compared as it is returned.

    None of these VRs allows them; SQLite would compare up to a NUL or not, as it sees fit.

    Source: rules I-9, I-10.
    """
    if text and attribute.is_matched and form_of(attribute) is Form.VERBATIM:
        return normalise_text(text, attribute.vr) or text
    return text


def _matched_values(  # noqa: PLR0911 - one case for each form
    attribute: Attribute, text: str | None
) -> tuple[ColumnValue, ...]:
    form = form_of(attribute)
    if text is None:
        return (None,) * len(_MATCHED_COLUMNS[form])
    match form:
        case Form.VERBATIM:
            return ()
        case Form.TEXT:
            return (normalise_text(text, attribute.vr) or None,)
        case Form.NAME:
            return (fold(text) or None, *(group or None for group in fold_component_groups(text)))
        case Form.DATE:
            day = date_interval(text)
            return (None if day is None else day[0],)
        case Form.TIME:
            return time_interval(text) or (None, None)
        case Form.NUMBER:
            number = number_of(normalise_text(text, attribute.vr), attribute.vr)
            return (None if number is None else float(number),)
