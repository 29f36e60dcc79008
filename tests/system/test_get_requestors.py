"""C-GET: requestors that ask for certain roles, take short PDUs only, or break the rules.

Source: PS3.4 C.4.3; PS3.7 D.3.3.4; PS3.8 D.1.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import BasicTextSRStorage, CTImageStorage

from tests.support import collection
from tests.support.collection import NATIVE, S1, S1_CT, S1_SR
from tests.support.instances import many_instances
from tests.support.node import Node, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    STUDY_ROOT_GET,
    Association,
    AssociationAbortedError,
    Requestor,
    Retrieval,
    SubOperation,
    get,
    get_contexts,
    identifier_of,
    store_all,
)

pytestmark = pytest.mark.system

_INSTANCES = list(NATIVE.values())
_LARGE_STUDY = "1.2.826.0.1.3680043.8.498.90.1"
_LARGE = list(many_instances(3, rows=2048, columns=1024, StudyInstanceUID=_LARGE_STUDY))
_ROLES = {CTImageStorage: (0, 1), BasicTextSRStorage: (0, 1)}
_STUDY = identifier_of("STUDY", StudyInstanceUID=S1)
_LARGE_IDENTIFIER = identifier_of("STUDY", StudyInstanceUID=_LARGE_STUDY)


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node that holds the collection and a study of large images; it waits for one second."""
    with running_node(module_folder, association={"dimse_timeout_seconds": 1}) as running:
        store_all(running.address, [*_INSTANCES, *_LARGE])
        yield running


def _requested(node: Node, requestor: Requestor | None = None) -> Association:
    asked = requestor or Requestor(roles=_ROLES)
    return Association(node.address, get_contexts(_INSTANCES), asked)


def _data_sets(got: Retrieval) -> dict[str, bytes]:
    return {each.sop_instance_uid: each.encoded_data_set for each in got.stored}


# --- roles


@pytest.mark.parametrize(
    ("asked", "answered"),
    [((0, 1), (0, 1)), ((1, 1), (1, 1)), ((1, 0), (1, 0))],
)
def test_a_role_is_answered_as_it_was_asked_for(
    node: Node, asked: tuple[int, int], answered: tuple[int, int]
) -> None:
    """The node takes both parts of Storage; 1 only where 1 was proposed (E-39, H-8)."""
    requestor = Requestor(roles={CTImageStorage: asked})
    with _requested(node, requestor) as association:
        assert association.roles == {CTImageStorage: answered}
        assert association.accepted(CTImageStorage, EXPLICIT_VR_LITTLE_ENDIAN) is not None


def test_no_role_is_answered_to_who_asked_for_none(node: Node) -> None:
    """Default roles hold: the requestor sends, the node receives (H-8)."""
    with _requested(node, Requestor()) as association:
        assert association.roles == {}


@pytest.mark.parametrize(
    ("roles", "failed"),
    [
        ({CTImageStorage: (0, 1)}, {f"{S1_SR}.1"}),
        ({BasicTextSRStorage: (0, 1)}, {*collection.of(NATIVE, S1_CT)}),
        ({}, {*collection.of(NATIVE, S1)}),
        ({CTImageStorage: (1, 0), BasicTextSRStorage: (1, 0)}, {*collection.of(NATIVE, S1)}),
    ],
)
def test_what_the_requestor_is_no_scp_of_has_failed(
    node: Node, roles: dict[str, tuple[int, int]], failed: set[str]
) -> None:
    """Contexts alone are not enough: the SCP-role has to be there, class by class (E-11, E-39)."""
    with _requested(node, Requestor(roles=roles)) as association:
        got = association.c_get(STUDY_ROOT_GET, _STUDY)

    assert got.final.failed_sop_instance_uids == failed
    assert got.final.counters == (None, 4 - len(failed), len(failed), 0)
    assert f"{got.final.status:04X}" == ("A702" if len(failed) == 4 else "B000")
    assert _data_sets(got).keys() == collection.of(NATIVE, S1).keys() - failed


def test_a_role_that_was_taken_for_a_get_does_not_hinder_a_store(node: Node) -> None:
    """Both roles: the requestor sends an instance, and gets it back, on one association."""
    (instance,) = many_instances(1, PatientID="BOTH")
    requestor = Requestor(roles={CTImageStorage: (1, 1)})
    with Association(node.address, get_contexts([instance]), requestor) as association:
        assert association.c_store(instance).status == 0x0000
        got = association.c_get(
            STUDY_ROOT_GET,
            identifier_of("STUDY", StudyInstanceUID=str(instance.study_instance_uid)),
        )

    assert _data_sets(got) == {instance.sop_instance_uid: instance.encoded_data_set}


