"""Another vendor's tools against the node: each of DCMTK's that a site may use."""

from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage

from tests.support import collection, dcmtk
from tests.support.collection import NATIVE, S1
from tests.support.dcmtk import Receiver
from tests.support.instances import (
    Instance,
    ct_data_set,
    encoded,
    encoded_data_set_of,
    many_instances,
    read_part10,
    sr_data_set,
    write_instance,
)
from tests.support.node import Node, free_port, running_node
from tests.support.waiting import wait_until
from tests.support.wire import store_all

pytestmark = pytest.mark.interop

_REAL = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture(scope="module")
def receiver(module_folder: Path) -> Iterator[Receiver]:
    """A storescp that the node knows as STORESCP."""
    with dcmtk.storescp(module_folder / "received", "STORESCP") as running:
        yield running


@pytest.fixture(scope="module")
def archive_port() -> int:
    """Where a dcmqrscp listens while a test runs one; the node knows it as DCMQRSCP."""
    return free_port()


@pytest.fixture(scope="module")
def node(module_folder: Path, receiver: Receiver, archive_port: int) -> Iterator[Node]:
    """A node with the collection that knows storescp, dcmqrscp, and a port of nobody."""
    ports = {"STORESCP": receiver.port, "DCMQRSCP": archive_port, "DOWN": free_port()}
    remote_aes = [
        {"ae_title": title, "host": "127.0.0.1", "port": port} for title, port in ports.items()
    ]
    with running_node(module_folder / "node", remote_aes=remote_aes) as running:
        store_all(running.address, list(NATIVE.values()))
        yield running


@pytest.fixture(autouse=True)
def _empty_receiver(receiver: Receiver) -> None:
    for path in receiver.files():
        path.unlink()


def _study_keys(study: str, *more: str) -> list[str]:
    return ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}", *more]


def _image_keys(path: Path) -> list[str]:
    """Return the keys that find the instance in a file at IMAGE level of Study Root."""
    data_set = dcmread(path, stop_before_pixels=True)
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return [
        "QueryRetrieveLevel=IMAGE",
        *(f"{keyword}={data_set[keyword].value}" for keyword in keywords),
    ]


def _moved_back(node: Node, receiver: Receiver, instance: Instance) -> bytes:
    """Have the study of one instance delivered to storescp; return the Data Set as it came."""
    keys = _study_keys(str(instance.study_instance_uid))
    moved = dcmtk.movescu(node.address, "STUDY", "STORESCP", keys)
    assert (moved.status, moved.counters) == (0x0000, (None, 1, 0, 0))
    (path,) = receiver.files()
    return encoded_data_set_of(path)


def test_echoscu_gets_success(node: Node) -> None:
    """C-ECHO: status 0000 (H-5)."""
    done = dcmtk.echoscu(node.address)

    assert done.exit_code == 0
    assert "Received Echo Response (Success)" in done.output


def test_echoscu_under_a_wrong_title_is_rejected(node: Node) -> None:
    """The tool reports the rejection and its reason (H-1)."""
    done = dcmtk.echoscu(node.address, called="NOBODY")

    assert done.exit_code != 0
    assert "Called AE Title Not Recognized" in done.output


def test_echoscu_with_many_contexts_and_syntaxes_gets_success(node: Node) -> None:
    """128 contexts with all Transfer Syntaxes that the tool knows."""
    done = dcmtk.echoscu(node.address, "-ppc", "128", "-pts", "38")

    assert done.exit_code == 0
    assert "Received Echo Response (Success)" in done.output


