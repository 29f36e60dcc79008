"""Fixtures of the catalog's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pacsnode.catalog import Catalog
from pacsnode.catalog.database import CatalogDatabase


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a catalog that does not exist yet."""
    return f"sqlite:///{tmp_path}/catalog.sqlite"


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    """An empty catalog."""
    made = Catalog(url)
    yield made
    made.close()


@pytest.fixture
def database(url: str) -> Iterator[CatalogDatabase]:
    """The database of the catalog, seen beside it."""
    made = CatalogDatabase(url, busy_timeout_seconds=60)
    yield made
    made.close()
