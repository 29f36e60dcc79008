"""Peers that say nothing, too little or too slowly, or vanish: each costs its own connection only.

Each timeout is shown by a node on which it alone is short; what another timeout rules must outlast
it there.

Source: PS3.8 9.2; rule H-17.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.hostile import (
    ABORT,
    ABORT_BY_USER,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    CLOSED,
    END_SECONDS,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    answer_of,
    application_context,
    associate_rq,
    associated,
    check_others_are_served,
    connect,
    connected,
    encoded_command,
    ending_of,
    is_readable,
    message,
    next_pdu,
    nothing_is_left,
    open_sockets,
    pdu,
    pdv,
    presentation_context,
    reset,
    send,
    send_slowly,
    storage_context_of,
    store_command,
    stored_data_sets,
    threads,
    try_to_associate,
    uid_value,
    us,
    user_information,
    wait_until_closed,
)
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.node import PATIENT_TIMEOUTS, Node, running_node, under_attack
from tests.support.waiting import wait_until
from tests.support.wire import (
    PATIENT_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Association,
    ProposedContext,
    encoded_identifier,
    identifier_of,
    store_all,
)

pytestmark = pytest.mark.system

_SHORT_SECONDS = 1
# A fifth of the short timeouts: were they counted from the last byte, they would never be over.
_TRICKLE_SECONDS = 0.2
_BYTES_AT_MOST = 40
_CONNECTIONS = 1000
_SILENT = 200
_STORED = 0x0000
_FIND = {
    0x0002: uid_value(PATIENT_ROOT_FIND),
    0x0100: us(0x0020),
    0x0110: us(1),
    0x0700: us(0),
    0x0800: us(1),
}
_COMMENTS = identifier_of("PATIENT", PatientID="MUTE", PatientComments="")
_SUB_OPERATIONS_FAILED = 0xA702


@pytest.fixture(scope="module")
def patient(module_folder: Path) -> Iterator[Node]:
    """A node none of whose timeouts is over during a test."""
    with running_node(module_folder / "patient", **under_attack()) as node:
        yield node


@pytest.fixture(scope="module")
def quick_to_negotiate(module_folder: Path) -> Iterator[Node]:
    """A node on which only negotiation_timeout_seconds is short."""
    settings = under_attack(negotiation_timeout_seconds=_SHORT_SECONDS)
    with running_node(module_folder / "negotiation", **settings) as node:
        yield node


@pytest.fixture(scope="module")
def quick_to_receive(module_folder: Path) -> Iterator[Node]:
    """A node on which only dimse_timeout_seconds is short."""
    settings = under_attack(dimse_timeout_seconds=_SHORT_SECONDS)
    with running_node(module_folder / "dimse", **settings) as node:
        yield node


@pytest.fixture(scope="module")
def quick_to_part(module_folder: Path) -> Iterator[Node]:
    """A node on which only idle_timeout_seconds is short."""
    settings = under_attack(idle_timeout_seconds=_SHORT_SECONDS)
    with running_node(module_folder / "idle", **settings) as node:
        yield node


def _image() -> Instance:
    return encoded(ct_data_set())


def _single_bytes(content: bytes) -> Iterator[bytes]:
    """Yield the first bytes one by one: more than a peer may send before its time is over."""
    for start in range(_BYTES_AT_MOST):
        yield content[start : start + 1]


def _is_accepted(connection: socket.socket) -> bool:
    """Tell whether the next PDU is the A-ASSOCIATE-AC."""
    answer = next_pdu(connection, time.monotonic() + END_SECONDS)
    return answer is not None and answer[0] == ASSOCIATE_AC


def _serves(association: Association) -> bool:
    return association.c_echo() == _STORED


# --- before an association


def test_a_silent_connection_is_closed(quick_to_negotiate: Node) -> None:
    """Without a byte, by closing when the time for negotiation is over (PS3.8 9.2.3, AA-2)."""
    with nothing_is_left(quick_to_negotiate), connected(quick_to_negotiate.address) as connection:
        check_others_are_served(quick_to_negotiate)
        assert ending_of(connection) == CLOSED


def test_half_an_association_request_and_then_silence_is_closed(quick_to_negotiate: Node) -> None:
    """The time for negotiation runs from the connection, not from the last byte (H-17)."""
    long_request = pdu(ASSOCIATE_RQ, bytes(100_000), length=200_000)
    parts = [*(associate_rq()[:length] for length in (1, 5, 6, 7, 80)), long_request]
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(quick_to_negotiate.address)) for _ in parts]
        for connection, part in zip(connections, parts, strict=True):
            send(connection, part)
        check_others_are_served(quick_to_negotiate)
        for connection in connections:
            wait_until_closed(connection)


def test_an_association_request_that_trickles_is_cut_off(quick_to_negotiate: Node) -> None:
    """The whole A-ASSOCIATE-RQ must have come in time, however alive the sender is (H-17)."""
    with connected(quick_to_negotiate.address) as connection:
        sent = send_slowly(connection, _single_bytes(associate_rq()), _TRICKLE_SECONDS)
        assert sent < _BYTES_AT_MOST
        check_others_are_served(quick_to_negotiate)
        ending_of(connection)


def test_an_association_request_in_single_bytes_in_time_is_accepted(patient: Node) -> None:
    """TCP has no records: it does not matter how the bytes of a PDU are cut."""
    with connected(patient.address) as connection:
        for byte in associate_rq():
            send(connection, bytes((byte,)))
        assert _is_accepted(connection)


def _stay_after_an_abort(connection: socket.socket) -> None:
    send(connection, pdu(P_DATA, pdv(1, 3)))
    answer = next_pdu(connection, deadline=time.monotonic() + END_SECONDS)
    assert answer == (ABORT, bytes((0, 0, *ABORT_BY_USER)))


def _stay_after_a_rejection(connection: socket.socket) -> None:
    send(connection, associate_rq(called=b"NOBODY"))
    answer = next_pdu(connection, deadline=time.monotonic() + END_SECONDS)
    assert answer == (ASSOCIATE_RJ, bytes((0, 1, 1, 7)))


def _stay_after_a_release(connection: socket.socket) -> None:
    deadline = time.monotonic() + END_SECONDS
    for asked, answered in (
        (associate_rq(), ASSOCIATE_AC),
        (pdu(RELEASE_RQ, bytes(4)), RELEASE_RP),
    ):
        send(connection, asked)
        answer = next_pdu(connection, deadline)
        assert answer is not None
        assert answer[0] == answered


def test_who_stays_after_the_end_is_closed(quick_to_negotiate: Node) -> None:
    """Waiting for the peer to close is limited by the time for negotiation, too (PS3.8 Sta13)."""
    with ExitStack() as stack:
        for begin in (_stay_after_an_abort, _stay_after_a_rejection, _stay_after_a_release):
            connection = stack.enter_context(connected(quick_to_negotiate.address))
            begin(connection)
            check_others_are_served(quick_to_negotiate)
            stack.callback(wait_until_closed, connection)


def test_who_goes_on_talking_after_the_end_is_closed(quick_to_negotiate: Node) -> None:
    """What still comes is passed over and gives no more time (PS3.8 Sta13, AA-6)."""
    more = [pdu(P_DATA, pdv(1, 3))] * _BYTES_AT_MOST
    with connected(quick_to_negotiate.address) as connection:
        _stay_after_an_abort(connection)
        assert send_slowly(connection, more, _TRICKLE_SECONDS) < _BYTES_AT_MOST
        check_others_are_served(quick_to_negotiate)
        wait_until_closed(connection)


def test_two_hundred_silent_connections_take_no_place_and_go(module_folder: Path) -> None:
    """They do not count as associations, are closed in time and leave nothing (H-17)."""
    association = {**PATIENT_TIMEOUTS, "negotiation_timeout_seconds": 2, "maximum_associations": 3}
    with (
        running_node(module_folder / "silent", association=association) as node,
        ExitStack() as all_,
    ):
        before = open_sockets(node)
        silent = [all_.enter_context(connected(node.address)) for _ in range(_SILENT)]

        check_others_are_served(node)
        opened = [
            wait_until(lambda: try_to_associate(node.address), "a place for an association")
            for _ in range(3)
        ]
        assert all(_serves(each) for each in opened)
        for each in opened:
            each.release()
        check_others_are_served(node)
        assert [ending_of(connection, 20) for connection in silent] == [CLOSED] * _SILENT
        wait_until(lambda: open_sockets(node) <= before, "the connections to be closed")
        store_all(node.address, [_image()])


@contextmanager
def _black_hole() -> Iterator[int]:
    """Yield a port where no connection is ever made: the kernel drops what asks for one."""
    with socket.socket() as listener, ExitStack() as opened:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # the queue of connections that nobody accepts is full with one
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003 - the name is Python's
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def _close(connection: socket.socket) -> None:
    connection.close()


def _half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    connection.close()


def _ask_and_close(connection: socket.socket) -> None:
    send(connection, associate_rq())
    connection.close()


def _ask_and_reset(connection: socket.socket) -> None:
    send(connection, associate_rq())
    reset(connection)


_WAYS_TO_GO = (_close, _half_close, reset, _ask_and_close, _ask_and_reset)


def test_a_thousand_connections_opened_and_closed_leave_nothing(patient: Node) -> None:
    """Closed, reset, before or after an A-ASSOCIATE-RQ: no socket and no thread stays."""
    with nothing_is_left(patient):
        threads_before = threads(patient)
        for number in range(_CONNECTIONS):
            _WAYS_TO_GO[number % len(_WAYS_TO_GO)](connect(patient.address))
            if number % 200 == 100:
                check_others_are_served(patient)
        check_others_are_served(patient)
        wait_until(lambda: threads(patient) <= threads_before, "the threads to end")


def test_connections_that_are_closed_while_negotiated_are_gone_at_once(patient: Node) -> None:
    """A health check that connects and hangs up is not kept for the time of a negotiation."""
    before = open_sockets(patient)
    for _ in range(20):
        connect(patient.address).close()
    wait_until(lambda: open_sockets(patient) <= before, "the connections to be closed")


# --- on an association


def _half_a_header(instance: Instance) -> bytes:
    return message(1, store_command(instance))[:3]


def _half_a_command(instance: Instance) -> bytes:
    return message(1, store_command(instance))[:60]


def _no_data_set(instance: Instance) -> bytes:
    return message(1, store_command(instance))


def _half_a_data_set_header(instance: Instance) -> bytes:
    return message(1, store_command(instance)) + pdu(P_DATA, pdv(1, 0, bytes(100)))[:8]


def _half_a_data_set(instance: Instance) -> bytes:
    content = instance.encoded_data_set
    return message(1, store_command(instance), content)[: -len(content) // 2]


def _half_a_message(instance: Instance) -> bytes:
    return message(1, store_command(instance)) + pdu(
        P_DATA, pdv(1, 0, instance.encoded_data_set[:100])
    )


_UNFINISHED = [
    _half_a_header,
    _half_a_command,
    _no_data_set,
    _half_a_data_set_header,
    _half_a_data_set,
    _half_a_message,
]


def test_silence_within_a_message_ends_the_association(quick_to_receive: Node) -> None:
    """Within a PDU or between two of a message, for longer than the DIMSE timeout (H-17)."""
    with nothing_is_left(quick_to_receive), ExitStack() as stack:
        cut_off = {}
        for unfinished in _UNFINISHED:
            instance = _image()
            proposed = [storage_context_of(instance)]
            association = stack.enter_context(associated(quick_to_receive.address, proposed))
            send(association.socket, unfinished(instance))
            cut_off[unfinished.__name__] = association.socket
        check_others_are_served(quick_to_receive)
        not_aborted = [name for name, sent in cut_off.items() if ending_of(sent).abort is None]
        assert not_aborted == []


@pytest.mark.parametrize("start", [_no_data_set, _half_a_data_set_header])
def test_a_pdu_that_trickles_ends_the_association(
    quick_to_receive: Node, start: Callable[[Instance], bytes]
) -> None:
    """A PDU, once begun, must be complete within the DIMSE timeout, however alive the sender."""
    instance = _image()
    data_set = pdu(P_DATA, pdv(1, 2, instance.encoded_data_set))
    with (
        nothing_is_left(quick_to_receive),
        associated(quick_to_receive.address, [storage_context_of(instance)]) as association,
    ):
        send(association.socket, start(instance))
        assert send_slowly(association.socket, _single_bytes(data_set), _TRICKLE_SECONDS) < (
            _BYTES_AT_MOST
        )
        check_others_are_served(quick_to_receive)
        assert ending_of(association.socket).abort is not None


def test_a_command_that_trickles_ends_the_association(quick_to_receive: Node) -> None:
    """The same for the first PDU of a message: it is no idle association that could stay."""
    instance = _image()
    command = message(1, store_command(instance))
    with (
        nothing_is_left(quick_to_receive),
        associated(quick_to_receive.address, [storage_context_of(instance)]) as association,
    ):
        sent = send_slowly(association.socket, _single_bytes(command), _TRICKLE_SECONDS)
        assert sent < _BYTES_AT_MOST
        check_others_are_served(quick_to_receive)
        assert ending_of(association.socket).abort is not None


def test_a_slow_sender_of_whole_pdus_is_waited_for(quick_to_receive: Node) -> None:
    """The DIMSE timeout limits a PDU and a silence, not how long a message takes (H-17)."""
    instance = _image()
    content = instance.encoded_data_set
    size = -(-len(content) // 8)
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    pdus = [pdu(P_DATA, pdv(1, 2 * (part is parts[-1]), part)) for part in parts]
    with associated(quick_to_receive.address, [storage_context_of(instance)]) as association:
        send(association.socket, message(1, store_command(instance)))
        assert send_slowly(association.socket, pdus, _TRICKLE_SECONDS) == len(pdus)
        assert answer_of(association) == _STORED
    assert stored_data_sets(quick_to_receive, instance) == [content]


def test_who_never_reads_the_answers_is_cut_off(quick_to_receive: Node) -> None:
    """Queries without end whose long answers nobody takes: the node does not wait for ever."""
    instance = encoded(ct_data_set(PatientID="MUTE", PatientComments="x" * 10_000))
    store_all(quick_to_receive.address, [instance])
    queries = message(1, encoded_command(_FIND), encoded_identifier(_COMMENTS)) * 100
    with socket.socket() as connection:
        # Before connecting, so that the node is never offered more than a small window.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(quick_to_receive.address)
        query_context = presentation_context(1, PATIENT_ROOT_FIND)
        send(connection, associate_rq(application_context(), query_context, user_information()))
        assert _is_accepted(connection)
        connection.setblocking(False)  # noqa: FBT003 - the name is Python's

        def is_over() -> bool:
            try:
                while connection.send(queries):
                    pass
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            return False

        is_over()
        check_others_are_served(quick_to_receive)
        wait_until(is_over, "the association to be cut off")
        check_others_are_served(quick_to_receive)


def test_an_idle_association_is_aborted(quick_to_part: Node) -> None:
    """An A-ABORT after idle_timeout_seconds, not a mere close (H-17)."""
    with nothing_is_left(quick_to_part), associated(quick_to_part.address) as association:
        check_others_are_served(quick_to_part)
        assert ending_of(association.socket).abort is not None


def test_an_association_that_is_used_now_and_then_stays(quick_to_part: Node) -> None:
    """Each message starts the idle time anew (H-17)."""
    with associated(quick_to_part.address) as association:
        for _ in range(4):
            assert _serves(association)
            assert not is_readable(association.socket, 2 * _TRICKLE_SECONDS)
        assert _serves(association)


def _begin_store(association: Association, instance: Instance) -> None:
    send(association.socket, _half_a_data_set(instance))


def _finish_store(association: Association, instance: Instance) -> int | None:
    whole = message(1, store_command(instance), instance.encoded_data_set)
    send(association.socket, whole[len(_half_a_data_set(instance)) :])
    return answer_of(association)


def test_the_negotiation_timeout_ends_nothing_else(quick_to_negotiate: Node) -> None:
    """When it has closed a silent connection, an older association and its message go on."""
    node, instance = quick_to_negotiate, _image()
    with (
        associated(node.address) as idle,
        associated(node.address, [storage_context_of(instance)]) as busy,
    ):
        _begin_store(busy, instance)
        with connected(node.address) as silent:
            ending_of(silent)
        assert _serves(idle)
        assert _finish_store(busy, instance) == _STORED


def test_the_dimse_timeout_ends_nothing_else(quick_to_receive: Node) -> None:
    """When it has ended half a message, an older connection and an association go on."""
    node, instance = quick_to_receive, _image()
    with connected(node.address) as silent, associated(node.address) as idle:
        with associated(node.address, [storage_context_of(instance)]) as busy:
            _begin_store(busy, instance)
            ending_of(busy.socket)
        assert _serves(idle)
        send(silent, associate_rq())
        assert _is_accepted(silent)


def test_the_idle_timeout_ends_nothing_else(quick_to_part: Node) -> None:
    """When it has aborted an idle association, an older connection and half a message go on."""
    node, instance = quick_to_part, _image()
    with (
        connected(node.address) as silent,
        associated(node.address, [storage_context_of(instance)]) as busy,
    ):
        _begin_store(busy, instance)
        with associated(node.address) as idle:
            ending_of(idle.socket)
        assert _finish_store(busy, instance) == _STORED
        send(silent, associate_rq())
        assert _is_accepted(silent)


def test_the_connect_timeout_limits_a_move_to_a_destination_that_does_not_answer(
    module_folder: Path,
) -> None:
    """A702 long before any other timeout is over; others are served meanwhile (H-17)."""
    with _black_hole() as port:
        settings = {**PATIENT_TIMEOUTS, "connect_timeout_seconds": _SHORT_SECONDS}
        remote = {"ae_title": "HOLE", "host": "127.0.0.1", "port": port}
        folder, instance = module_folder / "connect", _image()
        with running_node(folder, association=settings, remote_aes=[remote]) as node:
            store_all(node.address, [instance])
            with associated(node.address, [ProposedContext(STUDY_ROOT_MOVE)]) as association:
                identifier = identifier_of(
                    "STUDY", StudyInstanceUID=str(instance.study_instance_uid)
                )
                responses = association.start_move(STUDY_ROOT_MOVE, "HOLE", identifier)
                check_others_are_served(node)
                assert list(responses)[-1].status == _SUB_OPERATIONS_FAILED


@pytest.mark.parametrize("unfinished", _UNFINISHED)
def test_a_reset_in_the_middle_leaves_nothing(
    patient: Node, unfinished: Callable[[Instance], bytes]
) -> None:
    """RST within a PDU or between two of a message: no file, no row, no open connection."""
    instance = _image()
    with (
        nothing_is_left(patient),
        associated(patient.address, [storage_context_of(instance)]) as association,
    ):
        send(association.socket, unfinished(instance))
        check_others_are_served(patient)
        reset(association.socket)
        check_others_are_served(patient)


def test_a_reset_behind_a_whole_object_leaves_it_whole_or_not_at_all(patient: Node) -> None:
    """The sender that does not wait for the answer may send again: one file in the end."""
    instances = [_image() for _ in range(20)]
    for instance in instances:
        with associated(patient.address, [storage_context_of(instance)]) as association:
            whole = message(1, store_command(instance), instance.encoded_data_set)
            send(association.socket, whole)
            reset(association.socket)
    check_others_are_served(patient)
    store_all(patient.address, instances)
    contents = [stored_data_sets(patient, instance) for instance in instances]
    assert contents == [[instance.encoded_data_set] for instance in instances]
