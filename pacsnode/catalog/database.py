"""The database behind the catalog: opened from its URL, with one writer at a time.

How writes stay clear of each other. SQLite lets one connection write; a second one that wants to
would poll and in the end fail with "database is locked". So writers queue before they ask: first
for a lock within the process, then for one on a file beside the database, which the kernel grants
in turn and takes back from a process that dies. Readers never wait: they see the last commit (WAL).

Whoever has the turn writes on the one connection for writing, which stays open: its statements are
prepared and its pages read already. Readers take connections from a pool.
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from peewee import (
    Database,
    DataError,
    IntegrityError,
    InterfaceError,
    PeeweeException,
    ProgrammingError,
    SqliteDatabase,
)
from playhouse.pool import PooledSqliteDatabase

from pacsnode.catalog.records import CatalogError, CatalogUnavailable
from pacsnode.dicom.person_name import without_accents
from pacsnode.folders import make_folder

_SQLITE_SCHEME: Final = "sqlite:///"
# FULL: a commit is on the disk when it returns (rule F-2). NORMAL: the log is synced only before it
# is carried over into the database, so a power cut may undo the last commits, and damages nothing.
_DURABLE, _NOT_DURABLE = "FULL", "NORMAL"
# One for each association at work at the same moment; they are kept and used again.
_UNLIMITED: Final = 0
_CLOSE_SECONDS: Final = 1.0
# What is wrong with a statement or its values; anything else is wrong with the database: locked,
# full, damaged, gone.
_FAULTS_OF_A_STATEMENT: Final = (DataError, IntegrityError, InterfaceError, ProgrammingError)


class CatalogDatabase:
    """The SQLite database of a catalog.

    Open it after a fork, never before; its methods may be called from any thread.

    Attributes:
        peewee: what queries are executed on, within reading().
        writer: what is written on, within writing().
    """

    # The SQL type of a primary key that counts up by itself.
    key_type = "INTEGER PRIMARY KEY"

    def __init__(self, url: str, *, busy_timeout_seconds: float, is_durable: bool = True) -> None:
        """Name the database; nothing is opened yet.

        Args:
            url: `sqlite:///` and a path; an absolute path gives four slashes.
            busy_timeout_seconds: how long to wait for a program that is not pacsnode and holds the
                database, such as a copy being made.
            is_durable: a commit is on the disk when it returns; else a power cut may undo the last
                ones.

        Raises:
            CatalogError: the URL is not one of SQLite, or its folder cannot be made.
        """
        if not url.startswith(_SQLITE_SCHEME):
            raise CatalogError(f"catalog URL {url}: only {_SQLITE_SCHEME}PATH is supported")
        self.path = Path(url.removeprefix(_SQLITE_SCHEME))
        try:
            make_folder(self.path.parent)
            self._writers = _WriterQueue(self.path.with_name(self.path.name + ".lock"))
        except OSError as error:
            raise CatalogError(f"catalog {self.path}: {error.strerror}") from error
        options: dict[str, Any] = {
            # Not `timeout=`: for the pool that would be how long to wait for a place in it.
            "pragmas": {
                "busy_timeout": round(busy_timeout_seconds * 1000),
                "synchronous": _DURABLE if is_durable else _NOT_DURABLE,
                "foreign_keys": 1,
            },
            "check_same_thread": False,
            "autoconnect": False,  # a query outside of reading() or writing() is an error
        }
        self.peewee: Database = PooledSqliteDatabase(
            str(self.path), max_connections=_UNLIMITED, **options
        )
        # What conditions need beyond SQL.
        self.peewee.register_function(_without_accents, "without_accents", 1, deterministic=True)
        # One connection for all threads, as only one of them writes at a time.
        self.writer: Database = SqliteDatabase(str(self.path), thread_safe=False, **options)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a connection; what it reads is one snapshot for each statement.

        Raises:
            CatalogError: the database cannot be opened or read, or is closed.
        """
        self._writers.check_open()
        try:
            with self.peewee.connection_context():
                yield
        except PeeweeException as error:
            raise self._failure(error) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the only writing transaction; it is committed, durably, when the context ends.

        Raises:
            CatalogError: the database cannot be opened or written, or is closed; nothing was
                changed. It is CatalogUnavailable where that is not for what was written.
        """
        with self._writers.turn():
            try:
                self.writer.connect(reuse_if_open=True)
                execute(self.writer, "BEGIN IMMEDIATE")
                yield
                execute(self.writer, "COMMIT")
            except BaseException as error:
                # Where the disk is full SQLite has undone it already, and answers this with an
                # error of its own. In whatever state it is: the next writer opens it anew.
                with suppress(PeeweeException):
                    execute(self.writer, "ROLLBACK")
                with suppress(PeeweeException):
                    self.writer.close()
                if isinstance(error, PeeweeException):
                    raise self._failure(error) from error
                raise

    def use_write_ahead_log(self) -> None:
        """Switch the database file to WAL; it stays so.

        Raises:
            CatalogError: the database cannot be opened or written.
        """
        with self._writers.turn(), self.reading():
            (mode,) = execute(self.peewee, "PRAGMA journal_mode = WAL").fetchone() or ("",)
        if mode != "wal":
            raise CatalogError(f"catalog {self.path}: the file system does not allow a WAL")

    def close(self) -> None:
        """Close all connections, unless a thread is still writing: it ends with the process.

        That takes a turn: who is the last to close a database takes its WAL away, and locks out
        whoever opens it at this moment.
        """
        if self._writers.is_closed or self._writers.is_busy(_CLOSE_SECONDS):
            return
        with self._writers.turn():
            self.peewee.close_all()  # type: ignore[attr-defined]  # of the pool, which has no types
            with suppress(PeeweeException):
                self.writer.close()
            self._writers.close()

    def _failure(self, error: PeeweeException) -> CatalogError:
        is_of_a_statement = isinstance(error, _FAULTS_OF_A_STATEMENT)
        kind = CatalogError if is_of_a_statement else CatalogUnavailable
        return kind(f"catalog {self.path}: {error}")


def _without_accents(text: str | None) -> str | None:
    """Return folded text without accents, NULL for NULL."""
    return None if text is None else without_accents(text)


class Cursor(Protocol):
    """What a statement gives back, as every driver has it (PEP 249)."""

    rowcount: int
    lastrowid: int | None

    def fetchone(self) -> Sequence[Any] | None:
        """Return the next row, None behind the last."""

    def fetchall(self) -> list[Sequence[Any]]:
        """Return all rows that are left."""


def execute(database: Database, statement: str, values: Sequence[object] = ()) -> Cursor:
    """Run one SQL statement on the connection that reading() or writing() holds."""
    cursor: Cursor = database.execute_sql(statement, values)  # type: ignore[no-untyped-call]
    return cursor


class _WriterQueue:
    """Lets one thread of all processes write at a time."""

    def __init__(self, path: Path) -> None:
        self._threads = threading.Lock()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._threads:
            self.check_open()
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if not self.is_closed:  # else close() has given it up
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def check_open(self) -> None:
        """Refuse what comes after close(): the descriptor may be another file's by then."""
        if self.is_closed:
            raise CatalogUnavailable("the catalog is closed")

    @property
    def is_closed(self) -> bool:
        return self._descriptor < 0

    def is_busy(self, seconds: float) -> bool:
        """Tell whether a thread of this process has the turn, and keeps it for so long."""
        if not self._threads.acquire(timeout=seconds):
            return True
        self._threads.release()
        return False

    def close(self) -> None:
        """Be done; who calls it has the turn."""
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
