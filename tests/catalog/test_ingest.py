"""What becomes of an instance: rows, the patient it belongs to, and duplicates."""

import multiprocessing
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pacsnode.catalog import Catalog
from pacsnode.catalog.database import CatalogDatabase
from pacsnode.catalog.models import TABLE
from pacsnode.catalog.records import CatalogError, KeptFile, NewInstance
from pacsnode.dicom.information_model import PATIENT_ROOT, Level
from tests.catalog.rows import add, found, new_instance

_SPAWN = multiprocessing.get_context("spawn")


def _rows(database: CatalogDatabase) -> dict[str, int]:
    with database.reading():
        return {level.name: table.select().count(database.peewee) for level, table in TABLE.items()}


def test_an_instance_makes_one_row_of_each_level(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """The first instance makes patient, study, series and itself; a second one only itself."""
    for _ in range(2):
        add(catalog, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.3.1")
    assert _rows(database) == {"PATIENT": 1, "STUDY": 1, "SERIES": 1, "IMAGE": 2}


def test_what_was_added_is_read_back(catalog: Catalog) -> None:
    """The record of an instance is the one that was added."""
    instance = new_instance(SOPInstanceUID="1.4.1")
    catalog.add(instance)
    stored = catalog.stored_instance("1.4.1")
    assert stored is not None
    assert (stored.sop_class_uid, stored.file) == (instance.header.sop_class_uid, instance.file)
    assert catalog.stored_instance("1.4.2") is None


def test_a_second_instance_of_a_uid_changes_nothing(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """A known SOP Instance UID gives back what is held, and adds not even a study (F-21)."""
    add(catalog, SOPInstanceUID="1.4.1")
    addition = add(catalog, SOPInstanceUID="1.4.1", PatientID="EX2")
    assert addition.existing == catalog.stored_instance("1.4.1")
    assert _rows(database) == {"PATIENT": 1, "STUDY": 1, "SERIES": 1, "IMAGE": 1}


def _of_series(number: int, **values: str) -> NewInstance:
    """An instance of one and the same series."""
    keys = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1", **values}
    return new_instance(SOPInstanceUID=f"1.4.{number}", **keys)


def test_instances_are_added_together(catalog: Catalog, database: CatalogDatabase) -> None:
    """One row of each level above, and what became of each in the order of the call."""
    additions = catalog.add_all([_of_series(1), _of_series(2, PatientID="EX2"), _of_series(3)])
    assert [addition.existing for addition in additions] == [None] * 3
    assert [addition.has_other_patient for addition in additions] == [False, True, False]
    assert _rows(database) == {"PATIENT": 1, "STUDY": 1, "SERIES": 1, "IMAGE": 3}


def test_of_two_with_one_uid_in_one_call_the_first_is_added(catalog: Catalog) -> None:
    """The second is told of the first, whether their series is new or not (F-21)."""
    first, second = catalog.add_all([_of_series(1), _of_series(1, PatientID="EX2")])
    assert first.existing is None
    assert second.existing == catalog.stored_instance("1.4.1")
    (again,) = catalog.add_all([_of_series(1)])
    assert again.existing == second.existing


def test_no_instances_add_nothing(catalog: Catalog, database: CatalogDatabase) -> None:
    """An empty call is allowed."""
    assert catalog.add_all([]) == []
    assert _rows(database) == {"PATIENT": 0, "STUDY": 0, "SERIES": 0, "IMAGE": 0}


def test_of_instances_that_fail_together_none_is_added(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """What was written before the failing one is undone, the new series above it too (F-2)."""
    broken = replace(_of_series(2), source_ae_title=None)  # type: ignore[arg-type]
    with pytest.raises(CatalogError):
        catalog.add_all([_of_series(1), broken])
    assert _rows(database) == {"PATIENT": 0, "STUDY": 0, "SERIES": 0, "IMAGE": 0}


def test_what_was_undone_is_not_remembered(catalog: Catalog, database: CatalogDatabase) -> None:
    """After a failure the series is written again, not taken for known (F-2)."""
    broken = replace(_of_series(2), source_ae_title=None)  # type: ignore[arg-type]
    with pytest.raises(CatalogError):
        catalog.add_all([_of_series(1), broken])
    catalog.add(_of_series(1))
    assert _rows(database) == {"PATIENT": 1, "STUDY": 1, "SERIES": 1, "IMAGE": 1}
    assert len(found(catalog, Level.IMAGE, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.3.1"))


def test_a_series_that_another_process_removed_is_written_again(catalog: Catalog, url: str) -> None:
    """Its key may belong to another series of another patient by then (F-20)."""
    catalog.add(_of_series(1))
    other = Catalog(url)  # as in another process: it shares nothing but the database
    moved = new_instance(
        SOPInstanceUID="1.4.1",
        StudyInstanceUID="1.2.2",
        SeriesInstanceUID="1.3.1",
        PatientID="EX2",
    )
    other.replace(moved, _file_of(other, "1.4.1"))
    other.close()
    assert not catalog.add(_of_series(2)).has_other_patient
    assert found(catalog, Level.IMAGE, SOPInstanceUID="", StudyInstanceUID="", PatientID="") == [
        {"SOPInstanceUID": "1.4.1", "StudyInstanceUID": "1.2.2", "PatientID": "EX2"},
        {"SOPInstanceUID": "1.4.2", "StudyInstanceUID": "1.2.1", "PatientID": "EX1"},
    ]


def test_a_known_series_takes_one_look_and_one_row(catalog: Catalog) -> None:
    """Eight instances of it take nine statements and those of one transaction."""
    catalog.add(_of_series(0))
    seen: list[str] = []
    writer = catalog._database.writer
    with catalog._database.writing():
        writer.connection().set_trace_callback(seen.append)
    seen.clear()
    catalog.add_all([_of_series(number) for number in range(1, 9)])
    writer.connection().set_trace_callback(None)
    verbs = [statement.split()[0] for statement in seen]
    assert verbs == ["BEGIN", "SELECT", *["INSERT"] * 8, "COMMIT"]


def test_of_many_threads_with_one_uid_one_adds_it(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """Sixteen threads that add one UID at once make one row; fifteen are told of it (F-21)."""
    barrier = threading.Barrier(16)

    def add_at_once(_: int) -> bool:
        barrier.wait()
        return add(catalog, SOPInstanceUID="1.4.1").existing is None

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(add_at_once, range(16))) == 1
    assert _rows(database) == {"PATIENT": 1, "STUDY": 1, "SERIES": 1, "IMAGE": 1}


def _add_uids(url: str, uids: Sequence[str], start: object, added: object) -> None:
    """Run in a process of its own: add these UIDs to one study and tell how many were new."""
    catalog = Catalog(url)
    start.wait()  # type: ignore[attr-defined]
    keys = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"}
    count = sum(add(catalog, SOPInstanceUID=uid, **keys).existing is None for uid in uids)
    added.put(count)  # type: ignore[attr-defined]
    catalog.close()


def test_of_several_processes_with_one_uid_one_adds_it(url: str, database: CatalogDatabase) -> None:
    """Three processes that add the same fifty UIDs at once add each once (F-21)."""
    start, added = _SPAWN.Barrier(3), _SPAWN.Queue()
    uids = [f"1.4.{number}" for number in range(50)]
    processes = [_SPAWN.Process(target=_add_uids, args=(url, uids, start, added)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sum(added.get(timeout=60) for _ in processes) == 50
    for process in processes:
        process.join()
    assert _rows(database) == {"PATIENT": 1, "STUDY": 1, "SERIES": 1, "IMAGE": 50}


def test_patients_without_id_are_never_taken_for_one_another(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """Two studies without Patient ID have a patient row each, even with one name (A-14)."""
    for _ in range(2):
        add(catalog, PatientID=None, PatientName="Example^Emma")
    assert _rows(database)["PATIENT"] == 2


def test_a_patient_is_its_id_and_issuer(catalog: Catalog, database: CatalogDatabase) -> None:
    """One ID with and without an issuer is two patients; padding makes no third (A-15)."""
    add(catalog, PatientID="EX1")
    add(catalog, PatientID="EX1", IssuerOfPatientID="ONE")
    add(catalog, PatientID=" EX1", IssuerOfPatientID="ONE")
    assert _rows(database)["PATIENT"] == 2


def test_the_first_instance_answers_for_the_entities_above(catalog: Catalog) -> None:
    """Later instances of a study do not change what it says (F-22)."""
    add(catalog, StudyInstanceUID="1.2.1", StudyDescription="First", PatientName="First^A")
    add(catalog, StudyInstanceUID="1.2.1", StudyDescription="Second", PatientName="Second^B")
    assert found(catalog, Level.STUDY, StudyDescription="", PatientName="") == [
        {"StudyDescription": "First", "PatientName": "First^A"}
    ]


def test_a_study_stays_with_its_first_patient(catalog: Catalog, database: CatalogDatabase) -> None:
    """An instance that states another patient is added to the study and flagged (F-22)."""
    add(catalog, StudyInstanceUID="1.2.1", PatientID="EX1")
    addition = add(catalog, StudyInstanceUID="1.2.1", PatientID="EX2")
    assert (addition.existing, addition.has_other_patient) == (None, True)
    assert _rows(database)["PATIENT"] == 1
    assert not found(catalog, Level.PATIENT, PATIENT_ROOT, PatientID="EX2")


@pytest.mark.parametrize(
    ("first", "second", "is_other"),
    [
        ({"PatientID": "EX1"}, {"PatientID": "EX1"}, False),
        ({"PatientID": "EX1"}, {"PatientID": None}, True),
        ({"PatientID": None}, {"PatientID": "EX1"}, True),
        ({"PatientID": None}, {"PatientID": None}, False),
        (
            {"PatientID": "EX1", "IssuerOfPatientID": "ONE"},
            {"PatientID": "EX1", "IssuerOfPatientID": "TWO"},
            True,
        ),
    ],
    ids=["same", "second without", "first without", "both without", "other issuer"],
)
def test_another_patient_is_noticed(
    catalog: Catalog,
    first: dict[str, str | None],
    second: dict[str, str | None],
    *,
    is_other: bool,
) -> None:
    """A study's patient is compared by ID and issuer with what each instance states (F-22)."""
    add(catalog, StudyInstanceUID="1.2.1", **first)
    assert add(catalog, StudyInstanceUID="1.2.1", **second).has_other_patient == is_other


def test_an_instance_keeps_the_patient_it_states(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """What an instance says of its patient is kept with it, so that it can be re-filed (F-22)."""
    add(catalog, StudyInstanceUID="1.2.1", PatientID="EX1")
    add(catalog, StudyInstanceUID="1.2.1", PatientID="EX2", IssuerOfPatientID="TWO")
    table = TABLE[Level.IMAGE]
    columns = (table.stated_patient_id, table.stated_issuer_of_patient_id)
    with database.reading():
        rows = list(table.select(*columns).tuples().execute(database.peewee))
    assert rows == [("EX1", None), ("EX2", "TWO")]


def test_a_series_uid_in_two_studies_is_two_series(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """The same Series Instance UID in two studies makes two rows (F-22)."""
    add(catalog, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.3.1")
    add(catalog, StudyInstanceUID="1.2.2", SeriesInstanceUID="1.3.1")
    assert _rows(database)["SERIES"] == 2
    assert len(found(catalog, Level.SERIES, SeriesInstanceUID="1.3.1")) == 2


def test_a_replacement_takes_the_place_of_the_first(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """What replaces an instance has its UID, its own study, and leaves no empty one (F-20)."""
    add(catalog, SOPInstanceUID="1.4.1", StudyInstanceUID="1.2.1", PatientID="EX1")
    replacement = new_instance(SOPInstanceUID="1.4.1", StudyInstanceUID="1.2.2", PatientID="EX2")
    assert catalog.replace(replacement, _file_of(catalog, "1.4.1")).existing is None
    stored = catalog.stored_instance("1.4.1")
    assert stored is not None
    assert stored.file == replacement.file
    assert found(catalog, Level.IMAGE, StudyInstanceUID="", PatientID="") == [
        {"StudyInstanceUID": "1.2.2", "PatientID": "EX2"}
    ]
    assert _rows(database) == {"PATIENT": 1, "STUDY": 1, "SERIES": 1, "IMAGE": 1}


def test_a_replacement_leaves_alone_what_has_other_instances(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """A series that has another instance stays when one of its instances is replaced (F-20)."""
    for number in (1, 2):
        add(
            catalog,
            SOPInstanceUID=f"1.4.{number}",
            SeriesInstanceUID="1.3.1",
            StudyInstanceUID="1.2.1",
        )
    newcomer = new_instance(SOPInstanceUID="1.4.1", StudyInstanceUID="1.2.2")
    catalog.replace(newcomer, _file_of(catalog, "1.4.1"))
    assert _rows(database) == {"PATIENT": 1, "STUDY": 2, "SERIES": 2, "IMAGE": 2}


def test_of_two_replacements_the_second_is_told(catalog: Catalog) -> None:
    """Who has seen another file than the row names now changes nothing: both are acknowledged."""
    add(catalog, SOPInstanceUID="1.4.1")
    seen = _file_of(catalog, "1.4.1")
    first, second = (
        replace(newcomer, file=replace(newcomer.file, path=path))
        for newcomer, path in ((new_instance(SOPInstanceUID="1.4.1"), path) for path in "ab")
    )
    assert catalog.replace(first, seen).existing is None
    existing = catalog.replace(second, seen).existing
    assert existing is not None
    assert existing.file == first.file == _file_of(catalog, "1.4.1")


def _file_of(catalog: Catalog, sop_instance_uid: str) -> KeptFile:
    stored = catalog.stored_instance(sop_instance_uid)
    assert stored is not None
    return stored.file
