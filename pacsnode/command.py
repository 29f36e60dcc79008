"""What the commands share: the configuration, opening what it names, a terminal, and the end.

An error is one clear line, or one for each fault; exit codes are those of exit_codes.py.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import CatalogError
from pacsnode.config import ConfigError, Settings, load_settings
from pacsnode.daemon.worker import open_catalog, open_file_store
from pacsnode.dicom.ae import RemoteAE, nearest_ae_title, normalise_ae_title
from pacsnode.exit_codes import ExitCode
from pacsnode.file_store import FileStore, FileStoreError
from pacsnode.logs import configure_logging

OUTPUT: Final = Console()
ERRORS: Final = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="PACSNODE_CONFIG",
        help="The configuration file. Without it: embedded defaults, data in ./pacsnode-data.",
    ),
]


def settings_of(config: Path | None) -> Settings:
    """Return the settings, or print every fault and end."""
    try:
        settings = load_settings(config, os.environ)
    except ConfigError as error:
        fail(ExitCode.CONFIGURATION, *str(error).splitlines())
    configure_logging("warning", environment={})
    return settings


def catalog_of(settings: Settings) -> Catalog:
    """Open the catalog of the settings, or say why not and end."""
    try:
        return open_catalog(settings)
    except CatalogError as error:
        fail(ExitCode.CATALOG_UNUSABLE, str(error))


@contextmanager
def using_catalog(settings: Settings) -> Iterator[Catalog]:
    """Hold the catalog of the settings open for the block; where it fails, say why and end."""
    catalog = catalog_of(settings)
    try:
        yield catalog
    except CatalogError as error:
        fail(ExitCode.CATALOG_UNUSABLE, str(error))
    finally:
        catalog.close()


def file_store_of(settings: Settings) -> FileStore:
    """Open the file store of the settings, or say why not and end."""
    try:
        return open_file_store(settings)
    except (FileStoreError, OSError) as error:
        fail(ExitCode.STORAGE_UNUSABLE, str(error))


def remote_ae_of(settings: Settings, ae_title: str) -> RemoteAE:
    """Return a remote AE of the settings, or say that there is none of this title and end."""
    known = {remote.ae_title: remote for remote in settings.remote_aes}
    remote = known.get(normalise_ae_title(ae_title))
    if remote is None:
        fail(ExitCode.USAGE, unknown_ae_title(ae_title, known))
    return remote


def unknown_ae_title(ae_title: str, known: Iterable[str]) -> str:
    """Return what is said of a title that is not known: what may have been meant."""
    listed = sorted(known)
    near = nearest_ae_title(ae_title, listed)
    more = f"; did you mean {near}?" if near else f" (known: {', '.join(listed) or 'none'})"
    return f"{ae_title} is not in remote_aes{more}"


def progress_bar() -> Progress:
    """Return a progress bar that leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table. A pipe is no terminal: whole lines are worth more than a fitting width."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*map(_printable, row))
    console = OUTPUT if OUTPUT.is_terminal else Console(width=1000)
    console.print(table)


def fail(code: ExitCode, *lines: str) -> NoReturn:
    """Say what is wrong and end."""
    for line in lines:
        ERRORS.print(f"pacsnode: {line}", markup=False)
    sys.exit(code)


def _printable(text: str) -> str:
    """Return text that a terminal cannot take for commands, and rich not for markup."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("[", r"\[")
