"""DCMTK's findscu against the node: every level of every model, character sets.

The archive under test holds four made-up patients, one study each, whose names are in different
character sets; the first has two series.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from tests.support import dcmtk
from tests.support.dcmtk import Found
from tests.support.instances import ct_data_set, encoded
from tests.support.node import Node, running_node
from tests.support.wire import store_all

pytestmark = pytest.mark.interop

_ROOT = "1.2.826.0.1.3680043.8.498.78"
A, B, C, D = (f"{_ROOT}.{number}" for number in range(1, 5))
A_HEAD, A_NECK = f"{A}.1", f"{A}.2"
A_HEAD_FIRST, A_HEAD_SECOND = f"{A_HEAD}.1", f"{A_HEAD}.2"
_UNIQUE_KEYWORDS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


def _data_sets() -> Iterator[Dataset]:
    adler: dict[str, Any] = {
        "PatientID": "EX1",
        "PatientName": "Adler^Anna",
        "PatientBirthDate": "19300131",
        "StudyInstanceUID": A,
        "StudyDate": "20200115",
        "StudyTime": "101530",
        "AccessionNumber": "ACC100",
        "StudyDescription": "Head and neck",
    }
    for series, description, numbers in ((A_HEAD, "Head", (1, 2)), (A_NECK, "Neck", (1,))):
        for number in numbers:
            yield ct_data_set(
                **adler,
                SeriesInstanceUID=series,
                SeriesDescription=description,
                BodyPartExamined=description.upper(),
                SOPInstanceUID=f"{series}.{number}",
                InstanceNumber=number,
                ContentDate="20200115",
            )
    for uid, patient_id, character_set, name in (
        (B, "EX2", "ISO_IR 100", "Müller^Jörg"),
        (C, "EX3", "ISO_IR 192", "Dvořák^Antonín"),
        (D, "EX4", ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ):
        yield ct_data_set(
            SpecificCharacterSet=character_set,
            PatientID=patient_id,
            PatientName=name,
            StudyInstanceUID=uid,
            AccessionNumber=f"ACC-{patient_id}",
        )


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node with the archive, that offers the retired model, too."""
    query = {"offer_patient_study_only": True}
    with running_node(module_folder / "node", query=query) as running:
        store_all(running.address, [encoded(data_set) for data_set in _data_sets()])
        yield running


def _find(node: Node, root: str, level: str, folder: Path, *keys: str) -> Found:
    return dcmtk.findscu(node.address, root, [f"QueryRetrieveLevel={level}", *keys], folder)


def _unique_keys(found: Found, level: str) -> list[str]:
    return sorted(str(each[_UNIQUE_KEYWORDS[level]].value) for each in found.identifiers)


@pytest.mark.parametrize(
    ("root", "level", "keys", "expected"),
    [
        ("PATIENT", "PATIENT", ["PatientID"], ["EX1", "EX2", "EX3", "EX4"]),
        ("PATIENT", "PATIENT", ["PatientID", "PatientName=adl*"], ["EX1"]),
        ("PATIENT", "PATIENT", ["PatientID", "PatientBirthDate=19300101-19401231"], ["EX1"]),
        ("PATIENT", "STUDY", ["PatientID=EX1", "StudyInstanceUID"], [A]),
        ("PATIENT", "STUDY", ["PatientID=EX1", "StudyInstanceUID", "StudyTime=10-11"], [A]),
        (
            "PATIENT",
            "SERIES",
            ["PatientID=EX1", f"StudyInstanceUID={A}", "SeriesInstanceUID"],
            [A_HEAD, A_NECK],
        ),
        (
            "PATIENT",
            "SERIES",
            ["PatientID=EX1", f"StudyInstanceUID={A}", "SeriesInstanceUID", "SeriesDescription=N*"],
            [A_NECK],
        ),
        (
            "PATIENT",
            "IMAGE",
            [
                "PatientID=EX1",
                f"StudyInstanceUID={A}",
                f"SeriesInstanceUID={A_HEAD}",
                "SOPInstanceUID",
            ],
            [A_HEAD_FIRST, A_HEAD_SECOND],
        ),
        ("STUDY", "STUDY", ["StudyInstanceUID", "AccessionNumber=ACC*"], [A, B, C, D]),
        ("STUDY", "STUDY", ["StudyInstanceUID", "AccessionNumber=acc*"], []),
        ("STUDY", "STUDY", [f"StudyInstanceUID={A}\\{C}"], [A, C]),
        ("STUDY", "STUDY", ["StudyInstanceUID", "PatientID=EX1", "StudyDate=20200115-"], [A]),
        (
            "STUDY",
            "SERIES",
            [f"StudyInstanceUID={A}", "SeriesInstanceUID", "BodyPartExamined=HEAD"],
            [A_HEAD],
        ),
        (
            "STUDY",
            "IMAGE",
            [
                f"StudyInstanceUID={A}",
                f"SeriesInstanceUID={A_HEAD}",
                "SOPInstanceUID",
                "InstanceNumber=02",
            ],
            [A_HEAD_SECOND],
        ),
        ("PATIENT/STUDY ONLY", "PATIENT", ["PatientID=EX1"], ["EX1"]),
        ("PATIENT/STUDY ONLY", "STUDY", ["PatientID=EX1", "StudyInstanceUID"], [A]),
    ],
)
def test_findscu_finds_what_matches(
    node: Node, root: str, level: str, keys: Sequence[str], expected: list[str], tmp_path: Path
) -> None:
    """At each level of each model, the entities that match and no others (A-3, B-1, C-9)."""
    found = _find(node, root, level, tmp_path, *keys)
    assert f"{found.status:04X}" == "0000"
    assert _unique_keys(found, level) == expected


