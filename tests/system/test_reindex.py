"""Reindexing a node that serves: it can be killed, goes on, and nobody waits for it."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.instances import Instance, ct_data_set, encoded, many_instances, write_instance
from tests.support.node import COMMAND, Node, running_node
from tests.support.waiting import wait_until
from tests.support.wire import STUDY_ROOT_FIND, find, identifier_of, store_all

pytestmark = pytest.mark.system

_COUNT = 1500
_SERIES = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A running node with many instances, which has been given one more key since they came."""
    with running_node(tmp_path / "node") as running:
        for instance in many_instances(_COUNT, **_SERIES, KVP="120"):
            write_instance(instance, tmp_path / "files" / f"{instance.sop_instance_uid}.dcm")
        assert running.run("import", "--link", str(tmp_path / "files")).returncode == 0
        running.settings["catalog"]["extra_keys"] = [{"keyword": "KVP", "level": "IMAGE"}]
        running.restart()
        yield running


def _start(node: Node) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [COMMAND, "reindex", "--config", str(node.config_file)],
        cwd=node.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
    )


def _reindexed(node: Node) -> int:
    """Return how many instances have the additional key."""
    with closing(sqlite3.connect(node.folder / "catalog.sqlite", timeout=10)) as connection:
        query = "SELECT count(*) FROM instance WHERE further LIKE '%00180060%'"
        (count,) = connection.execute(query).fetchone()
    return int(count)


def _found(node: Node) -> int:
    """Return how many instances the additional key finds."""
    identifier = identifier_of("IMAGE", **_SERIES, KVP="120")
    answers, final = find(node.address, STUDY_ROOT_FIND, identifier)
    assert final.status == 0x0000
    return len(answers)


def _instance(number: int) -> Instance:
    return encoded(ct_data_set(**_SERIES, SOPInstanceUID=f"1.4.{number}", KVP="120"))


def test_a_reindexing_that_is_killed_goes_on_where_it_was(node: Node) -> None:
    """Killed twice in the middle, what it did stays; a third run does the rest, and no more."""
    for _ in range(2):
        before = _reindexed(node)
        process = _start(node)
        wait_until(lambda before=before: _reindexed(node) > before, "some to be reindexed")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = _reindexed(node)
    assert 0 < done < _COUNT
    finished = node.run("reindex")
    assert finished.stdout == f"{_COUNT - done} instances reindexed, 0 not\n"
    assert finished.returncode == 0
    assert _found(node) == _COUNT


def test_the_node_stores_and_answers_meanwhile(node: Node) -> None:
    """Instances that come during reindexing are stored and found at once, by the new key, too."""
    process = _start(node)
    wait_until(lambda: _reindexed(node) > 0, "some to be reindexed")
    stored = 0
    while process.poll() is None:
        store_all(node.address, [_instance(stored)])
        stored += 1
        identifier = identifier_of(
            "IMAGE", **_SERIES, SOPInstanceUID=f"1.4.{stored - 1}", KVP="120"
        )
        answers, _ = find(node.address, STUDY_ROOT_FIND, identifier)
        assert len(answers) == 1
    assert process.returncode == 0
    process.communicate()
    assert stored > 0
    assert _found(node) == _COUNT + stored
