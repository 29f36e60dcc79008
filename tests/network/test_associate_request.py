"""An association request of ours as it goes out, and what its answer says."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacsnode.network.associate import ProposedContext, read_associate_request
from pacsnode.network.associate_items import AssociateError
from pacsnode.network.associate_request import (
    encode_associate_request,
    read_associate_accept,
    read_associate_reject,
)
from tests.support import hostile
from tests.support.peer import answered_context, associate_accept
from tests.support.wire import items_of

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
PROPOSED = (ProposedContext(1, CT, (EXPLICIT,)), ProposedContext(3, CT, (IMPLICIT,)))


def test_a_request_says_what_it_is_told() -> None:
    """Read by the acceptor's reader, it has titles, contexts, maximum length (H-2, H-6)."""
    encoded = encode_associate_request("DEST", "PACSNODE", PROPOSED, 70_000)
    assert encoded[:2] == b"\x01\0"
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    request = read_associate_request(encoded[6:])
    assert (request.called_ae_title, request.calling_ae_title) == ("DEST", "PACSNODE")
    assert encoded[10:42] == b"DEST            PACSNODE        "
    assert request.contexts == PROPOSED
    assert (request.protocol_version, request.maximum_length_bytes) == (1, 70_000)
    assert request.application_context_name == "1.2.840.10008.3.1.1.1"


def test_a_request_names_this_implementation() -> None:
    """The Implementation Class UID is ours, and the version name has 1 to 16 characters (H-14)."""
    items = dict(items_of(encode_associate_request("A", "B", PROPOSED, 0)[74:]))
    user = dict(items_of(items[0x50]))
    assert user[0x52] == IMPLEMENTATION_CLASS_UID.encode()
    assert user[0x55] == IMPLEMENTATION_VERSION_NAME.encode()
    assert 1 <= len(user[0x55]) <= 16


def test_all_contexts_that_there_can_be_are_proposed() -> None:
    """An association has at most 128 contexts, with the odd identifiers to 255 (E-30)."""
    contexts = [ProposedContext(2 * n + 1, f"{CT}.{n}", (IMPLICIT,)) for n in range(128)]
    encoded = encode_associate_request("A", "B", contexts, 0)
    assert read_associate_request(encoded[6:]).contexts == tuple(contexts)


def _accept(*items: bytes) -> bytes:
    return associate_accept(bytes(68), *items)[6:]


def test_each_context_is_answered_in_the_order_of_the_proposal() -> None:
    """In whatever order the answers stand (H-4)."""
    content = _accept(
        hostile.application_context(),
        answered_context(3, 4, IMPLICIT.encode()),
        answered_context(1, 0, EXPLICIT.encode()),
        hostile.item(0x50, hostile.item(0x51, struct.pack(">L", 4096))),
    )
    accept = read_associate_accept(content, PROPOSED)
    assert [(cx.context_id, cx.abstract_syntax, cx.result) for cx in accept.contexts] == [
        (1, CT, 0),
        (3, CT, 4),
    ]
    assert accept.contexts[0].transfer_syntax == EXPLICIT
    assert accept.maximum_length_bytes == 4096


@pytest.mark.parametrize(
    "items",
    [
        (),
        (answered_context(1, 0, IMPLICIT.encode()),),
        (answered_context(1, 0, b""),),
        (hostile.item(0x21, bytes((1, 0, 0, 0))),),
        (answered_context(5, 0, EXPLICIT.encode()),),
        (answered_context(1, 1, EXPLICIT.encode()),),
    ],
    ids=["no answer", "not proposed", "no UID", "no transfer syntax", "other context", "refused"],
)
def test_what_cannot_be_used_counts_as_refused(items: tuple[bytes, ...]) -> None:
    """A context is accepted only with a Transfer Syntax that was proposed for it (H-4)."""
    assert not any(
        cx.is_accepted for cx in read_associate_accept(_accept(*items), PROPOSED).contexts
    )


@pytest.mark.parametrize("padding", [b"\0", b" "])
def test_a_padded_uid_is_the_uid(padding: bytes) -> None:
    """Peers that pad UIDs to an even length are understood."""
    content = _accept(answered_context(1, 0, EXPLICIT.encode() + padding))
    assert read_associate_accept(content, PROPOSED).contexts[0].is_accepted


def test_without_a_maximum_length_the_usual_one_holds() -> None:
    """Whoever leaves out the mandatory sub-item takes what everybody takes (H-6)."""
    assert read_associate_accept(_accept(), PROPOSED).maximum_length_bytes == 16_384


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(67), "fixed fields"),
        (_accept(b"\x21\0"), "item's header"),
        (_accept(b"\x21\0\0\x09\x01"), "runs over the end"),
        (_accept(hostile.item(0x21, b"\x01\0")), "no result"),
        (_accept(hostile.item(0x50, hostile.item(0x51, b"\0\0"))), "four bytes"),
    ],
)
def test_a_damaged_answer_is_told(content: bytes, words: str) -> None:
    """What breaks the rules of encoding is not guessed at."""
    with pytest.raises(AssociateError, match=words):
        read_associate_accept(content, PROPOSED)


@given(st.sampled_from([0, 68]), st.binary(max_size=300))
@example(68, b"")
def test_any_bytes_are_read_or_refused(fixed_fields_length: int, items: bytes) -> None:
    """A hostile answer raises AssociateError, or has an answer to each context."""
    try:
        accept = read_associate_accept(bytes(fixed_fields_length) + items, PROPOSED)
    except AssociateError:
        return
    assert [cx.context_id for cx in accept.contexts] == [1, 3]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((1, 1, 1), "association rejected: no reason given (1, 1, 1)"),
        ((1, 1, 3), "association rejected: calling AE title not recognized (1, 1, 3)"),
        ((1, 1, 7), "association rejected: called AE title not recognized (1, 1, 7)"),
        ((1, 2, 2), "association rejected: protocol version not supported (1, 2, 2)"),
        ((2, 3, 1), "association rejected for now: temporary congestion (2, 3, 1)"),
        ((2, 3, 2), "association rejected for now: local limit exceeded (2, 3, 2)"),
        ((1, 9, 9), "association rejected: reason unknown (1, 9, 9)"),
    ],
)
def test_a_rejection_is_told_in_words(fields: tuple[int, int, int], reason: str) -> None:
    """In those of the Standard, and whether it is worth while to try again (H-1)."""
    assert read_associate_reject(bytes((0, *fields))) == reason


@given(st.binary(max_size=8))
def test_any_rejection_is_told_on_one_line(content: bytes) -> None:
    """However short the PDU is."""
    assert read_associate_reject(content).isprintable()
