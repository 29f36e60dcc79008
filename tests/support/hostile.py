"""Peers that break the rules of PS3.7 and PS3.8 on purpose, and how the node gets rid of them.

The functions take a plain socket, before or after an association was negotiated on it (see
`wire.Association.socket`). Nothing here knows how the node is made.
"""

import re
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.instances import Instance, ct_data_set, encoded, encoded_data_set_of, new_uid
from tests.support.node import Node
from tests.support.waiting import wait_until
from tests.support.wire import (
    STUDY_ROOT_FIND,
    VERIFICATION,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    ProposedContext,
    Requestor,
    identifier_of,
    query_contexts,
    storage_contexts,
)

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, LAST = 1, 2  # bits of the Message Control Header (PS3.8 E.2)

# A-ABORT: (source, reason), PS3.8 9.3.8.
ABORT_BY_USER = (0, 0)
UNRECOGNISED_PDU = (2, 1)
UNEXPECTED_PDU = (2, 2)
INVALID_PARAMETER_VALUE = (2, 6)
_PROVIDER = 2
_TRANSIENT = 2  # A-ASSOCIATE-RJ, PS3.8 9.3.4

# The claim of every test: others are answered within this time, connection and all.
_ECHO_SECONDS = 1.0
# A limit for slow machines: who waits longer has found a connection that hangs.
END_SECONDS = 5.0

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_FOLLOWING_STUDY = new_uid()
_FIXED_BODY = struct.Struct(">HH16s16s32s")


@dataclass(frozen=True, slots=True)
class Ending:
    """How the node ended a connection.

    Attributes:
        abort: source and reason of its A-ABORT; None if it closed the connection without one.
        pdu_types: of the PDUs that came before.
    """

    abort: tuple[int, int] | None
    pdu_types: tuple[int, ...] = ()

    @property
    def is_provider_abort(self) -> bool:
        """It was an A-ABORT of the service-provider: a fault in the protocol (PS3.8 AA-8)."""
        return self.abort is not None and self.abort[0] == _PROVIDER


CLOSED = Ending(None)


