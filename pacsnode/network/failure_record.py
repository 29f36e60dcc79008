"""What did not arrive, kept in the catalog: so that it can be asked for afterwards.

Rows are written some at a time, so that a destination that takes nothing of a large study does not
keep others from the catalog.
"""

import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import CatalogError, FailedSubOperation
from pacsnode.network import activity_log
from pacsnode.network.store_scu import Failure

_TOGETHER: Final = 500
_LONGEST_DELAY_SECONDS: Final = 1.0


class FailureRecord:
    """The failed sub-operations of one retrieval; any thread may add to it.

    A context manager: what was added is in the catalog at the end of the block. A catalog that
    fails is reported once and changes nothing else: the retrieval goes on.
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
        self._has_failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._write()

    def add(self, sop_instance_uid: str, failure: Failure) -> None:
        """Log that an instance has not arrived, and keep it."""
        activity_log.sub_operation_failed(sop_instance_uid, failure.cause, failure.reason)
        with self._lock:
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
                self._write()

    def _write(self) -> None:
        if self._pending and not self._has_failed:
            try:
                self._catalog.add_failures(self._pending)
            except CatalogError as error:
                self._has_failed = True
                activity_log.failures_not_kept(str(error))
        self._pending = []
        self._written_at = time.monotonic()
