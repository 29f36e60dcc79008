"""Signals: SIGTERM lets running transfers finish, SIGHUP takes over a changed configuration."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from tests.support.destination import Destination, destination
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.node import Node, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    ProposedContext,
    Requestor,
    Response,
    SubOperation,
    find,
    get_contexts,
    identifier_of,
    move,
    query_contexts,
    scp_roles,
    storage_contexts,
    store_all,
)

pytestmark = pytest.mark.system


def _half_sent(node: Node, instance: Instance) -> Association:
    """Return an association in which the first half of an object was sent."""
    association = Association(node.address, storage_contexts([instance]))
    association.send_store_request(1, CTImageStorage.encode(), instance.sop_instance_uid.encode())
    half = len(instance.encoded_data_set) // 2
    association.send_data_set(1, instance.encoded_data_set[:half], is_complete=False)
    return association


def _send_rest(association: Association, instance: Instance) -> int:
    half = len(instance.encoded_data_set) // 2
    association.send_data_set(1, instance.encoded_data_set[half:])
    return association.receive().status


def _rejection(node: Node) -> tuple[int, int, int] | None:
    """Return the rejection of a new association, None if it is accepted."""
    try:
        with Association(node.address, [ProposedContext(VERIFICATION)]):
            return None
    except AssociationRejectedError as error:
        return error.triple


def _is_held(node: Node, instance: Instance) -> bool:
    identifier = identifier_of("STUDY", StudyInstanceUID=str(instance.study_instance_uid))
    answers, _ = find(node.address, STUDY_ROOT_FIND, identifier)
    return len(answers) == 1


def test_a_running_transfer_finishes_and_new_associations_are_put_off(tmp_path: Path) -> None:
    """After SIGTERM: the slow sender gets 0000, others a transient rejection; exit code 0 (H-3)."""
    instance = encoded(ct_data_set(rows=300, columns=300))
    with running_node(tmp_path) as node:
        association = _half_sent(node, instance)
        assert node.process is not None
        node.process.terminate()
        rejection = wait_until(lambda: _rejection(node), "a rejection")

        assert rejection[0] == 2
        assert rejection[1:] in {(3, 1), (3, 2)}
        assert node.process.poll() is None
        assert f"{_send_rest(association, instance):04X}" == "0000"
        association.release()
        assert node.wait() == 0

        node.start()
        assert _is_held(node, instance)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_node_stops_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM, and SIGINT from the keyboard, end all processes with exit code 0."""
    with running_node(tmp_path) as node:
        pids = node.processes()
        assert node.process is not None
        node.process.send_signal(number)

        assert node.wait() == 0
        assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_a_transfer_that_does_not_finish_in_time_is_cut_off(tmp_path: Path) -> None:
    """The drain has an end; what was half sent is gone, what was stored is there."""
    kept, cut = encoded(ct_data_set()), encoded(ct_data_set(rows=300, columns=300))
    with running_node(tmp_path, processes={"drain_timeout_seconds": 1}) as node:
        store_all(node.address, [kept])
        association = _half_sent(node, cut)

        node.stop()

        with pytest.raises((AssociationAbortedError, OSError)):
            _send_rest(association, cut)
        association.socket.close()
        node.start()
        assert _is_held(node, kept)
        assert not _is_held(node, cut)
        assert len(node.stored_files()) == 1


def test_a_reload_takes_over_a_new_move_destination(tmp_path: Path) -> None:
    """After SIGHUP a destination that was unknown (A801) is known, without a restart."""
    instance = encoded(ct_data_set())
    identifier = identifier_of("STUDY", StudyInstanceUID=str(instance.study_instance_uid))
    with destination("LATE") as late, running_node(tmp_path) as node:
        store_all(node.address, [instance])
        before = move(node.address, STUDY_ROOT_MOVE, "LATE", identifier)
        assert f"{before.status:04X}" == "A801"
        assert node.process is not None
        supervisor = node.process.pid
        node.settings["remote_aes"] = [{"ae_title": "LATE", "host": "127.0.0.1", "port": late.port}]
        node.write_config()
        os.kill(supervisor, signal.SIGHUP)

        wait_until(
            lambda: move(node.address, STUDY_ROOT_MOVE, "LATE", identifier).status == 0x0000,
            "the new destination to be known",
        )
        assert late.received[0].sop_instance_uid == instance.sop_instance_uid
        assert node.process.poll() is None


