"""Measure how pacsnode receives and gives back, beside other servers, and what it needs for it.

Senders and servers run on this machine, connected by loopback, in a temporary folder. Nothing of
it is left at the end.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from bench_figures import Figure, MeasureError
from bench_machine import ForeignLoad, describe_machine
from bench_main import has_room, run, temporary_folder
from bench_objects import KINDS, LARGE
from bench_parts import LARGE_RATES, PARTS, RATES, RETRIEVE, Part
from bench_peers import DISCARD, ORTHANC, PACSNODE, PEERS, Peer, PeerError
from bench_plan import Plan, Table, measure_rates, ratios
from bench_report import Report, rates_remark
from bench_requestor import RequestorError
from bench_retrieve_rates import (
    RetrievePlan,
    RetrieveTable,
    measure_retrieve_rates,
    retrieve_plans,
    retrieve_ratios,
)
from bench_retrieve_report import retrieve_grids, retrieve_remark
from bench_senders import SendError
from bench_workspace import ENVIRONMENTS, NODELAY, Folders, Workspace
from rich.console import Console

_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - the folder made in it is ours alone
_LEAST_FREE_MEMORY_BYTES = 2 * 1024**3
_LEAST_FREE_DISK_BYTES = 16 * 1024**3
_MOST_ASSOCIATIONS = 64
_FAILURES = (PeerError, SendError, RequestorError, MeasureError, OSError)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Choice = TypeVar("_Choice", bound=_Named)


@dataclass(frozen=True, slots=True)
class _Results:
    """What was measured, and in a line each what could not be."""

    tables: list[Table] = field(default_factory=list)
    retrieve_tables: list[RetrieveTable] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def noting_failure(self, what: str) -> Iterator[None]:
        """Note it if something cannot be measured, and go on behind the block."""
        try:
            yield
        except _FAILURES as error:
            self.failures.append(f"{what}: {error}")

    def aims(self) -> list[Figure]:
        """Return everything that has an aim."""
        return [
            *(ratio for table in self.tables for ratio in ratios(table)),
            *(ratio for table in self.retrieve_tables for ratio in retrieve_ratios(table)),
            *(figure for figure in self.figures if figure.aim),
        ]

    def peers(self) -> list[Peer]:
        """Return the peers that stand in tables, each once."""
        peers = [peer for table in self.tables for peer in table.plan.peers]
        peers += [peer for table in self.retrieve_tables for peer in table.plan.peers]
        return list({peer.name: peer for peer in peers}.values())

    def remarks(self, workspace: Workspace) -> list[str]:
        """Return what one has to know to read the tables."""
        remarks = [rates_remark(workspace)] if self.tables else []
        return [*remarks, *([retrieve_remark(workspace)] if self.retrieve_tables else [])]


def main() -> int:
    """Do what the command line says."""
    arguments = _parse_arguments()

    def measure() -> int:
        with _temporary_folders(arguments.folder) as folders:
            return _run(arguments, folders)

    return run("scripts/bench", measure)


def _run(arguments: argparse.Namespace, folders: Folders) -> int:
    """Measure, print, and return 1 if something could not be measured."""
    machine = describe_machine(folders.servers)
    foreign_load = ForeignLoad()
    console = Console(stderr=True)
    with console.status("starting") as status:
        workspace = Workspace(
            folders,
            status.update,
            runs=arguments.runs or (1 if arguments.quick else 3),
            run_seconds=0.5 if arguments.quick else 2.0,
            is_quick=arguments.quick,
        )
        results = _measure(arguments, workspace)
    foreign_cores = foreign_load.cores()
    report = Report(as_markdown=arguments.markdown)
    _print(results, report)
    report.print_remarks(results.remarks(workspace), results.peers(), machine, foreign_cores)
    return 1 if results.failures else 0


def _print(results: _Results, report: Report) -> None:
    """Print what was measured, which aims are met, and what could not be measured."""
    for table in results.tables:
        report.print_table(table)
    for retrieve_table in results.retrieve_tables:
        for grid in retrieve_grids(retrieve_table):
            report.print_grid(grid)
    report.print_figures(results.figures)
    report.print_aims(results.aims())
    report.print_failures(results.failures)


def _measure(arguments: argparse.Namespace, workspace: Workspace) -> _Results:
    """Return what was measured, and what could not be measured: the rest goes on."""
    results = _Results()
    for plan in _plans(arguments):
        with results.noting_failure(f"rates, {plan.environment.name}"):
            results.tables.append(measure_rates(plan, workspace))
    for retrieve_plan in _retrieve_plans(arguments):
        with results.noting_failure(f"retrieval, {retrieve_plan.environment.name}"):
            table = measure_retrieve_rates(retrieve_plan, workspace)
            results.retrieve_tables.append(table)
            results.failures.extend(table.failures)
    for part in _parts(arguments):
        for measure in part.measures:
            with results.noting_failure(part.name):
                results.figures.extend(measure(workspace))
    return results


def _plans(arguments: argparse.Namespace) -> list[Plan]:
    parts = _parts(arguments)
    peers, environments = (
        _chosen(PEERS, arguments.peers),
        _chosen(ENVIRONMENTS, arguments.environments),
    )
    plans = []
    if RATES in parts:
        kinds = _chosen(KINDS, arguments.kinds)
        plans += [Plan(each, kinds, arguments.associations, peers) for each in environments]
    if LARGE_RATES in parts:
        plans.append(Plan(NODELAY, [LARGE], [1], [PACSNODE, ORTHANC, DISCARD]))
    return plans


def _retrieve_plans(arguments: argparse.Namespace) -> list[RetrievePlan]:
    if RETRIEVE not in _parts(arguments):
        return []
    return retrieve_plans(
        _chosen(ENVIRONMENTS, arguments.environments),
        _chosen(KINDS, arguments.kinds),
        _chosen(PEERS, arguments.peers),
    )


def _parts(arguments: argparse.Namespace) -> list[Part]:
    if arguments.only:
        return _chosen(PARTS, arguments.only)
    return [part for part in PARTS if arguments.long or not part.is_long]


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short run of everything")
    parser.add_argument("--runs", type=_whole_number, help="runs of each measurement (default: 3)")
    parser.add_argument("--long", action="store_true", help="also what takes minutes more")
    parser.add_argument(
        "--associations",
        type=_whole_numbers,
        default=[1, 4, 16],
        metavar="N,...",
        help="how many at the same time (default: 1,4,16)",
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        metavar="PART,...",
        help=f"parts to measure, of {_names(PARTS)} (default: all that are not long)",
    )
    for name, available, default in (
        ("kinds", KINDS, KINDS),
        ("environments", ENVIRONMENTS, ENVIRONMENTS),
        ("peers", PEERS, PEERS[:6]),
    ):
        parser.add_argument(
            f"--{name}",
            type=lambda text: text.split(","),
            default=[each.name for each in default],
            metavar="NAME,...",
            help=f"of {_names(available)} (default: {_names(default)})",
        )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the servers keep their files, on the disk to be measured "
        "(default: $TMPDIR or /var/tmp)",
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    arguments = parser.parse_args()
    choices: dict[str, Sequence[_Named]] = {
        "kinds": KINDS,
        "environments": ENVIRONMENTS,
        "peers": PEERS,
        "only": PARTS,
    }
    for option, named in choices.items():
        unknown = set(getattr(arguments, option) or ()) - {each.name for each in named}
        if unknown:
            parser.error(f"--{option}: {', '.join(unknown)} is not one of {_names(named)}")
    return arguments


def _whole_number(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MOST_ASSOCIATIONS:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to {_MOST_ASSOCIATIONS}")
    return number


def _whole_numbers(text: str) -> list[int]:
    return sorted({_whole_number(part) for part in text.split(",")})


def _names(choices: Sequence[_Named]) -> str:
    return ",".join(each.name for each in choices)


def _chosen(available: Sequence[_Choice], names: Sequence[str]) -> list[_Choice]:
    return [each for each in available if each.name in names]


@contextmanager
def _temporary_folders(folder: Path | None) -> Iterator[Folders]:
    """Make the folders of the bench; they are removed again with all that is in them."""
    with temporary_folder(folder, _LEAST_FREE_DISK_BYTES) as servers:
        has_memory = has_room(_MEMORY_FOLDER, _LEAST_FREE_MEMORY_BYTES)
        in_memory = _MEMORY_FOLDER if has_memory else servers.parent
        with tempfile.TemporaryDirectory(prefix="pacsnode-bench-", dir=in_memory) as objects:
            yield Folders(servers, Path(objects))


if __name__ == "__main__":
    sys.exit(main())
