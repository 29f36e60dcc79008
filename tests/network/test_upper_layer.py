"""The upper layer of an accepted connection: what comes in, what goes out, and for how long."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacsnode.network import transport
from pacsnode.network import upper_layer as module
from pacsnode.network.association_end import Abort, AssociationEnd
from pacsnode.network.transport import Timeouts
from pacsnode.network.upper_layer import UpperLayer
from tests.support.hostile import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    COMMAND,
    LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    pdu,
    pdv,
)
from tests.support.link import TlsContexts, local_pair, tcp_pair, tls_contexts, tls_pair

_SECONDS = 20
_AMPLE = Timeouts(negotiation_seconds=_SECONDS, message_seconds=_SECONDS, idle_seconds=_SECONDS)
_BUFFER_BYTES = 256 * 1024
_LONGEST_REQUEST_BYTES = 256 * 1024
_LAST_FRAGMENT = pdu(P_DATA, pdv(1, LAST, b"last"))


@dataclass(frozen=True, slots=True)
class Link:
    """An upper layer, and the peer at the other end of its connection."""

    peer: socket.socket
    upper_layer: UpperLayer


@contextmanager
def _linked(
    ends: tuple[socket.socket, socket.socket], timeouts: Timeouts = _AMPLE
) -> Iterator[Link]:
    peer, connection = ends
    with peer, connection:
        yield Link(peer, UpperLayer(connection, timeouts))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsContexts:
    """A certificate for the tests of this module."""
    return tls_contexts(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["local", "tcp", "tls"])
def ends(request: pytest.FixtureRequest, tls: TlsContexts) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection of each kind."""
    kinds: dict[str, Callable[[], tuple[socket.socket, socket.socket]]] = {
        "local": local_pair,
        "tcp": tcp_pair,
        "tls": lambda: tls_pair(tls),
    }
    return kinds[request.param]()


@pytest.fixture
def link(ends: tuple[socket.socket, socket.socket]) -> Iterator[Link]:
    """A connection of each kind whose timeouts do not matter."""
    with _linked(ends) as linked:
        yield linked


@pytest.fixture
def tcp() -> Iterator[Link]:
    """A TCP connection whose timeouts do not matter."""
    with _linked(tcp_pair()) as linked:
        yield linked


@contextmanager
def _sending(peer: socket.socket, content: bytes) -> Iterator[None]:
    """Send while the block runs: more than the network holds."""
    with ThreadPoolExecutor(1) as executor:
        sent = executor.submit(peer.sendall, content)
        yield
        sent.result(_SECONDS)


@contextmanager
def _trickling(peer: socket.socket, content: bytes) -> Iterator[None]:
    """Send one byte after the other while the block runs, a hundred in a second."""
    is_over = threading.Event()

    def trickle() -> None:
        with suppress(OSError):
            for number in content:
                peer.sendall(bytes((number,)))
                if is_over.wait(0.01):
                    return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _end_of_request(link: Link) -> AssociationEnd:
    with pytest.raises(AssociationEnd) as ended:
        link.upper_layer.receive_associate_request()
    return ended.value


def _end_of_message(link: Link, *, is_within_message: bool = False) -> AssociationEnd:
    def receive() -> None:
        while True:
            link.upper_layer.receive_fragment(is_within_message=is_within_message)

    with pytest.raises(AssociationEnd) as ended:
        receive()
    return ended.value


