"""`pacsnode why`: what it prints of failures that were kept, and what where there are none."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import FailedSubOperation, FailureCause, KeptFailure
from pacsnode.cli_failures import grouped
from pacsnode.exit_codes import ExitCode
from tests.catalog.rows import new_instance
from tests.support.command_line import Run, command_line

NOW = datetime.now(UTC)
FAILURE = FailedSubOperation(
    failed_at=NOW,
    sop_instance_uid="1.4.1",
    service="C-MOVE",
    requestor_ae_title="WORKSTATION",
    destination_ae_title="VIEWER",
    cause=FailureCause.REFUSED,
    status=0xA700,
    reason="status 0xA700 disk full",
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command in an empty folder, with one destination."""
    monkeypatch.setenv("PACSNODE_REMOTE_AES", "[{ae_title: VIEWER, host: 127.0.0.1, port: 1}]")
    with command_line(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """The catalog of that folder, with three instances of one study and one of another."""
    url = f"sqlite:///{tmp_path}/pacsnode-data/catalog.sqlite"
    with closing(Catalog(url)) as made:
        made.add_all(
            [
                new_instance(
                    StudyInstanceUID=f"1.2.{1 + number // 3}",
                    SeriesInstanceUID=f"1.3.{1 + number // 3}",
                    SOPInstanceUID=f"1.4.{number + 1}",
                )
                for number in range(4)
            ]
        )
        yield made


def _failed(count: int, **values: object) -> list[FailedSubOperation]:
    """Return failures of so many instances, one millisecond after the other."""
    return [
        replace(
            FAILURE,
            failed_at=NOW - timedelta(seconds=60) + timedelta(milliseconds=number),
            sop_instance_uid=f"1.4.{number + 1}",
            **values,
        )
        for number in range(count)
    ]


def _rows(output: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in output.splitlines()[1:]]


def _kept(failures: Sequence[FailedSubOperation]) -> list[KeptFailure]:
    """Return failures as the catalog gives them: the newest first."""
    return [KeptFailure(failure, "1.2.1") for failure in failures][::-1]


def test_what_failed_for_one_reason_in_one_retrieval_is_one_line(
    run: Run, catalog: Catalog
) -> None:
    """Of 2,000 instances there is one line with their number, and all that is known."""
    failures = [
        replace(failure, sop_instance_uid=f"1.4.{number % 3 + 1}" if number < 3 else f"9.{number}")
        for number, failure in enumerate(_failed(2000))
    ]
    catalog.add_failures(failures)
    result = run("why", "VIEWER")
    assert result.exit_code == ExitCode.OK
    ((_, *row),) = _rows(result.stdout)
    assert row == [
        *("C-MOVE", "WORKSTATION", "VIEWER", "2 studies", "2000"),
        *("refused", "status 0xA700 disk full"),
    ]


@pytest.mark.parametrize("asked", ["1.2.1", "1.3.1", "1.4.1", "VIEWER", "WORKSTATION"])
def test_why_is_asked_by_uid_or_by_ae_title(run: Run, catalog: Catalog, asked: str) -> None:
    """A study, a series, an instance, a destination, a requestor: with the study it is of."""
    catalog.add_failures(_failed(1))
    ((_, *row),) = _rows(run("why", asked).stdout)
    assert row[3:5] == ["1.2.1", "1"]


def test_with_all_each_instance_has_a_line(run: Run, catalog: Catalog) -> None:
    """The newest first, with its SOP Instance UID."""
    catalog.add_failures(_failed(3))
    assert [row[5] for row in _rows(run("why", "1.2.1", "--all").stdout)] == [
        *("1.4.3", "1.4.2", "1.4.1")
    ]


def test_a_failure_is_told_in_local_time(run: Run, catalog: Catalog) -> None:
    """With the distance from UTC, so that it can be compared with any other log."""
    catalog.add_failures(_failed(1))
    ((when, *_),) = _rows(run("why", "VIEWER").stdout)
    expected = (NOW - timedelta(seconds=60)).replace(microsecond=0)
    assert datetime.fromisoformat(when) == expected


def test_what_was_sent_from_the_command_line_says_so(run: Run, catalog: Catalog) -> None:
    """There is no requestor then, and there may be no status."""
    catalog.add_failures(
        _failed(1, service="send", requestor_ae_title="", status=None, reason="no answer [1]")
    )
    ((_, *row),) = _rows(run("why", "VIEWER").stdout)
    assert row[:2] == ["send", "command line"]
    assert row[-2:] == ["refused", "no answer [1]"]


def test_failures_for_several_reasons_are_several_groups() -> None:
    """Each kind of failure is a group, though they take turns in time; the newest group first."""
    failures = _failed(6)
    mixed = [
        replace(failure, reason="other") if number % 2 else failure
        for number, failure in enumerate(failures)
    ]
    groups = grouped(_kept(mixed))
    assert [(group.failure.reason, len(group.sop_instance_uids)) for group in groups] == [
        ("other", 3),
        (FAILURE.reason, 3),
    ]


def test_an_instance_that_failed_again_begins_another_group() -> None:
    """Within one retrieval it fails once at most."""
    failures = _failed(3) + [
        replace(failure, failed_at=failure.failed_at + timedelta(seconds=30))
        for failure in _failed(3)
    ]
    assert [len(group.sop_instance_uids) for group in grouped(_kept(failures))] == [3, 3]


@pytest.mark.parametrize(("minutes", "groups"), [(9, 1), (11, 2)])
def test_failures_long_after_each_other_are_not_of_one_retrieval(minutes: int, groups: int) -> None:
    """More than ten minutes without a failure of the kind begin another group."""
    first, second = _failed(2)
    first = replace(first, failed_at=second.failed_at - timedelta(minutes=minutes))
    assert len(grouped(_kept([first, second]))) == groups


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ("1.2.2", "study 1.2.2 is in the catalog"),
        ("1.3.2", "series 1.3.2 is in the catalog"),
        ("1.4.4", "instance 1.4.4 is in the catalog"),
        ("VIEWER", "VIEWER is in remote_aes"),
    ],
)
def test_what_is_known_and_has_not_failed_is_no_error(
    run: Run, catalog: Catalog, asked: str, line: str
) -> None:
    """It says that it is known, and that no failure is kept."""
    assert catalog
    result = run("why", asked)
    assert result.exit_code == ExitCode.OK
    assert result.stdout == f"{line}; no failure of the last 30 days is kept of it\n"


@pytest.mark.parametrize("asked", ["", "  "])
def test_asked_for_nothing_it_says_so(run: Run, catalog: Catalog, asked: str) -> None:
    """Exit code 2, as for every wrong command line."""
    assert catalog
    result = run("why", asked)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == "pacsnode: the UID or AE title is empty\n"


def test_a_uid_that_is_not_in_the_catalog_is_told(run: Run, catalog: Catalog) -> None:
    """Exit code 1: what was never stored cannot have been sent."""
    assert catalog
    result = run("why", "1.2.99")
    assert result.exit_code == ExitCode.NEGATIVE
    assert result.stderr == (
        "pacsnode: 1.2.99 is not in the catalog, and no failure of the last 30 days is kept of it\n"
    )


def test_an_ae_title_that_is_not_known_is_told_with_the_nearest(run: Run, catalog: Catalog) -> None:
    """Exit code 2, as for every title that is not in remote_aes."""
    assert catalog
    result = run("why", "viewr")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == (
        "pacsnode: no failure of the last 30 days is kept of viewr;"
        " viewr is not in remote_aes; did you mean VIEWER?\n"
    )
