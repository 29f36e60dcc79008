"""Command Sets that lie, lack what they need, or never end: each costs its own association only.

What can be read all the same may be served; what cannot is refused or aborted. Either way the
association goes on or ends, and never waits for what will not come.

Source: PS3.7 6.3, 9.1, 9.3; rule H-18.
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage

from tests.support.hostile import (
    COMMAND,
    LAST,
    P_DATA,
    answer_of,
    associated,
    check_others_are_served,
    command_set,
    echo_elements,
    element,
    encoded_command,
    ending_of,
    memory_stays_below,
    message,
    nothing_is_left,
    pdu,
    pdv,
    send,
    send_endlessly,
    store_command,
    store_elements,
    stored_data_sets,
    us,
)
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.node import Node, running_node, under_attack
from tests.support.wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Association,
    AssociationAbortedError,
    ProposedContext,
)

pytestmark = pytest.mark.system

_ENDLESS_SECONDS = 10
_STORED = 0x0000
_UNDEFINED = 0xFFFFFFFF
_MEMORY_BYTES = 64 << 20
_PROPOSED = (
    ProposedContext(CTImageStorage, (EXPLICIT_VR_LITTLE_ENDIAN,)),
    ProposedContext(VERIFICATION),
    ProposedContext(STUDY_ROOT_FIND),
)
_IMAGES, _ECHO, _QUERY = 1, 3, 5
_UID, _FIELD, _MESSAGE_ID, _PRIORITY, _DATA_SET_TYPE, _INSTANCE_UID = (
    0x0002,
    0x0100,
    0x0110,
    0x0700,
    0x0800,
    0x1000,
)
_RESPONDED_TO = 0x0120
_NO_DATA_SET = us(0x0101)

Values = dict[int, bytes]


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node of one worker, so that others are served by the process that is under attack."""
    with running_node(module_folder, **under_attack()) as running:
        yield running


def _image() -> Instance:
    return encoded(ct_data_set())


def _elements(values: Mapping[int, bytes]) -> list[bytes]:
    return [element(number, value) for number, value in sorted(values.items())]


def _without(number: int) -> Callable[[Values], bytes]:
    return lambda values: encoded_command({key: values[key] for key in values if key != number})


def _with(number: int, value: bytes) -> Callable[[Values], bytes]:
    return lambda values: encoded_command({**values, number: value})


def _with_length(number: int, length: int) -> Callable[[Values], bytes]:
    """Return a maker of Command Sets in which one element states another length than it has."""

    def make(values: Values) -> bytes:
        return command_set(
            *(
                element(key, value, length=length if key == number else None)
                for key, value in sorted(values.items())
            )
        )

    return make


def _with_group_length(length: int) -> Callable[[Values], bytes]:
    return lambda values: command_set(*_elements(values), group_length=length)


def _in_explicit_vr(values: Values) -> bytes:
    vrs = {_UID: b"UI", _INSTANCE_UID: b"UI"}
    return b"".join(
        struct.pack("<HH2sH", 0, key, vrs.get(key, b"US"), len(value)) + value
        for key, value in sorted(values.items())
    )


def _in_big_endian(values: Values) -> bytes:
    return b"".join(
        struct.pack(">HHI", 0, key, len(value)) + (value if len(value) > 2 else value[::-1])
        for key, value in sorted(values.items())
    )