# --- what it can take


@pytest.mark.parametrize("maximum_length", [0, 8, 33, 4097])
def test_no_pdu_is_longer_than_was_announced(node: Node, maximum_length: int) -> None:
    """Every byte comes all the same; zero is no limit (H-6)."""
    requestor = Requestor(roles=_ROLES, maximum_length=maximum_length)
    with _requested(node, requestor) as association:
        got = association.c_get(STUDY_ROOT_GET, _STUDY)

    assert _data_sets(got) == collection.of(NATIVE, S1)
    assert association.longest_pdu <= (maximum_length or association.longest_pdu)


def test_large_instances_come_whole(node: Node) -> None:
    """Three of four megabytes."""
    got = get(node.address, STUDY_ROOT_GET, _LARGE_IDENTIFIER, _LARGE)

    assert got.final.counters == (None, 3, 0, 0)
    assert _data_sets(got) == {each.sop_instance_uid: each.encoded_data_set for each in _LARGE}


# --- broken rules


def _answer_with_another_message_id(association: Association, sub_operation: SubOperation) -> None:
    command = {**sub_operation.command, 0x0110: (4711).to_bytes(2, "little")}
    other = SubOperation(sub_operation.context, command, b"")
    association.answer_store(other)


def _answer_in_the_context_of_the_get(
    association: Association, sub_operation: SubOperation
) -> None:
    context_id = association.accepted(STUDY_ROOT_GET)
    assert context_id is not None
    other = SubOperation(association.contexts[context_id], sub_operation.command, b"")
    association.answer_store(other)


def _say_an_empty_command(association: Association, _: SubOperation) -> None:
    association.socket.sendall(b"\x04\0\0\0\0\x06" + b"\0\0\0\x02\x01\x03")


def _say_nonsense(association: Association, _: SubOperation) -> None:
    association.socket.sendall(b"\x42\0\0\0\0\x02no")


@pytest.mark.parametrize(
    "answer",
    [
        _answer_with_another_message_id,
        _answer_in_the_context_of_the_get,
        _say_an_empty_command,
        _say_nonsense,
    ],
)
def test_an_answer_that_is_none_ends_the_association(
    node: Node, answer: Callable[[Association, SubOperation], None]
) -> None:
    """Nobody can say what the requestor has: A-ABORT, and the next one is served."""

    def answer_all() -> None:
        with _requested(node) as association:
            for message in association.start_get(STUDY_ROOT_GET, _STUDY):
                if isinstance(message, SubOperation):
                    answer(association, message)

    with pytest.raises(AssociationAbortedError):
        answer_all()
    assert _serves(node)


def test_a_requestor_that_stops_reading_is_left(node: Node) -> None:
    """After the DIMSE timeout; meanwhile, and then, others are served."""
    requestor = Requestor(roles=_ROLES, receive_buffer_bytes=4096)
    association = _requested(node, requestor)
    association.start_get(STUDY_ROOT_GET, _LARGE_IDENTIFIER)
    before = len(node.log)

    assert _serves(node)
    wait_until(lambda: "association lost" in node.log[before:], "the node to give up", 10)
    association.hang_up()


def test_an_answer_that_does_not_come_ends_the_association(node: Node) -> None:
    """After the DIMSE timeout: nobody can say what the requestor has, so nothing more is sent."""
    with pytest.raises(AssociationAbortedError), _requested(node) as association:
        association.c_get(STUDY_ROOT_GET, _STUDY, lambda _: None)

    assert _serves(node)


@pytest.mark.parametrize("leave", [Association.abort, Association.hang_up])
def test_a_requestor_that_goes_leaves_the_node_as_it_was(node: Node, leave: object) -> None:
    """In the midst of an instance (E-18)."""
    assert callable(leave)
    association = _requested(node)
    messages = association.start_get(
        STUDY_ROOT_GET, identifier_of("STUDY", StudyInstanceUID=_LARGE_STUDY)
    )
    next(message for message in messages if isinstance(message, SubOperation))
    leave(association)

    assert _serves(node)


def _serves(node: Node) -> bool:
    """Tell whether a whole study is got."""

    def is_got() -> bool:
        return get(node.address, STUDY_ROOT_GET, _STUDY, _INSTANCES).final.status == 0x0000

    return wait_until(is_got, "the node to serve a C-GET")
