"""dcmjs-dimse, an implementation that shares no code with the others, against the node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import dcmjs_dimse
from tests.support.instances import Instance, ct_data_set, encoded, write_instance
from tests.support.node import Node, running_node

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node of its own."""
    with running_node(module_folder / "node") as running:
        yield running


@pytest.fixture(scope="module")
def instance(node: Node, module_folder: Path) -> Instance:
    """A small CT instance that dcmjs-dimse has sent to the node."""
    data_set = ct_data_set(
        SpecificCharacterSet="ISO_IR 192",
        PatientID="DCMJS",
        PatientName="Grün^Jörg=山田^太郎",
        StudyDescription="Thorax",
        SeriesDescription="nativ",
        Modality="CT",
    )
    instance = encoded(data_set)
    path = write_instance(instance, module_folder / "ct.dcm")
    (stored,) = dcmjs_dimse.send(node.address, dcmjs_dimse.store(path))
    assert stored.statuses == [0x0000]
    return instance


def test_it_gets_its_echo(node: Node) -> None:
    """C-ECHO: status 0000 (H-5)."""
    (echoed,) = dcmjs_dimse.send(node.address, dcmjs_dimse.echo())
    assert echoed.statuses == [0x0000]


def test_what_it_sends_is_kept(node: Node, instance: Instance) -> None:
    """C-STORE: the instance is in a file of its own, and is found by its UIDs."""
    assert [path.stem for path in node.stored_files() if path.suffix == ".dcm"] == [
        instance.sop_instance_uid
    ]


def test_it_finds_the_study(node: Node, instance: Instance) -> None:
    """C-FIND at the STUDY level: Pending with the asked Attributes, then Success (D-1, D-3)."""
    (found,) = dcmjs_dimse.send(
        node.address,
        dcmjs_dimse.find(
            "STUDY",
            PatientID="DCMJS",
            PatientName="grün*",
            StudyInstanceUID="",
            StudyDescription="",
            ModalitiesInStudy="",
            NumberOfStudyRelatedInstances="",
        ),
    )
    assert found.statuses == [0xFF00, 0x0000]
    (answer,) = found.data_sets
    assert answer["StudyInstanceUID"] == instance.study_instance_uid
    assert answer["StudyDescription"] == "Thorax"
    assert answer["ModalitiesInStudy"] == "CT"
    assert str(answer["NumberOfStudyRelatedInstances"]) == "1"
    assert answer["RetrieveAETitle"] == "PACSNODE"


def test_it_finds_the_series(node: Node, instance: Instance) -> None:
    """C-FIND at the SERIES level with the unique key of the study (B-1)."""
    (found,) = dcmjs_dimse.send(
        node.address,
        dcmjs_dimse.find(
            "SERIES",
            StudyInstanceUID=str(instance.study_instance_uid),
            SeriesInstanceUID="",
            SeriesDescription="nat*",
            Modality="CT",
        ),
    )
    assert found.statuses == [0xFF00, 0x0000]
    (answer,) = found.data_sets
    assert answer["SeriesDescription"] == "nativ"
    assert answer["Modality"] == "CT"


def test_it_is_told_that_there_is_nothing(node: Node, instance: Instance) -> None:
    """No match: Success and nothing else (B-8)."""
    keys = {"StudyInstanceUID": str(instance.study_instance_uid), "AccessionNumber": "NONE"}
    (found,) = dcmjs_dimse.send(node.address, dcmjs_dimse.find("STUDY", **keys))
    assert (found.statuses, found.data_sets) == ([0x0000], [])


def test_its_requests_go_on_one_association(node: Node, instance: Instance) -> None:
    """Several requests one after the other: each gets its own responses."""
    keys = {"StudyInstanceUID": str(instance.study_instance_uid)}
    echoed, studies, refused = dcmjs_dimse.send(
        node.address,
        dcmjs_dimse.echo(),
        dcmjs_dimse.find("STUDY", **keys),
        dcmjs_dimse.find("SERIES", SeriesInstanceUID=""),
    )
    assert echoed.statuses == [0x0000]
    assert studies.statuses == [0xFF00, 0x0000]
    assert refused.statuses == [0xA900]
