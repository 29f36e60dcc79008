"""Command sets: each is read by hand, and those that there are many of are also written by hand.

A command set comes from anybody, so its lengths are checked before anything is believed. C-STORE is
where a modality waits: its request is read and its response built with `struct`; so are
those of C-FIND, of which there is one for each match. All other messages, and those that have to
say what went wrong, go through pynetdicom's own classes.

Source: PS3.7 6.3, 9.3.1, E.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom.errors import BytesLengthException
from pynetdicom import dimse_messages
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA

from pacsnode.dicom.uid import normalise_uid

C_STORE_RQ: Final = 0x0001
C_GET_RQ: Final = 0x0010
C_FIND_RQ: Final = 0x0020
C_MOVE_RQ: Final = 0x0021
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
WITH_IDENTIFIER: Final = frozenset({C_FIND_RQ, C_GET_RQ, C_MOVE_RQ})
_C_STORE_RSP: Final = 0x8001
_C_FIND_RSP: Final = 0x8020
_RESPONSE: Final = 0x8000
_NO_DATA_SET: Final = 0x0101
_LONGEST_LO: Final = 64  # characters. Source: PS3.5 table 6.2-1.
_HAS_DATA_SET: Final = 0x0001

# Elements of group 0000, by their element number. Source: PS3.7 E.1.
_GROUP_LENGTH: Final = 0x0000
_AFFECTED_SOP_CLASS_UID: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
_PRIORITY: Final = 0x0700
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_OFFENDING_ELEMENT: Final = 0x0901
_ERROR_COMMENT: Final = 0x0902
_AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
_MOVE_ORIGINATOR_AE_TITLE: Final = 0x1030
_MOVE_ORIGINATOR_MESSAGE_ID: Final = 0x1031
_MEDIUM: Final = b"\0\0"
_PRIORITIES: Final = frozenset({_MEDIUM, b"\1\0", b"\2\0"})
_AE_TITLES: Final = frozenset({0x0600, _MOVE_ORIGINATOR_AE_TITLE})  # the other: Move Destination

_ELEMENT_HEADER: Final = struct.Struct("<HHL")
_US_ELEMENT: Final = struct.Struct("<HHLH")
_GROUP_LENGTH_ELEMENT: Final = struct.Struct("<HHLL")
_US: Final = struct.Struct("<H")

# What pydicom and pynetdicom raise on values that they do not take.
_RAISED_ON_BAD_VALUES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,  # a number of the wrong length
    EOFError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
)

Primitive = Any  # a DIMSE primitive of pynetdicom; its fields have no usable types


class CommandSetError(ValueError):
    """A command set breaks the rules of encoding, or lacks what every one has."""


@dataclass(frozen=True, slots=True)
class CommandSet:
    """A command set that has been read.

    Attributes:
        values: the value field of each element by element number.
        command_field: which message it is.
        has_data_set: a data set follows.
    """

    values: Mapping[int, bytes]
    command_field: int
    has_data_set: bool

    @property
    def message_id(self) -> int:
        """The Message ID of a request.

        Raises:
            CommandSetError: it has none.
        """
        return _number(self.values, _MESSAGE_ID, "Message ID")

    @property
    def message_id_being_responded_to(self) -> int:
        """The Message ID that a response or cancel names.

        Raises:
            CommandSetError: it has none.
        """
        return _number(self.values, _MESSAGE_ID_BEING_RESPONDED_TO, "Message ID responded to")

    @property
    def is_response(self) -> bool:
        """Whether it answers a request."""
        return bool(self.command_field & _RESPONSE)

    @property
    def status(self) -> int:
        """The status of a response.

        Raises:
            CommandSetError: it has none.
        """
        return _number(self.values, _STATUS, "Status")

    @property
    def error_comment(self) -> str:
        """What a response says of its status, in ASCII that can be printed; often empty.

        What is longer than the 64 characters of its VR, LO, is cut.
        """
        comment = self.values.get(_ERROR_COMMENT, b"").decode("ascii", "replace").strip("\0 ")
        printable = (c if c.isascii() and c.isprintable() else "?" for c in comment[:_LONGEST_LO])
        return "".join(printable)

    @property
    def affected_sop_class_uid(self) -> str:
        """In its normal form; empty where it is missing."""
        return self._uid(_AFFECTED_SOP_CLASS_UID)

    @property
    def affected_sop_instance_uid(self) -> str:
        """In its normal form; empty where it is missing."""
        return self._uid(_AFFECTED_SOP_INSTANCE_UID)

    def _uid(self, element: int) -> str:
        return normalise_uid(self.values.get(element, b"").decode("latin-1"))


def read_command_set(encoded: bytes) -> CommandSet:
    """Return a command set.

    The group length is not believed: where the elements end, the command set ends.

    Raises:
        CommandSetError: an element runs over the end, is none of group 0000 or stands there twice,
            or Command Field or Command Data Set Type is missing.

    Source: PS3.7 6.3.1, E.1.
    """
    values: dict[int, bytes] = {}
    position, end = 0, len(encoded)
    while position < end:
        if position + _ELEMENT_HEADER.size > end:
            raise CommandSetError("the command set ends within an element's header")
        group, element, length = _ELEMENT_HEADER.unpack_from(encoded, position)
        position += _ELEMENT_HEADER.size
        if group != 0 or element in values:
            raise CommandSetError("the command set has an element that has no place in it")
        if position + length > end:
            raise CommandSetError("an element runs over the end of the command set")
        values[element] = encoded[position : position + length]
        position += length
    return CommandSet(
        values=values,
        command_field=_number(values, _COMMAND_FIELD, "Command Field"),
        has_data_set=_number(values, _DATA_SET_TYPE, "Command Data Set Type") != _NO_DATA_SET,
    )


def _number(values: Mapping[int, bytes], element: int, name: str) -> int:
    value = values.get(element)
    if value is None or len(value) != _US.size:
        raise CommandSetError(f"the command set has no {name}")
    number: int = _US.unpack(value)[0]
    return number


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Who asked for the C-MOVE that a C-STORE belongs to (rule E-14)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What all C-STORE requests of a retrieval have in common.

    Attributes:
        priority: as in the request that asks for them (rule E-13).
        originator: of the C-MOVE; None for any other.
        outstanding_message_id: of the request that is being served on the same association, which
            no other may have meanwhile; None if there is none.
    """

    priority: int
    originator: MoveOriginator | None = None
    outstanding_message_id: int | None = None


