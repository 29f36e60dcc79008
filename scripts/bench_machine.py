"""What the figures were measured on."""

import os
import platform
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_PROBE_COUNT = 50
_PROBE_LENGTH_BYTES = 4096
_BYTES_PER_GIB = 1024**3
_MILLISECONDS_PER_SECOND = 1000


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, the software, and the disk of the servers.

    Attributes:
        lines: what to print.
        is_disk_volatile: the servers write to memory, so that syncing costs nothing.
    """

    lines: list[str]
    is_disk_volatile: bool


class ForeignLoad:
    """Watches how much of the processors was used by others than the bench."""

    def __init__(self) -> None:
        """Begin to watch."""
        self._began_at = time.monotonic()
        self._busy_seconds = _busy_seconds()
        self._own_seconds = _own_seconds()

    def cores(self) -> float:
        """Return how many cores others kept busy until now, on average: 1.0 is one.

        The kernel counts as others; so do processes of this bench that have not ended.
        """
        busy_seconds = _busy_seconds() - self._busy_seconds
        own_seconds = _own_seconds() - self._own_seconds
        return max(busy_seconds - own_seconds, 0.0) / (time.monotonic() - self._began_at)


def describe_machine(folder: Path) -> Machine:
    """Describe the machine, and the file system of the folder that the servers write to."""
    cores = len(os.sched_getaffinity(0))
    file_system = _output("findmnt", "-no", "FSTYPE", "-T", str(folder)) or "unknown"
    lines = [
        f"CPU: {_cpu_model()}, {cores} cores; memory: {_memory_gib():.0f} GiB",
        (
            f"Disk: {file_system}; writing {_PROBE_LENGTH_BYTES // 1024} KiB and syncing takes "
            f"{_sync_milliseconds(folder):.2f} ms (median)"
        ),
        (
            f"{_distribution()}, {platform.system()} {platform.release()}; "
            f"Python {platform.python_version()}; DCMTK {_dcmtk_version()}; "
            f"Orthanc {_orthanc_version()}"
        ),
    ]
    is_volatile = file_system in {"tmpfs", "ramfs", "overlay"}
    return Machine(lines, is_volatile)


def _busy_seconds() -> float:
    """Return the processor time that all processors have been at work, since the start."""
    first_line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, ...
    user, nice, system, _, _, irq, softirq, steal = map(int, first_line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Return the processor time of this process and of its descendants that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _BYTES_PER_GIB


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown distribution"


def _dcmtk_version() -> str:
    """Return the version as dcmsend says it: `$dcmtk: dcmsend v3.6.7 2022-04-22 $`."""
    words = _output("dcmsend", "--version").split()
    return next((word.removeprefix("v") for word in words if word.startswith("v")), "unknown")


def _orthanc_version() -> str:
    return _output("dpkg-query", "--show", "--showformat", "${Version}", "orthanc") or "unknown"


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return done.stdout.strip()


def _sync_milliseconds(folder: Path) -> float:
    """Return how long appending a little to a file and syncing it takes: the median."""
    path = folder / "sync-probe"
    durations = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_PROBE_COUNT):
            started_at = time.perf_counter()
            file.write(bytes(_PROBE_LENGTH_BYTES))
            os.fsync(file.fileno())
            durations.append(time.perf_counter() - started_at)
    path.unlink()
    return statistics.median(durations) * _MILLISECONDS_PER_SECOND
