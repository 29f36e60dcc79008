"""The unit files as systemd reads them, without a system that runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

_CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "config"
_SERVICE = _CONFIG_FOLDER / "pacsnode.service"
_HIGHEST_EXPOSURE = 1.4  # of 10; what it was when this was written


def test_units_are_correct(tmp_path: Path) -> None:
    """There is nothing that systemd has to say about the units, once the program is there."""
    service = _SERVICE.read_text(encoding="utf-8")
    program = shutil.which("true")
    assert program is not None
    (tmp_path / "pacsnode.service").write_text(
        re.sub(r"^ExecStart=\S+", f"ExecStart={program}", service, flags=re.MULTILINE),
        encoding="utf-8",
    )
    shutil.copy(_CONFIG_FOLDER / "pacsnode.socket", tmp_path)
    units = [str(tmp_path / name) for name in ("pacsnode.service", "pacsnode.socket")]
    done = _analyze("verify", *units)
    assert (done.returncode, done.stdout) == (0, "")


def test_exposure_stays_low() -> None:
    """The score of `systemd-analyze security` is not above the one we reached."""
    done = _analyze("security", "--offline=yes", str(_SERVICE))
    found = re.search(r"Overall exposure level for pacsnode\.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) <= _HIGHEST_EXPOSURE, done.stdout


@pytest.mark.parametrize(
    "directive", ["MemoryDenyWriteExecute=yes", "ProtectSystem=strict", "User=pacsnode"]
)
def test_protection_is_there(directive: str) -> None:
    """The protections that matter most to us are asked for, whatever they weigh in the score."""
    assert directive in _SERVICE.read_text(encoding="utf-8").splitlines()


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze and return both its outputs as one text."""
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
