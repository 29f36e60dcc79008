"""Request Identifiers to queries and retrievals; answer.py is the way back.

An identifier is understood once, here; what follows works with a Query or a Retrieval. Every
refusal names the key at fault, so that the requestor's log says what to mend.

Source: PS3.4 C.4.1.1.3, C.4.2.1.4.
"""

from collections.abc import Iterable, Mapping, Sequence

from pydicom.datadict import tag_for_keyword

from pacsnode.dicom.attributes import (
    CONTROL_TAGS,
    LAST_GROUP_OF_NO_KEY,
    QUERY_RETRIEVE_LEVEL,
    QUERY_RETRIEVE_VIEW,
    STANDARD_KEYS,
    UNIQUE_KEY,
    Attribute,
    Keys,
)
from pacsnode.dicom.character_sets import CharacterSets
from pacsnode.dicom.data_elements import DataElement, DataSetError, encode_elements, read_elements
from pacsnode.dicom.information_model import InformationModel, Level
from pacsnode.dicom.matching import Matching, Never, Universal
from pacsnode.dicom.matching_keys import parse_combined_key
from pacsnode.dicom.query import (
    CombinedKey,
    MatchingKey,
    Query,
    QueryOptions,
    Retrieval,
    ReturnKey,
)
from pacsnode.dicom.request_keys import KeyReader, private_creators_of, refused
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.text_values import normalise_text, split_values
from pacsnode.dicom.transfer_syntax import Encoding
from pacsnode.dicom.values import character_sets_of, decode_value
from pacsnode.dicom.wild_card import has_wild_card


def parse_query(
    model: InformationModel,
    identifier: bytes,
    encoding: Encoding,
    *,
    keys: Keys = STANDARD_KEYS,
    options: QueryOptions = QueryOptions(),  # noqa: B008 - immutable
) -> Query:
    """Return the query that a C-FIND identifier states.

    Args:
        model: whose rules apply.
        identifier: as it was received.
        encoding: of the presentation context.
        keys: what the node catalogues.
        options: what was negotiated, and the settings of the node.

    Raises:
        DimseFailure: 0xC001, the identifier cannot be decoded; 0xA900, its level, its unique keys
            or the form of a value break the rules; the tag at fault goes with it.

    Source: PS3.4 C.4.1.1.3, C.4.1.2, C.4.1.3; rules B-1 to B-7, B-19.
    """
    elements, level = _open(model, identifier, encoding)
    character_sets = character_sets_of(elements)
    if not options.relational:
        _check_upper_unique_keys(model, level, elements, character_sets)
    _check_query_retrieve_view(elements, character_sets)
    request = _Request(model, level, keys, KeyReader(encoding, character_sets, options))
    creators = private_creators_of(elements, character_sets)
    for element in elements.values():
        if _is_key(element.tag):
            block = element.tag & 0xFFFF0000 | (element.tag >> 8) & 0xFF
            request.add(element, creators.get(block, ""))
    # Rule B-7: where queries are relational, keys of any level do.
    lowest_asked = max((model.level_of(k.attribute.level) for k in request.return_keys), default=-1)
    if lowest_asked != level and not (options.relational and request.return_keys):
        raise refused(UNIQUE_KEY[level].tag, f"or another key of level {level.name} is needed")
    combined_keys = request.combine(elements) if options.combined_date_time else []
    blocks = {key.tag & 0xFFFF0000 | (key.tag >> 8) & 0xFF for key in request.return_keys}
    return Query(
        model=model,
        level=level,
        matching_keys=tuple(request.matching_keys.values()),
        combined_keys=tuple(combined_keys),
        return_keys=_with_upper_unique_keys(model, level, request.return_keys),
        has_unsupported_keys=request.has_unsupported_keys or request.reader.has_ignored_values,
        character_sets=character_sets,
        private_creators=tuple((tag, name) for tag, name in creators.items() if tag in blocks),
    )


def parse_retrieval(
    model: InformationModel, identifier: bytes, encoding: Encoding, *, relational: bool = False
) -> Retrieval:
    """Return what the identifier of a C-MOVE or C-GET asks for.

    Keys that are not unique keys are illegal there and ignored.

    Args:
        model: whose rules apply.
        identifier: as it was received.
        encoding: of the presentation context.
        relational: relational retrieval was negotiated: unique keys of upper levels may be missing
            or empty.

    Raises:
        DimseFailure: 0xC001, the identifier cannot be decoded; 0xA900, its level or a unique key
            breaks the rules: a request never means more than it says.

    Source: PS3.4 C.4.2.1.4.1, C.4.2.2.1, C.4.2.2.2, C.4.3.1.3; rules E-1, B-9, B-19.
    """
    elements, level = _open(model, identifier, encoding)
    character_sets = character_sets_of(elements)
    _check_upper_unique_keys(model, level, elements, character_sets, may_miss=relational)
    _check_query_retrieve_view(elements, character_sets)
    unique_keys = {
        upper: _unique_key_values(upper, elements, character_sets)
        for upper in model.levels
        if upper <= level
    }
    values, unique_key = unique_keys[level], UNIQUE_KEY[level]
    if not values:
        raise _refused(unique_key, "is needed")
    if any(has_wild_card(value) for value in values):
        raise _refused(unique_key, "takes no wildcard here")
    if level is Level.PATIENT and len(values) > 1:
        raise _refused(unique_key, "takes one value only")
    return Retrieval(level, {upper: given for upper, given in unique_keys.items() if given})


