"""What could not be sent: each failed sub-operation is kept for 30 days, to be asked why.

How it works. What is the same for many (who asked, whereto, the reason) is kept once, in the table
`failure_reason`; the table `failure` has a row for each instance, with the key of its reason. A
retrieval may fail as a whole, with tens of thousands of instances: they are written in chunks, each
a transaction of its own, so that nobody who stores meanwhile waits for long. Those that are too old
are forgotten on the way, a chunk at a time, too.

Source: PS3.4 C.4.2.1.5, C.4.3.1.4; rule E-11.
"""

from array import array
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from peewee import Database, Select

from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.models import FAILURE, FAILURE_REASON, INSTANCE, SERIES, STUDY
from pacsnode.catalog.records import FailedSubOperation, FailureCause, KeptFailure
from pacsnode.catalog.statements import PAGE_LENGTH, parameters, room_for, sql

KEPT_FOR: Final = timedelta(days=30)
_CHUNK_LENGTH: Final = 1_000
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Reason = tuple[str, str, str, str, int | None, str]

_INSERT_REASON: Final = """
    INSERT INTO failure_reason
    (service, requestor_ae_title, destination_ae_title, cause, status, reason)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_FIND_REASON: Final = """
    SELECT key FROM failure_reason
    WHERE service = ? AND requestor_ae_title = ? AND destination_ae_title = ?
    AND cause = ? AND status IS ? AND reason = ?
"""
_INSERT: Final = "INSERT INTO failure (reason_key, failed_at, sop_instance_uid) VALUES (?, ?, ?)"
_FORGET: Final = """
    DELETE FROM failure WHERE key IN
    (SELECT key FROM failure WHERE failed_at < ? ORDER BY failed_at LIMIT ?)
"""
_FORGET_REASONS: Final = """
    DELETE FROM failure_reason WHERE NOT EXISTS
    (SELECT 1 FROM failure WHERE failure.reason_key = failure_reason.key)