@pytest.mark.parametrize(
    ("option", "name", "transfer_syntax"),
    [
        ("-xe", "CT_small.dcm", b"1.2.840.10008.1.2.1"),
        ("-xb", "SC_rgb_small_odd_big_endian.dcm", b"1.2.840.10008.1.2.2"),
        ("-xi", "CT_small.dcm", b"1.2.840.10008.1.2"),
        ("-xd", "image_dfl.dcm", b"1.2.840.10008.1.2.1.99"),
        ("-xy", "SC_rgb_jpeg_dcmtk.dcm", b"1.2.840.10008.1.2.4.50"),
        ("-xx", "JPGExtended.dcm", b"1.2.840.10008.1.2.4.51"),
        ("-xs", "SC_rgb_jpeg_gdcm.dcm", b"1.2.840.10008.1.2.4.70"),
        ("-xt", "MR_small_jpeg_ls_lossless.dcm", b"1.2.840.10008.1.2.4.80"),
        ("-xv", "GDCMJ2K_TextGBR.dcm", b"1.2.840.10008.1.2.4.90"),
        ("-xw", "693_J2KI.dcm", b"1.2.840.10008.1.2.4.91"),
        ("-xr", "MR_small_RLE.dcm", b"1.2.840.10008.1.2.5"),
    ],
)
def test_storescu_sends_in_the_transfer_syntax_it_prefers(
    node: Node, option: str, name: str, transfer_syntax: bytes
) -> None:
    """Success, and the file is kept in that syntax, with ours as Implementation Class (F-11)."""
    # A new SOP Instance UID each time, so that no file is a duplicate of another.
    before = set(node.stored_files())

    sent = dcmtk.storescu(node.address, [_REAL / name], "-R", "+II", option, "-aet", "MODALITY")

    assert (sent.exit_code, sent.statuses) == (0, [0x0000])
    (path,) = set(node.stored_files()) - before
    meta, _ = read_part10(path)
    assert meta[0x0010].rstrip(b"\0") == transfer_syntax
    assert meta[0x0016].strip() == b"MODALITY"
    assert not meta[0x0012].startswith((b"1.2.276.0.7230010", b"1.2.826.0.1.3680043.9.3811"))
    assert int.from_bytes(meta[0x0000], "little") > 0
    # DCMTK can read the whole file.
    assert "PixelData" in dcmtk.dcmdump(path)


def test_storescu_with_all_its_contexts_is_served(node: Node, tmp_path: Path) -> None:
    """The tool's default: every storage class it knows is proposed."""
    path = write_instance(encoded(ct_data_set()), tmp_path / "ct.dcm")

    sent = dcmtk.storescu(node.address, [path])

    assert (sent.exit_code, sent.statuses) == (0, [0x0000])


@pytest.mark.parametrize(
    "name", ["GDCMJ2K_TextGBR.dcm", "SC_rgb_rle.dcm", "J2K_pixelrep_mismatch.dcm"]
)
def test_dcmsend_sends_compressed_files_as_they_are(
    node: Node, receiver: Receiver, name: str
) -> None:
    """JPEG 2000 and RLE files are delivered with the bytes they have on disk."""
    path = _REAL / name

    sent = dcmtk.dcmsend(node.address, [path], "--decompress-never")

    assert (sent.exit_code, sent.statuses) == (0, [0x0000])
    moved = dcmtk.movescu(node.address, "STUDY", "STORESCP", _image_keys(path))
    assert (moved.status, moved.counters) == (0x0000, (None, 1, 0, 0))
    (delivered,) = receiver.files()
    assert encoded_data_set_of(delivered) == encoded_data_set_of(path)


def test_a_deflated_data_set_of_odd_length_is_padded_on_the_wire(
    node: Node, receiver: Receiver
) -> None:
    """An imported file lacks the NULL byte at its end; the destination gets it (PS3.5 A.5)."""
    path = _REAL / "image_dfl.dcm"
    assert len(encoded_data_set_of(path)) % 2 == 1
    assert node.run("import", str(path)).returncode == 0

    moved = dcmtk.movescu(node.address, "STUDY", "STORESCP", _image_keys(path))

    assert (moved.status, moved.counters) == (0x0000, (None, 1, 0, 0))
    (delivered,) = receiver.files()
    assert encoded_data_set_of(delivered) == encoded_data_set_of(path) + b"\0"


def test_dcmsend_sends_a_folder_in_one_association(node: Node, tmp_path: Path) -> None:
    """Many files: all are answered with Success and found with the right number."""
    instances = list(many_instances(30))
    for number, instance in enumerate(instances):
        write_instance(instance, tmp_path / "many" / f"{number}.dcm")

    sent = dcmtk.dcmsend(node.address, [tmp_path / "many"], "+sd")

    assert (sent.exit_code, sent.statuses) == (0, [0x0000] * 30)
    keys = _study_keys(str(instances[0].study_instance_uid), "NumberOfStudyRelatedInstances")
    found = dcmtk.findscu(node.address, "STUDY", keys, tmp_path / "found")
    assert [each.NumberOfStudyRelatedInstances for each in found.identifiers] == [30]


def test_findscu_shows_offending_element_and_error_comment(node: Node, tmp_path: Path) -> None:
    """An invalid Identifier: A900, and the tool prints what the node says of it (B-19)."""
    keys = ["QueryRetrieveLevel=SERIES", "SeriesInstanceUID"]

    found = dcmtk.findscu(node.address, "STUDY", keys, tmp_path)

    assert f"{found.status:04X}" == "A900"
    assert found.identifiers == []
    assert "(0020,000d)" in found.output
    assert "(0000,0902)" in found.output


