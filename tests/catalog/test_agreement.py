"""What answers for an entity when its instances differ, and what is noted of it."""

import pytest

from pacsnode.catalog import Catalog
from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.records import Inconsistency, KeptFile
from pacsnode.dicom.attributes import BY_KEYWORD, Keys, extra_key
from pacsnode.dicom.information_model import PATIENT_ROOT, Level
from pacsnode.dicom.values import ItemElement, Value
from tests.catalog.rows import add, found, header_of, new_instance

_SERIES = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"}
_STUDY_LEVEL_KEYS = Keys((extra_key(Level.STUDY, tag=0x00180060),))  # KVP


def _add(catalog: Catalog, number: int, **values: Value | None) -> None:
    add(catalog, **{**_SERIES, "SOPInstanceUID": f"1.4.{number}", **values})


def _noted(catalog: Catalog) -> list[tuple[str, str, str, str, int, str]]:
    return [
        (i.level.name, i.attribute, i.answer, i.other, i.instances, i.sop_instance_uid)
        for i in catalog.inconsistencies()
    ]


@pytest.mark.parametrize(
    ("level", "keyword"),
    [
        (Level.STUDY, "StudyDescription"),
        (Level.STUDY, "AdmittingDiagnosesDescription"),
        (Level.SERIES, "SeriesDescription"),
        (Level.SERIES, "PatientPosition"),
        (Level.STUDY, "PatientName"),
        (Level.STUDY, "ResponsiblePerson"),
    ],
)
def test_the_first_instance_that_has_a_value_answers(
    catalog: Catalog, level: Level, keyword: str
) -> None:
    """What the first leaves out, the second fills in; the third changes nothing (F-22)."""
    asked = {"StudyInstanceUID": "1.2.1", keyword: ""}
    _add(catalog, 1)
    assert keyword not in found(catalog, level, **asked)[0]
    _add(catalog, 2, **{keyword: "SECOND"})
    _add(catalog, 3, **{keyword: "THIRD"})
    assert found(catalog, level, **asked)[0][keyword] == "SECOND"
    assert found(catalog, level, **{**asked, keyword: "SECOND"})


def test_what_is_filled_in_is_found_by_every_column(catalog: Catalog) -> None:
    """A date that came later is matched by its day, a name by its groups."""
    _add(catalog, 1)
    _add(catalog, 2, StudyDate="20200115", ReferringPhysicianName="Doctor^A=\u533b")
    assert found(catalog, Level.STUDY, StudyDate="20200101-", ReferringPhysicianName="=\u533b")


def test_a_sequence_is_filled_in_beside_others(catalog: Catalog) -> None:
    """Values without columns are added to those that are there."""
    code = ({0x00080100: ItemElement("SH", "T1")},)
    _add(catalog, 1, ServiceEpisodeID="S1")
    _add(catalog, 2, ProcedureCodeSequence=code)
    (study,) = found(catalog, Level.STUDY, ServiceEpisodeID="", ProcedureCodeSequence="")
    assert study == {"ServiceEpisodeID": "S1", "ProcedureCodeSequence": code}


def test_another_value_is_noted_once_for_all_that_state_it(catalog: Catalog) -> None:
    """Level, entity, Attribute, both values, how many state it, and who was the first."""
    _add(catalog, 1, StudyDescription="First")
    for number in (2, 3):
        _add(catalog, number, StudyDescription="Other")
    _add(catalog, 4, StudyDescription="Third")
    assert [*catalog.inconsistencies()] == [
        Inconsistency(Level.STUDY, "1.2.1", "StudyDescription", "First", other, count, uid)
        for other, count, uid in (("Other", 2, "1.4.2"), ("Third", 1, "1.4.4"))
    ]


def test_what_means_the_same_is_not_noted(catalog: Catalog) -> None:
    """Padding, the case of a name and the precision of a time are no contradictions."""
    values = {"PatientName": "Example^Emma", "StudyTime": "101530", "SeriesNumber": "7"}
    _add(catalog, 1, **values, StudyDescription="A")
    _add(catalog, 2, PatientName="EXAMPLE^EMMA", StudyTime="101530.000000", SeriesNumber="07")
    _add(catalog, 3, StudyDescription=" A ")
    assert _noted(catalog) == []


