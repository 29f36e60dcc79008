"""Catalogues again what was catalogued with other keys, or could not be decoded.

Instances come in the order in which they were added, so that the rule of which value answers for
an entity (agreement.py) comes to the same as if they had been added with these keys. But what came
with the new keys before that has answered since, and goes on to.
"""

from collections.abc import Sequence
from typing import Final

from peewee import Database

from pacsnode.catalog.columns import columns_at
from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.ingest import (
    STORED_INSTANCE_COLUMNS,
    VALUES_OF_INSTANCE,
    Ingest,
    Series,
    stored_instance_of,
)
from pacsnode.catalog.key_sets import TO_BE_REINDEXED
from pacsnode.catalog.models import INSTANCE, SERIES, STUDY
from pacsnode.catalog.records import PendingInstance
from pacsnode.catalog.statements import sql
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import InstanceHeader

_ANY: Final = "any"  # stands for a value while a statement is built


def pending_instances(
    database: CatalogDatabase, key_set: int, above: int, limit: int
) -> list[PendingInstance]:
    """Return the next instances that are to be reindexed for a set of keys, in order of their keys.

    Raises:
        CatalogError: the database fails.
    """
    uids = (STUDY.study_instance_uid, SERIES.series_instance_uid)
    query = (
        INSTANCE.select(INSTANCE.key, *uids, *STORED_INSTANCE_COLUMNS)
        .join(SERIES, on=(INSTANCE.series_key == SERIES.key))
        .join(STUDY, on=(SERIES.study_key == STUDY.key))
        .where((INSTANCE.key > above) & (INSTANCE.key_set != key_set))
        .order_by(INSTANCE.key)
        .limit(limit)
    )
    with database.reading():
        rows = list(query.tuples().execute(database.peewee))
    pending = []
    for key, study_instance_uid, series_instance_uid, *columns in rows:
        stored = stored_instance_of(columns)
        pending.append(
            PendingInstance(
                key=key,
                study_instance_uid=study_instance_uid,
                series_instance_uid=series_instance_uid,
                sop_instance_uid=stored.sop_instance_uid,
                file=stored.file,
            )
        )
    return pending


class Reindexing:
    """Catalogues instances again, within the writing transaction of the caller."""

    def __init__(self, database: Database, ingest: Ingest) -> None:
        """Build the statements.

        Args:
            database: what is written on; nothing is asked of it yet.
            ingest: what says how instances are catalogued.
        """
        self._database = database
        self._ingest = ingest
        names = (*VALUES_OF_INSTANCE, *(name for name, _ in columns_at(Level.IMAGE)))
        places = ", ".join(f"{name} = ?" for name in names)  # peewee has an order of its own
        self._update = f"UPDATE instance SET {places} WHERE key = ?"  # noqa: S608 - our own names
        self._select = sql(INSTANCE.select(INSTANCE.path).where(INSTANCE.key == _ANY))

    def write(self, headers: Sequence[tuple[PendingInstance, InstanceHeader]]) -> list[bool]:
        """Catalogue instances again; see Catalog.reindex."""
        known: dict[tuple[str, str], Series] = {}
        return [self._write(pending, header, known) for pending, header in headers]

    def _write(
        self,
        pending: PendingInstance,
        header: InstanceHeader,
        known: dict[tuple[str, str], Series],
    ) -> bool:
        row = execute(self._database, self._select, (pending.key,)).fetchone()
        uids = (pending.study_instance_uid, pending.series_instance_uid)
        series = known.get(uids) or self._ingest.find_series(uids)
        if row is None or row[0] != pending.file.path or series is None:
            return True  # it was replaced meanwhile, and what replaced it is catalogued already
        self._ingest.forget(pending.key)
        known[uids], _ = self._ingest.agree(header, pending.key, series, series.entities)
        key_set, *values = self._ingest.values_of_instance(header)
        execute(self._database, self._update, (key_set, *values, pending.key))
        return key_set != TO_BE_REINDEXED
