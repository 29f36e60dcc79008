"""Query/Retrieve MOVE and GET as an SCP: plan, sub-operations, responses, and one line in the log.

Source: PS3.4 C.4.2, C.4.3; PS3.7 9.1.3, 9.1.4; rules E-1 to E-21, E-39 to E-41.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from pacsnode.catalog.catalog import Catalog
from pacsnode.dicom.ae import RemoteAE, check_ae_title
from pacsnode.file_store import FileStore
from pacsnode.network import activity_log
from pacsnode.network.command_set import MoveOriginator, StoreOptions
from pacsnode.network.exchange import Exchange
from pacsnode.network.failure_record import FailureRecord
from pacsnode.network.proposal import SendingContexts
from pacsnode.network.retrieval import RetrievalContext, SubOperations, describe
from pacsnode.network.sub_operations import get, move
from pacsnode.network.toolkit import AssociationLimits
from pacsnode.services.retrieve import RetrievePlan, RetrieveRequest, plan_get, plan_move


@dataclass(frozen=True, slots=True)
class RetrieveScp:
    """Serves retrievals.

    Attributes:
        file_store: where the files are.
        catalog: where instances are looked up, and failures kept.
        remote_aes: move destinations by AE title.
        ae_title: the title of ours to use where the requestor called none that may be used.
        limits: of associations with destinations.
    """

    file_store: FileStore
    catalog: Catalog
    remote_aes: Mapping[str, RemoteAE]
    ae_title: str
    limits: AssociationLimits

    def move(self, exchange: Exchange, request: RetrieveRequest) -> None:
        """Serve a C-MOVE request to its last response.

        Raises:
            DimseFailure: it is refused; nothing has been sent.
        """
        association, message = exchange.association, exchange.request
        destination, plan = plan_move(
            request, str(message.MoveDestination or ""), self.catalog, self.remote_aes
        )
        originator = MoveOriginator(association.calling_ae_title, message.MessageID)
        with self._record(exchange, destination.ae_title) as record:
            started_at = time.monotonic()
            state = move(
                plan.instances,
                destination,
                self._own_ae_title(association.called_ae_title),
                self._context(exchange, record, StoreOptions(message.Priority, originator)),
            )
        _finish(exchange, plan, destination.ae_title, state, started_at)

    def get(self, exchange: Exchange, request: RetrieveRequest) -> None:
        """Serve a C-GET request to its last response.

        Raises:
            DimseFailure: it is refused; nothing has been sent.
        """
        association = exchange.association
        plan = plan_get(request, self.catalog)
        contexts = SendingContexts(association.contexts, to_requestor=True)
        with self._record(exchange, association.calling_ae_title) as record:
            started_at = time.monotonic()
            message = exchange.request
            options = StoreOptions(message.Priority, outstanding_message_id=message.MessageID)
            context = self._context(exchange, record, options)
            state = get(plan.instances, association, contexts, context)
        _finish(exchange, plan, association.calling_ae_title, state, started_at)

    def _record(self, exchange: Exchange, destination_ae_title: str) -> FailureRecord:
        return FailureRecord(
            self.catalog,
            service=exchange.name,
            requestor_ae_title=exchange.association.calling_ae_title,
            destination_ae_title=destination_ae_title,
        )

    def _context(
        self, exchange: Exchange, record: FailureRecord, options: StoreOptions
    ) -> RetrievalContext:
        association = exchange.association
        return RetrievalContext(
            file_store=self.file_store,
            limits=self.limits,
            options=options,
            record=record,
            is_cancelled=lambda: association.is_cancelled() or association.is_lost(),
            is_interrupted=association.is_interrupted,
            report=exchange.respond_pending,
        )

    def _own_ae_title(self, called_ae_title: str) -> str:
        """Return the title that a C-MOVE was sent to, if it is one that may be used (E-15, H-2)."""
        try:
            return check_ae_title(called_ae_title)
        except ValueError:
            return self.ae_title


def _finish(
    exchange: Exchange,
    plan: RetrievePlan,
    destination_ae_title: str,
    state: SubOperations,
    started_at: float,
) -> None:
    """Send the final response, if the requestor is still there, and log what was done."""
    exchange.respond_retrieved(state)
    how = f"status 0x{state.final_status:04X}"
    activity_log.retrieved(
        exchange.name,
        plan.asked_for,
        destination_ae_title,
        describe(state),
        time.monotonic() - started_at,
        "requestor gone" if exchange.association.is_lost() else how,
    )
