"""Import of DICOM files that exist already."""

import errno
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import Addition, CatalogError, NewInstance
from pacsnode.dicom.data_elements import Buffer
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import InstanceHeader, InstanceReader
from pacsnode.file_store import FileStoreError
from pacsnode.services import keep
from pacsnode.services.import_file import ImportMode, ImportRefused, import_file
from pacsnode.services.keep import Keeper, Outcome, arrival_of
from tests.support.archive import files_below, send
from tests.support.instances import ct_data_set, encoded, write_instance


def _file(tmp_path: Path, **attributes: object) -> Path:
    """A DICOM file with a preamble of its own."""
    path = write_instance(encoded(ct_data_set(**attributes)), tmp_path / "in" / "a.dcm")
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])
    return path


@pytest.mark.parametrize("mode", list(ImportMode))
def test_an_imported_file_keeps_every_byte(
    keeper: Keeper, tmp_path: Path, mode: ImportMode
) -> None:
    """Its own preamble and File Meta Information included; the source stays."""
    path = _file(tmp_path)
    before = path.read_bytes()
    keeping = import_file(path, keeper, mode)
    kept = keeper.file_store.path(keeping.path)
    assert keeping.outcome is Outcome.ADDED
    assert kept.read_bytes() == path.read_bytes() == before
    assert kept.samefile(path) == (mode is ImportMode.LINK)
    assert files_below(keeper.file_store.folder) == [keeping.path]


def test_an_imported_instance_is_catalogued_without_a_sender(
    keeper: Keeper, tmp_path: Path
) -> None:
    """The digest is that of the data set: sent again, it is known (F-20)."""
    instance = encoded(ct_data_set())
    import_file(write_instance(instance, tmp_path / "a.dcm"), keeper, ImportMode.COPY)
    assert send(instance, keeper).keeping.outcome is Outcome.ALREADY_KEPT


def test_a_file_imported_again_is_known(keeper: Keeper, tmp_path: Path) -> None:
    """An import that was interrupted can be run again."""
    path = _file(tmp_path)
    first = import_file(path, keeper, ImportMode.LINK)
    again = import_file(path, keeper, ImportMode.LINK)
    assert (again.outcome, again.path) == (Outcome.ALREADY_KEPT, first.path)
    assert path.exists()


def test_the_data_set_says_which_instance_it_is(keeper: Keeper, tmp_path: Path) -> None:
    """File Meta Information that names another one does not count (F-7)."""
    instance = encoded(ct_data_set())
    path = write_instance(instance, tmp_path / "a.dcm")
    other = "9" * len(instance.sop_instance_uid)
    content = path.read_bytes().replace(instance.sop_instance_uid.encode(), other.encode(), 1)
    path.write_bytes(content)
    import_file(path, keeper, ImportMode.COPY)
    assert keeper.catalog.stored_instance(instance.sop_instance_uid) is not None
    assert keeper.catalog.stored_instance(other) is None


@pytest.mark.parametrize("mode", list(ImportMode))
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the prefix DICM is missing"),
        (b"\x89PNG" + bytes(200), "the prefix DICM is missing"),
        (bytes(128) + b"DICM", "lacks a valid Transfer Syntax UID"),
    ],
)
def test_what_is_no_dicom_file_is_refused(
    keeper: Keeper, tmp_path: Path, mode: ImportMode, content: bytes, reason: str
) -> None:
    """The reason is for the administrator."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ImportRefused, match=reason):
        import_file(path, keeper, mode)
    assert files_below(keeper.file_store.folder) == []


def test_a_truncated_file_is_refused(keeper: Keeper, tmp_path: Path) -> None:
    """It was not copied to its end."""
    path = _file(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImportRefused, match="undecodable"):
        import_file(path, keeper, ImportMode.COPY)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"])
def test_a_file_without_an_identifying_uid_is_refused(
    keeper: Keeper, tmp_path: Path, keyword: str
) -> None:
    """The reason names the attribute, and no value of it."""
    with pytest.raises(ImportRefused, match=f"{keyword} is missing"):
        import_file(_file(tmp_path, **{keyword: None}), keeper, ImportMode.COPY)


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_cannot_be_read_is_refused(keeper: Keeper, tmp_path: Path, name: str) -> None:
    """A missing file, and a folder."""
    with pytest.raises(ImportRefused, match="cannot be read"):
        import_file(tmp_path / name, keeper, ImportMode.COPY)


def test_a_full_disk_is_not_the_fault_of_the_file(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's error is raised, and nothing is left."""

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = _file(tmp_path)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FileStoreError, match="No space left"):
        import_file(path, keeper, ImportMode.COPY)
    assert files_below(keeper.file_store.folder) == []


