"""C-STORE: refused with the status of the plan, or kept byte for byte before success is said."""

import errno
import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import Addition, CatalogError, NewInstance
from pacsnode.dicom.attributes import BY_KEYWORD, Keys, extra_key
from pacsnode.dicom.data_elements import Buffer
from pacsnode.dicom.identifier import parse_query
from pacsnode.dicom.information_model import STUDY_ROOT, Level
from pacsnode.dicom.part10 import file_header
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.transfer_syntax import IMPLICIT_VR_LITTLE_ENDIAN, encoding_of
from pacsnode.file_store import FileStore
from pacsnode.services.c_store import Reception, StoreRequest
from pacsnode.services.keep import DuplicatePolicy, Keeper
from tests.support.archive import data_set_digest, files_below, send, store, store_request
from tests.support.instances import Instance, ct_data_set, encoded, sr_data_set

_CT = "1.2.840.10008.5.1.4.1.1.2"


def _refused(request: StoreRequest, data_set: bytes, keeper: Keeper) -> DimseFailure:
    """The failure; nothing of the instance is left, whether it came in one piece or in several."""
    whole, half = _refusal(request, [data_set], keeper), len(data_set) // 2
    parts = _refusal(request, [data_set[:half], data_set[half:]], keeper)
    assert (parts.status, parts.comment) == (whole.status, whole.comment)
    return whole


def _refusal(request: StoreRequest, parts: Sequence[bytes], keeper: Keeper) -> DimseFailure:
    with pytest.raises(DimseFailure) as refusal:
        _store_parts(request, parts, keeper)
    assert files_below(keeper.file_store.folder) == []
    assert keeper.catalog.stored_instance(request.received.sop_instance_uid) is None
    return refusal.value


def _store_parts(request: StoreRequest, parts: Sequence[bytes], keeper: Keeper) -> None:
    reception = Reception(request, keeper)
    for part in parts[:-1]:
        reception.append([part])
    reception.finish(parts[-1:])


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
    instance = encoded(ct_data_set())
    response = store(store_request(instance), kind(instance.encoded_data_set), keeper)
    kept = keeper.file_store.path(response.keeping.path).read_bytes()
    assert kept.endswith(instance.encoded_data_set)


