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
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import CatalogError, StoredInstance
from pacsnode.config import ConfigError, Settings, load_settings
from pacsnode.daemon.worker import open_catalog, open_file_store
from pacsnode.dicom.ae import RemoteAE, nearest_ae_title, normalise_ae_title
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.query import Retrieval
from pacsnode.dicom.uid import is_valid_uid, normalise_uid
from pacsnode.exit_codes import ExitCode
from pacsnode.file_store import FileStore, FileStoreError
from pacsnode.logs import configure_logging

# What is printed is text as it is, and a line is a line: the terminal wraps it.
OUTPUT: Final = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
ERRORS: Final = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
_SQLITE_SCHEME: Final = "sqlite:///"
_READ_ONLY: Final = "readonly database"  # SQLite's words for a file that may only be read

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="PACSNODE_CONFIG",
        help="The configuration file. Without it: embedded defaults, data in ./pacsnode-data.",
    ),
]


def checked_uid(option: typer.CallbackParam, uid: str | None) -> str | None:
    """Return the UID of an option, None if it is not given; if it is none, say so and end."""
    if uid is None:
        return None
    name, uid = option.opts[0], normalise_uid(uid)
    if not uid:
        fail(ExitCode.USAGE, f"{name}: the value is empty")
    if not is_valid_uid(uid):
        fail(ExitCode.USAGE, f"{name}: {uid} is not a UID")
    return uid


AEArgument = Annotated[str, typer.Argument(metavar="AE", help="A title from remote_aes.")]
StudyOption = Annotated[
    str | None,
    typer.Option("--study", metavar="UID", help="A Study Instance UID.", callback=checked_uid),
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
    """Open the catalog of the settings, which is made if there is none; or say why not and end."""
    try:
        return open_catalog(settings)
    except CatalogError as error:
        fail(ExitCode.CATALOG_UNUSABLE, words_of(error))


@contextmanager
def using_catalog(settings: Settings, *, must_exist: bool = False) -> Iterator[Catalog]:
    """Hold the catalog of the settings open for the block; where that fails, say why and end.

    Args:
        settings: of the node.
        must_exist: make none where there is none: with the wrong configuration an empty one would
            reassure.
    """
    if must_exist:
        _check_catalog(settings)
    catalog = catalog_of(settings)
    try:
        yield catalog
    except CatalogError as error:
        fail(ExitCode.CATALOG_UNUSABLE, str(error))
    finally:
        catalog.close()


def _check_catalog(settings: Settings) -> None:
    """Say that there is no catalog, and end, if there is none."""
    path = Path(settings.catalog.url.removeprefix(_SQLITE_SCHEME))
    if _is_missing(path):
        fail(
            ExitCode.CATALOG_UNUSABLE,
            f"there is no catalog at {path} yet: the node has not run with this configuration,"
            " or --config or catalog.url is wrong",
        )


def file_store_of(settings: Settings, *, must_exist: bool = False) -> FileStore:
    """Open the file store of the settings, or say why not and end.

    Args:
        settings: of the node.
        must_exist: make none where there is none.
    """
    folder = settings.storage.folder
    if must_exist and _is_missing(folder):
        fail(
            ExitCode.STORAGE_UNUSABLE,
            f"there is no storage folder at {folder}: --config or storage.folder is wrong",
        )
    try:
        return open_file_store(settings)
    except (FileStoreError, OSError) as error:
        fail(ExitCode.STORAGE_UNUSABLE, words_of(error))


def words_of(error: Exception) -> str:
    """Return what is said of an error; of one for want of a permission, also who has it."""
    is_refused = any(isinstance(each, PermissionError) for each in (error, error.__cause__))
    if is_refused or _READ_ONLY in str(error):
        return f"{error}; the command has to write there: run it as the user of the service"
    return str(error)


def remote_ae_of(settings: Settings, ae_title: str) -> RemoteAE:
    """Return a remote AE of the settings, or say that there is none of this title and end."""
    if not normalise_ae_title(ae_title):
        fail(ExitCode.USAGE, "the AE title is empty")
    known = {remote.ae_title: remote for remote in settings.remote_aes}
    remote = known.get(normalise_ae_title(ae_title))
    if remote is None:
        fail(ExitCode.USAGE, unknown_ae_title(ae_title, known))
    return remote


def located(catalog: Catalog, level: Level, uid: str) -> list[StoredInstance]:
    """Return the instances of an entity; if there is none, say so and end."""
    instances = catalog.locate(Retrieval(level, {level: (uid,)}))
    if not instances:
        kind = "instance" if level is Level.IMAGE else level.name.lower()
        fail(ExitCode.NEGATIVE, f"no {kind} {uid} is in the catalog")
    return instances


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
    """Print a table, each row on a line of its own; no cell is ever cut or folded.

    Where the terminal is narrower it wraps the lines, so that a UID can be copied as it is.
    """
    heading, *cells = [[_printable(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(heading, *cells, strict=True)]
    OUTPUT.print(Text(_line(heading, widths), style="bold"))
    for row in cells:
        OUTPUT.print(Text(_line(row, widths)))


def fail(code: ExitCode, *lines: str) -> NoReturn:
    """Say what is wrong and end."""
    for line in lines:
        ERRORS.print(f"pacsnode: {line}")
    sys.exit(code)


def _printable(text: str) -> str:
    """Return text that a terminal cannot take for commands."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    """Return a row of a table, with nothing behind its last cell."""
    padded = (
        cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)
    )
    return f" {'  '.join(padded)}".rstrip()


def _is_missing(path: Path) -> bool:
    """Tell whether there is nothing at a path; what may not be looked at is not missing."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
