"""Fixtures of general use."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a busy machine: speed is the matter of the benches.
settings.register_profile("pacsnode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pacsnode")


@pytest.fixture(scope="module")
def module_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder that the tests of one module share."""
    return tmp_path_factory.mktemp(Path(request.path).stem)
