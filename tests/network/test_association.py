"""Accepted associations: who is let in, what is answered to the options, and how they end."""

import logging
import socket
import struct
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom.presentation import build_context

from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID
from pacsnode.network.association import AcceptedAssociation
from pacsnode.network.negotiation import AETitlePolicy
from tests.support.instances import ct_data_set, encoded
from tests.support.link import tls_contexts, tls_pair
from tests.support.scu import application_information, associated, declared_as_storage
from tests.support.server import LIMITS, RunningServer, ServerSettings, running_server
from tests.support.waiting import wait_until
from tests.support.wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Association,
    AssociationAbortedError,
    AssociationRejectedError,
    ProposedContext,
    Requestor,
    query_contexts,
    storage_contexts,
)

_ECHO = [ProposedContext(VERIFICATION)]
PRIVATE = "1.2.826.0.1.3680043.8.498.99.1"


def _rejection(address: tuple[str, int], requestor: Requestor) -> tuple[int, int, int] | None:
    try:
        with Association(address, _ECHO, requestor) as association:
            assert association.c_echo() == 0x0000
    except AssociationRejectedError as rejected:
        return rejected.triple
    return None


@pytest.mark.parametrize(
    ("requestor", "triple"),
    [
        (Requestor(), None),
        (Requestor(called_ae_title=b"NOBODY"), (1, 1, 7)),
        (Requestor(called_ae_title=b"pacsnode"), (1, 1, 7)),
        (Requestor(application_context=b"1.2.3"), (1, 1, 2)),
        (Requestor(application_context=b"1.2.3", called_ae_title=b"NOBODY"), (1, 1, 2)),
        (Requestor(protocol_version=2), (1, 2, 2)),
        (Requestor(protocol_version=2, called_ae_title=b"NOBODY"), (1, 2, 2)),
    ],
    ids=["fitting", "called", "case", "context", "context first", "version", "version first"],
)
def test_a_request_is_rejected_with_the_reason(
    server: RunningServer, requestor: Requestor, triple: tuple[int, int, int] | None
) -> None:
    """Version, application context, called title: the first that is wrong is named (H-1, H-3)."""
    assert _rejection(server.address, requestor) == triple


def test_an_unknown_caller_is_rejected_where_callers_must_be_known(tmp_path: Path) -> None:
    """With `known`, only titles of remote_aes are let in (H-1)."""
    settings = ServerSettings(
        calling=AETitlePolicy.KNOWN, remote_aes=[RemoteAE("KNOWN", "127.0.0.1", 104)]
    )
    with running_server(tmp_path, settings) as running:
        known, unknown = (Requestor(calling_ae_title=title) for title in (b"KNOWN", b"UNKNOWN"))
        assert _rejection(running.address, known) is None
        assert _rejection(running.address, unknown) == (1, 1, 3)


@pytest.mark.parametrize(
    ("called", "calling"),
    [
        (b"PACSNODE" + bytes(8), b"SCU" + bytes(13)),
        (b"  PACSNODE", b"  SCU"),
        (b"PACSNODE\0", b"SCU\0"),
        (b"PACSNODE", bytes(16)),
        (b"PACSNODE", b" " * 16),
        (b"PACSNODE", b"M\xfcller"),
        (b"PACSNODE", "M\u00fcller".encode()),
        (b"PACSNODE", b"A\\B"),
        (b"PACSNODE", b"A\x07B"),
    ],
    ids=["NUL", "leading", "one NUL", "no title", "blank", "Latin-1", "UTF-8", "backslash", "BEL"],
)
def test_an_odd_title_is_served(server: RunningServer, called: bytes, calling: bytes) -> None:
    """Titles that break the rules do not abort: the called one is compared trimmed (H-2)."""
    requestor = Requestor(called_ae_title=called, calling_ae_title=calling)
    assert _rejection(server.address, requestor) is None


@pytest.mark.parametrize("title", [bytes(16), b" " * 16, b"M\xfcller"])
def test_an_odd_called_title_is_rejected(server: RunningServer, title: bytes) -> None:
    """A called title that says nothing, or is not ASCII, is unknown, and no abort (H-2)."""
    assert _rejection(server.address, Requestor(called_ae_title=title)) == (1, 1, 7)


def test_refused_contexts_are_answered_beside_accepted_ones(server: RunningServer) -> None:
    """Results 0, 3 and 4 stand in one answer, each with one Transfer Syntax (H-4)."""
    contexts = [
        ProposedContext(CTImageStorage, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)),
        ProposedContext(PRIVATE),
        ProposedContext(CTImageStorage, ("1.2.3", "1.2.840.10008.1.2.4.94")),
    ]
    with Association(server.address, contexts) as association:
        results = {
            c.context_id: (c.result, c.transfer_syntax) for c in association.contexts.values()
        }
    assert results[1] == (0, EXPLICIT_VR_LITTLE_ENDIAN)
    assert (results[3][0], results[5][0]) == (3, 4)


