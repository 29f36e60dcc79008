"""What goes into the catalog and comes out of it, as plain records."""

from collections.abc import Mapping
from dataclasses import dataclass

from pacsnode.dicom.instance import InstanceHeader


class CatalogError(Exception):
    """The catalog cannot do what was asked; the cause is chained."""


class CatalogUnavailable(CatalogError):  # noqa: N818 - a state, which lasts
    """The catalog cannot be used at all for now, whatever is asked of it."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """The file of an instance, as it was kept.

    Attributes:
        path: relative to the storage folder.
        transfer_syntax_uid: of the data set in it.
        data_set_sha256: digest of the data set's bytes, without File Meta Information.
        data_set_length_bytes: their number.
    """

    path: str
    transfer_syntax_uid: str
    data_set_sha256: bytes
    data_set_length_bytes: int


@dataclass(frozen=True, slots=True)
class NewInstance:
    """An instance to be added.

    Attributes:
        header: what its data set says.
        file: where its bytes are.
        source_ae_title: who sent it; empty for an import.
    """

    header: InstanceHeader
    file: KeptFile
    source_ae_title: str


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that the catalog has.

    Attributes:
        sop_class_uid: as the data set says.
        sop_instance_uid: as the data set says.
        file: where its bytes are.
    """

    sop_class_uid: str
    sop_instance_uid: str
    file: KeptFile


@dataclass(frozen=True, slots=True)
class Addition:
    """What became of an instance that was to be added.

    Attributes:
        existing: None if it was added; else the instance that has the same SOP Instance UID, and
            nothing was changed.
        has_other_patient: it was added to a study that belongs to another patient (rule F-22).
    """

    existing: StoredInstance | None = None
    has_other_patient: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """One entity that matches a query.

    Attributes:
        values: text by keyword, of the attributes that the query returns and that have a value.
        path: of the file, for an entity of the IMAGE level; else None.
    """

    values: Mapping[str, str]
    path: str | None


@dataclass(frozen=True, slots=True)
class StudySummary:
    """One line of the table of studies."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    study_date: str
    study_description: str
    modalities: tuple[str, ...]
    series: int
    instances: int
