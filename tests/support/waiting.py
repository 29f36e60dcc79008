"""Waiting for something that happens in another process: poll with a deadline, no blind sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_INTERVAL_SECONDS = 0.02


def wait_until(condition: Callable[[], T | None], what: str, timeout_seconds: float = 20) -> T:
    """Return the first true value of `condition`, asked some fifty times a second.

    Args:
        condition: asked at least once; must not block for long.
        what: completes the sentence "waited in vain for ...".
        timeout_seconds: a limit for slow machines, not an expectation.

    Raises:
        TimeoutError: the time is over and the condition never held.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_seconds} s in vain for {what}")
        time.sleep(_INTERVAL_SECONDS)
    return value
