"""A worker dies under load: nothing that was acknowledged is lost, and the node goes on."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.support.dcmtk import storescp
from tests.support.instances import ct_data_set, encoded
from tests.support.node import Node, free_port, running_node
from tests.support.senders import check_nothing_is_lost, senders_at_work
from tests.support.waiting import wait_until
from tests.support.wire import store_all

pytestmark = pytest.mark.system

_SENDERS = 4
_WORKERS = 2
_LEFTOVERS = 300


def test_what_was_acknowledged_survives_the_death_of_a_worker(tmp_path: Path) -> None:
    """SIGKILL for a worker under four senders: found and delivered, replaced, nothing left over."""
    port = free_port()
    remote_aes = [{"ae_title": "STORESCP", "host": "127.0.0.1", "port": port}]
    with (
        storescp(tmp_path / "received", "STORESCP", port) as receiver,
        running_node(tmp_path / "node", remote_aes=remote_aes) as node,
    ):
        with senders_at_work(node, _SENDERS) as load:
            load.wait_for(20)
            workers = node.workers()
            assert len(workers) == _WORKERS
            for victim in workers:
                os.kill(victim, signal.SIGKILL)
                wait_until(partial(_is_gone, node, victim), "the worker to be gone")
                load.wait_for(20)

        assert sum(sender.losses for sender in load.senders) > 0, "no sender noticed the death"
        assert [sender.refused for sender in load.senders] == [[]] * _SENDERS
        wait_until(lambda: len(node.workers()) == _WORKERS, "new workers")
        wait_until(partial(_is_cleared_up, node), "the temporary files to be gone")
        held = check_nothing_is_lost(load, node, receiver)
        assert len(node.stored_files()) == held, "a file is left behind"
        assert node.stop() == 0


def test_the_death_of_the_whole_node_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL for all processes under four senders, then a start on the same files."""
    port = free_port()
    remote_aes = [{"ae_title": "STORESCP", "host": "127.0.0.1", "port": port}]
    with (
        storescp(tmp_path / "received", "STORESCP", port) as receiver,
        running_node(tmp_path / "node", remote_aes=remote_aes) as node,
    ):
        with senders_at_work(node, _SENDERS) as load:
            load.wait_for(20)
            node.kill()
            node.start()
            load.wait_for(20)

        wait_until(partial(_is_cleared_up, node), "the temporary files to be gone")
        held = check_nothing_is_lost(load, node, receiver)
        assert len(node.stored_files()) == held, "a file is left behind"


def test_a_start_clears_up_after_many_dead_writers(tmp_path: Path) -> None:
    """Four workers that start side by side do not stumble over each other's clearing up."""
    with running_node(tmp_path) as node:
        incoming = node.storage_folder / "incoming"
        assert node.stop() == 0
        for number in range(_LEFTOVERS):
            (incoming / f"{number:016x}").mkdir()
            (incoming / f"{number:016x}" / "half.dcm").write_bytes(b"half an object")
        node.settings["processes"]["workers"] = 4

        node.start()

        wait_until(lambda: len(node.workers()) == 4, "all workers")
        wait_until(lambda: node.stored_files() == [], "the leftovers to be gone")
        store_all(node.address, [encoded(ct_data_set()) for _ in range(5)])
        assert node.stop() == 0


def _is_gone(node: Node, pid: int) -> bool:
    return pid not in node.workers()


def _is_cleared_up(node: Node) -> bool:
    """Tell whether the files of dead writers are gone; the whole ones have their rows then."""
    return not any(files for _, _, files in os.walk(node.storage_folder / "incoming"))
