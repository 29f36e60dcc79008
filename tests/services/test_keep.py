"""What becomes of an instance whose UID is known already, and of one that is new."""

import errno
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import Addition, CatalogError, KeptFile, NewInstance
from pacsnode.file_store import FileStore
from pacsnode.services.keep import DuplicatePolicy, Keeper, Outcome
from tests.support.archive import files_below, send
from tests.support.instances import Instance, ct_data_set, encoded


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
