"""Whether a destination is sent to at its rate beside a slow one, and over several associations."""

import statistics
from dataclasses import replace

from bench_figures import Figure
from bench_move import SLOW_AE_TITLE, SLOWLY_MOVED_INSTANCES, slow_move
from bench_objects import CT, SMALL, ObjectKind, Template
from bench_peers import PACSNODE, KnownAE, Server, free_port
from bench_retrieve_client import C_MOVE, REQUESTOR, Client, Study
from bench_retrieve_rates import LARGEST_LENGTH_BYTES, repeats_for
from bench_retrieve_receiver import Receiver, new_receiver, running_receivers
from bench_workspace import NODELAY, Workspace

_AIM_PERCENT = 80
_LEAST_RUNS = 2
_INSTANCES = {CT.name: 200, SMALL.name: 500}
_ASSOCIATIONS = 4
_PARALLEL_AE_TITLE = "PARALLEL"


def measure_beside_slow_destination(workspace: Workspace) -> list[Figure]:
    """Measure the rate of a C-MOVE in turn without and with one to a slow destination."""
    receiver, slow_port = new_receiver(LARGEST_LENGTH_BYTES), free_port()
    known = (REQUESTOR, receiver.known, KnownAE(SLOW_AE_TITLE, slow_port))
    client = _client(workspace)
    without, beside = [], []
    with (
        running_receivers([receiver], client.variables),
        workspace.server(replace(PACSNODE, known=known), NODELAY) as server,
    ):
        workspace.progress("C-MOVE beside one to a slow destination")
        slow = workspace.archive_study(server, Template(SMALL), SLOWLY_MOVED_INSTANCES, NODELAY)
        study = _archive(workspace, server, CT)
        client.verify(study, C_MOVE, receiver)
        warm = client.retrieve(study, C_MOVE, receiver)
        repeats = repeats_for(warm, workspace.run_seconds)
        for _ in range(max(workspace.runs, _LEAST_RUNS)):
            without.append(client.retrieve(study, C_MOVE, receiver, repeats).rate)
            with slow_move(workspace, server, slow, slow_port):
                beside.append(client.retrieve(study, C_MOVE, receiver, repeats).rate)
    rate = statistics.median(without)
    return [
        Figure(
            "rate of a C-MOVE beside one to a slow destination",
            100 * statistics.median(beside) / rate,
            "% of that without",
            at_least=_AIM_PERCENT,
            remark=f"CT objects, {rate:.0f} instances/s without; the slow destination takes one "
            "instance a second",
        )
    ]


def measure_parallel_associations(workspace: Workspace) -> list[Figure]:
    """Measure the rate to a destination that is given several associations, and one."""
    receiver = new_receiver(LARGEST_LENGTH_BYTES)
    parallel = replace(receiver, ae_title=_PARALLEL_AE_TITLE)
    known = (REQUESTOR, receiver.known, KnownAE(parallel.ae_title, parallel.port, _ASSOCIATIONS))
    client = _client(workspace)
    peer = replace(PACSNODE, known=known)
    with (
        running_receivers([receiver], client.variables),
        workspace.server(peer, NODELAY) as server,
    ):
        figures = []
        for kind in (CT, SMALL):
            workspace.progress(f"{_ASSOCIATIONS} associations to a destination: {kind.name}")
            study = _archive(workspace, server, kind)
            one, several = _rates(workspace, client, study, [receiver, parallel])
            figures.append(_parallel_figure(kind, one, several))
        return figures


def _parallel_figure(kind: ObjectKind, one: float, several: float) -> Figure:
    return Figure(
        f"C-MOVE over {_ASSOCIATIONS} associations, {kind.name}",
        several / one,
        "times as fast as over one",
        remark=f"{several:.0f} instances/s; over one association {one:.0f}",
    )


def _rates(
    workspace: Workspace, client: Client, study: Study, receivers: list[Receiver]
) -> list[float]:
    """Return the median rate to each of some receivers, measured in turn."""
    rates: dict[str, list[float]] = {receiver.ae_title: [] for receiver in receivers}
    for receiver in receivers:
        client.verify(study, C_MOVE, receiver)
    warm = client.retrieve(study, C_MOVE, receivers[0])
    repeats = repeats_for(warm, workspace.run_seconds)
    for _ in range(workspace.runs):
        for receiver in receivers:
            rate = client.retrieve(study, C_MOVE, receiver, repeats).rate
            rates[receiver.ae_title].append(rate)
    return [statistics.median(each) for each in rates.values()]


def _client(workspace: Workspace) -> Client:
    return Client(workspace.folders.objects / "retrieve", NODELAY.variables())


def _archive(workspace: Workspace, server: Server, kind: ObjectKind) -> Study:
    instances = _INSTANCES[kind.name]
    uid = workspace.archive_study(server, Template(kind), instances, NODELAY)
    return Study(server, uid, instances)
