"""Tests of pacsnode.logs."""

import io
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping

import pytest

from pacsnode.logs import configure_logging, label

LOGGER = logging.getLogger("pacsnode.network.made_up")
NAMES = ("pacsnode", "pydicom", "pynetdicom", "peewee")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    for each, handlers, level, propagate in before:
        each.handlers[:] = handlers
        each.setLevel(level)
        each.propagate = propagate


class Output:
    """What was written to standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        """Return all of it so far."""
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture(name="output")
def _output(capsys: pytest.CaptureFixture[str]) -> Output:
    return Output(capsys)


def _configure(level: str = "info", environment: Mapping[str, str] | None = None) -> None:
    configure_logging(level, environment=environment or {})


def _journal() -> dict[str, str]:
    """Return the environment that systemd makes if standard error is its journal."""
    status = os.fstat(2)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def _fail(error: Exception) -> None:
    raise error


def test_a_line_has_time_level_label_and_message(output: Output) -> None:
    """A line is date, time with milliseconds, level, label and message."""
    _configure()
    with label("STORE->PACSNODE@10.0.0.7#3"):
        LOGGER.info("stored %d", 5)
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    expected = rf"{time} INFO    \[STORE->PACSNODE@10\.0\.0\.7#3\] stored 5\n"
    assert re.fullmatch(expected, output.getvalue())


def test_a_line_outside_of_a_label_has_no_brackets(output: Output) -> None:
    """After the context the label is gone."""
    _configure()
    with label("A"):
        pass
    LOGGER.warning("alone")
    assert re.fullmatch(r"\S+ \S+ WARNING alone\n", output.getvalue())


def test_the_innermost_label_counts(output: Output) -> None:
    """A label within a label replaces it, and gives it back."""
    _configure(environment=_journal())
    with label("outer"):
        with label("inner"):
            LOGGER.info("1")
        LOGGER.info("2")
    assert output.getvalue() == "<6>INFO    [inner] 1\n<6>INFO    [outer] 2\n"


def test_a_label_stays_in_its_thread(output: Output) -> None:
    """A thread that starts within a context does not have its label."""
    _configure(environment=_journal())
    with label("mine"):
        thread = threading.Thread(target=LOGGER.info, args=("other",))
        thread.start()
        thread.join()
    assert output.getvalue() == "<6>INFO    other\n"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (logging.DEBUG, "<7>DEBUG   x\n"),
        (logging.INFO, "<6>INFO    x\n"),
        (logging.WARNING, "<4>WARNING x\n"),
        (logging.ERROR, "<3>ERROR   x\n"),
        (logging.CRITICAL, "<2>CRITICAL x\n"),
    ],
)
def test_the_journal_gets_a_priority_and_no_time(output: Output, level: int, expected: str) -> None:
    """In the journal each level has the priority of syslog."""
    _configure("debug", _journal())
    LOGGER.log(level, "x")
    assert output.getvalue() == expected


def test_a_journal_of_another_stream_is_not_ours(output: Output) -> None:
    """A JOURNAL_STREAM inherited by a process whose standard error is a file is not believed."""
    _configure(environment={"JOURNAL_STREAM": "8:1"})
    LOGGER.info("x")
    assert not output.getvalue().startswith("<")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("A\n2026-01-01 00:00:00.000 ERROR forged", r"A\n2026-01-01 00:00:00.000 ERROR forged"),
        ("A\rB", r"A\rB"),
        ("A\x1b[2JB", r"A\x1b[2JB"),
        ("A\x85B", r"A\x85B"),
        ("A\u2028B", r"A\u2028B"),
        ("A\u202eB", r"A\u202eB"),
        ("A\0B", r"A\x00B"),
        ("A\udcffB", r"A\udcffB"),
        ("Ä 山", "Ä 山"),
    ],
)
def test_nothing_can_forge_a_line(output: Output, text: str, written: str) -> None:
    """Control characters and line breaks are escaped, in messages and in labels."""
    _configure(environment=_journal())
    logging.getLogger("pacsnode").propagate = False  # pytest's reports take no lone surrogates
    with label(text):
        LOGGER.info("from %s", text)
    assert output.getvalue() == f"<6>INFO    [{written}] from {written}\n"


def test_a_traceback_is_on_several_indented_lines(output: Output) -> None:
    """A traceback keeps its lines; each is indented and, in the journal, has the priority."""
    _configure(environment=_journal())
    try:
        _fail(OSError(28, "No space left"))
    except OSError:
        LOGGER.exception("failed")
    lines = output.getvalue().splitlines()
    assert lines[0] == "<3>ERROR   failed"
    assert lines[1] == "<3>  Traceback (most recent call last):"
    assert lines[-1] == "<3>  builtins.OSError: [Errno 28] No space left"
    assert len(lines) > 5
    assert all(line.startswith("<3>  ") for line in lines[1:])


def test_an_exception_cannot_forge_a_line(output: Output) -> None:
    """A line break in the text of an exception is escaped."""
    _configure()
    LOGGER.error("x", exc_info=OSError("a\nforged"))
    assert output.getvalue().endswith("  builtins.OSError: a\\nforged\n")


def test_the_cause_of_an_exception_is_shown(output: Output) -> None:
    """A chained exception comes after what it was raised from."""
    _configure()
    error = OSError("outer")
    error.__cause__ = OSError("inner")
    LOGGER.error("x", exc_info=error)
    assert [line.strip() for line in output.getvalue().splitlines()[1:]] == [
        "Traceback (most recent call last):",
        "builtins.OSError: inner",
        "which led to:",
        "builtins.OSError: outer",
    ]


def test_a_chain_of_exceptions_may_be_a_ring(output: Output) -> None:
    """Exceptions that are each other's context end the line all the same."""
    _configure()
    first, second = OSError("1"), OSError("2")
    first.__context__, second.__context__ = second, first
    LOGGER.error("x", exc_info=first)
    assert output.getvalue().count("OSError") == 2


