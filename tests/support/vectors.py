"""The matching vectors of tests/data, and what they ask."""

import json
from pathlib import Path
from typing import TypedDict

import yaml

from pacsnode.dicom.identifier import parse_query
from pacsnode.dicom.information_model import STUDY_ROOT
from pacsnode.dicom.matching import Matching, Universal
from pacsnode.dicom.matching_keys import MalformedKey, parse_matching_key
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.values import ItemElement, Value
from tests.support.identifiers import IMPLICIT, identifier

_DATA = Path(__file__).parents[1] / "data"
# The elements of the items of sequence vectors: Code Value and Coding Scheme Designator.
_ITEM_TAGS = {"v": 0x00080100, "s": 0x00080102}
_PROCEDURE_CODE_SEQUENCE = 0x00081032


class Vector(TypedDict, total=False):
    """One row of matching_vectors.yaml."""

    id: str
    vr: str
    stored: str
    key: str
    expected: str
    rule: str
    if_unknown: bool
    negotiated: str


MATCHING_VECTORS: list[Vector] = yaml.safe_load(
    (_DATA / "matching_vectors.yaml").read_text("utf-8")
)


def matching_of(vector: Vector) -> Matching | None:
    """Return what the key of a vector asks for; None if it is refused."""
    negotiated = vector.get("negotiated")
    if vector["vr"] == "SQ":
        return _item_matching_of(vector["key"])
    try:
        return parse_matching_key(
            vector["vr"],
            vector["key"],
            empty_value=negotiated == "empty value matching",
            multiple_values=negotiated == "multiple value matching",
        )
    except MalformedKey:
        return None


def stored_of(vector: Vector) -> Value:
    """Return the stored value of a vector."""
    if vector["vr"] != "SQ":
        return vector["stored"]
    items = json.loads(vector["stored"] or "[]")
    return tuple(
        {_ITEM_TAGS[name]: ItemElement("SH", value) for name, value in item.items()}
        for item in items
    )


def expected_of(vector: Vector, *, match_unknown: bool) -> str:
    """Return what comes of a vector: match, no match or refused."""
    if vector.get("if_unknown") and not match_unknown:
        return "no match"
    return vector["expected"]


def _item_matching_of(key: str) -> Matching | None:
    items = [
        {_ITEM_TAGS[name]: value for name, value in item.items()}
        for item in json.loads(key or "[]")
    ]
    request = identifier("STUDY", {_PROCEDURE_CODE_SEQUENCE: items})
    try:
        query = parse_query(STUDY_ROOT, request, IMPLICIT)
    except DimseFailure as refusal:
        if (refusal.status, refusal.offending_elements) == (0xA900, (_PROCEDURE_CODE_SEQUENCE,)):
            return None
        raise
    return query.matching_keys[0].matching if query.matching_keys else Universal()
