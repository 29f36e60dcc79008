"""A C-FIND request, understood: what is asked, what selects, what each answer carries.

Source: PS3.4 C.4.1.1.3, C.4.1.2, C.4.1.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pacsnode.dicom.attributes import Attribute
from pacsnode.dicom.character_sets import CharacterSets
from pacsnode.dicom.information_model import InformationModel, Level
from pacsnode.dicom.matching import (
    DEFAULT_NAME_MATCHING,
    ItemMatching,
    Matching,
    Moment,
    NameMatching,
)
from pacsnode.dicom.status import Status


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """How a request is understood: what was negotiated for it, and the node's own settings.

    Attributes:
        relational: unique keys of upper levels may be missing or of any form (rules B-6, B-7).
        combined_date_time: a range of dates and one of times are one range (rule B-12).
        empty_value: `""` asks for entities without a value (rule B-17).
        multiple_values: of several values each has to match (rule B-16).
        names: how Person Names are matched (rules C-30 to C-33).
        offset_minutes: of the node's time zone, for a DT without an offset (rule C-20).
    """

    relational: bool = False
    combined_date_time: bool = False
    empty_value: bool = False
    multiple_values: bool = False
    names: NameMatching = DEFAULT_NAME_MATCHING
    offset_minutes: int = 0


@dataclass(frozen=True, slots=True)
class MatchingKey:
    """A key that selects: an Attribute and what its value must be like."""

    attribute: Attribute
    matching: Matching


@dataclass(frozen=True, slots=True)
class CombinedKey:
    """A range of dates and one of times that are one range of date-times; see matches_span.

    Attributes:
        date: of VR DA.
        time: of VR TM, of the same entity.
        lower: the first date-time that is asked for; None for an open end.
        upper: the last one; not before `lower`; None for an open end.

    Source: PS3.4 C.2.2.2.5.4; rule B-12.
    """

    date: Attribute
    time: Attribute
    lower: Moment | None
    upper: Moment | None


@dataclass(frozen=True, slots=True)
class ItemRequest:
    """What is returned of an item of a sequence: these elements of it, in order of their tags.

    Attributes:
        elements: by tag: VR, and of a sequence what is returned of its items; None for all.
    """

    elements: Mapping[int, tuple[str, "ItemRequest | None"]]


@dataclass(frozen=True, slots=True)
class ReturnKey:
    """An Attribute that each answer carries.

    Attributes:
        attribute: what is returned.
        tag: where the answer has it: a private one stands in the block of the request.
        items: of a sequence, what is returned of each of its items; None for the whole sequence,
            with everything in it.
        matching: of a sequence, which of its items are returned; None for all.
    """

    attribute: Attribute
    tag: int
    items: ItemRequest | None = None
    matching: ItemMatching | None = None


@dataclass(frozen=True)
class Query:
    """A C-FIND request, understood.

    Attributes:
        model: whose rules apply.
        level: the entities that are asked for.
        matching_keys: all must match; universal ones are left out.
        combined_keys: all must match, too.
        return_keys: what each answer carries, besides the control elements; in no order.
        has_unsupported_keys: some optional key was left out or its value ignored (rule D-2).
        character_sets: of the request; the answers use them where they can.
        private_creators: tag and name of each creator whose private keys are returned.
    """

    model: InformationModel
    level: Level
    matching_keys: tuple[MatchingKey, ...]
    return_keys: tuple[ReturnKey, ...]
    has_unsupported_keys: bool
    character_sets: CharacterSets
    combined_keys: tuple[CombinedKey, ...] = ()
    private_creators: tuple[tuple[int, str], ...] = ()

    @cached_property
    def return_attributes(self) -> tuple[Attribute, ...]:
        """The Attributes that answers carry, each once."""
        return tuple(dict.fromkeys(key.attribute for key in self.return_keys))

    @property
    def pending_status(self) -> Status:
        """The status that goes with each match.

        Source: PS3.4 table C.4-1; rule D-2.
        """
        if self.has_unsupported_keys:
            return Status.PENDING_WITH_UNSUPPORTED_KEYS
        return Status.PENDING


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The identifier of a C-MOVE or C-GET request, understood.

    Attributes:
        level: the entities that are asked for; all instances below them are meant (rule E-2).
        unique_keys: by level, from the root to the level: one value above it, one or more at it.
            Levels above it are missing where they were not given, which relational retrieval
            allows.
    """

    level: Level
    unique_keys: Mapping[Level, tuple[str, ...]]
