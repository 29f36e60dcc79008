"""What becomes of an instance whose UID is known already, and of one that is new."""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from pacsnode import study_folders
from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import (
    Addition,
    CatalogError,
    CatalogUnavailable,
    KeptFile,
    NewInstance,
)
from pacsnode.dicom.part10 import file_header
from pacsnode.file_store import FileStore, FileStoreError
from pacsnode.services import keep
from pacsnode.services.keep import (
    Arrival,
    DuplicatePolicy,
    Keeper,
    Keeping,
    Outcome,
    arrival_of,
)
from pacsnode.write_back import WriteBack
from tests.support.archive import data_set_digest, files_below, send, store_request
from tests.support.instances import Instance, ct_data_set, encoded, write_instance
from tests.support.waiting import wait_until

_SECONDS = 20


def _instance(**attributes: object) -> Instance:
    return encoded(ct_data_set(**attributes))


def _changed(instance: Instance) -> Instance:
    """Other content under the same UIDs."""
    content = instance.encoded_data_set.replace(b"Example^Emma", b"Example^Anna")
    assert content != instance.encoded_data_set
    return replace(instance, encoded_data_set=content)


def test_a_new_instance_is_added(keeper: Keeper) -> None:
    """One file, at the place of its UIDs."""
    instance = _instance()
    keeping = send(instance, keeper).keeping
    assert keeping.outcome is Outcome.ADDED
    assert keeping.path == (
        f"studies/{instance.study_instance_uid}/{instance.series_instance_uid}/"
        f"{instance.sop_instance_uid}.dcm"
    )
    assert files_below(keeper.file_store.folder) == [keeping.path]


def test_the_same_bytes_again_change_nothing(keeper: Keeper) -> None:
    """The path is that of the first (F-20)."""
    instance = _instance()
    first, second = send(instance, keeper).keeping, send(instance, keeper).keeping
    assert (second.outcome, second.path) == (Outcome.ALREADY_KEPT, first.path)
    assert files_below(keeper.file_store.folder) == [first.path]


def test_other_content_is_put_aside(keeper: Keeper) -> None:
    """The first stays as it is, in file and row (F-20)."""
    instance = _instance()
    first = send(instance, keeper).keeping
    content = keeper.file_store.path(first.path).read_bytes()
    row = keeper.catalog.stored_instance(instance.sop_instance_uid)
    second = send(_changed(instance), keeper).keeping
    assert second.outcome is Outcome.IN_QUARANTINE
    assert second.path.startswith("quarantine/")
    assert keeper.file_store.path(first.path).read_bytes() == content
    assert keeper.catalog.stored_instance(instance.sop_instance_uid) == row


def test_other_content_is_not_kept_where_the_policy_says_so(keeper: Keeper) -> None:
    """Rejected: neither at its place nor aside (F-20)."""
    strict = replace(keeper, on_duplicate=DuplicatePolicy.REJECT)
    instance = _instance()
    first = send(instance, strict).keeping
    with pytest.raises(Exception, match="other content is kept"):
        send(_changed(instance), strict)
    assert files_below(keeper.file_store.folder) == [first.path]


@pytest.mark.parametrize("damage", ["missing", "one byte", "cut off", "no header", "empty"])
@pytest.mark.parametrize("policy", list(DuplicatePolicy))
def test_a_file_that_is_missing_or_damaged_is_replaced(
    keeper: Keeper, damage: str, policy: DuplicatePolicy
) -> None:
    """Whoever sends again heals the archive, under either policy (F-20)."""
    keeper = replace(keeper, on_duplicate=policy)
    instance = _instance()
    path = keeper.file_store.path(send(instance, keeper).keeping.path)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {
                "one byte": content[:-1] + bytes([content[-1] ^ 1]),
                "cut off": content[:-1],
                "no header": instance.encoded_data_set,
                "empty": b"",
            }[damage]
        )
    keeping = send(instance, keeper).keeping
    stored = keeper.catalog.stored_instance(instance.sop_instance_uid)
    assert keeping.outcome is Outcome.REPLACED
    assert stored.file.path == keeping.path
    assert files_below(keeper.file_store.folder) == [keeping.path]
    assert keeper.file_store.path(keeping.path).read_bytes() == content


