"""What the fuzzer (scripts/fuzz) starts with and what it has found, tried without it."""

import warnings
from pathlib import Path

import pytest

from scripts.fuzz_associations import Target
from scripts.fuzz_targets import TARGETS, corpus


def _try_each(target: Target, inputs: list[Path]) -> list[str]:
    """Return the names of the inputs that a target fails for, with what it says."""
    failed = []
    for path in inputs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn of odd values
            try:
                target(path.read_bytes())
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                failed.append(f"{path.name}: {error!r}")
    return failed


@pytest.mark.parametrize("name", TARGETS)
def test_what_other_products_send_breaks_no_promise(name: str) -> None:
    """Requests, command sets, data sets and whole associations of DCMTK and pynetdicom are read."""
    with TARGETS[name]() as target:
        inputs = corpus(name)
        assert inputs
        assert _try_each(target, inputs) == []


@pytest.mark.parametrize("name", TARGETS)
def test_what_breaks_off_breaks_no_promise(name: str) -> None:
    """Each input of the corpus may end anywhere, as that of a peer that crashes does."""
    with TARGETS[name]() as target:
        content = corpus(name)[0].read_bytes()
        for end in range(len(content)):
            target(content[:end])