def encode_store_request(
    sop_class_uid: str, sop_instance_uid: str, message_id: int, options: StoreOptions
) -> bytes:
    """Return the command set of a C-STORE request.

    Source: PS3.7 9.3.1.1; rules E-13, E-14.
    """
    parts = [
        _element(_AFFECTED_SOP_CLASS_UID, sop_class_uid.encode("ascii"), b"\0"),
        _US_ELEMENT.pack(0, _COMMAND_FIELD, 2, C_STORE_RQ),
        _US_ELEMENT.pack(0, _MESSAGE_ID, 2, message_id),
        _US_ELEMENT.pack(0, _PRIORITY, 2, options.priority),
        _US_ELEMENT.pack(0, _DATA_SET_TYPE, 2, _HAS_DATA_SET),
        _element(_AFFECTED_SOP_INSTANCE_UID, sop_instance_uid.encode("ascii"), b"\0"),
    ]
    if options.originator is not None and options.originator.ae_title:
        ae_title = options.originator.ae_title.encode("latin-1", "replace")
        parts += (
            _element(_MOVE_ORIGINATOR_AE_TITLE, ae_title, b" "),
            _US_ELEMENT.pack(0, _MOVE_ORIGINATOR_MESSAGE_ID, 2, options.originator.message_id),
        )
    return _with_group_length(b"".join(parts))


def encode_echo_request(sop_class_uid: str, message_id: int) -> bytes:
    """Return the command set of a C-ECHO request.

    Source: PS3.7 9.3.5.1.
    """
    return _with_group_length(
        b"".join(
            (
                _element(_AFFECTED_SOP_CLASS_UID, sop_class_uid.encode("ascii"), b"\0"),
                _US_ELEMENT.pack(0, _COMMAND_FIELD, 2, C_ECHO_RQ),
                _US_ELEMENT.pack(0, _MESSAGE_ID, 2, message_id),
                _US_ELEMENT.pack(0, _DATA_SET_TYPE, 2, _NO_DATA_SET),
            )
        )
    )


