"""Signals: SIGTERM lets running transfers finish, SIGHUP takes over a changed configuration."""

import os
import signal
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from tests.support.destination import destination
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.node import Node, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    ProposedContext,
    find,
    identifier_of,
    move,
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
