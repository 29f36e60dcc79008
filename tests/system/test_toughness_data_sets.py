"""Data Sets in unusual pieces, too long ones, and ones that never end.

Source: PS3.8 9.3.5, Annex E; PS3.4 B.2.3; rules F-3, H-6.
"""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.support.disk import disk
from tests.support.hostile import (
    COMMAND,
    LAST,
    P_DATA,
    answer_of,
    associated,
    check_others_are_served,
    echo_elements,
    encoded_command,
    memory_stays_below,
    message,
    nothing_is_left,
    pdu,
    pdv,
    reset,
    send,
    send_endlessly,
    storage_context_of,
    store_command,
    stored_data_sets,
)
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.node import Node, running_node, under_attack
from tests.support.waiting import wait_until
from tests.support.wire import VERIFICATION, Association, ProposedContext

pytestmark = pytest.mark.system

_ENDLESS_SECONDS = 20
_LIMIT_BYTES = 1 << 18
_DISK_BYTES = 8 << 20
_MEMORY_BYTES = 64 << 20
_FRAGMENT_BYTES = 65_536
_STORED, _OUT_OF_RESOURCES = 0x0000, 0xA700
_TRAILING_PADDING = b"\xfc\xff\xfc\xffOB\0\0"  # (FFFC,FFFC), then four bytes of length
_ECHO = encoded_command(echo_elements())


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node without a limit that matters here."""
    with running_node(module_folder / "node", **under_attack()) as running:
        yield running


@pytest.fixture(scope="module")
def limited(module_folder: Path) -> Iterator[Node]:
    """A node that takes no data set of more than a quarter of a mebibyte."""
    storage = {"maximum_instance_bytes": _LIMIT_BYTES}
    settings = under_attack(dimse_timeout_seconds=2)
    with running_node(module_folder / "limited", storage=storage, **settings) as running:
        yield running


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Iterator[Node]:
    """A node that keeps what it receives on a disk much smaller than its limit."""
    with disk(tmp_path / "small", _DISK_BYTES) as made:
        folder = str(made.mount_point / "storage")
        storage = {"folder": folder, "maximum_instance_bytes": 8 * _DISK_BYTES}
        settings = under_attack(dimse_timeout_seconds=2)
        with running_node(tmp_path / "node", storage=storage, **settings) as running:
            yield running


def _image(**attributes: int) -> Instance:
    return encoded(ct_data_set(**attributes))


def _of_length(length_bytes: int) -> Instance:
    """Return an instance whose encoded data set has exactly this length."""
    instance = _image()
    head = instance.encoded_data_set + _TRAILING_PADDING
    padding_bytes = length_bytes - len(head) - 4
    content = head + padding_bytes.to_bytes(4, "little") + bytes(padding_bytes)
    assert len(content) == length_bytes
    return Instance(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax_uid,
        content,
        instance.study_instance_uid,
    )


def _store(node: Node, instance: Instance, content: bytes) -> int | None:
    """Send these bytes on an association for this instance; return the status of the answer."""
    with associated(node.address, [storage_context_of(instance)]) as association:
        send(association.socket, content)
        check_others_are_served(node)
        return answer_of(association)


def _fragments(content: bytes, size: int, control: int) -> list[bytes]:
    """Return the Presentation Data Values of this content, in context 1."""
    starts = range(0, len(content), size)
    return [
        pdv(1, control | LAST * (start + size >= len(content)), content[start : start + size])
        for start in starts
    ]


def _all_fragments(instance: Instance, size: int) -> list[bytes]:
    """Return the Presentation Data Values of a whole C-STORE."""
    command, data_set = store_command(instance), instance.encoded_data_set
    return _fragments(command, size, COMMAND) + _fragments(data_set, size, 0)


# --- unusual pieces


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_tiny_presentation_data_values_make_a_whole(node: Node, size: int) -> None:
    """A PDU for each: stored byte for byte (H-6)."""
    instance = _image()
    content = b"".join(pdu(P_DATA, fragment) for fragment in _all_fragments(instance, size))
    assert _store(node, instance, content) == _STORED
    assert stored_data_sets(node, instance) == [instance.encoded_data_set]


@pytest.mark.parametrize("size", [1, 2, 100, 100_000])
def test_command_and_data_set_in_one_pdu_make_a_whole(node: Node, size: int) -> None:
    """However many Presentation Data Values it has: stored byte for byte (H-6)."""
    instance = _image()
    content = pdu(P_DATA, b"".join(_all_fragments(instance, size)))
    assert _store(node, instance, content) == _STORED
    assert stored_data_sets(node, instance) == [instance.encoded_data_set]


def test_empty_presentation_data_values_change_nothing(node: Node) -> None:
    """Between all others, and as the last fragment of command and data set (PS3.8 9.3.5)."""
    instance = _image()
    command, data_set = store_command(instance), instance.encoded_data_set
    fragments = [
        *(pdv(1, COMMAND), pdv(1, COMMAND, command), pdv(1, COMMAND), pdv(1, COMMAND | LAST)),
        *(pdv(1, 0), pdv(1, 0, data_set[:100]), pdv(1, 0), pdv(1, 0, data_set[100:])),
        pdv(1, LAST),
    ]
    for content in (
        pdu(P_DATA, b"".join(fragments)),
        b"".join(pdu(P_DATA, fragment) for fragment in fragments),
    ):
        assert _store(node, instance, content) == _STORED
    assert stored_data_sets(node, instance) == [instance.encoded_data_set]


@pytest.mark.parametrize("reserved", [0x04, 0x80, 0xFC])
def test_reserved_bits_of_the_message_control_header_are_not_tested(
    node: Node, reserved: int
) -> None:
    """Bits 2 to 7 are never checked by the receiver (PS3.8 E.2)."""
    instance = _image()
    content = pdu(P_DATA, pdv(1, COMMAND | LAST | reserved, store_command(instance)))
    content += pdu(P_DATA, pdv(1, LAST | reserved, instance.encoded_data_set))
    assert _store(node, instance, content) == _STORED
    assert stored_data_sets(node, instance) == [instance.encoded_data_set]


@pytest.mark.parametrize("seed", range(5))
def test_fragments_and_pdus_may_be_cut_anywhere(node: Node, seed: int) -> None:
    """Random fragments, spread over random PDUs, in random TCP segments (PS3.8 9.3.5)."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    instance = _image(rows=64, columns=64)
    fragments = _all_fragments(instance, chance.choice((37, 500, 3000)))
    content = b""
    while fragments:
        count = chance.randrange(1, 6)
        content += pdu(P_DATA, b"".join(fragments[:count]))
        del fragments[:count]
    with associated(node.address, [storage_context_of(instance)]) as association:
        while content:
            size = chance.randrange(1, 700)
            association.socket.sendall(content[:size])
            content = content[size:]
        assert answer_of(association) == _STORED
    assert stored_data_sets(node, instance) == [instance.encoded_data_set]


