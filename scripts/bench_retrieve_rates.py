"""How many instances a second each peer gives back by C-MOVE and C-GET, under the same conditions.

How it works. For each kind of object, all peers are started with nothing stored and are given a
study, as large as they can give back in the time that a measurement should last, or as the kind
allows; then it is retrieved again and again. For each service and length of PDUs, a first
retrieval, which does not count, is checked by its counters. Then the peers are measured in turn, so
that a slow minute of the machine hits all of them. A peer that fails has no rate, the others do.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from bench_figures import Figure
from bench_objects import CT, SMALL, ObjectKind, Template
from bench_peers import DCMQRSCP, ORTHANC, PACSNODE, Peer, Server
from bench_retrieve_client import (
    C_MOVE,
    REQUESTOR,
    SERVICES,
    Client,
    Retrieval,
    RetrieveError,
    Service,
    Study,
)
from bench_retrieve_receiver import Receiver, new_receiver, running_receivers
from bench_workspace import NODELAY, STOCK, Environment, Workspace

RETRIEVE_PEERS = (PACSNODE, ORTHANC, DCMQRSCP)
DEFAULT_LENGTH_BYTES = 16384  # of DCMTK
LARGEST_LENGTH_BYTES = 131072  # that DCMTK can

_WARM_UP_INSTANCES = 8
_MOST_INSTANCES = {CT.name: 400, SMALL.name: 1000}  # of a study
_MOST_REPEATS = 50
_STOCK_AIM = 20.0
_NODELAY_AIM = 1.0


@dataclass(frozen=True, slots=True)
class RetrievePlan:
    """One table of rates.

    Attributes:
        environment: of servers, receivers and requestors.
        kinds: of objects.
        peers: the columns.
        lengths: greatest lengths of the PDUs that receivers and requestors take, in bytes.
    """

    environment: Environment
    kinds: Sequence[ObjectKind]
    peers: Sequence[Peer]
    lengths: Sequence[int]


@dataclass(frozen=True, slots=True)
class RetrieveRow:
    """The measurements with one kind of object, service and length of PDUs.

    Attributes:
        kind: of object.
        service: by which the study was retrieved.
        receiver: of the instances.
        retrievals: by name of the peer; one for each run, none of a peer that has failed.
    """

    kind: ObjectKind
    service: Service
    receiver: Receiver
    retrievals: Mapping[str, list[Retrieval]]

    @property
    def name(self) -> str:
        """What was measured, in a few words."""
        return f"{self.service.name}, {self.kind.name}, {self.receiver.pdus}"

    def rates(self, peer: Peer) -> list[float]:
        """Return the rates of a peer, one for each run; none if it has failed."""
        return [retrieval.rate for retrieval in self.retrievals[peer.name]]

    def ratio(self, peer: Peer, other: Peer) -> float:
        """Return how many times as fast as another a peer is; not a number if one has failed."""
        mine, theirs = self.rates(peer), self.rates(other)
        both_have_rates = mine and theirs
        return statistics.median(mine) / statistics.median(theirs) if both_have_rates else math.nan


@dataclass(frozen=True, slots=True)
class RetrieveTable:
    """The rates that a plan asked for, and in a line each what has failed."""

    plan: RetrievePlan
    rows: list[RetrieveRow] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def comparisons(self) -> list[tuple[Peer, Peer]]:
        """Return pacsnode with each other peer, if it was measured."""
        others = [peer for peer in self.plan.peers if peer != PACSNODE]
        return [(PACSNODE, other) for other in others] if PACSNODE in self.plan.peers else []


def retrieve_plans(
    environments: Sequence[Environment], kinds: Sequence[ObjectKind], peers: Sequence[Peer]
) -> list[RetrievePlan]:
    """Return what to measure, of what was chosen; nothing if no peer of this part was chosen.

    The stock environment waits for timers, whatever the length of the PDUs.
    """
    compared = [peer for peer in RETRIEVE_PEERS if peer in peers]
    lengths = {
        STOCK.name: [DEFAULT_LENGTH_BYTES],
        NODELAY.name: [DEFAULT_LENGTH_BYTES, LARGEST_LENGTH_BYTES],
    }
    return [
        RetrievePlan(environment, kinds, compared, lengths[environment.name])
        for environment in environments
        if compared
    ]


def measure_retrieve_rates(plan: RetrievePlan, workspace: Workspace) -> RetrieveTable:
    """Carry out a plan.

    Raises:
        PeerError: a server did not start.
        SendError: a study could not be stored.
        MeasureError: a receiver did not start.
    """
    table = RetrieveTable(plan)
    for kind in plan.kinds:
        _measure_kind(table, kind, workspace)
    return table


def retrieve_ratios(table: RetrieveTable) -> list[Figure]:
    """Return the ratios of a table; there is an aim for each."""
    environment = table.plan.environment
    aim = _STOCK_AIM if environment == STOCK else _NODELAY_AIM
    return [
        Figure(
            f"{peer.name} / {other.name}, {environment.name}, {row.name}",
            row.ratio(peer, other),
            "times",
            at_least=aim,
        )
        for peer, other in table.comparisons()
        for row in table.rows
    ]


def repeats_for(retrieval: Retrieval, seconds: float) -> int:
    """Return how often to do what took as long as a retrieval did, for so many seconds."""
    return min(max(math.ceil(seconds / retrieval.seconds), 1), _MOST_REPEATS)


def _measure_kind(table: RetrieveTable, kind: ObjectKind, workspace: Workspace) -> None:
    """Measure all peers with one kind of object."""
    plan = table.plan
    receivers = [new_receiver(length) for length in plan.lengths]
    known = (REQUESTOR, *(receiver.known for receiver in receivers))
    peers = [replace(peer, known=known) for peer in plan.peers]
    client = Client(workspace.folders.objects / "retrieve", plan.environment.variables())
    with ExitStack() as stack:
        stack.enter_context(running_receivers(receivers, client.variables))
        servers = stack.enter_context(workspace.servers(peers, plan.environment))
        contest = _Contest(table, kind, client, workspace)
        studies = [contest.archive(server, receivers[0]) for server in servers]
        for service in SERVICES:
            for receiver in receivers:
                contest.measure(studies, service, receiver)


@dataclass(frozen=True, slots=True)
class _Contest:
    """The measurements of one kind of object; they are added to a table."""

    table: RetrieveTable
    kind: ObjectKind
    client: Client
    workspace: Workspace

    def archive(self, server: Server, receiver: Receiver) -> Study:
        """Let a server have a study that is large enough."""
        self._say("archiving", server)
        study = self._archive(server, _WARM_UP_INSTANCES)
        most = _MOST_INSTANCES[self.kind.name]
        try:
            self.client.verify(study, C_MOVE, receiver)
            rate = self.client.retrieve(study, C_MOVE, receiver).rate
        except RetrieveError:  # it is told when it is measured
            return study
        wanted = round(rate * self.workspace.run_seconds)
        return self._archive(server, min(max(wanted, _WARM_UP_INSTANCES), most))

    def measure(self, studies: Sequence[Study], service: Service, receiver: Receiver) -> None:
        """Add a row."""
        retrievals: dict[str, list[Retrieval]] = {study.server.peer.name: [] for study in studies}
        row = RetrieveRow(self.kind, service, receiver, retrievals)
        self.table.rows.append(row)
        repeats: dict[str, int] = {}
        for study in studies:
            self._say(f"{row.name}: warm-up", study.server)
            try:
                self.client.verify(study, service, receiver)
                warm = self.client.retrieve(study, service, receiver)
            except RetrieveError as error:
                self._note(row, study, error)
            else:
                repeats[study.server.peer.name] = repeats_for(warm, self.workspace.run_seconds)
        for _ in range(self.workspace.runs):
            for study in studies:
                self._run(row, study, repeats)

    def _run(self, row: RetrieveRow, study: Study, repeats: dict[str, int]) -> None:
        """Measure a peer once, unless it has failed before."""
        name = study.server.peer.name
        if name not in repeats:
            return
        self._say(row.name, study.server)
        try:
            retrieval = self.client.retrieve(study, row.service, row.receiver, repeats[name])
        except RetrieveError as error:
            row.retrievals[name].clear()
            del repeats[name]
            self._note(row, study, error)
        else:
            row.retrievals[name].append(retrieval)

    def _archive(self, server: Server, instances: int) -> Study:
        uid = self.workspace.archive_study(server, Template(self.kind), instances, NODELAY)
        return Study(server, uid, instances)

    def _say(self, what: str, server: Server) -> None:
        environment = self.table.plan.environment.name
        self.workspace.progress(f"{environment}, {self.kind.name}: {what}: {server.peer.name}")

    def _note(self, row: RetrieveRow, study: Study, error: RetrieveError) -> None:
        where = f"{study.server.peer.name}, {self.table.plan.environment.name}, {row.name}"
        self.table.failures.append(f"{where}: {error}")
