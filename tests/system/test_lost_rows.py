"""The catalog is less durable than the files: a power cut takes rows, and one command returns them.

The node's folder lies on a disk image, as in test_power_cut.py.
"""

from pathlib import Path

import pytest

from tests.support.dcmtk import storescp
from tests.support.disk import disk
from tests.support.node import free_port, run_command, running_node
from tests.support.senders import check_nothing_is_lost, senders_at_work

pytestmark = pytest.mark.system

_DISK_BYTES = 512 << 20
_SENDERS = 4


@pytest.mark.root
def test_rows_that_a_power_cut_took_come_back_from_the_files(tmp_path: Path) -> None:
    """With durability file each instance answered with 0000 is found after an import (F-2)."""
    port = free_port()
    remote_aes = [{"ae_title": "STORESCP", "host": "127.0.0.1", "port": port}]
    with (
        storescp(tmp_path / "received", "STORESCP", port) as receiver,
        disk(tmp_path / "power", _DISK_BYTES) as platter,
        running_node(
            platter.mount_point / "node", remote_aes=remote_aes, durability="file"
        ) as node,
    ):
        try:
            with senders_at_work(node, _SENDERS) as load:
                load.wait_for(100)
                node.pause()
                after = platter.copy_as_after_power_cut()
                load.stop()
                node.kill()
            platter.insert(after)
            node.start()
            files = sorted(node.stored_files())

            done = run_command(
                *("import", "--config", str(node.config_file)),
                str(node.storage_folder / "studies"),
                folder=tmp_path,
            )

            assert done.returncode == 0, done.stderr
            assert sorted(node.stored_files()) == files
            assert check_nothing_is_lost(load, node, receiver) == len(files)
            assert node.stop() == 0
        finally:
            node.kill()
