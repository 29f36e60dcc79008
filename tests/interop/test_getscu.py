"""DCMTK's getscu against the node: every level of both roots, native and compressed instances."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from tests.support import collection, dcmtk
from tests.support.collection import NATIVE, S1, S1_CT, S1_SR, S2, S3, S4, S4_OT
from tests.support.dcmtk import Got
from tests.support.instances import Instance, encoded_data_set_of, many_instances
from tests.support.node import Node, running_node
from tests.support.wire import store_all

pytestmark = pytest.mark.interop

_FIRST_CT = f"{S1_CT}.1"


@pytest.fixture(scope="module")
def compressed(module_folder: Path) -> dict[str, Instance]:
    """The instances of S4."""
    return collection.compressed(module_folder)


@pytest.fixture(scope="module")
def node(module_folder: Path, compressed: dict[str, Instance]) -> Iterator[Node]:
    """A node that holds the collection and knows nobody: a C-GET needs no remote AE."""
    with running_node(module_folder / "node") as running:
        store_all(running.address, [*NATIVE.values(), *compressed.values()])
        yield running


def _get(node: Node, folder: Path, root: str, level: str, *options: str, **keys: str) -> Got:
    words = [f"QueryRetrieveLevel={level}", *(f"{name}={value}" for name, value in keys.items())]
    return dcmtk.getscu(node.address, root, words, folder, *options)


def _data_sets(got: Got) -> dict[str, bytes]:
    return {uid: encoded_data_set_of(path) for uid, path in got.files.items()}


@pytest.mark.parametrize(
    ("root", "level", "keys", "above"),
    [
        ("PATIENT", "PATIENT", {"PatientID": "RET1"}, "RET1"),
        ("PATIENT", "STUDY", {"PatientID": "RET1", "StudyInstanceUID": S1}, S1),
        (
            "PATIENT",
            "SERIES",
            {"PatientID": "RET1", "StudyInstanceUID": S1, "SeriesInstanceUID": S1_CT},
            S1_CT,
        ),
        (
            "PATIENT",
            "IMAGE",
            {
                "PatientID": "RET1",
                "StudyInstanceUID": S1,
                "SeriesInstanceUID": S1_CT,
                "SOPInstanceUID": _FIRST_CT,
            },
            _FIRST_CT,
        ),
        ("STUDY", "STUDY", {"StudyInstanceUID": S1}, S1),
        ("STUDY", "SERIES", {"StudyInstanceUID": S1, "SeriesInstanceUID": S1_SR}, S1_SR),
        (
            "STUDY",
            "IMAGE",
            {"StudyInstanceUID": S1, "SeriesInstanceUID": S1_CT, "SOPInstanceUID": _FIRST_CT},
            _FIRST_CT,
        ),
    ],
)
def test_every_instance_comes_byte_for_byte(
    node: Node, tmp_path: Path, root: str, level: str, keys: dict[str, str], above: str
) -> None:
    """All below the entity and nothing else, as it was stored; the counters say so (E-2, E-9)."""
    got = _get(node, tmp_path, root, level, **keys)

    expected = collection.of(NATIVE, above)
    assert (got.status, got.counters) == (0x0000, (None, len(expected), 0, 0))
    assert _data_sets(got) == expected


def test_a_list_of_studies_comes(node: Node, tmp_path: Path) -> None:
    """Two that are there, one of them twice, and one that is not (E-2)."""
    got = _get(node, tmp_path, "STUDY", "STUDY", StudyInstanceUID=f"{S2}\\{S3}\\1.2.3\\{S2}")

    assert (got.status, got.counters) == (0x0000, (None, 3, 0, 0))
    assert _data_sets(got) == collection.of(NATIVE, S2) | collection.of(NATIVE, S3)


def test_no_match_is_success(node: Node, tmp_path: Path) -> None:
    """A study that is not held (E-3)."""
    got = _get(node, tmp_path, "STUDY", "STUDY", StudyInstanceUID="1.2.3")

    assert got.status == 0x0000
    assert got.files == {}


def test_compressed_instances_come_decompressed(
    node: Node, compressed: dict[str, Instance], tmp_path: Path
) -> None:
    """The tool's default proposes native syntaxes only: the same pixels, natively (E-33)."""
    got = _get(node, tmp_path / "got", "STUDY", "STUDY", StudyInstanceUID=S4)

    assert (got.status, got.counters) == (0x0000, (None, len(compressed), 0, 0))
    assert got.files.keys() == compressed.keys()
    for uid, instance in compressed.items():
        data_set = dcmread(got.files[uid])
        assert data_set.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert data_set.SOPInstanceUID == uid
        assert collection.pixels_in(got.files[uid]) == collection.pixels_of(instance, tmp_path)


@pytest.mark.parametrize("option", ["+xs", "+xy", "+xx", "+xv", "+xw", "+xt", "+xu", "+xr", "+xd"])
def test_a_requestor_that_prefers_a_compression_gets_everything(
    node: Node, compressed: dict[str, Instance], tmp_path: Path, option: str
) -> None:
    """A context for it and for native ones together: it can be no obstacle for either (E-40)."""
    series = {"StudyInstanceUID": S4, "SeriesInstanceUID": S4_OT}

    native = _get(node, tmp_path / "native", "STUDY", "STUDY", option, StudyInstanceUID=S1)
    got = _get(node, tmp_path / "compressed", "STUDY", "SERIES", option, **series)

    assert (native.status, native.counters) == (0x0000, (None, 4, 0, 0))
    assert _data_sets(native) == collection.of(NATIVE, S1)
    assert (got.status, got.counters) == (0x0000, (None, len(compressed), 0, 0))
    assert got.files.keys() == compressed.keys()


@pytest.mark.parametrize("length", ["4096", "131072"])
def test_a_large_instance_comes_in_pdus_of_the_length_that_is_taken(
    node: Node, tmp_path: Path, length: str
) -> None:
    """A megabyte of pixels at the shortest and the longest PDU that the tool can announce (H-6)."""
    (instance,) = many_instances(1, rows=720, columns=720, PatientID="LARGE")
    store_all(node.address, [instance])

    got = _get(node, tmp_path, "PATIENT", "PATIENT", "--max-pdu", length, PatientID="LARGE")

    assert got.status == 0x0000
    assert _data_sets(got)[instance.sop_instance_uid] == instance.encoded_data_set


def test_getscu_that_aborts_leaves_the_node_as_it_was(node: Node, tmp_path: Path) -> None:
    """`--abort` in place of a release: the next one is served."""
    _get(node, tmp_path / "aborted", "STUDY", "STUDY", "--abort", StudyInstanceUID=S1)

    got = _get(node, tmp_path / "next", "STUDY", "STUDY", StudyInstanceUID=S1)

    assert (got.status, got.counters) == (0x0000, (None, 4, 0, 0))
