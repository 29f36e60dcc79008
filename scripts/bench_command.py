"""Measure how many instances a second pacsnode receives, beside other servers.

Senders and servers run on this machine, connected by loopback, in a temporary folder. Nothing of
it is left at the end.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol, TypeVar

from bench_machine import ForeignLoad, describe_machine
from bench_objects import KINDS
from bench_peers import PEERS, PeerError
from bench_plan import ENVIRONMENTS, Folders, Plan, measure
from bench_report import Report
from bench_senders import SendError
from bench_set_up import SetUpError
from rich.console import Console
from rich.progress import Progress

_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - the folder made in it is ours alone
_LEAST_FREE_BYTES = 256 * 1024 * 1024
_MOST_ASSOCIATIONS = 64


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Choice = TypeVar("_Choice", bound=_Named)


def main() -> int:
    """Do what the command line says."""
    arguments = _parse_arguments()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    plan = Plan(
        peers=_chosen(PEERS, arguments.peers),
        environments=_chosen(ENVIRONMENTS, arguments.environments),
        kinds=_chosen(KINDS, arguments.kinds),
        associations=arguments.associations,
        runs=arguments.runs or (1 if arguments.quick else 3),
        run_seconds=0.5 if arguments.quick else 2.0,
        set_ups=20 if arguments.quick else 100,
    )
    try:
        with _temporary_folders(arguments.folder) as folders:
            _run(plan, folders, as_markdown=arguments.markdown)
    except (PeerError, SendError, SetUpError, OSError) as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _run(plan: Plan, folders: Folders, *, as_markdown: bool) -> None:
    machine = describe_machine(folders.servers)
    foreign_load = ForeignLoad()
    report = Report(plan, as_markdown=as_markdown)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=plan.steps)

        def step(text: str) -> None:
            progress.update(task, description=text, advance=1)

        tables = list(measure(plan, folders, step))
    foreign_cores = foreign_load.cores()
    for table in tables:
        report.print_table(table)
    report.print_remarks(machine, foreign_cores)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short run of everything")
    parser.add_argument("--runs", type=_whole_number, help="runs of each measurement (default: 3)")
    parser.add_argument(
        "--associations",
        type=_whole_numbers,
        default=[1, 4],
        metavar="N,...",
        help="how many at the same time (default: 1,4)",
    )
    for name, available, default in (
        ("kinds", KINDS, KINDS),
        ("environments", ENVIRONMENTS, ENVIRONMENTS),
        ("peers", PEERS, PEERS[:2]),
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
    for name, available in (("kinds", KINDS), ("environments", ENVIRONMENTS), ("peers", PEERS)):
        unknown = set(getattr(arguments, name)) - {each.name for each in available}
        if unknown:
            parser.error(f"--{name}: {', '.join(unknown)} is not one of {_names(available)}")
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
    on_disk = folder or Path(os.environ.get("TMPDIR", "/var/tmp"))  # noqa: S108 - as above
    with tempfile.TemporaryDirectory(prefix="pacsnode-bench-", dir=on_disk) as servers:
        in_memory = _MEMORY_FOLDER if _has_room(_MEMORY_FOLDER) else on_disk
        with tempfile.TemporaryDirectory(prefix="pacsnode-bench-", dir=in_memory) as objects:
            yield Folders(Path(servers), Path(objects))


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _LEAST_FREE_BYTES


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does: through every context that has something to stop or to remove."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
