"""The command that sends to another Application Entity, through the same loop as a C-MOVE."""

import logging
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Final

import typer

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import FailureCause, StoredInstance
from pacsnode.command import (
    ERRORS,
    OUTPUT,
    AEArgument,
    ConfigOption,
    StudyOption,
    checked_uid,
    fail,
    file_store_of,
    located,
    print_table,
    progress_bar,
    remote_ae_of,
    settings_of,
    using_catalog,
)
from pacsnode.config import Settings
from pacsnode.daemon.worker import association_limits
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.information_model import Level
from pacsnode.exit_codes import ExitCode
from pacsnode.file_store import FileStore
from pacsnode.network.command_set import StoreOptions
from pacsnode.network.failure_record import FailureRecord
from pacsnode.network.retrieval import RetrievalContext, SubOperations, describe
from pacsnode.network.sub_operations import move

_MEDIUM: Final = 0  # the priority, PS3.7 9.3.1.1
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_Series = Annotated[
    str | None,
    typer.Option("--series", metavar="UID", help="A Series Instance UID.", callback=checked_uid),
]
_Instance = Annotated[
    str | None,
    typer.Option("--instance", metavar="UID", help="A SOP Instance UID.", callback=checked_uid),
]

app = typer.Typer()


@app.command()
def send(
    ae_title: AEArgument,
    study: StudyOption = None,
    series: _Series = None,
    instance: _Instance = None,
    config: ConfigOption = None,
) -> None:
    """Send a study, a series or an instance to a remote AE, as a C-MOVE would.

    Exactly one of --study, --series and --instance is needed.

    Ctrl-C stops it after the instance that is on its way, a second one at once.
    """
    given = [
        (level, uid)
        for level, uid in ((Level.STUDY, study), (Level.SERIES, series), (Level.IMAGE, instance))
        if uid is not None
    ]
    if len(given) != 1:
        fail(ExitCode.USAGE, "exactly one of --study, --series and --instance is needed")
    settings = settings_of(config)
    remote = remote_ae_of(settings, ae_title)
    with using_catalog(settings, must_exist=True) as catalog:
        instances = located(catalog, *given[0])
        with closing(file_store_of(settings, must_exist=True)) as file_store:
            state, record = _send(instances, remote, settings, catalog, file_store)
    _print_causes(record)
    where = f"{remote.ae_title} at {remote.host} port {remote.port}"
    cancelled = "; cancelled" if state.is_cancelled else ""
    OUTPUT.print(f"{where}: {describe(state)}{cancelled}")
    is_done = not state.failed and not state.remaining
    raise typer.Exit(ExitCode.OK if is_done else ExitCode.NEGATIVE)


def _send(
    instances: Sequence[StoredInstance],
    remote: RemoteAE,
    settings: Settings,
    catalog: Catalog,
    file_store: FileStore,
) -> tuple[SubOperations, FailureRecord]:
    """Send instances under a progress bar; return what has become of them, and why."""
    record = FailureRecord(
        catalog,
        service="send",
        requestor_ae_title="",
        destination_ae_title=remote.ae_title,
    )
    with _quiet(), _stoppable() as stop, record, progress_bar() as progress:
        task = progress.add_task(f"sending to {remote.ae_title}", total=len(instances))
        context = RetrievalContext(
            file_store=file_store,
            limits=association_limits(settings),
            options=StoreOptions(priority=_MEDIUM),
            record=record,
            is_cancelled=lambda: stop.signals > 0,
            is_interrupted=lambda: stop.signals > 1,
            report=lambda state: progress.update(task, completed=state.total - state.remaining),
        )
        return move(instances, remote, settings.ae_titles[0], context), record


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block failures are not logged: that is for the end, not across the bar."""
    logger = logging.getLogger("pacsnode.activity")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@dataclass(slots=True)
class _Stop:
    """How many signals asked to stop: one after what is on its way, two at once."""

    signals: int = 0


@contextmanager
def _stoppable() -> Iterator[_Stop]:
    """Within the block what asks the program to end is counted, and does not end it."""
    stop = _Stop()

    def count(_number: int, _frame: FrameType | None) -> None:
        stop.signals += 1

    before = {number: signal.signal(number, count) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_causes(record: FailureRecord) -> None:
    """Print how many instances have failed for each reason, the most frequent one first."""
    causes: Counter[tuple[FailureCause, str]] = record.causes
    if causes:
        rows = ((str(n), cause.value, reason) for (cause, reason), n in causes.most_common())
        print_table(("Instances", "Cause", "Reason"), rows)
    if record.catalog_failure:
        ERRORS.print(f"not kept for `pacsnode why`: {record.catalog_failure}")
