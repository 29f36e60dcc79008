"""The table of attributes, held against the tables of the Standard."""

import pytest
from pydicom.datadict import dictionary_VM

from pacsnode.dicom.attributes import (
    ATTRIBUTES,
    BY_KEYWORD,
    BY_TAG,
    CONTROL_TAGS,
    STANDARD_KEYS,
    Attribute,
    ExtraKeyError,
    Keys,
    KeyType,
    Origin,
    extra_key,
    tag_text,
)
from pacsnode.dicom.information_model import Level

_REQUIRED = {
    "PatientName": Level.PATIENT,
    "StudyDate": Level.STUDY,
    "StudyTime": Level.STUDY,
    "AccessionNumber": Level.STUDY,
    "StudyID": Level.STUDY,
    "Modality": Level.SERIES,
    "SeriesNumber": Level.SERIES,
    "InstanceNumber": Level.IMAGE,
}


@pytest.mark.parametrize(("keyword", "level"), _REQUIRED.items())
def test_a_required_key_is_at_its_level_and_matched(keyword: str, level: Level) -> None:
    """Existence and matching of required keys are not optional (A-5, A-8)."""
    attribute = BY_KEYWORD[keyword]
    assert (attribute.level, attribute.key_type) == (level, KeyType.REQUIRED)
    assert attribute.is_matched


def test_no_other_key_is_required() -> None:
    """What table A-8 calls optional is optional here."""
    required = {a.keyword for a in ATTRIBUTES if a.key_type is KeyType.REQUIRED}
    assert required == set(_REQUIRED)


@pytest.mark.parametrize(
    ("keyword", "level"),
    [
        ("PatientID", Level.PATIENT),
        ("StudyInstanceUID", Level.STUDY),
        ("SeriesInstanceUID", Level.SERIES),
        ("SOPInstanceUID", Level.IMAGE),
    ],
)
def test_a_unique_key_is_matched(keyword: str, level: Level) -> None:
    """Each level has one, and it can be matched (A-4, A-5)."""
    unique = [a for a in ATTRIBUTES if a.level is level and a.key_type is KeyType.UNIQUE]
    assert [a.keyword for a in unique] == [keyword]
    assert unique[0].is_matched


@pytest.mark.parametrize(
    ("keyword", "tag", "vr"),
    [
        ("PatientID", 0x00100020, "LO"),
        ("PatientName", 0x00100010, "PN"),
        ("StudyDate", 0x00080020, "DA"),
        ("StudyTime", 0x00080030, "TM"),
        ("ModalitiesInStudy", 0x00080061, "CS"),
        ("SOPClassesInStudy", 0x00080062, "UI"),
        ("InstanceNumber", 0x00200013, "IS"),
        ("NumberOfStudyRelatedInstances", 0x00201208, "IS"),
    ],
)
def test_an_attribute_has_tag_and_vr_of_the_dictionary(keyword: str, tag: int, vr: str) -> None:
    """The table A-8 gives both."""
    assert BY_TAG[tag] is BY_KEYWORD[keyword]
    assert BY_KEYWORD[keyword].vr == vr


@pytest.mark.parametrize("keyword", ["PatientAge", "PatientSize", "PatientWeight", "Occupation"])
def test_the_patient_study_module_describes_the_study(keyword: str) -> None:
    """Age, size, weight and occupation are attributes of the study in both roots (A-7)."""
    assert BY_KEYWORD[keyword].level is Level.STUDY


@pytest.mark.parametrize("keyword", ["InstitutionName", "StationName", "Manufacturer"])
def test_equipment_describes_the_series(keyword: str) -> None:
    """Attributes of General Equipment are keys of the SERIES level (A-9)."""
    assert BY_KEYWORD[keyword].level is Level.SERIES


@pytest.mark.parametrize(
    "attribute",
    [a for a in ATTRIBUTES if a.keyword.startswith("Number") and "Related" in a.keyword],
)
def test_a_counter_is_computed_and_not_matched(attribute: object) -> None:
    """A counter as a key is ignored, and its value counted anew (A-10)."""
    assert (attribute.origin, attribute.is_matched) == (Origin.COMPUTED, False)


