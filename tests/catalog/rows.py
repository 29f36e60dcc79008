"""What the catalog's tests put in and ask: instances without files, queries without a network."""

from collections.abc import Iterable, Mapping
from itertools import count

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import Addition, KeptFile, NewInstance
from pacsnode.dicom.attributes import BY_KEYWORD
from pacsnode.dicom.character_sets import DEFAULT_CHARACTER_SETS
from pacsnode.dicom.identifier import MatchingKey, Query
from pacsnode.dicom.information_model import (
    STUDY_ROOT,
    UNIQUE_KEYWORD,
    InformationModel,
    Level,
)
from pacsnode.dicom.instance import InstanceHeader
from pacsnode.dicom.matching import Universal, parse_matching_key

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_NUMBERS = count(1)


def new_instance(
    *, transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN, **values: str | None
) -> NewInstance:
    """Return an instance with these values; UIDs that are not given are new ones.

    Args:
        transfer_syntax_uid: of its file.
        values: by keyword; None leaves the Attribute out.
    """
    number = next(_NUMBERS)
    given = {
        "PatientID": "EX1",
        "StudyInstanceUID": f"1.2.{number}",
        "SeriesInstanceUID": f"1.3.{number}",
        "SOPInstanceUID": f"1.4.{number}",
        "SOPClassUID": CT_IMAGE_STORAGE,
        **values,
    }
    known = {keyword: value for keyword, value in given.items() if value}
    header = InstanceHeader(
        sop_class_uid=known["SOPClassUID"],
        sop_instance_uid=known["SOPInstanceUID"],
        study_instance_uid=known["StudyInstanceUID"],
        series_instance_uid=known["SeriesInstanceUID"],
        values=known,
    )
    file = KeptFile(f"studies/{header.sop_instance_uid}", transfer_syntax_uid, bytes(32), 100)
    return NewInstance(header, file, "SENDER")


def add(catalog: Catalog, **values: str | None) -> Addition:
    """Add an instance with these values; see new_instance."""
    return catalog.add(new_instance(**values))


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
        return_attributes=attributes,
        has_unsupported_keys=False,
        character_sets=DEFAULT_CHARACTER_SETS,
    )


def found(
    catalog: Catalog, level: Level, model: InformationModel = STUDY_ROOT, **keys: str
) -> list[Mapping[str, str]]:
    """Return the values of the matches; see query."""
    return [match.values for match in catalog.find(query(level, model, **keys))]


def unique_keys(
    catalog: Catalog, level: Level, model: InformationModel = STUDY_ROOT, **keys: str
) -> list[str]:
    """Return the unique keys of the matches, in their order; see query."""
    keyword = UNIQUE_KEYWORD[level]
    return [values[keyword] for values in found(catalog, level, model, **{keyword: "", **keys})]
