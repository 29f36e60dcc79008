"""What the node needs: memory while it receives, and processor time while nobody asks anything."""

import time
from contextlib import ExitStack

from bench_figures import Figure, MeasureError
from bench_objects import CT, HUGE, SMALL, Template
from bench_peers import PACSNODE, Server
from bench_processes import Processes, sampled
from bench_requestor import Association, associate_rq
from bench_senders import Sending
from bench_set_up import USUAL
from bench_workspace import NODELAY, Workspace

_BYTES_PER_MEGABYTE = 1_000_000
_HUGE_AIM_MEGABYTES = 80
_PARALLEL_AIM_MEGABYTES = 400
_GROWTH_AIM_MEGABYTES = 5  # "no growth"; the allocator and SQLite's cache move by this much
_IDLE_AIM_PERCENT = 0.5
_SAMPLE_SECONDS = 0.02
_WARM_UP_ASSOCIATIONS = 16  # so that each worker has had some
_PARALLEL_ASSOCIATIONS = 64
_INSTANCES_OF_EACH_PARALLEL = 32  # enough for the last to begin before the first is done
_IDLE_ASSOCIATIONS = 100
_GROWTH_BATCH = 10_000
_GROWTH_BATCHES = 10


def measure_memory(workspace: Workspace) -> list[Figure]:
    """Send an object of 1 GB, and CT Images over many associations at the same time."""
    return [*_huge_object(workspace), *_parallel_associations(workspace)]


def measure_growth(workspace: Workspace) -> list[Figure]:
    """Send 100,000 small objects; compare the memory after the first tenth with that at the end."""
    template, sizes = Template(SMALL), []
    with workspace.server(PACSNODE, NODELAY) as server:
        processes = Processes(server.session)
        for batch in range(_GROWTH_BATCHES):
            workspace.progress(f"growth: {batch * _GROWTH_BATCH} instances")
            _send(workspace, server, template, [_GROWTH_BATCH // 4] * 4)
            sizes.append(processes.proportional_bytes() / _BYTES_PER_MEGABYTE)
    return [
        Figure(
            f"growth of the whole node over {_GROWTH_BATCH * _GROWTH_BATCHES} instances",
            sizes[-1] - sizes[0],
            "MB",
            below=_GROWTH_AIM_MEGABYTES,
            remark=f"Pss after each tenth: {', '.join(f'{size:.0f}' for size in sizes)} MB",
        )
    ]


def measure_idle(workspace: Workspace) -> list[Figure]:
    """Keep associations open without a word; count the processor time of the node."""
    idle_seconds = 5 if workspace.is_quick else 30
    workspace.progress(f"{_IDLE_ASSOCIATIONS} idle associations")
    request = associate_rq(PACSNODE.ae_title, USUAL.abstract_syntaxes)
    with workspace.server(PACSNODE, NODELAY) as server, ExitStack() as stack:
        processes = Processes(server.session)
        for _ in range(_IDLE_ASSOCIATIONS):
            stack.enter_context(Association(server.address, request))
        time.sleep(1)  # what setting up has started is over by then
        before, started_at = processes.cpu_seconds(), time.monotonic()
        time.sleep(idle_seconds)
        busy_seconds = processes.cpu_seconds() - before
        passed_seconds = time.monotonic() - started_at
        size = processes.proportional_bytes() / _BYTES_PER_MEGABYTE
    return [
        Figure(
            f"processor time with {_IDLE_ASSOCIATIONS} idle associations",
            100 * busy_seconds / passed_seconds,
            "% of a core",
            below=_IDLE_AIM_PERCENT,
            remark=f"user and system time of all processes over {passed_seconds:.0f} s; "
            f"they have {size:.0f} MB (Pss)",
        )
    ]


def most_growth(before: dict[int, int], most: dict[int, int]) -> float:
    """Return by how many megabytes the process that grew most has grown.

    Args:
        before: bytes, by process id.
        most: bytes, by process id; a process that was not there before has grown by all of them.
    """
    growth = max(size - before.get(process_id, 0) for process_id, size in most.items())
    return growth / _BYTES_PER_MEGABYTE


def _huge_object(workspace: Workspace) -> list[Figure]:
    workspace.progress(f"memory: {HUGE.title}")
    with workspace.server(PACSNODE, NODELAY) as server:
        _send(workspace, server, Template(SMALL), [4] * _WARM_UP_ASSOCIATIONS)
        processes = Processes(server.session)
        resident, anonymous = processes.resident_bytes(), processes.anonymous_bytes()
        processes.reset_peak()
        with sampled(processes.anonymous_bytes, _SAMPLE_SECONDS) as most_anonymous:
            sending = _send(workspace, server, Template(HUGE), [1])
        peak = processes.peak_bytes()
    megabytes = HUGE.pixels_length / _BYTES_PER_MEGABYTE
    what = f"growth of the worker while it receives an object of {megabytes:.0f} MB"
    return [
        Figure(
            what,
            most_growth(resident, peak),
            "MB",
            below=_HUGE_AIM_MEGABYTES,
            remark="resident memory: VmHWM, reset before, less VmRSS before; received in "
            f"{sending.seconds:.1f} s",
        ),
        Figure(
            f"{what}, without files",
            most_growth(anonymous, most_anonymous.values),
            "MB",
            remark=f"Anonymous of smaps_rollup, sampled every {_SAMPLE_SECONDS * 1000:.0f} ms",
        ),
    ]


def _parallel_associations(workspace: Workspace) -> list[Figure]:
    workspace.progress(f"memory: {_PARALLEL_ASSOCIATIONS} associations")
    with workspace.server(PACSNODE, NODELAY) as server:
        processes = Processes(server.session)

        def sample() -> dict[int, int]:
            return {server.session: processes.proportional_bytes()}

        before = processes.proportional_bytes()
        with sampled(sample, _SAMPLE_SECONDS) as most:
            instances = [_INSTANCES_OF_EACH_PARALLEL] * _PARALLEL_ASSOCIATIONS
            sending = _send(workspace, server, Template(CT), instances)
    return [
        Figure(
            f"whole node, {_PARALLEL_ASSOCIATIONS} associations sending {CT.title}",
            most.values[server.session] / _BYTES_PER_MEGABYTE,
            "MB",
            below=_PARALLEL_AIM_MEGABYTES,
            remark=f"Pss of all processes, sampled; {before / _BYTES_PER_MEGABYTE:.0f} MB before; "
            f"at most {sending.most_at_once} associations were under way at once, "
            f"{sending.rate:.0f} instances/s",
        )
    ]


def _send(
    workspace: Workspace, server: Server, template: Template, instances: list[int]
) -> Sending:
    """Send; every instance has to be acknowledged.

    Raises:
        MeasureError: one was not.
    """
    sending = workspace.send(server, template, instances, NODELAY)
    if sending.acknowledged < sending.offered:
        raise MeasureError(
            f"{sending.offered - sending.acknowledged} of {sending.offered} {template.kind.name} "
            f"objects failed: {dict(sending.failures)}"
        )
    return sending
