"""What a process that died has left is cleared up, and nothing that is catalogued."""

import errno
import os
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from pacsnode import incoming_folder
from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import CatalogError, StoredInstance
from pacsnode.dicom.instance import InstanceReader
from pacsnode.file_names import FilePlace, name_with_place
from pacsnode.file_store import FileStore
from pacsnode.services import recover as recover_module
from pacsnode.services.keep import Arrival, Keeper, Outcome
from pacsnode.services.recover import recover
from tests.support.archive import data_set_digest, files_below, send
from tests.support.instances import Instance, ct_data_set, encoded, write_instance


@pytest.fixture
def dead(keeper: Keeper) -> Path:
    """The folder of a writer that is gone: nobody holds its lock."""
    folder = keeper.file_store.folder / "incoming" / "dead"
    folder.mkdir()
    return folder


def _first_name(dead: Path, instance: Instance) -> Path:
    """The name in incoming of an instance that is about to be kept, or is."""
    uids = (instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
    digest = data_set_digest(instance.encoded_data_set)
    return dead / name_with_place("1", FilePlace(*uids), digest)


def _keep_without_row(keeper: Keeper, dead: Path, instance: Instance) -> str:
    """Leave an instance as a process does that dies before the catalog's commit."""
    name = (
        f"studies/{instance.study_instance_uid}/{instance.series_instance_uid}/"
        f"{instance.sop_instance_uid}.dcm"
    )
    write_instance(instance, _first_name(dead, instance))
    keeper.file_store.path(name).parent.mkdir(parents=True, exist_ok=True)
    os.link(_first_name(dead, instance), keeper.file_store.path(name))
    return name


def _recover(keeper: Keeper) -> int:
    """Clear up without a failure, and tell how many files that were."""
    recovery = recover(keeper.file_store, keeper.catalog)
    assert recovery.failures == []
    return recovery.cleared


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


def test_a_file_that_was_about_to_be_kept_is_removed(keeper: Keeper, dead: Path) -> None:
    """It has its place in its name, and no lasting name yet (F-2)."""
    instance = encoded(ct_data_set())
    write_instance(instance, _first_name(dead, instance))
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == []


def test_a_whole_file_that_was_kept_without_a_row_is_catalogued(keeper: Keeper, dead: Path) -> None:
    """With a catalog less durable than the files its sender may have been told of success."""
    instance = encoded(ct_data_set())
    name = _keep_without_row(keeper, dead, instance)
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == [name]
    assert keeper.catalog.stored_instance(instance.sop_instance_uid).file.path == name


@pytest.mark.parametrize("damage", ["empty", "no data set", "half", "last element", "one byte"])
def test_a_file_that_was_kept_and_is_not_whole_is_removed(
    keeper: Keeper, dead: Path, damage: str
) -> None:
    """After a power cut the names may be there before the content: both of them go (F-2)."""
    instance = encoded(ct_data_set())
    lasting = keeper.file_store.path(_keep_without_row(keeper, dead, instance))
    content = lasting.read_bytes()
    header_length = len(content) - len(instance.encoded_data_set)
    pixel_data = content.rindex(b"\xe0\x7f\x10\x00")  # (7FE0,0010)
    lasting.write_bytes(
        {
            "empty": b"",
            "no data set": content[:header_length],
            "half": content[: len(content) // 2],
            "last element": content[:pixel_data],  # what is left can be decoded
            "one byte": content[:-1] + b"\xff",
        }[damage]
    )
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == []
    assert keeper.catalog.stored_instance(instance.sop_instance_uid) is None


def test_a_file_that_has_its_row_stays(keeper: Keeper, dead: Path) -> None:
    """The process died between the commit and the end; only the first name goes (F-2)."""
    instance = encoded(ct_data_set())
    path = send(instance, keeper).keeping.path
    os.link(keeper.file_store.path(path), _first_name(dead, instance))
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == [path]


def test_a_second_file_of_a_catalogued_instance_is_removed(keeper: Keeper, dead: Path) -> None:
    """The catalog decides which of two files of one UID counts (F-21)."""
    instance = encoded(ct_data_set())
    path = send(instance, keeper).keeping.path
    write_instance(instance, _first_name(dead, instance))
    second = keeper.file_store.path(path.replace(".dcm", ".0badcafe.dcm"))
    os.link(_first_name(dead, instance), second)
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == [path]


def test_a_second_file_takes_the_place_of_one_that_is_missing(keeper: Keeper, dead: Path) -> None:
    """Its sender may have been told that it replaced the first: the row was lost then (F-20)."""
    instance = encoded(ct_data_set())
    path = send(instance, keeper).keeping.path
    write_instance(instance, _first_name(dead, instance))
    second = path.replace(".dcm", ".0badcafe.dcm")
    os.link(_first_name(dead, instance), keeper.file_store.path(second))
    keeper.file_store.remove(path)
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == [second]
    assert keeper.catalog.stored_instance(instance.sop_instance_uid).file.path == second


def test_a_link_to_a_file_that_is_kept_takes_nothing_away(keeper: Keeper, dead: Path) -> None:
    """An import that links died before it linked again: the names it has linked from stay."""
    instance = encoded(ct_data_set())
    path = send(instance, keeper).keeping.path
    os.link(keeper.file_store.path(path), dead / "1")
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == [path]


def test_an_instance_that_was_catalogued_can_be_sent_again(keeper: Keeper, dead: Path) -> None:
    """Its sender, which had no answer, is told that it is kept (F-20)."""
    instance = encoded(ct_data_set())
    name = _keep_without_row(keeper, dead, instance)
    _recover(keeper)
    keeping = send(instance, keeper).keeping
    assert (keeping.outcome, keeping.path) == (Outcome.ALREADY_KEPT, name)


def test_what_a_living_writer_has_is_not_touched(keeper: Keeper) -> None:
    """Its file may be kept at any moment."""
    with keeper.file_store.incoming() as file:
        file.append((b"half a file",))
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


def test_what_cannot_be_read_stays_and_the_rest_is_cleared_up(
    keeper: Keeper, dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector does not keep a node from starting: it is reported, and both names are left."""
    instance = encoded(ct_data_set())
    name = _keep_without_row(keeper, dead, instance)
    (dead / "other").write_bytes(b"")

    def fail(_path: Path, _reader: InstanceReader) -> Arrival:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(recover_module, "arrival_of", fail)
    recovery = recover(keeper.file_store, keeper.catalog)
    first_name = _first_name(dead, instance)
    assert recovery.cleared == 1
    assert recovery.failures == [f"{first_name}: Input/output error"]
    assert keeper.file_store.path(name).samefile(first_name)


def test_what_is_no_file_stays(keeper: Keeper, dead: Path) -> None:
    """A folder that a person has put there is reported, and keeps nothing from being done."""
    (dead / "folder").mkdir()
    (dead / "file").write_bytes(b"")
    recovery = recover(keeper.file_store, keeper.catalog)
    assert (recovery.cleared, len(recovery.failures)) == (1, 1)
    assert list(dead.iterdir()) == [dead / "folder"]


def test_a_writers_folder_that_cannot_be_opened_stays(
    keeper: Keeper, dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of others are looked at all the same."""
    other = dead.parent / "other"
    other.mkdir()
    (other / "file").write_bytes(b"")
    real = incoming_folder.try_lock_folder

    def fail(folder: Path) -> int | None:
        if folder == dead:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(folder)

    monkeypatch.setattr(incoming_folder, "try_lock_folder", fail)
    recovery = recover(keeper.file_store, keeper.catalog)
    assert recovery.cleared == 1
    assert recovery.failures == [f"{dead}: Permission denied"]


def test_a_catalog_that_fails_is_no_matter_of_one_file(
    keeper: Keeper, dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be decided without it."""
    _keep_without_row(keeper, dead, encoded(ct_data_set()))

    def fail(_catalog: Catalog, _uid: str) -> StoredInstance | None:
        raise CatalogError("disk I/O error")

    monkeypatch.setattr(Catalog, "stored_instance", fail)
    with pytest.raises(CatalogError):
        recover(keeper.file_store, keeper.catalog)


def test_a_row_that_names_a_path_does_not_say_what_lies_there(keeper: Keeper, dead: Path) -> None:
    """The file of the row was lost, and another content got its name: the row is about that now."""
    instance = encoded(ct_data_set())
    path = send(instance, keeper).keeping.path
    keeper.file_store.remove(path)
    content = instance.encoded_data_set.replace(b"Example^Emma", b"Example^Anna")
    other = replace(instance, encoded_data_set=content)
    assert _keep_without_row(keeper, dead, other) == path
    assert _recover(keeper) == 1
    stored = keeper.catalog.stored_instance(instance.sop_instance_uid)
    assert stored.file.path == path
    assert stored.file.data_set_sha256 == data_set_digest(content)


def test_what_a_row_names_is_never_removed(keeper: Keeper, dead: Path) -> None:
    """Even if it is not whole: whoever sends it again heals it (F-20)."""
    instance = encoded(ct_data_set())
    path = send(instance, keeper).keeping.path
    keeper.file_store.remove(path)
    _keep_without_row(keeper, dead, instance)
    keeper.file_store.path(path).write_bytes(b"")
    assert _recover(keeper) == 1
    assert files_below(keeper.file_store.folder) == [path]
    assert send(instance, keeper).keeping.outcome is Outcome.REPLACED


_CALLS = [
    *((os, name, number) for name, number in (("open", 1), ("writev", 1), ("rename", 1))),
    *((os, "link", number) for number in (1, 2)),  # the first finds no folder
    *((os, "fsync", number) for number in (1, 2, 3, 4)),
    (Catalog, "add_all", 1),
    (os, "unlink", 1),
]


@pytest.mark.parametrize("has_done_it", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", _CALLS, ids=lambda call: f"{call[1]} {call[2]}")
def test_a_process_may_die_at_any_moment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: tuple[object, str, int],
    *,
    has_done_it: bool,
) -> None:
    """Afterwards there are a whole file and its row, or neither (F-2)."""
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    dying = Keeper(FileStore(tmp_path / "storage"), catalog)
    instance = encoded(ct_data_set())
    with monkeypatch.context() as patch:
        _die(patch, *call, has_done_it=has_done_it)
        with pytest.raises(SystemExit):
            send(instance, dying)
    dying.file_store._incoming.release()  # as the kernel does for a process that has died

    keeper = Keeper(FileStore(tmp_path / "storage"), catalog)
    recover(keeper.file_store, catalog)
    stored = catalog.stored_instance(instance.sop_instance_uid)
    files = files_below(keeper.file_store.folder)
    assert files == ([] if stored is None else [stored.file.path])
    assert send(instance, keeper).keeping.outcome in (Outcome.ADDED, Outcome.ALREADY_KEPT)
    keeper.file_store.close()
    catalog.close()


def _die(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, number: int, *, has_done_it: bool
) -> None:
    """Have the n-th call of a function be the last, done or not."""
    real, calls = getattr(owner, name), count(1)

    def call(*arguments: object, **more: object) -> object:
        if next(calls) != number:
            return real(*arguments, **more)
        with suppress(OSError):
            if has_done_it:
                real(*arguments, **more)
        raise SystemExit

    monkeypatch.setattr(owner, name, call)
