"""What goes into the catalog and comes out of it, as plain records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import InstanceHeader
from pacsnode.dicom.values import Value


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
        values: of the query's return_keys, in their order; None or empty where there is none.
        path: of the file, for an entity of the IMAGE level; else None.
    """

    values: Sequence[Value | None]
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


@dataclass(frozen=True, slots=True)
class ReindexState:
    """How far a catalog is from having what its keys ask for.

    Attributes:
        pending: instances that are to be reindexed.
        total: all instances.
        lacking: by the names of Attributes without columns: instances that were catalogued without
            them.
    """

    pending: int
    total: int
    lacking: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PendingInstance:
    """An instance that is to be reindexed.

    Attributes:
        key: of its row.
        study_instance_uid: of its study.
        series_instance_uid: of its series.
        sop_instance_uid: its own.
        file: where its bytes are.
    """

    key: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    file: KeptFile


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """A value that instances state of an entity above them, and that is not the one that answers.

    Attributes:
        level: of the entity.
        entity: its unique key; empty for a patient without Patient ID.
        attribute: its name: the keyword, or what is known of it if it is no key any more.
        answer: the value that answers; empty if the entity has none.
        other: the value that those instances state; empty if they have none.
        instances: how many they are.
        sop_instance_uid: of the first of them.
    """

    level: Level
    entity: str
    attribute: str
    answer: str
    other: str
    instances: int
    sop_instance_uid: str


class FailureCause(StrEnum):
    """What kind of thing kept an instance from being sent."""

    NO_ASSOCIATION = "no association"
    NO_CONTEXT = "no presentation context"
    REFUSED = "refused"
    LOST = "association lost"
    NO_ANSWER = "no answer"
    FILE = "file missing or unreadable"
    CONVERSION = "cannot be converted"
    INTERNAL = "internal error"


@dataclass(frozen=True, slots=True)
class FailedSubOperation:
    """An instance that was to be sent, and was not kept by its receiver.

    Attributes:
        failed_at: when, with a time zone.
        sop_instance_uid: of the instance.
        service: that it was to be sent by: C-MOVE, C-GET or send, the command.
        requestor_ae_title: who asked for it; empty for the command line.
        destination_ae_title: who was to receive it.
        cause: what kind of failure it was.
        status: that it was answered with; None if there was no answer.
        reason: one line in words, printable; no patient data.
    """

    failed_at: datetime
    sop_instance_uid: str
    service: str
    requestor_ae_title: str
    destination_ae_title: str
    cause: FailureCause
    status: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class KeptFailure:
    """A failure that the catalog has kept.

    Attributes:
        failure: as it was.
        study_instance_uid: of the study that the instance belongs to; empty if the catalog does
            not have the instance.
    """

    failure: FailedSubOperation
    study_instance_uid: str
