"""The responses of a retrieval: which counters they have, and when the list of what has failed."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pynetdicom.dimse_primitives import C_GET, C_MOVE

from pacsnode.network.associate import PresentationContext
from pacsnode.network.exchange import Exchange
from pacsnode.network.retrieval import SubOperations
from pacsnode.network.toolkit import configure_pynetdicom

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_MODEL = "1.2.840.10008.5.1.4.1.2.2.2"


@dataclass
class _Association:
    """Takes down what is responded."""

    responses: list[Any] = field(default_factory=list)

    def respond(self, context_id: int, response: object) -> None:
        assert context_id == 1
        self.responses.append(response)


def _exchange(
    primitive: type[Any] = C_MOVE, transfer_syntax: str = IMPLICIT
) -> tuple[Exchange, _Association]:
    configure_pynetdicom()
    association, request = _Association(), primitive()
    request.MessageID = 7
    request.AffectedSOPClassUID = _MODEL
    context = PresentationContext(1, _MODEL, transfer_syntax, 0)
    return Exchange(association, context, request), association  # type: ignore[arg-type]


def _state(completed: int, failed: int, warning: int, remaining: int = 0) -> SubOperations:
    total = completed + failed + warning + remaining
    uids = [f"1.2.{number}" for number in range(failed)]
    return SubOperations(total, ["1"] * completed, uids, ["1"] * warning)


def _counters(response: Any) -> tuple[int | None, ...]:  # noqa: ANN401
    return (
        response.NumberOfRemainingSuboperations,
        response.NumberOfCompletedSuboperations,
        response.NumberOfFailedSuboperations,
        response.NumberOfWarningSuboperations,
    )


def _identifier(response: Any, *, is_implicit_vr: bool) -> Dataset:  # noqa: ANN401
    encoded = BytesIO(response.Identifier.getvalue())
    return read_dataset(encoded, is_implicit_VR=is_implicit_vr, is_little_endian=True)


@pytest.mark.parametrize("primitive", [C_MOVE, C_GET])
def test_a_pending_response_has_all_counters_and_no_list(primitive: type[Any]) -> None:
    """Of a C-MOVE and of a C-GET (E-9, E-10)."""
    exchange, association = _exchange(primitive)
    exchange.respond_pending(_state(1, 2, 3, remaining=4))
    (response,) = association.responses
    assert (response.Status, response.MessageIDBeingRespondedTo) == (0xFF00, 7)
    assert response.AffectedSOPClassUID == _MODEL
    assert _counters(response) == (4, 1, 2, 3)
    assert response.Identifier is None


@pytest.mark.parametrize(
    ("counts", "status"),
    [((3, 0, 0), 0x0000), ((2, 0, 1), 0xB000), ((0, 0, 0), 0x0000)],
)
def test_a_final_response_without_failures_has_no_list(
    counts: tuple[int, int, int], status: int
) -> None:
    """Nor does it say what remains: nothing does (E-9, E-10)."""
    exchange, association = _exchange()
    exchange.respond_retrieved(_state(*counts))
    (response,) = association.responses
    assert response.Status == status
    assert _counters(response) == (None, *counts)
    assert response.Identifier is None


@pytest.mark.parametrize("primitive", [C_MOVE, C_GET])
@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT])
def test_a_final_response_lists_what_has_failed(primitive: type[Any], transfer_syntax: str) -> None:
    """In the encoding of the context, without a character set (E-10, E-11)."""
    exchange, association = _exchange(primitive, transfer_syntax)
    exchange.respond_retrieved(_state(1, 2, 0))
    (response,) = association.responses
    assert (response.Status, _counters(response)) == (0xB000, (None, 1, 2, 0))
    identifier = _identifier(response, is_implicit_vr=transfer_syntax == IMPLICIT)
    assert [element.keyword for element in identifier] == ["FailedSOPInstanceUIDList"]
    assert identifier.FailedSOPInstanceUIDList == ["1.2.0", "1.2.1"]


@pytest.mark.parametrize("failed", [0, 1])
def test_a_cancel_says_what_remains(failed: int) -> None:
    """With all four counters, and the list if something has failed (E-9, E-10)."""
    exchange, association = _exchange()
    state = _state(2, failed, 0, remaining=5)
    state.is_cancelled = True
    exchange.respond_retrieved(state)
    (response,) = association.responses
    assert (response.Status, _counters(response)) == (0xFE00, (5, 2, failed, 0))
    assert (response.Identifier is not None) == bool(failed)


def test_counts_are_clamped_to_what_a_counter_can_state() -> None:
    """More than 65,535 are stated as 65,535 (E-20)."""
    exchange, association = _exchange()
    exchange.respond_pending(_state(65_536, 65_535, 0, remaining=100_000))
    exchange.respond_retrieved(_state(100_000, 0, 70_000))
    assert [_counters(response) for response in association.responses] == [
        (65_535, 65_535, 65_535, 0),
        (None, 65_535, 0, 65_535),
    ]


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT])
def test_a_list_of_any_length_is_whole(transfer_syntax: str) -> None:
    """UI has a length of 16 bits in Explicit VR; a longer list is UN there (E-10)."""
    exchange, association = _exchange(transfer_syntax=transfer_syntax)
    exchange.respond_retrieved(_state(0, 70_000, 0))
    (response,) = association.responses
    is_implicit_vr = transfer_syntax == IMPLICIT
    element = _identifier(response, is_implicit_vr=is_implicit_vr)["FailedSOPInstanceUIDList"]
    assert ("UI" if is_implicit_vr else "UN") == element.VR
    listed = element.value if is_implicit_vr else element.value.decode().rstrip("\0").split("\\")
    assert list(listed) == [f"1.2.{number}" for number in range(70_000)]
