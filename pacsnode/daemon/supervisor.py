"""The parent process: starts the workers, replaces those that die, reloads and stops the node.

How it works. One thread, one loop: sleep until a byte arrives in the wake pipe or the next deadline
is due; then take the signals, look at what the workers show, reap the dead, act on the deadlines.
Signal handlers do nothing: the interpreter writes each signal's number into the pipe. A worker's
ready() writes 0, only to wake; what it says is in the scoreboard.

Workers belong to a generation. The first one must start completely, or the service ends with the
exit code of the worker that could not. After that a worker that dies is replaced, each time later
(0.1 s doubling to 30 s, from the start again after 60 s of good running). SIGHUP starts a further
generation beside the serving one. Once all of it serves, the older ones get SIGUSR1: accept no
more, finish what runs, leave. If it fails to start, it is the one that goes. SIGTERM is handed on:
workers keep accepting connections, reject associations as transient and leave when their transfers
are done. Whoever was told to leave has drain_timeout_seconds and a little grace, then SIGKILL. A
second SIGTERM does not wait. A worker whose heartbeat stops is killed; systemd's watchdog is fed
only while there is no such worker. If the supervisor dies, a pipe to the workers closes: they leave.

The supervisor opens no catalog and starts no thread, so a fork never copies a lock that is held.
"""

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from socket import socket
from typing import NoReturn

from pacsnode.daemon.scoreboard import RowState, Scoreboard, ScoreboardRow
from pacsnode.daemon.systemd import Notifier
from pacsnode.exit_codes import ExitCode

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_FIRST_BACK_OFF_SECONDS = 0.1
_LONGEST_BACK_OFF_SECONDS = 30.0
_GOOD_RUN_SECONDS = 60.0
_GRACE_SECONDS = 2.0  # a worker that ends its drain in time still has to close


class ReloadRefused(Exception):  # noqa: N818 - an answer, named as one
    """The configuration cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """How many workers there are, and how long the supervisor waits for them."""

    worker_count: int
    start_timeout_seconds: float
    drain_timeout_seconds: float
    heartbeat_timeout_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker gets from the supervisor.

    The worker calls row.beat() at least once in heartbeat_timeout_seconds from ready() to its end,
    handles SIGTERM (drain) and SIGUSR1 (retire), and leaves when parent_gone_fd becomes readable.
    SIGINT and SIGHUP are ignored in it: they are the supervisor's.
    """

    row: ScoreboardRow
    scoreboard: Scoreboard  # for total_active()
    listeners: Sequence[socket]
    generation: int
    ready: Callable[[], None]  # to be called once, when the worker accepts
    parent_gone_fd: int  # never written to: readable (end of file) when the supervisor is gone


@dataclass(frozen=True, slots=True)
class Plan:
    """One reading of the configuration: the pool, and what each worker of it does."""

    processes: ProcessSettings
    run_worker: Callable[[WorkerContext], int]  # returns the exit code of the worker


class _Phase(Enum):
    STARTING = auto()
    SERVING = auto()
    STOPPING = auto()


@dataclass(slots=True)
class _Worker:
    """One forked worker, as the supervisor sees it."""

    pid: int
    row: ScoreboardRow
    generation: int
    processes: ProcessSettings
    started_at: float
    back_off_seconds: float  # what was waited before this start
    is_leaving: bool = False
    is_killed: bool = False
    kill_at: float = inf  # set when it is told to leave

    def deadline(self) -> tuple[float, str]:
        """Return when the worker has to be killed, and why."""
        if self.is_leaving:
            return self.kill_at, f"not done {self.processes.drain_timeout_seconds:g} s after asked"
        if self.row.state is RowState.STARTING:
            timeout = self.processes.start_timeout_seconds
            return self.started_at + timeout, f"not ready {timeout:g} s after its start"
        timeout = self.processes.heartbeat_timeout_seconds
        return self.row.heartbeat_seconds + timeout, f"no heartbeat for {timeout:g} s"