def _raw(tag: int, value: bytes) -> bytes:
    """An element in Implicit VR Little Endian."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


@pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE])
def test_an_instance_whose_sequence_is_damaged_is_kept(keeper: Keeper, level: Level) -> None:
    """Byte for byte, and catalogued without that Attribute (F-7, F-10, F-25)."""
    keyword = {
        Level.PATIENT: "OtherPatientIDsSequence",
        Level.STUDY: "ProcedureCodeSequence",
        Level.SERIES: "RequestAttributesSequence",
        Level.IMAGE: "ConceptNameCodeSequence",
    }[level]
    instance = encoded(ct_data_set(PatientID="EX1"), IMPLICIT_VR_LITTLE_ENDIAN)
    damaged = instance.encoded_data_set + _raw(BY_KEYWORD[keyword].tag, b"no items")
    response = send(replace(instance, encoded_data_set=damaged), keeper)
    assert response.status == 0x0000
    assert keeper.file_store.path(response.keeping.path).read_bytes().endswith(damaged)
    assert _count(keeper.catalog, {0x0020000D: b"", 0x00100020: b"EX1 "}) == 1


def _count(catalog: Catalog, elements: Mapping[int, bytes]) -> int:
    """How many studies match."""
    identifier = {0x00080052: b"STUDY ", **elements}
    query = parse_query(
        STUDY_ROOT,
        b"".join(_raw(tag, value) for tag, value in sorted(identifier.items())),
        encoding_of(IMPLICIT_VR_LITTLE_ENDIAN),
        keys=catalog.keys,
    )
    return sum(len(page) for page in catalog.find(query))


def test_an_extra_key_is_catalogued_from_now_on(tmp_path: Path) -> None:
    """It is read by the keys of the catalog, and matched."""
    kvp = extra_key(Level.STUDY, tag=0x00180060)
    private = extra_key(Level.STUDY, tag=0x0019000C, vr="LO", private_creator="MADE UP")
    data_set = ct_data_set(KVP=120)
    data_set.private_block(0x0019, "MADE UP", create=True).add_new(0x0C, "LO", "seven")
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.sqlite", Keys([kvp, private]))
    with closing(FileStore(tmp_path / "storage")) as file_store, closing(catalog):
        assert send(encoded(data_set), Keeper(file_store, catalog)).status == 0x0000
        creator = {0x0020000D: b"", 0x00190042: b"MADE UP "}
        assert _count(catalog, {0x0020000D: b"", 0x00180060: b"120 "}) == 1
        assert _count(catalog, {0x0020000D: b"", 0x00180060: b"121 "}) == 0
        assert _count(catalog, {**creator, 0x0019420C: b"sev*"}) == 1
        assert _count(catalog, {**creator, 0x0019420C: b"nine"}) == 0


# --- piece by piece


def _parts(content: bytes, *lengths: int) -> list[list[bytes]]:
    """Return the content in groups of fragments: `lengths` of the first groups, then the rest."""
    groups, start = [], 0
    for length in (*lengths, len(content)):
        group = content[start : start + length]
        middle = len(group) // 3
        groups.append([group[:middle], group[middle:]])
        start += length
    return groups


@pytest.mark.parametrize(
    "lengths",
    [(), (0,), (1,), (1, 1, 1), (300, 100_000), (400_000,), (10**7,)],
    ids=["at once", "nothing first", "one byte", "bytes", "many", "header in one", "nothing last"],
)
def test_pieces_make_the_same_file_and_row_as_the_whole(
    keeper: Keeper, lengths: tuple[int, ...]
) -> None:
    """Header, data set, digest and length do not depend on how the data set arrived (F-10)."""
    instance = encoded(ct_data_set(rows=512, columns=512))
    request, data_set = store_request(instance), instance.encoded_data_set
    reception = Reception(request, keeper)
    *first, last = _parts(data_set, *lengths)
    for fragments in first:
        reception.append(fragments)
    response = reception.finish(last)
    assert (response.status, response.length_bytes) == (0x0000, len(data_set))
    stored = keeper.catalog.stored_instance(instance.sop_instance_uid)
    assert keeper.file_store.path(stored.file.path).read_bytes() == (
        file_header(request.received) + data_set
    )
    assert stored.file.data_set_length_bytes == len(data_set)
    assert stored.file.data_set_sha256 == data_set_digest(data_set)
    assert files_below(keeper.file_store.folder) == [stored.file.path]


def test_what_was_appended_may_be_overwritten(keeper: Keeper) -> None:
    """The network uses its buffer again: nothing of it is held after the call."""
    instance = encoded(ct_data_set())
    content = instance.encoded_data_set
    reception = Reception(store_request(instance), keeper)
    buffer = bytearray(64)
    for start in range(0, len(content) - 64, 64):
        buffer[:] = content[start : start + 64]
        reception.append([memoryview(buffer)])
    rest = (len(content) - 1) // 64 * 64
    path = reception.finish([content[rest:]]).keeping.path
    assert keeper.file_store.path(path).read_bytes().endswith(content)


def test_a_data_set_in_one_piece_is_checked_before_a_file_is_made(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused by its content costs no write."""
    monkeypatch.setattr(FileStore, "incoming", pytest.fail)
    request = store_request(encoded(ct_data_set()))
    with pytest.raises(DimseFailure, match="undecodable"):
        store(request, b"x", keeper)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_data_set_that_is_discarded_leaves_nothing(keeper: Keeper, count: int) -> None:
    """The sender has gone in the middle, and nobody will look for what came (F-2)."""
    instance = encoded(ct_data_set())
    reception = Reception(store_request(instance), keeper)
    for _ in range(count):
        reception.append([instance.encoded_data_set])
    assert len(files_below(keeper.file_store.folder)) == (count > 0)
    reception.discard()
    assert files_below(keeper.file_store.folder) == []