def _read(peer: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        part = peer.recv(length - len(content))
        assert part
        content += part
    return content


def _read_to_end(peer: socket.socket) -> bytes:
    content = bytearray()
    while part := peer.recv(65_536):
        content += part
    return bytes(content)


# --- the association request


@pytest.mark.parametrize("length", [0, 1, 200, _LONGEST_REQUEST_BYTES])
def test_a_request_is_returned_without_its_header(link: Link, length: int) -> None:
    """An A-ASSOCIATE-RQ of any allowed length arrives whole, longer than the buffer or not."""
    content = bytes(number % 251 for number in range(length))
    with _sending(link.peer, pdu(ASSOCIATE_RQ, content)):
        assert link.upper_layer.receive_associate_request() == content


def test_a_request_that_is_too_long_is_not_read(tcp: Link) -> None:
    """Its header is enough to abort it: nobody fills our memory before we know who it is (AA-1)."""
    tcp.peer.sendall(pdu(ASSOCIATE_RQ, b"", length=_LONGEST_REQUEST_BYTES + 1))
    ended = _end_of_request(tcp)
    assert ended.reason == "the association request says that it has 262145 bytes"
    assert ended.abort is Abort.BY_USER


def test_what_follows_a_request_is_not_lost(link: Link) -> None:
    """Who does not wait for the answer has its first message read all the same."""
    link.peer.sendall(pdu(ASSOCIATE_RQ, b"content") + _LAST_FRAGMENT)
    assert link.upper_layer.receive_associate_request() == b"content"
    assert bytes(link.upper_layer.receive_fragment(is_within_message=False).content) == b"last"


@pytest.mark.parametrize(
    "content",
    [
        *(pdu(kind, bytes(4)) for kind in range(ASSOCIATE_AC, ABORT)),
        pdu(0, b""),
        pdu(8, b""),
        b"GET / HTTP/1.1\r\n\r\n",
        pdu(ASSOCIATE_RQ, b"", length=2 * 1024 * 1024 + 1),
        pdu(ASSOCIATE_RQ, b"", length=0xFFFFFFFF),
        pdu(P_DATA, b"", length=0xFFFFFFFF),
    ],
)
def test_anything_but_a_request_is_aborted_as_by_the_user(tcp: Link, content: bytes) -> None:
    """Wrong types and lengths are not waited for, and aborted by AA-1 (PS3.8 table 9-10, Sta2)."""
    tcp.peer.sendall(content)
    assert _end_of_request(tcp).abort is Abort.BY_USER


@pytest.mark.parametrize("length", [0, 4, 100])
def test_an_abort_instead_of_a_request_is_not_answered(tcp: Link, length: int) -> None:
    """Who gives up at once is not told to give up (PS3.8 table 9-10, Sta2: AA-2)."""
    tcp.peer.sendall(pdu(ABORT, bytes(length)))
    assert _end_of_request(tcp).abort is None


@pytest.mark.parametrize("content", [b"", b"\x01", pdu(ASSOCIATE_RQ, b"abc", length=4)])
def test_a_connection_that_closes_before_its_request_is_not_answered(
    link: Link, content: bytes
) -> None:
    """Nobody is there to be told anything."""
    link.peer.sendall(content)
    link.peer.shutdown(socket.SHUT_WR)
    ended = _end_of_request(link)
    assert (ended.reason, ended.abort) == ("the peer has closed the connection", None)


@pytest.mark.parametrize("content", [b"", b"\x01\x00\x00", pdu(ASSOCIATE_RQ, b"abc", length=4)])
def test_a_request_that_does_not_come_in_time_is_closed_without_a_word(
    ends: tuple[socket.socket, socket.socket], content: bytes
) -> None:
    """Silence before, in the header of or within an A-ASSOCIATE-RQ ends it (H-17, AA-2)."""
    with _linked(ends, Timeouts(0.1, _SECONDS, _SECONDS)) as link:
        link.peer.sendall(content)
        ended = _end_of_request(link)
    assert ended.reason == "no association request in association.negotiation_timeout_seconds"
    assert ended.abort is None


def test_a_request_that_trickles_does_not_put_its_deadline_off(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """Whatever comes meanwhile, all of it has to be here in time (H-17)."""
    with (
        _linked(ends, Timeouts(0.3, _SECONDS, _SECONDS)) as link,
        _trickling(link.peer, pdu(ASSOCIATE_RQ, bytes(5_000))),
    ):
        ended = _end_of_request(link)
    assert ended.reason.startswith("no association request in")


# --- fragments


def test_fragments_are_told_apart(link: Link) -> None:
    """Context, kind and end of each PDV of a PDU are those of its header (PS3.8 9.3.5, E.2)."""
    items = (
        pdv(1, COMMAND, b"first"),
        pdv(3, COMMAND | LAST, b"second"),
        pdv(255, 0, b""),
        pdv(255, 0xFC | LAST, b"reserved bits"),
    )
    link.peer.sendall(pdu(P_DATA, b"".join(items)))
    received = [link.upper_layer.receive_fragment(is_within_message=True) for _ in range(4)]
    assert [each[:3] for each in received] == [
        (1, True, False),
        (3, True, True),
        (255, False, False),
        (255, False, True),
    ]
    assert [bytes(each.content) for each in received] == [
        b"first",
        b"second",
        b"",
        b"reserved bits",
    ]


def test_a_fragment_is_handed_out_as_it_arrives(tcp: Link) -> None:
    """The first part of a PDV is not kept back until the rest is here, and is not the last."""
    content = pdu(P_DATA, pdv(1, LAST, b"abcdef"))
    tcp.peer.sendall(content[:-2])
    first = tcp.upper_layer.receive_fragment(is_within_message=False)
    assert (bytes(first.content), first.is_last) == (b"abcd", False)
    tcp.peer.sendall(content[-2:])
    second = tcp.upper_layer.receive_fragment(is_within_message=True)
    assert (bytes(second.content), second.is_last) == (b"ef", True)


def test_an_empty_last_fragment_ends_a_message(tcp: Link) -> None:
    """A PDV without content that says it is the last is told as such."""
    tcp.peer.sendall(pdu(P_DATA, pdv(1, LAST, b"")))
    fragment = tcp.upper_layer.receive_fragment(is_within_message=False)
    assert (bytes(fragment.content), fragment.is_last) == (b"", True)


def test_single_bytes_make_a_whole(link: Link) -> None:
    """However the network cuts what is sent, the fragments are the same."""
    with _trickling(link.peer, pdu(P_DATA, pdv(1, 0, b"abc") + pdv(1, LAST, b"def"))):
        content, is_last = b"", False
        while not is_last:
            fragment = link.upper_layer.receive_fragment(is_within_message=True)
            content += bytes(fragment.content)
            is_last = fragment.is_last
    assert content == b"abcdef"


def _message(length: int, pdv_length: int, pdvs_in_a_pdu: int) -> tuple[bytes, bytes]:
    """Return the content of a long data set, and the PDUs it is sent in."""
    content = struct.pack(f"<{length // 4}I", *range(length // 4))
    starts = range(0, length, pdv_length)
    items = [
        pdv(1, LAST if start == starts[-1] else 0, content[start : start + pdv_length])
        for start in starts
    ]
    groups = (
        b"".join(items[first : first + pdvs_in_a_pdu])
        for first in range(0, len(items), pdvs_in_a_pdu)
    )
    return content, b"".join(pdu(P_DATA, group) for group in groups)


@pytest.mark.parametrize(
    ("pdv_length", "pdvs_in_a_pdu"),
    [(1_000_000, 1), (100_000, 3), (131_066, 1), (16_378, 1), (997, 100), (997, 1)],
)
def test_on_full_is_called_before_fragments_are_overwritten(
    link: Link, pdv_length: int, pdvs_in_a_pdu: int
) -> None:
    """Who takes the contents at on_full has every byte once, wherever the buffer ends."""
    content, pdus = _message(4 * 250_000, pdv_length, pdvs_in_a_pdu)
    held: list[memoryview] = []
    taken = bytearray()
    calls = 0

    def take() -> None:
        nonlocal calls
        calls += 1
        taken.extend(b"".join(held))
        held.clear()

    link.upper_layer.on_full = take
    with _sending(link.peer, pdus):
        is_last = False
        while not is_last:
            fragment = link.upper_layer.receive_fragment(is_within_message=True)
            held.append(fragment.content)
            is_last = fragment.is_last
    assert len(held) > 0
    take()
    assert taken == content
    assert 4 <= calls <= 8


def test_messages_that_fit_are_not_interrupted_by_on_full(tcp: Link) -> None:
    """With each message done and rewound, the buffer never runs full."""
    tcp.upper_layer.on_full = pytest.fail
    content, pdus = _message(4 * 40_000, 16_378, 1)
    for _ in range(5):
        with _sending(tcp.peer, pdus):
            received = b""
            while len(received) < len(content):
                fragment = tcp.upper_layer.receive_fragment(is_within_message=bool(received))
                received += bytes(fragment.content)
        assert received == content
        tcp.upper_layer.rewind()


def test_rewinding_loses_nothing_that_has_arrived(tcp: Link) -> None:
    """What was not handed out stays where it is."""
    tcp.peer.sendall(pdu(P_DATA, pdv(1, LAST, b"one")) + pdu(P_DATA, pdv(1, LAST, b"two")))
    assert bytes(tcp.upper_layer.receive_fragment(is_within_message=False).content) == b"one"
    tcp.upper_layer.rewind()
    assert bytes(tcp.upper_layer.receive_fragment(is_within_message=False).content) == b"two"


@pytest.mark.parametrize(
    ("content", "abort"),
    [
        (pdu(0, b""), Abort.UNRECOGNISED_PDU),
        (pdu(8, b""), Abort.UNRECOGNISED_PDU),
        (pdu(0xFF, b"", length=0xFFFFFFFF), Abort.UNRECOGNISED_PDU),
        (pdu(ASSOCIATE_RQ, bytes(68)), Abort.UNEXPECTED_PDU),
        (pdu(ASSOCIATE_AC, bytes(68)), Abort.UNEXPECTED_PDU),
        (pdu(ASSOCIATE_RJ, bytes(4)), Abort.UNEXPECTED_PDU),
        (pdu(RELEASE_RP, bytes(4)), Abort.UNEXPECTED_PDU),
        (pdu(P_DATA, b""), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, b"", length=2 * 1024 * 1024 + 1), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, b"", length=0xFFFFFFFF), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, b"\0"), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, bytes(5)), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, pdv(1, 0, length=0)), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, pdv(1, 0, length=1)), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, pdv(1, 0, b"abc", length=6)), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, pdv(1, 0, b"abc", length=0xFFFFFFFF)), Abort.INVALID_PARAMETER),
        (pdu(P_DATA, pdv(1, 0, b"abc", length=4)), Abort.INVALID_PARAMETER),
    ],
)
@pytest.mark.parametrize("is_within_message", [False, True])
def test_a_fault_of_the_peer_is_aborted_with_its_reason(
    tcp: Link, content: bytes, abort: Abort, *, is_within_message: bool
) -> None:
    """Types and lengths that are wrong are told by table 9-26, and not waited for (H-6)."""
    tcp.peer.sendall(content)
    assert _end_of_message(tcp, is_within_message=is_within_message).abort is abort


