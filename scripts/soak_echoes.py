"""Sends a C-ECHO after the other and prints how long each took, until it is told to stop (SIGTERM).

A process of its own, so that the load of the soak does not slow the clock down. Each has an
association of its own, and its time runs from the TCP connection to the answer.

    soak_echoes.py HOST PORT

A line has the monotonic clock at the beginning and the seconds, or `lost` instead of these.
"""

import sys
import time

from tests.support.wire import (
    VERIFICATION,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    ProposedContext,
    Requestor,
)

_PAUSE_SECONDS = 0.15
_TIMEOUT_SECONDS = 10


def main() -> None:
    """Send until SIGTERM ends the process."""
    address = sys.argv[1], int(sys.argv[2])
    while True:
        began_at = time.monotonic()
        print(f"{began_at:.3f} {_echo(address, began_at)}", flush=True)
        time.sleep(_PAUSE_SECONDS)


def _echo(address: tuple[str, int], began_at: float) -> str:
    requestor = Requestor(calling_ae_title=b"ECHO", timeout_seconds=_TIMEOUT_SECONDS)
    seconds = None
    try:
        with Association(address, [ProposedContext(VERIFICATION)], requestor) as association:
            if association.c_echo() == 0:
                seconds = time.monotonic() - began_at
    except (OSError, AssociationAbortedError, AssociationRejectedError):
        pass  # if it was after the answer, the answer counts
    return "lost" if seconds is None else f"{seconds:.4f}"


if __name__ == "__main__":
    main()
