"""Orthanc, Debian's, as a peer in a temporary folder: DICOM and its HTTP API on loopback.

One that is not installed fails the test. No plugins, no remote access; its HTTP API makes it send
and retrieve. It parses what it receives and writes it anew: files that DCMTK would encode in
another way are not the same, byte for byte. Nagle's algorithm is off (TCP_NODELAY=1).
"""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.dcmtk import Address
from tests.support.instances import encoded_data_set_of
from tests.support.node import free_port
from tests.support.waiting import wait_until

_HERE = "127.0.0.1"
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc.

    Attributes:
        ae_title: of its DICOM server.
        address: host and port of its DICOM server.
        http_port: of its HTTP API, on loopback.
        folder: for what is taken out of it.
    """

    ae_title: str
    address: Address
    http_port: int
    folder: Path

    def files(self) -> dict[str, Path]:
        """Return all instances that it holds, taken out as DICOM files, by SOP Instance UID."""
        found = {}
        for orthanc_id in self.ask("GET", "/instances"):
            tags = self.ask("GET", f"/instances/{orthanc_id}/simplified-tags")
            path = self.folder / f"{orthanc_id}.dcm"
            path.write_bytes(self._request("GET", f"/instances/{orthanc_id}/file"))
            found[str(tags["SOPInstanceUID"])] = path
        return found

    def data_sets(self) -> dict[str, bytes]:
        """Return the Data Sets of all instances that it holds, by SOP Instance UID."""
        return {uid: encoded_data_set_of(path) for uid, path in self.files().items()}

    def forget(self) -> None:
        """Delete all that it holds."""
        for orthanc_id in self.ask("GET", "/patients"):
            self._request("DELETE", f"/patients/{orthanc_id}")

    def add(self, path: Path) -> None:
        """Give it a DICOM file."""
        self._request("POST", "/instances", path.read_bytes())

    def store_study(self, peer: str, study_instance_uid: str) -> dict[str, Any]:
        """Have it send a study of its own by C-STORE; return what it says of that."""
        found = self.ask("POST", "/tools/lookup", study_instance_uid)
        (orthanc_id,) = (each["ID"] for each in found if each["Type"] == "Study")
        sent: dict[str, Any] = self.ask("POST", f"/modalities/{peer}/store", orthanc_id)
        return sent

    def query(self, peer: str, level: str, keys: Mapping[str, str]) -> str:
        """Have it send a C-FIND; return what `answers` and `retrieve` know it by."""
        asked = json.dumps({"Level": level, "Query": keys})
        return str(self.ask("POST", f"/modalities/{peer}/query", asked)["Path"])

    def answers(self, query: str) -> int:
        """Return how many matches a query has."""
        return len(self.ask("GET", f"{query}/answers"))

    def retrieve(self, query: str, destination: str) -> None:
        """Have it send a C-MOVE for each match of a query, and wait for the end.

        Raises:
            AssertionError: it says that one has failed.
        """
        self._request("POST", f"{query}/retrieve", destination.encode())

    def ask(self, method: str, path: str, body: str = "") -> Any:  # noqa: ANN401 - as it answers
        """Return the JSON of its answer."""
        return json.loads(self._request(method, path, body.encode()))

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection(_HERE, self.http_port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        assert response.status == http.client.OK, content.decode(errors="replace")
        return content


@contextmanager
def orthanc(folder: Path, port: int, peers: Mapping[str, Address]) -> Iterator[Orthanc]:
    """Run an Orthanc in this folder; `peers` are the AEs that it knows, by AE title."""
    storage, taken_out = folder / "storage", folder / "taken-out"
    for each in (storage, taken_out):
        each.mkdir(parents=True)
    running = Orthanc("ORTHANC", (_HERE, port), free_port(), taken_out)
    config = folder / "orthanc.json"
    config.write_text(json.dumps(_settings(running, storage, peers)), encoding="utf-8")
    log_file = folder / "orthanc.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            ["Orthanc", str(config)],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: _answers(running, process, log_file), "Orthanc to answer")
        yield running
    finally:
        # Not asked to stop: it would take some seconds to leave a folder that nobody needs.
        process.kill()
        process.wait(_TIMEOUT_SECONDS)


def _settings(running: Orthanc, storage: Path, peers: Mapping[str, Address]) -> dict[str, Any]:
    return {
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "Plugins": [],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpPort": running.http_port,
        "DicomAet": running.ae_title,
        "DicomPort": running.address[1],
        "DicomModalities": {title: [title, *address] for title, address in peers.items()},
        # Anybody may ask it for a C-MOVE to a peer.
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowGet": True,
        "OverwriteInstances": True,
    }


def _answers(running: Orthanc, process: subprocess.Popen[bytes], log_file: Path) -> bool:
    assert process.poll() is None, log_file.read_text(errors="replace")
    with suppress(OSError, http.client.HTTPException):
        running.ask("GET", "/system")
        return True
    return False
