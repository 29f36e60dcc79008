"""The whole story with DCMTK: send, query at each level, move, compare, restart, and again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import dcmtk
from tests.support.dcmtk import Receiver
from tests.support.instances import (
    Instance,
    ct_data_set,
    encoded,
    encoded_data_set_of,
    sr_data_set,
    write_instance,
)
from tests.support.node import Node, free_port, running_node

pytestmark = pytest.mark.system

_ROOT = "1.2.826.0.1.3680043.8.498.79"
_STUDY, _CT, _SR = f"{_ROOT}.1", f"{_ROOT}.1.1", f"{_ROOT}.1.2"
_OTHER_STUDY, _OTHER_CT = f"{_ROOT}.2", f"{_ROOT}.2.1"


def _instances() -> list[Instance]:
    mine: dict[str, Any] = {"PatientID": "EX1", "StudyInstanceUID": _STUDY}
    other: dict[str, Any] = {"PatientID": "EX2", "StudyInstanceUID": _OTHER_STUDY}
    ct = [
        ct_data_set(
            **mine, SeriesInstanceUID=_CT, SOPInstanceUID=f"{_CT}.{number}", InstanceNumber=number
        )
        for number in (1, 2, 3)
    ]
    sr = sr_data_set(**mine, SeriesInstanceUID=_SR, SOPInstanceUID=f"{_SR}.1", SeriesNumber=2)
    further = ct_data_set(**other, SeriesInstanceUID=_OTHER_CT, SOPInstanceUID=f"{_OTHER_CT}.1")
    return [encoded(data_set) for data_set in (*ct, sr, further)]


_INSTANCES = {instance.sop_instance_uid: instance for instance in _instances()}

# root, keys above the level, level and its unique key: what is found, what is moved for the first
_LEVELS = [
    ("PATIENT", [], "PATIENT", "PatientID", {"EX1", "EX2"}, 4),
    ("PATIENT", ["PatientID=EX1"], "STUDY", "StudyInstanceUID", {_STUDY}, 4),
    (
        "PATIENT",
        ["PatientID=EX1", f"StudyInstanceUID={_STUDY}"],
        "SERIES",
        "SeriesInstanceUID",
        {_CT, _SR},
        3,
    ),
    (
        "PATIENT",
        ["PatientID=EX1", f"StudyInstanceUID={_STUDY}", f"SeriesInstanceUID={_CT}"],
        "IMAGE",
        "SOPInstanceUID",
        {f"{_CT}.1", f"{_CT}.2", f"{_CT}.3"},
        1,
    ),
    ("STUDY", [], "STUDY", "StudyInstanceUID", {_STUDY, _OTHER_STUDY}, 4),
    ("STUDY", [f"StudyInstanceUID={_STUDY}"], "SERIES", "SeriesInstanceUID", {_CT, _SR}, 3),
    (
        "STUDY",
        [f"StudyInstanceUID={_STUDY}", f"SeriesInstanceUID={_CT}"],
        "IMAGE",
        "SOPInstanceUID",
        {f"{_CT}.1", f"{_CT}.2", f"{_CT}.3"},
        1,
    ),
]


@dataclass
class Story:
    """The node, the third party, and where the instances were written."""

    node: Node
    receiver: Receiver
    files: list[Path]
    folder: Path


@pytest.fixture(scope="module")
def story(module_folder: Path) -> Iterator[Story]:
    """A node beside storescp; nothing was sent yet."""
    files = [
        write_instance(instance, module_folder / "sent" / f"{uid}.dcm")
        for uid, instance in _INSTANCES.items()
    ]
    port = free_port()
    remote_aes = [{"ae_title": "THIRD", "host": "127.0.0.1", "port": port}]
    with (
        dcmtk.storescp(module_folder / "received", "THIRD", port) as receiver,
        running_node(module_folder / "node", remote_aes=remote_aes) as node,
    ):
        yield Story(node, receiver, files, module_folder)


def test_what_was_sent_is_found_and_delivered_before_and_after_a_restart(story: Story) -> None:
    """storescu, findscu and movescu at each level of both roots, byte for byte; twice."""
    sent = dcmtk.storescu(story.node.address, story.files)
    assert (sent.exit_code, sent.statuses) == (0, [0x0000] * len(story.files))
    _query_and_move_at_every_level(story, "before")

    story.node.restart()

    _query_and_move_at_every_level(story, "after")


def _query_and_move_at_every_level(story: Story, when: str) -> None:
    for root, upper, level, unique_key, entities, count in _LEVELS:
        folder = story.folder / f"{when}-{root}-{level}"
        keys = [f"QueryRetrieveLevel={level}", *upper]
        found = dcmtk.findscu(story.node.address, root, [*keys, unique_key], folder)
        assert found.status == 0x0000
        assert sorted(str(answer[unique_key].value) for answer in found.identifiers) == sorted(
            entities
        )

        first = min(entities)
        moved = dcmtk.movescu(story.node.address, root, "THIRD", [*keys, f"{unique_key}={first}"])
        assert (moved.status, moved.counters) == (0x0000, (None, count, 0, 0))
        _check_delivery(story.receiver, count)


def _check_delivery(receiver: Receiver, count: int) -> None:
    """Assert that this many instances came, each as it was sent; forget them."""
    files = receiver.files()
    assert len(files) == count
    for path in files:
        instance = _INSTANCES[path.name.partition(".")[2]]
        assert encoded_data_set_of(path) == instance.encoded_data_set
        path.unlink()
