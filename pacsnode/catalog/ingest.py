"""Writes the rows of one instance: its patient, study and series where they are new, and itself.

What answers for an entity is what its first instance said; later instances add rows below it and
change nothing above (rule F-22).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from peewee import Database, Select, Table, fn

from pacsnode.catalog.columns import ColumnValue, row_values
from pacsnode.catalog.models import INSTANCE, PARENT_KEY, PATIENT, SERIES, STUDY, TABLE
from pacsnode.catalog.records import Addition, KeptFile, NewInstance, StoredInstance
from pacsnode.dicom.information_model import Level

STORED_INSTANCE_COLUMNS: Final = (
    INSTANCE.sop_class_uid,
    INSTANCE.sop_instance_uid,
    INSTANCE.path,
    INSTANCE.transfer_syntax_uid,
    INSTANCE.data_set_sha256,
    INSTANCE.data_set_length_bytes,
)


def add(database: Database, instance: NewInstance) -> Addition:
    """Add an instance within the writing transaction of the caller.

    Returns:
        What became of it; where the catalog has its SOP Instance UID already, nothing is changed.
    """
    existing = stored_instance(database, instance.header.sop_instance_uid)
    if existing is not None:
        return Addition(existing=existing)
    study_key, has_other_patient = _study(database, instance)
    series_key = _series(database, instance, study_key)
    header, file = instance.header, instance.file
    row = {
        **row_values(Level.IMAGE, header.values),
        "series_key": series_key,
        "stated_patient_id": header.values.get("PatientID"),
        "stated_issuer_of_patient_id": header.values.get("IssuerOfPatientID"),
        "source_ae_title": instance.source_ae_title,
        "received_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    _insert(database, INSTANCE, row | _file_columns(file))
    return Addition(has_other_patient=has_other_patient)


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


def replace(database: Database, instance: NewInstance, file: KeptFile) -> Addition:
    """Put an instance in the place of the one that has its SOP Instance UID.

    What is empty above the old one then is removed. Within the writing transaction of the caller.

    Args:
        database: where.
        instance: the new one.
        file: of the old one, as the caller has seen it.

    Returns:
        What became of it; if the old one has another file by now, nothing is changed.
    """
    uid = instance.header.sop_instance_uid
    current = stored_instance(database, uid)
    if current is not None and current.file != file:
        return Addition(existing=current)
    keys = (
        INSTANCE.select(SERIES.key, STUDY.key, PATIENT.key)
        .join(SERIES, on=(INSTANCE.series_key == SERIES.key))
        .join(STUDY, on=(SERIES.study_key == STUDY.key))
        .join(PATIENT, on=(STUDY.patient_key == PATIENT.key))
        .where(INSTANCE.sop_instance_uid == uid)
    )
    owners = next(iter(keys.tuples().execute(database)), ())
    INSTANCE.delete().where(INSTANCE.sop_instance_uid == uid).execute(database)
    for level, key in zip((Level.SERIES, Level.STUDY, Level.PATIENT), owners, strict=False):
        below = Level(level + 1)
        query = TABLE[below].select(TABLE[below].key).where(PARENT_KEY[below] == key).limit(1)
        if _first(database, query) is None:
            TABLE[level].delete().where(TABLE[level].key == key).execute(database)
    return add(database, instance)


def _file_columns(file: KeptFile) -> dict[str, ColumnValue | bytes]:
    return {
        "path": file.path,
        "transfer_syntax_uid": file.transfer_syntax_uid,
        "data_set_sha256": file.data_set_sha256,
        "data_set_length_bytes": file.data_set_length_bytes,
    }


def _study(database: Database, instance: NewInstance) -> tuple[int, bool]:
    """Return the key of the instance's study, and whether that belongs to another patient."""
    header = instance.header
    patient_key = _patient_key(database, row_values(Level.PATIENT, header.values))
    query = STUDY.select(STUDY.key, STUDY.patient_key).where(
        STUDY.study_instance_uid == header.study_instance_uid
    )
    study = next(iter(query.tuples().execute(database)), None)
    if study is not None:
        key, owner = study
        return key, not _is_same_patient(database, header.values, owner, patient_key)
    if patient_key is None:
        patient_key = _insert(database, PATIENT, row_values(Level.PATIENT, header.values))
    row = row_values(Level.STUDY, header.values)
    return _insert(database, STUDY, row | {"patient_key": patient_key}), False


def _patient_key(database: Database, row: dict[str, ColumnValue]) -> int | None:
    """Return the key of the patient with the identity of a row; None if there is none.

    Patients without an ID are never taken for one another (rules A-14, A-15).
    """
    if row["patient_id_match"] is None:
        return None
    issuer = row["issuer_of_patient_id_match"] or ""
    query = PATIENT.select(PATIENT.key).where(
        (PATIENT.patient_id_match == row["patient_id_match"])
        & (fn.COALESCE(PATIENT.issuer_of_patient_id_match, "") == issuer)
    )
    return _first(database, query)


def _is_same_patient(
    database: Database, values: Mapping[str, str], owner: int, patient_key: int | None
) -> bool:
    """Tell whether a study's owner is the patient that an instance states."""
    if "PatientID" in values:
        return owner == patient_key
    query = PATIENT.select(PATIENT.patient_id).where(PATIENT.key == owner)
    return _first(database, query) is None


def _series(database: Database, instance: NewInstance, study_key: int) -> int:
    header = instance.header
    query = SERIES.select(SERIES.key).where(
        (SERIES.study_key == study_key) & (SERIES.series_instance_uid == header.series_instance_uid)
    )
    key = _first(database, query)
    if key is not None:
        return key
    row = row_values(Level.SERIES, header.values)
    return _insert(database, SERIES, row | {"study_key": study_key})


def _insert(database: Database, table: Table, row: Mapping[str, ColumnValue | bytes]) -> int:
    columns = {getattr(table, name): value for name, value in row.items() if value is not None}
    return int(table.insert(columns).execute(database))


def _first(database: Database, query: Select) -> int | None:
    """Return the first column of the first row of a query; None if there is no row."""
    row = next(iter(query.tuples().execute(database)), None)
    return None if row is None else row[0]
