"""The sub-operations of a retrieval, against destinations that do anything."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import BasicTextSRStorage, CTImageStorage
from pynetdicom.sop_class import _STORAGE_CLASSES

from pacsnode.catalog.records import FailureCause, StoredInstance
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.status import Status
from pacsnode.network import messages, store_scu, sub_operations, transport
from pacsnode.network import retrieval as room
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import CommandSet
from pacsnode.network.proposal import SendingContexts
from pacsnode.network.retrieval import SubOperations, describe
from pacsnode.network.store_scu import Failure, StoreScu
from pacsnode.network.sub_operations import get
from pacsnode.network.upper_layer import UpperLayer
from tests.support import retrieval
from tests.support.conversation import Conversation
from tests.support.destination import ReceivedStore, Script, destination
from tests.support.instances import ct_data_set, encoded, sr_data_set
from tests.support.node import free_port
from tests.support.retrieval import Counts, Place
from tests.support.server import LIMITS

EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty place."""
    with retrieval.place(tmp_path) as made:
        yield made


@pytest.fixture
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (messages, store_scu, sub_operations, transport):
        monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(room, "_LONGEST_PENDING_SECONDS", 0.05)


def _here(port: int, **settings: int) -> RemoteAE:
    return replace(RemoteAE("DEST", "127.0.0.1", port), **settings)  # type: ignore[arg-type]


# --- counters and final status


def _state(completed: int, failed: int, warning: int, remaining: int = 0) -> SubOperations:
    total = completed + failed + warning + remaining
    return SubOperations(total, ["1"] * completed, ["1"] * failed, ["1"] * warning)


@pytest.mark.parametrize(
    ("completed", "failed", "warning", "status"),
    [
        (0, 0, 0, 0x0000),
        (3, 0, 0, 0x0000),
        (2, 1, 0, 0xB000),
        (2, 0, 1, 0xB000),
        (1, 1, 1, 0xB000),
        (0, 0, 2, 0xB000),
        (0, 2, 0, 0xA702),
        (0, 1, 1, 0xB000),
    ],
)
def test_the_final_status_follows_from_the_counters(
    completed: int, failed: int, warning: int, status: int
) -> None:
    """Each row of the matrix of final statuses (E-8)."""
    assert _state(completed, failed, warning).final_status == status


def test_what_was_cancelled_says_so() -> None:
    """Also where the cancel came during the last instance, and nothing remains (E-8, E-9, E-17)."""
    state = _state(1, 0, 0, remaining=1)
    state.is_cancelled = True
    assert state.final_status is Status.CANCEL
    state.completed.append("2")
    assert (state.final_status, state.remaining) == (Status.CANCEL, 0)


def test_counts_are_logged_as_they_are() -> None:
    """However many there are (E-20)."""
    assert describe(_state(70_000, 1, 2)) == "70000 completed, 1 failed, 2 warning, 0 not started"


@given(
    st.lists(st.lists(st.sampled_from(["completed", "failed", "warning"]), max_size=60), max_size=4)
)
def test_the_counters_always_add_up(lanes: list[list[str]]) -> None:
    """While any number of lanes add to the lists, each look at them sums up to all (E-9)."""
    total = sum(map(len, lanes))
    state = SubOperations(total)
    is_over = threading.Event()
    sums: list[int] = []

    def look() -> None:
        while not is_over.is_set():
            counts = state.counts
            assert min(counts) >= 0
            sums.append(sum(counts))

    def add(outcomes: list[str]) -> None:
        for outcome in outcomes:
            getattr(state, outcome).append("1.2")

    with ThreadPoolExecutor(len(lanes) + 1) as executor:
        looking = executor.submit(look)
        for lane in [executor.submit(add, outcomes) for outcomes in lanes]:
            lane.result()
        is_over.set()
        looking.result()
    assert set(sums) <= {total}
    assert state.remaining == 0


# --- what becomes of an instance


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        (0x0000, (0, 1, 0, 0)),
        (0xB000, (0, 0, 0, 1)),
        (0xB007, (0, 0, 0, 1)),
        (0xB123, (0, 0, 0, 1)),
        (0x0107, (0, 0, 0, 1)),
        (0x0116, (0, 0, 0, 1)),
        (0x0001, (0, 0, 0, 1)),
        (0xA700, (0, 0, 1, 0)),
        (0xC000, (0, 0, 1, 0)),
        (0x0117, (0, 0, 1, 0)),
        (0xFE00, (0, 0, 1, 0)),
        (0xFF00, (0, 0, 1, 0)),
        (0x1234, (0, 0, 1, 0)),
    ],
)
def test_a_status_of_the_destination_is_counted(place: Place, status: int, counts: Counts) -> None:
    """0000 is completed, Bxxx and three others are warnings, all else has failed (E-16)."""
    with destination(status_of=lambda _: status) as running:
        assert place.move(running.port, place.keep_images(1)).counts == counts