def _whole(instance: Instance, message_id: int) -> bytes:
    """Return the Presentation Data Values of a C-STORE."""
    command = pdv(1, COMMAND | LAST, store_command(instance, message_id))
    return command + pdv(1, LAST, instance.encoded_data_set)


def test_two_messages_in_one_pdu_are_both_served(node: Node) -> None:
    """Answered in their order, each stored byte for byte (PS3.8 9.3.5)."""
    instances = [_image(), _image()]
    content = pdu(P_DATA, _whole(instances[0], 1) + _whole(instances[1], 2))
    assert _two_answers(node, instances, content) == [(1, _STORED), (2, _STORED)]


def test_a_pdu_may_begin_in_one_message_and_end_in_the_next(node: Node) -> None:
    """The last fragment of one message and all of the next but its last (PS3.8 9.3.5)."""
    instances = [_image(), _image()]
    first, second = (each.encoded_data_set for each in instances)
    contents = (
        pdv(1, COMMAND | LAST, store_command(instances[0], 1)) + pdv(1, 0, first[:99]),
        pdv(1, LAST, first[99:])
        + pdv(1, COMMAND | LAST, store_command(instances[1], 2))
        + pdv(1, 0, second[:99]),
        pdv(1, LAST, second[99:]),
    )
    content = b"".join(pdu(P_DATA, each) for each in contents)
    assert _two_answers(node, instances, content) == [(1, _STORED), (2, _STORED)]


def _two_answers(
    node: Node, instances: Sequence[Instance], content: bytes
) -> list[tuple[int, int]]:
    """Return Message ID and status of the answers; each instance must be there in the end."""
    with associated(node.address, [storage_context_of(instances[0])]) as association:
        send(association.socket, content)
        check_others_are_served(node)
        responses = [association.receive() for _ in instances]
    for instance in instances:
        assert stored_data_sets(node, instance) == [instance.encoded_data_set]
    return [
        (int.from_bytes(response.command[0x0120], "little"), response.status)
        for response in responses
    ]


def test_requests_that_do_not_wait_for_answers_are_all_served(node: Node) -> None:
    """A hundred C-ECHOs at once: each is answered, in order."""
    echoes = [message(1, encoded_command(echo_elements(number))) for number in range(1, 101)]
    with associated(node.address, [ProposedContext(VERIFICATION)]) as association:
        send(association.socket, b"".join(echoes))
        check_others_are_served(node)
        answered = [association.receive().command[0x0120] for _ in echoes]
    assert [int.from_bytes(number, "little") for number in answered] == list(range(1, 101))


