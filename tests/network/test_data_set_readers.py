"""Stored and converted data sets as they are read while they are sent."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.catalog.records import KeptFile
from pacsnode.dicom.part10 import Part10Error
from pacsnode.network.data_set_readers import ConvertedReader, StoredDataSet
from tests.support.instances import Instance, ct_data_set, encoded, write_instance

_INSTANCE = encoded(ct_data_set())


def _file(length: int, transfer_syntax_uid: str = _INSTANCE.transfer_syntax_uid) -> KeptFile:
    return KeptFile("", transfer_syntax_uid, b"", length)


def _stored(folder: Path, content: bytes = _INSTANCE.encoded_data_set) -> tuple[Path, KeptFile]:
    """Return a file with this data set, and what the catalog says of it."""
    instance = Instance("1.2", "1.3", _INSTANCE.transfer_syntax_uid, content)
    return write_instance(instance, folder / "file.dcm"), _file(len(content))


def _read(reader: StoredDataSet | ConvertedReader, length: int, step: int) -> bytes:
    room, content = memoryview(bytearray(step)), b""
    for start in range(0, length, step):
        part = room[: min(step, length - start)]
        reader.read_into(part)
        content += part
    return content


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_a_stored_data_set_is_read_byte_for_byte(tmp_path: Path, step: int) -> None:
    """Whatever the parts, they are what was stored, without File Meta Information (E-33, E-37)."""
    with StoredDataSet(*_stored(tmp_path)) as data_set:
        length = data_set.length_bytes
        assert _read(data_set, length, step) == _INSTANCE.encoded_data_set
        assert data_set.length_bytes == 0


def test_a_deflated_data_set_of_odd_length_gets_a_nul(tmp_path: Path) -> None:
    """Whoever made it has left out the padding, and a message has to be even (PS3.5 A.5)."""
    path, _ = _stored(tmp_path, b"odd")
    with StoredDataSet(path, _file(3, "1.2.840.10008.1.2.1.99")) as data_set:
        assert data_set.is_message
        assert data_set.length_bytes == 4
        assert _read(data_set, 4, 2) == b"odd\0"


@pytest.mark.parametrize(("content", "is_message"), [(b"even", True), (b"odd", False)])
def test_others_of_odd_length_are_no_message(
    tmp_path: Path, content: bytes, *, is_message: bool
) -> None:
    """One byte more would be the start of an element that does not follow (PS3.8 E.1)."""
    with StoredDataSet(*_stored(tmp_path, content)) as data_set:
        assert data_set.is_message == is_message


def test_an_empty_data_set_has_no_bytes(tmp_path: Path) -> None:
    """It is read all the same."""
    with StoredDataSet(*_stored(tmp_path, b"")) as data_set:
        assert data_set.length_bytes == 0
        data_set.read_into(memoryview(b""))


def test_a_file_whose_meta_information_is_odd_is_read(tmp_path: Path) -> None:
    """A group length that is wrong is not relied upon; where the data set starts is."""
    path, file = _stored(tmp_path)
    content = bytearray(path.read_bytes())
    content[140:144] = bytes(4)
    path.write_bytes(content)
    with StoredDataSet(path, file) as data_set:
        assert _read(data_set, data_set.length_bytes, 512) == _INSTANCE.encoded_data_set


@pytest.mark.parametrize("change", [-100, -1, 1, 1_000])
def test_a_file_that_is_not_as_long_as_it_was_is_not_sent(tmp_path: Path, change: int) -> None:
    """Half a data set, or one with something behind it, is none (E-11)."""
    path, file = _stored(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(Part10Error):
        StoredDataSet(path, file)


@pytest.mark.parametrize("content", [b"", b"DICM", b"no DICOM file" * 50])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_what_is_no_dicom_file_is_not_sent(tmp_path: Path, content: bytes, more: int) -> None:
    """However long it should be (E-11)."""
    path = tmp_path / "file.dcm"
    path.write_bytes(content)
    with pytest.raises(Part10Error):
        StoredDataSet(path, _file(len(content) + more))


def test_a_file_that_is_missing_is_an_error_of_the_system(tmp_path: Path) -> None:
    """It says which (E-11)."""
    with pytest.raises(FileNotFoundError):
        StoredDataSet(tmp_path / "nothing", _file(1))


@pytest.mark.parametrize("left", [0, 1])
def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path, left: int) -> None:
    """Nothing is made up for what is not there any more (E-37)."""
    path, file = _stored(tmp_path, bytes(100))
    with StoredDataSet(path, file) as data_set:
        start = data_set.offset
        with path.open("r+b") as opened:
            opened.truncate(start + 50 + left)
        with pytest.raises(OSError, match="the file has become shorter"):
            _read(data_set, 100, 50 + left)


@pytest.mark.usefixtures("tmp_path")
def test_the_file_is_closed(tmp_path: Path) -> None:
    """At the end of the block, and when it cannot be used."""
    before = _descriptors()
    path, file = _stored(tmp_path)
    with StoredDataSet(path, file):
        assert _descriptors() == before + 1
    with pytest.raises(Part10Error):
        StoredDataSet(path, _file(1))
    assert _descriptors() == before


def _descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


# --- converted


class _Converted:
    """What stands for a converted data set: pieces of any length."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.length_bytes = sum(map(len, pieces))
        self._pieces = pieces

    def pieces(self) -> Iterator[bytes]:
        return iter(self._pieces)


@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(1, 30))
def test_a_converted_data_set_is_read_in_any_parts(pieces: list[bytes], step: int) -> None:
    """Its pieces, put together, are what is sent; some may be empty (E-33)."""
    reader = ConvertedReader(_Converted(pieces))  # type: ignore[arg-type]
    whole = b"".join(pieces)
    assert reader.length_bytes == len(whole)
    assert _read(reader, len(whole), step) == whole


def test_a_conversion_that_ends_early_is_an_error() -> None:
    """Nothing is made up for what does not come."""
    converted = _Converted([b"1234"])
    converted.length_bytes = 6
    with pytest.raises(OSError, match="the conversion has ended early"):
        _read(ConvertedReader(converted), 6, 6)  # type: ignore[arg-type]
