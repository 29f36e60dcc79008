"""Request Identifiers to queries and retrievals, and matches to Response Identifiers.

An identifier is understood once, here; what follows works with a Query or a Retrieval. Every
refusal names the key at fault, so that the requestor's log says what to mend.

Source: PS3.4 C.4.1.1.3, C.4.2.1.4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pacsnode.dicom.attributes import (
    BY_TAG,
    CONTROL_TAGS,
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    QUERY_RETRIEVE_VIEW,
    RETRIEVE_AE_TITLE,
    SPECIFIC_CHARACTER_SET,
    UNIQUE_KEY,
    Attribute,
    tag_text,
)
from pacsnode.dicom.character_sets import (
    AFFECTED_VRS,
    DEFAULT_CHARACTER_SETS,
    CharacterSets,
    choose_character_sets,
    encode_text,
)
from pacsnode.dicom.data_elements import DataElement, DataSetError, encode_elements, read_elements
from pacsnode.dicom.date_time import normalise_date, normalise_time
from pacsnode.dicom.information_model import InformationModel, Level
from pacsnode.dicom.instance import character_sets_of, decode_value
from pacsnode.dicom.matching import (
    WILD_CARD_VRS,
    MalformedKey,
    Matching,
    Universal,
    parse_matching_key,
)
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.text_values import normalise_text, split_values
from pacsnode.dicom.transfer_syntax import Encoding

_LAST_GROUP_OF_NO_KEY = 0x0007  # rule A-12: never keys
# Of a key's text, several values included. The longest value that a person asks for has 64; what
# is beyond this serves nobody, and a database has limits of its own for patterns.
_MAXIMUM_KEY_LENGTH = 1024
_MAXIMUM_SHORT_LENGTH = 0xFFFE


@dataclass(frozen=True, slots=True)
class MatchingKey:
    """A key that selects: an Attribute and what its value must be like."""

    attribute: Attribute
    matching: Matching


@dataclass(frozen=True, slots=True)
class Query:
    """A C-FIND request, understood.

    Attributes:
        model: whose rules apply.
        level: the entities that are asked for.
        matching_keys: all must match; universal ones are left out.
        return_attributes: what each answer carries, besides the control elements.
        has_unsupported_keys: some optional key was left out or its value ignored (rule D-2).
        character_sets: of the request; the answers use them where they can.
    """

    model: InformationModel
    level: Level
    matching_keys: tuple[MatchingKey, ...]
    return_attributes: tuple[Attribute, ...]
    has_unsupported_keys: bool
    character_sets: CharacterSets

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
    """A C-MOVE request's identifier, understood.

    Attributes:
        level: the entities that are asked for; all instances below them are meant (rule E-2).
        unique_keys: by level, from the root to the level; one value above it, one or more at it.
    """

    level: Level
    unique_keys: Mapping[Level, tuple[str, ...]]


def parse_query(model: InformationModel, identifier: bytes, encoding: Encoding) -> Query:
    """Return the query that a C-FIND identifier states.

    Raises:
        DimseFailure: 0xC001, the identifier cannot be decoded; 0xA900, its level, its unique keys
            or the form of a value break the rules; the tag at fault goes with it.

    Source: PS3.4 C.4.1.1.3, C.4.1.2, C.4.1.3; rules B-1 to B-5, B-19.
    """
    elements, level = _open(model, identifier, encoding)
    character_sets = character_sets_of(elements)
    _check_upper_unique_keys(model, level, elements, character_sets)
    _check_query_retrieve_view(elements, character_sets)
    matching_keys: list[MatchingKey] = []
    return_attributes: list[Attribute] = []
    has_unsupported_keys = False
    for element in elements.values():
        if not _is_key(element.tag):
            continue
        if element.item_count > 1:
            raise DimseFailure(
                Status.IDENTIFIER_DOES_NOT_MATCH,
                f"{tag_text(element.tag)} takes one item only",
                element.tag,
            )
        attribute = _attribute_at(model, level, element.tag)
        if attribute is None:
            # Rule D-2: a private key alone does not make FF01.
            has_unsupported_keys |= (element.tag >> 16) % 2 == 0
            continue
        return_attributes.append(attribute)
        matching = _matching(attribute, element, character_sets)
        if isinstance(matching, Universal):
            continue
        if attribute.is_matched:
            matching_keys.append(MatchingKey(attribute, matching))
        else:
            has_unsupported_keys = True
    if not any(model.level_of(attribute.level) == level for attribute in return_attributes):
        unique_key = UNIQUE_KEY[level]
        raise DimseFailure(
            Status.IDENTIFIER_DOES_NOT_MATCH, f"no key of level {level.name}", unique_key.tag
        )
    return Query(
        model=model,
        level=level,
        matching_keys=tuple(matching_keys),
        return_attributes=_with_upper_unique_keys(model, level, return_attributes),
        has_unsupported_keys=has_unsupported_keys,
        character_sets=character_sets,
    )


def parse_retrieval(model: InformationModel, identifier: bytes, encoding: Encoding) -> Retrieval:
    """Return what a C-MOVE identifier asks for.

    Keys that are not unique keys are illegal there and ignored.

    Raises:
        DimseFailure: 0xC001, the identifier cannot be decoded; 0xA900, its level or a unique key
            breaks the rules: a request never means more than it says.

    Source: PS3.4 C.4.2.1.4.1, C.4.2.2.1; rules E-1, B-19.
    """
    elements, level = _open(model, identifier, encoding)
    character_sets = character_sets_of(elements)
    _check_upper_unique_keys(model, level, elements, character_sets)
    _check_query_retrieve_view(elements, character_sets)
    unique_keys = {
        upper: _unique_key_values(upper, elements, character_sets)
        for upper in model.levels
        if upper <= level
    }
    values, unique_key = unique_keys[level], UNIQUE_KEY[level]
    if not values:
        raise _refused(unique_key, "is needed")
    if any(_has_wildcard(value) for value in values):
        raise _refused(unique_key, "takes no wildcard here")
    if level is Level.PATIENT and len(values) > 1:
        raise _refused(unique_key, "takes one value only")
    return Retrieval(level, unique_keys)


def encode_match(
    query: Query, values: Mapping[str, str], retrieve_ae_title: str, encoding: Encoding
) -> bytes:
    """Return the Response Identifier of one match.

    Args:
        query: what was asked.
        values: text by keyword; an Attribute without a value is returned with zero length.
        retrieve_ae_title: where the instances can be had: our title.
        encoding: of the presentation context.

    Source: PS3.4 C.4.1.1.3.2; rules D-3 to D-8, D-18.
    """
    texts = {a: _returned_text(a, values.get(a.keyword, "")) for a in query.return_attributes}
    affected = {a: text for a, text in texts.items() if a.vr in AFFECTED_VRS}
    character_sets = choose_character_sets(
        (text for a, text in affected.items() if a.vr != "PN"),
        query.character_sets,
        person_names=[text for a, text in affected.items() if a.vr == "PN"],
    )
    elements = [
        DataElement(QUERY_RETRIEVE_LEVEL, "CS", query.level.name.encode()),
        DataElement(RETRIEVE_AE_TITLE, "AE", retrieve_ae_title.encode()),
        DataElement(INSTANCE_AVAILABILITY, "CS", values["InstanceAvailability"].encode()),
    ]
    if character_sets is not None:
        terms = "\\".join(character_sets.terms)
        elements.append(DataElement(SPECIFIC_CHARACTER_SET, "CS", terms.encode()))
    for attribute, text in texts.items():
        value = encode_text(text, attribute.vr, character_sets or DEFAULT_CHARACTER_SETS)
        elements.append(DataElement(attribute.tag, attribute.vr, value))
    elements.sort(key=lambda element: element.tag)
    return encode_elements(elements, encoding)


def encode_failed_list(sop_instance_uids: Iterable[str], encoding: Encoding) -> bytes:
    """Return the identifier of a C-MOVE response that lists the instances that failed.

    Source: PS3.4 C.4.2.1.4.2, (0008,0058); rule E-10.
    """
    value = "\\".join(sop_instance_uids).encode()
    # UI has a 16-bit length in Explicit VR: a longer list is cut to what fits, at a whole UID.
    if not encoding.is_implicit_vr and len(value) > _MAXIMUM_SHORT_LENGTH:
        value = value[: value.rindex(b"\\", 0, _MAXIMUM_SHORT_LENGTH)]
    return encode_elements([DataElement(0x00080058, "UI", value)], encoding)


def _open(
    model: InformationModel, identifier: bytes, encoding: Encoding
) -> tuple[Mapping[int, DataElement], Level]:
    """Return the elements of an identifier and its level."""
    try:
        elements = read_elements(identifier, encoding, takes_low_groups=True)  # see _is_key
    except DataSetError as error:
        raise DimseFailure(
            Status.IDENTIFIER_UNDECODABLE, f"identifier undecodable: {error}"
        ) from error
    element = elements.get(QUERY_RETRIEVE_LEVEL)
    name = "" if element is None else element.value.decode("ascii", "replace")
    level = next((lv for lv in model.levels if lv.name == name.strip("\0 ").upper()), None)
    if level is None:
        allowed = " ".join(lv.name for lv in model.levels)
        raise DimseFailure(
            Status.IDENTIFIER_DOES_NOT_MATCH,
            f"Query/Retrieve Level must be one of {allowed}",
            QUERY_RETRIEVE_LEVEL,
        )
    return elements, level


def _check_upper_unique_keys(
    model: InformationModel,
    level: Level,
    elements: Mapping[int, DataElement],
    character_sets: CharacterSets,
) -> None:
    """Refuse an identifier without exactly one value in the unique key of each upper level.

    Source: PS3.4 C.4.1.2.1, C.4.2.2.1; rules B-1, B-2.
    """
    for upper in model.levels:
        if upper >= level:
            return
        values = _unique_key_values(upper, elements, character_sets)
        if len(values) != 1 or _has_wildcard(values[0]):
            raise _refused(UNIQUE_KEY[upper], f"takes one value at level {level.name}")


def _check_query_retrieve_view(
    elements: Mapping[int, DataElement], character_sets: CharacterSets
) -> None:
    """Refuse a view that was not negotiated: the default view would be another answer (B-14)."""
    element = elements.get(QUERY_RETRIEVE_VIEW)
    if element is not None and decode_value(element, character_sets, "CS"):
        raise DimseFailure(
            Status.IDENTIFIER_DOES_NOT_MATCH,
            "Query/Retrieve View was not negotiated",
            QUERY_RETRIEVE_VIEW,
        )


def _unique_key_values(
    level: Level, elements: Mapping[int, DataElement], character_sets: CharacterSets
) -> tuple[str, ...]:
    """Return the values of a level's unique key, each once; empty where it is missing or empty."""
    attribute = UNIQUE_KEY[level]
    element = elements.get(attribute.tag)
    if element is None:
        return ()
    text = decode_value(element, character_sets, attribute.vr)
    values = (normalise_text(value, attribute.vr) for value in split_values(text, attribute.vr))
    return tuple(dict.fromkeys(value for value in values if value))