@pytest.mark.parametrize("fragment", [b"", b"\0"], ids=["empty", "one byte"])
def test_a_flood_of_tiny_presentation_data_values_starves_nobody(
    node: Node, fragment: bytes
) -> None:
    """While a peer sends them as fast as it can, others are served; then nothing is left."""
    instance = _image()
    flood = pdu(P_DATA, pdv(1, 0, fragment) * 10_000)
    is_over = Event()
    with (
        nothing_is_left(node),
        associated(node.address, [storage_context_of(instance)]) as association,
    ):
        send(association.socket, message(1, store_command(instance)))
        sender = Thread(target=_flood, args=(association, flood, is_over))
        sender.start()
        try:
            for _ in range(10):
                check_others_are_served(node)
        finally:
            is_over.set()
            sender.join()
        reset(association.socket)


def _flood(association: Association, content: bytes, is_over: Event) -> None:
    while not is_over.is_set():
        send(association.socket, content)


# --- too long


@pytest.mark.parametrize("size", [_FRAGMENT_BYTES, 1 << 16 | 1000])
def test_a_data_set_of_the_greatest_length_is_stored(limited: Node, size: int) -> None:
    """storage.maximum_instance_bytes is still allowed."""
    instance = _of_length(_LIMIT_BYTES)
    content = b"".join(pdu(P_DATA, fragment) for fragment in _all_fragments(instance, size))
    assert _store(limited, instance, content) == _STORED
    assert stored_data_sets(limited, instance) == [instance.encoded_data_set]


@pytest.mark.parametrize("excess_bytes", [2, _LIMIT_BYTES // 2])
def test_a_data_set_that_is_too_long_is_refused(limited: Node, excess_bytes: int) -> None:
    """A700 that says so once it has ended; the association goes on with the next (F-3)."""
    instance = _of_length(_LIMIT_BYTES + excess_bytes)
    contexts = [storage_context_of(instance), ProposedContext(VERIFICATION)]
    with nothing_is_left(limited), associated(limited.address, contexts) as association:
        for fragment in _all_fragments(instance, _FRAGMENT_BYTES):
            send(association.socket, pdu(P_DATA, fragment))
        check_others_are_served(limited)
        response = association.receive()
        assert f"{response.status:04X}" == "A700"
        assert re.search(r"long|large|big|limit|maximum", response.error_comment)
        assert association.c_echo() == _STORED
    wait_until(lambda: "0xA700" in limited.log, "the refusal in the log")


def test_a_data_set_that_is_too_long_leaves_room_for_the_next(limited: Node) -> None:
    """The limit is for each instance: the next one on the association is stored (F-3)."""
    instance, next_one = _of_length(_LIMIT_BYTES + 2), _image()
    with associated(limited.address, [storage_context_of(instance)]) as association:
        assert association.c_store(instance).status == _OUT_OF_RESOURCES
        assert association.c_store(next_one).status == _STORED
    assert stored_data_sets(limited, instance) == []
    assert stored_data_sets(limited, next_one) == [next_one.encoded_data_set]


@pytest.mark.parametrize(
    "piece",
    [pdu(P_DATA, pdv(1, 0, bytes(_FRAGMENT_BYTES))), pdu(P_DATA, pdv(1, 0, b"\0") * 10_000)],
    ids=["large fragments", "one-byte fragments"],
)
def test_a_data_set_that_never_ends_is_cut_off(limited: Node, piece: bytes) -> None:
    """Refusing it in the end would be never: the association ends at some point."""
    instance = _image()
    with (
        memory_stays_below(limited, _MEMORY_BYTES),
        nothing_is_left(limited),
        associated(limited.address, [storage_context_of(instance)]) as association,
    ):
        send(association.socket, message(1, store_command(instance)))
        send_endlessly(association.socket, piece, _ENDLESS_SECONDS)
        check_others_are_served(limited)


@pytest.mark.root
def test_a_data_set_that_outgrows_the_disk_is_refused(on_a_small_disk: Node) -> None:
    """A700 with a comment when it has ended, nothing left, and the next one is stored (F-3)."""
    node = on_a_small_disk
    instance = _of_length(2 * _DISK_BYTES)
    contexts = [storage_context_of(instance), ProposedContext(VERIFICATION)]
    with nothing_is_left(node), associated(node.address, contexts) as association:
        for fragment in _all_fragments(instance, _FRAGMENT_BYTES):
            send(association.socket, pdu(P_DATA, fragment))
        check_others_are_served(node)
        response = association.receive()
        assert f"{response.status:04X}" == "A700"
        assert response.error_comment
        assert association.c_echo() == _STORED


@pytest.mark.root
def test_a_data_set_that_never_ends_on_a_full_disk_is_cut_off(on_a_small_disk: Node) -> None:
    """The disk is full long before: the association ends at some point, nothing is left."""
    node, instance = on_a_small_disk, _image()
    with (
        memory_stays_below(node, _MEMORY_BYTES),
        nothing_is_left(node),
        associated(node.address, [storage_context_of(instance)]) as association,
    ):
        send(association.socket, message(1, store_command(instance)))
        piece = pdu(P_DATA, pdv(1, 0, bytes(_FRAGMENT_BYTES)))
        send_endlessly(association.socket, piece, _ENDLESS_SECONDS)
        check_others_are_served(node)
