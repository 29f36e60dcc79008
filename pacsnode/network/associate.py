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
from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacsnode.network.associate_items import (
    ABSTRACT_SYNTAX,
    APPLICATION_CONTEXT,
    COMMON_EXTENDED_NEGOTIATION,
    EXTENDED_NEGOTIATION,
    FIXED_FIELDS,
    IMPLEMENTATION_CLASS_UID_ITEM,
    IMPLEMENTATION_VERSION_NAME_ITEM,
    MAXIMUM_LENGTH,
    PRESENTATION_CONTEXT_AC,
    PRESENTATION_CONTEXT_RQ,
    PROTOCOL_VERSION,
    ROLE_SELECTION,
    TRANSFER_SYNTAX,
    USER_INFORMATION,
    USUAL_MAXIMUM_LENGTH,
    AssociateError,
    encode_item,
    read_items,
    read_maximum_length,
    read_uid,
)
from pacsnode.network.pdu import ASSOCIATE_AC, ASSOCIATE_RJ, encode_pdu

_UID_LENGTH: Final = struct.Struct(">H")
_ANSWERED_CONTEXT: Final = struct.Struct(">BxHBxBxBxH")


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
class Roles:
    """The roles that the association requestor proposes for itself, for a SOP class.

    Attributes:
        is_scu: it wants to send requests of the class.
        is_scp: it wants to be sent requests of the class.

    Source: PS3.7 D.3.3.4.
    """

    is_scu: bool
    is_scp: bool


# Those of a SOP class that no roles are proposed for.
DEFAULT_ROLES: Final = Roles(is_scu=True, is_scp=False)
ONLY_SCP: Final = Roles(is_scu=False, is_scp=True)


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
        is_requestor_scu: the requestor may send requests in it.
        is_requestor_scp: the requestor may be sent requests in it.
    """

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    result: int
    application_information: bytes = b""
    is_requestor_scu: bool = True
    is_requestor_scp: bool = False

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
        roles: as the requestor proposes them, by SOP Class UID; the others have the default roles.
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
    roles: Mapping[str, Roles]


@dataclass(slots=True)
class _Found:
    """What the variable items of a request hold."""

    application_context_name: str = ""
    contexts: dict[int, ProposedContext] = field(default_factory=dict)
    maximum_length_bytes: int = USUAL_MAXIMUM_LENGTH
    extended: dict[str, bytes] = field(default_factory=dict)
    declared: dict[str, DeclaredSopClass] = field(default_factory=dict)
    roles: dict[str, Roles] = field(default_factory=dict)


def read_associate_request(content: bytes) -> AssociateRequest:
    """Return what an A-ASSOCIATE-RQ says; items of unknown types are passed over.

    Args:
        content: the PDU without its header of six bytes.

    Raises:
        AssociateError: it is too short, an item or sub-item runs over its end, or a presentation
            context identifier is even or used twice, or a sub-item is damaged.

    Source: PS3.8 9.3.1, 9.3.2.
    """
    if len(content) < FIXED_FIELDS.size:
        raise AssociateError("it ends within its fixed fields")
    version, _, called, calling, _ = FIXED_FIELDS.unpack_from(content)
    found = _Found()
    for kind, item in read_items(content[FIXED_FIELDS.size :]):
        if kind == APPLICATION_CONTEXT:
            found.application_context_name = read_uid(item)
        elif kind == PRESENTATION_CONTEXT_RQ:
            _read_context(item, found)
        elif kind == USER_INFORMATION:
            _read_user_information(item, found)
    return AssociateRequest(
        fixed_fields=content[: FIXED_FIELDS.size],
        protocol_version=version,
        called_ae_title=normalise_ae_title(called.decode("latin-1")),
        calling_ae_title=normalise_ae_title(calling.decode("latin-1")),
        application_context_name=found.application_context_name,
        contexts=tuple(found.contexts.values()),
        maximum_length_bytes=found.maximum_length_bytes,
        extended=found.extended,
        declared=found.declared,
        roles=found.roles,
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
        contexts: the answer to each that was proposed, with what is agreed upon for its SOP class;
            roles are answered for the classes that the request proposes some for.
        maximum_length_bytes: of a P-DATA-TF that we take (rule H-6).

    Source: PS3.8 9.3.3; PS3.7 D.3.3.4, D.3.3.5; rules B-10, H-4, H-8, H-14.
    """
    user_information = [
        encode_item(MAXIMUM_LENGTH, struct.pack(">L", maximum_length_bytes)),
        encode_item(IMPLEMENTATION_CLASS_UID_ITEM, IMPLEMENTATION_CLASS_UID.encode()),
        encode_item(IMPLEMENTATION_VERSION_NAME_ITEM, IMPLEMENTATION_VERSION_NAME.encode()),
    ]
    # One sub-item for each SOP class, however many contexts it has.
    agreed = {context.abstract_syntax: context for context in contexts if context.is_accepted}
    user_information += [
        encode_item(ROLE_SELECTION, _counted(uid) + _encode_roles(agreed[uid]))
        for uid in request.roles
        if uid in agreed
    ]
    user_information += [
        encode_item(EXTENDED_NEGOTIATION, _counted(uid) + context.application_information)
        for uid, context in agreed.items()
        if context.application_information
    ]
    content = b"".join(
        (
            struct.pack(">H", PROTOCOL_VERSION),
            request.fixed_fields[2:],
            encode_item(APPLICATION_CONTEXT, application_context_name.encode()),
            *map(_encode_context, contexts),
            encode_item(USER_INFORMATION, b"".join(user_information)),
        )
    )
    return encode_pdu(ASSOCIATE_AC, content)


