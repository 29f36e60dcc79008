"""From a matching key to a condition in SQL, wherever the catalog keeps the values it is about.

How it works. What a key asks of one value is the same wherever that value is kept, and written in
value_conditions.py. Where values are kept is what `_Values` know: the columns of a row, the list
that a JSON text has for an Attribute (further.py), the element of an item of a sequence. They also
know whose row it is: that of the entity, or any of those below a study.

The meaning is that of dicom.matching.matches; a test runs both on the same keys and values.

Source: PS3.4 C.2.2.2; rules C-5 to C-36.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from peewee import SQL, Column, ColumnBase, NodeList, fn

from pacsnode.catalog.columns import matched_column
from pacsnode.catalog.models import INSTANCE, SERIES, STUDY, TABLE, CatalogTable
from pacsnode.catalog.value_conditions import (
    PLACE_IN_VALUE,
    Condition,
    ValueInColumns,
    ValueInJson,
    all_of,
)
from pacsnode.dicom.attributes import BY_KEYWORD, Attribute, KeyType
from pacsnode.dicom.matching import (
    AllOf,
    EmptyValue,
    ItemKey,
    ItemMatching,
    Matching,
    Universal,
    comparable_vrs,
)
from pacsnode.dicom.query import CombinedKey, MatchingKey

# From a condition on a row below an entity to one on the entity.
_Exists = Callable[[Condition], Condition]

# A path of SQLite cannot name a member with these.
_NOT_IN_PATH: Final = re.compile(r'["\\\x00-\x1f]')


def condition(key: MatchingKey | CombinedKey, *, match_unknown: bool) -> Condition:
    """Return the condition that a key states, on the tables of the entity tree.

    Args:
        key: of an Attribute that is matched.
        match_unknown: an entity without a value matches (rule C-5); unique keys always have one.
    """
    if isinstance(key, CombinedKey):
        return _combined(key, match_unknown=match_unknown)
    values = _values_of(key.attribute)
    is_unique = key.attribute.key_type is KeyType.UNIQUE
    return _condition(values, key.matching, match_unknown=match_unknown and not is_unique)


def _values_of(attribute: Attribute) -> "_Values":
    """Return where the values of an Attribute are kept."""
    match attribute.keyword:
        case "ModalitiesInStudy":
            modality = ValueInColumns(BY_KEYWORD["Modality"])
            return _Single(modality, _in_study(SERIES))
        case "SOPClassesInStudy":
            sop_class = ValueInColumns(BY_KEYWORD["SOPClassUID"])
            return _Single(sop_class, _in_study(INSTANCE))
        case "AnatomicRegionsInStudyCodeSequence":
            source = _list_of(BY_KEYWORD["AnatomicRegionSequence"])
            return _List(source, "SQ", _in_study(INSTANCE))
        case "AvailableTransferSyntaxUID":
            return _Single(ValueInColumns(attribute, INSTANCE.transfer_syntax_uid))
        case _ if attribute.column:
            return _Single(ValueInColumns(attribute))
        case _:
            return _List(_list_of(attribute), attribute.vr)


def _condition(values: "_Values", matching: Matching, *, match_unknown: bool) -> Condition:
    """Return the condition that a kind of matching is on some values.

    Source: PS3.4 C.2.2.1.1, C.2.2.2; rules C-5, B-16, B-17.
    """
    match matching:
        case Universal():
            return SQL("1 = 1")
        case EmptyValue():
            return values.are_empty()
        case AllOf(parts):
            found = all_of([_condition(values, part, match_unknown=False) for part in parts])
        case _:
            found = values.some(matching, match_unknown=match_unknown)
    return found | values.are_unknown() if match_unknown else found


class _Values(ABC):
    """All values of an Attribute that an entity has."""

    @abstractmethod
    def some(self, matching: Matching, *, match_unknown: bool) -> Condition:
        """Return the condition that some value or item answers a key.

        Args:
            matching: what is asked of one of them.
            match_unknown: an element that an item lacks answers, too.
        """

    @abstractmethod
    def are_unknown(self) -> Condition:
        """Return the condition that none can be compared (rule C-5)."""

    @abstractmethod
    def are_empty(self) -> Condition:
        """Return the condition that none says anything (rule B-17)."""


class _Single(_Values):
    """One value in columns, of the entity itself or of each of some rows below it."""

    def __init__(self, value: ValueInColumns, exists: _Exists | None = None) -> None:
        self._value = value
        self._exists = exists

    def some(self, matching: Matching, *, match_unknown: bool) -> Condition:  # noqa: ARG002
        return self._in_some_row(self._value.fits(matching))

    def are_unknown(self) -> Condition:
        return _not(self._in_some_row(self._value.is_known()))

    def are_empty(self) -> Condition:
        return _not(self._in_some_row(self._value.is_there()))

    def _in_some_row(self, expression: Condition) -> Condition:
        return expression if self._exists is None else self._exists(expression)


class _List(_Values):
    """A list of values in a JSON text, of the entity itself or of each of some rows below it."""

    def __init__(
        self,
        source: ColumnBase,
        vr: str,
        exists: _Exists | None = None,
        *,
        only: str = "",
        depth: int = 0,
    ) -> None:
        """Take where the list is.

        Args:
            source: what is given to json_each.
            vr: whose forms the values have.
            exists: where it is in each of some rows below the entity.
            only: a condition in SQL on what counts.
            depth: the number of lists that it is in.
        """
        self._source = source
        self._name = f"v{depth}"
        self._value = ValueInJson(self._name, vr)
        self._is_sequence = vr == "SQ"
        self._exists = exists
        self._only = [SQL(only)] if only else []
        self._depth = depth

    def some(self, matching: Matching, *, match_unknown: bool) -> Condition:
        if isinstance(matching, ItemMatching):
            keys = [
                _condition(self._elements(key), key.matching, match_unknown=match_unknown)
                for key in matching.keys
            ]
            return self._some([self._is_item, *keys])
        return self._some([self._value.fits(matching)])

    def are_unknown(self) -> Condition:
        return _not(self._some([self._is_item if self._is_sequence else self._value.is_known()]))

    def are_empty(self) -> Condition:
        return _not(self._some([self._value.is_there()]))

    @property
    def _is_item(self) -> Condition:
        return SQL(f"{self._name}.type = 'object'")

    def _elements(self, key: ItemKey) -> "_List":
        """Return the values that an item has for a key.

        Its list begins with the VR. What has another one is not comparable, so it is not known.
        """
        item = f"CASE {self._name}.type WHEN 'object' THEN {self._name}.value END"
        path = f'$."{key.tag:08X}"'
        vrs = ", ".join(f"'{vr}'" for vr in sorted(comparable_vrs(key.vr)))
        inner = f"v{self._depth + 1}"
        return _List(
            SQL(f"{item}, '{path}'"),
            key.vr,
            only=f"{inner}.key > 0 AND json_extract({item}, '{path}[0]') IN ({vrs})",
            depth=self._depth + 1,
        )

    def _some(self, conditions: list[Condition]) -> Condition:
        """Return the condition that all of these hold for one value."""
        found = NodeList(
            (
                SQL("EXISTS (SELECT 1 FROM json_each("),
                self._source,
                SQL(f") AS {self._name} WHERE"),
                all_of([*self._only, *conditions]),
                SQL(")"),
            )
        )
        return found if self._exists is None else self._exists(found)


def _list_of(attribute: Attribute) -> ColumnBase:
    """Return what json_each is given for the values of an Attribute without columns."""
    further = TABLE[attribute.level].further
    if not _NOT_IN_PATH.search(attribute.name):
        return NodeList((further, SQL(", ?", [f'$."{attribute.name}"'])))
    member = SQL(") AS m WHERE m.key = ?)", [attribute.name])
    return NodeList((SQL("(SELECT m.value FROM json_each("), further, member))


def _in_study(table: CatalogTable) -> _Exists:
    """Return what makes a condition on a series or instance one on its study (rule A-11).

    It is looked up study by study, so that the studies can be walked in the order of the answers.
    """

    def exists(expression: Condition) -> Condition:
        below = SERIES.select(SQL("1"))
        if table is INSTANCE:
            below = below.join(INSTANCE, on=(INSTANCE.series_key == SERIES.key))
        return fn.EXISTS(below.where(SERIES.study_key == STUDY.key, expression))

    return exists


def _combined(key: CombinedKey, *, match_unknown: bool) -> Condition:
    """Return the condition that date and time lie within one range; see matches_span.

    Source: PS3.4 C.2.2.2.5.4; rule B-12.
    """
    day = _part(key.date, "day")
    first, last = _part(key.time, "from"), _part(key.time, "to")
    conditions: list[Condition] = []
    if key.lower is not None:
        lower_day, lower_time = key.lower
        is_late_enough = (day > lower_day) | first.is_null() | (last >= lower_time)
        conditions += [day >= lower_day, is_late_enough]
    if key.upper is not None:
        upper_day, upper_time = key.upper
        is_early_enough = (day < upper_day) | first.is_null() | (first <= upper_time)
        conditions += [day <= upper_day, is_early_enough]
    found = all_of(conditions)
    return found | day.is_null() if match_unknown else found


def _part(attribute: Attribute, ending: str) -> ColumnBase:
    """Return what the only value of an Attribute is matched by."""
    table = TABLE[attribute.level]
    if attribute.column:
        column: Column = getattr(table, matched_column(attribute, ending))
        return column
    return fn.json_extract(table.further, f'$."{attribute.name}"[0][{PLACE_IN_VALUE[ending]}]')


def _not(expression: Condition) -> Condition:
    negated: Condition = ~expression
    return negated
