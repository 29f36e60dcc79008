"""From queries to matches and from retrievals to instances, on real rows."""

import pytest

from pacsnode.catalog import Catalog, search
from pacsnode.catalog.conditions import condition
from pacsnode.catalog.database import CatalogDatabase
from pacsnode.catalog.models import PARENT_KEY, TABLE
from pacsnode.catalog.search import _KeySearch
from pacsnode.dicom.attributes import ATTRIBUTES, BY_KEYWORD, KeyType
from pacsnode.dicom.information_model import (
    PATIENT_ROOT,
    STUDY_ROOT,
    InformationModel,
    Level,
)
from pacsnode.dicom.matching_keys import parse_matching_key
from pacsnode.dicom.query import MatchingKey, Retrieval
from pacsnode.dicom.values import ItemElement
from tests.catalog.rows import add, add_all, found, new_instance, query, unique_keys

_VALUE = {
    "PatientID": "EX1",
    "PatientName": "Example^Emma",
    "StudyInstanceUID": "1.2.1",
    "StudyDate": "20200115",
    "StudyTime": "101530",
    "AccessionNumber": "ACC1",
    "StudyID": "S1",
    "SeriesInstanceUID": "1.3.1",
    "Modality": "CT",
    "SeriesNumber": "1",
    "SOPInstanceUID": "1.4.1",
    "InstanceNumber": "7",
}
_OTHER_VALUE = {
    "PatientID": "EX2",
    "PatientName": "Other^Otto",
    "StudyInstanceUID": "1.2.2",
    "StudyDate": "20200116",
    "StudyTime": "111530",
    "AccessionNumber": "ACC2",
    "StudyID": "S2",
    "SeriesInstanceUID": "1.3.2",
    "Modality": "MR",
    "SeriesNumber": "2",
    "SOPInstanceUID": "1.4.2",
    "InstanceNumber": "8",
}
_REQUIRED = [
    (model, attribute.keyword)
    for model in (PATIENT_ROOT, STUDY_ROOT)
    for attribute in ATTRIBUTES
    if attribute.key_type is not KeyType.OPTIONAL
]


def test_the_required_keys_are_those_of_the_standard() -> None:
    """The unique and required keys are the twelve of the table, no more and no fewer (A-8)."""
    assert {a.keyword for a in ATTRIBUTES if a.key_type is not KeyType.OPTIONAL} == {*_VALUE}


@pytest.mark.parametrize(
    ("model", "keyword"), _REQUIRED, ids=[f"{model.name}-{keyword}" for model, keyword in _REQUIRED]
)
def test_a_required_key_selects_and_is_returned(
    catalog: Catalog, model: InformationModel, keyword: str
) -> None:
    """Each key of the table finds the entity with its value alone, and is returned (A-5, A-8)."""
    add(catalog, **_VALUE)
    add(catalog, **_OTHER_VALUE)
    level = model.level_of(BY_KEYWORD[keyword].level)
    assert found(catalog, level, model, **{keyword: _VALUE[keyword]}) == [
        {keyword: _VALUE[keyword]}
    ]


@pytest.mark.parametrize("keyword", list(BY_KEYWORD))
def test_every_catalogued_attribute_can_be_asked_for(catalog: Catalog, keyword: str) -> None:
    """A universal key on any Attribute gives one answer for the one entity (C-8, D-3)."""
    add(catalog, **_VALUE)
    assert len(found(catalog, BY_KEYWORD[keyword].level, PATIENT_ROOT, **{keyword: ""})) == 1


@pytest.mark.parametrize(
    ("level", "answers"), [("PATIENT", 1), ("STUDY", 2), ("SERIES", 3), ("IMAGE", 6)]
)
def test_an_entity_is_answered_once(catalog: Catalog, level: str, answers: int) -> None:
    """However many instances an entity has, it is one answer (B-8, D-9)."""
    for study, series in (("1.2.1", "1.3.1"), ("1.2.1", "1.3.2"), ("1.2.2", "1.3.3")):
        for _ in range(2):
            add(catalog, StudyInstanceUID=study, SeriesInstanceUID=series, Modality="CT")
    keys = unique_keys(catalog, Level[level], PATIENT_ROOT)
    assert len(keys) == len(set(keys)) == answers


def test_a_computed_key_does_not_multiply_answers(catalog: Catalog) -> None:
    """A study with two series of a modality is one answer to a query for it (A-11, C-10)."""
    for _ in range(2):
        add(catalog, StudyInstanceUID="1.2.1", Modality="MR")
    assert found(catalog, Level.STUDY, ModalitiesInStudy="MR") == [{"ModalitiesInStudy": "MR"}]


