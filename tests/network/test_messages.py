"""Fragments put together to DIMSE messages, and what is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pacsnode.network import messages
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.command_set import CommandSet, read_command_set
from pacsnode.network.messages import (
    NoResponse,
    ResponseDeadline,
    check_response,
    drop_data_set,
    receive_command_set,
    receive_data_fragment,
)
from pacsnode.network.transport import Timeouts
from pacsnode.network.upper_layer import UpperLayer
from tests.support import hostile
from tests.support.link import tcp_pair

_ECHO = hostile.encoded_command(hostile.echo_elements(7))
_COMMAND, _LAST = hostile.COMMAND, hostile.LAST


@contextmanager
def _receiving(*pdvs: bytes) -> Iterator[UpperLayer]:
    """Yield the upper layer of a connection on which these PDVs have come, each in a PDU."""
    requestor, acceptor = tcp_pair()
    layer = UpperLayer(acceptor, Timeouts(20, 20, 20))
    try:
        requestor.sendall(b"".join(hostile.pdu(hostile.P_DATA, pdv) for pdv in pdvs))
        yield layer
    finally:
        layer.close(0)
        requestor.close()


def _receive(layer: UpperLayer, seconds: float = 20) -> tuple[int, CommandSet]:
    return receive_command_set(layer, is_within_message=False, timeout_seconds=seconds)


@pytest.mark.parametrize("length", [1, 7, 1_000])
def test_a_command_set_is_put_together(length: int) -> None:
    """However it is cut (PS3.8 E.2)."""
    parts = [_ECHO[start : start + length] for start in range(0, len(_ECHO), length)]
    pdvs = [hostile.pdv(5, _COMMAND, part) for part in parts[:-1]]
    with _receiving(*pdvs, hostile.pdv(5, _COMMAND | _LAST, parts[-1])) as layer:
        context_id, command_set = _receive(layer)
    assert (context_id, command_set.message_id) == (5, 7)


@pytest.mark.parametrize(
    ("pdvs", "reason"),
    [
        ([hostile.pdv(5, _LAST, b"data")], "a fragment is out of place"),
        (
            [hostile.pdv(5, _COMMAND, _ECHO), hostile.pdv(7, _COMMAND | _LAST, b"")],
            "a fragment is out of place",
        ),
        (
            [hostile.pdv(5, _COMMAND, _ECHO), hostile.pdv(5, _LAST, b"data")],
            "a fragment is out of place",
        ),
        ([hostile.pdv(5, _COMMAND, bytes(70_000))], "a command set is too long"),
        (
            [hostile.pdv(5, _COMMAND | _LAST, b"\0" * 3)],
            "the command set ends within an element's header",
        ),
    ],
)
def test_what_is_no_command_set_is_aborted(pdvs: list[bytes], reason: str) -> None:
    """A data set, a fragment of another context, one that does not end (H-18)."""
    with _receiving(*pdvs) as layer, pytest.raises(AssociationEnd) as ended:
        _receive(layer)
    assert ended.value.reason == reason
    assert ended.value.abort is not None


def test_a_command_set_that_takes_too_long_is_aborted() -> None:
    """However many fragments it still has (H-17)."""
    pdvs = [hostile.pdv(5, _COMMAND, part) for part in (_ECHO[:9], _ECHO[9:])]
    with _receiving(*pdvs) as layer, pytest.raises(AssociationEnd, match="took longer than"):
        _receive(layer, seconds=-1)


def test_a_data_set_is_dropped_to_its_end() -> None:
    """The next message comes behind it; a command set without one is all (PS3.7 6.3.1)."""
    command = read_command_set(
        hostile.encoded_command(hostile.echo_elements(7) | {0x0800: b"\x01\0"})
    )
    pdvs = [hostile.pdv(5, 0, bytes(1_000)), hostile.pdv(5, _LAST, bytes(1_000))]
    with _receiving(*pdvs, hostile.pdv(5, _COMMAND | _LAST, _ECHO)) as layer:
        drop_data_set(layer, 5, command, 20)
        drop_data_set(layer, 5, read_command_set(_ECHO), 20)
        assert _receive(layer)[1].message_id == 7


def test_a_data_set_that_does_not_end_is_not_read_for_ever() -> None:
    """However fast it comes: whoever waits for what is behind it has a limit (H-17)."""
    command = read_command_set(
        hostile.encoded_command(hostile.echo_elements(7) | {0x0800: b"\x01\0"})
    )
    pdvs = [hostile.pdv(5, 0, bytes(100))] * 100
    with _receiving(*pdvs) as layer, pytest.raises(AssociationEnd, match="does not end"):
        drop_data_set(layer, 5, command, 0)


@pytest.mark.parametrize(
    "pdv", [hostile.pdv(5, _COMMAND | _LAST, _ECHO), hostile.pdv(7, _LAST, b"data")]
)
def test_what_is_no_data_fragment_is_aborted(pdv: bytes) -> None:
    """A command within a data set, or data of another context (H-18)."""
    with _receiving(pdv) as layer, pytest.raises(AssociationEnd, match="out of place"):
        receive_data_fragment(layer, 5)


def _response(**changes: bytes | None) -> CommandSet:
    values: dict[int, bytes | None] = {
        0x0100: hostile.us(0x8001),
        0x0120: hostile.us(7),
        0x0800: hostile.us(0x0101),
        0x0900: hostile.us(0),
    }
    values |= {int(name[1:], 16): value for name, value in changes.items()}
    present = {element: value for element, value in values.items() if value is not None}
    return read_command_set(hostile.encoded_command(present))


def test_a_response_answers_its_request() -> None:
    """It is one, has the request's Message ID, and a status (PS3.7 9.3.1.2)."""
    check_response(_response(), 7, is_in_context=True)


@pytest.mark.parametrize(
    "changes",
    [{"_0100": hostile.us(0x0001)}, {"_0120": hostile.us(8)}, {"_0120": None}, {"_0900": None}],
    ids=["request", "other request", "no request", "no status"],
)
def test_what_answers_nothing_is_aborted(changes: dict[str, bytes | None]) -> None:
    """Whoever says something else than the response has lost the thread (H-18)."""
    with pytest.raises(AssociationEnd) as ended:
        check_response(_response(**changes), 7, is_in_context=True)
    assert ended.value.abort is messages.Abort.BY_USER


def test_a_response_in_another_context_answers_nothing() -> None:
    """It has to come in the presentation context of its request (H-18)."""
    with pytest.raises(AssociationEnd, match="something else than the response"):
        check_response(_response(), 7, is_in_context=False)


def test_what_is_still_taken_of_a_request_puts_its_deadline_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large object on a slow line is not a silent peer; one that takes nothing is (H-17)."""
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(messages, "time", SimpleNamespace(monotonic=lambda: clock.now))
    left = iter([900, 500, 100, 100, 0])
    layer = SimpleNamespace(unacknowledged_bytes=lambda: next(left))
    deadline = ResponseDeadline(layer, 10)  # type: ignore[arg-type]
    for seconds in (8, 8, 8, 1):
        clock.now += seconds
        deadline.check()
    clock.now += 10
    with pytest.raises(NoResponse, match="no response in 10 s"):
        deadline.check()
