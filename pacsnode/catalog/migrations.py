"""The numbered steps that make the catalog's schema, and the rule of which schema we work with.

A step is never changed once released: a newer schema is a further step. The steps spell the tables
out, so that they stay what they were when the table of Attributes grows; a test compares the schema
after the last step with the tables in models.py.
"""

from collections.abc import Callable
from typing import Final

from peewee import Database

from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.further import merged
from pacsnode.catalog.models import SCHEMA_VERSION, CatalogTable
from pacsnode.catalog.records import CatalogError
from pacsnode.dicom.attributes import BY_KEYWORD

_FIRST_SCHEMA: Final = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    """
    CREATE TABLE patient (
        key {key},
        patient_id TEXT,
        patient_id_match TEXT,
        patient_name TEXT,
        patient_name_folded TEXT,
        patient_name_alphabetic TEXT,
        patient_name_ideographic TEXT,
        patient_name_phonetic TEXT,
        issuer_of_patient_id TEXT,
        issuer_of_patient_id_match TEXT,
        patient_birth_date TEXT,
        patient_birth_date_day INTEGER,
        patient_birth_time TEXT,
        patient_birth_time_from BIGINT,
        patient_birth_time_to BIGINT,
        patient_sex TEXT,
        other_patient_names TEXT,
        ethnic_group TEXT,
        ethnic_group_match TEXT,
        patient_comments TEXT,
        patient_comments_match TEXT
    )
    """,
    """
    CREATE TABLE study (
        key {key},
        patient_key BIGINT NOT NULL REFERENCES patient (key),
        study_instance_uid TEXT NOT NULL,
        study_date TEXT,
        study_date_day INTEGER,
        study_time TEXT,
        study_time_from BIGINT,
        study_time_to BIGINT,
        accession_number TEXT,
        accession_number_match TEXT,
        study_id TEXT,
        study_id_match TEXT,
        referring_physician_name TEXT,
        referring_physician_name_folded TEXT,
        referring_physician_name_alphabetic TEXT,
        referring_physician_name_ideographic TEXT,
        referring_physician_name_phonetic TEXT,
        study_description TEXT,
        study_description_match TEXT,
        name_of_physicians_reading_study TEXT,
        admitting_diagnoses_description TEXT,
        patient_age TEXT,
        patient_size TEXT,
        patient_size_number DOUBLE PRECISION,
        patient_weight TEXT,
        patient_weight_number DOUBLE PRECISION,
        occupation TEXT,
        occupation_match TEXT,
        additional_patient_history TEXT,
        additional_patient_history_match TEXT,
        other_study_numbers TEXT
    )
    """,
    """
    CREATE TABLE series (
        key {key},
        study_key BIGINT NOT NULL REFERENCES study (key),
        series_instance_uid TEXT NOT NULL,
        modality TEXT,
        series_number TEXT,
        series_number_number DOUBLE PRECISION,
        series_description TEXT,
        series_description_match TEXT,
        series_date TEXT,
        series_date_day INTEGER,
        series_time TEXT,
        series_time_from BIGINT,
        series_time_to BIGINT,
        body_part_examined TEXT,
        laterality TEXT,
        protocol_name TEXT,
        protocol_name_match TEXT,
        performed_procedure_step_start_date TEXT,
        performed_procedure_step_start_date_day INTEGER,
        performed_procedure_step_start_time TEXT,
        performed_procedure_step_start_time_from BIGINT,
        performed_procedure_step_start_time_to BIGINT,
        frame_of_reference_uid TEXT,
        manufacturer TEXT,
        manufacturer_match TEXT,
        manufacturer_model_name TEXT,
        manufacturer_model_name_match TEXT,
        institution_name TEXT,
        institution_name_match TEXT,
        station_name TEXT,
        station_name_match TEXT
    )
    """,
    """
    CREATE TABLE instance (
        key {key},
        series_key BIGINT NOT NULL REFERENCES series (key),
        transfer_syntax_uid TEXT NOT NULL,
        path TEXT NOT NULL,
        data_set_sha256 BLOB NOT NULL,
        data_set_length_bytes BIGINT NOT NULL,
        source_ae_title TEXT NOT NULL,
        received_at TEXT NOT NULL,
        stated_patient_id TEXT,
        stated_issuer_of_patient_id TEXT,
        sop_instance_uid TEXT NOT NULL,
        instance_number TEXT,
        instance_number_number DOUBLE PRECISION,
        sop_class_uid TEXT NOT NULL,
        content_date TEXT,
        content_date_day INTEGER,
        content_time TEXT,
        content_time_from BIGINT,
        content_time_to BIGINT,
        acquisition_number TEXT,
        acquisition_number_number DOUBLE PRECISION,
        number_of_frames TEXT,
        number_of_frames_number DOUBLE PRECISION,
        container_identifier TEXT,
        container_identifier_match TEXT
    )
    """,
    """
    CREATE UNIQUE INDEX patient_identity
    ON patient (patient_id_match, COALESCE(issuer_of_patient_id_match, ''))
    """,
    "CREATE INDEX patient_name_folded ON patient (patient_name_folded)",
    "CREATE INDEX patient_name_alphabetic ON patient (patient_name_alphabetic)",
    "CREATE INDEX patient_name_ideographic ON patient (patient_name_ideographic)",
    "CREATE INDEX patient_name_phonetic ON patient (patient_name_phonetic)",
    "CREATE INDEX patient_birth_date ON patient (patient_birth_date_day)",
    "CREATE UNIQUE INDEX study_uid ON study (study_instance_uid)",
    "CREATE INDEX study_patient ON study (patient_key)",
    "CREATE INDEX study_date ON study (study_date_day, study_instance_uid)",
    "CREATE INDEX study_accession_number ON study (accession_number_match)",
    "CREATE INDEX study_id ON study (study_id_match)",
    "CREATE UNIQUE INDEX series_uid ON series (study_key, series_instance_uid)",
    "CREATE INDEX series_uid_alone ON series (series_instance_uid)",
    "CREATE INDEX series_modality ON series (modality, study_key)",
    "CREATE UNIQUE INDEX instance_uid ON instance (sop_instance_uid)",
    "CREATE INDEX instance_series ON instance (series_key, sop_class_uid)",
)