def test_what_is_stored_is_matched() -> None:
    """But for Alternate Representation Sequence, whose matching is not defined (C-26)."""
    stored = [a for a in ATTRIBUTES if a.origin is Origin.STORED]
    assert [a.keyword for a in stored if not a.is_matched] == ["AlternateRepresentationSequence"]


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.keyword)
def test_an_attribute_has_several_values_where_the_dictionary_says_so(attribute: Attribute) -> None:
    """The items of a sequence are no values in this sense (PS3.6 6)."""
    is_multiple = attribute.vr != "SQ" and dictionary_VM(attribute.tag) != "1"
    assert attribute.is_multiple is is_multiple


def test_what_has_several_values_has_no_column() -> None:
    """A column would hold one value to be compared (I-12)."""
    with_columns = [a for a in ATTRIBUTES if a.column]
    assert [a for a in with_columns if a.is_multiple or a.vr == "SQ"] == []


def test_columns_are_named_like_their_attributes() -> None:
    """Each keyword has a column of its own, in Python's case; or none."""
    assert BY_KEYWORD["SOPInstanceUID"].column == "sop_instance_uid"
    assert BY_KEYWORD["IssuerOfPatientID"].column == "issuer_of_patient_id"
    assert BY_KEYWORD["OtherPatientNames"].column == ""
    columns = [a.column for a in ATTRIBUTES if a.column]
    assert len(set(columns)) == len(columns)


def test_an_attribute_has_a_name_among_further_values() -> None:
    """Its tag; that of a private one has its creator, too, and no block."""
    private = extra_key(Level.IMAGE, tag=0x0019420C, vr="IS", private_creator="MADE UP")
    assert BY_KEYWORD["OtherPatientNames"].name == "00101001"
    assert private.name == "0019000C MADE UP"


_MODULES = {
    Level.PATIENT: (
        "IssuerOfPatientIDQualifiersSequence OtherPatientIDsSequence EthnicGroupCodeSequence "
        "ResponsiblePerson PatientIdentityRemoved ClinicalTrialSubjectID"
    ),
    Level.STUDY: (
        "IssuerOfAccessionNumberSequence PhysiciansOfRecord ProcedureCodeSequence "
        "ReferencedStudySequence AdmittingDiagnosesCodeSequence AnatomicRegionsInStudyCodeSequence "
        "PregnancyStatus AdmissionID ClinicalTrialTimePointID"
    ),
    Level.SERIES: (
        "RequestAttributesSequence PerformedProcedureStepID PerformedProtocolCodeSequence "
        "OperatorsName DeviceSerialNumber SoftwareVersions FrameOfReferenceUID"
    ),
    Level.IMAGE: (
        "ConceptNameCodeSequence ContentTemplateSequence SpecimenDescriptionSequence "
        "AcquisitionDateTime ImageType Rows Columns AlternateRepresentationSequence"
    ),
}


@pytest.mark.parametrize(
    ("level", "keyword"),
    [(level, keyword) for level, keywords in _MODULES.items() for keyword in keywords.split()],
)
def test_an_attribute_of_a_module_is_at_the_level_of_the_module(level: Level, keyword: str) -> None:
    """Patient, Study and Series modules can be returned whole; at IMAGE level a set (A-8, A-9)."""
    assert BY_KEYWORD[keyword].level is level


def test_an_attribute_stands_once_in_the_table() -> None:
    """No tag is listed twice, and none of them steers a request (A-13)."""
    assert len(BY_TAG) == len(ATTRIBUTES)
    assert not CONTROL_TAGS & BY_TAG.keys()


def test_no_attribute_is_of_a_group_that_is_never_a_key() -> None:
    """Groups below 0008 cannot be keys (A-12)."""
    assert min(BY_TAG) >= 0x00080000


def test_a_tag_is_written_as_the_standard_writes_it() -> None:
    """Four hexadecimal digits each, in capitals."""
    assert tag_text(0x0020000D) == "(0020,000D)"


# --- extra keys


