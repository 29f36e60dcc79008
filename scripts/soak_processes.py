"""What the workers hold: threads, descriptors and memory, as the kernel tells it.

Source: proc(5): /proc/PID/task, /proc/PID/fd, RssAnon in /proc/PID/status.
"""

import itertools
import os
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from bench_processes import kibibytes

from tests.support.node import Node

BYTES_PER_MIB = 1024**2
_SAMPLE_SECONDS = 1.0
_QUIET_SECONDS = 2.0
_BYTES_PER_KIB = 1024


@dataclass(frozen=True, slots=True)
class Holding:
    """What one worker holds at one moment.

    Attributes:
        threads: how many.
        descriptors: how many of each sort.
    """

    threads: int
    descriptors: Counter[str]

    @property
    def sockets(self) -> int:
        """Listening ones and connections."""
        return self.descriptors["socket"]

    @property
    def lasting(self) -> int:
        """All descriptors but those of the catalog, whose connections are kept for later."""
        return self.descriptors.total() - self.descriptors["catalog"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The anonymous memory of a worker at a moment of the run."""

    at_seconds: float
    size_bytes: int


@dataclass(slots=True)
class Memory:
    """Samples of the memory of every worker that ever was, by process id."""

    node: Node
    began_at: float = field(default_factory=time.monotonic)
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    def watch(self, stop: Event) -> None:
        """Take a sample of each worker once a second, until told to stop."""
        while not stop.wait(_SAMPLE_SECONDS):
            for pid in self.node.workers():
                with suppress(OSError):
                    now = time.monotonic() - self.began_at
                    self.samples.setdefault(pid, []).append(Sample(now, _anonymous_bytes(pid)))


def holdings(node: Node) -> dict[int, Holding]:
    """Return what each worker holds now; workers that end meanwhile are left out."""
    found = {}
    for pid in node.workers():
        with suppress(OSError):
            found[pid] = _holding(pid)
    return found


def wait_until_quiet(node: Node, sockets: int, workers: int, timeout_seconds: float) -> bool:
    """Wait until no worker has a connection and nothing is on its way, for some time.

    Args:
        node: which.
        sockets: of a worker that has no connection.
        workers: how many there must be.
        timeout_seconds: how long at the most.

    Returns:
        Whether it became quiet.
    """
    incoming = node.storage_folder / "incoming"
    deadline = time.monotonic() + timeout_seconds
    quiet_since: float | None = None
    while (now := time.monotonic()) < deadline:
        held = holdings(node)
        is_quiet = (
            len(held) == workers
            and all(each.sockets <= sockets for each in held.values())
            and not any(path.is_file() for path in incoming.rglob("*"))
        )
        quiet_since = (quiet_since or now) if is_quiet else None
        if quiet_since is not None and now - quiet_since > _QUIET_SECONDS:
            return True
        time.sleep(0.1)
    return False


def level(samples: Sequence[Sample], begin_seconds: float, end_seconds: float) -> float | None:
    """Return the median of the samples between two moments, in bytes; None without any."""
    between = [
        each.size_bytes for each in samples if begin_seconds <= each.at_seconds <= end_seconds
    ]
    return statistics.median(between) if between else None


def levels_by_tenth(samples: Sequence[Sample]) -> list[float]:
    """Return the level of each tenth of the time that the samples span, in bytes."""
    begin = samples[0].at_seconds
    tenth = (samples[-1].at_seconds - begin) / 10
    edges = [begin + tenth * number for number in range(11)]
    levels = [level(samples, *each) for each in itertools.pairwise(edges)]
    return [each for each in levels if each is not None]


def longest_lived(samples: Mapping[int, Sequence[Sample]], until_seconds: float) -> int | None:
    """Return the worker that has the most samples and one after this moment; None without one."""
    lasting = {pid: each for pid, each in samples.items() if each[-1].at_seconds >= until_seconds}
    return max(lasting, key=lambda pid: len(lasting[pid]), default=None)


def sort_of(target: str) -> str:
    """Return the sort of a descriptor, given what its link in /proc says.

    A file is told by its name, without the names of folders.
    """
    kind, is_other, _ = target.partition(":")
    if is_other and not target.startswith("/"):
        return kind
    name = Path(target).name
    return "catalog" if name.startswith("catalog.sqlite") and "lock" not in name else name


def _holding(pid: int) -> Holding:
    process = Path("/proc") / str(pid)
    descriptors: Counter[str] = Counter()
    for link in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed since the folder was read
            descriptors[sort_of(os.readlink(link))] += 1  # noqa: PTH115 - no path but a sort
    threads = sum(1 for _ in (process / "task").iterdir())
    return Holding(threads, descriptors)


def _anonymous_bytes(pid: int) -> int:
    status = (Path("/proc") / str(pid) / "status").read_text(encoding="ascii", errors="replace")
    size_kibibytes = kibibytes(status, "RssAnon")
    if size_kibibytes:
        return size_kibibytes * _BYTES_PER_KIB
    raise ProcessLookupError(pid)  # a process that has ended, but is not reaped yet
