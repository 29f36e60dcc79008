"""Retrievals on the wire whose requestor, or whose node, ends them; and what is kept of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset

from pacsnode.catalog.records import FailureCause
from pacsnode.dicom.ae import RemoteAE
from pacsnode.network.data_set_readers import StoredDataSet
from tests.support import hostile
from tests.support.destination import Destination, ReceivedStore, destination
from tests.support.instances import Instance, ct_data_set, encoded, new_uid
from tests.support.server import RunningServer, ServerSettings, running_server
from tests.support.waiting import wait_until
from tests.support.wire import (
    NO_DATA_SET,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    Association,
    AssociationAbortedError,
    Requestor,
    Response,
    SubOperation,
    get_contexts,
    identifier_of,
    query_contexts,
    scp_roles,
    store_all,
)


@dataclass
class _Archive:
    """A node with a study, and a destination that answers when it may."""

    server: RunningServer
    destination: Destination
    study_instance_uid: str
    instances: list[Instance]
    may_answer: threading.Event

    def move(self, association: Association) -> Iterator[Response]:
        """Begin a C-MOVE of the study, and wait until the first instance has arrived."""
        study = identifier_of("STUDY", StudyInstanceUID=self.study_instance_uid)
        responses = association.start_move(STUDY_ROOT_MOVE, "DEST", study)
        assert next(responses).status == 0xFF00
        wait_until(lambda: self.destination.received, "the first sub-operation")
        return responses

    def failures(self, uid_or_ae_title: str) -> list[FailureCause]:
        """Return the causes of the failures that are kept."""
        return [each.failure.cause for each in self.server.catalog.failures(uid_or_ae_title)]


@contextmanager
def _archive(folder: Path, *, answers_at_once: bool = False) -> Iterator[_Archive]:
    study, may_answer = new_uid(), threading.Event()
    instances = [encoded(ct_data_set(StudyInstanceUID=study)) for _ in range(5)]
    if answers_at_once:
        may_answer.set()

    def status_of(_: ReceivedStore) -> int:
        may_answer.wait(20)
        return 0x0000

    with destination(status_of=status_of) as there:
        settings = ServerSettings(remote_aes=[RemoteAE("DEST", "127.0.0.1", there.port)])
        with running_server(folder, settings) as server:
            store_all(server.address, instances)
            try:
                yield _Archive(server, there, study, instances, may_answer)
            finally:
                may_answer.set()


def _moving(archive: _Archive) -> Association:
    return Association(archive.server.address, query_contexts())


def _getting(archive: _Archive) -> Association:
    requestor = Requestor(roles=scp_roles(archive.instances))
    return Association(archive.server.address, get_contexts(archive.instances), requestor)


# --- C-MOVE


@pytest.mark.parametrize("how", ["hang up", "abort"])
def test_a_requestor_that_goes_ends_its_move(tmp_path: Path, how: str) -> None:
    """The instance on its way is finished, the association with the destination released (E-18)."""
    with _archive(tmp_path) as archive, _moving(archive) as association:
        archive.move(association)
        if how == "abort":
            association.abort()
        else:
            association.hang_up()
        archive.may_answer.set()
        archive.server.wait_until_idle()
        wait_until(lambda: archive.destination.endings, "the destination to be released")
        assert archive.destination.endings == ["released"]
        assert len(archive.destination.received) < 5
        assert archive.failures("DEST") == []


def test_a_requestor_that_releases_ends_its_move(tmp_path: Path) -> None:
    """It gets its answer when what is on its way is finished, and no final response (E-18)."""
    with _archive(tmp_path) as archive, _moving(archive) as association:
        archive.move(association)
        association.socket.sendall(hostile.pdu(hostile.RELEASE_RQ, bytes(4)))
        archive.may_answer.set()
        ending = hostile.ending_of(association.socket)
        association.socket.close()
    assert (ending.pdu_types, ending.abort) == ((hostile.RELEASE_RP,), None)
    assert archive.destination.endings == ["released"]
    assert len(archive.destination.received) < 5


def test_cancels_that_name_nothing_do_not_stop_a_move(tmp_path: Path) -> None:
    """However many come: what is served goes on between them (E-17, H-18)."""
    is_over = threading.Event()
    with _archive(tmp_path) as archive, _moving(archive) as association:
        context_id = next(
            number
            for number, context in association.contexts.items()
            if context.abstract_syntax == STUDY_ROOT_MOVE
        )

        def flood() -> None:
            while not is_over.is_set():
                association.send_cancel(context_id, 999)

        responses = archive.move(association)
        flooding = threading.Thread(target=flood)
        flooding.start()
        archive.may_answer.set()
        try:
            *_, final = responses
        finally:
            is_over.set()
            flooding.join()
    assert (final.status, final.counters) == (0x0000, (None, 5, 0, 0))


def test_a_move_that_runs_is_not_ended_by_a_node_that_drains(tmp_path: Path) -> None:
    """It has the time that the node has: whatever it waits for, it is at work (H-3)."""
    with _archive(tmp_path) as archive, _moving(archive) as association:
        responses = archive.move(association)
        archive.server.server.drain()
        archive.server.server.abort_idle()
        archive.may_answer.set()
        *_, final = responses
    assert (final.status, final.counters) == (0x0000, (None, 5, 0, 0))


def test_a_move_ends_when_the_time_of_a_node_that_drains_is_over(tmp_path: Path) -> None:
    """Its association is aborted behind the instance on its way; nothing more is sent (E-18)."""
    with _archive(tmp_path) as archive, _moving(archive) as association:
        archive.move(association)
        archive.server.server.abort_all()
        archive.may_answer.set()
        ending = hostile.ending_of(association.socket)
        association.socket.close()
        archive.server.wait_until_idle()
    assert (ending.pdu_types, ending.abort) == ((), hostile.ABORT_BY_USER)
    assert archive.destination.endings == ["released"]
    assert len(archive.destination.received) < 5


def test_what_a_move_could_not_send_is_kept(tmp_path: Path) -> None:
    """With requestor, destination and cause; by any of which it is found (E-11)."""
    with _archive(tmp_path, answers_at_once=True) as archive, _moving(archive) as association:
        gone = archive.instances[2].sop_instance_uid
        stored = archive.server.catalog.stored_instance(gone)
        assert stored is not None
        archive.server.file_store.path(stored.file.path).unlink()
        study = identifier_of("STUDY", StudyInstanceUID=archive.study_instance_uid)
        *_, final = association.c_move(STUDY_ROOT_MOVE, "DEST", study)
        assert (final.status, final.counters) == (0xB000, (None, 4, 1, 0))
        assert final.failed_sop_instance_uids == {gone}
        for named in (gone, archive.study_instance_uid, "DEST", "WIRE"):
            assert archive.failures(named) == [FailureCause.FILE]
        (kept,) = archive.server.catalog.failures(gone)
        assert (kept.failure.service, kept.failure.requestor_ae_title) == ("C-MOVE", "WIRE")


# --- C-GET


def _study(archive: _Archive) -> Dataset:
    return identifier_of("STUDY", StudyInstanceUID=archive.study_instance_uid)


def test_a_get_sends_what_there_is(tmp_path: Path) -> None:
    """A file that is gone fails alone; the others come, bit for bit (E-11, E-37, E-39)."""
    with _archive(tmp_path) as archive, _getting(archive) as association:
        gone = archive.instances[2].sop_instance_uid
        stored = archive.server.catalog.stored_instance(gone)
        assert stored is not None
        archive.server.file_store.path(stored.file.path).unlink()
        found = association.c_get(STUDY_ROOT_GET, _study(archive))
        assert archive.failures("WIRE") == [FailureCause.FILE]
    assert (found.final.status, found.final.counters) == (0xB000, (None, 4, 1, 0))
    assert found.final.failed_sop_instance_uids == {gone}
    assert {each.sop_instance_uid: each.encoded_data_set for each in found.stored} == {
        each.sop_instance_uid: each.encoded_data_set
        for each in archive.instances
        if each.sop_instance_uid != gone
    }


@pytest.mark.parametrize("how", ["hang up", "abort", "release"])
def test_a_requestor_that_goes_ends_its_get(tmp_path: Path, how: str) -> None:
    """Whether the instance on its way arrived is unknown: it counts as lost (E-16, E-18)."""
    with _archive(tmp_path) as archive, _getting(archive) as association:
        messages = association.start_get(STUDY_ROOT_GET, _study(archive))
        wait_for = next(each for each in messages if isinstance(each, SubOperation))
        if how == "hang up":
            association.hang_up()
        elif how == "abort":
            association.abort()
        else:
            association.release()
        archive.server.wait_until_idle()
        assert archive.failures(wait_for.sop_instance_uid) == [FailureCause.LOST]
        assert archive.failures("WIRE") == [FailureCause.LOST] * 5


def test_a_cancel_that_names_nothing_aborts_a_get(tmp_path: Path) -> None:
    """It breaks the rules of encoding, and is no fault of ours (H-18)."""
    with _archive(tmp_path) as archive, _getting(archive) as association:

        def cancel(sub_operation: SubOperation) -> None:
            elements = {
                0x0100: hostile.us(0x0FFF),
                0x0800: hostile.us(NO_DATA_SET),
            }
            association.send_command(sub_operation.context.context_id, elements)

        with pytest.raises(AssociationAbortedError):
            association.c_get(STUDY_ROOT_GET, _study(archive), cancel)
        association.socket.close()


@pytest.mark.parametrize("is_cancel_first", [True, False])
def test_a_cancel_with_the_response_in_one_pdu_ends_a_get(
    tmp_path: Path, *, is_cancel_first: bool
) -> None:
    """In whichever order they stand there (E-17; PS3.8 9.3.5)."""
    with _archive(tmp_path) as archive, _getting(archive) as association:

        def say_both(sub_operation: SubOperation) -> None:
            with association.in_one_pdu():
                if is_cancel_first:
                    association.cancel()
                association.answer_store(sub_operation)
                if not is_cancel_first:
                    association.cancel()

        found = association.c_get(STUDY_ROOT_GET, _study(archive), say_both)
    assert (found.final.status, found.final.counters) == (0xFE00, (4, 1, 0, 0))


def test_a_get_whose_file_fails_in_the_middle_is_aborted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that stands within half a message is a response (E-11; PS3.8 E.2)."""
    read_into = StoredDataSet.read_into

    def fail_later(reader: StoredDataSet, room: memoryview) -> None:
        if len(room) > reader.length_bytes - 1000:
            raise OSError(5, "Input/output error")
        read_into(reader, room)

    study = new_uid()
    large = encoded(ct_data_set(rows=512, columns=512, StudyInstanceUID=study))
    with running_server(tmp_path) as server:
        store_all(server.address, [large])
        monkeypatch.setattr(StoredDataSet, "read_into", fail_later)
        requestor = Requestor(roles=scp_roles([large]))
        contexts = get_contexts([large])
        with Association(server.address, contexts, requestor) as association:
            with pytest.raises(AssociationAbortedError):
                association.c_get(STUDY_ROOT_GET, identifier_of("STUDY", StudyInstanceUID=study))
            association.socket.close()
        server.wait_until_idle()
        (kept,) = server.catalog.failures(large.sop_instance_uid)
    assert kept.failure.cause is FailureCause.FILE
