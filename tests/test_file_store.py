"""The folder of DICOM files: durable, never replacing, leaving nothing behind."""

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pacsnode import file_store, study_folders
from pacsnode.file_names import FilePlace
from pacsnode.file_store import FileStore, FileStoreError, IncomingFile, NoSpaceError

_PLACE = FilePlace("1.2", "1.2.3", "1.2.3.4")
_DIGEST = hashlib.sha256(b"").digest()
_LASTING = "studies/1.2/1.2.3/1.2.3.4.dcm"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    """An empty store."""
    store = FileStore(tmp_path / "storage")
    yield store
    store.close()


def _keep(store: FileStore, content: bytes, place: FilePlace = _PLACE) -> str:
    with store.incoming() as file:
        file.append((content,))
        path = file.keep(place, _DIGEST)
        _sync_folders(store, path)
        return path


def _sync_folders(store: FileStore, path: str) -> None:
    for failure in store.sync_folders((path,)).values():
        raise failure


def _append(store: FileStore, *fragments: bytes) -> None:
    """Write a file piece by piece, and give it up."""
    with store.incoming() as file:
        for fragment in fragments:
            file.append((fragment,))


def _keep_then(store: FileStore, then: Callable[[IncomingFile], object]) -> None:
    """Keep a file, and have something happen before its context ends."""
    with store.incoming() as file:
        file.append((b"one",))
        file.append((b"two",))
        _sync_folders(store, file.keep(_PLACE, _DIGEST))
        then(file)


def _raise(error: BaseException) -> Callable[[IncomingFile], object]:
    def raise_it(_file: IncomingFile) -> None:
        raise error

    return raise_it


