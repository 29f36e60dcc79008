"""An association on which we send instances: one C-STORE after the other, with the stored bytes.

pynetdicom's own send_c_store decodes and re-encodes the data set and only takes it from a data set
or a file of its own choice of context; here the bytes of the file go out as they are, in a context
of exactly their Transfer Syntax (rules E-33, E-38).

Source: PS3.4 B.2.2, C.4.2.2.2; PS3.7 9.1.1; rules E-12 to E-16, E-31, E-32.
"""

import queue
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AssociationSocket

from pacsnode.catalog.records import StoredInstance
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.part10 import read_file_meta
from pacsnode.dicom.transfer_syntax import IMPLICIT_VR_LITTLE_ENDIAN, encoding_of
from pacsnode.network.toolkit import AssociationLimits, application_entity

_MAXIMUM_CONTEXTS: Final = 128  # PS3.8 9.3.2.2: odd identifiers from 1 to 255
_LOOK_SECONDS: Final = 0.5


class StoreAssociationError(Exception):
    """The destination cannot be reached, does not let us in, or has gone; the message says how."""


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Who asked for the C-MOVE that a C-STORE belongs to (rule E-14)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What the destination answered.

    Attributes:
        status: of the C-STORE response; None if it was not sent at all.
        reason: what there is to say about a status that is not success.
    """

    status: int | None
    reason: str


def batches(instances: Iterable[StoredInstance]) -> list[list[StoredInstance]]:
    """Return the instances in groups that each need no more contexts than an association has.

    Instances of one SOP class stay together.

    Source: PS3.8 9.3.2.2; rule E-32.
    """
    by_class: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        by_class.setdefault(instance.sop_class_uid, []).append(instance)
    groups: list[list[StoredInstance]] = []
    used = _MAXIMUM_CONTEXTS
    for of_class in by_class.values():
        needed = len(_transfer_syntaxes(of_class))
        if used + needed > _MAXIMUM_CONTEXTS:
            groups.append([])
            used = 0
        groups[-1].extend(of_class)
        used += needed
    return groups


def proposed_contexts(instances: Iterable[StoredInstance]) -> list[PresentationContext]:
    """Return the presentation contexts that some instances need: one for each stored syntax.

    One syntax in a context leaves the acceptor no choice that we could not serve. Implicit VR
    Little Endian is proposed for each class as the Standard demands, even if nothing is sent in it.

    Source: PS3.5 10.1; PS3.4 B.3.1; rules E-30, E-31.
    """
    by_class: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        by_class.setdefault(instance.sop_class_uid, []).append(instance)
    return [
        build_context(sop_class_uid, transfer_syntax_uid)
        for sop_class_uid, of_class in by_class.items()
        for transfer_syntax_uid in _transfer_syntaxes(of_class)
    ]


def _transfer_syntaxes(instances: Sequence[StoredInstance]) -> list[str]:
    stored = dict.fromkeys(instance.file.transfer_syntax_uid for instance in instances)
    return list(stored | {IMPLICIT_VR_LITTLE_ENDIAN: None})


class StoreAssociation:
    """An association with a destination, open within a `with` statement; one thread uses it."""

    def __init__(
        self,
        destination: RemoteAE,
        instances: Sequence[StoredInstance],
        *,
        calling_ae_title: str,
        limits: AssociationLimits,
        while_waiting: Callable[[], None],
    ) -> None:
        """Request the association.

        Args:
            destination: whereto.
            instances: what will be sent; a context is proposed for each kind.
            calling_ae_title: the title of ours to use.
            limits: of time and size.
            while_waiting: called now and then until the destination has answered.

        Raises:
            StoreAssociationError: it was not accepted.
        """
        self._limits = limits
        ae = application_entity(calling_ae_title, limits)
        with ThreadPoolExecutor(max_workers=1) as executor:
            answer = executor.submit(
                ae.associate,
                destination.host,
                destination.port,
                contexts=proposed_contexts(instances),
                ae_title=destination.ae_title,
            )
            while not wait([answer], timeout=_LOOK_SECONDS).done:
                while_waiting()
        try:
            self._association: Association = answer.result()
        except OSError as error:  # of looking up its host name; all else pynetdicom catches
            raise StoreAssociationError(f"host name: {error.strerror}") from error
        connection = cast(AssociationSocket, self._association.dul.socket).socket
        if not self._association.is_established:
            if connection is not None:
                connection.close()  # pynetdicom leaves it to the garbage collector
            raise StoreAssociationError(why_not_established(self._association))
        if connection is not None:
            # Else each request waits for the acknowledgement of the segment before it.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(limits.dimse_timeout_seconds)
        self._message_id = 0
        self._responses = _ResponseQueue()
        self._association.dimse.msg_queue = self._responses
        # A long transfer receives nothing: only a response that does not come is a fault here.
        self._association.network_timeout = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._is_alive():
            self._association.release()
        elif self._association.is_established:
            self._association.abort()

    def send(
        self,
        instance: StoredInstance,
        path: Path,
        *,
        priority: int,
        originator: MoveOriginator | None,
        while_waiting: Callable[[], None],
    ) -> StoreResult:
        """Send an instance and return what the destination answers.

        Args:
            instance: what is sent.
            path: of its file.
            priority: of the C-STORE request (rule E-13).
            originator: of the C-MOVE, if one asked for this.
            while_waiting: called now and then until the response has come.

        Raises:
            StoreAssociationError: the association is lost; whether the instance arrived is unknown.
            OSError, Part10Error: the file cannot be read.

        Source: PS3.7 9.1.1.
        """
        context_id = self._context_id(instance)
        if context_id is None:
            return StoreResult(None, "destination accepts no context for it as it is stored")
        with path.open("rb") as file:
            data_set_offset = read_file_meta(file).data_set_offset
        self._message_id = self._message_id % 0xFFFF + 1
        request = C_STORE()
        request.MessageID = self._message_id
        request.Priority = priority
        request.AffectedSOPClassUID = UID(instance.sop_class_uid)
        request.AffectedSOPInstanceUID = UID(instance.sop_instance_uid)
        if originator is not None:
            request.MoveOriginatorApplicationEntityTitle = originator.ae_title
            request.MoveOriginatorMessageID = originator.message_id
        is_odd = (path.stat().st_size - data_set_offset) % 2 == 1
        if is_odd and encoding_of(instance.file.transfer_syntax_uid).is_deflated:
            # PS3.5 A.5: a deflated data set is made even by one NUL behind its stream, which
            # whoever made this one has left out; messages of odd length are not allowed.
            request.DataSet = BytesIO(path.read_bytes()[data_set_offset:] + b"\0")
        else:
            request._dataset_path = (path, data_set_offset)  # noqa: SLF001
        self._association.dimse.send_msg(request, context_id)
        response = self._response(while_waiting)
        return StoreResult(response.Status, _reason(response))

    def _context_id(self, instance: StoredInstance) -> int | None:
        """Return the accepted context of exactly an instance's class and Transfer Syntax."""
        for context in self._association.accepted_contexts:
            is_class = context.abstract_syntax == instance.sop_class_uid
            if is_class and context.transfer_syntax[0] == instance.file.transfer_syntax_uid:
                return context.context_id
        return None

    def _response(self, while_waiting: Callable[[], None]) -> Any:  # noqa: ANN401 - a primitive
        """Return the response to the request just made.

        The time limit starts when the last byte has been handed to the network, so that a large
        object on a slow line is not taken for a silent peer.
        """
        outgoing = self._association.dul.to_provider_queue
        deadline = time.monotonic() + self._limits.dimse_timeout_seconds
        while True:
            waiting = outgoing.qsize()
            try:
                _, response = self._responses.take(_LOOK_SECONDS)
            except queue.Empty:
                response = None
            if response is not None:
                is_answer = response.MessageIDBeingRespondedTo == self._message_id
                if response.is_valid_response and is_answer:
                    return response
                raise StoreAssociationError("it sent something else than a response")
            if not self._is_alive():
                raise StoreAssociationError("it has ended the association")
            if outgoing.qsize() < waiting:
                deadline = time.monotonic() + self._limits.dimse_timeout_seconds
            if time.monotonic() > deadline:
                raise StoreAssociationError("it does not respond")
            while_waiting()

    def _is_alive(self) -> bool:
        association = self._association
        return (
            association.is_established
            and association.dul.is_alive()
            and not association.acse.is_aborted()
        )


class _ResponseQueue(queue.Queue[Any]):
    """The responses to our requests, which only we take.

    pynetdicom's loop looks for messages as well, and would take a response for a request; for it
    there is never anything here.
    """

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ANN401, ARG002, FBT001, FBT002
        """Have nothing for pynetdicom's loop."""
        raise queue.Empty

    def take(self, timeout_seconds: float) -> Any:  # noqa: ANN401 - a context id and a primitive
        """Return the next response.

        Raises:
            queue.Empty: none has come in time.
        """
        return super().get(timeout=timeout_seconds)


def why_not_established(association: Association) -> str:
    """Return why an association that we requested has not come about."""
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        return f"association rejected: {answer.reason_str}"
    if association.acceptor.primitive is not None:
        return "it accepts none of the presentation contexts"
    if association.is_aborted:
        return "no association: not reachable, or it aborted"
    return "no association"


def _reason(response: Any) -> str:  # noqa: ANN401 - a primitive
    comment = getattr(response, "ErrorComment", None)
    return f"status 0x{response.Status:04X}" + (f" {comment}" if comment else "")
