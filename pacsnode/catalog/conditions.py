"""From one kind of matching to one SQL condition. Patterns are written here and nowhere else.

The meaning is that of dicom.matching.matches; a test runs both on the same keys and values.

Source: PS3.4 C.2.2.2; rules C-5 to C-36.
"""

import json
import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Final, assert_never

from peewee import SQL, Column, Expression

from pacsnode.catalog.columns import Form, form_of, matched_column
from pacsnode.catalog.models import INSTANCE, SERIES, STUDY, TABLE
from pacsnode.dicom.attributes import BY_KEYWORD, Attribute, KeyType
from pacsnode.dicom.identifier import MatchingKey
from pacsnode.dicom.matching import (
    AllOf,
    AnyOf,
    EmptyValue,
    EqualNumber,
    EqualText,
    Interval,
    Matching,
    Never,
    PersonName,
    UidList,
    Universal,
    WildCard,
    glob_pattern,
)
from pacsnode.dicom.wild_card import has_wild_card

Condition = Expression | SQL

# SQLite takes 32,766 variables in a statement; longer UID lists go in as one value (rule C-10).
_LONGEST_LIST_OF_VARIABLES: Final = 1_000


def condition(key: MatchingKey, *, match_unknown: bool) -> Condition:
    """Return the condition that a key states, on the tables of the entity tree.

    Args:
        key: of an Attribute that is matched.
        match_unknown: an entity without a value matches (rule C-5); unique keys and computed
            Attributes always have one.
    """
    attribute = key.attribute
    match attribute.keyword:
        case "ModalitiesInStudy":
            return _exists_in_study(
                _stored(BY_KEYWORD["Modality"], key.matching, match_unknown=match_unknown)
            )
        case "SOPClassesInStudy":
            return _exists_in_study(
                _stored(BY_KEYWORD["SOPClassUID"], key.matching, match_unknown=False)
            )
        case "AvailableTransferSyntaxUID":
            return _Stored(INSTANCE.transfer_syntax_uid, attribute).condition(key.matching)
        case _:
            return _stored(attribute, key.matching, match_unknown=match_unknown)


def _exists_in_study(of_instance_or_series: Condition) -> Condition:
    """Return the condition that a study has a series or instance with a condition (rule A-11)."""
    below = (
        SERIES.select(SERIES.study_key)
        .join(INSTANCE, on=(INSTANCE.series_key == SERIES.key))
        .where(of_instance_or_series)
    )
    return STUDY.key.in_(below)


def _stored(attribute: Attribute, matching: Matching, *, match_unknown: bool) -> Condition:
    value = getattr(TABLE[attribute.level], attribute.column)
    stored = _Stored(value, attribute)
    expression = stored.condition(matching)
    if match_unknown and attribute.key_type is not KeyType.UNIQUE:
        return expression | stored.unknown()
    return expression


class _Stored:
    """The columns of one Attribute, as conditions see them."""

    def __init__(self, value: Column, attribute: Attribute) -> None:
        self._value = value
        self._attribute = attribute

    def condition(  # noqa: C901, PLR0911, PLR0912 - one case for each kind, checked as complete
        self, matching: Matching
    ) -> Condition:
        """Return the condition that a kind of matching is on these columns."""
        match matching:
            case Universal():
                return SQL("1 = 1")
            case Never():
                return SQL("1 = 0")
            case EmptyValue():
                return self._empty()
            case EqualText(text):
                return self._text == text
            case EqualNumber(number, text):
                column = self._matched("number")
                return (column == float(number)) | (column.is_null() & (self._value == text))
            case WildCard(pattern):
                return _fits(self._text, pattern)
            case UidList(uids):
                return is_one_of(self._value, uids)
            case Interval(lower, upper):
                return self._overlaps(lower, upper)
            case PersonName():
                return self._is_named(matching)
            case AnyOf(alternatives):
                return _any(map(self.condition, alternatives))
            case AllOf(parts):
                return reduce(operator.and_, map(self.condition, parts))
            case _:
                assert_never(matching)

    def unknown(self) -> Condition:
        """Return the condition that nothing is known of the Attribute.

        Source: PS3.4 C.2.2.1.1; rules C-5, C-16.
        """
        match form_of(self._attribute):
            case Form.DATE:
                return self._matched("day").is_null()
            case Form.TIME:
                return self._matched("from").is_null()
            case _:
                return self._empty()

    def _empty(self) -> Condition:
        """Return the condition that there is no value; one that cannot be read is a value."""
        match form_of(self._attribute):
            case Form.NAME:
                return self._matched("folded").is_null()
            case Form.TEXT:
                return self._matched("match").is_null()
            case _:
                return self._value.is_null()

    @property
    def _text(self) -> Column:
        is_text = form_of(self._attribute) is Form.TEXT
        return self._matched("match") if is_text else self._value

    def _matched(self, ending: str) -> Column:
        column: Column = getattr(self._value.source, matched_column(self._attribute, ending))
        return column

    def _overlaps(self, lower: int | None, upper: int | None) -> Condition:
        """Return the condition that the stored interval overlaps another (rule C-18)."""
        if form_of(self._attribute) is Form.DATE:
            first = last = self._matched("day")
        else:
            first, last = self._matched("from"), self._matched("to")
        if lower is None:
            return first <= upper
        if upper is None:
            return last >= lower
        return (first <= upper) & (last >= lower)

    def _is_named(self, name: PersonName) -> Condition:
        """Return the condition that the stored Person Name fits (rules C-30 to C-33)."""
        groups = {
            group: self._matched(group) for group in ("alphabetic", "ideographic", "phonetic")
        }
        expressions = [
            _any(_fits(column, pattern) for pattern in getattr(name, group))
            for group, column in groups.items()
            if getattr(name, group)
        ]
        if name.any_group:
            columns = (self._matched("folded"), *groups.values())
            expressions.append(
                _any(_fits(column, pattern) for column in columns for pattern in name.any_group)
            )
        return reduce(operator.and_, expressions)


def _fits(column: Column, pattern: str) -> Condition:
    """Return the condition that a column fits a DICOM pattern.

    GLOB is case-sensitive, knows Unicode and uses an index for a literal beginning; LIKE does none
    of this (rule C-36). peewee writes GLOB for `%`.
    """
    return column % glob_pattern(pattern) if has_wild_card(pattern) else column == pattern


def _any(expressions: Iterable[Condition]) -> Condition:
    """Return the condition that one of these holds, nested no deeper than needed.

    SQLite takes expressions of 1,000 levels; a key may have more alternatives than that.
    """
    level = list(expressions)
    while len(level) > 1:
        level = [reduce(operator.or_, level[i : i + 2]) for i in range(0, len(level), 2)]
    return level[0]


def is_one_of(column: Column, uids: Sequence[str]) -> Condition:
    """Return the condition that a column is one of some UIDs, however many (rule C-10)."""
    if len(uids) <= _LONGEST_LIST_OF_VARIABLES:
        return column.in_(list(uids))
    return column.in_(SQL("(SELECT value FROM json_each(?))", [json.dumps(uids)]))