def encode_failed_list(sop_instance_uids: Iterable[str], encoding: Encoding) -> bytes:
    """Return the identifier of a C-MOVE response that lists the instances that failed.

    It is whole: one that UI has no room for in Explicit VR is UN.

    Source: PS3.4 C.4.2.1.4.2, (0008,0058); PS3.5 6.2.2 note 5; rule E-10.
    """
    value = "\\".join(sop_instance_uids).encode()
    return encode_elements([DataElement(0x00080058, "UI", value)], encoding)


class _Request:
    """The keys of a C-FIND identifier, one after the other.

    Attributes:
        reader: of their values.
        matching_keys: by the tag of the key.
        return_keys: what is returned, in the order of tags.
        has_unsupported_keys: some key was left out or its value ignored.
    """

    def __init__(
        self, model: InformationModel, level: Level, keys: Keys, reader: KeyReader
    ) -> None:
        self.reader = reader
        self.matching_keys: dict[int, MatchingKey] = {}
        self.return_keys: list[ReturnKey] = []
        self.has_unsupported_keys = False
        self._model = model
        self._level = level
        self._keys = keys

    def add(self, element: DataElement, private_creator: str) -> None:
        """Understand one key; `private_creator` is of the block that it stands in.

        Source: rules B-4, B-5, C-26, D-2, D-5, D-11.
        """
        attribute = self._keys.find(element.tag, private_creator)
        if element.item_count > 1:
            raise refused(element.tag, "takes one item only")
        if attribute is None or self._model.level_of(attribute.level) > self._level:
            # Rule D-2: a private key alone does not make FF01.
            self.has_unsupported_keys |= (element.tag >> 16) % 2 == 0
            return
        matching: Matching = Universal()
        items = item_matching = None
        if attribute.vr == "SQ":
            items, item_matching = self.reader.item(element)
            matching = item_matching or matching
        else:
            matching = self.reader.matching(attribute, element)
        if not attribute.is_matched:
            self.has_unsupported_keys |= not isinstance(matching, Universal)
            matching, item_matching = Universal(), None
        self.return_keys.append(ReturnKey(attribute, element.tag, items, item_matching))
        if not isinstance(matching, Universal):
            self.matching_keys[element.tag] = MatchingKey(attribute, matching)

    def combine(self, elements: Mapping[int, DataElement]) -> list[CombinedKey]:
        """Take the ranges of dates and times that are one range out of the matching keys.

        Source: PS3.4 C.2.2.2.5.4; rule B-12.
        """
        combined = []
        for key in tuple(self.matching_keys.values()):
            date = key.attribute
            time_tag = tag_for_keyword(f"{date.keyword.removesuffix('Date')}Time")
            time_key = self.matching_keys.get(time_tag or 0)
            is_date = date.vr == "DA" and date.keyword.endswith("Date") and not date.is_multiple
            if not is_date or time_key is None or time_key.attribute.level is not date.level:
                continue
            time = time_key.attribute
            span = parse_combined_key(
                self.reader.text(elements[date.tag], "DA"),
                self.reader.text(elements[time.tag], "TM"),
            )
            if span is None:
                continue
            lower, upper = span
            del self.matching_keys[time.tag]
            if lower is not None and upper is not None and lower > upper:
                self.matching_keys[date.tag] = MatchingKey(date, Never())
            else:
                del self.matching_keys[date.tag]
                combined.append(CombinedKey(date, time, lower, upper))
        return combined


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
    *,
    may_miss: bool = False,
) -> None:
    """Refuse an identifier without exactly one value in the unique key of each upper level.

    Source: PS3.4 C.4.1.2.1, C.4.2.2.1; rules B-1, B-2.
    """
    for upper in model.levels:
        if upper >= level:
            return
        values = _unique_key_values(upper, elements, character_sets)
        if may_miss and not values:
            continue
        if not values:
            raise _refused(UNIQUE_KEY[upper], f"is needed at level {level.name}")
        if len(values) > 1 or has_wild_card(values[0]):
            raise _refused(UNIQUE_KEY[upper], f"takes one value at level {level.name}")


def _check_query_retrieve_view(
    elements: Mapping[int, DataElement], character_sets: CharacterSets
) -> None:
    """Refuse a view that was not negotiated: the default view would be another answer (B-14)."""
    element = elements.get(QUERY_RETRIEVE_VIEW)
    if element is not None and decode_value(element.value, "CS", character_sets):
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
    text = decode_value(element.value, attribute.vr, character_sets)
    values = (normalise_text(value, attribute.vr) for value in split_values(text, attribute.vr))
    return tuple(dict.fromkeys(value for value in values if value))


def _is_key(tag: int) -> bool:
    """Tell whether an element of an identifier asks for an Attribute (rules A-12, A-13)."""
    group, element = tag >> 16, tag & 0xFFFF
    is_private_creator = group % 2 == 1 and element <= 0x00FF  # noqa: PLR2004 - PS3.5 7.8.1
    is_key_group = group > LAST_GROUP_OF_NO_KEY and element != 0
    return is_key_group and not is_private_creator and tag not in CONTROL_TAGS


def _with_upper_unique_keys(
    model: InformationModel, level: Level, return_keys: Sequence[ReturnKey]
) -> tuple[ReturnKey, ...]:
    """Return the keys and those that name the entities of the upper levels (rule D-3)."""
    upper = [UNIQUE_KEY[upper] for upper in model.levels if upper < level]
    others = [key for key in return_keys if key.attribute not in upper]
    return (*(ReturnKey(attribute, attribute.tag) for attribute in upper), *others)


def _refused(attribute: Attribute, reason: str) -> DimseFailure:
    return refused(attribute.tag, reason, attribute.keyword)