def test_findscu_in_big_endian_is_understood(
    node: Node, receiver: Receiver, tmp_path: Path
) -> None:
    """A tool that lists Big Endian first gets its answer in what was negotiated."""
    instance = encoded(ct_data_set(PatientID="EX-BIG", PatientName="Big^Endian"))
    dcmtk.storescu(node.address, [write_instance(instance, tmp_path / "ct.dcm")])
    keys = _study_keys(str(instance.study_instance_uid), "PatientName")

    found = dcmtk.findscu(node.address, "STUDY", keys, tmp_path / "found", "-xb")

    assert [str(each.PatientName) for each in found.identifiers] == ["Big^Endian"]
    assert receiver.files() == []


def test_findscu_can_cancel(node: Node, tmp_path: Path) -> None:
    """After a C-CANCEL the query ends with FE00, or was complete by then; both are legal."""
    instances = [encoded(ct_data_set(AccessionNumber="CANCEL")) for _ in range(40)]
    paths = [
        write_instance(instance, tmp_path / "ct" / f"{number}.dcm")
        for number, instance in enumerate(instances)
    ]
    dcmtk.dcmsend(node.address, paths)
    keys = ["QueryRetrieveLevel=STUDY", "StudyInstanceUID", "AccessionNumber=CANCEL"]

    found = dcmtk.findscu(node.address, "STUDY", keys, tmp_path / "found", "--cancel", "1")

    assert found.status in {0xFE00, 0x0000}
    assert dcmtk.echoscu(node.address).exit_code == 0


def test_movescu_reports_the_counters(node: Node, receiver: Receiver, tmp_path: Path) -> None:
    """STUDY level: Success, counters, Move Originator as storescp sees it (E-9, E-14)."""
    instances = list(many_instances(4))
    paths = [
        write_instance(instance, tmp_path / f"{number}.dcm")
        for number, instance in enumerate(instances)
    ]
    dcmtk.dcmsend(node.address, paths)
    keys = _study_keys(str(instances[0].study_instance_uid))

    moved = dcmtk.movescu(node.address, "STUDY", "STORESCP", keys, "-aet", "VIEWER")

    assert (moved.status, moved.counters) == (0x0000, (None, 4, 0, 0))
    assert {encoded_data_set_of(path) for path in receiver.files()} == {
        instance.encoded_data_set for instance in instances
    }
    lines = [line for line in receiver.log.splitlines() if "Move Originator AE Title" in line]
    assert lines[-1].endswith(": VIEWER")


def test_movescu_to_an_unknown_destination_gets_a801(node: Node) -> None:
    """A801 (E-4)."""
    moved = dcmtk.movescu(node.address, "STUDY", "NOWHERE", _study_keys("1.2.3"))

    assert f"{moved.status:04X}" == "A801"


def test_movescu_to_a_destination_that_is_down_gets_a702(node: Node, tmp_path: Path) -> None:
    """A702 and the failed instance (E-5)."""
    instance = encoded(ct_data_set())
    dcmtk.storescu(node.address, [write_instance(instance, tmp_path / "ct.dcm")])
    keys = _study_keys(str(instance.study_instance_uid))

    moved = dcmtk.movescu(node.address, "STUDY", "DOWN", keys)

    assert f"{moved.status:04X}" == "A702"
    assert moved.counters == (None, 0, 1, 0)
    assert moved.failed_sop_instance_uids == {instance.sop_instance_uid}


def test_movescu_can_cancel(node: Node, tmp_path: Path) -> None:
    """--cancel 1: FE00, and what was not started remains (E-17)."""
    instances = list(many_instances(400, rows=64, columns=64))
    for number, instance in enumerate(instances):
        write_instance(instance, tmp_path / "many" / f"{number}.dcm")
    assert dcmtk.dcmsend(node.address, [tmp_path / "many"], "+sd").exit_code == 0
    keys = _study_keys(str(instances[0].study_instance_uid))

    moved = dcmtk.movescu(node.address, "STUDY", "STORESCP", keys, "--cancel", "1")

    assert f"{moved.status:04X}" == "FE00"
    remaining, completed, failed, warning = moved.counters
    assert (failed, warning) == (0, 0)
    assert remaining is not None
    assert completed is not None
    assert remaining + completed == 400
    assert remaining > 0


def test_storescp_that_breaks_off_fails_the_rest(node: Node, tmp_path: Path) -> None:
    """A destination that aborts during each object: A702 or B000, and the node serves on (E-19)."""
    instances = list(many_instances(3))
    paths = [
        write_instance(instance, tmp_path / f"{number}.dcm")
        for number, instance in enumerate(instances)
    ]
    dcmtk.dcmsend(node.address, paths)
    keys = _study_keys(str(instances[0].study_instance_uid))
    port = next(each["port"] for each in node.settings["remote_aes"] if each["ae_title"] == "DOWN")

    with dcmtk.storescp(tmp_path / "received", "DOWN", port, "--abort-after"):
        moved = dcmtk.movescu(node.address, "STUDY", "DOWN", keys)

    remaining, completed, failed, warning = moved.counters
    assert f"{moved.status:04X}" == "A702"
    assert (remaining, completed, failed, warning) == (None, 0, 3, 0)
    assert dcmtk.echoscu(node.address).exit_code == 0


