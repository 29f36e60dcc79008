"""What C-FIND matches and returns, key by key, at every level of both information models.

The archive under test holds three made-up patients:

    EX1  Adler^Anna      study A1: series CT (2 instances) and SR (1); study A2: series MR (1)
    EX2  Müller^Jörg     study B1: series CT (3)
    XY3  Smith^John      study C1: series US (1), with empty Study Time, Accession Number, Study ID
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    MRImageStorage,
    UltrasoundImageStorage,
)

from tests.support.instances import ct_data_set, encoded, sr_data_set
from tests.support.node import Node, running_node
from tests.support.wire import (
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    Association,
    Response,
    identifier_of,
    query_contexts,
    store_all,
)

pytestmark = pytest.mark.system

_ROOT = "1.2.826.0.1.3680043.8.498.77"
A1, A2, B1, C1 = (f"{_ROOT}.{number}" for number in range(1, 5))
A1_CT, A1_SR, A2_MR, B1_CT, C1_US = f"{A1}.1", f"{A1}.2", f"{A2}.1", f"{B1}.1", f"{C1}.1"

_UNIQUE_KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
_STUDIES: dict[str, dict[str, Any]] = {
    A1: {
        "PatientID": "EX1",
        "PatientName": "Adler^Anna",
        "StudyDate": "20200115",
        "StudyTime": "101530",
        "AccessionNumber": "ACC100",
        "StudyID": "ST1",
    },
    A2: {
        "PatientID": "EX1",
        "PatientName": "Adler^Anna",
        "StudyDate": "20200220",
        "StudyTime": "0800",
        "AccessionNumber": "ACC200",
        "StudyID": "ST2",
    },
    B1: {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientID": "EX2",
        "PatientName": "Müller^Jörg",
        "StudyDate": "20210301",
        "StudyTime": "235959.5",
        "AccessionNumber": "00300",
        "StudyID": "HEAD",
    },
    C1: {
        "PatientID": "XY3",
        "PatientName": "Smith^John",
        "StudyDate": "20190101",
        "StudyTime": "",
        "AccessionNumber": "",
        "StudyID": "",
    },
}
_SERIES: dict[str, tuple[str, str, str, int, list[int]]] = {
    # study, modality, SOP Class, Series Number, Instance Numbers
    A1_CT: (A1, "CT", CTImageStorage, 1, [1, 2]),
    A1_SR: (A1, "SR", BasicTextSRStorage, 2, [1]),
    A2_MR: (A2, "MR", MRImageStorage, 7, [1]),
    B1_CT: (B1, "CT", CTImageStorage, 12, [12, 13, 21]),
    C1_US: (C1, "US", UltrasoundImageStorage, 1, [1]),
}


@dataclass(frozen=True)
class Archive:
    """The node, and an open association to query it."""

    node: Node
    association: Association

    def find(
        self, model: str, level: str, **keys: str | list[Dataset]
    ) -> tuple[list[Dataset], list[Response]]:
        """Return the answers and all responses of a C-FIND that succeeds."""
        responses = self.association.c_find(model, identifier_of(level, **keys))
        assert responses[-1].status == 0x0000
        assert responses[-1].encoded_data_set is None
        return [response.identifier for response in responses[:-1]], responses


@pytest.fixture(scope="module")
def archive(module_folder: Path) -> Iterator[Archive]:
    """The archive described above."""
    with running_node(module_folder) as node:
        store_all(node.address, [encoded(data_set) for data_set in _population()])
        with Association(node.address, query_contexts()) as association:
            yield Archive(node, association)


def _population() -> list[Dataset]:
    data_sets = []
    for series, (study, modality, sop_class, number, instance_numbers) in _SERIES.items():
        for instance_number in instance_numbers:
            make = sr_data_set if modality == "SR" else ct_data_set
            data_sets.append(
                make(
                    **_STUDIES[study],
                    StudyInstanceUID=study,
                    SeriesInstanceUID=series,
                    SOPInstanceUID=f"{series}.{instance_number}",
                    SOPClassUID=sop_class,
                    Modality=modality,
                    SeriesNumber=number,
                    InstanceNumber=instance_number,
                )
            )
    return data_sets


def _stored(level: str, unique_key: str) -> Dataset:
    """Return one of the stored data sets of an entity."""
    keyword = _UNIQUE_KEYS[level]
    return next(each for each in _population() if each[keyword].value == unique_key)


_PATIENT_KEYS = [
    ("PatientID", "EX1", {"EX1"}),
    ("PatientID", "EX*", {"EX1", "EX2"}),
    ("PatientID", "?Y3", {"XY3"}),
    ("PatientID", "", {"EX1", "EX2", "XY3"}),
    ("PatientID", "*", {"EX1", "EX2", "XY3"}),
    ("PatientID", "EX1\\XY3", {"EX1", "XY3"}),
    ("PatientID", "ex1", set()),
    ("PatientID", "EX", set()),
    ("PatientName", "Adler^Anna", {"EX1"}),
    ("PatientName", "ADLER^ANNA", {"EX1"}),
    ("PatientName", "Adler^Anna^^^", {"EX1"}),
    ("PatientName", "adler*", {"EX1"}),
    ("PatientName", "Adler", set()),
    ("PatientName", "M?ller*", {"EX2"}),
    ("PatientName", "Müller^Jörg", {"EX2"}),
    ("PatientName", "MÜLLER^J*", {"EX2"}),
    ("PatientName", "Mueller*", set()),
    ("PatientName", "S*^John", {"XY3"}),
    ("PatientName", "Smith%", set()),
    ("PatientName", "", {"EX1", "EX2", "XY3"}),
]
_STUDY_KEYS = [
    ("StudyInstanceUID", A1, {A1}),
    ("StudyInstanceUID", f"{A1}\\{C1}\\1.2.3", {A1, C1}),
    ("StudyInstanceUID", "", {A1, A2, B1, C1}),
    ("StudyInstanceUID", f"{_ROOT}.*", set()),
    ("StudyDate", "20200115", {A1}),
    ("StudyDate", "2020.01.15", {A1}),
    ("StudyDate", "20200101-20200131", {A1}),
    ("StudyDate", "20200115-20200220", {A1, A2}),
    ("StudyDate", "-20200114", {C1}),
    ("StudyDate", "20200220-", {A2, B1}),
    ("StudyDate", "20200221-20200220", set()),
    ("StudyDate", "", {A1, A2, B1, C1}),
    ("StudyDate", "*", {A1, A2, B1, C1}),
    ("StudyTime", "101530", {A1}),
    ("StudyTime", "10", {A1}),
    ("StudyTime", "080000", {A2}),
    ("StudyTime", "1000-1100", {A1}),
    ("StudyTime", "235959-", {B1}),
    ("StudyTime", "-0800", {A2}),
    ("StudyTime", "2200-0200", set()),
    ("StudyTime", "", {A1, A2, B1, C1}),
    ("AccessionNumber", "ACC100", {A1}),
    ("AccessionNumber", "acc100", set()),
    ("AccessionNumber", "300", set()),
    ("AccessionNumber", "ACC?00", {A1, A2}),
    ("AccessionNumber", "*00", {A1, A2, B1}),
    ("AccessionNumber", "", {A1, A2, B1, C1}),
    ("AccessionNumber", "*", {A1, A2, B1, C1}),
    ("StudyID", "ST1", {A1}),
    ("StudyID", "ST*", {A1, A2}),
    ("StudyID", "HE?D", {B1}),
    ("StudyID", "", {A1, A2, B1, C1}),
]
_STUDY_ROOT_PATIENT_KEYS = [
    ("PatientID", "EX1", {A1, A2}),
    ("PatientID", "?X2", {B1}),
    ("PatientID", "", {A1, A2, B1, C1}),
    ("PatientName", "adler^anna", {A1, A2}),
    ("PatientName", "Mü*", {B1}),
    ("PatientName", "", {A1, A2, B1, C1}),
]
# Patient Root allows one patient at a time (B-1): these are the same keys below EX1.
_STUDY_KEYS_BELOW_EX1 = [(keyword, key, found & {A1, A2}) for keyword, key, found in _STUDY_KEYS]
_SERIES_KEYS = [
    ("SeriesInstanceUID", A1_SR, {A1_SR}),
    ("SeriesInstanceUID", f"{A1_SR}\\{A1_CT}\\{B1_CT}", {A1_CT, A1_SR}),
    ("SeriesInstanceUID", "", {A1_CT, A1_SR}),
    ("Modality", "SR", {A1_SR}),
    ("Modality", "C*", {A1_CT}),
    ("Modality", "??", {A1_CT, A1_SR}),
    ("Modality", "ct", set()),
    ("Modality", "", {A1_CT, A1_SR}),
    ("SeriesNumber", "2", {A1_SR}),
    ("SeriesNumber", "01", {A1_CT}),
    ("SeriesNumber", "1-2", set()),
    ("SeriesNumber", "", {A1_CT, A1_SR}),
]
_IMAGE_KEYS = [
    ("SOPInstanceUID", f"{B1_CT}.13", {f"{B1_CT}.13"}),
    ("SOPInstanceUID", f"{B1_CT}.21\\{B1_CT}.12", {f"{B1_CT}.12", f"{B1_CT}.21"}),
    ("SOPInstanceUID", "", {f"{B1_CT}.12", f"{B1_CT}.13", f"{B1_CT}.21"}),
    ("InstanceNumber", "21", {f"{B1_CT}.21"}),
    ("InstanceNumber", "012", {f"{B1_CT}.12"}),
    ("InstanceNumber", "1*", set()),
    ("InstanceNumber", "", {f"{B1_CT}.12", f"{B1_CT}.13", f"{B1_CT}.21"}),
]


@dataclass(frozen=True)
class Search:
    """Where to search: an information model, a level, and the unique keys of the levels above."""

    model: str
    level: str
    upper: dict[str, str]


_IN_PATIENT_ROOT = [
    (Search(PATIENT_ROOT_FIND, "PATIENT", {}), _PATIENT_KEYS),
    (Search(PATIENT_ROOT_FIND, "STUDY", {"PatientID": "EX1"}), _STUDY_KEYS_BELOW_EX1),
    (
        Search(PATIENT_ROOT_FIND, "SERIES", {"PatientID": "EX1", "StudyInstanceUID": A1}),
        _SERIES_KEYS,
    ),
    (
        Search(
            PATIENT_ROOT_FIND,
            "IMAGE",
            {"PatientID": "EX2", "StudyInstanceUID": B1, "SeriesInstanceUID": B1_CT},
        ),
        _IMAGE_KEYS,
    ),
]
_IN_STUDY_ROOT = [
    (Search(STUDY_ROOT_FIND, "STUDY", {}), _STUDY_KEYS + _STUDY_ROOT_PATIENT_KEYS),
    (Search(STUDY_ROOT_FIND, "SERIES", {"StudyInstanceUID": A1}), _SERIES_KEYS),
    (
        Search(STUDY_ROOT_FIND, "IMAGE", {"StudyInstanceUID": B1, "SeriesInstanceUID": B1_CT}),
        _IMAGE_KEYS,
    ),
]
_CASES = [
    pytest.param(search, keyword, key, found, id=f"{root} {search.level} {keyword}={key}")
    for root, searches in (("patient root", _IN_PATIENT_ROOT), ("study root", _IN_STUDY_ROOT))
    for search, keys in searches
    for keyword, key, found in keys
]


@pytest.mark.parametrize(("search", "keyword", "key", "found"), _CASES)
def test_a_unique_or_required_key_is_matched_and_returned(
    archive: Archive, search: Search, keyword: str, key: str, found: set[str]
) -> None:
    """Each key of A-8 selects its entities, each once, and comes back with the stored value."""
    unique_key = _UNIQUE_KEYS[search.level]
    keys = {"SpecificCharacterSet": "ISO_IR 192", **search.upper, unique_key: "", keyword: key}

    answers, responses = archive.find(search.model, search.level, **keys)

    assert sorted(answer[unique_key].value for answer in answers) == sorted(found)
    assert {response.status for response in responses[:-1]} <= {0xFF00}
    for answer in answers:
        stored = _stored(search.level, answer[unique_key].value)
        assert answer[keyword].value == stored[keyword].value
        assert {name: answer[name].value for name in search.upper} == search.upper


@pytest.mark.parametrize(
    ("model", "level", "keys", "expected"),
    [
        (
            PATIENT_ROOT_FIND,
            "PATIENT",
            {"PatientID": "EX1"},
            {
                "NumberOfPatientRelatedStudies": 2,
                "NumberOfPatientRelatedSeries": 3,
                "NumberOfPatientRelatedInstances": 4,
            },
        ),
        (
            PATIENT_ROOT_FIND,
            "STUDY",
            {"PatientID": "EX1", "StudyInstanceUID": A1},
            {"NumberOfStudyRelatedSeries": 2, "NumberOfStudyRelatedInstances": 3},
        ),
        (
            STUDY_ROOT_FIND,
            "STUDY",
            {"StudyInstanceUID": A1},
            {
                "NumberOfStudyRelatedSeries": 2,
                "NumberOfStudyRelatedInstances": 3,
                "ModalitiesInStudy": ["CT", "SR"],
                "SOPClassesInStudy": [CTImageStorage, BasicTextSRStorage],
            },
        ),
        (
            STUDY_ROOT_FIND,
            "STUDY",
            {"StudyInstanceUID": B1},
            {
                "NumberOfStudyRelatedSeries": 1,
                "NumberOfStudyRelatedInstances": 3,
                "ModalitiesInStudy": "CT",
                "SOPClassesInStudy": CTImageStorage,
            },
        ),
        (
            STUDY_ROOT_FIND,
            "SERIES",
            {"StudyInstanceUID": A1, "SeriesInstanceUID": A1_CT},
            {"NumberOfSeriesRelatedInstances": 2},
        ),
        (
            STUDY_ROOT_FIND,
            "IMAGE",
            {
                "StudyInstanceUID": A2,
                "SeriesInstanceUID": A2_MR,
                "SOPInstanceUID": f"{A2_MR}.1",
            },
            {"SOPClassUID": MRImageStorage},
        ),
    ],
)
def test_computed_keys_describe_the_entity(
    archive: Archive, model: str, level: str, keys: dict[str, str], expected: dict[str, Any]
) -> None:
    """Counters, Modalities and SOP Classes tell what is held of this entity (A-10, A-11)."""
    answers, responses = archive.find(model, level, **keys, **dict.fromkeys(expected, ""))

    assert len(answers) == 1
    assert responses[0].status == 0xFF00
    for keyword, value in expected.items():
        returned = answers[0][keyword].value
        assert (sorted(returned) if isinstance(value, list) else returned) == (
            sorted(value) if isinstance(value, list) else value
        )


@pytest.mark.parametrize(
    ("keyword", "key", "found"),
    [
        ("ModalitiesInStudy", "SR", {A1}),
        ("ModalitiesInStudy", "CT", {A1, B1}),
        ("ModalitiesInStudy", "C?", {A1, B1}),
        ("ModalitiesInStudy", "MR\\US", {A2, C1}),
        ("ModalitiesInStudy", "XA", set()),
        ("SOPClassesInStudy", MRImageStorage, {A2}),
        ("SOPClassesInStudy", f"{BasicTextSRStorage}\\{UltrasoundImageStorage}", {A1, C1}),
    ],
)
def test_a_study_is_found_by_what_is_in_it(
    archive: Archive, keyword: str, key: str, found: set[str]
) -> None:
    """One series or instance that matches is enough, and all values are returned (J-200, C-23)."""
    answers, responses = archive.find(
        STUDY_ROOT_FIND, "STUDY", StudyInstanceUID="", **{keyword: key}
    )

    assert sorted(answer.StudyInstanceUID for answer in answers) == sorted(found)
    assert {response.status for response in responses[:-1]} <= {0xFF00}
    for answer in answers:
        if answer.StudyInstanceUID == A1:
            expected = {"CT", "SR"} if "Mod" in keyword else {CTImageStorage, BasicTextSRStorage}
            assert set(answer[keyword].value) == expected


@pytest.mark.parametrize(
    ("model", "level", "upper", "counter", "count"),
    [
        (PATIENT_ROOT_FIND, "PATIENT", {"PatientID": "EX1"}, "NumberOfPatientRelatedStudies", 2),
        (STUDY_ROOT_FIND, "STUDY", {"StudyInstanceUID": A1}, "NumberOfStudyRelatedInstances", 3),
        (
            STUDY_ROOT_FIND,
            "SERIES",
            {"StudyInstanceUID": A1, "SeriesInstanceUID": A1_CT},
            "NumberOfSeriesRelatedInstances",
            2,
        ),
    ],
)
def test_a_counter_does_not_filter(
    archive: Archive, model: str, level: str, upper: dict[str, str], counter: str, count: int
) -> None:
    """The value of a counter in the request is ignored, and status FF01 says so (A-10, D-2)."""
    answers, responses = archive.find(model, level, **upper, **{counter: "99"})

    assert [answer[counter].value for answer in answers] == [count]
    assert responses[0].status == 0xFF01


@pytest.mark.parametrize(
    ("level", "upper", "keyword", "key", "count"),
    [
        ("STUDY", {"StudyInstanceUID": ""}, "Modality", "MR", 4),
        ("STUDY", {"StudyInstanceUID": ""}, "InstitutionName", "", 4),
        ("SERIES", {"StudyInstanceUID": A1, "SeriesInstanceUID": ""}, "SOPClassUID", "1.2.3", 2),
    ],
)
def test_a_key_of_a_lower_level_is_left_out(
    archive: Archive, level: str, upper: dict[str, str], keyword: str, key: str, count: int
) -> None:
    """It neither filters nor comes back, and status FF01 says so (B-5, J-202, J-207)."""
    answers, responses = archive.find(STUDY_ROOT_FIND, level, **upper, **{keyword: key})

    assert len(answers) == count
    assert not any(keyword in answer for answer in answers)
    assert {response.status for response in responses[:-1]} == {0xFF01}


@pytest.mark.parametrize(
    ("name", "count"), [("Adler*", 2), ("adler^anna", 2), ("Smith*", 0), ("", 2)]
)
def test_a_required_key_of_an_upper_level_filters(archive: Archive, name: str, count: int) -> None:
    """Patient's Name at SERIES level is matched and returned like any key (B-4)."""
    answers, _ = archive.find(
        STUDY_ROOT_FIND,
        "SERIES",
        StudyInstanceUID=A1,
        SeriesInstanceUID="",
        PatientName=name,
    )

    assert [str(answer.PatientName) for answer in answers] == ["Adler^Anna"] * count


