"""Writes the rows of instances: patient, study and series where they are new, and the instance.

What answers for an entity is what its first instance said, and of what that did not say the next
one that did; see agreement.py. A study stays with the patient of its first instance (rule F-22).

How it stays cheap. Each statement is built once, when the catalog is opened. The series of an
instance is looked up by its UIDs, with its study and patient, in one statement; within one
transaction, during which nobody else can change it, it is looked up once. Nothing is remembered
from one transaction to the next: another process may have removed what was there. An instance that
states of its patient, study and series what the last one did needs no more than its own row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from peewee import SQL, Database, Insert, Select, fn

from pacsnode.catalog.agreement import LEVELS_ABOVE, EntitiesAbove, identity_of
from pacsnode.catalog.columns import ColumnValue, columns_at, row_values
from pacsnode.catalog.database import execute
from pacsnode.catalog.further import further_text
from pacsnode.catalog.key_sets import TO_BE_REINDEXED
from pacsnode.catalog.models import INSTANCE, PARENT_KEY, PATIENT, SERIES, STRUCTURE, STUDY, TABLE
from pacsnode.catalog.records import Addition, KeptFile, NewInstance, StoredInstance
from pacsnode.catalog.statements import sql
from pacsnode.dicom.attributes import BY_KEYWORD, Keys, Origin
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import InstanceHeader

STORED_INSTANCE_COLUMNS: Final = (
    INSTANCE.sop_class_uid,
    INSTANCE.sop_instance_uid,
    INSTANCE.path,
    INSTANCE.transfer_syntax_uid,
    INSTANCE.data_set_sha256,
    INSTANCE.data_set_length_bytes,
)
# What an instance's row has of its header, before the columns of its Attributes.
VALUES_OF_INSTANCE: Final = (
    "key_set",
    "stated_patient_id",
    "stated_issuer_of_patient_id",
    "further",
)
_PATIENT_ID: Final = BY_KEYWORD["PatientID"]
_ISSUER_OF_PATIENT_ID: Final = BY_KEYWORD["IssuerOfPatientID"]
_ANY: Final = "any"  # stands for a value while a statement is built


def stored_instance(database: Database, sop_instance_uid: str) -> StoredInstance | None:
    """Return the instance of a SOP Instance UID; None if the catalog has none."""
    query = INSTANCE.select(*STORED_INSTANCE_COLUMNS).where(
        INSTANCE.sop_instance_uid == sop_instance_uid
    )
    row = next(iter(query.tuples().execute(database)), None)
    return None if row is None else stored_instance_of(row)


def stored_instance_of(row: Sequence[Any]) -> StoredInstance:
    """Return the record of a row of STORED_INSTANCE_COLUMNS."""
    sop_class_uid, sop_instance_uid, path, transfer_syntax_uid, sha256, length_bytes = row
    file = KeptFile(path, transfer_syntax_uid, bytes(sha256), length_bytes)
    return StoredInstance(sop_class_uid, sop_instance_uid, file)


@dataclass(frozen=True, slots=True)
class Series:
    """A series in the catalog.

    Attributes:
        entities: keys of the rows of its patient, of its study, and its own.
        statement: what an instance is known to state that states nothing else than they do.
    """

    entities: Mapping[Level, int]
    statement: bytes | None


class Ingest:
    """Writes instances to a database, within the writing transaction of the caller."""

    def __init__(self, database: Database, keys: Keys, key_set: int) -> None:
        """Build the statements.

        Args:
            database: what is written on; nothing is asked of it yet.
            keys: what is catalogued.
            key_set: their number.
        """
        self._database = database
        self._key_set = key_set
        self._suffix = b"%d" % key_set
        self._above = EntitiesAbove(database, keys)
        self._further = {
            level: {
                a.keyword: a
                for a in keys.attributes
                if a.level is level and a.origin is Origin.STORED and not a.column
            }
            for level in Level
        }
        self._insert = {level: sql(_insertion(level)) for level in Level}
        # Told by its key alone: any other failure stays one.
        self._insert[Level.IMAGE] += f" ON CONFLICT ({INSTANCE.sop_instance_uid.name}) DO NOTHING"
        self._select_series = sql(_selection_of_series())
        self._select_study = sql(
            STUDY.select(STUDY.key, STUDY.patient_key).where(STUDY.study_instance_uid == _ANY),
        )
        self._update_series = sql(SERIES.update({SERIES.statement: _ANY}).where(SERIES.key == _ANY))
        self._select_patient = sql(_selection_of_patient())

    def add_all(self, instances: Sequence[NewInstance]) -> list[Addition]:
        """Add instances, one after the other.

        Returns:
            What became of each, in their order; where the catalog has a SOP Instance UID already,
            be it from an earlier one of them, nothing is changed.
        """
        known: dict[tuple[str, str], Series] = {}
        return [self._add(instance, known) for instance in instances]

    def replace(self, instance: NewInstance, file: KeptFile) -> Addition:
        """Put an instance in the place of the one that has its SOP Instance UID.

        What is empty above the old one then is removed.

        Args:
            instance: the new one.
            file: of the old one, as the caller has seen it.

        Returns:
            What became of it; if the old one has another file by now, nothing is changed.
        """
        uid = instance.header.sop_instance_uid
        current = stored_instance(self._database, uid)
        if current is not None and current.file != file:
            return Addition(existing=current)
        keys = (
            INSTANCE.select(SERIES.key, STUDY.key, PATIENT.key)
            .join(SERIES, on=(INSTANCE.series_key == SERIES.key))
            .join(STUDY, on=(SERIES.study_key == STUDY.key))
            .join(PATIENT, on=(STUDY.patient_key == PATIENT.key))
            .where(INSTANCE.sop_instance_uid == uid)
        )
        owners = next(iter(keys.tuples().execute(self._database)), ())
        INSTANCE.delete().where(INSTANCE.sop_instance_uid == uid).execute(self._database)
        for level, key in zip((Level.SERIES, Level.STUDY, Level.PATIENT), owners, strict=False):
            below = Level(level + 1)
            query = TABLE[below].select(TABLE[below].key).where(PARENT_KEY[below] == key).limit(1)
            if next(iter(query.tuples().execute(self._database)), None) is None:
                TABLE[level].delete().where(TABLE[level].key == key).execute(self._database)
        return self._add(instance, {})

    def find_series(self, uids: tuple[str, str]) -> Series | None:
        """Return the series of a Study and a Series Instance UID; None if there is none."""
        row = execute(self._database, self._select_series, uids).fetchone()
        if row is None:
            return None
        key, statement, study_key, patient_key = row
        entities = {Level.PATIENT: patient_key, Level.STUDY: study_key, Level.SERIES: key}
        return Series(entities, statement)

    def agree(
        self, header: InstanceHeader, instance_key: int, series: Series, known: Mapping[Level, int]
    ) -> tuple[Series, bool]:
        """Compare an instance with the entities above it, unless it is known to agree.

        Args:
            header: of the instance.
            instance_key: of its row.
            series: that it belongs to.
            known: those of the series' entities that are not made of this very instance.

        Returns:
            The series as it is now, and whether its study is filed under another patient than the
            instance states.
        """
        statement = self._statement(header)
        if series.statement == statement:
            return series, False
        comparison = self._above.compare(header, instance_key, known)
        if not comparison.agrees or header.is_damaged:
            return series, comparison.has_other_patient
        row = (statement, series.entities[Level.SERIES])
        execute(self._database, self._update_series, row)
        return replace(series, statement=statement), comparison.has_other_patient

    def forget(self, instance_key: int) -> None:
        """Remove what was noted when an instance was compared."""
        self._above.forget(instance_key)

    def values_of_instance(self, header: InstanceHeader) -> list[ColumnValue]:
        """Return what an instance's row has of its header.

        Returns:
            In the order of VALUES_OF_INSTANCE and the columns of the level. The set of keys is
            none if something that was asked for could not be decoded (rule F-25).
        """
        values = header.values(Level.IMAGE)
        return [
            TO_BE_REINDEXED if header.is_damaged else self._key_set,
            header.text(_PATIENT_ID) or None,
            header.text(_ISSUER_OF_PATIENT_ID) or None,
            self._further_text(header, Level.IMAGE),
            *row_values(Level.IMAGE, values),
        ]

    def _add(self, instance: NewInstance, known: dict[tuple[str, str], Series]) -> Addition:
        """Add an instance; note its series among those that this transaction knows."""
        header = instance.header
        uids = (header.study_instance_uid, header.series_instance_uid)
        series = known.get(uids) or self.find_series(uids)
        if series is None:
            existing = stored_instance(self._database, header.sop_instance_uid)
            if existing is not None:
                return Addition(existing=existing)
            series, compared = self._add_series(uids, header)
        else:
            compared = series.entities
        if series.statement != self._statement(header):
            for level in LEVELS_ABOVE:
                header.values(level)  # now it shows whether they can be decoded
        row = self._instance_row(instance, series.entities[Level.SERIES])
        cursor = execute(self._database, self._insert[Level.IMAGE], row)
        if cursor.rowcount == 0:
            return Addition(existing=stored_instance(self._database, header.sop_instance_uid))
        key = _key_of_row(cursor.lastrowid)
        known[uids], has_other_patient = self.agree(header, key, series, compared)
        return Addition(has_other_patient=has_other_patient)

    def _statement(self, header: InstanceHeader) -> bytes:
        """Return what is kept of what an instance states, for the keys it was read with."""
        return header.statement + self._suffix

    def _instance_row(self, instance: NewInstance, series_key: int) -> list[ColumnValue | bytes]:
        """Return the values of an instance's row, in the order of its insertion."""
        file = instance.file
        return [
            series_key,
            file.transfer_syntax_uid,
            file.path,
            file.data_set_sha256,
            file.data_set_length_bytes,
            instance.source_ae_title,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            *self.values_of_instance(instance.header),
        ]

    def _add_series(
        self, uids: tuple[str, str], header: InstanceHeader
    ) -> tuple[Series, Mapping[Level, int]]:
        """Add a series, and its study and patient where they are new.

        Returns:
            The series, and those of its entities that there were before.
        """
        known: dict[Level, int] = {}
        study = execute(self._database, self._select_study, uids[:1]).fetchone()
        if study is None:
            patient_key = self._find_patient(header)
            if patient_key is None:
                patient_key = self._add_entity(Level.PATIENT, (), header)
            else:
                known[Level.PATIENT] = patient_key
            study_key = self._add_entity(Level.STUDY, (patient_key,), header)
        else:
            study_key, patient_key = study
            known = {Level.PATIENT: patient_key, Level.STUDY: study_key}
        series_key = self._add_entity(Level.SERIES, (study_key, None), header)
        entities = {Level.PATIENT: patient_key, Level.STUDY: study_key, Level.SERIES: series_key}
        return Series(entities, None), known

    def _find_patient(self, header: InstanceHeader) -> int | None:
        """Return the patient that an instance states, if the catalog has it.

        Patients without an ID are never taken for one another (rules A-14, A-15).
        """
        identity = identity_of({a: header.text(a) for a in (_PATIENT_ID, _ISSUER_OF_PATIENT_ID)})
        if identity[0] is None:
            return None
        row = execute(self._database, self._select_patient, identity).fetchone()
        return None if row is None else row[0]

    def _add_entity(
        self, level: Level, place: Sequence[ColumnValue], header: InstanceHeader
    ) -> int:
        """Add the row of an entity above an instance, of which it states all; return its key."""
        further = self._further_text(header, level)
        row = (*place, further, *row_values(level, header.values(level)))
        return _key_of_row(execute(self._database, self._insert[level], row).lastrowid)

    def _further_text(self, header: InstanceHeader, level: Level) -> str | None:
        attributes = self._further[level]
        return further_text(
            {
                attributes[keyword]: value
                for keyword, value in header.values(level).items()
                if keyword in attributes
            }
        )


def _key_of_row(key: int | None) -> int:
    if key is None:
        raise LookupError("the database does not tell the key of a new row")
    return key


def _insertion(level: Level) -> Insert:
    """Return the insertion of a row: the columns of its place, then those of its Attributes."""
    names = [name for name, _ in (*STRUCTURE[level], *columns_at(level))]
    columns = [getattr(TABLE[level], name) for name in names]
    return TABLE[level].insert([(_ANY,) * len(columns)], columns=columns)


def _selection_of_series() -> Select:
    return (
        SERIES.select(SERIES.key, SERIES.statement, STUDY.key, STUDY.patient_key)
        .join(STUDY, on=(SERIES.study_key == STUDY.key))
        .where((STUDY.study_instance_uid == _ANY) & (SERIES.series_instance_uid == _ANY))
    )


def _selection_of_patient() -> Select:
    issuer = fn.COALESCE(PATIENT.issuer_of_patient_id_match, SQL("''"))  # as in its index
    return PATIENT.select(PATIENT.key).where((PATIENT.patient_id_match == _ANY) & (issuer == _ANY))