def test_an_extra_key_of_the_dictionary_is_described_by_it() -> None:
    """Its level is the administrator's choice (D-5)."""
    key = extra_key(Level.SERIES, tag=0x00180022)
    assert (key.keyword, key.tag, key.vr, key.level) == (
        "ScanOptions",
        0x00180022,
        "CS",
        Level.SERIES,
    )
    assert (key.key_type, key.origin) == (KeyType.OPTIONAL, Origin.STORED)
    assert (key.is_matched, key.is_multiple, key.is_extra) == (True, True, True)
    assert key.column == ""


def test_a_private_extra_key_has_no_block() -> None:
    """Which block it stands in, each instance says for itself (PS3.5 7.8.1)."""
    key = extra_key(Level.IMAGE, tag=0x0019FF0C, vr="LT", private_creator="MADE UP")
    assert (key.keyword, key.tag, key.vr) == ("(0019,xx0C) MADE UP", 0x0019000C, "LT")
    assert (key.private_creator, key.is_multiple) == ("MADE UP", False)


@pytest.mark.parametrize(
    ("tag", "vr", "private_creator", "reason"),
    [
        (0x00100010, None, "", "not a key anyway, as PatientName is"),
        (0x00080061, None, "", "not a key anyway, as ModalitiesInStudy is"),
        (0x00080005, None, "", "can be a key"),
        (0x00080054, None, "", "can be a key"),
        (0x00020010, None, "", "can be a key"),
        (0x00180001, None, "", "of the data dictionary"),
        (0x00180000, None, "", "of the data dictionary"),
        (0x60000010, None, "", "with a keyword of its own"),
        (0x7FE00010, None, "", "whose VR can be matched, which OB or OW cannot"),
        (0x00280106, None, "", "whose VR can be matched, which US or SS cannot"),
        (0x00180060, "LO", "", "with KVP the VR DS"),
        (0x00180060, None, "MADE UP", "a private Attribute"),
        (0x0019100C, "IS", "", "also private_creator and vr"),
        (0x0019100C, None, "MADE UP", "also private_creator and vr"),
        (0x0019100C, "OB", "MADE UP", "whose VR can be matched"),
        (0x0007100C, "IS", "MADE UP", "of a group that is private"),
    ],
)
def test_what_can_be_no_extra_key_is_refused(
    tag: int, vr: str | None, private_creator: str, reason: str
) -> None:
    """The message says what could be one (A-12, A-13)."""
    with pytest.raises(ExtraKeyError, match=reason):
        extra_key(Level.IMAGE, tag=tag, vr=vr, private_creator=private_creator)


def test_keys_are_found_by_tag_and_creator() -> None:
    """A private one in any block of its creator, and in no other (PS3.5 7.8.1)."""
    kvp = extra_key(Level.IMAGE, tag=0x00180060)
    private = extra_key(Level.IMAGE, tag=0x0019100C, vr="IS", private_creator="MADE UP")
    keys = Keys([kvp, private])
    assert keys.attributes == (*ATTRIBUTES, kvp, private)
    assert keys.extra == (kvp, private)
    assert keys.find(0x00100010) is BY_KEYWORD["PatientName"]
    assert keys.find(0x00180060) is kvp
    assert keys.find(0x0019420C, "MADE UP") is private
    assert keys.find(0x0019420C, "OTHER") is None
    assert keys.find(0x0019420D, "MADE UP") is None
    assert keys.find(0x0019420C) is None


def test_without_extra_keys_the_keys_are_those_of_the_table() -> None:
    """Every node has these."""
    assert STANDARD_KEYS.attributes == ATTRIBUTES
    assert STANDARD_KEYS.find(0x00180060) is None


@pytest.mark.parametrize("block", [0x1000, 0x4200])
def test_a_key_is_not_added_twice(block: int) -> None:
    """Also not as another block of the same creator."""
    kvp = extra_key(Level.IMAGE, tag=0x00180060)
    with pytest.raises(ExtraKeyError):
        Keys([kvp, extra_key(Level.SERIES, tag=0x00180060)])
    private = [
        extra_key(Level.IMAGE, tag=0x00190000 | b | 0x0C, vr="IS", private_creator="MADE UP")
        for b in (0x1000, block)
    ]
    with pytest.raises(ExtraKeyError):
        Keys(private)
