"""Sending with DCMTK's dcmsend, one process for each association, timed by its own log.

The time of a measurement runs from the first A-ASSOCIATE-RQ to the last response, whatever the
tool does before and after. Only what was answered with Success counts.
"""

import resource
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench_peers import Server

_TIMEOUT_SECONDS = 120
_LOG_PATTERN = "%D{%s.%Q} %p %m%n"
_BEGINNING = "Requesting Association"
_RESPONSE = "Received C-STORE Response ("
_SUCCESS = "Received C-STORE Response (Success)"


class SendError(Exception):
    """A sender could not be run, so nothing was measured."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What some senders, working at the same time, have achieved.

    Attributes:
        offered: instances to be sent.
        acknowledged: instances answered with Success.
        seconds: from the first A-ASSOCIATE-RQ to the last response.
        sender_cpu_seconds: processor time of all senders together.
        failures: how often what went wrong.
    """

    offered: int
    acknowledged: int
    seconds: float
    sender_cpu_seconds: float
    failures: Counter[str]

    @property
    def rate(self) -> float:
        """Acknowledged instances for each second."""
        return self.acknowledged / self.seconds


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
    log_config = log.with_suffix(".cfg")
    log_config.write_text(
        "log4cplus.rootLogger = INFO, file\n"
        "log4cplus.appender.file = log4cplus::FileAppender\n"
        f"log4cplus.appender.file.File = {log}\n"
        "log4cplus.appender.file.layout = log4cplus::PatternLayout\n"
        f"log4cplus.appender.file.layout.ConversionPattern = {_LOG_PATTERN}\n",
        encoding="utf-8",
    )
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


def _read_logs(logs: Sequence[Path], offered: int, cpu_seconds: float) -> Sending:
    begun, answered, failures = [], [], Counter[str]()
    acknowledged = 0
    for log in logs:
        for time_seconds, level, message in _lines(log):
            if message == _BEGINNING:
                begun.append(time_seconds)
            elif message.startswith(_RESPONSE):
                answered.append(time_seconds)
                acknowledged += message == _SUCCESS
                failures[message.removeprefix("Received ")] += message != _SUCCESS
            elif level in {"ERROR", "FATAL"}:
                failures[_without_number(message)] += 1
    if not begun:
        raise SendError(f"dcmsend has not requested an association: {dict(failures)}")
    seconds = max(answered, default=begun[0]) - min(begun)
    return Sending(offered, acknowledged, seconds or 1.0, cpu_seconds, +failures)


def _lines(log: Path) -> list[tuple[float, str, str]]:
    """Return time, level and message of each line of a log."""
    if not log.exists():
        return []
    lines = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        stamp, _, rest = line.partition(" ")
        level, _, message = rest.partition(" ")
        # Seconds, milliseconds and microseconds, each after a point.
        whole, _, fraction = stamp.partition(".")
        if whole.isdigit():
            time_seconds = float(f"{whole}.{fraction.replace('.', '')}")
            lines.append((time_seconds, level, message.strip()))
    return lines


def _without_number(message: str) -> str:
    """Return a message without what differs between two failures of the same kind."""
    return message.partition(", MsgID")[0].partition(" file: ")[0]