def test_each_instance_is_in_one_bucket(place: Place) -> None:
    """Completed, failed and warning are told apart by UID, and sum up to all (E-9, E-11)."""
    stored = place.keep_images(4)
    statuses = iter([0x0000, 0xA700, 0xB000, 0x0000])
    with destination(status_of=lambda _: next(statuses)) as running:
        state = place.move(running.port, stored)
    uids = [instance.sop_instance_uid for instance in stored]
    assert (state.completed, state.failed, state.warning) == (
        [uids[0], uids[3]],
        [uids[1]],
        [uids[2]],
    )


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_the_sub_operations_say_who_asked_and_how_urgently(place: Place, priority: int) -> None:
    """Originator, its Message ID, priority and our own title go with each (E-13 to E-15)."""
    place.priority = priority
    with destination() as running:
        place.move(running.port, place.keep_images(2))
    assert len(running.received) == 2
    for store in running.received:
        assert store.move_originator_ae_title == "WORKSTATION"
        assert store.move_originator_message_id == 77
        assert store.priority == priority
        assert (store.calling_ae_title, store.called_ae_title) == ("PACSNODE", "DEST")


def test_nothing_to_move_needs_no_association(place: Place) -> None:
    """Without instances there is no Pending and no connection, and the end is Success (E-3)."""
    with destination() as running:
        state = place.move(running.port, [])
    assert (state.final_status, place.pending, running.proposed) == (0x0000, [], [])


def test_an_instance_without_a_context_fails_alone(place: Place) -> None:
    """What the destination has no context for fails; the others arrive (E-11, E-16)."""
    report = encoded(sr_data_set())
    with destination(sop_class_uids=(CTImageStorage,)) as running:
        state = place.move(running.port, [*place.keep_images(2), *place.keep(report)])
    assert (state.final_status, state.failed) == (0xB000, [report.sop_instance_uid])
    assert len(running.received) == 2
    assert [failure.cause for failure in place.failures()] == [FailureCause.NO_CONTEXT]


def test_a_destination_that_accepts_no_context_fails_all(place: Place) -> None:
    """An association without any context gives A702 (E-5)."""
    with destination(sop_class_uids=(BasicTextSRStorage,)) as running:
        state = place.move(running.port, place.keep_images(2))
    assert (state.final_status, state.counts) == (0xA702, (0, 0, 2, 0))


def test_a_file_that_is_gone_fails_alone(place: Place) -> None:
    """An unreadable file is in the failed list; the others arrive (E-11, E-21)."""
    stored = place.keep_images(4)
    place.file_store.path(stored[1].file.path).unlink()
    place.file_store.path(stored[2].file.path).write_bytes(b"no DICOM file" * 20)
    with destination() as running:
        state = place.move(running.port, stored)
    assert state.counts == (0, 2, 2, 0)
    assert state.failed == [instance.sop_instance_uid for instance in stored[1:3]]
    assert {failure.cause for failure in place.failures()} == {FailureCause.FILE}
    assert running.associations == 1


