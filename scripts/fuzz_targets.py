"""The targets of the fuzzer, by the names of their folders in the corpus."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from scripts.fuzz_associations import (
    CORPUS,
    Target,
    association_with_handlers,
    fuzz_association,
    fuzz_upper_layer,
)
from scripts.fuzz_readers import (
    fuzz_associate_answer,
    fuzz_associate_request,
    fuzz_command_set,
    fuzz_data_set,
)

TARGETS: Final[Mapping[str, Callable[[], AbstractContextManager[Target]]]] = {
    "associate_request": lambda: nullcontext(fuzz_associate_request),
    "associate_answer": lambda: nullcontext(fuzz_associate_answer),
    "command_set": lambda: nullcontext(fuzz_command_set),
    "data_set": lambda: nullcontext(fuzz_data_set),
    "upper_layer": lambda: nullcontext(fuzz_upper_layer),
    "association": lambda: nullcontext(fuzz_association),
    "handlers": association_with_handlers,
}
# One instance, one set of seeds: what is worth saying to the one is worth saying to the other.
_FOLDERS: Final = {"handlers": "association"}


def corpus_folder(target: str) -> Path:
    """Return where the inputs that a target starts with are."""
    return CORPUS / _FOLDERS.get(target, target)


def corpus(target: str) -> list[Path]:
    """Return the inputs that a target starts with, in the order of their names."""
    return sorted(corpus_folder(target).iterdir())
