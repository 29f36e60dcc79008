"""The fuzzer where there is no atheris: changes the corpus at random, whatever that reaches."""

import time
import warnings
from collections.abc import Sequence
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.fuzz_associations import Target

_EXAMPLES_A_ROUND: Final = 200
_MOST_CHANGES: Final = 6
_LONGEST_CHANGE_BYTES: Final = 16


def find_failing_input(target: Target, corpus: Sequence[bytes], seconds: float) -> bytes | None:
    """Return the smallest input found that a target fails for; None if the time is over before."""
    tried = b""

    @settings(
        max_examples=_EXAMPLES_A_ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_changed(corpus))
    def try_it(content: bytes) -> None:
        nonlocal tried
        tried = content
        target(content)

    deadline = time.monotonic() + seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of odd values
        while time.monotonic() < deadline:
            try:
                try_it()
            except Exception:  # noqa: BLE001 - whatever it is, it is a finding
                return tried  # Hypothesis ends with the smallest
    return None


@st.composite
def _changed(draw: st.DrawFn, corpus: Sequence[bytes]) -> bytes:
    """An input of the corpus in which some bytes are replaced, put in or left out."""
    content = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(0, _MOST_CHANGES))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + _LONGEST_CHANGE_BYTES)))
        content[start:stop] = draw(st.binary(max_size=_LONGEST_CHANGE_BYTES))
    return bytes(content)
