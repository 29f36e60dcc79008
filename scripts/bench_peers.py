"""The servers that the bench compares, each in a fresh folder and on a free port of loopback.

A further peer is another entry in PEERS: its name, what it has on the disk when it says Success,
and how it is started.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench_requestor import RequestorError
from bench_set_up import USUAL, set_up_seconds

LOOPBACK = "127.0.0.1"
_START_SECONDS = 30
_STOP_SECONDS = 15
_SHOWN_LOG_LENGTH = 2000
_MOST_ASSOCIATIONS = 100  # as many as pacsnode takes by default
_MAXIMUM_PDU_LENGTH_BYTES = 131072  # pacsnode's default, and the most that DCMTK can
_ORTHANC_THREADS = 20
_UNUSED_PORT = 104  # Orthanc sends nothing


class PeerError(Exception):
    """A server did not start."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started: the command, and what its environment has besides."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownAE:
    """An Application Entity of loopback that a server knows: where it may send to, or who may ask.

    Attributes:
        ae_title: its title.
        port: where it listens; a requestor listens nowhere, and what is said of it is not used.
        associations: how many pacsnode may send over at the same time.
    """

    ae_title: str
    port: int = _UNUSED_PORT
    associations: int = 1


Prepare = Callable[[Path, int, Sequence[KnownAE]], Launch]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be measured.

    Attributes:
        name: for the command line and the tables.
        ae_title: called by the senders.
        durability: what is on the disk before Success is answered.
        settings: what differs from its defaults, in a few words.
        prepare: writes into its folder what it needs to listen on a port and to know some AEs.
        known: those AEs; none are needed to store.
    """

    name: str
    ae_title: str
    durability: str
    settings: str
    prepare: Prepare
    known: tuple[KnownAE, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """A peer that runs.

    Attributes:
        peer: which.
        port: of loopback, where it listens.
        session: all its processes are in; for `bench_processes`.
    """

    peer: Peer
    port: int
    session: int

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for a requestor."""
        return LOOPBACK, self.port


def with_environment(peer: Peer, variables: Mapping[str, str], **changes: str) -> Peer:
    """Return a peer that differs in variables of its environment, and in what is said of it."""

    def prepare(folder: Path, port: int, known: Sequence[KnownAE]) -> Launch:
        launch = peer.prepare(folder, port, known)
        return Launch(launch.command, {**launch.environment, **variables})

    return replace(peer, prepare=prepare, **changes)


def _prepare_pacsnode(_folder: Path, port: int, known: Sequence[KnownAE]) -> Launch:
    command = Path(sys.executable).parent / "pacsnode"
    variables = {"PACSNODE_PORT": str(port), "PACSNODE_BIND_ADDRESSES": json.dumps([LOOPBACK])}
    if known:
        variables["PACSNODE_REMOTE_AES"] = json.dumps([_remote_ae(each) for each in known])
    return Launch([str(command), "serve"], variables)


def _remote_ae(known: KnownAE) -> dict[str, str | int]:
    """Return an entry of pacsnode's `remote_aes`; what has its default is left out."""
    entry: dict[str, str | int] = {"ae_title": known.ae_title, "host": LOOPBACK, "port": known.port}
    return {**entry, "associations": known.associations} if known.associations > 1 else entry


def _prepare_orthanc(folder: Path, port: int, known: Sequence[KnownAE]) -> Launch:
    modalities = [KnownAE("DCMSEND"), *known]
    config = folder / "orthanc.json"
    config.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "Plugins": [],
                "HttpServerEnabled": False,
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "DicomModalities": {
                    each.ae_title: [each.ae_title, LOOPBACK, each.port] for each in modalities
                },
                # Each of them serves one association at a time.
                "DicomThreadsCount": _ORTHANC_THREADS,
                "MaximumPduLength": _MAXIMUM_PDU_LENGTH_BYTES,
                "SyncStorageArea": True,
            }
        ),
        encoding="utf-8",
    )
    return Launch(["Orthanc", str(config)])


