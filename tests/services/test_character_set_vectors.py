"""The character-set vectors from bytes to bytes: stored, catalogued, asked for and answered."""

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TypedDict

import pytest
import yaml

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import KeptFile, NewInstance
from pacsnode.dicom.character_sets import (
    DEFAULT_CHARACTER_SETS,
    CharacterSets,
    decode_text,
    encode_text,
)
from pacsnode.dicom.data_elements import DataElement, encode_elements, encode_items, read_elements
from pacsnode.dicom.information_model import STUDY_ROOT
from pacsnode.dicom.instance import read_instance
from pacsnode.dicom.values import character_sets_of, decode_items, decode_value
from pacsnode.file_store import FileStore
from pacsnode.services.c_find import FindRequest, find
from tests.support.identifiers import EXPLICIT, IMPLICIT, Keys, identifier

_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_CHARACTER_SET = 0x00080005
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_SERIES_DESCRIPTION = 0x0008103E
_PROCEDURE_CODE, _CODE_MEANING = 0x00081032, 0x00080104
# Where a vector's value is kept.
_TAG = {"PN": 0x00100010, "LO": 0x00081030, "CS": 0x00100040}
_NUMBERS = count(1)


class Vector(TypedDict, total=False):
    """One row of character_set_vectors.yaml."""

    id: str
    vr: str
    stored_set: list[str]
    stored_bytes: str
    text: str
    request_set: list[str]
    key: str
    key_bytes: str
    expected: str
    answer_set: list[str] | None


_VECTORS: list[Vector] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "character_set_vectors.yaml").read_text("utf-8")
)
_each_vector = pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["id"])


@pytest.fixture
def node(tmp_path: Path) -> Iterator["Node"]:
    """A catalog that a test fills."""
    made = Node(tmp_path)
    yield made
    made.catalog.close()


