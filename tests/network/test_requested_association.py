"""An association that we request, from the request to its end, and peers that do anything."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from pacsnode.dicom.ae import RemoteAE, TlsFiles
from pacsnode.network import messages, requested_association, transport
from pacsnode.network.associate import ProposedContext, read_associate_request
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import (
    StoreOptions,
    encode_echo_request,
    encode_store_request,
)
from pacsnode.network.connecting import RequestError
from pacsnode.network.messages import NoResponse
from pacsnode.network.requested_association import RequestedAssociation
from tests.support import hostile
from tests.support.link import tls_contexts
from tests.support.peer import (
    Part,
    accept,
    next_pdu,
    peer,
    read_command,
    release_politely,
    response,
)
from tests.support.server import LIMITS
from tests.support.wire import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

_CONTEXTS = (ProposedContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),)
_ECHO = encode_echo_request(VERIFICATION, 7)
_ABORTED_BY_USER = (hostile.ABORT, bytes(4))


def _do_nothing() -> None:
    pass


def _request(
    port: int, *, while_waiting: Callable[[], None] = _do_nothing, **settings: object
) -> RequestedAssociation:
    remote = replace(RemoteAE("DEST", "127.0.0.1", port), **settings)  # type: ignore[arg-type]
    return RequestedAssociation(
        remote,
        _CONTEXTS,
        calling_ae_title="PACSNODE",
        limits=LIMITS,
        while_waiting=while_waiting,
    )


def _echoed(association: RequestedAssociation) -> int:
    association.send(1, _ECHO)
    return association.receive_response(7, _do_nothing).status


def test_an_association_is_requested_used_and_released() -> None:
    """Request, answer, message, response, release: each as the Standard has it (PS3.8 9.2)."""

    def part(connection: socket.socket) -> None:
        request = read_associate_request(accept(connection))
        assert (request.called_ae_title, request.calling_ae_title) == ("DEST", "PACSNODE")
        assert request.contexts == _CONTEXTS
        connection.sendall(response(read_command(connection), 0x0000))
        release_politely(connection)

    with peer(part) as port, _request(port) as association:
        assert [cx.is_accepted for cx in association.contexts] == [True]
        assert _echoed(association) == 0x0000


def test_a_destination_may_ask_for_a_title_of_ours() -> None:
    """Its own setting goes before the title that we were called by (E-15)."""

    def part(connection: socket.socket) -> None:
        assert read_associate_request(accept(connection)).calling_ae_title == "OURS"
        release_politely(connection)

    with peer(part) as port, _request(port, calling_ae_title="OURS"):
        pass


# --- what keeps it from coming about


def _say(content: bytes) -> Part:
    def part(connection: socket.socket) -> None:
        next_pdu(connection)
        connection.sendall(content)

    return part


def _say_and_hear_abort(content: bytes, source: int, reason: int) -> Part:
    def part(connection: socket.socket) -> None:
        _say(content)(connection)
        assert next_pdu(connection) == (hostile.ABORT, bytes((0, 0, source, reason)))
        assert next_pdu(connection) is None

    return part


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (
            _say(hostile.pdu(hostile.ASSOCIATE_RJ, bytes((0, 2, 3, 2)))),
            "association rejected for now: local limit exceeded (2, 3, 2)",
        ),
        (_say(hostile.pdu(hostile.ABORT, bytes(4))), "it has aborted the association request"),
        (_say(b""), "the peer has closed the connection"),
        (
            _say_and_hear_abort(hostile.pdu(hostile.RELEASE_RQ, bytes(4)), 2, 2),
            "it answers with a PDU of type 05H",
        ),
        (
            _say_and_hear_abort(b"HTTP/1.1 400 Bad Request\r\n", 2, 1),
            "it does not speak DICOM: 48H is no PDU type",
        ),
        (
            _say_and_hear_abort(hostile.pdu(hostile.ASSOCIATE_AC, length=1_000_000), 2, 6),
            "its answer says that it has 1000000 bytes",
        ),
        (
            _say_and_hear_abort(hostile.pdu(hostile.ASSOCIATE_AC, bytes(20)), 2, 6),
            "its answer to the association request: it ends within its fixed fields",
        ),
    ],
    ids=["rejected", "aborted", "closed", "unexpected", "no DICOM", "too long", "damaged"],
)
def test_what_comes_instead_of_an_association_is_told(part: Part, reason: str) -> None:
    """And what is no right answer is aborted (PS3.8 9.2.3, Sta5)."""
    with peer(part) as port, pytest.raises(RequestError) as refused:
        _request(port)
    assert str(refused.value) == reason


def _wait_for_abort(connection: socket.socket) -> None:
    assert next_pdu(connection) is not None  # the request
    assert next_pdu(connection) == _ABORTED_BY_USER
    assert next_pdu(connection) is None


def test_a_peer_that_does_not_answer_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is aborted; whoever waits is told meanwhile (E-12, H-17)."""
    monkeypatch.setattr(transport, "_LOOK_SECONDS", 0.02)
    told: list[int] = []
    with peer(_wait_for_abort) as port, pytest.raises(RequestError) as refused:
        _request(port, while_waiting=lambda: told.append(1), negotiation_timeout_seconds=0.2)
    assert str(refused.value) == "no answer in 0.2 s"
    assert len(told) > 2


