"""What did not arrive, kept in the catalog: so that it can be asked for afterwards.

Rows are written some at a time, so that a destination that takes nothing of a large study does not
keep others from the catalog; and by a thread of their own, so that a catalog that others keep does
not stop the retrieval.
"""

import contextvars
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Self

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import CatalogError, FailedSubOperation, FailureCause
from pacsnode.network import activity_log
from pacsnode.network.store_scu import Failure

_TOGETHER: Final = 500
_LONGEST_DELAY_SECONDS: Final = 1.0
# The requestor hears nothing meanwhile, and should within five seconds (rule E-12).
_LONGEST_WAIT_SECONDS: Final = 3.0


class FailureRecord:
    """The failed sub-operations of one retrieval; any thread may add to it.

    A context manager: what was added is in the catalog at the end of the block; somewhat later if
    others keep the catalog for seconds. A catalog that fails is reported once and changes nothing
    else: the retrieval goes on.

    Attributes:
        causes: how many instances have failed for each cause and reason.
        catalog_failure: why the catalog does not have them; empty if nothing is known against it.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        service: str,
        requestor_ae_title: str,
        destination_ae_title: str,
    ) -> None:
        """Begin a record.

        Args:
            catalog: where it is kept.
            service: C-MOVE, C-GET or send.
            requestor_ae_title: who asked; empty for the command line.
            destination_ae_title: whereto.
        """
        self._catalog = catalog
        self._service = service
        self._requestor_ae_title = requestor_ae_title
        self._destination_ae_title = destination_ae_title
        self._lock = threading.Lock()
        self._pending: list[FailedSubOperation] = []
        self._written_at = time.monotonic()
        self._executor = ThreadPoolExecutor(max_workers=1)  # starts no thread before it is needed
        self._writing: Future[None] | None = None
        self._is_writing = False
        self.causes: Counter[tuple[FailureCause, str]] = Counter()
        self.catalog_failure = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._start_writing()
            is_left = bool(self._pending) and not self._is_writing
        self._executor.shutdown(wait=False)
        if is_left:
            self._write()
        if self._writing is not None and wait([self._writing], _LONGEST_WAIT_SECONDS).done:
            self._writing.result()

    def add(self, sop_instance_uid: str, failure: Failure) -> None:
        """Log that an instance has not arrived, and keep it."""
        activity_log.sub_operation_failed(sop_instance_uid, failure.cause, failure.reason)
        with self._lock:
            self.causes[failure.cause, failure.reason] += 1
            self._pending.append(
                FailedSubOperation(
                    failed_at=datetime.now(UTC),
                    sop_instance_uid=sop_instance_uid,
                    service=self._service,
                    requestor_ae_title=self._requestor_ae_title,
                    destination_ae_title=self._destination_ae_title,
                    cause=failure.cause,
                    status=failure.status,
                    reason=failure.reason,
                )
            )
            is_due = time.monotonic() - self._written_at > _LONGEST_DELAY_SECONDS
            if is_due or len(self._pending) >= _TOGETHER:
                self._start_writing()

    def _start_writing(self) -> None:
        """Have what is pending written, if it is not being done; the lock is held."""
        if self._pending and not self._is_writing:
            context = contextvars.copy_context()  # the label of lines in the log
            with suppress(RuntimeError):  # no thread is to be had: later, or at the end
                self._writing = self._executor.submit(context.run, self._write)
                self._is_writing = True

    def _write(self) -> None:
        while together := self._next():
            if self.catalog_failure:
                continue
            try:
                self._catalog.add_failures(together)
            except CatalogError as error:
                self.catalog_failure = str(error)
                activity_log.failures_not_kept(str(error))

    def _next(self) -> list[FailedSubOperation]:
        """Return what is to be written together; with nothing, writing has ended."""
        with self._lock:
            together, self._pending = self._pending[:_TOGETHER], self._pending[_TOGETHER:]
            self._is_writing = bool(together)
            self._written_at = time.monotonic()
        return together
