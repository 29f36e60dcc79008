"""The service under a real systemd: installed by scripts/install-service, driven by systemctl.

The machine is booted once; each test finds the service active and puts back what it changed.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import collection
from tests.support.container import CHECKOUT, Container, booted_container
from tests.support.dcmtk import echoscu, findscu, getscu, storescu
from tests.support.instances import Instance, ct_data_set, encoded, write_instance
from tests.support.waiting import wait_until
from tests.support.wire import (
    VERIFICATION,
    Association,
    AssociationRejectedError,
    ProposedContext,
    storage_contexts,
    store_all,
)

# Making the machine for the first time takes two minutes.
pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(600)]

_SERVICE = "pacsnode.service"
_ADDRESS = ("127.0.0.1", 104)
_CONFIG_FILE = "etc/pacsnode/pacsnode.yaml"
_DROP_IN_FOLDER = "etc/systemd/system/pacsnode.service.d"
_CONFIGURATION = 78
_REJECTED_TRANSIENT = 2
_MICROSECONDS = 1_000_000
_WARNING, _INFORMATION = 4, 6  # sd-daemon(3)
_RESTART_TIMEOUT_SECONDS = 60


@pytest.fixture(scope="module")
def machine() -> Iterator[Container]:
    """A machine on which the service was installed."""
    with booted_container() as container:
        container.run_script("install-service")
        yield container


@pytest.fixture(autouse=True)
def _active_service(machine: Container) -> None:
    if machine.unit_property(_SERVICE, "ActiveState") != "active":
        machine.run("systemctl", "reset-failed", _SERVICE)
        machine.run("systemctl", "start", _SERVICE)


def test_installed_service_runs_as_its_own_user(machine: Container) -> None:
    """After install-service the node runs and belongs to the user pacsnode, with its data."""
    assert machine.unit_property(_SERVICE, "ActiveState") == "active"
    processes = [f"/proc/{number}" for number in [_supervisor(machine), *_workers(machine)]]
    data = ["/var/lib/pacsnode/catalog.sqlite", "/var/lib/pacsnode/storage"]
    owners = machine.run("stat", "--format=%U", *processes, *data).stdout.split()
    assert set(owners) == {"pacsnode"}


def test_installed_units_are_correct(machine: Container) -> None:
    """There is nothing that systemd has to say about the units as they are installed."""
    units = (_SERVICE, "pacsnode.socket")
    assert machine.run("systemd-analyze", "verify", *units).stdout == ""


def test_configuration_is_the_shipped_one_with_three_changes(machine: Container) -> None:
    """Port, storage folder and catalog are those of a service; all else is as shipped."""
    shipped = (CHECKOUT / "config" / "pacsnode.yaml").read_text(encoding="utf-8").splitlines()
    installed = (machine.root / _CONFIG_FILE).read_text(encoding="utf-8").splitlines()
    assert [line for line in installed if line not in shipped] == [
        "port: 104",
        "  folder: /var/lib/pacsnode/storage",
        "  url: sqlite:////var/lib/pacsnode/catalog.sqlite",
    ]


def test_started_means_that_every_worker_accepts(machine: Container) -> None:
    """When `systemctl restart` returns, each worker answers, even if it is alone."""
    machine.run("systemctl", "restart", _SERVICE)
    workers = _workers(machine)
    assert len(workers) == min(4, len(os.sched_getaffinity(0)))
    for worker in workers:
        others = [other for other in workers if other != worker]
        with _stopped(machine, others), machine.network():
            assert echoscu(_ADDRESS).exit_code == 0


def test_store_is_kept_over_a_restart(machine: Container, tmp_path: Path) -> None:
    """What was stored before `systemctl restart` is found after it."""
    instance = _store(machine, tmp_path)
    machine.run("systemctl", "restart", _SERVICE)
    assert _is_found(machine, instance, tmp_path)


def test_codecs_work_within_the_limits_of_the_unit(machine: Container, tmp_path: Path) -> None:
    """Compressed images come natively: the process that decodes them may do what it has to."""
    images = collection.compressed(tmp_path)
    with machine.network():
        store_all(_ADDRESS, images.values())
        keys = ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={collection.S4}"]
        got = getscu(_ADDRESS, "STUDY", keys, tmp_path)
    assert (got.status, got.counters) == (0x0000, (None, len(images), 0, 0))


def test_killed_worker_is_replaced(machine: Container, tmp_path: Path) -> None:
    """After SIGKILL of a worker there is a new one, the service goes on and stores."""
    before = _workers(machine)
    _send_signal(machine, "KILL", before[:1])
    wait_until(
        lambda: before[0] not in _workers(machine) and len(_workers(machine)) == len(before),
        "a new worker",
    )
    _store(machine, tmp_path)
    assert machine.unit_property(_SERVICE, "NRestarts") == "0"


def test_reload_takes_over_a_changed_configuration(machine: Container) -> None:
    """`systemctl reload` puts a further AE title into force without another main process."""
    main_process = _supervisor(machine)
    with _changed_config(machine, "ae_titles: [PACSNODE]", "ae_titles: [PACSNODE, FURTHER]"):
        machine.run("systemctl", "reload", _SERVICE)
        wait_until(lambda: _accepts(machine, "FURTHER"), "the new AE title to be accepted")
    machine.run("systemctl", "reload", _SERVICE)
    wait_until(lambda: not _accepts(machine, "FURTHER"), "the new AE title to be refused")
    assert _supervisor(machine) == main_process


def test_faulty_configuration_does_not_pass_a_reload(machine: Container) -> None:
    """`systemctl reload` with a faulty file leaves the service as it was."""
    with _changed_config(machine, "port: 104", "port: none"):
        began = time.time()
        machine.run("systemctl", "reload", _SERVICE)
        wait_until(
            lambda: "port" in _messages(machine, began, _WARNING), "the fault in the journal"
        )
        assert _accepts(machine, "PACSNODE")
        assert machine.unit_property(_SERVICE, "ActiveState") == "active"


def test_stop_lets_a_transfer_finish(machine: Container) -> None:
    """While `systemctl stop` waits, others are rejected as transient and a transfer finishes."""
    instance = encoded(ct_data_set())
    half = len(instance.encoded_data_set) // 2
    with machine.network():
        association = Association(_ADDRESS, storage_contexts([instance]))
    context_id = association.accepted(instance.sop_class_uid)
    assert context_id is not None
    association.send_store_request(
        context_id, instance.sop_class_uid.encode(), instance.sop_instance_uid.encode()
    )
    association.send_data_set(context_id, instance.encoded_data_set[:half], is_complete=False)
    machine.run("systemctl", "stop", "--no-block", _SERVICE)
    wait_until(lambda: _rejection(machine) == _REJECTED_TRANSIENT, "a transient rejection")
    association.send_data_set(context_id, instance.encoded_data_set[half:])
    assert association.receive().status == 0
    association.release()
    wait_until(lambda: machine.unit_property(_SERVICE, "ActiveState") == "inactive", "the stop")
    assert machine.unit_property(_SERVICE, "Result") == "success"


def test_faulty_configuration_ends_in_no_restart_loop(machine: Container) -> None:
    """A start with a faulty file fails with exit code 78, once."""
    with _changed_config(machine, "port: 104", "port: none"):
        began = time.time()
        assert machine.run("systemctl", "restart", _SERVICE, check=False).returncode != 0
        assert machine.unit_property(_SERVICE, "ExecMainStatus") == str(_CONFIGURATION)
        # A unit that is going to be restarted is "activating".
        assert machine.unit_property(_SERVICE, "ActiveState") == "failed"
        assert "port" in _messages(machine, began, _INFORMATION)


def test_silent_supervisor_is_replaced(machine: Container, tmp_path: Path) -> None:
    """A supervisor that stands still is ended by systemd's watchdog and the service comes back."""
    with _drop_in(machine, "[Service]\nWatchdogSec=2\nRestartSec=100ms\n"):
        _send_signal(machine, "STOP", [_supervisor(machine)])
        _wait_for_automatic_restart(machine)
        _store(machine, tmp_path)


