"""DCMTK's command line tools as peers: run one, get what it says as typed values.

A tool that is not installed fails the test. Nagle's algorithm is off (TCP_NODELAY=1), which DCMTK
has on by default.
"""

import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from tests.support.node import free_port
from tests.support.waiting import wait_until

_TIMEOUT_SECONDS = 60
_HERE = "127.0.0.1"
_MODEL_OPTIONS = {"PATIENT": "-P", "STUDY": "-S", "PATIENT/STUDY ONLY": "-O"}
_COUNTER_WORDS = ("Remaining", "Completed", "Failed", "Warning")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Finished:
    """A tool that has ended: its exit code, and both its outputs as one text."""

    exit_code: int
    output: str

    @property
    def statuses(self) -> list[int]:
        """The DIMSE status of each response, in order; needs the tool's debug output."""
        return [
            int(word, 16) for word in re.findall(r"DIMSE Status\s*: 0x([0-9a-f]+)", self.output)
        ]


@dataclass(frozen=True, slots=True)
class Found:
    """What `findscu` received: the final status, and the Identifier of each answer."""

    status: int
    identifiers: list[Dataset]
    output: str


@dataclass(frozen=True, slots=True)
class Moved:
    """What `movescu` received.

    Attributes:
        status: of the final response.
        counters: remaining, completed, failed, warning of the final response; None where absent.
        failed_sop_instance_uids: of the final response; empty if it has no Data Set.
    """

    status: int
    counters: tuple[int | None, int | None, int | None, int | None]
    failed_sop_instance_uids: set[str]
    output: str


@dataclass(frozen=True, slots=True)
class Got:
    """What `getscu` received.

    Attributes:
        status: of the final response; None if there was none.
        counters: remaining, completed, failed, warning of the final response; None where absent.
        files: by SOP Instance UID, which each is named by.
    """

    status: int | None
    counters: tuple[int | None, int | None, int | None, int | None]
    files: dict[str, Path]
    output: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running `storescp`: where it listens and where it writes."""

    ae_title: str
    port: int
    folder: Path
    log_file: Path

    def files(self) -> list[Path]:
        """Return the received files, sorted by name."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    @property
    def log(self) -> str:
        """What it said so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")


def run_tool(*command: str) -> Finished:
    """Run one tool to its end."""
    done = subprocess.run(
        command,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    return Finished(done.returncode, done.stdout.decode("utf-8", errors="replace"))


def echoscu(address: Address, *options: str, called: str = "PACSNODE") -> Finished:
    """Send a C-ECHO."""
    return run_tool("echoscu", "-d", "-aec", called, *options, *_peer(address))


def storescu(
    address: Address, paths: Sequence[Path], *options: str, called: str = "PACSNODE"
) -> Finished:
    """Send files in one association; it stops at the first failure unless `options` say -nh."""
    files = [str(path) for path in paths]
    return run_tool("storescu", "-d", "-aec", called, *options, *_peer(address), *files)


def dcmsend(
    address: Address, paths: Sequence[Path], *options: str, called: str = "PACSNODE"
) -> Finished:
    """Send files as they are encoded, as far as their Transfer Syntax is accepted."""
    files = [str(path) for path in paths]
    return run_tool("dcmsend", "-d", "-aec", called, *options, *_peer(address), *files)


def findscu(address: Address, root: str, keys: Sequence[str], folder: Path, *options: str) -> Found:
    """Send a C-FIND.

    Args:
        address: of the SCP.
        root: PATIENT, STUDY or PATIENT/STUDY ONLY.
        keys: as findscu takes them, `Keyword=value`, the Query/Retrieve Level among them; bytes
            that are not UTF-8 by `os.fsdecode`.
        folder: an empty folder for the answers.
        options: further options of the tool.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key_options = [word for key in keys for word in ("-k", key)]
    done = run_tool(
        *("findscu", "-d", "-aec", "PACSNODE", _MODEL_OPTIONS[root], "-X", "-od", str(folder)),
        *options,
        *key_options,
        *_peer(address),
    )
    assert done.statuses, done.output
    identifiers = [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]
    return Found(done.statuses[-1], [Dataset(each) for each in identifiers], done.output)