def test_whoever_waits_may_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is aborted then, and the connection closed (E-17)."""
    monkeypatch.setattr(transport, "_LOOK_SECONDS", 0.02)

    def give_up() -> None:
        raise InterruptedError

    with peer(_wait_for_abort) as port, pytest.raises(InterruptedError):
        _request(port, while_waiting=give_up)


# --- messages


@pytest.fixture
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(messages, "_LOOK_SECONDS", 0.02)
    return


@pytest.mark.usefixtures("_looking_often")
def test_whoever_waits_for_a_response_is_told() -> None:
    """Until it comes (E-12)."""
    has_waited = Event()

    def part(connection: socket.socket) -> None:
        accept(connection)
        command = read_command(connection)
        assert has_waited.wait(20)
        connection.sendall(response(command, 0xB000))
        release_politely(connection)

    with peer(part) as port, _request(port) as association:
        association.send(1, _ECHO)
        assert association.receive_response(7, has_waited.set).status == 0xB000


def _answer_with(*contents: Callable[[dict[int, bytes]], bytes]) -> Part:
    """Answer a request so; then wait for an A-ABORT."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        command = read_command(connection)
        for content in contents:
            connection.sendall(content(command))
        found = next_pdu(connection)
        assert found is not None
        assert found[0] == hostile.ABORT
        assert next_pdu(connection) is None

    return part


@pytest.mark.usefixtures("_looking_often")
def test_a_response_that_does_not_come_in_time_is_not_waited_for() -> None:
    """The association is aborted (E-16, H-17)."""
    with (
        peer(_answer_with()) as port,
        pytest.raises(NoResponse, match=r"no response in 0\.2 s"),
        _request(port, dimse_timeout_seconds=0.2) as association,
    ):
        _echoed(association)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            lambda command: response(command, 0, _0120=hostile.us(8)),
            "something else than the response",
        ),
        (
            lambda _: hostile.message(1, hostile.encoded_command(hostile.echo_elements())),
            "something else than the response",
        ),
        (lambda command: response(command, 0, _0900=b""), "has no Status"),
        (lambda _: hostile.message(1, b"\0\0"), "ends within an element's header"),
        (lambda _: hostile.pdu(hostile.P_DATA, hostile.pdv(1, hostile.LAST, b"x")), "out of place"),
        (lambda _: hostile.pdu(hostile.ASSOCIATE_AC, bytes(68)), "has no place here"),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n", "is no PDU type"),
        (lambda _: hostile.pdu(hostile.P_DATA, length=0x7FFFFFFF), "says that it has"),
    ],
)
def test_what_comes_instead_of_a_response_is_aborted(
    content: Callable[[dict[int, bytes]], bytes], reason: str
) -> None:
    """At once, not when the time is over (H-18; PS3.8 9.2.3, Sta6)."""
    started_at = time.monotonic()
    with (
        peer(_answer_with(content)) as port,
        pytest.raises(AssociationEnd, match=reason),
        _request(port) as association,
    ):
        _echoed(association)
    assert time.monotonic() - started_at < LIMITS.dimse_timeout_seconds / 2