# Makers of a C-STORE-RQ from the values of a good one.
_UNREADABLE: dict[str, Callable[[Values], bytes]] = {
    "empty": lambda _: b"",
    "one byte": lambda _: b"\0",
    "only a group length": lambda _: command_set(),
    "no Command Field": _without(_FIELD),
    "no Message ID": _without(_MESSAGE_ID),
    "no Affected SOP Class UID": _without(_UID),
    "no Affected SOP Instance UID": _without(_INSTANCE_UID),
    "no Command Data Set Type": _without(_DATA_SET_TYPE),
    "Command Field of no bytes": _with(_FIELD, b""),
    "Command Field of one byte": _with(_FIELD, b"\1"),
    "Command Field 0000": _with(_FIELD, us(0)),
    "Command Field 1234": _with(_FIELD, us(0x1234)),
    "Command Field FFFF": _with(_FIELD, us(0xFFFF)),
    "a C-STORE response": _with(_FIELD, us(0x8001)),
    "a C-FIND": _with(_FIELD, us(0x0020)),
    "an N-ACTION": _with(_FIELD, us(0x0130)),
    "Message ID of no bytes": _with(_MESSAGE_ID, b""),
    "Message ID of one byte": _with(_MESSAGE_ID, b"\1"),
    "Command Data Set Type of one byte": _with(_DATA_SET_TYPE, b"\1"),
    "Affected SOP Class UID of no bytes": _with(_UID, b""),
    "Affected SOP Class UID is no text": _with(_UID, b"\xff\xfe\xfd\xfc"),
    "Affected SOP Class UID of 100,000 bytes": _with(_UID, b"1" * 100_000),
    "Affected SOP Instance UID of no bytes": _with(_INSTANCE_UID, b""),
    "Affected SOP Instance UID is no text": _with(_INSTANCE_UID, b"\xff\xfe\xfd\xfc"),
    "Affected SOP Instance UID leads elsewhere": _with(_INSTANCE_UID, b"../../etc/passwd"),
    "Affected SOP Instance UID of 100,000 bytes": _with(_INSTANCE_UID, b"1" * 100_000),
    "Affected SOP Instance UID with a NUL within": _with(_INSTANCE_UID, b"1.2\x003.4\0"),
    "last element longer than the command": _with_length(_INSTANCE_UID, 5000),
    "last element of 4 GB": _with_length(_INSTANCE_UID, _UNDEFINED),
    "last element of 2 GB": _with_length(_INSTANCE_UID, 1 << 31),
    "last element of -2 bytes": _with_length(_INSTANCE_UID, 0xFFFFFFFE),
    "first element of 4 GB": _with_length(_UID, _UNDEFINED),
    "first element longer than the command": _with_length(_UID, 5000),
    "first element of an odd length": _with_length(_UID, 27),
    "first element of no bytes, with some": _with_length(_UID, 0),
    "Command Field of 4 bytes, with 2": _with_length(_FIELD, 4),
    "Message ID of 4 GB": _with_length(_MESSAGE_ID, _UNDEFINED),
    "Message ID of no bytes, with 2": _with_length(_MESSAGE_ID, 0),
    "ends within the head of an element": lambda values: (
        encoded_command({key: value for key, value in values.items() if key != _INSTANCE_UID})
        + b"\0\0\0\x10\x20"
    ),
    "in Big Endian": _in_big_endian,
    "encoded twice": lambda values: element(0, encoded_command(values)),
}
_ODD_BUT_READABLE: dict[str, Callable[[Values], bytes]] = {
    "no group length": lambda values: b"".join(_elements(values)),
    "group length 0": _with_group_length(0),
    "group length too small": _with_group_length(10),
    "group length too large": _with_group_length(10_000),
    "group length of 4 GB": _with_group_length(_UNDEFINED),
    "group length twice": lambda values: command_set(command_set(), *_elements(values)),
    "group length of 2 bytes": lambda values: element(0, us(0)) + b"".join(_elements(values)),
    "in Explicit VR": _in_explicit_vr,
    "Command Data Set Type of no bytes": _with(_DATA_SET_TYPE, b""),
    "no Priority": _without(_PRIORITY),
    "Priority 7777": _with(_PRIORITY, us(0x7777)),
    "Priority of no bytes": _with(_PRIORITY, b""),
    "Command Data Set Type 0000": _with(_DATA_SET_TYPE, us(0)),
    "Command Data Set Type FEFE": _with(_DATA_SET_TYPE, us(0xFEFE)),
    "Message ID 0": _with(_MESSAGE_ID, us(0)),
    "Message ID 65535": _with(_MESSAGE_ID, us(0xFFFF)),
    "Message ID of four bytes": _with(_MESSAGE_ID, b"\1\0\0\0"),
    "elements in reverse": lambda values: command_set(*reversed(_elements(values))),
    "an element twice": lambda values: command_set(*_elements(values)[:1], *_elements(values)),
    "an element of another group": lambda values: command_set(
        *_elements(values), element(0x0018, b"1.2.3\0", group=0x0008)
    ),
    "unknown elements": _with(0x4321, b"unknown!"),
    "Move Originator of no bytes": _with(0x1030, b""),
    "Move Originator is no text": _with(0x1030, b"\xff\xfe"),
    "Move Originator Message ID of one byte": _with(0x1031, b"\1"),
    "an Error Comment of 200,000 bytes": _with(0x0902, b"x" * 200_000),
}


