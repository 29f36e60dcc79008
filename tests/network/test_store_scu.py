"""One instance after the other on an association: as it is stored, converted, or not at all."""

import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom.filereader import read_dataset
from pydicom.uid import CTImageStorage

from pacsnode.catalog.records import FailureCause, StoredInstance
from pacsnode.conversion.converter import ConvertedDataSet, Converter
from pacsnode.conversion.errors import ConversionError
from pacsnode.network import store_scu
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import (
    CommandSet,
    MoveOriginator,
    StoreOptions,
    encode_store_response,
    read_command_set,
)
from pacsnode.network.message_sender import DataSetReader
from pacsnode.network.proposal import SendingContexts
from pacsnode.network.store_scu import Failure, NotBegun, SendingBrokenOff, StoreScu
from tests.support import retrieval
from tests.support.destination import Script, destination
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.retrieval import Place

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, JPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"


@dataclass
class _Channel:
    """An association that takes everything down and answers with one status."""

    status: int = 0x0000
    comment: str = ""
    sent: list[tuple[int, CommandSet, bytes]] = field(default_factory=list)
    while_waiting: Callable[[], None] | None = None

    def send_instance(self, context_id: int, command_set: bytes, data_set: DataSetReader) -> None:
        room = memoryview(bytearray(data_set.length_bytes))
        data_set.read_into(room)
        self.sent.append((context_id, read_command_set(command_set), bytes(room)))

    def receive_response(self, message_id: int, while_waiting: Callable[[], None]) -> CommandSet:
        _, command_set, _ = self.sent[-1]
        assert command_set.message_id == message_id
        self.while_waiting = while_waiting
        return read_command_set(encode_store_response(command_set, self.status, self.comment))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty place."""
    with retrieval.place(tmp_path) as made:
        yield made


def _scu(
    place: Place,
    channel: _Channel,
    *transfer_syntax_uids: str,
    options: StoreOptions | None = None,
    while_waiting: Callable[[], None] = lambda: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> StoreScu:
    """Return one whose peer has accepted CT images in these Transfer Syntaxes."""
    accepted = [
        PresentationContext(2 * n + 1, CTImageStorage, uid, 0)
        for n, uid in enumerate(transfer_syntax_uids)
    ]
    return StoreScu(
        channel,
        SendingContexts(accepted),
        file_store=place.file_store,
        converter=Converter(place.file_store.scratch_folder),
        options=options or StoreOptions(0),
        sender=SimpleNamespace(wait=while_waiting, is_stopped=is_stopped),
    )


def _open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def _deflated() -> Instance:
    """An instance that is said to be deflated; of odd length, as some are."""
    return Instance(CTImageStorage, "1.2.3", DEFLATED, b"\x03\x00\x00")


@pytest.mark.parametrize(
    "instance",
    [
        encoded(ct_data_set()),
        encoded(ct_data_set(), IMPLICIT),
        encoded(ct_data_set(rows=300, columns=300)),
        Instance(CTImageStorage, "1.2.4", JPEG, b"anything"),
        _deflated(),
    ],
    ids=["explicit", "implicit", "large", "compressed", "odd"],
)
def test_what_is_taken_as_it_is_stored_is_not_touched(place: Place, instance: Instance) -> None:
    """Bit for bit, in its own context, whatever others there are (E-33, E-37)."""
    channel = _Channel()
    (stored,) = place.keep(instance)
    scu = _scu(place, channel, EXPLICIT, IMPLICIT, DEFLATED, JPEG)
    assert scu.send(stored) == 0x0000
    ((context_id, command_set, content),) = channel.sent
    assert context_id == 1 + 2 * [EXPLICIT, IMPLICIT, DEFLATED, JPEG].index(
        instance.transfer_syntax_uid
    )
    padding = b"\0" * (len(instance.encoded_data_set) % 2)  # PS3.5 A.5
    assert content == instance.encoded_data_set + padding
    assert command_set.affected_sop_instance_uid == instance.sop_instance_uid
    assert command_set.affected_sop_class_uid == CTImageStorage
    assert command_set.has_data_set


def test_an_odd_native_data_set_is_made_even(place: Place) -> None:
    """No message may be odd: the value that makes it so is padded, in the stored syntax (E-33)."""
    start, channel = encoded(ct_data_set(StudyID="x")), _Channel()
    odd = start.encoded_data_set.replace(b"SH\2\0x ", b"SH\1\0x")
    assert len(odd) % 2
    (stored,) = place.keep(replace(start, encoded_data_set=odd))
    assert _scu(place, channel, EXPLICIT).send(stored) == 0x0000
    ((_, _, content),) = channel.sent
    assert content == start.encoded_data_set


def test_an_odd_compressed_data_set_fails(place: Place) -> None:
    """It cannot be sent as it is, and nothing is compressed for sending (E-33, E-34)."""
    channel = _Channel()
    (stored,) = place.keep(Instance(CTImageStorage, "1.2.4", JPEG, b"any"))
    failure = _scu(place, channel, JPEG).send(stored)
    assert isinstance(failure, Failure)
    assert failure.cause is FailureCause.CONVERSION
    assert "odd length" in failure.reason
    assert not channel.sent


def test_a_native_data_set_is_converted_to_another_native_syntax(place: Place) -> None:
    """Where its own is not accepted, the values arrive all the same (E-33, E-36)."""
    data_set, channel = ct_data_set(), _Channel()
    (stored,) = place.keep(encoded(data_set))
    assert _scu(place, channel, JPEG, IMPLICIT).send(stored) == 0x0000
    ((context_id, _, content),) = channel.sent
    assert context_id == 3
    found = read_dataset(BytesIO(content), is_implicit_VR=True, is_little_endian=True)
    assert found == data_set


def test_what_no_context_can_hold_fails(place: Place) -> None:
    """Nothing is compressed; the reason names the Transfer Syntax (E-33, E-34)."""
    channel = _Channel()
    (stored,) = place.keep_images(1)
    assert _scu(place, channel, JPEG).send(stored) == Failure(
        FailureCause.NO_CONTEXT,
        "SOP class CT Image Storage: no uncompressed transfer syntax is accepted",
    )
    assert _scu(place, channel).send(stored) == Failure(
        FailureCause.NO_CONTEXT, "SOP class CT Image Storage: no context is accepted"
    )
    assert channel.sent == []


def test_what_cannot_be_converted_fails_before_it_is_sent(place: Place) -> None:
    """A compressed object without its pixels is no message, and the association lives (E-33)."""
    channel = _Channel()
    (broken, good) = place.keep(
        Instance(CTImageStorage, "1.2.3", "1.2.840.10008.1.2.5", b"nothing of use"),
        encoded(ct_data_set()),
    )
    scu = _scu(place, channel, EXPLICIT)
    failure = scu.send(broken)
    assert isinstance(failure, Failure)
    assert failure.cause is FailureCause.CONVERSION
    assert channel.sent == []
    assert scu.send(good) == 0x0000


def test_the_next_file_is_open_before_the_response_comes(place: Place) -> None:
    """What is removed then is sent all the same; whatever was announced, no file stays open."""
    channel, stored = _Channel(), place.keep_images(4)
    open_before = _open_files()
    with _scu(place, channel, EXPLICIT) as scu:
        assert scu.send(stored[0], stored[1]) == 0x0000
        place.file_store.path(stored[1].file.path).unlink()
        assert scu.send(stored[1], stored[2]) == 0x0000
        assert scu.send(stored[3], stored[2]) == 0x0000  # another lane has taken the announced one
        assert _open_files() == open_before + 1
    assert _open_files() == open_before
    sent = [command_set.affected_sop_instance_uid for _, command_set, _ in channel.sent]
    assert sent == [stored[n].sop_instance_uid for n in (0, 1, 3)]


def test_a_file_that_is_missing_fails_at_its_own_turn(place: Place) -> None:
    """Not while the one before is sent (E-11)."""
    channel, stored = _Channel(), place.keep_images(2)
    place.file_store.path(stored[1].file.path).unlink()
    with _scu(place, channel, EXPLICIT) as scu:
        assert scu.send(stored[0], stored[1]) == 0x0000
        failure = scu.send(stored[1])
    assert isinstance(failure, Failure)
    assert failure.cause is FailureCause.FILE


def test_a_conversion_is_given_up_when_nothing_is_wanted_any_more(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not on its way yet: it remains, and nobody waits for it (E-17)."""
    monkeypatch.setattr(store_scu, "_LOOK_SECONDS", 0.02)
    is_begun, is_given_up = threading.Event(), threading.Event()

    def convert(*_: object) -> ConvertedDataSet:
        is_begun.set()
        assert is_given_up.wait(20)
        raise ConversionError("given up")

    channel = _Channel()
    scu = _scu(place, channel, EXPLICIT, is_stopped=is_begun.is_set)
    scu._converter = SimpleNamespace(convert=convert, cancel=is_given_up.set)  # type: ignore[assignment]
    (stored,) = place.keep(encoded(ct_data_set(), IMPLICIT))
    with pytest.raises(NotBegun):
        scu.send(stored)
    assert channel.sent == []


