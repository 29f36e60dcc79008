"""Listening sockets, from the configuration and from systemd."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from pacsnode.daemon.listener import ListenError, adopt_systemd_listeners, open_listeners

ADOPT = """
import os, sys
from pacsnode.daemon.listener import ListenError, adopt_systemd_listeners
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="dicom")
try:
    (adopted,) = adopt_systemd_listeners(os.environ)
except ListenError as error:
    sys.exit(str(error))
print(adopted.getsockname()[1], adopted.gettimeout(), adopted.get_inheritable(),
      [name for name in os.environ if name.startswith("LISTEN_")])
"""


def close(listeners: list[socket.socket]) -> None:
    """Close all of them."""
    for one in listeners:
        one.close()


def kernel_refuses(monkeypatch: pytest.MonkeyPatch, family: int, number: int) -> None:
    """Let bind() fail as a kernel would for this family."""

    class RefusingSocket(socket.socket):
        def bind(self, address: object) -> None:
            if self.family == family:
                raise OSError(number, os.strerror(number))
            super().bind(address)  # type: ignore[arg-type] # passed through as it came

    monkeypatch.setattr(socket, "socket", RefusingSocket)


def test_both_families_on_one_port() -> None:
    """IPv4 and IPv6 wildcards listen side by side, and port 0 gives both the same port."""
    listeners = open_listeners(["0.0.0.0", "::"], 0)  # noqa: S104 - the default of the node
    port = listeners[0].getsockname()[1]

    assert [one.family for one in listeners] == [socket.AF_INET, socket.AF_INET6]
    assert listeners[1].getsockname()[1] == port != 0
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=10).close()
    close(listeners)


def test_listeners_do_not_block() -> None:
    """A worker that lost the race for a connection is not held in accept()."""
    (one,) = open_listeners(["127.0.0.1"], 0)

    with pytest.raises(BlockingIOError):
        one.accept()
    assert not one.get_inheritable()
    one.close()


def test_repeated_address_is_opened_once() -> None:
    """An address that is written twice is not in its own way."""
    listeners = open_listeners(["127.0.0.1", "127.0.0.1"], 0)

    assert len(listeners) == 1
    close(listeners)


def test_address_in_use() -> None:
    """A port that another socket listens on is named with its address."""
    (first,) = open_listeners(["127.0.0.1"], 0)
    port = first.getsockname()[1]

    with pytest.raises(ListenError, match=rf"^127\.0\.0\.1:{port}: in use"):
        open_listeners(["127.0.0.1"], port)
    first.close()


def test_fault_closes_what_was_open() -> None:
    """After a fault at the second address the first one is free again."""
    (one,) = open_listeners(["127.0.0.1"], 0)
    port = one.getsockname()[1]
    one.close()
    with pytest.raises(ListenError):
        open_listeners(["127.0.0.1", "192.0.2.1"], port)

    close(open_listeners(["127.0.0.1"], port))


def test_port_0_avoids_a_port_taken_on_a_later_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the port given to the first address is taken on the second, another one is tried."""
    refusals = [OSError(errno.EADDRINUSE, "in use")]

    class OnceTakenSocket(socket.socket):
        def bind(self, address: object) -> None:
            if self.family == socket.AF_INET6 and refusals:
                raise refusals.pop()
            super().bind(address)  # type: ignore[arg-type] # passed through as it came

    monkeypatch.setattr(socket, "socket", OnceTakenSocket)
    listeners = open_listeners(["127.0.0.1", "::1"], 0)

    assert len({one.getsockname()[1] for one in listeners}) == 1
    assert not refusals
    close(listeners)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_address_of_another_machine(address: str) -> None:
    """An address that this machine does not have is refused, IPv6 as well."""
    with pytest.raises(ListenError, match="not an address of this machine"):
        open_listeners([address], 0)


def test_name_instead_of_an_address() -> None:
    """A host name is refused: what it stands for could change."""
    with pytest.raises(ListenError, match="localhost: not an IPv4 or IPv6 address"):
        open_listeners(["localhost"], 0)


def test_no_address() -> None:
    """A node without any address is refused."""
    with pytest.raises(ListenError, match="nothing to listen on"):
        open_listeners([], 0)


def test_missing_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    """A low port without the privilege is refused with both ways out."""
    kernel_refuses(monkeypatch, socket.AF_INET, errno.EACCES)

    with pytest.raises(ListenError, match=r"CAP_NET_BIND_SERVICE.* above 1023"):
        open_listeners(["127.0.0.1"], 104)


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_machine_without_ipv6(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """The IPv6 wildcard is left out with a warning where there is no IPv6."""
    kernel_refuses(monkeypatch, socket.AF_INET6, number)
    listeners = open_listeners(["127.0.0.1", "::"], 0)

    assert [one.family for one in listeners] == [socket.AF_INET]
    assert "this machine has no IPv6; left out" in caplog.text
    close(listeners)


def test_only_ipv6_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the IPv6 wildcard is the only address and there is no IPv6, the node cannot listen."""
    kernel_refuses(monkeypatch, socket.AF_INET6, errno.EAFNOSUPPORT)

    with pytest.raises(ListenError, match="no IPv6"):
        open_listeners(["::"], 0)


def adopt(handed_over: socket.socket) -> subprocess.CompletedProcess[str]:
    """Hand a socket over to a process of its own, as systemd does."""
    return subprocess.run(
        [sys.executable, "-c", ADOPT, str(handed_over.fileno())],
        pass_fds=[handed_over.fileno()],
        check=False,
        capture_output=True,
        text=True,
    )


def test_socket_from_systemd_is_adopted() -> None:
    """A handed over socket is used as it is, does not block, and is not handed on."""
    with socket.create_server(("127.0.0.1", 0)) as handed_over:
        answer = adopt(handed_over)

        assert answer.stdout == f"{handed_over.getsockname()[1]} 0.0 False []\n"


def test_socket_that_does_not_listen_is_refused() -> None:
    """A handed over socket of the wrong kind is refused with the setting that is wrong."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handed_over:
        answer = adopt(handed_over)

        assert "descriptor 3 from systemd is not a listening TCP socket" in answer.stderr


def test_sockets_for_another_process_are_left_alone() -> None:
    """Variables meant for another process give no sockets and are removed."""
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "HOME": "/"}

    assert adopt_systemd_listeners(environment) == []
    assert environment == {"HOME": "/"}
