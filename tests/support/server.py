"""The node's associations in a thread of the test: real sockets, catalog and file store."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pacsnode.catalog import Catalog
from pacsnode.dicom.ae import RemoteAE
from pacsnode.file_store import FileStore
from pacsnode.network.handlers import Handlers
from pacsnode.network.negotiation import AETitlePolicy, AssociationPolicy
from pacsnode.network.server import AssociationServer
from pacsnode.network.toolkit import AssociationLimits, configure_pynetdicom
from pacsnode.services.keep import DuplicatePolicy, Keeper
from tests.support.waiting import wait_until

_ACCEPT_SECONDS = 0.02

LIMITS = AssociationLimits(
    maximum_pdu_length_bytes=131072,
    negotiation_timeout_seconds=20,
    dimse_timeout_seconds=20,
    idle_timeout_seconds=60,
    connect_timeout_seconds=5,
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the server under test is set up; what is not said is as the node has it by default."""

    ae_titles: Sequence[str] = ("PACSNODE",)
    remote_aes: Sequence[RemoteAE] = ()
    called: AETitlePolicy = AETitlePolicy.KNOWN
    calling: AETitlePolicy = AETitlePolicy.ANY
    additional_sop_classes: Sequence[str] = ()
    limits: AssociationLimits = LIMITS
    maximum_associations: int = 100
    result_limit: int = 0
    maximum_instance_bytes: int = 0
    match_unknown: bool = False
    on_duplicate: DuplicatePolicy = DuplicatePolicy.KEEP_FIRST


@dataclass(slots=True)
class RunningServer:
    """A server at work; `active_counts` is what it reported of its associations."""

    server: AssociationServer
    address: tuple[str, int]
    catalog: Catalog
    file_store: FileStore
    active_counts: list[int] = field(default_factory=list)

    def wait_until_idle(self) -> None:
        """Wait until no association is left."""
        wait_until(lambda: self.server.active == 0, "the associations to end")


@contextmanager
def running_server(
    folder: Path,
    settings: ServerSettings | None = None,
    **handlers: Any,  # noqa: ANN401
) -> Iterator[RunningServer]:
    """Run a server on a free port for the length of the block.

    Args:
        folder: for the catalog and the file store.
        settings: see there.
        handlers: fields of Handlers to put others in place of the real ones.
    """
    asked = settings or ServerSettings()
    configure_pynetdicom()
    catalog = Catalog(f"sqlite:///{folder}/catalog.sqlite", match_unknown=asked.match_unknown)
    file_store = FileStore(folder / "storage", reserve_bytes=0)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    made: dict[str, Any] = {
        "keeper": Keeper(file_store, catalog, asked.on_duplicate),
        "catalog": catalog,
        "remote_aes": {remote.ae_title: remote for remote in asked.remote_aes},
        "ae_title": asked.ae_titles[0],
        "limits": asked.limits,
        "result_limit": asked.result_limit,
        "maximum_instance_bytes": asked.maximum_instance_bytes,
    }
    active_counts: list[int] = [0]
    server = AssociationServer(
        listeners=[listener],
        limits=asked.limits,
        policy=AssociationPolicy(
            ae_titles=frozenset(asked.ae_titles),
            remote_ae_titles=frozenset(remote.ae_title for remote in asked.remote_aes),
            called=asked.called,
            calling=asked.calling,
            additional_sop_classes=frozenset(asked.additional_sop_classes),
        ),
        services=Handlers(**(made | handlers)),
        maximum_associations=asked.maximum_associations,
        node_associations=lambda: active_counts[-1],
        report_active=active_counts.append,
    )
    running = RunningServer(
        server, listener.getsockname(), catalog, file_store, active_counts=active_counts
    )
    is_over = threading.Event()

    def accept() -> None:
        while not is_over.is_set():
            server.accept(_ACCEPT_SECONDS)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield running
    finally:
        server.drain()
        server.abort_all()
        running.wait_until_idle()
        is_over.set()
        thread.join()
        listener.close()
        file_store.close()
        catalog.close()
