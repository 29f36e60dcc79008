"""Orthanc and the node: each sends to the other, and each asks the other to."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.support import collection, dcmtk
from tests.support.collection import NATIVE, S1, S1_SR, S4
from tests.support.instances import (
    Instance,
    ct_data_set,
    encoded,
    encoded_data_set_of,
    many_instances,
    sr_data_set,
    write_instance,
)
from tests.support.node import Node, free_port, running_node
from tests.support.orthanc import Orthanc, orthanc
from tests.support.wire import store_all

pytestmark = pytest.mark.interop


@dataclass(frozen=True)
class Place:
    """The node, which holds the collection, and Orthanc, which holds nothing."""

    node: Node
    orthanc: Orthanc
    compressed: dict[str, Instance]


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """Both, each with the other among its remote AEs."""
    compressed = collection.compressed(module_folder)
    port = free_port()
    remote_aes = [{"ae_title": "ORTHANC", "host": "127.0.0.1", "port": port}]
    with (
        running_node(module_folder / "node", remote_aes=remote_aes) as node,
        orthanc(module_folder / "orthanc", port, {"PACSNODE": node.address}) as peer,
    ):
        store_all(node.address, [*NATIVE.values(), *compressed.values()])
        yield Place(node, peer, compressed)


@pytest.fixture(autouse=True)
def _empty_orthanc(place: Place) -> None:
    place.orthanc.forget()


def _keys(level: str, **keys: str) -> list[str]:
    return [f"QueryRetrieveLevel={level}", *(f"{name}={value}" for name, value in keys.items())]


def _in_node(node: Node, uids: Collection[str]) -> dict[str, bytes]:
    """Return those of these Data Sets that the node keeps, by SOP Instance UID."""
    kept = {path.stem: path for path in node.stored_files()}
    return {uid: encoded_data_set_of(kept[uid]) for uid in uids if uid in kept}


def test_a_study_arrives_in_orthanc(place: Place) -> None:
    """C-MOVE of the node to Orthanc: images and a report, byte for byte as Orthanc keeps them."""
    moved = dcmtk.movescu(
        place.node.address, "STUDY", "ORTHANC", _keys("STUDY", StudyInstanceUID=S1)
    )

    assert (moved.status, moved.counters) == (0x0000, (None, 4, 0, 0))
    assert place.orthanc.data_sets() == collection.of(NATIVE, S1)


def test_a_patient_arrives_in_orthanc(place: Place) -> None:
    """Patient Root, PATIENT level: both studies."""
    moved = dcmtk.movescu(
        place.node.address, "PATIENT", "ORTHANC", _keys("PATIENT", PatientID="RET1")
    )

    assert (moved.status, moved.counters) == (0x0000, (None, 6, 0, 0))
    assert place.orthanc.data_sets() == collection.of(NATIVE, "RET1")


def test_compressed_instances_arrive_in_orthanc_as_they_are(place: Place) -> None:
    """Orthanc takes each of these Transfer Syntaxes: nothing is decoded on the way (E-33)."""
    moved = dcmtk.movescu(
        place.node.address, "STUDY", "ORTHANC", _keys("STUDY", StudyInstanceUID=S4)
    )

    assert moved.failed_sop_instance_uids == set()
    assert (moved.status, moved.counters) == (0x0000, (None, len(place.compressed), 0, 0))
    received = {uid: dcmread(path) for uid, path in place.orthanc.files().items()}
    assert received.keys() == place.compressed.keys()
    for uid, instance in place.compressed.items():
        assert received[uid].file_meta.TransferSyntaxUID == instance.transfer_syntax_uid
        if instance.transfer_syntax_uid != DeflatedExplicitVRLittleEndian:
            assert received[uid].PixelData in instance.encoded_data_set


def test_orthanc_retrieves_what_it_has_found(place: Place) -> None:
    """Its C-FIND, then a C-MOVE to itself for each match: the study is whole."""
    query = place.orthanc.query("PACSNODE", "Study", {"PatientID": "RET1"})
    assert place.orthanc.answers(query) == 2

    place.orthanc.retrieve(query, "ORTHANC")

    assert place.orthanc.data_sets() == collection.of(NATIVE, "RET1")


def test_orthanc_retrieves_a_series(place: Place) -> None:
    """The same at SERIES level."""
    keys = {"StudyInstanceUID": S1, "SeriesInstanceUID": S1_SR}
    query = place.orthanc.query("PACSNODE", "Series", keys)
    assert place.orthanc.answers(query) == 1

    place.orthanc.retrieve(query, "ORTHANC")

    assert place.orthanc.data_sets() == collection.of(NATIVE, S1_SR)


def test_orthanc_moves_a_study_to_the_node(place: Place, tmp_path: Path) -> None:
    """Its C-MOVE SCP, asked by movescu: the node keeps the bytes that Orthanc had."""
    instances = [
        *many_instances(3, PatientID="MOVED"),
        encoded(sr_data_set(PatientID="MOVED")),
    ]
    for number, instance in enumerate(instances):
        place.orthanc.add(write_instance(instance, tmp_path / f"{number}.dcm"))

    moved = dcmtk.movescu(
        place.orthanc.address,
        "PATIENT",
        "PACSNODE",
        _keys("PATIENT", PatientID="MOVED"),
        called="ORTHANC",
    )

    assert moved.status == 0x0000
    sent = {each.sop_instance_uid: each.encoded_data_set for each in instances}
    assert _in_node(place.node, sent) == sent


def test_orthanc_sends_a_study_to_the_node(place: Place, tmp_path: Path) -> None:
    """Told to by its HTTP API; the node hands it back to it as it came."""
    instance = encoded(ct_data_set(PatientID="SENT"))
    study = str(instance.study_instance_uid)
    place.orthanc.add(write_instance(instance, tmp_path / "ct.dcm"))

    sent = place.orthanc.store_study("PACSNODE", study)

    assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (1, 0)
    place.orthanc.forget()
    moved = dcmtk.movescu(
        place.node.address, "STUDY", "ORTHANC", _keys("STUDY", StudyInstanceUID=study)
    )
    assert (moved.status, moved.counters) == (0x0000, (None, 1, 0, 0))
    assert place.orthanc.data_sets() == {instance.sop_instance_uid: instance.encoded_data_set}
