"""The sub-operations of a C-MOVE, against a destination that does as it is told."""

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import _STORAGE_CLASSES

from pacsnode.catalog.records import KeptFile, StoredInstance
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.status import Status
from pacsnode.file_store import FileStore
from pacsnode.network import move_scp, store_scu
from pacsnode.network.move_scp import MoveContext, SubOperations, clamp, describe, move
from pacsnode.network.store_scu import MoveOriginator
from pacsnode.network.toolkit import configure_pynetdicom
from pacsnode.services.c_move import MovePlan
from tests.support.destination import Destination, ReceivedStore, destination
from tests.support.instances import Instance, ct_data_set, encoded, sr_data_set, write_instance
from tests.support.node import free_port
from tests.support.server import LIMITS

Counts = tuple[int, int, int, int]


@dataclass
class Place:
    """A file store with files written as the node would, and the pending responses sent."""

    file_store: FileStore
    folder: Path
    pending: list[Counts] = field(default_factory=list)
    is_cancelled: Callable[[], bool] = lambda: False
    priority: int = 0

    def keep(self, *instances: Instance) -> list[StoredInstance]:
        """Write the files and return what the catalog would say of them."""
        stored = []
        for instance in instances:
            path = f"studies/{instance.sop_instance_uid}.dcm"
            write_instance(instance, self.folder / path)
            length = len(instance.encoded_data_set)
            file = KeptFile(path, instance.transfer_syntax_uid, bytes(32), length)
            stored.append(StoredInstance(instance.sop_class_uid, instance.sop_instance_uid, file))
        return stored

    def move(self, port: int, instances: Sequence[StoredInstance]) -> SubOperations:
        """Move these instances to the destination on this port."""
        plan = MovePlan(RemoteAE("DEST", "127.0.0.1", port), Level.STUDY, tuple(instances))
        return move(plan, self.context())

    def context(self) -> MoveContext:
        """Return what a move needs from the outside."""
        return MoveContext(
            file_store=self.file_store,
            limits=LIMITS,
            calling_ae_title="PACSNODE",
            originator=MoveOriginator("WORKSTATION", 77),
            priority=self.priority,
            is_cancelled=self.is_cancelled,
            send_pending=lambda state: self.pending.append(state.counts),
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty place."""
    configure_pynetdicom()
    folder = tmp_path / "storage"
    file_store = FileStore(folder, reserve_bytes=0)
    yield Place(file_store, folder)
    file_store.close()


def _instances(count: int) -> list[Instance]:
    return [encoded(ct_data_set()) for _ in range(count)]


@contextmanager
def _answering(*statuses: int) -> Iterator[Destination]:
    """Run a destination that answers with these statuses, one after the other."""
    left = iter(statuses)
    with destination(status_of=lambda _: next(left)) as running:
        yield running


def _state(completed: int, failed: int, warning: int, remaining: int = 0) -> SubOperations:
    some = StoredInstance("1.2", "1.3", KeptFile("", "", b"", 0))
    return SubOperations(
        deque([some] * remaining), ["1"] * completed, ["1"] * failed, ["1"] * warning
    )


@pytest.mark.parametrize(
    ("completed", "failed", "warning", "status"),
    [
        (0, 0, 0, 0x0000),
        (3, 0, 0, 0x0000),
        (2, 1, 0, 0xB000),
        (2, 0, 1, 0xB000),
        (1, 1, 1, 0xB000),
        (0, 0, 2, 0xB000),
        (0, 2, 0, 0xA702),
        (0, 1, 1, 0xB000),
    ],
)
def test_the_final_status_follows_from_the_counters(
    completed: int, failed: int, warning: int, status: int
) -> None:
    """Each row of the matrix of final statuses (E-8)."""
    assert _state(completed, failed, warning).final_status == status


def test_a_cancel_is_final_only_if_something_remains() -> None:
    """Cancelled behind the last instance, a C-MOVE ends as if it had not been (E-8, E-17)."""
    state = _state(1, 0, 0, remaining=1)
    state.is_cancelled = True
    assert state.final_status is Status.CANCEL
    state.remaining.clear()
    assert state.final_status is Status.SUCCESS


def test_counts_are_clamped_to_what_a_counter_can_state() -> None:
    """More than 65,535 are stated as 65,535, and logged as they are (E-20)."""
    assert [clamp(n) for n in (0, 65_535, 65_536, 1_000_000)] == [0, 65_535, 65_535, 65_535]
    assert describe(_state(70_000, 1, 2)) == "70000 completed, 1 failed, 2 warning, 0 not started"


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        (0x0000, (0, 1, 0, 0)),
        (0xB000, (0, 0, 0, 1)),
        (0xB007, (0, 0, 0, 1)),
        (0xB123, (0, 0, 0, 1)),
        (0x0107, (0, 0, 0, 1)),
        (0x0116, (0, 0, 0, 1)),
        (0x0001, (0, 0, 0, 1)),
        (0xA700, (0, 0, 1, 0)),
        (0xC000, (0, 0, 1, 0)),
        (0x0117, (0, 0, 1, 0)),
        (0xFE00, (0, 0, 1, 0)),
        (0x1234, (0, 0, 1, 0)),
    ],
)
def test_a_status_of_the_destination_is_counted(place: Place, status: int, counts: Counts) -> None:
    """0000 is completed, Bxxx and three others are warnings, all else has failed (E-16)."""
    with _answering(status) as running:
        assert place.move(running.port, place.keep(*_instances(1))).counts == counts


def test_each_instance_is_in_one_bucket(place: Place) -> None:
    """Completed, failed and warning are told apart by UID, and sum up to all (E-9, E-11)."""
    stored = place.keep(*_instances(4))
    with _answering(0x0000, 0xA700, 0xB000, 0x0000) as running:
        state = place.move(running.port, stored)
    uids = [instance.sop_instance_uid for instance in stored]
    assert (state.completed, state.failed, state.warning) == (
        [uids[0], uids[3]],
        [uids[1]],
        [uids[2]],
    )


def test_the_bytes_that_arrive_are_the_stored_ones(place: Place) -> None:
    """What is delivered is the stored data set, bit for bit, in its own syntax (E-33, E-37)."""
    instances = [
        encoded(ct_data_set(), "1.2.840.10008.1.2"),
        encoded(ct_data_set()),
        encoded(ct_data_set(rows=300, columns=300)),
    ]
    with destination() as running:
        state = place.move(running.port, place.keep(*instances))
    assert state.counts == (0, 3, 0, 0)
    received = {store.sop_instance_uid: store for store in running.received}
    for instance in instances:
        store = received[instance.sop_instance_uid]
        assert store.encoded_data_set == instance.encoded_data_set
        assert store.transfer_syntax_uid == instance.transfer_syntax_uid


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_the_sub_operations_say_who_asked_and_how_urgently(place: Place, priority: int) -> None:
    """Originator, its Message ID, priority and our own title go with each (E-13 to E-15)."""
    place.priority = priority
    with destination() as running:
        place.move(running.port, place.keep(*_instances(2)))
    for store in running.received:
        assert store.move_originator_ae_title == "WORKSTATION"
        assert store.move_originator_message_id == 77
        assert store.priority == priority
        assert (store.calling_ae_title, store.called_ae_title) == ("PACSNODE", "DEST")


def test_message_ids_are_unique(place: Place) -> None:
    """No two requests of an association have one Message ID (E-15)."""
    with destination() as running:
        place.move(running.port, place.keep(*_instances(5)))
    ids = [store.message_id for store in running.received]
    assert (len(set(ids)), running.associations) == (5, 1)


def test_nothing_to_move_needs_no_association(place: Place) -> None:
    """Without instances there is no Pending and no connection, and the end is Success (E-3)."""
    with destination() as running:
        state = place.move(running.port, [])
    assert (state.final_status, place.pending, running.associations) == (0x0000, [], 0)


# pynetdicom leaves the socket of a connection that was refused to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_destination_that_is_down_fails_all(place: Place) -> None:
    """A known destination that does not listen gives A702 and the whole list (E-5)."""
    stored = place.keep(*_instances(3))
    state = place.move(free_port(), stored)
    assert (state.final_status, state.counts) == (0xA702, (0, 0, 3, 0))
    assert state.failed == [instance.sop_instance_uid for instance in stored]


def test_a_destination_whose_name_is_not_known_fails_all(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A host name that cannot be looked up is a destination out of reach, and the log says so."""
    instances = place.keep(*_instances(2))
    plan = MovePlan(RemoteAE("DEST", "no-such-host.invalid", 104), Level.STUDY, tuple(instances))
    with caplog.at_level("WARNING", "pacsnode"):
        state = move(plan, place.context())
    assert (state.counts, state.final_status) == ((0, 0, 2, 0), 0xA702)
    assert "host name: " in caplog.text


def test_a_destination_that_rejects_fails_all(place: Place) -> None:
    """An association that is rejected gives A702 and the whole list (E-5)."""
    with destination(rejects=True) as running:
        state = place.move(running.port, place.keep(*_instances(2)))
    assert (state.final_status, state.counts) == (0xA702, (0, 0, 2, 0))


def test_an_instance_without_a_context_fails_alone(place: Place) -> None:
    """What the destination has no context for fails; the others arrive (E-11, E-16)."""
    report = encoded(sr_data_set())
    with destination(sop_class_uids=(CTImageStorage,)) as running:
        state = place.move(running.port, place.keep(*_instances(2), report))
    assert (state.final_status, state.failed) == (0xB000, [report.sop_instance_uid])
    assert len(running.received) == 2


def test_a_destination_that_accepts_no_context_fails_all(place: Place) -> None:
    """An association without any context gives A702 (E-5)."""
    with destination(sop_class_uids=(BasicTextSRStorage,)) as running:
        state = place.move(running.port, place.keep(*_instances(2)))
    assert (state.final_status, state.counts) == (0xA702, (0, 0, 2, 0))


def test_an_instance_is_not_converted_for_a_destination(place: Place) -> None:
    """Where only another Transfer Syntax is accepted, the sub-operation fails (E-33, E-34)."""
    with destination(transfer_syntax_uids=("1.2.840.10008.1.2",)) as running:
        state = place.move(running.port, place.keep(*_instances(1)))
    assert (state.counts, running.received) == ((0, 0, 1, 0), [])


def test_a_file_that_is_gone_fails_alone(place: Place) -> None:
    """An unreadable file is in the failed list; the others arrive (E-11, E-21)."""
    stored = place.keep(*_instances(3))
    place.file_store.path(stored[1].file.path).unlink()
    place.file_store.path(stored[2].file.path).write_bytes(b"no DICOM file" * 20)
    with destination() as running:
        state = place.move(running.port, stored)
    assert state.counts == (0, 1, 2, 0)
    assert state.failed == [instance.sop_instance_uid for instance in stored[1:]]


def test_pending_tells_the_counters_as_they_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at the start, one after each but the last; the four always sum up (E-9, E-12)."""
    monkeypatch.setattr(move_scp, "_SHORTEST_PENDING_SECONDS", 0)
    with _answering(0x0000, 0xA700, 0xB000) as running:
        place.move(running.port, place.keep(*_instances(3)))
    assert place.pending == [(3, 0, 0, 0), (2, 1, 0, 0), (1, 1, 1, 0)]


def test_pending_is_not_sent_more_than_once_a_second(place: Place) -> None:
    """Of many fast sub-operations only the first Pending is sent (E-12)."""
    with destination() as running:
        place.move(running.port, place.keep(*_instances(5)))
    assert place.pending[0] == (5, 0, 0, 0)
    assert len(place.pending) < 4


def test_pending_is_sent_while_a_slow_destination_is_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A requestor hears of a sub-operation that takes long before it is over (E-12)."""
    monkeypatch.setattr(move_scp, "_LONGEST_PENDING_SECONDS", 0.1)
    release = threading.Event()
    sent = place.pending

    def answer(_: ReceivedStore) -> int:
        release.wait(20)
        return 0x0000

    class Pending(list[Counts]):
        def append(self, counts: Counts) -> None:
            super().append(counts)
            if len(self) > 1:
                release.set()

    place.pending = sent = Pending()
    with destination(status_of=answer) as running:
        state = place.move(running.port, place.keep(*_instances(1)))
    assert sent[:2] == [(1, 0, 0, 0), (1, 0, 0, 0)]
    assert state.counts == (0, 1, 0, 0)


def test_pending_is_sent_while_a_destination_does_not_answer_the_association(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A destination that takes the connection and is silent does not silence us (E-12, E-5)."""
    monkeypatch.setattr(move_scp, "_LONGEST_PENDING_SECONDS", 0.1)
    monkeypatch.setattr(store_scu, "_LOOK_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:

        class Pending(list[Counts]):
            def append(self, counts: Counts) -> None:
                super().append(counts)
                if len(self) == 3:
                    silent.accept()[0].close()

        place.pending = Pending()
        state = place.move(silent.getsockname()[1], place.keep(*_instances(1)))
    assert place.pending[:3] == [(1, 0, 0, 0)] * 3
    assert (state.counts, state.final_status) == ((0, 0, 1, 0), 0xA702)


def test_a_cancel_stops_behind_the_instance_in_flight(place: Place) -> None:
    """What is in flight is finished and counted, what is not started remains (E-17, E-18)."""
    with destination() as running:
        place.is_cancelled = lambda: len(running.received) >= 2
        state = place.move(running.port, place.keep(*_instances(5)))
    assert (state.final_status, state.counts) == (0xFE00, (3, 2, 0, 0))
    assert len(running.received) == 2


def test_a_cancel_before_the_first_instance_sends_nothing(place: Place) -> None:
    """Cancelled at once, everything remains and nobody is called (E-17)."""
    place.is_cancelled = lambda: True
    with destination() as running:
        state = place.move(running.port, place.keep(*_instances(2)))
    assert (state.final_status, state.counts) == (0xFE00, (2, 0, 0, 0))
    assert running.associations == 0


@contextmanager
def _breaking(times: int) -> Iterator[Destination]:
    """Run a destination that aborts at the second instance of so many associations."""
    running = Destination("DEST")
    left = [times]

    def keep(event: evt.Event) -> int:
        running.received.append(event.request.AffectedSOPInstanceUID)
        if left[0] and event.assoc.second:
            left[0] -= 1
            event.assoc.abort()
        event.assoc.second = True
        return 0x0000

    def begin(event: evt.Event) -> None:
        running.associations += 1
        event.assoc.second = False

    entity = AE("DEST")
    entity.add_supported_context(CTImageStorage)
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, keep), (evt.EVT_ACCEPTED, begin)],
    )
    assert server is not None
    running.port = server.socket.getsockname()[1]
    try:
        yield running
    finally:
        server.shutdown()


def test_a_lost_association_is_opened_again_once(place: Place) -> None:
    """The instance it broke at has failed; the rest goes over a second association (E-19)."""
    stored = place.keep(*_instances(5))
    with _breaking(1) as running:
        state = place.move(running.port, stored)
    assert state.failed == [stored[1].sop_instance_uid]
    assert (state.counts, running.associations) == ((0, 4, 1, 0), 2)


def test_a_second_loss_fails_the_rest(place: Place) -> None:
    """After the second break nothing more is tried (E-19)."""
    stored = place.keep(*_instances(6))
    with _breaking(2) as running:
        state = place.move(running.port, stored)
    assert (state.counts, running.associations) == ((0, 2, 4, 0), 2)
    assert len(running.received) == 4


def test_more_kinds_than_contexts_go_over_several_associations(place: Place) -> None:
    """Seventy classes need more contexts than one association has: all arrive, in two (E-32)."""
    uids = sorted(map(str, _STORAGE_CLASSES.values()))[:70]
    instances = [encoded(ct_data_set(SOPClassUID=uid)) for uid in uids]
    with destination(sop_class_uids=uids) as running:
        state = place.move(running.port, place.keep(*instances))
    assert (state.counts, running.associations) == ((0, 70, 0, 0), 2)
