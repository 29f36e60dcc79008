"""The information models."""

import pytest

from pacsnode.dicom.information_model import (
    FIND_MODELS,
    GET_MODELS,
    MOVE_MODELS,
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    UNIQUE_KEYWORD,
    Level,
)


def test_each_model_has_the_sop_classes_of_the_standard() -> None:
    """FIND, MOVE and GET of both roots and of the retired model, and no others (A-1, A-2)."""
    assert FIND_MODELS == {
        "1.2.840.10008.5.1.4.1.2.1.1": PATIENT_ROOT,
        "1.2.840.10008.5.1.4.1.2.2.1": STUDY_ROOT,
        "1.2.840.10008.5.1.4.1.2.3.1": PATIENT_STUDY_ONLY,
    }
    assert MOVE_MODELS == {
        "1.2.840.10008.5.1.4.1.2.1.2": PATIENT_ROOT,
        "1.2.840.10008.5.1.4.1.2.2.2": STUDY_ROOT,
        "1.2.840.10008.5.1.4.1.2.3.2": PATIENT_STUDY_ONLY,
    }
    assert GET_MODELS == {
        "1.2.840.10008.5.1.4.1.2.1.3": PATIENT_ROOT,
        "1.2.840.10008.5.1.4.1.2.2.3": STUDY_ROOT,
        "1.2.840.10008.5.1.4.1.2.3.3": PATIENT_STUDY_ONLY,
    }


def test_a_model_has_the_levels_from_its_root_to_its_lowest() -> None:
    """PATIENT is no level of the Study Root, SERIES and IMAGE are none of the retired one (A-3)."""
    assert [level.name for level in PATIENT_ROOT.levels] == ["PATIENT", "STUDY", "SERIES", "IMAGE"]
    assert [level.name for level in STUDY_ROOT.levels] == ["STUDY", "SERIES", "IMAGE"]
    assert [level.name for level in PATIENT_STUDY_ONLY.levels] == ["PATIENT", "STUDY"]


def test_each_level_has_one_unique_key() -> None:
    """Patient ID and three UIDs (A-4)."""
    assert UNIQUE_KEYWORD == {
        Level.PATIENT: "PatientID",
        Level.STUDY: "StudyInstanceUID",
        Level.SERIES: "SeriesInstanceUID",
        Level.IMAGE: "SOPInstanceUID",
    }


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_levels_below_the_patient_are_the_same_in_both_roots(level: Level) -> None:
    """An attribute of a study, series or instance stands where it stands."""
    assert PATIENT_ROOT.level_of(level) is STUDY_ROOT.level_of(level) is level


def test_the_patient_belongs_to_the_study_in_the_study_root() -> None:
    """Patient attributes are keys of the STUDY level there (A-6)."""
    assert STUDY_ROOT.level_of(Level.PATIENT) is Level.STUDY
    assert PATIENT_ROOT.level_of(Level.PATIENT) is Level.PATIENT
