"""The queries that are measured, and how: the same ones of every server and every archive."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from bench_find_archive import Archive
from bench_find_requestor import Finding, QueryAssociation, query

_STUDIES_OF_A_RANGE: Final = 100
_MONTH: Final = "20200101-20200131"
_MILLISECONDS_PER_SECOND: Final = 1000
STUDY_KEYWORDS: Final = [
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
]
_COUNTS: Final = [
    "ModalitiesInStudy",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
]
_SERIES: Final = [
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "SeriesDate",
]
_IMAGE: Final = [
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
]


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of query.

    Attributes:
        name: for the tables.
        level: what is asked for.
        keys: returns the keys of one of the measured queries, for its number; the same number gives
            the same query of the same archive.
        runs: how often it is measured.
        aim_milliseconds: to the last answer, with a million instances.
        most_growth: times as long as with ten thousand instances.
        lists_all: what counts is how many answers come in a second.
    """

    name: str
    level: str
    keys: Callable[[Archive, int], Mapping[str, str]]
    runs: int
    aim_milliseconds: float | None = None
    most_growth: float | None = None
    lists_all: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """What was measured of one kind of query."""

    findings: Sequence[Finding]

    @property
    def count(self) -> int:
        """The number of answers: the median."""
        return round(statistics.median(each.answers for each in self.findings))

    @property
    def first_milliseconds(self) -> list[float]:
        """To the first answer, ascending."""
        return _milliseconds([each.first_seconds for each in self.findings])

    @property
    def last_milliseconds(self) -> list[float]:
        """To the last answer, ascending."""
        return _milliseconds([each.last_seconds for each in self.findings])

    @property
    def rate(self) -> float:
        """How many answers came in a second: the median."""
        return statistics.median(each.answers / each.last_seconds for each in self.findings)


def median(ascending: Sequence[float]) -> float:
    """Return the median of some times."""
    return statistics.median(ascending)


def p95(ascending: Sequence[float]) -> float:
    """Return the time that 95 of 100 do not exceed."""
    return ascending[min(len(ascending) * 95 // 100, len(ascending) - 1)]


def measure(
    association: QueryAssociation, question: Question, archive: Archive, runs: int
) -> Answers:
    """Send a kind of query so many times, each but a few with other values.

    Raises:
        OSError: the connection was lost.
        RequestorError: a query has failed.
    """
    requests = [query(question.level, question.keys(archive, at)) for at in range(-1, runs)]
    association.find(requests[0])  # not counted: what is there once for all is made now
    return Answers([association.find(request) for request in requests[1:]])


def _milliseconds(seconds: Sequence[float]) -> list[float]:
    return sorted(each * _MILLISECONDS_PER_SECOND for each in seconds)


def _asked(keywords: Sequence[str], **values: str) -> dict[str, str]:
    return {**dict.fromkeys(keywords, ""), **values}


def _some_study(archive: Archive, number: int) -> Mapping[str, str]:
    """Return a study for the number of a query: they lie far from each other."""
    return archive.study((number * 7919 + 12345) % archive.studies)


def _by_key(keyword: str, archive: Archive, number: int) -> Mapping[str, str]:
    return _asked(STUDY_KEYWORDS, **{keyword: _some_study(archive, number)[keyword]})


def _by_name(pattern: str, _archive: Archive, _number: int) -> Mapping[str, str]:
    return _asked(STUDY_KEYWORDS, PatientName=pattern)


def _by_date(archive: Archive, _number: int) -> Mapping[str, str]:
    return _asked([*STUDY_KEYWORDS, *_COUNTS], StudyDate=archive.days_of(_STUDIES_OF_A_RANGE))


def _by_modality(_archive: Archive, _number: int) -> Mapping[str, str]:
    return _asked(STUDY_KEYWORDS, StudyDate=_MONTH, ModalitiesInStudy="MR")


def _series_of_a_study(archive: Archive, number: int) -> Mapping[str, str]:
    uid = _some_study(archive, number)["StudyInstanceUID"]
    return _asked([*_SERIES, "NumberOfSeriesRelatedInstances"], StudyInstanceUID=uid)


def _images_of_a_series(archive: Archive, number: int) -> Mapping[str, str]:
    uid = _some_study(archive, number)["StudyInstanceUID"]
    return _asked(_IMAGE, StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1")


def _all_studies(_archive: Archive, _number: int) -> Mapping[str, str]:
    return _asked(STUDY_KEYWORDS)


QUESTIONS: Final = (
    Question("study by UID", "STUDY", partial(_by_key, "StudyInstanceUID"), 200, 5, 1.5),
    Question("studies by Patient ID", "STUDY", partial(_by_key, "PatientID"), 200, 5, 1.5),
    Question(
        "study by Accession Number", "STUDY", partial(_by_key, "AccessionNumber"), 200, 5, 1.5
    ),
    Question("Patient's Name SMI*", "STUDY", partial(_by_name, "SMI*"), 20, 300),
    Question("Patient's Name *SMITH*", "STUDY", partial(_by_name, "*SMITH*"), 20, 300),
    Question("dates of 100 studies, with modalities and counts", "STUDY", _by_date, 50, 40),
    Question("Modalities in Study MR, one month", "STUDY", _by_modality, 20, 300),
    Question("series of a study", "SERIES", _series_of_a_study, 200, 5, 1.5),
    Question("images of a series", "IMAGE", _images_of_a_series, 200, 5, 1.5),
    Question("all studies", "STUDY", _all_studies, 5, lists_all=True),
)
