"""The sub-operations of a C-MOVE: sent one by one, counted from lists, reported as they go.

pynetdicom's own loop answers A801 for whatever goes wrong at the destination, cannot refuse before
it has associated, and names the wrong originator; hence this one.

Source: PS3.4 C.4.2.2, C.4.2.3; rules E-5 to E-21.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pacsnode.catalog.records import StoredInstance
from pacsnode.dicom.part10 import Part10Error
from pacsnode.dicom.status import Status, is_warning
from pacsnode.file_store import FileStore
from pacsnode.network import activity_log
from pacsnode.network.store_scu import (
    MoveOriginator,
    StoreAssociation,
    StoreAssociationError,
    StoreResult,
    batches,
)
from pacsnode.network.toolkit import AssociationLimits
from pacsnode.services.c_move import MovePlan

_MAXIMUM_COUNT: Final = 0xFFFF  # the counters are US (rule E-20)
_SHORTEST_PENDING_SECONDS: Final = 1.0
_LONGEST_PENDING_SECONDS: Final = 5.0
_ATTEMPTS: Final = 2  # a lost association is opened again once (rule E-19)


@dataclass(slots=True)
class SubOperations:
    """What has become of the instances of a C-MOVE; each is in exactly one list.

    Attributes:
        remaining: not sent yet, in this order.
        completed: SOP Instance UIDs that the destination took.
        failed: that it did not take, or that could not be sent.
        warning: that it took with a reservation.
        is_cancelled: a C-CANCEL has come, or the requestor has gone.
    """

    remaining: deque[StoredInstance]
    completed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    warning: list[str] = field(default_factory=list)
    is_cancelled: bool = False

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Remaining, completed, failed, warning: as many as there are."""
        return len(self.remaining), len(self.completed), len(self.failed), len(self.warning)

    @property
    def final_status(self) -> Status:
        """The status of the final response.

        Source: PS3.4 table C.4-2; rule E-8.
        """
        if self.is_cancelled and self.remaining:
            return Status.CANCEL
        if not self.failed and not self.warning:
            return Status.SUCCESS
        if self.failed and not self.completed and not self.warning:
            return Status.SUB_OPERATIONS_FAILED
        return Status.SUB_OPERATIONS_COMPLETE_WITH_FAILURES


def clamp(count: int) -> int:
    """Return a count as a counter can state it (rule E-20)."""
    return min(count, _MAXIMUM_COUNT)


@dataclass(frozen=True, slots=True)
class MoveContext:
    """What the sub-operations of one C-MOVE need from the outside.

    Attributes:
        file_store: where the files are.
        limits: of the association with the destination.
        calling_ae_title: the title of ours that the C-MOVE was sent to (rule E-15).
        originator: who asked.
        priority: of the C-MOVE request (rule E-13).
        is_cancelled: tells whether to stop.
        send_pending: sends a Pending response with the counters.
    """

    file_store: FileStore
    limits: AssociationLimits
    calling_ae_title: str
    originator: MoveOriginator
    priority: int
    is_cancelled: Callable[[], bool]
    send_pending: Callable[[SubOperations], None]


def move(plan: MovePlan, context: MoveContext) -> SubOperations:
    """Send all instances of a plan and return what has become of them.

    A failure concerns its instance only; a destination that cannot be reached concerns all that are
    left for it.

    Source: PS3.4 C.4.2.3.1.
    """
    return _Move(plan, context).run()


class _Move:
    """One C-MOVE at work."""

    def __init__(self, plan: MovePlan, context: MoveContext) -> None:
        self._plan = plan
        self._context = context
        self._batches = batches(plan.instances)
        in_order = (instance for batch in self._batches for instance in batch)
        self._state = SubOperations(remaining=deque(in_order))
        self._last_pending_at = time.monotonic()

    def run(self) -> SubOperations:
        state = self._state
        if state.remaining:
            self._context.send_pending(state)
        for batch in self._batches:
            last = len(state.remaining) - len(batch)
            for _ in range(_ATTEMPTS):
                is_done = len(state.remaining) == last or self._is_cancelled()
                if is_done or not self._send_batch(last):
                    break
            while len(state.remaining) > last and not self._is_cancelled():
                self._count_failure("the destination was lost")
        return state

    def _send_batch(self, last: int) -> bool:
        """Send instances on one association until `last` remain, or it is lost.

        Returns:
            Whether the destination let us in: if not, it would not a moment later either.
        """
        sent_before = len(self._state.remaining)
        to_send = list(self._state.remaining)[: len(self._state.remaining) - last]
        try:
            with StoreAssociation(
                self._plan.destination,
                to_send,
                calling_ae_title=self._context.calling_ae_title,
                limits=self._context.limits,
                while_waiting=lambda: self._pend(_LONGEST_PENDING_SECONDS),
            ) as association:
                while len(self._state.remaining) > last and not self._is_cancelled():
                    self._send_next(association)
                    if len(self._state.remaining) > last:
                        self._pend(_SHORTEST_PENDING_SECONDS)
        except StoreAssociationError as error:
            activity_log.destination_failed(self._plan.destination, str(error))
        return len(self._state.remaining) < sent_before

    def _send_next(self, association: StoreAssociation) -> None:
        instance = self._state.remaining[0]
        try:
            result = association.send(
                instance,
                self._context.file_store.path(instance.file.path),
                priority=self._context.priority,
                originator=self._context.originator,
                while_waiting=lambda: self._pend(_LONGEST_PENDING_SECONDS),
            )
        except (OSError, Part10Error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._count_failure(f"its file cannot be read: {reason}")
        except StoreAssociationError:
            # Whether it arrived is unknown; sending it twice would do no harm, but a destination
            # that breaks off at it would do so again.
            self._count_failure("the association was lost while it was sent")
            raise
        else:
            self._count(result)

    def _count(self, result: StoreResult) -> None:
        """Put the instance that was sent into its list (rule E-16)."""
        if result.status is None or not (result.status == 0 or is_warning(result.status)):
            self._count_failure(result.reason)
            return
        uid = self._state.remaining.popleft().sop_instance_uid
        (self._state.completed if result.status == 0 else self._state.warning).append(uid)

    def _count_failure(self, reason: str) -> None:
        uid = self._state.remaining.popleft().sop_instance_uid
        self._state.failed.append(uid)
        activity_log.sub_operation_failed(uid, reason)

    def _pend(self, after_seconds: float) -> None:
        """Send a Pending response if the last one is that long ago (rule E-12)."""
        if time.monotonic() - self._last_pending_at >= after_seconds:
            self._context.send_pending(self._state)
            self._last_pending_at = time.monotonic()

    def _is_cancelled(self) -> bool:
        self._state.is_cancelled = self._state.is_cancelled or self._context.is_cancelled()
        return self._state.is_cancelled


def describe(state: SubOperations) -> str:
    """Return the counts as they stand in a log line."""
    remaining, completed, failed, warning = state.counts
    return f"{completed} completed, {failed} failed, {warning} warning, {remaining} not started"
