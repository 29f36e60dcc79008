"""The parent process: starts the workers, replaces those that die, reloads and stops the node.

How it works. One thread, one loop: sleep until a byte arrives in the wake pipe or the next deadline
is due; then take the signals, look at what the workers show, reap the dead, act on the deadlines.
Signal handlers do nothing: the interpreter writes each signal's number into the pipe. A worker's
ready() writes 0, only to wake; what it says is in the scoreboard.

Workers belong to a generation. The first one must start completely, or the service ends with the
exit code of the worker that could not. After that a worker that dies is replaced, each time later
(0.1 s doubling to 30 s, from the start again after 60 s of good running). SIGHUP starts a further
generation beside the serving one. Once all of it serves, the older ones get SIGUSR1: accept no
more, finish what is at work however long it takes, leave. If it fails to start, it is the one that
goes. So there may be workers of several older generations: they are watched as the others are, and
not replaced. SIGTERM is handed on to all workers: they keep accepting connections, reject
associations as transient and leave when their transfers are done, or when drain_timeout_seconds
are over; after a little grace they get SIGKILL. A second SIGTERM does not wait. A worker whose
heartbeat stops is killed; systemd's watchdog is fed only while there is no such worker. If the
supervisor dies, a pipe to the workers closes: they leave.

The supervisor opens no catalog and starts no thread, so a fork never copies a lock that is held.
"""

import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from socket import socket
from types import FrameType
from typing import NoReturn

from pacsnode.daemon.counted import counted
from pacsnode.daemon.restart import describe_end, next_back_off_seconds
from pacsnode.daemon.scoreboard import RowState, Scoreboard, ScoreboardRow
from pacsnode.daemon.systemd import Notifier
from pacsnode.daemon.worker_contract import Plan, ReloadRefused, WorkerContext
from pacsnode.exit_codes import ExitCode

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_LONGEST_SLEEP_SECONDS = 3600.0
_GRACE_SECONDS = 2.0  # a worker that ends its drain in time still has to close


@dataclass(frozen=True, slots=True)
class _Generation:
    number: int
    plan: Plan


@dataclass(slots=True)
class _Worker:
    """One forked worker, as the supervisor sees it."""

    pid: int
    row: ScoreboardRow
    generation: _Generation
    started_at: float
    back_off_seconds: float  # what was waited before this start
    is_leaving: bool = False  # it was told to: by SIGUSR1 in its own time, by SIGTERM in ours
    kill_at: float = inf  # finite once the node stops
    is_killed: bool = False

    def deadline(self) -> tuple[float, str]:
        """Return when the worker has to be killed, and why."""
        processes = self.generation.plan.processes
        if self.kill_at < inf:
            return self.kill_at, f"not done {processes.drain_timeout_seconds:g} s after the signal"
        if self.row.state is RowState.STARTING:
            timeout = processes.start_timeout_seconds
            return self.started_at + timeout, f"not ready {timeout:g} s after its start"
        timeout = processes.heartbeat_timeout_seconds
        return self.row.heartbeat_seconds + timeout, f"no heartbeat for {timeout:g} s"


@dataclass(frozen=True, slots=True)
class _Pipes:
    """Descriptors: wake pipe from signals and workers, life pipe to the workers."""

    wake: int
    waker: int
    parent_gone: int
    life: int