def test_discarding_what_was_kept_does_not_take_it_back(keeper: Keeper) -> None:
    """The response could not be sent, but the instance is kept (F-2)."""
    instance = encoded(ct_data_set())
    reception = Reception(store_request(instance), keeper)
    reception.append([instance.encoded_data_set[:100]])
    path = reception.finish([instance.encoded_data_set[100:]]).keeping.path
    reception.discard()
    assert files_below(keeper.file_store.folder) == [path]


@pytest.mark.parametrize("pieces", [1, 2, 100])
@pytest.mark.parametrize("excess_bytes", [0, 1])
def test_a_data_set_longer_than_allowed_is_answered_with_a700(
    keeper: Keeper, pieces: int, excess_bytes: int
) -> None:
    """As soon as it is too long, and not before; nothing of it is left (F-3)."""
    instance = encoded(ct_data_set())
    content = instance.encoded_data_set
    maximum = len(content) - excess_bytes
    reception = Reception(store_request(instance), keeper, maximum_bytes=maximum)
    length = -(-len(content) // pieces)
    *first, last = [[content[start : start + length]] for start in range(0, len(content), length)]
    for fragments in first:
        reception.append(fragments)
    if not excess_bytes:
        assert reception.finish(last).status == 0x0000
        return
    with pytest.raises(DimseFailure) as refusal:
        reception.finish(last)
    assert (refusal.value.status, refusal.value.comment) == (
        0xA700,
        "data set is longer than storage.maximum_instance_bytes",
    )
    assert files_below(keeper.file_store.folder) == []


def test_a_data_set_that_does_not_end_is_refused_before_its_end(keeper: Keeper) -> None:
    """No more than what is allowed is ever on the disk (F-3)."""
    reception = Reception(store_request(encoded(ct_data_set())), keeper, maximum_bytes=1_000)
    reception.append([bytes(600), bytes(400)])
    with pytest.raises(DimseFailure, match="longer than"):
        reception.append([bytes(1)])
    assert files_below(keeper.file_store.folder) == []
    reception.discard()


@pytest.mark.parametrize(
    ("code", "comment"),
    [(errno.ENOSPC, "no space: cannot write"), (errno.EIO, "storage or catalog failed")],
)
def test_a_disk_that_fails_in_the_middle_is_answered_with_a700(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, code: int, comment: str
) -> None:
    """A part that cannot be written refuses the whole, and takes the parts before with it (F-3)."""

    def fail(_descriptor: int, _fragments: Sequence[Buffer]) -> int:
        raise OSError(code, os.strerror(code))

    reception = Reception(store_request(encoded(ct_data_set())), keeper)
    reception.append([bytes(1_000)])
    monkeypatch.setattr(os, "writev", fail)
    with pytest.raises(DimseFailure) as refusal:
        reception.append([bytes(1_000)])
    assert refusal.value.status == 0xA700
    assert refusal.value.comment.startswith(comment)
    assert files_below(keeper.file_store.folder) == []
    reception.discard()


# --- refusals


def test_a_class_that_is_not_that_of_the_context_is_answered_with_0122(keeper: Keeper) -> None:
    """Command and presentation context have to agree (F-6)."""
    instance = encoded(ct_data_set())
    other = replace(store_request(instance), abstract_syntax="1.2.840.10008.5.1.4.1.1.4")
    assert _refused(other, instance.encoded_data_set, keeper).status == 0x0122


@pytest.mark.parametrize("uid", ["", "1.2.x", "../1", "1" * 65])
def test_a_uid_of_the_command_that_is_none_is_answered_with_0117(keeper: Keeper, uid: str) -> None:
    """Before the data set is looked at (F-3)."""
    request = store_request(encoded(ct_data_set()))
    received = replace(request.received, sop_instance_uid=uid)
    assert _refused(replace(request, received=received), b"x", keeper).status == 0x0117


@pytest.mark.parametrize("data_set", [b"x", b"\x08\x00\x16\x00UI\xff\x00", b"\xff" * 100])
def test_a_data_set_that_cannot_be_decoded_is_answered_with_c000(
    keeper: Keeper, data_set: bytes
) -> None:
    """Garbage and truncation (F-3)."""
    request = store_request(encoded(ct_data_set()))
    assert _refused(request, data_set, keeper).status == 0xC000


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
    lacking = encoded(ct_data_set(**{keyword: None}))
    refusal = _refused(store_request(lacking), lacking.encoded_data_set, keeper)
    assert (refusal.status, refusal.offending_elements) == (0xC001, (tag,))


def test_another_instance_than_the_command_says_is_answered_with_a900(keeper: Keeper) -> None:
    """SOP Instance UID of command and data set differ (F-6)."""
    instance = encoded(ct_data_set())
    request = store_request(instance)
    received = replace(request.received, sop_instance_uid="1.2.3")
    refusal = _refused(replace(request, received=received), instance.encoded_data_set, keeper)
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x00080018,))


