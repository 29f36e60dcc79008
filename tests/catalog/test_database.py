"""The database beneath the catalog: many writers, none of them told that it is locked."""

import multiprocessing
import os
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest
from peewee import InterfaceError

from pacsnode.catalog import Catalog
from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.records import CatalogError, CatalogUnavailable
from pacsnode.dicom.information_model import Level
from tests.catalog.rows import add, query, unique_keys

_SPAWN = multiprocessing.get_context("spawn")
_PROCESSES, _THREADS, _EACH = 8, 3, 4
_SECONDS = 60


def _write(url: str, number: int, start: Barrier, results: "Queue[str]") -> None:
    """Run in a process of its own: add instances from several threads at once."""
    # Opening, too, is done by all at the same moment. No waiting for the database: whoever found
    # it locked would fail at once.
    start.wait(_SECONDS)
    try:
        catalog = Catalog(url, busy_timeout_seconds=0)

        def work(thread: int) -> None:
            for each in range(_EACH):
                uid = f"1.4.{number}.{thread}.{each}"
                add(catalog, SOPInstanceUID=uid, StudyInstanceUID=f"1.2.{number}")
                assert catalog.stored_instance(uid) is not None

        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(work, range(_THREADS)))
        catalog.close()
    except CatalogError as error:
        results.put(str(error))
    else:
        results.put("done")


def test_writers_of_eight_processes_do_not_lock_each_other_out(url: str) -> None:
    """Eight processes that make a catalog and write at once, with three threads each, all succeed.

    They do so without any waiting time for a locked database: they queue before they ask.
    """
    start, results = _SPAWN.Barrier(_PROCESSES), _SPAWN.Queue()
    processes = [
        _SPAWN.Process(target=_write, args=(url, number, start, results))
        for number in range(_PROCESSES)
    ]
    for process in processes:
        process.start()
    assert [results.get(timeout=_SECONDS) for _ in processes] == ["done"] * _PROCESSES
    for process in processes:
        process.join()
    catalog = Catalog(url)
    assert len(unique_keys(catalog, Level.IMAGE)) == _PROCESSES * _THREADS * _EACH
    catalog.close()


def _hold_the_lock(url: str, holds: Event) -> None:
    """Run in a process of its own: begin to write, and never end."""
    database = CatalogDatabase(url, busy_timeout_seconds=1)
    with database.writing():
        execute(database.writer, "INSERT INTO patient (patient_id) VALUES ('UNCOMMITTED')")
        holds.set()
        signal.pause()


def test_a_writer_that_is_killed_holds_up_nobody(catalog: Catalog, url: str) -> None:
    """After SIGKILL within a transaction the next writer gets in, and the torn one is undone."""
    holds = _SPAWN.Event()
    process = _SPAWN.Process(target=_hold_the_lock, args=(url, holds))
    process.start()
    assert holds.wait(_SECONDS)
    added = threading.Event()

    def write() -> None:
        add(catalog, StudyInstanceUID="1.2.1")
        added.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not added.is_set()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert added.wait(_SECONDS)
    thread.join()
    process.join()
    assert unique_keys(catalog, Level.STUDY) == ["1.2.1"]
    assert unique_keys(catalog, Level.STUDY, PatientID="UNCOMMITTED") == []


def test_a_reader_holds_up_no_writer(catalog: Catalog, database: CatalogDatabase) -> None:
    """While a statement is being read, another connection can commit."""
    for _ in range(2):
        add(catalog)
    with database.reading():
        cursor = database.peewee.execute_sql("SELECT key FROM study")
        assert cursor.fetchone()
        with ThreadPoolExecutor(1) as other:
            assert other.submit(add, catalog).result(_SECONDS).existing is None
        assert len(cursor.fetchall()) == 1


def test_a_writer_holds_up_no_reader(catalog: Catalog, database: CatalogDatabase) -> None:
    """While a transaction is open, others read the last commit."""
    add(catalog, StudyInstanceUID="1.2.1")
    with database.writing():
        execute(database.writer, "UPDATE study SET study_instance_uid = '1.2.2'")
        with ThreadPoolExecutor(1) as other:
            seen = other.submit(unique_keys, catalog, Level.STUDY).result(_SECONDS)
    assert seen == ["1.2.1"]
    assert unique_keys(catalog, Level.STUDY) == ["1.2.2"]


def test_a_commit_is_durable(catalog: Catalog) -> None:
    """WAL and full synchronisation are in force on the connections that write (F-2)."""
    writer = catalog._database.writer
    with catalog._database.writing():
        assert execute(writer, "PRAGMA journal_mode").fetchone() == ("wal",)
        assert execute(writer, "PRAGMA synchronous").fetchone() == (2,)
        assert execute(writer, "PRAGMA foreign_keys").fetchone() == (1,)


def test_a_catalog_that_is_not_durable_is_not_synced_at_each_commit(url: str) -> None:
    """The log is synced before it is carried over only: nothing is damaged by a power cut."""
    catalog = Catalog(url, is_durable=False)
    with catalog._database.writing():
        assert execute(catalog._database.writer, "PRAGMA journal_mode").fetchone() == ("wal",)
        assert execute(catalog._database.writer, "PRAGMA synchronous").fetchone() == (1,)
    catalog.close()


def test_writers_use_one_connection(catalog: Catalog) -> None:
    """Each finds it open, whichever thread it is, and statements prepared."""
    writer = catalog._database.writer

    def connection(_: int) -> int:
        with catalog._database.writing():
            return id(writer.connection())

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(connection, range(8)))) == 1