@pytest.mark.parametrize("length", [0, 4, 100])
def test_a_release_ends_the_association(tcp: Link, length: int) -> None:
    """It is to be answered, and there is nothing to say about it."""
    tcp.peer.sendall(_LAST_FRAGMENT + pdu(RELEASE_RQ, bytes(length)))
    ended = _end_of_message(tcp)
    assert (ended.is_released, ended.reason, ended.abort) == (True, "", None)


def test_an_abort_of_the_peer_ends_the_association(tcp: Link) -> None:
    """It is not answered."""
    tcp.peer.sendall(pdu(ABORT, bytes(4)))
    ended = _end_of_message(tcp)
    assert (ended.is_released, ended.reason, ended.abort) == (
        False,
        "the peer has aborted the association",
        None,
    )


@pytest.mark.parametrize("content", [b"", b"\x04\x00", _LAST_FRAGMENT[:-1]])
def test_a_connection_that_closes_ends_the_association(link: Link, content: bytes) -> None:
    """Between two messages, in a header and in a fragment alike; nobody is there to be told."""
    link.peer.sendall(content)
    link.peer.shutdown(socket.SHUT_WR)
    ended = _end_of_message(link)
    assert (ended.reason, ended.abort) == ("the peer has closed the connection", None)


def test_a_connection_that_is_reset_ends_the_association(tcp: Link) -> None:
    """The reason is that of the system; nobody is there to be told."""
    tcp.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp.peer.close()
    ended = _end_of_message(tcp)
    assert (ended.reason, ended.abort) == ("connection lost: connection reset by peer", None)


