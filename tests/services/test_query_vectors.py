"""Whole requests to a catalog of a few instances: what is asked in bytes is answered in bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import pytest
import yaml
from pydicom.datadict import keyword_for_tag, tag_for_keyword

from pacsnode.catalog import Catalog
from pacsnode.dicom.data_elements import read_elements, vr_of
from pacsnode.dicom.information_model import FIND_MODELS
from pacsnode.dicom.query import QueryOptions
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.values import (
    Item,
    ItemElement,
    Value,
    character_sets_of,
    decode_items,
    decode_number,
    decode_value,
)
from pacsnode.file_store import FileStore
from pacsnode.services.c_find import FindRequest, find
from tests.catalog.rows import new_instance
from tests.support.identifiers import IMPLICIT, Keys, identifier

_Values = Mapping[str, Any]


class QueryVector(TypedDict, total=False):
    """One row of query_vectors.yaml."""

    id: str
    rules: list[str]
    archive: list[_Values]
    model: str
    level: str
    negotiated: list[str]
    settings: list[str]
    keys: _Values
    answers: list[_Values]
    status: int
    refused: str


_VECTORS: list[QueryVector] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "query_vectors.yaml").read_text("utf-8")
)
_MODELS = {model.name: model for model in FIND_MODELS.values()}


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["id"])
def test_a_query_vector(tmp_path: Path, vector: QueryVector) -> None:
    """Each request has the answers, or the refusal, that the table says."""
    catalog = Catalog(
        f"sqlite:///{tmp_path}/catalog.sqlite",
        match_unknown="match_unknown" in vector.get("settings", []),
        is_durable=False,
    )
    catalog.add_all([new_instance(**_archived(values)) for values in vector["archive"]])
    request = FindRequest(
        model=_MODELS[vector.get("model", "Study Root")],
        identifier=identifier(vector.get("level", "STUDY"), _encoded_keys(vector["keys"])),
        encoding=IMPLICIT,
        retrieve_ae_title="PACS",
        options=QueryOptions(**dict.fromkeys(vector.get("negotiated", []), True)),
    )
    file_store = FileStore(tmp_path)
    if "refused" in vector:
        with pytest.raises(DimseFailure) as refusal:
            find(request, catalog, file_store)
        offending = (tag_for_keyword(vector["refused"]),)
        assert (refusal.value.status, refusal.value.offending_elements) == (0xA900, offending)
        return
    found = find(request, catalog, file_store)
    answers = [_answer(encoded) for page in found.pages for encoded in page]
    catalog.close()
    assert found.query.pending_status == vector.get("status", 0xFF00)
    expected = [dict(answer) for answer in vector["answers"]]
    named = sorted({keyword for answer in expected for keyword in answer})
    shown = [{keyword: answer.get(keyword) for keyword in named} for answer in answers]
    assert sorted(shown, key=str) == sorted(expected, key=str)


def _archived(values: _Values) -> dict[str, Value | None]:
    """Return the values of an instance as the catalog's tests give them."""
    return {
        keyword: _items(value) if isinstance(value, list) else value
        for keyword, value in values.items()
    }


def _items(items: list[_Values]) -> tuple[Item, ...]:
    return tuple(
        {
            tag: ItemElement(vr_of(tag), _items(value) if isinstance(value, list) else value)
            for tag, value in sorted((_tag(keyword), value) for keyword, value in item.items())
        }
        for item in items
    )


def _encoded_keys(values: _Values) -> Keys:
    """Return keys by tag; a number in binary as its bytes."""
    keys: dict[int, Any] = {}
    for keyword, value in values.items():
        tag = _tag(keyword)
        if isinstance(value, list):
            keys[tag] = [_encoded_keys(item) for item in value]
        elif vr_of(tag) == "US":
            keys[tag] = int(value).to_bytes(2, "little")
        else:
            keys[tag] = value
    return keys


def _answer(encoded: bytes) -> dict[str, Any]:
    """Return what an answer has, by keyword."""
    elements = read_elements(encoded, IMPLICIT)
    character_sets = character_sets_of(elements)
    values: dict[str, Any] = {}
    for tag, element in elements.items():
        if element.vr == "SQ":
            values[keyword_for_tag(tag)] = _shown(
                decode_items(element.value, IMPLICIT, character_sets)
            )
        elif element.vr == "US":
            values[keyword_for_tag(tag)] = decode_number(element.value, "US", is_little_endian=True)
        else:
            values[keyword_for_tag(tag)] = decode_value(element.value, element.vr, character_sets)
    return values


def _shown(items: tuple[Item, ...]) -> list[dict[str, Any]]:
    return [
        {
            keyword_for_tag(tag): _shown(value) if isinstance(value, tuple) else value
            for tag, (_, value) in item.items()
        }
        for item in items
    ]


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag
