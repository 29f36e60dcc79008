"""The tables of retrieval."""

import statistics

from bench_peers import Peer
from bench_report import Grid, spread
from bench_retrieve_rates import RetrieveRow, RetrieveTable
from bench_workspace import Workspace

_LABELS = ["objects", "service", "PDUs"]
_TEXT_COLUMNS = frozenset({0, 1})


def retrieve_grids(table: RetrieveTable) -> list[Grid]:
    """Return the rates of all peers, and the ratios of those that are compared."""
    return [_rates(table), *([_ratios(table)] if table.comparisons() else [])]


def retrieve_remark(workspace: Workspace) -> str:
    """Return what one has to know to read the tables."""
    return (
        f"Retrieval: medians of {workspace.runs} interleaved runs, in brackets the lowest and the "
        "highest; a run in which an instance failed would have no rate. The studies have been "
        "read before. The time is that from the C-MOVE or C-GET request to its final response, "
        "as movescu and getscu log it; what is quick is retrieved several times in one "
        "association. C-MOVE sends to storescp --fork --ignore; C-GET is asked for by getscu "
        "--ignore; nobody writes. PDUs: the greatest that storescp and getscu take; 16 KiB is "
        "their default."
    )


def _rates(table: RetrieveTable) -> Grid:
    peers = table.plan.peers
    rows = [[*_labels(row), *(_rate(row, peer) for peer in peers)] for row in table.rows]
    return Grid(
        f"Retrieval, instances/s, {table.plan.environment.title}",
        [*_LABELS, *(peer.name for peer in peers)],
        rows,
        _TEXT_COLUMNS,
    )


def _ratios(table: RetrieveTable) -> Grid:
    comparisons = table.comparisons()
    rows = [
        [*_labels(row), *(f"{row.ratio(peer, other):.2f}" for peer, other in comparisons)]
        for row in table.rows
    ]
    return Grid(
        f"Retrieval, times as fast, {table.plan.environment.title}",
        [*_LABELS, *(f"{peer.name} / {other.name}" for peer, other in comparisons)],
        rows,
        _TEXT_COLUMNS,
    )


def _labels(row: RetrieveRow) -> list[str]:
    return [row.kind.title, row.service.name, row.receiver.pdus]


def _rate(row: RetrieveRow, peer: Peer) -> str:
    rates = row.rates(peer)
    return spread(statistics.median(rates), rates) if rates else "failed"
