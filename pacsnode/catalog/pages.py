"""From the keys of entities to what a query returns of them, a page at a time.

A page is read by primary key. Each statement is made once for a shape of query (what is returned,
of which level) and kept: an archive is listed with hundreds of pages, and a person asks the same
few questions with other values.

Source: PS3.4 C.4.1.1.3.2; rules B-7, D-5.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from peewee import SQL, Column, Select

from pacsnode.catalog.computed import computed_values
from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.further import value_of
from pacsnode.catalog.models import INSTANCE, PARENT_KEY, TABLE
from pacsnode.catalog.records import Match
from pacsnode.catalog.statements import joined, parameters, room_for, sql
from pacsnode.dicom.attributes import Attribute, Origin
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.query import Query
from pacsnode.dicom.values import Value

_STATEMENTS_REMEMBERED: Final = 256
# Computed of one row only: it stands in it.
_COLUMN: Final = {"AvailableTransferSyntaxUID": INSTANCE.transfer_syntax_uid.name}
_KEY, _PATH, _FIRST_VALUE = range(3)  # places in a row


class PageReader:
    """Reads the matches of one query."""

    def __init__(self, database: CatalogDatabase, query: Query) -> None:
        """Prepare to read.

        Args:
            database: where to.
            query: what is returned of which level.
        """
        self._database = database
        self._level = query.level
        self._attributes = tuple(key.attribute for key in query.return_keys)
        self._computed = [
            (at, attribute)
            for at, attribute in enumerate(self._attributes)
            if _is_computed(attribute)
        ]
        # The places of the further values of each level; the text of all is in the first of them.
        self._further: dict[Level, list[tuple[int, str]]] = {}
        for at, attribute in enumerate(self._attributes):
            if _is_further(attribute):
                self._further.setdefault(attribute.level, []).append((at, attribute.name))

    def read(self, keys: Sequence[int]) -> list[Match]:
        """Return the matches with these keys, in their order; without those that are gone.

        Raises:
            CatalogError: the database fails.
        """
        statement = _statement(self._level, self._attributes, room_for(keys))
        with self._database.reading():
            cursor = execute(self._database.peewee, statement, parameters(keys))
            rows = {row[_KEY]: row for row in cursor.fetchall()}
            computed = [
                (at, computed_values(self._database, attribute, _owners(rows, at)))
                for at, attribute in self._computed
            ]
        found = [rows[key] for key in keys if key in rows]
        if not computed and not self._further:
            return [Match(row[_FIRST_VALUE:], row[_PATH]) for row in found]
        return [Match(self._values(row, computed), row[_PATH]) for row in found]

    def _values(
        self, row: Sequence[Any], computed: Sequence[tuple[int, Mapping[int, Value]]]
    ) -> list[Value | None]:
        """Return the values of a row: what is computed or further stands in its place."""
        values = list(row[_FIRST_VALUE:])
        for at, by_owner in computed:
            values[at] = by_owner[values[at]]
        for places in self._further.values():
            text = values[places[0][0]]
            members = {} if text is None else json.loads(text)
            for at, name in places:
                values[at] = value_of(members[name]) if name in members else None
        return values


def _owners(rows: Mapping[int, Sequence[Any]], at: int) -> list[int]:
    """Return the keys of the entities that a computed value belongs to, each once."""
    return list(dict.fromkeys(row[_FIRST_VALUE + at] for row in rows.values()))


def _is_computed(attribute: Attribute) -> bool:
    return attribute.origin is Origin.COMPUTED and attribute.keyword not in _COLUMN


def _is_further(attribute: Attribute) -> bool:
    return attribute.origin is Origin.STORED and not attribute.column


@lru_cache(_STATEMENTS_REMEMBERED)
def _statement(level: Level, attributes: tuple[Attribute, ...], room: int) -> str:
    """Return the statement that reads a page: key, path, and a column for each Attribute."""
    columns: list[Column | SQL] = [
        TABLE[level].key,
        INSTANCE.path if level is Level.IMAGE else SQL("NULL"),
    ]
    top, with_further = level, set()
    for attribute in attributes:
        source = attribute.level
        if _is_computed(attribute):
            # The key of its owner; the row below the owner has it, too.
            columns.append(TABLE[level].key if source is level else PARENT_KEY[Level(source + 1)])
            source = level if source is level else Level(source + 1)
        elif not _is_further(attribute):
            name = attribute.column or _COLUMN[attribute.keyword]
            columns.append(getattr(TABLE[source], name))
        elif source in with_further:
            columns.append(SQL("NULL"))
        else:
            columns.append(TABLE[source].further)
            with_further.add(source)
        top = min(top, source)
    selection: Select = joined(level, columns, top=top)
    return sql(selection.where(TABLE[level].key.in_([0] * room)))