def _goes_on_or_has_ended(association: Association) -> None:
    """Assert that a C-ECHO on the association is answered, or that the association has ended."""
    send(association.socket, message(_ECHO, encoded_command(echo_elements(message_id=77))))
    assert answer_of(association) in (_STORED, None)


@pytest.mark.parametrize("name", _UNREADABLE)
def test_a_command_that_cannot_be_served_is_refused_or_aborts(node: Node, name: str) -> None:
    """Never Success, nothing stored, nothing left hanging (PS3.7 6.3, 9.3.1.1; H-18)."""
    instance = _image()
    command = _UNREADABLE[name](store_elements(instance))
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, message(_IMAGES, command, instance.encoded_data_set))
        check_others_are_served(node)
        # Behind it a good request, so that what is passed over without a word is seen, too.
        _goes_on_or_has_ended_after_a_refusal(association)


def _goes_on_or_has_ended_after_a_refusal(association: Association) -> None:
    """Assert that the next answer is a refusal, the end, or that of a later C-ECHO."""
    send(association.socket, message(_ECHO, encoded_command(echo_elements(message_id=77))))
    try:
        response = association.receive()
    except AssociationAbortedError:
        return
    if response.command.get(_RESPONDED_TO) != us(77):
        assert response.status != _STORED, "no Status, or Success"
        assert answer_of(association) in (_STORED, None)


@pytest.mark.parametrize("name", _ODD_BUT_READABLE)
def test_an_odd_command_is_served_whole_or_not_at_all(node: Node, name: str) -> None:
    """Stored byte for byte and answered with Success, or refused or aborted without a trace."""
    instance = _image()
    command = _ODD_BUT_READABLE[name](store_elements(instance))
    with associated(node.address, _PROPOSED) as association:
        content = b"".join(
            pdu(P_DATA, pdv(_IMAGES, COMMAND | (LAST * is_last), part))
            for part, is_last in _parts(command)
        )
        data_set = pdu(P_DATA, pdv(_IMAGES, LAST, instance.encoded_data_set))
        send(association.socket, content + data_set)
        check_others_are_served(node)
        status = answer_of(association)
        _goes_on_or_has_ended(association)
    expected = [instance.encoded_data_set] if status == _STORED else []
    assert stored_data_sets(node, instance) == expected


def _parts(content: bytes, size: int = 65_536) -> Iterator[tuple[bytes, bool]]:
    """Yield the content in pieces, and whether each is the last."""
    for start in range(0, max(len(content), 1), size):
        yield content[start : start + size], start + size >= len(content)


@pytest.mark.parametrize("name", ["no Command Field", "no Message ID", "last element of 4 GB"])
def test_a_query_command_that_lies_is_refused_or_aborts(node: Node, name: str) -> None:
    """The same off the hot path: a C-FIND with these faults is not answered with matches."""
    values = {**store_elements(_image()), _UID: STUDY_ROOT_FIND.encode(), _FIELD: us(0x0020)}
    command = _UNREADABLE[name](values)
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, message(_QUERY, command, b"\x08\0\x52\0\x06\0\0\0STUDY "))
        check_others_are_served(node)
        _goes_on_or_has_ended_after_a_refusal(association)