def test_a_data_set_that_nobody_needs_is_dropped() -> None:
    """A response that has one is a response all the same."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        command = read_command(connection)
        connection.sendall(response(command, 0x0000, _0800=hostile.us(0x0001)))
        for control in (0, hostile.LAST):
            connection.sendall(hostile.pdu(hostile.P_DATA, hostile.pdv(1, control, bytes(500))))
        connection.sendall(response(read_command(connection), 0x0001))
        release_politely(connection)

    with peer(part) as port, _request(port) as association:
        assert [_echoed(association), _echoed(association)] == [0x0000, 0x0001]


def test_messages_keep_to_the_maximum_length_of_the_peer() -> None:
    """However tiny it is (H-6)."""

    def part(connection: socket.socket) -> None:
        accept(connection, maximum_length=8)
        command = read_command(connection)
        assert command[0x0110] == hostile.us(7)
        connection.sendall(response(command, 0x0000))
        release_politely(connection)

    with peer(part) as port, _request(port) as association:
        assert _echoed(association) == 0x0000


# --- the end


def test_a_release_is_agreed_to() -> None:
    """A peer that asks for the release in place of the response gets its answer (PS3.8 7.2.2)."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        read_command(connection)
        connection.sendall(hostile.pdu(hostile.RELEASE_RQ, bytes(4)))
        assert next_pdu(connection) == (hostile.RELEASE_RP, bytes(4))

    with peer(part) as port, pytest.raises(AssociationEnd) as ended, _request(port) as association:
        _echoed(association)
    assert ended.value.is_released


@pytest.mark.parametrize("how", ["abort", "close"])
def test_an_association_that_the_peer_ends_is_over(how: str) -> None:
    """Nothing more is said (PS3.8 9.2.3, Sta6)."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        read_command(connection)
        if how == "abort":
            connection.sendall(hostile.pdu(hostile.ABORT, bytes(4)))
            assert next_pdu(connection) is None

    with peer(part) as port, pytest.raises(AssociationEnd) as ended, _request(port) as association:
        _echoed(association)
    assert ended.value.abort is None


def test_two_releases_may_cross() -> None:
    """Both are answered, the requestor's last (PS3.8 9.2.3, Sta9 and Sta11)."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        assert next_pdu(connection) == (hostile.RELEASE_RQ, bytes(4))
        connection.sendall(hostile.pdu(hostile.RELEASE_RQ, bytes(4)))
        assert next_pdu(connection) == (hostile.RELEASE_RP, bytes(4))
        connection.sendall(hostile.pdu(hostile.RELEASE_RP, bytes(4)))
        assert next_pdu(connection) is None

    with peer(part) as port, _request(port):
        pass


def test_what_comes_after_a_release_request_is_dropped() -> None:
    """A message that was on its way does not keep the release back (PS3.8 9.2.3, Sta7)."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        assert next_pdu(connection) == (hostile.RELEASE_RQ, bytes(4))
        connection.sendall(hostile.message(1, _ECHO))
        connection.sendall(hostile.pdu(hostile.RELEASE_RP, bytes(4)))
        assert next_pdu(connection) is None

    with peer(part) as port, _request(port):
        pass


def test_a_peer_that_goes_on_talking_does_not_keep_the_release_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much it says: the limit is one for all of it (PS3.8 9.2.3, Sta7)."""
    monkeypatch.setattr(requested_association, "_LONGEST_RELEASE_SECONDS", 0.3)

    def part(connection: socket.socket) -> None:
        accept(connection)
        assert next_pdu(connection) == (hostile.RELEASE_RQ, bytes(4))
        with suppress(OSError):
            while True:
                connection.sendall(hostile.message(1, _ECHO) * 100)

    started_at = time.monotonic()
    with peer(part) as port, _request(port):
        pass
    assert time.monotonic() - started_at < 10


