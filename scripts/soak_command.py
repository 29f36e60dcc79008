"""Drive a node with everything at once for some minutes, then check that nothing is lost.

Node and peers run on this machine, connected by loopback, in a temporary folder. Nothing of it is
left at the end, but the log of a node that failed a check.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import NoReturn

import soak_checks
from bench_machine import describe_machine
from rich.console import Console
from rich.progress import Progress
from soak_checks import Verdict
from soak_hostile import (
    DIMSE_TIMEOUT_SECONDS,
    IDLE_TIMEOUT_SECONDS,
    NEGOTIATION_TIMEOUT_SECONDS,
)
from soak_ledger import Events, Ledger
from soak_load import WORKERS, Load
from soak_objects import Objects
from soak_processes import Holding, holdings, wait_until_quiet
from soak_queries import find
from soak_senders import Peer, send_by_wire

from tests.support.dcmtk import Receiver, storescp
from tests.support.node import Node, free_port, new_node

_SECONDS_PER_MINUTE = 60
_MOST_BYTES_PER_SECOND = 40_000_000
_MOST_BYTES = 16_000_000_000
_BYTES_PER_GB = 1_000_000_000
_WARMING_ROUNDS = 12
_QUIET_SECONDS = 60
_DESTINATION = "SOAKDEST"


def main() -> int:
    """Do what the command line says."""
    arguments = _parse_arguments()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    # pynetdicom installs programs of the names of DCMTK's beside this Python.
    here = str(Path(sys.executable).parent)
    folders = os.environ["PATH"].split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(each for each in folders if each != here)
    on_disk = arguments.folder or Path("/var/tmp")  # noqa: S108 - the folder made in it is ours
    try:
        with tempfile.TemporaryDirectory(prefix="pacsnode-soak-", dir=on_disk) as folder:
            return _soak(Path(folder), arguments.minutes * _SECONDS_PER_MINUTE)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _soak(folder: Path, seconds: float) -> int:
    """Run all of it in this folder; return the exit code."""
    machine = describe_machine(folder)
    print("\n".join(machine.lines))
    if machine.is_disk_volatile:
        print("scripts/soak: the folder is not on a real disk: use --folder", file=sys.stderr)
        return 1
    with _running_node(folder) as (node, receiver):
        peer = Peer(node.address, Objects(), Ledger(), Events(), folder / "load")
        peer.folder.mkdir()
        before = _warm_up(node, peer)
        free_bytes = shutil.disk_usage(folder).free
        rate = min(_MOST_BYTES, free_bytes / 2, _MOST_BYTES_PER_SECOND * seconds)
        load = Load(node, peer, receiver, seconds, rate)
        _show_progress(load)
        began_at = time.monotonic()
        verdicts = list(_check(load, before, folder / "tmp"))
        print(f"{seconds:.0f} s of load, {time.monotonic() - began_at:.0f} s of checks")
    _print_counts(peer)
    for verdict in verdicts:
        print(f"{'FAILED' if verdict.faults else 'OK':7} {verdict.text}")
        for fault in verdict.faults:
            print(f"        {fault}")
    if not any(verdict.faults for verdict in verdicts):
        return 0
    kept = Path(shutil.copyfile(node.log_file, folder.with_suffix(".log")))
    print(f"the log of the node is in {kept}")
    return 1


@contextmanager
def _running_node(folder: Path) -> Iterator[tuple[Node, Receiver]]:
    """Run a node and a destination during the block."""
    temporary_folder = folder / "tmp"
    temporary_folder.mkdir()
    os.environ["TMPDIR"] = str(temporary_folder)  # so that what the node leaves there is seen
    port = free_port()
    node = new_node(
        folder / "node",
        catalog={"url": f"sqlite:///{soak_checks.CATALOG_NAME}"},
        remote_aes=[{"ae_title": _DESTINATION, "host": "127.0.0.1", "port": port}],
        association={
            "negotiation_timeout_seconds": NEGOTIATION_TIMEOUT_SECONDS,
            "dimse_timeout_seconds": DIMSE_TIMEOUT_SECONDS,
            "idle_timeout_seconds": IDLE_TIMEOUT_SECONDS,
        },
        processes={"workers": WORKERS},
    )
    with storescp(folder / "received", _DESTINATION, port) as receiver:
        try:
            node.start()
            yield node, receiver
        finally:
            node.kill()


def _warm_up(node: Node, peer: Peer) -> dict[int, Holding]:
    """Have both workers do a little of everything; return what they hold at rest then."""
    with ThreadPoolExecutor(_WARMING_ROUNDS) as threads:
        for one_round in (send_by_wire, find):
            randoms = [Random() for _ in range(_WARMING_ROUNDS)]  # noqa: S311 - nothing secret
            list(threads.map(lambda random, each=one_round: each(peer, random), randoms))
    sockets = len(node.settings["bind_addresses"])
    wait_until_quiet(node, sockets, WORKERS, _QUIET_SECONDS)
    return holdings(node)


def _show_progress(load: Load) -> None:
    """Run the load, and show how far it is on a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("soaking", total=load.seconds)
        load.run(lambda elapsed: progress.update(task, completed=elapsed))


def _check(load: Load, before: dict[int, Holding], temporary_folder: Path) -> Iterator[Verdict]:
    node, peer, receiver = load.node, load.peer, load.receiver
    sockets = max(each.sockets for each in before.values())
    is_quiet = wait_until_quiet(node, sockets, WORKERS, _QUIET_SECONDS)
    after = holdings(node)
    rows = soak_checks.read_rows(node)
    yield soak_checks.check_found(peer.address, peer.ledger)
    yield soak_checks.check_bytes(node, peer.ledger, rows)
    yield soak_checks.check_moved(peer.address, peer.ledger, receiver)
    yield soak_checks.check_quarantine(node, peer.ledger)
    yield soak_checks.check_files(node, rows)
    yield soak_checks.check_temporary_files(node, temporary_folder)
    yield soak_checks.check_at_rest(before, after, is_quiet=is_quiet)
    yield soak_checks.check_memory(load.memory.samples, load.seconds)
    yield soak_checks.check_log(node.log, peer.events.kills)
    echoes = load.echoes.read_text(encoding="ascii").splitlines()
    yield soak_checks.check_echoes(echoes, peer.events.kills)
    yield soak_checks.check_events(peer.events)


def _print_counts(peer: Peer) -> None:
    """Print what was done."""
    ledger, events = peer.ledger, peer.events
    acknowledged = len(ledger.acknowledged_uids())
    length_gb = ledger.length_bytes / _BYTES_PER_GB
    print(f"{acknowledged} instances stored, {length_gb:.2f} GB with those sent again")
    for group, counts in events.groups().items():
        print(f"{group}: " + ", ".join(f"{number} {what}" for what, number in counts.items()))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--minutes", type=_positive, default=3.0, metavar="N", help="of load (default: 3)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="on the disk to be used; a folder is made in it, and removed (default: /var/tmp)",
    )
    return parser.parse_args()


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:  # noqa: PLR2004 - whatever is not a time: nan, inf
        raise argparse.ArgumentTypeError(f"{text}: a number of minutes above 0")
    return number


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does: through every context that has something to stop or to remove."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