"""


def add(database: CatalogDatabase, failures: Sequence[FailedSubOperation]) -> None:
    """Keep failures, and forget those that are too old.

    Raises:
        CatalogError: the database fails; the chunks before were kept.
    """
    for start in range(0, len(failures), _CHUNK_LENGTH):
        with database.writing():
            _add_chunk(database.writer, failures[start : start + _CHUNK_LENGTH])


def find(database: CatalogDatabase, uid_or_ae_title: str) -> Iterator[KeptFailure]:
    """Yield the failures of the last 30 days that something names, the newest first.

    Nothing is held between two pages.

    Args:
        database: where to look.
        uid_or_ae_title: a SOP Instance UID; a Series or Study Instance UID, for the instances that
            the catalog has of it; or the AE title of a destination or of a requestor.

    Raises:
        CatalogError: the database fails.
    """
    with database.reading():
        keys = array("q", _keys(database.peewee, uid_or_ae_title))
    for start in range(0, len(keys), PAGE_LENGTH):
        yield from _page(database, keys[start : start + PAGE_LENGTH])


def _add_chunk(writer: Database, failures: Sequence[FailedSubOperation]) -> None:
    reason_keys: dict[_Reason, int] = {}
    for failure in failures:
        reason = _reason_of(failure)
        if reason not in reason_keys:
            reason_keys[reason] = _reason_key(writer, reason)
        row = (reason_keys[reason], _microseconds(failure.failed_at), failure.sop_instance_uid)
        execute(writer, _INSERT, row)
    # Twice what was added: however many there are to forget, they become fewer.
    values = (_microseconds(_oldest()), 2 * len(failures))
    if execute(writer, _FORGET, values).rowcount:
        execute(writer, _FORGET_REASONS)


def _reason_of(failure: FailedSubOperation) -> _Reason:
    return (
        failure.service,
        failure.requestor_ae_title,
        failure.destination_ae_title,
        failure.cause.value,
        failure.status,
        failure.reason,
    )


def _reason_key(writer: Database, reason: _Reason) -> int:
    """Return the key of a reason, which is added if it is not there."""
    row = execute(writer, _FIND_REASON, reason).fetchone()
    if row is not None:
        return int(row[0])
    key = execute(writer, _INSERT_REASON, reason).lastrowid
    if key is None:
        raise LookupError("a reason has no key after it was added")
    return key


def _keys(peewee: Database, uid_or_ae_title: str) -> Iterator[int]:
    """Yield the keys of the failures that something names, the newest first."""
    reasons = FAILURE_REASON.select(FAILURE_REASON.key).where(
        (FAILURE_REASON.destination_ae_title == uid_or_ae_title)
        | (FAILURE_REASON.requestor_ae_title == uid_or_ae_title)
    )
    of_series = _instances_of_series().where(SERIES.series_instance_uid == uid_or_ae_title)
    of_study = (
        _instances_of_series()
        .join(STUDY, on=(SERIES.study_key == STUDY.key))
        .where(STUDY.study_instance_uid == uid_or_ae_title)
    )
    query = (
        FAILURE.select(FAILURE.key)
        .where(
            FAILURE.reason_key.in_(reasons)
            | (FAILURE.sop_instance_uid == uid_or_ae_title)
            | FAILURE.sop_instance_uid.in_(of_series)
            | FAILURE.sop_instance_uid.in_(of_study)
        )
        .where(FAILURE.failed_at >= _microseconds(_oldest()))
        .order_by(FAILURE.failed_at.desc(), FAILURE.key.desc())
    )
    return (key for (key,) in query.tuples().execute(peewee))


def _instances_of_series() -> Select:
    return INSTANCE.select(INSTANCE.sop_instance_uid).join(
        SERIES, on=(INSTANCE.series_key == SERIES.key)
    )


def _page(database: CatalogDatabase, keys: Sequence[int]) -> list[KeptFailure]:
    """Return the failures with these keys, in their order; without those that are gone."""
    with database.reading():
        cursor = execute(database.peewee, _statement(room_for(keys)), parameters(keys))
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
    return [_kept_failure(rows[key]) for key in keys if key in rows]


def _statement(room: int) -> str:
    """Return the statement that reads failures; the columns are in the order of _kept_failure."""
    columns = (
        FAILURE.key,
        FAILURE.failed_at,
        FAILURE.sop_instance_uid,
        FAILURE_REASON.service,
        FAILURE_REASON.requestor_ae_title,
        FAILURE_REASON.destination_ae_title,
        FAILURE_REASON.cause,
        FAILURE_REASON.status,
        FAILURE_REASON.reason,
        STUDY.study_instance_uid,
    )
    query = (
        FAILURE.select(*columns)
        .join(FAILURE_REASON, on=(FAILURE.reason_key == FAILURE_REASON.key))
        .left_outer_join(INSTANCE, on=(FAILURE.sop_instance_uid == INSTANCE.sop_instance_uid))
        .left_outer_join(SERIES, on=(INSTANCE.series_key == SERIES.key))
        .left_outer_join(STUDY, on=(SERIES.study_key == STUDY.key))
        .where(FAILURE.key.in_([0] * room))
    )
    return sql(query)


def _kept_failure(row: Sequence[Any]) -> KeptFailure:
    failed_at, sop_instance_uid, service, requestor, destination, cause, status, reason, study = row
    failure = FailedSubOperation(
        failed_at=_EPOCH + failed_at * _MICROSECOND,
        sop_instance_uid=sop_instance_uid,
        service=service,
        requestor_ae_title=requestor,
        destination_ae_title=destination,
        cause=FailureCause(cause),
        status=status,
        reason=reason,
    )
    return KeptFailure(failure, study or "")


def _oldest() -> datetime:
    return datetime.now(UTC) - KEPT_FOR


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