def test_after_a_failure_the_connection_is_another_one(catalog: Catalog) -> None:
    """Nobody relies on the state in which a failure has left it."""
    database = catalog._database
    with database.writing():
        before = database.writer.connection()

    def fail() -> None:
        with database.writing():
            execute(database.writer, "no statement")

    with pytest.raises(CatalogError):
        fail()
    add(catalog, StudyInstanceUID="1.2.1")
    assert unique_keys(catalog, Level.STUDY) == ["1.2.1"]
    with database.writing():
        assert database.writer.connection() is not before


def test_every_thread_has_these_settings(catalog: Catalog) -> None:
    """Connections that further threads open are set up as the first one (F-2)."""
    barrier = threading.Barrier(4)

    def setting(_: int) -> object:
        with catalog._database.reading():
            barrier.wait(_SECONDS)  # four connections at the same time
            return execute(catalog._database.peewee, "PRAGMA synchronous").fetchone()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(setting, range(4))) == [(2,)] * 4


def test_a_transaction_that_fails_is_undone(database: CatalogDatabase) -> None:
    """What was written before the failure is not there after it."""
    with database.writing():
        execute(database.writer, "CREATE TABLE t (n INTEGER UNIQUE)")

    def insert_twice() -> None:
        with database.writing():
            execute(database.writer, "INSERT INTO t VALUES (1)")
            execute(database.writer, "INSERT INTO t VALUES (1)")

    with pytest.raises(CatalogError, match="UNIQUE"):
        insert_twice()
    with database.reading():
        assert execute(database.peewee, "SELECT count(*) FROM t").fetchone() == (0,)


def test_after_a_failure_the_next_writer_gets_in(database: CatalogDatabase) -> None:
    """The lock of the writers is given back by one that fails, whatever the reason."""

    def fail() -> None:
        with database.writing():
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()


def test_a_program_that_is_not_ours_is_waited_for(url: str, tmp_path: Path) -> None:
    """A copy being made by another program delays a write, and does not fail it."""
    catalog = Catalog(url, busy_timeout_seconds=_SECONDS)
    with closing(
        sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ["COMMIT"])
        release.start()
        assert add(catalog).existing is None
        release.join()
    catalog.close()


def test_a_program_that_is_not_ours_is_not_waited_for_longer_than_set(
    url: str, tmp_path: Path
) -> None:
    """Beyond busy_timeout_seconds the catalog fails, and says why."""
    catalog = Catalog(url, busy_timeout_seconds=0)
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogError, match="locked"):
            add(catalog)
    catalog.close()


@pytest.mark.parametrize("url", ["postgresql://host/db", "sqlite://catalog", "catalog.sqlite"])
def test_another_database_is_refused(url: str) -> None:
    """Only SQLite is opened; the message says which URL was meant."""
    with pytest.raises(CatalogError, match="only sqlite:///"):
        CatalogDatabase(url, busy_timeout_seconds=1)


def test_the_folder_is_made_closed_to_others(tmp_path: Path) -> None:
    """The catalog's folder is made if needed, not readable by all."""
    CatalogDatabase(f"sqlite:///{tmp_path}/new/catalog.sqlite", busy_timeout_seconds=1).close()
    assert (tmp_path / "new").stat().st_mode & 0o7 == 0


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file where the folder should be gives an error with its name."""
    (tmp_path / "file").touch()
    with pytest.raises(CatalogError, match=r"file/catalog\.sqlite"):
        CatalogDatabase(f"sqlite:///{tmp_path}/file/catalog.sqlite", busy_timeout_seconds=1)


def test_a_query_outside_of_a_connection_is_an_error(catalog: Catalog) -> None:
    """Nothing opens a connection in passing, which nobody would close."""
    database = catalog._database.peewee
    with pytest.raises(InterfaceError):
        execute(database, "SELECT 1")


def test_connections_are_used_again(catalog: Catalog) -> None:
    """A hundred calls one after the other need one connection."""
    for _ in range(100):
        next(catalog.find(query(Level.STUDY, StudyInstanceUID="")), None)
    pool = catalog._database.peewee
    assert len(pool._connections) == 1  # type: ignore[attr-defined]


def test_what_is_wrong_with_the_database_is_told_from_what_is_wrong_with_a_row(
    database: CatalogDatabase,
) -> None:
    """Rows of others are worth a try only where the row was at fault."""
    with pytest.raises(CatalogUnavailable, match="no such table"), database.writing():
        execute(database.writer, "INSERT INTO t VALUES (1)")
    with database.writing():
        execute(database.writer, "CREATE TABLE t (n INTEGER NOT NULL)")
    with pytest.raises(CatalogError, match="NOT NULL") as of_row, database.writing():
        execute(database.writer, "INSERT INTO t VALUES (NULL)")
    assert not isinstance(of_row.value, CatalogUnavailable)


def test_the_cause_of_a_failure_is_not_lost(database: CatalogDatabase) -> None:
    """On a full disk SQLite undoes the transaction itself: what is said is what came first."""

    def fail_after_the_end_of_the_transaction() -> None:
        with database.writing():
            execute(database.writer, "ROLLBACK")
            execute(database.writer, "no statement")

    with pytest.raises(CatalogError, match="syntax error"):
        fail_after_the_end_of_the_transaction()


def test_what_comes_after_the_end_is_refused(url: str) -> None:
    """A thread that is late finds no descriptor of somebody else in the place of the lock."""
    database = CatalogDatabase(url, busy_timeout_seconds=1)
    database.close()
    database.close()
    for use in (database.writing, database.reading):
        with pytest.raises(CatalogError, match="closed"), use():
            pass