def _first_schema(database: CatalogDatabase) -> None:
    for statement in _FIRST_SCHEMA:
        execute(database.writer, statement.format(key=database.key_type))


# The values of Attributes without columns of their own, what instances contradict each other in,
# and what they were catalogued with. All that are there are to be reindexed: 0.
_SECOND_SCHEMA: Final = (
    "ALTER TABLE patient ADD COLUMN further TEXT",
    "ALTER TABLE study ADD COLUMN further TEXT",
    "ALTER TABLE series ADD COLUMN further TEXT",
    "ALTER TABLE series ADD COLUMN statement BLOB",
    "ALTER TABLE instance ADD COLUMN further TEXT",
    "ALTER TABLE instance ADD COLUMN key_set BIGINT NOT NULL DEFAULT 0",
    "CREATE TABLE key_set (key {key}, names TEXT NOT NULL UNIQUE)",
    """
    CREATE TABLE inconsistency (
        instance_key BIGINT NOT NULL REFERENCES instance (key) ON DELETE CASCADE,
        level INTEGER NOT NULL,
        name TEXT NOT NULL,
        entity_key BIGINT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (instance_key, level, name)
    )
    """,
    "CREATE INDEX instance_key_set ON instance (key_set)",
    "CREATE INDEX inconsistency_entity ON inconsistency (level, entity_key, name)",
    "DROP INDEX study_date",
    "CREATE INDEX study_date ON study (study_date_day DESC, study_instance_uid)",
    "CREATE INDEX series_study ON series (study_key, modality)",
)
# Table, column, and the Attribute whose text was in it: only returned then, matched from now on.
_COLUMNS_BEFORE_SECOND_SCHEMA: Final = (
    ("patient", "other_patient_names", "OtherPatientNames"),
    ("study", "name_of_physicians_reading_study", "NameOfPhysiciansReadingStudy"),
    ("study", "admitting_diagnoses_description", "AdmittingDiagnosesDescription"),
    ("study", "other_study_numbers", "OtherStudyNumbers"),
)


