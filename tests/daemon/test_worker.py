"""A worker in a process of its own: it serves, drains, retires, and leaves if it is left alone."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from pacsnode.config import Settings, load_settings
from pacsnode.daemon.scoreboard import RowState, Scoreboard
from pacsnode.daemon.worker import (
    association_limits,
    information_models,
    open_catalog,
    open_file_store,
    query_options,
    run_worker,
)
from pacsnode.daemon.worker_contract import WorkerContext
from pacsnode.dicom.information_model import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from pacsnode.dicom.matching import NameMatching
from pacsnode.exit_codes import ExitCode
from tests.support.instances import ct_data_set, encoded
from tests.support.waiting import wait_until
from tests.support.wire import (
    VERIFICATION,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    ProposedContext,
    storage_contexts,
)

_SPAWN = multiprocessing.get_context("spawn")
_ECHO = [ProposedContext(VERIFICATION)]
_SECONDS = 20


def _settings(folder: Path, drain_timeout_seconds: float = _SECONDS) -> Settings:
    return load_settings(
        None,
        {
            "PACSNODE_STORAGE__FOLDER": f"{folder}/storage",
            "PACSNODE_STORAGE__RESERVE_BYTES": "0",
            "PACSNODE_CATALOG__URL": f"sqlite:///{folder}/catalog/catalog.sqlite",
            "PACSNODE_PROCESSES__DRAIN_TIMEOUT_SECONDS": str(drain_timeout_seconds),
        },
    )


def _work(
    settings: Settings, listener: socket.socket, parent: Connection, ready: Connection
) -> None:
    """Run in a process of its own, as the supervisor would fork it."""
    scoreboard = Scoreboard(1)
    row = scoreboard.occupy_row(1)

    def is_ready() -> None:
        row.set_state(RowState.SERVING)
        ready.send("ready")

    listener.setblocking(False)  # noqa: FBT003
    code = run_worker(
        settings,
        WorkerContext(
            row=row,
            scoreboard=scoreboard,
            listeners=[listener],
            generation=1,
            ready=is_ready,
            parent_gone_fd=parent.fileno(),
        ),
    )
    ready.send(row.state.name)
    os._exit(code)


@dataclass
class Worker:
    """A worker, where it listens, and the line by which it knows that it is not alone."""

    process: BaseProcess
    address: tuple[str, int]
    parent: Connection
    ready: Connection

    def signal(self, number: signal.Signals) -> None:
        """Give it an order."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def exit_code(self) -> int | None:
        """Wait for its end."""
        self.process.join(_SECONDS)
        return self.process.exitcode


@contextmanager
def _worker(settings: Settings) -> Iterator[Worker]:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    parent_end, child_end = _SPAWN.Pipe()
    told, tell = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(settings, listener, child_end, tell))
    process.start()
    listener.close()
    child_end.close()
    tell.close()
    try:
        yield Worker(process, address, parent_end, told)
    finally:
        process.kill()
        process.join()
        parent_end.close()
        told.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """A worker that serves."""
    with _worker(_settings(tmp_path)) as made:
        assert made.ready.recv() == "ready"
        yield made


def _rejection(worker: Worker) -> tuple[int, int, int] | None:
    try:
        Association(worker.address, _ECHO).release()
    except AssociationRejectedError as rejected:
        return rejected.triple
    return None


def test_a_worker_finishes_what_runs_when_it_drains(worker: Worker) -> None:
    """After SIGTERM a running association is served to its end; then the worker leaves with 0."""
    with Association(worker.address, _ECHO) as association:
        worker.signal(signal.SIGTERM)
        wait_until(lambda: _rejection(worker) == (2, 3, 1), "the worker to drain")
        assert association.c_echo() == 0x0000
    assert worker.exit_code() == ExitCode.OK
    assert worker.ready.recv() == "DRAINING"


def test_a_worker_without_associations_leaves_at_once(worker: Worker) -> None:
    """SIGTERM ends an idle worker with exit code 0."""
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == ExitCode.OK


def test_a_worker_that_retires_accepts_nothing_more(worker: Worker) -> None:
    """After SIGUSR1 the socket is closed for this worker, and a running association goes on."""
    with Association(worker.address, _ECHO) as association:
        worker.signal(signal.SIGUSR1)

        def is_refused() -> bool:
            # A connection that is made just as the last socket closes is reset: look again.
            try:
                with suppress(ConnectionResetError):
                    socket.create_connection(worker.address, timeout=_SECONDS).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(is_refused, "the worker to retire")
        assert association.c_echo() == 0x0000
    assert worker.exit_code() == ExitCode.OK
    assert worker.ready.recv() == "RETIRING"


def test_a_worker_that_retires_ends_what_is_idle_alone(tmp_path: Path) -> None:
    """Beyond the drain timeout it leaves a transfer alone, aborts the others, and leaves then."""
    instance = encoded(ct_data_set())
    half = len(instance.encoded_data_set) // 2
    with _worker(_settings(tmp_path, drain_timeout_seconds=1)) as worker:
        assert worker.ready.recv() == "ready"
        idle = Association(worker.address, _ECHO)
        with Association(worker.address, storage_contexts([instance])) as association:
            association.send_store_request(
                1, instance.sop_class_uid.encode(), instance.sop_instance_uid.encode()
            )
            association.send_data_set(1, instance.encoded_data_set[:half], is_complete=False)
            worker.signal(signal.SIGUSR1)
            with pytest.raises(AssociationAbortedError):
                idle.receive()
            idle.socket.close()
            association.send_data_set(1, instance.encoded_data_set[half:])
            assert association.receive().status == 0x0000
        assert worker.exit_code() == ExitCode.OK
        assert worker.ready.recv() == "RETIRING"


