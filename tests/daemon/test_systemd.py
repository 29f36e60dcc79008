"""What systemd is told."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacsnode.daemon.systemd import Notifier, watchdog_interval_seconds

# sdnotify never closes its socket; the garbage collector does, and Python warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listen where systemd would."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(path)
        one.settimeout(10)
        yield one


def test_messages(channel: socket.socket) -> None:
    """Each message is one datagram of assignments."""
    notifier = Notifier(os.environ)
    notifier.ready("4 workers serve")
    notifier.status("a worker died")
    notifier.stopping()
    notifier.watchdog()

    assert [channel.recv(200) for _ in range(4)] == [
        b"READY=1\nSTATUS=4 workers serve",
        b"STATUS=a worker died",
        b"STOPPING=1\nSTATUS=finishing the running transfers",
        b"WATCHDOG=1",
    ]


def test_reload_carries_the_time(channel: socket.socket) -> None:
    """A reload is announced with the monotonic time in microseconds, as notify-reload wants it."""
    before = time.monotonic_ns() // 1000
    Notifier(os.environ).reloading()
    kind, stamp = channel.recv(200).decode().split("\n")

    assert kind == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_silent_without_systemd(channel: socket.socket) -> None:
    """Without a socket in the environment that was given nothing is said."""
    Notifier({}).ready("serving")
    channel.settimeout(0)

    with pytest.raises(BlockingIOError):
        channel.recv(200)


def test_systemd_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket that nobody listens on is a warning, not a fault."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    Notifier(os.environ).ready("serving")

    assert "systemd cannot be told" in caplog.text


def test_systemd_that_goes(channel: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    """A message that cannot be sent is a warning, not a fault."""
    notifier = Notifier(os.environ)
    channel.close()
    notifier.watchdog()

    assert "systemd was not told WATCHDOG=1" in caplog.text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], expected: float | None) -> None:
    """The interval is half of what systemd allows, and none if the watchdog is not for us."""
    assert watchdog_interval_seconds(environment) == expected
