"""Sets of keys: which Attributes an instance was catalogued with, as a number in its row.

A set has the Attributes without columns of their own, extra keys and those of this program; what
has columns comes with a schema. An instance of another set, or of none (0), is to be reindexed.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Final

from peewee import Database, fn

from pacsnode.catalog.database import CatalogDatabase
from pacsnode.catalog.models import INSTANCE, KEY_SET
from pacsnode.catalog.records import ReindexState
from pacsnode.dicom.attributes import Attribute, Keys, Origin

TO_BE_REINDEXED: Final = 0


def number_of_key_set(database: CatalogDatabase, keys: Keys) -> int:
    """Return the number of a set of keys; a new one if the catalog has not seen it yet.

    Raises:
        CatalogError: the database fails.
    """
    names = _names(keys)
    with database.reading():
        number = _find(database.peewee, names)
    if number is None:
        with database.writing():
            KEY_SET.insert({KEY_SET.names: names}).on_conflict_ignore().execute(database.writer)
            number = _find(database.writer, names)
    if number is None:
        raise LookupError("a set of keys is not there after it was added")
    return number


def reindex_state(database: CatalogDatabase, keys: Keys, key_set: int) -> ReindexState:
    """Return how many instances are to be reindexed for a set of keys, and for which of them.

    Raises:
        CatalogError: the database fails.
    """
    of_instances = INSTANCE.select(INSTANCE.key_set, fn.COUNT(INSTANCE.key))
    of_sets = KEY_SET.select(KEY_SET.key, KEY_SET.names)
    with database.reading():
        grouped = of_instances.group_by(INSTANCE.key_set).tuples().execute(database.peewee)
        counts: dict[int, int] = dict(grouped)
        names = {key: json.loads(text) for key, text in of_sets.tuples().execute(database.peewee)}
    total = sum(counts.values())
    having = Counter[str]()
    for key, count in counts.items():
        having.update(dict.fromkeys(names.get(key, ()), count))
    return ReindexState(
        pending=total - counts.get(key_set, 0),
        total=total,
        lacking={a.name: total - having[_description(a)] for a in _members(keys)},
    )


def _members(keys: Keys) -> Iterator[Attribute]:
    """Yield what belongs to a set: the stored Attributes without columns of their own."""
    return (a for a in keys.attributes if a.origin is Origin.STORED and not a.column)


def _description(attribute: Attribute) -> str:
    """Return what an Attribute is known by: if that changes, its values are to be read anew."""
    return f"{attribute.name} {attribute.vr} {attribute.level.name}"


def _names(keys: Keys) -> str:
    """Return what a set of keys is known by."""
    return json.dumps(sorted(map(_description, _members(keys))))


def _find(database: Database, names: str) -> int | None:
    row = next(
        iter(KEY_SET.select(KEY_SET.key).where(KEY_SET.names == names).tuples().execute(database)),
        None,
    )
    return None if row is None else int(row[0])
