"""Values that are computed from what the catalog holds below an entity, for a page of entities.

They are counted and collected when they are asked for, so that they are never out of date.

Source: PS3.4 C.3.4; rules A-10, A-11.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from peewee import Column, Function, Select, fn

from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.further import value_of
from pacsnode.catalog.models import INSTANCE, PARENT_KEY, SERIES, TABLE
from pacsnode.catalog.statements import parameters, room_for, sql
from pacsnode.dicom.attributes import BY_KEYWORD, Attribute
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.values import Value

_STATEMENTS_REMEMBERED: Final = 64
_COUNTED: Final = {
    "NumberOfPatientRelatedStudies": Level.STUDY,
    "NumberOfPatientRelatedSeries": Level.SERIES,
    "NumberOfPatientRelatedInstances": Level.IMAGE,
    "NumberOfStudyRelatedSeries": Level.SERIES,
    "NumberOfStudyRelatedInstances": Level.IMAGE,
    "NumberOfSeriesRelatedInstances": Level.IMAGE,
}
# Where the distinct values come from: a column of a lower level.
_COLLECTED: Final = {
    "ModalitiesInStudy": (Level.SERIES, SERIES.modality.name),
    "SOPClassesInStudy": (Level.IMAGE, INSTANCE.sop_class_uid.name),
}


def computed_values(
    database: CatalogDatabase, attribute: Attribute, keys: Sequence[int]
) -> Mapping[int, Value]:
    """Return the value of a computed Attribute for some entities of its level, by their key.

    Args:
        database: to read from, within reading().
        attribute: which.
        keys: of the entities; at most PAGE_LENGTH.

    Source: rules A-10, A-11.
    """
    if not keys:
        return {}
    keyword = attribute.keyword
    if keyword in _COUNTED:
        counts = count_below(database, _COUNTED[keyword], attribute.level, keys)
        return {key: str(counts[key]) for key in keys}
    if keyword in _COLLECTED:
        lower, column = _COLLECTED[keyword]
        distinct = distinct_below(database, (lower, column), attribute.level, keys)
        return {key: "\\".join(distinct[key]) for key in keys}
    return _anatomic_regions(database, keys)


def distinct_below(
    database: CatalogDatabase, column: tuple[Level, str], upper: Level, keys: Sequence[int]
) -> Mapping[int, tuple[str, ...]]:
    """Return the distinct values of a column under each of some entities, sorted, without empties.

    Args:
        database: to read from, within reading().
        column: the level of its table, SERIES or IMAGE, and its name.
        upper: the level of the entities.
        keys: of the entities; at least one, and at most PAGE_LENGTH.
    """
    statement = _distinct(*column, upper, room_for(keys))
    values: defaultdict[int, set[str]] = defaultdict(set)
    for key, value in execute(database.peewee, statement, parameters(keys)).fetchall():
        if value:
            values[key].add(value)
    return {key: tuple(sorted(values[key])) for key in keys}


def count_below(
    database: CatalogDatabase, lower: Level, upper: Level, keys: Sequence[int]
) -> Mapping[int, int]:
    """Return how many rows of a lower level each of some entities has (rule A-10).

    Args:
        database: to read from, within reading().
        lower: the level of what is counted.
        upper: the level of the entities.
        keys: of the entities; at least one, and at most PAGE_LENGTH.
    """
    statement = _count(lower, upper, room_for(keys))
    rows = execute(database.peewee, statement, parameters(keys)).fetchall()
    counts = {key: number for key, number in rows}  # noqa: C416 - dict() takes no sequences
    return {key: counts.get(key, 0) for key in keys}


def _anatomic_regions(database: CatalogDatabase, keys: Sequence[int]) -> Mapping[int, Value]:
    """Return the distinct items of Anatomic Region Sequence under each of some studies."""
    path = f'$."{BY_KEYWORD["AnatomicRegionSequence"].name}"'
    statement = _further_texts(room_for(keys))
    regions: dict[int, dict[str, Any]] = {key: {} for key in keys}
    for key, text in execute(database.peewee, statement, [path, *parameters(keys)]).fetchall():
        for item in json.loads(text) if text else ():
            regions[key][json.dumps(item, sort_keys=True)] = item
    return {
        key: value_of([items[text] for text in sorted(items)]) if items else ()
        for key, items in regions.items()
    }


@lru_cache(_STATEMENTS_REMEMBERED)
def _distinct(lower: Level, column: str, upper: Level, room: int) -> str:
    owner = _upper_key(lower, upper)
    return sql(_below((owner, getattr(TABLE[lower], column)), lower, upper, room).distinct())


@lru_cache(_STATEMENTS_REMEMBERED)
def _count(lower: Level, upper: Level, room: int) -> str:
    owner = _upper_key(lower, upper)
    columns = (owner, fn.COUNT(TABLE[lower].key))
    return sql(_below(columns, lower, upper, room).group_by(owner))


@lru_cache(_STATEMENTS_REMEMBERED)
def _further_texts(room: int) -> str:
    """Return the statement that reads one further value of the instances of studies."""
    owner = _upper_key(Level.IMAGE, Level.STUDY)
    columns = (owner, fn.JSON_EXTRACT(INSTANCE.further, ""))
    return sql(_below(columns, Level.IMAGE, Level.STUDY, room).distinct())


def _below(columns: Iterable[Column | Function], lower: Level, upper: Level, room: int) -> Select:
    """Return a selection from a lower level's rows under so many entities of an upper level."""
    selection = TABLE[lower].select(*columns)
    for level in sorted((lv for lv in Level if upper < lv < lower), reverse=True):
        child = Level(level + 1)
        selection = selection.join(TABLE[level], on=(PARENT_KEY[child] == TABLE[level].key))
    return selection.where(_upper_key(lower, upper).in_([0] * room))


def _upper_key(lower: Level, upper: Level) -> Column:
    """Return the column, in the joined rows of a lower level, that names the upper entity."""
    return TABLE[lower].key if lower is upper else PARENT_KEY[Level(upper + 1)]
