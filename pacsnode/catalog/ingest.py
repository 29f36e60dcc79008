"""Writes the rows of instances: patient, study and series where they are new, and the instance.

What answers for an entity is what its first instance said; later instances add rows below it and
change nothing above (rule F-22).

How it stays cheap. Each statement is built once, when the catalog is opened. The series of an
instance is looked up by its UIDs, with its study and patient, in one statement; within one
transaction, during which nobody else can change it, it is looked up once. Nothing is remembered
from one transaction to the next: another process may have removed what was there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from peewee import SQL, Database, Insert, Select, fn

from pacsnode.catalog.columns import ColumnValue, columns_at, row_values
from pacsnode.catalog.database import execute
from pacsnode.catalog.models import INSTANCE, PARENT_KEY, PATIENT, SERIES, STRUCTURE, STUDY, TABLE
from pacsnode.catalog.records import Addition, KeptFile, NewInstance, StoredInstance
from pacsnode.dicom.attributes import BY_KEYWORD
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.text_values import normalise_text

STORED_INSTANCE_COLUMNS: Final = (
    INSTANCE.sop_class_uid,
    INSTANCE.sop_instance_uid,
    INSTANCE.path,
    INSTANCE.transfer_syntax_uid,
    INSTANCE.data_set_sha256,
    INSTANCE.data_set_length_bytes,
)
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
class _Series:
    """A series in the catalog, and the patient that its study is filed under.

    Attributes:
        key: of its row.
        patient_id: of the patient, as it was received; None if there was none.
        issuer_of_patient_id: likewise.
        identity: what the patient is told from others by; see _identity.
    """

    key: int
    patient_id: str | None
    issuer_of_patient_id: str | None
    identity: tuple[str | None, str]


class Ingest:
    """Writes instances to a database, within the writing transaction of the caller."""

    def __init__(self, database: Database) -> None:
        """Build the statements.

        Args:
            database: what is written on; nothing is asked of it yet.
        """
        self._database = database
        self._insert = {level: _sql(database, _insertion(level)) for level in Level}
        # Told by its key alone: any other failure stays one.
        self._insert[Level.IMAGE] += f" ON CONFLICT ({INSTANCE.sop_instance_uid.name}) DO NOTHING"
        self._select_series = _sql(database, _selection_of_series())
        self._select_study = _sql(
            database, STUDY.select(STUDY.key).where(STUDY.study_instance_uid == _ANY)
        )
        self._select_patient = _sql(database, _selection_of_patient())

    def add_all(self, instances: Sequence[NewInstance]) -> list[Addition]:
        """Add instances, one after the other.

        Returns:
            What became of each, in their order; where the catalog has a SOP Instance UID already,
            be it from an earlier one of them, nothing is changed.
        """
        known: dict[tuple[str, str], _Series] = {}
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

    def _add(self, instance: NewInstance, known: dict[tuple[str, str], _Series]) -> Addition:
        """Add an instance; note its series among those that this transaction knows."""
        header = instance.header
        uids = (header.study_instance_uid, header.series_instance_uid)
        series = known.get(uids) or self._find_series(uids)
        if series is None:
            existing = stored_instance(self._database, header.sop_instance_uid)
            if existing is not None:
                return Addition(existing=existing)
            series = self._add_series(uids, header.values)
        known[uids] = series
        row = _instance_row(instance, series.key)
        if execute(self._database, self._insert[Level.IMAGE], row).rowcount == 0:
            return Addition(existing=stored_instance(self._database, header.sop_instance_uid))
        return Addition(has_other_patient=not _is_same_patient(series, header.values))

    def _find_series(self, uids: tuple[str, str]) -> _Series | None:
        """Return the series of a Study and a Series Instance UID; None if there is none."""
        row = execute(self._database, self._select_series, uids).fetchone()
        if row is None:
            return None
        key, patient_id, issuer, patient_id_match, issuer_match = row
        return _Series(key, patient_id, issuer, (patient_id_match, issuer_match or ""))

    def _add_series(self, uids: tuple[str, str], values: Mapping[str, str]) -> _Series:
        """Add a series, and its study and patient where they are new."""
        study = execute(self._database, self._select_study, uids[:1]).fetchone()
        study_key = self._add_study(values) if study is None else study[0]
        self._add_row(Level.SERIES, [study_key, *row_values(Level.SERIES, values)])
        series = self._find_series(uids)
        if series is None:
            raise LookupError("values and UIDs of a header differ")
        return series

    def _add_study(self, values: Mapping[str, str]) -> int:
        """Add a study, and its patient if that is new; return its key.

        Patients without an ID are never taken for one another (rules A-14, A-15).
        """
        identity = _identity(values)
        patient = None
        if identity[0] is not None:
            patient = execute(self._database, self._select_patient, identity).fetchone()
        if patient is None:
            patient_key = self._add_row(Level.PATIENT, row_values(Level.PATIENT, values))
        else:
            patient_key = patient[0]
        return self._add_row(Level.STUDY, [patient_key, *row_values(Level.STUDY, values)])

    def _add_row(self, level: Level, row: Sequence[ColumnValue]) -> int:
        """Add a row and return its key."""
        key = execute(self._database, self._insert[level], row).lastrowid
        if key is None:
            raise LookupError("the database does not tell the key of a new row")
        return key


def _sql(database: Database, query: Select | Insert) -> str:
    """Return a query as the text of a statement whose values are all given when it is executed."""
    text: str = database.get_sql_context().sql(query).query()[0]  # type: ignore[no-untyped-call]
    return text


def _insertion(level: Level) -> Insert:
    """Return the insertion of a row: the columns of its place, then those of its Attributes."""
    names = [name for name, _ in (*STRUCTURE[level], *columns_at(level))]
    columns = [getattr(TABLE[level], name) for name in names]
    return TABLE[level].insert([(_ANY,) * len(columns)], columns=columns)


def _selection_of_series() -> Select:
    return (
        SERIES.select(
            SERIES.key,
            PATIENT.patient_id,
            PATIENT.issuer_of_patient_id,
            PATIENT.patient_id_match,
            PATIENT.issuer_of_patient_id_match,
        )
        .join(STUDY, on=(SERIES.study_key == STUDY.key))
        .join(PATIENT, on=(STUDY.patient_key == PATIENT.key))
        .where((STUDY.study_instance_uid == _ANY) & (SERIES.series_instance_uid == _ANY))
    )


def _selection_of_patient() -> Select:
    issuer = fn.COALESCE(PATIENT.issuer_of_patient_id_match, SQL("''"))  # as in its index
    return PATIENT.select(PATIENT.key).where((PATIENT.patient_id_match == _ANY) & (issuer == _ANY))


def _instance_row(instance: NewInstance, series_key: int) -> list[ColumnValue | bytes]:
    """Return the values of an instance's row, in the order of its insertion."""
    file, values = instance.file, instance.header.values
    return [
        series_key,
        file.transfer_syntax_uid,
        file.path,
        file.data_set_sha256,
        file.data_set_length_bytes,
        instance.source_ae_title,
        datetime.now(UTC).isoformat(timespec="milliseconds"),
        values.get("PatientID"),
        values.get("IssuerOfPatientID"),
        *row_values(Level.IMAGE, values),
    ]


def _identity(values: Mapping[str, str]) -> tuple[str | None, str]:
    """Return what tells a patient from others: its ID, None without one, and that ID's issuer.

    Source: rules A-14, A-15.
    """
    patient_id, issuer = (
        normalise_text(values.get(keyword, ""), BY_KEYWORD[keyword].vr)
        for keyword in ("PatientID", "IssuerOfPatientID")
    )
    return patient_id or None, issuer


def _is_same_patient(series: _Series, values: Mapping[str, str]) -> bool:
    """Tell whether the patient that an instance states is the one that its study is filed under."""
    patient_id = values.get("PatientID")
    if patient_id is None:
        return series.patient_id is None
    if series.identity[0] is None:
        return False
    stated = (patient_id, values.get("IssuerOfPatientID"))
    if stated == (series.patient_id, series.issuer_of_patient_id):
        return True
    return _identity(values) == series.identity
