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
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from pacsnode.catalog.records import FailureCause, StoredInstance
from pacsnode.conversion.converter import Converter
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.status import Status
from pacsnode.file_store import FileStore
from pacsnode.network import activity_log
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import StoreOptions
from pacsnode.network.connecting import RequestError
from pacsnode.network.failure_record import FailureRecord
from pacsnode.network.messages import NoResponse
from pacsnode.network.proposal import Batch, SendingContexts, batches
from pacsnode.network.requested_association import RequestedAssociation
from pacsnode.network.store_scu import Failure, SendingBrokenOff, StoreChannel, StoreScu
from pacsnode.network.toolkit import AssociationLimits

_SHORTEST_PENDING_SECONDS: Final = 1.0
# At least every five seconds (rule E-12), and who waits looks every second at most.
_LONGEST_PENDING_SECONDS: Final = 4.0
_MOST_ASSOCIATIONS_LOST: Final = 2  # a lost one is requested again once (rule E-19)
_LOOK_SECONDS: Final = 0.5
_BROKEN_OFF: Final = "aborted, as the file of the instance before could not be read to its end"


@dataclass(slots=True)
class SubOperations:
    """What has become of the instances of a retrieval; each is in one list at most.

    Attributes:
        total: how many there are.
        completed: SOP Instance UIDs that the destination took.
        failed: that it did not take, or that could not be sent.
        warning: that it took with a reservation.
        is_cancelled: a C-CANCEL has come, or the requestor has gone.
    """

    total: int
    completed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    warning: list[str] = field(default_factory=list)
    is_cancelled: bool = False

    @property
    def remaining(self) -> int:
        """How many are in no list: not started, or on their way."""
        return self.counts[0]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Remaining, completed, failed, warning: as many as there are."""
        completed, failed, warning = len(self.completed), len(self.failed), len(self.warning)
        # Other threads add to the lists: each is looked at once, so that the sum is right (E-9).
        return self.total - completed - failed - warning, completed, failed, warning

    @property
    def final_status(self) -> Status:
        """The status of the final response.

        Source: PS3.4 table C.4-2; rule E-8.
        """
        if self.is_cancelled:
            return Status.CANCEL
        if not self.failed and not self.warning:
            return Status.SUCCESS
        if self.failed and not self.completed and not self.warning:
            return Status.SUB_OPERATIONS_FAILED
        return Status.SUB_OPERATIONS_COMPLETE_WITH_FAILURES


@dataclass(frozen=True, slots=True)
class RetrievalContext:
    """What the sub-operations of one retrieval need from the outside.

    Attributes:
        file_store: where the files are.
        limits: of associations with a destination.
        options: of all C-STORE requests.
        record: where failures are kept.
        is_cancelled: tells whether to stop; asked by the thread that serves the retrieval.
        report: is told of the counters, for a Pending response; by the same thread.
    """

    file_store: FileStore
    limits: AssociationLimits
    options: StoreOptions
    record: FailureRecord
    is_cancelled: Callable[[], bool]
    report: Callable[[SubOperations], None]


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
    retrieval = _Retrieval(instances, context)
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
    retrieval = _Retrieval(instances, context)
    queue = _Queue(instances)
    with Converter(context.file_store.scratch_folder) as converter:
        scu = retrieval.store_scu(channel, contexts, converter, retrieval.wait)
        while not retrieval.is_stopped() and (instance := queue.take()) is not None:
            try:
                retrieval.count(instance, scu.send(instance))
            except AssociationEnd as end:
                retrieval.count(instance, _lost(end))
                retrieval.count_all(queue, _lost(end))
            except SendingBrokenOff as broken_off:
                retrieval.count(instance, broken_off.failure)
                retrieval.count_all(queue, Failure(FailureCause.LOST, _BROKEN_OFF))
            retrieval.pend(_SHORTEST_PENDING_SECONDS)
    return retrieval.state


class _Queue:
    """The instances of a batch that are not sent yet; shared by its lanes."""

    def __init__(self, instances: Iterable[StoredInstance]) -> None:
        self._instances = deque(instances)
        self._put_back: dict[str, Failure] = {}

    def take(self) -> StoredInstance | None:
        """Return the next instance; None if there is none."""
        try:
            return self._instances.popleft()
        except IndexError:
            return None

    def put_back(self, instance: StoredInstance, failure: Failure) -> bool:
        """Have an instance sent once more, after all others; not a third time.

        Args:
            instance: what was on its way.
            failure: what became of it.
        """
        if instance.sop_instance_uid in self._put_back:
            return False
        self._put_back[instance.sop_instance_uid] = failure
        self._instances.append(instance)
        return True

    def failure_of(self, instance: StoredInstance) -> Failure | None:
        """Return what an instance that was put back has failed for; None for any other."""
        return self._put_back.get(instance.sop_instance_uid)

    def __len__(self) -> int:
        return len(self._instances)


class _Retrieval:
    """One retrieval at work: its lists, its Pending responses, its end."""

    def __init__(self, instances: Sequence[StoredInstance], context: RetrievalContext) -> None:
        self.context = context
        self.state = SubOperations(total=len(instances))
        self._last_pending_at = time.monotonic()
        if instances:
            context.report(self.state)

    def store_scu(
        self,
        channel: StoreChannel,
        contexts: SendingContexts,
        converter: Converter,
        while_waiting: Callable[[], None],
    ) -> StoreScu:
        """Return what sends on an association."""
        return StoreScu(
            channel,
            contexts,
            file_store=self.context.file_store,
            converter=converter,
            options=self.context.options,
            while_waiting=while_waiting,
        )

    def count(self, instance: StoredInstance, outcome: int | Failure) -> None:
        """Put an instance into its list; called by any lane."""
        uid = instance.sop_instance_uid
        if isinstance(outcome, Failure):
            self.state.failed.append(uid)
            self.context.record.add(uid, outcome)
        elif outcome:
            self.state.warning.append(uid)
        else:
            self.state.completed.append(uid)

    def count_all(self, queue: _Queue, failure: Failure) -> None:
        """Put all that a queue has into the list of what has failed."""
        while (instance := queue.take()) is not None:
            self.count(instance, failure)

    def pend(self, after_seconds: float) -> None:
        """Send a Pending response if the last one is that long ago (rule E-12)."""
        now = time.monotonic()
        is_due = now - self._last_pending_at >= after_seconds and self.state.remaining
        if is_due and not self.is_stopped():
            self.context.report(self.state)
            self._last_pending_at = now

    def wait(self) -> None:
        """Do what is to be done while a peer keeps us waiting."""
        self.pend(_LONGEST_PENDING_SECONDS)
        self.is_stopped()

    def is_stopped(self) -> bool:
        """Tell whether nothing more is to be sent; asks, so only for the serving thread."""
        self.state.is_cancelled = self.state.is_cancelled or self.context.is_cancelled()
        return self.state.is_cancelled


class _NotNeeded(Exception):  # noqa: N818 - nothing is wrong
    """An association that is being requested has nothing to send any more."""


class _Destination:
    """A batch on its way to a destination."""

    def __init__(
        self,
        retrieval: _Retrieval,
        batch: Batch,
        destination: RemoteAE,
        calling_ae_title: str,
    ) -> None:
        self._retrieval = retrieval
        self._batch = batch
        self._destination = destination
        self._calling_ae_title = calling_ae_title
        self._queue = _Queue(batch.instances)
        self._failure = Failure(FailureCause.NO_ASSOCIATION, "no association")

    def send(self) -> None:
        """Send all of it; what no lane could send is failed.

        Once cancelled, only what was on its way has failed: the others were not started (E-11).
        """
        further = min(self._destination.associations, len(self._batch.instances)) - 1
        if not further:
            self._run_lane(is_serving=True)
        else:
            self._run_lanes(further)
        while (instance := self._queue.take()) is not None:
            is_stopped = self._retrieval.is_stopped()
            failure = self._queue.failure_of(instance) if is_stopped else self._failure
            if failure is not None:
                self._retrieval.count(instance, failure)
            self._retrieval.pend(_SHORTEST_PENDING_SECONDS)

    def _run_lanes(self, further: int) -> None:
        """Run a lane here, and others in threads of their own."""
        with ThreadPoolExecutor(further, "sub-operations") as executor:
            lanes: list[Future[None]] = [
                executor.submit(contextvars.copy_context().run, self._run_lane, is_serving=False)
                for _ in range(further)
            ]
            try:
                self._run_lane(is_serving=True)
                while wait(lanes, timeout=_LOOK_SECONDS).not_done:
                    self._retrieval.wait()
                    self._retrieval.pend(_SHORTEST_PENDING_SECONDS)
            except BaseException:
                self._retrieval.state.is_cancelled = True  # else the others would go on to the end
                raise
        for lane in lanes:
            lane.result()

    def _run_lane(self, *, is_serving: bool) -> None:
        """Send what the queue has, until it is empty, or the destination was lost twice."""
        lost = 0
        with Converter(self._retrieval.context.file_store.scratch_folder) as converter:
            while lost < _MOST_ASSOCIATIONS_LOST and self._queue and not self._is_over(is_serving):
                try:
                    self._run_association(converter, is_serving=is_serving)
                except _NotNeeded:
                    return
                except RequestError as error:
                    self._fail(Failure(FailureCause.NO_ASSOCIATION, str(error)))
                    return
                except AssociationEnd as end:
                    self._fail(_lost(end))
                    lost += 1
                except SendingBrokenOff:
                    pass  # for a fault of ours: the destination is there as before

    def _fail(self, failure: Failure) -> None:
        """Take note of why a lane has ended: that is what is said of all that are left."""
        self._failure = failure
        activity_log.destination_failed(self._destination, failure.reason)

    def _run_association(self, converter: Converter, *, is_serving: bool) -> None:
        """Send on one association until the queue is empty."""
        wait_a_little = self._retrieval.wait if is_serving else _do_nothing
        is_requested = False

        def while_waiting() -> None:
            wait_a_little()
            if not is_requested and (self._is_over(is_serving) or not self._queue):
                raise _NotNeeded

        with RequestedAssociation(
            self._destination,
            self._batch.contexts,
            calling_ae_title=self._calling_ae_title,
            limits=self._retrieval.context.limits,
            while_waiting=while_waiting,
        ) as association:
            is_requested = True
            contexts = SendingContexts(association.contexts, self._destination.transfer_syntaxes)
            scu = self._retrieval.store_scu(association, contexts, converter, while_waiting)
            while not self._is_over(is_serving) and (instance := self._queue.take()) is not None:
                self._send(scu, instance)
                if is_serving:
                    self._retrieval.pend(_SHORTEST_PENDING_SECONDS)

    def _send(self, scu: StoreScu, instance: StoredInstance) -> None:
        try:
            outcome = scu.send(instance)
        except AssociationEnd as end:
            if not self._queue.put_back(instance, _lost(end)):
                self._retrieval.count(instance, _lost(end))
            raise
        except SendingBrokenOff as broken_off:
            self._retrieval.count(instance, broken_off.failure)
            raise
        self._retrieval.count(instance, outcome)

    def _is_over(self, is_serving: bool) -> bool:  # noqa: FBT001
        return self._retrieval.is_stopped() if is_serving else self._retrieval.state.is_cancelled


def _lost(end: AssociationEnd) -> Failure:
    """Return what an instance on its way has failed for."""
    if isinstance(end, NoResponse):
        return Failure(FailureCause.NO_ANSWER, end.reason)
    return Failure(FailureCause.LOST, end.reason or "it has released the association")


def _do_nothing() -> None:
    """Wait, in a thread that has nothing else to do."""


def describe(state: SubOperations) -> str:
    """Return the counts as they stand in a log line."""
    remaining, completed, failed, warning = state.counts
    return f"{completed} completed, {failed} failed, {warning} warning, {remaining} not started"
