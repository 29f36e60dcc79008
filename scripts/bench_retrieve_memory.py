"""What the node needs while it sends an object that is far larger than what it should need.

Two figures, because there are two ways not to load an object: what is written from the file by the
kernel is nobody's memory; a map of the file counts as resident, though the kernel can take it back
at any time. The first figure counts both, and its aim is the hard one. The second leaves maps out.
"""

from dataclasses import replace

from bench_figures import Figure
from bench_objects import HUGE, SMALL, Template
from bench_peers import PACSNODE
from bench_processes import Processes, sampled
from bench_resources import most_growth
from bench_retrieve_client import REQUESTOR, SERVICES, Client, Service, Study
from bench_retrieve_rates import LARGEST_LENGTH_BYTES
from bench_retrieve_receiver import Receiver, new_receiver, running_receivers
from bench_workspace import NODELAY, Workspace

_AIM_MEGABYTES = 10
_BYTES_PER_MEGABYTE = 1_000_000
_SAMPLE_SECONDS = 0.02
_WARM_UP_INSTANCES = 16
_WARM_UPS = 8  # so that each worker has had some


def measure_sending_memory(workspace: Workspace) -> list[Figure]:
    """Retrieve an object of 1 GB by each service."""
    receiver = new_receiver(LARGEST_LENGTH_BYTES)
    peer = replace(PACSNODE, known=(REQUESTOR, receiver.known))
    client = Client(workspace.folders.objects / "retrieve", NODELAY.variables())
    with (
        running_receivers([receiver], client.variables),
        workspace.server(peer, NODELAY) as server,
    ):
        workspace.progress(f"memory: archiving {HUGE.title}")
        small = workspace.archive_study(server, Template(SMALL), _WARM_UP_INSTANCES, NODELAY)
        huge = workspace.archive_study(server, Template(HUGE), 1, NODELAY)
        warm_up = Study(server, small, _WARM_UP_INSTANCES)
        figures = []
        for service in SERVICES:
            workspace.progress(f"memory: {service.name} of {HUGE.title}")
            for _ in range(_WARM_UPS):
                client.verify(warm_up, service, receiver)
            figures += _growth(client, Study(server, huge, 1), service, receiver)
        return figures


def _growth(client: Client, study: Study, service: Service, receiver: Receiver) -> list[Figure]:
    """Measure how much the worker that sends grows."""
    processes = Processes(study.server.session)
    resident, anonymous = processes.resident_bytes(), processes.anonymous_bytes()
    processes.reset_peak()
    with sampled(processes.anonymous_bytes, _SAMPLE_SECONDS) as most_anonymous:
        retrieval = client.retrieve(study, service, receiver)
    peak = processes.peak_bytes()
    megabytes = HUGE.pixels_length / _BYTES_PER_MEGABYTE
    what = f"growth of the worker while it sends an object of {megabytes:.0f} MB by {service.name}"
    return [
        Figure(
            what,
            most_growth(resident, peak),
            "MB",
            below=_AIM_MEGABYTES,
            remark="resident memory: VmHWM, reset before, less VmRSS before; sent in "
            f"{retrieval.seconds:.1f} s",
        ),
        Figure(
            f"{what}, without files",
            most_growth(anonymous, most_anonymous.values),
            "MB",
            remark=f"Anonymous of smaps_rollup, sampled every {_SAMPLE_SECONDS * 1000:.0f} ms",
        ),
    ]
