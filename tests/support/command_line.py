"""The command line within the process of the test, in a folder of its own."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pacsnode import cli

Run = Callable[..., Result]


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
