"""What a key asks of one value, as a condition in SQL: patterns are written here and nowhere else.

Source: PS3.4 C.2.2.2; rules C-9 to C-36.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, assert_never

from peewee import SQL, Column, ColumnBase, NodeList, fn

from pacsnode.catalog.columns import Form, form_of, matched_column
from pacsnode.catalog.models import TABLE
from pacsnode.dicom.attributes import Attribute
from pacsnode.dicom.matching import (
    AllOf,
    AnyOf,
    EmptyValue,
    EqualNumber,
    EqualText,
    Interval,
    ItemMatching,
    Matching,
    Never,
    PersonName,
    UidList,
    Universal,
    WildCard,
    glob_pattern,
)
from pacsnode.dicom.text_values import NUMBER_VRS
from pacsnode.dicom.wild_card import has_wild_card

Condition = ColumnBase

# SQLite takes 32,766 variables in a statement; longer UID lists go in as one value (rule C-10). A
# request may have some five hundred of them, beside names in thousands of forms.
_LONGEST_LIST_OF_VARIABLES: Final = 20
# SQLite takes expressions of 1,000 levels, and each of these adds one or two.
_MOST_TERMS: Final = 100
_GROUPS: Final = ("alphabetic", "ideographic", "phonetic")
_FORM_IN_JSON: Final = {
    "PN": Form.NAME,
    "DA": Form.DATE,
    "TM": Form.TIME,
    "DT": Form.TIME,
    **dict.fromkeys(NUMBER_VRS, Form.NUMBER),
}
# Where a value of a JSON text has what it is matched by; see further.py.
PLACE_IN_VALUE: Final = {
    "match": 1,
    "folded": 1,
    **{group: place for place, group in enumerate(_GROUPS, start=2)},
    "day": 1,
    "from": 1,
    "to": 2,
    "number": 1,
}


class Value(ABC):
    """One value, as conditions see it.

    Attributes:
        form: how it is prepared for matching.
        text: as it was received.
    """

    form: Form
    text: ColumnBase

    @abstractmethod
    def matched(self, ending: str) -> ColumnBase:
        """Return what it is matched by: something with the name of a column's ending."""

    @abstractmethod
    def is_there(self) -> Condition:
        """Return the condition that it says something; what cannot be read does, too."""

    def is_known(self) -> Condition:
        """Return the condition that it can be compared.

        Source: PS3.4 C.2.2.1.1; rules C-5, C-16.
        """
        match self.form:
            case Form.DATE:
                return self.matched("day").is_null(is_null=False)
            case Form.TIME:
                return self.matched("from").is_null(is_null=False)
            case _:
                return self.is_there()

    def fits(  # noqa: C901, PLR0911 - one case for each kind, checked as complete
        self, matching: Matching
    ) -> Condition:
        """Return the condition that it answers a key."""
        match matching:
            case EqualText(text):
                return self._compared_text == text
            case EqualNumber(number, text):
                column = self.matched("number")
                return (column == float(number)) | (column.is_null() & (self.text == text))
            case WildCard(pattern):
                return _fits_pattern(self._compared_text, pattern)
            case UidList(uids):
                return is_one_of(self._compared_text, uids)
            case Interval(lower, upper):
                return self._overlaps(lower, upper)
            case PersonName():
                return self._is_named(matching)
            case AnyOf(alternatives):
                return any_of([self.fits(alternative) for alternative in alternatives])
            case Never():
                return SQL("1 = 0")
            case Universal() | EmptyValue() | AllOf() | ItemMatching():
                raise TypeError(f"{type(matching).__name__} is about all values")
            case _:
                assert_never(matching)

    @property
    def _compared_text(self) -> ColumnBase:
        return self.matched("match") if self.form is Form.TEXT else self.text

    def _overlaps(self, lower: int | None, upper: int | None) -> Condition:
        """Return the condition that the stored interval overlaps another (rule C-18)."""
        if self.form is Form.DATE:
            first = last = self.matched("day")
        else:
            first, last = self.matched("from"), self.matched("to")
        if lower is None:
            return first <= upper
        if upper is None:
            return last >= lower
        return (first <= upper) & (last >= lower)

    def _is_named(self, name: PersonName) -> Condition:
        """Return the condition that the stored Person Name fits (rules C-30 to C-33)."""

        def fits(ending: str, pattern: str) -> Condition:
            column = self.matched(ending)
            if name.ignores_accents:
                column = fn.without_accents(column)
            return _fits_pattern(column, pattern)

        conditions = [
            any_of([fits(group, pattern) for pattern in getattr(name, group)])
            for group in _GROUPS
            if getattr(name, group)
        ]
        if name.any_group:
            pairs = [(pattern, ending) for pattern in name.any_group for ending in _tried(pattern)]
            conditions.append(any_of([fits(ending, pattern) for pattern, ending in pairs]))
        return all_of(conditions)


