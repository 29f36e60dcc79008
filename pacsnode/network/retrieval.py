"""One retrieval at work: what is to be sent, what has become of it, and whether to go on.

Source: PS3.4 C.4.2, C.4.3; rules E-8 to E-12, E-17.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pacsnode.catalog.records import FailureCause, StoredInstance
from pacsnode.conversion.converter import Converter
from pacsnode.dicom.status import Status
from pacsnode.file_store import FileStore
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import StoreOptions
from pacsnode.network.failure_record import FailureRecord
from pacsnode.network.messages import NoResponse
from pacsnode.network.proposal import SendingContexts
from pacsnode.network.store_scu import Failure, Sender, StoreChannel, StoreScu
from pacsnode.network.toolkit import AssociationLimits

_SHORTEST_PENDING_SECONDS: Final = 1.0
# At least every five seconds (rule E-12), and who waits looks every second at most.
_LONGEST_PENDING_SECONDS: Final = 4.0


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
        is_interrupted: tells whether not even to finish what is on its way; by the same thread.
        report: is told of the counters, for a Pending response; by the same thread.
    """

    file_store: FileStore
    limits: AssociationLimits
    options: StoreOptions
    record: FailureRecord
    is_cancelled: Callable[[], bool]
    is_interrupted: Callable[[], bool]
    report: Callable[[SubOperations], None]


class Queue:
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

    def upcoming(self) -> StoredInstance | None:
        """Return what is taken next, unless somebody else takes it; None if there is nothing."""
        try:
            return self._instances[0]
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


class Retrieval:
    """One retrieval at work: its lists, its Pending responses, its end.

    Attributes:
        context: what it needs.
        state: what has become of the instances.
        is_interrupted: not even what is on its way is to be finished.
    """

    def __init__(self, instances: Sequence[StoredInstance], context: RetrievalContext) -> None:
        self.context = context
        self.state = SubOperations(total=len(instances))
        self.is_interrupted = False
        self._stopped_at: float | None = None
        self._last_pending_at = time.monotonic()
        if instances:
            context.report(self.state)

    def converter(self) -> Converter:
        """Return what converts for one association after the other."""
        file_store = self.context.file_store
        return Converter(file_store.scratch_folder, why_no_space=file_store.why_no_space)

    def store_scu(
        self,
        channel: StoreChannel,
        contexts: SendingContexts,
        converter: Converter,
        sender: Sender,
    ) -> StoreScu:
        """Return what sends on an association."""
        return StoreScu(
            channel,
            contexts,
            file_store=self.context.file_store,
            converter=converter,
            options=self.context.options,
            sender=sender,
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

    def count_all(self, queue: Queue, failure: Failure) -> None:
        """Put all that a queue has into the list of what has failed."""
        while (instance := queue.take()) is not None:
            self.count(instance, failure)

    def pend(self) -> None:
        """Send a Pending response if the last one is a while ago (rule E-12)."""
        self._pend(_SHORTEST_PENDING_SECONDS)

    def wait(self) -> None:
        """Do what is to be done while a peer keeps us waiting."""
        self._pend(_LONGEST_PENDING_SECONDS)
        self.is_stopped()

    def _pend(self, after_seconds: float) -> None:
        now = time.monotonic()
        is_due = now - self._last_pending_at >= after_seconds and self.state.remaining
        if is_due and not self.is_stopped():
            self.context.report(self.state)
            self._last_pending_at = now

    def is_stopped(self) -> bool:
        """Tell whether nothing more is to be sent; asks, so only for the serving thread."""
        if not self.state.is_cancelled and self.context.is_cancelled():
            self.state.is_cancelled = True
            self._stopped_at = time.monotonic()
        self.is_interrupted = self.state.is_cancelled and self.context.is_interrupted()
        return self.state.is_cancelled

    def seconds_since_stop(self) -> float:
        """Return for how long nothing more was to be sent; 0 if something is."""
        return 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at


def lost(end: AssociationEnd) -> Failure:
    """Return what an instance on its way has failed for."""
    if isinstance(end, NoResponse):
        return Failure(FailureCause.NO_ANSWER, end.reason)
    return Failure(FailureCause.LOST, end.reason or "it has released the association")


def describe(state: SubOperations) -> str:
    """Return the counts as they stand in a log line."""
    remaining, completed, failed, warning = state.counts
    return f"{completed} completed, {failed} failed, {warning} warning, {remaining} not started"
