"""The servers that the bench compares, each in a fresh folder and on a free port of loopback.

A further peer is another entry in PEERS: its name, what it has on the disk when it says Success,
and how it is started.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench_set_up import SetUpError, set_up_seconds

LOOPBACK = "127.0.0.1"
_START_SECONDS = 30
_STOP_SECONDS = 15
_SHOWN_LOG_LENGTH = 2000
_MOST_ASSOCIATIONS = 100  # as many as pacsnode takes by default


class PeerError(Exception):
    """A server did not start."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started: the command, and what its environment has besides."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be measured.

    Attributes:
        name: for the command line and the tables.
        ae_title: called by the senders.
        durability: what is on the disk before Success is answered.
        settings: what differs from its defaults, in a few words.
        prepare: writes into its folder what it needs to listen on a port.
    """

    name: str
    ae_title: str
    durability: str
    settings: str
    prepare: Callable[[Path, int], Launch]


@dataclass(frozen=True, slots=True)
class Server:
    """A peer that runs."""

    peer: Peer
    port: int

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for a requestor."""
        return LOOPBACK, self.port


def _prepare_pacsnode(_folder: Path, port: int) -> Launch:
    command = Path(sys.executable).parent / "pacsnode"
    return Launch(
        [str(command), "serve"],
        {"PACSNODE_PORT": str(port), "PACSNODE_BIND_ADDRESSES": f'["{LOOPBACK}"]'},
    )


def _prepare_dcmqrscp(folder: Path, port: int) -> Launch:
    storage = folder / "storage"
    storage.mkdir()
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        # Its parser wants blanks around the equals signs. Beyond the quota (studies, bytes for
        # each) it would delete what it has.
        f"NetworkTCPPort = {port}\n"
        "MaxPDUSize = 131072\n"
        f"MaxAssociations = {_MOST_ASSOCIATIONS}\n"
        "HostTable BEGIN\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nDCMQRSCP {storage} RW (500, 1024mb) ANY\nAETable END\n",
        encoding="utf-8",
    )
    # Not --bit-preserving: with it, many more stores fail when several associations send.
    options = ["--config", str(config), "--disable-host-lookup"]
    return Launch(["dcmqrscp", *options])


def _prepare_discard(folder: Path, port: int) -> Launch:
    launch = _prepare_dcmqrscp(folder, port)
    return Launch([*launch.command, "--ignore"])


PEERS = (
    Peer("pacsnode", "PACSNODE", "file and catalog", "defaults", _prepare_pacsnode),
    Peer(
        "dcmqrscp",
        "DCMQRSCP",
        "nothing",
        "PDUs of up to 128 KiB, no host lookup, a quota that is not reached",
        _prepare_dcmqrscp,
    ),
    # The ceiling: as fast as the senders of this machine are without anybody who keeps anything.
    Peer("discard", "DCMQRSCP", "discards all", "dcmqrscp --ignore", _prepare_discard),
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
    server = Server(peer, _free_port())
    launch = peer.prepare(folder, server.port)
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
    try:
        _wait_until_it_accepts(server, process, log_file)
        yield server
    finally:
        _stop(process)


def _wait_until_it_accepts(
    server: Server, process: subprocess.Popen[bytes], log_file: Path
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            set_up_seconds(server.address, server.peer.ae_title)
        except (OSError, SetUpError):
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