def test_what_is_converted_leaves_the_reserve_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is nearly full receiving goes before (F-2, E-33)."""
    monkeypatch.setattr(place.file_store, "_reserve_bytes", 1 << 60)
    large = encoded(ct_data_set(rows=2048, columns=2048))
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = stream.compress(large.encoded_data_set) + stream.flush()
    (stored,) = place.keep(replace(large, transfer_syntax_uid=DEFLATED, encoded_data_set=deflated))
    converter = Converter(
        place.file_store.scratch_folder, why_no_space=place.file_store.why_no_space
    )
    scu = _scu(place, _Channel(), EXPLICIT)
    scu._converter = converter
    failure = scu.send(stored)
    assert isinstance(failure, Failure)
    assert failure.cause is FailureCause.CONVERSION
    assert "less than the reserve is free" in failure.reason


def test_a_file_that_is_missing_fails_with_its_reason(place: Place) -> None:
    """It was deleted since the instances were looked up (E-11, E-21)."""
    channel = _Channel()
    (stored,) = place.keep_images(1)
    place.file_store.path(stored.file.path).unlink()
    failure = Failure(FailureCause.FILE, "its file cannot be read: No such file or directory")
    assert _scu(place, channel, EXPLICIT).send(stored) == failure
    assert _scu(place, channel, IMPLICIT).send(stored) == failure


@pytest.mark.parametrize(
    ("status", "comment", "outcome"),
    [
        (0x0000, "", 0x0000),
        (0xB006, "elements were discarded", 0xB006),
        (0x0107, "", 0x0107),
        (
            0xA700,
            "disk is full",
            Failure(FailureCause.REFUSED, "status 0xA700 disk is full", 0xA700),
        ),
        (0x0122, "", Failure(FailureCause.REFUSED, "status 0x0122", 0x0122)),
    ],
)
def test_the_answer_is_what_came_of_it(
    place: Place, status: int, comment: str, outcome: int | Failure
) -> None:
    """A refusal has its status and what the peer says of it (E-16)."""
    (stored,) = place.keep_images(1)
    assert _scu(place, _Channel(status, comment), EXPLICIT).send(stored) == outcome


def test_a_comment_is_shown_on_one_short_line(place: Place) -> None:
    """Whatever a peer puts into it: 64 characters that can be printed."""
    (stored,) = place.keep_images(1)
    failure = _scu(place, _Channel(0xC000, "two\nlines" * 50), EXPLICIT).send(stored)
    assert isinstance(failure, Failure)
    assert failure.reason == "status 0xC000 " + ("two?lines" * 50)[:64]


@pytest.mark.parametrize("originator", [None, MoveOriginator("WORKSTATION", 77)])
def test_a_request_has_the_options_of_the_retrieval(
    place: Place, originator: MoveOriginator | None
) -> None:
    """Its priority, and for a C-MOVE who asked for it (E-13, E-14)."""
    channel = _Channel()
    (stored,) = place.keep_images(1)
    _scu(place, channel, EXPLICIT, options=StoreOptions(2, originator)).send(stored)
    values = channel.sent[0][1].values
    assert values[0x0700] == b"\x02\0"
    assert values.get(0x1030) == (b"WORKSTATION " if originator else None)
    assert values.get(0x1031) == (b"\x4d\0" if originator else None)


def test_message_ids_begin_again_behind_the_last(place: Place) -> None:
    """They are 1 to 65,535 and never 0, however many instances there are (E-15, E-20)."""
    channel = _Channel()
    (stored,) = place.keep_images(1)
    scu = _scu(place, channel, EXPLICIT)
    scu._message_id = 65_533
    for _ in range(4):
        scu.send(stored)
    assert [command_set.message_id for _, command_set, _ in channel.sent] == [65_534, 65_535, 1, 2]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ConversionError("it is over")])
def test_a_data_set_that_fails_while_it_is_sent_breaks_off(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A message that has begun cannot be taken back: whoever sends it has to abort (E-11)."""
    monkeypatch.setattr(ConvertedDataSet, "pieces", lambda _: _failing(error))
    (stored,) = place.keep_images(1)
    with pytest.raises(SendingBrokenOff) as broken_off:
        _scu(place, _Channel(), IMPLICIT).send(stored)
    is_conversion = isinstance(error, ConversionError)
    expected = FailureCause.CONVERSION if is_conversion else FailureCause.FILE
    assert broken_off.value.failure.cause is expected