class Node:
    """A catalog, filled from data sets and asked by identifiers."""

    def __init__(self, folder: Path) -> None:
        self.catalog = Catalog(f"sqlite:///{folder}/catalog.sqlite", is_durable=False)
        self._file_store = FileStore(folder)

    def keep(self, character_sets: list[str], *elements: DataElement) -> None:
        """Catalogue a data set with these elements; UIDs that it lacks are new ones."""
        number = next(_NUMBERS)
        by_tag = {
            0x00080016: DataElement(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2"),
            0x00080018: DataElement(0x00080018, "UI", f"1.1.{number}".encode()),
            _STUDY: DataElement(_STUDY, "UI", f"1.2.{number}".encode()),
            _SERIES: DataElement(_SERIES, "UI", f"1.3.{number}".encode()),
            **{element.tag: element for element in elements},
        }
        if character_sets:
            by_tag[_CHARACTER_SET] = _declaring(character_sets)
        data_set = encode_elements((by_tag[tag] for tag in sorted(by_tag)), EXPLICIT)
        header = read_instance(data_set, _EXPLICIT_VR_LITTLE_ENDIAN)
        file = KeptFile(f"studies/{number}", _EXPLICIT_VR_LITTLE_ENDIAN, bytes(32), len(data_set))
        self.catalog.add(NewInstance(header, file, "SENDER"))

    def answers(
        self, level: str, character_sets: list[str], keys: Keys
    ) -> list[Mapping[int, DataElement]]:
        """Return the elements of each answer to a request."""
        declared = {_CHARACTER_SET: "\\".join(character_sets)} if character_sets else {}
        request = FindRequest(STUDY_ROOT, identifier(level, {**declared, **keys}), IMPLICIT, "PACS")
        found = find(request, self.catalog, self._file_store)
        return [read_elements(answer, IMPLICIT) for page in found.pages for answer in page]


@_each_vector
def test_a_vector_is_found_by_its_key(node: Node, vector: Vector) -> None:
    """Stored bytes are compared with the bytes of a key, each in its own sets (section K)."""
    tag, requested = _TAG[vector["vr"]], vector["request_set"]
    node.keep(vector["stored_set"], _stored(vector))
    if "key_bytes" in vector:
        key = bytes.fromhex(vector["key_bytes"])
    elif CharacterSets.parse(requested).is_declared:
        key = _encoded(vector["key"], vector["vr"], requested)
    else:
        key = vector["key"].encode("ascii")
    answers = node.answers("STUDY", requested, {tag: key})
    assert ("match" if answers else "no match") == vector["expected"]


@_each_vector
def test_a_vector_is_answered_in_a_set_that_carries_it(node: Node, vector: Vector) -> None:
    """The answer has the label of the table and says what was stored (D-18)."""
    tag = _TAG[vector["vr"]]
    node.keep(vector["stored_set"], _stored(vector))
    (answer,) = node.answers("STUDY", vector["request_set"], {tag: ""})
    label = answer.get(_CHARACTER_SET)
    terms = None if label is None else label.value.decode().strip().split("\\")
    assert terms == vector["answer_set"]
    sets = DEFAULT_CHARACTER_SETS if terms is None else CharacterSets.parse(terms)
    returned = decode_text(answer[tag].value, vector["vr"], sets)
    assert returned.rstrip(" ") == vector["text"]


@pytest.mark.parametrize(
    ("requested", "labels"),
    [
        (["ISO_IR 192"], {"1.3.1": "ISO_IR 192", "1.3.2": "ISO_IR 192", "1.3.3": None}),
        (["ISO_IR 100"], {"1.3.1": "ISO_IR 100", "1.3.2": "ISO_IR 192", "1.3.3": None}),
        (
            ["", "ISO 2022 IR 87"],
            {"1.3.1": "ISO_IR 192", "1.3.2": "\\ISO 2022 IR 87", "1.3.3": None},
        ),
    ],
)
def test_each_answer_of_a_mixed_study_is_labelled_for_itself(
    node: Node, requested: list[str], labels: dict[str, str | None]
) -> None:
    """K-31: one series in Latin-1, one in Japanese, one in ASCII (D-18)."""
    for uid, character_sets, description in (
        ("1.3.1", ["ISO_IR 100"], b"Sch\xe4del"),
        ("1.3.2", ["", "ISO 2022 IR 87"], b"\x1b$B;3ED\x1b(B"),
        ("1.3.3", [], b"Head"),
    ):
        node.keep(
            character_sets,
            DataElement(_STUDY, "UI", b"1.2.3"),
            DataElement(_SERIES, "UI", uid.encode()),
            DataElement(_SERIES_DESCRIPTION, "LO", description),
        )
    answers = node.answers(
        "SERIES", requested, {_STUDY: "1.2.3", _SERIES: "", _SERIES_DESCRIPTION: ""}
    )
    shown, texts = {}, {}
    for answer in answers:
        uid = answer[_SERIES].value.decode().rstrip("\0")
        label = answer.get(_CHARACTER_SET)
        shown[uid] = None if label is None else label.value.decode().rstrip(" ")
        description = answer[_SERIES_DESCRIPTION].value
        texts[uid] = decode_value(description, "LO", character_sets_of(answer))
    assert shown == labels
    assert texts == {"1.3.1": "Sch\u00e4del", "1.3.2": "\u5c71\u7530", "1.3.3": "Head"}


@pytest.mark.parametrize("requested", [["ISO_IR 192"], ["ISO_IR 144"], []])
def test_an_items_own_set_wins(node: Node, requested: list[str]) -> None:
    """K-32: the item declares Cyrillic in a data set that declares Latin-1 (C-25)."""
    item = encode_elements(
        (_declaring(["ISO_IR 144"]), DataElement(_CODE_MEANING, "LO", b"\xb8\xd2\xd0\xdd")),
        EXPLICIT,
    )
    node.keep(["ISO_IR 100"], DataElement(_PROCEDURE_CODE, "SQ", encode_items([item])))
    key = _encoded("\u0418\u0432*", "LO", requested or ["ISO_IR 192"])
    (answer,) = node.answers("STUDY", requested, {_PROCEDURE_CODE: [{_CODE_MEANING: key}]})
    (returned,) = decode_items(answer[_PROCEDURE_CODE].value, IMPLICIT, character_sets_of(answer))
    assert returned[_CODE_MEANING].value == "\u0418\u0432\u0430\u043d"
    assert answer[_CHARACTER_SET].value == (requested or ["ISO_IR 192"])[0].encode()


def _stored(vector: Vector) -> DataElement:
    vr = vector["vr"]
    return DataElement(_TAG[vr], vr, bytes.fromhex(vector["stored_bytes"]))


def _declaring(character_sets: list[str]) -> DataElement:
    return DataElement(_CHARACTER_SET, "CS", "\\".join(character_sets).encode())


def _encoded(text: str, vr: str, character_sets: list[str]) -> bytes:
    return encode_text(text, vr, CharacterSets.parse(character_sets))
