"""Many threads whose work is done together."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from pacsnode.services.rounds import Rounds
from tests.support.waiting import wait_until

_SECONDS = 20


class _Work:
    """Notes each round; a round with "slow" in it lasts until it is told to end."""

    def __init__(self) -> None:
        self.rounds: list[tuple[str, ...]] = []
        self.is_slow = threading.Event()
        self.end = threading.Event()
        self.interrupt: BaseException | None = None

    def __call__(self, works: Sequence[str]) -> Sequence[str | Exception]:
        self.rounds.append(tuple(works))
        if "slow" in works:
            self.is_slow.set()
            assert self.end.wait(_SECONDS)
            if self.interrupt is not None:
                raise self.interrupt
        if "all fail" in works:
            raise ZeroDivisionError
        return [ValueError(work) if work == "fails" else work.upper() for work in works]


@pytest.fixture
def work() -> _Work:
    """What the rounds do."""
    return _Work()


@pytest.fixture
def rounds(work: _Work) -> Rounds[str, str]:
    """Rounds of it."""
    return Rounds(work)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that take part."""
    with ThreadPoolExecutor(4) as made:
        yield made


Started = tuple[Future[str], list[Future[str]]]


@pytest.fixture
def during_a_round(
    work: _Work, rounds: Rounds[str, str], threads: ThreadPoolExecutor
) -> Callable[..., Started]:
    """Start a slow round, and have others come meanwhile; then end it."""

    def start(*others: str) -> Started:
        slow = threads.submit(rounds.do, "slow")
        assert work.is_slow.wait(_SECONDS)
        waiting = []
        for number, other in enumerate(others, 1):
            waiting.append(threads.submit(rounds.do, other))
            wait_until(lambda n=number: len(rounds._waiting) == n, "the other to wait")
        work.end.set()
        return slow, waiting

    return start


def test_who_is_alone_waits_for_nobody(work: _Work, rounds: Rounds[str, str]) -> None:
    """One round for each piece of work, in the thread that wants it."""
    assert [rounds.do("a"), rounds.do("b")] == ["A", "B"]
    assert work.rounds == [("a",), ("b",)]


def test_what_comes_during_a_round_is_done_in_one_after_it(
    work: _Work, during_a_round: Callable[..., Started]
) -> None:
    """Three rounds' worth of waiting are one round, and each gets what came of its own work."""
    slow, waiting = during_a_round("a", "b", "c")
    assert slow.result(_SECONDS) == "SLOW"
    assert [future.result(_SECONDS) for future in waiting] == ["A", "B", "C"]
    assert work.rounds == [("slow",), ("a", "b", "c")]


def test_an_error_reaches_only_whom_it_concerns(during_a_round: Callable[..., Started]) -> None:
    """The others of the round get their results."""
    _, (first, second, third) = during_a_round("a", "fails", "c")
    with pytest.raises(ValueError, match="fails"):
        second.result(_SECONDS)
    assert (first.result(_SECONDS), third.result(_SECONDS)) == ("A", "C")


def test_an_error_of_the_whole_round_reaches_everyone(
    rounds: Rounds[str, str], during_a_round: Callable[..., Started]
) -> None:
    """And the next round is held as ever."""
    _, waiting = during_a_round("a", "all fail")
    for future in waiting:
        with pytest.raises(ZeroDivisionError):
            future.result(_SECONDS)
    assert rounds.do("b") == "B"


def test_an_interrupt_of_the_leader_leaves_the_others_to_the_next(
    work: _Work, rounds: Rounds[str, str], during_a_round: Callable[..., Started]
) -> None:
    """Whoever waits is served, and nobody waits for ever."""
    work.interrupt = SystemExit()
    slow, waiting = during_a_round("a", "b")
    with pytest.raises(SystemExit):
        slow.result(_SECONDS)
    assert [future.result(_SECONDS) for future in waiting] == ["A", "B"]
    assert rounds.do("c") == "C"


def test_an_interrupted_round_is_held_again_for_its_followers(
    work: _Work, rounds: Rounds[str, str], threads: ThreadPoolExecutor
) -> None:
    """What was in the round of an interrupted leader is in the next one."""
    work.interrupt = SystemExit()
    first = threads.submit(rounds.do, "slow")
    assert work.is_slow.wait(_SECONDS)
    leader = threads.submit(rounds.do, "slow")
    wait_until(lambda: len(rounds._waiting) == 1, "the leader to wait")
    follower = threads.submit(rounds.do, "a")
    wait_until(lambda: len(rounds._waiting) == 2, "the follower to wait")
    work.end.set()
    for future in (first, leader):
        with pytest.raises(SystemExit):
            future.result(_SECONDS)
    assert follower.result(_SECONDS) == "A"
    assert work.rounds == [("slow",), ("slow", "a"), ("a",)]


def test_many_threads_get_each_their_own(rounds: Rounds[str, str]) -> None:
    """Thousands of pieces of work from eight threads: none lost, none mixed up."""
    texts = [f"work {number}" for number in range(4000)]
    with ThreadPoolExecutor(8) as many:
        assert list(many.map(rounds.do, texts)) == [text.upper() for text in texts]


def test_an_interrupt_of_one_who_waits_holds_up_nobody(
    work: _Work, rounds: Rounds[str, str], threads: ThreadPoolExecutor
) -> None:
    """The next round is held without it, and so are those after it."""
    slow = threads.submit(rounds.do, "slow")
    assert work.is_slow.wait(_SECONDS)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_until(lambda: len(rounds._waiting) == 1, "the main thread to wait")
        signal.pthread_kill(main, signal.SIGINT)

    interrupted = threads.submit(interrupt)
    with pytest.raises(KeyboardInterrupt):
        rounds.do("interrupted")
    interrupted.result(_SECONDS)
    follower = threads.submit(rounds.do, "a")
    wait_until(lambda: len(rounds._waiting) == 1, "the follower to wait")
    work.end.set()
    assert slow.result(_SECONDS) == "SLOW"
    assert follower.result(_SECONDS) == "A"
    assert threads.submit(rounds.do, "b").result(_SECONDS) == "B"
    assert work.rounds == [("slow",), ("a",), ("b",)]
