"""What the bench finds out beside the rates, and what each figure is meant to be."""

from dataclasses import dataclass


class MeasureError(Exception):
    """Something could not be measured, because what it needs did not happen."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        what: was measured, in a few words.
        value: in the unit.
        unit: for the tables.
        at_least: the aim, if it is to be large.
        below: the aim, if it is to be small.
        remark: how it was measured, and what else there is to say.
    """

    what: str
    value: float
    unit: str
    at_least: float | None = None
    below: float | None = None
    remark: str = ""

    @property
    def measured(self) -> str:
        """The value with as many digits as say something."""
        magnitude = abs(self.value)
        digits = 2 if magnitude < 10 else 1 if magnitude < 100 else 0  # noqa: PLR2004 - its digits
        return f"{self.value:.{digits}f} {self.unit}"

    @property
    def aim(self) -> str:
        """The aim in words; empty if there is none."""
        if self.at_least is not None:
            return f"at least {self.at_least:g} {self.unit}"
        if self.below is not None:
            return f"under {self.below:g} {self.unit}"
        return ""

    @property
    def is_met(self) -> bool:
        """Whether the aim is met."""
        is_large_enough = self.at_least is None or self.value >= self.at_least
        return is_large_enough and (self.below is None or self.value < self.below)