def encode_associate_reject(result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ.

    Source: PS3.8 9.3.4.
    """
    return encode_pdu(ASSOCIATE_RJ, bytes((0, result, source, reason)))


def _read_context(item: bytes, found: _Found) -> None:
    if len(item) < 4:  # noqa: PLR2004 - identifier and three reserved bytes
        raise AssociateError("a presentation context has no identifier")
    context_id = item[0]
    if context_id % 2 == 0 or context_id in found.contexts:
        raise AssociateError("a presentation context identifier is even, or used twice")
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for kind, content in read_items(item[4:]):
        if kind == ABSTRACT_SYNTAX:
            abstract_syntax = read_uid(content)
        elif kind == TRANSFER_SYNTAX:
            transfer_syntaxes.append(read_uid(content))
    context = ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))
    found.contexts[context_id] = context


def _read_user_information(item: bytes, found: _Found) -> None:
    for kind, content in read_items(item):
        if kind == MAXIMUM_LENGTH:
            found.maximum_length_bytes = read_maximum_length(content)
        elif kind == ROLE_SELECTION:
            uid, end = _leading_uid(content, 0)
            found.roles[uid] = _roles(content[end:])
        elif kind == EXTENDED_NEGOTIATION:
            uid, end = _leading_uid(content, 0)
            found.extended[uid] = content[end:]
        elif kind == COMMON_EXTENDED_NEGOTIATION:
            uid, end = _leading_uid(content, 0)
            service_class_uid, end = _leading_uid(content, end)
            related = _related(content, end + _UID_LENGTH.size)  # behind the length of the list
            found.declared[uid] = DeclaredSopClass(service_class_uid, tuple(related))


def _roles(content: bytes) -> Roles:
    """Return the roles that a sub-item proposes; what is neither 0 nor 1 proposes nothing."""
    if len(content) != 2:  # noqa: PLR2004 - SCU-role and SCP-role
        raise AssociateError("a role selection has no two roles")
    return Roles(is_scu=content[0] == 1, is_scp=content[1] == 1)


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
    return read_uid(content[start : start + length]), start + length


def _encode_roles(context: PresentationContext) -> bytes:
    return bytes((context.is_requestor_scu, context.is_requestor_scp))


def _counted(uid: str) -> bytes:
    """Return a UID behind its length."""
    encoded = uid.encode("ascii", "replace")
    return _UID_LENGTH.pack(len(encoded)) + encoded


def _encode_context(context: PresentationContext) -> bytes:
    syntax = context.transfer_syntax.encode("ascii", "replace")
    length = 8 + len(syntax)
    return (
        _ANSWERED_CONTEXT.pack(
            PRESENTATION_CONTEXT_AC,
            length,
            context.context_id,
            context.result,
            TRANSFER_SYNTAX,
            len(syntax),
        )
        + syntax
    )
