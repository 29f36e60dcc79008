"""No space: C-STORE is refused with A700 and leaves nothing behind; the disk is really full."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disk import Disk, disk
from tests.support.instances import Instance, ct_data_set, encoded
from tests.support.node import Node, running_node
from tests.support.wire import (
    STUDY_ROOT_FIND,
    Association,
    Response,
    find,
    identifier_of,
    storage_contexts,
    store_all,
)

pytestmark = pytest.mark.system

_DISK_BYTES = 8 << 20
_LARGE = {"rows": 1024, "columns": 1024}  # two megabytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of a few megabytes."""
    with disk(tmp_path, _DISK_BYTES) as made:
        yield made


def _store(node: Node, instance: Instance) -> Response:
    with Association(node.address, storage_contexts([instance])) as association:
        return association.c_store(instance)


def _studies(node: Node) -> set[str]:
    answers, _ = find(node.address, STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID=""))
    return {answer.StudyInstanceUID for answer in answers}


def _fill(mount_point: Path) -> Path:
    """Take all the space that is left."""
    filler = mount_point / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


@pytest.mark.root
def test_a_full_disk_refuses_with_a700_and_serves_on(tmp_path: Path, small_disk: Disk) -> None:
    """A700 with a comment, nothing left; with space again the same object is stored (F-3)."""
    storage = {"folder": str(small_disk.mount_point / "storage"), "reserve_bytes": 0}
    first, second = encoded(ct_data_set()), encoded(ct_data_set(**_LARGE))
    with running_node(tmp_path / "node", storage=storage) as node:
        store_all(node.address, [first])
        files = node.stored_files()
        filler = _fill(small_disk.mount_point)

        response = _store(node, second)

        assert f"{response.status:04X}" == "A700"
        assert response.error_comment
        assert node.stored_files() == files
        assert _studies(node) == {first.study_instance_uid}
        filler.unlink()
        assert f"{_store(node, second).status:04X}" == "0000"
        assert _studies(node) == {first.study_instance_uid, second.study_instance_uid}


@pytest.mark.root
def test_a_disk_that_fills_up_during_an_object_refuses_with_a700(
    tmp_path: Path, small_disk: Disk
) -> None:
    """Objects of two megabytes until the disk is full: each is whole or gone, never half."""
    storage = {"folder": str(small_disk.mount_point / "storage"), "reserve_bytes": 0}
    instances = [encoded(ct_data_set(**_LARGE)) for _ in range(6)]
    with running_node(tmp_path / "node", storage=storage) as node:
        with Association(node.address, storage_contexts(instances)) as association:
            statuses = [association.c_store(instance).status for instance in instances]

        stored = [
            instance
            for instance, status in zip(instances, statuses, strict=True)
            if status == 0x0000
        ]
        assert set(statuses) == {0x0000, 0xA700}
        assert len(node.stored_files()) == len(stored)
        assert _studies(node) == {instance.study_instance_uid for instance in stored}


@pytest.mark.root
def test_a_full_disk_below_the_catalog_refuses_with_a700(tmp_path: Path, small_disk: Disk) -> None:
    """The row cannot be written: A700, and the file written before it is gone again (F-2)."""
    url = f"sqlite:///{small_disk.mount_point / 'catalog.sqlite'}"
    with running_node(tmp_path / "node", catalog={"url": url}) as node:
        filler = _fill(small_disk.mount_point)
        instances = [encoded(ct_data_set()) for _ in range(40)]
        with Association(node.address, storage_contexts(instances)) as association:
            statuses = [association.c_store(instance).status for instance in instances]
        filler.unlink()

        assert set(statuses) <= {0x0000, 0xA700}
        assert statuses[-1] == 0xA700
        assert len(node.stored_files()) == statuses.count(0x0000)
        assert len(_studies(node)) == statuses.count(0x0000)
        assert f"{_store(node, instances[-1]).status:04X}" == "0000"


@pytest.mark.root
def test_the_reserve_is_not_written_to(tmp_path: Path, small_disk: Disk) -> None:
    """With less than the reserve left, C-STORE is refused with A700 though there is space."""
    storage = {"folder": str(small_disk.mount_point / "storage"), "reserve_bytes": 1 << 30}
    instance = encoded(ct_data_set())
    with running_node(tmp_path / "node", storage=storage) as node:
        response = _store(node, instance)

        assert f"{response.status:04X}" == "A700"
        assert response.error_comment
        assert node.stored_files() == []
        assert _studies(node) == set()
