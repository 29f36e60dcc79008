"""C-MOVE and C-GET up to the first sub-operation."""

import sqlite3
from pathlib import Path

import pytest

from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.information_model import PATIENT_ROOT, STUDY_ROOT
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.transfer_syntax import encoding_of
from pacsnode.services.keep import Keeper
from pacsnode.services.retrieve import RetrievePlan, RetrieveRequest, plan_get, plan_move
from tests.support.archive import send
from tests.support.instances import ct_data_set, encoded

_VIEWER = RemoteAE("VIEWER", "localhost", 104)
_OTHERS = ("SIXTEEN_LETTERS_", "CT 1", "ARCHIVE")
_REMOTE_AES = {"VIEWER": _VIEWER} | {title: RemoteAE(title, "other", 104) for title in _OTHERS}
_IMPLICIT = encoding_of("1.2.840.10008.1.2")


def _identifier(*uids: str) -> bytes:
    value = "\\".join(uids).encode()
    value += b"\0" * (len(value) % 2)
    level = b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY "
    return level + b"\x20\x00\x0d\x00" + len(value).to_bytes(4, "little") + value


def _request(identifier: bytes) -> RetrieveRequest:
    return RetrieveRequest(STUDY_ROOT, identifier, _IMPLICIT)


def _plan(
    keeper: Keeper, identifier: bytes, destination: str = "VIEWER"
) -> tuple[RemoteAE, RetrievePlan]:
    return plan_move(_request(identifier), destination, keeper.catalog, _REMOTE_AES)


def _refused(keeper: Keeper, identifier: bytes, destination: str = "VIEWER") -> DimseFailure:
    with pytest.raises(DimseFailure) as refusal:
        _plan(keeper, identifier, destination)
    return refusal.value


def test_a_study_means_all_of_its_instances(keeper: Keeper) -> None:
    """Instances of every series, and of no other study (E-2)."""
    first = encoded(ct_data_set())
    second = encoded(ct_data_set(StudyInstanceUID=first.study_instance_uid))
    for instance in (first, second, encoded(ct_data_set())):
        send(instance, keeper)
    destination, plan = _plan(keeper, _identifier(first.study_instance_uid))
    assert destination is _VIEWER
    assert plan.asked_for == f"Study Root STUDY {first.study_instance_uid}"
    planned = {instance.sop_instance_uid for instance in plan.instances}
    assert planned == {first.sop_instance_uid, second.sop_instance_uid}
    assert len(plan.instances) == 2


def test_a_list_is_moved_once_each_and_unknown_uids_are_no_failure(keeper: Keeper) -> None:
    """UIDs that are not in the catalog are simply not found (E-2)."""
    instance = encoded(ct_data_set())
    send(instance, keeper)
    uid = instance.study_instance_uid
    _, plan = _plan(keeper, _identifier(uid, "1.2.3", uid))
    assert [found.sop_instance_uid for found in plan.instances] == [instance.sop_instance_uid]


def test_nothing_to_move_is_a_plan(keeper: Keeper) -> None:
    """No match is no failure (E-3)."""
    plan = RetrievePlan("Study Root STUDY 1.2.3", ())
    assert _plan(keeper, _identifier("1.2.3")) == (_VIEWER, plan)


@pytest.mark.parametrize(
    ("uids", "words"),
    [
        (("1.2.3", "1.2.4", "1.2.5"), "Study Root STUDY 1.2.3 and 2 more"),
        (("Emma",), "Study Root STUDY ?"),
    ],
)
def test_what_was_asked_for_can_stand_in_a_log(
    keeper: Keeper, uids: tuple[str, ...], words: str
) -> None:
    """UIDs only: whatever else stands in their place may be about a patient."""
    _, plan = _plan(keeper, _identifier(*uids))
    assert plan.asked_for == words


def test_a_patient_is_not_named(keeper: Keeper) -> None:
    """Neither by name nor by number."""
    level = b"\x08\x00\x52\x00\x08\x00\x00\x00PATIENT "
    identifier = level + b"\x10\x00\x20\x00\x04\x00\x00\x004711"
    plan = plan_get(RetrieveRequest(PATIENT_ROOT, identifier, _IMPLICIT), keeper.catalog)
    assert plan.asked_for == "Patient Root PATIENT"


@pytest.mark.parametrize("title", ["VIEWER", " VIEWER  ", "VIEWER\0"])
def test_padding_of_the_destination_does_not_count(keeper: Keeper, title: str) -> None:
    """It is looked up trimmed (E-4, H-2)."""
    destination, _ = _plan(keeper, _identifier("1.2.3"), title)
    assert destination is _VIEWER


