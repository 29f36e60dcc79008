"""The power is cut under four senders: no acknowledged instance is lost.

The node's folder lies on a disk image. Under load all its processes are stopped and the image is
copied, without what was only in memory; the node is killed and started again on the copy.
"""

from pathlib import Path

import pytest

from tests.support.dcmtk import storescp
from tests.support.disk import disk
from tests.support.node import free_port, running_node
from tests.support.senders import check_nothing_is_lost, senders_at_work

pytestmark = pytest.mark.system

_DISK_BYTES = 512 << 20
_SENDERS = 4


@pytest.mark.root
def test_a_power_cut_loses_no_acknowledged_instance(tmp_path: Path) -> None:
    """Each instance answered with 0000 is found and delivered; each row has its file (F-2)."""
    port = free_port()
    remote_aes = [{"ae_title": "STORESCP", "host": "127.0.0.1", "port": port}]
    with (
        storescp(tmp_path / "received", "STORESCP", port) as receiver,
        disk(tmp_path / "power", _DISK_BYTES) as platter,
        running_node(platter.mount_point / "node", remote_aes=remote_aes) as node,
    ):
        try:
            with senders_at_work(node, _SENDERS) as load:
                load.wait_for(100)
                node.pause()
                acknowledged_before = load.acknowledged()
                after = platter.copy_as_after_power_cut()
                load.stop()
                node.kill()
            assert load.acknowledged() >= acknowledged_before >= 100 * _SENDERS
            platter.insert(after)
            node.start()

            check_nothing_is_lost(load, node, receiver)
            assert node.stop() == 0
        finally:
            node.kill()