def test_a_missing_value_is_not_noted(catalog: Catalog) -> None:
    """Who leaves out what others state contradicts nobody (I-14)."""
    _add(catalog, 1, StudyDescription="First", SeriesDescription="First")
    _add(catalog, 2)
    assert _noted(catalog) == []


def test_other_items_are_noted_in_a_line(catalog: Catalog) -> None:
    """Of a sequence the elements of its items are listed, the answer likewise."""
    for number, code in ((1, "T1"), (2, "T2")):
        items = ({0x00080100: ItemElement("SH", code)},)
        _add(catalog, number, ProcedureCodeSequence=items)
    answer, other = "{(0008,0100) T1}", "{(0008,0100) T2}"
    assert _noted(catalog) == [("STUDY", "ProcedureCodeSequence", answer, other, 1, "1.4.2")]


def test_of_a_long_value_the_beginning_is_noted(catalog: Catalog) -> None:
    """Who says it otherwise a million times over fills no disk with it."""
    _add(catalog, 1, PatientComments="short")
    _add(catalog, 2, PatientComments="x" * 5000)
    assert [other for *_, other, _, _ in _noted(catalog)] == ["x" * 1000]


def test_study_and_patient_of_a_new_series_are_compared(catalog: Catalog) -> None:
    """The first instance of a second series states another study description and birth date."""
    _add(catalog, 1, StudyDescription="First", PatientBirthDate="19700101")
    _add(
        catalog,
        2,
        SeriesInstanceUID="1.3.2",
        StudyDescription="Other",
        PatientBirthDate="19700102",
        SeriesDescription="New",
    )
    assert _noted(catalog) == [
        ("PATIENT", "PatientBirthDate", "19700101", "19700102", 1, "1.4.2"),
        ("STUDY", "StudyDescription", "First", "Other", 1, "1.4.2"),
    ]


def test_the_patient_of_a_new_study_is_compared_and_filled_in(catalog: Catalog) -> None:
    """Another study of the patient may know the birth date, and write the name otherwise."""
    _add(catalog, 1, PatientName="Example^Emma")
    add(
        catalog,
        StudyInstanceUID="1.2.2",
        SOPInstanceUID="1.4.2",
        PatientName="Example^Anna",
        PatientBirthDate="19700101",
    )
    assert _noted(catalog) == [
        ("PATIENT", "PatientName", "Example^Emma", "Example^Anna", 1, "1.4.2")
    ]
    asked = {"PatientID": "", "PatientBirthDate": "19700101"}
    assert found(catalog, Level.PATIENT, PATIENT_ROOT, **asked) == [
        {"PatientID": "EX1", "PatientBirthDate": "19700101"}
    ]


def test_nothing_of_another_patient_is_filled_in(catalog: Catalog) -> None:
    """A study filed under one patient does not learn the birth date of another (F-22)."""
    _add(catalog, 1, PatientID="EX1")
    _add(catalog, 2, PatientID="EX2", PatientBirthDate="19700101", PatientName="Other^Patient")
    _add(catalog, 3, PatientID=None)
    (study,) = found(catalog, Level.STUDY, PatientID="", PatientBirthDate="", PatientName="")
    assert study == {"PatientID": "EX1"}
    assert _noted(catalog) == [
        ("PATIENT", "PatientID", "EX1", "EX2", 1, "1.4.2"),
        ("PATIENT", "PatientID", "EX1", "", 1, "1.4.3"),
    ]


def test_a_patient_id_is_never_filled_in(catalog: Catalog) -> None:
    """A study without Patient ID stays so, and what states one is noted (A-14, F-22)."""
    _add(catalog, 1, PatientID=None)
    _add(catalog, 2, PatientID="EX1", IssuerOfPatientID="ONE")
    (study,) = found(catalog, Level.STUDY, PatientID="", IssuerOfPatientID="", StudyInstanceUID="")
    assert study == {"StudyInstanceUID": "1.2.1"}
    assert _noted(catalog) == [
        ("PATIENT", "PatientID", "", "EX1", 1, "1.4.2"),
        ("PATIENT", "IssuerOfPatientID", "", "ONE", 1, "1.4.2"),
    ]


