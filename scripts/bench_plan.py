"""How many instances a second each peer takes, measured so that none gets the better conditions.

How it works. For each kind of object and number of associations, all peers are started with
nothing stored. A warm-up tells how many instances each takes in the time that a measurement should
last. Then they are measured in turn, so that a slow minute of the machine hits all of them, and
each measurement begins with nothing left to be written to the disk.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_figures import Figure
from bench_objects import CT, LARGE, SMALL, ObjectKind, Template
from bench_peers import DCMQRSCP, ORTHANC, PACSNODE, PACSNODE_FILE, PACSNODE_NONE, STORESCP, Peer
from bench_senders import Sending
from bench_workspace import NODELAY, STOCK, Environment, Workspace


@dataclass(frozen=True, slots=True)
class Plan:
    """One table of rates.

    Attributes:
        environment: of servers and senders.
        kinds: of objects.
        associations: how many at the same time, ascending.
        peers: the columns.
    """

    environment: Environment
    kinds: Sequence[ObjectKind]
    associations: Sequence[int]
    peers: Sequence[Peer]


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of one kind and number of associations, by name of the peer."""

    kind: ObjectKind
    associations: int
    sendings: Mapping[str, list[Sending]]

    def rates(self, peer: Peer) -> list[float]:
        """Return the rates of a peer, one for each run."""
        return [sending.rate for sending in self.sendings[peer.name]]

    def rate(self, peer: Peer) -> float:
        """Return the median of the rates of a peer."""
        return statistics.median(self.rates(peer))

    def ratio(self, peer: Peer, other: Peer) -> float:
        """Return how many times as fast as another a peer is; not a number if that took nothing."""
        return self.rate(peer) / self.rate(other) if self.rate(other) else float("nan")

    def failed(self, peer: Peer) -> int:
        """Return how many instances were not acknowledged, in all runs together."""
        return sum(each.offered - each.acknowledged for each in self.sendings[peer.name])

    def failures(self, peer: Peer) -> Counter[str]:
        """Return how often what went wrong, in all runs together."""
        return sum((each.failures for each in self.sendings[peer.name]), Counter[str]())

    def sender_load(self, peer: Peer) -> float:
        """Return how many cores the senders kept busy: 1.0 is one."""
        busy = sum(each.sender_cpu_seconds for each in self.sendings[peer.name])
        passed = sum(each.seconds for each in self.sendings[peer.name])
        return busy / passed if passed else 0.0


@dataclass(frozen=True, slots=True)
class Table:
    """The rates that a plan asked for, its rows in order."""

    plan: Plan
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times as fast as another a peer is to be.

    Attributes:
        peer: which.
        other: which.
        least: by names of environment and kind of object, then by number of associations.
    """

    peer: Peer
    other: Peer
    least: Mapping[tuple[str, str], Mapping[int, float]]

    def least_for(self, environment: Environment, row: Row) -> float | None:
        """Return the aim for a row of an environment's table, if there is one."""
        by_associations = self.least.get((environment.name, row.kind.name), {})
        return by_associations.get(row.associations)


_STOCK_AIMS = {
    (STOCK.name, CT.name): {1: 10.0, 4: 5.0, 16: 2.5},
    (STOCK.name, SMALL.name): {1: 10.0, 4: 5.0, 16: 2.5},
}
COMPARISONS = (
    Comparison(
        PACSNODE,
        ORTHANC,
        {
            **_STOCK_AIMS,
            (NODELAY.name, CT.name): {1: 1.5, 4: 1.5, 16: 1.5},
            (NODELAY.name, SMALL.name): {1: 1.0, 4: 1.0, 16: 1.0},
            (NODELAY.name, LARGE.name): {1: 4.0},
        },
    ),
    Comparison(PACSNODE, DCMQRSCP, _STOCK_AIMS),
    # The same promise on both sides.
    Comparison(PACSNODE_FILE, ORTHANC, {}),
    Comparison(
        PACSNODE_NONE,
        STORESCP,
        {(NODELAY.name, CT.name): {1: 0.9, 4: 0.9}, (NODELAY.name, SMALL.name): {1: 0.6, 4: 0.6}},
    ),
)


def measure_rates(plan: Plan, workspace: Workspace) -> Table:
    """Carry out a plan.

    Raises:
        PeerError: a server did not start.
        SendError: the senders could not be run.
    """
    rows = [
        _measure_row(plan, kind, associations, workspace)
        for kind in plan.kinds
        for associations in plan.associations
    ]
    return Table(plan, rows)


def comparisons_of(plan: Plan) -> list[Comparison]:
    """Return the comparisons whose peers are both in a plan."""
    return [each for each in COMPARISONS if {each.peer, each.other} <= set(plan.peers)]


def ratios(table: Table) -> list[Figure]:
    """Return the ratios of a table for which there is an aim."""
    return [
        Figure(
            f"{comparison.peer.name} / {comparison.other.name}, {table.plan.environment.name}, "
            f"{row.kind.name}, {_associations(row.associations)}",
            row.ratio(comparison.peer, comparison.other),
            "times",
            at_least=least,
        )
        for comparison in comparisons_of(table.plan)
        for row in table.rows
        if (least := comparison.least_for(table.plan.environment, row)) is not None
    ]


def _measure_row(plan: Plan, kind: ObjectKind, associations: int, workspace: Workspace) -> Row:
    """Measure all peers with one kind of object and number of associations."""
    template = Template(kind)
    sendings: dict[str, list[Sending]] = {peer.name: [] for peer in plan.peers}

    def say(peer: Peer) -> None:
        workspace.progress(
            f"{plan.environment.name}, {kind.name}, {_associations(associations)}: {peer.name}"
        )

    with workspace.servers(plan.peers, plan.environment) as servers:
        instances = {}
        for server in servers:
            say(server.peer)
            instances[server.peer.name] = workspace.instances_for(
                server, template, associations, plan.environment
            )
        for _ in range(workspace.runs):
            for server in servers:
                say(server.peer)
                each = [instances[server.peer.name]] * associations
                sending = workspace.send(server, template, each, plan.environment)
                sendings[server.peer.name].append(sending)
    return Row(kind, associations, sendings)


def _associations(number: int) -> str:
    return "1 association" if number == 1 else f"{number} associations"
