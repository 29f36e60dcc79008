"""What was noted of instances that contradict their patient, study or series (agreement.py)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from peewee import Select, fn

from pacsnode.catalog.agreement import LEVELS_ABOVE
from pacsnode.catalog.columns import COLUMN_ATTRIBUTES
from pacsnode.catalog.database import CatalogDatabase
from pacsnode.catalog.further import shown, values_of
from pacsnode.catalog.models import INCONSISTENCY, INSTANCE, TABLE
from pacsnode.catalog.records import Inconsistency
from pacsnode.dicom.attributes import UNIQUE_KEY, Keys
from pacsnode.dicom.information_model import Level

_PAGE_LENGTH: Final = 200  # entities


def find(database: CatalogDatabase, keys: Keys) -> Iterator[Inconsistency]:
    """Yield what instances state otherwise than what answers, from patients down to series.

    Each entity, Attribute and value comes once; those of an entity together. Nothing is held
    between two pages.

    Raises:
        CatalogError: the database fails.
    """
    keywords = {attribute.name: attribute.keyword for attribute in keys.attributes}
    for level in LEVELS_ABOVE:
        above = 0
        while True:
            with database.reading():
                entities = _entities(database, level, above)
                known = _known(database, level, entities)
                noted = list(_noted(level, entities).tuples().execute(database.peewee))
            if not entities:
                break
            above = entities[-1]
            for entity_key, name, value, count, sop_instance_uid in noted:
                unique_key, texts = known[entity_key]
                yield Inconsistency(
                    level=level,
                    entity=unique_key,
                    attribute=keywords.get(name, name),
                    answer=texts.get(name, ""),
                    other=value,
                    instances=count,
                    sop_instance_uid=sop_instance_uid,
                )


def _entities(database: CatalogDatabase, level: Level, above: int) -> list[int]:
    """Return the keys of the next entities of a level that something was noted of."""
    query = (
        INCONSISTENCY.select(INCONSISTENCY.entity_key)
        .where((INCONSISTENCY.level == level.value) & (INCONSISTENCY.entity_key > above))
        .distinct()
        .order_by(INCONSISTENCY.entity_key)
        .limit(_PAGE_LENGTH)
    )
    return [key for (key,) in query.tuples().execute(database.peewee)]


def _noted(level: Level, entities: Sequence[int]) -> Select:
    """Return a selection of what was noted of entities: each value, how often, and who was first.

    One column for each of: key of the entity, name of the Attribute, value, number of instances,
    SOP Instance UID.
    """
    grouped = (
        INCONSISTENCY.select(
            INCONSISTENCY.entity_key,
            INCONSISTENCY.name,
            INCONSISTENCY.value,
            fn.COUNT(INCONSISTENCY.instance_key).alias("instances"),
            fn.MIN(INCONSISTENCY.instance_key).alias("first"),
        )
        .where((INCONSISTENCY.level == level.value) & INCONSISTENCY.entity_key.in_(list(entities)))
        .group_by(INCONSISTENCY.entity_key, INCONSISTENCY.name, INCONSISTENCY.value)
        .alias("grouped")
    )
    of_group = grouped.c
    return (
        INSTANCE.select(
            of_group.entity_key,
            of_group.name,
            of_group.value,
            of_group.instances,
            INSTANCE.sop_instance_uid,
        )
        .join(grouped, on=(INSTANCE.key == of_group.first))
        .order_by(of_group.entity_key, of_group.name, of_group.first)
    )


def _known(
    database: CatalogDatabase, level: Level, entities: Sequence[int]
) -> dict[int, tuple[str, Mapping[str, str]]]:
    """Return the unique key of some entities, and the text of their Attributes by name."""
    table, attributes = TABLE[level], COLUMN_ATTRIBUTES[level]
    unique_name = UNIQUE_KEY[level].name
    columns = (getattr(table, attribute.column) for attribute in attributes)
    query = table.select(table.key, table.further, *columns).where(table.key.in_(list(entities)))
    known: dict[int, tuple[str, Mapping[str, str]]] = {}
    row: Sequence[Any]
    for row in query.tuples().execute(database.peewee):
        texts = {name: shown(value) for name, value in values_of(row[1]).items()}
        texts |= {a.name: text or "" for a, text in zip(attributes, row[2:], strict=True)}
        known[row[0]] = (texts[unique_name], texts)
    return known
