"""The command line: what an administrator types, and what the exit code says.

An error is one clear line, or one for each fault; exit codes are those of exit_codes.py.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pacsnode import __version__
from pacsnode.catalog import Catalog
from pacsnode.catalog.records import CatalogError
from pacsnode.config import ConfigError, Settings, load_settings
from pacsnode.daemon.node import run_node
from pacsnode.daemon.worker import (
    association_limits,
    duplicate_policy,
    open_catalog,
    open_file_store,
)
from pacsnode.dicom.ae import normalise_ae_title
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
_OUTPUT = Console()
_ERRORS = Console(stderr=True, highlight=False, soft_wrap=True)

_CONTRADICTIONS = {
    Outcome.REJECTED: "other content is kept under its SOP Instance UID",
    Outcome.IN_QUARANTINE: "other content is kept under its SOP Instance UID; put into quarantine",
}

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="PACSNODE_CONFIG",
        help="The configuration file. Without it: embedded defaults, data in ./pacsnode-data.",
    ),
]


def main() -> None:
    """Run the command that the arguments name."""
    app()


@app.callback(invoke_without_command=True)
def _version(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        _OUTPUT.print(f"pacsnode {__version__}")
        raise typer.Exit


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the node in the foreground until SIGTERM or Ctrl-C."""
    load = partial(load_settings, config, os.environ)
    settings = _settings(config)
    configure_logging(settings.log.level, environment=os.environ)
    raise typer.Exit(run_node(settings, _reload(load)))


@app.command()
def check_config(config: ConfigOption = None) -> None:
    """Check the configuration; print the settings in force, or every fault of it."""
    settings = _settings(config)
    for line in settings.describe():
        _OUTPUT.print(line, highlight=False, markup=False, soft_wrap=True)


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
    keeper = _keeper(_settings(config))
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
        _fail(code, f"{error}; {counts[Outcome.ADDED]} files had been added")
    finally:
        keeper.file_store.close()
        keeper.catalog.close()
    for path, reason in refused:
        _ERRORS.print(f"refused: {path}: {reason}", markup=False)
    for outcome, count in counts.items():
        _OUTPUT.print(f"{count} {outcome.value}")
    _OUTPUT.print(f"{len(refused) - counts[Outcome.IN_QUARANTINE]} refused")
    raise typer.Exit(ExitCode.NEGATIVE if refused else ExitCode.OK)


def _import_files(
    files: list[Path],
    take_in: Callable[[Path], Keeping],
    counts: Counter[Outcome],
    refused: list[tuple[Path, str]],
) -> None:
    """Import files one by one under a progress bar; note what became of each."""
    with _progress() as progress:
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
    catalog = _open(open_catalog, _settings(config))
    columns = ("Date", "Patient ID", "Patient's Name", "Modalities", "Description")
    table = Table(*columns, "Series", "Instances", "Study Instance UID", box=None)
    try:
        for study in catalog.studies():
            texts = (
                study.study_date,
                study.patient_id,
                study.patient_name,
                " ".join(study.modalities),
                study.study_description,
                str(study.series),
                str(study.instances),
                study.study_instance_uid,
            )
            table.add_row(*map(_printable, texts))
    except CatalogError as error:
        _fail(ExitCode.CATALOG_UNUSABLE, str(error))
    finally:
        catalog.close()
    # A pipe is no terminal: whole lines are worth more than a fitting width.
    console = _OUTPUT if _OUTPUT.is_terminal else Console(width=1000)
    console.print(table)


@app.command()
def echo(
    ae_title: Annotated[str, typer.Argument(metavar="AE", help="A title from remote_aes.")],
    config: ConfigOption = None,
) -> None:
    """Ask a configured remote Application Entity whether it is there (C-ECHO)."""
    settings = _settings(config)
    known = {remote.ae_title: remote for remote in settings.remote_aes}
    remote = known.get(normalise_ae_title(ae_title))
    if remote is None:
        listed = ", ".join(sorted(known)) or "none"
        _fail(ExitCode.USAGE, f"{ae_title} is not in remote_aes (known: {listed})")
    result = send_echo(
        remote, calling_ae_title=settings.ae_titles[0], limits=association_limits(settings)
    )
    where = f"{remote.ae_title} at {remote.host} port {remote.port}"
    if not result.is_answered:
        _fail(ExitCode.NEGATIVE, f"{where}: {result.reason}")
    _OUTPUT.print(f"{where} answers", highlight=False)


@app.command()
def upgrade_catalog(config: ConfigOption = None) -> None:
    """Bring the catalog's schema to this program's version; stop the node and copy it first."""
    settings = _settings(config)
    try:
        before, after = Catalog.upgrade(
            settings.catalog.url, busy_timeout_seconds=settings.catalog.busy_timeout_seconds
        )
    except CatalogError as error:
        _fail(ExitCode.CATALOG_UNUSABLE, str(error))
    if before == after:
        _OUTPUT.print(f"the catalog has schema {after} already", highlight=False)
    else:
        _OUTPUT.print(f"the catalog has been upgraded from schema {before} to {after}")


def _settings(config: Path | None) -> Settings:
    """Return the settings, or print every fault and end."""
    try:
        settings = load_settings(config, os.environ)
    except ConfigError as error:
        _fail(ExitCode.CONFIGURATION, *str(error).splitlines())
    configure_logging("warning", environment={})
    return settings


def _reload(load: Callable[[], Settings]) -> Callable[[], Settings]:
    """Return a load that also puts a changed log level into force."""

    def loaded() -> Settings:
        settings = load()
        configure_logging(settings.log.level, environment=os.environ)
        return settings

    return loaded


def _keeper(settings: Settings) -> Keeper:
    catalog = _open(open_catalog, settings)
    try:
        file_store = open_file_store(settings)
        # What an import that was interrupted has left; the node reports what it cannot clear up.
        recover(file_store, catalog)
    except (FileStoreError, OSError) as error:
        catalog.close()
        _fail(ExitCode.STORAGE_UNUSABLE, str(error))
    except CatalogError as error:
        _fail(ExitCode.CATALOG_UNUSABLE, str(error))
    return Keeper(file_store, catalog, duplicate_policy(settings))


def _open(opener: Callable[[Settings], Catalog], settings: Settings) -> Catalog:
    try:
        return opener(settings)
    except CatalogError as error:
        _fail(ExitCode.CATALOG_UNUSABLE, str(error))


def _files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files that are named or lie in folders that are named, in order."""
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        else:
            yield path


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _printable(text: str) -> str:
    """Return text that a terminal cannot take for commands, and rich not for markup."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("[", r"\[")


def _fail(code: ExitCode, *lines: str) -> NoReturn:
    for line in lines:
        _ERRORS.print(f"pacsnode: {line}", markup=False)
    sys.exit(code)
