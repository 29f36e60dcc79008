"""C-MOVE: what is delivered, and how the responses account for it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from tests.support.destination import Destination, destination
from tests.support.instances import Instance, ct_data_set, encoded, many_instances, sr_data_set
from tests.support.node import Node, free_port, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_MOVE,
    Association,
    Requestor,
    Response,
    identifier_of,
    move,
    query_contexts,
    store_all,
)

pytestmark = pytest.mark.system

_ROOT = "1.2.826.0.1.3680043.8.498.78"
S1, S2, S3, S4 = (f"{_ROOT}.{number}" for number in range(1, 5))
S1_CT, S1_SR, S2_CT, S3_CT, S4_CT = f"{S1}.1", f"{S1}.2", f"{S2}.1", f"{S3}.1", f"{S4}.1"
_LARGE_COUNT = 60


def _instance(patient: str, study: str, series: str, number: int) -> Instance:
    make = sr_data_set if series == S1_SR else ct_data_set
    return encoded(
        make(
            PatientID=patient,
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=f"{series}.{number}",
            InstanceNumber=number,
        )
    )


_INSTANCES = {
    instance.sop_instance_uid: instance
    for instance in (
        _instance("EX1", S1, S1_CT, 1),
        _instance("EX1", S1, S1_CT, 2),
        _instance("EX1", S1, S1_CT, 3),
        _instance("EX1", S1, S1_SR, 1),
        _instance("EX1", S2, S2_CT, 1),
        _instance("EX1", S2, S2_CT, 2),
        _instance("EX2", S3, S3_CT, 1),
    )
}
_OF_S1 = {f"{S1_CT}.1", f"{S1_CT}.2", f"{S1_CT}.3", f"{S1_SR}.1"}


@dataclass
class Place:
    """The node and its move destinations."""

    node: Node
    full: Destination
    ct_only: Destination
    warning: Destination
    failing: Destination
    slow: Destination
    gate: Event

    def move(self, model: str, ae_title: str, level: str | None, **keys: str) -> Response:
        """Return the final response of a C-MOVE."""
        return move(self.node.address, model, ae_title, identifier_of(level, **keys))


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """A node that holds the instances above, and a study of many, with five destinations."""
    gate = Event()
    both = (CTImageStorage, BasicTextSRStorage)
    with ExitStack() as stack:
        made = {
            "full": stack.enter_context(destination("FULL", both)),
            "ct_only": stack.enter_context(destination("CTONLY")),
            "warning": stack.enter_context(destination("WARNING", both, status_of=_coerced)),
            "failing": stack.enter_context(destination("FAILING", both, status_of=_full)),
            "slow": stack.enter_context(
                destination("SLOW", both, status_of=lambda _: 0 if gate.wait(30) else 0xA700)
            ),
        }
        rejecting = stack.enter_context(destination("REJECTING", both, rejects=True))
        ports = {each.ae_title: each.port for each in [*made.values(), rejecting]}
        ports["DOWN"] = free_port()
        remote_aes = [
            {"ae_title": title, "host": "127.0.0.1", "port": port} for title, port in ports.items()
        ]
        node = stack.enter_context(running_node(module_folder, remote_aes=remote_aes))
        of_s4 = {"PatientID": "MANY", "StudyInstanceUID": S4, "SeriesInstanceUID": S4_CT}
        many = list(many_instances(_LARGE_COUNT, **of_s4))
        store_all(node.address, [*_INSTANCES.values(), *many])
        yield Place(node, gate=gate, **made)
        gate.set()


@pytest.fixture(autouse=True)
def _fresh_destinations(place: Place) -> None:
    for each in (place.full, place.ct_only, place.warning, place.failing, place.slow):
        each.forget()


def _coerced(_: object) -> int:
    return 0xB000


def _full(_: object) -> int:
    return 0xA700


def _delivered(to: Destination) -> dict[str, bytes]:
    """Return the received data sets by SOP Instance UID; each must have come once."""
    received = {store.sop_instance_uid: store.encoded_data_set for store in to.received}
    assert len(received) == len(to.received)
    return received


def _as_stored(uids: Sequence[str] | set[str]) -> dict[str, bytes]:
    return {uid: _INSTANCES[uid].encoded_data_set for uid in uids}


@pytest.mark.parametrize(
    ("model", "level", "keys", "moved"),
    [
        pytest.param(*case[1:], id=case[0])
        for case in (
            (
                "patient",
                PATIENT_ROOT_MOVE,
                "PATIENT",
                {"PatientID": "EX1"},
                _OF_S1 | {f"{S2_CT}.1", f"{S2_CT}.2"},
            ),
            (
                "study in patient root",
                PATIENT_ROOT_MOVE,
                "STUDY",
                {"PatientID": "EX1", "StudyInstanceUID": S1},
                _OF_S1,
            ),
            (
                "series in patient root",
                PATIENT_ROOT_MOVE,
                "SERIES",
                {"PatientID": "EX1", "StudyInstanceUID": S1, "SeriesInstanceUID": S1_SR},
                {f"{S1_SR}.1"},
            ),
            (
                "image in patient root",
                PATIENT_ROOT_MOVE,
                "IMAGE",
                {
                    "PatientID": "EX1",
                    "StudyInstanceUID": S1,
                    "SeriesInstanceUID": S1_CT,
                    "SOPInstanceUID": f"{S1_CT}.2",
                },
                {f"{S1_CT}.2"},
            ),
            ("study in study root", STUDY_ROOT_MOVE, "STUDY", {"StudyInstanceUID": S1}, _OF_S1),
            (
                "list of studies",
                STUDY_ROOT_MOVE,
                "STUDY",
                {"StudyInstanceUID": f"{S2}\\{S3}\\1.2.3\\{S2}"},
                {f"{S2_CT}.1", f"{S2_CT}.2", f"{S3_CT}.1"},
            ),
            (
                "series in study root",
                STUDY_ROOT_MOVE,
                "SERIES",
                {"StudyInstanceUID": S1, "SeriesInstanceUID": S1_CT},
                {f"{S1_CT}.1", f"{S1_CT}.2", f"{S1_CT}.3"},
            ),
            (
                "list of images in study root",
                STUDY_ROOT_MOVE,
                "IMAGE",
                {
                    "StudyInstanceUID": S1,
                    "SeriesInstanceUID": S1_CT,
                    "SOPInstanceUID": f"{S1_CT}.1\\{S1_CT}.3",
                },
                {f"{S1_CT}.1", f"{S1_CT}.3"},
            ),
        )
    ],
)
def test_every_instance_below_the_entity_is_delivered_byte_for_byte(
    place: Place, model: str, level: str, keys: dict[str, str], moved: set[str]
) -> None:
    """All of it, once, and nothing else, as it was stored; the final response counts it (E-2)."""
    final = place.move(model, "FULL", level, **keys)

    assert f"{final.status:04X}" == "0000"
    assert final.counters == (None, len(moved), 0, 0)
    assert final.encoded_data_set is None
    assert _delivered(place.full) == _as_stored(moved)


def test_a_series_is_not_moved_under_another_study(place: Place) -> None:
    """The unique keys of the upper levels have to match, too (B-1)."""
    keys = {"StudyInstanceUID": S2, "SeriesInstanceUID": S1_CT}

    final = place.move(STUDY_ROOT_MOVE, "FULL", "SERIES", **keys)

    assert (final.status, place.full.received) == (0x0000, [])


def test_no_match_is_success_with_counters_of_zero(place: Place) -> None:
    """A study that is not held: Success, nothing delivered, no Data Set (E-3)."""
    final = place.move(STUDY_ROOT_MOVE, "FULL", "STUDY", StudyInstanceUID="1.2.3")

    assert f"{final.status:04X}" == "0000"
    assert [counter or 0 for counter in final.counters] == [0, 0, 0, 0]
    assert final.encoded_data_set is None
    assert place.full.received == []


def test_keys_that_are_not_unique_are_ignored(place: Place) -> None:
    """An Accession Number that does not fit does not change what is moved (E-1)."""
    keys = {"StudyInstanceUID": S3, "AccessionNumber": "OTHER", "StudyDate": "20201332"}

    final = place.move(STUDY_ROOT_MOVE, "FULL", "STUDY", **keys)

    assert final.counters == (None, 1, 0, 0)


@pytest.mark.parametrize("ae_title", ["UNKNOWN", "full"])
def test_an_unknown_destination_is_refused(place: Place, ae_title: str) -> None:
    """A801 with a comment, no Data Set; titles are case-sensitive (E-4)."""
    final = place.move(STUDY_ROOT_MOVE, ae_title, "STUDY", StudyInstanceUID=S1)

    assert f"{final.status:04X}" == "A801"
    assert final.error_comment
    assert final.encoded_data_set is None
    assert place.full.associations == 0


@pytest.mark.parametrize("ae_title", ["DOWN", "REJECTING"])
def test_a_destination_that_cannot_be_reached_fails_every_sub_operation(
    place: Place, ae_title: str
) -> None:
    """A702, each instance in the Failed SOP Instance UID List (E-5, E-8, E-10)."""
    final = place.move(STUDY_ROOT_MOVE, ae_title, "STUDY", StudyInstanceUID=S1)

    assert f"{final.status:04X}" == "A702"
    assert final.counters == (None, 0, 4, 0)
    assert final.failed_sop_instance_uids == _OF_S1


def test_a_destination_that_takes_some_sop_classes_gets_those(place: Place) -> None:
    """B000, and the instance without a context is in the failed list (E-8, E-11)."""
    final = place.move(STUDY_ROOT_MOVE, "CTONLY", "STUDY", StudyInstanceUID=S1)

    assert f"{final.status:04X}" == "B000"
    assert final.counters == (None, 3, 1, 0)
    assert final.failed_sop_instance_uids == {f"{S1_SR}.1"}
    assert _delivered(place.ct_only) == _as_stored(_OF_S1 - {f"{S1_SR}.1"})


def test_a_destination_that_takes_none_of_the_sop_classes_is_a_failure(place: Place) -> None:
    """Nothing completed and something failed: A702, not B000 (E-8)."""
    keys = {"StudyInstanceUID": S1, "SeriesInstanceUID": S1_SR}

    final = place.move(STUDY_ROOT_MOVE, "CTONLY", "SERIES", **keys)

    assert f"{final.status:04X}" == "A702"
    assert final.counters == (None, 0, 1, 0)
    assert final.failed_sop_instance_uids == {f"{S1_SR}.1"}


def test_a_refusal_of_the_destination_is_a_failed_sub_operation(place: Place) -> None:
    """A destination that answers A700 to each C-STORE: A702 and the full list (E-16)."""
    final = place.move(STUDY_ROOT_MOVE, "FAILING", "STUDY", StudyInstanceUID=S1)

    assert f"{final.status:04X}" == "A702"
    assert final.counters == (None, 0, 4, 0)
    assert final.failed_sop_instance_uids == _OF_S1


def test_warnings_of_the_destination_are_counted_as_warnings(place: Place) -> None:
    """All answered with B000: final status B000 without a failed list (E-8, E-10, E-16)."""
    final = place.move(STUDY_ROOT_MOVE, "WARNING", "STUDY", StudyInstanceUID=S1)

    assert f"{final.status:04X}" == "B000"
    assert final.counters == (None, 0, 0, 4)
    assert final.encoded_data_set is None


def test_each_pending_response_accounts_for_every_sub_operation(place: Place) -> None:
    """The four counters are there and add up; the final response has no Remaining (E-9)."""
    place.gate.set()
    with Association(place.node.address, query_contexts()) as association:
        identifier = identifier_of("STUDY", StudyInstanceUID=S4)
        *pending, final = association.c_move(STUDY_ROOT_MOVE, "SLOW", identifier)

    assert pending, "one Pending response tells the number of sub-operations at the start (E-12)"
    for response in pending:
        assert response.status == 0xFF00
        assert response.encoded_data_set is None
        numbers = [number for number in response.counters if number is not None]
        assert (len(numbers), sum(numbers)) == (4, _LARGE_COUNT)
    assert final.counters == (None, _LARGE_COUNT, 0, 0)


def test_a_cancelled_move_stops_and_says_what_remains(place: Place) -> None:
    """FE00; what was started is counted, what was not remains (E-17)."""
    place.gate.clear()
    with Association(place.node.address, query_contexts()) as association:
        identifier = identifier_of("STUDY", StudyInstanceUID=S4)
        responses = association.start_move(STUDY_ROOT_MOVE, "SLOW", identifier)
        wait_until(lambda: place.slow.received, "the first sub-operation")
        context_id = association.accepted(STUDY_ROOT_MOVE)
        assert context_id is not None
        association.send_cancel(context_id, association.message_id)
        place.gate.set()
        final = list(responses)[-1]

    assert f"{final.status:04X}" == "FE00"
    remaining, completed, failed, warning = final.counters
    assert (failed, warning) == (0, 0)
    assert completed == len(place.slow.received)
    assert remaining == _LARGE_COUNT - len(place.slow.received)
    assert remaining > 0
    assert final.encoded_data_set is None


def test_the_sub_operations_name_their_originator(place: Place) -> None:
    """Move Originator is who sent the C-MOVE and its Message ID; we call as called (E-14, E-15)."""
    requestor = Requestor(calling_ae_title=b"WORKSTATION")
    with Association(place.node.address, query_contexts(), requestor) as association:
        association.c_echo()
        identifier = identifier_of("STUDY", StudyInstanceUID=S2)
        association.c_move(STUDY_ROOT_MOVE, "FULL", identifier)
        message_id = association.message_id

    assert {store.move_originator_ae_title for store in place.full.received} == {"WORKSTATION"}
    assert {store.move_originator_message_id for store in place.full.received} == {message_id}
    assert {store.calling_ae_title for store in place.full.received} == {"PACSNODE"}
    assert {store.called_ae_title for store in place.full.received} == {"FULL"}
    assert len({store.message_id for store in place.full.received}) == 2


def test_one_association_carries_several_moves(place: Place) -> None:
    """A second C-MOVE on the same association is served like the first."""
    with Association(place.node.address, query_contexts()) as association:
        finals = [
            association.c_move(
                STUDY_ROOT_MOVE, "FULL", identifier_of("STUDY", StudyInstanceUID=study)
            )[-1]
            for study in (S2, S3)
        ]

    assert [final.counters for final in finals] == [(None, 2, 0, 0), (None, 1, 0, 0)]


@pytest.mark.parametrize(
    ("model", "level", "keys", "offending"),
    [
        pytest.param(*case[1:], id=case[0])
        for case in (
            ("no level", STUDY_ROOT_MOVE, None, {"StudyInstanceUID": S1}, (0x0008, 0x0052)),
            (
                "level not in model",
                STUDY_ROOT_MOVE,
                "PATIENT",
                {"PatientID": "EX1"},
                (0x0008, 0x0052),
            ),
            ("study without UID", STUDY_ROOT_MOVE, "STUDY", {}, (0x0020, 0x000D)),
            (
                "study with empty UID",
                STUDY_ROOT_MOVE,
                "STUDY",
                {"StudyInstanceUID": ""},
                (0x0020, 0x000D),
            ),
            (
                "study by wildcard",
                STUDY_ROOT_MOVE,
                "STUDY",
                {"StudyInstanceUID": f"{_ROOT}.*"},
                (0x0020, 0x000D),
            ),
            (
                "study by Patient ID alone",
                PATIENT_ROOT_MOVE,
                "STUDY",
                {"PatientID": "EX1"},
                (0x0020, 0x000D),
            ),
            ("patient without ID", PATIENT_ROOT_MOVE, "PATIENT", {}, (0x0010, 0x0020)),
            (
                "patient by wildcard",
                PATIENT_ROOT_MOVE,
                "PATIENT",
                {"PatientID": "*"},
                (0x0010, 0x0020),
            ),
            (
                "list of patients",
                PATIENT_ROOT_MOVE,
                "PATIENT",
                {"PatientID": "EX1\\EX2"},
                (0x0010, 0x0020),
            ),
            (
                "series without study",
                STUDY_ROOT_MOVE,
                "SERIES",
                {"SeriesInstanceUID": S1_CT},
                (0x0020, 0x000D),
            ),
            (
                "image without series",
                STUDY_ROOT_MOVE,
                "IMAGE",
                {"StudyInstanceUID": S1, "SOPInstanceUID": f"{S1_CT}.1"},
                (0x0020, 0x000E),
            ),
            (
                "image without UID",
                STUDY_ROOT_MOVE,
                "IMAGE",
                {"StudyInstanceUID": S1, "SeriesInstanceUID": S1_CT},
                (0x0008, 0x0018),
            ),
        )
    ],
)
def test_an_invalid_identifier_moves_nothing(
    place: Place, model: str, level: str | None, keys: dict[str, str], offending: tuple[int, int]
) -> None:
    """A900 with Offending Element and Error Comment, and no association (B-2, B-19)."""
    final = place.move(model, "FULL", level, **keys)

    assert f"{final.status:04X}" == "A900"
    assert final.offending_elements == [offending]
    assert final.error_comment
    assert final.encoded_data_set is None
    assert place.full.associations == 0
