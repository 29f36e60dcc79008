"""C-STORE: refused with the status of the plan, or kept byte for byte before success is said."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import Addition, CatalogError, NewInstance
from pacsnode.dicom.part10 import file_header
from pacsnode.dicom.status import DimseFailure
from pacsnode.file_store import FileStore
from pacsnode.services.c_store import StoreRequest, store
from pacsnode.services.keep import DuplicatePolicy, Keeper
from tests.support.archive import files_below, send, store_request
from tests.support.instances import Instance, ct_data_set, encoded, sr_data_set

_CT = "1.2.840.10008.5.1.4.1.1.2"


def _refused(request: StoreRequest, keeper: Keeper) -> DimseFailure:
    """The failure; nothing of the instance is left."""
    with pytest.raises(DimseFailure) as refusal:
        store(request, keeper)
    assert files_below(keeper.file_store.folder) == []
    assert keeper.catalog.stored_instance(request.received.sop_instance_uid) is None
    return refusal.value


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_the_received_bytes_are_kept_behind_our_header(keeper: Keeper, syntax: str) -> None:
    """The file is file_header plus exactly the data set (F-10, F-11)."""
    instance = encoded(ct_data_set(), syntax)
    response = send(instance, keeper)
    assert (response.status, response.comment) == (0x0000, "")
    path = keeper.file_store.path(response.keeping.path)
    request = store_request(instance)
    assert path.read_bytes() == file_header(request.received) + instance.encoded_data_set


def test_a_stored_instance_is_catalogued(keeper: Keeper) -> None:
    """The row names the file, its syntax, its digest and its length."""
    instance = encoded(ct_data_set())
    response = send(instance, keeper)
    stored = keeper.catalog.stored_instance(instance.sop_instance_uid)
    assert stored.file.path == response.keeping.path
    assert stored.file.transfer_syntax_uid == instance.transfer_syntax_uid
    assert stored.file.data_set_length_bytes == len(instance.encoded_data_set)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_data_set_may_be_any_buffer(keeper: Keeper, kind: type) -> None:
    """The network hands over what it has collected the bytes in."""
    request = store_request(encoded(ct_data_set()))
    response = store(replace(request, data_set=kind(request.data_set)), keeper)
    assert keeper.file_store.path(response.keeping.path).read_bytes().endswith(request.data_set)


# --- refusals


def test_a_class_that_is_not_that_of_the_context_is_answered_with_0122(keeper: Keeper) -> None:
    """Command and presentation context have to agree (F-6)."""
    request = store_request(encoded(ct_data_set()))
    other = replace(request, abstract_syntax="1.2.840.10008.5.1.4.1.1.4")
    assert _refused(other, keeper).status == 0x0122


@pytest.mark.parametrize("uid", ["", "1.2.x", "../1", "1" * 65])
def test_a_uid_of_the_command_that_is_none_is_answered_with_0117(keeper: Keeper, uid: str) -> None:
    """Before the data set is looked at (F-3)."""
    request = store_request(encoded(ct_data_set()))
    received = replace(request.received, sop_instance_uid=uid)
    assert _refused(replace(request, received=received, data_set=b"x"), keeper).status == 0x0117


@pytest.mark.parametrize("data_set", [b"x", b"\x08\x00\x16\x00UI\xff\x00", b"\xff" * 100])
def test_a_data_set_that_cannot_be_decoded_is_answered_with_c000(
    keeper: Keeper, data_set: bytes
) -> None:
    """Garbage and truncation (F-3)."""
    request = store_request(encoded(ct_data_set()))
    assert _refused(replace(request, data_set=data_set), keeper).status == 0xC000


@pytest.mark.parametrize(
    ("keyword", "tag"),
    [
        ("SOPClassUID", 0x00080016),
        ("SOPInstanceUID", 0x00080018),
        ("StudyInstanceUID", 0x0020000D),
        ("SeriesInstanceUID", 0x0020000E),
    ],
)
def test_a_missing_uid_is_answered_with_c001(keeper: Keeper, keyword: str, tag: int) -> None:
    """With the tag that is missing (F-3, F-4)."""
    refusal = _refused(store_request(encoded(ct_data_set(**{keyword: None}))), keeper)
    assert (refusal.status, refusal.offending_elements) == (0xC001, (tag,))


def test_another_instance_than_the_command_says_is_answered_with_a900(keeper: Keeper) -> None:
    """SOP Instance UID of command and data set differ (F-6)."""
    request = store_request(encoded(ct_data_set()))
    received = replace(request.received, sop_instance_uid="1.2.3")
    refusal = _refused(replace(request, received=received), keeper)
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x00080018,))


def test_another_class_than_the_command_says_is_answered_with_a900(keeper: Keeper) -> None:
    """SOP Class UID of command and data set differ (F-6)."""
    request = store_request(encoded(sr_data_set()))
    received = replace(request.received, sop_class_uid=_CT)
    refusal = _refused(replace(request, received=received, abstract_syntax=_CT), keeper)
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x00080016,))


def test_no_space_is_answered_with_a700(tmp_path: Path, keeper: Keeper) -> None:
    """Below the reserve (F-3)."""
    full = FileStore(tmp_path / "full", reserve_bytes=2**62)
    refusal = _refused(store_request(encoded(ct_data_set())), replace(keeper, file_store=full))
    assert (refusal.status, refusal.comment) == (
        0xA700,
        "no space: less than the reserve is free",
    )
    full.close()


@pytest.mark.parametrize(("name", "code"), [("fsync", errno.EIO), ("link", errno.ENOSPC)])
def test_a_failing_disk_is_answered_with_a700(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """No path of ours is told to the sender (F-3)."""

    def fail(*_arguments: object, **_more: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, name, fail)
    refusal = _refused(store_request(encoded(ct_data_set())), keeper)
    assert refusal.status == 0xA700
    assert str(keeper.file_store.folder) not in refusal.comment


def test_a_failing_catalog_is_answered_with_a700_and_takes_the_file_back(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither file nor row is left, and the sender may try again (F-2, F-3)."""
    instance = encoded(ct_data_set())

    def fail(_catalog: Catalog, _instance: NewInstance) -> Addition:
        raise CatalogError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "add", fail)
        assert _refused(store_request(instance), keeper).status == 0xA700
    assert send(instance, keeper).status == 0x0000


