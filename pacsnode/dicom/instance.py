"""From a data set to what the catalog keeps of it: identifying UIDs and attribute values.

Nearly every instance belongs to a series that is known, and says of its patient, study and series
what all the others say. So what it says of these is only put aside, and a digest made of it; it is
decoded when somebody asks for it.

Source: PS3.4 B.2.3, B.4.1.2; PS3.3 C.12.1.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Final

from pacsnode.dicom.attributes import (
    BY_TAG,
    SPECIFIC_CHARACTER_SET,
    STANDARD_KEYS,
    UNIQUE_KEY,
    Attribute,
    Keys,
    Origin,
)
from pacsnode.dicom.character_sets import CharacterSets
from pacsnode.dicom.data_elements import Buffer, Contents, DataSetError, read_contents
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.items import Allowance
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of
from pacsnode.dicom.uid import is_valid_uid, normalise_uid
from pacsnode.dicom.values import (
    TEXT_VRS,
    Item,
    Value,
    decode_items,
    decode_number,
    decode_value,
    encoding_of_items,
    parse_character_sets,
)

SOP_CLASS_UID_TAG: Final = 0x00080016
SOP_INSTANCE_UID_TAG: Final = 0x00080018
_STATEMENT_LENGTH_BYTES: Final = 16
# The images of a series show the same region, and their codes are the same. The bounds keep what
# hostile senders can fill with them below some megabytes.
_REMEMBERED_SEQUENCES: Final = 256
_LONGEST_REMEMBERED_SEQUENCE: Final = 1024
_LEVELS_ABOVE: Final = (Level.PATIENT, Level.STUDY, Level.SERIES)
_FIRST_BLOCK: Final = 0x10
_LAST_BLOCK: Final = 0xFF


class InstanceReader:
    """Reads data sets for a set of keys; any thread may use it."""

    def __init__(self, keys: Keys = STANDARD_KEYS) -> None:
        """Prepare to read the stored Attributes among some keys."""
        self._stored = {
            tag: (attribute.level, attribute)
            for tag, attribute in keys.by_tag.items()
            if attribute.origin is Origin.STORED
        }
        self._private = keys.by_private_tag
        self._wanted = frozenset(
            {SPECIFIC_CHARACTER_SET, *self._stored, *_private_tags(keys.by_private_tag.values())}
        )

    def read(self, data_set: Buffer, transfer_syntax_uid: str) -> "InstanceHeader":
        """Return what a data set says of itself.

        Nothing but the four UIDs can fail: a missing or damaged value of another Attribute is kept
        as far as it can be read (rules F-7, F-25).

        Raises:
            DimseFailure: 0xC000, the data set cannot be decoded; 0xC001, one of the four UIDs is
                missing, or one but the SOP Instance UID is not valid; 0x0117, that is not valid.

        Source: PS3.4 B.2.3; rules F-3, F-7, I-2.
        """
        encoding = encoding_of(transfer_syntax_uid)
        try:
            contents = read_contents(data_set, encoding, self._wanted)
        except DataSetError as error:
            raise DimseFailure(Status.CANNOT_UNDERSTAND, f"undecodable: {error}") from error
        _, character_sets = contents.get(SPECIFIC_CHARACTER_SET, _ABSENT)
        by_level: tuple[dict[Attribute, Contents], ...] = ({}, {}, {}, {})
        stored = self._stored
        for tag, content in contents.items():
            if tag in stored:
                level, attribute = stored[tag]
                by_level[level][attribute] = content
        if self._private:
            for attribute, content in self._private_contents(contents, character_sets):
                by_level[attribute.level][attribute] = content
        return InstanceHeader(by_level, encoding, character_sets)

    def _private_contents(
        self, contents: Mapping[int, Contents], character_sets: bytes
    ) -> list[tuple[Attribute, Contents]]:
        """Return the private Attributes that a data set has, each in the block of its creator.

        Source: PS3.5 7.8.1.
        """
        found, sets = [], parse_character_sets(character_sets)
        for tag, content in contents.items():
            number, block = tag & 0xFFFF, (tag >> 8) & 0xFF
            if (tag >> 16) % 2 == 0 or number <= _LAST_BLOCK:
                continue
            creator = contents.get(tag & 0xFFFF0000 | block)
            if creator is None:
                continue
            name = decode_value(creator[1], "LO", sets)
            attribute = self._private.get((name, tag & 0xFFFF00FF))
            if attribute is not None:
                found.append((attribute, content))
        return found


class InstanceHeader:
    """What a data set says of the SOP Instance it is.

    Attributes:
        sop_class_uid: (0008,0016), valid.
        sop_instance_uid: (0008,0018), valid.
        study_instance_uid: (0020,000D), valid.
        series_instance_uid: (0020,000E), valid.
        statement: digest of what it says of its patient, study and series: instances with the same
            one say the same.
        is_damaged: a value that was asked for could not be decoded, and is left out.
    """

    def __init__(
        self,
        contents: Sequence[Mapping[Attribute, Contents]],
        encoding: Encoding,
        character_sets: bytes,
    ) -> None:
        """Take over what was read; InstanceReader does this.

        Args:
            contents: of the stored Attributes, by the level of their entity.
            encoding: of the data set.
            character_sets: the value field of Specific Character Set.

        Raises:
            DimseFailure: one of the four UIDs is missing or not valid.
        """
        self._contents = contents
        self._encoding = encoding
        self._character_sets: CharacterSets = parse_character_sets(character_sets)
        self._values: dict[Level, Mapping[str, Value]] = {}
        self.is_damaged = False
        self.statement = _digest(contents, encoding, character_sets)
        self.sop_class_uid = self._identifying_uid(BY_TAG[SOP_CLASS_UID_TAG])
        self.sop_instance_uid = self._identifying_uid(
            UNIQUE_KEY[Level.IMAGE], Status.INVALID_SOP_INSTANCE
        )
        self.study_instance_uid = self._identifying_uid(UNIQUE_KEY[Level.STUDY])
        self.series_instance_uid = self._identifying_uid(UNIQUE_KEY[Level.SERIES])

    def values(self, level: Level) -> Mapping[str, Value]:
        """Return the values of the Attributes of a level, by keyword.

        Text is decoded, each value without its padding, several values separated by a backslash. An
        Attribute that is absent or empty is left out: both are one state (rule I-14).
        """
        values = self._values.get(level)
        if values is None:
            values = {}
            allowance = Allowance()
            for attribute, (vr, value) in self._contents[level].items():
                decoded = self._decoded(attribute, vr, value, allowance)
                if decoded:
                    values[attribute.keyword] = decoded
            self._values[level] = values
        return values

    def text(self, attribute: Attribute) -> str:
        """Return the text of one Attribute of a text VR; '' if it is absent or empty."""
        vr, value = self._contents[attribute.level].get(attribute, _ABSENT)
        return self._text(attribute, vr, value)

    def _text(self, attribute: Attribute, vr: str, value: bytes) -> str:
        # Nobody means the items of a sequence to be read as text, whatever the dictionary says.
        return "" if vr == "SQ" else decode_value(value, attribute.vr, self._character_sets)

    def _decoded(self, attribute: Attribute, vr: str, value: bytes, allowance: Allowance) -> Value:
        """Return the value in a value field; an empty one if it cannot be decoded."""
        if attribute.vr in TEXT_VRS:
            return self._text(attribute, vr, value)
        try:
            if attribute.vr == "SQ":
                return self._items(value, encoding_of_items(vr, self._encoding), allowance)
            is_little_endian = self._encoding.is_little_endian
            return decode_number(value, attribute.vr, is_little_endian=is_little_endian)
        except DataSetError:
            self.is_damaged = True
            return ()

    def _items(self, value: bytes, encoding: Encoding, allowance: Allowance) -> tuple[Item, ...]:
        """Return the items in a value field, from memory if they are there."""
        sets = self._character_sets
        if len(value) <= _LONGEST_REMEMBERED_SEQUENCE and sets.is_known:
            return _decode_items_remembered(value, encoding, sets.terms)
        return decode_items(value, encoding, sets, allowance)

    def _identifying_uid(
        self, attribute: Attribute, status_if_invalid: Status = Status.MISSING_UID
    ) -> str:
        uid = normalise_uid(self.text(attribute))
        if not uid:
            raise DimseFailure(Status.MISSING_UID, f"{attribute.keyword} is missing", attribute.tag)
        if not is_valid_uid(uid):
            raise DimseFailure(status_if_invalid, f"{attribute.keyword} is no UID", attribute.tag)
        return uid


_ABSENT: Final[Contents] = ("", b"")


def read_instance(data_set: Buffer, transfer_syntax_uid: str) -> InstanceHeader:
    """Return what a data set says of itself, by the keys that every node has.

    Raises:
        DimseFailure: as InstanceReader.read does.
    """
    return _standard_reader().read(data_set, transfer_syntax_uid)


@cache
def _standard_reader() -> InstanceReader:
    return InstanceReader()


@lru_cache(maxsize=_REMEMBERED_SEQUENCES)
def _decode_items_remembered(
    value: bytes, encoding: Encoding, terms: tuple[str, ...]
) -> tuple[Item, ...]:
    return decode_items(value, encoding, CharacterSets(terms))


def _digest(
    contents: Sequence[Mapping[Attribute, Contents]],
    encoding: Encoding,
    character_sets: bytes,
) -> bytes:
    """Return a digest of all that is said of patient, study and series, as it is encoded."""
    how = encoding.is_implicit_vr << 32 | encoding.is_little_endian << 33
    numbers, parts = [len(character_sets)], [character_sets]
    for level in _LEVELS_ABOVE:
        for attribute, (vr, value) in contents[level].items():
            # Text is the same in every encoding; other bytes are not.
            is_text = attribute.vr in TEXT_VRS
            numbers.append(attribute.tag if is_text else attribute.tag | how | (vr == "UN") << 34)
            numbers.append(len(value))
            parts.append(value)
            if attribute.private_creator:
                numbers.append(len(attribute.private_creator))
                parts.append(attribute.private_creator.encode())
    parts.append(struct.pack(f"<{len(numbers)}Q", *numbers))
    return blake2b(b"".join(parts), digest_size=_STATEMENT_LENGTH_BYTES).digest()


def _private_tags(attributes: Iterable[Attribute]) -> set[int]:
    """Return the tags that private Attributes and their creators may have, in any block."""
    tags = set()
    for attribute in attributes:
        for block in range(_FIRST_BLOCK, _LAST_BLOCK + 1):
            tags |= {attribute.tag & 0xFFFF0000 | block, attribute.tag | block << 8}
    return tags
