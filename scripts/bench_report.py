"""The tables of the bench, for a terminal or as Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench_machine import Machine
from bench_peers import Peer
from bench_plan import Plan, Row, Table
from rich.console import Console
from rich.table import Table as RichTable

_MILLISECONDS_PER_SECOND = 1000
_PERCENTILE = 95
_BEARABLE_CORES = 0.3  # the kernel, which syncs for the servers, needs some of it
_NARROWEST = 120  # columns; wide enough for three peers where the output is no terminal


@dataclass(frozen=True, slots=True)
class _Grid:
    """A table as text, not laid out yet."""

    title: str
    header: list[str]
    rows: list[list[str]]


class Report:
    """Prints what was measured, in one of two forms."""

    def __init__(self, plan: Plan, *, as_markdown: bool) -> None:
        """Print to standard output."""
        self._peers = plan.peers
        self._as_markdown = as_markdown
        self._console = Console(soft_wrap=True, highlight=False)
        if not self._console.is_terminal:
            self._console.width = _NARROWEST
        self._plan = plan

    def print_table(self, table: Table) -> None:
        """Print the two tables of one environment."""
        self._print_grid(_rates(table, self._peers))
        self._print_grid(_set_ups(table, self._peers))
        self._print_lines([*_failures(table, self._peers), _sender_load(table, self._peers)])

    def print_remarks(self, machine: Machine, foreign_cores: float) -> None:
        """Print what one has to know to read the tables.

        Args:
            machine: where they come from.
            foreign_cores: how many cores others kept busy meanwhile.
        """
        plan = self._plan
        lines = [
            (
                f"Medians of {plan.runs} interleaved runs, in brackets the lowest and the highest; "
                "only instances answered with Success count. Each row starts with empty servers; "
                "one dcmsend for each association, on the same machine as the servers. "
                "In the heading: what is on the disk before Success is answered."
            ),
            (
                "Association set-up: from the TCP connect to the A-ASSOCIATE-AC, 128 contexts with "
                f"3 Transfer Syntaxes each, {plan.set_ups} associations one after the other."
            ),
            *(f"{peer.name}: {peer.settings}." for peer in self._peers),
            *machine.lines,
        ]
        if machine.is_disk_volatile:
            lines.append("Caution: this file system may not be on a disk; see --folder.")
        if foreign_cores > _BEARABLE_CORES:
            lines.append(
                f"Caution: other programs kept {foreign_cores:.1f} cores of this machine busy "
                "during the run; the figures are too low."
            )
        self._print_lines(lines)

    def _print_grid(self, grid: _Grid) -> None:
        if self._as_markdown:
            self._print_markdown(grid)
            return
        table = RichTable(title=grid.title, title_justify="left", title_style="bold")
        for place, title in enumerate(grid.header):
            table.add_column(title, justify="right" if place else "left")
        for row in grid.rows:
            table.add_row(*row)
        self._console.print(table)

    def _print_markdown(self, grid: _Grid) -> None:
        lines = [f"**{grid.title}**", "", _markdown_row(grid.header)]
        lines.append("|---|" + "---:|" * (len(grid.header) - 1))
        lines += [_markdown_row(row) for row in grid.rows]
        print("\n".join(lines), end="\n\n")

    def _print_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            if self._as_markdown:
                print(f"- {line}")
            else:
                self._console.print(line, markup=False)
        if lines:
            print()


def _rates(table: Table, peers: Sequence[Peer]) -> _Grid:
    """Return the rates of all peers, then how often the first one's rate is another's."""
    first, *others = peers
    header = ["instances/s", "associations"]
    header += [f"{peer.name} ({peer.durability})" for peer in peers]
    header += [f"{first.name} / {other.name}" for other in others]
    rows = [
        [row.kind.title, str(row.associations)]
        + [_rate(row, peer) for peer in peers]
        + [_ratio(row.rate(first), row.rate(other)) for other in others]
        for row in table.rows
    ]
    return _Grid(table.environment.title, header, rows)


def _rate(row: Row, peer: Peer) -> str:
    rates = row.rates(peer)
    spread = f" ({min(rates):.0f} to {max(rates):.0f})" if len(rates) > 1 else ""
    mark = f" [{row.failed(peer)} failed]" if row.failed(peer) else ""
    return f"{row.rate(peer):.0f}{spread}{mark}"


def _ratio(dividend: float, divisor: float) -> str:
    return f"{dividend / divisor:.2f}" if divisor else "-"


def _set_ups(table: Table, peers: Sequence[Peer]) -> _Grid:
    header = ["association set-up", *(peer.name for peer in peers)]
    milliseconds = [
        [seconds * _MILLISECONDS_PER_SECOND for seconds in table.set_up_seconds[peer.name]]
        for peer in peers
    ]
    return _Grid(
        f"{table.environment.title}: association set-up",
        header,
        [
            ["median", *(f"{statistics.median(each):.1f} ms" for each in milliseconds)],
            [f"p{_PERCENTILE}", *(f"{_percentile(each):.1f} ms" for each in milliseconds)],
        ],
    )


def _percentile(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[_PERCENTILE - 1]


def _failures(table: Table, peers: Sequence[Peer]) -> list[str]:
    """Return a line for each peer and row where something went wrong, and what it was."""
    lines = []
    for row in table.rows:
        for peer in peers:
            if row.failed(peer):
                offered = sum(each.offered for each in row.sendings[peer.name])
                causes = "; ".join(
                    f"{times} x {cause}" for cause, times in row.failures(peer).most_common(3)
                )
                lines.append(
                    f"{peer.name}, {row.kind.name}, {row.associations} associations: "
                    f"{row.failed(peer)} of {offered} instances failed: {causes}"
                )
    return lines


def _sender_load(table: Table, peers: Sequence[Peer]) -> str:
    """Return a line that tells whether the senders may have been what limits the rates."""
    cores = max(row.sender_load(peer) for row in table.rows for peer in peers)
    return f"The senders together used at most {cores:.1f} cores in a row of this table."


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
