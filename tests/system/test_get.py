"""C-GET on the wire: what is delivered on the same association, and how it is counted.

Source: PS3.4 C.4.3; PS3.7 9.3.3.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from tests.support import collection
from tests.support.collection import NATIVE, S1, S1_CT, S1_SR, S2, S3
from tests.support.instances import many_instances
from tests.support.node import Node, running_node
from tests.support.wire import (
    PATIENT_ROOT_GET,
    STUDY_ROOT_GET,
    Association,
    Requestor,
    Response,
    Retrieval,
    SubOperation,
    get,
    get_contexts,
    identifier_of,
    store_all,
)

pytestmark = pytest.mark.system

_INSTANCES = list(NATIVE.values())
_MANY_STUDY = "1.2.826.0.1.3680043.8.498.89.1"
_MANY = list(many_instances(40, StudyInstanceUID=_MANY_STUDY))
_ROLES = {CTImageStorage: (0, 1), BasicTextSRStorage: (0, 1)}
_STUDY = identifier_of("STUDY", StudyInstanceUID=S1)


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node that holds the collection and a study of 40 images; it knows no remote AE."""
    with running_node(module_folder) as running:
        store_all(running.address, [*_INSTANCES, *_MANY])
        yield running


def _requested(node: Node, requestor: Requestor | None = None) -> Association:
    asked = requestor or Requestor(roles=_ROLES)
    return Association(node.address, get_contexts(_INSTANCES), asked)


def _data_sets(got: Retrieval) -> dict[str, bytes]:
    received = {each.sop_instance_uid: each.encoded_data_set for each in got.stored}
    assert len(received) == len(got.stored), "an instance came twice"
    return received


@pytest.mark.parametrize(
    ("model", "level", "keys", "above"),
    [
        (PATIENT_ROOT_GET, "PATIENT", {"PatientID": "RET1"}, "RET1"),
        (PATIENT_ROOT_GET, "STUDY", {"PatientID": "RET1", "StudyInstanceUID": S1}, S1),
        (STUDY_ROOT_GET, "STUDY", {"StudyInstanceUID": S1}, S1),
        (STUDY_ROOT_GET, "SERIES", {"StudyInstanceUID": S1, "SeriesInstanceUID": S1_SR}, S1_SR),
        (
            STUDY_ROOT_GET,
            "IMAGE",
            {
                "StudyInstanceUID": S1,
                "SeriesInstanceUID": S1_CT,
                "SOPInstanceUID": f"{S1_CT}.3",
            },
            f"{S1_CT}.3",
        ),
    ],
)
def test_every_instance_below_the_entity_comes_byte_for_byte(
    node: Node, model: str, level: str, keys: dict[str, str], above: str
) -> None:
    """All of it, once, and nothing else; the final response counts it (E-2, E-7, E-9)."""
    got = get(node.address, model, identifier_of(level, **keys), _INSTANCES)

    expected = collection.of(NATIVE, above)
    assert _data_sets(got) == expected
    assert (got.final.status, got.final.counters) == (0x0000, (None, len(expected), 0, 0))
    assert got.final.encoded_data_set is None


def test_a_list_of_uids_comes(node: Node) -> None:
    """Two studies, one of them twice, and one that is not held (E-2)."""
    identifier = identifier_of("STUDY", StudyInstanceUID=f"{S2}\\{S3}\\1.2.3\\{S2}")

    got = get(node.address, STUDY_ROOT_GET, identifier, _INSTANCES)

    assert _data_sets(got) == collection.of(NATIVE, S2) | collection.of(NATIVE, S3)
    assert got.final.counters == (None, 3, 0, 0)


def test_a_sub_operation_has_no_move_originator(node: Node) -> None:
    """Nor is anything else in it that belongs to a C-MOVE; Message IDs differ (E-14, E-15)."""
    got = get(node.address, STUDY_ROOT_GET, _STUDY, _INSTANCES)

    for each in got.stored:
        assert each.command.keys() == {0x0000, 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000}
    assert len({each.message_id for each in got.stored}) == 4


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_the_sub_operations_have_the_priority_of_the_request(node: Node, priority: int) -> None:
    """LOW, MEDIUM and HIGH (E-13)."""
    with _requested(node) as association:
        priorities = set()
        for message in association.start_get(STUDY_ROOT_GET, _STUDY, priority):
            if isinstance(message, SubOperation):
                priorities.add(message.priority)
                association.answer_store(message)

    assert priorities == {priority}


