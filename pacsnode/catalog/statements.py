"""What the statements of queries are built of: joins of the entity tree, and lists of keys."""

from collections.abc import Iterable, Sequence
from typing import Final

from peewee import SQL, Column, Delete, Function, Insert, Select, SqliteDatabase, Update

from pacsnode.catalog.models import PARENT_KEY, TABLE
from pacsnode.dicom.information_model import Level

PAGE_LENGTH: Final = 200
# Statements are made for a few numbers of keys, so that they can be kept; the last key fills up.
_ROOMS: Final = (1, 20, PAGE_LENGTH)
_DIALECT: Final = SqliteDatabase(None)


def sql(query: Select | Insert | Update | Delete) -> str:
    """Return a query as the text of a statement whose values are all given when it is executed."""
    text: str = _DIALECT.get_sql_context().sql(query).query()[0]  # type: ignore[no-untyped-call]
    return text


def room_for(keys: Sequence[int]) -> int:
    """Return for how many keys a statement is made that is to be given these.

    Args:
        keys: at least one, and at most PAGE_LENGTH.
    """
    return next(room for room in _ROOMS if room >= len(keys))


def parameters(keys: Sequence[int]) -> list[int]:
    """Return keys as the values of a statement that has room for them: the last one fills it."""
    return [*keys, *[keys[-1]] * (room_for(keys) - len(keys))]


def joined(
    level: Level, columns: Iterable[Column | Function | SQL], *, top: Level = Level.PATIENT
) -> Select:
    """Return a selection of columns from a level's table and those above it, up to a level."""
    selection = TABLE[level].select(*columns)
    while level > top:
        upper = Level(level - 1)
        selection = selection.join(TABLE[upper], on=(PARENT_KEY[level] == TABLE[upper].key))
        level = upper
    return selection
