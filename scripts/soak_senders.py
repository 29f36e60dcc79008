"""The senders of the soak: a plain requestor, DCMTK's two, and one that repeats what is kept."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from soak_ledger import ELEMENTS_DISCARDED, SUCCESS, Events, Ledger
from soak_objects import SMALL, Objects, with_other_content

from tests.support.dcmtk import Address, run_tool
from tests.support.instances import Instance, write_instance
from tests.support.wire import Association, AssociationAbortedError, storage_contexts

_MOST_AGAIN = 20  # instances sent again at one time
_MESSAGE = re.compile(
    r"Message Type +: (C-STORE R(?:Q|SP))"
    r"|Affected SOP Instance UID +: (\S+)"
    r"|DIMSE Status +: 0x([0-9a-f]{4})"
)


@dataclass(frozen=True, slots=True)
class Peer:
    """The node as the load sees it, and where the load keeps its account.

    Attributes:
        address: host and port of the node.
        objects: what is sent.
        ledger: what was sent and acknowledged.
        events: what was done.
        folder: for files of the load.
    """

    address: Address
    objects: Objects
    ledger: Ledger
    events: Events
    folder: Path


def send_by_wire(peer: Peer, random: Random) -> None:
    """Send a new study in one association; what a kill leaves unanswered goes in another one."""
    study = peer.ledger.new_study(random)
    waiting = peer.objects.instances(study)
    while waiting:
        answered = _send_in_one_association(peer, waiting)
        if answered:
            peer.ledger.study_is_sent(study)
        waiting = waiting[answered:]


def send_by_dcmtk(peer: Peer, random: Random) -> None:
    """Send a new study with storescu or dcmsend, then sometimes the same files again."""
    study = peer.ledger.new_study(random)
    instances = {each.sop_instance_uid: each for each in peer.objects.instances(study)}
    folder = peer.folder / "to-send"
    shutil.rmtree(folder, ignore_errors=True)
    paths = [write_instance(each, folder / uid) for uid, each in instances.items()]
    for instance in instances.values():
        peer.ledger.offer(instance)
    again = random.random() < 0.3  # noqa: PLR2004 - some of them
    for tool in random.sample(("storescu", "dcmsend"), 2 if again else 1):
        answers = _run_sender(tool, peer, paths)
        for uid, status in answers:
            _account(peer, instances[uid], status, tool)
        if answers:
            peer.ledger.study_is_sent(study)
        if len(answers) < len(instances):
            peer.events.lose(tool)


def send_again(peer: Peer, random: Random) -> None:
    """Send instances that are kept: the same bytes, or other pixels under the same UID."""
    study = peer.ledger.sent_study(random)
    if study is None:
        return
    count = min(study.kind.instances, _MOST_AGAIN)
    numbers = random.sample(range(study.kind.instances), count)
    instances = [peer.objects.instance(study, number) for number in numbers]
    instances = [each for each in instances if peer.ledger.is_acknowledged(each)]
    if study.kind is SMALL and random.random() < 0.2:  # noqa: PLR2004 - some of them
        instances = [with_other_content(each) for each in instances[:3]]
    peer.events.count("sent again: instances", _send_in_one_association(peer, instances))


def _send_in_one_association(peer: Peer, instances: Sequence[Instance]) -> int:
    """Send until the association is lost; return how many were answered."""
    if not instances:
        return 0
    answered = 0
    try:
        with Association(peer.address, storage_contexts(instances)) as association:
            for instance in instances:
                peer.ledger.offer(instance)
                _account(peer, instance, association.c_store(instance).status, "requestor")
                answered += 1
    except (OSError, AssociationAbortedError):
        peer.events.lose("requestor")
    return answered


def _account(peer: Peer, instance: Instance, status: int, who: str) -> None:
    """Write down the answer to one C-STORE."""
    if status in (SUCCESS, ELEMENTS_DISCARDED):
        peer.ledger.acknowledge(instance, status)
        peer.events.count(f"stored: by {who}")
    else:
        peer.events.surprise(f"C-STORE of {who} was answered with 0x{status:04X}")


def _run_sender(tool: str, peer: Peer, paths: Sequence[Path]) -> list[tuple[str, int]]:
    host, port = peer.address
    done = run_tool(tool, "-d", "-nh", "-aec", "PACSNODE", host, str(port), *map(str, paths))
    return answers_in(done.output)


def answers_in(output: str) -> list[tuple[str, int]]:
    """Return SOP Instance UID and status of each C-STORE response in DCMTK's debug output."""
    answers = []
    message_type = uid = ""
    for found in _MESSAGE.finditer(output):
        if found[1]:
            message_type = found[1]
        elif found[2]:
            uid = found[2]
        elif message_type == "C-STORE RSP":
            answers.append((uid, int(found[3], 16)))
    return answers
