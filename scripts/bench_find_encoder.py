"""How long it takes to encode one answer, in this process."""

import time
from typing import Final

from bench_find_archive import Archive
from bench_find_queries import STUDY_KEYWORDS

from pacsnode.dicom.answer import AnswerEncoder
from pacsnode.dicom.attributes import BY_KEYWORD
from pacsnode.dicom.character_sets import UTF_8
from pacsnode.dicom.information_model import STUDY_ROOT, Level
from pacsnode.dicom.query import Query, ReturnKey
from pacsnode.dicom.transfer_syntax import encoding_of

_STUDIES: Final = 5_000
_MICROSECONDS_PER_SECOND: Final = 1_000_000


def encoding_microseconds() -> float:
    """Return the time for one answer of STUDY level with ten Attributes: the mean."""
    attributes = [BY_KEYWORD[keyword] for keyword in STUDY_KEYWORDS]
    query = Query(
        model=STUDY_ROOT,
        level=Level.STUDY,
        matching_keys=(),
        return_keys=tuple(ReturnKey(attribute, attribute.tag) for attribute in attributes),
        has_unsupported_keys=False,
        character_sets=UTF_8,
    )
    archive = Archive(_STUDIES)
    studies = [archive.study(number) for number in range(_STUDIES)]
    matches = [tuple(study[keyword] for keyword in STUDY_KEYWORDS) for study in studies]
    encoder = AnswerEncoder(query, "PACSNODE", encoding_of("1.2.840.10008.1.2"))
    started_at = time.perf_counter()
    for values in matches:
        encoder.encode(values)
    return (time.perf_counter() - started_at) / _STUDIES * _MICROSECONDS_PER_SECOND