def test_a_reload_takes_over_new_extra_keys(tmp_path: Path) -> None:
    """After SIGHUP a key that was unknown is catalogued, matched and returned (D-5)."""
    instance = encoded(ct_data_set(KVP=120))

    def answers(kvp: str) -> list[Dataset]:
        uid = str(instance.study_instance_uid)
        return find(
            node.address, STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID=uid, KVP=kvp)
        )[0]

    with running_node(tmp_path) as node:
        store_all(node.address, [encoded(ct_data_set())])
        workers = set(node.workers())
        node.settings["catalog"]["extra_keys"] = [{"keyword": "KVP", "level": "STUDY"}]
        node.write_config()
        assert node.process is not None
        os.kill(node.process.pid, signal.SIGHUP)
        wait_until(lambda: not workers & set(node.workers()), "the old workers to be gone")
        store_all(node.address, [instance])
        assert [answer.KVP for answer in answers("120")] == [120]
        assert answers("121") == []


def test_a_reload_does_not_disturb_a_running_transfer(tmp_path: Path) -> None:
    """The sender in the middle of an object gets its 0000 from the worker that began it."""
    instance = encoded(ct_data_set(rows=300, columns=300))
    with running_node(tmp_path) as node:
        association = _half_sent(node, instance)
        workers = set(node.workers())
        assert node.process is not None
        os.kill(node.process.pid, signal.SIGHUP)
        wait_until(lambda: set(node.workers()) - workers, "a new worker")

        assert f"{_send_rest(association, instance):04X}" == "0000"
        association.release()
        assert _is_held(node, instance)


_AT_WORK = "left to end by itself: 1 association at work"
_MOST_SECONDS = 20


def _reload(node: Node) -> set[int]:
    """Have the configuration read again; return the workers of before when new ones serve."""
    before = set(node.workers())
    reloads = node.log.count(" serve (generation ")
    node.write_config()
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGHUP)
    wait_until(lambda: node.log.count(" serve (generation ") > reloads, "the new workers")
    return before


@dataclass(frozen=True)
class _Place:
    """A node with a short drain timeout and a stored study, and a destination that holds back.

    Attributes:
        slow: answers nothing until `may_answer` is set.
    """

    node: Node
    instance: Instance
    slow: Destination
    may_answer: Event

    def start_move(self, association: Association) -> Iterator[Response]:
        """Begin a C-MOVE to the slow destination; return when it is on its way."""
        responses = association.start_move(STUDY_ROOT_MOVE, "SLOW", self.study)
        wait_until(lambda: self.slow.received, "the first sub-operation")
        return responses

    @property
    def study(self) -> Dataset:
        """The identifier of all that is stored."""
        return identifier_of("STUDY", StudyInstanceUID=str(self.instance.study_instance_uid))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[_Place]:
    """All of it at work."""
    instance, may_answer = encoded(ct_data_set()), Event()

    def answer(_: object) -> int:
        return 0x0000 if may_answer.wait(_MOST_SECONDS) else 0xA700

    with ExitStack() as stack:
        slow = stack.enter_context(destination("SLOW", status_of=answer))
        remote_aes = [{"ae_title": "SLOW", "host": "127.0.0.1", "port": slow.port}]
        settings = {"drain_timeout_seconds": 1}
        node = stack.enter_context(
            running_node(tmp_path, remote_aes=remote_aes, processes=settings)
        )
        store_all(node.address, [instance])
        yield _Place(node, instance, slow, may_answer)
        may_answer.set()


def test_a_reload_leaves_a_move_alone_however_long_it_takes(place: _Place) -> None:
    """Beyond the drain timeout a slow C-MOVE goes on to 0000; new ones know what is new."""
    node = place.node
    with destination("LATE") as late, Association(node.address, query_contexts()) as association:
        responses = place.start_move(association)
        node.settings["remote_aes"].append(
            {"ae_title": "LATE", "host": "127.0.0.1", "port": late.port}
        )
        before = _reload(node)
        assert f"{move(node.address, STUDY_ROOT_MOVE, 'LATE', place.study).status:04X}" == "0000"
        wait_until(lambda: _AT_WORK in node.log, "the drain timeout to be over")
        assert len(before & set(node.workers())) == 1
        place.may_answer.set()
        *_, final = responses

    assert f"{final.status:04X}" == "0000"
    assert final.counters == (None, 1, 0, 0)
    wait_until(lambda: not before & set(node.workers()), "the old worker to leave")
    assert "aborted" not in node.log


