"""Many write at once, over all workers and from the command line: every row is there (F-21)."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.instances import Instance, ct_data_set, encoded, many_instances, write_instance
from tests.support.node import COMMAND, Node, running_node
from tests.support.wire import (
    STUDY_ROOT_FIND,
    Association,
    find,
    identifier_of,
    storage_contexts,
)

pytestmark = pytest.mark.system

_SENDERS = 8
_PER_SENDER = 40
_IMPORTED = 60


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with four workers, more than this machine may have cores."""
    with running_node(tmp_path / "node", processes={"workers": 4}) as running:
        yield running


def _counts(node: Node) -> dict[str, int]:
    """Return the number of instances by Study Instance UID."""
    keys = {"StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""}
    answers, _ = find(node.address, STUDY_ROOT_FIND, identifier_of("STUDY", **keys))
    return {each.StudyInstanceUID: each.NumberOfStudyRelatedInstances for each in answers}


def _send(node: Node, instances: list[Instance]) -> set[int]:
    with Association(node.address, storage_contexts(instances)) as association:
        return {association.c_store(instance).status for instance in instances}


def test_parallel_associations_and_an_import_all_get_their_rows(node: Node, tmp_path: Path) -> None:
    """Eight associations and an import at the same time: every status 0000, every row there."""
    batches = [list(many_instances(_PER_SENDER)) for _ in range(_SENDERS)]
    imported = list(many_instances(_IMPORTED))
    for instance in imported:
        write_instance(instance, tmp_path / "import" / f"{instance.sop_instance_uid}.dcm")
    arguments = [COMMAND, "import", "--config", str(node.config_file), str(tmp_path / "import")]
    with (
        subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as importing,
        ThreadPoolExecutor(_SENDERS) as pool,
    ):
        statuses = list(pool.map(lambda batch: _send(node, batch), batches))
        output, _ = importing.communicate(timeout=60)

    assert statuses == [{0x0000}] * _SENDERS
    assert importing.returncode == 0, output
    expected = {str(batch[0].study_instance_uid): _PER_SENDER for batch in batches}
    assert _counts(node) == {**expected, str(imported[0].study_instance_uid): _IMPORTED}
    assert len(node.stored_files()) == _SENDERS * _PER_SENDER + _IMPORTED
    assert "locked" not in node.log + output


def test_parallel_associations_into_one_study_make_one_study(node: Node) -> None:
    """New patient, study and series from all sides at once: one row of each."""
    first = ct_data_set()
    uids = {name: first[name].value for name in ("StudyInstanceUID", "SeriesInstanceUID")}
    batches = [[encoded(ct_data_set(**uids)) for _ in range(5)] for _ in range(_SENDERS)]

    with ThreadPoolExecutor(_SENDERS) as pool:
        statuses = list(pool.map(lambda batch: _send(node, batch), batches))

    assert statuses == [{0x0000}] * _SENDERS
    assert _counts(node) == {first.StudyInstanceUID: 5 * _SENDERS}
    keys = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": ""}
    series, _ = find(node.address, STUDY_ROOT_FIND, identifier_of("SERIES", **keys))
    assert [each.SeriesInstanceUID for each in series] == [first.SeriesInstanceUID]
