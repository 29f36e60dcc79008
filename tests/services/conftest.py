"""A store with its catalog, both real, for the tests of services."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pacsnode.catalog.catalog import Catalog
from pacsnode.file_store import FileStore
from pacsnode.services.keep import Keeper


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """An empty store and an empty catalog; other content of a known UID goes into quarantine."""
    file_store = FileStore(tmp_path / "storage")
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield Keeper(file_store, catalog)
    file_store.close()
    catalog.close()