def test_another_class_than_the_command_says_is_answered_with_a900(keeper: Keeper) -> None:
    """SOP Class UID of command and data set differ (F-6)."""
    instance = encoded(sr_data_set())
    received = replace(store_request(instance).received, sop_class_uid=_CT)
    refusal = _refused(StoreRequest(received, _CT), instance.encoded_data_set, keeper)
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x00080016,))


def test_no_space_is_answered_with_a700(tmp_path: Path, keeper: Keeper) -> None:
    """Below the reserve (F-3)."""
    full = FileStore(tmp_path / "full", reserve_bytes=2**62)
    instance = encoded(ct_data_set())
    refusal = _refused(
        store_request(instance), instance.encoded_data_set, replace(keeper, file_store=full)
    )
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
    instance = encoded(ct_data_set())
    refusal = _refused(store_request(instance), instance.encoded_data_set, keeper)
    assert refusal.status == 0xA700
    assert str(keeper.file_store.folder) not in refusal.comment


def test_a_failing_catalog_is_answered_with_a700_and_takes_the_file_back(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither file nor row is left, and the sender may try again (F-2, F-3)."""
    instance = encoded(ct_data_set())

    def fail(_catalog: Catalog, _instances: Sequence[NewInstance]) -> Sequence[Addition]:
        raise CatalogError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "add_all", fail)
        data_set = instance.encoded_data_set
        assert _refused(store_request(instance), data_set, keeper).status == 0xA700
    assert send(instance, keeper).status == 0x0000


# --- what comes before what


@pytest.mark.parametrize("pieces", [1, 2])
def test_the_row_is_added_when_the_file_is_durable(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    """File synced, folders synced, and only then the catalog is told, however it came (F-2)."""
    order: list[str] = []
    real_fsync, real_add_all = os.fsync, Catalog.add_all

    def fsync(descriptor: int) -> None:
        kind = "folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file"
        order.append(f"sync {kind}")
        real_fsync(descriptor)

    def add_all(catalog: Catalog, instances: Sequence[NewInstance]) -> Sequence[Addition]:
        order.append("row")
        assert all(keeper.file_store.has(instance.file.path) for instance in instances)
        return real_add_all(catalog, instances)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Catalog, "add_all", add_all)
    instance = encoded(ct_data_set())
    length = -(-len(instance.encoded_data_set) // pieces)
    parts = [instance.encoded_data_set[n * length : (n + 1) * length] for n in range(pieces)]
    _store_parts(store_request(instance), parts, keeper)
    assert [*dict.fromkeys(order)] == ["sync file", "sync folder", "row"]
    assert order.index("row") == len(order) - 1


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
