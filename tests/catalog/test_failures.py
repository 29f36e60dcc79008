"""What could not be sent: kept for 30 days, and found by UID and by AE title."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pacsnode.catalog import Catalog
from pacsnode.catalog import failures as failures_module
from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.records import FailedSubOperation, FailureCause, KeptFailure
from pacsnode.dicom.information_model import Level
from tests.catalog.rows import add

NOW = datetime.now(UTC)
FAILURE = FailedSubOperation(
    failed_at=NOW,
    sop_instance_uid="1.4.1",
    service="C-MOVE",
    requestor_ae_title="WORKSTATION",
    destination_ae_title="VIEWER",
    cause=FailureCause.REFUSED,
    status=0xA700,
    reason="0xA700 out of resources: disk full",
)


def _uids(failures: Sequence[KeptFailure]) -> list[str]:
    return [kept.failure.sop_instance_uid for kept in failures]


def _count(database: CatalogDatabase, table: str) -> int:
    with database.reading():
        rows = execute(database.peewee, f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - our own
        (count,) = rows.fetchone() or (0,)
    return int(count)


def _moment(number: int) -> datetime:
    return NOW - timedelta(hours=1) + timedelta(milliseconds=number)


def _tree(catalog: Catalog) -> None:
    """Add two series of a study, with two instances and one, and an instance of another study."""
    for study, series, instance in ("111", "112", "123", "234"):
        add(
            catalog,
            StudyInstanceUID=f"1.2.{study}",
            SeriesInstanceUID=f"1.3.{series}",
            SOPInstanceUID=f"1.4.{instance}",
        )


def test_a_failure_is_given_back_as_it_was_kept(catalog: Catalog) -> None:
    """Every part of it, to the microsecond."""
    catalog.add_failures([FAILURE])
    assert [kept.failure for kept in catalog.failures("1.4.1")] == [FAILURE]


@pytest.mark.parametrize("cause", FailureCause)
def test_every_cause_can_be_kept_with_and_without_a_status(
    catalog: Catalog, cause: FailureCause
) -> None:
    """A reason without a status is another one than the same words with one."""
    without = replace(FAILURE, cause=cause, status=None, failed_at=NOW + timedelta(seconds=1))
    catalog.add_failures([replace(FAILURE, cause=cause), without])
    assert [kept.failure.status for kept in catalog.failures("1.4.1")] == [None, 0xA700]
    assert {kept.failure.cause for kept in catalog.failures("1.4.1")} == {cause}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("1.4.1", ["1.4.1"]),
        ("1.3.1", ["1.4.1"]),
        ("1.3.2", ["1.4.3"]),
        ("1.2.1", ["1.4.3", "1.4.1"]),
        ("1.2.2", []),
        ("VIEWER", ["1.4.9", "1.4.3"]),
        ("WORKSTATION", ["1.4.9", "1.4.1"]),
        ("PRINTER", ["1.4.1"]),
        ("viewer", []),
        ("", ["1.4.3"]),
    ],
)
def test_failures_are_found_by_uid_and_by_ae_title(
    catalog: Catalog, asked: str, found: list[str]
) -> None:
    """Of an instance, a series, a study, a destination, a requestor; the newest first."""
    _tree(catalog)
    catalog.add_failures(
        [
            replace(FAILURE, failed_at=_moment(1), destination_ae_title="PRINTER"),
            replace(FAILURE, failed_at=_moment(2), sop_instance_uid="1.4.3", requestor_ae_title=""),
            replace(FAILURE, failed_at=_moment(3), sop_instance_uid="1.4.9"),
        ]
    )
    assert _uids([*catalog.failures(asked)]) == found


def test_an_ae_that_is_both_requestor_and_destination_has_a_failure_once(catalog: Catalog) -> None:
    """A retrieval to oneself is the most frequent one."""
    catalog.add_failures([replace(FAILURE, destination_ae_title="WORKSTATION")])
    assert _uids([*catalog.failures("WORKSTATION")]) == ["1.4.1"]


def test_a_failure_says_which_study_it_is_of(catalog: Catalog) -> None:
    """Where the catalog has the instance; else nothing."""
    _tree(catalog)
    catalog.add_failures([FAILURE, replace(FAILURE, sop_instance_uid="1.4.9")])
    studies = {
        kept.failure.sop_instance_uid: kept.study_instance_uid
        for kept in catalog.failures("VIEWER")
    }
    assert studies == {"1.4.1": "1.2.1", "1.4.9": ""}


def test_failures_of_one_moment_come_in_the_reverse_order(catalog: Catalog) -> None:
    """The last one first, over the ends of pages, too."""
    uids = [f"1.4.{number}" for number in range(450)]
    catalog.add_failures([replace(FAILURE, sop_instance_uid=uid) for uid in uids])
    assert _uids([*catalog.failures("VIEWER")]) == uids[::-1]


def test_a_failure_is_kept_for_30_days(catalog: Catalog) -> None:
    """One of a minute less is found, one of a minute more is not, whatever is in the table."""
    days = timedelta(days=30)
    young = replace(FAILURE, failed_at=NOW - days + timedelta(minutes=1))
    old = replace(FAILURE, failed_at=NOW - days - timedelta(minutes=1), sop_instance_uid="1.4.2")
    catalog.add_failures([old, young])
    assert _uids([*catalog.failures("VIEWER")]) == ["1.4.1"]
    assert _uids([*catalog.failures("1.4.2")]) == []


def test_what_is_too_old_is_forgotten_when_others_are_added(
    catalog: Catalog, database: CatalogDatabase
) -> None:
    """Its row goes, and the row of a reason that no failure has any more."""
    old = replace(FAILURE, failed_at=NOW - timedelta(days=31), reason="another")
    catalog.add_failures([replace(FAILURE, failed_at=NOW - timedelta(days=29))])
    catalog.add_failures([old])
    catalog.add_failures([FAILURE])
    assert (_count(database, "failure"), _count(database, "failure_reason")) == (2, 1)


def test_the_same_reason_is_kept_once(catalog: Catalog, database: CatalogDatabase) -> None:
    """However many calls there are, also where there is no status."""
    for number in range(3):
        failure = replace(FAILURE, sop_instance_uid=f"1.4.{number}")
        catalog.add_failures([failure, replace(failure, status=None)])
    assert (_count(database, "failure"), _count(database, "failure_reason")) == (6, 2)


def test_many_failures_are_written_in_chunks(
    catalog: Catalog, database: CatalogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two chunks others can write: the first ones are there when the last one fails."""
    monkeypatch.setattr(failures_module, "_CHUNK_LENGTH", 2)
    broken = replace(FAILURE, reason=None)  # type: ignore[arg-type]  # which the table refuses
    with pytest.raises(Exception, match="NOT NULL"):
        catalog.add_failures([FAILURE, FAILURE, FAILURE, broken, FAILURE])
    assert _count(database, "failure") == 2


