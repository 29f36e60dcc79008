"""The parts of the bench: each can be chosen on its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench_figures import Figure
from bench_header import measure_header_reads
from bench_move import measure_move
from bench_resources import measure_growth, measure_idle, measure_memory
from bench_responsiveness import measure_echo, measure_set_up
from bench_retrieve_ceiling import measure_ceiling
from bench_retrieve_memory import measure_sending_memory
from bench_retrieve_parallel import (
    measure_beside_slow_destination,
    measure_parallel_associations,
)
from bench_retrieve_start import measure_start
from bench_workspace import Workspace

_SMALL_HEADER_AIM_MICROSECONDS = 120
_LARGE_HEADER_AIM_MICROSECONDS = 500


@dataclass(frozen=True, slots=True)
class Part:
    """Something that can be measured.

    Attributes:
        name: for the command line.
        measures: do it, each on its own; what makes a table of rates is not one of them.
        is_long: it takes minutes, and is measured only if it was asked for.
    """

    name: str
    measures: Sequence[Callable[[Workspace], list[Figure]]] = ()
    is_long: bool = False


def _measure_headers(workspace: Workspace) -> list[Figure]:
    """Measure reading what the catalog needs, in this process."""
    workspace.progress("header reads")
    return [
        Figure(
            f"header: {read.name}",
            read.microseconds,
            "µs",
            below=_header_aim(read.name),
            remark="in this process, for one instance",
        )
        for read in measure_header_reads()
    ]


def _header_aim(name: str) -> float | None:
    """Return the aim; of what is not reading a header, none."""
    if not name.startswith("CT"):
        return None
    is_large = "with sequences" in name
    return _LARGE_HEADER_AIM_MICROSECONDS if is_large else _SMALL_HEADER_AIM_MICROSECONDS


RATES = Part("rates")
LARGE_RATES = Part("large")
RETRIEVE = Part(
    "retrieve",
    [
        measure_ceiling,
        measure_start,
        measure_sending_memory,
        measure_beside_slow_destination,
        measure_parallel_associations,
    ],
)
PARTS = (
    RATES,
    LARGE_RATES,
    Part("set-up", [measure_set_up]),
    Part("echo", [measure_echo]),
    Part("memory", [measure_memory]),
    Part("idle", [measure_idle]),
    Part("move", [measure_move]),
    RETRIEVE,
    Part("header", [_measure_headers]),
    Part("growth", [measure_growth], is_long=True),
)