def test_a_failing_catalog_leaves_the_source_alone(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was linked is taken back; the administrator's own file is not."""

    def fail(_catalog: Catalog, _instances: Sequence[NewInstance]) -> list[Addition]:
        raise CatalogError("disk I/O error")

    path = _file(tmp_path)
    monkeypatch.setattr(Catalog, "add_all", fail)
    with pytest.raises(CatalogError):
        import_file(path, keeper, ImportMode.LINK)
    assert files_below(keeper.file_store.folder) == []
    assert path.exists()


def test_a_file_that_cannot_be_linked_is_refused_alone(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file on another file system concerns itself only, and the reason says what helps."""

    def cross_device(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", cross_device)
    with pytest.raises(ImportRefused, match=r"cannot be linked: .*; --copy takes it"):
        import_file(_file(tmp_path), keeper, ImportMode.LINK)
    assert files_below(keeper.file_store.folder) == []


# --- what lies in the store already


def _lose_all_rows(tmp_path: Path) -> None:
    """Leave the catalog as a power cut does that undoes the commits."""
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as connection:
        connection.executescript(
            "DELETE FROM instance; DELETE FROM series; DELETE FROM study; DELETE FROM patient"
        )


@pytest.mark.parametrize("mode", list(ImportMode))
def test_rows_that_were_lost_come_back_from_the_files(
    keeper: Keeper, tmp_path: Path, mode: ImportMode
) -> None:
    """Importing the folder of the studies itself adds rows, and neither copies nor links (F-2)."""
    instances = [encoded(ct_data_set()) for _ in range(3)]
    paths = {i.sop_instance_uid: send(i, keeper).keeping.path for i in instances}
    _lose_all_rows(tmp_path)
    outcomes = [
        import_file(keeper.file_store.path(path), keeper, mode).outcome for path in paths.values()
    ]
    assert outcomes == [Outcome.ADDED] * 3
    stored = {uid: keeper.catalog.stored_instance(uid).file.path for uid in paths}
    assert stored == paths
    assert files_below(keeper.file_store.folder) == sorted(paths.values())
    assert {keeper.file_store.path(path).stat().st_nlink for path in paths.values()} == {1}
    assert send(instances[0], keeper).keeping.outcome is Outcome.ALREADY_KEPT


def test_a_file_beside_another_gets_its_row_back(keeper: Keeper, tmp_path: Path) -> None:
    """Its name has a random ending, because its own was taken once."""
    instance = encoded(ct_data_set())
    taken = keeper.file_store.path(send(instance, keeper).keeping.path)
    _lose_all_rows(tmp_path)
    keeping = send(instance, keeper).keeping
    taken.unlink()
    _lose_all_rows(tmp_path)
    path = keeper.file_store.path(keeping.path)
    assert import_file(path, keeper, ImportMode.LINK) == keeping


def test_a_file_with_its_row_is_not_even_read(keeper: Keeper) -> None:
    """A large archive with few rows missing is gone through fast."""
    path = send(encoded(ct_data_set()), keeper).keeping.path
    keeper.file_store.path(path).write_bytes(b"not read")
    keeping = import_file(keeper.file_store.path(path), keeper, ImportMode.LINK)
    assert (keeping.outcome, keeping.path) == (Outcome.ALREADY_KEPT, path)


def test_a_file_that_is_being_received_is_left_to_its_writer(
    keeper: Keeper, tmp_path: Path
) -> None:
    """It may be taken back at any moment: no row may name it (F-2)."""
    instance = encoded(ct_data_set())
    source = write_instance(instance, tmp_path / "a.dcm")
    with keeper.file_store.incoming() as file:
        file.copy_from(source)
        arrival = arrival_of(source, keeper.reader)
        path = keeper.file_store.path(file.keep(arrival.place, arrival.data_set_sha256))
        with pytest.raises(ImportRefused, match="being received"):
            import_file(path, keeper, ImportMode.LINK)
        file.withdraw()
    assert keeper.catalog.stored_instance(instance.sop_instance_uid) is None


def test_a_file_that_was_cut_off_is_refused(keeper: Keeper, tmp_path: Path) -> None:
    """Where nothing was durable, a power cut leaves such; it gets no row."""
    path = keeper.file_store.path(send(encoded(ct_data_set()), keeper).keeping.path)
    _lose_all_rows(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImportRefused, match="undecodable"):
        import_file(path, keeper, ImportMode.LINK)


def test_a_file_that_is_not_at_its_place_is_refused(keeper: Keeper) -> None:
    """Its name would not lead to it after the next loss of rows."""
    path = keeper.file_store.path("studies/1.2/1.2.3/1.2.3.4.dcm")
    write_instance(encoded(ct_data_set()), path)
    with pytest.raises(ImportRefused, match="not at the place of its UIDs"):
        import_file(path, keeper, ImportMode.LINK)


def test_a_file_in_quarantine_is_imported_as_any_other(keeper: Keeper) -> None:
    """What an administrator has decided for goes to its place, by a name of its own."""
    instance = encoded(ct_data_set())
    path = write_instance(instance, keeper.file_store.folder / "quarantine" / "a.dcm")
    keeping = import_file(path, keeper, ImportMode.LINK)
    assert keeping.outcome is Outcome.ADDED
    assert keeping.path.startswith("studies/")


@pytest.mark.parametrize("mode", list(ImportMode))
def test_a_file_on_its_way_in_is_refused(keeper: Keeper, tmp_path: Path, mode: ImportMode) -> None:
    """What has come of it may end between two elements, and be taken for all of it."""
    source = write_instance(encoded(ct_data_set()), tmp_path / "a.dcm")
    with keeper.file_store.incoming() as file:
        file.copy_from(source)
        with pytest.raises(ImportRefused, match="being received"):
            import_file(file.path, keeper, mode)


def test_a_linked_file_that_gets_shorter_meanwhile_is_no_crash(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner may write it anew at any moment; a map of it would end the process."""
    path = write_instance(encoded(ct_data_set()), tmp_path / "a.dcm")
    real = InstanceReader.read

    def read(reader: InstanceReader, data_set: Buffer, transfer_syntax_uid: str) -> InstanceHeader:
        os.truncate(path, 0)
        return real(reader, data_set, transfer_syntax_uid)

    monkeypatch.setattr(InstanceReader, "read", read)
    assert import_file(path, keeper, ImportMode.LINK).outcome is Outcome.ADDED


def test_a_long_file_is_read_like_a_short_one(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is mapped instead of read into memory; what is found in it is the same."""
    path = write_instance(encoded(ct_data_set()), tmp_path / "a.dcm")
    short = arrival_of(path, keeper.reader)
    monkeypatch.setattr(keep, "_LONGEST_IN_MEMORY_BYTES", 100)
    long = arrival_of(path, keeper.reader)
    assert replace(long, header=short.header) == short
    assert long.header.statement == short.header.statement
    for level in Level:
        assert long.header.values(level) == short.header.values(level)
    assert import_file(path, keeper, ImportMode.COPY).outcome is Outcome.ADDED
