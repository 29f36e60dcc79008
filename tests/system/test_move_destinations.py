"""C-MOVE to destinations that are down, refuse, break off, say nonsense or nothing at all.

Whatever it does: the node accounts for every instance, says why, and serves the next one.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from tests.support import collection, hostile
from tests.support.collection import NATIVE, S1, S1_SR
from tests.support.conversation import Conversation
from tests.support.destination import Destination, Script, destination
from tests.support.instances import many_instances
from tests.support.node import Node, free_port, running_node
from tests.support.wire import STUDY_ROOT_MOVE, Response, identifier_of, move, store_all

pytestmark = pytest.mark.system

_BOTH = (CTImageStorage, BasicTextSRStorage)
_OF_S1 = collection.of(NATIVE, S1)
_ALL_FAILED = (None, 0, 4, 0)
_SHORT = {
    "connect_timeout_seconds": 1,
    "negotiation_timeout_seconds": 1,
    "dimse_timeout_seconds": 1,
}


@dataclass
class Place:
    """A node that holds the collection and knows PEER at a port, where it may listen or not."""

    node: Node
    port: int
    full_port: int
    seen: int = field(default=0)

    def move(self, ae_title: str = "PEER") -> Response:
        """Have S1 moved; return the final response."""
        self.seen = len(self.node.log)
        identifier = identifier_of("STUDY", StudyInstanceUID=S1)
        return move(self.node.address, STUDY_ROOT_MOVE, ae_title, identifier)

    @property
    def failures(self) -> dict[str, str]:
        """What the log says of each failed instance of the last C-MOVE, by SOP Instance UID."""
        found: dict[str, str] = {}
        for line in self.node.log[self.seen :].splitlines():
            _, is_one, rest = line.partition("C-STORE sub-operation ")
            if is_one:
                uid, _, reason = rest.partition(" failed: ")
                assert uid not in found, "an instance has failed twice"
                found[uid] = reason
        return found

    @contextmanager
    def peer(self, script: Script | None = None) -> Iterator[Destination]:
        """Run the destination that the node knows as PEER."""
        with destination("PEER", _BOTH, script=script, port=self.port) as running:
            yield running


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """The node; nobody listens."""
    port, full_port = free_port(), free_port()
    remote_aes: list[dict[str, Any]] = [
        {"ae_title": title, "host": host, "port": number, **_SHORT}
        for title, host, number in (
            ("PEER", "127.0.0.1", port),
            ("NOHOST", "pacs.invalid", port),
            ("FULL", "127.0.0.1", full_port),
            ("THREE", "127.0.0.1", port),
        )
    ]
    remote_aes[-1]["associations"] = 3
    remote_aes.append({"ae_title": "PATIENT", "host": "127.0.0.1", "port": port})
    with running_node(module_folder, remote_aes=remote_aes) as node:
        store_all(node.address, list(NATIVE.values()))
        yield Place(node, port, full_port)


def _wait_for(event: Event) -> None:
    """Wait for something that does not come, for the length of a pause."""
    event.wait(0.01)


def _check_all_failed(place: Place, final: Response, cause: str) -> set[str]:
    """Assert that no instance arrived; return the reasons given."""
    assert (f"{final.status:04X}", final.counters) == ("A702", _ALL_FAILED)
    assert final.failed_sop_instance_uids == _OF_S1.keys()
    failures = place.failures
    assert failures.keys() == _OF_S1.keys()
    assert {reason.partition(": ")[0] for reason in failures.values()} == {cause}
    return {reason.partition(": ")[2] for reason in failures.values()}


# --- no association


@pytest.mark.parametrize("ae_title", ["PEER", "NOHOST"])
def test_nobody_is_there(place: Place, ae_title: str) -> None:
    """A port where nobody listens, and a name that nobody has (E-5)."""
    (reason,) = _check_all_failed(place, place.move(ae_title), "no association")
    assert reason


def test_the_connection_does_not_come_about(place: Place) -> None:
    """A listener whose queue is full drops the request without a word."""
    with socket.create_server(("127.0.0.1", place.full_port), backlog=0), socket.socket() as first:
        first.connect(("127.0.0.1", place.full_port))

        _check_all_failed(place, place.move("FULL"), "no association")


@pytest.mark.parametrize(
    ("triple", "word"), [((1, 1, 7), "called"), ((1, 1, 3), "calling"), ((2, 3, 1), "congestion")]
)
def test_it_rejects_the_association(place: Place, triple: tuple[int, int, int], word: str) -> None:
    """A-ASSOCIATE-RJ, permanent and transient: its reason is told in words (E-5, H-1)."""
    with place.peer(Script(rejects=triple)):
        (reason,) = _check_all_failed(place, place.move(), "no association")
    assert word in reason.lower()


def _say_nonsense(talk: Conversation) -> None:
    talk.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    talk.ignore()


@pytest.mark.parametrize(
    "on_connection",
    [
        Conversation.hang_up,
        Conversation.reset,
        Conversation.abort,
        Conversation.ignore,
        _say_nonsense,
    ],
)
def test_it_does_not_answer_the_association_request(
    place: Place, on_connection: Callable[[Conversation], None]
) -> None:
    """It hangs up, aborts, is silent, or is no DICOM application at all."""
    with place.peer(Script(on_connection=on_connection)):
        (reason,) = _check_all_failed(place, place.move(), "no association")
    assert reason


def test_it_accepts_no_context(place: Place) -> None:
    """An association without a presentation context: no instance can go (H-4)."""
    with destination("PEER", (), port=place.port) as peer:
        _check_all_failed(place, place.move(), "no presentation context")
    assert peer.received == []


def test_it_accepts_half_of_the_classes(place: Place) -> None:
    """What has no context fails, the rest arrives (E-8, E-11)."""
    with destination("PEER", (CTImageStorage,), port=place.port) as peer:
        final = place.move()

    assert (f"{final.status:04X}", final.counters) == ("B000", (None, 3, 1, 0))
    assert final.failed_sop_instance_uids == place.failures.keys() == {f"{S1_SR}.1"}
    assert {*peer.received_uids} == _OF_S1.keys() - {f"{S1_SR}.1"}
    assert peer.endings == ["released"]


# --- the association is lost


def _say_wrong_message_id(talk: Conversation, _: object) -> None:
    talk.answer(0x0000, message_id=4711)
    talk.ignore()


def _say_unknown_pdu(talk: Conversation, _: object) -> None:
    talk.say(hostile.pdu(0x42, b"nonsense"))
    talk.ignore()


def _say_broken_command(talk: Conversation, _: object) -> None:
    talk.say(hostile.message(talk.context_id, b"\0\0\0\0\xff\xff\xff\xff"))
    talk.ignore()


def _say_on_another_context(talk: Conversation, _: object) -> None:
    talk.context_id = 255
    talk.answer(0x0000)
    talk.ignore()


@pytest.mark.parametrize(
    "script",
    [
        Script(on_command=Conversation.abort),
        Script(on_command=Conversation.hang_up),
        Script(on_command=Conversation.reset),
        Script(on_store=lambda talk, _: talk.abort()),
        Script(on_store=lambda talk, _: talk.hang_up()),
        Script(on_store=_say_wrong_message_id),
        Script(on_store=_say_unknown_pdu),
        Script(on_store=_say_broken_command),
        Script(on_store=_say_on_another_context),
    ],
    ids=[
        "aborts in the middle",
        "hangs up in the middle",
        "resets in the middle",
        "aborts instead of an answer",
        "hangs up instead of an answer",
        "answers with another Message ID",
        "answers with an unknown PDU",
        "answers with a broken Command Set",
        "answers on another context",
    ],
)
def test_it_breaks_off_each_time(place: Place, script: Script) -> None:
    """Two associations, not more; then all that is left has failed (E-19)."""
    with place.peer(script) as peer:
        final = place.move()

    (reason,) = _check_all_failed(place, final, "association lost")
    assert reason
    assert peer.associations == 2


def test_it_never_answers(place: Place) -> None:
    """The DIMSE timeout of this destination, twice; then all that is left has failed (E-19)."""
    with place.peer(Script(on_store=lambda talk, _: talk.ignore())) as peer:
        final = place.move()

    _check_all_failed(place, final, "no answer")
    assert peer.associations == 2


def test_it_stops_reading_in_the_middle(place: Place) -> None:
    """An instance that it does not take is given up after the DIMSE timeout (E-19)."""
    full = Script(on_command=Conversation.stop_reading, receive_buffer_bytes=2304)
    (instance,) = many_instances(1, rows=2048, columns=1024)
    store_all(place.node.address, [instance])
    identifier = identifier_of("STUDY", StudyInstanceUID=str(instance.study_instance_uid))

    with place.peer(full) as peer:
        final = move(place.node.address, STUDY_ROOT_MOVE, "PEER", identifier)

    assert (f"{final.status:04X}", final.counters) == ("A702", (None, 0, 1, 0))
    assert peer.associations == 2


@pytest.mark.parametrize("break_off", [Conversation.abort, Conversation.hang_up])
@pytest.mark.parametrize("when", ["during", "after"])
def test_it_breaks_off_once(
    place: Place, break_off: Callable[[Conversation], None], when: str
) -> None:
    """At the second instance: the rest goes on another association, nothing has failed (E-19)."""

    def disturb(talk: Conversation, *_: object) -> None:
        if (talk.number, talk.stores) == (1, 2):
            break_off(talk)
        elif when == "after":
            talk.answer(0x0000)

    script = Script(on_command=disturb) if when == "during" else Script(on_store=disturb)
    with place.peer(script) as peer:
        final = place.move()

    assert (f"{final.status:04X}", final.counters) == ("0000", (None, 4, 0, 0))
    assert final.encoded_data_set is None
    arrived = {store.sop_instance_uid: store.encoded_data_set for store in peer.received}
    assert arrived == _OF_S1
    assert peer.associations == 2
    assert place.failures == {}


def test_each_of_several_associations_breaks_off_once(place: Place) -> None:
    """Three lanes, each with a second association: everything arrives (E-19)."""

    def disturb(talk: Conversation, _: object) -> None:
        if talk.number <= 3:
            talk.hang_up()
        talk.answer(0x0000)

    with place.peer(Script(on_store=disturb)) as peer:
        final = place.move("THREE")

    assert (f"{final.status:04X}", final.counters) == ("0000", (None, 4, 0, 0))
    assert {*peer.received_uids} == _OF_S1.keys()
    assert place.failures == {}


def test_it_accepts_fewer_associations_than_it_is_given(place: Place) -> None:
    """The one that it has accepted carries everything: nothing has failed."""
    with place.peer(Script(most_associations=1)) as peer:
        final = place.move("THREE")

    assert (f"{final.status:04X}", final.counters) == ("0000", (None, 4, 0, 0))
    assert sorted(peer.received_uids) == sorted(_OF_S1)
    assert place.failures == {}


# --- what it can take


def test_it_takes_its_time(place: Place) -> None:
    """Some kilobytes now and then: it is waited for, and gets every byte."""
    (instance,) = many_instances(1, rows=1024, columns=400)
    store_all(place.node.address, [instance])
    identifier = identifier_of("STUDY", StudyInstanceUID=str(instance.study_instance_uid))
    pauses = Event()
    slow = Script(receive_buffer_bytes=8192, pace=lambda: _wait_for(pauses))

    began_at = time.monotonic()
    with place.peer(slow) as peer:
        final = move(place.node.address, STUDY_ROOT_MOVE, "PATIENT", identifier)
    took = time.monotonic() - began_at

    assert (final.status, final.counters) == (0x0000, (None, 1, 0, 0))
    assert [store.encoded_data_set for store in peer.received] == [instance.encoded_data_set]
    assert took > 1


@pytest.mark.parametrize("maximum_length", [0, 8, 32, 33, 4097])
def test_it_takes_pdus_of_a_certain_length_only(place: Place, maximum_length: int) -> None:
    """No PDU is longer than it has announced; zero is no limit (H-6)."""
    with place.peer(Script(maximum_length=maximum_length)) as peer:
        final = place.move()

    assert (final.status, final.counters) == (0x0000, (None, 4, 0, 0))
    assert {store.sop_instance_uid: store.encoded_data_set for store in peer.received} == _OF_S1
    assert peer.longest_pdu <= (maximum_length or peer.longest_pdu)


def test_the_node_serves_on(place: Place) -> None:
    """After all this: a destination that behaves gets everything, and the workers are the same."""
    with place.peer() as peer:
        final = place.move()

    assert (final.status, final.counters) == (0x0000, (None, 4, 0, 0))
    assert {*peer.received_uids} == _OF_S1.keys()
    assert peer.endings == ["released"]
    assert "was restarted" not in place.node.log
