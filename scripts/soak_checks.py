"""What must be true of the node when the load is over.

Each check is a function that returns a Verdict: a line with figures, and what is wrong.
"""

import re
import sqlite3
import statistics
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from soak_ledger import Events, Ledger, SeriesUIDs, is_explained
from soak_load import WORKERS
from soak_objects import digest_of
from soak_processes import BYTES_PER_MIB, Holding, Sample, level, levels_by_tenth, longest_lived
from soak_queries import delivered_digests

from tests.support.dcmtk import Address, Receiver, movescu
from tests.support.instances import encoded_data_set_of
from tests.support.node import Node
from tests.support.wire import STUDY_ROOT_FIND, Association, identifier_of, query_contexts

CATALOG_NAME = "catalog.sqlite"

_PARALLEL = 4
_MOST_MOVED = 500
_MOST_ECHO_SECONDS = 1.0
_MOST_GROWTH_BYTES = 8 * BYTES_PER_MIB
_MOST_GROWTH = 0.10
_MOST_CATALOG_DESCRIPTORS = 200  # a few for each association that ever was at work at one moment
_FAULT = re.compile(
    r"^\S+ \S+ (?:ERROR|CRITICAL)|Traceback|failed for a fault of this program", re.MULTILINE
)
_KILLED_WORKER = re.compile(r" worker (\d+) died: SIGKILL ")
_KNOWN = {
    "pacsnode.yaml",
    "serve.log",
    "storage",
    CATALOG_NAME,
    *(CATALOG_NAME + end for end in ("-wal", "-shm", ".lock")),
}
_KNOWN_IN_STORAGE = {"incoming", "studies", "quarantine"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        text: what was looked at, with figures.
        faults: what is wrong, in words; empty if nothing is.
    """

    text: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """An instance in the catalog, and its file relative to the storage folder."""

    sop_instance_uid: str
    path: str


def read_rows(node: Node) -> list[Row]:
    """Return every instance of the catalog, past the node."""
    address = f"file:{node.folder / CATALOG_NAME}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        rows = connection.execute("SELECT sop_instance_uid, path FROM instance")
        return [Row(*row) for row in rows]


def check_found(address: Address, ledger: Ledger) -> Verdict:
    """Each acknowledged instance is found by C-FIND at IMAGE level."""
    series = list(ledger.acknowledged)
    parts = [series[start::_PARALLEL] for start in range(_PARALLEL)]
    with ThreadPoolExecutor(_PARALLEL) as threads:
        found = set().union(*threads.map(lambda part: _found(address, part), parts))
    acknowledged = ledger.acknowledged_uids()
    missing = acknowledged - found
    text = (
        f"acknowledged instances found by C-FIND: {len(acknowledged & found)} "
        f"of {len(acknowledged)}, in {len(series)} series"
    )
    return Verdict(text, _some(f"not found: {uid}" for uid in missing))


def check_bytes(node: Node, ledger: Ledger, rows: Sequence[Row]) -> Verdict:
    """The file of each instance has the bytes that were sent first under its UID."""
    with ThreadPoolExecutor(_PARALLEL) as threads:
        digests = list(threads.map(lambda row: _digest(node.storage_folder / row.path), rows))
    by_uid = {row.sop_instance_uid: digest for row, digest in zip(rows, digests, strict=True)}
    acknowledged = ledger.acknowledged_uids()
    exact = {uid for uid, digest in by_uid.items() if digest == ledger.offered.get(uid)}
    faults = [f"other bytes, or none: {uid}" for uid in acknowledged - exact]
    faults += [f"kept, but never sent to its end: {uid}" for uid in by_uid.keys() - ledger.offered]
    faults += [f"other content was answered with Success: {uid}" for uid in ledger.contradicted]
    text = (
        f"acknowledged instances byte-exact in their files: {len(acknowledged & exact)} "
        f"of {len(acknowledged)}; {len(by_uid.keys() - acknowledged)} kept besides without an "
        "answer that arrived"
    )
    return Verdict(text, _some(faults))


def check_moved(address: Address, ledger: Ledger, receiver: Receiver) -> Verdict:
    """Series drawn by lot arrive at a destination as they were sent."""
    series = list(ledger.acknowledged)
    Random().shuffle(series)  # noqa: S311 - nothing secret
    asked, exact, faults = 0, 0, []
    for each in series:
        if asked >= _MOST_MOVED:
            break
        for path in receiver.files():
            path.unlink()
        expected = ledger.acknowledged[each]
        keys = ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={each[0]}")
        moved = movescu(
            address, "STUDY", receiver.ae_title, (*keys, f"SeriesInstanceUID={each[1]}")
        )
        delivered = delivered_digests(receiver)
        wrong = [uid for uid in expected if delivered.get(uid) != ledger.offered[uid]]
        faults += [f"status 0x{moved.status:04X}: {uid}" for uid in wrong]
        asked += len(expected)
        exact += len(expected) - len(wrong)
    text = f"acknowledged instances byte-exact by C-MOVE: {exact} of {asked} drawn"
    return Verdict(text, _some(faults))


def check_quarantine(node: Node, ledger: Ledger) -> Verdict:
    """Other content under a UID that is kept is in quarantine if a warning was answered."""
    files = [path for path in (node.storage_folder / "quarantine").glob("*") if path.is_file()]
    aside = {(path.name.rsplit(".", 2)[0], _digest(path)) for path in files}
    missing = ledger.set_aside - aside
    text = (
        f"other content under a kept UID, in quarantine: {len(ledger.set_aside & aside)} "
        f"of {len(ledger.set_aside)}"
    )
    return Verdict(text, _some(f"not in quarantine: {uid}" for uid, _ in missing))


def check_files(node: Node, rows: Sequence[Row]) -> Verdict:
    """Rows and files are the same, each once, and nothing is left on its way in."""
    storage = node.storage_folder
    files = {str(path.relative_to(storage)) for path in _files(storage / "studies")}
    paths = {row.path for row in rows}
    writers = list((storage / "incoming").iterdir())
    left = _files(storage / "incoming")
    faults = [f"no row: {path}" for path in files - paths]
    faults += [f"no file: {path}" for path in paths - files]
    faults += [f"left in incoming: {path.name}" for path in left]
    if len(writers) != WORKERS:
        faults.append(f"{len(writers)} folders in incoming")
    text = (
        f"files and rows: {len(files)} files in studies, {len(rows)} rows; "
        f"in incoming {len(writers)} folders of writers, {len(left)} files"
    )
    return Verdict(text, _some(faults))


def check_temporary_files(node: Node, temporary_folder: Path) -> Verdict:
    """Nothing lies beside what the node is known to write."""
    unknown = [path for path in node.folder.iterdir() if path.name not in _KNOWN]
    unknown += [
        path for path in node.storage_folder.iterdir() if path.name not in _KNOWN_IN_STORAGE
    ]
    unknown += temporary_folder.iterdir()
    text = f"temporary files: {len(unknown)}"
    return Verdict(text, _some(f"unknown: {path.name}" for path in unknown))


def check_at_rest(
    before: Mapping[int, Holding], after: Mapping[int, Holding], *, is_quiet: bool
) -> Verdict:
    """No worker has more threads or descriptors than a fresh one had, but for the catalog's.

    The catalog keeps one connection for each association that was at work at one moment.
    """
    threads = max(each.threads for each in before.values())
    lasting = max(each.lasting for each in before.values())
    faults = [] if is_quiet else ["the node did not become quiet"]
    for pid, each in after.items():
        if each.threads > threads:
            faults.append(f"worker {pid} has {each.threads} threads")
        if each.lasting > lasting:
            faults.append(f"worker {pid} has descriptors {dict(each.descriptors)}")
        if each.descriptors["catalog"] > _MOST_CATALOG_DESCRIPTORS:
            faults.append(f"worker {pid} has {each.descriptors['catalog']} of the catalog")
    text = f"at rest, before and after: {_holding_text(before)}; {_holding_text(after)}"
    return Verdict(text, tuple(faults))


def check_memory(samples: Mapping[int, Sequence[Sample]], seconds: float) -> Verdict:
    """The worker that lived longest has not grown from the middle of the run to its end."""
    pid = longest_lived(samples, seconds * 5 / 6)
    before = level(samples[pid], seconds / 2, seconds * 2 / 3) if pid else None
    after = level(samples[pid], seconds * 5 / 6, seconds) if pid else None
    if pid is None or before is None or after is None:
        return Verdict("memory", ("no worker lived long enough",))
    bound = max(_MOST_GROWTH_BYTES, before * _MOST_GROWTH)
    age = samples[pid][-1].at_seconds - samples[pid][0].at_seconds
    peak = max(each.size_bytes for each in samples[pid])
    text = (
        f"memory (RssAnon) of a worker that lived {age:.0f} s: {before / BYTES_PER_MIB:.1f} MiB "
        f"in the middle, {after / BYTES_PER_MIB:.1f} MiB at the end, at most "
        f"{peak / BYTES_PER_MIB:.1f} MiB; bound of growth {bound / BYTES_PER_MIB:.1f} MiB"
    )
    if after - before <= bound:
        return Verdict(text)
    levels = ", ".join(f"{each / BYTES_PER_MIB:.0f}" for each in levels_by_tenth(samples[pid]))
    return Verdict(text, (f"grown too much; MiB by tenths of its life: {levels}",))


def check_log(log: str, kills: Iterable[int]) -> Verdict:
    """The log has no error but that workers died that were killed here."""
    lines = [line for line in log.splitlines() if _FAULT.search(line)]
    killed = set(kills)
    expected = [
        line for line in lines if (found := _KILLED_WORKER.search(line)) and int(found[1]) in killed
    ]
    faults = [line for line in lines if line not in expected]
    text = (
        f"log: {log.count(chr(10))} lines, {len(faults)} errors or tracebacks "
        f"besides {len(expected)} lines on killed workers"
    )
    return Verdict(text, _some(faults))


def check_echoes(lines: Sequence[str], kills: Mapping[int, float]) -> Verdict:
    """Each C-ECHO was answered within a second, unless its worker was killed meanwhile."""
    answered, cut, faults = [], 0, []
    for line in lines:
        began_at, _, seconds = line.partition(" ")
        if seconds == "lost":
            # It may have been begun just before the kill that broke it.
            is_cut = any(is_explained(float(began_at) + early, dict(kills)) for early in (0.0, 0.5))
            cut += is_cut
            faults += [] if is_cut else [f"not answered at {began_at}"]
        else:
            answered.append(float(seconds))
            if answered[-1] > _MOST_ECHO_SECONDS:
                faults.append(f"answered after {seconds} s at {began_at}")
    if len(answered) < 2:  # noqa: PLR2004 - no quantiles
        return Verdict("C-ECHO", ("none was answered",))
    p99 = statistics.quantiles(answered, n=100, method="inclusive")[-1]
    text = (
        f"C-ECHO: {len(answered)} answered, median {statistics.median(answered) * 1000:.0f} ms, "
        f"p99 {p99 * 1000:.0f} ms, at most {max(answered) * 1000:.0f} ms; {cut} cut by a kill"
    )
    return Verdict(text, _some(faults))


def check_events(events: Events) -> Verdict:
    """Nothing was refused, and no association was lost but by a kill."""
    unexplained = events.unexplained_losses()
    faults = [f"{what} ({times} times)" for what, times in events.surprises.items()]
    faults += [f"an association of {loss.who} was lost without a kill" for loss in unexplained]
    text = (
        f"answers: {events.surprises.total()} not as they should be; "
        f"{len(events.losses)} associations lost, {len(unexplained)} of them not by a kill"
    )
    return Verdict(text, _some(faults))


def _found(address: Address, series: Sequence[SeriesUIDs]) -> set[str]:
    found: set[str] = set()
    with Association(address, query_contexts()) as association:
        for study_instance_uid, series_instance_uid in series:
            identifier = identifier_of(
                "IMAGE",
                StudyInstanceUID=study_instance_uid,
                SeriesInstanceUID=series_instance_uid,
                SOPInstanceUID="",
            )
            *pending, _ = association.c_find(STUDY_ROOT_FIND, identifier)
            found.update(str(each.identifier.SOPInstanceUID) for each in pending)
    return found


def _digest(path: Path) -> bytes | None:
    """Return the digest of the data set in a file; None if it cannot be read."""
    try:
        return digest_of(encoded_data_set_of(path))
    except OSError:
        return None


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _holding_text(holdings: Mapping[int, Holding]) -> str:
    threads = "+".join(str(each.threads) for each in holdings.values())
    lasting = "+".join(str(each.lasting) for each in holdings.values())
    catalog = "+".join(str(each.descriptors["catalog"]) for each in holdings.values())
    return f"{threads} threads, {lasting} descriptors and {catalog} of the catalog"


def _some(faults: Iterable[str]) -> tuple[str, ...]:
    """Return the first of the faults, and how many more there are."""
    every = list(faults)
    shown = 10
    more = [f"and {len(every) - shown} more"] if len(every) > shown else []
    return (*every[:shown], *more)
