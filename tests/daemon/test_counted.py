"""Numbers of things are said as a person would say them."""

import pytest

from pacsnode.daemon.counted import counted


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 associations"), (1, "1 association"), (2, "2 associations")]
)
def test_one_is_not_many(count: int, words: str) -> None:
    """Only one of a kind is in the singular."""
    assert counted(count, "association") == words
