"""What all measurements share: folders, environments, servers that run, and senders."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench_objects import Template
from bench_peers import Peer, Server, running
from bench_senders import SendError, Sending, send

_WARM_UP_INSTANCES = 4  # for each association; fewer if a measurement has fewer
_LONG_ENOUGH = 0.3  # of a measurement; what is shorter is mostly the start of the senders
_SYSTEM_PROGRAMS = "/usr/sbin"  # where Debian has Orthanc; not on everybody's PATH


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment of servers and senders says about Nagle's algorithm.

    Attributes:
        name: for the command line.
        title: for the tables.
        additions: to the environment.
    """

    name: str
    title: str
    additions: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return this process's environment without what would change a server or a sender."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if name != "TCP_NODELAY" and not name.startswith(("PACSNODE_", "DCM", "TCP_BUFFER"))
        }
        if dictionary := os.environ.get("DCMDICTPATH"):  # DCMTK's data dictionary may be elsewhere
            clean["DCMDICTPATH"] = dictionary
        return {**clean, "PATH": _path(clean.get("PATH", os.defpath)), **self.additions}


STOCK = Environment("stock", "stock environment (Nagle's algorithm on in DCMTK)")
NODELAY = Environment("nodelay", "TCP_NODELAY=1 for senders and servers", {"TCP_NODELAY": "1"})
ENVIRONMENTS = (STOCK, NODELAY)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the bench writes.

    Attributes:
        servers: what is kept; the disk that is measured.
        objects: what is sent; in memory if possible, so that it keeps no disk busy.
    """

    servers: Path
    objects: Path


@dataclass(frozen=True, slots=True)
class Workspace:
    """Runs servers and senders, and leaves nothing of them.

    Attributes:
        folders: where to write; what is written there is removed again.
        progress: called with a few words before each step.
        runs: of each measurement.
        run_seconds: how long a measurement should last.
        is_quick: whether all measurements are to be short.
    """

    folders: Folders
    progress: Callable[[str], None]
    runs: int
    run_seconds: float
    is_quick: bool
    _series: Iterator[int] = field(default_factory=count)
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def servers(self, peers: Sequence[Peer], environment: Environment) -> Iterator[list[Server]]:
        """Run peers, with nothing stored, during the block.

        Raises:
            PeerError: a server did not start.
        """
        with ExitStack() as stack:
            servers = []
            for peer in peers:
                folder = self.folders.servers / f"{peer.name}-{next(self._numbers)}"
                stack.callback(_empty_files, folder)
                servers.append(stack.enter_context(running(peer, folder, environment.variables())))
            yield servers

    @contextmanager
    def server(self, peer: Peer, environment: Environment) -> Iterator[Server]:
        """Run one peer as `servers` does."""
        with self.servers([peer], environment) as servers:
            yield servers[0]

    def instances_for(
        self, server: Server, template: Template, associations: int, environment: Environment
    ) -> int:
        """Warm a server up; return how many instances each association needs for a measurement.

        The warm-up is repeated with more instances until it is long enough to tell.
        """
        most = max(template.kind.most_instances // associations, 1)
        each = min(_WARM_UP_INSTANCES, most)
        while True:
            sending = self.send(server, template, [each] * associations, environment)
            wanted = round(sending.rate * self.run_seconds / associations)
            instances = min(max(wanted, _WARM_UP_INSTANCES), most)
            is_long_enough = sending.seconds >= _LONG_ENOUGH * self.run_seconds
            if is_long_enough or each >= _LONG_ENOUGH * instances:
                return instances
            each = round(instances * _LONG_ENOUGH) + 1

    def send(
        self,
        server: Server,
        template: Template,
        instances: Sequence[int],
        environment: Environment,
    ) -> Sending:
        """Send new instances, so many in each of the associations, all at the same time.

        Raises:
            SendError: the senders could not be run.
        """
        series = [next(self._series) for _ in instances]
        return self._send(server, template, dict(zip(series, instances, strict=True)), environment)

    def archive_study(
        self, server: Server, template: Template, instances: int, environment: Environment
    ) -> str:
        """Send a study of so many instances; return its Study Instance UID.

        Raises:
            SendError: not all of it has arrived.
        """
        series = next(self._series)
        sending = self._send(server, template, {series: instances}, environment)
        if sending.acknowledged < instances:
            raise SendError(f"the study was not stored: {dict(sending.failures)}")
        return template.study_instance_uid(series)

    def _send(
        self,
        server: Server,
        template: Template,
        instances: Mapping[int, int],
        environment: Environment,
    ) -> Sending:
        """Send so many instances of each series, by its number."""
        folder = self.folders.objects / "objects"
        try:
            batches = [
                template.write_series(folder / str(series), series, each)
                for series, each in instances.items()
            ]
            # Else a server that syncs would have to write what another one has left.
            os.sync()
            senders = self.folders.objects / "senders"
            return send(server, batches, senders, environment.variables())
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _empty_files(folder: Path) -> None:
    """Give back the space of the files in a folder, but do not remove them before the bench ends.

    For minutes after files were removed ext4, where it has no journal, takes up to twenty times as
    long to make one: it steps over the inodes of those, one by one.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


def _path(path: str) -> str:
    """Return a PATH without this Python's programs: pynetdicom has some of DCMTK's names."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join(
        [*(each for each in path.split(os.pathsep) if each != own), _SYSTEM_PROGRAMS]
    )