def test_a_replacement_stands_even_if_the_damaged_file_cannot_be_removed(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row names the newcomer by then: taking it back would lose both."""
    instance = _instance()
    damaged = keeper.file_store.path(send(instance, keeper).keeping.path)
    damaged.write_bytes(b"")
    real = os.unlink

    def unlink(path: Path, **more: object) -> None:
        if Path(path) == damaged:
            raise OSError(errno.EIO, "Input/output error")
        real(path, **more)

    monkeypatch.setattr(os, "unlink", unlink)
    assert send(instance, keeper).keeping.outcome is Outcome.REPLACED
    stored = keeper.catalog.stored_instance(instance.sop_instance_uid)
    assert keeper.file_store.path(stored.file.path).read_bytes().endswith(instance.encoded_data_set)


def _fail_to_open(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let no kept file be opened from now on."""

    def fail(_store: FileStore, _path: str) -> BinaryIO:
        raise FileStoreError("cannot read a kept file") from OSError(code, os.strerror(code))

    monkeypatch.setattr(FileStore, "open", fail)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.ESTALE])
def test_an_error_that_says_nothing_about_the_first_file_refuses_the_newcomer(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """What was acknowledged is neither replaced nor removed; nothing of the newcomer is left."""
    instance = _instance()
    first = send(instance, keeper).keeping
    row = keeper.catalog.stored_instance(instance.sop_instance_uid)
    with monkeypatch.context() as patch:
        _fail_to_open(patch, code)
        with pytest.raises(FileStoreError):
            _keep(keeper, _changed(instance))
    assert files_below(keeper.file_store.folder) == [first.path]
    assert keeper.catalog.stored_instance(instance.sop_instance_uid) == row


@pytest.mark.parametrize("code", [errno.EIO, errno.EUCLEAN, errno.EBADMSG])
def test_a_file_that_the_disk_does_not_give_is_replaced_and_stays(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The row names the newcomer; what is left of the first is for whoever can read it (F-20)."""
    instance = _instance()
    first = send(instance, keeper).keeping
    _fail_to_open(monkeypatch, code)
    second = _keep(keeper, instance)
    assert second.outcome is Outcome.REPLACED
    assert keeper.catalog.stored_instance(instance.sop_instance_uid).file.path == second.path
    assert files_below(keeper.file_store.folder) == sorted([first.path, second.path])


def test_a_file_that_may_be_taken_back_is_not_relied_on(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost file comes again, twice at once: the second is kept even if the first fails (F-2)."""
    monkeypatch.setattr(keep, "_SETTLING_SECONDS", 0)
    instance = _instance()
    keeper.file_store.remove(send(instance, keeper).keeping.path)
    other = Keeper(FileStore(keeper.file_store.folder), keeper.catalog)
    kept = []

    def fail(_write_back: WriteBack, *_: int) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(keep, "_SETTLING_SECONDS", 0)
        kept.append(_keep(other, instance))
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(WriteBack, "finish", fail)
    with pytest.raises(FileStoreError):
        _keep(keeper, instance)
    stored = keeper.catalog.stored_instance(instance.sop_instance_uid)
    assert files_below(keeper.file_store.folder) == [stored.file.path] == [kept[0].path]
    other.file_store.close()


def test_a_refused_instance_leaves_no_folder(keeper: Keeper) -> None:
    """Nor does one that goes to quarantine: its study and series are not those of the first."""
    strict = replace(keeper, on_duplicate=DuplicatePolicy.REJECT)
    first = _instance()
    send(first, strict)
    same_uid = _instance(SOPInstanceUID=first.sop_instance_uid)
    assert same_uid.study_instance_uid != first.study_instance_uid
    assert _keep(strict, same_uid).outcome is Outcome.REJECTED
    assert _keep(keeper, same_uid).outcome is Outcome.IN_QUARANTINE
    studies = keeper.file_store.folder / "studies"
    assert [path.name for path in studies.iterdir()] == [first.study_instance_uid]


def test_a_replacement_that_cannot_be_catalogued_is_taken_back(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row stays as it was, and nothing of the newcomer is left (F-2)."""
    instance = _instance()
    first = send(instance, keeper).keeping
    keeper.file_store.remove(first.path)

    def fail(_catalog: Catalog, _instance: NewInstance, _file: KeptFile) -> Addition:
        raise CatalogError("disk I/O error")

    monkeypatch.setattr(Catalog, "replace", fail)
    with pytest.raises(Exception, match="storage or catalog failed"):
        send(instance, keeper)
    assert files_below(keeper.file_store.folder) == []


def test_a_study_under_another_patient_is_kept_and_reported(keeper: Keeper) -> None:
    """The instance is stored, the conflict is for the log (F-22)."""
    first = _instance(PatientID="EX1")
    send(first, keeper)
    second = _instance(PatientID="EX2", StudyInstanceUID=first.study_instance_uid)
    keeping = send(second, keeper).keeping
    assert (keeping.outcome, keeping.has_other_patient) == (Outcome.ADDED, True)


def test_a_catalog_that_is_locked_for_too_long_takes_the_file_back(tmp_path: Path) -> None:
    """A real busy database: refused, and neither name is left (F-2, F-3)."""
    database = tmp_path / "catalog.sqlite"
    keeper = Keeper(
        FileStore(tmp_path / "storage"),
        Catalog(f"sqlite:///{database}", busy_timeout_seconds=0.05),
    )
    instance = _instance()
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Exception, match="storage or catalog failed"):
        send(instance, keeper)
    assert files_below(keeper.file_store.folder) == []
    holder.execute("ROLLBACK")
    holder.close()
    assert send(instance, keeper).keeping.outcome is Outcome.ADDED
    keeper.file_store.close()
    keeper.catalog.close()


# --- several at the same time


def _keep(keeper: Keeper, instance: Instance, source_ae_title: str = "SENDER") -> Keeping:
    """Keep an instance as C-STORE does."""
    data_set = instance.encoded_data_set
    arrival = Arrival(
        header=keeper.reader.read(data_set, instance.transfer_syntax_uid),
        transfer_syntax_uid=instance.transfer_syntax_uid,
        data_set_sha256=data_set_digest(data_set),
        data_set_length_bytes=len(data_set),
        source_ae_title=source_ae_title,
    )
    with keeper.file_store.incoming() as file:
        file.append((file_header(store_request(instance).received), data_set))
        return keeper.keep(file, arrival)


class _Together:
    """Has several instances wait for a round, so that the next one is of all of them."""

    def __init__(self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
        self._keeper = keeper
        self._is_held, self._go_on = threading.Event(), threading.Event()
        self.groups: list[int] = []
        self._sync, self._add = FileStore.sync_folders, Catalog.add_all
        monkeypatch.setattr(FileStore, "sync_folders", lambda _, paths: self._sync_folders(paths))
        monkeypatch.setattr(Catalog, "add_all", lambda _, instances: self._add_all(instances))

    def _sync_folders(self, paths: Iterable[str]) -> dict[str, FileStoreError]:
        self._is_held.set()
        assert self._go_on.wait(_SECONDS)
        return self._sync(self._keeper.file_store, paths)

    def _add_all(self, instances: Sequence[NewInstance]) -> list[Addition]:
        self.groups.append(len(instances))
        return self._add(self._keeper.catalog, instances)

    def keep(self, *calls: Callable[[], Keeping]) -> list[Future[Keeping]]:
        """Run calls that keep an instance each; all but the first are in one round."""
        with ThreadPoolExecutor(len(calls)) as threads:
            futures = [threads.submit(calls[0])]
            assert self._is_held.wait(_SECONDS)
            for number, call in enumerate(calls[1:], 1):
                futures.append(threads.submit(call))
                wait_until(lambda n=number: len(self._keeper._rounds._waiting) == n, "it to wait")
            self._go_on.set()
        return futures


@pytest.fixture
def together(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> _Together:
    """Holds the first round until all others wait."""
    return _Together(keeper, monkeypatch)


def test_instances_that_wait_for_a_round_are_committed_together(
    keeper: Keeper, together: _Together
) -> None:
    """One transaction for the three that came while another was committed."""
    instances = [_instance() for _ in range(4)]
    keepings = [
        future.result()
        for future in together.keep(*(lambda i=i: _keep(keeper, i) for i in instances))
    ]
    assert together.groups == [1, 3]
    assert [keeping.outcome for keeping in keepings] == [Outcome.ADDED] * 4
    assert [keeping.path for keeping in keepings] == [
        keeper.catalog.stored_instance(instance.sop_instance_uid).file.path
        for instance in instances
    ]


def test_an_instance_that_cannot_be_catalogued_fails_alone(
    keeper: Keeper, together: _Together
) -> None:
    """The others of its round are kept, and nothing of it is left (F-2)."""
    first, bad, good = _instance(), _instance(), _instance()
    _, failed, kept = together.keep(
        lambda: _keep(keeper, first),
        lambda: _keep(keeper, bad, source_ae_title=None),
        lambda: _keep(keeper, good),
    )
    with pytest.raises(CatalogError, match="NOT NULL"):
        failed.result()
    assert kept.result().outcome is Outcome.ADDED
    assert together.groups == [1, 2, 1, 1]
    assert len(files_below(keeper.file_store.folder)) == 2


def test_of_two_with_one_uid_in_one_round_one_is_added(keeper: Keeper, together: _Together) -> None:
    """The other is told of it, and its file is gone (F-20, F-21)."""
    twice = _instance()
    _, one, other = together.keep(
        lambda: _keep(keeper, _instance()),
        lambda: _keep(keeper, twice),
        lambda: _keep(keeper, twice),
    )
    assert together.groups == [1, 2]
    assert [one.result().outcome, other.result().outcome] == [Outcome.ADDED, Outcome.ALREADY_KEPT]
    assert len(files_below(keeper.file_store.folder)) == 2


def test_a_folder_that_cannot_be_synced_fails_those_in_it(
    keeper: Keeper, together: _Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others of the round are kept; of these nothing is left, and no sync is tried again (F-2)."""
    first, bad, good = _instance(), _instance(), _instance()
    tried = []
    real = study_folders.sync

    def fail(path: str) -> None:
        if path.endswith(bad.series_instance_uid):
            tried.append(path)
            raise OSError(errno.EACCES, "Permission denied")
        real(path)

    monkeypatch.setattr(study_folders, "sync", fail)
    _, failed, kept = together.keep(*(lambda i=i: _keep(keeper, i) for i in (first, bad, good)))
    with pytest.raises(FileStoreError, match="Permission denied"):
        failed.result()
    assert kept.result().outcome is Outcome.ADDED
    assert together.groups == [1, 1]
    assert len(tried) == 1
    assert keeper.catalog.stored_instance(bad.sop_instance_uid) is None
    assert len(files_below(keeper.file_store.folder)) == 2


def test_a_catalog_that_cannot_be_used_is_waited_for_once(
    keeper: Keeper, together: _Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round fails as a whole; else it would take as many busy timeouts as it has instances."""
    added = together._add

    def fail(catalog: Catalog, instances: Sequence[NewInstance]) -> list[Addition]:
        if len(together.groups) > 1:
            raise CatalogUnavailable("database is locked")
        return added(catalog, instances)

    monkeypatch.setattr(together, "_add", fail)
    _, *futures = together.keep(*(lambda: _keep(keeper, _instance()) for _ in range(4)))
    for future in futures:
        with pytest.raises(CatalogUnavailable):
            future.result()
    assert together.groups == [1, 3]


def test_a_catalog_that_goes_while_rows_are_added_one_by_one_is_waited_for_once(
    keeper: Keeper, together: _Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was added before stands; the others of the round fail."""
    added = together._add

    def fail(catalog: Catalog, instances: Sequence[NewInstance]) -> list[Addition]:
        match together.groups:
            case [1, 4]:
                raise CatalogError("NOT NULL constraint failed")
            case [1, 4, 1, 1]:
                raise CatalogUnavailable("database is locked")
        return added(catalog, instances)

    monkeypatch.setattr(together, "_add", fail)
    _, kept, *futures = together.keep(*(lambda: _keep(keeper, _instance()) for _ in range(5)))
    assert kept.result().outcome is Outcome.ADDED
    for future in futures:
        with pytest.raises(CatalogUnavailable):
            future.result()
    assert together.groups == [1, 4, 1, 1]


# --- what reaches the disk, and in which order


def _note_syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note from now on what is synced by us, and each commit, which SQLite syncs itself."""
    seen: list[str] = []
    fsync, add_all = os.fsync, Catalog.add_all

    def noted_fsync(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.partition(",")[0])
        fsync(descriptor)

    def noted_add_all(catalog: Catalog, instances: Sequence[NewInstance]) -> list[Addition]:
        seen.append("rows")
        return add_all(catalog, instances)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Catalog, "add_all", noted_add_all)
    return seen


def test_the_file_is_synced_before_its_folder_and_that_before_the_row(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row never points at what a power cut can take (F-2)."""
    first = _instance()
    _keep(keeper, first)
    second = _instance(
        StudyInstanceUID=first.study_instance_uid, SeriesInstanceUID=first.series_instance_uid
    )
    seen = _note_syncs(monkeypatch)
    _keep(keeper, second)
    assert seen == ["2", first.series_instance_uid, "rows"]


def test_without_durability_nothing_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file and no folder, whether added, known or put aside."""
    keeper = Keeper(
        FileStore(tmp_path / "storage", is_durable=False),
        Catalog(f"sqlite:///{tmp_path}/catalog.sqlite", is_durable=False),
    )
    seen = _note_syncs(monkeypatch)
    instance = _instance()
    for each in (instance, instance, _changed(instance)):
        _keep(keeper, each)
    assert seen == ["rows"] * 3
    keeper.file_store.close()
    keeper.catalog.close()


# --- what has its lasting name already


def test_an_adopted_file_is_catalogued_where_it_is(keeper: Keeper) -> None:
    """Neither copied nor linked, and nobody is named as its sender."""
    path = "studies/1.2/1.2.3/1.2.3.4.dcm"
    instance = _instance()
    write_instance(instance, keeper.file_store.path(path))
    arrival = arrival_of(keeper.file_store.path(path), keeper.reader)
    assert keeper.adopt(path, arrival) == Keeping(Outcome.ADDED, path)
    assert keeper.adopt(path, arrival) == Keeping(Outcome.ALREADY_KEPT, path)
    assert keeper.catalog.stored_instance(instance.sop_instance_uid).file.path == path
    assert files_below(keeper.file_store.folder) == [path]


def test_an_adopted_file_that_contradicts_another_stays_where_it_is(keeper: Keeper) -> None:
    """It is rejected: what to do with it is for the administrator (F-20)."""
    instance = _instance()
    first = send(instance, keeper).keeping
    path = first.path.replace(".dcm", ".0badcafe.dcm")
    write_instance(_changed(instance), keeper.file_store.path(path))
    arrival = arrival_of(keeper.file_store.path(path), keeper.reader)
    assert keeper.adopt(path, arrival).outcome is Outcome.REJECTED
    assert files_below(keeper.file_store.folder) == sorted([first.path, path])
