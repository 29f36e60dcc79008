"""C-MOVE: from what the destination answers to each C-STORE to the final response."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from tests.support import collection
from tests.support.collection import NATIVE, S1, S1_CT, S1_SR, S2
from tests.support.conversation import Conversation
from tests.support.destination import Destination, ReceivedStore, Script, destination
from tests.support.node import Node, running_node
from tests.support.wire import (
    STUDY_ROOT_MOVE,
    Association,
    Requestor,
    Response,
    identifier_of,
    move,
    query_contexts,
    store_all,
)

pytestmark = pytest.mark.system

_OF_S1 = [f"{S1_CT}.1", f"{S1_CT}.2", f"{S1_CT}.3", f"{S1_SR}.1"]


@dataclass
class Place:
    """A node that holds the collection, and PEER, which answers as `answers` says."""

    node: Node
    peer: Destination
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)

    def answer(self, talk: Conversation, store: ReceivedStore) -> None:
        """Answer a C-STORE: Success where nothing is said."""
        status, comment = self.answers.get(store.sop_instance_uid, (0x0000, ""))
        talk.answer(status, comment)

    def move(self, *statuses: int, comment: str = "") -> Response:
        """Have S1 moved, with these answers to its instances; return the final response."""
        pairs = zip(_OF_S1, statuses, strict=True)
        self.answers = {uid: (status, comment) for uid, status in pairs}
        identifier = identifier_of("STUDY", StudyInstanceUID=S1)
        return move(self.node.address, STUDY_ROOT_MOVE, "PEER", identifier)


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """Both at work."""
    answering: list[Place] = []

    def answer(talk: Conversation, store: ReceivedStore) -> None:
        answering[0].answer(talk, store)

    classes = (CTImageStorage, BasicTextSRStorage)
    with destination("PEER", classes, script=Script(on_store=answer)) as peer:
        remote_aes = [{"ae_title": "PEER", "host": "127.0.0.1", "port": peer.port}]
        with running_node(module_folder, remote_aes=remote_aes) as node:
            store_all(node.address, list(NATIVE.values()))
            answering.append(Place(node, peer))
            yield answering[0]


@pytest.fixture(autouse=True)
def _fresh(place: Place) -> None:
    place.peer.forget()


@pytest.mark.parametrize(
    ("statuses", "final", "counters"),
    [
        ((0x0000, 0x0000, 0x0000, 0x0000), "0000", (None, 4, 0, 0)),
        ((0x0000, 0xA700, 0x0000, 0x0000), "B000", (None, 3, 1, 0)),
        ((0x0000, 0xB000, 0x0000, 0x0000), "B000", (None, 3, 0, 1)),
        ((0x0000, 0xA700, 0xB007, 0x0000), "B000", (None, 2, 1, 1)),
        ((0xB000, 0xB006, 0xB007, 0xB123), "B000", (None, 0, 0, 4)),
        ((0xA700, 0xA900, 0xC000, 0x0110), "A702", (None, 0, 4, 0)),
        ((0xA700, 0xA900, 0xC000, 0xB000), "B000", (None, 0, 3, 1)),
        # Warnings by PS3.7 annex C, though no Storage SCP should send them.
        ((0x0001, 0x0107, 0x0116, 0x0000), "B000", (None, 1, 0, 3)),
        # What no Service Class defines, Pending and Cancel among it, is no success.
        ((0x0002, 0xFF00, 0xFE00, 0x0000), "B000", (None, 1, 3, 0)),
    ],
)
def test_the_final_response_follows_from_the_answers(
    place: Place, statuses: tuple[int, ...], final: str, counters: tuple[int | None, ...]
) -> None:
    """Status and counters; a Failed SOP Instance UID List iff something failed (E-8 to E-10, E-16).

    A warning and a completed one are not in the list.
    """
    failed = {
        uid
        for uid, status in zip(_OF_S1, statuses, strict=True)
        if status not in {0x0000, 0x0001, 0x0107, 0x0116} and status >> 12 != 0xB
    }

    response = place.move(*statuses)

    assert (f"{response.status:04X}", response.counters) == (final, counters)
    assert response.failed_sop_instance_uids == failed
    assert (response.encoded_data_set is None) == (not failed)
    assert sorted(place.peer.received_uids) == _OF_S1
    assert place.peer.endings == ["released"]


def test_the_failed_list_says_nothing_else(place: Place) -> None:
    """One element, without a Specific Character Set (E-10)."""
    response = place.move(0xA700, 0x0000, 0x0000, 0x0000)

    assert [each.keyword for each in response.identifier] == ["FailedSOPInstanceUIDList"]


def test_a_refusal_is_logged_with_its_comment(place: Place) -> None:
    """One line for the instance: its UID, the status, the words of the destination."""
    before = len(place.node.log)

    place.move(0x0000, 0xC000, 0x0000, 0x0000, comment="Study is locked by user 7")

    lines = [line for line in place.node.log[before:].splitlines() if _OF_S1[1] in line]
    assert len(lines) == 1
    assert "refused: status 0xC000 Study is locked by user 7" in lines[0]


def test_a_comment_cannot_forge_a_line_of_the_log(place: Place) -> None:
    """Control characters of an Error Comment are not logged as they are."""
    before = len(place.node.log)

    place.move(0xC000, 0x0000, 0x0000, 0x0000, comment="no\r\nroot: \x1b[2Jerased")

    assert "\x1b" not in place.node.log
    assert not any(line.startswith("root:") for line in place.node.log[before:].splitlines())


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_the_sub_operations_have_the_priority_of_the_request(place: Place, priority: int) -> None:
    """LOW, MEDIUM and HIGH (E-13)."""
    with Association(place.node.address, query_contexts()) as association:
        identifier = identifier_of("STUDY", StudyInstanceUID=S2)
        list(association.start_move(STUDY_ROOT_MOVE, "PEER", identifier, priority))

    assert {store.priority for store in place.peer.received} == {priority}


def test_message_ids_are_those_of_the_association(place: Place) -> None:
    """From 1 upwards on each; the Move Originator is who asked and its Message ID (E-14, E-15)."""
    requestor = Requestor(calling_ae_title=b"WORKSTATION")
    with Association(place.node.address, query_contexts(), requestor) as association:
        for _ in range(2):
            identifier = identifier_of("STUDY", StudyInstanceUID=S1)
            association.c_move(STUDY_ROOT_MOVE, "PEER", identifier)

    received = place.peer.received
    assert [store.message_id for store in received] == [1, 2, 3, 4] * 2
    assert [store.move_originator_message_id for store in received] == [1] * 4 + [2] * 4
    assert {store.move_originator_ae_title for store in received} == {"WORKSTATION"}
    assert {store.calling_ae_title for store in received} == {"PACSNODE"}
    assert {store.called_ae_title for store in received} == {"PEER"}


@pytest.mark.parametrize(
    ("asked", "nearest"), [("PEAR", "PEER"), ("peer", "PEER"), ("PEER1", "PEER")]
)
def test_an_unknown_destination_is_told_what_comes_near_it(
    place: Place, asked: str, nearest: str
) -> None:
    """A801; the Error Comment names both (E-4)."""
    identifier = identifier_of("STUDY", StudyInstanceUID=S1)

    final = move(place.node.address, STUDY_ROOT_MOVE, asked, identifier)

    assert f"{final.status:04X}" == "A801"
    assert asked in final.error_comment
    assert nearest in final.error_comment.replace(asked, "")
    assert len(final.error_comment) <= 64
    assert place.peer.associations == 0


def test_deleted_files_fail_and_the_rest_arrives(place: Place) -> None:
    """A file that is gone behind the node's back is a failed sub-operation with a reason (E-21)."""
    before = len(place.node.log)
    (path,) = (each for each in place.node.stored_files() if each.stem == f"{S1_CT}.2")
    content = path.read_bytes()
    path.unlink()
    try:
        final = place.move(0x0000, 0x0000, 0x0000, 0x0000)
    finally:
        path.write_bytes(content)

    assert (f"{final.status:04X}", final.counters) == ("B000", (None, 3, 1, 0))
    assert final.failed_sop_instance_uids == {f"{S1_CT}.2"}
    assert "file missing or unreadable: " in place.node.log[before:]


@pytest.mark.parametrize("length", [0, 300, 1100])
def test_a_file_that_was_cut_off_is_not_sent_as_a_whole_one(place: Place, length: int) -> None:
    """Whatever has arrived of it, the destination has not got half of an instance (E-21)."""
    uid = f"{S1_CT}.2"
    (path,) = (each for each in place.node.stored_files() if each.stem == uid)
    content = path.read_bytes()
    assert length < len(content)
    path.write_bytes(content[:length])
    try:
        final = place.move(0x0000, 0x0000, 0x0000, 0x0000)
    finally:
        path.write_bytes(content)

    assert (f"{final.status:04X}", final.counters) == ("B000", (None, 3, 1, 0))
    assert final.failed_sop_instance_uids == {uid}
    arrived = {store.sop_instance_uid: store.encoded_data_set for store in place.peer.received}
    assert arrived == {
        each: data for each, data in collection.of(NATIVE, S1).items() if each != uid
    }
