"""The Attributes that the catalog keeps, matches and returns: the one table of them.

The catalog's tables, the matching of keys, the answers and the tables of the conformance statement
follow from it. An Attribute that is not listed is an unsupported optional key: it is neither
matched nor returned (rule D-5a).

Source: PS3.4 C.6.1.1, C.6.2.1; PS3.3 C.7 for the level of an Attribute (rules A-8, A-9).
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from pacsnode.dicom.information_model import UNIQUE_KEYWORD, Level


class KeyType(Enum):
    """What the Standard asks of a key at its level.

    Source: PS3.4 C.2.2.1; rule A-5.
    """

    UNIQUE = "U"
    REQUIRED = "R"
    OPTIONAL = "O"


class Origin(Enum):
    """Where the value that answers comes from."""

    STORED = "stored"  # from the data set of the entity's first instance
    COMPUTED = "computed"  # from what the catalog holds below the entity (rules)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One catalogued Attribute.

    Attributes:
        keyword: of the data dictionary (PS3.6).
        tag: group in the upper, element in the lower 16 bits.
        vr: its Value Representation.
        level: the entity it describes, in the Patient Root; see InformationModel.level_of.
        key_type: as a key in the Patient Root.
        origin: stored or computed.
        is_matched: a key with a value selects; else its value is ignored and the Attribute
            only returned (rule D-5b).
        column: the name of its value in the catalog.
    """

    keyword: str
    tag: int
    vr: str
    level: Level
    key_type: KeyType
    origin: Origin
    is_matched: bool
    column: str


