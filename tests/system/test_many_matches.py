"""A query with many matches: memory, cancel, and requestors that are slow.

Source: PS3.4 C.4.1.3.1; PS3.7 9.3.2.3; rules D-1, D-9, D-30.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacsnode.catalog import Catalog
from tests.catalog.rows import add_all, new_instance
from tests.support.instances import ct_data_set, encoded
from tests.support.node import Node, new_node, under_attack
from tests.support.waiting import wait_until
from tests.support.wire import (
    STUDY_ROOT_FIND,
    Association,
    Requestor,
    Response,
    encoded_identifier,
    identifier_of,
    query_contexts,
    store_all,
)

pytestmark = pytest.mark.system

_STUDIES = 20_000
_LONG_TEXT = "A description that is as long as one may be, and so takes its time"[:64]
_KEYS = [
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyDescription",
    "PatientID",
    "PatientName",
    "ReferringPhysicianName",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
]
_MESSAGE_ID = 7
_MOST_GROWTH_BYTES = 6 * 1024**2
_PENDING = (0xFF00, 0xFF01)


@pytest.fixture(scope="module")
def large(module_folder: Path) -> Iterator[Node]:
    """A node of one worker whose catalog has so many studies; their files are not there."""
    node = new_node(module_folder / "large", **under_attack())
    node.folder.mkdir(parents=True)
    catalog = Catalog(f"sqlite:///{node.folder}/catalog.sqlite", is_durable=False)
    add_all(
        catalog,
        (
            new_instance(
                StudyInstanceUID=f"1.2.826.0.1.3680043.8.498.1.{number}",
                StudyDate=f"20{number % 20:02}0115",
                StudyTime="101530",
                AccessionNumber=f"ACC{number}",
                StudyDescription=_LONG_TEXT,
                PatientID=f"EX{number}",
                PatientName="Example^Emma",
                ReferringPhysicianName="Doctor^Daisy",
                Modality="CT",
            )
            for number in range(_STUDIES)
        ),
    )
    catalog.close()
    try:
        node.start()
        yield node
    finally:
        node.kill()
    assert "Traceback" not in node.log


def _all_studies(**keys: str) -> bytes:
    return encoded_identifier(identifier_of("STUDY", **{**dict.fromkeys(_KEYS, ""), **keys}))


def _ask(association: Association, identifier: bytes) -> int:
    """Send a C-FIND request without reading what comes back; return its context."""
    context_id = association.accepted(STUDY_ROOT_FIND)
    assert context_id is not None
    association.send_command(
        context_id,
        {
            0x0002: STUDY_ROOT_FIND.encode() + b"\0",
            0x0100: (0x0020).to_bytes(2, "little"),
            0x0110: _MESSAGE_ID.to_bytes(2, "little"),
            0x0700: bytes(2),
            0x0800: b"\1\0",
        },
    )
    association.send_data_set(context_id, identifier)
    return context_id


def _answers(association: Association) -> Iterator[Response]:
    """Yield all responses, the last one too."""
    while (response := association.receive()).status in _PENDING:
        yield response
    yield response


def _own_bytes(node: Node) -> int:
    """Return the memory of the only worker that is no file's."""
    (worker,) = node.workers()
    status = Path(f"/proc/{worker}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def test_memory_does_not_grow_with_the_matches(large: Node) -> None:
    """Twenty thousand answers need as much memory as a thousand: what was sent is gone (D-9)."""
    with Association(large.address, query_contexts()) as association:
        _ask(association, _all_studies(StudyDate="20000115"))
        assert sum(1 for _ in _answers(association)) == _STUDIES // 20 + 1
        before = most = _own_bytes(large)
        _ask(association, _all_studies())
        count = 0
        for count, _ in enumerate(_answers(association)):
            if count % 2_000 == 0:
                most = max(most, _own_bytes(large))
        assert count == _STUDIES
    assert most - before < _MOST_GROWTH_BYTES


def test_every_study_is_answered_once(large: Node) -> None:
    """Pages and chunks neither repeat nor leave out a match, and keep the order (D-1, D-9)."""
    with Association(large.address, query_contexts()) as association:
        _ask(association, _all_studies())
        *matches, _ = _answers(association)
    studies = [(each.identifier.StudyDate, each.identifier.StudyInstanceUID) for each in matches]
    assert len(set(studies)) == len(studies) == _STUDIES
    dates = [date for date, _ in studies]
    assert dates == sorted(dates, reverse=True)


def test_a_requestor_that_reads_nothing_holds_up_nobody(large: Node) -> None:
    """While a query waits for its requestor, the catalog is neither locked nor read (D-9)."""
    requestor = Requestor(receive_buffer_bytes=65_536)
    with Association(large.address, query_contexts(), requestor) as association:
        queries = large.log.count("C-FIND")
        _ask(association, _all_studies())
        first = association.receive()
        assert first.status == 0xFF00
        instance = encoded(ct_data_set(StudyDate="19991231"))
        store_all(large.address, [instance])
        with sqlite3.connect(large.folder / "catalog.sqlite") as catalog:
            # Only what nobody reads can be cut off.
            wait_until(lambda: _checkpoint(catalog) == 0, "all readers to be done")
        catalog.close()
        assert large.log.count("C-FIND") == queries
        count = sum(1 for _ in _answers(association))
    assert count in {_STUDIES, _STUDIES + 1}  # but for the first; it may have the new study


def _checkpoint(catalog: sqlite3.Connection) -> int:
    """Write the whole log back and empty it; return whether a reader was in the way."""
    (busy, _, _) = catalog.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return int(busy)


def test_a_cancel_amid_many_answers_ends_them(large: Node) -> None:
    """FE00 comes long before the last match, and the association is as good as new (D-30)."""
    with Association(large.address, query_contexts()) as association:
        context_id = _ask(association, _all_studies())
        assert association.receive().status == 0xFF00
        association.send_cancel(context_id, _MESSAGE_ID)
        *matches, last = _answers(association)
        assert last.status == 0xFE00
        assert last.encoded_data_set is None
        assert len(matches) < _STUDIES // 2
        _ask(association, _all_studies(StudyDate="20000115"))
        assert sum(1 for _ in _answers(association)) == _STUDIES // 20 + 1
