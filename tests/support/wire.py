"""A Service Class User that says exactly what it is told to, down to the byte.

Needed beside DCMTK for what a well-behaved toolkit does not send: damaged Data Sets, UIDs that do
not fit, half an object, odd titles. It shares no code with the node, so that it is an independent
reading of PS3.7 and PS3.8.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from types import MappingProxyType, TracebackType
from typing import Self

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

from tests.support.instances import Instance

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

NO_DATA_SET = 0x0101
WITH_DATA_SET = 0x0001

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLEMENTATION_CLASS_UID = b"1.2.826.0.1.3680043.8.498.2"
_C_STORE_RQ, _C_STORE_RSP = 0x0001, 0x8001
_ASSOCIATE_RQ, _ASSOCIATE_AC, _ASSOCIATE_RJ, _P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(1, 8)


class AssociationRejectedError(Exception):
    """The acceptor answered A-ASSOCIATE-RJ. `triple` is (result, source, reason)."""

    def __init__(self, triple: tuple[int, int, int]) -> None:
        super().__init__(f"association rejected with {triple}")
        self.triple = triple


class AssociationAbortedError(Exception):
    """The acceptor answered A-ABORT, or closed the connection."""


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One Presentation Context to propose; its id follows from its place in the list."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...] = (IMPLICIT_VR_LITTLE_ENDIAN,)


@dataclass(frozen=True, slots=True)
class NegotiatedContext:
    """The acceptor's answer to one proposed context: result 0 is acceptance (PS3.8 9.3.3.2)."""

    context_id: int
    abstract_syntax: str
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Response:
    """One DIMSE response: its Command Set by element number, and its Data Set if it had one."""

    command: Mapping[int, bytes]
    encoded_data_set: bytes | None
    context_id: int = 0

    @property
    def status(self) -> int:
        """(0000,0900)."""
        return self._number(0x0900) or 0

    @property
    def error_comment(self) -> str:
        """(0000,0902), empty if absent."""
        return self.command.get(0x0902, b"").decode("ascii").strip(" \0")

    @property
    def offending_elements(self) -> list[tuple[int, int]]:
        """(0000,0901) as pairs of group and element, empty if absent."""
        numbers = struct.iter_unpack("<HH", self.command.get(0x0901, b""))
        return [(int(group), int(element)) for group, element in numbers]

    @property
    def counters(self) -> tuple[int | None, int | None, int | None, int | None]:
        """Remaining, completed, failed, warning sub-operations; None where absent."""
        return (
            self._number(0x1020),
            self._number(0x1021),
            self._number(0x1022),
            self._number(0x1023),
        )

    @property
    def identifier(self) -> Dataset:
        """The Data Set, sent in Implicit VR Little Endian."""
        assert self.encoded_data_set is not None
        return read_dataset(
            BytesIO(self.encoded_data_set), is_implicit_VR=True, is_little_endian=True
        )

    @property
    def failed_sop_instance_uids(self) -> set[str]:
        """The Failed SOP Instance UID List, empty if the response has no Data Set."""
        if self.encoded_data_set is None:
            return set()
        value = self.identifier.FailedSOPInstanceUIDList
        return {value} if isinstance(value, str) else {str(uid) for uid in value}

    def uid(self, element: int) -> str:
        """Return a UID of the Command Set without padding."""
        return _text(self.command.get(element, b""))

    def _number(self, element: int) -> int | None:
        value = self.command.get(element)
        return int.from_bytes(value, "little") if value is not None else None


@dataclass(frozen=True, slots=True)
class SubOperation:
    """A C-STORE request that came to us while a C-GET was served.

    Attributes:
        context: that it came in.
        command: its Command Set by element number, raw values.
        encoded_data_set: as it came.
    """

    context: NegotiatedContext
    command: Mapping[int, bytes]
    encoded_data_set: bytes

    @property
    def sop_class_uid(self) -> str:
        """(0000,0002)."""
        return _text(self.command[0x0002])

    @property
    def sop_instance_uid(self) -> str:
        """(0000,1000)."""
        return _text(self.command[0x1000])

    @property
    def transfer_syntax_uid(self) -> str:
        """That of its context."""
        return self.context.transfer_syntax

    @property
    def message_id(self) -> int:
        """(0000,0110)."""
        return int.from_bytes(self.command[0x0110], "little")

    @property
    def priority(self) -> int:
        """(0000,0700)."""
        return int.from_bytes(self.command[0x0700], "little")


