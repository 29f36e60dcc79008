"""What systemd is told about the node, and what it asks for; silent where there is no systemd.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import logging
import os
import time
from collections.abc import Mapping

import sdnotify

_LOG = logging.getLogger(__name__)
_MICROSECONDS = 1_000_000


class Notifier:
    """Tells systemd how the service is doing.

    Says nothing when the environment names no NOTIFY_SOCKET. The package reads the address of the
    socket from the environment of the process itself.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._channel: sdnotify.SystemdNotifier | None = None
        if "NOTIFY_SOCKET" in environment:
            try:
                self._channel = sdnotify.SystemdNotifier(debug=True)
            except OSError as error:
                _LOG.warning("systemd cannot be told how the service is doing: %s", error)

    def ready(self, status: str) -> None:
        """Say that the node serves: after the start, and at the end of every reload."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Show one line of text in `systemctl status`."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; ready() ends it, whether or not it was done."""
        now_microseconds = time.monotonic_ns() // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_microseconds}")

    def stopping(self) -> None:
        """Say that the node has begun to stop."""
        self._send("STOPPING=1", "STATUS=finishing the running transfers")

    def watchdog(self) -> None:
        """Say that the node is alive."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if self._channel is None:
            return
        try:
            self._channel.notify("\n".join(assignments))
        except OSError as error:
            _LOG.warning("systemd was not told %s: %s", assignments[0], error)


def watchdog_interval_seconds(environment: Mapping[str, str]) -> float | None:
    """Return how often systemd wants to hear from this process, or None if it does not.

    It is half of the time after which systemd acts, as the manual advises.
    """
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / _MICROSECONDS / 2
