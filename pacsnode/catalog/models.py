"""The tables of the catalog; the four of the entity tree are made from the table of Attributes.

A study belongs to the patient of its first instance, a series to one study (the same Series
Instance UID in two studies makes two rows), an instance to one series. An instance also keeps the
Patient ID and Issuer that it states itself, so that a study filed under the wrong patient can be
taken apart later (rule F-22).

A series keeps the digest of the last statement about patient, study and series that was compared
with what the catalog has, and found to say nothing else; with the number of the set of keys that
the comparison went by. An instance keeps the number of the set it was catalogued with: 0 where its
values are yet to be read (anew).
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

# Columns beside those of the Attributes: name and SQL type. `further` holds the values of those
# that have no columns of their own (further.py).
STRUCTURE: Final[dict[Level, tuple[tuple[str, str], ...]]] = {
    Level.PATIENT: (("further", "TEXT"),),
    Level.STUDY: (("patient_key", "BIGINT"), ("further", "TEXT")),
    Level.SERIES: (("study_key", "BIGINT"), ("statement", "BLOB"), ("further", "TEXT")),
    Level.IMAGE: (
        ("series_key", "BIGINT"),
        ("transfer_syntax_uid", "TEXT"),
        ("path", "TEXT"),
        ("data_set_sha256", "BLOB"),
        ("data_set_length_bytes", "BIGINT"),
        ("source_ae_title", "TEXT"),
        ("received_at", "TEXT"),
        ("key_set", "BIGINT"),
        ("stated_patient_id", "TEXT"),
        ("stated_issuer_of_patient_id", "TEXT"),
        ("further", "TEXT"),
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
# The sets of keys that instances have been catalogued with (key_sets.py).
KEY_SET: Final = CatalogTable("key_set", ["key", "names"], primary_key="key")
# What an instance says of an entity above it, and that entity does not: one row for each Attribute.
INCONSISTENCY: Final = CatalogTable(
    "inconsistency", ["instance_key", "level", "name", "entity_key", "value"]
)
# What could not be sent, and why (failures.py): a row for each instance, one for each reason.
FAILURE: Final = CatalogTable(
    "failure", ["key", "reason_key", "failed_at", "sop_instance_uid"], primary_key="key"
)
FAILURE_REASON: Final = CatalogTable(
    "failure_reason",
    [
        "key",
        "service",
        "requestor_ae_title",
        "destination_ae_title",
        "cause",
        "status",
        "reason",
    ],
    primary_key="key",
)
