"""A real file system in an image file: it can be full, and its power can be cut. Needs root."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted ext4 image."""

    image: Path
    mount_point: Path

    def copy_as_after_power_cut(self) -> Path:
        """Copy the image as the platter would be found: without what was only in memory.

        Whatever writes to the disk must stand still meanwhile.
        """
        copy = self.image.with_suffix(".after")
        _run("cp", "--sparse=always", str(self.image), str(copy))
        return copy

    def insert(self, image: Path) -> None:
        """Mount another image in the same place; the file system replays its journal."""
        _run("umount", str(self.mount_point))
        _run("mount", "-o", "loop", str(image), str(self.mount_point))


@contextmanager
def disk(folder: Path, size_bytes: int) -> Iterator[Disk]:
    """Make and mount a disk of this size; it is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    mount_point = folder / "disk"
    mount_point.mkdir()
    made = Disk(folder / "disk.image", mount_point)
    with made.image.open("wb") as image:
        image.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-m", "0", str(made.image))
    _run("mount", "-o", "loop", str(made.image), str(mount_point))
    try:
        yield made
    finally:
        _run("umount", "--lazy", str(mount_point))
        for image_path in folder.glob("disk.*"):
            image_path.unlink()
        shutil.rmtree(mount_point, ignore_errors=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
