"""PDUs that are none, that come at the wrong time, or that lie about their lengths.

Each costs its own connection only. Where PS3.8 fixes what is answered, exactly that is asserted:
table 9-10 for the event, 9.3.8 for source and reason of the A-ABORT. Every timeout of the node is
long: what it can see at once, it answers at once.

Source: PS3.8 9.2, 9.3; rules H-1 to H-6.
"""

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, MRImageStorage

from tests.support.hostile import (
    ABORT,
    ABORT_BY_USER,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    CLOSED,
    COMMAND,
    END_SECONDS,
    INVALID_PARAMETER_VALUE,
    LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    UNEXPECTED_PDU,
    UNRECOGNISED_PDU,
    Ending,
    answer_of,
    application_context,
    associate_rq,
    associated,
    check_others_are_served,
    connected,
    echo_elements,
    encoded_command,
    ending_of,
    item,
    memory_stays_below,
    message,
    next_pdu,
    nothing_is_left,
    pdu,
    pdv,
    presentation_context,
    send,
    store_command,
    user_information,
)
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.node import Node, running_node, under_attack
from tests.support.wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    STUDY_ROOT_FIND,
    VERIFICATION,
    ProposedContext,
)

pytestmark = pytest.mark.system

_STORED = 0x0000
_LONGEST = 0xFFFFFFFF
_MEMORY_BYTES = 64 << 20
_EXPLICIT = (EXPLICIT_VR_LITTLE_ENDIAN,)
# One context for images, one for others, one that no archive accepts: ids 1, 3 and 5.
_PROPOSED = (
    ProposedContext(CTImageStorage, _EXPLICIT),
    ProposedContext(MRImageStorage, _EXPLICIT),
    ProposedContext("1.2.3.4"),
    ProposedContext(VERIFICATION),
)
_REFUSED_CONTEXT, _ECHO_CONTEXT = 5, 7
_ECHO = encoded_command(echo_elements())


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node of one worker, so that others are served by the process that is under attack."""
    with running_node(module_folder, **under_attack()) as running:
        yield running


def _image() -> Instance:
    return encoded(ct_data_set())


def _gigantic(expected_type: int) -> list[tuple[int, int]]:
    """Return each PDU type with 4 GB, and the one that is expected with other lengths, too."""
    others = [(expected_type, length) for length in (1 << 31, (1 << 31) - 1, 1 << 26)]
    return [*((pdu_type, _LONGEST) for pdu_type in range(1, 8)), *others]


# --- before an association


def _noise(seed: int) -> bytes:
    """Return random bytes, the same ones in each run."""
    return random.Random(seed).randbytes(4096)  # noqa: S311 - nothing secret


_UNRECOGNISED = [0x00, 0x08, 0x47, 0x80, 0xFF]
_OTHERS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(512),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HL7": b"\x0bMSH|^~\\&|A|B|C|D\r\x1c\r",
    "zeros": bytes(4096),
    **{f"noise {seed}": _noise(seed) for seed in range(4)},
}


@pytest.mark.parametrize("content", _OTHERS.values(), ids=_OTHERS)
def test_what_is_not_dicom_is_turned_away(node: Node, content: bytes) -> None:
    """Garbage ends by A-ABORT or close, at once, as its first byte says what it is not."""
    with nothing_is_left(node), connected(node.address) as connection:
        send(connection, content)
        check_others_are_served(node)
        assert ending_of(connection) in (Ending(ABORT_BY_USER), CLOSED)


@pytest.mark.parametrize(
    ("pdu_type", "body"),
    [
        (P_DATA, pdv(1, COMMAND | LAST, _ECHO)),
        (ASSOCIATE_AC, associate_rq()[6:]),
        (ASSOCIATE_RJ, bytes((0, 1, 1, 1))),
        (RELEASE_RQ, bytes(4)),
        (RELEASE_RP, bytes(4)),
        *((pdu_type, bytes(4)) for pdu_type in _UNRECOGNISED),
    ],
)
def test_an_association_begins_with_a_request(node: Node, pdu_type: int, body: bytes) -> None:
    """Anything but an A-ASSOCIATE-RQ is answered with A-ABORT, source user (PS3.8 Sta2, AA-1)."""
    with nothing_is_left(node), connected(node.address) as connection:
        send(connection, pdu(pdu_type, body))
        check_others_are_served(node)
        assert ending_of(connection) == Ending(ABORT_BY_USER)


def test_an_abort_before_an_association_closes(node: Node) -> None:
    """An A-ABORT is never answered (PS3.8 Sta2, AA-2)."""
    with connected(node.address) as connection:
        send(connection, pdu(ABORT, bytes(4)))
        assert ending_of(connection) == CLOSED


@pytest.mark.parametrize(("pdu_type", "length"), _gigantic(ASSOCIATE_RQ))
def test_a_gigantic_length_before_an_association_is_not_waited_for(
    node: Node, pdu_type: int, length: int
) -> None:
    """No memory is set aside for it, and the connection ends at once (H-6)."""
    with memory_stays_below(node, _MEMORY_BYTES), connected(node.address) as connection:
        send(connection, pdu(pdu_type, bytes(2000), length=length))
        check_others_are_served(node)
        assert ending_of(connection) in (Ending(ABORT_BY_USER), CLOSED)


_FIXED_PART = associate_rq()[6:74]
_LYING_REQUESTS = {
    "no body": b"",
    "one byte": b"\0",
    "ends before the calling title": _FIXED_PART[:20],
    "ends within the fixed part": _FIXED_PART[:-1],
    "ends within the head of an item": _FIXED_PART + b"\x10\0\0",
    "item longer than the PDU": _FIXED_PART + item(0x10, b"1.2", length=4),
    "item longer than any PDU": _FIXED_PART + item(0x10, b"1.2", length=0xFFFF),
    "user item longer than the PDU": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + item(0x50, bytes(4), length=5),
    "sub-item longer than the user item": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + item(0x50, item(0x51, bytes(4), length=400)),
    "Maximum Length of three bytes": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + item(0x50, item(0x51, bytes(3))),
    "transfer syntax longer than its context": _FIXED_PART
    + application_context()
    + item(0x20, bytes((1, 0, 0, 0)) + item(0x30, b"1.2") + item(0x40, b"1.2", length=50)),
    "context of one byte": _FIXED_PART + application_context() + item(0x20, b"\1"),
    "context without syntaxes": _FIXED_PART
    + application_context()
    + item(0x20, bytes((1, 0, 0, 0)))
    + user_information(),
    "context without transfer syntax": _FIXED_PART
    + application_context()
    + item(0x20, bytes((1, 0, 0, 0)) + item(0x30, VERIFICATION.encode()))
    + user_information(),
    "abstract syntax of no bytes": _FIXED_PART
    + application_context()
    + item(0x20, bytes((1, 0, 0, 0)) + item(0x30) + item(0x40))
    + user_information(),
    "abstract syntax that is no text": _FIXED_PART
    + application_context()
    + item(0x20, bytes((1, 0, 0, 0)) + item(0x30, b"\xff\xfe") + item(0x40, b"\xff\0"))
    + user_information(),
    "abstract syntax of 60,000 bytes": _FIXED_PART
    + application_context()
    + item(0x20, bytes((1, 0, 0, 0)) + item(0x30, b"1" * 60_000) + item(0x40, b"1.2"))
    + user_information(),
    "no items": _FIXED_PART,
    "no application context": _FIXED_PART + presentation_context(1) + user_information(),
    "two application contexts": _FIXED_PART
    + application_context() * 2
    + presentation_context(1)
    + user_information(),
    "no presentation contexts": _FIXED_PART + application_context() + user_information(),
    "no user information": _FIXED_PART + application_context() + presentation_context(1),
    "two user informations": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + user_information() * 2,
    "user information without sub-items": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + item(0x50),
    "context id 0": _FIXED_PART
    + application_context()
    + presentation_context(0)
    + user_information(),
    "context id 2": _FIXED_PART
    + application_context()
    + presentation_context(2)
    + user_information(),
    "context id twice": _FIXED_PART
    + application_context()
    + presentation_context(1) * 2
    + user_information(),
    "256 contexts": _FIXED_PART
    + application_context()
    + b"".join(presentation_context(number) for number in range(256))
    + user_information(),
    "SCP/SCU role selection cut off": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + user_information(item(0x54, b"\0\x20" + b"1.2")),
    "extended negotiation cut off": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + user_information(item(0x56, b"\xff\xff1.2")),
    "extended negotiation without a UID": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + user_information(item(0x56)),
    "options of a query: none, far too many, odd ones": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + presentation_context(3, STUDY_ROOT_FIND)
    + user_information(
        b"".join(
            item(0x56, struct.pack(">H", len(STUDY_ROOT_FIND)) + STUDY_ROOT_FIND.encode() + options)
            for options in (b"", b"\1" * 40_000, b"\2\xff\1")
        )
    ),
    "common extended negotiation cut off": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + user_information(item(0x57, b"\0\x111.2.840.10008.4.2")),
    "user identity cut off": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + user_information(item(0x58, b"\2\1\0\x40name")),
    "version name of no bytes": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + user_information(item(0x55)),
    "version name that is no text": _FIXED_PART
    + application_context()
    + presentation_context(1)
    + user_information(item(0x55, b"\xff\n\0" * 30)),
}


@pytest.mark.parametrize("body", _LYING_REQUESTS.values(), ids=_LYING_REQUESTS)
def test_an_association_request_that_lies_is_answered_or_ended(node: Node, body: bytes) -> None:
    """Accepted, rejected, aborted or closed, but never left hanging; if accepted, it works."""
    with nothing_is_left(node), connected(node.address) as connection:
        send(connection, pdu(ASSOCIATE_RQ, body))
        check_others_are_served(node)
        answer = next_pdu(connection, time.monotonic() + END_SECONDS)
        assert answer is None or answer[0] in (ASSOCIATE_AC, ASSOCIATE_RJ, ABORT)
        if answer is not None and answer[0] == ASSOCIATE_AC:
            send(connection, pdu(RELEASE_RQ, bytes(4)))
            assert ending_of(connection) in (Ending(None, (RELEASE_RP,)), CLOSED)


def test_a_request_whose_items_outlast_its_length_is_not_an_association(node: Node) -> None:
    """What stands behind the stated length is another PDU: an invalid one (PS3.8 9.3.1)."""
    request = associate_rq()
    with connected(node.address) as connection:
        send(connection, pdu(ASSOCIATE_RQ, request[6:], length=100))
        check_others_are_served(node)
        ending_of(connection)


@pytest.mark.parametrize(
    "make",
    [
        lambda: associate_rq(reserved=bytes(range(32))),
        lambda: associate_rq()[:1] + b"\xff" + associate_rq()[2:],
        lambda: associate_rq(
            application_context(),
            item(0x11, b"of another edition"),
            presentation_context(1),
            item(0x7F),
            user_information(item(0x60, b"unknown")),
        ),
        lambda: associate_rq(
            application_context(),
            *(presentation_context(number) for number in range(1, 256, 2)),
            user_information(),
        ),
        lambda: associate_rq(protocol_version=3),
        lambda: associate_rq(protocol_version=0xFFFF),
    ],
    ids=[
        "reserved fields are not zero",
        "reserved byte of the header is not zero",
        "unknown items and sub-items",
        "128 contexts",
        "versions 1 and 2",
        "all versions",
    ],
)
def test_a_request_that_is_only_unusual_is_accepted(node: Node, make: Callable[[], bytes]) -> None:
    """Reserved fields are not tested, unknown items skipped, bit 0 is version 1 (PS3.8 9.3.1)."""
    with connected(node.address) as connection:
        send(connection, make())
        answer = next_pdu(connection, time.monotonic() + END_SECONDS)
        assert answer is not None
        assert answer[0] == ASSOCIATE_AC
        send(connection, message(1, _ECHO))
        response = next_pdu(connection, time.monotonic() + END_SECONDS)
        assert response is not None
        assert response[0] == P_DATA


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_a_version_without_bit_0_is_rejected(node: Node, version: int) -> None:
    """(1, 2, 2), protocol version not supported (H-1)."""
    with connected(node.address) as connection:
        send(connection, associate_rq(protocol_version=version))
        answer = next_pdu(connection, time.monotonic() + END_SECONDS)
        assert answer == (ASSOCIATE_RJ, bytes((0, 1, 2, 2)))


# --- on an association


@pytest.mark.parametrize(
    ("pdu_type", "length"), [(0xFF, 0), (0xFF, 1000), *((number, 4) for number in _UNRECOGNISED)]
)
def test_an_unrecognised_pdu_aborts(node: Node, pdu_type: int, length: int) -> None:
    """A-ABORT of the provider, reason 1, unrecognised PDU (PS3.8 Sta6, AA-8; 9.3.8)."""
    with nothing_is_left(node), associated(node.address) as association:
        send(association.socket, pdu(pdu_type, bytes(length)))
        check_others_are_served(node)
        assert ending_of(association.socket) == Ending(UNRECOGNISED_PDU)


@pytest.mark.parametrize(
    "content",
    [
        associate_rq(),
        pdu(ASSOCIATE_AC, associate_rq()[6:]),
        pdu(ASSOCIATE_RJ, bytes((0, 1, 1, 1))),
        pdu(RELEASE_RP, bytes(4)),
    ],
    ids=["A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "A-RELEASE-RP"],
)
@pytest.mark.parametrize("is_in_a_message", [False, True], ids=["idle", "in a message"])
def test_an_unexpected_pdu_aborts(node: Node, content: bytes, *, is_in_a_message: bool) -> None:
    """A-ABORT of the provider, reason 2, unexpected PDU (PS3.8 Sta6, AA-8; 9.3.8)."""
    instance = _image()
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        if is_in_a_message:
            part = pdu(P_DATA, pdv(1, 0, instance.encoded_data_set[:100]))
            send(association.socket, message(1, store_command(instance)) + part)
        send(association.socket, content)
        check_others_are_served(node)
        assert ending_of(association.socket) == Ending(UNEXPECTED_PDU)


@pytest.mark.parametrize(("pdu_type", "length"), _gigantic(P_DATA))
def test_a_gigantic_length_aborts_at_once(node: Node, pdu_type: int, length: int) -> None:
    """No memory is set aside; A-ABORT of the provider, if the PDU is not one itself (H-6)."""
    with (
        memory_stays_below(node, _MEMORY_BYTES),
        nothing_is_left(node),
        associated(node.address) as association,
    ):
        send(association.socket, pdu(pdu_type, pdv(1, 0, bytes(2000)), length=length))
        check_others_are_served(node)
        ending = ending_of(association.socket)
        assert ending.is_provider_abort or (pdu_type == ABORT and ending == CLOSED)


def test_a_gigantic_length_in_the_middle_of_a_data_set_aborts(node: Node) -> None:
    """Nothing of what came before is kept (H-6)."""
    instance = _image()
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        part = pdv(1, 0, instance.encoded_data_set[:100])
        first = message(1, store_command(instance)) + pdu(P_DATA, part)
        send(association.socket, first + pdu(P_DATA, part, length=_LONGEST))
        check_others_are_served(node)
        assert ending_of(association.socket).is_provider_abort


_LYING_PDVS = {
    "length 0": pdu(P_DATA, pdv(1, COMMAND, length=0)),
    "length 1": pdu(P_DATA, pdv(1, COMMAND, length=1)),
    "length 0 and nothing else": pdu(P_DATA, bytes(4)),
    "one byte longer than the PDU": pdu(P_DATA, pdv(1, COMMAND, _ECHO, length=len(_ECHO) + 3)),
    "4 GB": pdu(P_DATA, pdv(1, COMMAND, _ECHO, length=_LONGEST)),
    "2 GB": pdu(P_DATA, pdv(1, COMMAND, _ECHO, length=1 << 31)),
    "no room for a length": pdu(P_DATA, b"\0\0\0"),
    "no room for the length of the second": pdu(P_DATA, pdv(1, COMMAND, _ECHO[:10]) + b"\0"),
    "second longer than the PDU": pdu(
        P_DATA, pdv(1, COMMAND, _ECHO[:10]) + pdv(1, COMMAND, _ECHO[10:], length=1000)
    ),
    "shorter than the PDU": pdu(P_DATA, pdv(1, COMMAND, _ECHO, length=len(_ECHO))),
}


@pytest.mark.parametrize("content", _LYING_PDVS.values(), ids=_LYING_PDVS)
def test_a_presentation_data_value_whose_length_lies_aborts(node: Node, content: bytes) -> None:
    """A-ABORT of the provider, reason 6, invalid PDU parameter value (PS3.8 AA-8, 9.3.8)."""
    with nothing_is_left(node), associated(node.address) as association:
        send(association.socket, content)
        check_others_are_served(node)
        assert ending_of(association.socket) == Ending(INVALID_PARAMETER_VALUE)


@pytest.mark.parametrize("lie", [0, 1, 1 << 20, _LONGEST])
def test_a_presentation_data_value_that_lies_within_a_data_set_aborts(node: Node, lie: int) -> None:
    """The same in the middle of a data set; nothing of it is kept (PS3.8 AA-8, 9.3.8)."""
    instance = _image()
    data_set = instance.encoded_data_set
    lying = pdu(P_DATA, pdv(1, 0, data_set[:99]) + pdv(1, LAST, data_set[99:], length=lie))
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, message(1, store_command(instance)) + lying)
        check_others_are_served(node)
        assert ending_of(association.socket) == Ending(INVALID_PARAMETER_VALUE)


def test_a_pdu_without_presentation_data_values_is_survived(node: Node) -> None:
    """A P-DATA-TF of length 0 is passed over or aborts; the association does not hang."""
    with nothing_is_left(node), associated(node.address) as association:
        send(association.socket, pdu(P_DATA) + message(1, _ECHO))
        check_others_are_served(node)
        assert answer_of(association) in (_STORED, None)


_COMMAND = store_command(_image())
_DATA_SET = _image().encoded_data_set


def _split_command(first: int, second: int) -> bytes:
    """Return a C-STORE whose command set comes in two contexts."""
    return (
        pdu(P_DATA, pdv(first, COMMAND, _COMMAND[:50]))
        + pdu(P_DATA, pdv(second, COMMAND | LAST, _COMMAND[50:]))
        + pdu(P_DATA, pdv(second, LAST, _DATA_SET))
    )


def _split_data_set(first: int, second: int) -> bytes:
    """Return a C-STORE whose data set comes in two contexts."""
    return (
        message(first, _COMMAND)
        + pdu(P_DATA, pdv(first, 0, _DATA_SET[:99]))
        + pdu(P_DATA, pdv(second, LAST, _DATA_SET[99:]))
    )


def _split_between(first: int, second: int) -> bytes:
    """Return a C-STORE whose command set and data set come in two contexts."""
    return message(first, _COMMAND) + pdu(P_DATA, pdv(second, LAST, _DATA_SET))


@pytest.mark.parametrize("split", [_split_command, _split_data_set, _split_between])
@pytest.mark.parametrize("second", [3, _REFUSED_CONTEXT, 9, 0])
def test_a_message_whose_context_changes_aborts(
    node: Node, split: Callable[[int, int], bytes], second: int
) -> None:
    """All fragments of a message belong to one context (PS3.8 E.1, H-18); nothing is kept."""
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, split(1, second))
        check_others_are_served(node)
        assert ending_of(association.socket).abort is not None


@pytest.mark.parametrize("context_id", [_REFUSED_CONTEXT, 9, 0, 255])
@pytest.mark.parametrize("is_store", [True, False], ids=["C-STORE", "C-ECHO"])
def test_a_message_in_a_context_that_was_not_accepted_aborts(
    node: Node, context_id: int, *, is_store: bool
) -> None:
    """Refused, never proposed, or an id that no context can have (H-18)."""
    content = message(context_id, _COMMAND, _DATA_SET) if is_store else message(context_id, _ECHO)
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, content)
        check_others_are_served(node)
        assert ending_of(association.socket).abort is not None


_HALF_COMMAND = pdv(1, COMMAND, _COMMAND[:50])
_WHOLE_COMMAND = pdv(1, COMMAND | LAST, _COMMAND)
_OUT_OF_TURN = {
    "data set before any command": pdv(1, LAST, _DATA_SET),
    "data set fragment before any command": pdv(1, 0, _DATA_SET),
    "data set within the command set": _HALF_COMMAND + pdv(1, LAST, _DATA_SET),
    "data set fragment within the command set": _HALF_COMMAND
    + pdv(1, 0, _DATA_SET[:10])
    + pdv(1, COMMAND | LAST, _COMMAND[50:])
    + pdv(1, LAST, _DATA_SET[10:]),
    "command set instead of the data set": _WHOLE_COMMAND + _WHOLE_COMMAND,
    "another request instead of the data set": _WHOLE_COMMAND
    + pdv(_ECHO_CONTEXT, COMMAND | LAST, _ECHO),
    "command set within the data set": _WHOLE_COMMAND
    + pdv(1, 0, _DATA_SET[:10])
    + _WHOLE_COMMAND
    + pdv(1, LAST, _DATA_SET[10:]),
    "command fragment within the data set": _WHOLE_COMMAND
    + pdv(1, 0, _DATA_SET[:10])
    + _HALF_COMMAND
    + pdv(1, LAST, _DATA_SET[10:]),
}


@pytest.mark.parametrize("fragments", _OUT_OF_TURN.values(), ids=_OUT_OF_TURN)
@pytest.mark.parametrize("in_one_pdu", [True, False], ids=["one PDU", "a PDU each"])
def test_fragments_out_of_turn_abort(node: Node, fragments: bytes, *, in_one_pdu: bool) -> None:
    """A message is its command set, then its data set (PS3.8 E.2); nothing is kept."""
    content = pdu(P_DATA, fragments) if in_one_pdu else b"".join(_a_pdu_each(fragments))
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, content)
        check_others_are_served(node)
        assert ending_of(association.socket).abort is not None


def _a_pdu_each(fragments: bytes) -> Iterator[bytes]:
    """Yield a P-DATA-TF for each Presentation Data Value."""
    start = 0
    while start < len(fragments):
        end = start + 4 + struct.unpack_from(">I", fragments, start)[0]
        yield pdu(P_DATA, fragments[start:end])
        start = end


@pytest.mark.parametrize("sent", [0, 50, len(_DATA_SET) - 1])
def test_a_release_in_the_middle_of_a_data_set_ends_the_association(node: Node, sent: int) -> None:
    """Released or aborted, as the node likes; the half object is gone (PS3.8 Sta6, AR-2)."""
    instance = _image()
    part = pdu(P_DATA, pdv(1, 0, instance.encoded_data_set[:sent])) if sent else b""
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        content = message(1, store_command(instance)) + part + pdu(RELEASE_RQ, bytes(4))
        send(association.socket, content)
        check_others_are_served(node)
        answer = next_pdu(association.socket, time.monotonic() + END_SECONDS)
        assert answer is not None
        assert answer[0] in (RELEASE_RP, ABORT)


@pytest.mark.parametrize("body", [b"", bytes(3), bytes(5), bytes(1000)], ids=len)
@pytest.mark.parametrize("pdu_type", [RELEASE_RQ, ABORT])
def test_a_release_or_abort_of_another_length_ends_the_association(
    node: Node, pdu_type: int, body: bytes
) -> None:
    """Taken for what it is or for an invalid PDU: in either case it is over at once."""
    with nothing_is_left(node), associated(node.address) as association:
        send(association.socket, pdu(pdu_type, body))
        check_others_are_served(node)
        _expect_end(association.socket)


@pytest.mark.parametrize("seed", range(3))
def test_noise_on_an_association_ends_it(node: Node, seed: int) -> None:
    """Random bytes behind a good request: the request is answered, the rest aborts."""
    with nothing_is_left(node), associated(node.address) as association:
        assert association.c_echo() == _STORED
        send(association.socket, b"\xee" + _noise(seed))
        check_others_are_served(node)
        assert ending_of(association.socket) == Ending(UNRECOGNISED_PDU)


@pytest.mark.parametrize("seed", range(12))
def test_damaged_conversations_end_or_go_on(node: Node, seed: int) -> None:
    """A C-STORE with some bytes changed is refused, stored or aborted, but does not hang."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    instance = _image()
    content = bytearray(message(1, store_command(instance), instance.encoded_data_set))
    for _ in range(1 + seed % 4):
        content[chance.randrange(180)] = chance.randrange(256)
    with associated(node.address, _PROPOSED) as association:
        send(association.socket, bytes(content))
        check_others_are_served(node)
        with suppress(OSError):  # the node was faster
            association.socket.shutdown(socket.SHUT_WR)
        ending_of(association.socket)


def _expect_end(connection: socket.socket) -> None:
    """Wait until the association is released, aborted or closed."""
    answer = next_pdu(connection, time.monotonic() + END_SECONDS)
    assert answer is None or answer[0] in (RELEASE_RP, ABORT)
