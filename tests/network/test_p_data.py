"""Messages cut into fragments."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.network.p_data import IS_COMMAND, IS_LAST, fragment_length, fragments


@pytest.mark.parametrize(
    ("maximum", "expected"),
    [
        (0, 131_066),
        (16_384, 16_378),
        (16_383, 16_376),
        (1_000_000, 131_066),
        (8, 2),
        (7, 2),
        (6, 2),
        (1, 2),
    ],
)
def test_a_fragment_is_as_long_as_the_peer_takes(maximum: int, expected: int) -> None:
    """The maximum counts the headers of the PDV, not that of the PDU; lengths are even (H-6)."""
    assert fragment_length(maximum, 131_072) == expected


@given(
    content=st.binary(max_size=500),
    step=st.integers(1, 120),
    control=st.sampled_from([0, IS_COMMAND]),
    is_end=st.booleans(),
)
def test_fragments_put_together_are_the_content(
    *, content: bytes, step: int, control: int, is_end: bool
) -> None:
    """Whatever its length: nothing is lost, each has its lengths, only the very last says so."""
    parts = [
        bytes(part) for part in fragments(5, control, memoryview(content), step, is_end=is_end)
    ]
    headers, found = parts[::2], parts[1::2]
    assert b"".join(found) == content
    assert len(headers) == len(found) >= 1
    controls = []
    for header, fragment in zip(headers, found, strict=True):
        kind, pdu_length, pdv_length, context_id, each = struct.unpack(">BxLLBB", header)
        assert (kind, context_id) == (4, 5)
        assert (pdu_length, pdv_length) == (len(fragment) + 6, len(fragment) + 2)
        assert len(fragment) <= step
        controls.append(each)
    assert controls == [control] * (len(found) - 1) + [control | (IS_LAST if is_end else 0)]


def test_fragments_are_no_copies() -> None:
    """What is sent of a large buffer lies in that buffer."""
    content = memoryview(bytearray(10))
    assert all(isinstance(part, memoryview) for part in [*fragments(1, 0, content, 4)][1::2])