def test_keys_are_combined_with_and(archive: Archive) -> None:
    """An entity has to match every key (C-1)."""
    answers, _ = archive.find(
        STUDY_ROOT_FIND,
        "STUDY",
        StudyInstanceUID="",
        PatientID="EX*",
        StudyDate="20200101-",
        ModalitiesInStudy="CT",
        AccessionNumber="ACC*",
    )

    assert [answer.StudyInstanceUID for answer in answers] == [A1]


def test_no_match_is_success_without_pending(archive: Archive) -> None:
    """A query that matches nothing gets one response: Success (B-8)."""
    _, responses = archive.find(STUDY_ROOT_FIND, "STUDY", StudyInstanceUID="1.2.3")

    assert [response.status for response in responses] == [0x0000]


@pytest.mark.parametrize(
    ("model", "level", "upper"),
    [
        (PATIENT_ROOT_FIND, "PATIENT", {}),
        (PATIENT_ROOT_FIND, "STUDY", {"PatientID": "EX1"}),
        (PATIENT_ROOT_FIND, "SERIES", {"PatientID": "EX1", "StudyInstanceUID": A1}),
        (
            PATIENT_ROOT_FIND,
            "IMAGE",
            {"PatientID": "EX1", "StudyInstanceUID": A1, "SeriesInstanceUID": A1_CT},
        ),
        (STUDY_ROOT_FIND, "STUDY", {}),
        (STUDY_ROOT_FIND, "SERIES", {"StudyInstanceUID": A1}),
        (STUDY_ROOT_FIND, "IMAGE", {"StudyInstanceUID": A1, "SeriesInstanceUID": A1_CT}),
    ],
)
def test_an_answer_holds_what_was_asked_and_nothing_else(
    archive: Archive, model: str, level: str, upper: dict[str, str]
) -> None:
    """Level, keys, upper unique keys, Retrieve AE Title; no other Attribute (D-3, D-4, J-209)."""
    answers, _ = archive.find(model, level, **upper, **{_UNIQUE_KEYS[level]: ""})

    assert answers
    for answer in answers:
        assert answer.QueryRetrieveLevel == level
        assert answer.RetrieveAETitle == "PACSNODE"
        assert answer.get("InstanceAvailability", "ONLINE") == "ONLINE"
        keywords = {element.keyword for element in answer}
        assert keywords - {"InstanceAvailability"} == {
            "QueryRetrieveLevel",
            "RetrieveAETitle",
            _UNIQUE_KEYS[level],
            *upper,
        }


