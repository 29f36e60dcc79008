"""The commands that deal with other Application Entities: list them, try them out, send to them."""

import logging
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import takewhile
from types import FrameType
from typing import Annotated, Final

import typer
from pydicom.uid import UID

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import StoredInstance
from pacsnode.cli_failures import grouped, print_groups
from pacsnode.command import (
    ERRORS,
    OUTPUT,
    ConfigOption,
    fail,
    file_store_of,
    print_table,
    progress_bar,
    remote_ae_of,
    settings_of,
    using_catalog,
)
from pacsnode.config import Settings
from pacsnode.config_remote_aes import show_transfer_syntaxes
from pacsnode.daemon.worker import association_limits
from pacsnode.dicom.ae import RemoteAE, TlsFiles
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.query import Retrieval
from pacsnode.exit_codes import ExitCode
from pacsnode.file_store import FileStore
from pacsnode.network.command_set import StoreOptions
from pacsnode.network.failure_record import FailureRecord
from pacsnode.network.peer_check import CheckedBatch, PeerCheck, Prospect, Step
from pacsnode.network.sub_operations import RetrievalContext, SubOperations, describe, move

_MEDIUM: Final = 0  # the priority, PS3.7 9.3.1.1
_SERVICE: Final = "send"
_MOST_UIDS: Final = 20  # more of them say nothing more

app = typer.Typer()
_peers = typer.Typer(help="List the remote Application Entities, or try one out.")
app.add_typer(_peers, name="peer")

_AE = Annotated[str, typer.Argument(metavar="AE", help="A title from remote_aes.")]
_Study = Annotated[str, typer.Option("--study", metavar="UID", help="A Study Instance UID.")]
_Series = Annotated[str, typer.Option("--series", metavar="UID", help="A Series Instance UID.")]
_Instance = Annotated[str, typer.Option("--instance", metavar="UID", help="A SOP Instance UID.")]


@_peers.command(name="list")
def list_(config: ConfigOption = None) -> None:
    """Print a table of remote_aes with all their settings."""
    settings = settings_of(config)
    columns = ("AE title", "Host", "Port", "Called by", "Transfer syntaxes", "Associations")
    times = ("Connect", "Negotiation", "DIMSE")
    rows = (_row(remote, settings) for remote in settings.remote_aes)
    print_table((*columns, *times, "TLS"), rows)


