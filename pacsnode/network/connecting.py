"""The way to a remote Application Entity: its name, a TCP connection, and TLS if it asks for that.

Nothing here waits for longer than it is told, and whoever waits is told so now and then: a name
server, a firewall or a TLS layer that says nothing must not keep a C-MOVE from its Pending
responses.

Source: PS3.8 9.1; PS3.15 B.12, B.13; rule H-40.
"""

import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from pacsnode.dicom.ae import RemoteAE, TlsFiles
from pacsnode.network.transport import words_of

_LOOK_SECONDS: Final = 0.5

Address = tuple[socket.AddressFamily, Any]


class RequestError(Exception):
    """A remote Application Entity cannot be reached or does not let us in; the message says how."""


def connect(
    remote: RemoteAE, timeout_seconds: float, while_waiting: Callable[[], None]
) -> socket.socket:
    """Return a connection to a remote Application Entity, with TLS on it if it asks for that.

    Args:
        remote: whereto.
        timeout_seconds: for all of it.
        while_waiting: called now and then until there is one.

    Raises:
        RequestError: there is none.
    """
    deadline = time.monotonic() + timeout_seconds
    waiting = _Waiting(deadline, while_waiting)
    error = RequestError("its host name has no address")
    addresses = _addresses(remote, waiting)
    for tried, address in enumerate(addresses):
        # One that does not answer must leave the others time: IPv6 that leads nowhere, often.
        now = time.monotonic()
        share = (deadline - now) / (len(addresses) - tried)
        try:
            connection = _connected(address, _Waiting(now + share, while_waiting))
        except OSError as reason:
            error = RequestError(f"not reachable: {words_of(reason)}")
            continue
        if remote.tls is None:
            return connection
        return _secured(connection, remote, remote.tls, waiting)
    raise error


class _Waiting:
    """Until when to wait, and whom to tell meanwhile."""

    def __init__(self, deadline: float, while_waiting: Callable[[], None]) -> None:
        self._deadline = deadline
        self._while_waiting = while_waiting

    def look(self, is_there: Callable[[float], bool]) -> bool:
        """Ask until it is there or the time is over; return whether it is."""
        while (left := self._deadline - time.monotonic()) > 0:
            if is_there(min(left, _LOOK_SECONDS)):
                return True
            self._while_waiting()
        return False


def _addresses(remote: RemoteAE, waiting: _Waiting) -> list[Address]:
    """Return the addresses of a host; those that are written as one need no name server."""
    try:
        return _look_up(remote, socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        pass
    found: list[Address] = []
    errors: list[OSError | UnicodeError] = []
    is_done = threading.Event()

    def look_up() -> None:
        try:
            found.extend(_look_up(remote, 0))
        except (OSError, UnicodeError) as error:  # the latter: a label that is too long
            errors.append(error)
        finally:
            is_done.set()

    # The resolver takes as long as it likes: a thread that is left behind ends when it answers.
    threading.Thread(target=look_up, name=f"look-up-{remote.host}", daemon=True).start()
    if not waiting.look(is_done.wait):
        raise RequestError("host name: the name server does not answer")
    if errors:
        raise RequestError(f"host name: {words_of(errors[0])}") from errors[0]
    return found


def _look_up(remote: RemoteAE, flags: int) -> list[Address]:
    found = socket.getaddrinfo(
        remote.host, remote.port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICSERV
    )
    return [(family, address) for family, _, _, _, address in found]


def _connected(address: Address, waiting: _Waiting) -> socket.socket:
    family, where = address
    with ExitStack() as stack:
        connection = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        connection.setblocking(False)  # noqa: FBT003
        code = connection.connect_ex(where)
        if code == errno.EINPROGRESS:
            writable = select.poll()
            writable.register(connection, select.POLLOUT)
            if not waiting.look(lambda seconds: bool(writable.poll(seconds * 1000))):
                raise TimeoutError(errno.ETIMEDOUT, "no answer")
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        stack.pop_all()  # it stays open
    return connection


def _secured(
    connection: socket.socket, remote: RemoteAE, files: TlsFiles, waiting: _Waiting
) -> socket.socket:
    """Return the connection with TLS on it."""
    with ExitStack() as stack:
        stack.enter_context(connection)
        try:
            context = tls_context(files)
            secured = stack.enter_context(
                context.wrap_socket(
                    connection, server_hostname=remote.host, do_handshake_on_connect=False
                )
            )
            is_secured = waiting.look(lambda seconds: _has_shaken_hands(secured, seconds))
        except (OSError, ValueError) as error:
            raise RequestError(f"TLS: {words_of(error)}") from error
        if not is_secured:
            raise RequestError("TLS: no answer")
        stack.pop_all()  # it stays open
    return secured


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Return how we speak TLS with a remote Application Entity.

    Raises:
        OSError: a file cannot be read, or is not what it should be.

    Source: PS3.15 B.12 (TLS 1.2 required, 1.3 preferred).
    """
    context = ssl.create_default_context(cafile=files.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = files.checks_host_name
    if files.certificate_file is not None:
        context.load_cert_chain(files.certificate_file, files.key_file, password=_no_password)
    return context


def _no_password() -> str:
    """Have no password: nobody is there to be asked for one."""
    return ""


def _has_shaken_hands(connection: ssl.SSLSocket, seconds: float) -> bool:
    """Go on with the handshake; tell whether it is done."""
    waiting_for = select.poll()
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        waiting_for.register(connection, select.POLLIN)
    except ssl.SSLWantWriteError:
        waiting_for.register(connection, select.POLLOUT)
    else:
        return True
    waiting_for.poll(seconds * 1000)
    return False