def test_an_association_without_any_accepted_context_is_accepted(server: RunningServer) -> None:
    """All contexts refused is still a legal A-ASSOCIATE-AC (H-4)."""
    with Association(server.address, [ProposedContext(PRIVATE)]) as association:
        assert [context.result for context in association.contexts.values()] == [3]


def test_a_context_without_transfer_syntax_does_not_end_the_association(
    server: RunningServer,
) -> None:
    """A damaged context is refused; the others of the association are served (H-4)."""
    contexts = [*_ECHO, ProposedContext(CTImageStorage, ())]
    with Association(server.address, contexts) as association:
        assert association.c_echo() == 0x0000
        assert [context.result for context in association.contexts.values()] == [0, 4]


def test_128_contexts_are_negotiated(server: RunningServer) -> None:
    """As many contexts as fit into an association are all accepted (E-30)."""
    contexts = [ProposedContext(CTImageStorage)] * 127
    with Association(server.address, [*contexts, *_ECHO]) as association:
        assert {context.result for context in association.contexts.values()} == {0}
        assert len(association.contexts) == 128
        assert association.c_echo() == 0x0000


def test_the_maximum_length_is_announced(server: RunningServer) -> None:
    """The Maximum Length of the settings is what the peer may send (H-6)."""
    with Association(server.address, _ECHO) as association:
        assert association.maximum_pdu_length == 131072


def test_the_answer_names_this_implementation(server: RunningServer) -> None:
    """The Implementation Class UID of the answer is ours (H-14)."""
    with associated(server.address, [build_context(VERIFICATION)]) as association:
        assert association.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID


def test_storage_options_are_answered_if_asked(server: RunningServer) -> None:
    """Level 2, bit-preserving signatures, no coercion; one answer for one question (F-9, B-10)."""
    items = [application_information(CTImageStorage, b"\x00" * 6)]
    with associated(server.address, [build_context(CTImageStorage)], items) as association:
        answered = association.acceptor.sop_class_extended
    assert answered == {CTImageStorage: b"\x02\x00\x03\x00\x00\x00"}


def test_storage_options_are_not_answered_unasked(server: RunningServer) -> None:
    """Without the item in the request there is none in the answer (B-10)."""
    with associated(server.address, [build_context(CTImageStorage)]) as association:
        assert association.acceptor.sop_class_extended == {}


def test_query_options_are_answered_as_far_as_asked_for(server: RunningServer) -> None:
    """One sub-item for a class in two contexts, none for one that asked nothing (B-10, B-11)."""
    uids = [STUDY_ROOT_FIND, STUDY_ROOT_FIND, PATIENT_ROOT_FIND]
    contexts = [build_context(uid) for uid in uids]
    items = [application_information(STUDY_ROOT_FIND, b"\x01\x01\x01")]
    with associated(server.address, contexts, items) as association:
        assert association.acceptor.sop_class_extended == {STUDY_ROOT_FIND: b"\x01\x01\x00"}


def test_a_private_class_is_accepted_if_declared_as_storage(server: RunningServer) -> None:
    """The declaration lets the class in, and is not answered by an item (H-30, H-31)."""
    items = [declared_as_storage(PRIVATE, "1.2.840.10008.4.2")]
    with associated(server.address, [build_context(PRIVATE)], items) as association:
        assert [context.abstract_syntax for context in association.accepted_contexts] == [PRIVATE]
        assert association.acceptor.sop_class_common_extended == {}


def test_a_silent_association_is_aborted(tmp_path: Path) -> None:
    """Beyond the idle timeout the association ends by an abort (H-17)."""
    limits = replace(LIMITS, idle_timeout_seconds=0.2)
    with running_server(tmp_path, ServerSettings(limits=limits)) as running:
        association = Association(running.address, _ECHO)
        with pytest.raises(AssociationAbortedError):
            association.receive()
        association.socket.close()
        running.wait_until_idle()


@pytest.mark.parametrize("first_bytes", [b"", b"\x01\x00\x00\x00\x01\x00abc"], ids=["none", "some"])
def test_a_connection_that_does_not_associate_is_closed(tmp_path: Path, first_bytes: bytes) -> None:
    """Who sends no whole A-ASSOCIATE-RQ within the negotiation timeout is let go (H-17)."""
    limits = replace(LIMITS, negotiation_timeout_seconds=0.3)
    with (
        running_server(tmp_path, ServerSettings(limits=limits)) as running,
        socket.create_connection(running.address, timeout=20) as connection,
    ):
        connection.sendall(first_bytes)
        while connection.recv(100):  # an abort may come first
            pass
        running.wait_until_idle()


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x09\x00\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\x00\x05abcde",
        struct.pack(">BBI", 1, 0, 74) + bytes(74),
        struct.pack(">BBI", 4, 0, 0),
        struct.pack(">BBI", 1, 0, 0xFFFFFFFF) + b"abc",
    ],
    ids=["HTTP", "unknown PDU", "short", "empty titles", "data first", "giant"],
)
def test_garbage_ends_its_own_association_only(server: RunningServer, content: bytes) -> None:
    """Whatever comes first on a connection, the next association is served."""
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(100):
            pass
    assert _rejection(server.address, Requestor()) is None
    server.wait_until_idle()