# --- what comes before what


def test_the_row_is_added_when_the_file_is_durable(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File synced, linked, folder synced, and only then the catalog is told (F-2)."""
    order: list[str] = []
    real_fsync, real_link, real_add = os.fsync, os.link, Catalog.add

    def fsync(descriptor: int) -> None:
        kind = "folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file"
        order.append(f"sync {kind}")
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        order.append("link")
        real_link(source, target)

    def add(catalog: Catalog, instance: NewInstance) -> Addition:
        order.append("row")
        assert keeper.file_store.has(instance.file.path)
        return real_add(catalog, instance)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Catalog, "add", add)
    send(encoded(ct_data_set()), keeper)
    assert order == ["sync file", "sync folder", "sync folder", "link", "sync folder", "row"]


def test_success_is_said_when_another_process_can_see_the_row(
    keeper: Keeper, tmp_path: Path
) -> None:
    """The transaction is committed before the answer (F-2)."""
    instance = encoded(ct_data_set())
    send(instance, keeper)
    other = Catalog(f"sqlite:///{tmp_path}/catalog.sqlite")
    assert other.stored_instance(instance.sop_instance_uid) is not None
    other.close()


# --- a known UID again


def _same_uid(instance: Instance, **attributes: object) -> Instance:
    """Other content under the UIDs of an instance."""
    return encoded(
        ct_data_set(
            SOPInstanceUID=instance.sop_instance_uid,
            StudyInstanceUID=instance.study_instance_uid,
            SeriesInstanceUID=instance.series_instance_uid,
            **attributes,
        )
    )


def test_other_content_under_a_known_uid_is_answered_with_b000(keeper: Keeper) -> None:
    """Stored aside, with a comment: Success would promise that it can be retrieved (F-20)."""
    first = encoded(ct_data_set())
    send(first, keeper)
    response = send(_same_uid(first, PatientID="OTHER"), keeper)
    assert response.status == 0xB000
    assert "quarantine" in response.comment
    assert len(response.comment) <= 64


def test_other_content_is_refused_where_the_policy_says_so(keeper: Keeper) -> None:
    """C002, and nothing of the newcomer is left (F-20)."""
    strict = replace(keeper, on_duplicate=DuplicatePolicy.REJECT)
    first = encoded(ct_data_set())
    send(first, strict)
    before = files_below(keeper.file_store.folder)
    with pytest.raises(DimseFailure) as refusal:
        send(_same_uid(first, PatientID="OTHER"), strict)
    assert refusal.value.status == 0xC002
    assert files_below(keeper.file_store.folder) == before


def test_the_same_bytes_again_are_a_success(keeper: Keeper) -> None:
    """Also where other content would be refused (F-20)."""
    strict = replace(keeper, on_duplicate=DuplicatePolicy.REJECT)
    instance = encoded(ct_data_set())
    send(instance, strict)
    assert send(instance, strict).status == 0x0000
