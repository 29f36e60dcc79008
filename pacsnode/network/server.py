"""Accepts connections on sockets that all workers share, and keeps count of the associations.

One thread accepts; each association has its own. Three ways of serving, as daemon/supervisor.py
tells them apart: while serving, all is let in; while draining, connections are accepted and
associations rejected as transient, so that a modality tries again later instead of giving up;
while retiring, newer workers accept and this one only finishes.

Source: PS3.8 9.1; rules H-1, H-3.
"""

import itertools
import logging
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from pacsnode.network.association import AcceptedAssociation, Serve
from pacsnode.network.negotiation import (
    SHUTTING_DOWN,
    TOO_MANY_ASSOCIATIONS,
    AssociationPolicy,
    Refusal,
)

_LOGGER = logging.getLogger(__name__)
_DRAIN_IDLE_SECONDS: Final = 2.0


class AssociationServer:
    """The associations of one worker."""

    def __init__(  # noqa: PLR0913 - the parts a server is composed of, each once
        self,
        *,
        ae: Any,  # noqa: ANN401 - pynetdicom's AE
        listeners: Sequence[socket.socket],
        policy: AssociationPolicy,
        serve: Serve,
        maximum_associations: int,
        node_associations: Callable[[], int],
        report_active: Callable[[int], None],
    ) -> None:
        """Take over the listening sockets.

        Args:
            ae: our Application Entity.
            listeners: open, not blocking, shared with the other workers.
            policy: who is let in, and for what.
            serve: called in an association's thread for each request.
            maximum_associations: of the whole node.
            node_associations: tells how many associations the whole node has.
            report_active: is told how many associations this worker has.
        """
        self._ae = ae
        self._listeners = list(listeners)
        self._policy = policy
        self._serve = serve
        self._maximum_associations = maximum_associations
        self._node_associations = node_associations
        self._report_active = report_active
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
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
        """Abort, while draining, the associations on which nothing happens."""
        for association in self._running():
            if not association.is_at_work and association.idle_seconds > _DRAIN_IDLE_SECONDS:
                association.end()

    def abort_all(self) -> None:
        """Abort all associations: their time is over."""
        for association in self._running():
            association.end()

    @property
    def active(self) -> int:
        """How many associations there are."""
        with self._lock:
            return len(self._associations)

    def refusal(self) -> Refusal | None:
        """Return why no association is let in at the moment; None if one is."""
        if self._is_draining:
            return SHUTTING_DOWN
        # The one that asks is counted already.
        if self._node_associations() > self._maximum_associations:
            return TOO_MANY_ASSOCIATIONS
        return None

    def leave(self, association: AcceptedAssociation) -> None:
        """Take note that an association is over."""
        with self._lock:
            self._associations.discard(association)
            self._report_active(len(self._associations))

    def _running(self) -> list[AcceptedAssociation]:
        with self._lock:
            return list(self._associations)

    def _accept_from(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker was faster, or the peer has gone
        except OSError as error:
            # Out of descriptors or memory: the connection waits in the backlog, others end first.
            _LOGGER.warning("cannot accept a connection: %s", error.strerror)
            return
        try:
            association = AcceptedAssociation(
                connection,
                number=next(self._numbers),
                ae=self._ae,
                policy=self._policy,
                gate=self,
                serve=self._serve,
            )
        except OSError:
            connection.close()  # the peer has gone before we looked at it
            return
        with self._lock:
            self._associations.add(association)
            self._report_active(len(self._associations))
        try:
            association.start()
        except RuntimeError as error:  # no more threads: the sender tries again later
            _LOGGER.warning("cannot serve a connection: %s", error)
            connection.close()
            self.leave(association)
