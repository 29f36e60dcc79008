"""C-FIND: from an identifier to the identifiers that answer it."""

import sqlite3
from pathlib import Path

import pytest

from pacsnode.dicom.data_elements import read_elements
from pacsnode.dicom.information_model import STUDY_ROOT
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of
from pacsnode.services.c_find import FindRequest, Found, find
from pacsnode.services.keep import Keeper
from tests.catalog.rows import add_all, new_instance
from tests.support.archive import send
from tests.support.instances import ct_data_set, encoded

_IMPLICIT = encoding_of("1.2.840.10008.1.2")
_EXPLICIT = encoding_of("1.2.840.10008.1.2.1")
_LEVEL_STUDY = b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY "
_LEVEL_IMAGE = b"\x08\x00\x52\x00\x06\x00\x00\x00IMAGE "
_STUDY_KEY = b"\x20\x00\x0d\x00\x00\x00\x00\x00"


def _find(keeper: Keeper, identifier: bytes, limit: int = 0) -> Found:
    request = FindRequest(STUDY_ROOT, identifier, _IMPLICIT, "PACS")
    return find(request, keeper.catalog, keeper.file_store, result_limit=limit)


def _answers(keeper: Keeper, identifier: bytes, limit: int = 0) -> list[bytes]:
    return [answer for page in _find(keeper, identifier, limit).pages for answer in page]


def _values(identifier: bytes, encoding: Encoding = _IMPLICIT) -> dict[int, bytes]:
    return {tag: element.value for tag, element in read_elements(identifier, encoding).items()}


def _image_query(study_instance_uid: str, series_instance_uid: str) -> bytes:
    """An IMAGE query; UIDs are padded."""
    parts = [b"\x08\x00\x18\x00\x00\x00\x00\x00", _LEVEL_IMAGE]
    for number, uid in ((0x0D, study_instance_uid), (0x0E, series_instance_uid)):
        value = uid.encode() + b"\0" * (len(uid) % 2)
        parts.append(bytes([0x20, 0, number, 0]) + len(value).to_bytes(4, "little") + value)
    return b"".join(parts)


def test_no_match_is_no_answer(keeper: Keeper) -> None:
    """No Pending at all (B-8)."""
    assert _answers(keeper, _LEVEL_STUDY + _STUDY_KEY) == []


def test_each_match_is_one_answer(keeper: Keeper) -> None:
    """A study of two instances is one answer, with our title and ONLINE (D-3, D-6, D-7)."""
    first = encoded(ct_data_set())
    send(first, keeper)
    send(encoded(ct_data_set(StudyInstanceUID=first.study_instance_uid)), keeper)
    (identifier,) = _answers(keeper, _LEVEL_STUDY + _STUDY_KEY)
    values = _values(identifier)
    assert values[0x0020000D].rstrip(b"\0").decode() == first.study_instance_uid
    assert values[0x00080054] == b"PACS"
    assert values[0x00080056] == b"ONLINE"


def test_an_answer_has_the_encoding_of_the_request(keeper: Keeper) -> None:
    """Explicit in, explicit out."""
    send(encoded(ct_data_set()), keeper)
    identifier = b"\x08\x00\x52\x00CS\x06\x00STUDY \x20\x00\x0d\x00UI\x00\x00"
    request = FindRequest(STUDY_ROOT, identifier, _EXPLICIT, "PACS")
    ((answer,),) = find(request, keeper.catalog, keeper.file_store).pages
    assert _values(answer, _EXPLICIT)[0x00080052] == b"STUDY "


def test_an_instance_whose_file_is_gone_is_unavailable(keeper: Keeper) -> None:
    """A requestor should not be promised what it cannot have (D-7)."""
    instance = encoded(ct_data_set())
    path = send(instance, keeper).keeping.path
    query = _image_query(instance.study_instance_uid, instance.series_instance_uid)
    (before,) = _answers(keeper, query)
    keeper.file_store.remove(path)
    (after,) = _answers(keeper, query)
    assert _values(before)[0x00080056] == b"ONLINE"
    assert _values(after)[0x00080056] == b"UNAVAILABLE "


@pytest.mark.parametrize(("limit", "given"), [(1, 1), (2, 2)])
def test_more_matches_than_the_limit_end_in_a700(keeper: Keeper, limit: int, given: int) -> None:
    """After that many answers, and never with Success (D-34)."""
    for _ in range(3):
        send(encoded(ct_data_set()), keeper)
    pages = _find(keeper, _LEVEL_STUDY + _STUDY_KEY, limit).pages
    assert len(next(pages)) == given
    with pytest.raises(DimseFailure) as refusal:
        next(pages)
    assert (refusal.value.status, refusal.value.comment) == (0xA700, f"limit of {limit} reached")


def test_as_many_matches_as_the_limit_are_given(keeper: Keeper) -> None:
    """The limit is no refusal by itself (D-34)."""
    for _ in range(2):
        send(encoded(ct_data_set()), keeper)
    assert len(_answers(keeper, _LEVEL_STUDY + _STUDY_KEY, 2)) == 2


def test_the_limit_may_be_where_a_page_ends(keeper: Keeper) -> None:
    """A limit that is reached with the last answer of a page holds for the next page (D-34)."""
    add_all(keeper.catalog, (new_instance() for _ in range(21)))
    pages = _find(keeper, _LEVEL_STUDY + _STUDY_KEY, 20).pages
    assert len(next(pages)) == 20
    with pytest.raises(DimseFailure) as refusal:
        list(map(len, pages))
    assert refusal.value.status == 0xA700


def test_a_bad_identifier_is_refused_before_any_answer(keeper: Keeper) -> None:
    """Calling find is enough to hear of it (B-19)."""
    with pytest.raises(DimseFailure) as refusal:
        _find(keeper, _LEVEL_IMAGE)
    assert refusal.value.status == 0xA900


def test_a_failing_catalog_is_answered_with_c002(keeper: Keeper, tmp_path: Path) -> None:
    """A damaged database is our fault, not the requestor's (D-32)."""
    send(encoded(ct_data_set()), keeper)
    with sqlite3.connect(tmp_path / "catalog.sqlite") as other:
        other.execute("ALTER TABLE study RENAME TO gone")
    other.close()
    with pytest.raises(DimseFailure) as refusal:
        _answers(keeper, _LEVEL_STUDY + _STUDY_KEY)
    assert refusal.value.status == 0xC002
