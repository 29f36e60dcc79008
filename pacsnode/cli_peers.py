"""The commands that deal with other Application Entities: list them, try them out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Annotated, Final

import typer
from pydicom.uid import UID

from pacsnode.catalog.records import StoredInstance
from pacsnode.command import (
    ERRORS,
    OUTPUT,
    AEArgument,
    ConfigOption,
    StudyOption,
    file_store_of,
    located,
    print_table,
    remote_ae_of,
    settings_of,
    using_catalog,
)
from pacsnode.config import Settings
from pacsnode.config_remote_aes import show_transfer_syntaxes
from pacsnode.daemon.counted import counted
from pacsnode.daemon.worker import association_limits
from pacsnode.dicom.ae import RemoteAE, TlsFiles
from pacsnode.dicom.information_model import Level
from pacsnode.exit_codes import ExitCode
from pacsnode.file_store import FileStore
from pacsnode.network.peer_check import CheckedBatch, PeerCheck, Prospect, Step

_MOST_UIDS: Final = 20  # more of them say nothing more

app = typer.Typer()
_peers = typer.Typer(help="List the remote Application Entities, or try one out.")
app.add_typer(_peers, name="peer")


@_peers.command(name="list")
def list_(config: ConfigOption = None) -> None:
    """Print a table of remote_aes with all their settings."""
    settings = settings_of(config)
    if not settings.remote_aes:
        OUTPUT.print("remote_aes has no entry")
        return
    columns = ("AE title", "Host", "Port", "Called by", "Transfer syntaxes", "Associations")
    times = ("Connect", "Negotiation", "DIMSE")
    rows = (_row(remote, settings) for remote in settings.remote_aes)
    print_table((*columns, *times, "TLS"), rows)


@_peers.command()
def check(
    ae_title: AEArgument,
    study: StudyOption = None,
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
    if study is not None:
        with using_catalog(settings, must_exist=True) as catalog:
            instances = located(catalog, Level.STUDY, study)
    OUTPUT.print(f"{remote.ae_title} at {remote.host} port {remote.port}")
    peer = PeerCheck(
        remote, calling_ae_title=settings.ae_titles[0], limits=association_limits(settings)
    )
    failures = _failures_of(peer.echo())
    if study is None:
        raise typer.Exit(ExitCode.NEGATIVE if any(failures) else ExitCode.OK)
    if no_association := failures[0]:  # nor would there be one for the study
        OUTPUT.print(f"{counted(len(instances), 'instance')} would fail: {no_association}")
        failing, most = [instance.sop_instance_uid for instance in instances], 0
    else:
        with closing(file_store_of(settings, must_exist=True)) as file_store:
            failing, most = _check_instances(peer, instances, file_store), _MOST_UIDS
    _print_uids(failing, len(failing) if each else most)
    raise typer.Exit(ExitCode.NEGATIVE if failing else ExitCode.OK)


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


def _failures_of(steps: Iterable[Step]) -> list[str]:
    """Print steps as they are done; return why each has failed, empty for one that has not."""
    failures = []
    for step in steps:
        _print_step(step)
        failures.append(step.failure)
    return failures


def _print_step(step: Step) -> None:
    outcome = f"failed: {step.failure}" if step.failure else "ok"
    OUTPUT.print(f"{step.name}: {outcome} ({step.seconds:.3f} s)")


def _check_instances(
    peer: PeerCheck, instances: Sequence[StoredInstance], file_store: FileStore
) -> list[str]:
    """Print what would become of instances; return the UIDs of those that would fail."""
    prospects: list[Prospect] = []
    for number, batch in enumerate(peer.instances(instances, file_store), start=1):
        _print_step(_named(batch, number))
        prospects += batch.prospects
    prospects.sort(key=lambda prospect: prospect.failure is None)
    counts = Counter(map(_outlook, prospects))
    columns = ("Instances", "SOP Class", "Stored in", "Outlook")
    print_table(columns, ((str(count), *outlook) for outlook, count in counts.items()))
    failing = [each.instance.sop_instance_uid for each in prospects if each.failure]
    OUTPUT.print(
        f"{len(prospects) - len(failing)} of {counted(len(prospects), 'instance')} would be sent,"
        f" {len(failing)} would fail"
    )
    if decompressed := sum(each.is_decompressed for each in prospects):
        have_to = "has to" if decompressed == 1 else "have to"
        OUTPUT.print(
            f"{decompressed} of them {have_to} be decompressed first:"
            " one that is damaged would fail"
        )
    return failing


def _print_uids(uids: Sequence[str], most: int) -> None:
    """Print the instances that would fail, so many of them, and how many more there are.

    With 0 as the most there is nothing to say of them.
    """
    for uid in uids[:most]:
        ERRORS.print(f"would fail: {uid}")
    if 0 < most < len(uids):
        ERRORS.print(f"would fail: {len(uids) - most} more; --all names each")


def _named(batch: CheckedBatch, number: int) -> Step:
    """Return the step of a batch, with what it was about."""
    name = f"association {number} for {counted(len(batch.prospects), 'instance')}, "
    name += f"{batch.accepted} of {counted(batch.proposed, 'presentation context')} accepted"
    return Step(name, batch.step.seconds, batch.step.failure)


def _outlook(prospect: Prospect) -> tuple[str, str, str]:
    """Return SOP class, stored transfer syntax, and what would become of an instance."""
    stored = prospect.instance.file.transfer_syntax_uid
    if prospect.failure:
        outlook = f"fails: {prospect.failure.cause}: {prospect.failure.reason}"
    elif prospect.is_reencoded:
        outlook = "is re-encoded: its length is odd"
    elif prospect.transfer_syntax_uid == stored:
        outlook = "goes out as it is stored"
    else:
        outlook = f"is converted to {UID(prospect.transfer_syntax_uid).name}"
    return UID(prospect.instance.sop_class_uid).name, UID(stored).name, outlook