@dataclass(slots=True)
class Retrieval:
    """What came of a C-GET.

    Attributes:
        messages: sub-operations and responses, in the order in which they came.
    """

    messages: list[SubOperation | Response] = field(default_factory=list)

    @property
    def stored(self) -> list[SubOperation]:
        """What was sent to us."""
        return [each for each in self.messages if isinstance(each, SubOperation)]

    @property
    def responses(self) -> list[Response]:
        """The C-GET responses, the final one last."""
        return [each for each in self.messages if isinstance(each, Response)]

    @property
    def final(self) -> Response:
        """The final response."""
        return self.responses[-1]


def _success(_: SubOperation) -> int:
    return 0x0000


@dataclass(slots=True)
class Requestor:
    """How an association is asked for.

    Attributes:
        called_ae_title: sent as it is, padded with spaces to 16 bytes unless it has 16.
        calling_ae_title: the same.
        common_extended: Service Class UID by SOP Class UID (PS3.7 D.3.3.6).
        roles: SCU-role and SCP-role by SOP Class UID (PS3.7 D.3.3.4).
        extended: application information by SOP Class UID (PS3.7 D.3.3.5).
        further_sub_items: of the User Information, sent as they are.
        timeout_seconds: for each answer.
        maximum_length: of the PDUs that we take, in bytes; 0 is no limit.
        receive_buffer_bytes: how much the kernel takes in that we do not read; 0 leaves it to it.
    """

    called_ae_title: bytes = b"PACSNODE"
    calling_ae_title: bytes = b"WIRE"
    common_extended: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    extended: Mapping[str, bytes] = field(default_factory=dict)
    further_sub_items: bytes = b""
    application_context: bytes = _APPLICATION_CONTEXT
    protocol_version: int = 1
    timeout_seconds: float = 30
    maximum_length: int = 131072
    receive_buffer_bytes: int = 0


def _connected(address: tuple[str, int], asked: Requestor) -> socket.socket:
    """Return a connection; a small buffer has to be asked for before there is one."""
    if not asked.receive_buffer_bytes:
        return socket.create_connection(address, asked.timeout_seconds)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked.receive_buffer_bytes)
    connection.settimeout(asked.timeout_seconds)
    connection.connect(address)
    return connection


