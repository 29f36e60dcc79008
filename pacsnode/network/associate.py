"""The PDUs of association establishment: an A-ASSOCIATE-RQ read, its answer written.

Read and written by hand, not by pynetdicom's classes: a modality that opens an association for each
image waits for this, and what is wrong with a request is to be told apart from a fault of ours.

Source: PS3.8 9.3.2 to 9.3.4, PS3.7 D.3.3.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pacsnode.dicom.ae import normalise_ae_title
from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, normalise_uid
from pacsnode.network.pdu import ASSOCIATE_AC, ASSOCIATE_RJ, encode_pdu

_APPLICATION_CONTEXT: Final = 0x10
_PRESENTATION_CONTEXT_RQ: Final = 0x20
_PRESENTATION_CONTEXT_AC: Final = 0x21
_ABSTRACT_SYNTAX: Final = 0x30
_TRANSFER_SYNTAX: Final = 0x40
_USER_INFORMATION: Final = 0x50
_MAXIMUM_LENGTH: Final = 0x51
_IMPLEMENTATION_CLASS_UID: Final = 0x52
_IMPLEMENTATION_VERSION_NAME: Final = 0x55
_EXTENDED_NEGOTIATION: Final = 0x56
_COMMON_EXTENDED_NEGOTIATION: Final = 0x57

_ITEM_HEADER: Final = struct.Struct(">BxH")
_UID_LENGTH: Final = struct.Struct(">H")
_ANSWERED_CONTEXT: Final = struct.Struct(">BxHBxBxBxH")
# Protocol version, two reserved bytes, both titles and 32 reserved bytes.
_FIXED_FIELDS: Final = struct.Struct(">HH16s16s32s")
_PROTOCOL_VERSION: Final = 1
# A requestor that forgets the mandatory sub-item takes what everybody takes.
_USUAL_MAXIMUM_LENGTH: Final = 16_384


class AssociateError(ValueError):
    """An A-ASSOCIATE-RQ breaks the rules of encoding; the message says which."""


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as the requestor proposes it.

    Attributes:
        context_id: odd, 1 to 255.
        abstract_syntax: a SOP Class UID.
        transfer_syntaxes: in the requestor's order; none in a damaged item.
    """

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """The answer to a proposed presentation context.

    Attributes:
        context_id: the requestor's.
        abstract_syntax: the requestor's.
        transfer_syntax: the one to be used; without meaning in a refused context.
        result: 0 is acceptance. Source: PS3.8 table 9-18.
        application_information: what is agreed upon for its SOP class (PS3.7 D.3.3.5); empty where
            nothing was asked for.
    """

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    result: int
    application_information: bytes = b""

    @property
    def is_accepted(self) -> bool:
        """Whether messages may be sent in it."""
        return self.result == 0

    def has_agreed(self, byte: int) -> bool:
        """Tell whether an option is agreed upon.

        Args:
            byte: its place in the application information, counted from 0.
        """
        return self.application_information[byte : byte + 1] == b"\x01"


