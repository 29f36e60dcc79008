"""What the processes of a server use: memory and processor time, as the kernel counts them.

Source: proc_pid_stat(5), proc_pid_status(5), and smaps_rollup in the kernel's documentation.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
_BYTES_PER_KIB: Final = 1024
# Places behind the name in brackets, which is the second field and may have blanks.
_SESSION, _UTIME, _STIME = 3, 11, 12
_RESET_PEAK = "5"  # clear_refs: the peak of the resident memory becomes what is resident now


class Processes:
    """All processes of one session that run when they are asked for."""

    def __init__(self, session: int) -> None:
        """Take those of the session with this id."""
        self._session = session

    def cpu_seconds(self) -> float:
        """Return the processor time of all together, user and system."""
        ticks = sum(
            int(field)
            for fields in self._stat().values()
            for field in (fields[_UTIME], fields[_STIME])
        )
        return ticks / os.sysconf("SC_CLK_TCK")

    def proportional_bytes(self) -> int:
        """Return the memory of all together; what several share counts once (Pss)."""
        return sum(self._of_each("smaps_rollup", "Pss").values())

    def anonymous_bytes(self) -> dict[int, int]:
        """Return the memory of each that is not a file's, by process id."""
        return self._of_each("smaps_rollup", "Anonymous")

    def resident_bytes(self) -> dict[int, int]:
        """Return the resident memory of each, by process id (VmRSS)."""
        return self._of_each("status", "VmRSS")

    def peak_bytes(self) -> dict[int, int]:
        """Return the most that was ever resident of each, by process id (VmHWM)."""
        return self._of_each("status", "VmHWM")

    def reset_peak(self) -> None:
        """Let the peak of each begin again with what is resident now."""
        for process_id in self._stat():
            (_PROCESSES / str(process_id) / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")

    def _of_each(self, file_name: str, name: str) -> dict[int, int]:
        sizes = {}
        for process_id in self._stat():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                text = (_PROCESSES / str(process_id) / file_name).read_text(encoding="ascii")
                sizes[process_id] = kibibytes(text, name) * _BYTES_PER_KIB
        return sizes

    def _stat(self) -> dict[int, list[str]]:
        """Return the fields of each process behind its name, by process id."""
        found = {}
        for folder in _PROCESSES.glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
                fields = text.rpartition(")")[2].split()
                if int(fields[_SESSION]) == self._session:
                    found[int(folder.name)] = fields
        return found


class Peaks:
    """The most that was seen of each of several values."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.values: dict[int, int] = {}

    def see(self, values: dict[int, int]) -> None:
        """Take values by their keys."""
        for key, value in values.items():
            self.values[key] = max(value, self.values.get(key, 0))


@contextmanager
def sampled(sample: Callable[[], dict[int, int]], interval_seconds: float) -> Iterator[Peaks]:
    """Look at values again and again during the block, and once more at its end."""
    peaks, is_over = Peaks(), threading.Event()

    def look() -> None:
        while True:
            peaks.see(sample())
            if is_over.wait(interval_seconds):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        is_over.set()
        thread.join()
        peaks.see(sample())


def kibibytes(text: str, name: str) -> int:
    """Return a value of a file with lines such as `VmRSS:     1234 kB`."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    return 0
