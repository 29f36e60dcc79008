"""The Query/Retrieve information models: roots, levels, unique keys, SOP classes.

Source: PS3.4 C.3, C.6.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Level(IntEnum):
    """A level of the entity tree, from the top down; compare with < and >.

    Source: PS3.4 C.3.1 to C.3.4.
    """

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


# PS3.4 C.6.1.1.2 to C.6.1.1.5: the unique key of each level.
UNIQUE_KEYWORD: Final = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}


@dataclass(frozen=True, slots=True)
class InformationModel:
    """One Query/Retrieve information model.

    Attributes:
        name: as it stands in log lines.
        root: its topmost level; patient attributes belong to it even where it is STUDY (A-6).
        lowest: its lowest level.
        find_uid: SOP Class UID of its FIND.
        move_uid: SOP Class UID of its MOVE.
        get_uid: SOP Class UID of its GET.
    """

    name: str
    root: Level
    lowest: Level
    find_uid: str
    move_uid: str
    get_uid: str

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that a request may name, from the top down."""
        return tuple(level for level in Level if self.root <= level <= self.lowest)

    def level_of(self, level: Level) -> Level:
        """Return where an attribute of a level of the tree stands in this model.

        In the Study Root the patient's attributes stand at the STUDY level.

        Source: PS3.4 C.6.2.1.2; rule A-6.
        """
        return max(level, self.root)


PATIENT_ROOT: Final = InformationModel(
    name="Patient Root",
    root=Level.PATIENT,
    lowest=Level.IMAGE,
    find_uid="1.2.840.10008.5.1.4.1.2.1.1",
    move_uid="1.2.840.10008.5.1.4.1.2.1.2",
    get_uid="1.2.840.10008.5.1.4.1.2.1.3",
)
STUDY_ROOT: Final = InformationModel(
    name="Study Root",
    root=Level.STUDY,
    lowest=Level.IMAGE,
    find_uid="1.2.840.10008.5.1.4.1.2.2.1",
    move_uid="1.2.840.10008.5.1.4.1.2.2.2",
    get_uid="1.2.840.10008.5.1.4.1.2.2.3",
)
# Retired: the Patient Root, cut off below STUDY (PS3.4-2004 C.6.3; rule A-2).
PATIENT_STUDY_ONLY: Final = InformationModel(
    name="Patient/Study Only",
    root=Level.PATIENT,
    lowest=Level.STUDY,
    find_uid="1.2.840.10008.5.1.4.1.2.3.1",
    move_uid="1.2.840.10008.5.1.4.1.2.3.2",
    get_uid="1.2.840.10008.5.1.4.1.2.3.3",
)
_MODELS = (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)
FIND_MODELS: Final = {model.find_uid: model for model in _MODELS}
MOVE_MODELS: Final = {model.move_uid: model for model in _MODELS}
GET_MODELS: Final = {model.get_uid: model for model in _MODELS}

VERIFICATION_UID: Final = "1.2.840.10008.1.1"
STORAGE_SERVICE_CLASS_UID: Final = "1.2.840.10008.4.2"  # not a SOP class: see rule H-30
