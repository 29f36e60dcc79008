"""Ends of workers are told apart, and restarts are timed."""

import signal

import pytest

from pacsnode.daemon.restart import describe_end, next_back_off_seconds


@pytest.mark.parametrize(
    ("back_off_seconds", "ran_seconds", "expected"),
    [(0.0, 1.0, 0.1), (0.1, 1.0, 0.2), (12.8, 59.0, 25.6), (25.6, 0.0, 30.0), (30.0, 60.0, 0.1)],
)
def test_back_off(back_off_seconds: float, ran_seconds: float, expected: float) -> None:
    """The back-off doubles from 0.1 s to 30 s and begins again after 60 s of good running."""
    assert next_back_off_seconds(back_off_seconds, ran_seconds) == expected


@pytest.mark.parametrize(
    ("code", "was_killed_here", "expected"),
    [
        (0, False, "exit code 0 (OK)"),
        (73, False, "exit code 73 (STORAGE_UNUSABLE)"),
        (3, False, "exit code 3"),
        (-signal.SIGSEGV, False, "SIGSEGV"),
        (-signal.SIGKILL, False, "SIGKILL (killed, perhaps for memory)"),
        (-signal.SIGKILL, True, "SIGKILL"),
        (-40, False, "signal 40"),
    ],
)
def test_end_is_told_apart(code: int, was_killed_here: bool, expected: str) -> None:  # noqa: FBT001
    """The log says with which code or by which signal a worker ended."""
    assert describe_end(code, was_killed_here=was_killed_here) == expected
