"""Targets of the fuzzer that need a connection: the upper layer, and a whole association.

An input is one byte, which says how the connection stutters, and what a peer sends: PDUs. Those of
the upper layer start with a byte that tells whether it is to wait for an association request. Those
of an association follow one that is always the same.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final
from unittest import mock

from pacsnode.catalog import Catalog
from pacsnode.dicom.part10 import Received
from pacsnode.file_store import FileStore, IncomingFile
from pacsnode.network import upper_layer
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association import AcceptedAssociation, Services
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import (
    CommandSet,
    Primitive,
    encode_store_response,
    read_command_set,
)
from pacsnode.network.handlers import Handlers
from pacsnode.network.negotiation import Refusal
from pacsnode.network.toolkit import AssociationLimits, configure_pynetdicom
from pacsnode.network.transport import Timeouts
from pacsnode.network.upper_layer import Fragment, UpperLayer
from pacsnode.services.c_store import Reception, StoreRequest
from pacsnode.services.keep import Arrival, Keeper, Keeping, Outcome
from scripts.fuzz_connection import connection_with, received_by
from scripts.fuzz_plain_reader import (
    Part,
    joined,
    read_associate_request,
    read_messages,
)
from scripts.fuzz_promise import PromiseBrokenError, demand
from scripts.fuzz_readers import POLICY
from tests.support.instances import ct_data_set, encoded

Target = Callable[[bytes], None]

CORPUS: Final = Path(__file__).parent.parent / "tests/data/fuzz"
_ASSOCIATE_RQ: Final = CORPUS.joinpath("associate_request.pdu")
_SECONDS: Final = 20.0
_TIMEOUTS: Final = Timeouts(_SECONDS, _SECONDS, _SECONDS)
_LIMITS: Final = AssociationLimits(131_072, _SECONDS, _SECONDS, _SECONDS, _SECONDS)
# The smallest that holds a header, some that fragments do not fit into, and the real one.
_BUFFER_BYTES: Final = (16, 17, 31, 64, 300, 4096, 262_144)
_MAXIMUM_LENGTHS: Final = (0, 1, 7, 8, 9, 20, 1000, 2**32 - 1)
_SMALLEST_MAXIMUM_LENGTH: Final = 8
_A_CONTEXT_ID: Final = 5
_ASSOCIATE_AC, _P_DATA_TF, _RELEASE_RP, _ABORT = 2, 4, 6, 7
_HEADER_BYTES: Final = 6


# --- the upper layer


def fuzz_upper_layer(content: bytes) -> None:
    """Have PDUs received as the plain reader reads them, and sent so that it can read them."""
    if len(content) < 2:  # noqa: PLR2004 - the bytes that choose
        return
    seed, has_request, stream = content[0], content[1] % 2, content[2:]
    random = Random(seed)  # noqa: S311 - no secret
    size = random.choice(_BUFFER_BYTES)
    with (
        mock.patch.object(upper_layer, "_BUFFER_BYTES", size),
        connection_with(stream, seed) as (connection, peer),
    ):
        layer = UpperLayer(connection, _TIMEOUTS)
        rest = _receive_request(layer, stream) if has_request else stream
        if rest is None:
            return
        _receive_messages(layer, rest)
        layer.peer_maximum_length_bytes = random.choice(_MAXIMUM_LENGTHS)
        cut = random.randrange(len(rest) + 1)
        layer.send_message(_A_CONTEXT_ID, rest[:cut], rest[cut:])
        layer.close(0)
        sent = read_messages(received_by(peer))
    demand(
        joined(sent.parts)
        == [
            Part(_A_CONTEXT_ID, is_command=True, is_last=True, content=rest[:cut]),
            Part(_A_CONTEXT_ID, is_command=False, is_last=True, content=rest[cut:]),
        ],
        "a message arrives as it was sent",
    )
    maximum = max(layer.peer_maximum_length_bytes, _SMALLEST_MAXIMUM_LENGTH)
    demand(
        sent.longest_pdu_bytes <= maximum or not layer.peer_maximum_length_bytes,
        "no PDU is longer than the peer takes",
    )


def _receive_request(layer: UpperLayer, stream: bytes) -> bytes | None:
    """Receive an association request; return what follows it, None if it is none."""
    expected, abort = read_associate_request(stream)
    try:
        content = layer.receive_associate_request()
    except AssociationEnd as end:
        demand(expected is None and end.abort is abort, "the end before a request is the right one")
        return None
    demand(content == expected, "the association request arrives as it was sent")
    return stream[_HEADER_BYTES + len(content) :]


def _receive_messages(layer: UpperLayer, stream: bytes) -> None:
    """Receive to the end, and hold as many fragments as may be held."""
    held: list[Fragment] = []
    parts: list[Part] = []

    def let_go() -> None:
        parts.extend(Part(*fragment[:3], content=bytes(fragment.content)) for fragment in held)
        held.clear()

    layer.on_full = let_go
    end = None
    while end is None:
        try:
            fragment = layer.receive_fragment(is_within_message=bool(held))
        except AssociationEnd as error:
            end = error
            break
        held.append(fragment)
        if fragment.is_last and not fragment.is_command:
            let_go()
            layer.rewind()
    let_go()
    expected = read_messages(stream)
    demand(joined(parts) == joined(expected.parts), "the fragments are those that were sent")
    demand(
        (end.abort, end.is_released) == (expected.abort, expected.is_released),
        "the association ends as the Standard says",
    )


# --- an association


def fuzz_association(content: bytes) -> None:
    """Have an association end whatever comes, with services that only remember."""
    _serve(content, _Recorder())


@contextmanager
def association_with_handlers() -> Iterator[Target]:
    """Yield a target like `fuzz_association` with the services of the node.

    One instance is kept, to be found. What is stored is received and checked, but not kept: what an
    input does must not depend on those before it. There is no destination to move it to.
    """
    with (
        TemporaryDirectory(prefix="pacsnode-fuzz-") as folder,
        closing(Catalog(f"sqlite:///{folder}/catalog.sqlite", is_durable=False)) as catalog,
        closing(FileStore(Path(folder) / "storage", is_durable=False)) as file_store,
    ):
        _keep_one_instance(Keeper(file_store, catalog))
        handlers = Handlers(
            keeper=_ForgetfulKeeper(file_store, catalog),
            catalog=catalog,
            remote_aes={},
            ae_title="PACSNODE",
            limits=_LIMITS,
            result_limit=0,
            maximum_instance_bytes=0,
        )
        yield lambda content: _serve(content, handlers)


def _serve(content: bytes, services: Services) -> None:
    """Serve an association to its end, in this thread, and look at what was answered."""
    if not content:
        return
    configure_pynetdicom()
    gate = _Gate()
    request = _ASSOCIATE_RQ.read_bytes()
    with (
        connection_with(request + content[1:], content[0]) as (connection, peer),
        _faults_raised(),
    ):
        association = AcceptedAssociation(
            connection, number=1, limits=_LIMITS, policy=POLICY, gate=gate, services=services
        )
        association.run()
        demand(connection.fileno() < 0, "the connection is closed")
        answer = received_by(peer)
    demand(gate.calls == ["admit", "leave", "close"], "what is counted in is counted out, once")
    _check_answer(answer)


def _check_answer(answer: bytes) -> None:
    """Hold what the node has sent against the order of PDUs: accepted, messages, an end."""
    length = int.from_bytes(answer[2:_HEADER_BYTES], "big")
    demand(answer[0] == _ASSOCIATE_AC, "the association is accepted")
    reading = read_messages(answer[_HEADER_BYTES + length :])
    for part in joined(reading.parts):
        demand(part.is_last, "no response is left half sent")
        if part.is_command:
            demand(read_command_set(part.content).is_response, "only responses are sent")


@contextmanager
def _faults_raised() -> Iterator[None]:
    """Raise what is logged as a fault of the program within the block."""
    logger = logging.getLogger("pacsnode")
    faults = _Faults()
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(faults)
    try:
        yield
    finally:
        logger.removeHandler(faults)
        logger.propagate = propagated
    for record in faults.records:
        error = record.exc_info[1] if record.exc_info else None
        raise PromiseBrokenError(record.getMessage()) from error


class _Faults(logging.Handler):
    """Remembers what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _Gate:
    """Admits every association, and remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def admit(self, association: AcceptedAssociation) -> Refusal | None:
        del association
        self.calls.append("admit")
        return None

    def leave(self, association: AcceptedAssociation) -> None:
        del association
        self.calls.append("leave")

    def close(self, association: AcceptedAssociation) -> None:
        del association
        self.calls.append("close")


class _Recorder:
    """Services that remember the requests, and say yes to each."""

    def __init__(self) -> None:
        self.requests: list[Primitive] = []

    def receive_instance(
        self,
        association: AcceptedAssociation,
        context: PresentationContext,
        command_set: CommandSet,
    ) -> "_InMemory":
        return _InMemory(association, context, command_set)

    def serve(
        self, association: AcceptedAssociation, context: PresentationContext, request: Primitive
    ) -> None:
        self.requests.append(request)
        association.is_cancelled()
        response: Primitive = type(request)()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.Status = 0
        association.respond(context.context_id, response)


class _InMemory:
    """A C-STORE whose data set is put together in memory."""

    def __init__(
        self,
        association: AcceptedAssociation,
        context: PresentationContext,
        command_set: CommandSet,
    ) -> None:
        self._association = association
        self._context = context
        self._response = encode_store_response(command_set, 0)
        self._data_set = bytearray()
        self._is_over = False

    def append(self, fragments: Sequence[memoryview]) -> None:
        demand(not self._is_over, "nothing comes after the end")
        for fragment in fragments:
            self._data_set += fragment

    def finish(self, last: Sequence[memoryview]) -> None:
        self.append(last)
        self._is_over = True
        self._association.send_message(self._context.context_id, self._response)

    def discard(self) -> None:
        demand(not self._is_over, "what is finished is not discarded")
        self._is_over = True


class _ForgetfulKeeper(Keeper):
    """Says of each instance that it is kept, and keeps none."""

    def keep(self, file: IncomingFile, arrival: Arrival) -> Keeping:
        del file, arrival
        return Keeping(Outcome.ADDED)


def _keep_one_instance(keeper: Keeper) -> None:
    """Keep an instance whose UIDs are in the corpus."""
    instance = encoded(
        ct_data_set(SOPInstanceUID="1.2.3.1", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.0")
    )
    received = Received(
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        calling_ae_title="FUZZER",
        called_ae_title="PACSNODE",
    )
    request = StoreRequest(received, instance.sop_class_uid)
    Reception(request, keeper).finish([instance.encoded_data_set])
