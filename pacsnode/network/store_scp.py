"""Storage as an SCP: a C-STORE request, its data set as it arrives, and its response.

Source: PS3.4 B.2; PS3.7 9.1.1, 9.3.1.
"""

from collections.abc import Sequence
from typing import Final

from pacsnode.dicom.part10 import Received
from pacsnode.dicom.status import DimseFailure
from pacsnode.file_store import FileStoreError
from pacsnode.network import activity_log
from pacsnode.network.activity_log import shown_uid
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association import AcceptedAssociation
from pacsnode.network.association_end import Abort, AssociationEnd
from pacsnode.network.command_set import CommandSet, encode_store_response
from pacsnode.network.exchange import internal_error, no_such_operation
from pacsnode.network.negotiation import SERVICES_WITHOUT_PIXELS
from pacsnode.services.c_store import Reception, StoreRequest
from pacsnode.services.keep import Keeper

# A refused data set is read to its end, so that its sender hears why; but not for ever.
_MOST_DISCARDED_BYTES: Final = 4 * 1024**3


class StoreExchange:
    """A C-STORE request, its data set as it arrives, and its response."""

    def __init__(
        self,
        association: AcceptedAssociation,
        context: PresentationContext,
        command_set: CommandSet,
        keeper: Keeper,
        maximum_bytes: int,
    ) -> None:
        """Begin to serve a request.

        Args:
            association: on which it came.
            context: in which it came.
            command_set: of the request.
            keeper: where instances are kept.
            maximum_bytes: a longer data set is refused; 0 is no limit.

        Raises:
            CommandSetError: it has no Message ID.
        """
        self._association = association
        self._context_id = context.context_id
        self._command_set = command_set
        _ = command_set.message_id  # what has none cannot be answered
        self._maximum_bytes = maximum_bytes
        self._reception: Reception | None = None
        self._failure: DimseFailure | None = None
        self._discarded_bytes = 0
        try:
            self._reception = self._begin(context, keeper)
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
            except Exception:  # noqa: BLE001 - see handlers.py
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
            except Exception:  # noqa: BLE001 - see handlers.py
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

    def _begin(self, context: PresentationContext, keeper: Keeper) -> Reception:
        # Every context that is accepted for none of the other services is one of Storage; but
        # whoever takes only the role of the SCP there may not send any (rule H-18).
        is_storage = context.abstract_syntax not in SERVICES_WITHOUT_PIXELS
        if not (is_storage and context.is_requestor_scu):
            raise no_such_operation()
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
            keeper,
            maximum_bytes=self._maximum_bytes,
        )

    @property
    def _name(self) -> str:
        """What the request is called in the log."""
        return f"C-STORE {shown_uid(self._command_set.affected_sop_instance_uid)}"

    def _fail_unexpectedly(self) -> None:
        activity_log.failed_unexpectedly(self._name)
        self._failure = internal_error()

    def _respond(self, command_set: bytes) -> None:
        self._association.send_message(self._context_id, command_set)
