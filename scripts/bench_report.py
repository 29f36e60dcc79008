"""The tables of the bench, for a terminal or as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench_figures import Figure
from bench_machine import Machine
from bench_peers import Peer
from bench_plan import Comparison, Row, Table, comparisons_of
from bench_workspace import Workspace
from rich.console import Console
from rich.table import Table as RichTable

_BEARABLE_CORES = 0.3  # the kernel, which syncs for the servers, needs some of it
_FEW = 10  # a second; fewer are told with digits behind the point
_NARROWEST = 160  # columns; wide enough for all peers where the output is no terminal


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as text, not laid out yet.

    Attributes:
        title: above it.
        header: the titles of the columns.
        rows: the cells.
        text_columns: places of those that are not numbers.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    text_columns: frozenset[int] = frozenset({0})

    def is_text(self, column: int) -> bool:
        """Tell whether a column is to be read from the left."""
        return column in self.text_columns


class Report:
    """Prints what was measured, in one of two forms."""

    def __init__(self, *, as_markdown: bool) -> None:
        """Print to standard output."""
        self._as_markdown = as_markdown
        self._console = Console(soft_wrap=True, highlight=False)
        if not self._console.is_terminal:
            self._console.width = _NARROWEST

    def print_table(self, table: Table) -> None:
        """Print the rates of all peers, and the ratios of those that are compared."""
        self.print_grid(_rates(table))
        comparisons = comparisons_of(table.plan)
        if comparisons:
            self.print_grid(_ratios(table, comparisons))
        self._print_lines([*_failures(table), _sender_load(table)])

    def print_figures(self, figures: Sequence[Figure]) -> None:
        """Print what is no rate."""
        rows = [[each.what, each.measured, each.remark] for each in figures]
        if rows:
            self.print_grid(
                Grid("Further measures", ["", "measured", "how"], rows, frozenset({0, 2}))
            )

    def print_failures(self, failures: Sequence[str]) -> None:
        """Print what could not be measured, and why."""
        self._print_lines([f"Not measured: {' '.join(failure.split())}" for failure in failures])

    def print_aims(self, aims: Sequence[Figure]) -> None:
        """Print which aims are met."""
        rows = [
            [each.what, each.aim, each.measured, "yes" if each.is_met else "no"] for each in aims
        ]
        if rows:
            self.print_grid(Grid("Aims", ["", "aim", "measured", "met"], rows))

    def print_remarks(
        self, what: Sequence[str], peers: Sequence[Peer], machine: Machine, foreign_cores: float
    ) -> None:
        """Print what one has to know to read the tables.

        Args:
            what: was measured, a line for each kind of table.
            peers: that stand in them.
            machine: where all comes from.
            foreign_cores: how many cores others kept busy meanwhile.
        """
        lines = [*what, *(f"{peer.name}: {peer.settings}." for peer in peers), *machine.lines]
        if machine.is_disk_volatile:
            lines.append("Caution: this file system may not be on a disk; see --folder.")
        if foreign_cores > _BEARABLE_CORES:
            lines.append(
                f"Caution: other programs kept {foreign_cores:.1f} cores of this machine busy "
                "during the run; the figures are too low."
            )
        self._print_lines(lines)

    def print_grid(self, grid: Grid) -> None:
        """Print a table."""
        if self._as_markdown:
            self._print_markdown(grid)
            return
        table = RichTable(title=grid.title, title_justify="left", title_style="bold")
        for place, title in enumerate(grid.header):
            table.add_column(title, justify="left" if grid.is_text(place) else "right")
        for row in grid.rows:
            table.add_row(*row)
        self._console.print(table)

    def _print_markdown(self, grid: Grid) -> None:
        lines = [f"**{grid.title}**", "", _markdown_row(grid.header)]
        lines.append(
            "|"
            + "|".join("---" if grid.is_text(at) else "---:" for at in range(len(grid.header)))
            + "|"
        )
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


def rates_remark(workspace: Workspace) -> str:
    """Return what one has to know to read the tables of rates."""
    return (
        f"Rates: medians of {workspace.runs} interleaved runs, in brackets the "
        "lowest and the highest; only instances answered with Success count. Each row "
        "starts with empty servers; one dcmsend for each association, on the same machine "
        "as the servers; the time counts in which all of them are at work. In the heading: "
        "what is on the disk before Success is answered."
    )


def spread(median: float, rates: Sequence[float]) -> str:
    """Return a rate for a table, and in brackets the lowest and the highest if there are more."""
    digits = 0 if min(rates) > _FEW else 2
    around = f" ({min(rates):.{digits}f} to {max(rates):.{digits}f})" if len(rates) > 1 else ""
    return f"{median:.{digits}f}{around}"


def _rates(table: Table) -> Grid:
    peers = table.plan.peers
    header = ["instances/s", "associations"]
    header += [f"{peer.name} ({peer.durability})" for peer in peers]
    rows = [
        [row.kind.title, str(row.associations), *(_rate(row, peer) for peer in peers)]
        for row in table.rows
    ]
    return Grid(f"Rates, {table.plan.environment.title}", header, rows)


def _rate(row: Row, peer: Peer) -> str:
    mark = f" [{row.failed(peer)} failed]" if row.failed(peer) else ""
    return f"{spread(row.rate(peer), row.rates(peer))}{mark}"


def _ratios(table: Table, comparisons: Sequence[Comparison]) -> Grid:
    header = ["times as fast", "associations"]
    header += [f"{each.peer.name} / {each.other.name}" for each in comparisons]
    rows = [
        [row.kind.title, str(row.associations)]
        + [f"{row.ratio(each.peer, each.other):.2f}" for each in comparisons]
        for row in table.rows
    ]
    return Grid(f"Ratios, {table.plan.environment.title}", header, rows)


def _failures(table: Table) -> list[str]:
    """Return a line for each peer and row where something went wrong, and what it was."""
    lines = []
    for row in table.rows:
        for peer in table.plan.peers:
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


def _sender_load(table: Table) -> str:
    """Return a line that tells whether the senders may have been what limits the rates."""
    cores = max(row.sender_load(peer) for row in table.rows for peer in table.plan.peers)
    return f"The senders together used at most {cores:.1f} cores in a row of this table."


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