def test_a_connection_that_is_closed_unused_holds_no_place(tmp_path: Path) -> None:
    """A health check that connects and hangs up is over at once, not after the timeout (H-17)."""
    limits = replace(LIMITS, negotiation_timeout_seconds=100)
    with running_server(tmp_path, ServerSettings(limits=limits)) as running:
        socket.create_connection(running.address, timeout=20).close()
        wait_until(lambda: len(running.active_counts) > 1, "the connection to be accepted")
        running.wait_until_idle()


def test_a_peer_that_vanishes_leaves_nothing(server: RunningServer) -> None:
    """After a reset the association is over, and its threads are gone."""
    Association(server.address, _ECHO).hang_up()
    server.wait_until_idle()
    wait_until(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("association-")],
        "the threads to end",
    )


def test_a_fault_while_negotiating_ends_the_association(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If our own negotiation raises, the peer is aborted, and the place is free again."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with running_server(tmp_path) as running, caplog.at_level(logging.ERROR, "pacsnode"):
        monkeypatch.setattr("pacsnode.network.negotiation.AssociationPolicy.negotiate", fail)
        with pytest.raises(AssociationAbortedError):
            Association(running.address, _ECHO)
        running.wait_until_idle()
        monkeypatch.undo()
        assert _rejection(running.address, Requestor()) is None
    assert "association failed for a fault of this program" in caplog.messages


def test_lines_of_an_association_have_its_label(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line tells who called whom from where, trimmed (H-2)."""
    labels: list[str] = []
    monkeypatch.setattr(
        "pacsnode.network.association.label",
        lambda text: labels.append(text) or threading.Lock(),
    )
    requestor = Requestor(called_ae_title=b" PACSNODE", calling_ae_title=b"CT 1\0")
    with Association(server.address, _ECHO, requestor) as association:
        association.c_echo()
    server.wait_until_idle()
    assert {text.rpartition("#")[0] for text in labels} == {"CT 1->PACSNODE@127.0.0.1"}
    assert len(set(labels)) == 1


def test_the_end_of_an_association_is_logged(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A release and an abort are told apart in the log."""
    with caplog.at_level(logging.INFO, "pacsnode"):
        Association(server.address, _ECHO).release()
        Association(server.address, _ECHO).abort()
        server.wait_until_idle()
    ends = {message.partition(" after ")[0] for message in caplog.messages if " after " in message}
    assert ends == {"association released", "association aborted"}


def _accepted(running: RunningServer, connection: socket.socket) -> AcceptedAssociation:
    """Have a server serve a connection that it has not accepted itself."""
    accepted = AcceptedAssociation(
        connection,
        number=1,
        limits=LIMITS,
        policy=running.server._policy,
        gate=running.server,
        services=running.server._services,
    )
    accepted.start()
    return accepted


def test_an_association_over_tls_is_served_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Echo, an object larger than every buffer, and the release go through a TLS socket."""
    instance = encoded(ct_data_set(rows=1024, columns=1024))
    requestor, acceptor = tls_pair(tls_contexts(tmp_path))
    contexts = [*query_contexts(), *storage_contexts([instance])]
    with running_server(tmp_path) as running, monkeypatch.context() as patch:
        accepted = _accepted(running, acceptor)
        patch.setattr(socket, "create_connection", lambda *_: requestor)
        with Association(running.address, contexts) as association:
            assert association.c_echo() == 0x0000
            assert association.c_store(instance).status == 0x0000
            assert association.c_echo() == 0x0000
        accepted.join(20)
        assert not accepted.is_alive()
        stored = running.catalog.stored_instance(instance.sop_instance_uid)
        assert stored is not None
        kept = running.file_store.path(stored.file.path).read_bytes()
    assert kept.endswith(instance.encoded_data_set)


def test_an_association_over_tls_is_aborted_in_cipher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the node stops, the peer reads the abort within TLS, and nothing goes in the clear."""
    requestor, acceptor = tls_pair(tls_contexts(tmp_path))
    with running_server(tmp_path) as running, monkeypatch.context() as patch:
        accepted = _accepted(running, acceptor)
        patch.setattr(socket, "create_connection", lambda *_: requestor)
        association = Association(running.address, _ECHO)
        accepted.end("the node is stopping")
        with pytest.raises(AssociationAbortedError, match="PDU of type 7"):
            association.receive()
        association.socket.close()
        accepted.join(20)
