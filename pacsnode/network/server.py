"""Accepts connections on sockets that all workers share, and keeps count of the associations.

One thread accepts; each association has its own. Three ways of serving, as daemon/supervisor.py
tells them apart: while serving, all is let in; while draining, connections are accepted and
associations rejected as transient, so that a modality tries again later instead of giving up;
while retiring, newer workers accept and this one only finishes. What is at work then is left to end
by itself: only the end of the whole node may cut it off.

Source: PS3.8 9.1; rules H-1, H-3.
"""

import errno
import itertools
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from pacsnode.network.association import AcceptedAssociation, Services
from pacsnode.network.negotiation import (
    SHUTTING_DOWN,
    TOO_MANY_ASSOCIATIONS,
    AssociationPolicy,
    Refusal,
)
from pacsnode.network.toolkit import AssociationLimits

_LOGGER = logging.getLogger(__name__)
_DRAIN_IDLE_SECONDS: Final = 2.0
_LEAST_SILENT_SECONDS: Final = 2.0  # a sender may take so long between two instances
# Connections that have not requested an association do not count against the limit: whoever opens
# many, a port scanner, keeps nobody out. But each has a thread and a descriptor.
_MOST_SILENT_CONNECTIONS: Final = 500
_PAUSE_SECONDS: Final = 0.05
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PEER_HAS_GONE: Final = frozenset({errno.ENOTCONN, errno.ECONNRESET, errno.EINVAL})


class AssociationServer:
    """The associations of one worker."""

    def __init__(  # noqa: PLR0913 - the parts a server is composed of, each once
        self,
        *,
        listeners: Sequence[socket.socket],
        limits: AssociationLimits,
        policy: AssociationPolicy,
        services: Services,
        maximum_associations: int,
        node_associations: Callable[[], int],
        report_active: Callable[[int], None],
    ) -> None:
        """Take over the listening sockets.

        Args:
            listeners: open, not blocking, shared with the other workers.
            limits: of time and size of an association.
            policy: who is let in, and for what.
            services: what is done with requests, in an association's thread.
            maximum_associations: of the whole node.
            node_associations: tells how many associations the whole node has.
            report_active: is told how many associations this worker has.
        """
        self._listeners = list(listeners)
        self._limits = limits
        self._policy = policy
        self._services = services
        self._maximum_associations = maximum_associations
        self._node_associations = node_associations
        self._report_active = report_active
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        # Connections without an association: before it is requested, and after it is over.
        self._connections: dict[AcceptedAssociation, None] = {}
        self._associations: set[AcceptedAssociation] = set()
        self._is_draining = False
        self._selector = selectors.DefaultSelector()
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)

    def watch(self, descriptor: int) -> None:
        """Let accept() return when a descriptor becomes readable."""
        self._selector.register(descriptor, selectors.EVENT_READ)

    def ignore(self, descriptor: int) -> None:
        """Do not watch a descriptor any more."""
        self._selector.unregister(descriptor)

    def accept(self, timeout_seconds: float) -> None:
        """Accept what connects, until the time is over or a watched descriptor is readable."""
        for key, _ in self._selector.select(timeout_seconds):
            if isinstance(key.fileobj, socket.socket):
                self._accept_from(key.fileobj)

    def drain(self) -> None:
        """Reject further associations as transient; those that run go on."""
        self._is_draining = True

    def retire(self) -> None:
        """Accept nothing more; associations that run, or are just being requested, go on."""
        for listener in self._listeners:
            self._selector.unregister(listener)
            # Only our descriptor: a shutdown would end the socket for the other workers, too.
            listener.close()
        self._listeners.clear()

    def abort_idle(self) -> None:
        """End, while draining, the associations and connections on which nothing happens."""
        self._abort_silent(_DRAIN_IDLE_SECONDS, "the node is stopping, and it was idle")

    def abort_silent(self, seconds: float) -> int:
        """End, while retiring, the associations and connections that nobody has a use for.

        Those at work stay, and those that have been at work a moment ago: whoever sends one
        instance after the other is not at work between two of them.

        Args:
            seconds: for which the peer has said nothing; less than two are taken for two.

        Returns:
            how many are left.
        """
        silent_seconds = max(seconds, _LEAST_SILENT_SECONDS)
        return self._abort_silent(silent_seconds, "its worker retires, and it was idle")

    def abort_all(self) -> None:
        """Abort all associations: their time is over."""
        for association in self._running():
            association.end("the node is stopping")

    @property
    def active(self) -> int:
        """How many associations there are, and connections that may become one."""
        with self._lock:
            return len(self._associations) + len(self._connections)

    def admit(self, association: AcceptedAssociation) -> Refusal | None:
        """Count an association that is requested; return why it is not let in, None if it is."""
        with self._lock:
            if self._is_draining:
                return SHUTTING_DOWN
            # Counted first, so that another worker sees it before it looks itself.
            self._report_active(len(self._associations) + 1)
            if self._node_associations() > self._maximum_associations:
                self._report_active(len(self._associations))
                return TOO_MANY_ASSOCIATIONS
            self._connections.pop(association, None)
            self._associations.add(association)
            return None

    def leave(self, association: AcceptedAssociation) -> None:
        """Take note that an association is over; its connection may linger."""
        with self._lock:
            self._associations.discard(association)
            self._connections.setdefault(association)
            self._report_active(len(self._associations))

    def close(self, association: AcceptedAssociation) -> None:
        """Take note that a connection is closed, whether it became an association or not."""
        with self._lock:
            self._connections.pop(association, None)
            self._associations.discard(association)

    def _abort_silent(self, seconds: float, reason: str) -> int:
        """End what is not at work and has been silent for so long; return how many are left."""
        running = self._running()
        silent = [
            association
            for association in running
            if not association.is_at_work and association.idle_seconds > seconds
        ]
        for association in silent:
            association.end(reason)
        return len(running) - len(silent)

    def _running(self) -> list[AcceptedAssociation]:
        with self._lock:
            return [*self._associations, *self._connections]

    def _accept_from(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker was faster, or the peer has gone
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                # The connection waits in the backlog; others end first.
                _LOGGER.warning("cannot accept a connection: %s", error.strerror)
                self._end_oldest_connection("others need its place")
                time.sleep(_PAUSE_SECONDS)
            return  # else the network has told of an error of this connection (accept(2))
        try:
            association = AcceptedAssociation(
                connection,
                number=next(self._numbers),
                limits=self._limits,
                policy=self._policy,
                gate=self,
                services=self._services,
            )
        except OSError as error:
            connection.close()
            if error.errno not in _PEER_HAS_GONE:
                _LOGGER.warning("cannot serve a connection: %s", error.strerror)
            return
        with self._lock:
            self._connections[association] = None
            has_too_many = len(self._connections) > _MOST_SILENT_CONNECTIONS
        if has_too_many:
            self._end_oldest_connection("too many connections wait without a request")
        try:
            association.start()
        except RuntimeError as error:  # no more threads: the sender tries again later
            _LOGGER.warning("cannot serve a connection: %s", error)
            connection.close()
            self.close(association)

    def _end_oldest_connection(self, reason: str) -> None:
        """Make room: whoever has been silent for longest is the least likely to say something."""
        with self._lock:  # so that it does not become an association meanwhile
            oldest = next(iter(self._connections), None)
            if oldest is not None:
                oldest.end(reason)