@dataclass(slots=True)
class _Generation:
    """A plan in force, and the starts that are still to come."""

    number: int
    plan: Plan
    due_starts: list[tuple[float, float]] = field(default_factory=list)  # (when, back-off)


class Supervisor:
    """Runs a pool of workers on shared listening sockets until it is told to stop.

    Args:
        load: Reads the configuration: at the start and at each SIGHUP. Raises ReloadRefused.
        listeners: Open listening sockets; the caller closes them.
        scoreboard: As many rows as there may be old and new workers at once.
        notifier: Who is told how the service is doing.
        watchdog_interval_seconds: How often the notifier wants a sign of life, or None.
        logger: Where starts, deaths and refusals are written.
        clock: The scoreboard's clock.
    """

    def __init__(  # noqa: PLR0913 - the parts the daemon is composed of, each once
        self,
        load: Callable[[], Plan],
        listeners: Sequence[socket],
        scoreboard: Scoreboard,
        notifier: Notifier,
        *,
        watchdog_interval_seconds: float | None,
        logger: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._listeners = listeners
        self._scoreboard = scoreboard
        self._notifier = notifier
        self._watchdog_interval = watchdog_interval_seconds
        self._log = logger
        self._clock = clock
        self._watchdog_at = inf if watchdog_interval_seconds is None else clock()
        self._phase = _Phase.STARTING
        self._exit_code = ExitCode.OK
        self._workers: dict[int, _Worker] = {}
        self._generations = 0
        self._serving: _Generation | None = None
        self._candidate: _Generation | None = None  # started, not yet serving
        self._is_reload_wanted = False

    def run(self) -> ExitCode:
        """Start the workers and keep them until a signal ends the service.

        Returns:
            OK after an orderly stop; CONFIGURATION if the first load was refused; the exit code of
            the worker that could not make the first start, WORKER_FAILED if it has no such code.

        Raises:
            RuntimeError: The process has more than one thread.
        """
        with self._wake_pipe(), self._life_pipe():
            try:
                self._candidate = self._start(self._load())
                while self._workers or self._phase is not _Phase.STOPPING:
                    self._turn()
            except ReloadRefused as refusal:
                self._log.error("cannot start: %s", refusal)  # noqa: TRY400 - the text says all
                return ExitCode.CONFIGURATION
            finally:
                for worker in self._workers.values():  # none, but after a fault of our own
                    self._signal(worker, signal.SIGKILL)
        return self._exit_code

    def _turn(self) -> None:
        for number in self._sleep():
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._stop(signal.Signals(number).name)
            elif number == signal.SIGHUP:
                self._is_reload_wanted = True
        self._reap()
        self._kill_overdue()
        self._promote_candidate()
        if self._is_reload_wanted and self._candidate is None and self._phase is _Phase.SERVING:
            self._is_reload_wanted = False
            self._reload()
        self._start_due()
        self._feed_watchdog()

    def _sleep(self) -> bytes:
        """Wait for a signal, a worker or the next deadline; return the signals that came."""
        due = [at for at, _ in self._serving.due_starts] if self._serving else []
        due += [worker.deadline()[0] for worker in self._workers.values() if not worker.is_killed]
        wait_seconds = min([self._watchdog_at, *due], default=inf) - self._clock()
        # One millisecond more, because poll() may come back within the millisecond before.
        wait = None if wait_seconds == inf else max(0, int(wait_seconds * 1000) + 1)
        if not self._wake_poll.poll(wait):
            return b""
        return os.read(self._wake_fd, 4096)

    # Signals

    def _stop(self, reason: str, exit_code: ExitCode = ExitCode.OK) -> None:
        if self._phase is _Phase.STOPPING:
            self._log.warning("%s again: killing %d workers", reason, len(self._workers))
            for worker in self._workers.values():
                self._kill(worker)
            return
        self._log.info("%s: stopping %d workers", reason, len(self._workers))
        self._phase = _Phase.STOPPING
        self._exit_code = exit_code
        self._serving = self._candidate = None
        self._notifier.stopping()
        for worker in self._workers.values():
            self._ask_to_leave(worker, signal.SIGTERM)

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            self._candidate = self._start(self._load())
        except ReloadRefused as refusal:
            self._log.error("reload refused, nothing changed: %s", refusal)  # noqa: TRY400 - as above
            self._notifier.ready("reload refused, serving as before")

    def _promote_candidate(self) -> None:
        """Let the candidate generation serve once all its workers do."""
        candidate = self._candidate
        if candidate is None:
            return
        workers = [w for w in self._workers.values() if w.generation == candidate.number]
        if any(worker.row.state is RowState.STARTING for worker in workers):
            return
        self._serving, self._candidate = candidate, None
        self._phase = _Phase.SERVING
        self._log.info("%d workers serve (generation %d)", len(workers), candidate.number)
        for worker in self._workers.values():
            if worker.generation != candidate.number and not worker.is_leaving:
                self._ask_to_leave(worker, signal.SIGUSR1)
        self._notifier.ready(f"{len(workers)} workers serve")

    def _give_up_candidate(self, candidate: _Generation, reason: str, code: ExitCode) -> None:
        self._candidate = None
        if self._serving is None:
            self._stop(f"cannot start: {reason}", code)
            return
        self._log.error("reload failed, the old workers stay: %s", reason)
        for worker in self._workers.values():
            if worker.generation == candidate.number:
                # One that serves may have a transfer by now; one that starts does not know how.
                is_starting = worker.row.state is RowState.STARTING
                worker.is_leaving = True
                if is_starting:
                    self._kill(worker)
                else:
                    self._ask_to_leave(worker, signal.SIGUSR1)
        self._notifier.ready("reload failed, serving as before")

    # Starting

    def _start(self, plan: Plan) -> _Generation:
        """Fork all workers of a new generation.

        Raises:
            ReloadRefused: The scoreboard has not enough rows left.
        """
        count = plan.processes.worker_count
        reserved = len(self._serving.due_starts) if self._serving else 0
        if count > len(self._scoreboard) - len(self._workers) - reserved:
            raise ReloadRefused(f"no room for {count} workers before the retiring ones have left")
        self._generations += 1
        generation = _Generation(self._generations, plan)
        for _ in range(count):
            self._fork(generation, back_off_seconds=0.0)
        return generation

    def _start_due(self) -> None:
        """Replace the workers whose back-off is over."""
        if self._serving is None:
            return
        now = self._clock()
        due = [start for start in self._serving.due_starts if start[0] <= now]
        self._serving.due_starts = [start for start in self._serving.due_starts if start[0] > now]
        for _, back_off_seconds in due:
            self._fork(self._serving, back_off_seconds)

    def _fork(self, generation: _Generation, back_off_seconds: float) -> None:
        if threading.active_count() != 1:
            names = ", ".join(sorted(thread.name for thread in threading.enumerate()))
            raise RuntimeError(f"the supervisor must not fork with threads running: {names}")
        rows = map(self._scoreboard.row, range(len(self._scoreboard)))
        row = next(row for row in rows if row.state is RowState.EMPTY)
        row.occupy(generation.number)
        # A signal to the child must not reach the pipe of the parent, which the child still holds.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_SIGNALS, signal.SIGUSR1})
        pid = os.fork()
        if pid == 0:
            self._become_worker(generation, row, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        processes = generation.plan.processes
        now = self._clock()
        worker = _Worker(pid, row, generation.number, processes, now, back_off_seconds)
        self._workers[pid] = worker
        self._log.info("worker %d started (generation %d)", pid, generation.number)

    def _become_worker(
        self, generation: _Generation, row: ScoreboardRow, mask: set[signal.Signals]
    ) -> NoReturn:
        """Run as a worker; the process ends here and never returns into the supervisor."""
        code = int(ExitCode.WORKER_FAILED)
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # so does the end of the terminal
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(self._wake_fd)
            os.close(self._life_fd)

            def ready() -> None:
                row.beat()
                row.set_state(RowState.SERVING)
                with suppress(OSError):  # full: it wakes anyway; closed: parent_gone_fd tells
                    os.write(self._waker_fd, b"\0")

            code = int(
                generation.plan.run_worker(
                    WorkerContext(
                        row=row,
                        scoreboard=self._scoreboard,
                        listeners=self._listeners,
                        generation=generation.number,
                        ready=ready,
                        parent_gone_fd=self._parent_gone_fd,
                    )
                )
            )
        except BaseException:
            self._log.exception("worker %d failed", os.getpid())
        finally:
            os._exit(code)

    # Ends

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                # As process 1 of a container the supervisor also gets strangers' orphans.
                if worker := self._workers.pop(ended[0], None):
                    worker_was_starting = worker.row.state is RowState.STARTING
                    worker.row.clear()
                    self._bury(worker, os.waitstatus_to_exitcode(ended[1]), worker_was_starting)

    def _bury(self, worker: _Worker, code: int, was_starting: bool) -> None:
        """Log the end of a worker and decide what follows from it."""
        end = describe_end(code, was_killed_by_supervisor=worker.is_killed)
        if worker.is_leaving:
            self._log.info("worker %d has left: %s", worker.pid, end)
            return
        self._log.error(
            "worker %d died %s: %s", worker.pid, "while starting" if was_starting else "", end
        )
        if self._candidate and worker.generation == self._candidate.number:
            own = code in {*ExitCode} and code != ExitCode.OK
            exit_code = ExitCode(code) if own else ExitCode.WORKER_FAILED
            self._give_up_candidate(self._candidate, f"worker {worker.pid}: {end}", exit_code)
        elif self._serving:
            now = self._clock()
            delay = next_back_off_seconds(worker.back_off_seconds, now - worker.started_at)
            self._serving.due_starts.append((now + delay, delay))
            self._log.info("the next worker starts in %g s", delay)

    def _kill_overdue(self) -> None:
        now = self._clock()
        for worker in self._workers.values():
            at, reason = worker.deadline()
            if at <= now and not worker.is_killed:
                self._log.error("killing worker %d: %s", worker.pid, reason)
                self._kill(worker)

    def _ask_to_leave(self, worker: _Worker, number: signal.Signals) -> None:
        timeout = worker.processes.drain_timeout_seconds + _GRACE_SECONDS
        worker.kill_at = min(worker.kill_at, self._clock() + timeout)
        worker.is_leaving = True
        self._signal(worker, number)

    def _kill(self, worker: _Worker) -> None:
        worker.is_killed = True
        self._signal(worker, signal.SIGKILL)

    def _signal(self, worker: _Worker, number: signal.Signals) -> None:
        # Not reaped yet, so the number cannot belong to another process by now.
        os.kill(worker.pid, number)

    def _feed_watchdog(self) -> None:
        """Give the sign of life, unless a worker hangs that not even SIGKILL has ended."""
        if self._watchdog_interval is None or self._clock() < self._watchdog_at:
            return
        self._watchdog_at = self._clock() + self._watchdog_interval
        if not any(worker.is_killed for worker in self._workers.values()):
            self._notifier.watchdog()

    # Pipes

    @contextmanager
    def _wake_pipe(self) -> Iterator[None]:
        """Let signals and workers wake the loop; put everything back at the end."""
        self._wake_fd, self._waker_fd = os.pipe()
        for descriptor in (self._wake_fd, self._waker_fd):
            os.set_blocking(descriptor, False)
        self._wake_poll = select.poll()
        self._wake_poll.register(self._wake_fd, select.POLLIN)
        wakeup = signal.set_wakeup_fd(self._waker_fd, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, _leave_to_the_pipe) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(self._wake_fd)
            os.close(self._waker_fd)
