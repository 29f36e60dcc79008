"""What a process that died has left is cleared up, and nothing that is catalogued."""

import os
from pathlib import Path

import pytest

from pacsnode.services.keep import Keeper
from pacsnode.services.recover import recover
from tests.support.archive import files_below, send
from tests.support.instances import Instance, ct_data_set, encoded, write_instance


@pytest.fixture
def dead(keeper: Keeper) -> Path:
    """The folder of a writer that is gone: nobody holds its lock."""
    folder = keeper.file_store.folder / "incoming" / "dead"
    folder.mkdir()
    return folder


def _keep_without_row(keeper: Keeper, dead: Path, instance: Instance) -> str:
    """Leave an instance as a process does that dies before the catalog's commit."""
    name = (
        f"studies/{instance.study_instance_uid}/{instance.series_instance_uid}/"
        f"{instance.sop_instance_uid}.dcm"
    )
    write_instance(instance, dead / "file")
    keeper.file_store.path(name).parent.mkdir(parents=True)
    os.link(dead / "file", keeper.file_store.path(name))
    return name


def _recover(keeper: Keeper) -> int:
    return recover(keeper.file_store, keeper.catalog)


def test_nothing_left_is_nothing_to_do(keeper: Keeper) -> None:
    """What is kept and catalogued is not looked at."""
    path = send(encoded(ct_data_set()), keeper).keeping.path
    assert _recover(keeper) == 0
    assert files_below(keeper.file_store.folder) == [path]


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(128) + b"DICM", bytes(5000)])
def test_a_file_that_was_not_written_to_its_end_is_removed(
    keeper: Keeper, dead: Path, content: bytes
) -> None:
    """With the folder of its writer."""
    (dead / "file").write_bytes(content)
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == []
    assert not dead.exists()


def test_a_whole_file_that_was_not_kept_is_removed(keeper: Keeper, dead: Path) -> None:
    """Its sender was not told of success, and still has it (F-2)."""
    write_instance(encoded(ct_data_set()), dead / "file")
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == []


def test_a_file_that_was_kept_without_a_row_is_removed(keeper: Keeper, dead: Path) -> None:
    """Both of its names go (F-2)."""
    _keep_without_row(keeper, dead, encoded(ct_data_set()))
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == []


def test_a_file_that_has_its_row_stays(keeper: Keeper, dead: Path) -> None:
    """The process died between the commit and the end; only the first name goes (F-2)."""
    path = send(encoded(ct_data_set()), keeper).keeping.path
    os.link(keeper.file_store.path(path), dead / "file")
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == [path]


def test_a_second_file_of_a_catalogued_instance_is_removed(keeper: Keeper, dead: Path) -> None:
    """The catalog decides which of two files of one UID counts (F-21)."""
    instance = encoded(ct_data_set())
    path = send(instance, keeper).keeping.path
    write_instance(instance, dead / "file")
    second = keeper.file_store.path(path.replace(".dcm", ".0badcafe.dcm"))
    os.link(dead / "file", second)
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == [path]


def test_an_instance_that_was_cleared_up_can_be_sent_again(keeper: Keeper, dead: Path) -> None:
    """Recovery leaves no trace that would be in the way."""
    instance = encoded(ct_data_set())
    name = _keep_without_row(keeper, dead, instance)
    _recover(keeper)
    assert send(instance, keeper).keeping.path == name


def test_what_a_living_writer_has_is_not_touched(keeper: Keeper) -> None:
    """Its file may be kept at any moment."""
    with keeper.file_store.incoming() as file:
        file.write((b"half a file",))
        assert _recover(keeper) == 0
        assert file.path.exists()


def test_each_file_of_each_dead_writer_is_counted(keeper: Keeper, dead: Path) -> None:
    """The number is for the log."""
    (dead / "one").write_bytes(b"")
    (dead / "two").write_bytes(b"")
    (dead.parent / "another").mkdir()
    (dead.parent / "another" / "three").write_bytes(b"")
    assert _recover(keeper) == 3
    assert _recover(keeper) == 0
