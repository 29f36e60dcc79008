"""Fixtures of general use."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def module_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder that the tests of one module share."""
    return tmp_path_factory.mktemp(Path(request.path).stem)