@pytest.mark.parametrize("is_orphaned", [False, True])
def test_a_worker_that_retires_can_be_made_to_drain(tmp_path: Path, *, is_orphaned: bool) -> None:
    """SIGTERM, or the end of the supervisor, puts an end to what a retiring worker has at work."""
    instance = encoded(ct_data_set())
    with _worker(_settings(tmp_path, drain_timeout_seconds=1)) as worker:
        assert worker.ready.recv() == "ready"
        association = Association(worker.address, storage_contexts([instance]))
        association.send_store_request(
            1, instance.sop_class_uid.encode(), instance.sop_instance_uid.encode()
        )
        worker.signal(signal.SIGUSR1)
        if is_orphaned:
            worker.parent.close()
        else:
            worker.signal(signal.SIGTERM)
        with pytest.raises(AssociationAbortedError):
            association.receive()
        association.socket.close()
        assert worker.exit_code() == ExitCode.OK
        assert worker.ready.recv() == "DRAINING"


def test_a_worker_whose_supervisor_is_gone_leaves(worker: Worker) -> None:
    """When the other end of its line is closed the worker drains and leaves."""
    worker.parent.close()
    assert worker.exit_code() == ExitCode.OK


def test_an_association_that_does_not_end_is_aborted(tmp_path: Path) -> None:
    """Beyond the drain timeout a worker aborts what still runs, and leaves."""
    with _worker(_settings(tmp_path, drain_timeout_seconds=1)) as worker:
        assert worker.ready.recv() == "ready"
        association = Association(worker.address, _ECHO)
        worker.signal(signal.SIGTERM)
        with pytest.raises(AssociationAbortedError):
            association.receive()
        association.socket.close()
        assert worker.exit_code() == ExitCode.OK


@pytest.mark.parametrize(
    ("blocked", "code"),
    [("storage", ExitCode.STORAGE_UNUSABLE), ("catalog", ExitCode.CATALOG_UNUSABLE)],
)
def test_a_worker_that_cannot_open_its_files_says_which(
    tmp_path: Path, blocked: str, code: ExitCode
) -> None:
    """A file where a folder should be ends the worker with the code of what is at fault."""
    (tmp_path / blocked).write_text("in the way")
    with _worker(_settings(tmp_path)) as worker:
        assert worker.exit_code() == code
        assert worker.ready.recv() != "ready"


def test_the_parts_follow_the_settings(tmp_path: Path) -> None:
    """Catalog, file store and limits are those of the settings."""
    settings = _settings(tmp_path)
    limits = association_limits(settings)
    assert limits.idle_timeout_seconds == settings.association.idle_timeout_seconds
    assert limits.maximum_pdu_length_bytes == settings.association.maximum_pdu_length_bytes
    open_catalog(settings).close()
    open_file_store(settings).close()
    assert (tmp_path / "catalog" / "catalog.sqlite").is_file()
    assert (tmp_path / "storage").is_dir()


def _query_settings(**variables: str) -> Settings:
    return load_settings(None, {f"PACSNODE_QUERY__{name}": v for name, v in variables.items()})


def test_queries_are_understood_as_the_settings_say() -> None:
    """Relational queries, family names, accents and groups: by default strict (B-6, C-30)."""
    strict = query_options(_query_settings())
    assert (strict.relational, strict.names) == (False, NameMatching())
    lenient = query_options(
        _query_settings(
            RELATIONAL_LENIENT="true",
            NAMES__FAMILY_NAME_ALONE="true",
            NAMES__IGNORES_ACCENTS="true",
            NAMES__ANY_GROUP="false",
        )
    )
    assert lenient.relational
    assert lenient.names == NameMatching(
        family_name_alone=True, ignores_accents=True, any_group=False
    )


def test_the_retired_model_is_offered_if_the_settings_say_so() -> None:
    """By default both roots, and no more (A-2)."""
    assert information_models(_query_settings()) == (PATIENT_ROOT, STUDY_ROOT)
    assert information_models(_query_settings(OFFER_PATIENT_STUDY_ONLY="true")) == (
        PATIENT_ROOT,
        STUDY_ROOT,
        PATIENT_STUDY_ONLY,
    )


def test_the_catalog_has_the_keys_of_the_settings(tmp_path: Path) -> None:
    """Those that every node has, and the extra ones."""
    settings = load_settings(
        None,
        {
            "PACSNODE_CATALOG__URL": f"sqlite:///{tmp_path}/catalog.sqlite",
            "PACSNODE_CATALOG__EXTRA_KEYS": "[{keyword: KVP, level: IMAGE}]",
        },
    )
    with closing(open_catalog(settings)) as catalog:
        assert [key.keyword for key in catalog.keys.extra] == ["KVP"]
        assert catalog.keys.find(0x00100010) is not None
