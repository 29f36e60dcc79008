"""pynetdicom's SCU retrieves from the node: by C-GET in the roles it asks for, by C-MOVE."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from tests.support import collection
from tests.support.collection import NATIVE, S1, S1_CT, S1_SR, S2_CT, S4, S4_OT
from tests.support.instances import Instance, write_instance
from tests.support.node import Node, running_node
from tests.support.scu import application_information, associated
from tests.support.wire import store_all

pytestmark = pytest.mark.interop

_GET = StudyRootQueryRetrieveInformationModelGet
_MOVE = StudyRootQueryRetrieveInformationModelMove
_BOTH = (CTImageStorage, BasicTextSRStorage)
_JPEG = f"{S4_OT}.1"  # a Secondary Capture Image


@dataclass
class Received:
    """What a Storage SCP of pynetdicom was sent, by SOP Instance UID."""

    data_sets: dict[str, bytes] = field(default_factory=dict)
    transfer_syntaxes: dict[str, str] = field(default_factory=dict)

    def keep(self, event: evt.Event) -> int:
        """Handle a C-STORE."""
        uid = str(event.request.AffectedSOPInstanceUID)
        self.data_sets[uid] = event.encoded_dataset(include_meta=False)
        self.transfer_syntaxes[uid] = str(event.context.transfer_syntax)
        return 0x0000


@dataclass(frozen=True)
class Place:
    """The node, which holds the collection, and a Storage SCP that it knows as PYNETDICOM."""

    node: Node
    received: Received
    compressed: dict[str, Instance]


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """Both at work."""
    compressed = collection.compressed(module_folder)
    received = Received()
    entity = AE("PYNETDICOM")
    for sop_class_uid in _BOTH:
        entity.add_supported_context(sop_class_uid, [ExplicitVRLittleEndian])
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, received.keep)]
    )
    assert server is not None
    assert server.socket is not None
    port = server.socket.getsockname()[1]
    remote_aes = [{"ae_title": "PYNETDICOM", "host": "127.0.0.1", "port": port}]
    try:
        with running_node(module_folder / "node", remote_aes=remote_aes) as node:
            store_all(node.address, [*NATIVE.values(), *compressed.values()])
            yield Place(node, received, compressed)
    finally:
        server.shutdown()


@pytest.fixture(autouse=True)
def _nothing_received(place: Place) -> None:
    place.received.data_sets.clear()
    place.received.transfer_syntaxes.clear()


def _identifier(level: str, **keys: str | list[str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


@dataclass
class Final:
    """The last response: its status, its counters, its Failed SOP Instance UID List."""

    status: str
    counters: tuple[int | None, int | None, int | None, int | None]
    failed: set[str]


def _final(responses: Iterator[tuple[Dataset, Dataset | None]]) -> Final:
    *_, (last, identifier) = responses
    counters = tuple(
        last.get(f"NumberOf{word}Suboperations")
        for word in ("Remaining", "Completed", "Failed", "Warning")
    )
    failed = identifier.get("FailedSOPInstanceUIDList", []) if identifier else []
    uids = {failed} if isinstance(failed, str) else {*failed}
    return Final(f"{last.Status:04X}", counters, uids)


def _get(
    place: Place,
    contexts: Sequence[PresentationContext],
    roles: Sequence[str],
    identifier: Dataset,
) -> tuple[Final, Received]:
    """Send a C-GET in these storage contexts; `roles` are the classes that it is an SCP of."""
    received = Received()
    items = [build_role(uid, scp_role=True) for uid in roles]
    asked = [build_context(_GET), *contexts]
    handlers = [(evt.EVT_C_STORE, received.keep)]
    with associated(place.node.address, asked, items, handlers=handlers) as association:
        assert association.is_established
        return _final(association.send_c_get(identifier, _GET)), received


def test_a_get_brings_what_was_stored(place: Place) -> None:
    """Both classes in the role of an SCP: every instance, byte for byte (E-39)."""
    contexts = [build_context(uid, ExplicitVRLittleEndian) for uid in _BOTH]

    final, received = _get(place, contexts, _BOTH, _identifier("STUDY", StudyInstanceUID=S1))

    assert final == Final("0000", (None, 4, 0, 0), set())
    assert received.data_sets == collection.of(NATIVE, S1)


def test_what_has_no_role_is_not_sent(place: Place) -> None:
    """The role of one class only: the instances of the other one fail (E-39)."""
    contexts = [build_context(uid, ExplicitVRLittleEndian) for uid in _BOTH]

    final, received = _get(
        place, contexts, [CTImageStorage], _identifier("STUDY", StudyInstanceUID=S1)
    )

    assert final == Final("B000", (None, 3, 1, 0), {f"{S1_SR}.1"})
    assert received.data_sets == collection.of(NATIVE, S1_CT)


def test_a_get_without_roles_fails(place: Place) -> None:
    """Contexts in their default roles are those of a sender: nothing can come back (E-39)."""
    contexts = [build_context(uid, ExplicitVRLittleEndian) for uid in _BOTH]

    final, received = _get(place, contexts, [], _identifier("STUDY", StudyInstanceUID=S1))

    assert final == Final("A702", (None, 0, 4, 0), {*collection.of(NATIVE, S1)})
    assert received.data_sets == {}


def test_a_get_without_storage_contexts_fails(place: Place) -> None:
    """The same where nothing was proposed at all (E-39)."""
    final, _ = _get(place, [], [], _identifier("STUDY", StudyInstanceUID=S1))

    assert final == Final("A702", (None, 0, 4, 0), {*collection.of(NATIVE, S1)})


def test_a_get_in_implicit_vr_brings_the_same_values(place: Place, tmp_path: Path) -> None:
    """Converted, since nothing else was proposed (E-33, E-36)."""
    contexts = [build_context(uid, ImplicitVRLittleEndian) for uid in _BOTH]

    final, received = _get(place, contexts, _BOTH, _identifier("STUDY", StudyInstanceUID=S1))

    assert final == Final("0000", (None, 4, 0, 0), set())
    assert {*received.transfer_syntaxes.values()} == {ImplicitVRLittleEndian}
    for uid, encoded_data_set in received.data_sets.items():
        instance = Instance(
            NATIVE[uid].sop_class_uid, uid, ImplicitVRLittleEndian, encoded_data_set
        )
        converted = dcmread(write_instance(instance, tmp_path / "converted.dcm"))
        assert converted == dcmread(write_instance(NATIVE[uid], tmp_path / "stored.dcm"))


def test_a_compressed_instance_comes_in_the_context_of_its_compression(place: Place) -> None:
    """Two contexts of one class, each with one syntax: the bytes as stored (E-33, E-40)."""
    contexts = [
        build_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian),
        build_context(SecondaryCaptureImageStorage, JPEGBaseline8Bit),
    ]
    image = _identifier("IMAGE", StudyInstanceUID=S4, SeriesInstanceUID=S4_OT, SOPInstanceUID=_JPEG)

    final, received = _get(place, contexts, [SecondaryCaptureImageStorage], image)

    assert final == Final("0000", (None, 1, 0, 0), set())
    assert received.transfer_syntaxes == {_JPEG: JPEGBaseline8Bit}
    assert received.data_sets == collection.of(place.compressed, _JPEG)


def test_a_native_instance_is_not_compressed(place: Place) -> None:
    """A requestor that takes JPEG only gets no CT Image: that fails (E-34)."""
    contexts = [build_context(CTImageStorage, JPEGBaseline8Bit)]
    series = _identifier("SERIES", StudyInstanceUID=S1, SeriesInstanceUID=S1_CT)

    final, received = _get(place, contexts, [CTImageStorage], series)

    assert (final.status, final.counters) == ("A702", (None, 0, 3, 0))
    assert final.failed == {*collection.of(NATIVE, S1_CT)}
    assert received.data_sets == {}


def test_what_the_requestor_refuses_has_failed(place: Place) -> None:
    """Its handler answers A700 to reports, B000 to images (E-8, E-16)."""

    def refuse(event: evt.Event) -> int:
        is_report = event.request.AffectedSOPClassUID == BasicTextSRStorage
        return 0xA700 if is_report else 0xB000

    contexts = [build_context(_GET), *(build_context(uid, ExplicitVRLittleEndian) for uid in _BOTH)]
    roles = [build_role(uid, scp_role=True) for uid in _BOTH]
    handlers = [(evt.EVT_C_STORE, refuse)]
    with associated(place.node.address, contexts, roles, handlers=handlers) as association:
        final = _final(association.send_c_get(_identifier("STUDY", StudyInstanceUID=S1), _GET))

    assert final == Final("B000", (None, 0, 1, 3), {f"{S1_SR}.1"})


def test_a_relational_get_needs_no_keys_above(place: Place) -> None:
    """One report by its UID alone, where that was negotiated; A900 elsewhere (B-9)."""
    image = _identifier("IMAGE", SOPInstanceUID=f"{S1_SR}.1")
    contexts = [build_context(_GET), build_context(BasicTextSRStorage, ExplicitVRLittleEndian)]
    role = build_role(BasicTextSRStorage, scp_role=True)
    received = Received()
    handlers = [(evt.EVT_C_STORE, received.keep)]
    relational = [role, application_information(_GET, b"\1")]
    with associated(place.node.address, contexts, relational, handlers=handlers) as association:
        final = _final(association.send_c_get(image, _GET))
    with associated(place.node.address, contexts, [role], handlers=handlers) as association:
        refused = _final(association.send_c_get(image, _GET))

    assert final == Final("0000", (None, 1, 0, 0), set())
    assert received.data_sets == collection.of(NATIVE, S1_SR)
    assert refused.status == "A900"


def test_a_relational_move_crosses_studies(place: Place) -> None:
    """Two series of two studies by their UIDs alone (B-9)."""
    series = _identifier("SERIES", SeriesInstanceUID=[S1_SR, S2_CT])
    items = [application_information(_MOVE, b"\1")]
    with associated(place.node.address, [build_context(_MOVE)], items) as association:
        final = _move(association, "PYNETDICOM", series)

    assert final == Final("0000", (None, 3, 0, 0), set())
    assert place.received.data_sets == collection.of(NATIVE, S1_SR) | collection.of(NATIVE, S2_CT)


def _move(association: Association, destination: str, identifier: Dataset) -> Final:
    return _final(association.send_c_move(identifier, destination, _MOVE))


def test_a_move_delivers_what_was_stored(place: Place) -> None:
    """C-MOVE to pynetdicom's Storage SCP."""
    with associated(place.node.address, [build_context(_MOVE)]) as association:
        final = _move(association, "PYNETDICOM", _identifier("STUDY", StudyInstanceUID=S1))

    assert final == Final("0000", (None, 4, 0, 0), set())
    assert place.received.data_sets == collection.of(NATIVE, S1)


def test_a_move_and_a_get_go_on_one_association(place: Place) -> None:
    """One after the other: sub-operations come on the same association for the second only."""
    received = Received()
    contexts = [
        *(build_context(uid) for uid in (_MOVE, _GET)),
        build_context(BasicTextSRStorage, ExplicitVRLittleEndian),
    ]
    roles = [build_role(BasicTextSRStorage, scp_role=True)]
    handlers = [(evt.EVT_C_STORE, received.keep)]
    series = _identifier("SERIES", StudyInstanceUID=S1, SeriesInstanceUID=S1_SR)
    with associated(place.node.address, contexts, roles, handlers=handlers) as association:
        moved = _move(association, "PYNETDICOM", series)
        assert received.data_sets == {}
        got = _final(association.send_c_get(series, _GET))

    assert moved == got == Final("0000", (None, 1, 0, 0), set())
    assert received.data_sets == collection.of(NATIVE, S1_SR)