class Association:
    """An association with the node, released when the context manager is left without an error.

    Attributes:
        contexts: the negotiated contexts by id.
        maximum_pdu_length: what the acceptor is ready to receive, in bytes; 0 is no limit.
        roles: SCU-role and SCP-role by SOP Class UID, as they were answered.
        extended: application information by SOP Class UID, as it was answered.
        user_information: type and value of each sub-item that was answered.
        message_id: of the latest request.
        longest_pdu: that has come, in bytes, without type and length.
    """

    def __init__(
        self,
        address: tuple[str, int],
        proposed: Sequence[ProposedContext],
        requestor: Requestor | None = None,
    ) -> None:
        """Connect and negotiate.

        Raises:
            AssociationRejectedError: the acceptor refused the association.
            AssociationAbortedError: it aborted or hung up.
        """
        asked = requestor or Requestor()
        self.contexts: dict[int, NegotiatedContext] = {}
        self.roles: dict[str, tuple[int, int]] = {}
        self.extended: dict[str, bytes] = {}
        self.user_information: list[tuple[int, bytes]] = []
        self.maximum_pdu_length = 0
        self.message_id = 0
        self._open_request = (0, 0)
        self.longest_pdu = 0
        self._held: bytearray | None = None
        self._received: deque[tuple[int, int, bytes]] = deque()
        self._proposed = {2 * place + 1: context for place, context in enumerate(proposed)}
        self.socket = _connected(address, asked)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.sendall(_pdu(_ASSOCIATE_RQ, self._associate_rq(asked)))
            self._negotiate()
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error_type is None and self.socket.fileno() >= 0:
                self.release()
        finally:
            self.socket.close()

    def release(self) -> None:
        """Release the association and wait for the answer."""
        self.socket.sendall(_pdu(_RELEASE_RQ, bytes(4)))
        pdu_type, _ = self._read_pdu()
        self.socket.close()
        assert pdu_type == _RELEASE_RP

    def abort(self) -> None:
        """Send A-ABORT and hang up."""
        self.socket.sendall(_pdu(_ABORT, bytes(4)))
        self.socket.close()

    def hang_up(self) -> None:
        """Close the connection as a crash or a pulled cable would: with RST, without a word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def accepted(self, abstract_syntax: str, transfer_syntax: str | None = None) -> int | None:
        """Return the id of an accepted context with these syntaxes, None without one."""
        for context in self.contexts.values():
            if (
                context.result == 0
                and context.abstract_syntax == abstract_syntax
                and transfer_syntax in (None, context.transfer_syntax)
            ):
                return context.context_id
        return None

    def next_message_id(self) -> int:
        """Return a Message ID that no open request has."""
        self.message_id = self.message_id % 0xFFFF + 1
        return self.message_id

    def c_echo(self) -> int:
        """Return the status of a C-ECHO."""
        message_id = self.next_message_id()
        self.send_command(
            self._context_id(VERIFICATION),
            {
                0x0002: _uid(VERIFICATION),
                0x0100: _us(0x0030),
                0x0110: _us(message_id),
                0x0800: _us(NO_DATA_SET),
            },
        )
        return self.receive().status

    def c_store(self, instance: Instance) -> Response:
        """Send one instance in a context of its SOP Class and Transfer Syntax."""
        context_id = self.accepted(instance.sop_class_uid, instance.transfer_syntax_uid)
        assert context_id is not None, "no context was accepted for this instance"
        self.send_store_request(
            context_id, instance.sop_class_uid.encode(), instance.sop_instance_uid.encode()
        )
        self.send_data_set(context_id, instance.encoded_data_set)
        return self.receive()

    def send_store_request(
        self, context_id: int, sop_class_uid: bytes, sop_instance_uid: bytes
    ) -> None:
        """Send the Command Set of a C-STORE with these bytes as Affected SOP Class and Instance."""
        self.send_command(
            context_id,
            {
                0x0002: _even(sop_class_uid),
                0x0100: _us(0x0001),
                0x0110: _us(self.next_message_id()),
                0x0700: _us(0),
                0x0800: _us(WITH_DATA_SET),
                0x1000: _even(sop_instance_uid),
            },
        )

    def c_find(self, model: str, identifier: Dataset) -> list[Response]:
        """Return all responses, the final one last. The Identifier goes in Implicit VR."""
        self._send_request(model, 0x0020, identifier)
        return list(self._responses())

    def c_move(self, model: str, destination: str, identifier: Dataset) -> list[Response]:
        """Return all responses, the final one last."""
        return list(self.start_move(model, destination, identifier))

    def start_move(
        self, model: str, destination: str, identifier: Dataset, priority: int = 0
    ) -> Iterator[Response]:
        """Send a C-MOVE and yield its responses as they come."""
        more = {0x0600: _even(destination.encode(), b" "), 0x0700: _us(priority)}
        self._send_request(model, 0x0021, identifier, more)
        return self._responses()

    def c_get(
        self,
        model: str,
        identifier: Dataset,
        status_of: Callable[[SubOperation], int | None] = _success,
    ) -> Retrieval:
        """Send a C-GET, answer its sub-operations, and return all that came.

        Args:
            model: the abstract syntax.
            identifier: what is asked for.
            status_of: gives the status for a sub-operation; None answers nothing. It may do more
                before the answer, such as `cancel`.
        """
        retrieval = Retrieval()
        for message in self.start_get(model, identifier):
            retrieval.messages.append(message)
            if isinstance(message, SubOperation):
                status = status_of(message)
                if status is not None:
                    self.answer_store(message, status)
        return retrieval

    def start_get(
        self, model: str, identifier: Dataset, priority: int = 0
    ) -> Iterator[SubOperation | Response]:
        """Send a C-GET and yield sub-operations and responses as they come.

        A sub-operation waits for `answer_store`.
        """
        self._send_request(model, 0x0010, identifier, {0x0700: _us(priority)})
        return self._retrieved()

    def answer_store(
        self, sub_operation: SubOperation, status: int = 0x0000, comment: str = ""
    ) -> None:
        """Answer a sub-operation."""
        elements = {
            0x0002: sub_operation.command[0x0002],
            0x0100: _us(_C_STORE_RSP),
            0x0120: sub_operation.command[0x0110],
            0x0800: _us(NO_DATA_SET),
            0x0900: _us(status),
            0x1000: sub_operation.command[0x1000],
        }
        if comment:
            elements[0x0902] = _even(comment.encode(), b" ")
        self.send_command(sub_operation.context.context_id, elements)

    def cancel(self) -> None:
        """Send a C-CANCEL for the latest C-FIND, C-MOVE or C-GET."""
        self.send_cancel(*self._open_request)

    def send_cancel(self, context_id: int, message_id: int) -> None:
        """Send a C-CANCEL for a request (PS3.7 9.3.2.3)."""
        self.send_command(
            context_id,
            {0x0100: _us(0x0FFF), 0x0120: _us(message_id), 0x0800: _us(NO_DATA_SET)},
        )

    def send_command(self, context_id: int, elements: Mapping[int, bytes]) -> None:
        """Send a Command Set made of these raw values."""
        body = b"".join(
            struct.pack("<HHI", 0, element, len(value)) + value
            for element, value in sorted(elements.items())
        )
        command = struct.pack("<HHII", 0, 0, 4, len(body)) + body
        self._send_fragments(context_id, command, 0x01, is_complete=True)

    def send_data_set(self, context_id: int, content: bytes, *, is_complete: bool = True) -> None:
        """Send a Data Set, or with `is_complete` false the first part of one."""
        self._send_fragments(context_id, content, 0x00, is_complete=is_complete)

    @contextmanager
    def in_one_pdu(self) -> Iterator[None]:
        """Put all that is sent in the block into one P-DATA-TF PDU (PS3.8 9.3.5)."""
        self._held = bytearray()
        yield
        content, self._held = bytes(self._held), None
        self.socket.sendall(_pdu(_P_DATA, content))

    def receive(self) -> Response:
        """Return the next DIMSE message.

        Raises:
            AssociationAbortedError: the peer aborted or hung up.
        """
        command = bytearray()
        data_set = bytearray()
        elements: dict[int, bytes] = {}
        while True:
            context_id, control, fragment = self._next_presentation_data_value()
            is_command, is_last = bool(control & 1), bool(control & 2)
            (command if is_command else data_set).extend(fragment)
            if is_command and is_last:
                elements = decoded_command(bytes(command))
                if elements[0x0800] == _us(NO_DATA_SET):
                    return Response(elements, None, context_id)
            elif is_last:
                return Response(elements, bytes(data_set), context_id)

    def _send_request(
        self,
        model: str,
        command_field: int,
        identifier: Dataset,
        more: Mapping[int, bytes] = MappingProxyType({}),
    ) -> None:
        """Send a request with an Identifier."""
        context_id = self._context_id(model)
        elements = {
            0x0002: _uid(model),
            0x0100: _us(command_field),
            0x0110: _us(self.next_message_id()),
            0x0700: _us(0),
            0x0800: _us(WITH_DATA_SET),
        }
        self._open_request = context_id, self.message_id
        self.send_command(context_id, {**elements, **more})
        self.send_data_set(context_id, encoded_identifier(identifier))

    def _retrieved(self) -> Iterator[SubOperation | Response]:
        """Yield sub-operations and responses until a response is not Pending."""
        while True:
            message = self.receive()
            if message.command[0x0100] == _us(_C_STORE_RQ):
                assert message.encoded_data_set is not None
                context = self.contexts[message.context_id]
                yield SubOperation(context, message.command, message.encoded_data_set)
                continue
            yield message
            if message.status not in (0xFF00, 0xFF01):
                return

    def _responses(self) -> Iterator[Response]:
        """Yield responses until one is not Pending."""
        while True:
            response = self.receive()
            yield response
            if response.status not in (0xFF00, 0xFF01):
                return

    def _next_presentation_data_value(self) -> tuple[int, int, bytes]:
        """Return context id, message control header and fragment of the next PDV."""
        while not self._received:
            pdu_type, body = self._read_pdu()
            if pdu_type != _P_DATA:
                raise AssociationAbortedError(f"PDU of type {pdu_type} instead of P-DATA-TF")
            self._received.extend(_presentation_data_values(body))
        return self._received.popleft()

    def _context_id(self, abstract_syntax: str) -> int:
        context_id = self.accepted(abstract_syntax)
        assert context_id is not None, f"no context was accepted for {abstract_syntax}"
        return context_id

    def _send_fragments(
        self, context_id: int, content: bytes, control: int, *, is_complete: bool
    ) -> None:
        """Cut the content to the acceptor's Maximum Length and send it."""
        size = (self.maximum_pdu_length or 1 << 17) - 6
        starts = range(0, max(len(content), 1), size)
        for start in starts:
            fragment = content[start : start + size]
            last = 2 if is_complete and start == starts[-1] else 0
            value = struct.pack(">IBB", len(fragment) + 2, context_id, control | last) + fragment
            if self._held is not None:
                self._held += value
            else:
                self.socket.sendall(_pdu(_P_DATA, value))

    def _associate_rq(self, asked: Requestor) -> bytes:
        """Return the body of A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
        contexts = b"".join(
            _item(
                0x20,
                bytes((context_id, 0, 0, 0))
                + _item(0x30, context.abstract_syntax.encode())
                + b"".join(_item(0x40, uid.encode()) for uid in context.transfer_syntaxes),
            )
            for context_id, context in self._proposed.items()
        )
        user = _item(0x51, struct.pack(">I", asked.maximum_length))
        user += _item(0x52, _IMPLEMENTATION_CLASS_UID)
        for sop_class, service_class in asked.common_extended.items():
            sub_item = _counted(sop_class) + _counted(service_class) + struct.pack(">H", 0)
            user += _item(0x57, sub_item)
        for sop_class, roles in asked.roles.items():
            user += _item(0x54, _counted(sop_class) + bytes(roles))
        for sop_class, information in asked.extended.items():
            user += _item(0x56, _counted(sop_class) + information)
        user += asked.further_sub_items
        return (
            struct.pack(">HH", asked.protocol_version, 0)
            + asked.called_ae_title.ljust(16)
            + asked.calling_ae_title.ljust(16)
            + bytes(32)
            + _item(0x10, asked.application_context)
            + contexts
            + _item(0x50, user)
        )

    def _negotiate(self) -> None:
        """Read the acceptor's answer (PS3.8 9.3.3, 9.3.4)."""
        pdu_type, body = self._read_pdu()
        if pdu_type == _ASSOCIATE_RJ:
            raise AssociationRejectedError((body[1], body[2], body[3]))
        if pdu_type != _ASSOCIATE_AC:
            raise AssociationAbortedError(f"PDU of type {pdu_type} instead of A-ASSOCIATE-AC")
        for item_type, value in items_of(body[68:]):
            if item_type == 0x21:
                context_id, result = value[0], value[2]
                syntaxes = [v.rstrip(b"\0 ").decode() for t, v in items_of(value[4:]) if t == 0x40]
                self.contexts[context_id] = NegotiatedContext(
                    context_id,
                    self._proposed[context_id].abstract_syntax,
                    result,
                    syntaxes[0] if syntaxes else "",
                )
            elif item_type == 0x50:
                self._read_user_information(value)

    def _read_user_information(self, content: bytes) -> None:
        """Read what was agreed upon beside the contexts (PS3.7 D.3.3)."""
        self.user_information = list(items_of(content))
        for sub_item_type, value in self.user_information:
            if sub_item_type == 0x51:
                self.maximum_pdu_length = int.from_bytes(value, "big")
            elif sub_item_type in (0x54, 0x56):
                end = 2 + int.from_bytes(value[:2], "big")
                sop_class = value[2:end].decode()
                if sub_item_type == 0x54:
                    scu_role, scp_role = value[end:]
                    self.roles[sop_class] = scu_role, scp_role
                else:
                    self.extended[sop_class] = value[end:]

    def _read_pdu(self) -> tuple[int, bytes]:
        """Return the type and the body of the next PDU."""
        pdu_type, _, length = struct.unpack(">BBI", self._read(6))
        if pdu_type == _P_DATA:
            self.longest_pdu = max(self.longest_pdu, length)
        return int(pdu_type), self._read(length)

    def _read(self, length: int) -> bytes:
        content = bytearray()
        while len(content) < length:
            try:
                part = self.socket.recv(length - len(content))
            except ConnectionResetError as error:
                raise AssociationAbortedError("the connection was reset") from error
            if not part:
                raise AssociationAbortedError("the peer hung up")
            content += part
        return bytes(content)


