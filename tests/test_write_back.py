"""Files on their way from memory to the disk."""

import errno
import os
from pathlib import Path

import pytest

from pacsnode.write_back import WriteBack

_LARGE = b"x" * 200_000


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the kernel is asked, in order: the name of the call and the descriptor."""
    calls: list[tuple[str, int]] = []
    advise, fsync = os.posix_fadvise, os.fsync

    def note_advise(descriptor: int, position: int, length: int, advice: int) -> None:
        calls.append(("advise", descriptor))
        advise(descriptor, position, length, advice)

    def note_fsync(descriptor: int) -> None:
        calls.append(("fsync", descriptor))
        fsync(descriptor)

    monkeypatch.setattr(os, "posix_fadvise", note_advise)
    monkeypatch.setattr(os, "fsync", note_fsync)
    return calls


def _written(path: Path, content: bytes) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, content)
    return descriptor


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_durable_file_is_synced_before_its_memory_is_given_back(
    tmp_path: Path, advised: list[tuple[str, int]]
) -> None:
    """Fsync first: nothing is let go of that is not on the disk (F-2)."""
    descriptor = _written(tmp_path / "file", _LARGE)
    WriteBack(is_durable=True).finish(descriptor, len(_LARGE))
    assert advised == [("fsync", descriptor), ("advise", descriptor)]
    assert (tmp_path / "file").read_bytes() == _LARGE
    os.close(descriptor)


def test_a_small_durable_file_is_synced_and_no_more(
    tmp_path: Path, advised: list[tuple[str, int]]
) -> None:
    """A request for each of many small files would cost more than their memory is worth."""
    descriptor = _written(tmp_path / "file", b"x")
    WriteBack(is_durable=True).finish(descriptor, 1)
    assert advised == [("fsync", descriptor)]
    os.close(descriptor)


def test_without_durability_nothing_is_waited_for(
    tmp_path: Path, advised: list[tuple[str, int]]
) -> None:
    """The kernel is asked to write the file, and asked to let go of it when others have come."""
    write_back = WriteBack(is_durable=False)
    for number in range(17):
        descriptor = _written(tmp_path / str(number), _LARGE)
        write_back.finish(descriptor, len(_LARGE))
        os.close(descriptor)
    assert {call for call, _ in advised} == {"advise"}
    assert len(advised) == 18
    write_back.close()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """However many files have come, and when it is closed."""
    before = _open_descriptors()
    write_back = WriteBack(is_durable=False)
    for number in range(100):
        descriptor = _written(tmp_path / str(number), _LARGE)
        write_back.finish(descriptor, len(_LARGE))
        os.close(descriptor)
    assert _open_descriptors() <= before + 16
    write_back.close()
    assert _open_descriptors() == before


@pytest.mark.parametrize("is_durable", [True, False])
@pytest.mark.parametrize("name", ["posix_fadvise", "dup"])
def test_advice_that_is_not_taken_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, is_durable: bool
) -> None:
    """The file is on the disk, or on its way there, all the same."""

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, name, fail)
    descriptor = _written(tmp_path / "file", _LARGE)
    write_back = WriteBack(is_durable=is_durable)
    write_back.begin(descriptor, 0)
    write_back.finish(descriptor, len(_LARGE))
    write_back.close()
    os.close(descriptor)
