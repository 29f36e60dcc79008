"""The four tables of the entity tree, made from the table of Attributes.

A study belongs to the patient of its first instance, a series to one study (the same Series
Instance UID in two studies makes two rows), an instance to one series. An instance also keeps the
Patient ID and Issuer that it states itself, so that a study filed under the wrong patient can be
taken apart later (rule F-22).
"""

from typing import TYPE_CHECKING, Final

from peewee import Column, Table

from pacsnode.catalog.columns import columns_at
from pacsnode.dicom.information_model import Level

TABLE_NAME: Final = {
    Level.PATIENT: "patient",
    Level.STUDY: "study",
    Level.SERIES: "series",
    Level.IMAGE: "instance",
}

# Columns beside those of the Attributes: name and SQL type.
STRUCTURE: Final[dict[Level, tuple[tuple[str, str], ...]]] = {
    Level.PATIENT: (),
    Level.STUDY: (("patient_key", "BIGINT"),),
    Level.SERIES: (("study_key", "BIGINT"),),
    Level.IMAGE: (
        ("series_key", "BIGINT"),
        ("transfer_syntax_uid", "TEXT"),
        ("path", "TEXT"),
        ("data_set_sha256", "BLOB"),
        ("data_set_length_bytes", "BIGINT"),
        ("source_ae_title", "TEXT"),
        ("received_at", "TEXT"),
        ("stated_patient_id", "TEXT"),
        ("stated_issuer_of_patient_id", "TEXT"),
    ),
}


class CatalogTable(Table):
    """A table whose columns are attributes of the same name."""

    if TYPE_CHECKING:  # the columns follow from data: a type checker cannot see their names

        def __getattr__(self, name: str) -> Column: ...


def _table(level: Level) -> CatalogTable:
    names = [name for name, _ in (*STRUCTURE[level], *columns_at(level))]
    return CatalogTable(TABLE_NAME[level], ["key", *names], primary_key="key")


PATIENT: Final = _table(Level.PATIENT)
STUDY: Final = _table(Level.STUDY)
SERIES: Final = _table(Level.SERIES)
INSTANCE: Final = _table(Level.IMAGE)
TABLE: Final = {
    Level.PATIENT: PATIENT,
    Level.STUDY: STUDY,
    Level.SERIES: SERIES,
    Level.IMAGE: INSTANCE,
}
# The column that names the entity above.
PARENT_KEY: Final = {
    Level.STUDY: STUDY.patient_key,
    Level.SERIES: SERIES.study_key,
    Level.IMAGE: INSTANCE.series_key,
}
SCHEMA_VERSION: Final = CatalogTable("schema_version", ["version"])