def test_each_instance_of_another_patient_is_counted(catalog: Catalog) -> None:
    """That many say the same does not make it agree (F-22)."""
    _add(catalog, 1, PatientID="EX1")
    for number in (2, 3, 4):
        _add(catalog, number, SeriesInstanceUID="1.3.2", PatientID="EX2")
    assert _noted(catalog) == [("PATIENT", "PatientID", "EX1", "EX2", 3, "1.4.2")]


def test_of_a_duplicate_nothing_is_noted_or_filled_in(catalog: Catalog) -> None:
    """A second instance of one UID changes nothing, whatever it states (F-21)."""
    _add(catalog, 1, StudyDescription="First")
    _add(catalog, 1, StudyDescription="Other", StudyID="S2")
    assert _noted(catalog) == []
    assert found(catalog, Level.STUDY, StudyInstanceUID="1.2.1", StudyID="") == [
        {"StudyInstanceUID": "1.2.1"}
    ]


def _replace(catalog: Catalog, number: int, **values: str) -> None:
    uid = f"1.4.{number}"
    stored = catalog.stored_instance(uid)
    assert stored is not None
    file = KeptFile(f"other/{uid}", stored.file.transfer_syntax_uid, bytes(32), 1)
    instance = new_instance(SOPInstanceUID=uid, **{**_SERIES, **values})
    catalog.replace(type(instance)(instance.header, file, ""), stored.file)


def test_what_was_noted_of_an_instance_goes_with_it(catalog: Catalog) -> None:
    """An instance that is replaced is compared anew; those that agree with it are counted on."""
    _add(catalog, 1, StudyDescription="First")
    for number in (2, 3):
        _add(catalog, number, StudyDescription="Other")
    _replace(catalog, 2, StudyDescription="First")
    assert _noted(catalog) == [("STUDY", "StudyDescription", "First", "Other", 1, "1.4.3")]
    _replace(catalog, 3, StudyInstanceUID="1.2.2")
    assert _noted(catalog) == []


def test_instances_that_say_the_same_take_no_look_at_what_is_above(catalog: Catalog) -> None:
    """Of those that state the same, the first is compared; the next takes a look at its series."""
    _add(catalog, 1)
    _add(catalog, 2, StudyDescription="Filled in")
    seen: list[str] = []
    writer = catalog._database.writer
    with catalog._database.writing():
        writer.connection().set_trace_callback(seen.append)
    seen.clear()
    _add(catalog, 3, StudyDescription="Filled in")
    writer.connection().set_trace_callback(None)
    assert [statement.split()[0] for statement in seen] == ["BEGIN", "SELECT", "INSERT", "COMMIT"]


def test_what_agrees_by_other_keys_is_compared(url: str) -> None:
    """An extra key that was added is looked at, though nothing else has changed."""
    standard = Catalog(url)
    attribute = _STUDY_LEVEL_KEYS.extra[0]
    plain, extended = (
        new_instance(keys=keys, extra={attribute: "120"}, SOPInstanceUID=uid, **_SERIES)
        for keys, uid in ((standard.keys, "1.4.1"), (_STUDY_LEVEL_KEYS, "1.4.2"))
    )
    standard.add(plain)
    standard.close()
    catalog = Catalog(url, _STUDY_LEVEL_KEYS)
    catalog.add(extended)
    database = CatalogDatabase(url, busy_timeout_seconds=0)
    with database.reading():
        row = execute(database.peewee, "SELECT further FROM study").fetchone()
    assert row == ('{"00180060":[["120",120.0]]}',)
    database.close()
    catalog.close()


def test_the_statement_of_a_header_is_that_of_its_entities() -> None:
    """Two headers that differ only in the instance state the same of what is above."""
    values = {"SOPClassUID": "1.2.3", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"}
    one, other = (
        header_of({BY_KEYWORD[k]: v for k, v in {**values, "SOPInstanceUID": uid}.items()})
        for uid in ("1.4.1", "1.4.2")
    )
    assert one.statement == other.statement