@pytest.mark.parametrize(
    ("statuses", "final", "counters"),
    [
        ((0x0000, 0xA700), "B000", (None, 1, 1, 0)),
        ((0x0000, 0xB000), "B000", (None, 1, 0, 1)),
        ((0xB000, 0xB007), "B000", (None, 0, 0, 2)),
        ((0xA700, 0xC123), "A702", (None, 0, 2, 0)),
        ((0xA700, 0x0107), "B000", (None, 0, 1, 1)),
    ],
)
def test_the_final_response_follows_from_the_answers(
    node: Node, statuses: tuple[int, int], final: str, counters: tuple[int | None, ...]
) -> None:
    """As for a C-MOVE; the list iff something has failed (E-8 to E-10, E-16)."""
    remaining = iter(statuses)
    failed = set()

    def answer(sub_operation: SubOperation) -> int:
        status = next(remaining)
        if status in {0xA700, 0xC123}:
            failed.add(sub_operation.sop_instance_uid)
        return status

    with _requested(node) as association:
        identifier = identifier_of("STUDY", StudyInstanceUID=S2)
        got = association.c_get(STUDY_ROOT_GET, identifier, answer)

    assert (f"{got.final.status:04X}", got.final.counters) == (final, counters)
    assert got.final.failed_sop_instance_uids == failed
    assert (got.final.encoded_data_set is None) == (not failed)


def test_each_pending_response_accounts_for_every_sub_operation(node: Node) -> None:
    """All four counters, which add up; no Data Set; the final one has no Remaining (E-9, E-12)."""
    with _requested(node) as association:
        got = association.c_get(
            STUDY_ROOT_GET, identifier_of("STUDY", StudyInstanceUID=_MANY_STUDY)
        )

    *pending, final = got.responses
    assert pending
    for response in pending:
        assert response.status == 0xFF00
        assert sum(number or 0 for number in response.counters) == 40
        assert response.encoded_data_set is None
    assert final.counters == (None, 40, 0, 0)
    assert {each.context_id for each in got.responses} == {association.accepted(STUDY_ROOT_GET)}


@pytest.mark.parametrize("before_the_answer", [True, False])
def test_a_cancel_amid_the_instances_stops_them(node: Node, *, before_the_answer: bool) -> None:
    """FE00: what is on its way is counted, what was not started remains (E-17)."""
    came = []
    with _requested(node) as association:
        identifier = identifier_of("STUDY", StudyInstanceUID=_MANY_STUDY)
        for message in association.start_get(STUDY_ROOT_GET, identifier):
            if isinstance(message, Response):
                final = message
                continue
            came.append(message)
            if len(came) == 3 and before_the_answer:
                association.cancel()
            association.answer_store(message)
            if len(came) == 3 and not before_the_answer:
                association.cancel()
        again = association.c_get(STUDY_ROOT_GET, _STUDY)

    assert f"{final.status:04X}" == "FE00"
    assert final.counters == (40 - len(came), len(came), 0, 0)
    assert final.encoded_data_set is None
    assert 3 <= len(came) < 40
    assert again.final.counters == (None, 4, 0, 0)


def test_an_invalid_identifier_gets_nothing(node: Node) -> None:
    """A900 with Offending Element and Error Comment, no counters (B-2, B-19)."""
    got = get(
        node.address, STUDY_ROOT_GET, identifier_of("SERIES", SeriesInstanceUID=S1_CT), _INSTANCES
    )

    assert f"{got.final.status:04X}" == "A900"
    assert got.final.offending_elements == [(0x0020, 0x000D)]
    assert got.final.error_comment
    assert got.stored == []


def test_no_match_is_success(node: Node) -> None:
    """With no sub-operation and no Data Set (E-3)."""
    got = get(
        node.address, STUDY_ROOT_GET, identifier_of("STUDY", StudyInstanceUID="1.2.3"), _INSTANCES
    )

    assert got.final.status == 0x0000
    assert [counter or 0 for counter in got.final.counters] == [0, 0, 0, 0]
    assert (got.stored, got.final.encoded_data_set) == ([], None)


def test_a_deleted_file_has_failed_and_the_rest_comes(node: Node) -> None:
    """With its reason in the log, where `pacsnode why` has it, too (E-21)."""
    (path,) = (each for each in node.stored_files() if each.stem == f"{S1_CT}.2")
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        got = get(node.address, STUDY_ROOT_GET, _STUDY, _INSTANCES)
    finally:
        hidden.rename(path)

    assert (f"{got.final.status:04X}", got.final.counters) == ("B000", (None, 3, 1, 0))
    assert got.final.failed_sop_instance_uids == {f"{S1_CT}.2"}
    why = node.run("why", f"{S1_CT}.2")
    assert "file missing or unreadable" in why.stdout
    assert "C-GET" in why.stdout
