"""A Move Destination that does as it is told and remembers what it was sent.

`storescp` of DCMTK is the peer of most tests; this one accepts only some SOP Classes, answers with
chosen statuses, and keeps each C-STORE request.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import cast

from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE

from tests.support.wire import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

_NATIVE = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True, slots=True)
class ReceivedStore:
    """One C-STORE request, and the association it came in."""

    calling_ae_title: str
    called_ae_title: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    message_id: int
    priority: int
    move_originator_ae_title: str | None
    move_originator_message_id: int | None
    encoded_data_set: bytes


@dataclass(slots=True)
class Destination:
    """A running destination: `port` to reach it, `received` in the order of arrival."""

    ae_title: str
    port: int = 0
    associations: int = 0
    received: list[ReceivedStore] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def forget(self) -> None:
        """Forget what was received so far."""
        with self.lock:
            self.received.clear()
            self.associations = 0


@contextmanager
def destination(
    ae_title: str = "DEST",
    sop_class_uids: Sequence[str] = (CTImageStorage,),
    transfer_syntax_uids: Sequence[str] = _NATIVE,
    status_of: Callable[[ReceivedStore], int] = lambda _: 0x0000,
    *,
    rejects: bool = False,
) -> Iterator[Destination]:
    """Run a destination that accepts these SOP Classes in these Transfer Syntaxes.

    Args:
        ae_title: its title; any called title is accepted.
        sop_class_uids: all others are refused with result 3.
        transfer_syntax_uids: for each of the classes, in the order of preference.
        status_of: gives the status of the answer; may block to make the destination slow.
        rejects: refuse every association.
    """
    running = Destination(ae_title)

    def keep(event: evt.Event) -> int:
        store = _received(event)
        with running.lock:
            running.received.append(store)
        return status_of(store)

    def count(_: evt.Event) -> None:
        with running.lock:
            running.associations += 1

    entity = AE(ae_title)
    entity.require_calling_aet = ["NOBODY"] if rejects else []
    for sop_class_uid in sop_class_uids:
        entity.add_supported_context(sop_class_uid, list(transfer_syntax_uids))
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, keep), (evt.EVT_ACCEPTED, count)],
    )
    assert server is not None
    assert server.socket is not None
    running.port = server.socket.getsockname()[1]
    try:
        yield running
    finally:
        server.shutdown()


def _received(event: evt.Event) -> ReceivedStore:
    request = cast("C_STORE", event.request)
    acceptor, requestor = event.assoc.acceptor, event.assoc.requestor
    assert acceptor.primitive is not None
    return ReceivedStore(
        calling_ae_title=requestor.ae_title.strip(),
        called_ae_title=str(acceptor.primitive.called_ae_title).strip(),
        sop_class_uid=str(request.AffectedSOPClassUID),
        sop_instance_uid=str(request.AffectedSOPInstanceUID),
        transfer_syntax_uid=str(event.context.transfer_syntax),
        message_id=request.MessageID or 0,
        priority=int(request.Priority),
        move_originator_ae_title=_stripped(request.MoveOriginatorApplicationEntityTitle),
        move_originator_message_id=request.MoveOriginatorMessageID,
        encoded_data_set=event.encoded_dataset(include_meta=False),
    )


def _stripped(ae_title: object) -> str | None:
    return None if ae_title is None else str(ae_title).strip()