def test_a_release_that_is_not_answered_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All was answered before: the requestor of a retrieval is not kept waiting (E-17)."""
    monkeypatch.setattr(requested_association, "_LONGEST_RELEASE_SECONDS", 0.1)

    def part(connection: socket.socket) -> None:
        accept(connection)
        assert next_pdu(connection) == (hostile.RELEASE_RQ, bytes(4))
        assert next_pdu(connection) == _ABORTED_BY_USER

    started_at = time.monotonic()
    with peer(part) as port, _request(port):
        pass
    assert time.monotonic() - started_at < LIMITS.dimse_timeout_seconds / 2


def test_a_block_that_is_left_by_an_error_aborts() -> None:
    """A fault of ours is no release."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        assert next_pdu(connection) == _ABORTED_BY_USER
        assert next_pdu(connection) is None

    with peer(part) as port, pytest.raises(ZeroDivisionError), _request(port):
        raise ZeroDivisionError


# --- TLS


class _DataSet:
    """A data set of some length, as it is read while it is sent."""

    def __init__(self, content: bytes) -> None:
        self.length_bytes = len(content)
        self._left = memoryview(content)

    def read_into(self, room: memoryview) -> None:
        room[:] = self._left[: len(room)]
        self._left = self._left[len(room) :]


@pytest.mark.parametrize("has_tls", [False, True])
@pytest.mark.parametrize("maximum_length", [0, 4096])
def test_an_instance_is_sent_on_tcp_and_on_tls(
    tmp_path: Path, maximum_length: int, *, has_tls: bool
) -> None:
    """However much longer it is than what the kernel takes at once (H-6, H-40)."""
    content = bytes(range(256)) * 20_000
    tls = tls_contexts(tmp_path) if has_tls else None

    def part(connection: socket.socket) -> None:
        if tls is not None:
            connection = tls.acceptor.wrap_socket(connection, server_side=True)
        with connection:
            accept(connection, maximum_length=maximum_length)
            command, received, is_last = read_command(connection), bytearray(), False
            while not is_last:
                found = next_pdu(connection)
                assert found is not None
                assert len(found[1]) <= (maximum_length or 262_144)
                received += found[1][6:]
                is_last = bool(found[1][5] & hostile.LAST)
            assert received == content
            connection.sendall(response(command, 0x0000))
            release_politely(connection)

    files = TlsFiles(ca_file=tmp_path / "certificate.pem") if has_tls else None
    command_set = encode_store_request("1.2", "1.2.3", 7, StoreOptions(0))
    with peer(part) as port, _request(port, host="localhost", tls=files) as association:
        association.send_instance(1, command_set, _DataSet(content))
        assert association.receive_response(7, _do_nothing).status == 0x0000


def test_an_instance_that_cannot_be_read_aborts() -> None:
    """In the middle of a message nothing else can be said (E-11)."""

    def part(connection: socket.socket) -> None:
        accept(connection)
        while (found := next_pdu(connection)) is not None and found[0] == hostile.P_DATA:
            pass
        assert found == _ABORTED_BY_USER

    def fail_later(room: memoryview) -> None:
        if next(reads):
            raise OSError(5, "Input/output error")
        room[:] = bytes(len(room))

    reads = iter([False, True])
    data_set = _DataSet(bytes(1_000_000))
    data_set.read_into = fail_later  # type: ignore[method-assign]
    command_set = encode_store_request("1.2", "1.2.3", 7, StoreOptions(0))
    with (
        peer(part) as port,
        pytest.raises(OSError, match="Input/output error"),
        _request(port) as association,
    ):
        association.send_instance(1, command_set, data_set)
