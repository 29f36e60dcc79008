"""What the supervisor and its workers agree on: a plan, and what each worker is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import socket

from pacsnode.daemon.scoreboard import Scoreboard, ScoreboardRow


class ReloadRefused(Exception):  # noqa: N818 - an answer, named as one
    """The configuration cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """How many workers there are, and how long the supervisor waits for them.

    The drain timeout is that of a stop; a worker that retires is waited for while it beats.
    """

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
