"""A worker process: builds the node from its settings, serves, drains and leaves.

This is the composition root: the one place where settings become a catalog, a file store and an
association server. Everything is opened here, after the fork.

Signals (see supervisor.py): SIGTERM drains, SIGUSR1 retires. They set a flag and wake the loop.
Retiring has no end but that of the associations; an order to drain, which has one, goes before it.
"""

import gc
import logging
import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import CatalogError
from pacsnode.config import Settings
from pacsnode.daemon.counted import counted
from pacsnode.daemon.scoreboard import RowState
from pacsnode.daemon.worker_contract import WorkerContext
from pacsnode.dicom.attributes import Keys
from pacsnode.dicom.information_model import (
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    InformationModel,
)
from pacsnode.dicom.matching import NameMatching
from pacsnode.dicom.query import QueryOptions
from pacsnode.exit_codes import ExitCode
from pacsnode.file_store import FileStore, FileStoreError
from pacsnode.network.handlers import Handlers
from pacsnode.network.negotiation import AETitlePolicy, AssociationPolicy
from pacsnode.network.server import AssociationServer
from pacsnode.network.toolkit import AssociationLimits, configure_pynetdicom
from pacsnode.services.keep import DuplicatePolicy, Keeper
from pacsnode.services.recover import recover

_LOGGER = logging.getLogger(__name__)
_BEAT_SECONDS: Final = 1.0
_DRAIN_LOOK_SECONDS: Final = 0.05
_RETIRING_LOOK_SECONDS: Final = 0.2  # it may go on for hours
_ABORT_SECONDS: Final = 1.0  # for associations that are aborted at the end to notice it


