"""Fixtures of the network's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import RunningServer, running_server


@pytest.fixture(scope="module")
def server(module_folder: Path) -> Iterator[RunningServer]:
    """A server with the default settings that the tests of a module share."""
    with running_server(module_folder) as running:
        yield running
