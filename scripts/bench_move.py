"""Whether the node goes on receiving at its rate while a C-MOVE waits for a slow destination."""

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench_figures import Figure, MeasureError
from bench_objects import CT, SMALL, Template
from bench_peers import LOOPBACK, PACSNODE, KnownAE, Server, free_port
from bench_programs import running_program, wait_for_listener, wait_until
from bench_workspace import NODELAY, Workspace

SLOW_AE_TITLE = "SLOW"
SLOWLY_MOVED_INSTANCES = 100  # one a second; the move is broken off long before

_AIM_PERCENT = 80
_SENDERS = 4


def measure_move(workspace: Workspace) -> list[Figure]:
    """Measure the rate of four senders of CT Images in turn without and with such a C-MOVE."""
    port = free_port()
    peer = replace(PACSNODE, known=(KnownAE(SLOW_AE_TITLE, port),))
    without, beside = [], []
    with workspace.server(peer, NODELAY) as server:
        workspace.progress("C-MOVE to a slow destination")
        study = workspace.archive_study(server, Template(SMALL), SLOWLY_MOVED_INSTANCES, NODELAY)
        template = Template(CT)
        each = workspace.instances_for(server, template, _SENDERS, NODELAY)
        instances = [each] * _SENDERS
        for _ in range(max(workspace.runs, 2)):
            without.append(workspace.send(server, template, instances, NODELAY).rate)
            with slow_move(workspace, server, study, port):
                beside.append(workspace.send(server, template, instances, NODELAY).rate)
    rate = statistics.median(without)
    return [
        Figure(
            "rate while a C-MOVE to a slow destination runs",
            100 * statistics.median(beside) / rate if rate else 0.0,
            "% of that without",
            at_least=_AIM_PERCENT,
            remark=f"{_SENDERS} senders of CT objects, {rate:.0f} instances/s without; the "
            "destination takes one instance a second",
        )
    ]


@contextmanager
def slow_move(
    workspace: Workspace, server: Server, study_instance_uid: str, port: int
) -> Iterator[None]:
    """Run a C-MOVE to a destination that takes one instance a second, during the block.

    Args:
        workspace: runs it.
        server: sends; it knows the destination as SLOW_AE_TITLE.
        study_instance_uid: of a study of SLOWLY_MOVED_INSTANCES.
        port: of the destination, which is started here.

    Raises:
        MeasureError: it has not begun to send, or it has ended before the block.
    """
    variables = NODELAY.variables()
    with TemporaryDirectory(dir=workspace.folders.objects) as folder, ExitStack() as stack:
        destination = ["storescp", "--sleep-after", "1", "--output-directory", folder, str(port)]
        stack.enter_context(running_program(destination, variables))
        wait_for_listener(port)
        move = [
            *("movescu", "--study", "--call", server.peer.ae_title),
            *("--move", SLOW_AE_TITLE),
            *("--key", "QueryRetrieveLevel=STUDY"),
            *("--key", f"StudyInstanceUID={study_instance_uid}"),
            *(LOOPBACK, str(server.port)),
        ]
        mover = stack.enter_context(running_program(move, variables))
        wait_until(lambda: any(Path(folder).iterdir()), "the C-MOVE has sent nothing")
        yield
        if mover.poll() is not None:
            raise MeasureError("the C-MOVE to the slow destination has ended too early")
