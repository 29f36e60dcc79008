"""dcmjs-dimse retrieves from the node: by C-MOVE to itself, by C-GET."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.support import collection, dcmjs_dimse
from tests.support.collection import NATIVE, S1, S1_CT, S1_SR, S4
from tests.support.instances import Instance
from tests.support.node import Node, running_node
from tests.support.wire import store_all

pytestmark = pytest.mark.interop


@dataclass(frozen=True)
class Place:
    """The node, which holds the collection, and the folder of a Storage SCP called DCMJSSCP."""

    node: Node
    received: Path
    compressed: dict[str, Instance]

    def data_sets(self) -> dict[str, bytes]:
        """Return what has arrived since the last call, by SOP Instance UID."""
        found = {path.name: path.read_bytes() for path in self.received.iterdir()}
        for path in self.received.iterdir():
            path.unlink()
        return found


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """Both at work."""
    compressed = collection.compressed(module_folder)
    received = module_folder / "received"
    with dcmjs_dimse.storage_scp(received) as port:
        remote_aes = [{"ae_title": "DCMJSSCP", "host": "127.0.0.1", "port": port}]
        with running_node(module_folder / "node", remote_aes=remote_aes) as node:
            store_all(node.address, [*NATIVE.values(), *compressed.values()])
            yield Place(node, received, compressed)


@pytest.mark.parametrize(
    ("level", "uids"),
    [("STUDY", (S1,)), ("SERIES", (S1, S1_SR)), ("IMAGE", (S1, S1_CT, f"{S1_CT}.2"))],
)
def test_what_it_moves_arrives_byte_for_byte(
    place: Place, level: str, uids: tuple[str, ...]
) -> None:
    """C-MOVE, with its own Storage SCP as the destination."""
    expected = collection.of(NATIVE, uids[-1])

    (moved,) = dcmjs_dimse.send(place.node.address, dcmjs_dimse.move(level, "DCMJSSCP", *uids))

    assert moved.statuses[-1] == 0x0000
    assert set(moved.statuses[:-1]) <= {0xFF00}
    assert moved.counters == [len(expected), 0, 0]
    assert place.data_sets() == expected


def test_compressed_instances_arrive_as_they_are(place: Place) -> None:
    """Its Storage SCP takes the first Transfer Syntax of each context: ours has one (E-31)."""
    (moved,) = dcmjs_dimse.send(place.node.address, dcmjs_dimse.move("STUDY", "DCMJSSCP", S4))

    assert (moved.statuses[-1], moved.counters) == (0x0000, [len(place.compressed), 0, 0])
    assert place.data_sets() == collection.of(place.compressed, S4)


def test_an_unknown_destination_is_told(place: Place) -> None:
    """A801 (E-4)."""
    (moved,) = dcmjs_dimse.send(place.node.address, dcmjs_dimse.move("STUDY", "NOBODY", S1))

    assert moved.statuses == [0xA801]


def test_what_it_gets_is_what_was_stored(place: Place, tmp_path: Path) -> None:
    """C-GET of a study: it encodes anew what it writes, so the values are compared."""
    (got,) = dcmjs_dimse.send(place.node.address, dcmjs_dimse.get("STUDY", tmp_path, S1))

    assert (got.statuses[-1], got.counters) == (0x0000, [4, 0, 0])
    expected = collection.of(NATIVE, S1)
    assert {path.name for path in tmp_path.iterdir()} == expected.keys()
    for path in tmp_path.iterdir():
        data_set = dcmread(path)
        assert data_set.SOPInstanceUID == path.name
        if "PixelData" in data_set:
            assert data_set.PixelData in expected[path.name]


def test_its_requests_go_on_one_association(place: Place, tmp_path: Path) -> None:
    """A C-MOVE and a C-GET one after the other, each with its own responses."""
    moved, got = dcmjs_dimse.send(
        place.node.address,
        dcmjs_dimse.move("SERIES", "DCMJSSCP", S1, S1_SR),
        dcmjs_dimse.get("SERIES", tmp_path, S1, S1_CT),
    )

    assert (moved.statuses[-1], moved.counters) == (0x0000, [1, 0, 0])
    assert (got.statuses[-1], got.counters) == (0x0000, [3, 0, 0])
    assert place.data_sets() == collection.of(NATIVE, S1_SR)
    assert len(list(tmp_path.iterdir())) == 3