class Supervisor:
    """Runs a pool of workers on shared listening sockets until it is told to stop.

    Args:
        load: Reads the configuration: at the start and at each SIGHUP. Raises ReloadRefused.
        listeners: Open listening sockets; the caller closes them.
        scoreboard: As many rows as there may be old and new workers at once; sets the clock.
        notifier: Who is told how the service is doing.
        watchdog_interval_seconds: How often the notifier wants a sign of life, or None.
        logger: Where starts, deaths and refusals are written.
    """

    def __init__(
        self,
        load: Callable[[], Plan],
        listeners: Sequence[socket],
        scoreboard: Scoreboard,
        notifier: Notifier,
        watchdog_interval_seconds: float | None,
        logger: logging.Logger,
    ) -> None:
        self._load = load
        self._listeners = listeners
        self._scoreboard = scoreboard
        self._clock = scoreboard.clock
        self._notifier = notifier
        self._watchdog_interval_seconds = watchdog_interval_seconds
        self._watchdog_at = inf if watchdog_interval_seconds is None else self._clock()
        self._log = logger
        self._pipes: _Pipes
        self._workers: dict[int, _Worker] = {}
        self._generation_count = 0
        self._serving: _Generation | None = None
        self._candidate: _Generation | None = None  # started, but not all of it serves yet
        self._due_starts: list[tuple[float, float]] = []  # (when, back-off) in the serving one
        self._is_reload_wanted = False
        self._is_stopping = False
        self._exit_code = ExitCode.OK

    def run(self) -> ExitCode:
        """Start the workers and keep them until a signal ends the service.

        Returns:
            OK after an orderly stop; CONFIGURATION if the first load was refused; the exit code of
            the worker that spoiled the first start, WORKER_FAILED if that is none of ours.

        Raises:
            RuntimeError: The process has more than one thread.
        """
        with _open_pipes() as self._pipes:
            try:
                self._candidate = self._start_generation()
                while self._workers or not self._is_stopping:
                    self._turn()
            except ReloadRefused as refusal:
                self._log.error("cannot start: %s", refusal)
                return ExitCode.CONFIGURATION
            finally:
                for worker in self._workers.values():  # none, except after a fault in here
                    self._kill(worker)
        return self._exit_code

    def _turn(self) -> None:
        signals = self._sleep()
        for number in signals:
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._stop(signal.Signals(number).name)
        self._is_reload_wanted |= signal.SIGHUP in signals
        self._reap()
        self._kill_overdue()
        self._promote_candidate()
        self._reload_if_wanted()
        self._start_due()
        self._feed_watchdog()

    def _sleep(self) -> bytes:
        """Wait for a signal, a worker or the next deadline; return the numbers of the signals."""
        now = self._clock()
        deadlines = [w.deadline()[0] for w in self._workers.values() if not w.is_killed]
        starts = [at for at, _ in self._due_starts]
        wake_at = min(now + _LONGEST_SLEEP_SECONDS, self._watchdog_at, *deadlines, *starts)
        poll = select.poll()
        poll.register(self._pipes.wake, select.POLLIN)
        # A millisecond more: rounding down would wake the loop before the deadline, in vain.
        if poll.poll(max(0, int((wake_at - now) * 1000) + 1)):
            return os.read(self._pipes.wake, 4096)
        return b""

    def _stop(self, reason: str, exit_code: ExitCode = ExitCode.OK) -> None:
        if self._is_stopping:
            count = counted(len(self._workers), "worker")
            self._log.warning("%s again: killing %s", reason, count)
            for worker in self._workers.values():
                self._kill(worker)
            return
        self._log.info("%s: stopping %s", reason, counted(len(self._workers), "worker"))
        self._is_stopping = True
        self._exit_code = exit_code
        self._serving = self._candidate = None
        self._due_starts.clear()
        for worker in self._workers.values():
            self._drain(worker)
        self._notifier.stopping()

    def _reload_if_wanted(self) -> None:
        # During a start or another reload the wish waits; during the stop it is void.
        if not self._is_reload_wanted or self._candidate or not self._serving:
            return
        self._is_reload_wanted = False
        self._notifier.reloading()
        try:
            self._candidate = self._start_generation()
        except ReloadRefused as refusal:
            self._log.error("reload refused: %s", refusal)
            self._notifier.ready("reload refused, serving as before")

    def _promote_candidate(self) -> None:
        """Let the candidate replace the serving generation once all its workers are ready."""
        candidate = self._candidate
        if candidate is None or any(
            worker.row.state is RowState.STARTING
            for worker in self._workers.values()
            if worker.generation is candidate
        ):
            return
        self._serving, self._candidate = candidate, None
        self._due_starts.clear()
        for worker in self._workers.values():
            if worker.generation is not candidate and not worker.is_leaving:
                self._retire(worker)
        self._log.info("%s (generation %d)", _who_serves(candidate), candidate.number)
        self._notifier.ready(self._status(candidate))

    def _drop_candidate(self, candidate: _Generation, reason: str, exit_code: ExitCode) -> None:
        self._candidate = None
        if self._serving is None:
            self._stop(f"cannot start: {reason}", exit_code)
            return
        self._log.error("reload failed, the workers of before stay: %s", reason)
        for worker in self._workers.values():
            if worker.generation is candidate:  # not killed: it may have associations by now
                self._retire(worker)
        self._notifier.ready("reload failed, serving as before")

    def _status(self, serving: _Generation) -> str:
        """Return who serves, and how many workers of before still have associations."""
        old = sum(worker.generation.number < serving.number for worker in self._workers.values())
        finishing = f"; finishing: {counted(old, 'old worker')}" if old else ""
        return f"{_who_serves(serving)}{finishing}"

    def _start_generation(self) -> _Generation:
        plan = self._load()
        count = plan.processes.worker_count
        if count > len(self._scoreboard) - len(self._workers) - len(self._due_starts):
            raise ReloadRefused(f"no room for {count} workers until retiring ones have left")
        self._generation_count += 1
        generation = _Generation(self._generation_count, plan)
        for _ in range(count):
            self._fork(generation, back_off_seconds=0.0)
        return generation

    def _start_due(self) -> None:
        """Replace the workers whose back-off is over."""
        now = self._clock()
        due = [start for start in self._due_starts if start[0] <= now]
        self._due_starts = [start for start in self._due_starts if start[0] > now]
        for _, back_off_seconds in due:
            if self._serving:
                self._fork(self._serving, back_off_seconds)

    def _fork(self, generation: _Generation, back_off_seconds: float) -> None:
        if threading.active_count() != 1:
            names = ", ".join(sorted(thread.name for thread in threading.enumerate()))
            raise RuntimeError(f"no fork with more than one thread running: {names}")
        row = self._scoreboard.occupy_row(generation.number)
        # Until the child has left the wake pipe, a signal to it would count as one to the parent.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_SIGNALS, signal.SIGUSR1})
        pid = os.fork()
        if pid == 0:
            self._become_worker(generation, row, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._workers[pid] = _Worker(pid, row, generation, self._clock(), back_off_seconds)
        self._log.info("worker %d started (generation %d)", pid, generation.number)

    def _become_worker(
        self, generation: _Generation, row: ScoreboardRow, mask: set[int | signal.Signals]
    ) -> NoReturn:
        """Run as a worker; the process ends here and never returns into the supervisor's stack."""
        code = int(ExitCode.WORKER_FAILED)
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group,
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # and so does the end of a terminal
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(self._pipes.wake)
            os.close(self._pipes.life)

            def ready() -> None:
                row.beat()
                row.set_state(RowState.SERVING)
                with suppress(OSError):  # full: it wakes anyhow; closed: parent_gone_fd tells
                    os.write(self._pipes.waker, b"\0")

            context = WorkerContext(
                row=row,
                scoreboard=self._scoreboard,
                listeners=self._listeners,
                generation=generation.number,
                ready=ready,
                parent_gone_fd=self._pipes.parent_gone,
            )
            code = int(generation.plan.run_worker(context))
        except BaseException:  # noqa: BLE001 - nothing may unwind into the supervisor's stack
            self._log.exception("worker %d failed", os.getpid())
        finally:
            os._exit(code)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                # As process 1 of a container the supervisor also gets orphans of others.
                if pid in self._workers:
                    self._bury(self._workers.pop(pid), os.waitstatus_to_exitcode(status))

    def _bury(self, worker: _Worker, code: int) -> None:
        """Log the end of a worker and do what follows from it."""
        lost = 0 if code == ExitCode.OK else worker.row.active
        worker.row.clear()
        end = describe_end(code, was_killed_here=worker.is_killed)
        if worker.is_leaving:
            self._take_leave(worker, end, lost)
            return
        if self._candidate and worker.generation is self._candidate:
            is_ours = code != ExitCode.OK and code in {*ExitCode}
            exit_code = ExitCode(code) if is_ours else ExitCode.WORKER_FAILED
            self._drop_candidate(self._candidate, f"worker {worker.pid} died: {end}", exit_code)
            return
        now = self._clock()
        delay_seconds = next_back_off_seconds(worker.back_off_seconds, now - worker.started_at)
        self._due_starts.append((now + delay_seconds, delay_seconds))
        consequence = f"died: {end}; the next starts in {delay_seconds:g} s"
        self._log.error("worker %d %s", worker.pid, consequence)
        self._notifier.status(f"a worker {consequence}")

    def _take_leave(self, worker: _Worker, end: str, lost: int) -> None:
        """Log the end of a worker that was to leave, and with how many associations it died."""
        if lost:
            what = counted(lost, "association")
            self._log.error("worker %d died with %s under way: %s", worker.pid, what, end)
        else:
            self._log.info("worker %d has left: %s", worker.pid, end)
        if self._serving and worker.generation.number < self._serving.number:
            self._notifier.status(self._status(self._serving))

    def _kill_overdue(self) -> None:
        now = self._clock()
        for worker in self._workers.values():
            kill_at, reason = worker.deadline()
            if kill_at <= now and not worker.is_killed:
                self._log.error("killing worker %d: %s", worker.pid, reason)
                self._kill(worker)

    def _retire(self, worker: _Worker) -> None:
        """Have a worker leave when its work is done; until then it has to show that it lives."""
        worker.is_leaving = True
        os.kill(worker.pid, signal.SIGUSR1)  # not reaped yet: the number is still the worker's

    def _drain(self, worker: _Worker) -> None:
        """Have a worker leave within its drain timeout, whether or not it retires already."""
        timeout_seconds = worker.generation.plan.processes.drain_timeout_seconds + _GRACE_SECONDS
        worker.is_leaving = True
        worker.kill_at = self._clock() + timeout_seconds
        os.kill(worker.pid, signal.SIGTERM)

    def _kill(self, worker: _Worker) -> None:
        worker.is_killed = True
        os.kill(worker.pid, signal.SIGKILL)

    def _feed_watchdog(self) -> None:
        now = self._clock()
        if self._watchdog_interval_seconds is None or now < self._watchdog_at:
            return
        self._watchdog_at = now + self._watchdog_interval_seconds
        # A worker that was due to be killed and is still there hangs in the kernel.
        if not any(worker.is_killed for worker in self._workers.values()):
            self._notifier.watchdog()


def _who_serves(generation: _Generation) -> str:
    # In one form whatever the number: programs wait for this line.
    return f"{generation.plan.processes.worker_count} workers serve"


@contextmanager
def _open_pipes() -> Iterator[_Pipes]:
    """Open the pipes and lead the signals into them; put everything back at the end."""
    pipes = _Pipes(*os.pipe(), *os.pipe())
    os.set_blocking(pipes.wake, False)
    os.set_blocking(pipes.waker, False)
    former_fd = signal.set_wakeup_fd(pipes.waker, warn_on_full_buffer=False)
    former = {number: signal.signal(number, _leave_it_to_the_pipe) for number in _SIGNALS}
    try:
        yield pipes
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former_fd)
        for descriptor in (pipes.wake, pipes.waker, pipes.parent_gone, pipes.life):
            os.close(descriptor)


def _leave_it_to_the_pipe(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: that a handler exists is what makes the interpreter write into the pipe."""