def test_dcmqrscp_is_a_destination_like_any_other(
    node: Node, archive_port: int, tmp_path: Path
) -> None:
    """C-MOVE of the node to another archive: a patient with two studies, byte for byte."""
    with dcmtk.dcmqrscp(tmp_path, "DCMQRSCP", archive_port, {}, "--bit-preserving") as archive:
        keys = ["QueryRetrieveLevel=PATIENT", "PatientID=RET1"]
        moved = dcmtk.movescu(node.address, "PATIENT", "DCMQRSCP", keys)
        files = [path for path in archive.iterdir() if path.name != "index.dat"]

    assert (moved.status, moved.counters) == (0x0000, (None, 6, 0, 0))
    assert sorted(map(encoded_data_set_of, files)) == sorted(collection.of(NATIVE, "RET1").values())


def test_dcmqrscp_delivers_to_the_node(node: Node, archive_port: int, tmp_path: Path) -> None:
    """Its C-MOVE, asked for by movescu: the node keeps the bytes that it had."""
    instances = {
        each.sop_instance_uid: each
        for each in (
            *many_instances(2, PatientID="VISITOR"),
            encoded(sr_data_set(PatientID="VISITOR")),
        )
    }
    paths = [
        write_instance(each, tmp_path / "sent" / f"{uid}.dcm") for uid, each in instances.items()
    ]
    peers = {"PACSNODE": node.address}
    with dcmtk.dcmqrscp(tmp_path, "DCMQRSCP", archive_port, peers, "--bit-preserving"):
        there = ("127.0.0.1", archive_port)
        sent = dcmtk.dcmsend(there, paths, called="DCMQRSCP")
        assert sent.statuses == [0x0000] * 3
        keys = ["QueryRetrieveLevel=PATIENT", "PatientID=VISITOR"]
        moved = dcmtk.movescu(there, "PATIENT", "PACSNODE", keys, called="DCMQRSCP")

    assert (moved.status, moved.counters) == (0x0000, (None, 3, 0, 0))
    kept = {path.stem: path for path in node.stored_files()}
    for uid, instance in instances.items():
        assert encoded_data_set_of(kept[uid]) == instance.encoded_data_set


@pytest.mark.parametrize(
    ("root", "keys", "above"),
    [
        ("PATIENT", ["QueryRetrieveLevel=PATIENT", "PatientID=RET1"], "RET1"),
        ("STUDY", ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={S1}\\1.2.3"], S1),
    ],
)
def test_storescp_gets_all_that_is_below(
    node: Node, receiver: Receiver, root: str, keys: list[str], above: str
) -> None:
    """A patient with two studies; a list of UIDs of which one is not held (E-2)."""
    expected = collection.of(NATIVE, above)

    moved = dcmtk.movescu(node.address, root, "STORESCP", keys)

    assert (moved.status, moved.counters) == (0x0000, (None, len(expected), 0, 0))
    assert {
        path.name.partition(".")[2]: encoded_data_set_of(path) for path in receiver.files()
    } == expected


def test_a_structured_report_keeps_its_sequences(
    node: Node, receiver: Receiver, tmp_path: Path
) -> None:
    """Storescu to the node, movescu to storescp: every byte of an SR with nested sequences."""
    instance = encoded(sr_data_set())
    assert instance.sop_class_uid == BasicTextSRStorage
    dcmtk.storescu(node.address, [write_instance(instance, tmp_path / "sr.dcm")])

    assert _moved_back(node, receiver, instance) == instance.encoded_data_set
    (path,) = receiver.files()
    assert "ContentSequence" in dcmtk.dcmdump(path)


def test_storescu_that_aborts_leaves_what_was_acknowledged(
    node: Node, receiver: Receiver, tmp_path: Path
) -> None:
    """--abort instead of a release: the object was stored and stays (F-14)."""
    instance = encoded(ct_data_set())

    sent = dcmtk.storescu(node.address, [write_instance(instance, tmp_path / "ct.dcm")], "--abort")

    assert sent.statuses == [0x0000]
    assert _moved_back(node, receiver, instance) == instance.encoded_data_set
    wait_until(lambda: dcmtk.echoscu(node.address).exit_code == 0, "the node to answer")
