"""The supervisor with stub workers, in processes of its own."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from pacsnode.exit_codes import ExitCode

DEADLINE_SECONDS = 20.0
NEVER_SECONDS = 100_000.0

T = TypeVar("T")


def eventually(look: Callable[[], T | None]) -> T:
    """Return the first true answer."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return answer


class Transfer:
    """A connection to the node."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)
        self.lines = self.socket.makefile("rb")
        self.greeting = self.lines.readline().decode().split()

    @property
    def pid(self) -> int:
        """The worker that accepted it."""
        return int(self.greeting[0])

    @property
    def generation(self) -> int:
        """The generation of that worker."""
        return int(self.greeting[1])

    @property
    def total_active(self) -> int:
        """The associations of the node when it was accepted."""
        return int(self.greeting[2])

    def close(self) -> None:
        """Close it from this side: the transfer is done."""
        self.lines.close()
        self.socket.close()

    def send(self, line: str) -> None:
        """Tell the worker what to do."""
        self.socket.sendall(line.encode())

    def is_cut(self) -> bool:
        """Wait for the end of the connection."""
        try:
            return self.lines.readline() == b""
        except ConnectionResetError:
            return True


class Node:
    """A running stub node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = {
            "worker_count": 2,
            "start_timeout_seconds": NEVER_SECONDS,
            "drain_timeout_seconds": NEVER_SECONDS,
            "heartbeat_timeout_seconds": NEVER_SECONDS,
        }
        self.plan()
        self.is_ahead_seconds(0.0)
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind(str(folder / "notify"))
        self.channel.settimeout(DEADLINE_SECONDS)
        self.told: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)
        self.port = self.listener.getsockname()[1]
        self.process: subprocess.Popen[bytes]
        self.transfers: list[Transfer] = []

    def plan(self, **choices: object) -> None:
        """Write the configuration that the next load reads."""
        plan = {"processes": self.processes, **choices}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def is_ahead_seconds(self, seconds: float) -> None:
        """Put the node's clock ahead of the real one."""
        if not (self.folder / "clock").exists():
            (self.folder / "clock").write_bytes(bytes(8))
        with (self.folder / "clock").open("r+b") as clock:
            clock.write(struct.pack("d", seconds))

    def skip_time(self, seconds: float) -> None:
        """Put the node's clock ahead and let the supervisor look at it."""
        self.is_ahead_seconds(seconds)
        self.signal(signal.SIGCHLD)

    def start(self, **environment: str) -> None:
        """Start the supervisor and do not wait."""
        descriptor = self.listener.fileno()
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("stub_node.py"), self.folder,
                 str(descriptor)],
                env={**os.environ, "NOTIFY_SOCKET": str(self.folder / "notify"),
                     "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
                pass_fds=[descriptor],
                stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def start_serving(self, **environment: str) -> None:
        """Start the supervisor and wait until all workers serve."""
        self.start(**environment)
        self.wait_told("READY=1")

    def signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self.process.send_signal(number)

    def exit_code(self) -> int:
        """Wait for the end of the supervisor."""
        return self.process.wait(DEADLINE_SECONDS)

    def wait_told(self, assignment: str) -> None:
        """Wait until systemd is told this, from now on."""
        while True:
            message = self.channel.recv(4096).decode().split("\n")
            self.told += message
            if assignment in message:
                return

    def told_so_far(self) -> list[str]:
        """Return all that systemd has been told up to now."""
        self.channel.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self.told += self.channel.recv(4096).decode().split("\n")
        self.channel.settimeout(DEADLINE_SECONDS)
        return self.told

    def log(self) -> str:
        """Return what the node has logged."""
        return (self.folder / "log").read_text()

    def wait_logged(self, pattern: str) -> "re.Match[str]":
        """Wait until the log has a match."""
        return eventually(lambda: re.search(pattern, self.log()))

    def workers(self) -> set[int]:
        """Return the live workers."""
        pid = self.process.pid
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {int(pid) for pid in pids if is_alive(int(pid))}

    def transfer(self) -> Transfer:
        """Open a connection that is closed with the node."""
        transfer = Transfer(self.port)
        self.transfers.append(transfer)
        return transfer

    def end(self) -> None:
        """Leave nothing of the node behind."""
        for transfer in self.transfers:
            transfer.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)
        self.listener.close()
        self.channel.close()


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Prepare a node that has not been started."""
    node = Node(tmp_path)
    yield node
    node.end()


def test_ready_when_every_worker_serves(node: Node) -> None:
    """READY=1 is sent only after the last worker accepts."""
    node.plan(wait_for="go")
    node.start()
    node.transfer()

    assert "READY=1" not in node.told_so_far()

    (node.folder / "go").touch()
    node.wait_told("READY=1")

    assert "STATUS=2 workers serve" in node.told
    assert len(node.workers()) == 2


def test_killed_worker_is_replaced(node: Node) -> None:
    """A worker killed from outside is replaced, and the log names a likely reason."""
    node.start_serving()
    before = node.workers()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)

    eventually(lambda: len(node.workers() - {victim}) == 2)

    node.wait_logged(rf"worker {victim} died: SIGKILL \(killed, perhaps for memory\)")
    assert before - {victim} < node.workers()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (74, ExitCode.CATALOG_UNUSABLE),
        (73, ExitCode.STORAGE_UNUSABLE),
        (5, ExitCode.WORKER_FAILED),
        (0, ExitCode.WORKER_FAILED),
    ],
)
def test_failed_first_start_ends_the_service(node: Node, code: int, expected: int) -> None:
    """A worker that cannot make the first start ends the service with its code if it is ours."""
    node.plan(boot_exit=code)
    node.start()

    assert node.exit_code() == expected
    assert "READY=1" not in node.told_so_far()


def test_exception_in_a_worker_is_logged(node: Node) -> None:
    """An exception of a worker ends only that worker, with a traceback and WORKER_FAILED."""
    node.plan(**{"raise": "broken on purpose"})
    node.start()

    assert node.exit_code() == ExitCode.WORKER_FAILED
    assert "ValueError: broken on purpose" in node.log()


def test_slow_first_start_ends_the_service(node: Node) -> None:
    """A worker that is not ready in time at the first start ends the service."""
    node.processes["start_timeout_seconds"] = 50.0
    node.plan(wait_for="never")
    node.start()
    eventually((node.folder / "first").exists)
    node.wait_logged("(?s)started.*started")
    node.skip_time(51.0)

    assert node.exit_code() == ExitCode.WORKER_FAILED
    assert "not ready 50 s after its start" in node.log()


def test_refused_first_load(node: Node) -> None:
    """A configuration refused at the start ends the service as a configuration fault."""
    node.plan(refuse="port: 0: 1 to 65535")
    node.start()

    assert node.exit_code() == ExitCode.CONFIGURATION
    assert "port: 0: 1 to 65535" in node.log()


def test_more_workers_than_rows(node: Node) -> None:
    """More workers than the scoreboard has rows are refused before any is started."""
    node.processes["worker_count"] = 9
    node.plan()
    node.start()

    assert node.exit_code() == ExitCode.CONFIGURATION
    assert "started" not in node.log()


def test_no_fork_beside_threads(node: Node) -> None:
    """A supervisor with a second thread refuses to fork and names the thread."""
    (node.folder / "with_a_thread").touch()
    node.start()

    assert node.exit_code() == 1
    assert "RuntimeError: no fork with more than one thread running" in node.log()
    assert "intruder" in node.log()


def test_stop_lets_a_transfer_finish(node: Node) -> None:
    """After SIGTERM a running transfer goes on and new connections are answered, not refused."""
    node.processes["worker_count"] = 1
    node.plan()
    node.start_serving()
    running = node.transfer()
    node.signal(signal.SIGTERM)
    node.wait_told("STOPPING=1")

    eventually(lambda: node.transfer().greeting == ["rejected"])
    assert node.process.poll() is None

    running.close()
    for transfer in node.transfers:
        transfer.close()
    assert node.exit_code() == ExitCode.OK


def test_interrupt_from_the_terminal(node: Node) -> None:
    """Ctrl-C, which reaches the whole group, drains as SIGTERM does."""
    node.start_serving()
    running = node.transfer()
    os.killpg(node.process.pid, signal.SIGINT)
    node.wait_told("STOPPING=1")

    assert is_alive(running.pid)

    running.close()
    assert node.exit_code() == ExitCode.OK


def test_stop_during_the_first_start(node: Node) -> None:
    """SIGTERM before the node is ready ends it in order."""
    node.plan(wait_for="never")
    node.start()
    node.wait_logged("(?s)started.*started")
    node.signal(signal.SIGTERM)

    assert node.exit_code() == ExitCode.OK
    assert "again" not in node.log()


def test_drain_ends_at_its_timeout(node: Node) -> None:
    """A transfer that outlasts the drain timeout is cut, and the stop is orderly all the same."""
    node.processes["drain_timeout_seconds"] = 40.0
    node.plan()
    node.start_serving()
    running = node.transfer()
    node.signal(signal.SIGTERM)
    node.wait_told("STOPPING=1")
    node.skip_time(43.0)

    assert running.is_cut()
    assert node.exit_code() == ExitCode.OK
    assert "not done 40 s after the signal" in node.log()


def test_second_stop_does_not_wait(node: Node) -> None:
    """A second SIGTERM cuts the running transfers at once."""
    node.start_serving()
    running = node.transfer()
    node.signal(signal.SIGTERM)
    node.wait_told("STOPPING=1")
    node.signal(signal.SIGTERM)

    assert running.is_cut()
    assert node.exit_code() == ExitCode.OK


def test_reload_starts_new_workers_beside_the_old(node: Node) -> None:
    """After SIGHUP new workers serve while a transfer finishes in an old one, which then leaves."""
    node.start_serving()
    old = node.workers()
    running = node.transfer()
    node.processes["worker_count"] = 3
    node.plan()
    node.signal(signal.SIGHUP)
    node.wait_told("RELOADING=1")
    node.wait_told("READY=1")

    node.wait_logged(f"worker {running.pid} retires")
    eventually(lambda: node.workers() & old == {running.pid})
    assert {node.transfer().generation for _ in range(10)} == {2}
    assert len(node.workers() - old) == 3
    assert any(line.startswith("MONOTONIC_USEC=") for line in node.told)

    running.close()
    eventually(lambda: not node.workers() & old)


def _left_behind(node: Node) -> Transfer:
    """Reload a node while a transfer runs, and return it when its worker is the only old one."""
    node.plan()
    node.start_serving()
    old = node.workers()
    running = node.transfer()
    node.signal(signal.SIGHUP)
    node.wait_told("READY=1")
    node.wait_logged(f"worker {running.pid} retires")
    eventually(lambda: node.workers() & old == {running.pid})
    return running


def test_a_reload_ends_no_transfer(node: Node) -> None:
    """An old worker has as much time as its transfer takes, whatever the drain timeout is."""
    node.processes["drain_timeout_seconds"] = 40.0
    running = _left_behind(node)
    node.wait_told("STATUS=2 workers serve; finishing: 1 old worker")
    node.skip_time(4000.0)
    node.signal(signal.SIGHUP)  # when it is done the supervisor has looked at its deadlines
    node.wait_logged(r"workers serve \(generation 3\)")

    assert running.pid in node.workers()
    running.close()
    node.wait_told("STATUS=2 workers serve")
    assert len(node.workers()) == 2
    assert "killing" not in node.log()


def test_an_old_worker_that_hangs_is_killed(node: Node) -> None:
    """A worker that retires has to show that it lives, too; nobody takes its place."""
    node.processes["heartbeat_timeout_seconds"] = 2.0
    running = _left_behind(node)
    running.send("hang\n")

    assert running.is_cut()
    node.wait_logged(rf"killing worker {running.pid}: no heartbeat for 2 s")
    node.wait_logged(rf"worker {running.pid} died with 1 association under way: SIGKILL")
    assert len(node.workers()) == 2
    assert "the next starts in" not in node.log()


def test_an_old_worker_that_dies_is_not_replaced(node: Node) -> None:
    """The log says that a worker could not finish; those that serve are enough."""
    running = _left_behind(node)
    running.send("exit 3\n")

    assert running.is_cut()
    node.wait_logged(rf"worker {running.pid} died with 1 association under way: exit code 3")
    assert len(node.workers()) == 2
    assert "the next starts in" not in node.log()


def test_a_stop_ends_old_workers_at_the_drain_timeout(node: Node) -> None:
    """After SIGTERM a transfer in an old worker has no more time than any other."""
    node.processes["drain_timeout_seconds"] = 40.0
    running = _left_behind(node)
    node.skip_time(4000.0)
    node.signal(signal.SIGTERM)
    node.wait_told("STOPPING=1")
    eventually(lambda: node.workers() == {running.pid})
    node.skip_time(4041.0)
    node.signal(signal.SIGCHLD)
    assert node.workers() == {running.pid}
    node.skip_time(4043.0)

    assert running.is_cut()
    assert node.exit_code() == ExitCode.OK
    assert f"killing worker {running.pid}: not done 40 s after the signal" in node.log()


def _reload_with_a_transfer(node: Node, running: list[Transfer]) -> None:
    """Begin one more transfer and reload; return when only transfers keep old workers."""
    running.append(node.transfer())
    node.signal(signal.SIGHUP)
    node.wait_told("READY=1")
    node.wait_logged(f"worker {running[-1].pid} retires")  # until then it may accept another one
    eventually(lambda: len(node.workers()) == len(running) + 2)


def test_reloads_leave_behind_only_workers_at_work(node: Node) -> None:
    """However many reloads there are, old workers are there for their transfers alone."""
    node.start_serving()
    running: list[Transfer] = []
    for _ in range(4):
        _reload_with_a_transfer(node, running)

    assert [transfer.generation for transfer in running] == [1, 2, 3, 4]
    assert {transfer.pid for transfer in running} < node.workers()


def test_a_reload_without_room_is_refused(node: Node) -> None:
    """With too many old workers at work nothing changes until some of them have left."""
    node.start_serving()
    running: list[Transfer] = []
    for _ in range(5):
        _reload_with_a_transfer(node, running)
    node.signal(signal.SIGHUP)
    node.wait_told("STATUS=reload refused, serving as before")
    assert "reload refused: no room for 2 workers until retiring ones have left" in node.log()
    assert node.transfer().generation == 6

    for transfer in running:
        transfer.close()
    node.wait_told("STATUS=2 workers serve")
    node.signal(signal.SIGHUP)
    node.wait_logged(r"2 workers serve \(generation 7\)")


def test_stop_during_a_retirement(node: Node) -> None:
    """SIGTERM after a reload waits for a transfer in an old worker, too."""
    node.start_serving()
    running = node.transfer()
    node.signal(signal.SIGHUP)
    node.wait_told("READY=1")
    node.signal(signal.SIGTERM)
    node.wait_told("STOPPING=1")
    eventually(lambda: node.workers() == {running.pid})
    running.close()

    assert node.exit_code() == ExitCode.OK


def test_reload_refused(node: Node) -> None:
    """A configuration refused at SIGHUP changes nothing, and the log says why."""
    node.start_serving()
    old = node.workers()
    node.plan(refuse="port: 0: 1 to 65535")
    node.signal(signal.SIGHUP)
    node.wait_told("RELOADING=1")
    node.wait_told("READY=1")

    assert node.workers() == old
    assert "reload refused: port: 0: 1 to 65535" in node.log()


@pytest.mark.parametrize("code", [0, 74])
def test_reload_that_cannot_start(node: Node, code: int) -> None:
    """New workers that cannot start go; the old ones stay and the service goes on."""
    node.start_serving()
    old = node.workers()
    node.plan(boot_exit=code)
    node.signal(signal.SIGHUP)
    node.wait_told("RELOADING=1")
    node.wait_told("STATUS=reload failed, serving as before")

    eventually(lambda: node.workers() == old)
    assert node.transfer().generation == 1


def test_reload_that_starts_too_slowly(node: Node) -> None:
    """New workers not ready in time go, and one of them that serves already finishes first."""
    node.start_serving()
    old = node.workers()
    node.processes["start_timeout_seconds"] = 50.0
    node.plan(wait_for="never")
    node.signal(signal.SIGHUP)
    new = eventually(lambda: next((t for t in [node.transfer()] if t.generation == 2), None))
    node.wait_logged("(?s)(worker [0-9]+ started.*){4}")
    node.skip_time(51.0)
    node.wait_told("STATUS=reload failed, serving as before")

    eventually(lambda: node.workers() == old | {new.pid})
    new.close()
    for transfer in node.transfers:
        transfer.close()
    eventually(lambda: node.workers() == old)


def test_two_reloads_in_a_row(node: Node) -> None:
    """A SIGHUP during a reload is done after it."""
    node.start_serving()
    node.plan(wait_for="go")
    node.signal(signal.SIGHUP)
    eventually((node.folder / "first").exists)
    node.signal(signal.SIGHUP)
    node.plan()
    (node.folder / "go").touch()

    node.wait_logged(r"workers serve \(generation 3\)")
    eventually(lambda: len(node.workers()) == 2)
    assert node.transfer().generation == 3


def test_worker_without_heartbeat_is_replaced(node: Node) -> None:
    """A worker that hangs is killed after the heartbeat timeout and replaced."""
    node.processes["heartbeat_timeout_seconds"] = 2.0
    node.plan()
    node.start_serving()
    hanging = node.transfer()
    hanging.send("hang\n")

    assert hanging.is_cut()
    eventually(lambda: len(node.workers() - {hanging.pid}) == 2)
    node.wait_logged(rf"killing worker {hanging.pid}: no heartbeat for 2 s")
    node.wait_logged(rf"worker {hanging.pid} died: SIGKILL;")


def test_replacements_back_off_until_the_fault_is_gone(node: Node) -> None:
    """Replacements that cannot start are tried ever later and succeed when the fault is gone."""
    node.start_serving()
    (node.folder / "disk_is_gone").touch()
    lost = node.transfer()
    lost.send("exit 1\n")
    meaning = r"exit code 74 \(CATALOG_UNUSABLE\); the next starts in "
    for times, delay in enumerate(["0.2", "0.4", "0.8", "1.6", "3.2", "6.4"], start=1):
        node.wait_logged(rf"{meaning}{delay} s")
        node.skip_time(20.0 * times)
    (node.folder / "disk_is_gone").unlink()
    node.skip_time(200.0)

    eventually(lambda: len(node.workers()) == 2)
    assert node.process.poll() is None


def test_orphaned_workers_leave(node: Node) -> None:
    """Workers whose supervisor was killed leave by themselves."""
    node.start_serving()
    workers = node.workers()
    node.signal(signal.SIGKILL)

    eventually(lambda: not any(map(is_alive, workers)))


def test_watchdog_is_fed(node: Node) -> None:
    """The watchdog of systemd gets its signs of life while the node serves."""
    node.start_serving(WATCHDOG_USEC="100000")

    for _ in range(3):
        node.wait_told("WATCHDOG=1")


def test_crash_frees_associations(node: Node) -> None:
    """The associations of a worker that died no longer count for the limit of the node."""
    node.processes["worker_count"] = 1
    node.plan()
    node.start_serving()
    node.transfer()
    lost = node.transfer()
    lost.send("exit 3\n")

    assert lost.is_cut()
    assert [lost.total_active, node.transfer().total_active] == [2, 1]
    assert f"worker {lost.pid} died: exit code 3;" in node.log()