def _column_name(keyword: str) -> str:
    """Return a keyword in Python's case: StudyInstanceUID becomes study_instance_uid."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", keyword).lower()


def _attribute(
    level: Level,
    keyword: str,
    key_type: KeyType = KeyType.OPTIONAL,
    *,
    origin: Origin = Origin.STORED,
    is_matched: bool | None = None,
) -> Attribute:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(f"{keyword} is not in the data dictionary")
    if is_matched is None:
        # Rule I-12: several values need rows of their own to be matched one by one.
        is_matched = dictionary_VM(tag) == "1"
    return Attribute(
        keyword=keyword,
        tag=tag,
        vr=dictionary_VR(tag),
        level=level,
        key_type=key_type,
        origin=origin,
        is_matched=is_matched,
        column=_column_name(keyword),
    )


def _computed(level: Level, keyword: str, *, is_matched: bool = False) -> Attribute:
    return _attribute(level, keyword, origin=Origin.COMPUTED, is_matched=is_matched)


_UNIQUE, _REQUIRED = KeyType.UNIQUE, KeyType.REQUIRED

ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    _attribute(Level.PATIENT, "PatientID", _UNIQUE),
    _attribute(Level.PATIENT, "PatientName", _REQUIRED),
    _attribute(Level.PATIENT, "IssuerOfPatientID"),
    _attribute(Level.PATIENT, "PatientBirthDate"),
    _attribute(Level.PATIENT, "PatientBirthTime"),
    _attribute(Level.PATIENT, "PatientSex"),
    _attribute(Level.PATIENT, "OtherPatientNames"),
    _attribute(Level.PATIENT, "EthnicGroup"),
    _attribute(Level.PATIENT, "PatientComments"),
    _computed(Level.PATIENT, "NumberOfPatientRelatedStudies"),
    _computed(Level.PATIENT, "NumberOfPatientRelatedSeries"),
    _computed(Level.PATIENT, "NumberOfPatientRelatedInstances"),
    _attribute(Level.STUDY, "StudyInstanceUID", _UNIQUE),
    _attribute(Level.STUDY, "StudyDate", _REQUIRED),
    _attribute(Level.STUDY, "StudyTime", _REQUIRED),
    _attribute(Level.STUDY, "AccessionNumber", _REQUIRED),
    _attribute(Level.STUDY, "StudyID", _REQUIRED),
    _computed(Level.STUDY, "ModalitiesInStudy", is_matched=True),
    _computed(Level.STUDY, "SOPClassesInStudy", is_matched=True),
    _attribute(Level.STUDY, "ReferringPhysicianName"),
    _attribute(Level.STUDY, "StudyDescription"),
    _attribute(Level.STUDY, "NameOfPhysiciansReadingStudy"),
    _attribute(Level.STUDY, "AdmittingDiagnosesDescription"),
    _attribute(Level.STUDY, "PatientAge"),  # Patient Study module, not Patient (rule A-7)
    _attribute(Level.STUDY, "PatientSize"),
    _attribute(Level.STUDY, "PatientWeight"),
    _attribute(Level.STUDY, "Occupation"),
    _attribute(Level.STUDY, "AdditionalPatientHistory"),
    _attribute(Level.STUDY, "OtherStudyNumbers"),
    _computed(Level.STUDY, "NumberOfStudyRelatedSeries"),
    _computed(Level.STUDY, "NumberOfStudyRelatedInstances"),
    _attribute(Level.SERIES, "SeriesInstanceUID", _UNIQUE),
    _attribute(Level.SERIES, "Modality", _REQUIRED),
    _attribute(Level.SERIES, "SeriesNumber", _REQUIRED),
    _attribute(Level.SERIES, "SeriesDescription"),
    _attribute(Level.SERIES, "SeriesDate"),
    _attribute(Level.SERIES, "SeriesTime"),
    _attribute(Level.SERIES, "BodyPartExamined"),
    _attribute(Level.SERIES, "Laterality"),
    _attribute(Level.SERIES, "ProtocolName"),
    _attribute(Level.SERIES, "PerformedProcedureStepStartDate"),
    _attribute(Level.SERIES, "PerformedProcedureStepStartTime"),
    _attribute(Level.SERIES, "FrameOfReferenceUID"),
    _attribute(Level.SERIES, "Manufacturer"),
    _attribute(Level.SERIES, "ManufacturerModelName"),
    _attribute(Level.SERIES, "InstitutionName"),
    _attribute(Level.SERIES, "StationName"),
    _computed(Level.SERIES, "NumberOfSeriesRelatedInstances"),
    _attribute(Level.IMAGE, "SOPInstanceUID", _UNIQUE),
    _attribute(Level.IMAGE, "InstanceNumber", _REQUIRED),
    _attribute(Level.IMAGE, "SOPClassUID"),
    _computed(Level.IMAGE, "AvailableTransferSyntaxUID", is_matched=True),
    _attribute(Level.IMAGE, "ContentDate"),
    _attribute(Level.IMAGE, "ContentTime"),
    _attribute(Level.IMAGE, "AcquisitionNumber"),
    _attribute(Level.IMAGE, "NumberOfFrames"),
    _attribute(Level.IMAGE, "ContainerIdentifier"),
)

BY_TAG: Final = {attribute.tag: attribute for attribute in ATTRIBUTES}
BY_KEYWORD: Final = {attribute.keyword: attribute for attribute in ATTRIBUTES}
UNIQUE_KEY: Final = {level: BY_KEYWORD[keyword] for level, keyword in UNIQUE_KEYWORD.items()}
STORED_ATTRIBUTES: Final = tuple(a for a in ATTRIBUTES if a.origin is Origin.STORED)

# Rule A-13: they steer a request and are never matched.
SPECIFIC_CHARACTER_SET: Final = 0x00080005
QUERY_RETRIEVE_LEVEL: Final = 0x00080052
QUERY_RETRIEVE_VIEW: Final = 0x00080053
RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056
TIMEZONE_OFFSET_FROM_UTC: Final = 0x00080201
CONTROL_TAGS: Final = frozenset(
    {
        SPECIFIC_CHARACTER_SET,
        QUERY_RETRIEVE_LEVEL,
        QUERY_RETRIEVE_VIEW,
        RETRIEVE_AE_TITLE,
        INSTANCE_AVAILABILITY,
        TIMEZONE_OFFSET_FROM_UTC,
        0x00880130,  # Storage Media File-Set ID
        0x00880140,  # Storage Media File-Set UID
    }
)


def tag_text(tag: int) -> str:
    """Return a tag as the Standard writes it: (0008,0052)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
