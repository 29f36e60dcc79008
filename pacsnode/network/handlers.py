"""From a DIMSE request to its service and back: one function for each operation.

This is the one place where a failure, of whatever depth, becomes a response, and where what was
done is logged.

Source: PS3.7 9.1; PS3.4 A, B, C.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_GET, C_MOVE

from pacsnode.catalog.catalog import Catalog
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.information_model import (
    FIND_MODELS,
    GET_MODELS,
    MOVE_MODELS,
    VERIFICATION_UID,
    InformationModel,
)
from pacsnode.dicom.query import QueryOptions
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.network import activity_log
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association import AcceptedAssociation
from pacsnode.network.command_set import CommandSet, Primitive
from pacsnode.network.exchange import Exchange, internal_error, no_such_operation
from pacsnode.network.negotiation import QueryOption
from pacsnode.network.retrieve_scp import RetrieveScp
from pacsnode.network.store_scp import StoreExchange
from pacsnode.network.toolkit import AssociationLimits
from pacsnode.services.c_echo import echo
from pacsnode.services.c_find import FindRequest, find
from pacsnode.services.keep import Keeper
from pacsnode.services.retrieve import RetrieveRequest

# Identifiers of matches: one write for each of them would take longer than all the rest. Between
# two writes a cancel is looked for.
_SENT_TOGETHER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Handlers:
    """Serves the requests of all associations of a worker.

    Attributes:
        keeper: where instances are kept.
        catalog: where they are looked up.
        remote_aes: move destinations by AE title.
        ae_title: the title of ours to use where the requestor called none that may be used.
        limits: of associations that we request.
        result_limit: answers to one C-FIND; 0 is no limit.
        maximum_instance_bytes: a longer data set is refused; 0 is no limit.
        query_options: how queries are understood, whatever is negotiated for them.
    """

    keeper: Keeper
    catalog: Catalog
    remote_aes: Mapping[str, RemoteAE]
    ae_title: str
    limits: AssociationLimits
    result_limit: int
    maximum_instance_bytes: int
    query_options: QueryOptions = QueryOptions()  # noqa: RUF009 - immutable

    def receive_instance(
        self,
        association: AcceptedAssociation,
        context: PresentationContext,
        command_set: CommandSet,
    ) -> StoreExchange:
        """Begin to serve a C-STORE request."""
        return StoreExchange(
            association, context, command_set, self.keeper, self.maximum_instance_bytes
        )

    def serve(
        self, association: AcceptedAssociation, context: PresentationContext, request: Primitive
    ) -> None:
        """Serve any other request of an association, to its last response."""
        exchange = Exchange(association, context, request)
        try:
            self._dispatch(exchange)
        except DimseFailure as failure:
            activity_log.request_refused(exchange.name, failure)
            exchange.respond_failure(failure)
        except Exception:  # noqa: BLE001 - the one place: a fault of ours must not end the worker
            activity_log.failed_unexpectedly(exchange.name)
            exchange.respond_failure(internal_error())

    def _dispatch(self, exchange: Exchange) -> None:
        abstract_syntax = exchange.context.abstract_syntax
        match exchange.request:
            case C_ECHO() if abstract_syntax == VERIFICATION_UID:
                self._echo(exchange)
            case C_FIND() if abstract_syntax in FIND_MODELS:
                self._find(exchange, FIND_MODELS[abstract_syntax])
            case C_MOVE() if abstract_syntax in MOVE_MODELS:
                self._retrieve_scp().move(
                    exchange, self._retrieve_request(exchange, MOVE_MODELS[abstract_syntax])
                )
            case C_GET() if abstract_syntax in GET_MODELS:
                self._retrieve_scp().get(
                    exchange, self._retrieve_request(exchange, GET_MODELS[abstract_syntax])
                )
            case _:
                raise no_such_operation()

    def _echo(self, exchange: Exchange) -> None:
        exchange.respond(echo())
        activity_log.echoed()

    def _find(self, exchange: Exchange, model: InformationModel) -> None:
        exchange.check_sop_class()
        started_at, answers = time.monotonic(), 0
        found = find(
            FindRequest(
                model=model,
                identifier=exchange.identifier(),
                encoding=exchange.encoding,
                retrieve_ae_title=exchange.association.called_ae_title,
                options=self._options(exchange.context),
            ),
            self.catalog,
            self.keeper.file_store,
            result_limit=self.result_limit,
        )
        status, how = Status.SUCCESS, "complete"
        for identifiers in _together(found.pages):
            if exchange.association.is_cancelled():
                status, how = Status.CANCEL, "cancelled"
                break
            if exchange.association.is_lost():
                how = "requestor gone"
                break
            exchange.respond_matches(found.query.pending_status, identifiers)
            answers += len(identifiers)
        exchange.respond_found(status)
        level = found.query.level.name
        activity_log.found(model.name, level, answers, time.monotonic() - started_at, how)

    def _retrieve_scp(self) -> RetrieveScp:
        return RetrieveScp(
            file_store=self.keeper.file_store,
            catalog=self.catalog,
            remote_aes=self.remote_aes,
            ae_title=self.ae_title,
            limits=self.limits,
        )

    def _retrieve_request(self, exchange: Exchange, model: InformationModel) -> RetrieveRequest:
        exchange.check_sop_class()
        return RetrieveRequest(
            model=model,
            identifier=exchange.identifier(),
            encoding=exchange.encoding,
            is_relational=self._options(exchange.context).relational,
        )

    def _options(self, context: PresentationContext) -> QueryOptions:
        """Return how a request in a context is understood (rules B-6, B-11)."""
        return replace(
            self.query_options,
            relational=(
                context.has_agreed(QueryOption.RELATIONAL) or self.query_options.relational
            ),
            combined_date_time=context.has_agreed(QueryOption.COMBINED_DATE_TIME),
            empty_value=context.has_agreed(QueryOption.EMPTY_VALUE),
            multiple_values=context.has_agreed(QueryOption.MULTIPLE_VALUES),
        )


def _together(pages: Iterable[Sequence[bytes]]) -> Iterator[Sequence[bytes]]:
    """Yield the identifiers of each page, in parts that are short enough to be sent at once."""
    for page in pages:
        start, length_bytes = 0, 0
        for end, identifier in enumerate(page):
            if length_bytes + len(identifier) > _SENT_TOGETHER_BYTES and end > start:
                yield page[start:end]
                start, length_bytes = end, 0
            length_bytes += len(identifier)
        if start < len(page):
            yield page[start:]