@pytest.mark.parametrize("keyword", ["StudyTime", "AccessionNumber", "StudyID"])
def test_a_required_key_without_a_value_comes_back_empty(archive: Archive, keyword: str) -> None:
    """An empty stored value is returned with zero length, not left out (D-5)."""
    answers, responses = archive.find(
        STUDY_ROOT_FIND, "STUDY", StudyInstanceUID=C1, **{keyword: ""}
    )

    assert responses[0].status == 0xFF00
    assert answers[0][keyword].is_empty


@pytest.mark.parametrize(
    ("level", "keyword"),
    [
        *(
            ("STUDY", keyword)
            for keyword in (
                "IssuerOfPatientID",
                "PatientBirthDate",
                "PatientBirthTime",
                "PatientSex",
                "OtherPatientNames",
                "EthnicGroup",
                "PatientComments",
                "AnatomicRegionsInStudyCodeSequence",
                "ReferringPhysicianName",
                "StudyDescription",
                "ProcedureCodeSequence",
                "NameOfPhysiciansReadingStudy",
                "AdmittingDiagnosesDescription",
                "PatientAge",
                "PatientSize",
                "PatientWeight",
                "Occupation",
                "AdditionalPatientHistory",
                "OtherStudyNumbers",
            )
        ),
        *(
            ("SERIES", keyword)
            for keyword in (
                "SeriesDescription",
                "BodyPartExamined",
                "InstitutionName",
                "StationName",
                "Manufacturer",
                "PerformedProcedureStepStartDate",
                "PerformedProcedureStepStartTime",
            )
        ),
        *(
            ("IMAGE", keyword)
            for keyword in (
                "SOPClassUID",
                "AvailableTransferSyntaxUID",
                "ContentDate",
                "ContentTime",
                "ContainerIdentifier",
            )
        ),
    ],
)
def test_an_optional_key_is_returned_or_declared_unsupported(
    archive: Archive, level: str, keyword: str
) -> None:
    """It comes back with the stored value under FF00, or is left out under FF01 (D-2, D-5)."""
    upper = {"StudyInstanceUID": A1, "SeriesInstanceUID": A1_CT, "SOPInstanceUID": f"{A1_CT}.1"}
    names = list(upper)[: {"STUDY": 1, "SERIES": 2, "IMAGE": 3}[level]]
    given = {name: upper[name] for name in names}
    stored = _stored("IMAGE", f"{A1_CT}.1")
    stored.AvailableTransferSyntaxUID = "1.2.840.10008.1.2.1"

    answers, responses = archive.find(STUDY_ROOT_FIND, level, **given, **{keyword: ""})

    assert len(answers) == 1
    if keyword in answers[0]:
        assert responses[0].status == 0xFF00
        value = stored.get(keyword)
        assert answers[0][keyword].value == value or (not value and answers[0][keyword].is_empty)
    else:
        assert responses[0].status == 0xFF01