def test_no_failures_are_no_work(catalog: Catalog) -> None:
    """An empty list is added, and nothing is found."""
    catalog.add_failures([])
    assert [*catalog.failures("VIEWER")] == []


def test_failures_are_kept_over_a_restart(url: str) -> None:
    """What one process has added another one finds."""
    with closing(Catalog(url)) as first:
        first.add_failures([FAILURE])
    with closing(Catalog(url)) as second:
        assert _uids([*second.failures("1.4.1")]) == ["1.4.1"]


@pytest.mark.parametrize("asked", ["1.2.1", "1.3.1", "1.4.1", "VIEWER", "WORKSTATION"])
def test_failures_are_found_by_indices(
    catalog: Catalog, database: CatalogDatabase, asked: str
) -> None:
    """No table is read from end to end, however many failures there are."""
    assert catalog
    statements: list[str] = []
    with database.reading():
        connection = database.peewee.connection()
        connection.set_trace_callback(statements.append)
        list(failures_module._keys(database.peewee, asked))
        connection.set_trace_callback(None)
        (statement,) = statements
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert [step for step in plan if step.startswith("SCAN")] == []


@pytest.mark.parametrize(
    ("uid", "level"),
    [("1.2.1", Level.STUDY), ("1.3.1", Level.SERIES), ("1.4.1", Level.IMAGE), ("1.2", None)],
)
def test_a_uid_is_known_by_its_level(catalog: Catalog, uid: str, level: Level | None) -> None:
    """Of a study, a series, an instance; of nothing that the catalog has."""
    _tree(catalog)
    assert catalog.level_of(uid) is level
