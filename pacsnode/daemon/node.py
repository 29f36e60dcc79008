"""Runs the node: listening sockets, scoreboard and supervisor around the workers."""

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Final

from pacsnode.config import ConfigError, Settings
from pacsnode.daemon.listener import ListenError, adopt_systemd_listeners, open_listeners
from pacsnode.daemon.scoreboard import Scoreboard
from pacsnode.daemon.supervisor import Supervisor
from pacsnode.daemon.systemd import Notifier, watchdog_interval_seconds
from pacsnode.daemon.worker import run_worker
from pacsnode.daemon.worker_contract import Plan, ProcessSettings, ReloadRefused
from pacsnode.exit_codes import ExitCode

_LOGGER = logging.getLogger(__name__)
# The most workers twice, since during a reload there are old and new ones; and as many again for
# workers of former reloads that still have work.
_ROWS: Final = 256


def run_node(settings: Settings, load: Callable[[], Settings]) -> ExitCode:
    """Serve until told to stop.

    Args:
        settings: to start with.
        load: reads the settings again, for a reload; raises ConfigError.
    """
    for line in settings.describe():
        _LOGGER.debug("setting %s", line)
    try:
        adopted = adopt_systemd_listeners(os.environ)
        listeners = adopted or open_listeners(settings.bind_addresses, settings.port)
    except ListenError as error:
        _LOGGER.error("%s", error)  # noqa: TRY400 - its text says all there is to do
        return ExitCode.CANNOT_LISTEN
    for listener in listeners:
        address, port, *_ = listener.getsockname()
        _LOGGER.info("listening on %s port %d as %s", address, port, ", ".join(settings.ae_titles))
    reloading = _Reloading(settings, load)
    supervisor = Supervisor(
        reloading.plan,
        listeners,
        Scoreboard(_ROWS),
        Notifier(os.environ),
        watchdog_interval_seconds=watchdog_interval_seconds(os.environ),
        logger=logging.getLogger("pacsnode.supervisor"),
    )
    try:
        return ExitCode(supervisor.run())
    finally:
        for listener in listeners:
            listener.close()


class _Reloading:
    """Gives the settings to start with first, and those read again after that."""

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self._first: Settings | None = settings
        self._listening_on = (settings.bind_addresses, settings.port)
        self._keeping_in = (settings.storage.folder, settings.catalog.url)
        self._load = load

    def plan(self) -> Plan:
        """Return what the workers are to do.

        Raises:
            ReloadRefused: the configuration has faults, or changes what needs a restart.
        """
        settings, self._first = self._first, None
        if settings is None:
            try:
                settings = self._load()
            except ConfigError as error:
                raise ReloadRefused(str(error)) from error
            if (settings.storage.folder, settings.catalog.url) != self._keeping_in:
                # Workers of before and after would keep in different places at the same time.
                raise ReloadRefused("storage.folder and catalog.url change by a restart only")
            if (settings.bind_addresses, settings.port) != self._listening_on:
                _LOGGER.warning("bind_addresses and port take effect at the next restart")
        return Plan(
            processes=ProcessSettings(
                worker_count=settings.worker_count,
                start_timeout_seconds=settings.processes.start_timeout_seconds,
                drain_timeout_seconds=settings.processes.drain_timeout_seconds,
                heartbeat_timeout_seconds=settings.processes.heartbeat_timeout_seconds,
            ),
            run_worker=partial(run_worker, settings),
        )