def test_a_name_beyond_ascii_is_answered_in_the_character_set_of_the_request(
    archive: Archive,
) -> None:
    """A request in ISO_IR 100 is answered in ISO_IR 100, which can carry the name (D-18)."""
    identifier = identifier_of(
        "STUDY", SpecificCharacterSet="ISO_IR 100", StudyInstanceUID=B1, PatientName=""
    )
    response = archive.association.c_find(STUDY_ROOT_FIND, identifier)[0]

    assert response.identifier.SpecificCharacterSet == "ISO_IR 100"
    assert response.identifier.get_item("PatientName").value.rstrip() == b"M\xfcller^J\xf6rg"


def test_a_name_beyond_ascii_is_answered_in_utf_8_when_the_request_names_no_character_set(
    archive: Archive,
) -> None:
    """ISO_IR 6 cannot carry the name, so the answer is labelled ISO_IR 192 (D-18, K-03)."""
    answers, responses = archive.find(
        STUDY_ROOT_FIND, "STUDY", StudyInstanceUID="", PatientName="M?ller*"
    )

    assert [answer.StudyInstanceUID for answer in answers] == [B1]
    assert answers[0].SpecificCharacterSet == "ISO_IR 192"
    raw = responses[0].identifier.get_item("PatientName").value
    assert raw.rstrip() == "Müller^Jörg".encode()


def test_an_answer_in_ascii_names_no_character_set(archive: Archive) -> None:
    """Specific Character Set is absent where it is not needed, whatever the request had (D-18)."""
    answers, _ = archive.find(
        STUDY_ROOT_FIND,
        "STUDY",
        SpecificCharacterSet="ISO_IR 192",
        StudyInstanceUID=A1,
        PatientName="",
    )

    assert "SpecificCharacterSet" not in answers[0]


def test_the_log_names_no_patient(archive: Archive) -> None:
    """Neither stores nor queries leave a Patient's Name or Patient ID in the log."""
    archive.find(PATIENT_ROOT_FIND, "PATIENT", PatientID="EX1", PatientName="Adler*")

    log = archive.node.log
    assert [word for word in ("Adler", "Jörg", "Smith", "EX1", "XY3") if word in log] == []
