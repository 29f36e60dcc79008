"""Who is let in, and how many: limits and titles, with the exact rejections.

Source: PS3.8 9.3.4; rules H-1 to H-3.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.hostile import (
    ASSOCIATE_RJ,
    END_SECONDS,
    associate_rq,
    check_others_are_served,
    connected,
    pdu,
    reset,
    send,
    try_to_associate,
)
from tests.support.node import PATIENT_TIMEOUTS, Node, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    VERIFICATION,
    Association,
    AssociationRejectedError,
    ProposedContext,
    Requestor,
)

pytestmark = pytest.mark.system

_MAXIMUM = 4
_TOO_MANY = (2, 3, 2)
_CALLED_UNKNOWN, _CALLING_UNKNOWN = (1, 1, 7), (1, 1, 3)
_CONTEXT_UNKNOWN, _VERSION_UNKNOWN = (1, 1, 2), (1, 2, 2)

_KNOWN_IN_OTHER_WORDS = [
    b"PACSNODE\0\0\0\0\0\0\0\0",
    b"PACSNODE        ",
    b"PACSNODE\0 \0 \0   ",
    b"   PACSNODE     ",
]
_OTHER_TITLES = [
    b"pacsnode",
    b"PacsNode",
    b"PACSN\xd6DE",
    b"\xff" * 16,
    b" " * 16,
    b"\0" * 16,
    b"PACS\\NODE",
    b"PACS\nNODE",
    b"\x1b$BPACS",
    b"PACSNODE\0GARBAGE",
]


@pytest.fixture(scope="module")
def crowded(module_folder: Path) -> Iterator[Node]:
    """A node of two workers that together serve few associations."""
    association = {**PATIENT_TIMEOUTS, "maximum_associations": _MAXIMUM}
    folder = module_folder / "crowded"
    with running_node(folder, association=association, processes={"workers": 2}) as node:
        yield node


@pytest.fixture(scope="module")
def selective(module_folder: Path) -> Iterator[Node]:
    """A node that serves one association, of callers it knows, to titles it has."""
    association = {**PATIENT_TIMEOUTS, "calling_ae_title": "known", "maximum_associations": 1}
    remote_aes = [{"ae_title": "WIRE", "host": "127.0.0.1", "port": 104}]
    folder = module_folder / "selective"
    with running_node(folder, association=association, remote_aes=remote_aes) as node:
        yield node


@pytest.fixture(scope="module")
def open_to_all(module_folder: Path) -> Iterator[Node]:
    """A node that looks at no title."""
    association = {**PATIENT_TIMEOUTS, "called_ae_title": "any", "calling_ae_title": "any"}
    with running_node(module_folder / "open", association=association) as node:
        yield node


def _rejection(node: Node, **asked: object) -> tuple[int, int, int]:
    """Return result, source and reason of the rejection that has to come."""
    requestor = Requestor(timeout_seconds=END_SECONDS, **asked)  # type: ignore[arg-type]
    with pytest.raises(AssociationRejectedError) as caught:
        Association(node.address, [ProposedContext(VERIFICATION)], requestor).socket.close()
    return caught.value.triple


def _enter(node: Node) -> Association:
    """Return a new association as soon as there is room for it."""
    return wait_until(lambda: try_to_associate(node.address), "room for an association")


def _fill(node: Node, stack: ExitStack) -> list[Association]:
    """Open as many associations as the node serves; they end with the stack."""
    opened = [_enter(node) for _ in range(_MAXIMUM)]
    for association in opened:
        stack.callback(association.socket.close)
    return opened


# --- how many


def test_one_association_too_many_is_rejected_and_the_others_are_served(crowded: Node) -> None:
    """Transient, local limit exceeded, with the reason in the log; whoever serves it (H-1, H-3)."""
    with ExitStack() as stack:
        opened = _fill(crowded, stack)
        # Several times, because the workers take turns.
        assert [_rejection(crowded) for _ in range(12)] == [_TOO_MANY] * 12
        assert [association.c_echo() for association in opened] == [0x0000] * _MAXIMUM
    wait_until(lambda: "maximum_associations" in crowded.log, "the reason in the log")


def _release(association: Association) -> None:
    association.release()


def _abort(association: Association) -> None:
    association.abort()


def _reset(association: Association) -> None:
    reset(association.socket)


def _break_the_protocol(association: Association) -> None:
    send(association.socket, pdu(0xFF, bytes(4)))


@pytest.mark.parametrize("end", [_release, _abort, _reset, _break_the_protocol])
def test_there_is_room_again_when_one_has_ended(
    crowded: Node, end: Callable[[Association], None]
) -> None:
    """However it ends, and at once: a place is not held until a timeout (H-3)."""
    with ExitStack() as stack:
        first, *_ = _fill(crowded, stack)
        assert _rejection(crowded) == _TOO_MANY
        end(first)
        _enter(crowded).release()


def test_rejections_do_not_take_places(crowded: Node) -> None:
    """Requestors that were turned away and have not closed yet keep nobody out."""
    with ExitStack() as stack:
        opened = _fill(crowded, stack)
        turned_away = [stack.enter_context(connected(crowded.address)) for _ in range(20)]
        for connection in turned_away:
            send(connection, associate_rq())
        # Who has not been answered yet would get the place that is freed.
        assert {connection.recv(1)[0] for connection in turned_away} == {ASSOCIATE_RJ}
        assert _rejection(crowded) == _TOO_MANY
        opened[0].release()
        _enter(crowded).release()


def test_connections_that_have_not_asked_yet_do_not_take_places(crowded: Node) -> None:
    """Only an association counts, not a connection or half a request."""
    with ExitStack() as stack:
        for part in [0, 3, 30] * 5:
            send(stack.enter_context(connected(crowded.address)), associate_rq()[:part])
        check_others_are_served(crowded)
        opened = _fill(crowded, stack)
        assert _rejection(crowded) == _TOO_MANY
        assert opened[-1].c_echo() == 0x0000


def test_the_limit_holds_when_many_ask_at_once(crowded: Node) -> None:
    """Never more at a time than allowed, of both workers together (H-1)."""
    wait_until(lambda: _has_room(crowded), "all places to be free")
    with ThreadPoolExecutor(24) as pool:
        asked = list(pool.map(lambda _: try_to_associate(crowded.address), range(24)))
    opened = [association for association in asked if association is not None]
    try:
        assert 1 <= len(opened) <= _MAXIMUM
        assert [association.c_echo() for association in opened] == [0x0000] * len(opened)
    finally:
        for association in opened:
            association.socket.close()


def _has_room(node: Node) -> bool:
    """Tell whether the node serves as many as it may, and end them."""
    opened = [try_to_associate(node.address) for _ in range(_MAXIMUM)]
    for association in opened:
        if association is not None:
            association.release()
    return None not in opened


# --- who


@pytest.mark.parametrize("title", _OTHER_TITLES)
def test_another_called_title_is_rejected_and_not_aborted(selective: Node, title: bytes) -> None:
    """(1, 1, 7), whatever bytes it is made of; titles are case-sensitive (H-1, H-2)."""
    assert _rejection(selective, called_ae_title=title) == _CALLED_UNKNOWN


@pytest.mark.parametrize("title", [*_OTHER_TITLES, b"wire", b"WIRE2"])
def test_another_calling_title_is_rejected_and_not_aborted(selective: Node, title: bytes) -> None:
    """(1, 1, 3), whatever bytes it is made of; titles are case-sensitive (H-1, H-2)."""
    assert _rejection(selective, calling_ae_title=title) == _CALLING_UNKNOWN


@pytest.mark.parametrize("title", _KNOWN_IN_OTHER_WORDS)
def test_padding_does_not_make_another_title(selective: Node, title: bytes) -> None:
    """Blanks on both sides and NULs behind are insignificant, in both titles (H-2)."""
    requestor = Requestor(title, title.replace(b"PACSNODE", b"WIRE"))
    association = wait_until(lambda: try_to_associate(selective.address, requestor), "room")
    assert association.c_echo() == 0x0000
    association.release()


@pytest.mark.parametrize("title", [*_OTHER_TITLES, *_KNOWN_IN_OTHER_WORDS])
def test_no_title_is_too_odd_where_titles_do_not_matter(open_to_all: Node, title: bytes) -> None:
    """With both policies at any, called and calling title may be anything at all (H-2)."""
    for requestor in (Requestor(called_ae_title=title), Requestor(calling_ae_title=title)):
        proposed = [ProposedContext(VERIFICATION)]
        with Association(open_to_all.address, proposed, requestor) as association:
            assert association.c_echo() == 0x0000


def test_a_title_never_breaks_a_line_of_the_log(open_to_all: Node) -> None:
    """What a peer calls itself cannot forge a line."""
    requestor = Requestor(calling_ae_title=b"A\nFORGED LINE")
    with Association(open_to_all.address, [ProposedContext(VERIFICATION)], requestor) as forger:
        assert forger.c_echo() == 0x0000
    assert not any(line.startswith("FORGED") for line in open_to_all.log.splitlines())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            {"protocol_version": 2, "application_context": b"1.2.3", "called_ae_title": b"X"},
            _VERSION_UNKNOWN,
        ),
        ({"application_context": b"1.2.3", "called_ae_title": b"X"}, _CONTEXT_UNKNOWN),
        ({"called_ae_title": b"X", "calling_ae_title": b"X"}, _CALLED_UNKNOWN),
        ({"calling_ae_title": b"X"}, _CALLING_UNKNOWN),
        ({}, _TOO_MANY),
    ],
    ids=["version", "application context", "called title", "calling title", "limit"],
)
def test_the_first_reason_in_the_order_of_checks_is_given(
    selective: Node, asked: dict[str, object], expected: tuple[int, int, int]
) -> None:
    """Version, application context, called, calling, capacity: permanent ones go first (H-3)."""
    with ExitStack() as stack:
        stack.callback(_enter(selective).socket.close)
        assert _rejection(selective, **asked) == expected
