"""C-MOVE: what is negotiated with a destination, and in what the instances then go."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    BasicTextSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from tests.support import collection, dcmtk
from tests.support.collection import NATIVE, S1, S4
from tests.support.destination import Destination, ReceivedStore, destination
from tests.support.instances import Instance, ct_data_set, encoded, write_instance
from tests.support.node import Node, free_port, running_node
from tests.support.wire import STUDY_ROOT_MOVE, Response, identifier_of, move, store_all

pytestmark = pytest.mark.system

_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000}
_ROOT = "1.2.826.0.1.3680043.8.498.87"
_WIDE_STUDY = f"{_ROOT}.1"
# Storage SOP classes of which nothing but the UID matters here.
_CLASSES = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in (
    "1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "2", "2.1", "2.2", "3.1", "4", "4.1",
    "4.2", "4.3", "6.1", "6.2", "6.3", "7", "7.1", "7.2", "7.3", "7.4", "9.1.1", "9.1.2", "9.1.3",
    "9.2.1", "9.3.1", "9.4.1", "9.4.2", "9.5.1", "9.6.1", "11.1", "11.2", "11.3", "11.4", "11.5",
    "12.1", "12.1.1", "12.2", "12.2.1", "13.1.1", "13.1.2", "13.1.3", "14.1", "14.2", "20", "30",
)]  # fmt: skip


@dataclass
class Place:
    """A node that holds the collection and knows PEER at a port, and in certain ways."""

    node: Node
    port: int
    compressed: dict[str, Instance]

    def move(self, study: str, ae_title: str = "PEER") -> Response:
        """Have a study moved; return the final response."""
        identifier = identifier_of("STUDY", StudyInstanceUID=study)
        return move(self.node.address, STUDY_ROOT_MOVE, ae_title, identifier)

    @contextmanager
    def peer(
        self, transfer_syntaxes: Collection[str], classes: Collection[str] = ()
    ) -> Iterator[Destination]:
        """Run the destination: it takes these classes, or all of S1 and S4."""
        taken = {each.sop_class_uid for each in [*NATIVE.values(), *self.compressed.values()]}
        with destination(
            "PEER", [*(classes or taken)], [*transfer_syntaxes], port=self.port
        ) as running:
            yield running


def _in_many_classes() -> Iterator[Instance]:
    """Yield a study of 48 SOP classes, each in three Transfer Syntaxes: 144 contexts."""
    for number, sop_class_uid in enumerate(_CLASSES, 1):
        for place, uid in enumerate(
            (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian), 1
        ):
            data_set = ct_data_set(
                SOPClassUID=sop_class_uid,
                StudyInstanceUID=_WIDE_STUDY,
                SeriesInstanceUID=f"{_WIDE_STUDY}.{number}",
                SOPInstanceUID=f"{_WIDE_STUDY}.{number}.{place}",
                PatientID="WIDE",
            )
            yield encoded(data_set, uid)


_WIDE = {each.sop_instance_uid: each for each in _in_many_classes()}


@pytest.fixture(scope="module")
def place(module_folder: Path) -> Iterator[Place]:
    """The node; PEER is UNCOMPRESSED, too, and JPEGONLY, as far as the node knows."""
    compressed = collection.compressed(module_folder)
    entry = {"host": "127.0.0.1", "port": free_port()}
    remote_aes = [
        {"ae_title": "PEER", **entry},
        {"ae_title": "UNCOMPRESSED", **entry, "transfer_syntaxes": "uncompressed"},
        {"ae_title": "JPEGONLY", **entry, "transfer_syntaxes": [JPEGBaseline8Bit]},
    ]
    with running_node(module_folder / "node", remote_aes=remote_aes) as node:
        store_all(node.address, [*NATIVE.values(), *compressed.values()])
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian):
            store_all(
                node.address,
                [each for each in _WIDE.values() if each.transfer_syntax_uid == syntax],
            )
        yield Place(node, int(entry["port"]), compressed)


def _data_set(store: ReceivedStore, folder: Path) -> Dataset:
    """Return what a C-STORE has brought."""
    instance = Instance(
        store.sop_class_uid,
        store.sop_instance_uid,
        store.transfer_syntax_uid,
        store.encoded_data_set,
    )
    return dcmread(BytesIO(write_instance(instance, folder / "received.dcm").read_bytes()))


# --- what is proposed


def test_what_the_instances_need_is_proposed(place: Place) -> None:
    """One Transfer Syntax in each context, the stored one first, then native ones (E-30, E-31)."""
    with place.peer(_NATIVE) as peer:
        place.move(S1)

    (proposed,) = peer.proposed
    assert {abstract for abstract, _ in proposed} == {CTImageStorage, BasicTextSRStorage}
    assert all(len(syntaxes) == 1 for _, syntaxes in proposed)
    for wanted in (CTImageStorage, BasicTextSRStorage):
        syntaxes = [uid for abstract, (uid,) in proposed if abstract == wanted]
        assert syntaxes == [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def test_each_stored_transfer_syntax_is_proposed(place: Place) -> None:
    """Those of each class, and Implicit VR Little Endian with each class (E-30, E-31)."""
    with place.peer(_NATIVE) as peer:
        place.move(S4)

    (proposed,) = peer.proposed
    pairs = {(abstract, uid) for abstract, (uid,) in proposed}
    for instance in place.compressed.values():
        assert (instance.sop_class_uid, instance.transfer_syntax_uid) in pairs
        assert (instance.sop_class_uid, ImplicitVRLittleEndian) in pairs
    assert len(pairs) == len(proposed)


def test_many_contexts_are_split_over_associations(place: Place) -> None:
    """144 are needed: two associations of at most 128, no class on both, all arrives (E-32)."""
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
    with place.peer(syntaxes, _CLASSES) as peer:
        final = place.move(_WIDE_STUDY)

    assert (final.status, final.counters) == (0x0000, (None, 144, 0, 0))
    assert {store.sop_instance_uid: store.encoded_data_set for store in peer.received} == {
        uid: each.encoded_data_set for uid, each in _WIDE.items()
    }
    first, second = ({abstract for abstract, _ in each} for each in peer.proposed)
    assert first | second == {*_CLASSES}
    assert not first & second
    assert max(map(len, peer.proposed)) <= 128
    assert {store.move_originator_message_id for store in peer.received} == {1}
    assert peer.endings == ["released"] * 2


# --- in what they go


def test_stored_bytes_go_out_as_they_are(place: Place) -> None:
    """To a destination that takes everything: every compression, Deflated, Big Endian (E-33)."""
    syntaxes = {each.transfer_syntax_uid for each in place.compressed.values()}
    with place.peer([*_NATIVE, *syntaxes]) as peer:
        final = place.move(S4)

    assert (final.status, final.counters) == (0x0000, (None, len(place.compressed), 0, 0))
    received = {store.sop_instance_uid: store for store in peer.received}
    for uid, instance in place.compressed.items():
        assert received[uid].transfer_syntax_uid == instance.transfer_syntax_uid
        assert received[uid].encoded_data_set == instance.encoded_data_set


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_destination_that_takes_native_syntaxes_gets_the_same_pixels(
    place: Place, tmp_path: Path, transfer_syntax: str
) -> None:
    """Decompressed; what was lossy says so, even if it did not before (E-33, E-34, E-35)."""
    with place.peer([transfer_syntax]) as peer:
        final = place.move(S4)

    assert (final.status, final.counters) == (0x0000, (None, len(place.compressed), 0, 0))
    for store in peer.received:
        stored = place.compressed[store.sop_instance_uid]
        assert store.transfer_syntax_uid == transfer_syntax
        as_sent = replace(
            stored, transfer_syntax_uid=transfer_syntax, encoded_data_set=store.encoded_data_set
        )
        (tmp_path / "sent").mkdir(exist_ok=True)
        assert collection.pixels_of(as_sent, tmp_path / "sent") == collection.pixels_of(
            stored, tmp_path
        )
        before = dcmread(tmp_path / f"{store.sop_instance_uid}.dcm")
        after = _data_set(store, tmp_path)
        assert after.SOPInstanceUID == store.sop_instance_uid
        is_lossy = stored.transfer_syntax_uid in _LOSSY
        unsaid = "01" if is_lossy else None
        assert after.get("LossyImageCompression") == before.get("LossyImageCompression", unsaid)
        assert after.get("ImageType") == before.get("ImageType")


def test_nothing_is_put_from_one_compression_into_another(place: Place) -> None:
    """A destination of JPEG 2000 only gets what is stored so; the rest fails (E-34)."""
    with place.peer([JPEG2000, JPEG2000Lossless]) as peer:
        final = place.move(S4)

    expected = {
        uid
        for uid, each in place.compressed.items()
        if each.transfer_syntax_uid in {JPEG2000, JPEG2000Lossless}
    }
    assert {*peer.received_uids} == expected
    assert f"{final.status:04X}" == "B000"
    assert final.failed_sop_instance_uids == place.compressed.keys() - expected
    for store in peer.received:
        stored = place.compressed[store.sop_instance_uid]
        assert store.encoded_data_set == stored.encoded_data_set


def test_a_destination_that_is_set_to_uncompressed_is_sent_nothing_else(place: Place) -> None:
    """Though it would accept all: what it accepts it may not be able to show."""
    syntaxes = {each.transfer_syntax_uid for each in place.compressed.values()}
    with place.peer([*_NATIVE, *syntaxes]) as peer:
        final = place.move(S4, "UNCOMPRESSED")

    assert (final.status, final.counters) == (0x0000, (None, len(place.compressed), 0, 0))
    assert {store.transfer_syntax_uid for store in peer.received} <= {
        *_NATIVE,
        ExplicitVRBigEndian,
    }
    proposed = {uid for _, (uid,) in peer.proposed[0]}
    assert proposed <= {*_NATIVE, ExplicitVRBigEndian}


def test_a_list_of_transfer_syntaxes_is_kept_to(place: Place) -> None:
    """Only JPEG Baseline is allowed: the JPEG goes, the rest fails for want of a context."""
    before = len(place.node.log)
    with place.peer([*_NATIVE, JPEGBaseline8Bit, DeflatedExplicitVRLittleEndian]) as peer:
        final = place.move(S4, "JPEGONLY")

    (jpeg,) = (
        uid
        for uid, each in place.compressed.items()
        if each.transfer_syntax_uid == JPEGBaseline8Bit
    )
    assert peer.received_uids == [jpeg]
    assert final.counters == (None, 1, len(place.compressed) - 1, 0)
    assert place.node.log[before:].count("failed: no presentation context: ") == 9


def test_storescp_can_read_what_was_converted(place: Place, tmp_path: Path) -> None:
    """DCMTK's receiver of Implicit VR only writes files that its dcmdump reads to the end."""
    with dcmtk.storescp(tmp_path / "received", "PEER", place.port, "+xi") as receiver:
        final = place.move(S4)
        files = receiver.files()

    assert (final.status, final.counters) == (0x0000, (None, len(place.compressed), 0, 0))
    for path in files:
        assert "Used TransferSyntax: Little Endian Implicit" in dcmtk.dcmdump(path)
