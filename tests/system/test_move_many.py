"""C-MOVE of more instances than a counter can state (E-20)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pacsnode.catalog import Catalog
from tests.catalog.rows import add_all, new_instance
from tests.support.node import Node, free_port, new_node
from tests.support.wire import (
    STUDY_ROOT_MOVE,
    Association,
    identifier_of,
    query_contexts,
)

pytestmark = pytest.mark.system

_COUNT = 66_000
_MOST = 65_535
_STUDY = "1.2.826.0.1.3680043.8.498.88.1"


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node that has them in its catalog; nobody listens at DOWN."""
    remote_aes = [{"ae_title": "DOWN", "host": "127.0.0.1", "port": free_port()}]
    node = new_node(module_folder / "node", remote_aes=remote_aes)
    node.folder.mkdir(parents=True)
    catalog = Catalog(f"sqlite:///{node.folder}/catalog.sqlite", is_durable=False)
    series = {"StudyInstanceUID": _STUDY, "SeriesInstanceUID": f"{_STUDY}.1"}
    # Their files are not there: nobody will ask for them.
    add_all(catalog, (new_instance(**series) for _ in range(_COUNT)))
    catalog.close()
    try:
        node.start()
        yield node
    finally:
        node.kill()


def test_more_than_a_counter_can_state(node: Node) -> None:
    """Counters stop at 65535; the list, the log and the catalog have all of them (E-10, E-20)."""
    with Association(node.address, query_contexts()) as association:
        identifier = identifier_of("STUDY", StudyInstanceUID=_STUDY)
        first, *_, final = association.c_move(STUDY_ROOT_MOVE, "DOWN", identifier)

    assert first.counters == (_MOST, 0, 0, 0)
    assert f"{final.status:04X}" == "A702"
    assert final.counters == (None, 0, _MOST, 0)
    assert len(final.failed_sop_instance_uids) == _COUNT
    assert f"0 completed, {_COUNT} failed" in node.log
    why = node.run("why", _STUDY)
    assert why.returncode == 0
    assert str(_COUNT) in why.stdout
