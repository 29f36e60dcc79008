"""The table of attributes, held against the tables of the Standard."""

import pytest
from pydicom.datadict import dictionary_VM

from pacsnode.dicom.attributes import (
    ATTRIBUTES,
    BY_KEYWORD,
    BY_TAG,
    CONTROL_TAGS,
    KeyType,
    Origin,
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


def test_a_stored_attribute_of_several_values_is_returned_only() -> None:
    """Matching value by value would need rows of their own (I-12, D-5b)."""
    matched = [a.keyword for a in ATTRIBUTES if a.is_matched and a.origin is Origin.STORED]
    assert [keyword for keyword in matched if dictionary_VM(BY_KEYWORD[keyword].tag) != "1"] == []


def test_columns_are_named_like_their_attributes() -> None:
    """Each keyword has a column of its own, in Python's case."""
    assert BY_KEYWORD["SOPInstanceUID"].column == "sop_instance_uid"
    assert BY_KEYWORD["IssuerOfPatientID"].column == "issuer_of_patient_id"
    assert len({a.column for a in ATTRIBUTES}) == len(ATTRIBUTES)


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
