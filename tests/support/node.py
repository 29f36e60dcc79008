"""A pacsnode in processes of its own: the installed command, a temporary folder, a free port."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until
from tests.support.wire import (
    VERIFICATION,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    ProposedContext,
)

COMMAND = str(Path(sys.executable).parent / "pacsnode")

# Below the ports the kernel gives to outgoing connections, so that none of those takes it first.
# Two runs at the same time have even and odd ones.
_PORTS = range(15_000 + int(os.environ.get("TEST_HALF", "0")), 32_000, 2)
# Longer than any test.
PATIENT_TIMEOUTS = {
    "negotiation_timeout_seconds": 60,
    "dimse_timeout_seconds": 60,
    "idle_timeout_seconds": 60,
    "connect_timeout_seconds": 60,
}
_START_SECONDS = 30
_STOP_SECONDS = 40
_SHOWN_LOG_LENGTH = 10_000

_HERE = "127.0.0.1"


@dataclass(slots=True)
class Node:
    """One node: its files, and its processes while it runs.

    Attributes:
        folder: configuration file, log, catalog and storage folder lie here, unless the settings
            say otherwise.
        settings: the content of the configuration file; written at each start.
        port: where it listens.
    """

    folder: Path
    settings: dict[str, Any]
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for a requestor."""
        return _HERE, self.port

    @property
    def config_file(self) -> Path:
        """The YAML file given to every command."""
        return self.folder / "pacsnode.yaml"

    @property
    def log_file(self) -> Path:
        """Standard output and standard error of all runs."""
        return self.folder / "serve.log"

    @property
    def storage_folder(self) -> Path:
        """Where the received objects lie."""
        return Path(self.folder / self.settings["storage"]["folder"])

    @property
    def log(self) -> str:
        """All that the node has said so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start the node and wait until a C-ECHO succeeds.

        Raises:
            AssertionError: it ended instead.
        """
        self.launch()
        wait_until(self._answers, "the node to answer a C-ECHO", _START_SECONDS)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the node without waiting for anything."""
        self.write_config()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--config", str(self.config_file)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=_environment(),
                start_new_session=True,
            )
        return self.process

    def write_config(self) -> None:
        """Write the settings; JSON is YAML, too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(json.dumps(self.settings, indent=2), encoding="utf-8")

    def stop(self) -> int:
        """Ask the node to stop (SIGTERM) and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait for the node to end by itself and return its exit code."""
        assert self.process is not None
        return self.process.wait(_STOP_SECONDS)

    def restart(self) -> None:
        """Stop the node gracefully, then start it on the same files."""
        assert self.stop() == 0
        self.start()

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of the node, the supervisor first."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def pause(self) -> None:
        """Stop every process of the node where it is, and wait until all of them stand."""
        self.signal_all(signal.SIGSTOP)
        wait_until(lambda: all(map(_is_stopped, self.processes())), "the node to stand")

    def kill(self) -> None:
        """End every process of the node at once, as a crash of the machine would."""
        if self.process is None:
            return
        # The session is the node's own, so this also reaches a worker born meanwhile.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_STOP_SECONDS)
        group = self.process.pid
        wait_until(lambda: not _group(group), "all processes of the node to be gone")

    def workers(self) -> list[int]:
        """Return the process ids of the workers that run now."""
        assert self.process is not None
        return _children(self.process.pid)

    def processes(self) -> list[int]:
        """Return the process ids of supervisor and workers."""
        assert self.process is not None
        return [self.process.pid, *self.workers()]

    def run(self, *arguments: str, timeout_seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run another pacsnode command on this node's configuration; see `run_command`."""
        return run_command(
            *arguments,
            "--config",
            str(self.config_file),
            folder=self.folder,
            timeout_seconds=timeout_seconds,
        )

    def stored_files(self) -> list[Path]:
        """Return every file below the storage folder, whatever it is, sorted."""
        return sorted(path for path in self.storage_folder.rglob("*") if path.is_file())

    def _answers(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"the node ended with exit code {code}:\n{self.log}"
        try:
            with Association(self.address, [ProposedContext(VERIFICATION)]) as association:
                return association.c_echo() == 0
        except (OSError, AssociationAbortedError, AssociationRejectedError):
            return False


def new_node(folder: Path, **settings: Any) -> Node:  # noqa: ANN401
    """Return a node that was not started yet.

    Args:
        folder: may exist already.
        settings: top-level keys of the configuration; sections are merged with the defaults of
            the tests: two workers, loopback only, no reserve on the disk.
    """
    port = settings.pop("port", None) or free_port()
    merged: dict[str, Any] = {
        "ae_titles": ["PACSNODE"],
        "bind_addresses": [_HERE],
        "port": port,
        "storage": {"folder": "storage", "reserve_bytes": 0},
        "catalog": {"url": "sqlite:///catalog.sqlite"},
        "processes": {"workers": 2},
    }
    for key, value in settings.items():
        is_section = isinstance(value, Mapping) and key in merged
        merged[key] = {**merged[key], **value} if is_section else value
    return Node(folder, merged, port)


def under_attack(**association: int) -> dict[str, Any]:
    """Return settings of a node that others than its attackers are served by all the same.

    It has one worker, the one that is under attack. No timeout is over during a test but one that
    is asked for.

    Args:
        association: keys of the section, in place of these.
    """
    return {
        "association": {**PATIENT_TIMEOUTS, **association},
        "processes": {"workers": 1},
    }


@contextmanager
def running_node(folder: Path, **settings: Any) -> Iterator[Node]:  # noqa: ANN401
    """Run a node; see `new_node`. Its log must not hold a traceback in the end."""
    node = new_node(folder, **settings)
    try:
        node.start()
        yield node
    except BaseException:
        if node.log_file.exists():
            sys.stderr.write(node.log[-_SHOWN_LOG_LENGTH:])
        raise
    finally:
        node.kill()
    before, traceback, after = node.log.partition("Traceback")
    assert not traceback, before[-500:] + traceback + after[:3000]


def run_command(
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a pacsnode command in this folder and return exit code, output and error output."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )


def free_port() -> int:
    """Return a port that nobody listens on, drawn at random for tests that run side by side."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - nothing secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((_HERE, port))
                return port


def _environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a node: no override of the configuration from outside."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PACSNODE_")}
    # Wide enough that no table of the command line is folded.
    return {**clean, "COLUMNS": "400", "NO_COLOR": "1", **(more or {})}


def _children(parent: int) -> list[int]:
    """Return the process ids of the living children of a process."""
    return sorted(pid for pid, parent_pid, _ in _living() if parent_pid == parent)


def _group(group: int) -> list[int]:
    """Return the process ids of the living members of a process group."""
    return sorted(pid for pid, _, pid_of_group in _living() if pid_of_group == group)


def _living() -> Iterator[tuple[int, int, int]]:
    """Yield process id, parent and process group of all processes but the dead."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            # The command name may hold blanks and brackets: what follows its end is fixed.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            state, parent, group = fields[:3]
            if state != "Z":
                yield int(entry.name), int(parent), int(group)


def _is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] == "T"
