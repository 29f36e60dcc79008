"""What the catalog's tests put in and ask: instances without files, queries without a network."""

from collections.abc import Iterable, Mapping
from itertools import count

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import Addition, KeptFile, NewInstance
from pacsnode.dicom.attributes import (
    BY_KEYWORD,
    SPECIFIC_CHARACTER_SET,
    STANDARD_KEYS,
    Attribute,
    Keys,
)
from pacsnode.dicom.character_sets import DEFAULT_CHARACTER_SETS, CharacterSets
from pacsnode.dicom.data_elements import DataElement, encode_elements
from pacsnode.dicom.information_model import (
    STUDY_ROOT,
    UNIQUE_KEYWORD,
    InformationModel,
    Level,
)
from pacsnode.dicom.instance import InstanceHeader, InstanceReader
from pacsnode.dicom.matching import Universal
from pacsnode.dicom.matching_keys import parse_matching_key
from pacsnode.dicom.query import MatchingKey, Query, ReturnKey
from pacsnode.dicom.transfer_syntax import encoding_of
from pacsnode.dicom.values import Value, encode_value

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_UTF_8 = CharacterSets(("ISO_IR 192",))
_NUMBERS = count(1)


def new_instance(
    *,
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN,
    keys: Keys = STANDARD_KEYS,
    extra: Mapping[Attribute, Value] | None = None,
    **values: Value | None,
) -> NewInstance:
    """Return an instance with these values; UIDs that are not given are new ones.

    Args:
        transfer_syntax_uid: of its file.
        keys: that it is read with.
        extra: values of extra keys.
        values: by keyword; None leaves the Attribute out.
    """
    number = next(_NUMBERS)
    given: dict[str, Value | None] = {
        "PatientID": "EX1",
        "StudyInstanceUID": f"1.2.{number}",
        "SeriesInstanceUID": f"1.3.{number}",
        "SOPInstanceUID": f"1.4.{number}",
        "SOPClassUID": CT_IMAGE_STORAGE,
        **values,
    }
    known = {BY_KEYWORD[keyword]: value for keyword, value in given.items() if value}
    header = header_of(known | dict(extra or {}), keys)
    file = KeptFile(f"studies/{header.sop_instance_uid}", transfer_syntax_uid, bytes(32), 100)
    return NewInstance(header, file, "SENDER")


def header_of(values: Mapping[Attribute, Value], keys: Keys = STANDARD_KEYS) -> InstanceHeader:
    """Return what is read of a data set with these values, encoded in UTF-8."""
    return InstanceReader(keys).read(data_set_of(values), EXPLICIT_VR_LITTLE_ENDIAN)


def data_set_of(values: Mapping[Attribute, Value]) -> bytes:
    """Return a data set with these values, in Explicit VR Little Endian and UTF-8.

    Each creator of private ones has a block of its own.
    """
    encoding = encoding_of(EXPLICIT_VR_LITTLE_ENDIAN)
    creators = sorted({a.private_creator for a in values if a.private_creator})
    elements = {SPECIFIC_CHARACTER_SET: DataElement(SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192")}
    for attribute, value in values.items():
        tag = attribute.tag
        if attribute.private_creator:
            block = 0x10 + creators.index(attribute.private_creator)
            creator = tag & 0xFFFF0000 | block
            elements[creator] = DataElement(creator, "LO", attribute.private_creator.encode())
            tag |= block << 8
        encoded = encode_value(value, attribute.vr, _UTF_8, encoding)
        elements[tag] = DataElement(tag, attribute.vr, encoded)
    return encode_elements((elements[tag] for tag in sorted(elements)), encoding)


def add(catalog: Catalog, **values: Value | None) -> Addition:
    """Add an instance with these values; see new_instance."""
    return catalog.add(new_instance(keys=catalog.keys, **values))


def add_all(catalog: Catalog, instances: Iterable[NewInstance]) -> None:
    """Add instances in one transaction, for tests that need many."""
    catalog.add_all(tuple(instances))


def query(level: Level, model: InformationModel = STUDY_ROOT, **keys: str) -> Query:
    """Return a query with these keys; all of them are asked for, those with a value are matched."""
    attributes = tuple(BY_KEYWORD[keyword] for keyword in keys)
    matching = tuple(
        MatchingKey(attribute, parse_matching_key(attribute.vr, keys[attribute.keyword]))
        for attribute in attributes
        if keys[attribute.keyword] and attribute.is_matched
    )
    return Query(
        model=model,
        level=level,
        matching_keys=tuple(key for key in matching if not isinstance(key.matching, Universal)),
        return_keys=tuple(ReturnKey(attribute, attribute.tag) for attribute in attributes),
        has_unsupported_keys=False,
        character_sets=DEFAULT_CHARACTER_SETS,
    )


def found(
    catalog: Catalog, level: Level, model: InformationModel = STUDY_ROOT, **keys: str
) -> list[Mapping[str, Value]]:
    """Return the values of the matches; see query."""
    asked = query(level, model, **keys)
    return [
        {
            key.attribute.keyword: value
            for key, value in zip(asked.return_keys, match.values, strict=True)
            if value
        }
        for page in catalog.find(asked)
        for match in page
    ]


def unique_keys(
    catalog: Catalog, level: Level, model: InformationModel = STUDY_ROOT, **keys: str
) -> list[str]:
    """Return the unique keys of the matches, in their order; see query."""
    keyword = UNIQUE_KEYWORD[level]
    return [
        str(values[keyword]) for values in found(catalog, level, model, **{keyword: "", **keys})
    ]
