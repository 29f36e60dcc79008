"""Everything at once, for some minutes: who does what, how often, and when a worker is killed.

How it works. Each part of the load is a thread that does one round after the other. Until a third
of the time any worker may be killed and the configuration is reloaded now and then; from then on
the worker that has lived longest is spared, so that its memory can be looked at for long enough.
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from threading import Event, Thread

import soak_hostile
import soak_queries
import soak_senders
from soak_processes import Memory
from soak_senders import Peer

from tests.support.dcmtk import Receiver
from tests.support.node import Node
from tests.support.wire import AssociationAbortedError, AssociationRejectedError

WORKERS = 2
_KILL_SECONDS = (15.0, 20.0)
_RELOAD_SECONDS = 60.0
_RELOADED_SECONDS = 60.0
_SPARED_FROM = 1 / 3  # of the time; see above
_END_SECONDS = 90.0  # for the last rounds: a tool gives up after 60
_HELD_SECONDS = 30.0  # for the node to close the last silent connections

Round = Callable[[Random], None]


@dataclass(slots=True)
class Load:
    """The load on one node.

    Attributes:
        node: which.
        peer: how the load sees it.
        receiver: the destination of C-MOVEs.
        seconds: how long it lasts.
        most_bytes: at the most so much is sent, evenly over the time.
        memory: of the workers.
        echoes: the file in which soak_echoes writes.
    """

    node: Node
    peer: Peer
    receiver: Receiver
    seconds: float
    most_bytes: float
    memory: Memory = field(init=False)
    echoes: Path = field(init=False)
    _began_at: float = field(init=False)
    _stop: Event = field(init=False, default_factory=Event)

    def __post_init__(self) -> None:
        self.echoes = self.peer.folder / "echoes"

    def run(self, tell: Callable[[float], None]) -> None:
        """Run it to its end.

        Args:
            tell: called some times a second with the seconds since the beginning.
        """
        self._began_at = time.monotonic()
        self.memory = Memory(self.node)
        silences = soak_hostile.Silences(self.peer)
        bodies = [self._body(*each) for each in self._rounds(silences)]
        bodies += [partial(self.memory.watch, self._stop), self._guard("disturber", self._disturb)]
        threads = [Thread(target=body, daemon=True) for body in bodies]
        with self._echoes_sent():
            for thread in threads:
                thread.start()
            try:
                while (elapsed := self._elapsed()) < self.seconds:
                    tell(elapsed)
                    time.sleep(0.2)
            finally:
                self._stop.set()
                deadline = time.monotonic() + _END_SECONDS
                for thread in threads:
                    thread.join(max(deadline - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in threads):
            self.peer.events.surprise("a part of the load did not come to its end")
        _wait_for_the_node_to_close(silences)

    def _rounds(self, silences: soak_hostile.Silences) -> list[tuple[str, Round, float]]:
        """Return each part of the load: its name, what it does, the pause after it in seconds."""
        peer = self.peer
        sending = self._at_its_pace(partial(soak_senders.send_by_wire, peer))
        return [
            ("requestor", sending, 0.0),
            ("requestor", sending, 0.0),
            ("DCMTK sender", self._at_its_pace(partial(soak_senders.send_by_dcmtk, peer)), 0.0),
            ("sender of duplicates", partial(soak_senders.send_again, peer), 0.5),
            ("findscu", partial(soak_queries.find, peer), 0.2),
            ("movescu", partial(soak_queries.move, peer, self.receiver), 0.5),
            ("breaker", partial(soak_hostile.break_off, peer), 0.3),
            ("silent peer", silences.open_some, 0.5),
        ]

    def _at_its_pace(self, one_round: Round) -> Round:
        """Return a round that waits while more was stored than is due by now."""

        def paced(random: Random) -> None:
            due_bytes = self.most_bytes * self._elapsed() / self.seconds
            if self.peer.ledger.length_bytes > due_bytes:
                self._stop.wait(0.05)
            else:
                one_round(random)

        return paced

    def _body(self, name: str, one_round: Round, pause_seconds: float) -> Callable[[], None]:
        """Return what a thread does: rounds until the end."""
        random = Random()  # noqa: S311 - nothing secret

        def rounds() -> None:
            while not self._stop.is_set():
                try:
                    one_round(random)
                except AssociationRejectedError as error:
                    self.peer.events.surprise(f"{name}: {error}")
                except (OSError, AssociationAbortedError):
                    self.peer.events.lose(name)
                self._stop.wait(pause_seconds)

        return self._guard(name, rounds)

    def _guard(self, name: str, body: Callable[[], None]) -> Callable[[], None]:
        """Return a body whose own faults do not pass for those of the node, nor unseen."""

        def guarded() -> None:
            try:
                body()
            except Exception:  # noqa: BLE001 - it is shown in the end, and the soak has failed
                self.peer.events.surprise(f"{name} has a fault:\n{traceback.format_exc()}")

        return guarded

    def _disturb(self) -> None:
        """Kill workers and have the configuration read again, each at its times."""
        random = Random()  # noqa: S311 - nothing secret
        reloads = reload_times(self.seconds)
        kill_at = random.uniform(*_KILL_SECONDS)
        spared: int | None = None
        while not self._stop.wait(0.1):
            if reloads and self._elapsed() >= reloads[0]:
                reloads.pop(0)
                self._reload()
            if spared is None and self._elapsed() >= self.seconds * _SPARED_FROM:
                spared = min(self.node.workers(), key=_started_at, default=None)
            if self._elapsed() >= kill_at and self._kill_one(random, spared):
                kill_at = self._elapsed() + random.uniform(*_KILL_SECONDS)

    def _kill_one(self, random: Random, spared: int | None) -> bool:
        """Kill a worker if another one is there to answer meanwhile; tell whether."""
        workers = self.node.workers()
        if len(workers) < WORKERS:
            return False
        pid = random.choice([each for each in workers if each != spared])
        self.peer.events.kill(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def _reload(self) -> None:
        """Send SIGHUP and wait until workers of the new generation have taken over."""
        process = self.node.process
        before = set(self.node.workers())
        if process is None or len(before) != WORKERS:
            return
        process.send_signal(signal.SIGHUP)
        self.peer.events.count("disturbed: reloads")
        deadline = time.monotonic() + _RELOADED_SECONDS
        while time.monotonic() < deadline and not self._stop.wait(0.1):
            now = set(self.node.workers())
            if len(now) == WORKERS and not now & before:
                return
        if not self._stop.is_set():
            self.peer.events.surprise("a reload was not over in time")

    @contextmanager
    def _echoes_sent(self) -> Iterator[None]:
        """Have a C-ECHO sent again and again during the block."""
        script = Path(__file__).with_name("soak_echoes.py")
        host, port = self.peer.address
        with self.echoes.open("wb") as file:
            process = subprocess.Popen([sys.executable, str(script), host, str(port)], stdout=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def _elapsed(self) -> float:
        return time.monotonic() - self._began_at


def reload_times(seconds: float) -> list[float]:
    """Return when to reload in a run of this length: at least twice, all in its first third."""
    first, last = 0.1 * seconds, 0.25 * seconds
    step = min(_RELOAD_SECONDS, last - first)
    count = int((last - first) / step + 1e-6)
    return [first + step * number for number in range(count + 1)]


def _wait_for_the_node_to_close(silences: soak_hostile.Silences) -> None:
    deadline = time.monotonic() + _HELD_SECONDS
    while silences.held and time.monotonic() < deadline:
        silences.look()
        time.sleep(0.1)


def _started_at(pid: int) -> int:
    """Return when a process was started, in ticks since the machine was. Source: proc(5), stat."""
    try:
        stat = (Path("/proc") / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return sys.maxsize
    return int(stat.rpartition(")")[2].split()[19])
