"""From a DIMSE request to its service and back: one function for each operation.

This is the one place where a failure, of whatever depth, becomes a response, and where what was
done is logged.

Source: PS3.7 9.1; PS3.4 A, B, C.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Final

from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_MOVE

from pacsnode.catalog.catalog import Catalog
from pacsnode.dicom.ae import RemoteAE, check_ae_title
from pacsnode.dicom.identifier import encode_failed_list
from pacsnode.dicom.information_model import (
    FIND_MODELS,
    MOVE_MODELS,
    VERIFICATION_UID,
    InformationModel,
)
from pacsnode.dicom.part10 import Received
from pacsnode.dicom.query import QueryOptions
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of
from pacsnode.dicom.uid import normalise_uid
from pacsnode.file_store import FileStoreError
from pacsnode.network import activity_log
from pacsnode.network.activity_log import shown_uid
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association import AcceptedAssociation
from pacsnode.network.command_set import (
    CommandSet,
    Primitive,
    encode_find_response,
    encode_store_response,
)
from pacsnode.network.move_scp import MoveContext, SubOperations, clamp, describe, move
from pacsnode.network.negotiation import SERVICES_WITHOUT_PIXELS, QueryOption
from pacsnode.network.store_scu import MoveOriginator
from pacsnode.network.toolkit import AssociationLimits
from pacsnode.network.upper_layer import Abort, AssociationEnd
from pacsnode.services.c_echo import echo
from pacsnode.services.c_find import FindRequest, find
from pacsnode.services.c_move import MoveRequest, plan_move
from pacsnode.services.c_store import Reception, StoreRequest
from pacsnode.services.keep import Keeper

# A refused data set is read to its end, so that its sender hears why; but not for ever.
_MOST_DISCARDED_BYTES: Final = 4 * 1024**3
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
    ) -> "_StoreExchange":
        """Begin to serve a C-STORE request."""
        return _StoreExchange(self, association, context, command_set)

    def serve(
        self, association: AcceptedAssociation, context: PresentationContext, request: Primitive
    ) -> None:
        """Serve any other request of an association, to its last response."""
        exchange = _Exchange(association, context, request)
        try:
            self._dispatch(exchange)
        except DimseFailure as failure:
            activity_log.request_refused(exchange.name, failure)
            exchange.respond_failure(failure)
        except Exception:  # noqa: BLE001 - the one place: a fault of ours must not end the worker
            activity_log.failed_unexpectedly(exchange.name)
            exchange.respond_failure(_internal_error())

    def _dispatch(self, exchange: "_Exchange") -> None:
        abstract_syntax = exchange.context.abstract_syntax
        match exchange.request:
            case C_ECHO() if abstract_syntax == VERIFICATION_UID:
                self._echo(exchange)
            case C_FIND() if abstract_syntax in FIND_MODELS:
                self._find(exchange, FIND_MODELS[abstract_syntax])
            case C_MOVE() if abstract_syntax in MOVE_MODELS:
                self._move(exchange, MOVE_MODELS[abstract_syntax])
            case _:
                raise _no_such_operation()

    def _echo(self, exchange: "_Exchange") -> None:
        exchange.respond(echo())
        activity_log.echoed()

    def _find(self, exchange: "_Exchange", model: InformationModel) -> None:
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

    def _move(self, exchange: "_Exchange", model: InformationModel) -> None:
        exchange.check_sop_class()
        request, association = exchange.request, exchange.association
        started_at = time.monotonic()
        plan = plan_move(
            MoveRequest(
                model=model,
                identifier=exchange.identifier(),
                encoding=exchange.encoding,
                move_destination=str(request.MoveDestination or ""),
                is_relational=self._options(exchange.context).relational,
            ),
            self.catalog,
            self.remote_aes,
        )
        state = move(
            plan,
            MoveContext(
                file_store=self.keeper.file_store,
                limits=self.limits,
                calling_ae_title=self._own_ae_title(association.called_ae_title),
                originator=MoveOriginator(association.calling_ae_title, request.MessageID),
                priority=request.Priority,
                is_cancelled=lambda: association.is_cancelled() or association.is_lost(),
                send_pending=exchange.respond_pending,
            ),
        )
        exchange.respond_moved(state)
        activity_log.moved(
            plan.destination.ae_title,
            describe(state),
            state.final_status,
            time.monotonic() - started_at,
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

    def _own_ae_title(self, called_ae_title: str) -> str:
        """Return the title that a C-MOVE was sent to, if it is one that may be used (E-15, H-2)."""
        try:
            return check_ae_title(called_ae_title)
        except ValueError:
            return self.ae_title


class _StoreExchange:
    """A C-STORE request, its data set as it arrives, and its response."""

    def __init__(
        self,
        handlers: Handlers,
        association: AcceptedAssociation,
        context: PresentationContext,
        command_set: CommandSet,
    ) -> None:
        self._association = association
        self._context_id = context.context_id
        self._command_set = command_set
        _ = command_set.message_id  # what has none cannot be answered
        self._maximum_bytes = handlers.maximum_instance_bytes
        self._reception: Reception | None = None
        self._failure: DimseFailure | None = None
        self._discarded_bytes = 0
        try:
            self._reception = self._begin(handlers, context)
        except DimseFailure as failure:
            self._failure = failure

    def append(self, fragments: Sequence[memoryview]) -> None:
        """Take the next part of the data set.

        Raises:
            AssociationEnd: it was refused long ago and still goes on.
        """
        if self._failure is None and self._reception is not None:
            try:
                self._reception.append(fragments)
            except DimseFailure as failure:
                self._failure = failure
            except Exception:  # noqa: BLE001 - see Handlers.serve
                self._fail_unexpectedly()
            return
        self._discarded_bytes += sum(map(len, fragments))
        if self._discarded_bytes > (self._maximum_bytes or _MOST_DISCARDED_BYTES):
            raise AssociationEnd(
                f"a data set that was refused ({self._failure}) does not end", abort=Abort.BY_USER
            )

    def finish(self, last: Sequence[memoryview]) -> None:
        """Take the last part of the data set, keep the instance and respond."""
        if self._failure is None and self._reception is not None:
            try:
                response = self._reception.finish(last)
                activity_log.instance_stored(
                    self._command_set.affected_sop_instance_uid,
                    response.keeping,
                    response.length_bytes,
                )
                self._respond(
                    encode_store_response(self._command_set, response.status, response.comment)
                )
            except DimseFailure as failure:
                self._failure = failure
            except Exception:  # noqa: BLE001 - see Handlers.serve
                self._fail_unexpectedly()
        if self._failure is not None:
            self._refuse(self._failure)
            self._failure = None  # its traceback knows this exchange

    def discard(self) -> None:
        """Forget the data set: it will not arrive to its end."""
        self._failure = None  # as above
        if self._reception is not None:
            try:
                self._reception.discard()
            except FileStoreError as error:
                activity_log.not_removed(str(error))

    def _refuse(self, failure: DimseFailure) -> None:
        activity_log.request_refused(self._name, failure)
        self._respond(
            encode_store_response(
                self._command_set, failure.status, failure.comment, failure.offending_elements
            )
        )

    def _begin(self, handlers: Handlers, context: PresentationContext) -> Reception:
        if context.abstract_syntax in SERVICES_WITHOUT_PIXELS:
            # Every context that is accepted for none of the other services is one of Storage.
            raise _no_such_operation()
        return Reception(
            StoreRequest(
                received=Received(
                    sop_class_uid=self._command_set.affected_sop_class_uid,
                    sop_instance_uid=self._command_set.affected_sop_instance_uid,
                    transfer_syntax_uid=context.transfer_syntax,
                    calling_ae_title=self._association.calling_ae_title,
                    called_ae_title=self._association.called_ae_title,
                ),
                abstract_syntax=context.abstract_syntax,
            ),
            handlers.keeper,
            maximum_bytes=handlers.maximum_instance_bytes,
        )

    @property
    def _name(self) -> str:
        """What the request is called in the log."""
        return f"C-STORE {shown_uid(self._command_set.affected_sop_instance_uid)}"

    def _fail_unexpectedly(self) -> None:
        activity_log.failed_unexpectedly(self._name)
        self._failure = _internal_error()

    def _respond(self, command_set: bytes) -> None:
        self._association.send_message(self._context_id, command_set)


class _Exchange:
    """Any other request and its responses."""

    def __init__(
        self, association: AcceptedAssociation, context: PresentationContext, request: Primitive
    ) -> None:
        self.association = association
        self.context = context
        self.request = request

    @property
    def encoding(self) -> Encoding:
        return encoding_of(self.context.transfer_syntax)

    @property
    def name(self) -> str:
        """What the request is called in the log."""
        return type(self.request).__name__.replace("_", "-")

    def identifier(self) -> bytes:
        """Return the encoded identifier of a query or retrieve request."""
        identifier = self.request.Identifier
        content = bytes(identifier.getvalue()) if identifier is not None else b""
        if not content:
            raise DimseFailure(Status.IDENTIFIER_UNDECODABLE, "the request has no identifier")
        return content

    def check_sop_class(self) -> None:
        """Refuse a command whose class is not its context's (rule B-19)."""
        if _uid(self.request.AffectedSOPClassUID) != self.context.abstract_syntax:
            raise DimseFailure(
                Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class is not that of the presentation context"
            )

    def respond(self, status: int, **fields: object) -> None:
        """Send a response with a status and further fields of the primitive."""
        response: Primitive = type(self.request)()
        response.MessageIDBeingRespondedTo = self.request.MessageID
        response.Status = int(status)
        # Rule F-4: both UIDs are optional in responses and equal those of the request.
        for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
            value = getattr(self.request, keyword, None)
            if value is not None:
                setattr(response, keyword, value)
        for keyword, value in fields.items():
            setattr(response, keyword, value)
        self.association.respond(self.context.context_id, response)

    def respond_matches(self, status: int, identifiers: Sequence[bytes]) -> None:
        """Send a Pending response of a C-FIND for each identifier, all at once (rule D-1)."""
        command_set = self._find_response(status, has_identifier=True)
        self.association.send_messages(self.context.context_id, command_set, identifiers)

    def respond_found(self, status: int) -> None:
        """Send the last response of a C-FIND that has not failed."""
        command_set = self._find_response(status, has_identifier=False)
        self.association.send_message(self.context.context_id, command_set)

    def _find_response(self, status: int, *, has_identifier: bool) -> bytes:
        return encode_find_response(
            str(self.request.AffectedSOPClassUID),
            self.request.MessageID,
            int(status),
            has_identifier=has_identifier,
        )

    def respond_failure(self, failure: DimseFailure) -> None:
        """Send the response that a failure asks for (rules D-31, F-4)."""
        offending = list(failure.offending_elements) or None
        fields = {"ErrorComment": failure.comment, "OffendingElement": offending}
        response = type(self.request)()  # its fields are there once it is made
        self.respond(
            failure.status,
            **{keyword: value for keyword, value in fields.items() if hasattr(response, keyword)},
        )

    def respond_pending(self, state: SubOperations) -> None:
        """Send a Pending response with all four counters (rule E-9)."""
        remaining, completed, failed, warning = map(clamp, state.counts)
        self.respond(
            Status.PENDING,
            NumberOfRemainingSuboperations=remaining,
            NumberOfCompletedSuboperations=completed,
            NumberOfFailedSuboperations=failed,
            NumberOfWarningSuboperations=warning,
        )

    def respond_moved(self, state: SubOperations) -> None:
        """Send the final response: Remaining only if cancelled, the list only if some failed.

        Source: PS3.4 C.4.2.1.5, C.4.2.1.6; rules E-8 to E-11.
        """
        remaining, completed, failed, warning = map(clamp, state.counts)
        status = state.final_status
        fields: dict[str, object] = {
            "NumberOfCompletedSuboperations": completed,
            "NumberOfFailedSuboperations": failed,
            "NumberOfWarningSuboperations": warning,
        }
        if status is Status.CANCEL:
            fields["NumberOfRemainingSuboperations"] = remaining
        if state.failed:
            fields["Identifier"] = BytesIO(encode_failed_list(state.failed, self.encoding))
        self.respond(status, **fields)


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


def _uid(value: object) -> str:
    """Return a UID of a command set in its normal form; empty where there is none."""
    return normalise_uid(str(value or ""))


def _no_such_operation() -> DimseFailure:
    return DimseFailure(Status.UNRECOGNISED_OPERATION, "no such operation in this context")


def _internal_error() -> DimseFailure:
    return DimseFailure(Status.UNABLE_TO_PROCESS, "internal error, see the node's log")
