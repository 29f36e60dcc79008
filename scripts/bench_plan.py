"""What is measured, in which order, so that no peer gets the better conditions.

How it works. For each environment, kind of object and number of associations, all peers are started
with nothing stored. A short warm-up tells how many instances each takes in the time that a
measurement should last. Then they are measured in turn, so that a slow minute of the machine
hits all of them, and each measurement begins with nothing left to be written to the disk.
"""

import os
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench_objects import ObjectKind, Template
from bench_peers import Peer, Server, running
from bench_senders import Sending, send
from bench_set_up import set_up_seconds

_WARM_UP_INSTANCES = 4  # for each association
_LEAST_INSTANCES = 4


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment of servers and senders says about Nagle's algorithm.

    Attributes:
        name: for the command line.
        title: for the tables.
        variables: added to the environment.
    """

    name: str
    title: str
    variables: Mapping[str, str] = field(default_factory=dict)


ENVIRONMENTS = (
    Environment("stock", "Stock senders and servers (Nagle's algorithm on in DCMTK)"),
    Environment("nodelay", "TCP_NODELAY=1 for senders and servers", {"TCP_NODELAY": "1"}),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        peers: the first one is compared with the others.
        environments: one table each.
        kinds: of objects.
        associations: how many at the same time, ascending.
        runs: measurements of each cell of a table.
        run_seconds: how long a measurement should last.
        set_ups: associations to set up for each peer.
    """

    peers: Sequence[Peer]
    environments: Sequence[Environment]
    kinds: Sequence[ObjectKind]
    associations: Sequence[int]
    runs: int
    run_seconds: float
    set_ups: int

    @property
    def steps(self) -> int:
        """How often `measure` reports progress."""
        cells = len(self.kinds) * len(self.associations) * (self.runs + 1) + 1
        return len(self.environments) * cells * len(self.peers)


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

    def failed(self, peer: Peer) -> int:
        """Return how many instances were not acknowledged, in all runs together."""
        return sum(each.offered - each.acknowledged for each in self.sendings[peer.name])

    def failures(self, peer: Peer) -> Counter[str]:
        """Return how often what went wrong, in all runs together."""
        return sum((each.failures for each in self.sendings[peer.name]), Counter[str]())

    def sender_load(self, peer: Peer) -> float:
        """Return how many cores the senders kept busy: 1.0 is one."""
        busy = sum(each.sender_cpu_seconds for each in self.sendings[peer.name])
        return busy / sum(each.seconds for each in self.sendings[peer.name])


@dataclass(frozen=True, slots=True)
class Table:
    """All that was measured in one environment.

    Attributes:
        environment: which.
        rows: in the order of the plan.
        set_up_seconds: of each association that was set up, by name of the peer.
    """

    environment: Environment
    rows: list[Row]
    set_up_seconds: Mapping[str, list[float]]


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the bench writes.

    Attributes:
        servers: what is kept; the disk that is measured.
        objects: what is sent; in memory if possible, so that it keeps no disk busy.
    """

    servers: Path
    objects: Path


def measure(plan: Plan, folders: Folders, progress: Callable[[str], None]) -> Iterator[Table]:
    """Carry out a plan, one table after the other.

    Args:
        plan: what to measure.
        folders: where to write; what is written there is removed again.
        progress: called with a few words before each step.

    Raises:
        PeerError: a server did not start.
        SendError: the senders could not be run.
    """
    for environment in plan.environments:
        bench = _Bench(plan, folders, progress, _variables(environment))
        set_ups = bench.set_ups()
        rows = [
            bench.row(kind, associations)
            for kind in plan.kinds
            for associations in plan.associations
        ]
        yield Table(environment, rows, set_ups)


def _variables(environment: Environment) -> dict[str, str]:
    """Return this process's environment without what would change a server or a sender."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "TCP_NODELAY" and not name.startswith(("PACSNODE_", "DCM", "TCP_BUFFER"))
    }
    if dictionary := os.environ.get("DCMDICTPATH"):  # DCMTK may have its data dictionary elsewhere
        clean["DCMDICTPATH"] = dictionary
    return {**clean, **environment.variables}


@dataclass(frozen=True, slots=True)
class _Bench:
    """Carries out the part of a plan that belongs to one environment."""

    plan: Plan
    folders: Folders
    progress: Callable[[str], None]
    variables: Mapping[str, str]
    series: Iterator[int] = field(default_factory=count)

    def set_ups(self) -> dict[str, list[float]]:
        """Set up associations, the peers in turn; return the seconds by name of the peer."""
        seconds: dict[str, list[float]] = {peer.name: [] for peer in self.plan.peers}
        with self._servers() as servers:
            for server in servers:
                self.progress(f"{server.peer.name}: association set-up")
            for _ in range(self.plan.set_ups):
                for server in servers:
                    took = set_up_seconds(server.address, server.peer.ae_title)
                    seconds[server.peer.name].append(took)
        return seconds

    def row(self, kind: ObjectKind, associations: int) -> Row:
        """Measure all peers with one kind of object and number of associations."""
        template = Template(kind)
        sendings: dict[str, list[Sending]] = {peer.name: [] for peer in self.plan.peers}
        with self._servers() as servers:
            counts = {}
            for server in servers:
                warm_up = self._send(server, template, associations, _WARM_UP_INSTANCES)
                counts[server.peer.name] = self._count(kind, associations, warm_up.rate)
            for _ in range(self.plan.runs):
                for server in servers:
                    sending = self._send(server, template, associations, counts[server.peer.name])
                    sendings[server.peer.name].append(sending)
        return Row(kind, associations, sendings)

    def _count(self, kind: ObjectKind, associations: int, rate: float) -> int:
        """Return how many instances each association sends in a measurement."""
        wanted = min(rate * self.plan.run_seconds, kind.most_instances)
        return max(round(wanted / associations), _LEAST_INSTANCES)

    def _send(self, server: Server, template: Template, associations: int, each: int) -> Sending:
        self.progress(f"{server.peer.name}: {template.kind.name}, {associations} associations")
        folder = self.folders.objects / "objects"
        try:
            batches = [
                template.write_series(folder / str(number), next(self.series), each)
                for number in range(associations)
            ]
            # Else a server that syncs would have to write what another one has left.
            os.sync()
            return send(server, batches, self.folders.objects / "senders", self.variables)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _servers(self) -> Iterator[list[Server]]:
        """Run all peers, with nothing stored, during the block."""
        with ExitStack() as stack:
            servers = []
            for peer in self.plan.peers:
                folder = self.folders.servers / peer.name
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                servers.append(stack.enter_context(running(peer, folder, self.variables)))
            yield servers