def test_killed_supervisor_is_replaced(machine: Container, tmp_path: Path) -> None:
    """After SIGKILL of the supervisor its workers leave and the service comes back."""
    with _drop_in(machine, "[Service]\nRestartSec=100ms\n"):
        before = {_supervisor(machine), *_workers(machine)}
        _send_signal(machine, "KILL", [_supervisor(machine)])
        _wait_for_automatic_restart(machine)
        assert not before & {_supervisor(machine), *_workers(machine)}
        _store(machine, tmp_path)


def test_journal_has_priorities(machine: Container) -> None:
    """The end of a worker is an error in the journal, all is text and no prefix is left in it."""
    began = time.time()
    _send_signal(machine, "KILL", _workers(machine)[:1])
    wait_until(lambda: "SIGKILL" in _messages(machine, began, _WARNING), "the end in the journal")
    entries = _own_entries(machine)
    assert {entry["PRIORITY"] for entry in entries} >= {"3", "6"}
    assert [entry for entry in entries if not isinstance(entry["MESSAGE"], str)] == []
    assert [entry for entry in entries if re.search(r"^<\d>|\x1b", entry["MESSAGE"])] == []


def test_service_is_confined(machine: Container) -> None:
    """The node has no capability but the one for port 104, and a system call filter."""
    status_file = machine.root / "proc" / _workers(machine)[0] / "status"
    status = status_file.read_text(encoding="utf-8")
    words = dict(
        re.findall(r"^(CapBnd|CapEff|CapAmb|NoNewPrivs|Seccomp):\t(\w+)$", status, re.MULTILINE)
    )
    bind_service = f"{1 << 10:016x}"  # CAP_NET_BIND_SERVICE, capabilities(7)
    assert words == {
        **dict.fromkeys(("CapBnd", "CapEff", "CapAmb"), bind_service),
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


def test_socket_activation_starts_the_service(machine: Container) -> None:
    """With pacsnode.socket alone the first association starts the node and waits for it."""
    machine.run("systemctl", "stop", _SERVICE)
    machine.run("systemctl", "start", "pacsnode.socket")
    try:
        assert _accepts(machine, "PACSNODE")
        # The first worker may answer before systemd has heard that the service is ready.
        wait_until(
            lambda: machine.unit_property(_SERVICE, "ActiveState") == "active",
            "the service to be active",
        )
    finally:
        machine.run("systemctl", "stop", "pacsnode.socket", _SERVICE)


def test_upgrade_restarts_and_changes_no_configuration(machine: Container, tmp_path: Path) -> None:
    """install-service on a running service restarts it; an edited file and the data stay."""
    instance = _store(machine, tmp_path)
    main_process = _supervisor(machine)
    with _changed_config(machine, "workers: auto", "workers: 1"):
        machine.run_script("install-service")
        assert _supervisor(machine) != main_process
        assert len(_workers(machine)) == 1
        assert _is_found(machine, instance, tmp_path)
    assert len(list((machine.root / "opt/pacsnode").glob("release.*"))) == 1


def test_upgrade_refuses_a_faulty_configuration(machine: Container) -> None:
    """install-service with a faulty file says so and leaves the running service as it is."""
    main_process = _supervisor(machine)
    with _changed_config(machine, "port: 104", "port: none"):
        said = machine.run_script("install-service", check=False)
    assert "/etc/pacsnode/pacsnode.yaml is faulty" in said
    assert _supervisor(machine) == main_process
    assert len(list((machine.root / "opt/pacsnode").glob("release.*"))) == 1


def test_uninstall_keeps_the_data(machine: Container, tmp_path: Path) -> None:
    """--uninstall removes the service and says where the data are; installed again, it has them."""
    instance = _store(machine, tmp_path)
    said = machine.run_script("install-service", "--uninstall")
    assert "/var/lib/pacsnode" in said
    assert machine.unit_property(_SERVICE, "LoadState") == "not-found"
    assert not (machine.root / "opt/pacsnode").exists()
    machine.run_script("install-service")
    assert _is_found(machine, instance, tmp_path)


def _store(machine: Container, folder: Path) -> Instance:
    """Store a new instance and return it."""
    instance = encoded(ct_data_set())
    path = write_instance(instance, folder / f"{instance.sop_instance_uid}.dcm")
    with machine.network():
        sent = storescu(_ADDRESS, [path])
    assert sent.exit_code == 0, sent.output
    return instance


def _is_found(machine: Container, instance: Instance, folder: Path) -> bool:
    keys = ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={instance.study_instance_uid}"]
    with machine.network():
        found = findscu(_ADDRESS, "STUDY", keys, folder / "found")
    return len(found.identifiers) == 1


def _accepts(machine: Container, called_ae_title: str) -> bool:
    with machine.network():
        return echoscu(_ADDRESS, called=called_ae_title).exit_code == 0


def _rejection(machine: Container) -> int | None:
    """Return the result of the rejection of a new association, None if it is accepted."""
    try:
        with machine.network(), Association(_ADDRESS, [ProposedContext(VERIFICATION)]):
            return None
    except AssociationRejectedError as error:
        return error.triple[0]


def _supervisor(machine: Container) -> str:
    """Return the process id of the supervisor inside the machine."""
    return machine.unit_property(_SERVICE, "MainPID")


def _workers(machine: Container) -> list[str]:
    """Return the process ids of the workers inside the machine, oldest first."""
    supervisor = _supervisor(machine)
    children = machine.root / "proc" / supervisor / "task" / supervisor / "children"
    return sorted(children.read_text(encoding="ascii").split(), key=int)


def _send_signal(machine: Container, name: str, processes: list[str]) -> None:
    machine.run("sh", "-c", f"kill -s {name} {' '.join(processes)}")


@contextmanager
def _stopped(machine: Container, processes: list[str]) -> Iterator[None]:
    """Let these processes stand still."""
    if not processes:
        yield
        return
    _send_signal(machine, "STOP", processes)
    try:
        yield
    finally:
        _send_signal(machine, "CONT", processes)


@contextmanager
def _changed_config(machine: Container, line: str, new_line: str) -> Iterator[None]:
    """Replace one line of the configuration file; put the file back in the end."""
    config_file = machine.root / _CONFIG_FILE
    before = config_file.read_text(encoding="utf-8")
    assert line in before
    config_file.write_text(before.replace(line, new_line), encoding="utf-8")
    try:
        yield
    finally:
        config_file.write_text(before, encoding="utf-8")


@contextmanager
def _drop_in(machine: Container, content: str) -> Iterator[None]:
    """Restart the service with a drop-in; do the same without it in the end."""
    folder = machine.root / _DROP_IN_FOLDER
    folder.mkdir()
    (folder / "test.conf").write_text(content, encoding="utf-8")
    _restart_with_changed_unit(machine)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        _restart_with_changed_unit(machine)


def _restart_with_changed_unit(machine: Container) -> None:
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", _SERVICE)


def _wait_for_automatic_restart(machine: Container) -> None:
    """Wait until systemd has restarted the service once by itself, and it is active again."""
    wait_until(
        lambda: (
            machine.unit_property(_SERVICE, "NRestarts") == "1"
            and machine.unit_property(_SERVICE, "ActiveState") == "active"
        ),
        "the service to be restarted",
        _RESTART_TIMEOUT_SECONDS,
    )


def _own_entries(machine: Container) -> list[dict[str, Any]]:
    """Return the entries of the journal that the node itself wrote, without systemd's own."""
    entries = machine.journal(_SERVICE)
    return [entry for entry in entries if entry["SYSLOG_IDENTIFIER"] == "pacsnode"]


def _messages(machine: Container, since: float, lowest_priority: int) -> str:
    """Return what the node itself has logged since a time, as urgent as this or more so."""
    return "\n".join(
        entry["MESSAGE"]
        for entry in _own_entries(machine)
        if int(entry["PRIORITY"]) <= lowest_priority
        and int(entry["__REALTIME_TIMESTAMP"]) >= since * _MICROSECONDS
    )
