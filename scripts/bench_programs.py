"""Programs beside the servers that are measured: run silently, and waited for."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from bench_figures import MeasureError
from bench_peers import LOOPBACK

_START_SECONDS = 15


@contextmanager
def running_program(
    command: Sequence[str], variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program silently during the block; afterwards none of its processes is left.

    Args:
        command: the program and its arguments.
        variables: its whole environment.
    """
    process = subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        # The session is the program's own: with it end those that it has made.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_listener(port: int) -> None:
    """Wait until somebody listens on a port of loopback.

    Raises:
        MeasureError: nobody does after a while.
    """

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, port)) == 0

    wait_until(listens, "the destination does not listen")


def wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    """Wait until something is so.

    Raises:
        MeasureError: it is not after a while; with the words `otherwise`.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise MeasureError(otherwise)
        time.sleep(0.05)