def encode_store_response(
    request: CommandSet,
    status: int,
    comment: str = "",
    offending_elements: Iterable[int] = (),
) -> bytes:
    """Return the command set of a C-STORE response.

    Both UIDs are those of the request, byte for byte (rule F-4).

    Args:
        request: what is answered; has a Message ID.
        status: of the response.
        comment: for Error Comment: ASCII, at most 64 characters; empty for none.
        offending_elements: tags, for Offending Element.

    Source: PS3.7 9.3.1.2; rule F-4.
    """
    values = request.values
    parts = []
    sop_class_uid = values.get(_AFFECTED_SOP_CLASS_UID)
    if sop_class_uid:
        parts.append(_element(_AFFECTED_SOP_CLASS_UID, sop_class_uid, b"\0"))
    parts += (
        _US_ELEMENT.pack(0, _COMMAND_FIELD, 2, _C_STORE_RSP),
        _US_ELEMENT.pack(0, _MESSAGE_ID_BEING_RESPONDED_TO, 2, request.message_id),
        _US_ELEMENT.pack(0, _DATA_SET_TYPE, 2, _NO_DATA_SET),
        _US_ELEMENT.pack(0, _STATUS, 2, status),
    )
    if offending_elements:
        tags = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in offending_elements)
        parts.append(_element(_OFFENDING_ELEMENT, tags, b""))
    if comment:
        parts.append(_element(_ERROR_COMMENT, comment.encode("ascii"), b" "))
    sop_instance_uid = values.get(_AFFECTED_SOP_INSTANCE_UID)
    if sop_instance_uid:
        parts.append(_element(_AFFECTED_SOP_INSTANCE_UID, sop_instance_uid, b"\0"))
    return _with_group_length(b"".join(parts))


def encode_find_response(
    sop_class_uid: str, message_id: int, status: int, *, has_identifier: bool
) -> bytes:
    """Return the command set of a C-FIND response that has no comment.

    Args:
        sop_class_uid: of the request.
        message_id: of the request.
        status: of the response.
        has_identifier: a match goes with it.

    Source: PS3.7 9.3.2.2.
    """
    data_set_type = _HAS_DATA_SET if has_identifier else _NO_DATA_SET
    elements = b"".join(
        (
            _element(_AFFECTED_SOP_CLASS_UID, sop_class_uid.encode("ascii"), b"\0"),
            _US_ELEMENT.pack(0, _COMMAND_FIELD, 2, _C_FIND_RSP),
            _US_ELEMENT.pack(0, _MESSAGE_ID_BEING_RESPONDED_TO, 2, message_id),
            _US_ELEMENT.pack(0, _DATA_SET_TYPE, 2, data_set_type),
            _US_ELEMENT.pack(0, _STATUS, 2, status),
        )
    )
    return _with_group_length(elements)


def _with_group_length(elements: bytes) -> bytes:
    return _GROUP_LENGTH_ELEMENT.pack(0, _GROUP_LENGTH, 4, len(elements)) + elements


def _element(number: int, value: bytes, padding: bytes) -> bytes:
    padded = value + padding if len(value) % 2 else value
    return _ELEMENT_HEADER.pack(0, number, len(padded)) + padded


def request_of(command_set: CommandSet, context_id: int, data_set: bytes) -> Primitive:
    """Return a request as pynetdicom's primitive.

    Args:
        command_set: of the request.
        context_id: of its presentation context.
        data_set: encoded; empty where there is none.

    Raises:
        CommandSetError: pynetdicom does not know the message, or does not take its values.
    """
    values = dict(command_set.values)
    for number in _AE_TITLES & values.keys():
        # A title that says nothing, or several, is one that nobody has, and is answered; pynetdicom
        # would raise, or take the first one.
        if not values[number].strip(b"\0 ") or b"\\" in values[number]:
            del values[number]
    if command_set.command_field in WITH_IDENTIFIER and values.get(_PRIORITY) not in _PRIORITIES:
        values[_PRIORITY] = _MEDIUM  # that one is missing or unknown is no reason to refuse
    elements = [_element(number, value, b"") for number, value in sorted(values.items())]
    fragments: list[Any] = [[context_id, b"\x03" + b"".join(elements)]]
    if command_set.has_data_set:
        fragments.append([context_id, b"\x02" + data_set])
    data = P_DATA()
    data.presentation_data_value_list = fragments
    message = DIMSEMessage()
    try:
        message.decode_msg(data)
        return message.message_to_primitive()
    except _RAISED_ON_BAD_VALUES as error:
        raise CommandSetError(f"its values are not taken: {type(error).__name__}") from error


def encode_response(response: Primitive) -> tuple[bytes, bytes | None]:
    """Return command set and data set of a response, given as pynetdicom's primitive."""
    message: DIMSEMessage = getattr(dimse_messages, f"{type(response).__name__}_RSP")()
    message.primitive_to_message(response)
    command_set = encode(message.command_set, True, True)  # noqa: FBT003
    if command_set is None:
        raise ValueError("pynetdicom cannot encode a response")
    data_set = message.data_set.getvalue() if message.data_set is not None else b""
    return command_set, data_set or None
