"""C-MOVE up to the first sub-operation."""

import sqlite3
from pathlib import Path

import pytest

from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.information_model import STUDY_ROOT, Level
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.transfer_syntax import encoding_of
from pacsnode.services.c_move import MovePlan, MoveRequest, plan_move
from pacsnode.services.keep import Keeper
from tests.support.archive import send
from tests.support.instances import ct_data_set, encoded

_VIEWER = RemoteAE("VIEWER", "localhost", 104)


def _identifier(*uids: str) -> bytes:
    value = "\\".join(uids).encode()
    value += b"\0" * (len(value) % 2)
    level = b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY "
    return level + b"\x20\x00\x0d\x00" + len(value).to_bytes(4, "little") + value


def _plan(keeper: Keeper, identifier: bytes, destination: str = "VIEWER") -> MovePlan:
    request = MoveRequest(STUDY_ROOT, identifier, encoding_of("1.2.840.10008.1.2"), destination)
    return plan_move(request, keeper.catalog, {"VIEWER": _VIEWER})


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
    plan = _plan(keeper, _identifier(first.study_instance_uid))
    assert (plan.destination, plan.level) == (_VIEWER, Level.STUDY)
    planned = {instance.sop_instance_uid for instance in plan.instances}
    assert planned == {first.sop_instance_uid, second.sop_instance_uid}
    assert len(plan.instances) == 2


def test_a_list_is_moved_once_each_and_unknown_uids_are_no_failure(keeper: Keeper) -> None:
    """UIDs that are not in the catalog are simply not found (E-2)."""
    instance = encoded(ct_data_set())
    send(instance, keeper)
    uid = instance.study_instance_uid
    plan = _plan(keeper, _identifier(uid, "1.2.3", uid))
    assert [found.sop_instance_uid for found in plan.instances] == [instance.sop_instance_uid]


def test_nothing_to_move_is_a_plan(keeper: Keeper) -> None:
    """No match is no failure (E-3)."""
    assert _plan(keeper, _identifier("1.2.3")).instances == ()


@pytest.mark.parametrize("title", ["VIEWER", " VIEWER  ", "VIEWER\0"])
def test_padding_of_the_destination_does_not_count(keeper: Keeper, title: str) -> None:
    """It is looked up trimmed (E-4, H-2)."""
    assert _plan(keeper, _identifier("1.2.3"), title).destination is _VIEWER


@pytest.mark.parametrize("title", ["NOBODY", "viewer", "", "B\\C"])
def test_an_unknown_destination_is_answered_with_a801(keeper: Keeper, title: str) -> None:
    """Case-sensitive; the comment names the title (E-4)."""
    refusal = _refused(keeper, _identifier("1.2.3"), title)
    assert refusal.status == 0xA801
    assert title.replace("\\", "?") in refusal.comment


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
