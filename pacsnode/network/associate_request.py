"""Association establishment as a requestor: an A-ASSOCIATE-RQ written, its answer read.

Source: PS3.8 9.3.2 to 9.3.4, PS3.7 D.3.3.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacsnode.network.associate import PresentationContext, ProposedContext
from pacsnode.network.associate_items import (
    ABSTRACT_SYNTAX,
    APPLICATION_CONTEXT,
    FIXED_FIELDS,
    IMPLEMENTATION_CLASS_UID_ITEM,
    IMPLEMENTATION_VERSION_NAME_ITEM,
    MAXIMUM_LENGTH,
    PRESENTATION_CONTEXT_AC,
    PRESENTATION_CONTEXT_RQ,
    PROTOCOL_VERSION,
    TRANSFER_SYNTAX,
    USER_INFORMATION,
    USUAL_MAXIMUM_LENGTH,
    AssociateError,
    encode_item,
    read_items,
    read_maximum_length,
    read_uid,
)
from pacsnode.network.negotiation import APPLICATION_CONTEXT_NAME
from pacsnode.network.pdu import ASSOCIATE_RQ, encode_pdu

_TITLE_LENGTH: Final = 16
_CONTEXT_HEADER_BYTES: Final = 4  # identifier, reserved, result, reserved
# Result, source and reason of an A-ASSOCIATE-RJ in words. Source: PS3.8 table 9-21.
_REJECTIONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_TRANSIENT: Final = 2
_NO_REASON: Final = 2  # of a context that is refused. Source: PS3.8 table 9-18.


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """An A-ASSOCIATE-AC.

    Attributes:
        contexts: the answer to each context that was proposed, in the order of the proposal; what
            was not answered is refused.
        maximum_length_bytes: of a P-DATA-TF that the acceptor takes; 0 is no limit.
    """

    contexts: tuple[PresentationContext, ...]
    maximum_length_bytes: int


def encode_associate_request(
    called_ae_title: str,
    calling_ae_title: str,
    contexts: Sequence[ProposedContext],
    maximum_length_bytes: int,
) -> bytes:
    """Return an A-ASSOCIATE-RQ.

    Args:
        called_ae_title: at most 16 characters of ASCII.
        calling_ae_title: likewise.
        contexts: at most 128.
        maximum_length_bytes: of a P-DATA-TF that we take (rule H-6).

    Source: PS3.8 9.3.2; PS3.7 D.3.3; rule H-14.
    """
    user_information = b"".join(
        (
            encode_item(MAXIMUM_LENGTH, struct.pack(">L", maximum_length_bytes)),
            encode_item(IMPLEMENTATION_CLASS_UID_ITEM, IMPLEMENTATION_CLASS_UID.encode()),
            encode_item(IMPLEMENTATION_VERSION_NAME_ITEM, IMPLEMENTATION_VERSION_NAME.encode()),
        )
    )
    content = b"".join(
        (
            FIXED_FIELDS.pack(
                PROTOCOL_VERSION, 0, _title(called_ae_title), _title(calling_ae_title), b""
            ),
            encode_item(APPLICATION_CONTEXT, APPLICATION_CONTEXT_NAME.encode()),
            *map(_encode_proposed, contexts),
            encode_item(USER_INFORMATION, user_information),
        )
    )
    return encode_pdu(ASSOCIATE_RQ, content)


def _title(ae_title: str) -> bytes:
    return ae_title.encode("ascii", "replace").ljust(_TITLE_LENGTH)[:_TITLE_LENGTH]


def _encode_proposed(context: ProposedContext) -> bytes:
    return encode_item(
        PRESENTATION_CONTEXT_RQ,
        b"".join(
            (
                bytes((context.context_id, 0, 0, 0)),
                encode_item(ABSTRACT_SYNTAX, context.abstract_syntax.encode()),
                *(encode_item(TRANSFER_SYNTAX, uid.encode()) for uid in context.transfer_syntaxes),
            )
        ),
    )


def read_associate_accept(content: bytes, proposed: Sequence[ProposedContext]) -> AssociateAccept:
    """Return what an A-ASSOCIATE-AC says; items of unknown types are passed over.

    A context that is accepted with a Transfer Syntax that was not proposed for it is of no use: it
    counts as refused.

    Args:
        content: the PDU without its header of six bytes.
        proposed: what it answers.

    Raises:
        AssociateError: it is too short, or an item or sub-item runs over its end.

    Source: PS3.8 9.3.3.
    """
    if len(content) < FIXED_FIELDS.size:
        raise AssociateError("it ends within its fixed fields")
    answers: dict[int, tuple[int, str]] = {}
    maximum_length_bytes = USUAL_MAXIMUM_LENGTH
    for kind, item in read_items(content[FIXED_FIELDS.size :]):
        if kind == PRESENTATION_CONTEXT_AC:
            context_id, answer = _read_answer(item)
            answers[context_id] = answer
        elif kind == USER_INFORMATION:
            for sub_kind, sub_item in read_items(item):
                if sub_kind == MAXIMUM_LENGTH:
                    maximum_length_bytes = read_maximum_length(sub_item)
    contexts = tuple(_answered(context, answers.get(context.context_id)) for context in proposed)
    return AssociateAccept(contexts, maximum_length_bytes)


def _read_answer(item: bytes) -> tuple[int, tuple[int, str]]:
    """Return the identifier of a context, its result and its Transfer Syntax."""
    if len(item) < _CONTEXT_HEADER_BYTES:
        raise AssociateError("a presentation context has no result")
    context_id, _, result, _ = item[:_CONTEXT_HEADER_BYTES]
    sub_items = dict(read_items(item[_CONTEXT_HEADER_BYTES:]))
    return context_id, (result, read_uid(sub_items.get(TRANSFER_SYNTAX, b"")))


def _answered(context: ProposedContext, answer: tuple[int, str] | None) -> PresentationContext:
    result, transfer_syntax = answer or (_NO_REASON, "")
    if result == 0 and transfer_syntax not in context.transfer_syntaxes:
        result = _NO_REASON
    return PresentationContext(
        context_id=context.context_id,
        abstract_syntax=context.abstract_syntax,
        transfer_syntax=transfer_syntax,
        result=result,
    )


def read_associate_reject(content: bytes) -> str:
    """Return why an association is rejected, in words.

    Args:
        content: the A-ASSOCIATE-RJ without its header of six bytes.

    Source: PS3.8 9.3.4, table 9-21.
    """
    _, result, source, reason = content[:4].ljust(4, b"\0")
    words = _REJECTIONS.get((source, reason), "reason unknown")
    for_now = " for now" if result == _TRANSIENT else ""
    return f"association rejected{for_now}: {words} ({result}, {source}, {reason})"