def _prepare_dcmqrscp(folder: Path, port: int, known: Sequence[KnownAE]) -> Launch:
    storage = _made(folder / "storage")
    hosts = "".join(
        f"known{place} = ({each.ae_title}, {LOOPBACK}, {each.port})\n"
        for place, each in enumerate(known)
    )
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        # Its parser wants blanks around the equals signs. Beyond the quota (studies, bytes for
        # each) it would delete what it has.
        f"NetworkTCPPort = {port}\n"
        f"MaxPDUSize = {_MAXIMUM_PDU_LENGTH_BYTES}\n"
        f"MaxAssociations = {_MOST_ASSOCIATIONS}\n"
        f"HostTable BEGIN\n{hosts}HostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nDCMQRSCP {storage} RW (500, 1024mb) ANY\nAETable END\n",
        encoding="utf-8",
    )
    # Not --bit-preserving: with it, many more stores fail when several associations send.
    options = ["--config", str(config), "--disable-host-lookup"]
    return Launch(["dcmqrscp", *options])


def _prepare_storescp(folder: Path, port: int, _known: Sequence[KnownAE]) -> Launch:
    return Launch(
        [
            *("storescp", "--fork", "--disable-host-lookup"),
            *("--max-pdu", str(_MAXIMUM_PDU_LENGTH_BYTES)),
            *("--output-directory", str(_made(folder / "storage"))),
            str(port),
        ]
    )


def _prepare_storescp_bit_preserving(folder: Path, port: int, known: Sequence[KnownAE]) -> Launch:
    *command, last = _prepare_storescp(folder, port, known).command
    return Launch([*command, "--bit-preserving", last])


def _prepare_discard(folder: Path, port: int, known: Sequence[KnownAE]) -> Launch:
    launch = _prepare_dcmqrscp(folder, port, known)
    return Launch([*launch.command, "--ignore"])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


_PDU = f"PDUs of up to {_MAXIMUM_PDU_LENGTH_BYTES // 1024} KiB"
PACSNODE = Peer("pacsnode", "PACSNODE", "file and catalog", "defaults", _prepare_pacsnode)
PACSNODE_FILE = with_environment(
    PACSNODE,
    {"PACSNODE_DURABILITY": "file"},
    name="pacsnode-file",
    durability="file",
    settings="durability: file",
)
PACSNODE_NONE = with_environment(
    PACSNODE,
    {"PACSNODE_DURABILITY": "none"},
    name="pacsnode-none",
    durability="none",
    settings="durability: none",
)
ORTHANC = Peer(
    "orthanc",
    "ORTHANC",
    "file",
    f"{_PDU}, {_ORTHANC_THREADS} DICOM threads, no HTTP server, no plugins, "
    "SyncStorageArea true as by default",
    _prepare_orthanc,
)
DCMQRSCP = Peer(
    "dcmqrscp",
    "DCMQRSCP",
    "none",
    f"{_PDU}, no host lookup, a quota that is not reached; the more it has, the slower it is",
    _prepare_dcmqrscp,
)
STORESCP = Peer(
    "storescp", "ANY", "none", f"--fork, {_PDU}, writes files, has no catalog", _prepare_storescp
)
# The ceiling: as fast as the senders of this machine are without anybody who keeps anything.
DISCARD = Peer("discard", "DCMQRSCP", "discards all", "dcmqrscp --ignore", _prepare_discard)
PEERS = (
    PACSNODE,
    PACSNODE_FILE,
    PACSNODE_NONE,
    ORTHANC,
    DCMQRSCP,
    STORESCP,
    Peer(
        "storescp-bits",
        "ANY",
        "none",
        "as storescp, with --bit-preserving",
        _prepare_storescp_bit_preserving,
    ),
    DISCARD,
)


@contextmanager
def running(peer: Peer, folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run a server during the block; afterwards none of its processes is left.

    Args:
        peer: which.
        folder: for all that it writes; made here.
        environment: of the server.

    Raises:
        PeerError: it ended, or accepts no association.
    """
    folder.mkdir(parents=True)
    port = free_port()
    launch = peer.prepare(folder, port, peer.known)
    log_file = folder / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            launch.command,
            cwd=folder,
            env={**environment, **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(peer, port, process.pid)
    try:
        _wait_until_it_accepts(server, process, log_file)
        yield server
    finally:
        _stop(process)


def free_port() -> int:
    """Return a port of loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _wait_until_it_accepts(
    server: Server, process: subprocess.Popen[bytes], log_file: Path
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            set_up_seconds(server.address, server.peer.ae_title, USUAL)
        except (OSError, RequestorError):
            time.sleep(0.05)
        else:
            return
    said = log_file.read_text(encoding="utf-8", errors="replace")[-_SHOWN_LOG_LENGTH:]
    raise PeerError(f"{server.peer.name} does not accept associations:\n{said}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and every process it has made."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # The session is the server's own: what still runs in it was left by the server.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
