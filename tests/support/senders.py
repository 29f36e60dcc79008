"""Several senders at once that keep count of what the node has answered with Success."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from tests.support.dcmtk import Receiver
from tests.support.instances import Instance, encoded_data_set_of, many_instances, new_uid
from tests.support.node import Node
from tests.support.waiting import wait_until
from tests.support.wire import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    Requestor,
    find,
    identifier_of,
    move,
    storage_contexts,
)

_MANY = 1_000_000


@dataclass
class Sender:
    """One modality: sends one series, an instance after the other, and tries again after a loss.

    Attributes:
        sent: each instance whose transfer was begun, by SOP Instance UID.
        acknowledged: the SOP Instance UIDs that were answered with 0000.
        refused: the statuses of all other answers.
        losses: how often the association was lost.
    """

    node: Node
    study_instance_uid: str = field(default_factory=new_uid)
    sent: dict[str, Instance] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)
    losses: int = 0
    stop: Event = field(default_factory=Event)

    def run(self) -> None:
        """Send until told to stop."""
        instances = many_instances(_MANY, StudyInstanceUID=self.study_instance_uid)
        waiting = next(instances)
        while not self.stop.is_set():
            try:
                waiting = self._send(waiting, instances)
            except (OSError, AssociationAbortedError, AssociationRejectedError):
                self.losses += 1
                self.stop.wait(0.02)

    def _send(self, waiting: Instance, instances: Iterator[Instance]) -> Instance:
        """Send in one association; return the instance that has no answer yet."""
        requestor = Requestor(timeout_seconds=60)
        contexts = storage_contexts([waiting])
        with Association(self.node.address, contexts, requestor) as association:
            while not self.stop.is_set():
                self.sent[waiting.sop_instance_uid] = waiting
                try:
                    status = association.c_store(waiting).status
                except (OSError, AssociationAbortedError):
                    self.losses += 1
                    return waiting
                if status == 0x0000:
                    self.acknowledged.add(waiting.sop_instance_uid)
                else:
                    self.refused.append(status)
                waiting = next(instances)
        return waiting


@dataclass(frozen=True)
class Load:
    """Some senders at work."""

    senders: list[Sender]

    def acknowledged(self) -> int:
        """Return how many instances were acknowledged so far."""
        return sum(len(sender.acknowledged) for sender in self.senders)

    def wait_for(self, more: int) -> None:
        """Wait until each sender has had this many further acknowledgements."""
        goals = [(sender, len(sender.acknowledged) + more) for sender in self.senders]
        wait_until(
            lambda: all(len(sender.acknowledged) >= goal for sender, goal in goals),
            f"{more} more acknowledgements for each sender",
            60,
        )

    def stop(self) -> None:
        """Tell the senders to stop after the answer they wait for."""
        for sender in self.senders:
            sender.stop.set()


@contextmanager
def senders_at_work(node: Node, count: int) -> Iterator[Load]:
    """Run this many senders during the block."""
    load = Load([Sender(node) for _ in range(count)])
    threads = [Thread(target=sender.run) for sender in load.senders]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join(90)


def check_nothing_is_lost(load: Load, node: Node, receiver: Receiver) -> int:
    """Assert that each acknowledged instance is found and delivered byte for byte.

    Also that each row leads to a file: all that is found is delivered, as it was sent.

    Returns:
        The number of instances that are held.
    """
    held = 0
    for sender in load.senders:
        study = sender.study_instance_uid
        found = _found(node, study)
        lost = sender.acknowledged - found
        assert not lost, f"{len(lost)} of {len(sender.acknowledged)} acknowledged are not found"
        identifier = identifier_of("STUDY", StudyInstanceUID=study)
        final = move(node.address, STUDY_ROOT_MOVE, receiver.ae_title, identifier)
        assert (final.status, final.counters) == (0x0000, (None, len(found), 0, 0))
        _check_delivery(receiver.folder, {uid: sender.sent[uid] for uid in found})
        held += len(found)
    return held


def _found(node: Node, study: str) -> set[str]:
    """Return the SOP Instance UIDs that queries down to IMAGE level find in a study."""
    keys = {"StudyInstanceUID": study}
    series, _ = find(
        node.address, STUDY_ROOT_FIND, identifier_of("SERIES", **keys, SeriesInstanceUID="")
    )
    found: list[str] = []
    for each in series:
        upper = {**keys, "SeriesInstanceUID": each.SeriesInstanceUID}
        identifier = identifier_of("IMAGE", **upper, SOPInstanceUID="")
        images, final = find(node.address, STUDY_ROOT_FIND, identifier)
        assert final.status == 0x0000
        found += [image.SOPInstanceUID for image in images]
    assert len(found) == len(set(found)), "an instance is listed twice"
    return set(found)


def _check_delivery(folder: Path, instances: dict[str, Instance]) -> None:
    """Assert that storescp has written exactly these instances, then empty its folder."""
    delivered = {}
    for path in folder.iterdir():
        # storescp names a file by a word for the modality and the SOP Instance UID.
        delivered[path.name.partition(".")[2]] = encoded_data_set_of(path)
        path.unlink()
    assert delivered.keys() == instances.keys()
    damaged = [
        uid for uid, instance in instances.items() if delivered[uid] != instance.encoded_data_set
    ]
    assert not damaged