def _second_schema(database: CatalogDatabase) -> None:
    writer = database.writer
    for statement in _SECOND_SCHEMA:
        execute(writer, statement.format(key=database.key_type))
    for table, column, keyword in _COLUMNS_BEFORE_SECOND_SCHEMA:
        attribute = BY_KEYWORD[keyword]
        old = CatalogTable(table, ["key", column, "further"], primary_key="key")
        text = getattr(old, column)
        rows = old.select(old.key, text, old.further).where(text != "").tuples().execute(writer)
        for key, value, further in rows:
            row = {old.further: merged(further, {attribute: value})}
            old.update(row).where(old.key == key).execute(writer)
        execute(writer, f"ALTER TABLE {table} DROP COLUMN {column}")


# What could not be sent, and why (failures.py). A moment is microseconds since 1970, in UTC.
_THIRD_SCHEMA: Final = (
    """
    CREATE TABLE failure_reason (
        key {key},
        service TEXT NOT NULL,
        requestor_ae_title TEXT NOT NULL,
        destination_ae_title TEXT NOT NULL,
        cause TEXT NOT NULL,
        status INTEGER,
        reason TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE failure (
        key {key},
        reason_key BIGINT NOT NULL REFERENCES failure_reason (key),
        failed_at BIGINT NOT NULL,
        sop_instance_uid TEXT NOT NULL
    )
    """,
    """
    CREATE INDEX failure_reason_destination
    ON failure_reason (destination_ae_title, requestor_ae_title, reason)
    """,
    "CREATE INDEX failure_reason_requestor ON failure_reason (requestor_ae_title)",
    "CREATE INDEX failure_time ON failure (failed_at)",
    "CREATE INDEX failure_reason_key ON failure (reason_key, failed_at)",
    "CREATE INDEX failure_instance ON failure (sop_instance_uid, failed_at)",
)


def _third_schema(database: CatalogDatabase) -> None:
    for statement in _THIRD_SCHEMA:
        execute(database.writer, statement.format(key=database.key_type))


_STEPS: Final[tuple[Callable[[CatalogDatabase], None], ...]] = (
    _first_schema,
    _second_schema,
    _third_schema,
)
NEWEST: Final = len(_STEPS)


def upgrade(database: CatalogDatabase) -> tuple[int, int]:
    """Bring the schema to the newest version, all of it or nothing.

    Returns:
        The version before (0 for an empty database) and after.

    Raises:
        CatalogError: the schema is newer than this program, or the database fails.
    """
    with database.writing():
        before = _version(database.writer)
        _refuse_newer(before)
        for step in _STEPS[before:]:
            step(database)
        if before == 0:
            SCHEMA_VERSION.insert({SCHEMA_VERSION.version: NEWEST}).execute(database.writer)
        else:
            SCHEMA_VERSION.update({SCHEMA_VERSION.version: NEWEST}).execute(database.writer)
    return before, NEWEST


def prepare(database: CatalogDatabase) -> None:
    """Make the schema in an empty database; check that an existing one is ours to work with.

    An older schema is not upgraded on the way: that is for the administrator to decide, who may
    want a copy first.

    Raises:
        CatalogError: the schema is older or newer than this program, or the database fails.
    """
    with database.reading():
        version = _version(database.peewee)
    _refuse_newer(version)
    if version == 0:
        upgrade(database)
    elif version < NEWEST:
        raise CatalogError(
            f"the catalog has schema {version}, this program needs {NEWEST}:"
            " make a copy of it, then run `pacsnode upgrade-catalog`"
        )


def _version(database: Database) -> int:
    """Return the version of the schema; 0 for an empty database."""
    if SCHEMA_VERSION.__name__ not in database.get_tables():
        return 0
    return int(SCHEMA_VERSION.select(SCHEMA_VERSION.version).scalar(database))


def _refuse_newer(version: int) -> None:
    if version > NEWEST:
        raise CatalogError(
            f"the catalog has schema {version}, this program knows none above {NEWEST}:"
            " it belongs to a newer pacsnode"
        )
