"""The listening sockets of the node: opened from the configured addresses or taken from systemd.

They are made once, before the first fork; all workers accept on the same sockets.
Source for socket activation: sd_listen_fds(3).
"""

import errno
import logging
import os
import socket
from collections.abc import MutableMapping, Sequence

_LOG = logging.getLogger(__name__)
_BACKLOG = 512  # modalities connect in bursts; the kernel cuts this to net.core.somaxconn
_PORT_0_FURTHER_TRIES = 20
_FIRST_SYSTEMD_DESCRIPTOR = 3
_MAXIMUM_UNPRIVILEGED = 1023


class ListenError(Exception):
    """The node cannot listen where it was told to; the text says where and what can be done."""


class _AddressInUseError(ListenError):
    """Another socket listens there."""


class _FamilyUnavailableError(ListenError):
    """The machine has no such kind of address."""


def open_listeners(bind_addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Listen on every address, on the same port.

    Args:
        bind_addresses: IPv4 and IPv6 addresses, not names. "0.0.0.0" and "::" can be used together,
            because "::" stands for IPv6 only. "::" is left out, with a warning, on a machine
            without IPv6 as long as another address works.
        port: TCP port; 0 takes one that is free on all addresses.

    Returns:
        One non-blocking listening socket for each address, in their order.

    Raises:
        ListenError: An address is none, is not of this machine, is in use or needs a privilege.
            Sockets opened up to then are closed.
    """
    further_tries = _PORT_0_FURTHER_TRIES if port == 0 else 0
    while True:
        try:
            return _open_all(bind_addresses, port)
        except _AddressInUseError:
            if further_tries == 0:
                raise
            further_tries -= 1


def adopt_systemd_listeners(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """Take over the listening sockets that systemd opened for this process.

    The variables that name them are removed from the environment, so that nothing started from
    here takes the sockets for its own.

    Returns:
        Non-blocking listening sockets; none if systemd handed over none.

    Raises:
        ListenError: What was handed over is not a listening TCP socket.
    """
    count = environment.pop("LISTEN_FDS", "")
    owner = environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if owner != str(os.getpid()) or not count.isdecimal():
        return []
    return [_adopt(_FIRST_SYSTEMD_DESCRIPTOR + index) for index in range(int(count))]


def _open_all(bind_addresses: Sequence[str], port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    unavailable: _FamilyUnavailableError | None = None
    try:
        for address in dict.fromkeys(bind_addresses):
            try:
                listeners.append(_open(address, port))
            except _FamilyUnavailableError as error:
                unavailable = error
                _LOG.warning("%s; left out", error)
            else:
                # After the first of port 0 all others take the port that it was given.
                port = listeners[0].getsockname()[1]
    except ListenError:
        for listener in listeners:
            listener.close()
        raise
    if not listeners:
        raise unavailable or ListenError("bind_addresses is empty: there is nothing to listen on")
    return listeners


def _open(address: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, socket_address = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
    except socket.gaierror as error:
        raise ListenError(f"{address}: not an IPv4 or IPv6 address of this machine") from error
    listener: socket.socket | None = None
    try:
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Otherwise "::" also takes IPv4 and "0.0.0.0" on the same port is refused.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(socket_address)
        listener.listen(_BACKLOG)
        listener.settimeout(0)  # non-blocking: a worker may lose the race to accept
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _explain(error, address, port) from error
    return listener


def _explain(error: OSError, address: str, port: int) -> ListenError:
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            return _AddressInUseError(f"{where}: in use by another program")
        case errno.EACCES | errno.EPERM if port <= _MAXIMUM_UNPRIVILEGED:
            return ListenError(
                f"{where}: ports below 1024 need a privilege: set "
                "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or use a port above 1023"
            )
        case errno.EAFNOSUPPORT | errno.EADDRNOTAVAIL if address == "::":
            return _FamilyUnavailableError(f"{where}: this machine has no IPv6")
        case errno.EADDRNOTAVAIL:
            return ListenError(f"{where}: not an address of this machine")
        case _:
            return ListenError(f"{where}: {error.strerror}")


def _adopt(descriptor: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError as error:
        raise ListenError(f"descriptor {descriptor} from systemd is not a socket") from error
    if not is_listening or listener.family not in {socket.AF_INET, socket.AF_INET6}:
        listener.close()
        raise ListenError(
            f"descriptor {descriptor} from systemd is not a listening TCP socket: "
            "use ListenStream= with a port, and Accept=no"
        )
    listener.set_inheritable(False)
    listener.settimeout(0)
    return listener
