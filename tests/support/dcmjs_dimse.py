"""dcmjs-dimse, an implementation in JavaScript, as a peer; scripts/test installs it.

One that is not installed fails the test.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.node import free_port

_CHECKOUT = Path(__file__).resolve().parents[2]
_SCU = _CHECKOUT / "tests/interop/dcmjs_dimse/scu.js"
_SCP = _CHECKOUT / "tests/interop/dcmjs_dimse/scp.js"
_NODE_PATH = _CHECKOUT / ".cache/dcmjs-dimse/node_modules"
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Responses:
    """What came in answer to one request.

    Attributes:
        statuses: of each response, in order.
        data_sets: of those responses that have one: values by keyword.
        counters: completed, failed and warning of the last response; empty if it counts nothing.
    """

    statuses: list[int]
    data_sets: list[dict[str, Any]]
    counters: list[int]


def echo() -> dict[str, Any]:
    """Return a C-ECHO request."""
    return {"kind": "echo"}


def store(path: Path) -> dict[str, Any]:
    """Return a C-STORE request for a file."""
    return {"kind": "store", "file": str(path)}


def find(level: str, **keys: str) -> dict[str, Any]:
    """Return a C-FIND request in the Study Root."""
    return {"kind": "find", "level": level, "keys": keys}


def move(level: str, destination: str, *uids: str) -> dict[str, Any]:
    """Return a C-MOVE request in the Study Root; `uids` are the unique keys down to the level."""
    return {"kind": "move", "level": level, "destination": destination, "uids": uids}


def get(level: str, folder: Path, *uids: str) -> dict[str, Any]:
    """Return a C-GET request; `uids` as for `move`.

    What comes is written to the folder, each instance to a DICOM file that is named by its UID and
    encoded by dcmjs-dimse.
    """
    return {"kind": "get", "level": level, "folder": str(folder), "uids": uids}


def send(address: tuple[str, int], *requests: Mapping[str, Any]) -> list[Responses]:
    """Send requests in one association; return what came for each, in their order."""
    host, port = address
    done = _run("node", str(_SCU), host, str(port), "PACSNODE", json.dumps(requests))
    assert done.returncode == 0, done.stderr
    return [Responses(**each) for each in json.loads(done.stdout)]


@contextmanager
def storage_scp(folder: Path) -> Iterator[int]:
    """Run a Storage SCP that takes everything and yield its port.

    It writes each Data Set, without File Meta Information, to a file named by SOP Instance UID.
    """
    folder.mkdir(parents=True)
    port = free_port()
    process = subprocess.Popen(
        ["node", str(_SCP), str(port), str(folder)],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield port
    finally:
        process.kill()
        process.communicate(timeout=_TIMEOUT_SECONDS)


def _environment() -> dict[str, str]:
    assert _NODE_PATH.exists(), "dcmjs-dimse is missing: scripts/test installs it"
    return {**os.environ, "NODE_PATH": str(_NODE_PATH)}


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
