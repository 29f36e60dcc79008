"""The sub-operations of a retrieval: one loop for C-MOVE, for C-GET and for the command line.

How it works. What is to be sent stands in a queue for each batch of presentation contexts. A lane
takes one instance after the other from it and sends it on its association: the association of a
C-GET, or one that it has requested. A destination may have several lanes; the first one runs in the
thread that serves the retrieval, the others have threads of their own. Only that thread sends
Pending responses and looks for a cancel. What becomes of each instance goes into one of three
lists, from which all counters and the final status follow.

A lane that loses its association puts the instance that was on its way at the end of the queue and
requests another association, once: if it was the instance that the destination broke off at, all
others have gone before it.

Source: PS3.4 C.4.2, C.4.3; rules E-2, E-5 to E-21, E-32.
"""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Final

from pacsnode.catalog.records import FailureCause, StoredInstance
from pacsnode.conversion.converter import Converter
from pacsnode.dicom.ae import RemoteAE
from pacsnode.network import activity_log
from pacsnode.network.association_end import Abort, AssociationEnd
from pacsnode.network.connecting import RequestError
from pacsnode.network.proposal import Batch, SendingContexts, batches
from pacsnode.network.requested_association import RequestedAssociation
from pacsnode.network.retrieval import (
    Queue,
    Retrieval,
    RetrievalContext,
    SubOperations,
    lost,
)
from pacsnode.network.store_scu import (
    Failure,
    NotBegun,
    SendingBrokenOff,
    StoreChannel,
    StoreScu,
)

_MOST_ASSOCIATIONS_LOST: Final = 2  # a lost one is requested again once (rule E-19)
_LOOK_SECONDS: Final = 0.5
_INTERRUPTED: Final = "interrupted: this node, or this command, ends"


def move(
    instances: Sequence[StoredInstance],
    destination: RemoteAE,
    calling_ae_title: str,
    context: RetrievalContext,
) -> SubOperations:
    """Send instances to a destination and return what has become of them.

    A failure concerns its instance only; a destination that cannot be reached concerns all that are
    left for it in a batch.

    Args:
        instances: what is to be sent.
        destination: whereto.
        calling_ae_title: the title of ours to call it with, if it asks for no other (rule E-15).
        context: what it needs.

    Source: PS3.4 C.4.2.3.1.
    """
    retrieval = Retrieval(instances, context)
    for batch in batches(instances, destination):
        if retrieval.is_stopped():
            break
        _Destination(retrieval, batch, destination, calling_ae_title).send()
    return retrieval.state


def get(
    instances: Sequence[StoredInstance],
    channel: StoreChannel,
    contexts: SendingContexts,
    context: RetrievalContext,
) -> SubOperations:
    """Send instances to whoever asks for them, on the same association.

    If that is lost, nothing more is sent, and what is left has failed with it.

    Args:
        instances: what is to be sent.
        channel: the association; it is lost as soon as a message cannot be sent to its end.
        contexts: those in which the requestor is a Storage SCP (rule E-39).
        context: what it needs.

    Source: PS3.4 C.4.3.3.1.
    """
    retrieval = Retrieval(instances, context)
    queue = Queue(instances)
    with (
        retrieval.converter() as converter,
        retrieval.store_scu(channel, contexts, converter, retrieval) as scu,
    ):
        while not retrieval.is_stopped() and (instance := queue.take()) is not None:
            try:
                _send(retrieval, scu, instance, queue.upcoming())
            except AssociationEnd as end:
                retrieval.count(instance, lost(end))
                retrieval.count_all(queue, lost(end))
            except SendingBrokenOff:
                pass  # if the association cannot be used any more, the next instance tells
            retrieval.pend()
    return retrieval.state


def _send(
    retrieval: Retrieval,
    scu: StoreScu,
    instance: StoredInstance,
    upcoming: StoredInstance | None,
) -> None:
    """Send an instance, before what comes next, and count it.

    Raises:
        AssociationEnd: the association is lost; the instance is not counted.
        SendingBrokenOff: the association is to be given up; the instance is counted.
    """
    try:
        retrieval.count(instance, scu.send(instance, upcoming))
    except NotBegun:
        pass  # it remains
    except AssociationEnd:
        raise
    except SendingBrokenOff as broken_off:
        retrieval.count(instance, broken_off.failure)
        raise
    except Exception as error:
        failure = _fault(f"C-STORE sub-operation {instance.sop_instance_uid}")
        retrieval.count(instance, failure)
        raise SendingBrokenOff(failure) from error


def _fault(request: str) -> Failure:
    """Log a fault of ours, within its handler, and return the failure that it is."""
    activity_log.failed_unexpectedly(request)
    return Failure(FailureCause.INTERNAL, "a fault of this node: see its log")


class _NotNeeded(Exception):  # noqa: N818 - nothing is wrong
    """An association that is being requested has nothing to send any more."""