def test_the_text_of_a_foreign_exception_is_left_out(output: Output) -> None:
    """An exception that may quote a value is named, its place shown, its text not."""
    _configure("debug")
    error = ValueError("Invalid value for VR PN: 'Doe^Jane'")  # out of the lines of the traceback
    try:
        _fail(error)
    except ValueError:
        LOGGER.exception("failed")
    assert "builtins.ValueError: (text left out" in output.getvalue()
    assert "in _fail" in output.getvalue()
    assert "Jane" not in output.getvalue()


def test_the_notes_of_an_exception_are_left_out(output: Output) -> None:
    """Notes added to an exception are not written."""
    _configure("debug")
    error = OSError("x")
    error.add_note("Doe^Jane")
    LOGGER.error("failed", exc_info=error)
    assert "Jane" not in output.getvalue()


@pytest.mark.parametrize(
    "name", ["pynetdicom", "pynetdicom.acse", "pydicom", "pydicom.filereader", "peewee"]
)
def test_libraries_are_silent_even_at_debug(output: Output, name: str) -> None:
    """No record of a library that may quote values is written, whatever its level."""
    _configure("debug")
    logging.getLogger(name).critical("Doe^Jane")
    assert output.getvalue() == ""


def test_the_level_holds(output: Output) -> None:
    """At level warning, info is not written and warning is."""
    _configure("warning")
    LOGGER.info("no")
    LOGGER.warning("yes")
    assert output.getvalue().endswith("WARNING yes\n")
    assert "no" not in output.getvalue()


def test_a_further_call_replaces_the_first(output: Output) -> None:
    """Configured twice, a record is written once."""
    _configure()
    _configure()
    LOGGER.info("x")
    assert output.getvalue().count("\n") == 1


def test_a_faulty_log_call_quotes_nothing(output: Output) -> None:
    """A message that cannot be formatted is reported by its place, without its arguments."""
    _configure()
    record = LOGGER.makeRecord("x", logging.INFO, __file__, 7, "%d", ("Doe^Jane",), None)
    logging.getLogger("pacsnode").handlers[0].handle(record)
    assert re.fullmatch(r"a log call is faulty: .*test_logs\.py:\d+\n", output.getvalue())


def test_logging_survives_a_closed_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that cannot be written raises nothing."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    _configure()
    LOGGER.info("x")


def test_a_warning_is_logged_without_its_text(output: Output) -> None:
    """A Python warning, as pydicom gives for a wrong value, is written as its kind and place."""
    with warnings.catch_warnings():
        _configure("debug")
        warnings.simplefilter("always")
        warnings.warn("Invalid value: 'Doe^Jane'", UserWarning, stacklevel=1)
    assert re.search(r"DEBUG   UserWarning at .*test_logs\.py:\d+\n", output.getvalue())
    assert "Jane" not in output.getvalue()


def test_an_uncaught_exception_is_logged_without_its_text(output: Output) -> None:
    """What nobody caught in a thread is written as a critical line, its text left out."""
    _configure(environment=_journal())
    thread = threading.Thread(target=_fail, args=(ValueError("Doe^Jane"),))
    thread.start()
    thread.join()
    assert output.getvalue().startswith("<2>CRITICAL nothing caught this exception\n")
    assert "Jane" not in output.getvalue()


def test_an_uncaught_exception_of_the_main_thread_is_logged(output: Output) -> None:
    """Python's hook for what nobody caught writes a critical line, the text left out."""
    _configure(environment=_journal())
    error = ValueError("Doe^Jane")
    sys.excepthook(ValueError, error, error.__traceback__)
    assert output.getvalue().startswith("<2>CRITICAL nothing caught this exception\n")
    assert "Jane" not in output.getvalue()
