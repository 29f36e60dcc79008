"""A node with stub workers, driven through a folder: `python stub_node.py FOLDER LISTEN_FD`.

FOLDER/plan.json is read at each load; FOLDER/clock holds how far the node's clock is ahead. A stub
worker greets each connection with its pid, its generation and the associations of the node; an
open connection is a transfer that runs. One line may follow: "exit N" ends the worker, "hang"
stops its heartbeat.
"""

import functools
import json
import logging
import mmap
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pacsnode.daemon.scoreboard import RowState, Scoreboard
from pacsnode.daemon.supervisor import Supervisor
from pacsnode.daemon.systemd import Notifier, watchdog_interval_seconds
from pacsnode.daemon.worker_contract import Plan, ProcessSettings, ReloadRefused, WorkerContext

LOG = logging.getLogger("stub")
FOLDER = Path(sys.argv[1])
with (FOLDER / "clock").open("r+b") as clock_file:
    AHEAD = mmap.mmap(clock_file.fileno(), 8)


def clock() -> float:
    """Return the time of the node."""
    return time.monotonic() + float(struct.unpack_from("d", AHEAD)[0])


class StubWorker:
    """Accepts on the listeners until it is told to drain or to retire and has no connection."""

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self.selector = selectors.DefaultSelector()
        self.connections: set[socket.socket] = set()
        self.is_draining = False
        self.is_retiring = False

    def run(self) -> int:
        """Serve until told to leave."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "is_draining", True))
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "is_retiring", True))
        for listener in self.context.listeners:
            self.selector.register(listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.context.parent_gone_fd, selectors.EVENT_READ, self.orphaned)
        self.context.ready()
        while self.connections or not (self.is_draining or self.is_retiring):
            self.context.row.beat()
            if self.is_retiring and self.context.row.state is not RowState.RETIRING:
                self.context.row.set_state(RowState.RETIRING)
                for listener in self.context.listeners:
                    self.selector.unregister(listener)
                LOG.info("worker %d retires", os.getpid())
            for key, _ in self.selector.select(0.02):
                key.data(key.fileobj)
        return 0

    def orphaned(self, _: int) -> None:
        """Leave at once: the supervisor is gone."""
        os._exit(0)

    def accept(self, listener: socket.socket) -> None:
        """Greet a connection, or reject it while draining."""
        try:
            connection = listener.accept()[0]
        except BlockingIOError:
            return
        if self.is_draining:
            connection.sendall(b"rejected\n")
            connection.close()
            return
        self.connections.add(connection)
        self.context.row.set_active(len(self.connections))
        self.selector.register(connection, selectors.EVENT_READ, self.obey)
        total = self.context.scoreboard.total_active()
        connection.sendall(f"{os.getpid()} {self.context.generation} {total}\n".encode())

    def obey(self, connection: socket.socket) -> None:
        """Do what the line of a connection says."""
        match connection.recv(100).split():
            case []:
                self.selector.unregister(connection)
                self.connections.remove(connection)
                connection.close()
                self.context.row.set_active(len(self.connections))
            case [b"exit", code]:
                os._exit(int(code))
            case [b"hang"]:
                while True:
                    time.sleep(60)
            case unknown:
                raise ValueError(unknown)


def is_first_worker() -> bool:
    """Return True in the one worker that asks first."""
    try:
        (FOLDER / "first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def run_worker(plan: dict[str, Any], context: WorkerContext) -> int:
    """Start as the plan says, then serve."""
    if "boot_exit" in plan:
        return int(plan["boot_exit"])
    if (FOLDER / "disk_is_gone").exists():
        return 74
    if "raise" in plan:
        raise ValueError(plan["raise"])
    if "wait_for" in plan and not is_first_worker():
        while not (FOLDER / plan["wait_for"]).exists():
            time.sleep(0.01)  # a slow start, not a wait of the test
    return StubWorker(context).run()


def load() -> Plan:
    """Read plan.json."""
    plan: dict[str, Any] = json.loads((FOLDER / "plan.json").read_text())
    if "refuse" in plan:
        raise ReloadRefused(plan["refuse"])
    return Plan(ProcessSettings(**plan["processes"]), functools.partial(run_worker, plan))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if (FOLDER / "with_a_thread").exists():
        threading.Thread(target=time.sleep, args=(60,), name="intruder", daemon=True).start()
    supervisor = Supervisor(
        load,
        [socket.socket(fileno=int(sys.argv[2]))],
        Scoreboard(8, clock),
        Notifier(os.environ),
        watchdog_interval_seconds(os.environ),
        logging.getLogger(),
    )
    sys.exit(supervisor.run())