def test_counters_count_what_is_below_this_entity(catalog: Catalog) -> None:
    """Each counter counts the rows below its own entity only (A-10)."""
    add(catalog, PatientID="EX2")
    for study, series in (("1.2.1", "1.3.1"), ("1.2.1", "1.3.1"), ("1.2.1", "1.3.2")):
        add(catalog, StudyInstanceUID=study, SeriesInstanceUID=series)
    add(catalog, StudyInstanceUID="1.2.2")
    assert found(
        catalog,
        Level.PATIENT,
        PATIENT_ROOT,
        PatientID="EX1",
        NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedSeries="",
        NumberOfPatientRelatedInstances="",
    ) == [
        {
            "PatientID": "EX1",
            "NumberOfPatientRelatedStudies": "2",
            "NumberOfPatientRelatedSeries": "3",
            "NumberOfPatientRelatedInstances": "4",
        }
    ]
    assert found(
        catalog,
        Level.STUDY,
        StudyInstanceUID="1.2.1",
        NumberOfStudyRelatedSeries="",
        NumberOfStudyRelatedInstances="",
    ) == [
        {
            "StudyInstanceUID": "1.2.1",
            "NumberOfStudyRelatedSeries": "2",
            "NumberOfStudyRelatedInstances": "3",
        }
    ]
    assert found(
        catalog, Level.SERIES, SeriesInstanceUID="1.3.1", NumberOfSeriesRelatedInstances=""
    ) == [{"SeriesInstanceUID": "1.3.1", "NumberOfSeriesRelatedInstances": "2"}]


def test_a_counter_as_a_key_is_ignored_and_returned(catalog: Catalog) -> None:
    """A count in the request does not select; the true one is returned (A-10)."""
    add(catalog, StudyInstanceUID="1.2.1")
    assert found(catalog, Level.STUDY, NumberOfStudyRelatedSeries="99") == [
        {"NumberOfStudyRelatedSeries": "1"}
    ]