def query_contexts() -> list[ProposedContext]:
    """Return contexts for Verification, FIND and MOVE in both roots."""
    return [
        ProposedContext(uid)
        for uid in (
            VERIFICATION,
            PATIENT_ROOT_FIND,
            PATIENT_ROOT_MOVE,
            STUDY_ROOT_FIND,
            STUDY_ROOT_MOVE,
        )
    ]


def storage_contexts(instances: Sequence[Instance]) -> list[ProposedContext]:
    """Return one context for each pair of SOP Class and Transfer Syntax of these instances."""
    pairs = dict.fromkeys((each.sop_class_uid, each.transfer_syntax_uid) for each in instances)
    return [ProposedContext(sop_class, (syntax,)) for sop_class, syntax in pairs]


def get_contexts(instances: Sequence[Instance]) -> list[ProposedContext]:
    """Return contexts for GET in both roots, and those that these instances are to be sent in."""
    models = [ProposedContext(uid) for uid in (PATIENT_ROOT_GET, STUDY_ROOT_GET)]
    return models + storage_contexts(instances)


def scp_roles(instances: Sequence[Instance]) -> dict[str, tuple[int, int]]:
    """Return the roles of a requestor that takes instances of these classes and sends none."""
    return {instance.sop_class_uid: (0, 1) for instance in instances}


