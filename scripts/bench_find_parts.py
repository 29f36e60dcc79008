"""The parts of the bench of queries: each can be chosen on its own."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench_figures import Figure
from bench_find_archive import Archive, fill_catalog
from bench_find_encoder import encoding_microseconds
from bench_find_queries import QUESTIONS, Answers, measure, median, p95
from bench_find_requestor import QueryAssociation
from bench_peers import ORTHANC, PACSNODE, PACSNODE_NONE, KnownAE, Launch, Peer, Server
from bench_report import Grid
from bench_workspace import NODELAY, Workspace

_SMALL: Final = Archive(studies=1_000)
_LARGE: Final = Archive(studies=100_000)
_BESIDE: Final = Archive(studies=2_000)
_QUICK_LARGE: Final = Archive(studies=10_000)
_QUICK_SHARE: Final = 10  # of the runs
_LEAST_RUNS: Final = 3
_MOST_COMPARED_ANSWERS: Final = 100
_LEAST_TIMES_AS_FAST: Final = 3.0
_LEAST_TIMES_THE_RATE: Final = 1.5
_MOST_ENCODING_MICROSECONDS: Final = 10.0
_SENDERS: Final = 4

Measured = Mapping[str, Answers]  # by name of the question


@dataclass(frozen=True, slots=True)
class Result:
    """What a part has found out.

    Attributes:
        tables: of times.
        figures: with their aims.
    """

    tables: Sequence[Grid]
    figures: Sequence[Figure]


def measure_encoding(workspace: Workspace) -> Result:
    """Measure encoding an answer, in this process."""
    workspace.progress("encoding of an answer")
    what = "one answer of ten Attributes, encoded in this process"
    microseconds = encoding_microseconds()
    return Result([], [Figure(what, microseconds, "µs", below=_MOST_ENCODING_MICROSECONDS)])


def measure_growth(workspace: Workspace) -> Result:
    """Measure two nodes, one with a small and one with a large archive, in turn."""
    archives = [_SMALL, _QUICK_LARGE if workspace.is_quick else _LARGE]
    peers = []
    for archive in archives:
        path = workspace.folders.objects / f"{archive.instances}.sqlite"
        for instances in fill_catalog(path, archive):
            workspace.progress(f"catalog: {instances} of {archive.instances} instances")
        peers.append(_with_catalog(path))
    with workspace.servers(peers, NODELAY) as servers:
        small, large = _ask(workspace, list(zip(servers, archives, strict=True)))
    titles = [f"{archive.instances:,} instances" for archive in archives]
    tables = [_times(titles[0], small), _times(titles[1], large, small)]
    return Result(tables, list(_aims_of_growth(small, large)))


def measure_beside_orthanc(workspace: Workspace) -> Result:
    """Measure a node and Orthanc that were sent the same archive, in turn."""
    with workspace.servers([PACSNODE_NONE, _ORTHANC_FOR_ALL], NODELAY) as servers:
        for server in servers:
            _send(workspace, server, _BESIDE)
        pacsnode, orthanc = _ask(workspace, [(server, _BESIDE) for server in servers])
    title = f"pacsnode and Orthanc, {_BESIDE.instances:,} instances"
    table = _comparison(title, pacsnode, orthanc)
    return Result([table], list(_aims_of_comparison(pacsnode, orthanc)))


@dataclass(frozen=True, slots=True)
class Part:
    """Something that can be measured.

    Attributes:
        name: for the command line.
        measure: does it.
    """

    name: str
    measure: Callable[[Workspace], Result]


PARTS: Final = (
    Part("encoding", measure_encoding),
    Part("growth", measure_growth),
    Part("orthanc", measure_beside_orthanc),
)


def _ask(workspace: Workspace, servers: Sequence[tuple[Server, Archive]]) -> list[Measured]:
    """Ask each server every question, one server after the other, on one association each."""
    measured: list[dict[str, Answers]] = [{} for _ in servers]
    with ExitStack() as stack:
        associations = [
            stack.enter_context(QueryAssociation(server.address, server.peer.ae_title))
            for server, _ in servers
        ]
        for question in QUESTIONS:
            runs = question.runs // (_QUICK_SHARE if workspace.is_quick else 1)
            for (server, archive), association, of_server in zip(
                servers, associations, measured, strict=True
            ):
                workspace.progress(
                    f"{server.peer.name}, {archive.instances} instances: {question.name}"
                )
                of_server[question.name] = measure(
                    association, question, archive, max(runs, _LEAST_RUNS)
                )
    return list(measured)


def _send(workspace: Workspace, server: Server, archive: Archive) -> None:
    """Store all instances of an archive."""

    def send(first: int) -> None:
        with QueryAssociation(server.address, server.peer.ae_title) as association:
            for number in range(first, archive.studies, _SENDERS):
                if first == 0:
                    workspace.progress(f"{server.peer.name}: study {number} of {archive.studies}")
                for instance in archive.instances_of(number):
                    association.store(instance)

    with ThreadPoolExecutor(_SENDERS) as pool:
        for done in pool.map(send, range(_SENDERS)):
            _ = done  # raises what was raised there


def _with_catalog(path: Path) -> Peer:
    """Return the node with a catalog that is there already; it is moved to where it belongs.

    Its files are not there. That is looked for at IMAGE level only, and takes as long.
    """

    def prepare(folder: Path, port: int, known: Sequence[KnownAE]) -> Launch:
        catalog = folder / "pacsnode-data" / "catalog.sqlite"
        catalog.parent.mkdir()
        path.rename(catalog)
        return PACSNODE.prepare(folder, port, known)

    return replace(PACSNODE, prepare=prepare)


def _prepare_orthanc_for_all(folder: Path, port: int, known: Sequence[KnownAE]) -> Launch:
    """Orthanc as in the other bench, but quick to fill, and answering whoever asks."""
    launch = ORTHANC.prepare(folder, port, known)
    config = folder / "orthanc.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings |= {"SyncStorageArea": False, "DicomAlwaysAllowFind": True}
    config.write_text(json.dumps(settings), encoding="utf-8")
    return launch


_ORTHANC_FOR_ALL = replace(ORTHANC, prepare=_prepare_orthanc_for_all)


def _times(title: str, measured: Measured, before: Measured | None = None) -> Grid:
    """Return a table of times; with what they are times those of a smaller archive."""
    header = [
        f"milliseconds, {title}",
        "answers",
        "first: median",
        "p95",
        "last: median",
        "p95",
        "answers/s",
    ]
    rows = []
    for name, answers in measured.items():
        first, last = answers.first_milliseconds, answers.last_milliseconds
        row = [name, f"{answers.count:,}"]
        row += [f"{each:.2f}" for each in (median(first), p95(first), median(last), p95(last))]
        row.append(f"{answers.rate:,.0f}")
        if before is not None:
            row.append(f"{_times_as_long(answers, before[name]):.2f}")
        rows.append(row)
    if before is not None:
        header.append("times as long")
    return Grid(f"Queries, {title}", header, rows)


def _comparison(title: str, pacsnode: Measured, orthanc: Measured) -> Grid:
    header = ["milliseconds to the last answer", "answers", "pacsnode", "Orthanc", "times as fast"]
    header += ["pacsnode answers/s", "Orthanc answers/s"]
    rows = []
    for name, ours in pacsnode.items():
        theirs = orthanc[name]
        count = f"{ours.count:,}"
        if theirs.count != ours.count:
            count += f" / {theirs.count:,}"
        own, other = median(ours.last_milliseconds), median(theirs.last_milliseconds)
        rates = [f"{ours.rate:,.0f}", f"{theirs.rate:,.0f}"]
        rows.append([name, count, f"{own:.2f}", f"{other:.2f}", f"{other / own:.2f}", *rates])
    return Grid(title, header, rows)


def _times_as_long(answers: Answers, before: Answers) -> float:
    return median(answers.last_milliseconds) / median(before.last_milliseconds)


def _aims_of_growth(before: Measured, after: Measured) -> Iterator[Figure]:
    """Yield what is aimed at in a large archive."""
    for question in QUESTIONS:
        answers = after[question.name]
        if question.aim_milliseconds is not None:
            last = median(answers.last_milliseconds)
            yield Figure(question.name, last, "ms", below=question.aim_milliseconds)
        if question.most_growth is not None:
            times = _times_as_long(answers, before[question.name])
            what = f"{question.name}, times as long as in the small archive"
            yield Figure(what, times, "times", below=question.most_growth)


def _aims_of_comparison(pacsnode: Measured, orthanc: Measured) -> Iterator[Figure]:
    for question in QUESTIONS:
        ours, theirs = pacsnode[question.name], orthanc[question.name]
        if question.lists_all:
            what = f"pacsnode / Orthanc, {question.name}, answers/s"
            yield Figure(what, ours.rate / theirs.rate, "times", at_least=_LEAST_TIMES_THE_RATE)
        elif ours.count <= _MOST_COMPARED_ANSWERS:
            times = median(theirs.last_milliseconds) / median(ours.last_milliseconds)
            what = f"pacsnode / Orthanc, {question.name}, times as fast"
            yield Figure(what, times, "times", at_least=_LEAST_TIMES_AS_FAST)
