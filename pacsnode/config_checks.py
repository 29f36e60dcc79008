"""What the checks of the configuration are made of: sections, and values of a few kinds.

A check raises ValueError with what is allowed in the place of the value, in the administrator's
words; config_document.py says where that is and what stands there.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    model_validator,
)

from pacsnode.dicom.uid import is_valid_uid

AE_TITLE: Final = "an AE title: 1 to 16 printable ASCII characters, no backslash"
_UID: Final = "a UID: digits and single dots between them, at most 64 characters"


class NotTextError(ValueError):
    """A text was wanted; YAML may have read one as something else."""


class NotWholeError(ValueError):
    """A whole number was wanted."""


@dataclass(slots=True)
class Reading:
    """What the checks of one reading share: where paths start, and what was seen before.

    Attributes:
        source: the file; None if there is none.
        folder: where relative paths start, absolute.
        storage_folder: None until it was read.
        ae_titles: ours; None until they were read, and when they are at fault.
        seen: what may stand in one place only: its kind and the value.
    """

    source: Path | None
    folder: Path
    storage_folder: Path | None = None
    ae_titles: tuple[str, ...] | None = None
    seen: set[tuple[str, str]] = dataclasses.field(default_factory=set)

    @classmethod
    def of(cls, validation: ValidationInfo) -> "Reading":
        """Return the reading under way; a model made without one starts in the current folder."""
        context: object = validation.context
        return context if isinstance(context, Reading) else cls(None, Path.cwd())


class Section(BaseModel):
    """Keys and their values: unknown keys are refused, types are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _accept_nothing(cls, value: object) -> object:
        """Take a section whose keys are all commented out as one that keeps its defaults."""
        return {} if value is None else value


def whole_number(lowest: int, highest: int) -> BeforeValidator:
    """Return a check that takes whole numbers of a range."""

    def check(value: object) -> object:
        if type(value) is not int or not lowest <= value <= highest:
            raise NotWholeError(f"a whole number from {lowest} to {highest}")
        return value

    return BeforeValidator(check)


def text(check: Callable[[str], str], allowed: str) -> BeforeValidator:
    """Return a check that takes texts only, and of them what another check takes."""

    def check_type_first(value: object) -> str:
        if not isinstance(value, str):
            raise NotTextError(allowed)
        return check(value)

    return BeforeValidator(check_type_first)


def only_once(allowed: str) -> AfterValidator:
    """Return a check that refuses a value that it has taken before in the same reading."""

    def check(value: str, validation: ValidationInfo) -> str:
        seen = Reading.of(validation).seen
        if (allowed, value) in seen:
            raise ValueError(allowed)
        seen.add((allowed, value))
        return value

    return AfterValidator(check)


def check_not_empty(value: object) -> object:
    """Refuse a list without entries."""
    # Not pydantic's min_length: that counts the valid entries only.
    if value == ():
        raise ValueError("a list with at least one entry")
    return value


def _check_uid(uid: str) -> str:
    if not is_valid_uid(uid):
        raise ValueError(_UID)
    return uid


Seconds = Annotated[int, whole_number(1, 86_400)]
Uid = Annotated[str, text(_check_uid, _UID)]