def identifier_of(level: str | None, **keys: str | list[Dataset]) -> Dataset:
    """Return an Identifier: keyword and key value; an empty string asks for the value back.

    Values are taken as they are, valid or not, in UTF-8; several are separated by a backslash.
    """
    identifier = Dataset()
    given = keys if level is None else {"QueryRetrieveLevel": level, **keys}
    for keyword, value in given.items():
        tag = Tag(keyword)
        if keyword == "SpecificCharacterSet":
            identifier.SpecificCharacterSet = value
        elif isinstance(value, str):
            padding = b"\0" if dictionary_VR(tag) == "UI" else b" "
            identifier[tag] = DataElement(tag, "OB", _even(value.encode(), padding))
        else:
            identifier[tag] = DataElement(tag, "SQ", value)
    return identifier


def encoded_identifier(identifier: Dataset) -> bytes:
    """Return the Identifier in Implicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = True
    buffer.is_little_endian = True
    write_dataset(buffer, identifier)
    return buffer.getvalue()


def store_all(address: tuple[str, int], instances: Sequence[Instance]) -> None:
    """Store these instances in one association; each must be answered with Success."""
    with Association(address, storage_contexts(instances)) as association:
        statuses = [association.c_store(instance).status for instance in instances]
    assert statuses == [0x0000] * len(statuses)


def find(
    address: tuple[str, int], model: str, identifier: Dataset
) -> tuple[list[Dataset], Response]:
    """Return the answers to a C-FIND and its final response, in an association of its own."""
    with Association(address, query_contexts()) as association:
        *pending, final = association.c_find(model, identifier)
    return [response.identifier for response in pending], final


def move(address: tuple[str, int], model: str, destination: str, identifier: Dataset) -> Response:
    """Return the final response to a C-MOVE in an association of its own."""
    with Association(address, query_contexts()) as association:
        return association.c_move(model, destination, identifier)[-1]


def get(
    address: tuple[str, int], model: str, identifier: Dataset, instances: Sequence[Instance]
) -> Retrieval:
    """Return what came of a C-GET that takes instances as these, in an association of its own."""
    requestor = Requestor(roles=scp_roles(instances))
    with Association(address, get_contexts(instances), requestor) as association:
        return association.c_get(model, identifier)


def _text(value: bytes) -> str:
    return value.decode("ascii").rstrip("\0 ")


def _us(number: int) -> bytes:
    return struct.pack("<H", number)


def _even(value: bytes, padding: bytes = b"\0") -> bytes:
    return value + padding * (len(value) % 2)


def _uid(uid: str) -> bytes:
    return _even(uid.encode())


def _pdu(pdu_type: int, body: bytes) -> bytes:
    return struct.pack(">BBI", pdu_type, 0, len(body)) + body


def _item(item_type: int, value: bytes) -> bytes:
    return struct.pack(">BBH", item_type, 0, len(value)) + value


def _counted(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def items_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of the items in a PDU."""
    start = 0
    while start < len(content):
        item_type, _, length = struct.unpack_from(">BBH", content, start)
        yield item_type, content[start + 4 : start + 4 + length]
        start += 4 + length


def _presentation_data_values(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield context id, message control header and fragment of each PDV (PS3.8 9.3.5)."""
    start = 0
    while start < len(body):
        length = int.from_bytes(body[start : start + 4], "big")
        yield body[start + 4], body[start + 5], body[start + 6 : start + 4 + length]
        start += 4 + length


def decoded_command(content: bytes) -> dict[int, bytes]:
    """Return the raw values of a Command Set by element number (PS3.7 6.3)."""
    elements: dict[int, bytes] = {}
    start = 0
    while start < len(content):
        _, element, length = struct.unpack_from("<HHI", content, start)
        elements[element] = content[start + 8 : start + 8 + length]
        start += 8 + length
    return elements
