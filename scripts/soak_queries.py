"""The queries and retrievals of the soak, by DCMTK's findscu and movescu.

Each asks for what was acknowledged before it, and compares.
"""

import re
from dataclasses import dataclass
from random import Random

from soak_ledger import SUCCESS
from soak_objects import Study, digest_of
from soak_senders import Peer

from tests.support.dcmtk import Receiver, run_tool
from tests.support.instances import encoded_data_set_of

_PENDING = (0xFF00, 0xFF01)
_STATUS = re.compile(r"DIMSE Status +: 0x([0-9a-f]{4})")


@dataclass(frozen=True, slots=True)
class _Query:
    """A C-FIND: its root as an option of findscu, its keys, the fewest answers to expect."""

    root: str
    keys: tuple[str, ...]
    least: int


def find(peer: Peer, random: Random) -> None:
    """Query at one of the levels for a study that was sent."""
    study = peer.ledger.sent_study(random)
    if study is None:
        return
    level = random.choice(("PATIENT", "STUDY", "SERIES", "IMAGE"))
    query = _query(peer, study, level)
    keys = (f"QueryRetrieveLevel={level}", *query.keys)
    done = _run("findscu", peer, query.root, keys)
    if not done or done[-1] in _PENDING:
        peer.events.lose("findscu")
        return
    peer.events.count(f"C-FIND: {level}")
    answers = len(done) - 1
    if done[-1] != SUCCESS:
        peer.events.surprise(f"C-FIND {level} was answered with 0x{done[-1]:04X}")
    elif answers < query.least:
        peer.events.surprise(f"C-FIND {level} found less than was acknowledged before")


def _query(peer: Peer, study: Study, level: str) -> _Query:
    first = peer.objects.instance(study, 0)
    unique = (f"StudyInstanceUID={first.study_instance_uid}",)
    match level:
        case "PATIENT":
            # One digit is left open: up to ten patients.
            return _Query("-P", (f"PatientID={study.patient_id[:-1]}?", "PatientName"), 1)
        case "STUDY":
            return _Query("-S", (f"PatientID={study.patient_id}", "StudyInstanceUID"), 1)
        case "SERIES":
            return _Query("-S", (*unique, "SeriesInstanceUID", "Modality"), 1)
        case _:
            series = (first.study_instance_uid or "", first.series_instance_uid or "")
            least = len(peer.ledger.acknowledged_in(series))
            return _Query(
                "-S", (*unique, f"SeriesInstanceUID={series[1]}", "SOPInstanceUID"), least
            )


def move(peer: Peer, receiver: Receiver, random: Random) -> None:
    """Retrieve the first series of a study that was sent, and compare what arrives."""
    study = peer.ledger.sent_study(random)
    if study is None:
        return
    first = peer.objects.instance(study, 0)
    series = (first.study_instance_uid or "", first.series_instance_uid or "")
    expected = peer.ledger.acknowledged_in(series)
    for path in receiver.files():
        path.unlink()
    keys = (
        "QueryRetrieveLevel=SERIES",
        f"StudyInstanceUID={series[0]}",
        f"SeriesInstanceUID={series[1]}",
    )
    statuses = _run("movescu", peer, "-S", keys, "-aem", receiver.ae_title)
    if not statuses or statuses[-1] in _PENDING:
        peer.events.lose("movescu")
        return
    peer.events.count("C-MOVE: requests")
    if statuses[-1] != SUCCESS:
        peer.events.surprise(f"C-MOVE was answered with 0x{statuses[-1]:04X}")
        return
    delivered = delivered_digests(receiver)
    peer.events.count("C-MOVE: instances delivered", len(delivered))
    if any(delivered.get(uid) != peer.ledger.offered[uid] for uid in expected):
        peer.events.surprise("C-MOVE delivered less than was acknowledged before, or other bytes")


def delivered_digests(receiver: Receiver) -> dict[str, bytes]:
    """Return the digest of each data set that storescp has written, by SOP Instance UID."""
    # storescp names a file by a word for the modality and the SOP Instance UID.
    return {
        path.name.partition(".")[2]: digest_of(encoded_data_set_of(path))
        for path in receiver.files()
    }


def _run(tool: str, peer: Peer, root: str, keys: tuple[str, ...], *options: str) -> list[int]:
    """Return the statuses of all responses, in order."""
    key_options = [word for key in keys for word in ("-k", key)]
    host, port = peer.address
    done = run_tool(tool, "-d", "-aec", "PACSNODE", root, *options, *key_options, host, str(port))
    return [int(status, 16) for status in _STATUS.findall(done.output)]