# --- how long


def test_silence_between_two_messages_is_idleness(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """Only the idle timeout counts there (H-17)."""
    with _linked(ends, Timeouts(_SECONDS, _SECONDS, 0.1)) as link:
        ended = _end_of_message(link)
    assert ended.reason == "idle for association.idle_timeout_seconds"
    assert ended.abort is Abort.BY_USER


def test_silence_within_a_message_is_not_borne_as_long(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """Between two PDUs of one message only its own timeout counts (H-17)."""
    with _linked(ends, Timeouts(_SECONDS, 0.1, _SECONDS)) as link:
        ended = _end_of_message(link, is_within_message=True)
    assert ended.reason == "silent within a message for association.dimse_timeout_seconds"
    assert ended.abort is Abort.BY_USER


@pytest.mark.parametrize(
    "content",
    [
        b"\x04",
        pdu(P_DATA, b"", length=100),
        pdu(P_DATA, pdv(1, 0, b"abc", length=50), length=100),
        pdu(P_DATA, pdv(1, 0, b"abc"), length=100),
    ],
    ids=["header", "no PDV", "in a PDV", "behind a PDV"],
)
@pytest.mark.parametrize("is_within_message", [False, True])
def test_half_a_pdu_and_then_silence_ends_the_association(
    ends: tuple[socket.socket, socket.socket], content: bytes, *, is_within_message: bool
) -> None:
    """A PDU that has begun must be complete within the timeout of a message (H-17)."""
    with _linked(ends, Timeouts(_SECONDS, 0.1, _SECONDS)) as link:
        link.peer.sendall(content)
        ended = _end_of_message(link, is_within_message=is_within_message)
    assert ended.reason == "a PDU took longer than association.dimse_timeout_seconds"
    assert ended.abort is Abort.BY_USER


def test_a_pdu_that_trickles_does_not_put_its_deadline_off(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """One byte now and then keeps no association open (H-17)."""
    with (
        _linked(ends, Timeouts(_SECONDS, 0.3, _SECONDS)) as link,
        _trickling(link.peer, pdu(P_DATA, pdv(1, 0, bytes(5_000)))),
    ):
        ended = _end_of_message(link, is_within_message=True)
    assert ended.reason == "a PDU took longer than association.dimse_timeout_seconds"


def test_each_pdu_has_its_own_deadline(tcp: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow message of many PDUs, each in time, is received however long it takes (H-17)."""
    clock = SimpleNamespace(now=time.monotonic())
    for each in (module, transport):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=lambda: clock.now))
    for _ in range(5):
        tcp.peer.sendall(pdu(P_DATA, pdv(1, 0, b"part")))
        fragment = tcp.upper_layer.receive_fragment(is_within_message=True)
        assert bytes(fragment.content) == b"part"
        clock.now += _SECONDS * 0.9


def test_writing_is_not_the_time_of_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long on_full takes, and how often, the rest of the PDU has the time it had (H-17)."""
    clock = SimpleNamespace(now=time.monotonic())
    for each in (module, transport):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(module, "_BUFFER_BYTES", 64)
    content = pdu(P_DATA, pdv(1, LAST, bytes(188)))
    parts = iter([content[start : start + 64] for start in range(0, len(content), 64)])
    calls = []

    def write() -> None:
        calls.append(clock.now)
        clock.now += 2 * _SECONDS

    with _linked(local_pair()) as link:
        # Each part comes when it is waited for: not before what was before it is written.
        monkeypatch.setattr(transport, "wait", lambda *_: link.peer.sendall(next(parts)))
        link.upper_layer.on_full = write
        is_last = False
        while not is_last:
            is_last = link.upper_layer.receive_fragment(is_within_message=True).is_last
    assert len(calls) == 3


def test_serving_is_not_the_time_of_the_peer(tcp: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a message was served, the rest of the PDU it was in has its time again (H-17)."""
    clock = SimpleNamespace(now=time.monotonic())
    for each in (module, transport):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=lambda: clock.now))
    first, second = pdv(1, LAST, b"first"), pdv(1, LAST, b"second")
    tcp.peer.sendall(pdu(P_DATA, first, length=len(first + second)))
    assert bytes(tcp.upper_layer.receive_fragment(is_within_message=False).content) == b"first"
    clock.now += 2 * _SECONDS
    tcp.upper_layer.touch()
    rest = iter([second])
    monkeypatch.setattr(transport, "wait", lambda *_: tcp.peer.sendall(next(rest)))
    assert bytes(tcp.upper_layer.receive_fragment(is_within_message=False).content) == b"second"


def test_the_beginning_of_a_pdu_is_activity(tcp: Link) -> None:
    """When a peer has sent a PDU, its time is told on the monotonic clock."""
    before = tcp.upper_layer.last_active_at
    tcp.peer.sendall(_LAST_FRAGMENT)
    started_at = time.monotonic()
    tcp.upper_layer.receive_fragment(is_within_message=False)
    assert before <= started_at <= tcp.upper_layer.last_active_at <= time.monotonic()


def test_serving_is_activity(tcp: Link) -> None:
    """The time since the last activity counts from the moment it is touched."""
    started_at = time.monotonic()
    tcp.upper_layer.touch()
    assert started_at <= tcp.upper_layer.last_active_at <= time.monotonic()


# --- looking without waiting


@pytest.fixture
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "wait", pytest.fail)


def _send_and_wait(link: Link, content: bytes) -> None:
    """Return when something of it has come to the other end."""
    link.peer.sendall(content)
    assert link.upper_layer._readable.poll(_SECONDS * 1000)


@pytest.mark.usefixtures("_without_waiting")
def test_there_is_no_pdu_where_nothing_has_come(link: Link) -> None:
    """An answer at once, and the right one."""
    assert not link.upper_layer.has_pdu()


@pytest.mark.usefixtures("_without_waiting")
@pytest.mark.parametrize("length", range(1, len(_LAST_FRAGMENT)))
def test_a_part_of_a_pdu_is_none(tcp: Link, length: int) -> None:
    """Who would go on to receive it would have to wait for the peer."""
    _send_and_wait(tcp, _LAST_FRAGMENT[:length])
    assert not tcp.upper_layer.has_pdu()


@pytest.mark.usefixtures("_without_waiting")
def test_a_whole_pdu_is_there_when_its_last_byte_is(link: Link) -> None:
    """It is received without waiting, after looking once too early."""
    _send_and_wait(link, _LAST_FRAGMENT[:-1])
    assert not link.upper_layer.has_pdu()
    _send_and_wait(link, _LAST_FRAGMENT[-1:])
    assert link.upper_layer.has_pdu()
    assert bytes(link.upper_layer.receive_fragment(is_within_message=False).content) == b"last"
    assert not link.upper_layer.has_pdu()


def test_a_pdu_that_came_with_another_is_there(link: Link) -> None:
    """The second of two PDUs that came together is there, although the network has nothing."""
    link.peer.sendall(_LAST_FRAGMENT * 2)
    link.upper_layer.receive_fragment(is_within_message=False)
    assert link.upper_layer.has_pdu()
    link.upper_layer.receive_fragment(is_within_message=False)
    assert not link.upper_layer.has_pdu()


def test_the_rest_of_a_pdu_counts_when_it_is_whole(tcp: Link) -> None:
    """Of a PDU that has been begun, what is left has to be there, to its last byte."""
    first, second = pdv(1, LAST, b"first"), pdv(1, LAST, b"second")
    content = pdu(P_DATA, first + second)
    _send_and_wait(tcp, content[:-1])
    tcp.upper_layer.receive_fragment(is_within_message=False)
    assert not tcp.upper_layer.has_pdu()
    _send_and_wait(tcp, content[-1:])
    assert tcp.upper_layer.has_pdu()


def test_of_a_pdu_longer_than_the_buffer_a_full_buffer_is_enough(link: Link) -> None:
    """It will never be there as a whole, so as much as can be there counts."""
    fragment = bytes(_BUFFER_BYTES)
    with _sending(link.peer, pdu(P_DATA, pdv(1, LAST, fragment))):
        deadline = time.monotonic() + _SECONDS
        while not link.upper_layer.has_pdu():
            assert time.monotonic() < deadline
        received = b""
        while len(received) < len(fragment):
            received += link.upper_layer.receive_fragment(is_within_message=True).content
    assert received == fragment


def test_behind_what_was_handed_out_a_full_buffer_is_made_room_for(tcp: Link) -> None:
    """A PDU that begins at the end of the buffer is found, and nothing of it is lost."""
    first, second = bytes(_BUFFER_BYTES - 20), b"second"
    sent = pdu(P_DATA, pdv(1, LAST, first)) + pdu(P_DATA, pdv(1, LAST, second))
    with _sending(tcp.peer, sent):
        received = 0
        while received < len(first):
            received += len(tcp.upper_layer.receive_fragment(is_within_message=True).content)
        deadline = time.monotonic() + _SECONDS
        while not tcp.upper_layer.has_pdu():
            assert time.monotonic() < deadline
    assert bytes(tcp.upper_layer.receive_fragment(is_within_message=True).content) == second


@pytest.mark.parametrize("content", [b"", _LAST_FRAGMENT[:-1]])
def test_who_looks_for_a_pdu_hears_that_the_peer_has_gone(link: Link, content: bytes) -> None:
    """Nothing more will come to make a whole of what is there."""
    link.peer.sendall(content)
    link.peer.shutdown(socket.SHUT_WR)

    def look() -> None:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            link.upper_layer.has_pdu()

    with pytest.raises(AssociationEnd, match="the peer has closed the connection"):
        look()


def test_a_whole_pdu_is_there_although_the_peer_has_gone(link: Link) -> None:
    """What was said before the end of the connection is heard first."""
    _send_and_wait(link, _LAST_FRAGMENT)
    assert link.upper_layer.has_pdu()
    link.peer.shutdown(socket.SHUT_WR)
    assert link.upper_layer.has_pdu()


def test_who_looks_for_a_pdu_hears_of_an_interruption(link: Link) -> None:
    """Even if a PDU is there: what is served meanwhile is to end."""
    _send_and_wait(link, _LAST_FRAGMENT)
    assert link.upper_layer.has_pdu()
    interruption = _interruption()
    link.upper_layer.interrupt(interruption)
    with pytest.raises(AssociationEnd) as ended:
        link.upper_layer.has_pdu()
    assert ended.value is interruption


def test_what_lies_in_the_tls_layer_is_seen(
    tls: TlsContexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that did not fit into the buffer is seen, and received without waiting for more."""
    beyond = 100
    with _linked(tls_pair(tls)) as link:
        content = bytes(_BUFFER_BYTES + beyond - 12)
        encoded = pdu(P_DATA, pdv(1, LAST, content))
        # A record has at most 16,384 bytes: after a short one the buffer ends within another.
        with _sending(link.peer, encoded[:beyond]):
            pass
        with _sending(link.peer, encoded[beyond:]):
            received = 0
            while received < len(content) - beyond:
                received += len(link.upper_layer.receive_fragment(is_within_message=True).content)
        assert not link.upper_layer._readable.poll(0)
        monkeypatch.setattr(transport, "wait", pytest.fail)
        assert link.upper_layer.has_pdu()
        last = link.upper_layer.receive_fragment(is_within_message=True)
    assert (len(last.content), last.is_last) == (beyond, True)


# --- interrupting


def _interruption() -> AssociationEnd:
    return AssociationEnd("the node is stopping", abort=Abort.BY_USER)


@pytest.mark.parametrize("content", [b"", b"\x04", pdu(P_DATA, pdv(1, 0, b"a"), length=100)])
def test_whoever_waits_can_be_interrupted(link: Link, content: bytes) -> None:
    """Another thread ends the wait, and the one that waited raises what it was given."""
    link.peer.sendall(content)
    interruption = _interruption()
    with ThreadPoolExecutor(1) as executor:
        ended = executor.submit(_end_of_message, link, is_within_message=True)
        link.upper_layer.interrupt(interruption)
        assert ended.result(_SECONDS) is interruption


def test_who_waits_for_a_request_can_be_interrupted(link: Link) -> None:
    """A connection on which nothing was requested ends likewise."""
    with ThreadPoolExecutor(1) as executor:
        ended = executor.submit(_end_of_request, link)
        link.upper_layer.interrupt(_interruption())
        assert ended.result(_SECONDS).reason == "the node is stopping"


def test_after_an_interruption_the_peer_is_still_told(link: Link) -> None:
    """What is sent then arrives as what was sent before: over TLS it is still encrypted."""
    link.upper_layer.interrupt(_interruption())
    _end_of_message(link)
    link.upper_layer.send_abort(Abort.BY_USER)
    assert _read(link.peer, 10) == pdu(ABORT, bytes(4))


def test_what_arrives_after_an_interruption_is_not_received(link: Link) -> None:
    """A peer that goes on talking does not put the end off."""
    link.upper_layer.interrupt(_interruption())
    with suppress(OSError):  # a local connection does not take it any more
        link.peer.sendall(_LAST_FRAGMENT * 10)
    assert _end_of_message(link).reason == "the node is stopping"


def test_interrupting_a_connection_that_has_gone_does_nothing(link: Link) -> None:
    """The thread that interrupts does not hear of it."""
    link.upper_layer.close(0)
    link.upper_layer.interrupt(_interruption())


# --- sending


def test_an_accepted_connection_is_set_up(tcp: Link) -> None:
    """Nagle's algorithm is off, and a peer that vanishes without a word is noticed."""
    connection = tcp.upper_layer._connection
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_all_of_a_long_content_arrives(link: Link) -> None:
    """More than the network holds is sent while the peer reads."""
    content = struct.pack("<1000000I", *range(1_000_000))
    with ThreadPoolExecutor(1) as executor:
        sent = executor.submit(link.upper_layer.send, content)
        assert _read(link.peer, len(content)) == content
        sent.result(_SECONDS)


def test_a_peer_that_takes_nothing_ends_the_association(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """Beyond the timeout of a message it is not waited for; there is no way to tell it (H-17)."""
    with (
        _linked(ends, Timeouts(_SECONDS, 0.1, _SECONDS)) as link,
        pytest.raises(AssociationEnd) as ended,
    ):
        link.upper_layer.send(bytes(50_000_000))
    assert ended.value.reason == "the peer takes nothing for 0.1 s"
    assert ended.value.abort is None


def test_a_peer_that_has_gone_ends_the_association(tcp: Link) -> None:
    """Sending to nobody fails with the reason of the system."""
    tcp.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp.peer.close()
    with pytest.raises(AssociationEnd, match="connection lost: ") as ended:
        tcp.upper_layer.send(b"content")
    assert ended.value.abort is None
    tcp.upper_layer.send_abort(Abort.BY_USER)  # nobody hears it, nothing is raised


@pytest.mark.parametrize(
    ("abort", "end"),
    [
        (Abort.BY_USER, b"\0\0"),
        (Abort.UNRECOGNISED_PDU, b"\2\1"),
        (Abort.UNEXPECTED_PDU, b"\2\2"),
        (Abort.INVALID_PARAMETER, b"\2\6"),
    ],
)
def test_an_abort_has_source_and_reason(tcp: Link, abort: Abort, end: bytes) -> None:
    """The A-ABORT is that of PS3.8 table 9-26."""
    tcp.upper_layer.send_abort(abort)
    assert _read(tcp.peer, 10) == b"\x07\0\0\0\0\4\0\0" + end


def test_a_release_is_answered(tcp: Link) -> None:
    """The A-RELEASE-RP is that of PS3.8 table 9-25."""
    tcp.upper_layer.send_release_response()
    assert _read(tcp.peer, 10) == b"\x06\0\0\0\0\4\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Sent:
    """A P-DATA-TF with its one PDV, as a peer reads it."""

    pdu_length: int
    context_id: int
    control: int
    fragment: bytes


def _sent(content: bytes) -> list[Sent]:
    found = []
    header, start = struct.Struct(">BxLLBB"), 0
    while start < len(content):
        kind, pdu_length, pdv_length, context_id, control = header.unpack_from(content, start)
        assert (kind, pdv_length) == (P_DATA, pdu_length - 4)
        end = start + 6 + pdu_length
        found.append(Sent(pdu_length, context_id, control, content[start + 12 : end]))
        start = end
    return found


def _sent_message(maximum: int, command_set: bytes, data_set: bytes | None) -> list[Sent]:
    """Return what a peer with this maximum length gets."""
    with _linked(local_pair()) as link, ThreadPoolExecutor(1) as executor:
        link.upper_layer.peer_maximum_length_bytes = maximum
        received = executor.submit(_read_to_end, link.peer)
        link.upper_layer.send_message(7, command_set, data_set)
        link.upper_layer.close(0)
        return _sent(received.result(_SECONDS))


@settings(deadline=None, max_examples=60)
@given(
    maximum=st.integers(8, 80) | st.sampled_from([0, 16_384, 0xFFFFFFFF]),
    command_set=st.binary(min_size=1, max_size=150),
    data_set=st.none() | st.binary(max_size=300),
)
def test_a_message_is_sent_in_pieces_that_the_peer_takes(
    maximum: int, command_set: bytes, data_set: bytes | None
) -> None:
    """No PDU is longer than the maximum; kinds, order, ends and contents are right (H-6)."""
    found = _sent_message(maximum, command_set, data_set)
    assert all(each.pdu_length <= maximum for each in found) or not maximum
    assert {each.context_id for each in found} == {7}
    commands = [each for each in found if each.control & COMMAND]
    data = [each for each in found if not each.control & COMMAND]
    assert found == commands + data
    assert b"".join(each.fragment for each in commands) == command_set
    assert b"".join(each.fragment for each in data) == (data_set or b"")
    for pieces in (commands, data):
        assert [bool(each.control & LAST) for each in pieces[:-1]] == [False] * (len(pieces) - 1)
        assert all(each.control & LAST for each in pieces[-1:])

        assert all(len(each.fragment) % 2 == 0 for each in pieces[:-1])
    assert len(data) >= (data_set is not None)


@settings(deadline=None, max_examples=40)
@given(
    maximum=st.integers(0, 80) | st.sampled_from([16_384, 0xFFFFFFFF]),
    command_set=st.binary(min_size=1, max_size=100),
    data_sets=st.lists(st.binary(max_size=200), min_size=1, max_size=5),
)
def test_messages_sent_together_are_those_sent_one_by_one(
    maximum: int, command_set: bytes, data_sets: list[bytes]
) -> None:
    """A peer cannot tell which messages went into one write (PS3.8 9.3.5)."""
    with _linked(local_pair()) as link, ThreadPoolExecutor(1) as executor:
        link.upper_layer.peer_maximum_length_bytes = maximum
        received = executor.submit(_read_to_end, link.peer)
        link.upper_layer.send_messages(7, command_set, data_sets)
        link.upper_layer.close(0)
        together = received.result(_SECONDS)
    one_by_one = [_sent_message(maximum, command_set, data_set) for data_set in data_sets]
    assert _sent(together) == [pdu for message in one_by_one for pdu in message]


def test_a_long_message_to_a_peer_that_takes_little_is_sent_bit_by_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Headers may be six times as long as what they head: they are not all made before sending."""
    sent_bytes = []

    def send_counted(upper_layer: UpperLayer, content: bytes) -> None:
        sent_bytes.append(len(content))
        send(upper_layer, content)

    send = UpperLayer.send
    monkeypatch.setattr(UpperLayer, "send", send_counted)
    data_set = struct.pack("<30000I", *range(30_000))
    found = _sent_message(8, b"command set.", data_set)
    assert b"".join(each.fragment for each in found) == b"command set." + data_set
    assert {each.pdu_length for each in found} == {8}
    assert sum(sent_bytes) == 7 * (12 + len(data_set))
    assert max(sent_bytes) <= 256 * 1024 + 12


@pytest.mark.parametrize("maximum", range(1, 8))
def test_a_maximum_that_leaves_no_room_is_exceeded(maximum: int) -> None:
    """Two bytes fit into no PDU of fewer than eight: they are sent even so, not for ever."""
    found = _sent_message(maximum, b"abcdef", None)
    assert [each.fragment for each in found] == [b"ab", b"cd", b"ef"]


def test_an_empty_data_set_is_one_empty_fragment() -> None:
    """It was announced, so its end is told."""
    *_, last = _sent_message(16_384, b"command set.", b"")
    assert (last.control, last.fragment) == (LAST, b"")


@pytest.mark.parametrize("maximum", [0, 0xFFFFFFFF])
def test_without_a_limit_pieces_are_large_but_not_endless(maximum: int) -> None:
    """A peer that takes anything is sent PDUs of at most 256 KiB."""
    data_set = bytes(3_000_000)
    found = _sent_message(maximum, b"command set.", data_set)
    assert max(each.pdu_length for each in found) == 256 * 1024
    assert sum(len(each.fragment) for each in found[1:]) == len(data_set)


# --- the end


def test_the_peer_can_read_what_was_sent_last(link: Link) -> None:
    """Bytes that we never read do not reset the connection before the A-ABORT is taken (Sta13)."""
    link.peer.sendall(bytes(60_000))
    with ThreadPoolExecutor(1) as executor:
        link.upper_layer.send_abort(Abort.UNRECOGNISED_PDU)
        closed = executor.submit(link.upper_layer.close, _SECONDS)
        assert _read_to_end(link.peer) == b"\x07\0\0\0\0\4\0\0\2\1"
        link.peer.close()
        closed.result(_SECONDS / 2)


def test_a_peer_that_does_not_close_is_waited_for_a_while(link: Link) -> None:
    """After the time it was given, the connection is closed without it (ARTIM)."""
    link.upper_layer.close(0.1)
    assert link.upper_layer._connection.fileno() == -1


def test_a_peer_that_goes_on_talking_is_not_listened_to_for_ever(tcp: Link) -> None:
    """What comes in the end is thrown away, and does not put the end off."""
    with _trickling(tcp.peer, bytes(5_000)):
        tcp.upper_layer.close(0.2)
    assert tcp.upper_layer._connection.fileno() == -1


def test_without_time_to_linger_the_connection_is_closed_at_once(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was said there is nothing to wait for."""
    monkeypatch.setattr(transport, "wait", pytest.fail)
    link.upper_layer.close(0)
    assert link.upper_layer._connection.fileno() == -1


def test_closing_a_connection_that_was_lost_raises_nothing(tcp: Link) -> None:
    """The descriptor is given back whatever has become of the connection."""
    tcp.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp.peer.close()
    tcp.upper_layer.close(_SECONDS)
    tcp.upper_layer.close(_SECONDS)
    assert tcp.upper_layer._connection.fileno() == -1
