"""Measure how fast pacsnode answers queries, in a small and in a large archive, and beside Orthanc.

Requestor and servers run on this machine, connected by loopback, in a temporary folder. Nothing of
it is left at the end.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench_figures import MeasureError
from bench_find_parts import PARTS, Result
from bench_machine import ForeignLoad, describe_machine
from bench_peers import PeerError
from bench_report import Report
from bench_requestor import RequestorError
from bench_workspace import Folders, Workspace
from rich.console import Console

_NAMES = [part.name for part in PARTS]
_LEAST_FREE_DISK_BYTES = 4 * 1024**3
_FAILURES = (PeerError, RequestorError, MeasureError, OSError)


def main() -> int:
    """Do what the command line says."""
    arguments = _parse_arguments()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    try:
        with _temporary_folder(arguments.folder) as folder:
            return _run(arguments, folder)
    except (MeasureError, OSError) as error:
        print(f"scripts/bench-find: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(arguments: argparse.Namespace, folder: Path) -> int:
    """Measure, print, and return 1 if something could not be measured."""
    machine = describe_machine(folder)
    foreign_load = ForeignLoad()
    console = Console(stderr=True)
    results: list[Result] = []
    failures: list[str] = []
    with console.status("starting") as status:
        folders = Folders(servers=folder / "servers", objects=folder)
        workspace = Workspace(folders, status.update, 1, 0.0, is_quick=arguments.quick)
        for part in PARTS:
            if part.name not in arguments.only:
                continue
            try:
                results.append(part.measure(workspace))
            except _FAILURES as error:  # the rest goes on
                failures.append(f"{part.name}: {error}")
    report = Report(workspace, as_markdown=arguments.markdown)
    for result in results:
        for table in result.tables:
            report.print_grid(table)
    report.print_aims([figure for result in results for figure in result.figures])
    report.print_failures(failures)
    report.print_remarks([], machine, foreign_load.cores())
    return 1 if failures else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench-find", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the archive and the runs")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=_NAMES,
        metavar="PART,...",
        help=f"of {','.join(_NAMES)} (default: all)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the servers keep their files (default: $TMPDIR or /var/tmp)",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(_NAMES):
        parser.error(f"--only: {', '.join(unknown)} is not one of {','.join(_NAMES)}")
    return arguments


@contextmanager
def _temporary_folder(folder: Path | None) -> Iterator[Path]:
    """Make the folder of the bench; it is removed again with all that is in it."""
    on_disk = folder or Path(os.environ.get("TMPDIR", "/var/tmp"))  # noqa: S108 - ours alone
    with tempfile.TemporaryDirectory(prefix="pacsnode-bench-", dir=on_disk) as made:
        if shutil.disk_usage(made).free < _LEAST_FREE_DISK_BYTES:
            gibibytes = _LEAST_FREE_DISK_BYTES // 1024**3
            raise MeasureError(f"{on_disk}: {gibibytes} GiB have to be free; see --folder")
        yield Path(made)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does: through every context that has something to stop or to remove."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
