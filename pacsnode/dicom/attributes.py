"""The Attributes that the catalog keeps, matches and returns: the one table of them.

The catalog's tables, the matching of keys, the answers and the tables of the conformance statement
follow from it. An Attribute that is not listed is an unsupported optional key: it is neither
matched nor returned (rule D-5a).

Source: PS3.4 C.6.1.1, C.6.2.1; PS3.3 C.7 for the level of an Attribute (rules A-8, A-9).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from pydicom.datadict import dictionary_keyword, dictionary_VM, dictionary_VR, tag_for_keyword

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


@dataclass(frozen=True, slots=True, eq=False)  # itself as a key of a dict: no time for its fields
class Attribute:
    """One catalogued Attribute.

    Attributes:
        keyword: of the data dictionary (PS3.6); of a private one, its tag and creator.
        tag: group in the upper, element in the lower 16 bits; of a private one the number of its
            block is 0, as in (0019,000C) for (0019,xx0C).
        vr: its Value Representation.
        level: the entity it describes, in the Patient Root; see InformationModel.level_of.
        key_type: as a key in the Patient Root.
        origin: stored or computed.
        is_matched: a key with a value selects; else its value is ignored and the Attribute
            only returned (rule D-5b).
        is_multiple: it may have several values.
        column: the name of its value in the catalog, where it has columns of its own, which can be
            indexed; empty where it is kept among the further values of its entity.
        private_creator: of a private one; else empty.
        is_extra: named by the administrator, not one of ATTRIBUTES.
    """

    keyword: str
    tag: int
    vr: str
    level: Level
    key_type: KeyType
    origin: Origin
    is_matched: bool
    is_multiple: bool
    column: str
    private_creator: str = ""
    is_extra: bool = False

    @property
    def name(self) -> str:
        """What its value is called among the further values of an entity."""
        return f"{self.tag:08X}{self.private_creator and ' '}{self.private_creator}"


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
    has_columns: bool = True,
) -> Attribute:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(f"{keyword} is not in the data dictionary")
    vr = dictionary_VR(tag)
    return Attribute(
        keyword=keyword,
        tag=tag,
        vr=vr,
        level=level,
        key_type=key_type,
        origin=origin,
        is_matched=vr in MATCHED_VRS if is_matched is None else is_matched,
        is_multiple=vr != "SQ" and dictionary_VM(tag) != "1",
        column=_column_name(keyword) if has_columns else "",
    )


def _computed(level: Level, keyword: str, *, is_matched: bool = False) -> Attribute:
    return _attribute(
        level, keyword, origin=Origin.COMPUTED, is_matched=is_matched, has_columns=False
    )


def _further(level: Level, keywords: str) -> Iterator[Attribute]:
    """Yield Attributes without columns of their own, by their keywords."""
    return (_attribute(level, keyword, has_columns=False) for keyword in keywords.split())


_SINGLE_VALUE_VRS: Final = frozenset({"LT", "SQ", "ST", "UR", "UT"})
# Values of these can be looked for: text, numbers in binary, and items. Those of others are bytes.
MATCHED_VRS: Final = _SINGLE_VALUE_VRS | {
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS"),
    *("LO", "PN", "SH", "SL", "SS", "TM", "UC", "UI", "UL", "US"),
}
# PS3.5 7.8.1: in these groups nothing is private.
_GROUPS_WITHOUT_PRIVATE: Final = frozenset({0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF})
_BLOCK_MASK: Final = 0xFFFF00FF

_UNIQUE, _REQUIRED = KeyType.UNIQUE, KeyType.REQUIRED

ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    _attribute(Level.PATIENT, "PatientID", _UNIQUE),
    _attribute(Level.PATIENT, "PatientName", _REQUIRED),
    _attribute(Level.PATIENT, "IssuerOfPatientID"),
    _attribute(Level.PATIENT, "PatientBirthDate"),
    _attribute(Level.PATIENT, "PatientBirthTime"),
    _attribute(Level.PATIENT, "PatientSex"),
    _attribute(Level.PATIENT, "EthnicGroup"),
    _attribute(Level.PATIENT, "PatientComments"),
    # The rest of the Patient and Clinical Trial Subject modules (PS3.3 C.7.1.1, C.7.1.3).
    *_further(
        Level.PATIENT,
        """
        TypeOfPatientID IssuerOfPatientIDQualifiersSequence
        SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence
        PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar
        PatientAlternativeCalendar QualityControlSubject ReferencedPatientPhotoSequence
        ReferencedPatientSequence OtherPatientIDsSequence OtherPatientNames
        EthnicGroupCodeSequence PatientSpeciesDescription PatientSpeciesCodeSequence
        PatientBreedDescription PatientBreedCodeSequence BreedRegistrationSequence
        StrainDescription StrainNomenclature StrainCodeSequence StrainAdditionalInformation
        StrainStockSequence GeneticModificationsSequence ResponsiblePerson ResponsiblePersonRole
        ResponsibleOrganization PatientIdentityRemoved DeidentificationMethod
        DeidentificationMethodCodeSequence ClinicalTrialSponsorName ClinicalTrialProtocolID
        ClinicalTrialProtocolName ClinicalTrialSiteID ClinicalTrialSiteName
        ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
        ClinicalTrialProtocolEthicsCommitteeName
        ClinicalTrialProtocolEthicsCommitteeApprovalNumber
        """,
    ),
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
    _computed(Level.STUDY, "AnatomicRegionsInStudyCodeSequence", is_matched=True),
    _attribute(Level.STUDY, "ReferringPhysicianName"),
    _attribute(Level.STUDY, "StudyDescription"),
    _attribute(Level.STUDY, "PatientAge"),  # Patient Study module, not Patient (rule A-7)
    _attribute(Level.STUDY, "PatientSize"),
    _attribute(Level.STUDY, "PatientWeight"),
    _attribute(Level.STUDY, "Occupation"),
    _attribute(Level.STUDY, "AdditionalPatientHistory"),
    # The rest of the General Study, Patient Study and Clinical Trial Study modules
    # (PS3.3 C.7.2.1, C.7.2.2, C.7.2.3), and of PS3.4 table C.6-5.
    *_further(
        Level.STUDY,
        """
        OtherStudyNumbers ReferringPhysicianIdentificationSequence ConsultingPhysicianName
        ConsultingPhysicianIdentificationSequence IssuerOfAccessionNumberSequence
        PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
        PhysiciansReadingStudyIdentificationSequence RequestingService
        RequestingServiceCodeSequence ReferencedStudySequence ProcedureCodeSequence
        ReasonForPerformedProcedureCodeSequence AdmittingDiagnosesDescription
        AdmittingDiagnosesCodeSequence PatientBodyMassIndex MeasuredAPDimension
        MeasuredLateralDimension PatientSizeCodeSequence MedicalAlerts Allergies SmokingStatus
        PregnancyStatus LastMenstrualDate PatientState PatientSexNeutered AdmissionID
        IssuerOfAdmissionIDSequence ServiceEpisodeID IssuerOfServiceEpisodeIDSequence
        ServiceEpisodeDescription ReasonForVisit ReasonForVisitCodeSequence
        ClinicalTrialTimePointID ClinicalTrialTimePointDescription
        LongitudinalTemporalOffsetFromEvent LongitudinalTemporalEventType
        ConsentForClinicalTrialUseSequence
        """,
    ),
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
    # The rest of the General Series, Clinical Trial Series, Frame of Reference and General
    # Equipment modules (PS3.3 C.7.3.1, C.7.3.2, C.7.4.1, C.7.5.1), but for Pixel Padding Value and
    # Smallest and Largest Pixel Value in Series, whose VR depends on the image.
    *_further(
        Level.SERIES,
        """
        PerformingPhysicianName PerformingPhysicianIdentificationSequence
        ReferencedDefinedProtocolSequence ReferencedPerformedProtocolSequence
        SeriesDescriptionCodeSequence OperatorsName OperatorIdentificationSequence
        ReferencedPerformedProcedureStepSequence RelatedSeriesSequence PatientPosition
        RequestAttributesSequence PerformedProcedureStepID PerformedProcedureStepEndDate
        PerformedProcedureStepEndTime PerformedProcedureStepDescription
        PerformedProtocolCodeSequence CommentsOnThePerformedProcedureStep
        AnatomicalOrientationType TreatmentSessionUID PresentationIntentType
        ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID ClinicalTrialSeriesDescription
        PositionReferenceIndicator InstitutionAddress InstitutionalDepartmentName
        InstitutionalDepartmentTypeCodeSequence ManufacturerDeviceClassUID DeviceSerialNumber
        SoftwareVersions GantryID UDISequence DeviceUID SpatialResolution DateOfManufacture
        DateOfInstallation DateOfLastCalibration TimeOfLastCalibration
        """,
    ),
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
    # What PS3.4 table C.6-4 has besides, and what viewers ask for.
    *_further(
        Level.IMAGE,
        """
        RelatedGeneralSOPClassUID ConceptNameCodeSequence ContentTemplateSequence
        SpecimenDescriptionSequence ImageType AcquisitionDate AcquisitionTime
        AcquisitionDateTime Rows Columns ImageComments ImageLaterality AnatomicRegionSequence
        LossyImageCompression ContentLabel ContentDescription ContentCreatorName
        PresentationCreationDate PresentationCreationTime CompletionFlag VerificationFlag
        ReferencedRequestSequence DocumentTitle
        """,
    ),
    _attribute(Level.IMAGE, "AlternateRepresentationSequence", is_matched=False, has_columns=False),
)

BY_TAG: Final = {attribute.tag: attribute for attribute in ATTRIBUTES}
BY_KEYWORD: Final = {attribute.keyword: attribute for attribute in ATTRIBUTES}
UNIQUE_KEY: Final = {level: BY_KEYWORD[keyword] for level, keyword in UNIQUE_KEYWORD.items()}
STORED_ATTRIBUTES: Final = tuple(a for a in ATTRIBUTES if a.origin is Origin.STORED)


class ExtraKeyError(ValueError):
    """An Attribute cannot be an extra key; says what could be one."""


def extra_key(
    level: Level, *, tag: int, vr: str | None = None, private_creator: str = ""
) -> Attribute:
    """Return the Attribute that an administrator wants catalogued besides ATTRIBUTES.

    Args:
        level: of the entity it is to describe.
        tag: of a private one, the number of its block is ignored.
        vr: of a private one; for one of the Standard None, or that of the data dictionary.
        private_creator: of a private one; else empty.

    Raises:
        ExtraKeyError: it is catalogued anyway, it can be no key, or its VR is missing or wrong.
    """
    if (tag >> 16) % 2:
        return _private_key(level, tag & _BLOCK_MASK, vr, private_creator)
    if private_creator:
        raise ExtraKeyError("a private Attribute, whose group is odd, if private_creator is given")
    attribute = _standard_key(level, tag)
    if vr not in {None, attribute.vr}:
        raise ExtraKeyError(f"with {attribute.keyword} the VR {attribute.vr}, or none")
    return attribute


def _private_key(level: Level, tag: int, vr: str | None, private_creator: str) -> Attribute:
    """Return a private Attribute as an extra key; its block has the number 0."""
    if tag >> 16 in _GROUPS_WITHOUT_PRIVATE:
        raise ExtraKeyError("an Attribute of a group that is private: 0009 and odd ones above")
    if not private_creator or vr is None:
        raise ExtraKeyError("for a private Attribute also private_creator and vr")
    if vr not in MATCHED_VRS:
        raise ExtraKeyError("an Attribute whose VR can be matched")
    return Attribute(
        keyword=f"({tag >> 16:04X},xx{tag & 0xFF:02X}) {private_creator}",
        tag=tag,
        vr=vr,
        level=level,
        key_type=KeyType.OPTIONAL,
        origin=Origin.STORED,
        is_matched=True,
        is_multiple=vr not in _SINGLE_VALUE_VRS,
        column="",
        private_creator=private_creator,
        is_extra=True,
    )


def _standard_key(level: Level, tag: int) -> Attribute:
    """Return an Attribute of the data dictionary as an extra key."""
    if tag in BY_TAG:
        raise ExtraKeyError(f"an Attribute that is not a key anyway, as {BY_TAG[tag].keyword} is")
    if tag >> 16 <= LAST_GROUP_OF_NO_KEY or tag in CONTROL_TAGS:
        raise ExtraKeyError("an Attribute that can be a key")
    try:
        vr, keyword = dictionary_VR(tag), dictionary_keyword(tag)
    except KeyError:
        raise ExtraKeyError("an Attribute of the data dictionary, or a private one") from None
    if tag_for_keyword(keyword) != tag:
        raise ExtraKeyError("an Attribute with a keyword of its own in the data dictionary")
    if vr not in MATCHED_VRS:
        raise ExtraKeyError(f"an Attribute whose VR can be matched, which {vr} cannot")
    return replace(_attribute(level, keyword, has_columns=False), is_extra=True)


class Keys:
    """The Attributes that a node catalogues: ATTRIBUTES, and what its administrator has added.

    Attributes:
        attributes: all of them.
        extra: those that were added, in their order.
        by_tag: those that are not private, by tag.
        by_private_tag: private ones by creator and tag, the number of the block being 0.
    """

    def __init__(self, extra: Iterable[Attribute] = ()) -> None:
        """Add some Attributes to those of ATTRIBUTES.

        Raises:
            ExtraKeyError: one is added twice.
        """
        self.extra = tuple(extra)
        self.attributes = (*ATTRIBUTES, *self.extra)
        self.by_tag = {a.tag: a for a in self.attributes if not a.private_creator}
        self.by_private_tag = {
            (a.private_creator, a.tag): a for a in self.extra if a.private_creator
        }
        if len(self.by_tag) + len(self.by_private_tag) != len(self.attributes):
            raise ExtraKeyError("a key is listed twice")

    def find(self, tag: int, private_creator: str = "") -> Attribute | None:
        """Return the Attribute of a tag; None if it is not catalogued.

        Args:
            tag: as it stands in a data set.
            private_creator: of the block that it stands in, if it is private.
        """
        if (tag >> 16) % 2 == 0:
            return self.by_tag.get(tag)
        return self.by_private_tag.get((private_creator, tag & _BLOCK_MASK))


STANDARD_KEYS: Final = Keys()

# Rule A-13: they steer a request and are never matched.
SPECIFIC_CHARACTER_SET: Final = 0x00080005
LAST_GROUP_OF_NO_KEY: Final = 0x0007  # rule A-12: never keys
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