def test_a_reload_leaves_a_get_alone_however_long_it_takes(place: _Place) -> None:
    """A requestor that takes its time for an instance gets 0000 beyond the drain timeout."""
    asked = Requestor(roles=scp_roles([place.instance]))
    contexts = get_contexts([place.instance])
    with Association(place.node.address, contexts, asked) as association:
        messages = association.start_get(STUDY_ROOT_GET, place.study)
        sub_operation = next(each for each in messages if isinstance(each, SubOperation))
        _reload(place.node)
        wait_until(lambda: _AT_WORK in place.node.log, "the drain timeout to be over")
        association.answer_store(sub_operation)
        *_, final = messages

    assert isinstance(final, Response)
    assert f"{final.status:04X}" == "0000"


def test_a_reload_leaves_a_sender_alone_and_ends_what_is_idle(place: _Place) -> None:
    """Who sends an instance now and then is at work; an association without use is aborted."""
    instances = [encoded(ct_data_set()) for _ in range(16)]
    pause = Event()
    idle = Association(place.node.address, [ProposedContext(VERIFICATION)])
    with Association(place.node.address, storage_contexts(instances)) as association:
        before = _reload(place.node)
        for instance in instances:
            assert f"{association.c_store(instance).status:04X}" == "0000"
            pause.wait(0.3)  # the pace of the sender
        assert "its worker retires, and it was idle" in place.node.log
        with pytest.raises(AssociationAbortedError):
            idle.receive()
        idle.socket.close()
    wait_until(lambda: not before & set(place.node.workers()), "the old workers to leave")
    assert _is_held(place.node, instances[-1])


def test_a_sender_that_falls_silent_after_a_reload_is_ended(place: _Place) -> None:
    """An association that was at work and is kept open without use keeps no old worker."""
    instance = encoded(ct_data_set(rows=300, columns=300))
    association = _half_sent(place.node, instance)
    before = _reload(place.node)
    wait_until(lambda: _AT_WORK in place.node.log, "the drain timeout to be over")
    assert f"{_send_rest(association, instance):04X}" == "0000"
    with pytest.raises(AssociationAbortedError):
        association.receive()
    association.socket.close()
    wait_until(lambda: not before & set(place.node.workers()), "the old workers to leave")


def test_a_stop_after_a_reload_ends_old_and_new_workers(place: _Place) -> None:
    """SIGTERM gives all of them the drain timeout, and nothing of the node is left."""
    node = place.node
    with ExitStack() as stack:
        old = Association(node.address, query_contexts())
        stack.callback(old.socket.close)
        place.start_move(old)
        before = _reload(node)
        wait_until(lambda: _AT_WORK in node.log, "the drain timeout to be over")
        new = _half_sent(node, encoded(ct_data_set(rows=300, columns=300)))
        stack.callback(new.socket.close)
        processes = node.processes()
        assert len(before & set(processes)) == 1
        began_at = time.monotonic()

        assert node.stop() == 0
        took = time.monotonic() - began_at

    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []
    assert took >= 1
    assert "stopping 3 workers" in node.log
    assert node.log.count("aborting 1 association: drain timeout is over") == 2
    assert "killing" not in node.log


def test_reloads_in_a_row_leave_only_workers_that_have_work(place: _Place) -> None:
    """After three reloads one old worker is there, the one with the transfer, and then none."""
    instance = encoded(ct_data_set(rows=300, columns=300))
    association = _half_sent(place.node, instance)
    first = set(place.node.workers())
    for _ in range(3):
        _reload(place.node)
    wait_until(lambda: len(place.node.workers()) == 3, "the idle workers to leave")
    assert len(first & set(place.node.workers())) == 1
    assert f"{_send_rest(association, instance):04X}" == "0000"
    association.release()
    wait_until(lambda: len(place.node.workers()) == 2, "the old worker to leave")


def test_a_reload_of_a_faulty_configuration_changes_nothing(tmp_path: Path) -> None:
    """The fault is logged with its path, and the node serves on with the old settings."""
    with running_node(tmp_path) as node:
        node.settings["association"] = {"maximum_pdu_length_bytes": "plenty"}
        node.write_config()
        assert node.process is not None
        os.kill(node.process.pid, signal.SIGHUP)

        wait_until(lambda: "maximum_pdu_length_bytes" in node.log, "the fault to be logged")
        assert node.process.poll() is None
        with Association(node.address, [ProposedContext(VERIFICATION)]) as association:
            assert association.c_echo() == 0x0000
