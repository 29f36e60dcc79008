"""Logs: one line to standard error for each record, which nothing from the network can forge.

No patient data is written: pydicom and pynetdicom, whose records quote values, are silent, and so
is the text of exceptions and warnings that may quote one.
"""

import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TextIO

_LABEL: ContextVar[str] = ContextVar("label", default="")
_LOGGER = logging.getLogger("pacsnode")
_SILENT_LOGGERS = ("pydicom", "pynetdicom", "peewee")  # they quote values, in SQL too

# What these say is about the system or the program, never about a value of a data set.
_TELLING = (OSError, MemoryError, ImportError, NameError, AttributeError)
_TELLING_MODULES = ("pacsnode.", "peewee", "sqlite3")

# sd-daemon(3): the priorities of syslog.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
_DEBUG_PRIORITY = 7


@contextmanager
def label(text: str) -> Iterator[None]:
    """Put a label on every line that this thread logs within the context; the innermost counts."""
    token = _LABEL.set(text)
    try:
        yield
    finally:
        _LABEL.reset(token)


def configure_logging(level: str, *, environment: Mapping[str, str]) -> None:
    """Log what pacsnode says to standard error; a further call replaces the first.

    Lines have date, local time, level, label and message. If standard error is the journal of
    systemd, they have its priority prefix instead of the time. Exceptions that nobody caught are
    logged, too; so are Python's warnings, at debug and without what they say.

    Args:
        level: debug, info, warning or error.
        environment: where systemd puts JOURNAL_STREAM.
    """
    handler = _StandardErrorHandler()
    handler.setFormatter(_LineFormatter(is_journal=_is_journal(environment)))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(level.upper())
    if not logging.root.handlers:  # else Python prints what other libraries warn of
        logging.root.addHandler(logging.NullHandler())
    for name in _SILENT_LOGGERS:
        silent = logging.getLogger(name)
        silent.handlers[:] = [logging.NullHandler()]
        silent.propagate = False
        silent.setLevel(logging.CRITICAL + 1)
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _is_journal(environment: Mapping[str, str]) -> bool:
    """Tell whether standard error goes to the journal. Source: systemd.exec(5), JOURNAL_STREAM."""
    try:
        status = os.fstat(2)
    except OSError:  # it is closed
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _StandardErrorHandler(logging.Handler):
    """Writes each record at once, so that lines of several processes do not mix."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - a wrong log call must not stop what it tells of
            # Not logging's own report: it quotes the arguments.
            text = f"a log call is faulty: {_escape(record.pathname)}:{record.lineno}"
        try:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # nobody reads, or it is closed: there is nowhere to say so


class _LineFormatter(logging.Formatter):
    """Makes the line of a record, and one more for each line of a traceback."""

    default_msec_format = "%s.%03d"

    def __init__(self, *, is_journal: bool) -> None:
        super().__init__()
        self._is_journal = is_journal

    def format(self, record: logging.LogRecord) -> str:
        current = _LABEL.get()
        start = f"{record.levelname:<7} " + (f"[{_escape(current)}] " if current else "")
        if not self._is_journal:
            start = f"{self.formatTime(record)} {start}"
        lines = [start + _escape(record.getMessage())]
        if record.exc_info and record.exc_info[1]:
            lines += [f"  {_escape(line)}" for line in _describe(record.exc_info[1])]
        if self._is_journal:  # each line is a record there
            priority = _PRIORITIES.get(record.levelno, _DEBUG_PRIORITY)
            lines = [f"<{priority}>{line}" for line in lines]
        return "\n".join(lines)


def _describe(error: BaseException) -> Iterator[str]:
    """Yield the lines of a traceback, with those of its causes before it."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current and current not in chain:
        chain.append(current)
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    for number, link in enumerate(reversed(chain)):
        yield "Traceback (most recent call last):" if number == 0 else "which led to:"
        for entry in traceback.format_tb(link.__traceback__):
            yield from entry.splitlines()
        yield f"{type(link).__module__}.{type(link).__qualname__}: {_text_of(link)}"


def _text_of(error: BaseException) -> str:
    """Return what an exception says, unless that may quote a value of a data set."""
    is_telling = isinstance(error, _TELLING)
    if is_telling or type(error).__module__.startswith(_TELLING_MODULES):
        return str(error)
    return "(text left out: it may quote patient data)"


def _escape(text: str) -> str:
    """Return the text on one line: all that is not printable is escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _log_warning(
    message: Warning | str,  # noqa: ARG001 - pydicom's quote values
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    _LOGGER.debug("%s at %s:%d", category.__name__, filename, lineno)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    _LOGGER.critical("nothing caught this exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value and not isinstance(args.exc_value, SystemExit):
        _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
