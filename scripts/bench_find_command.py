"""Measure how fast pacsnode answers queries, in a small and in a large archive, and beside Orthanc.

Requestor and servers run on this machine, connected by loopback, in a temporary folder. Nothing of
it is left at the end.
"""

import argparse
import sys
from pathlib import Path

from bench_figures import MeasureError
from bench_find_parts import PARTS, Result
from bench_machine import ForeignLoad, describe_machine
from bench_main import run, temporary_folder
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

    def measure() -> int:
        with temporary_folder(arguments.folder, _LEAST_FREE_DISK_BYTES) as folder:
            return _run(arguments, folder)

    return run("scripts/bench-find", measure)


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
    report = Report(as_markdown=arguments.markdown)
    for result in results:
        for table in result.tables:
            report.print_grid(table)
    report.print_aims([figure for result in results for figure in result.figures])
    report.print_failures(failures)
    report.print_remarks([], [], machine, foreign_load.cores())
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


if __name__ == "__main__":
    sys.exit(main())
