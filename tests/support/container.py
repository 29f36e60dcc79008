"""A Debian machine of its own for tests: systemd as process 1, no network but its loopback.

How it works: debootstrap makes the root folder once, in the user's cache folder. systemd-nspawn
boots it under an overlay in memory, so that each boot begins with the same untouched machine and
leaves nothing behind. Tests drive it from outside: `run` enters all its namespaces; `network`
enters only that of the network, so that the test's own sockets and tools are its clients.

Needs root, debootstrap and systemd-container; what is missing fails the test.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]

_SUITE_IF_NOT_ON_DEBIAN = "bookworm"
_PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv")
_SOURCE_FOLDER = "/source"
_WHEEL_FOLDER = "/wheels"
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMAND_TIMEOUT_SECONDS = 120
_STOP_TIMEOUT_SECONDS = 30
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Container:
    """A booted machine.

    Attributes:
        leader: the process id of its process 1, seen from outside.
    """

    leader: int

    @property
    def root(self) -> Path:
        """Its root folder, to read and write files from outside."""
        return Path(f"/proc/{self.leader}/root")

    def run(
        self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root, with both outputs as one text in `stdout`.

        Raises:
            AssertionError: it ended with another exit code than 0, and `check` is true.
        """
        variables = {"PATH": _SEARCH_PATH, "LANG": "C.UTF-8", **(environment or {})}
        done = subprocess.run(
            [
                *("nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net"),
                *("--pid", "--root", "--wd", "env", "-i"),
                *(f"{name}={value}" for name, value in variables.items()),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_COMMAND_TIMEOUT_SECONDS,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done

    def run_script(self, name: str, *arguments: str, check: bool = True) -> str:
        """Run one of the checkout's scripts inside and return what it said.

        pip finds the packages that pacsnode needs in a folder.
        """
        pip_settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _WHEEL_FOLDER}
        command = (f"{_SOURCE_FOLDER}/scripts/{name}", *arguments)
        return self.run(*command, check=check, environment=pip_settings).stdout

    def unit_property(self, unit: str, name: str) -> str:
        """Return one property of a unit as `systemctl show` prints it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, unit: str) -> list[dict[str, Any]]:
        """Return the entries of a unit, oldest first; a value is text unless it is binary."""
        lines = self.run("journalctl", "--no-pager", "--output=json", f"--unit={unit}").stdout
        return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]

    @contextmanager
    def network(self) -> Iterator[None]:
        """Let this thread, and the processes it starts, use the loopback of the machine."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as ours,
            Path(f"/proc/{self.leader}/ns/net").open("rb") as theirs,
        ):
            _enter_network(theirs.fileno())
            try:
                yield
            finally:
                _enter_network(ours.fileno())


@contextmanager
def booted_container() -> Iterator[Container]:
    """Boot a machine with the checkout in /source (read-only), and power it off in the end."""
    assert os.geteuid() == 0, "a container needs root"
    root = _debian_root()
    command = [
        # Whatever ends the tests ends the machine.
        *("setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--quiet", f"--directory={root}"),
        *("--boot", "--register=no", "--keep-unit", "--console=pipe", "--private-network"),
        *("--volatile=overlay", f"--machine=pacsnode-{os.getpid()}"),
        f"--bind-ro={CHECKOUT}:{_SOURCE_FOLDER}",
        f"--bind-ro={_wheel_folder(root)}:{_WHEEL_FOLDER}",
    ]
    with (root.parent / f"{root.name}.lock").open("ab") as lock:
        # systemd-nspawn refuses to boot a folder that is in use.
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            container = Container(wait_until(lambda: _leader(process), "the container's init"))
            wait_until(lambda: _has_booted(container), "the container to boot")
            yield container
        finally:
            process.terminate()
            process.communicate(timeout=_STOP_TIMEOUT_SECONDS)


def _leader(process: subprocess.Popen[bytes]) -> int | None:
    """Return the process id of the machine's init, None as long as there is none."""
    assert process.poll() is None, process.communicate()[0].decode(errors="replace")
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        status = Path(f"/proc/{child}/status").read_text(encoding="utf-8")
        if re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE):
            return int(child)
    return None


def _has_booted(container: Container) -> bool:
    return container.run("systemctl", "is-system-running", check=False).stdout == "running\n"


def _enter_network(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _debian_root() -> Path:
    """Return the root folder of a Debian as old or new as this machine's; make it once."""
    suite = _suite()
    name = f"debian-{suite}-{_fingerprint([suite, *_PACKAGES])}"

    def build(folder: Path) -> None:
        command = [
            # What it mounts in there goes when it ends, however it ends.
            *("unshare", "--mount", "--propagation=private", "debootstrap", "--variant=minbase"),
            *(f"--include={','.join(_PACKAGES)}", suite, str(folder)),
        ]
        _run_quietly([*command, *_mirrors(suite)], _proxy())

    return _cached(name, build)


def _wheel_folder(root: Path) -> Path:
    """Return a folder with every wheel that building and running the checkout takes."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["codecs"],
        *project["build-system"]["requires"],
    ]
    version = next(root.glob("usr/bin/python3.*[0-9]")).name.removeprefix("python")
    name = f"wheels-{version}-{_fingerprint([platform.machine(), *requirements])}"

    def build(folder: Path) -> None:
        environment = folder.with_name(f"{folder.name}.venv")
        _run_quietly([_python(version), "-m", "venv", str(environment)])
        pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        # sdnotify comes as source only; PEP 517 builds it without a package "wheel" around.
        wheel = ["wheel", "--quiet", "--use-pep517", f"--wheel-dir={folder}"]
        _run_quietly([*pip, *wheel, *requirements])
        shutil.rmtree(environment)

    return _cached(name, build)


def _python(version: str) -> str:
    """Return a Python of the container's version, for which the wheels are made."""
    if version == ".".join(platform.python_version_tuple()[:2]):
        return sys.executable
    return f"/usr/bin/python{version}"


def _cached(name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of this name in the cache; a new one appears only when it is complete."""
    default = Path.home() / ".cache"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or default) / "pacsnode"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    with (cache / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = cache / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            build(unfinished)
            unfinished.rename(folder)
    return folder


def _suite() -> str:
    """Return the code name of this machine's Debian release."""
    release = platform.freedesktop_os_release()
    if release["ID"] == "debian" and "VERSION_CODENAME" in release:
        return release["VERSION_CODENAME"]
    return _SUITE_IF_NOT_ON_DEBIAN


def _mirrors(suite: str) -> list[str]:
    """Return where apt is configured to get this release from; empty for debootstrap's choice."""
    targets = _run_quietly(
        [
            *("apt-get", "indextargets", "--format", "$(REPO_URI)"),
            *("Identifier: Packages", f"Codename: {suite}", "Component: main"),
        ]
    )
    return targets.splitlines()[:1]


def _proxy() -> dict[str, str]:
    """Return the proxy that apt is configured to use, for debootstrap's downloads."""
    found = re.search(
        r"^Acquire::http::Proxy \"([^\"]+)\";$", _run_quietly(["apt-config", "dump"]), re.MULTILINE
    )
    return {"http_proxy": found[1]} if found else {}


def _fingerprint(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _run_quietly(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output.

    Raises:
        AssertionError: it failed.
    """
    done = subprocess.run(
        command,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout
