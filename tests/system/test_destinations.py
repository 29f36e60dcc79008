"""Destinations of a running node: changed by a reload, sent to by command, and asked why.

Source: rules E-4, E-5, E-17.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.support.dcmtk import Receiver, movescu, storescp
from tests.support.destination import destination
from tests.support.instances import (
    Instance,
    ct_data_set,
    encoded,
    encoded_data_set_of,
    many_instances,
    sr_data_set,
)
from tests.support.node import COMMAND, Node, free_port, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Association,
    ProposedContext,
    Response,
    identifier_of,
    move,
    store_all,
)

pytestmark = pytest.mark.system

OK, NEGATIVE = 0, 1
_END_SECONDS = 30


def _entry(ae_title: str, port: int, **more: object) -> dict[str, object]:
    return {"ae_title": ae_title, "host": "127.0.0.1", "port": port, **more}


def _keys(instance: Instance) -> list[str]:
    return ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={instance.study_instance_uid}"]


def _reload(node: Node, remote_aes: list[dict[str, Any]]) -> None:
    node.settings["remote_aes"] = remote_aes
    node.write_config()
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGHUP)


def _is_moved(node: Node, ae_title: str, instance: Instance) -> bool:
    return movescu(node.address, "STUDY", ae_title, _keys(instance)).status == 0x0000


@pytest.fixture(scope="module")
def peer(module_folder: Path) -> Iterator[Receiver]:
    """DCMTK's Storage SCP."""
    with storescp(module_folder / "received", "STORESCP") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def archive(module_folder: Path, peer: Receiver) -> Iterator[Node]:
    """A running node that knows that peer (STORESCP) and one that is down (DOWN)."""
    remote_aes = [_entry("STORESCP", peer.port), _entry("DOWN", free_port())]
    with running_node(module_folder / "node", remote_aes=remote_aes) as node:
        yield node


def test_a_reload_adds_a_destination_and_moves_another_one(tmp_path: Path) -> None:
    """After SIGHUP `movescu` reaches the new one, and the other one at its new port."""
    instance = encoded(ct_data_set())
    with (
        storescp(tmp_path / "before", "MOVED") as before,
        storescp(tmp_path / "after", "MOVED") as after,
        storescp(tmp_path / "new", "NEW") as new,
        running_node(tmp_path / "node", remote_aes=[_entry("MOVED", before.port)]) as node,
    ):
        store_all(node.address, [instance])
        assert _is_moved(node, "MOVED", instance)
        assert len(before.files()) == 1
        assert movescu(node.address, "STUDY", "NEW", _keys(instance)).status == 0xA801
        workers = set(node.workers())

        _reload(node, [_entry("MOVED", after.port), _entry("NEW", new.port)])
        wait_until(lambda: not workers & set(node.workers()), "the old workers to be gone")

        assert _is_moved(node, "NEW", instance)
        assert _is_moved(node, "MOVED", instance)
        for receiver in (before, after, new):
            (received,) = receiver.files()
            assert encoded_data_set_of(received) == instance.encoded_data_set


def test_a_reload_does_not_disturb_a_c_move_nor_an_open_association(tmp_path: Path) -> None:
    """What was under way goes on to where it was going, though that destination is gone now."""
    instances = list(many_instances(5))
    may_answer = Event()
    answers: list[Response] = []

    def retrieve(node: Node) -> None:
        identifier = identifier_of("STUDY", StudyInstanceUID=str(instances[0].study_instance_uid))
        answers.append(move(node.address, STUDY_ROOT_MOVE, "SLOW", identifier))

    def wait_and_accept(_: object) -> int:
        assert may_answer.wait(_END_SECONDS)
        return 0x0000

    with (
        destination("SLOW", status_of=wait_and_accept) as slow,
        destination("NEW") as new,
        running_node(tmp_path, remote_aes=[_entry("SLOW", slow.port)]) as node,
        Association(node.address, [ProposedContext(VERIFICATION)]) as association,
    ):
        store_all(node.address, instances)
        retrieval = Thread(target=retrieve, args=(node,))
        retrieval.start()
        wait_until(lambda: slow.received, "the first sub-operation")

        _reload(node, [_entry("NEW", new.port)])
        wait_until(lambda: _is_moved(node, "NEW", instances[0]), "the new destination")
        may_answer.set()
        retrieval.join(_END_SECONDS)

        assert [answer.status for answer in answers] == [0x0000]
        assert len(slow.received) == len(instances)
        assert slow.associations == 1
        assert association.c_echo() == 0x0000


def test_a_faulty_destination_at_a_reload_changes_nothing(tmp_path: Path) -> None:
    """The fault is logged with its path and what is allowed; the old destinations stay."""
    instance = encoded(ct_data_set())
    with (
        storescp(tmp_path / "received", "KEPT") as kept,
        running_node(tmp_path / "node", remote_aes=[_entry("KEPT", kept.port)]) as node,
    ):
        store_all(node.address, [instance])
        workers = node.workers()

        _reload(node, [_entry("NEW", 104, associations=17)])
        fault = "remote_aes[0].associations: 17: a whole number from 1 to 16"
        wait_until(lambda: fault in node.log, "the fault to be logged")

        assert node.workers() == workers
        assert _is_moved(node, "KEPT", instance)
        assert len(kept.files()) == 1


def test_a_study_is_sent_from_the_command_line_while_the_node_serves(
    archive: Node, peer: Receiver
) -> None:
    """Every file arrives byte for byte; one line says so, and nothing stands on standard error."""
    image = encoded(ct_data_set())
    report = encoded(sr_data_set(StudyInstanceUID=str(image.study_instance_uid)))
    store_all(archive.address, [image, report])

    done = archive.run("send", "--study", str(image.study_instance_uid), "STORESCP")

    assert (done.returncode, done.stderr.strip()) == (OK, "")
    assert done.stdout == (
        f"STORESCP at 127.0.0.1 port {peer.port}: 2 completed, 0 failed, 0 warning, 0 not started\n"
    )
    received = {encoded_data_set_of(path) for path in peer.files()}
    assert {image.encoded_data_set, report.encoded_data_set} <= received


def test_a_peer_is_tried_out_while_the_node_serves(archive: Node, peer: Receiver) -> None:
    """DCMTK's storescp would take it all, and has received nothing of it."""
    instance = encoded(ct_data_set())
    store_all(archive.address, [instance])
    before = peer.files()

    done = archive.run("peer", "check", "STORESCP", "--study", str(instance.study_instance_uid))

    assert done.returncode == OK, done.stdout + done.stderr
    assert "C-ECHO: ok (" in done.stdout
    assert "1 of 1 instance would be sent, 0 would fail" in done.stdout
    assert peer.files() == before


def test_a_peer_that_is_down_is_told_with_the_reason(archive: Node) -> None:
    """Exit code 1, and the reason in plain words."""
    done = archive.run("peer", "check", "DOWN")

    assert done.returncode == NEGATIVE
    assert "association: failed: not reachable: connection refused (" in done.stdout


def test_the_destinations_are_listed(archive: Node, peer: Receiver) -> None:
    """One line each."""
    done = archive.run("peer", "list")

    assert done.returncode == OK
    (line,) = (line for line in done.stdout.splitlines() if "STORESCP" in line)
    assert str(peer.port) in line


def test_ctrl_c_ends_sending_after_the_instance_on_its_way(tmp_path: Path) -> None:
    """The association is released, what is left is told, and the exit code is 1."""
    instances = list(many_instances(20))
    was_interrupted = Event()

    def wait_and_accept(_: object) -> int:
        assert was_interrupted.wait(_END_SECONDS)
        return 0x0000

    with (
        destination("SLOW", status_of=wait_and_accept) as slow,
        running_node(tmp_path, remote_aes=[_entry("SLOW", slow.port)]) as node,
    ):
        store_all(node.address, instances)
        study = str(instances[0].study_instance_uid)
        options = ["--config", str(node.config_file), "--study", study]
        process = subprocess.Popen(
            [COMMAND, "send", *options, "SLOW"], stdout=subprocess.PIPE, text=True
        )
        wait_until(lambda: slow.received, "the first instance")
        process.send_signal(signal.SIGINT)
        was_interrupted.set()
        output, _ = process.communicate(timeout=_END_SECONDS)

    assert process.returncode == NEGATIVE
    assert output.endswith("1 completed, 0 failed, 0 warning, 19 not started; cancelled\n")
    assert slow.endings == ["released"]
    assert len(slow.received) == 1