def _failing(error: Exception) -> Iterator[bytes]:
    yield b"some"
    raise error


def test_an_association_that_is_lost_is_no_failure_of_the_instance(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it arrived is unknown: whoever has the association decides (E-19)."""

    def lose(*_: object) -> None:
        raise AssociationEnd("the peer has gone")

    monkeypatch.setattr(_Channel, "send_instance", lose)
    (stored,) = place.keep_images(1)
    with pytest.raises(AssociationEnd):
        _scu(place, _Channel(), EXPLICIT).send(stored)


@pytest.mark.parametrize("maximum_length", [0, 7, 100, 4096, 16_384, 1_000_000])
def test_a_data_set_arrives_whatever_a_peer_takes(place: Place, maximum_length: int) -> None:
    """In one PDU or in thousands, stored or converted, it is the same (H-6)."""
    instance = encoded(ct_data_set(rows=64, columns=64))
    stored: list[StoredInstance] = place.keep(instance)
    for syntax in (EXPLICIT, IMPLICIT):
        script = Script(maximum_length=maximum_length)
        with destination(transfer_syntax_uids=(syntax,), script=script) as running:
            assert place.move(running.port, stored).counts == (0, 1, 0, 0)
        (received,) = running.received
        assert received.transfer_syntax_uid == syntax
        if syntax == EXPLICIT:
            assert received.encoded_data_set == instance.encoded_data_set
