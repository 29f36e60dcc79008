"""C-MOVE while something takes its time: Pending, Cancel, side by side, several associations."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Event

import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from tests.support.collection import NATIVE, S1
from tests.support.conversation import Conversation
from tests.support.destination import Destination, ReceivedStore, Script, destination
from tests.support.instances import many_instances
from tests.support.node import Node, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    STUDY_ROOT_MOVE,
    Association,
    Response,
    identifier_of,
    move,
    query_contexts,
    store_all,
)

pytestmark = pytest.mark.system

_BOTH = (CTImageStorage, BasicTextSRStorage)
_MANY_STUDY = "1.2.826.0.1.3680043.8.498.86.1"
_MANY = {each.sop_instance_uid: each for each in many_instances(60, StudyInstanceUID=_MANY_STUDY)}
_TOGETHER = 3


@dataclass
class Gate:
    """Opened by a test: until then GATED answers nothing."""

    event: Event = field(default_factory=Event)

    def wait(self, _: ReceivedStore) -> int:
        """Hold an answer back."""
        return 0x0000 if self.event.wait(30) else 0xA700


@dataclass(frozen=True)
class Place:
    """A node with two workers, the collection and a study of 60, and its destinations.

    Attributes:
        fast: answers at once.
        gated: answers once the gate is open.
        silent: never answers; the node waits for it for a minute.
        together: answers only when as many instances have come as it is given associations.
    """

    node: Node
    fast: Destination
    gated: Destination
    silent: Destination
    together: Destination
    gate: Gate


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """All of them at work."""
    gate, barrier = Gate(), Barrier(_TOGETHER)

    def answer_together(_: ReceivedStore) -> int:
        barrier.wait(20)
        return 0x0000

    silent = Script(on_store=lambda talk, _: Conversation.ignore(talk))
    with ExitStack() as stack:
        made = {
            "fast": stack.enter_context(destination("FAST", _BOTH)),
            "gated": stack.enter_context(destination("GATED", _BOTH, status_of=gate.wait)),
            "silent": stack.enter_context(destination("SILENT", _BOTH, script=silent)),
            "together": stack.enter_context(
                destination("TOGETHER", _BOTH, status_of=answer_together)
            ),
        }
        remote_aes = [
            {"ae_title": each.ae_title, "host": "127.0.0.1", "port": each.port}
            for each in made.values()
        ]
        remote_aes[-1]["associations"] = _TOGETHER
        node = stack.enter_context(running_node(module_folder, remote_aes=remote_aes))
        store_all(node.address, [*NATIVE.values(), *_MANY.values()])
        yield Place(node, gate=gate, **made)
        gate.event.set()


@pytest.fixture(autouse=True)
def _fresh(place: Place) -> None:
    place.gate.event.clear()
    for each in (place.fast, place.gated, place.silent, place.together):
        each.forget()


def _begin(association: Association, destination_ae_title: str, study: str) -> Iterator[Response]:
    identifier = identifier_of("STUDY", StudyInstanceUID=study)
    return association.start_move(STUDY_ROOT_MOVE, destination_ae_title, identifier)


def test_a_slow_destination_is_reported_every_five_seconds(place: Place) -> None:
    """An instance that takes longer: Pending comes in between, at the start and at most (E-12)."""
    with Association(place.node.address, query_contexts()) as association:
        began_at = time.monotonic()
        responses = _begin(association, "GATED", _MANY_STUDY)
        first = next(responses)
        first_after = time.monotonic() - began_at
        second = next(responses)
        second_after = time.monotonic() - began_at
        place.gate.event.set()
        *_, final = responses

    assert (first.status, first.counters) == (0xFF00, (60, 0, 0, 0))
    assert (second.status, second.counters) == (0xFF00, (60, 0, 0, 0))
    assert first_after < 1
    assert second_after < 5.5
    assert (final.status, final.counters) == (0x0000, (None, 60, 0, 0))


def test_pending_is_not_sent_for_each_instance(place: Place) -> None:
    """Fast ones: one at the start and at most one a second; none is the last word (E-12)."""
    began_at = time.monotonic()
    with Association(place.node.address, query_contexts()) as association:
        *pending, final = _begin(association, "FAST", _MANY_STUDY)
    took = time.monotonic() - began_at

    assert pending[0].counters == (60, 0, 0, 0)
    assert len(pending) <= 1 + took
    assert all(response.encoded_data_set is None for response in pending)
    assert all(response.counters[0] for response in pending)
    assert final.counters == (None, 60, 0, 0)


def test_a_cancel_releases_the_destination_first(place: Place) -> None:
    """The instance on its way is counted; when FE00 comes, that association is over (E-17)."""
    with Association(place.node.address, query_contexts()) as association:
        responses = _begin(association, "GATED", _MANY_STUDY)
        wait_until(lambda: place.gated.received, "the first sub-operation")
        association.cancel()
        place.gate.event.set()
        *_, final = responses
        endings = list(place.gated.endings)

    received = len(place.gated.received)
    assert 0 < received < 60
    assert f"{final.status:04X}" == "FE00"
    assert final.counters == (60 - received, received, 0, 0)
    assert final.encoded_data_set is None
    assert endings == ["released"]


def test_a_cancel_is_heard_before_anything_is_sent(place: Place) -> None:
    """Request and cancel in one PDU: FE00, and the association serves on (E-17)."""
    with Association(place.node.address, query_contexts()) as association:
        with association.in_one_pdu():
            responses = _begin(association, "FAST", _MANY_STUDY)
            association.cancel()
        *_, final = responses
        assert association.c_echo() == 0x0000

    assert f"{final.status:04X}" == "FE00"
    assert sum(number or 0 for number in final.counters) == 60
    assert final.counters[1] == len(place.fast.received)


@pytest.mark.parametrize("leave", [Association.abort, Association.hang_up])
def test_nobody_is_sent_anything_for_a_requestor_that_has_gone(place: Place, leave: object) -> None:
    """The instance on its way is finished, the destination released, the rest not sent (E-18)."""
    assert callable(leave)
    association = Association(place.node.address, query_contexts())
    responses = _begin(association, "GATED", _MANY_STUDY)
    assert next(responses).status == 0xFF00
    wait_until(lambda: place.gated.received, "the first sub-operation")
    leave(association)
    place.gate.event.set()

    wait_until(lambda: place.gated.endings, "the destination to be released")
    assert place.gated.endings == ["released"]
    assert len(place.gated.received) < 60


def test_a_silent_destination_keeps_nobody_else_waiting(place: Place) -> None:
    """Four C-MOVEs hang at SILENT, more than there are workers; eight others do not notice."""
    with ExitStack() as stack:
        waiting = [
            stack.enter_context(Association(place.node.address, query_contexts())) for _ in range(4)
        ]
        hanging = [_begin(association, "SILENT", S1) for association in waiting]
        assert [next(responses).status for responses in hanging] == [0xFF00] * 4
        wait_until(lambda: len(place.silent.received) == 4, "all of them to hang")

        began_at = time.monotonic()
        identifier = identifier_of("STUDY", StudyInstanceUID=S1)
        with ThreadPoolExecutor(8) as executor:
            finals = list(
                executor.map(
                    lambda _: move(place.node.address, STUDY_ROOT_MOVE, "FAST", identifier),
                    range(8),
                )
            )
        took = time.monotonic() - began_at
        for association in waiting:
            association.hang_up()

    assert [final.counters for final in finals] == [(None, 4, 0, 0)] * 8
    assert took < 5
    assert place.fast.associations == 8


def test_a_destination_is_given_several_associations(place: Place) -> None:
    """As many as configured at the same time, each instance once; the counters are of all."""
    identifier = identifier_of("STUDY", StudyInstanceUID=_MANY_STUDY)

    final = move(place.node.address, STUDY_ROOT_MOVE, "TOGETHER", identifier)

    assert (final.status, final.counters) == (0x0000, (None, 60, 0, 0))
    assert place.together.associations == _TOGETHER
    assert sorted(place.together.received_uids) == sorted(_MANY)
    assert place.together.endings == ["released"] * _TOGETHER
    by_association: dict[int, list[int]] = {}
    for store in place.together.received:
        by_association.setdefault(store.association, []).append(store.message_id)
    assert all(len(ids) == len(set(ids)) for ids in by_association.values())
