"""The database behind the catalog: opened from its URL, with one writer at a time.

How writes stay clear of each other. SQLite lets one connection write; a second one that wants to
would poll and in the end fail with "database is locked". So writers queue before they ask: first
for a lock within the process, then for one on a file beside the database, which the kernel grants
in turn and takes back from a process that dies. Readers never wait: they see the last commit (WAL).
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from peewee import Database, PeeweeException
from playhouse.pool import PooledSqliteDatabase

from pacsnode.catalog.records import CatalogError
from pacsnode.folders import make_folder

_SQLITE_SCHEME: Final = "sqlite:///"
_PRAGMAS: Final = {
    "synchronous": "FULL",  # a commit is on the disk when it returns (rule F-2)
    "foreign_keys": 1,
}
# One for each association at work at the same moment; they are kept and used again.
_UNLIMITED: Final = 0


class CatalogDatabase:
    """The SQLite database of a catalog.

    Open it after a fork, never before; its methods may be called from any thread.

    Attributes:
        peewee: what queries are executed on.
    """

    # The SQL type of a primary key that counts up by itself.
    key_type = "INTEGER PRIMARY KEY"

    def __init__(self, url: str, *, busy_timeout_seconds: float) -> None:
        """Name the database; nothing is opened yet.

        Args:
            url: `sqlite:///` and a path; an absolute path gives four slashes.
            busy_timeout_seconds: how long to wait for a program that is not pacsnode and holds the
                database, such as a copy being made.

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
        self.peewee: Database = PooledSqliteDatabase(
            str(self.path),
            # Not `timeout=`: that would be how long to wait for a place in the pool.
            pragmas={"busy_timeout": round(busy_timeout_seconds * 1000), **_PRAGMAS},
            max_connections=_UNLIMITED,
            check_same_thread=False,
            autoconnect=False,  # a query outside of reading() or writing() is an error
        )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a connection; what it reads is one snapshot for each statement.

        Raises:
            CatalogError: the database cannot be opened or read.
        """
        try:
            with self.peewee.connection_context():
                yield
        except PeeweeException as error:
            raise self._failure(error) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the only writing transaction; it is committed, durably, when the context ends.

        Raises:
            CatalogError: the database cannot be opened or written; nothing was changed.
        """
        with self._writers.turn():
            try:
                with self.peewee.connection_context(), self.peewee.atomic("IMMEDIATE"):
                    yield
            except PeeweeException as error:
                raise self._failure(error) from error

    def use_write_ahead_log(self) -> None:
        """Switch the database file to WAL; it stays so.

        Raises:
            CatalogError: the database cannot be opened or written.
        """
        with self._writers.turn(), self.reading():
            (mode,) = self.execute("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise CatalogError(f"catalog {self.path}: the file system does not allow a WAL")

    def execute(self, statement: str) -> tuple[Any, ...]:
        """Run one SQL statement, within reading() or writing(); return its first row, if any."""
        cursor = self.peewee.execute_sql(statement)  # type: ignore[no-untyped-call]
        return cursor.fetchone() or ()

    def close(self) -> None:
        """Close all connections."""
        self.peewee.close_all()  # type: ignore[attr-defined]  # of the pool, which has no types
        self._writers.close()

    def _failure(self, error: PeeweeException) -> CatalogError:
        return CatalogError(f"catalog {self.path}: {error}")


class _WriterQueue:
    """Lets one thread of all processes write at a time."""

    def __init__(self, path: Path) -> None:
        self._threads = threading.Lock()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._threads:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)