class ValueInColumns(Value):
    """The value of an Attribute that has columns of its own."""

    def __init__(self, attribute: Attribute, text: Column | None = None) -> None:
        table = TABLE[attribute.level]
        self.form = form_of(attribute)
        self.text = getattr(table, attribute.column) if text is None else text
        self._attribute = attribute
        self._table = table

    def matched(self, ending: str) -> ColumnBase:
        """Return the column with an ending."""
        column: Column = getattr(self._table, matched_column(self._attribute, ending))
        return column

    def is_there(self) -> Condition:
        """Return the condition that it says something."""
        match self.form:
            case Form.NAME:
                return self.matched("folded").is_null(is_null=False)
            case Form.TEXT:
                return self.matched("match").is_null(is_null=False)
            case _:
                return self.text.is_null(is_null=False)


class ValueInJson(Value):
    """A value of a list in a JSON text: a text, or a list of a text and what it is matched by."""

    def __init__(self, name: str, vr: str) -> None:
        """Take the name of a row of json_each, and the VR whose forms the values have."""
        self._name = name
        self.form = _FORM_IN_JSON.get(vr, Form.TEXT)
        self.text = self._at(0)

    def matched(self, ending: str) -> ColumnBase:
        """Return what stands where the ending is written."""
        return self._at(PLACE_IN_VALUE[ending])

    def is_there(self) -> Condition:
        """Return the condition that it says something."""
        match self.form:
            case Form.NAME:
                return self.matched("folded") != ""
            case Form.TEXT:
                return self.matched("match") != ""
            case _:
                return self.text != ""

    def _at(self, place: int) -> ColumnBase:
        """Return what a list has at a place. What is no list is compared as it is.

        Nothing is looked for in what is no list: SQLite takes no text that is not JSON.
        """
        name = self._name
        otherwise = f"{name}.value" if self.form is Form.TEXT else "NULL"
        return SQL(
            f"CASE {name}.type WHEN 'array' THEN json_extract({name}.value, '$[{place}]')"
            f" ELSE {otherwise} END"
        )


def is_one_of(column: ColumnBase, uids: Sequence[str]) -> Condition:
    """Return the condition that a column is one of some UIDs, however many (rule C-10)."""
    if len(uids) <= _LONGEST_LIST_OF_VARIABLES:
        return column.in_(list(uids))
    return column.in_(SQL("(SELECT value FROM json_each(?))", [json.dumps(uids)]))


def _tried(pattern: str) -> tuple[str, ...]:
    """Return what a pattern for any component group is tried on; it need not be tried on more.

    The whole name begins with the alphabetic group and ends with the last one: what is open at an
    end and fits that group fits the whole, too.
    """
    alphabetic, ideographic, phonetic = _GROUPS
    begins, ends = pattern.startswith("*"), pattern.endswith("*")
    if begins and ends:
        return ("folded",)
    if ends:
        return ("folded", ideographic, phonetic)
    if begins:
        return ("folded", alphabetic, ideographic)
    return ("folded", *_GROUPS)


def _fits_pattern(column: ColumnBase, pattern: str) -> Condition:
    """Return the condition that a column fits a DICOM pattern.

    GLOB is case-sensitive, knows Unicode and uses an index for a literal beginning; LIKE does none
    of this (rule C-36). peewee writes GLOB for `%`.
    """
    return column % glob_pattern(pattern) if has_wild_card(pattern) else column == pattern


def any_of(conditions: Sequence[Condition]) -> Condition:
    """Return the condition that one of these holds."""
    return _chained(conditions, " OR ")


def all_of(conditions: Sequence[Condition]) -> Condition:
    """Return the condition that all of these hold."""
    return _chained(conditions, " AND ")


def _chained(terms: Sequence[Condition], glue: str) -> Condition:
    """Return terms with an operator between them, in chains that SQLite takes."""
    while len(terms) > _MOST_TERMS:
        terms = [
            NodeList(terms[i : i + _MOST_TERMS], glue, parens=True)
            for i in range(0, len(terms), _MOST_TERMS)
        ]
    return terms[0] if len(terms) == 1 else NodeList(terms, glue, parens=True)