def _has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def _is_key(tag: int) -> bool:
    """Tell whether an element of an identifier asks for an Attribute (rules A-12, A-13)."""
    group, element = tag >> 16, tag & 0xFFFF
    is_private_creator = group % 2 == 1 and element <= 0x00FF  # noqa: PLR2004 - PS3.5 7.8.1
    is_key_group = group > _LAST_GROUP_OF_NO_KEY and element != 0
    return is_key_group and not is_private_creator and tag not in CONTROL_TAGS


def _attribute_at(model: InformationModel, level: Level, tag: int) -> Attribute | None:
    """Return the Attribute of a tag if it may be a key at a level: it is not of a lower level.

    Source: rules B-4, B-5.
    """
    attribute = BY_TAG.get(tag)
    if attribute is None or model.level_of(attribute.level) > level:
        return None
    return attribute


def _matching(
    attribute: Attribute, element: DataElement, character_sets: CharacterSets
) -> Matching:
    text = decode_value(element, character_sets, attribute.vr)
    if not character_sets.is_known and attribute.vr in WILD_CARD_VRS:
        # Rule D-17: the bytes that nobody can read may be any character.
        text = text.replace("\N{REPLACEMENT CHARACTER}", "?")
    if len(text) > _MAXIMUM_KEY_LENGTH and attribute.vr != "UI":
        raise _refused(attribute, "is too long")
    try:
        return parse_matching_key(attribute.vr, text)
    except MalformedKey as error:
        raise _refused(attribute, f"is malformed: {error}") from error


def _with_upper_unique_keys(
    model: InformationModel, level: Level, attributes: Iterable[Attribute]
) -> tuple[Attribute, ...]:
    """Return the attributes and the unique keys of the upper levels, each once (rule D-3)."""
    upper = [UNIQUE_KEY[lv] for lv in model.levels if lv < level]
    return tuple(dict.fromkeys([*upper, *attributes]))


def _returned_text(attribute: Attribute, text: str) -> str:
    """Return a value as it is answered: as stored, but dates and times in today's form (D-8)."""
    if attribute.vr == "DA":
        return normalise_date(text)
    if attribute.vr == "TM":
        return normalise_time(text)
    return text


def _refused(attribute: Attribute, reason: str) -> DimseFailure:
    return DimseFailure(
        Status.IDENTIFIER_DOES_NOT_MATCH,
        f"{tag_text(attribute.tag)} {attribute.keyword} {reason}",
        attribute.tag,
    )
