"""Whether the node goes on receiving at its rate while a C-MOVE waits for a slow destination."""

import json
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench_figures import Figure, MeasureError
from bench_objects import CT, SMALL, Template
from bench_peers import LOOPBACK, PACSNODE, Server, free_port, with_environment
from bench_workspace import NODELAY, Workspace

_AIM_PERCENT = 80
_SENDERS = 4
_MOVED_INSTANCES = 100  # one a second; the move is broken off long before
_DESTINATION_AE_TITLE = "SLOW"
_START_SECONDS = 15


def measure_move(workspace: Workspace) -> list[Figure]:
    """Measure the rate of four senders of CT Images in turn without and with such a C-MOVE."""
    port = free_port()
    destination = {"ae_title": _DESTINATION_AE_TITLE, "host": LOOPBACK, "port": port}
    peer = with_environment(PACSNODE, {"PACSNODE_REMOTE_AES": json.dumps([destination])})
    without, beside = [], []
    with workspace.server(peer, NODELAY) as server:
        workspace.progress("C-MOVE to a slow destination")
        study = workspace.archive_study(server, Template(SMALL), _MOVED_INSTANCES, NODELAY)
        template = Template(CT)
        each = workspace.instances_for(server, template, _SENDERS, NODELAY)
        instances = [each] * _SENDERS
        for _ in range(max(workspace.runs, 2)):
            without.append(workspace.send(server, template, instances, NODELAY).rate)
            with _slow_move(workspace, server, study, port):
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
def _slow_move(
    workspace: Workspace, server: Server, study_instance_uid: str, port: int
) -> Iterator[None]:
    """Let a C-MOVE of a study run during the block.

    Raises:
        MeasureError: it has not begun to send, or it has ended before the block.
    """
    variables = NODELAY.variables()
    with TemporaryDirectory(dir=workspace.folders.objects) as folder, ExitStack() as stack:
        destination = ["storescp", "--sleep-after", "1", "--output-directory", folder, str(port)]
        stack.enter_context(_running(destination, variables))
        _wait_for_listener(port)
        move = [
            *("movescu", "--study", "--call", server.peer.ae_title),
            *("--move", _DESTINATION_AE_TITLE),
            *("--key", "QueryRetrieveLevel=STUDY"),
            *("--key", f"StudyInstanceUID={study_instance_uid}"),
            *(LOOPBACK, str(server.port)),
        ]
        mover = stack.enter_context(_running(move, variables))
        _wait_until(lambda: any(Path(folder).iterdir()), "the C-MOVE has sent nothing")
        yield
        if mover.poll() is not None:
            raise MeasureError("the C-MOVE has ended before the senders")


@contextmanager
def _running(
    command: Sequence[str], variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program silently during the block."""
    process = subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for_listener(port: int) -> None:
    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, port)) == 0

    _wait_until(listens, "the destination does not listen")


def _wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise MeasureError(otherwise)
        time.sleep(0.05)