class _Destination:
    """A batch on its way to a destination.

    Attributes:
        retrieval: that it belongs to.
        queue: what is not sent yet.
        failure: what is said of all that no lane can send.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        batch: Batch,
        remote: RemoteAE,
        calling_ae_title: str,
    ) -> None:
        self.retrieval = retrieval
        self.queue = Queue(batch.instances)
        self.failure = Failure(FailureCause.NO_ASSOCIATION, "no association")
        self.remote = remote
        self._batch = batch
        self._calling_ae_title = calling_ae_title

    def send(self) -> None:
        """Send all of it; what no lane could send is failed.

        Once cancelled, only what was on its way has failed: the others were not started (E-11).
        """
        further = min(self.remote.associations, len(self._batch.instances)) - 1
        if not further:
            _Lane(self, is_serving=True).run()
        else:
            self._run_lanes(further)
        while (instance := self.queue.take()) is not None:
            is_stopped = self.retrieval.is_stopped()
            failure = self.queue.failure_of(instance) if is_stopped else self.failure
            if failure is not None:
                self.retrieval.count(instance, failure)
            self.retrieval.pend()

    def _run_lanes(self, further: int) -> None:
        """Run a lane here, and others in threads of their own."""
        with ThreadPoolExecutor(further, "sub-operations") as executor:
            lanes: list[Future[None]] = []
            with suppress(RuntimeError):  # if there is no thread for a lane, there are fewer
                for _ in range(further):
                    lane = _Lane(self, is_serving=False)
                    lanes.append(executor.submit(contextvars.copy_context().run, lane.run))
            try:
                _Lane(self, is_serving=True).run()
                while wait(lanes, timeout=_LOOK_SECONDS).not_done:
                    self.retrieval.wait()
                    self.retrieval.pend()
            except BaseException:
                self.retrieval.state.is_cancelled = True  # else the others would go on to the end
                raise
        for running in lanes:
            running.result()

    def associate(self, while_waiting: Callable[[], None]) -> RequestedAssociation:
        """Request an association for the batch.

        Raises:
            RequestError: it was not accepted.
        """
        return RequestedAssociation(
            self.remote,
            self._batch.contexts,
            calling_ae_title=self._calling_ae_title,
            limits=self.retrieval.context.limits,
            while_waiting=while_waiting,
        )


class _Lane:
    """Takes instances of a batch and sends them, on one association at a time."""

    def __init__(self, destination: _Destination, *, is_serving: bool) -> None:
        self._destination = destination
        self._retrieval = destination.retrieval
        self._queue = destination.queue
        self._is_serving = is_serving
        self._is_associated = False
        limits = destination.retrieval.context.limits
        # For what is on its way after a cancel: as long as for an answer.
        self._patience_seconds = (
            destination.remote.dimse_timeout_seconds or limits.dimse_timeout_seconds
        )

    def run(self) -> None:
        """Send what the queue has, until it is empty, or the destination was lost twice."""
        losses: list[str] = []
        with self._retrieval.converter() as converter:
            while len(losses) < _MOST_ASSOCIATIONS_LOST and self._is_needed():
                try:
                    self._run_association(converter)
                except _NotNeeded:
                    return
                except RequestError as error:
                    self._give_up(losses, str(error))
                    return
                except AssociationEnd as end:
                    self._destination.failure = failure = lost(end)
                    losses.append(failure.reason)
                    activity_log.destination_failed(self._destination.remote, failure.reason)
                except SendingBrokenOff:
                    pass  # for a fault of ours: the destination is there as before
                except Exception:  # noqa: BLE001 - what is left has failed then, and is counted
                    title = self._destination.remote.ae_title
                    self._destination.failure = _fault(f"association with {title}")
                    return

    def _give_up(self, losses: Sequence[str], reason: str) -> None:
        """Take note of why an association does not come about, perhaps after another was lost."""
        activity_log.destination_failed(self._destination.remote, reason)
        failure = Failure(FailureCause.NO_ASSOCIATION, reason)
        if losses:
            failure = Failure(FailureCause.LOST, f"{losses[-1]}; then {reason}")
        self._destination.failure = failure

    def _run_association(self, converter: Converter) -> None:
        """Send on one association until the queue is empty."""
        self._is_associated = False
        with self._destination.associate(self.wait) as association:
            self._is_associated = True
            contexts = SendingContexts(
                association.contexts, self._destination.remote.transfer_syntaxes
            )
            with self._retrieval.store_scu(association, contexts, converter, self) as scu:
                while not self.is_stopped() and (instance := self._queue.take()) is not None:
                    self._send(scu, instance)

    def _send(self, scu: StoreScu, instance: StoredInstance) -> None:
        # With several lanes another one would probably take the next.
        upcoming = self._queue.upcoming() if self._destination.remote.associations == 1 else None
        try:
            _send(self._retrieval, scu, instance, upcoming)
        except AssociationEnd as end:
            if not self._queue.put_back(instance, lost(end)):
                self._retrieval.count(instance, lost(end))
            raise
        if self._is_serving:
            self._retrieval.pend()

    def wait(self) -> None:
        """Serve the requestor meanwhile, if that is ours to do; see whether to break off.

        Raises:
            AssociationEnd: it is.
            _NotNeeded: there is no association yet, and nothing to send on it any more.
        """
        if self._is_serving:
            self._retrieval.wait()
        if self._retrieval.is_interrupted:
            raise AssociationEnd(_INTERRUPTED, abort=Abort.BY_USER)
        if self._retrieval.seconds_since_stop() > self._patience_seconds:
            raise AssociationEnd("cancelled, and what is on its way does not get there")
        if not self._is_associated and not self._is_needed():
            raise _NotNeeded

    def _is_needed(self) -> bool:
        return bool(self._queue) and not self.is_stopped()

    def is_stopped(self) -> bool:
        """Tell whether nothing more is to be sent."""
        if self._is_serving:
            return self._retrieval.is_stopped()
        return self._retrieval.state.is_cancelled
