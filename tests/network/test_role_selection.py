"""Role selection on the wire: what is answered, and what may then be sent in which direction."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from tests.support.instances import ct_data_set, encoded
from tests.support.server import RunningServer, running_server
from tests.support.wire import (
    PATIENT_ROOT_GET,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Association,
    AssociationAbortedError,
    ProposedContext,
    Requestor,
    SubOperation,
    get_contexts,
    identifier_of,
    scp_roles,
    storage_contexts,
    store_all,
)

_ROLE_SELECTION = 0x54
_MOVE_ORIGINATOR = (0x1030, 0x1031)


def _associated(
    server: RunningServer, roles: Mapping[str, tuple[int, int]], *contexts: ProposedContext
) -> Association:
    return Association(server.address, contexts, Requestor(roles=roles))


def test_roles_are_answered_on_the_wire(server: RunningServer) -> None:
    """1 where 1 was offered and we do it, 0 elsewhere, nothing where nothing was (E-39, H-8)."""
    roles = {CTImageStorage: (0, 1), STUDY_ROOT_FIND: (1, 1), VERIFICATION: (1, 0)}
    contexts = [*map(ProposedContext, [*roles, STUDY_ROOT_GET])]
    with _associated(server, roles, *contexts) as association:
        assert association.roles == {
            CTImageStorage: (0, 1),
            STUDY_ROOT_FIND: (1, 0),
            VERIFICATION: (1, 0),
        }
        assert association.c_echo() == 0x0000


def test_nothing_is_answered_where_nothing_is_proposed(server: RunningServer) -> None:
    """No item of role selection comes that was not asked for (H-8)."""
    with _associated(server, {}, ProposedContext(CTImageStorage)) as association:
        assert _ROLE_SELECTION not in [kind for kind, _ in association.user_information]


def test_a_context_in_which_nobody_has_a_role_is_rejected(server: RunningServer) -> None:
    """Result 1, and no item; the other contexts stand (H-8)."""
    roles = {VERIFICATION: (0, 1), CTImageStorage: (0, 0), STUDY_ROOT_FIND: (1, 0)}
    with _associated(server, roles, *map(ProposedContext, roles)) as association:
        assert [context.result for context in association.contexts.values()] == [1, 1, 0]
        assert association.roles == {STUDY_ROOT_FIND: (1, 0)}


def test_a_damaged_role_selection_ends_the_connection(server: RunningServer) -> None:
    """As any other damaged sub-item does: A-ABORT, and others are served (H-8)."""
    damaged = b"\x54\0\0\4\0\5" + b"1.2"
    with pytest.raises(AssociationAbortedError, match="PDU of type 7"):
        Association(
            server.address,
            [ProposedContext(VERIFICATION)],
            Requestor(further_sub_items=damaged),
        )
    with Association(server.address, [ProposedContext(VERIFICATION)]) as association:
        assert association.c_echo() == 0x0000


@pytest.mark.parametrize(
    ("roles", "chosen"),
    [
        ({CTImageStorage: (0, 1)}, ExplicitVRLittleEndian),
        ({CTImageStorage: (1, 1)}, ExplicitVRLittleEndian),
        ({CTImageStorage: (1, 0)}, RLELossless),
        ({}, RLELossless),
    ],
)
def test_a_mixed_context_is_answered_with_what_everything_can_be_sent_in(
    server: RunningServer, roles: dict[str, tuple[int, int]], chosen: str
) -> None:
    """Where we may send: explicit first; the requestor's order where it alone sends (E-40)."""
    context = ProposedContext(
        CTImageStorage, (RLELossless, ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    )
    with _associated(server, roles, context) as association:
        assert association.contexts[1].transfer_syntax == chosen


def test_options_of_c_get_are_negotiated(server: RunningServer) -> None:
    """As far as asked for: relational retrieval, no conversion of images (B-9 to B-11)."""
    extended = {STUDY_ROOT_GET: b"\1\1", PATIENT_ROOT_GET: b"\1", STUDY_ROOT_MOVE: b"\0\1"}
    contexts = [*map(ProposedContext, extended)]
    with Association(server.address, contexts, Requestor(extended=extended)) as association:
        assert association.extended == {
            STUDY_ROOT_GET: b"\1\0",
            PATIENT_ROOT_GET: b"\1",
            STUDY_ROOT_MOVE: b"\0\0",
        }


def test_an_instance_is_not_taken_from_who_only_takes_some(server: RunningServer) -> None:
    """0211 in a context where the requestor is no SCU; the association goes on (H-8, H-18)."""
    instance = encoded(ct_data_set())
    contexts = [*storage_contexts([instance]), ProposedContext(VERIFICATION)]
    with _associated(server, scp_roles([instance]), *contexts) as association:
        response = association.c_store(instance)
        assert (response.status, response.error_comment) == (
            0x0211,
            "no such operation in this context",
        )
        assert association.c_echo() == 0x0000


@pytest.mark.parametrize("proposed", [(0, 1), (1, 1)])
def test_an_unknown_class_may_be_sent_to_whoever_takes_it(
    server: RunningServer, proposed: tuple[int, int]
) -> None:
    """It may have come on an association that said what it is; none is taken here (E-40, H-31)."""
    instance = replace(encoded(ct_data_set()), sop_class_uid="1.2.826.0.1.3680043.9.3811.77")
    contexts = [*storage_contexts([instance]), ProposedContext(VERIFICATION)]
    roles = {instance.sop_class_uid: proposed}
    with _associated(server, roles, *contexts) as association:
        assert [context.result for context in association.contexts.values()] == [0, 0]
        assert association.roles == {instance.sop_class_uid: (0, 1)}
        assert association.c_store(instance).status == 0x0211
        assert association.c_echo() == 0x0000


@pytest.mark.parametrize(
    "sop_class_uid", ["1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.1.1.9"]
)
def test_a_class_of_another_service_is_sent_to_nobody(
    server: RunningServer, sop_class_uid: str
) -> None:
    """Whatever the role; one that the Standard may get some day could be storage (E-40, H-34)."""
    roles = {sop_class_uid: (0, 1)}
    with _associated(server, roles, ProposedContext(sop_class_uid)) as association:
        is_known = sop_class_uid != "1.2.840.10008.1.1.9"
        assert association.contexts[1].result == (3 if is_known else 0)


def test_with_both_roles_instances_go_both_ways(tmp_path: Path) -> None:
    """What was stored in a context comes back in it, byte for byte (E-39, H-8)."""
    instance = encoded(ct_data_set())
    study = identifier_of("STUDY", StudyInstanceUID=instance.study_instance_uid)
    roles = {instance.sop_class_uid: (1, 1)}
    with (
        running_server(tmp_path) as running,
        _associated(running, roles, *get_contexts([instance])) as association,
    ):
        assert association.c_store(instance).status == 0x0000
        retrieval = association.c_get(STUDY_ROOT_GET, study)
    (stored,) = retrieval.stored
    assert stored.sop_instance_uid == instance.sop_instance_uid
    assert stored.encoded_data_set == instance.encoded_data_set
    assert retrieval.final.status == 0x0000


def test_without_the_role_nothing_is_sent(tmp_path: Path) -> None:
    """A context with default roles is no context for C-GET: its instances fail (E-39)."""
    instance = encoded(ct_data_set())
    study = identifier_of("STUDY", StudyInstanceUID=instance.study_instance_uid)
    with running_server(tmp_path) as running:
        store_all(running.address, [instance])
        with _associated(running, {}, *get_contexts([instance])) as association:
            retrieval = association.c_get(STUDY_ROOT_GET, study)
    assert (retrieval.stored, retrieval.final.status) == ([], 0xA702)
    assert retrieval.final.failed_sop_instance_uids == {instance.sop_instance_uid}


def test_a_sub_operation_says_what_it_is(tmp_path: Path) -> None:
    """Its class and instance, the priority of the request, and no originator (E-13, E-14)."""
    instance = encoded(ct_data_set())
    study = identifier_of("STUDY", StudyInstanceUID=instance.study_instance_uid)
    with running_server(tmp_path) as running:
        store_all(running.address, [instance])
        with _associated(running, scp_roles([instance]), *get_contexts([instance])) as association:
            messages = []
            for message in association.start_get(STUDY_ROOT_GET, study, priority=1):
                messages.append(message)
                if isinstance(message, SubOperation):
                    association.answer_store(message)
    (stored,) = (message for message in messages if isinstance(message, SubOperation))
    assert (stored.sop_class_uid, stored.priority) == (CTImageStorage, 1)
    assert not any(element in stored.command for element in _MOVE_ORIGINATOR)
