"""Reindexing: what it reads, what it leaves alone, and what it says of files it cannot read."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pacsnode.catalog.catalog import Catalog
from pacsnode.dicom.attributes import Keys, extra_key
from pacsnode.dicom.information_model import Level
from pacsnode.file_store import FileStore
from pacsnode.services.keep import Keeper
from pacsnode.services.reindex import Failure, reindex
from tests.support.archive import files_below, send
from tests.support.instances import Instance, ct_data_set, encoded

_KVP = extra_key(Level.IMAGE, tag=0x00180060)
_STUDY = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"}


@pytest.fixture
def extended(keeper: Keeper, tmp_path: Path) -> Iterator[Callable[[], Catalog]]:
    """Opens the catalog of the keeper with one more key."""
    opened = []

    def opener() -> Catalog:
        opened.append(Catalog(f"sqlite:///{tmp_path}/catalog.sqlite", Keys((_KVP,))))
        return opened[-1]

    assert keeper
    yield opener
    for catalog in opened:
        catalog.close()


def _instance(number: int, **attributes: object) -> Instance:
    return encoded(ct_data_set(**_STUDY, SOPInstanceUID=f"1.4.{number}", **attributes))


def _run(file_store: FileStore, catalog: Catalog) -> tuple[int, list[Failure]]:
    batches = list(reindex(file_store, catalog))
    return sum(b.count for b in batches), [failure for b in batches for failure in b.failures]


def _further(catalog: Catalog) -> list[str]:
    """Return which instances have the additional key, by their UIDs."""
    database = catalog._database.peewee
    with catalog._database.reading():
        rows = database.execute_sql(
            "SELECT sop_instance_uid FROM instance WHERE further LIKE '%00180060%' ORDER BY key"
        )
        return [uid for (uid,) in rows.fetchall()]


def test_what_is_stored_learns_a_new_key(keeper: Keeper, extended: Callable[[], Catalog]) -> None:
    """All that was stored before has it, what came since had it already, and files stay."""
    for number in range(120):
        send(_instance(number), keeper)
    files = files_below(keeper.file_store.folder)
    catalog = extended()
    send(_instance(120), Keeper(keeper.file_store, catalog))
    assert _further(catalog) == ["1.4.120"]
    assert _run(keeper.file_store, catalog) == (120, [])
    assert _further(catalog) == [f"1.4.{number}" for number in range(121)]
    assert [path for path in files_below(keeper.file_store.folder) if path in files] == files
    assert _run(keeper.file_store, catalog) == (0, [])


def test_a_file_longer_than_memory_is_for_is_read(
    keeper: Keeper, extended: Callable[[], Catalog]
) -> None:
    """A long file is mapped; its header is the same."""
    send(_instance(1, rows=2048, columns=2304), keeper)
    catalog = extended()
    assert _run(keeper.file_store, catalog) == (1, [])
    assert _further(catalog) == ["1.4.1"]


def test_files_that_cannot_be_read_are_told_and_stop_nothing(
    keeper: Keeper, extended: Callable[[], Catalog]
) -> None:
    """One is gone, one is no DICOM file, one holds another instance, the last is sound."""
    paths = []
    for number in range(4):
        keeping = send(_instance(number), keeper).keeping
        assert keeping.path is not None
        paths.append(keeping.path)
    gone, garbled, other, _ = (keeper.file_store.path(path) for path in paths)
    other.write_bytes(garbled.read_bytes())
    garbled.write_bytes(b"garbled")
    gone.unlink()
    catalog = extended()
    count, failures = _run(keeper.file_store, catalog)
    assert count == 4
    assert [failure.path for failure in failures] == paths[:3]
    reasons = [failure.reason for failure in failures]
    assert "No such file" in reasons[0]
    assert "not a DICOM file" in reasons[1]
    assert "another instance" in reasons[2]
    assert _further(catalog) == ["1.4.3"]
    assert catalog.reindex_state().pending == 3


def test_a_value_that_stays_damaged_is_told(
    keeper: Keeper, extended: Callable[[], Catalog]
) -> None:
    """What could not be decoded cannot now either: it is said again, and all else is there."""
    data_set = _instance(1).encoded_data_set
    damaged = b"\x40\x00\x43\xa0SQ\0\0\x08\0\0\0notitems"  # Concept Name Code Sequence
    pixels = data_set.index(b"\xe0\x7f\x10\x00")
    whole = data_set[:pixels] + damaged + data_set[pixels:]
    send(replace(_instance(1), encoded_data_set=whole), keeper)
    catalog = extended()
    count, (failure,) = _run(keeper.file_store, catalog)
    assert (count, failure.reason) == (1, "a value in it is damaged")
    assert _further(catalog) == ["1.4.1"]


def test_others_write_between_two_batches(keeper: Keeper, extended: Callable[[], Catalog]) -> None:
    """Nothing is held while it waits for its turn; what comes meanwhile needs no reindexing."""
    for number in range(60):
        send(_instance(number), keeper)
    catalog = extended()
    batches = reindex(keeper.file_store, catalog)
    assert next(batches).count == 50
    send(_instance(60), Keeper(keeper.file_store, catalog))
    assert [batch.count for batch in batches] == [10]
    assert len(_further(catalog)) == 61
