"""The command line: what an administrator types, and what the exit code says.

An error is one clear line, or one for each fault; exit codes are those of exit_codes.py.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pacsnode import __version__, cli_catalog, cli_failures, cli_peers, cli_send
from pacsnode.catalog.records import CatalogError
from pacsnode.command import (
    ERRORS,
    OUTPUT,
    ConfigOption,
    catalog_of,
    fail,
    print_table,
    progress_bar,
    remote_ae_of,
    settings_of,
    using_catalog,
    words_of,
)
from pacsnode.config import Settings, load_settings
from pacsnode.daemon.counted import counted
from pacsnode.daemon.node import run_node
from pacsnode.daemon.worker import association_limits, duplicate_policy, open_file_store
from pacsnode.exit_codes import ExitCode
from pacsnode.file_store import FileStoreError
from pacsnode.logs import configure_logging
from pacsnode.network.echo_scu import echo as send_echo
from pacsnode.services.import_file import ImportMode, ImportRefused, import_file
from pacsnode.services.keep import Keeper, Keeping, Outcome
from pacsnode.services.recover import recover

app = typer.Typer(
    help="A DICOM archive node: receives, keeps, catalogues, answers, re-sends.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show values of data sets
    add_completion=False,
)

_CONTRADICTIONS = {
    Outcome.REJECTED: "other content is kept under its SOP Instance UID",
    Outcome.IN_QUARANTINE: "other content is kept under its SOP Instance UID; put into quarantine",
}


def main() -> None:
    """Run the command that the arguments name."""
    app()


@app.callback(invoke_without_command=True)
def _version(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        OUTPUT.print(f"pacsnode {__version__}")
        raise typer.Exit


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the node in the foreground until SIGTERM or Ctrl-C."""
    load = partial(load_settings, config, os.environ)
    settings = settings_of(config)
    configure_logging(settings.log.level, environment=os.environ)
    raise typer.Exit(run_node(settings, _reload(load)))


@app.command()
def check_config(config: ConfigOption = None) -> None:
    """Check the configuration; print the settings in force, or every fault of it."""
    settings = settings_of(config)
    for line in settings.describe():
        OUTPUT.print(line)


@app.command(name="import")
def import_(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    *,
    link: Annotated[
        bool,
        typer.Option(
            "--link/--copy",
            help="Link files into the store instead of copying them: takes no space, but the files"
            " must not be changed afterwards.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Bring existing DICOM files into the store; run again, it leaves alone what is kept."""
    keeper = _keeper(settings_of(config))
    mode = ImportMode.LINK if link else ImportMode.COPY
    counts: Counter[Outcome] = Counter()
    refused: list[tuple[Path, str]] = []
    try:
        _import_files(
            list(_files(paths)), partial(import_file, keeper=keeper, mode=mode), counts, refused
        )
    except (FileStoreError, CatalogError) as error:
        is_storage = isinstance(error, FileStoreError)
        code = ExitCode.STORAGE_UNUSABLE if is_storage else ExitCode.CATALOG_UNUSABLE
        added = counted(counts[Outcome.ADDED], "file")
        fail(code, f"{error}; {added} had been added")
    finally:
        keeper.file_store.close()
        keeper.catalog.close()
    for path, reason in refused:
        ERRORS.print(f"refused: {path}: {reason}")
    for outcome, count in counts.items():
        OUTPUT.print(f"{count} {outcome.value}")
    OUTPUT.print(f"{len(refused) - counts[Outcome.IN_QUARANTINE]} refused")
    raise typer.Exit(ExitCode.NEGATIVE if refused else ExitCode.OK)


def _import_files(
    files: list[Path],
    take_in: Callable[[Path], Keeping],
    counts: Counter[Outcome],
    refused: list[tuple[Path, str]],
) -> None:
    """Import files one by one under a progress bar; note what became of each."""
    with progress_bar() as progress:
        for path in progress.track(files, description="importing"):
            try:
                outcome = take_in(path).outcome
            except ImportRefused as refusal:
                refused.append((path, str(refusal)))
                continue
            if outcome is not Outcome.REJECTED:  # which is counted as refused
                counts[outcome] += 1
            if outcome in _CONTRADICTIONS:
                refused.append((path, _CONTRADICTIONS[outcome]))


@app.command()
def studies(config: ConfigOption = None) -> None:
    """Print a table of the studies in the catalog, the newest first."""
    with using_catalog(settings_of(config)) as catalog:
        rows = [
            (
                study.study_date,
                study.patient_id,
                study.patient_name,
                " ".join(study.modalities),
                study.study_description,
                str(study.series),
                str(study.instances),
                study.study_instance_uid,
            )
            for study in catalog.studies()
        ]
    columns = ("Date", "Patient ID", "Patient's Name", "Modalities", "Description")
    print_table((*columns, "Series", "Instances", "Study Instance UID"), rows)


@app.command()
def echo(
    ae_title: Annotated[str, typer.Argument(metavar="AE", help="A title from remote_aes.")],
    config: ConfigOption = None,
) -> None:
    """Ask a configured remote Application Entity whether it is there (C-ECHO)."""
    settings = settings_of(config)
    remote = remote_ae_of(settings, ae_title)
    result = send_echo(
        remote, calling_ae_title=settings.ae_titles[0], limits=association_limits(settings)
    )
    where = f"{remote.ae_title} at {remote.host} port {remote.port}"
    if not result.is_answered:
        fail(ExitCode.NEGATIVE, f"{where}: {result.reason}")
    OUTPUT.print(f"{where} answers")


app.add_typer(cli_failures.app)
app.add_typer(cli_peers.app)
app.add_typer(cli_send.app)
app.add_typer(cli_catalog.app)


def _reload(load: Callable[[], Settings]) -> Callable[[], Settings]:
    """Return a load that also puts a changed log level into force."""

    def loaded() -> Settings:
        settings = load()
        configure_logging(settings.log.level, environment=os.environ)
        return settings

    return loaded


def _keeper(settings: Settings) -> Keeper:
    catalog = catalog_of(settings)
    try:
        file_store = open_file_store(settings)
        # What an import that was interrupted has left; the node reports what it cannot clear up.
        recover(file_store, catalog)
    except (FileStoreError, OSError) as error:
        catalog.close()
        fail(ExitCode.STORAGE_UNUSABLE, words_of(error))
    except CatalogError as error:
        fail(ExitCode.CATALOG_UNUSABLE, words_of(error))
    return Keeper(file_store, catalog, duplicate_policy(settings))


def _files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files that are named or lie in folders that are named, in order."""
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        else:
            yield path
