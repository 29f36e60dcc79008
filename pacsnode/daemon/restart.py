"""How a worker ended, in words, and how long to wait before the next one is started."""

import signal

from pacsnode.exit_codes import ExitCode

_FIRST_BACK_OFF_SECONDS = 0.1
_LONGEST_BACK_OFF_SECONDS = 30.0
_GOOD_RUN_SECONDS = 60.0


def next_back_off_seconds(back_off_seconds: float, ran_seconds: float) -> float:
    """Return how long to wait before a worker that died is replaced.

    Args:
        back_off_seconds: What was waited before that worker was started; 0.0 for a first start.
        ran_seconds: How long it ran.
    """
    if ran_seconds >= _GOOD_RUN_SECONDS:
        return _FIRST_BACK_OFF_SECONDS
    return min(max(2 * back_off_seconds, _FIRST_BACK_OFF_SECONDS), _LONGEST_BACK_OFF_SECONDS)


def describe_end(code: int, *, was_killed_here: bool) -> str:
    """Return what an operator can read from the end of a worker.

    Args:
        code: The exit code, or the negative number of the signal that ended the worker.
        was_killed_here: The supervisor itself sent SIGKILL.
    """
    if code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        is_unexplained = name == "SIGKILL" and not was_killed_here
        return f"{name} (killed, perhaps for memory)" if is_unexplained else name
    return (
        f"exit code {code} ({ExitCode(code).name})" if code in {*ExitCode} else f"exit code {code}"
    )