@dataclass(frozen=True, slots=True)
class DeclaredSopClass:
    """What a requestor says of a SOP class of its own (SOP Class Common Extended Negotiation).

    Attributes:
        service_class_uid: the service it belongs to.
        related_general_sop_classes: the classes it specialises.

    Source: PS3.7 D.3.3.6.
    """

    service_class_uid: str
    related_general_sop_classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ.

    Attributes:
        fixed_fields: the bytes that an answer repeats (PS3.8 table 9-17).
        protocol_version: bit by bit.
        called_ae_title: in its normal form; bytes that are not ASCII as Latin-1.
        calling_ae_title: likewise.
        application_context_name: a UID.
        contexts: as they are proposed.
        maximum_length_bytes: of a P-DATA-TF that the requestor takes; 0 is no limit.
        extended: application information by SOP Class UID (PS3.7 D.3.3.5).
        declared: by SOP Class UID.
    """

    fixed_fields: bytes
    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    application_context_name: str
    contexts: tuple[ProposedContext, ...]
    maximum_length_bytes: int
    extended: Mapping[str, bytes]
    declared: Mapping[str, DeclaredSopClass]


@dataclass(slots=True)
class _Found:
    """What the variable items of a request hold."""

    application_context_name: str = ""
    contexts: dict[int, ProposedContext] = field(default_factory=dict)
    maximum_length_bytes: int = _USUAL_MAXIMUM_LENGTH
    extended: dict[str, bytes] = field(default_factory=dict)
    declared: dict[str, DeclaredSopClass] = field(default_factory=dict)


def read_associate_request(content: bytes) -> AssociateRequest:
    """Return what an A-ASSOCIATE-RQ says; items of unknown types are passed over.

    Args:
        content: the PDU without its header of six bytes.

    Raises:
        AssociateError: it is too short, an item or sub-item runs over its end, or a presentation
            context identifier is even or used twice.

    Source: PS3.8 9.3.1, 9.3.2.
    """
    if len(content) < _FIXED_FIELDS.size:
        raise AssociateError("it ends within its fixed fields")
    version, _, called, calling, _ = _FIXED_FIELDS.unpack_from(content)
    found = _Found()
    for kind, item in _items(content[_FIXED_FIELDS.size :]):
        if kind == _APPLICATION_CONTEXT:
            found.application_context_name = _uid(item)
        elif kind == _PRESENTATION_CONTEXT_RQ:
            _read_context(item, found)
        elif kind == _USER_INFORMATION:
            _read_user_information(item, found)
    return AssociateRequest(
        fixed_fields=content[: _FIXED_FIELDS.size],
        protocol_version=version,
        called_ae_title=normalise_ae_title(called.decode("latin-1")),
        calling_ae_title=normalise_ae_title(calling.decode("latin-1")),
        application_context_name=found.application_context_name,
        contexts=tuple(found.contexts.values()),
        maximum_length_bytes=found.maximum_length_bytes,
        extended=found.extended,
        declared=found.declared,
    )


def encode_associate_accept(
    request: AssociateRequest,
    application_context_name: str,
    contexts: Sequence[PresentationContext],
    maximum_length_bytes: int,
) -> bytes:
    """Return the A-ASSOCIATE-AC to a request.

    Args:
        request: what is answered.
        application_context_name: ours.
        contexts: the answer to each that was proposed, with what is agreed upon for its SOP class.
        maximum_length_bytes: of a P-DATA-TF that we take (rule H-6).

    Source: PS3.8 9.3.3; PS3.7 D.3.3.5; rules B-10, H-4, H-14.
    """
    user_information = [
        _item(_MAXIMUM_LENGTH, struct.pack(">L", maximum_length_bytes)),
        _item(_IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_CLASS_UID.encode()),
        _item(_IMPLEMENTATION_VERSION_NAME, IMPLEMENTATION_VERSION_NAME.encode()),
    ]
    # One sub-item for each SOP class, however many contexts it has.
    agreed = {cx.abstract_syntax: cx.application_information for cx in contexts if cx.is_accepted}
    for uid, information in agreed.items():
        if not information:
            continue
        name = uid.encode()
        content = _UID_LENGTH.pack(len(name)) + name + information
        user_information.append(_item(_EXTENDED_NEGOTIATION, content))
    content = b"".join(
        (
            struct.pack(">H", _PROTOCOL_VERSION),
            request.fixed_fields[2:],
            _item(_APPLICATION_CONTEXT, application_context_name.encode()),
            *map(_encode_context, contexts),
            _item(_USER_INFORMATION, b"".join(user_information)),
        )
    )
    return encode_pdu(ASSOCIATE_AC, content)


def encode_associate_reject(result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ.

    Source: PS3.8 9.3.4.
    """
    return encode_pdu(ASSOCIATE_RJ, bytes((0, result, source, reason)))


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each item or sub-item."""
    position = 0
    while position < len(content):
        if position + _ITEM_HEADER.size > len(content):
            raise AssociateError("it ends within an item's header")
        kind, length = _ITEM_HEADER.unpack_from(content, position)
        position += _ITEM_HEADER.size
        if position + length > len(content):
            raise AssociateError(f"an item of type {kind:02X}H runs over the end")
        yield kind, content[position : position + length]
        position += length


def _item(kind: int, content: bytes) -> bytes:
    return _ITEM_HEADER.pack(kind, len(content)) + content


def _uid(encoded: bytes) -> str:
    return normalise_uid(encoded.decode("ascii", "replace"))


def _read_context(item: bytes, found: _Found) -> None:
    if len(item) < 4:  # noqa: PLR2004 - identifier and three reserved bytes
        raise AssociateError("a presentation context has no identifier")
    context_id = item[0]
    if context_id % 2 == 0 or context_id in found.contexts:
        raise AssociateError("a presentation context identifier is even, or used twice")
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for kind, content in _items(item[4:]):
        if kind == _ABSTRACT_SYNTAX:
            abstract_syntax = _uid(content)
        elif kind == _TRANSFER_SYNTAX:
            transfer_syntaxes.append(_uid(content))
    context = ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))
    found.contexts[context_id] = context


def _read_user_information(item: bytes, found: _Found) -> None:
    for kind, content in _items(item):
        if kind == _MAXIMUM_LENGTH:
            if len(content) != 4:  # noqa: PLR2004 - an unsigned integer of 32 bits
                raise AssociateError("the maximum length has no four bytes")
            found.maximum_length_bytes = int.from_bytes(content, "big")
        elif kind == _EXTENDED_NEGOTIATION:
            uid, end = _leading_uid(content, 0)
            found.extended[uid] = content[end:]
        elif kind == _COMMON_EXTENDED_NEGOTIATION:
            uid, end = _leading_uid(content, 0)
            service_class_uid, end = _leading_uid(content, end)
            related = _related(content, end + _UID_LENGTH.size)  # behind the length of the list
            found.declared[uid] = DeclaredSopClass(service_class_uid, tuple(related))


def _related(content: bytes, position: int) -> Iterator[str]:
    while position < len(content):
        uid, position = _leading_uid(content, position)
        yield uid


def _leading_uid(content: bytes, position: int) -> tuple[str, int]:
    """Return a UID that stands behind its length, and where it ends."""
    start = position + _UID_LENGTH.size
    if start > len(content):
        raise AssociateError("a sub-item ends within the length of a UID")
    (length,) = _UID_LENGTH.unpack_from(content, position)
    if start + length > len(content):
        raise AssociateError("a UID runs over the end of its sub-item")
    return _uid(content[start : start + length]), start + length


def _encode_context(context: PresentationContext) -> bytes:
    syntax = context.transfer_syntax.encode("ascii", "replace")
    length = 8 + len(syntax)
    return (
        _ANSWERED_CONTEXT.pack(
            _PRESENTATION_CONTEXT_AC,
            length,
            context.context_id,
            context.result,
            _TRANSFER_SYNTAX,
            len(syntax),
        )
        + syntax
    )
