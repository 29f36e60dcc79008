"""Shared memory in which each worker shows the supervisor, and the other workers, how it is doing.

How it works: one anonymous mapping, made before the first fork and so the same memory in every
process. A worker has one row of 64-bit integers, aligned, each written with a single store. Only
one process writes a row at a time: the worker while it lives, the supervisor before the fork and
after the end. A reader may see one number of a row before another; no decision needs both at once.
"""

import mmap
import time
from collections.abc import Callable
from enum import IntEnum

_ROW_BYTES = 64  # a cache line, so that workers do not slow each other's beats
_NUMBERS_PER_ROW = _ROW_BYTES // 8
_NANOSECONDS = 1_000_000_000
_STATE, _GENERATION, _HEARTBEAT, _ACTIVE = range(4)


class RowState(IntEnum):
    """What the worker of a row does."""

    EMPTY = 0  # no worker
    STARTING = 1  # forked, does not accept yet
    SERVING = 2  # accepts associations
    DRAINING = 3  # the node stops: accepts connections, rejects associations as transient
    RETIRING = 4  # newer workers serve: accepts nothing, finishes what is at work


class ScoreboardRow:
    """The part of the scoreboard that belongs to one worker."""

    def __init__(self, numbers: memoryview, clock: Callable[[], float]) -> None:
        self._numbers = numbers
        self._clock = clock

    @property
    def state(self) -> RowState:
        """What the worker does."""
        return RowState(self._numbers[_STATE])

    @property
    def generation(self) -> int:
        """Which start or reload the worker belongs to, counted from 1; 0 in an empty row."""
        return int(self._numbers[_GENERATION])

    @property
    def heartbeat_seconds(self) -> float:
        """When the worker last beat, on the scoreboard's clock; 0.0 in an empty row."""
        return float(self._numbers[_HEARTBEAT]) / _NANOSECONDS

    @property
    def active(self) -> int:
        """How many associations the worker has."""
        return int(self._numbers[_ACTIVE])

    def beat(self) -> None:
        """Show that the worker is alive now."""
        self._numbers[_HEARTBEAT] = int(self._clock() * _NANOSECONDS)

    def set_state(self, state: RowState) -> None:
        """Show what the worker does from now on."""
        self._numbers[_STATE] = int(state)

    def set_active(self, count: int) -> None:
        """Show how many associations the worker has; counting them is up to the worker."""
        self._numbers[_ACTIVE] = count

    def occupy(self, generation: int) -> None:
        """Give the row to a worker that is about to be forked."""
        self._numbers[_GENERATION] = generation
        self._numbers[_ACTIVE] = 0
        self.beat()
        self.set_state(RowState.STARTING)

    def clear(self) -> None:
        """Take the row back from a worker that has ended, with all it counted."""
        for column in (_STATE, _GENERATION, _HEARTBEAT, _ACTIVE):
            self._numbers[column] = 0


class Scoreboard:
    """Rows for as many workers as may live at once, shared by all processes forked after it.

    A reload needs rows for the old and the new workers, and for those of former reloads that still
    have work. The clock must give the same time in all processes, as time.monotonic does on Linux.
    """

    def __init__(self, rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        numbers = memoryview(mmap.mmap(-1, rows * _ROW_BYTES)).cast("q")
        self._rows = tuple(
            ScoreboardRow(numbers[start : start + _NUMBERS_PER_ROW], clock)
            for start in range(0, rows * _NUMBERS_PER_ROW, _NUMBERS_PER_ROW)
        )

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> ScoreboardRow:
        """Return the row with this number, counted from 0."""
        return self._rows[index]

    def occupy_row(self, generation: int) -> ScoreboardRow:
        """Give an empty row to a worker that is about to be forked.

        Raises:
            LookupError: All rows have a worker.
        """
        for row in self._rows:
            if row.state is RowState.EMPTY:
                row.occupy(generation)
                return row
        raise LookupError("all rows of the scoreboard are in use")

    def total_active(self) -> int:
        """Return the number of associations of the whole node.

        Who counts an association before he asks never lets in one too many; two that do so at the
        same moment may both find the last place taken.
        """
        return sum(row.active for row in self._rows)