def movescu(
    address: Address,
    root: str,
    destination: str,
    keys: Sequence[str],
    *options: str,
    called: str = "PACSNODE",
) -> Moved:
    """Send a C-MOVE; `root` and `keys` as for `findscu`."""
    key_options = [word for key in keys for word in ("-k", key)]
    done = run_tool(
        *("movescu", "-d", "-aec", called, "-aem", destination, _MODEL_OPTIONS[root]),
        *options,
        *key_options,
        *_peer(address),
    )
    assert done.statuses, done.output
    final = done.output.rpartition("INCOMING DIMSE MESSAGE")[2]
    failed = re.search(r"\(0008,0058\) UI \[([^]]*)\]", final)
    remaining, completed, failures, warnings = (_counter(final, word) for word in _COUNTER_WORDS)
    return Moved(
        done.statuses[-1],
        (remaining, completed, failures, warnings),
        set(failed[1].split("\\")) if failed else set(),
        done.output,
    )


def getscu(address: Address, root: str, keys: Sequence[str], folder: Path, *options: str) -> Got:
    """Send a C-GET and keep each Data Set bit for bit as it came.

    Args:
        address: of the SCP.
        root: PATIENT or STUDY.
        keys: as for `findscu`.
        folder: an empty folder for what comes.
        options: further options of the tool.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key_options = [word for key in keys for word in ("-k", key)]
    done = run_tool(
        *("getscu", "-d", "-aec", "PACSNODE", _MODEL_OPTIONS[root], "+B", "-od", str(folder)),
        *options,
        *key_options,
        *_peer(address),
    )
    # Each message is shown with its type: those of the sub-operations are left out.
    responses = re.findall(r"Message Type +: C-GET RSP\n(?:.*\n)*?.*END DIMSE", done.output)
    final = responses[-1] if responses else ""
    status = re.search(r"DIMSE Status +: 0x([0-9a-f]+)", final)
    remaining, completed, failures, warnings = (_counter(final, word) for word in _COUNTER_WORDS)
    return Got(
        int(status[1], 16) if status else None,
        (remaining, completed, failures, warnings),
        {path.name: path for path in folder.iterdir()},
        done.output,
    )


@contextmanager
def storescp(
    folder: Path, ae_title: str = "STORESCP", port: int | None = None, *options: str
) -> Iterator[Receiver]:
    """Run a Storage SCP that writes each Data Set bit for bit as it came."""
    folder.mkdir(parents=True, exist_ok=True)
    number = port or free_port()
    log_file = folder.with_name(folder.name + ".log")
    command = ["storescp", "-d", "-dhl", "--bit-preserving", "-pm", "-aet", ae_title]
    if not any(option.startswith("+x") for option in options):
        command.append("+xa")
    command += ["-od", str(folder), *options, str(number)]
    with _daemon(command, log_file, number):
        yield Receiver(ae_title, number, folder, log_file)


@contextmanager
def dcmqrscp(
    folder: Path, ae_title: str, port: int, peers: dict[str, Address], *options: str
) -> Iterator[Path]:
    """Run DCMTK's archive and yield the folder of its files and its index.

    Args:
        folder: for all that it writes.
        ae_title: its title.
        port: where it listens.
        peers: its move destinations by AE title.
        options: further options of the tool.
    """
    archive = folder / "archive"
    archive.mkdir(parents=True)
    hosts = "\n".join(
        f"peer{number} = ({title}, {host}, {peer_port})"
        for number, (title, (host, peer_port)) in enumerate(peers.items())
    )
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\n{hosts}\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{ae_title} {archive} RW (200, 1024mb) ANY\nAETable END\n",
        encoding="ascii",
    )
    command = ["dcmqrscp", "-d", "-dhl", "-c", str(config), *options]
    with _daemon(command, folder / "dcmqrscp.log", port):
        yield archive


def dcmdump(path: Path) -> str:
    """Return what `dcmdump` prints of a file; it must be able to read it."""
    done = run_tool("dcmdump", "+L", "-Un", str(path))
    assert done.exit_code == 0, done.output
    return done.output


@contextmanager
def _daemon(command: Sequence[str], log_file: Path, port: int) -> Iterator[None]:
    """Run a tool that listens, from the moment it does until the end of the block."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: _listens(process, port, log_file), f"{command[0]} to listen")
        yield
    finally:
        process.terminate()
        process.wait(_TIMEOUT_SECONDS)


def _listens(process: subprocess.Popen[bytes], port: int, log_file: Path) -> bool:
    assert process.poll() is None, log_file.read_text(errors="replace")
    with suppress(OSError), socket.create_connection((_HERE, port), 1):
        return True
    return False


def _counter(message: str, word: str) -> int | None:
    """Return a counter from the dump of a C-MOVE response, None for "none"."""
    found = re.search(rf"{word} Suboperations\s*: (\d+)", message)
    return int(found[1]) if found else None


def _peer(address: Address) -> tuple[str, str]:
    return address[0], str(address[1])


def _environment() -> dict[str, str]:
    return {**os.environ, "TCP_NODELAY": "1"}
