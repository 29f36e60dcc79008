"""What did not arrive is logged and kept, whatever becomes of the rest."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import CatalogError, FailedSubOperation, FailureCause
from pacsnode.network import failure_record
from pacsnode.network.failure_record import FailureRecord
from pacsnode.network.store_scu import Failure
from tests.support.waiting import wait_until

_REFUSED = Failure(FailureCause.REFUSED, "status 0xA700 disk is full", 0xA700)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    made = Catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield made
    made.close()


def _record(catalog: Catalog) -> FailureRecord:
    return FailureRecord(
        catalog,
        service="C-MOVE",
        requestor_ae_title="WORKSTATION",
        destination_ae_title="DEST",
    )


def _kept(catalog: Catalog) -> list[FailedSubOperation]:
    return [each.failure for each in catalog.failures("DEST")]


def test_a_failure_is_kept_with_who_asked_and_why(catalog: Catalog) -> None:
    """At the end of the block at the latest."""
    with _record(catalog) as record:
        record.add("1.2.3", _REFUSED)
    (kept,) = _kept(catalog)
    assert (kept.sop_instance_uid, kept.service) == ("1.2.3", "C-MOVE")
    assert (kept.requestor_ae_title, kept.destination_ae_title) == ("WORKSTATION", "DEST")
    assert (kept.cause, kept.status, kept.reason) == (
        FailureCause.REFUSED,
        0xA700,
        "status 0xA700 disk is full",
    )
    assert timedelta(0) <= datetime.now(UTC) - kept.failed_at < timedelta(minutes=1)


def test_a_failure_is_logged_in_one_line(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    """With UID, cause and reason."""
    with caplog.at_level("WARNING", "pacsnode"), _record(catalog) as record:
        record.add("1.2.3", _REFUSED)
    assert caplog.messages == [
        "C-STORE sub-operation 1.2.3 failed: refused: status 0xA700 disk is full"
    ]


def test_failures_are_kept_though_the_retrieval_breaks_down(catalog: Catalog) -> None:
    """What has failed before a fault of ours has failed."""

    def break_down(record: FailureRecord) -> None:
        record.add("1.2.3", _REFUSED)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), _record(catalog) as record:
        break_down(record)
    assert len(_kept(catalog)) == 1


def test_failures_are_written_some_at_a_time(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one by one, and not all at the end: a catalog is not kept from others for long."""
    monkeypatch.setattr(failure_record, "_LONGEST_DELAY_SECONDS", 1_000)
    lengths: list[int] = []
    keep = catalog.add_failures

    def count(failures: Sequence[FailedSubOperation]) -> None:
        lengths.append(len(failures))
        keep(failures)

    monkeypatch.setattr(catalog, "add_failures", count)
    with _record(catalog) as record:
        for number in range(1_200):
            record.add(f"1.2.{number}", _REFUSED)
    assert max(lengths) == 500
    assert sum(lengths) == 1_200
    assert len(_kept(catalog)) == 1_200


def test_a_failure_is_not_kept_back_for_long(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where few fail, the next one brings those before into the catalog after a second."""
    clock = SimpleNamespace(now=time.monotonic())
    monkeypatch.setattr(failure_record, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with _record(catalog) as record:
        record.add("1.2.3", _REFUSED)
        assert _kept(catalog) == []
        clock.now += 2
        record.add("1.2.4", _REFUSED)
        wait_until(lambda: len(_kept(catalog)) == 2, "both to be kept")


def test_a_catalog_that_fails_changes_nothing_else(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once; the failures themselves are in the log."""

    def fail(_: object) -> None:
        raise CatalogError("the disk is full")

    monkeypatch.setattr(failure_record, "_TOGETHER", 1)
    monkeypatch.setattr(catalog, "add_failures", fail)
    with caplog.at_level("WARNING", "pacsnode"), _record(catalog) as record:
        for number in range(3):
            record.add(f"1.2.{number}", _REFUSED)
    failed = [message for message in caplog.messages if message.startswith("C-STORE")]
    others = [message for message in caplog.messages if message not in failed]
    assert len(failed) == 3
    assert others == ["failed sub-operations are not kept for `pacsnode why`: the disk is full"]


def test_a_catalog_that_others_keep_does_not_stop_a_retrieval(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an instance nor the final response waits for it; what failed is kept later (E-12)."""
    monkeypatch.setattr(failure_record, "_TOGETHER", 2)
    monkeypatch.setattr(failure_record, "_LONGEST_WAIT_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started_at = time.monotonic()
        with _record(catalog) as record:
            for number in range(7):
                record.add(f"1.2.{number}", _REFUSED)
        assert time.monotonic() - started_at < 5
        assert _kept(catalog) == []
        other.execute("ROLLBACK")
    wait_until(lambda: len(_kept(catalog)) == 7, "all to be kept")


def test_without_a_thread_failures_are_kept_at_the_end(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may have none; that is no reason to forget what failed."""
    monkeypatch.setattr(failure_record, "_TOGETHER", 2)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with _record(catalog) as record:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        for number in range(5):
            record.add(f"1.2.{number}", _REFUSED)
    assert len(_kept(catalog)) == 5


def test_a_fault_of_ours_in_writing_is_not_hidden(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the retrieval, which says so."""
    monkeypatch.setattr(catalog, "add_failures", None)
    with pytest.raises(TypeError), _record(catalog) as record:
        record.add("1.2.3", _REFUSED)


def test_any_thread_may_add(catalog: Catalog) -> None:
    """None of what several lanes add is lost or doubled."""
    with _record(catalog) as record:

        def add(lane: int) -> None:
            for number in range(400):
                record.add(f"1.2.{lane}.{number}", _REFUSED)

        lanes = [threading.Thread(target=add, args=(lane,)) for lane in range(4)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    kept = [failure.sop_instance_uid for failure in _kept(catalog)]
    assert len(kept) == len(set(kept)) == 1_600
