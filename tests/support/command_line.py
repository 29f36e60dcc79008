"""The command line: within the process of the test, on a terminal, and with fewer rights."""

import logging
import os
import pty
import re
import subprocess
import sys
import termios
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pacsnode import cli

Run = Callable[..., Result]

_COMMAND = (sys.executable, "-m", "pacsnode")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def command_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Give what runs a command in a folder, with what logging changes put back behind it."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("PACSNODE_STORAGE__RESERVE_BYTES", "0")
    handlers, level = logging.getLogger("pacsnode").handlers[:], logging.getLogger("pacsnode").level

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, arguments)

    yield invoke
    logging.getLogger("pacsnode").handlers[:] = handlers
    logging.getLogger("pacsnode").setLevel(level)


def on_terminal(folder: Path, *arguments: str, columns: int = 80) -> str:
    """Return what a command prints on a terminal of so many columns, without its styles."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    output = b""
    with subprocess.Popen(
        [*_COMMAND, *arguments],
        cwd=folder,
        env={**environment, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        with suppress(OSError):  # which says that nobody has the terminal any more
            while part := os.read(ours, 65_536):
                output += part
    os.close(ours)
    return _STYLE.sub("", output.decode()).replace("\r\n", "\n")


def run_without_override(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that the permissions of files hold for, also if it is started by root."""
    drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    return subprocess.run(
        [*drop, *_COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
