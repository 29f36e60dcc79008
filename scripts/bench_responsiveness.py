"""How quickly the node answers what is small: associations, and C-ECHO while others send."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench_figures import Figure, MeasureError
from bench_objects import CT, SMALL, Template
from bench_peers import DCMQRSCP, ORTHANC, PACSNODE, STORESCP, Server
from bench_requestor import VERIFICATION, Association, associate_rq
from bench_set_up import EVERYTHING, USUAL, Proposal, set_up_seconds
from bench_workspace import NODELAY, STOCK, Workspace

_MILLISECONDS_PER_SECOND = 1000
_SET_UP_PEERS = (PACSNODE, ORTHANC, DCMQRSCP, STORESCP)
_SET_UP_AIM_MILLISECONDS = 5
_ECHO_AIM_MILLISECONDS = 50
_SENDERS = 4
_PAUSE_SECONDS = 0.01  # between two C-ECHOs; so that they are no load
_LEAST_ECHOES = 20


def measure_set_up(workspace: Workspace) -> list[Figure]:
    """Set up associations one after the other, with all peers in turn."""
    set_ups = 20 if workspace.is_quick else 100
    figures = []
    with workspace.servers(_SET_UP_PEERS, STOCK) as servers:
        for proposal in (USUAL, EVERYTHING):
            workspace.progress(f"association set-up, {proposal.name}")
            seconds: dict[str, list[float]] = {server.peer.name: [] for server in servers}
            for _ in range(set_ups):
                for server in servers:
                    took = set_up_seconds(server.address, server.peer.ae_title, proposal)
                    seconds[server.peer.name].append(took)
            figures += [_set_up_figure(proposal, name, each) for name, each in seconds.items()]
    return figures


def measure_echo(workspace: Workspace) -> list[Figure]:
    """Send C-ECHOs while four associations store as fast as they can."""
    figures = []
    for kind in (CT, SMALL):
        workspace.progress(f"C-ECHO while {_SENDERS} senders send {kind.name} objects")
        with workspace.server(PACSNODE, NODELAY) as server:
            echoes, rate = _echoes_under_load(workspace, server, Template(kind))
        beside = f"beside {_SENDERS} senders of {kind.name} objects, {rate:.0f} instances/s"
        for is_own, how in ((False, "open association"), (True, "association of its own")):
            seconds = [each.seconds for each in echoes if each.has_own_association == is_own]
            figures += _echo_figures(f"C-ECHO, {how}, {kind.name}", seconds, beside)
    return figures


@dataclass(frozen=True, slots=True)
class _Echo:
    """A C-ECHO, on an open association or on one of its own, whose set-up and release count."""

    has_own_association: bool
    began_at: float
    seconds: float


def _echoes_under_load(
    workspace: Workspace, server: Server, template: Template
) -> tuple[list[_Echo], float]:
    """Return what was sent while the senders were at work, and how many instances they sent."""
    each = workspace.instances_for(server, template, _SENDERS, NODELAY)
    wanted_seconds = (2 if workspace.is_quick else 8) * workspace.run_seconds
    echoes, sent_seconds, sent = [], 0.0, 0
    with ThreadPoolExecutor(max_workers=1) as pool:
        while sent_seconds < wanted_seconds:
            sender = pool.submit(workspace.send, server, template, [each] * _SENDERS, NODELAY)
            answered = _echo_until(sender.done, server)
            sending = sender.result()
            if not sending.acknowledged:
                raise MeasureError(f"no instance was stored: {dict(sending.failures)}")
            ended_at = sending.began_at + sending.seconds
            # The others were sent before or after the load.
            echoes += [echo for echo in answered if sending.began_at <= echo.began_at <= ended_at]
            sent_seconds += sending.seconds
            sent += sending.acknowledged
    return echoes, sent / sent_seconds


def _echo_until(is_over: Callable[[], bool], server: Server) -> list[_Echo]:
    """Send C-ECHOs in both ways, in turn, until it is over."""
    request = associate_rq(server.peer.ae_title, [VERIFICATION])
    echoes = []

    def echo_on_its_own() -> None:
        with Association(server.address, request) as association:
            association.echo()

    with Association(server.address, request) as open_association:
        while not is_over():
            for is_own, echo in ((False, open_association.echo), (True, echo_on_its_own)):
                began_at, started_at = time.time(), time.perf_counter()
                echo()
                echoes.append(_Echo(is_own, began_at, time.perf_counter() - started_at))
                time.sleep(_PAUSE_SECONDS)
    return echoes


def _echo_figures(what: str, seconds: Sequence[float], beside: str) -> list[Figure]:
    milliseconds = [each * _MILLISECONDS_PER_SECOND for each in seconds]
    if len(milliseconds) < _LEAST_ECHOES:
        raise MeasureError(f"only {len(milliseconds)} C-ECHOs were answered {beside}")
    p99 = statistics.quantiles(milliseconds, n=100, method="inclusive")[98]
    remark = f"{beside}; {len(milliseconds)} echoes, the slowest {max(milliseconds):.1f} ms"
    return [
        Figure(f"{what}: median", statistics.median(milliseconds), "ms", remark=remark),
        Figure(f"{what}: p99", p99, "ms", below=_ECHO_AIM_MILLISECONDS, remark=remark),
    ]


def _set_up_figure(proposal: Proposal, name: str, seconds: Sequence[float]) -> Figure:
    milliseconds = [each * _MILLISECONDS_PER_SECOND for each in seconds]
    p95 = statistics.quantiles(milliseconds, n=100, method="inclusive")[94]
    return Figure(
        f"association set-up, {proposal.name}, {name}: median",
        statistics.median(milliseconds),
        "ms",
        below=_SET_UP_AIM_MILLISECONDS if name == PACSNODE.name else None,
        remark=f"p95 {p95:.1f} ms; {len(milliseconds)} one after the other",
    )
