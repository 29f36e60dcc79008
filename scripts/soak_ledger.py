"""What the node was sent and what it has promised to keep, and what happened meanwhile."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from random import Random
from threading import Lock

from soak_objects import KINDS, Kind, Study, digest_of

from tests.support.instances import Instance

SUCCESS = 0x0000
ELEMENTS_DISCARDED = 0xB000  # the node's answer to other content under a UID that it keeps
_EXPLAINED_SECONDS = 3.0  # how long after a kill a peer may still be about to notice

SeriesUIDs = tuple[str, str]


class Ledger:
    """Every instance sent, and which of them were acknowledged. Any thread may write.

    Attributes:
        offered: digest of what was sent first under each SOP Instance UID.
        acknowledged: the SOP Instance UIDs answered with Success or a warning, by Study and Series
            Instance UID.
        set_aside: SOP Instance UID and digest of other content that was answered with a warning.
        contradicted: SOP Instance UIDs for which other content was answered with Success.
        length_bytes: of all data sets acknowledged, again and again if they were sent so.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.offered: dict[str, bytes] = {}
        self.acknowledged: defaultdict[SeriesUIDs, set[str]] = defaultdict(set)
        self.set_aside: set[tuple[str, bytes]] = set()
        self.contradicted: set[str] = set()
        self.length_bytes = 0
        self._studies: list[Study] = []
        self._study_count = 0
        self._lock = Lock()

    def new_study(self, random: Random, kind: Kind | None = None) -> Study:
        """Return a study that was not sent yet, of a kind drawn by share if none is given."""
        drawn = kind or random.choices(KINDS, [each.share for each in KINDS])[0]
        with self._lock:
            self._study_count += 1
            return Study(self._study_count, drawn)

    def study_is_sent(self, study: Study) -> None:
        """Remember that some of a study was acknowledged."""
        with self._lock:
            self._studies.append(study)

    def sent_study(self, random: Random) -> Study | None:
        """Return a study some of which was acknowledged; None if there is none yet."""
        with self._lock:
            return random.choice(self._studies) if self._studies else None

    def offer(self, instance: Instance) -> None:
        """Remember an instance that is about to be sent; what was sent first counts."""
        digest = digest_of(instance.encoded_data_set)
        with self._lock:
            self.offered.setdefault(instance.sop_instance_uid, digest)

    def acknowledge(self, instance: Instance, status: int) -> None:
        """Remember an instance that was answered with Success or a warning."""
        uid, digest = instance.sop_instance_uid, digest_of(instance.encoded_data_set)
        with self._lock:
            self.length_bytes += len(instance.encoded_data_set)
            if digest == self.offered[uid]:
                self.acknowledged[series_of(instance)].add(uid)
            elif status == ELEMENTS_DISCARDED:
                self.set_aside.add((uid, digest))
            else:
                self.contradicted.add(uid)

    def is_acknowledged(self, instance: Instance) -> bool:
        """Tell whether the instance of this UID was acknowledged so far."""
        with self._lock:
            return instance.sop_instance_uid in self.acknowledged.get(series_of(instance), ())

    def acknowledged_in(self, series: SeriesUIDs) -> set[str]:
        """Return the SOP Instance UIDs acknowledged so far in a series."""
        with self._lock:
            return set(self.acknowledged.get(series, ()))

    def acknowledged_uids(self) -> set[str]:
        """Return all SOP Instance UIDs acknowledged so far."""
        with self._lock:
            return {uid for uids in self.acknowledged.values() for uid in uids}


@dataclass(frozen=True, slots=True)
class Loss:
    """An association that broke: of whom, and when by the monotonic clock."""

    who: str
    at_seconds: float


class Events:
    """Counts of what was done, and whatever should not have happened. Any thread may write.

    Attributes:
        counts: how often what was done, by `group: what`.
        losses: associations that the node's side has broken.
        kills: when a worker was killed, by its process id.
        surprises: what no kill can explain, in words; each once, with how often.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.counts: Counter[str] = Counter()
        self.losses: list[Loss] = []
        self.kills: dict[int, float] = {}
        self.surprises: Counter[str] = Counter()
        self._lock = Lock()

    def count(self, what: str, number: int = 1) -> None:
        """Count something that was done."""
        with self._lock:
            self.counts[what] += number

    def lose(self, who: str) -> None:
        """Note that an association has just broken."""
        with self._lock:
            self.losses.append(Loss(who, time.monotonic()))

    def kill(self, pid: int) -> None:
        """Note that a worker is killed now."""
        with self._lock:
            self.kills[pid] = time.monotonic()
            self.counts["disturbed: workers killed"] += 1

    def surprise(self, what: str) -> None:
        """Note what should not have happened."""
        with self._lock:
            self.surprises[what] += 1

    def groups(self) -> dict[str, dict[str, int]]:
        """Return the counts by group, in the order of their names."""
        groups: dict[str, dict[str, int]] = {}
        for name, number in sorted(self.counts.items()):
            group, _, what = name.partition(": ")
            groups.setdefault(group, {})[what] = number
        return groups

    def unexplained_losses(self) -> list[Loss]:
        """Return the losses that did not follow a kill."""
        return [each for each in self.losses if not is_explained(each.at_seconds, self.kills)]


def is_explained(at_seconds: float, kills: dict[int, float]) -> bool:
    """Tell whether what happened at this time followed the kill of a worker."""
    return any(0 <= at_seconds - kill <= _EXPLAINED_SECONDS for kill in kills.values())


def series_of(instance: Instance) -> SeriesUIDs:
    """Return Study and Series Instance UID of an instance that has them."""
    return instance.study_instance_uid or "", instance.series_instance_uid or ""