def test_an_announced_data_set_that_is_not_sent_keeps_nothing(node: Node) -> None:
    """Another request in its place: the association is aborted (PS3.8 E.2, H-18)."""
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, message(_IMAGES, store_command(_image())))
        send(association.socket, message(_ECHO, encoded_command(echo_elements())))
        check_others_are_served(node)
        assert ending_of(association.socket).abort is not None


def test_a_data_set_that_was_not_announced_aborts(node: Node) -> None:
    """A C-STORE without one is refused; what then comes belongs to nothing (H-18)."""
    instance = _image()
    values = {**store_elements(instance), _DATA_SET_TYPE: _NO_DATA_SET}
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        content = message(_IMAGES, encoded_command(values), instance.encoded_data_set)
        send(association.socket, content)
        check_others_are_served(node)
        assert ending_of(association.socket).abort is not None


def test_a_store_without_a_data_set_is_refused(node: Node) -> None:
    """0101 in Command Data Set Type: a failure, and the association goes on (F-3)."""
    values = {**store_elements(_image()), _DATA_SET_TYPE: _NO_DATA_SET}
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, message(_IMAGES, encoded_command(values)))
        check_others_are_served(node)
        assert answer_of(association) not in (_STORED, None)
        assert association.c_echo() == _STORED


def test_an_echo_with_a_data_set_is_survived(node: Node) -> None:
    """C-ECHO has none (PS3.7 9.3.5.1): it is answered all the same, refused or aborted."""
    values = {**echo_elements(), _DATA_SET_TYPE: us(1)}
    with nothing_is_left(node), associated(node.address, _PROPOSED) as association:
        send(association.socket, message(_ECHO, encoded_command(values), bytes(100_000)))
        check_others_are_served(node)
        answer_of(association)
        _goes_on_or_has_ended(association)


@pytest.mark.parametrize("length", [1_000, 65_536], ids=["small fragments", "large fragments"])
def test_a_command_set_of_ten_megabytes_aborts(node: Node, length: int) -> None:
    """No Command Set is that long: it is not collected in memory until it ends (PS3.7 6.3.1)."""
    values = {**store_elements(_image()), 0x0902: bytes(10 << 20)}
    parts = _parts(encoded_command(values), length)
    content = b"".join(
        pdu(P_DATA, pdv(_IMAGES, COMMAND | (LAST * is_last), part)) for part, is_last in parts
    )
    with (
        memory_stays_below(node, 8 << 20),
        nothing_is_left(node),
        associated(node.address, _PROPOSED) as association,
    ):
        send(association.socket, content)
        check_others_are_served(node)
        ending = ending_of(association.socket)
        assert P_DATA not in ending.pdu_types


@pytest.mark.parametrize("fragment", [b"\0", bytes(1000)], ids=["one byte", "1 kB"])
def test_a_command_set_that_never_ends_is_cut_off(node: Node, fragment: bytes) -> None:
    """Fragment after fragment and never the last one: aborted at some point (PS3.7 6.3.1)."""
    piece = pdu(P_DATA, pdv(_IMAGES, COMMAND, fragment) * 1000)
    with (
        memory_stays_below(node, _MEMORY_BYTES),
        nothing_is_left(node),
        associated(node.address, _PROPOSED) as association,
    ):
        send_endlessly(association.socket, piece, _ENDLESS_SECONDS)
        check_others_are_served(node)


def test_a_message_never_shows_in_the_log(node: Node) -> None:
    """What a peer puts into a command is not quoted: it may be a name."""
    name = b"Example^Emma"
    for number in (_UID, _INSTANCE_UID, 0x1030):
        with associated(node.address, _PROPOSED) as association:
            values = {**store_elements(_image()), number: name}
            send(association.socket, message(_IMAGES, encoded_command(values), b"\0\0"))
            answer_of(association)
    assert re.search("Emma", node.log) is None