def pdu(pdu_type: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a PDU; its header states `length`, true or not."""
    return struct.pack(">BBI", pdu_type, 0, len(body) if length is None else length) + body


def pdv(
    context_id: int, control: int, fragment: bytes = b"", *, length: int | None = None
) -> bytes:
    """Return a Presentation Data Value item; its header states `length`, true or not."""
    stated = len(fragment) + 2 if length is None else length
    return struct.pack(">IBB", stated, context_id, control) + fragment


def item(item_type: int, value: bytes = b"", *, length: int | None = None) -> bytes:
    """Return an item of an A-ASSOCIATE PDU; its header states `length`, true or not."""
    return struct.pack(">BBH", item_type, 0, len(value) if length is None else length) + value


def application_context(name: bytes = _APPLICATION_CONTEXT) -> bytes:
    """Return an Application Context Item."""
    return item(0x10, name)


def presentation_context(context_id: int, abstract_syntax: str = VERIFICATION) -> bytes:
    """Return a Presentation Context Item with Implicit VR Little Endian."""
    syntaxes = item(0x30, abstract_syntax.encode()) + item(0x40, b"1.2.840.10008.1.2")
    return item(0x20, bytes((context_id, 0, 0, 0)) + syntaxes)


def user_information(more: bytes = b"") -> bytes:
    """Return a User Information Item with the two sub-items that are mandatory, and more."""
    maximum_length = item(0x51, struct.pack(">I", 131072))
    return item(0x50, maximum_length + item(0x52, b"1.2.826.0.1.3680043.8.498.2") + more)


def associate_rq(
    *items: bytes,
    protocol_version: int = 1,
    called: bytes = b"PACSNODE",
    calling: bytes = b"HOSTILE",
    reserved: bytes = bytes(32),
) -> bytes:
    """Return an A-ASSOCIATE-RQ with these items: by default, those of a request to verify.

    Source: PS3.8 9.3.2.
    """
    fixed = _FIXED_BODY.pack(protocol_version, 0, called.ljust(16), calling.ljust(16), reserved)
    default = (application_context(), presentation_context(1), user_information())
    return pdu(ASSOCIATE_RQ, fixed + b"".join(items or default))


def us(number: int) -> bytes:
    """Return a value of VR US."""
    return struct.pack("<H", number)


def uid_value(uid: str) -> bytes:
    """Return a value of VR UI, padded."""
    return uid.encode() + b"\0" * (len(uid) % 2)


def element(number: int, value: bytes, *, length: int | None = None, group: int = 0) -> bytes:
    """Return an element of a Command Set; it states `length`, true or not."""
    stated = len(value) if length is None else length
    return struct.pack("<HHI", group, number, stated) + value


def command_set(*elements: bytes, group_length: int | None = None) -> bytes:
    """Return a Command Set of these elements; it states `group_length`, true or not."""
    body = b"".join(elements)
    stated = len(body) if group_length is None else group_length
    return element(0x0000, struct.pack("<I", stated)) + body


def store_elements(instance: Instance, message_id: int = 1) -> dict[int, bytes]:
    """Return the raw values of a C-STORE-RQ without its group length (PS3.7 9.3.1.1)."""
    return {
        0x0002: uid_value(instance.sop_class_uid),
        0x0100: us(0x0001),
        0x0110: us(message_id),
        0x0700: us(0),
        0x0800: us(0x0001),
        0x1000: uid_value(instance.sop_instance_uid),
    }


def echo_elements(message_id: int = 1) -> dict[int, bytes]:
    """Return the raw values of a C-ECHO-RQ without its group length (PS3.7 9.3.5.1)."""
    return {
        0x0002: uid_value(VERIFICATION),
        0x0100: us(0x0030),
        0x0110: us(message_id),
        0x0800: us(0x0101),
    }


def encoded_command(values: Mapping[int, bytes]) -> bytes:
    """Return these values as a well-formed Command Set."""
    return command_set(*(element(number, value) for number, value in sorted(values.items())))


def store_command(instance: Instance, message_id: int = 1) -> bytes:
    """Return the well-formed Command Set of a C-STORE of this instance."""
    return encoded_command(store_elements(instance, message_id))


def message(context_id: int, command: bytes, data_set: bytes | None = None) -> bytes:
    """Return a whole DIMSE message: one P-DATA-TF for the command, one for the data set."""
    sent = pdu(P_DATA, pdv(context_id, COMMAND | LAST, command))
    if data_set is not None:
        sent += pdu(P_DATA, pdv(context_id, LAST, data_set))
    return sent


def connect(address: tuple[str, int]) -> socket.socket:
    """Return a connection on which nothing was sent yet; it sends each piece at once."""
    connection = socket.create_connection(address, END_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    """Connect, and close the connection afterwards."""
    with connect(address) as connection:
        yield connection


@contextmanager
def associated(
    address: tuple[str, int], proposed: Sequence[ProposedContext] = (ProposedContext(VERIFICATION),)
) -> Iterator[Association]:
    """Associate; afterwards the connection is closed without a word, if it is still open."""
    association = Association(address, proposed, Requestor(timeout_seconds=END_SECONDS))
    try:
        yield association
    finally:
        association.socket.close()


def try_to_associate(
    address: tuple[str, int], requestor: Requestor | None = None
) -> Association | None:
    """Return a new association for Verification, None if it is rejected as transient.

    Raises:
        AssociationRejectedError: it is rejected for good.
    """
    try:
        return Association(address, [ProposedContext(VERIFICATION)], requestor)
    except AssociationRejectedError as rejection:
        if rejection.triple[0] != _TRANSIENT:
            raise
        return None


def send(connection: socket.socket, content: bytes) -> None:
    """Send all of it, or as much as the node takes before it ends the connection."""
    with suppress(ConnectionError):
        connection.sendall(content)


def send_slowly(connection: socket.socket, pieces: Iterable[bytes], interval_seconds: float) -> int:
    """Send one piece after the other with a pause behind each; stop when the node says something.

    Returns:
        The number of pieces sent.
    """
    sent = 0
    with suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)
            sent += 1
            if is_readable(connection, interval_seconds):
                break
    return sent


def send_endlessly(connection: socket.socket, piece: bytes, timeout_seconds: float) -> int:
    """Send a piece again and again until the node ends the connection; return the bytes sent.

    Raises:
        TimeoutError: the node took it all this time.
    """
    deadline, sent = time.monotonic() + timeout_seconds, 0
    with suppress(ConnectionError):
        while time.monotonic() < deadline:
            connection.sendall(piece)
            sent += len(piece)
        raise TimeoutError(f"after {timeout_seconds} s and {sent} bytes the node still receives")
    return sent


def is_readable(connection: socket.socket, timeout_seconds: float) -> bool:
    """Wait this long at most for anything from the node: a PDU, or the end."""
    return bool(select.select([connection], [], [], timeout_seconds)[0])


def reset(connection: socket.socket) -> None:
    """Close the connection with RST, as a crash or a pulled cable would."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def next_pdu(connection: socket.socket, deadline: float) -> tuple[int, bytes] | None:
    """Return type and body of the next PDU, None if the node has closed the connection.

    Raises:
        TimeoutError: neither happens before the deadline (of the monotonic clock).
    """
    try:
        header = _read(connection, 6, deadline)
        return header[0], _read(connection, int.from_bytes(header[2:], "big"), deadline)
    except (ConnectionError, EOFError):
        return None


def ending_of(connection: socket.socket, timeout_seconds: float = END_SECONDS) -> Ending:
    """Return how the node ends the connection; what it says before is passed over.

    Raises:
        TimeoutError: it does not; the connection hangs.
    """
    deadline = time.monotonic() + timeout_seconds
    before: list[int] = []
    while received := next_pdu(connection, deadline):
        pdu_type, body = received
        if pdu_type == ABORT:
            return Ending((body[2], body[3]), tuple(before))
        before.append(pdu_type)
    return Ending(None, tuple(before))


def wait_until_closed(connection: socket.socket, timeout_seconds: float = END_SECONDS) -> None:
    """Read until the node has closed the connection.

    Raises:
        TimeoutError: it does not.
    """
    deadline = time.monotonic() + timeout_seconds
    with suppress(ConnectionError, EOFError):
        while True:
            _read(connection, 1, deadline)


def answer_of(association: Association) -> int | None:
    """Return the status of the next response, None if the association was ended instead.

    Raises:
        TimeoutError: neither; the association hangs.
    """
    try:
        return association.receive().status
    except AssociationAbortedError:
        return None


def check_others_are_served(node: Node) -> None:
    """Assert that a new association and a C-ECHO on it take at most one second."""
    started_at = time.monotonic()
    requestor = Requestor(timeout_seconds=_ECHO_SECONDS)
    with Association(node.address, [ProposedContext(VERIFICATION)], requestor) as association:
        status = association.c_echo()
        duration_seconds = time.monotonic() - started_at
    assert status == 0x0000
    assert duration_seconds <= _ECHO_SECONDS


@contextmanager
def nothing_is_left(node: Node) -> Iterator[None]:
    """Assert that what happens in the block leaves the node as it was, and that it stores on.

    No file anywhere below the storage folder, no study more, the same workers with no more open
    connections than before.
    """
    with Association(node.address, query_contexts()) as association:
        studies = _studies(association)
    files, workers, connections = node.stored_files(), node.workers(), open_sockets(node)
    yield
    # A worker may still be cleaning up after an association that ended without a word.
    wait_until(lambda: node.stored_files() == files, "the storage folder to be as before")
    following = encoded(ct_data_set(StudyInstanceUID=_FOLLOWING_STUDY))
    proposed = [*query_contexts(), storage_context_of(following)]
    with Association(node.address, proposed) as association:
        assert _studies(association) == studies
        assert association.c_store(following).status == 0x0000
    assert node.workers() == workers, "a worker has died"
    wait_until(lambda: open_sockets(node) <= connections, "the connections to be closed")


@contextmanager
def memory_stays_below(node: Node, growth_bytes: int) -> Iterator[None]:
    """Assert that the workers' largest memory in the block is not much larger than before."""
    before = _peak_memory_bytes(node)
    yield
    assert _peak_memory_bytes(node) - before < growth_bytes


def stored_data_sets(node: Node, instance: Instance) -> list[bytes]:
    """Return the content of each stored file whose name is the instance's SOP Instance UID."""
    uid = instance.sop_instance_uid
    return [encoded_data_set_of(path) for path in node.stored_files() if uid in path.name]


def open_sockets(node: Node) -> int:
    """Return how many sockets the workers have open."""
    return sum(_sockets_of(worker) for worker in node.workers())


def threads(node: Node) -> int:
    """Return how many threads the workers have."""
    return sum(len(list(Path(f"/proc/{worker}/task").iterdir())) for worker in node.workers())


def storage_context_of(instance: Instance) -> ProposedContext:
    """Return the context that this instance is sent in."""
    return storage_contexts([instance])[0]


def _studies(association: Association) -> set[str]:
    """Return the Study Instance UIDs that a query finds."""
    identifier = identifier_of("STUDY", StudyInstanceUID="")
    *answers, final = association.c_find(STUDY_ROOT_FIND, identifier)
    assert final.status == 0x0000
    return {answer.identifier.StudyInstanceUID for answer in answers}


def _sockets_of(process: int) -> int:
    found = 0
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            found += str(descriptor.readlink()).startswith("socket:")
    return found


def _peak_memory_bytes(node: Node) -> int:
    """Return the sum of what each worker has had resident at most. Source: proc(5), VmHWM."""
    peaks = 0
    for worker in node.workers():
        status = Path(f"/proc/{worker}/status").read_text(encoding="ascii")
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        peaks += int(found[1]) * 1024
    return peaks


def _read(connection: socket.socket, length: int, deadline: float) -> bytes:
    """Return exactly this many bytes.

    Raises:
        EOFError: the node has closed the connection.
        TimeoutError: they do not come before the deadline.
    """
    content = bytearray()
    while len(content) < length:
        if not is_readable(connection, max(0.0, deadline - time.monotonic())):
            raise TimeoutError("the node neither answers nor ends the connection")
        part = connection.recv(length - len(content))
        if not part:
            raise EOFError
        content += part
    return bytes(content)
