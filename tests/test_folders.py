"""Names that survive a power cut, and locks that end with their owner."""

import os
from pathlib import Path

import pytest

from pacsnode.folders import lock_folder, make_folder, try_lock_folder


def test_every_new_folder_is_synced_in_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose name is not on the disk would be gone with all that is in it (F-2)."""
    synced: list[str] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    make_folder(tmp_path / "a" / "b")
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a")]


def test_a_folder_has_one_lock(tmp_path: Path) -> None:
    """Who comes second gets none, until the first one lets go."""
    first = lock_folder(tmp_path)
    assert try_lock_folder(tmp_path) is None
    os.close(first)
    second = try_lock_folder(tmp_path)
    assert second is not None
    os.close(second)


def test_a_folder_that_has_gone_has_no_lock(tmp_path: Path) -> None:
    """Another process may have cleared it up in between."""
    assert try_lock_folder(tmp_path / "gone") is None