def run_worker(settings: Settings, context: WorkerContext) -> ExitCode:
    """Serve associations until told to leave.

    Returns:
        OK after draining or retiring; else what could not be opened.
    """
    try:
        catalog = open_catalog(settings)
    except CatalogError as error:
        _LOGGER.error("%s", error)  # noqa: TRY400 - its text says all there is to do
        return ExitCode.CATALOG_UNUSABLE
    try:
        file_store = open_file_store(settings)
        recovery = recover(file_store, catalog)
    except (FileStoreError, OSError) as error:
        _LOGGER.error("%s", error)  # noqa: TRY400
        return ExitCode.STORAGE_UNUSABLE
    except CatalogError as error:
        _LOGGER.error("%s", error)  # noqa: TRY400
        return ExitCode.CATALOG_UNUSABLE
    if recovery.cleared:
        _LOGGER.warning(
            "cleared up %s that a process that died had not finished",
            counted(recovery.cleared, "file"),
        )
    for failure in recovery.failures:
        _LOGGER.warning("cannot clear up %s", failure)
    try:
        _serve(settings, context, Keeper(file_store, catalog, duplicate_policy(settings)))
    finally:
        file_store.close()
        catalog.close()
    return ExitCode.OK


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog of the settings.

    Raises:
        CatalogError: it cannot be opened, or its schema does not fit.
    """
    return Catalog(
        settings.catalog.url,
        Keys(settings.catalog.extra_keys),
        busy_timeout_seconds=settings.catalog.busy_timeout_seconds,
        match_unknown=settings.query.match_unknown,
        is_durable=settings.durability == "full",
    )


def open_file_store(settings: Settings) -> FileStore:
    """Open the storage folder of the settings.

    Raises:
        FileStoreError: it cannot be made or written.
    """
    return FileStore(
        settings.storage.folder,
        reserve_bytes=settings.storage.reserve_bytes,
        is_durable=settings.durability != "none",
    )


def association_limits(settings: Settings) -> AssociationLimits:
    """Return the limits of associations that the settings give."""
    association = settings.association
    return AssociationLimits(
        maximum_pdu_length_bytes=association.maximum_pdu_length_bytes,
        negotiation_timeout_seconds=association.negotiation_timeout_seconds,
        dimse_timeout_seconds=association.dimse_timeout_seconds,
        idle_timeout_seconds=association.idle_timeout_seconds,
        connect_timeout_seconds=association.connect_timeout_seconds,
    )


def query_options(settings: Settings) -> QueryOptions:
    """Return how queries are understood, as far as the settings say so."""
    names = settings.query.names
    return QueryOptions(
        relational=settings.query.relational_lenient,
        names=NameMatching(
            family_name_alone=names.family_name_alone,
            ignores_accents=names.ignores_accents,
            any_group=names.any_group,
        ),
    )


def information_models(settings: Settings) -> tuple[InformationModel, ...]:
    """Return the Query/Retrieve information models that the settings offer (rule A-2)."""
    if settings.query.offer_patient_study_only:
        return (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)
    return (PATIENT_ROOT, STUDY_ROOT)


def duplicate_policy(settings: Settings) -> DuplicatePolicy:
    """Return what the settings do with other content under a UID that is kept."""
    return DuplicatePolicy(settings.storage.on_duplicate)


@dataclass(slots=True)
class _Orders:
    """What the worker has been told by signals, or by the end of its supervisor."""

    has_to_drain: bool = False
    has_to_retire: bool = False
    wake: tuple[int, int] = field(default_factory=os.pipe)

    def listen(self) -> None:
        """Take the orders from now on."""
        for descriptor in self.wake:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._drain)
        signal.signal(signal.SIGUSR1, self._retire)

    def take(self) -> None:
        """Empty the pipe that woke the loop; what the orders are stands in the flags."""
        with suppress(BlockingIOError):
            while os.read(self.wake[0], 4096):
                pass

    def _drain(self, _number: int, _frame: FrameType | None) -> None:
        self.has_to_drain = True

    def _retire(self, _number: int, _frame: FrameType | None) -> None:
        self.has_to_retire = True


def _serve(settings: Settings, context: WorkerContext, keeper: Keeper) -> None:
    """Accept and serve until an order to leave has been carried out."""
    orders = _Orders()
    orders.listen()
    server = _server(settings, context, keeper)
    server.watch(orders.wake[0])
    server.watch(context.parent_gone_fd)
    # What is here now stays: the collector need not look through it again and again, which shows
    # in the set-up of associations.
    gc.collect()
    gc.freeze()
    context.ready()
    while not (orders.has_to_drain or orders.has_to_retire):
        _turn(server, orders, context, _BEAT_SECONDS)
    if orders.has_to_retire:
        _retire(server, orders, context, settings.processes.drain_timeout_seconds)
    server.ignore(orders.wake[0])
    server.ignore(context.parent_gone_fd)
    if orders.has_to_drain:
        _drain(server, context, settings.processes.drain_timeout_seconds)


def _turn(
    server: AssociationServer, orders: _Orders, context: WorkerContext, seconds: float
) -> None:
    """Accept what connects and take the orders, for at most so long."""
    context.row.beat()
    server.accept(seconds)
    orders.take()
    if _is_readable(context.parent_gone_fd) and not orders.has_to_drain:
        _LOGGER.error("the supervisor is gone, leaving")
        orders.has_to_drain = True


def _is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def _retire(
    server: AssociationServer, orders: _Orders, context: WorkerContext, timeout_seconds: float
) -> None:
    """Let the associations at work end, the idle ones for so long; return if it has to drain."""
    context.row.set_state(RowState.RETIRING)
    server.retire()
    deadline = time.monotonic() + timeout_seconds
    has_told = False
    while server.active and not orders.has_to_drain:
        if time.monotonic() >= deadline:
            left = server.abort_silent(timeout_seconds)
            if left and not has_told:
                _LOGGER.info("left to end by itself: %s at work", counted(left, "association"))
            has_told = True
        _turn(server, orders, context, _RETIRING_LOOK_SECONDS)


def _drain(server: AssociationServer, context: WorkerContext, timeout_seconds: float) -> None:
    """Let the running associations end, for so long; then abort them."""
    context.row.set_state(RowState.DRAINING)
    server.drain()
    deadline = time.monotonic() + timeout_seconds
    while server.active and time.monotonic() < deadline:
        context.row.beat()
        server.abort_idle()
        server.accept(_DRAIN_LOOK_SECONDS)
    if server.active:
        _LOGGER.warning("aborting %s: drain timeout is over", counted(server.active, "association"))
        server.abort_all()
        deadline = time.monotonic() + _ABORT_SECONDS
        while server.active and time.monotonic() < deadline:
            server.accept(_DRAIN_LOOK_SECONDS)


def _server(settings: Settings, context: WorkerContext, keeper: Keeper) -> AssociationServer:
    configure_pynetdicom()
    limits = association_limits(settings)
    handlers = Handlers(
        keeper=keeper,
        catalog=keeper.catalog,
        remote_aes={remote.ae_title: remote for remote in settings.remote_aes},
        ae_title=settings.ae_titles[0],
        limits=limits,
        result_limit=settings.query.result_limit,
        maximum_instance_bytes=settings.storage.maximum_instance_bytes,
        query_options=query_options(settings),
    )
    policy = AssociationPolicy(
        ae_titles=frozenset(settings.ae_titles),
        remote_ae_titles=frozenset(remote.ae_title for remote in settings.remote_aes),
        called=AETitlePolicy(settings.association.called_ae_title),
        calling=AETitlePolicy(settings.association.calling_ae_title),
        additional_sop_classes=frozenset(settings.storage.additional_sop_classes),
        models=information_models(settings),
    )
    return AssociationServer(
        listeners=context.listeners,
        limits=limits,
        policy=policy,
        services=handlers,
        maximum_associations=settings.association.maximum_associations,
        node_associations=context.scoreboard.total_active,
        report_active=context.row.set_active,
    )
