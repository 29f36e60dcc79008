"""Sending with DCMTK's dcmsend, one process for each association, timed by its own log.

What the tool does before its A-ASSOCIATE-RQ and after its last response does not count. Only what
was answered with Success counts.
"""

import resource
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench_dcmtk_log import read_lines, write_log_config
from bench_peers import Server

_TIMEOUT_SECONDS = 120
_BEGINNING = "Requesting Association"
_RESPONSE = "Received C-STORE Response ("
_ENOUGH_TOGETHER = 0.3  # of the whole time
_SUCCESS = "Received C-STORE Response (Success)"


class SendError(Exception):
    """A sender could not be run, so nothing was measured."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What some senders, working at the same time, have achieved.

    Attributes:
        offered: instances to be sent.
        acknowledged: instances answered with Success.
        began_at: when the first A-ASSOCIATE-RQ was about to be sent, in seconds since the epoch.
        seconds: from then to the last response.
        rate: acknowledged instances a second, while all senders were at work.
        most_at_once: associations that were under way at the same time.
        sender_cpu_seconds: processor time of all senders together.
        failures: how often what went wrong.
    """

    offered: int
    acknowledged: int
    began_at: float
    seconds: float
    rate: float
    most_at_once: int
    sender_cpu_seconds: float
    failures: Counter[str]


def send(
    server: Server, batches: Sequence[Sequence[Path]], folder: Path, environment: Mapping[str, str]
) -> Sending:
    """Send each batch in an association of its own, all at the same time.

    Args:
        server: to whom.
        batches: the files of each association.
        folder: for the logs of the senders; its content is replaced.
        environment: of the senders.

    Raises:
        SendError: not even an association was requested.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"{number}.log" for number in range(len(batches))]
    before = _cpu_seconds_of_ended_children()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for batch, log in zip(batches, logs, strict=True):
            processes.append(_start(server, batch, log, environment))
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_TIMEOUT_SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    cpu_seconds = _cpu_seconds_of_ended_children() - before
    return _read_logs(logs, sum(map(len, batches)), cpu_seconds)


def _start(
    server: Server, batch: Sequence[Path], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    log.unlink(missing_ok=True)
    log_config = write_log_config(log)
    host, port = server.address
    options = ["--no-halt", "--log-config", str(log_config), "--call", server.peer.ae_title]
    return subprocess.Popen(
        ["dcmsend", *options, host, str(port), *map(str, batch)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _cpu_seconds_of_ended_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass(slots=True)
class _Log:
    """What one sender has written: when it did what, and what went wrong.

    Attributes:
        begun: when it was about to send the A-ASSOCIATE-RQ; empty if it never was.
        answered: when each response came.
        successes: those that were Success.
        failures: how often what went wrong.
    """

    begun: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def span(self) -> tuple[float, float]:
        """From the A-ASSOCIATE-RQ to the last response."""
        return self.begun[0], max(self.answered, default=self.begun[0])


def _read_logs(paths: Sequence[Path], offered: int, cpu_seconds: float) -> Sending:
    logs = [_read_log(path) for path in paths]
    failures = sum((log.failures for log in logs), Counter[str]())
    spans = [log.span for log in logs if log.begun]
    if not spans:
        raise SendError(f"dcmsend has not requested an association: {dict(failures)}")
    successes = [instant for log in logs for instant in log.successes]
    began_at = min(begin for begin, _ in spans)
    return Sending(
        offered=offered,
        acknowledged=len(successes),
        began_at=began_at,
        seconds=max(end for _, end in spans) - began_at,
        rate=_rate(spans, successes),
        most_at_once=_most_at_once(spans),
        sender_cpu_seconds=cpu_seconds,
        failures=failures,
    )


def _read_log(path: Path) -> _Log:
    log = _Log()
    for time_seconds, level, message in read_lines(path):
        if message == _BEGINNING:
            log.begun.append(time_seconds)
        elif message.startswith(_RESPONSE):
            log.answered.append(time_seconds)
            if message == _SUCCESS:
                log.successes.append(time_seconds)
            else:
                log.failures[message.removeprefix("Received ")] += 1
        elif level in {"ERROR", "FATAL"}:
            log.failures[_without_number(message)] += 1
    return log


def _rate(spans: Sequence[tuple[float, float]], successes: Sequence[float]) -> float:
    """Return how many instances a second were answered while all senders were at work.

    To start many of them takes a good part of a second, and more beside a server that is busy; so
    the time counts in which the associations were as many as they should be. If there is not
    enough of it, because an association has failed or was starved, all of the time counts.
    """
    begins, ends = zip(*spans, strict=True)
    whole = (min(begins), max(ends))
    together = (max(begins), min(ends))
    is_enough = together[1] - together[0] >= _ENOUGH_TOGETHER * (whole[1] - whole[0])
    begin, end = together if is_enough else whole
    count = sum(begin < instant <= end for instant in successes)
    return count / (end - begin) if end > begin else 0.0


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    return max(sum(begin <= instant <= end for begin, end in spans) for instant, _ in spans)


def _without_number(message: str) -> str:
    """Return a message without what differs between two failures of the same kind."""
    return message.partition(", MsgID")[0].partition(" file: ")[0]