@pytest.mark.parametrize(
    ("title", "comment"),
    [
        ("veiwer", "Destination veiwer unknown; nearest: VIEWER"),
        ("viewer", "Destination viewer unknown; nearest: VIEWER"),
        ("VIEW ER", "Destination VIEW ER unknown; nearest: VIEWER"),
        ("VIEWER\0X", "Destination VIEWER?X unknown; nearest: VIEWER"),
        ("\0 CT1 \0", "Destination CT1 unknown; nearest: CT 1"),
        ("SIXTEEN-LETTERS-", "Destination SIXTEEN-LETTERS- unknown; nearest: SIXTEEN_LETTERS_"),
        ("VIEWER" * 9, "Destination VIEWERVIEWERVI.. unknown; nearest: VIEWER"),
        ("VIEWER-OF-THE-3RD", "Destination VIEWER-OF-THE-.. unknown; nearest: VIEWER"),
        ("NOBODY", "Destination NOBODY unknown; nearest: SIXTEEN_LETTERS_"),
        ("\x1b?" * 8, "Destination ???????????????? unknown; nearest: VIEWER"),
        ("\u00c4" * 60_000, "Destination ??????????????.. unknown; nearest: VIEWER"),
        ("", "Move Destination is empty, or is no single AE title"),
        (" \0", "Move Destination is empty, or is no single AE title"),
    ],
)
def test_an_unknown_destination_is_answered_with_the_nearest(
    keeper: Keeper, title: str, comment: str
) -> None:
    """A801, case-sensitive; the comment has room for both titles, whatever was sent (E-4)."""
    refusal = _refused(keeper, _identifier("1.2.3"), title)
    assert (refusal.status, refusal.comment) == (0xA801, comment)
    assert len(refusal.comment) <= 64


def test_a_faulty_identifier_goes_before_an_unknown_destination(keeper: Keeper) -> None:
    """What the requestor asks for is looked at first (B-19, E-4)."""
    assert _refused(keeper, _identifier("*"), "NOBODY").status == 0xA900


@pytest.mark.parametrize("identifier", [_identifier(""), _identifier("*")])
def test_a_move_never_means_everything(keeper: Keeper, identifier: bytes) -> None:
    """Without a plain UID it is refused, though the archive is not empty (B-19)."""
    send(encoded(ct_data_set()), keeper)
    refusal = _refused(keeper, identifier)
    assert (refusal.status, refusal.offending_elements) == (0xA900, (0x0020000D,))


def test_a_failing_catalog_is_answered_with_a701(keeper: Keeper, tmp_path: Path) -> None:
    """Nothing was tried (E-6)."""
    with sqlite3.connect(tmp_path / "catalog.sqlite") as other:
        other.execute("ALTER TABLE instance RENAME TO gone")
    other.close()
    assert _refused(keeper, _identifier("1.2.3")).status == 0xA701


def test_a_get_means_what_a_move_means(keeper: Keeper) -> None:
    """The same identifier plans the same instances (E-1, E-2)."""
    instance = encoded(ct_data_set())
    for each in (instance, encoded(ct_data_set())):
        send(each, keeper)
    identifier = _identifier(instance.study_instance_uid)
    _, moved = _plan(keeper, identifier)
    got = plan_get(_request(identifier), keeper.catalog)
    assert got == moved
    assert [found.sop_instance_uid for found in got.instances] == [instance.sop_instance_uid]


def test_a_get_never_means_everything(keeper: Keeper) -> None:
    """Without a plain UID it is refused as a C-MOVE is (B-19)."""
    send(encoded(ct_data_set()), keeper)
    with pytest.raises(DimseFailure) as refusal:
        plan_get(_request(_identifier("")), keeper.catalog)
    assert (refusal.value.status, refusal.value.offending_elements) == (0xA900, (0x0020000D,))


@pytest.mark.parametrize("is_relational", [False, True])
def test_upper_keys_may_miss_where_it_was_negotiated(
    keeper: Keeper, *, is_relational: bool
) -> None:
    """A study by its UID alone in the Patient Root: only with relational retrieval (B-6, B-9)."""
    instance = encoded(ct_data_set())
    send(instance, keeper)
    identifier = _identifier(instance.study_instance_uid)
    request = RetrieveRequest(PATIENT_ROOT, identifier, _IMPLICIT, is_relational)
    if is_relational:
        assert len(plan_get(request, keeper.catalog).instances) == 1
        return
    with pytest.raises(DimseFailure) as refusal:
        plan_get(request, keeper.catalog)
    assert (refusal.value.status, refusal.value.offending_elements) == (0xA900, (0x00100020,))


def test_a_failing_catalog_refuses_a_get_with_a701(keeper: Keeper, tmp_path: Path) -> None:
    """Nothing was tried (E-6)."""
    with sqlite3.connect(tmp_path / "catalog.sqlite") as other:
        other.execute("ALTER TABLE instance RENAME TO gone")
    other.close()
    with pytest.raises(DimseFailure) as refusal:
        plan_get(_request(_identifier("1.2.3")), keeper.catalog)
    assert refusal.value.status == 0xA701