@pytest.mark.parametrize(
    ("root", "level"),
    [("STUDY", "PATIENT"), ("PATIENT/STUDY ONLY", "SERIES"), ("PATIENT/STUDY ONLY", "IMAGE")],
)
def test_a_level_that_the_model_lacks_is_refused(
    node: Node, root: str, level: str, tmp_path: Path
) -> None:
    """A900, and findscu shows which element is at fault (A-3, B-19)."""
    found = _find(node, root, level, tmp_path, _UNIQUE_KEYWORDS[level])
    assert f"{found.status:04X}" == "A900"
    assert "(0008,0052)" in found.output


def test_an_answer_has_the_attributes_that_were_asked_for(node: Node, tmp_path: Path) -> None:
    """And the unique keys above, the level, where it can be had, and nothing else (D-3, D-4)."""
    keys = [f"StudyInstanceUID={A}", "SeriesInstanceUID", "SeriesDescription=Head", "StationName"]
    (answer,) = _find(node, "STUDY", "SERIES", tmp_path, *keys).identifiers
    assert {each.keyword: each.value for each in answer} == {
        "QueryRetrieveLevel": "SERIES",
        "RetrieveAETitle": "PACSNODE",
        "InstanceAvailability": "ONLINE",
        "SeriesDescription": "Head",
        "StationName": "",
        "StudyInstanceUID": A,
        "SeriesInstanceUID": A_HEAD,
    }


def test_a_sequence_is_matched_and_returned(node: Node, tmp_path: Path) -> None:
    """Findscu's path syntax makes an item; what no item matches is not found (C-26)."""
    item = "RequestAttributesSequence[0].RequestedProcedureID"
    keys = [f"StudyInstanceUID={A}", "SeriesInstanceUID", f"{item}=NONE"]
    found = _find(node, "STUDY", "SERIES", tmp_path / "none", *keys)
    assert (f"{found.status:04X}", found.identifiers) == ("0000", [])
    keys[-1] = item
    found = _find(node, "STUDY", "SERIES", tmp_path / "any", *keys)
    assert [len(each.RequestAttributesSequence) for each in found.identifiers] == [0, 0]


@pytest.mark.parametrize(
    ("character_set", "key", "expected"),
    [
        ("ISO_IR 100", "müller*".encode("latin-1"), [B]),
        ("ISO_IR 100", b"M?LLER^J*", [B]),
        ("ISO_IR 192", "MÜLLER^JÖRG".encode(), [B]),
        ("ISO_IR 192", "dvořák*".encode(), [C]),
        ("ISO_IR 101", "dvořák*".encode("iso8859-2"), [C]),
        ("ISO_IR 192", "山田*".encode(), [D]),
        ("ISO_IR 192", "==やまだ*".encode(), [D]),
        ("\\ISO 2022 IR 87", b"=" + "山田".encode("iso2022_jp") + b"*", [D]),
        ("\\ISO 2022 IR 87", b"YAMADA*", [D]),
        ("ISO_IR 192", b"Muller*", []),
    ],
)
def test_a_name_is_found_in_any_character_set(
    node: Node, character_set: str, key: bytes, expected: list[str], tmp_path: Path
) -> None:
    """Key and name are compared as text, not as bytes (K-01 to K-17, C-30)."""
    keys = [f"SpecificCharacterSet={character_set}", "StudyInstanceUID"]
    keys.append("PatientName=" + os.fsdecode(key))
    found = _find(node, "STUDY", "STUDY", tmp_path, *keys)
    assert f"{found.status:04X}" == "0000"
    assert _unique_keys(found, "STUDY") == expected


@pytest.mark.parametrize(
    ("asked", "study", "answered", "name"),
    [
        ("ISO_IR 100", B, "ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", B, "ISO_IR 192", "Müller^Jörg"),
        (None, B, "ISO_IR 192", "Müller^Jörg"),
        ("ISO_IR 100", C, "ISO_IR 192", "Dvořák^Antonín"),
        ("ISO_IR 101", C, "ISO_IR 101", "Dvořák^Antonín"),
        ("ISO_IR 192", D, "ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (
            "\\ISO 2022 IR 87",
            D,
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        ("ISO_IR 100", A, None, "Adler^Anna"),
    ],
)
def test_an_answer_is_in_the_character_set_of_the_request_if_that_carries_it(
    node: Node,
    asked: str | None,
    study: str,
    answered: str | list[str] | None,
    name: str,
    tmp_path: Path,
) -> None:
    """Else in ISO_IR 192; in none if all is ASCII; the name is whole each time (D-18)."""
    keys = [f"StudyInstanceUID={study}", "PatientName"]
    if asked is not None:
        keys.append(f"SpecificCharacterSet={asked}")
    (answer,) = _find(node, "STUDY", "STUDY", tmp_path, *keys).identifiers
    value = answer.get("SpecificCharacterSet")
    assert (value if value is None or isinstance(value, str) else [*value]) == answered
    answer.decode()
    assert str(answer.PatientName) == name