@_peers.command()
def check(
    ae_title: _AE,
    study: _Study = "",
    *,
    each: Annotated[
        bool, typer.Option("--all", help="Name each instance that would fail, however many.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Try out a remote AE: connect and echo; with a study, say what of it would fail.

    Nothing is sent.
    """
    settings = settings_of(config)
    remote = remote_ae_of(settings, ae_title)
    instances: Sequence[StoredInstance] = ()
    if study:
        with using_catalog(settings) as catalog:
            instances = _located(catalog, Level.STUDY, study)
    OUTPUT.print(f"{remote.ae_title} at {remote.host} port {remote.port}", highlight=False)
    peer = PeerCheck(
        remote, calling_ae_title=settings.ae_titles[0], limits=association_limits(settings)
    )
    is_there = True
    for step in peer.echo():
        _print_step(step)
        is_there = is_there and not step.failure
    if not study:
        raise typer.Exit(ExitCode.OK if is_there else ExitCode.NEGATIVE)
    with closing(file_store_of(settings)) as file_store:
        failing = _check_instances(peer, instances, file_store)
    _print_uids(failing, len(failing) if each else _MOST_UIDS)
    raise typer.Exit(ExitCode.NEGATIVE if failing else ExitCode.OK)


@app.command()
def send(
    ae_title: _AE,
    study: _Study = "",
    series: _Series = "",
    instance: _Instance = "",
    config: ConfigOption = None,
) -> None:
    """Send a study, a series or an instance to a remote AE, as a C-MOVE would.

    Ctrl-C stops it after the instance that is on its way.
    """
    given = [
        (level, uid)
        for level, uid in ((Level.STUDY, study), (Level.SERIES, series), (Level.IMAGE, instance))
        if uid
    ]
    if len(given) != 1:
        fail(ExitCode.USAGE, "one of --study, --series and --instance says what to send")
    settings = settings_of(config)
    remote = remote_ae_of(settings, ae_title)
    with using_catalog(settings) as catalog:
        instances = _located(catalog, *given[0])
        started_at = datetime.now(UTC)
        with closing(file_store_of(settings)) as file_store:
            state = _send(instances, remote, settings, catalog, file_store)
        _print_failures(catalog, remote, started_at, {*state.failed})
    where = f"{remote.ae_title} at {remote.host} port {remote.port}"
    cancelled = "; cancelled" if state.is_cancelled else ""
    OUTPUT.print(f"{where}: {describe(state)}{cancelled}", highlight=False, soft_wrap=True)
    is_done = not state.failed and not state.remaining
    raise typer.Exit(ExitCode.OK if is_done else ExitCode.NEGATIVE)


def _row(remote: RemoteAE, settings: Settings) -> tuple[str, ...]:
    """Return the settings of a remote AE as they are in force."""
    of_all = settings.association
    uids = show_transfer_syntaxes(remote.transfer_syntaxes)
    return (
        remote.ae_title,
        remote.host,
        str(remote.port),
        remote.calling_ae_title or "as called",
        uids if isinstance(uids, str) else " ".join(uids),
        str(remote.associations),
        f"{remote.connect_timeout_seconds or of_all.connect_timeout_seconds} s",
        f"{remote.negotiation_timeout_seconds or of_all.negotiation_timeout_seconds} s",
        f"{remote.dimse_timeout_seconds or of_all.dimse_timeout_seconds} s",
        "no" if remote.tls is None else ", ".join(_show_tls(remote.tls)),
    )


def _show_tls(tls: TlsFiles) -> Iterator[str]:
    yield "yes"
    if tls.ca_file:
        yield f"believes {tls.ca_file}"
    if tls.certificate_file:
        yield f"shows {tls.certificate_file}"
    if not tls.checks_host_name:
        yield "host name not checked"


def _located(catalog: Catalog, level: Level, uid: str) -> list[StoredInstance]:
    """Return the instances of an entity; if there is none, say so and end."""
    instances = catalog.locate(Retrieval(level, {level: (uid,)}))
    if not instances:
        kind = "instance" if level is Level.IMAGE else level.name.lower()
        fail(ExitCode.NEGATIVE, f"no {kind} {uid} is in the catalog")
    return instances


def _print_step(step: Step) -> None:
    outcome = f"failed: {step.failure}" if step.failure else "ok"
    OUTPUT.print(
        f"{step.name}: {outcome} ({step.seconds:.3f} s)",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _check_instances(
    peer: PeerCheck, instances: Sequence[StoredInstance], file_store: FileStore
) -> list[str]:
    """Print what would become of instances; return the UIDs of those that would fail."""
    prospects: list[Prospect] = []
    for number, batch in enumerate(peer.instances(instances, file_store), start=1):
        _print_step(_named(batch, number))
        prospects += batch.prospects
    counts = Counter(_outlook(prospect) for prospect in prospects)
    columns = ("Instances", "SOP Class", "Stored in", "Outlook")
    print_table(columns, ((str(count), *outlook) for outlook, count in counts.items()))
    failing = [each.instance.sop_instance_uid for each in prospects if each.failure]
    OUTPUT.print(
        f"{len(prospects) - len(failing)} of {len(prospects)} instances would be sent,"
        f" {len(failing)} would fail",
        highlight=False,
    )
    return failing


def _print_uids(uids: Sequence[str], most: int) -> None:
    """Print the instances that would fail, so many of them, and how many more there are."""
    for uid in uids[:most]:
        ERRORS.print(f"would fail: {uid}", markup=False)
    if len(uids) > most:
        ERRORS.print(f"would fail: {len(uids) - most} more; --all names them", markup=False)


def _named(batch: CheckedBatch, number: int) -> Step:
    """Return the step of a batch, with what it was about."""
    name = f"association {number} for {len(batch.prospects)} instances, "
    name += f"{batch.accepted} of {batch.proposed} presentation contexts accepted"
    return Step(name, batch.step.seconds, batch.step.failure)


def _outlook(prospect: Prospect) -> tuple[str, str, str]:
    """Return SOP class, stored transfer syntax, and what would become of an instance."""
    stored = prospect.instance.file.transfer_syntax_uid
    if prospect.failure:
        outlook = f"fails: {prospect.failure.cause}: {prospect.failure.reason}"
    elif prospect.transfer_syntax_uid == stored:
        outlook = "goes out as it is stored"
    else:
        outlook = f"is converted to {UID(prospect.transfer_syntax_uid).name}"
    return UID(prospect.instance.sop_class_uid).name, UID(stored).name, outlook


def _send(
    instances: Sequence[StoredInstance],
    remote: RemoteAE,
    settings: Settings,
    catalog: Catalog,
    file_store: FileStore,
) -> SubOperations:
    """Send instances under a progress bar."""
    record = FailureRecord(
        catalog,
        service=_SERVICE,
        requestor_ae_title="",
        destination_ae_title=remote.ae_title,
    )
    with _quiet(), _interrupted() as interrupted, record, progress_bar() as progress:
        task = progress.add_task(f"sending to {remote.ae_title}", total=len(instances))
        context = RetrievalContext(
            file_store=file_store,
            limits=association_limits(settings),
            options=StoreOptions(priority=_MEDIUM),
            record=record,
            is_cancelled=interrupted.is_set,
            report=lambda state: progress.update(task, completed=state.total - state.remaining),
        )
        return move(instances, remote, settings.ae_titles[0], context)


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


@contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Within the block Ctrl-C sets an event; a second one ends the program at once."""
    event = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _print_failures(
    catalog: Catalog, remote: RemoteAE, started_at: datetime, failed: set[str]
) -> None:
    """Print what has failed since then, as `why` will say it."""
    if not failed:
        return
    since = takewhile(
        lambda kept: kept.failure.failed_at >= started_at, catalog.failures(remote.ae_title)
    )
    groups = grouped(
        kept
        for kept in since
        if kept.failure.service == _SERVICE and kept.failure.sop_instance_uid in failed
    )
    print_groups(groups)
