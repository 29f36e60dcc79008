"""What comes from the requestor of a C-GET while one of its C-STORE responses is waited for."""

from pathlib import Path
from threading import Event

import pytest

from pacsnode.network.retrieval import Retrieval
from tests.support.instances import ct_data_set, encoded
from tests.support.server import running_server
from tests.support.wire import (
    STUDY_ROOT_GET,
    Association,
    Requestor,
    SubOperation,
    get_contexts,
    identifier_of,
    scp_roles,
    store_all,
)

_SECONDS = 20


def test_a_get_can_be_cancelled(tmp_path: Path) -> None:
    """After a C-CANCEL the sub-operation under way is counted, and no other begins (E-17)."""
    first = ct_data_set()
    uid = first.StudyInstanceUID
    instances = [encoded(first)] + [encoded(ct_data_set(StudyInstanceUID=uid)) for _ in range(5)]
    study = identifier_of("STUDY", StudyInstanceUID=uid)
    with running_server(tmp_path) as running:
        store_all(running.address, instances)
        requestor = Requestor(roles=scp_roles(instances))
        with Association(running.address, get_contexts(instances), requestor) as association:

            def cancelled(_: SubOperation) -> int:
                association.cancel()
                return 0x0000

            retrieval = association.c_get(STUDY_ROOT_GET, study, cancelled)
    assert len(retrieval.stored) == 1
    assert (retrieval.final.status, retrieval.final.counters) == (0xFE00, (5, 1, 0, 0))


def test_a_response_that_comes_while_a_cancel_is_looked_for_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is behind a wait for a slow requestor is its response, not a new request (E-17)."""
    is_waiting, is_answered = Event(), Event()
    wait = Retrieval.wait

    def wait_for_the_answer(retrieval: Retrieval) -> None:
        is_waiting.set()
        assert is_answered.wait(_SECONDS)
        wait(retrieval)

    monkeypatch.setattr(Retrieval, "wait", wait_for_the_answer)
    instance = encoded(ct_data_set())
    study = identifier_of("STUDY", StudyInstanceUID=instance.study_instance_uid)
    with running_server(tmp_path) as running:
        store_all(running.address, [instance])
        requestor = Requestor(roles=scp_roles([instance]))
        with Association(running.address, get_contexts([instance]), requestor) as association:

            def answer_late(sub_operation: SubOperation) -> None:
                assert is_waiting.wait(_SECONDS)
                association.answer_store(sub_operation)
                is_answered.set()

            retrieval = association.c_get(STUDY_ROOT_GET, study, answer_late)
    assert (retrieval.final.status, retrieval.final.counters) == (0x0000, (None, 1, 0, 0))
