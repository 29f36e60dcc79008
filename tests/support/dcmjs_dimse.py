"""dcmjs-dimse, an implementation in JavaScript, as a peer; scripts/test installs it.

One that is not installed fails the test.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).resolve().parents[2]
_SCU = _CHECKOUT / "tests/interop/dcmjs_dimse/scu.js"
_NODE_PATH = _CHECKOUT / ".cache/dcmjs-dimse/node_modules"
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Responses:
    """What came in answer to one request.

    Attributes:
        statuses: of each response, in order.
        data_sets: of those responses that have one: values by keyword.
    """

    statuses: list[int]
    data_sets: list[dict[str, Any]]


def echo() -> dict[str, Any]:
    """Return a C-ECHO request."""
    return {"kind": "echo"}


def store(path: Path) -> dict[str, Any]:
    """Return a C-STORE request for a file."""
    return {"kind": "store", "file": str(path)}


def find(level: str, **keys: str) -> dict[str, Any]:
    """Return a C-FIND request in the Study Root."""
    return {"kind": "find", "level": level, "keys": keys}


def send(address: tuple[str, int], *requests: Mapping[str, Any]) -> list[Responses]:
    """Send requests in one association; return what came for each, in their order."""
    host, port = address
    done = _run("node", str(_SCU), host, str(port), "PACSNODE", json.dumps(requests))
    assert done.returncode == 0, done.stderr
    return [Responses(**each) for each in json.loads(done.stdout)]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    assert _NODE_PATH.exists(), "dcmjs-dimse is missing: scripts/test installs it"
    return subprocess.run(
        command,
        env={**os.environ, "NODE_PATH": str(_NODE_PATH)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
