"""Rounds: what many threads want done at the same time is done for all of them at once.

How it works. Who comes while nothing is under way leads a round: it takes what waits, does it and
tells the others. Who comes meanwhile waits. At the end of a round the first of those who wait leads
the next. So no thread of its own is needed, and who is alone waits for nobody.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")


class _Entry(Generic[Work, Result]):
    """What one thread wants done, and what came of it.

    Attributes:
        work: what is to be done.
        outcome: what came of it, or why it could not be done; None until then.
        is_called: locked until it is done, or the thread is to lead.
        is_leader: the thread leads a round, or is to lead the next one.
        has_left: the thread was interrupted; nobody waits for the work any more.
    """

    __slots__ = ("has_left", "is_called", "is_leader", "outcome", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.outcome: Result | Exception | None = None
        self.is_called = threading.Lock()
        self.is_called.acquire()
        self.is_leader = False
        self.has_left = False


class Rounds(Generic[Work, Result]):
    """Does the work of many threads in rounds; do() may be called by any thread."""

    def __init__(self, do_all: Callable[[Sequence[Work]], Sequence[Result | Exception]]) -> None:
        """Hold rounds of a kind of work.

        Args:
            do_all: does several pieces of work together, and returns what came of each in their
                order: a result, never None, or an error. An error that it raises is that of all.
                It is never called by two threads at once.
        """
        self._do_all = do_all
        self._guard = threading.Lock()
        self._waiting: list[_Entry[Work, Result]] = []
        self._is_under_way = False

    def do(self, work: Work) -> Result:
        """Have something done in a round, and return what came of it.

        Raises:
            Exception: what do_all returned or raised for it.
        """
        entry: _Entry[Work, Result] = _Entry(work)
        with self._guard:
            self._waiting.append(entry)
            entry.is_leader, self._is_under_way = not self._is_under_way, True
        try:
            if not entry.is_leader:
                entry.is_called.acquire()
            if entry.outcome is None:
                self._lead(entry)
        except BaseException:
            self._leave(entry)
            raise
        match entry.outcome:
            case None:
                raise LookupError("a round was held without its leader")
            case Exception() as error:
                raise error
            case result:
                return result

    def _lead(self, own: _Entry[Work, Result]) -> None:
        """Hold a round, and call those whose work is done and who leads the next one."""
        entries: list[_Entry[Work, Result]] = []
        try:
            with self._guard:
                entries, self._waiting = self._waiting, []
            self._do_round(entries)
        finally:
            others = [entry for entry in entries if entry is not own]
            called = [entry for entry in others if entry.outcome is not None]
            with self._guard:
                # Some are left only by an interrupt: their work is for the next round.
                left = [entry for entry in others if entry.outcome is None]
                self._waiting[:0] = [entry for entry in left if not entry.has_left]
                own.is_leader = False
                self._call_next_leader()
            for entry in called:
                entry.is_called.release()

    def _leave(self, entry: _Entry[Work, Result]) -> None:
        """Wait no longer; what a round has begun with is done all the same."""
        with self._guard:
            entry.has_left = True
            if entry in self._waiting:
                self._waiting.remove(entry)
            if entry.is_leader:  # called at the moment of the interrupt
                entry.is_leader = False
                self._call_next_leader()

    def _call_next_leader(self) -> None:
        """Have the first of those who wait hold the next round; the caller has the guard."""
        self._is_under_way = bool(self._waiting)
        for leader in self._waiting[:1]:
            leader.is_leader = True
            leader.is_called.release()

    def _do_round(self, entries: Sequence[_Entry[Work, Result]]) -> None:
        """Do what several want, and note what came of each."""
        outcomes: Sequence[Result | Exception]
        try:
            outcomes = self._do_all([entry.work for entry in entries])
        except Exception as error:  # noqa: BLE001 - raised again, by everyone whose work it was
            outcomes = [error] * len(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            entry.outcome = outcome