def test_a_file_that_fails_in_the_middle_costs_its_instance_only(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The association has to be aborted; the rest goes over another one, without limit (E-11)."""
    stored = place.keep_images(6)
    bad = {instance.sop_instance_uid for instance in stored[::2]}
    send = UpperLayer.send_instance

    def break_off(layer: UpperLayer, context_id: int, command_set: bytes, data_set: object) -> None:
        if any(uid.encode() in command_set for uid in bad):
            raise OSError(5, "Input/output error")
        send(layer, context_id, command_set, data_set)  # type: ignore[arg-type]

    monkeypatch.setattr(UpperLayer, "send_instance", break_off)
    with destination() as running:
        state = place.move(running.port, stored)
    assert set(state.failed) == bad
    assert state.counts == (0, 3, 3, 0)
    assert running.endings == ["aborted", "aborted", "aborted", "released"]


# --- destinations out of reach


def test_a_destination_that_is_down_fails_all(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A known destination that does not listen gives A702 and the whole list (E-5)."""
    stored = place.keep_images(3)
    with caplog.at_level(logging.WARNING, "pacsnode"):
        state = place.move(free_port(), stored)
    assert (state.final_status, state.counts) == (0xA702, (0, 0, 3, 0))
    assert state.failed == [instance.sop_instance_uid for instance in stored]
    assert {(failure.cause, failure.reason) for failure in place.failures()} == {
        (FailureCause.NO_ASSOCIATION, "not reachable: connection refused")
    }
    assert sum("connection refused" in message for message in caplog.messages) == 4


def test_a_destination_whose_name_is_not_known_fails_all(place: Place) -> None:
    """A host name that cannot be looked up is a destination out of reach (E-5)."""
    state = place.move(RemoteAE("DEST", "no-such-host.invalid", 104), place.keep_images(2))
    assert (state.counts, state.final_status) == ((0, 0, 2, 0), 0xA702)
    assert all(failure.reason.startswith("host name: ") for failure in place.failures())


def test_a_destination_that_rejects_fails_all(place: Place) -> None:
    """An association that is rejected gives A702 and the whole list (E-5)."""
    with destination(rejects=True) as running:
        state = place.move(running.port, place.keep_images(2))
    assert (state.final_status, state.counts) == (0xA702, (0, 0, 2, 0))
    assert "calling AE title not recognized" in place.failures()[0].reason


def test_one_batch_that_fails_leaves_the_others(place: Place) -> None:
    """What needs another association may arrive even if the first was rejected (E-32)."""
    uids = sorted(map(str, _STORAGE_CLASSES.values()))[:70]
    stored = place.keep(*(encoded(ct_data_set(SOPClassUID=uid)) for uid in uids))
    connections: list[Conversation] = []

    def close_the_first(talk: Conversation) -> None:
        connections.append(talk)
        if len(connections) == 1:
            talk.hang_up()

    script = Script(on_connection=close_the_first)
    with destination(sop_class_uids=uids, script=script) as running:
        state = place.move(running.port, stored)
    assert (state.counts, running.associations) == ((0, 6, 64, 0), 1)


def test_more_kinds_than_contexts_go_over_several_associations(place: Place) -> None:
    """Seventy classes need more contexts than one association has: all arrive, in two (E-32)."""
    uids = sorted(map(str, _STORAGE_CLASSES.values()))[:70]
    instances = [encoded(ct_data_set(SOPClassUID=uid)) for uid in uids]
    with destination(sop_class_uids=uids) as running:
        state = place.move(running.port, place.keep(*instances))
    assert (state.counts, running.associations) == ((0, 70, 0, 0), 2)
    assert running.endings == ["released", "released"]


# --- lost associations


def _at_second(act: Callable[[Conversation], None], times: int) -> Script:
    """Return what does this in place of the second answer of so many associations."""
    left = [times]

    def answer(talk: Conversation, _: ReceivedStore) -> None:
        if talk.stores == 2 and left[0]:
            left[0] -= 1
            act(talk)
        talk.answer(0x0000)

    return Script(on_store=answer)


def _release(talk: Conversation) -> None:
    talk.say(b"\x05\0\0\0\0\x04\0\0\0\0")
    assert talk.read_pdu(lambda: None)[0] == 6
    talk.hang_up()


@pytest.mark.parametrize(
    "act", [Conversation.abort, Conversation.hang_up, Conversation.reset, _release]
)
def test_a_lost_association_is_opened_again_once(
    place: Place, act: Callable[[Conversation], None]
) -> None:
    """The instance that was on its way is sent again, behind all others (E-19)."""
    stored = place.keep_images(5)
    with destination(script=_at_second(act, 1)) as running:
        state = place.move(running.port, stored)
    uids = [instance.sop_instance_uid for instance in stored]
    assert (state.counts, running.associations) == ((0, 5, 0, 0), 2)
    assert running.received_uids == [*uids[:2], *uids[2:], uids[1]]


def test_a_second_loss_fails_the_rest(place: Place) -> None:
    """After the second break nothing more is tried (E-19)."""
    stored = place.keep_images(6)
    with destination(script=_at_second(Conversation.abort, 2)) as running:
        state = place.move(running.port, stored)
    assert (state.counts, running.associations) == ((0, 2, 4, 0), 2)
    assert len(running.received) == 4
    assert {(failure.cause, failure.reason) for failure in place.failures()} == {
        (FailureCause.LOST, "the peer has aborted the association")
    }


def test_a_release_in_the_middle_is_named_as_the_reason(place: Place) -> None:
    """A destination that releases has said nothing else; its failures say that (E-19)."""
    with destination(script=_at_second(_release, 2)) as running:
        place.move(running.port, place.keep_images(6))
    assert {failure.reason for failure in place.failures()} == {"it has released the association"}


def test_an_instance_that_breaks_each_association_fails_alone(place: Place) -> None:
    """It goes last the second time, and so takes nobody with it (E-19)."""
    stored = place.keep_images(5)
    bad = stored[1].sop_instance_uid

    def answer(talk: Conversation, store: ReceivedStore) -> None:
        if store.sop_instance_uid == bad:
            talk.abort()
        talk.answer(0x0000)

    with destination(script=Script(on_store=answer)) as running:
        state = place.move(running.port, stored)
    assert (state.counts, state.failed) == ((0, 4, 1, 0), [bad])


@pytest.mark.usefixtures("_looking_often")
def test_a_destination_that_never_answers_fails_all(place: Place) -> None:
    """Each association is given up after the time of a response (E-16, E-19)."""
    script = Script(on_store=lambda talk, _: talk.ignore())
    with destination(script=script) as running:
        remote = replace(_here(running.port), dimse_timeout_seconds=0.2)
        state = place.move(remote, place.keep_images(3))
    assert (state.counts, running.associations) == ((0, 0, 3, 0), 2)
    assert {(failure.cause, failure.reason) for failure in place.failures()} == {
        (FailureCause.NO_ANSWER, "no response in 0.2 s")
    }


# --- Pending


def test_pending_tells_the_counters_as_they_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at the start, one after each but the last; the four always sum up (E-9, E-12)."""
    monkeypatch.setattr(room, "_SHORTEST_PENDING_SECONDS", 0)
    statuses = iter([0x0000, 0xA700, 0xB000])
    with destination(status_of=lambda _: next(statuses)) as running:
        place.move(running.port, place.keep_images(3))
    assert place.pending == [(3, 0, 0, 0), (2, 1, 0, 0), (1, 1, 1, 0)]


def test_pending_is_not_sent_more_than_once_a_second(place: Place) -> None:
    """Of many fast sub-operations only the first Pending is sent (E-12)."""
    with destination() as running:
        place.move(running.port, place.keep_images(20))
    assert place.pending[0] == (20, 0, 0, 0)
    assert len(place.pending) < 10


def test_pending_is_sent_while_many_are_failed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a destination out of reach was to get may be much to write down (E-12)."""
    monkeypatch.setattr(room, "_SHORTEST_PENDING_SECONDS", 0)
    place.move(free_port(), place.keep_images(3))
    assert place.pending == [(3, 0, 0, 0), (2, 0, 1, 0), (1, 0, 2, 0)]


@pytest.mark.usefixtures("_looking_often")
def test_pending_is_sent_while_a_slow_destination_is_waited_for(place: Place) -> None:
    """A requestor hears of a sub-operation that takes long before it is over (E-12)."""
    has_heard = threading.Event()

    def listen() -> None:
        if len(place.pending) > 2:
            has_heard.set()

    place.on_pending = listen
    with destination(status_of=lambda _: 0 if has_heard.wait(20) else 0xA700) as running:
        state = place.move(running.port, place.keep_images(1))
    assert place.pending[:3] == [(1, 0, 0, 0)] * 3
    assert state.counts == (0, 1, 0, 0)


@pytest.mark.usefixtures("_looking_often")
def test_pending_is_sent_while_a_destination_does_not_answer_the_association(place: Place) -> None:
    """A destination that takes the connection and is silent does not silence us (E-12, E-5)."""
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def listen() -> None:
            if len(place.pending) == 3:
                silent.accept()[0].close()

        place.on_pending = listen
        state = place.move(silent.getsockname()[1], place.keep_images(1))
    assert place.pending[:3] == [(1, 0, 0, 0)] * 3
    assert (state.counts, state.final_status) == ((0, 0, 1, 0), 0xA702)


@pytest.mark.usefixtures("_looking_often")
def test_pending_is_sent_while_an_instance_is_converted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding a large image takes long; its requestor hears from us meanwhile (E-12)."""
    monkeypatch.setattr("pacsnode.network.store_scu._LOOK_SECONDS", 0.02)
    has_heard = threading.Event()

    def listen() -> None:
        if len(place.pending) > 2:
            has_heard.set()

    place.on_pending = listen
    monkeypatch.setattr(
        "pacsnode.conversion.converter.why_not_convertible",
        lambda *_: "" if has_heard.wait(20) else "nobody has heard",
    )
    with destination(transfer_syntax_uids=("1.2.840.10008.1.2",)) as running:
        state = place.move(running.port, place.keep_images(1))
    assert place.pending[:3] == [(1, 0, 0, 0)] * 3
    assert state.counts == (0, 1, 0, 0)


# --- cancel


def test_a_cancel_stops_behind_the_instance_in_flight(place: Place) -> None:
    """What is in flight is finished and counted, what is not started remains (E-17, E-18)."""
    with destination() as running:
        place.is_cancelled = lambda: len(running.received) >= 2
        state = place.move(running.port, place.keep_images(5))
    assert (state.final_status, state.counts) == (0xFE00, (3, 2, 0, 0))
    assert len(running.received) == 2
    assert running.endings == ["released"]
    assert place.failures() == []


def test_a_cancel_before_the_first_instance_sends_nothing(place: Place) -> None:
    """Cancelled at once, everything remains and nobody is called (E-17)."""
    place.is_cancelled = lambda: True
    with destination() as running:
        state = place.move(running.port, place.keep_images(2))
    assert (state.final_status, state.counts) == (0xFE00, (2, 0, 0, 0))
    assert running.proposed == []


@pytest.mark.usefixtures("_looking_often")
@pytest.mark.parametrize("associations", [1, 3])
def test_a_cancel_does_not_wait_for_a_destination_that_is_silent(
    place: Place, associations: int
) -> None:
    """Before there is an association nothing is in flight: it is given up at once (E-17)."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place.is_cancelled = lambda: len(place.pending) > 2
        started_at = time.monotonic()
        remote = _here(silent.getsockname()[1], associations=associations)
        state = place.move(remote, place.keep_images(5))
    assert (state.final_status, state.counts) == (0xFE00, (5, 0, 0, 0))
    assert time.monotonic() - started_at < LIMITS.negotiation_timeout_seconds / 2


@pytest.mark.parametrize("associations", [1, 3])
def test_what_is_in_flight_and_lost_after_a_cancel_has_failed(
    place: Place, associations: int
) -> None:
    """It was started, so it does not remain; whether it arrived is unknown (E-9, E-11, E-17)."""
    all_are_there, is_cancelled = threading.Barrier(associations), threading.Event()
    place.is_cancelled = is_cancelled.is_set

    def go(talk: Conversation, _: ReceivedStore) -> None:
        all_are_there.wait(20)
        is_cancelled.set()
        talk.abort()

    stored = place.keep_images(9)
    with destination(script=Script(on_store=go)) as running:
        state = place.move(_here(running.port, associations=associations), stored)
    assert state.final_status is Status.CANCEL
    assert state.counts == (9 - associations, 0, associations, 0)
    assert set(state.failed) == set(running.received_uids)
    assert [each.cause for each in place.failures()] == [FailureCause.LOST] * associations


def test_nothing_is_reported_behind_a_cancel(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The final response says it (E-12)."""
    monkeypatch.setattr(room, "_SHORTEST_PENDING_SECONDS", 0)
    with destination() as running:
        place.is_cancelled = lambda: len(running.received) >= 2
        place.move(running.port, place.keep_images(5))
    assert place.pending == [(5, 0, 0, 0), (4, 1, 0, 0)]


# --- several lanes


def test_several_associations_send_at_the_same_time(place: Place) -> None:
    """As many as the destination is configured to have, each instance over one of them."""
    all_are_there = threading.Barrier(3)

    def answer(store: ReceivedStore) -> int:
        if store.message_id == 1:
            all_are_there.wait(20)
        return 0x0000

    stored = place.keep_images(30)
    with destination(status_of=answer) as running:
        state = place.move(_here(running.port, associations=3), stored)
    assert (state.counts, running.associations) == ((0, 30, 0, 0), 3)
    assert sorted(running.received_uids) == sorted(each.sop_instance_uid for each in stored)
    assert sorted(state.completed) == sorted(running.received_uids)
    assert running.endings == ["released"] * 3


def test_there_are_no_more_associations_than_instances(place: Place) -> None:
    """One instance needs one association."""
    with destination() as running:
        place.move(_here(running.port, associations=8), place.keep_images(1))
    assert running.associations == 1


def _serves_one(until_seconds: float) -> tuple[Script, threading.Semaphore]:
    """Return what serves one association only, and lets the next one in when told so.

    Args:
        until_seconds: how long another one is kept waiting before it is hung up on.
    """
    room = threading.Semaphore(1)

    def come(talk: Conversation) -> None:
        if not room.acquire(timeout=until_seconds):
            talk.hang_up()

    return Script(on_connection=come), room


@pytest.mark.usefixtures("_looking_often")
def test_a_destination_that_hangs_up_on_further_associations_gets_all(place: Place) -> None:
    """A lane that gets no association leaves its work to the one that has."""
    script, _ = _serves_one(until_seconds=0)
    with destination(script=script) as running:
        state = place.move(_here(running.port, associations=4), place.keep_images(12))
    assert (state.counts, running.associations) == ((0, 12, 0, 0), 1)
    assert place.failures() == []


@pytest.mark.usefixtures("_looking_often")
def test_a_destination_that_keeps_further_associations_waiting_gets_all(place: Place) -> None:
    """When all is sent, a lane that still waits for its association does not any more."""
    script, room = _serves_one(until_seconds=20)
    started_at = time.monotonic()
    with destination(script=script) as running:
        state = place.move(_here(running.port, associations=3), place.keep_images(12))
        seconds = time.monotonic() - started_at
        room.release(2)
    assert state.counts == (0, 12, 0, 0)
    assert seconds < LIMITS.negotiation_timeout_seconds / 2


@pytest.mark.parametrize("associations", [2, 4])
def test_lanes_that_lose_their_associations_lose_no_instance(
    place: Place, associations: int
) -> None:
    """Each lane requests another one, once; what was on its way is sent again (E-19)."""
    left = [associations]
    lock = threading.Lock()

    def answer(talk: Conversation, _: ReceivedStore) -> None:
        with lock:
            is_to_break = talk.stores == 2 and left[0] > 0
            left[0] -= is_to_break
        if is_to_break:
            talk.abort()
        talk.answer(0x0000)

    stored = place.keep_images(40)
    with destination(script=Script(on_store=answer)) as running:
        state = place.move(_here(running.port, associations=associations), stored)
    assert sum(state.counts) == 40
    assert set(running.received_uids) == {each.sop_instance_uid for each in stored}
    assert len(state.completed) + len(state.failed) == len({*state.completed, *state.failed}) == 40


def test_a_cancel_stops_all_lanes(place: Place) -> None:
    """No lane starts another instance; what is in flight is finished and counted (E-17)."""
    with destination() as running:
        place.is_cancelled = lambda: len(running.received) >= 10
        state = place.move(_here(running.port, associations=3), place.keep_images(500))
    assert state.final_status is Status.CANCEL
    assert len(state.completed) == len(running.received) < 500
    assert sum(state.counts) == 500


@pytest.mark.parametrize("associations", [1, 3])
def test_a_fault_of_ours_costs_one_instance(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    associations: int,
) -> None:
    """It is logged with its traceback and counted; the others arrive (E-9, E-11)."""
    stored = place.keep_images(12)
    send, unlucky = StoreScu.send, {stored[3], stored[11]}

    def fail(
        scu: StoreScu, instance: StoredInstance, upcoming: StoredInstance | None
    ) -> int | Failure:
        if instance in unlucky:
            raise ZeroDivisionError
        return send(scu, instance, upcoming)

    monkeypatch.setattr(StoreScu, "send", fail)
    with destination() as running:
        state = place.move(_here(running.port, associations=associations), stored)
    assert state.counts == (0, 10, 2, 0)
    assert set(state.failed) == {each.sop_instance_uid for each in unlucky}
    assert {each.cause for each in place.failures()} == {FailureCause.INTERNAL}
    faults = [record for record in caplog.records if record.exc_info]
    assert len(faults) == 2


@pytest.mark.parametrize("associations", [1, 3])
def test_a_fault_before_there_is_an_association_is_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch, associations: int
) -> None:
    """No instance is forgotten for it, whichever lane it ends."""
    monkeypatch.setattr(sub_operations, "RequestedAssociation", None)
    state = place.move(_here(1, associations=associations), place.keep_images(5))
    assert state.counts == (0, 0, 5, 0)
    assert {each.cause for each in place.failures()} == {FailureCause.INTERNAL}


def test_without_threads_there_are_fewer_lanes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system has no thread for is sent by the others."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with destination() as running:
        start = threading.Thread.start
        monkeypatch.setattr(
            threading.Thread,
            "start",
            lambda thread: (refuse if "sub-operations" in thread.name else start)(thread),
        )
        state = place.move(_here(running.port, associations=3), place.keep_images(7))
    assert state.counts == (0, 7, 0, 0)


# --- an end at once


@pytest.mark.usefixtures("_looking_often")
@pytest.mark.parametrize("associations", [1, 3])
def test_an_interrupt_does_not_wait_for_what_is_on_its_way(place: Place, associations: int) -> None:
    """A node that ends is not kept by a destination; what was on its way has failed (E-11)."""
    are_there, is_over = threading.Barrier(associations + 1), threading.Event()
    place.is_cancelled = place.is_interrupted = is_over.is_set

    def say_nothing(talk: Conversation, _: ReceivedStore) -> None:
        are_there.wait(20)
        talk.ignore()

    def interrupt() -> None:
        are_there.wait(20)
        is_over.set()

    threading.Thread(target=interrupt).start()
    started_at = time.monotonic()
    with destination(script=Script(on_store=say_nothing)) as running:
        remote = _here(running.port, associations=associations)
        state = place.move(remote, place.keep_images(9))
    assert state.counts == (9 - associations, 0, associations, 0)
    assert {each.cause for each in place.failures()} == {FailureCause.LOST}
    assert time.monotonic() - started_at < LIMITS.dimse_timeout_seconds / 2


@pytest.mark.usefixtures("_looking_often")
def test_a_cancel_does_not_wait_for_ever_for_a_slow_destination(place: Place) -> None:
    """What is on its way may take as long as an answer; then it has failed (E-17)."""
    place.is_cancelled = lambda: True
    large = encoded(ct_data_set(rows=2048, columns=2048))
    stored = place.keep(large)
    started_at = time.monotonic()
    slow = Script(receive_buffer_bytes=4096, pace=lambda: time.sleep(0.05))
    is_begun = threading.Event()
    place.is_cancelled = is_begun.is_set
    slow = replace(slow, on_command=lambda _: is_begun.set())
    with destination(script=slow) as running:
        state = place.move(_here(running.port, dimse_timeout_seconds=1), stored)
    assert (state.final_status, state.counts) == (Status.CANCEL, (0, 0, 1, 0))
    assert time.monotonic() - started_at < 15


def test_the_lines_of_all_lanes_have_the_label_of_the_association(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure in a lane of its own is logged like one in the thread that serves."""
    with destination(status_of=lambda _: 0xA700) as running, caplog.at_level("WARNING", "pacsnode"):
        place.move(_here(running.port, associations=3), place.keep_images(9))
    lines = [message for message in caplog.messages if "sub-operation" in message]
    assert len(lines) == 9
    assert all("refused: status 0xA700" in line for line in lines)


# --- C-GET


class _Channel:
    """The association of a C-GET, which is lost at one instance."""

    def __init__(self, error: Exception, at: int) -> None:
        self.error, self.at, self.sent = error, at, 0

    def send_instance(self, *_: object) -> None:
        if self.sent == self.at:
            raise AssociationEnd("lost")
        self.sent += 1
        if self.sent == self.at:
            raise self.error

    def receive_response(self, *_: object) -> CommandSet:
        return CommandSet({0x0900: b"\0\0"}, 0x8001, has_data_set=False)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (AssociationEnd("the peer has aborted the association"), FailureCause.LOST),
        (OSError(5, "Input/output error"), FailureCause.FILE),
    ],
)
def test_a_get_ends_with_its_association(
    place: Place, error: Exception, cause: FailureCause
) -> None:
    """There is no other to go on with: what was not reached has failed (E-7, E-11)."""
    channel = _Channel(error, at=3)
    contexts = SendingContexts([PresentationContext(1, CTImageStorage, EXPLICIT, 0)])
    with place.record() as record:
        state = get(place.keep_images(6), channel, contexts, place.context(record))
    assert (state.counts, channel.sent) == ((0, 2, 4, 0), 3)
    causes = [failure.cause for failure in place.failures()]
    assert sorted(causes) == sorted([cause, *[FailureCause.LOST] * 3])
