"""What the bench programs share: how they begin and end, and the folder they leave nothing of."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench_figures import MeasureError


def run(program: str, measure: Callable[[], int]) -> int:
    """Return the exit code of a bench; an error is one line, and a signal leaves nothing behind.

    Args:
        program: its name.
        measure: all that it does.
    """
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    try:
        return measure()
    except (MeasureError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


@contextmanager
def temporary_folder(folder: Path | None, least_free_bytes: int) -> Iterator[Path]:
    """Make a folder on the disk to be measured; it is removed again with all that is in it.

    Args:
        folder: where; None for $TMPDIR or /var/tmp.
        least_free_bytes: what has to be free there.

    Raises:
        MeasureError: less is free.
    """
    on_disk = folder or Path(os.environ.get("TMPDIR", "/var/tmp"))  # noqa: S108 - ours alone
    with tempfile.TemporaryDirectory(prefix="pacsnode-bench-", dir=on_disk) as made:
        if not has_room(on_disk, least_free_bytes):
            gibibytes = least_free_bytes // 1024**3
            raise MeasureError(f"{on_disk}: {gibibytes} GiB have to be free; see --folder")
        yield Path(made)


def has_room(folder: Path, least_bytes: int) -> bool:
    """Tell whether a folder can be written to and so much is free."""
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > least_bytes


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does: through every context that has something to stop or to remove."""
    raise KeyboardInterrupt