def test_a_study_counter_is_returned_below_its_study(catalog: Catalog) -> None:
    """A counter of an upper level counts for the upper entity, not for the one answered (B-4)."""
    for _ in range(3):
        add(catalog, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.3.1")
    add(catalog, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.3.2")
    assert found(
        catalog, Level.SERIES, SeriesInstanceUID="1.3.2", NumberOfStudyRelatedInstances=""
    ) == [{"SeriesInstanceUID": "1.3.2", "NumberOfStudyRelatedInstances": "4"}]


def test_modalities_in_study_are_distinct_and_sorted(catalog: Catalog) -> None:
    """Each modality of the study's series once, in order, without empties (A-11, J-200)."""
    for modality in ("PT", "CT", "CT", None):
        add(catalog, StudyInstanceUID="1.2.1", Modality=modality)
    assert found(catalog, Level.STUDY, ModalitiesInStudy="C*") == [{"ModalitiesInStudy": "CT\\PT"}]


def test_a_modality_that_no_series_has_matches_no_study(catalog: Catalog) -> None:
    """A study is found by the modality of one of its series only (A-11)."""
    add(catalog, StudyInstanceUID="1.2.1", Modality="CT")
    assert found(catalog, Level.STUDY, ModalitiesInStudy="CT\\PT")
    assert not found(catalog, Level.STUDY, ModalitiesInStudy="PT")


def test_sop_classes_in_study_match_by_list(catalog: Catalog) -> None:
    """A study is found by any of several SOP classes of its instances (A-11, C-10)."""
    add(catalog, StudyInstanceUID="1.2.1", SOPClassUID="1.5.1")
    add(catalog, StudyInstanceUID="1.2.1", SOPClassUID="1.5.2")
    assert found(catalog, Level.STUDY, SOPClassesInStudy="1.5.9\\1.5.2") == [
        {"SOPClassesInStudy": "1.5.1\\1.5.2"}
    ]
    assert not found(catalog, Level.STUDY, SOPClassesInStudy="1.5.9")


def test_the_available_transfer_syntax_is_the_stored_one(catalog: Catalog) -> None:
    """An image is found by its stored Transfer Syntax, which is returned (A-12)."""
    add(catalog, SOPInstanceUID="1.4.1")
    add(catalog, SOPInstanceUID="1.4.2", transfer_syntax_uid="1.2.840.10008.1.2.4.90")
    key = {"AvailableTransferSyntaxUID": "1.2.840.10008.1.2.4.90"}
    assert found(catalog, Level.IMAGE, SOPInstanceUID="", **key) == [
        {"SOPInstanceUID": "1.4.2", **key}
    ]


def test_a_patient_without_id_is_no_patient_entity(catalog: Catalog) -> None:
    """Objects without Patient ID are found through the study, not as a patient (A-14)."""
    add(catalog, PatientID=None, PatientName="Example^Emma", StudyInstanceUID="1.2.1")
    assert not found(catalog, Level.PATIENT, PATIENT_ROOT, PatientName="Example^Emma")
    assert unique_keys(catalog, Level.STUDY, PatientName="Example^Emma") == ["1.2.1"]


def test_an_id_of_two_issuers_is_two_patients(catalog: Catalog) -> None:
    """One Patient ID under two issuers gives two answers, and the issuer selects (A-15, C-35)."""
    add(catalog, PatientID="EX1", IssuerOfPatientID="ONE")
    add(catalog, PatientID="EX1", IssuerOfPatientID="TWO")
    keys = {"PatientID": "EX1", "IssuerOfPatientID": ""}
    answers = found(catalog, Level.PATIENT, PATIENT_ROOT, **keys)
    assert [answer["IssuerOfPatientID"] for answer in answers] == ["ONE", "TWO"]
    keys["IssuerOfPatientID"] = "TWO"
    assert len(found(catalog, Level.PATIENT, PATIENT_ROOT, **keys)) == 1


def test_several_patient_ids_are_alternatives(catalog: Catalog) -> None:
    """A list of Patient IDs at PATIENT level finds each of them (C-24, J-206)."""
    for patient_id in ("P1", "P2", "P3"):
        add(catalog, PatientID=patient_id)
    assert unique_keys(catalog, Level.PATIENT, PATIENT_ROOT, PatientID="P1\\P3") == ["P1", "P3"]


def test_keys_of_upper_levels_select_and_are_returned(catalog: Catalog) -> None:
    """A patient's name at SERIES level selects, and comes back (B-4)."""
    add(catalog, PatientName="Example^Emma", PatientID="EX1", SeriesInstanceUID="1.3.1")
    add(catalog, PatientName="Other^Otto", PatientID="EX2", SeriesInstanceUID="1.3.2")
    assert found(catalog, Level.SERIES, SeriesInstanceUID="", PatientName="example*") == [
        {"SeriesInstanceUID": "1.3.1", "PatientName": "Example^Emma"}
    ]


def test_a_value_is_returned_as_it_was_received(catalog: Catalog) -> None:
    """Zeros, case and several values come back unchanged, however they are matched (D-8)."""
    values = {
        "SeriesNumber": "007",
        "SeriesDescription": "Thorax  mit Kontrast",
        "PatientName": "GROSS^Anna^^^",
        "OtherPatientNames": "A^B\\C^D",
    }
    add(catalog, **values)
    assert found(catalog, Level.SERIES, **dict.fromkeys(values, "")) == [values]


def test_without_a_match_there_is_no_answer(catalog: Catalog) -> None:
    """A key that nothing has gives nothing (B-8)."""
    add(catalog)
    assert not found(catalog, Level.STUDY, AccessionNumber="NONE")


def test_studies_come_newest_first(catalog: Catalog) -> None:
    """Studies are in order of date, the newest first, then of UID, those without date last."""
    for uid, date in (
        ("1.2.5", None),
        ("1.2.4", "20190101"),
        ("1.2.2", "20200115"),
        ("1.2.1", "20200115"),
        ("1.2.3", "2020.01.16"),
    ):
        add(catalog, StudyInstanceUID=uid, StudyDate=date)
    assert unique_keys(catalog, Level.STUDY) == ["1.2.3", "1.2.1", "1.2.2", "1.2.4", "1.2.5"]


def test_series_and_images_come_in_order_of_their_numbers(catalog: Catalog) -> None:
    """Number 2 stands before number 10, at both levels (D-9)."""
    for number in ("10", "2", "1"):
        add(
            catalog,
            StudyInstanceUID="1.2.1",
            SeriesInstanceUID=f"1.3.{number}",
            SOPInstanceUID=f"1.4.{number}",
            SeriesNumber=number,
        )
        add(
            catalog,
            StudyInstanceUID="1.2.1",
            SeriesInstanceUID="1.3.1",
            SOPInstanceUID=f"1.5.{number}",
            InstanceNumber=number,
        )
    study = {"StudyInstanceUID": "1.2.1"}
    assert unique_keys(catalog, Level.SERIES, **study) == ["1.3.1", "1.3.2", "1.3.10"]
    series = {**study, "SeriesInstanceUID": "1.3.1"}
    images = unique_keys(catalog, Level.IMAGE, **series)
    assert images == ["1.4.1", "1.5.1", "1.5.2", "1.5.10"]


def test_images_of_many_series_come_as_they_have_arrived(catalog: Catalog) -> None:
    """A relational query has a stable order, too, but sorts nothing (B-7, D-9)."""
    for number in ("3", "1", "2"):
        add(catalog, SeriesNumber=number, InstanceNumber=number, SOPInstanceUID=f"1.4.{number}")
    assert unique_keys(catalog, Level.IMAGE) == ["1.4.3", "1.4.1", "1.4.2"]
    assert [each["SeriesNumber"] for each in found(catalog, Level.SERIES, SeriesNumber="")] == [
        "3",
        "1",
        "2",
    ]


def test_studies_without_a_date_come_last(catalog: Catalog) -> None:
    """The newest studies are first, those of a day by their UID (D-9)."""
    for uid, date in (("1.2.3", None), ("1.2.5", "20200115"), ("1.2.4", "20200116")):
        add(catalog, StudyInstanceUID=uid, StudyDate=date)
    add(catalog, StudyInstanceUID="1.2.1", StudyDate="20200115")
    add(catalog, StudyInstanceUID="1.2.2", StudyDate="no date")
    assert unique_keys(catalog, Level.STUDY) == ["1.2.4", "1.2.1", "1.2.5", "1.2.2", "1.2.3"]


@pytest.mark.parametrize("chunk_length", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("level", "keys"),
    [
        (Level.PATIENT, {}),
        (Level.PATIENT, {"PatientName": "*"}),
        (Level.PATIENT, {"PatientID": "EX*"}),
        (Level.STUDY, {}),
        (Level.STUDY, {"StudyDate": "20200115-"}),
        (Level.STUDY, {"PatientName": "*EXAMPLE*"}),
        (Level.SERIES, {"StudyInstanceUID": "1.2.0"}),
        (Level.SERIES, {"Modality": "CT"}),
        (Level.IMAGE, {}),
        (Level.IMAGE, {"StudyInstanceUID": "1.2.0", "SeriesInstanceUID": "1.3.0"}),
        (Level.IMAGE, {"PatientName": "*EXAMPLE*"}),
    ],
)
def test_a_chunk_goes_on_where_the_one_before_has_ended(
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
    level: Level,
    keys: dict[str, str],
    chunk_length: int,
) -> None:
    """However few keys are read at a time, the answers and their order are the same (D-9)."""
    for at in range(8):
        add(
            catalog,
            PatientID=f"EX{at % 4}",
            IssuerOfPatientID="ONE" if at % 3 == 0 else None,
            PatientName="Example^Emma",
            StudyInstanceUID=f"1.2.{at % 6}",
            StudyDate=(None, "20200115", "20200116")[at % 3],
            SeriesInstanceUID=f"1.3.{at}",
            SeriesNumber=(None, "1", "x", "2")[at % 4],
            Modality="CT",
        )
        for number in (None, "1", "1", "2", "x"):
            add(
                catalog,
                StudyInstanceUID="1.2.0",
                SeriesInstanceUID=f"1.3.{at % 4}",
                SeriesNumber=str(at % 2),
                InstanceNumber=number,
            )
    expected = unique_keys(catalog, level, PATIENT_ROOT, **keys)
    assert len(expected) > 3
    monkeypatch.setattr(search, "_FIRST_CHUNK_LENGTH", chunk_length)
    monkeypatch.setattr(search, "_CHUNK_LENGTH", chunk_length)
    assert unique_keys(catalog, level, PATIENT_ROOT, **keys) == expected


def test_the_first_page_is_short(catalog: Catalog) -> None:
    """The first answer waits for few others, and the statement of a page is the same for many."""
    add_all(catalog, (new_instance() for _ in range(250)))
    pages = catalog.find(query(Level.STUDY, StudyInstanceUID=""))
    assert [len(page) for page in pages] == [20, 200, 30]


@pytest.mark.parametrize(
    ("level", "keys", "expected"),
    [
        (Level.SERIES, {"PatientName": "EXAMPLE*"}, ["1.3.1", "1.3.2"]),
        (Level.SERIES, {"PatientName": "EXAMPLE*", "Modality": "MR"}, ["1.3.2"]),
        (Level.SERIES, {"StudyDate": "20200116", "Modality": "CT"}, ["1.3.3"]),
        (Level.IMAGE, {"PatientID": "EX1", "StudyDate": "20200115"}, ["1.4.1", "1.4.2"]),
        (Level.IMAGE, {"Modality": "CT", "InstanceNumber": "3"}, ["1.4.3"]),
        (Level.IMAGE, {"ModalitiesInStudy": "MR"}, ["1.4.1", "1.4.2"]),
        (Level.IMAGE, {"SeriesInstanceUID": "1.3.2", "PatientName": "*EMMA"}, ["1.4.2"]),
        (Level.IMAGE, {"SeriesInstanceUID": "1.3.2", "PatientName": "*OTTO"}, []),
        (Level.STUDY, {"PatientName": "OTHER*", "ModalitiesInStudy": "CT"}, ["1.2.2"]),
    ],
)
def test_keys_of_any_levels_are_combined(
    catalog: Catalog, level: Level, keys: dict[str, str], expected: list[str]
) -> None:
    """A relational query is a full join: each key holds for its own entity (B-4, B-7)."""
    emma = {"PatientID": "EX1", "PatientName": "Example^Emma", "StudyDate": "20200115"}
    otto = {"PatientID": "EX2", "PatientName": "Other^Otto", "StudyDate": "20200116"}
    for number, (values, study, modality) in enumerate(
        ((emma, "1.2.1", "CT"), (emma, "1.2.1", "MR"), (otto, "1.2.2", "CT")), start=1
    ):
        add(
            catalog,
            **values,
            StudyInstanceUID=study,
            SeriesInstanceUID=f"1.3.{number}",
            SOPInstanceUID=f"1.4.{number}",
            Modality=modality,
            InstanceNumber=str(number),
        )
    assert unique_keys(catalog, level, **keys) == expected


def test_values_without_columns_are_returned(catalog: Catalog) -> None:
    """Text, sequences and numbers in binary come back as they were, of all levels (D-5, D-8)."""
    code = {0x00080100: ItemElement("SH", "1"), 0x00080104: ItemElement("LO", "eins")}
    values = {
        "OtherPatientNames": "Example^Em\\Muster^Emma",
        "ProcedureCodeSequence": (code,),
        "RequestingService": "Ward",
        "PatientPosition": "HFS",
        "Rows": "512",
    }
    add(catalog, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.3.1", **values)
    add(catalog, StudyInstanceUID="1.2.2")
    keys = dict.fromkeys(values, "")
    image = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"}
    assert found(catalog, Level.IMAGE, **image, **keys) == [{**image, **values}]
    (nothing,) = found(catalog, Level.STUDY, StudyInstanceUID="1.2.2", ProcedureCodeSequence="")
    assert nothing == {"StudyInstanceUID": "1.2.2"}


def test_anatomic_regions_of_a_study_are_those_of_its_instances(catalog: Catalog) -> None:
    """Each distinct item is there once, whatever instance it is of (A-8)."""
    regions = [
        {0x00080100: ItemElement("SH", value), 0x00080104: ItemElement("LO", meaning)}
        for value, meaning in (("T-1", "Head"), ("T-2", "Neck"))
    ]
    for items in ((regions[1],), (regions[0], regions[1]), ()):
        add(catalog, StudyInstanceUID="1.2.1", AnatomicRegionSequence=items)
    add(catalog, StudyInstanceUID="1.2.2")
    keyword = "AnatomicRegionsInStudyCodeSequence"
    both = found(catalog, Level.STUDY, StudyInstanceUID="", **{keyword: ""})
    assert both == [
        {"StudyInstanceUID": "1.2.1", keyword: tuple(regions)},
        {"StudyInstanceUID": "1.2.2"},
    ]


def test_more_matches_than_a_page_are_complete_and_in_order(catalog: Catalog) -> None:
    """All of 450 images come, each once, in order across the pages (D-1, D-9)."""
    expected = [f"1.4.{number}" for number in range(1, 451)]
    add_all(
        catalog,
        (
            new_instance(
                StudyInstanceUID="1.2.1",
                SeriesInstanceUID="1.3.1",
                SOPInstanceUID=f"1.4.{number}",
                InstanceNumber=str(number),
            )
            for number in range(450, 0, -1)
        ),
    )
    series = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"}
    assert unique_keys(catalog, Level.IMAGE, **series) == expected


def test_what_is_added_meanwhile_is_not_in_the_answer(catalog: Catalog) -> None:
    """Keys that were read together are those of one moment (D-9)."""
    add_all(catalog, (new_instance() for _ in range(30)))
    pages = catalog.find(query(Level.STUDY, StudyInstanceUID=""))
    first = next(pages)
    add(catalog)
    assert len(first) + sum(map(len, pages)) == 30


def test_between_two_pages_a_writer_is_not_held_up(catalog: Catalog) -> None:
    """A query that is not read to its end does not keep an instance from being added."""
    add_all(catalog, (new_instance() for _ in range(201)))
    matches = catalog.find(query(Level.STUDY, StudyInstanceUID=""))
    next(matches)
    assert add(catalog).existing is None
    matches.close()


def test_an_entity_that_goes_while_it_is_asked_for_is_left_out(catalog: Catalog) -> None:
    """An instance replaced by one of another study takes its empty study out of the answer."""
    instances = [new_instance(StudyInstanceUID=f"1.2.{number}") for number in range(201)]
    add_all(catalog, instances)
    pages = catalog.find(query(Level.STUDY, StudyInstanceUID=""))
    first = next(pages)
    last = max(instances, key=lambda instance: instance.header.study_instance_uid)
    newcomer = new_instance(
        SOPInstanceUID=last.header.sop_instance_uid, StudyInstanceUID=str(first[0].values[0])
    )
    catalog.replace(newcomer, last.file)
    assert len(first) + sum(map(len, pages)) == 200


def test_only_an_image_has_a_path(catalog: Catalog) -> None:
    """A match of IMAGE level names its file; one of SERIES level names none."""
    add(catalog, SOPInstanceUID="1.4.1")
    ((image,),) = catalog.find(query(Level.IMAGE, SOPInstanceUID=""))
    ((series,),) = catalog.find(query(Level.SERIES, SeriesInstanceUID=""))
    assert (image.path, series.path) == ("studies/1.4.1", None)


def test_a_uid_list_beyond_the_databases_variables_is_answered(catalog: Catalog) -> None:
    """A study is found by the last of 40,000 UIDs (C-10)."""
    add(catalog, StudyInstanceUID="1.2.1")
    uids = "\\".join([*(f"1.9.{number}" for number in range(40_000)), "1.2.1"])
    assert unique_keys(catalog, Level.STUDY, StudyInstanceUID=uids) == ["1.2.1"]


_TREE = {
    "1.4.1": ("P1", "1.2.1", "1.3.1"),
    "1.4.2": ("P1", "1.2.1", "1.3.1"),
    "1.4.3": ("P1", "1.2.1", "1.3.2"),
    "1.4.4": ("P1", "1.2.2", "1.3.3"),
    "1.4.5": ("P2", "1.2.3", "1.3.4"),
}


@pytest.mark.parametrize(
    ("unique_keys_of_level", "expected"),
    [
        (["P1"], {"1.4.1", "1.4.2", "1.4.3", "1.4.4"}),
        (["P1", "1.2.1"], {"1.4.1", "1.4.2", "1.4.3"}),
        (["P1", "1.2.1", "1.3.1"], {"1.4.1", "1.4.2"}),
        (["P1", "1.2.1", "1.3.1", "1.4.2"], {"1.4.2"}),
        (["P1", "1.2.1\\1.2.2"], {"1.4.1", "1.4.2", "1.4.3", "1.4.4"}),
        (["P1", "1.2.3"], set()),
        (["P1", "1.2.1", "1.3.3"], set()),
        (["P1", "1.2.1", "1.3.2", "1.4.1"], set()),
        (["P9"], set()),
        (["P*"], set()),
    ],
    ids=[
        "patient",
        "study",
        "series",
        "image",
        "studies",
        "other patient's",
        "other study's",
        "other series'",
        "unknown",
        "literal star",
    ],
)
def test_a_retrieval_finds_all_below_its_entities(
    catalog: Catalog, unique_keys_of_level: list[str], expected: set[str]
) -> None:
    """All instances below the named entity come, and those of the named line only (E-1, E-2)."""
    for instance, (patient, study, series) in _TREE.items():
        add(
            catalog,
            PatientID=patient,
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=instance,
        )
    retrieval = _retrieval(unique_keys_of_level)
    assert {each.sop_instance_uid for each in catalog.locate(retrieval)} == expected


def _retrieval(keys: list[str], root: Level = Level.PATIENT) -> Retrieval:
    levels = [level for level in Level if level >= root]
    by_level = {level: tuple(key.split("\\")) for level, key in zip(levels, keys, strict=False)}
    return Retrieval(max(by_level), by_level)


def test_a_retrieval_in_the_study_root_needs_no_patient(catalog: Catalog) -> None:
    """Objects without Patient ID are retrieved by their study (A-14)."""
    add(catalog, PatientID=None, StudyInstanceUID="1.2.1", SOPInstanceUID="1.4.1")
    (located,) = catalog.locate(_retrieval(["1.2.1"], Level.STUDY))
    assert located.sop_instance_uid == "1.4.1"


def test_a_patient_of_two_issuers_is_retrieved_as_one(catalog: Catalog) -> None:
    """C-MOVE at PATIENT level moves what both issuers have under the ID (A-15)."""
    add(catalog, IssuerOfPatientID="ONE")
    add(catalog, IssuerOfPatientID="TWO")
    assert len(catalog.locate(_retrieval(["EX1"]))) == 2


def test_an_instance_named_in_two_parts_of_a_list_comes_once(catalog: Catalog) -> None:
    """Of 25,000 UIDs those that are held are found, each once (C-10, E-2)."""
    add(catalog, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.3.1", SOPInstanceUID="1.4.1")
    add(catalog, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.3.1", SOPInstanceUID="1.4.2")
    uids = ["1.4.1", *(f"1.9.{number}" for number in range(25_000)), "1.4.2"]
    located = catalog.locate(_retrieval(["1.2.1", "1.3.1", "\\".join(uids)], Level.STUDY))
    assert [each.sop_instance_uid for each in located] == ["1.4.1", "1.4.2"]


def test_instances_come_series_by_series_in_order_of_their_numbers(catalog: Catalog) -> None:
    """A retrieval does not jump between series, and is in order of Instance Number within one."""
    for series, number in (("1.3.1", "10"), ("1.3.2", "1"), ("1.3.1", "2"), ("1.3.2", "3")):
        add(
            catalog,
            StudyInstanceUID="1.2.1",
            SeriesInstanceUID=series,
            SOPInstanceUID=f"{series}.{number}",
            InstanceNumber=number,
        )
    located = catalog.locate(_retrieval(["1.2.1"], Level.STUDY))
    assert [each.sop_instance_uid for each in located] == [
        "1.3.1.2",
        "1.3.1.10",
        "1.3.2.1",
        "1.3.2.3",
    ]


@pytest.mark.parametrize(
    ("keyword", "index"),
    [
        ("PatientID", "patient_identity"),
        ("StudyInstanceUID", "study_uid"),
        ("SeriesInstanceUID", "series_uid_alone"),
        ("SOPInstanceUID", "instance_uid"),
        ("PatientName", "patient_name_"),
        ("StudyDate", "study_date"),
        ("AccessionNumber", "study_accession_number"),
    ],
)
def test_a_key_uses_an_index(
    catalog: Catalog, database: CatalogDatabase, keyword: str, index: str
) -> None:
    """A query by this key searches its index and scans no table."""
    add(catalog)
    plan = _plan(database, keyword, {"PatientName": "EXAMPLE*"}.get(keyword, "20200115"))
    assert f"INDEX {index}" in plan
    assert f"SCAN {TABLE[BY_KEYWORD[keyword].level].__name__}" not in plan


def test_a_long_uid_list_uses_the_index(catalog: Catalog, database: CatalogDatabase) -> None:
    """A list of UIDs that goes in as one value searches the index as well (C-10)."""
    add(catalog)
    plan = _plan(database, "StudyInstanceUID", "\\".join(f"1.{n}" for n in range(2_000)))
    assert "INDEX study_uid" in plan


def test_what_is_below_an_entity_uses_an_index(catalog: Catalog, database: CatalogDatabase) -> None:
    """Each level is found from the one above through an index."""
    add(catalog)
    for level, column in PARENT_KEY.items():
        statement = TABLE[level].select(TABLE[level].key).where(column == 1)
        assert "USING" in _explained(database, statement)


@pytest.mark.parametrize(
    ("level", "keys", "searched"),
    [
        (Level.PATIENT, {"PatientID": "EX1"}, "patient_identity"),
        (Level.PATIENT, {"PatientName": "EXAMPLE*"}, "patient_name_folded"),
        (Level.STUDY, {"StudyInstanceUID": "1.2.1"}, "study_uid"),
        (Level.STUDY, {"PatientID": "EX1"}, "patient_identity study_patient"),
        (Level.STUDY, {"PatientName": "EXAMPLE*"}, "patient_name_folded study_patient"),
        (Level.STUDY, {"AccessionNumber": "ACC1"}, "study_accession_number"),
        (Level.STUDY, {"AccessionNumber": "ACC*"}, "study_accession_number"),
        (Level.STUDY, {"StudyID": "S1"}, "study_id"),
        (Level.STUDY, {"StudyDate": "20200101-20200131"}, "study_date"),
        (Level.STUDY, {"StudyDate": "20200115", "PatientName": "E*"}, "patient_name_folded"),
        (Level.STUDY, {"StudyDate": "20200115", "StudyDescription": "*x*"}, "study_date"),
        (Level.STUDY, {"StudyDate": "20200115", "ModalitiesInStudy": "MR"}, "study_date series_"),
        (Level.SERIES, {"StudyInstanceUID": "1.2.1"}, "study_uid series_"),
        (Level.SERIES, {"StudyInstanceUID": "1.2.1", "PatientName": "*X*"}, "study_uid series_"),
        (
            Level.IMAGE,
            {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"},
            "study_uid series_uid instance_series",
        ),
        (Level.IMAGE, {"SOPInstanceUID": "1.4.1"}, "instance_uid"),
        (Level.IMAGE, {"PatientID": "EX1"}, "patient_identity study_patient instance_series"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_can_be_looked_up_is_not_scanned_for(
    catalog: Catalog, database: CatalogDatabase, level: Level, keys: dict[str, str], searched: str
) -> None:
    """The statement that finds the matches searches by these indexes, and scans no table."""
    add(catalog)
    keys_of = _KeySearch(query(level, PATIENT_ROOT, **keys), match_unknown=False)
    for last in (None, (1,) * len(keys_of._terms)):
        plan = _explained(database, keys_of.selection(1_000, last))
        assert "SCAN" not in plan
        for index in searched.split():
            assert f"INDEX {index}" in plan


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        (Level.PATIENT, {}),
        (Level.STUDY, {}),
        (Level.STUDY, {"StudyDate": "20200101-20200131"}),
        (Level.STUDY, {"ModalitiesInStudy": "MR"}),
        (Level.STUDY, {"SOPClassesInStudy": "1.2.3"}),
        (Level.IMAGE, {}),
        (Level.IMAGE, {"SOPClassUID": "1.2.3"}),
        (Level.IMAGE, {"InstanceNumber": "1"}),
    ],
)
@pytest.mark.parametrize("is_continued", [False, True])
def test_a_list_of_all_is_read_in_the_order_of_an_index(
    catalog: Catalog,
    database: CatalogDatabase,
    level: Level,
    keys: dict[str, str],
    is_continued: bool,  # noqa: FBT001
) -> None:
    """The first of all studies are there at once: nothing is sorted before (D-9)."""
    add(catalog)
    last = {Level.PATIENT: ("EX1", ""), Level.STUDY: (20200115, "1.2.1"), Level.IMAGE: (1,)}[level]
    search_of_keys = _KeySearch(query(level, PATIENT_ROOT, **keys), match_unknown=False)
    statement = search_of_keys.selection(1_000, last if is_continued else None)
    assert "TEMP B-TREE" not in _explained(database, statement)


def test_a_name_looked_for_in_the_middle_scans_patients_only(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """What no index helps with is done once for each patient, not for each study."""
    add(catalog)
    asked = query(Level.STUDY, PatientName="*EMMA*", StudyDate="20200101-20201231")
    plan = _explained(database, _KeySearch(asked, match_unknown=False).selection(1_000, None))
    assert plan.count("SCAN") == 1
    assert "INDEX study_patient" in plan


@pytest.mark.parametrize("level", list(Level))
def test_a_page_is_read_by_keys(catalog: Catalog, database: CatalogDatabase, level: Level) -> None:
    """Rows, and what is counted and collected below them, are searched for, not scanned for."""
    add(catalog)
    attributes = [a for a in ATTRIBUTES if a.level <= level]
    asked = query(level, PATIENT_ROOT, **{a.keyword: "" for a in attributes})
    statements: list[str] = []
    with database.reading():
        database.peewee.connection().set_trace_callback(statements.append)
    list(search.find(database, asked, match_unknown=False))
    with database.reading():
        database.peewee.connection().set_trace_callback(None)
        for statement in statements:
            rows = database.peewee.execute_sql(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            plan = "\n".join(row[-1] for row in rows)
            assert "SCAN" not in plan or "ORDER BY" in statement
    assert len(statements) > 1


def _plan(database: CatalogDatabase, keyword: str, text: str) -> str:
    attribute = BY_KEYWORD[keyword]
    key = MatchingKey(attribute, parse_matching_key(attribute.vr, text))
    table = TABLE[attribute.level]
    statement = table.select(table.key).where(condition(key, match_unknown=False))
    return _explained(database, statement)


def _explained(database: CatalogDatabase, statement: object) -> str:
    with database.reading():
        sql, parameters = database.peewee.get_sql_context().sql(statement).query()
        rows = database.peewee.execute_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
    return "\n".join(row[-1] for row in rows)


def test_studies_are_listed_with_what_they_hold(catalog: Catalog) -> None:
    """The table of studies has a line for each, with its modalities and counts."""
    add(catalog, StudyInstanceUID="1.2.1", StudyDate="20200115", Modality="MR")
    add(catalog, StudyInstanceUID="1.2.1", Modality="CT")
    add(catalog, StudyInstanceUID="1.2.2", StudyDate="20200116", PatientID=None)
    second, first = catalog.studies()
    assert (first.study_instance_uid, first.modalities) == ("1.2.1", ("CT", "MR"))
    assert (first.patient_id, first.series, first.instances) == ("EX1", 2, 2)
    assert (second.study_instance_uid, second.patient_id, second.modalities) == ("1.2.2", "", ())