def _files(folder: Path) -> list[str]:
    """Every file below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- keeping


def test_a_kept_file_is_at_the_place_of_its_uids(store: FileStore) -> None:
    """The path is relative to the storage folder; the first name is gone."""
    assert _keep(store, b"one") == _LASTING
    assert _files(store.folder) == [_LASTING]
    with store.open(_LASTING) as file:
        assert file.read() == b"one"


def test_fragments_are_written_one_after_the_other(store: FileStore) -> None:
    """Bytes and views of bytes, empty ones too."""
    with store.incoming() as file:
        file.append((b"head", memoryview(b"xbodyx")[1:5], b"", memoryview(b"")))
        assert file.path.read_bytes() == b"headbody"


def test_a_file_that_is_not_kept_is_gone(store: FileStore) -> None:
    """Leaving the context is enough."""
    with store.incoming() as file:
        file.append((b"one",))
        assert file.path.exists()
    assert _files(store.folder) == []


def test_a_file_is_never_replaced(store: FileStore) -> None:
    """Where the name is taken, the newcomer gets another one beside it (F-21)."""
    first, second = _keep(store, b"one"), _keep(store, b"two")
    assert first != second
    assert store.path(first).read_bytes() == b"one"
    assert store.path(second).read_bytes() == b"two"
    assert store.path(second).name.startswith("1.2.3.4.")
    assert store.path(second).parent == store.path(first).parent


def test_a_withdrawn_file_is_gone_and_the_other_of_its_uid_is_not(store: FileStore) -> None:
    """Only the own name is taken back."""
    _keep(store, b"one")
    with store.incoming() as file:
        file.append((b"two",))
        file.keep(_PLACE, _DIGEST)
        file.withdraw()
    assert _files(store.folder) == [_LASTING]
    assert store.path(_LASTING).read_bytes() == b"one"


def test_an_error_takes_a_kept_file_back(store: FileStore) -> None:
    """What was kept without a row leaves nothing behind (F-2)."""
    with pytest.raises(ZeroDivisionError):
        _keep_then(store, _raise(ZeroDivisionError()))
    assert _files(store.folder) == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_takes_nothing_back(store: FileStore, interrupt: type[BaseException]) -> None:
    """The row may have been committed a moment ago: both names stay for recovery to decide."""
    with pytest.raises(interrupt):
        _keep_then(store, _raise(interrupt()))
    first, second = _files(store.folder)
    assert store.path(first).samefile(store.path(second))
    store.remove(first)


def test_a_quarantined_file_is_kept_aside(store: FileStore) -> None:
    """It is no longer at its place, and two of one UID do not meet (F-20)."""
    paths = []
    for content in (b"one", b"two"):
        with store.incoming() as file:
            file.append((content,))
            file.keep(_PLACE, _DIGEST)
            paths.append(file.quarantine(_PLACE, hashlib.sha256(content).digest()))
    assert _files(store.folder) == sorted(paths)
    assert [store.path(path).read_bytes() for path in paths] == [b"one", b"two"]
    assert {path.split("/")[0] for path in paths} == {"quarantine"}


def test_one_content_is_in_quarantine_once(store: FileStore) -> None:
    """A sender that tries again and again adds nothing."""
    for _ in range(2):
        with store.incoming() as file:
            file.append((b"one",))
            path = file.quarantine(_PLACE, b"\x01" * 32)
    assert _files(store.folder) == [path]


def test_files_and_folders_are_not_for_everybody(store: FileStore) -> None:
    """Others than owner and group have no right to them, whatever the umask."""
    before = os.umask(0)
    try:
        _keep(store, b"one")
    finally:
        os.umask(before)
    for path in (store.path(_LASTING), *store.path(_LASTING).parents[:2]):
        assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0


@pytest.mark.parametrize(
    "uids", [("..", "1", "1"), ("1", "a/b", "1"), ("1", "1", ""), ("1", "1", "1" * 65)]
)
def test_nothing_but_a_uid_becomes_a_name(uids: tuple[str, str, str]) -> None:
    """A place with anything else cannot even be named (F-23)."""
    with pytest.raises(ValueError, match="valid UIDs"):
        FilePlace(*uids)


def test_a_folder_that_a_person_removed_is_made_again(store: FileStore) -> None:
    """A study sent again after its folder was removed by hand is kept (F-20)."""
    _keep(store, b"one")
    store.path(_LASTING).unlink()
    store.path(_LASTING).parent.rmdir()
    store.path(_LASTING).parent.parent.rmdir()
    assert _keep(store, b"two") == _LASTING


def test_the_last_file_takes_its_folders_with_it(store: FileStore) -> None:
    """Those of its series and its study; not while something else is in them."""
    other = _keep(store, b"two", FilePlace("1.2", "1.2.4", "1.2.4.1"))
    store.remove(_keep(store, b"one"))
    assert not store.path("studies/1.2/1.2.3").exists()
    assert store.path(other).exists()
    store.remove(other)
    assert list(store.path("studies").iterdir()) == []


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer takes the only file of the series back at that moment."""
    real, removed = Path.mkdir, []

    def mkdir(path: Path, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        real(path, mode, exist_ok=exist_ok)
        if path.name.startswith("1.2") and len(removed) < 3:
            removed.append(path.name)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert _keep(store, b"one") == _LASTING
    assert removed == ["1.2", "1.2", "1.2"]


def test_a_folder_that_goes_again_and_again_is_a_file_store_error(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and nothing is left."""
    monkeypatch.setattr(Path, "mkdir", lambda _path, *_, **__: None)
    with pytest.raises(FileStoreError, match="cannot keep the file"):
        _keep(store, b"one")
    assert _files(store.folder) == []


def test_removing_a_file_that_is_gone_is_no_error(store: FileStore) -> None:
    """It is not there, as was wanted."""
    path = _keep(store, b"one")
    store.remove(path)
    store.remove(path)
    assert not store.has(path)


def test_opening_a_missing_file_is_a_file_store_error(store: FileStore) -> None:
    """The caller need not know about OSError."""
    with pytest.raises(FileStoreError, match="cannot read a kept file"):
        store.open(_LASTING)


# --- copies and links of existing files


def test_a_copy_is_another_file(store: FileStore, tmp_path: Path) -> None:
    """Writing to the source later does not alter what is kept."""
    source = tmp_path / "source"
    source.write_bytes(b"one")
    with store.incoming() as file:
        file.copy_from(source)
        path = file.keep(_PLACE, _DIGEST)
    source.write_bytes(b"two")
    assert store.path(path).read_bytes() == b"one"


def test_a_link_is_the_same_file(store: FileStore, tmp_path: Path) -> None:
    """No byte is copied, and the source stays when our first name goes."""
    source = tmp_path / "source"
    source.write_bytes(b"one")
    with store.incoming() as file:
        file.link_from(source)
        path = file.keep(_PLACE, _DIGEST)
    assert store.path(path).samefile(source)
    assert source.stat().st_nlink == 2


def test_a_symbolic_link_is_not_kept_but_the_file_behind_it(
    store: FileStore, tmp_path: Path
) -> None:
    """A kept symbolic link would point out of the store, or at nothing."""
    (tmp_path / "source").write_bytes(b"one")
    symbolic = tmp_path / "symbolic"
    symbolic.symlink_to("source")
    with store.incoming() as file:
        file.link_from(symbolic)
        path = store.path(file.keep(_PLACE, _DIGEST))
    assert not path.is_symlink()
    assert path.samefile(tmp_path / "source")


@pytest.mark.parametrize("take", [IncomingFile.copy_from, IncomingFile.link_from])
def test_a_source_that_is_missing_is_a_file_store_error(
    store: FileStore, tmp_path: Path, take: Callable[[IncomingFile, Path], None]
) -> None:
    """Nothing is left of the attempt."""
    with pytest.raises(FileStoreError), store.incoming() as file:
        take(file, tmp_path / "missing")
    assert _files(store.folder) == []


# --- space


def test_below_the_reserve_nothing_is_taken_in(tmp_path: Path) -> None:
    """A refusal comes before a byte is written (F-3)."""
    store = FileStore(tmp_path, reserve_bytes=2**62)
    with pytest.raises(NoSpaceError, match="reserve"):
        store.incoming()
    store.close()


def test_a_storage_folder_that_is_gone_is_a_file_store_error(tmp_path: Path) -> None:
    """An unmounted disk is not the sender's fault."""
    store = FileStore(tmp_path / "storage")
    store.folder.rename(tmp_path / "gone")
    with pytest.raises(FileStoreError, match="the storage folder is gone"):
        store.incoming()


# --- what reaches the disk, and in which order


class _Calls:
    """Notes system calls that make things durable; the n-th of one name can be made to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, str]] = []
        self._failing: tuple[str, int, int] | None = None
        self._count = 0
        for name in ("fsync", "link", "rename", "writev", "unlink"):
            monkeypatch.setattr(os, name, self._noting(name, getattr(os, name)))

    def fail(self, name: str, number: int, code: int) -> None:
        self._failing, self._count = (name, number, code), 0

    def _noting(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(first: object, *rest: object, **more: object) -> object:
            if self._failing and name == self._failing[0]:
                self._count += 1
                if self._count == self._failing[1]:
                    raise OSError(self._failing[2], os.strerror(self._failing[2]))
            is_descriptor = isinstance(first, int)
            target = str(Path(f"/proc/self/fd/{first}").readlink() if is_descriptor else first)
            self.seen.append((name, target))
            return real(first, *rest, **more)

        return call


@pytest.fixture
def calls(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> _Calls:
    """What the store does from now on."""
    assert store
    return _Calls(monkeypatch)


def test_a_file_is_linked_then_synced_then_its_folders(store: FileStore, calls: _Calls) -> None:
    """The sync of the file carries both of its names; those of the folders come after it (F-2)."""
    studies = store.folder / "studies"
    with store.incoming() as file:
        file.append((b"one",))
        written = str(file.path)
        path = file.keep(_PLACE, _DIGEST)
        assert calls.seen == [
            ("writev", written),
            ("rename", written),
            ("link", str(file.path)),  # there is no folder yet
            ("link", str(file.path)),
            ("fsync", str(file.path)),
        ]
        calls.seen.clear()
        store.sync_folders((path,))
        assert sorted(calls.seen) == [
            ("fsync", str(studies)),
            ("fsync", str(studies / "1.2")),
            ("fsync", str(studies / "1.2" / "1.2.3")),
        ]


def test_appending_syncs_nothing(store: FileStore, calls: _Calls) -> None:
    """What is not kept need not be on the disk."""
    with store.incoming() as file:
        file.append((b"one",))
        file.append((b"two",))
        assert [name for name, _ in calls.seen] == ["writev", "writev"]


def test_several_files_of_a_series_share_the_sync_of_its_folder(
    store: FileStore, calls: _Calls
) -> None:
    """Each distinct folder once, whatever the number of files."""
    paths = [_keep(store, b"", FilePlace("1.2", "1.2.3", f"1.2.3.{n}")) for n in range(4)]
    calls.seen.clear()
    store.sync_folders(paths)
    assert calls.seen == [("fsync", str(store.folder / "studies/1.2/1.2.3"))]


def test_the_parents_of_a_known_series_are_not_synced_again(
    store: FileStore, calls: _Calls
) -> None:
    """The second file of a series costs two syncs: its own and that of its folder."""
    _keep(store, b"one")
    calls.seen.clear()
    _keep(store, b"two", FilePlace("1.2", "1.2.3", "1.2.3.5"))
    assert [name for name, _ in calls.seen if name == "fsync"] == ["fsync", "fsync"]


def test_the_parents_of_a_folder_that_was_made_again_are_synced_again(
    store: FileStore, calls: _Calls
) -> None:
    """A person removed it: what was durable was another one (F-20)."""
    _keep(store, b"one")
    store.path(_LASTING).unlink()
    store.path(_LASTING).parent.rmdir()
    calls.seen.clear()
    _keep(store, b"two")
    synced = {path for name, path in calls.seen if name == "fsync"}
    assert {str(store.folder / "studies"), str(store.folder / "studies/1.2")} < synced


def test_another_writer_syncs_the_parents_itself(store: FileStore, calls: _Calls) -> None:
    """That a folder is there does not say that it is on the disk."""
    _keep(store, b"one")
    other = FileStore(store.folder)
    calls.seen.clear()
    _keep(other, b"two", FilePlace("1.2", "1.2.3", "1.2.3.5"))
    synced = {Path(path) for name, path in calls.seen if name == "fsync"}
    assert {store.folder / "studies", store.folder / "studies/1.2"} < synced
    other.close()


def test_the_parents_of_a_series_that_was_empty_are_synced_again(
    store: FileStore, calls: _Calls
) -> None:
    """Its folder went with its last file, and is another one now (F-2)."""
    store.remove(_keep(store, b"one"))
    calls.seen.clear()
    _keep(store, b"two")
    synced = [Path(target).name for name, target in calls.seen if name == "fsync"]
    assert sorted(synced[1:]) == ["1.2", "1.2.3", "studies"]


@pytest.mark.parametrize(
    ("folder", "failed"),
    [
        ("studies/1.2/1.2.3", ["1.2.3.4"]),
        ("studies/1.2", ["1.2.3.4", "1.2.4.1"]),
        ("studies", ["1.2.3.4", "1.2.4.1", "1.3.1.1"]),
    ],
)
def test_a_folder_that_cannot_be_synced_fails_what_is_below_it(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, folder: str, failed: list[str]
) -> None:
    """And nothing else; those that are tried again are synced with all their folders (F-2)."""
    places = [_PLACE, FilePlace("1.2", "1.2.4", "1.2.4.1"), FilePlace("1.3", "1.3.1", "1.3.1.1")]
    real, synced = study_folders.sync, []

    def fail(path: str) -> None:
        synced.append(path)
        if path == str(store.path(folder)):
            raise OSError(errno.EACCES, "Permission denied")
        real(path)

    with ExitStack() as context, monkeypatch.context() as patch:
        paths = []
        for place in places:
            file = context.enter_context(store.incoming())
            file.append((b"one",))
            paths.append(file.keep(place, _DIGEST))
        patch.setattr(study_folders, "sync", fail)
        failures = store.sync_folders(paths)
        assert sorted(Path(path).stem for path in failures) == failed
        synced.clear()
        store.sync_folders(failures)
        assert str(store.path("studies")) in synced


def test_a_store_that_is_not_durable_syncs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when it is opened, nor for what is kept, put aside or linked."""
    calls = _Calls(monkeypatch)
    store = FileStore(tmp_path / "storage", is_durable=False)
    (tmp_path / "source").write_bytes(b"one")
    with store.incoming() as file:
        file.link_from(tmp_path / "source")
        store.sync_kept(file.keep(_PLACE, _DIGEST))
        file.quarantine(_PLACE, _DIGEST)
    _keep(store, b"two")
    store.close()
    assert "link" in {name for name, _ in calls.seen}
    assert "fsync" not in {name for name, _ in calls.seen}


def test_quarantine_is_durable_with_its_folder(store: FileStore, calls: _Calls) -> None:
    """The new folder's own name is synced as well: B000 promises that the newcomer is kept."""
    with store.incoming() as file:
        file.append((b"one",))
        calls.seen.clear()
        file.quarantine(_PLACE, bytes(32))
    assert [(name, Path(path)) for name, path in calls.seen[:4]] == [
        ("fsync", store.folder),
        ("fsync", file.path),
        ("link", file.path),
        ("fsync", store.folder / "quarantine"),
    ]


@pytest.mark.parametrize("take", [IncomingFile.copy_from, IncomingFile.link_from])
def test_a_copied_or_linked_file_is_synced(
    store: FileStore,
    calls: _Calls,
    tmp_path: Path,
    take: Callable[[IncomingFile, Path], None],
) -> None:
    """An import is as durable as a C-STORE."""
    source = tmp_path / "source"
    source.write_bytes(b"one")
    with store.incoming() as file:
        take(file, source)
        file.keep(_PLACE, _DIGEST)
        assert calls.seen[-1] == ("fsync", str(file.path))


def test_a_new_storage_folder_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder that had to be made is synced in the one above it."""
    calls = _Calls(monkeypatch)
    store = FileStore(tmp_path / "a" / "b")
    synced = {Path(path) for name, path in calls.seen if name == "fsync"}
    assert synced == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
    store.close()


# --- failing disks


_STEPS = [
    ("writev", 1),
    ("writev", 2),
    ("rename", 1),
    ("fsync", 1),
    ("fsync", 2),
    ("fsync", 3),
    ("fsync", 4),
    ("link", 1),
    ("link", 2),
]


@pytest.mark.parametrize("step", _STEPS, ids=lambda step: f"{step[0]} {step[1]}")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_a_failure_at_any_step_leaves_nothing_behind(
    store: FileStore, calls: _Calls, step: tuple[str, int], code: int
) -> None:
    """Neither name stays, and the next file is kept as if nothing had been (F-2)."""
    calls.fail(*step, code)
    with pytest.raises(FileStoreError) as failure:
        _keep_then(store, lambda _file: None)
    assert isinstance(failure.value, NoSpaceError) == (code == errno.ENOSPC)
    assert _files(store.folder) == []
    assert _keep(store, b"three") == _LASTING


@pytest.mark.parametrize(
    ("name", "number"), [("fsync", 1), ("fsync", 2), ("link", 1), ("fsync", 3)]
)
def test_a_failure_in_quarantine_leaves_nothing_behind(
    store: FileStore, calls: _Calls, name: str, number: int
) -> None:
    """Neither at the place nor aside."""

    def quarantine(file: IncomingFile) -> None:
        calls.fail(name, number, errno.EIO)
        file.quarantine(_PLACE, bytes(32))

    with pytest.raises(FileStoreError, match="quarantine"):
        _keep_then(store, quarantine)
    assert _files(store.folder) == []


def test_a_lasting_name_that_cannot_be_taken_back_stays_known(
    store: FileStore, calls: _Calls
) -> None:
    """The first name stays as well, so that recovery finds both."""

    def fail(_file: IncomingFile) -> None:
        calls.fail("unlink", 1, errno.EIO)
        raise ZeroDivisionError

    with pytest.raises(FileStoreError, match="cannot remove a kept file"):
        _keep_then(store, fail)
    first, second = _files(store.folder)
    assert store.path(first).samefile(store.path(second))
    store.remove(first)


def test_a_first_name_that_cannot_be_removed_is_a_file_store_error(
    store: FileStore, calls: _Calls
) -> None:
    """A failing disk never shows as an OSError; the lasting name stays."""
    with pytest.raises(FileStoreError, match="incoming"):
        _keep_then(store, lambda _file: calls.fail("unlink", 1, errno.EIO))
    first, second = _files(store.folder)
    assert second == _LASTING
    store.remove(first)


@pytest.mark.parametrize("part", [1, 3, 7])
def test_a_write_that_takes_a_part_only_is_continued(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """A system call may write less than it was given, and end within any of the fragments."""
    writev, write = os.writev, os.write
    monkeypatch.setattr(
        os, "writev", lambda descriptor, data: writev(descriptor, [b"".join(data)[:part]])
    )
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    with store.incoming() as file:
        file.append((b"0123", b"", memoryview(b"456"), b"789"))
        file.append((b"abc",))
        assert file.length_bytes == 13
        assert file.path.read_bytes() == b"0123456789abc"


def test_more_fragments_than_one_call_takes_are_written(store: FileStore) -> None:
    """Linux refuses more than 1024 at once."""
    fragments = [f"{number:05}".encode() for number in range(2500)]
    with store.incoming() as file:
        file.append(fragments)
        assert file.length_bytes == 12_500
        assert file.path.read_bytes() == b"".join(fragments)


def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(store: FileStore, calls: _Calls) -> None:
    """Neither the part that was written nor an open descriptor (F-2, F-3)."""
    before = _open_descriptors()
    calls.fail("writev", 3, errno.ENOSPC)
    with pytest.raises(NoSpaceError):
        _append(store, *[bytes(5000)] * 4)
    assert _files(store.folder) == []
    assert _open_descriptors() == before


def test_the_reserve_is_looked_at_again_while_a_long_file_is_written(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One endless object cannot fill the disk: it is refused once the reserve is reached (F-3)."""
    monkeypatch.setattr(file_store, "_CHECKED_LENGTH_BYTES", 10_000)
    _append(store, bytes(9_999), b"x", b"x")
    with store.incoming() as file:
        monkeypatch.setattr(store, "_reserve_bytes", 2**62)
        file.append((bytes(9_999),))
        file.append((b"x",))
        with pytest.raises(NoSpaceError, match="reserve"):
            file.append((b"x",))
        assert file.length_bytes == 10_000


# --- reading what is written


def test_the_content_is_what_has_been_written_so_far(store: FileStore) -> None:
    """All fragments, without copying; more can be written afterwards."""
    with store.incoming() as file:
        with file.content() as content:
            assert bytes(content) == b""
        file.append((b"one",))
        file.append((b"two",))
        with file.content() as content:
            assert bytes(content) == b"onetwo"
            assert content.readonly
        file.append((b"three",))
        with file.content() as content:
            assert bytes(content) == b"onetwothree"


def test_an_error_while_the_content_is_read_is_that_error(store: FileStore) -> None:
    """A part of it that the error's frames still hold does not hide what went wrong."""
    parts = []

    def fail(file: IncomingFile) -> None:
        with file.content() as content:
            parts.append(content[1:])
            raise ZeroDivisionError

    before = _open_descriptors()
    with store.incoming() as file:
        file.append((b"one",))
        with pytest.raises(ZeroDivisionError):
            fail(file)
    assert bytes(parts.pop()) == b"ne"
    assert _open_descriptors() == before


def test_content_that_somebody_has_cut_off_is_a_file_store_error(store: FileStore) -> None:
    """It cannot be mapped."""
    with store.incoming() as file:
        file.append((b"one",))
        os.truncate(file.path, 0)
        with pytest.raises(FileStoreError, match="shorter"), file.content():
            pass


def test_a_kept_file_is_not_read_as_an_incoming_one(store: FileStore) -> None:
    """It is closed by then; nobody gets zeros instead."""
    with store.incoming() as file:
        file.append((b"one",))
        file.keep(_PLACE, _DIGEST)
        with pytest.raises(FileStoreError, match="closed"), file.content():
            pass


@pytest.mark.parametrize(
    "then", [lambda _: None, _raise(ZeroDivisionError()), _raise(SystemExit())]
)
def test_no_descriptor_stays_open(store: FileStore, then: Callable[[IncomingFile], object]) -> None:
    """Whether the file is kept, given up by an error, or left by an interrupt."""
    before = _open_descriptors()
    with suppress(ZeroDivisionError, SystemExit), store.incoming() as file:
        file.append((b"one",))
        then(file)
    assert _open_descriptors() == before


def test_a_folder_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at the start, with the folder's name, and leaves no file."""
    calls = _Calls(monkeypatch)
    calls.fail("link", 1, errno.EPERM)
    with pytest.raises(FileStoreError, match="Operation not permitted"):
        FileStore(tmp_path)
    assert _files(tmp_path) == []
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "storage").write_bytes(b"")
    with pytest.raises(FileStoreError, match="storage"):
        FileStore(tmp_path / "storage")


# --- writers that are gone


def test_a_closed_store_leaves_no_folder(tmp_path: Path) -> None:
    """Nothing of a writer that left stays in incoming."""
    store = FileStore(tmp_path)
    _keep(store, b"one")
    store.close()
    assert list((tmp_path / "incoming").iterdir()) == []
    assert _files(tmp_path) == [_LASTING]


def test_what_a_living_writer_has_is_not_abandoned(tmp_path: Path) -> None:
    """Its lock says that it lives, in this process or another."""
    writer, other = FileStore(tmp_path), FileStore(tmp_path)
    with writer.incoming() as file:
        file.append((b"one",))
        assert list(other.abandoned()) == []
        assert file.path.exists()
    writer.close()
    other.close()


def test_looking_for_abandoned_files_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """Neither those of living writers nor of dead ones."""
    writer, other = FileStore(tmp_path), FileStore(tmp_path)
    (tmp_path / "incoming" / "dead").mkdir()
    before = _open_descriptors()
    assert list(other.abandoned()) == []
    assert _open_descriptors() == before
    assert not (tmp_path / "incoming" / "dead").exists()
    writer.close()
    other.close()


_KILLED = """
import os, signal, sys
from pathlib import Path
from pacsnode.file_names import FilePlace
from pacsnode.file_store import FileStore
store = FileStore(Path(sys.argv[1]))
kept, not_kept = store.incoming(), store.incoming()
kept.append((b"kept",))
kept.keep(FilePlace("1.2", "1.2.3", "1.2.3.4"), bytes(32))
not_kept.append((b"not kept",))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_files_of_a_killed_process_are_found_and_told_apart(tmp_path: Path) -> None:
    """The kernel drops its lock; a kept file still has both of its names."""
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    store = FileStore(tmp_path)
    found = {}
    for abandoned in store.abandoned():
        found[abandoned.path.read_bytes()] = abandoned.kept_path()
        abandoned.remove()
    assert found == {b"kept": _LASTING, b"not kept": None}
    assert _files(tmp_path) == [_LASTING]
    assert list(store.abandoned()) == []
    assert len(list((tmp_path / "incoming").iterdir())) == 1
    store.close()


def test_a_uid_that_begins_like_another_is_not_taken_for_it(tmp_path: Path) -> None:
    """The kept file of 1.2.3.45 is not a name of an abandoned 1.2.3.4."""
    store = FileStore(tmp_path)
    _keep(store, b"one", FilePlace("1.2", "1.2.3", "1.2.3.45"))
    dead = tmp_path / "incoming" / "dead"
    dead.mkdir()
    (dead / f"1,1.2,1.2.3,1.2.3.4,{_DIGEST.hex()[:16]}").write_bytes(b"two")
    (abandoned,) = store.abandoned()
    assert abandoned.place == _PLACE
    assert abandoned.kept_path() is None
    store.close()


def test_a_file_that_others_take_back_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names in a series may go while an abandoned file is looked for among them."""
    store = FileStore(tmp_path)
    _keep(store, b"one")
    dead = tmp_path / "incoming" / "dead"
    dead.mkdir()
    (dead / f"1,1.2,1.2.3,1.2.3.4,{_DIGEST.hex()[:16]}").write_bytes(b"two")
    (abandoned,) = store.abandoned()
    samefile = Path.samefile

    def samefile_late(path: Path, other: Path) -> bool:
        store.remove(_LASTING)
        return samefile(path, other)

    monkeypatch.setattr(Path, "samefile", samefile_late)
    assert abandoned.kept_path() is None  # the name has gone
    assert abandoned.kept_path() is None  # and so has its folder
    store.close()


def test_a_stray_file_in_incoming_is_left_alone(tmp_path: Path) -> None:
    """It is no writer's folder."""
    store = FileStore(tmp_path)
    (tmp_path / "incoming" / "stray").write_bytes(b"")
    assert list(store.abandoned()) == []
    assert (tmp_path / "incoming" / "stray").exists()
    store.close()
