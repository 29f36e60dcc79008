"""Run the targets of the fuzzer by turns, each in a process of its own, and say what was found."""

import argparse
import hashlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Final

from scripts.fuzz_hypothesis import find_failing_input
from scripts.fuzz_targets import TARGETS, corpus, corpus_folder

_CHECKOUT: Final = Path(__file__).parent.parent
_KEPT: Final = _CHECKOUT / ".cache/fuzz"
_DEFAULT_SECONDS: Final = 60
# For one input, however busy the machine is; they take milliseconds.
_INPUT_SECONDS: Final = 20
_LONGEST_INPUT_BYTES: Final = 4096
# Importing what is instrumented, trying the corpus, and the last input.
_GRACE_SECONDS: Final = 120
_FIGURES: Final = re.compile(r"^#(\d+)\s+DONE\s+cov: (\d+) .*? corp: (\d+)", re.MULTILINE)
_TRACEBACK: Final = re.compile(r"^.*?(?==== Uncaught Python exception|==\d+== ERROR)", re.DOTALL)


def main() -> int:
    """Do what the command line says."""
    arguments = _parse_arguments()
    if arguments.replay is not None:
        return _replay(arguments.target, arguments.replay)
    findings = arguments.findings.absolute()
    findings.mkdir(parents=True, exist_ok=True)
    has_atheris = importlib.util.find_spec("atheris") is not None
    if not has_atheris:
        print(
            "scripts/fuzz: there is no atheris for this Python and machine (pyproject.toml says"
            " where there is): Hypothesis changes the corpus at random instead",
            file=sys.stderr,
        )
    found: list[Path] = []
    targets = list(TARGETS) if arguments.target is None else [arguments.target]
    try:
        for target in targets:
            sys.stdout.flush()  # a pipe sees each target when it is done
            if has_atheris:
                found += _fuzz_guided(target, arguments.seconds, findings)
            else:
                found += _fuzz_at_random(target, arguments.seconds, findings)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    for path in found:
        print(f"finding: {path}")
    return 1 if found else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument(
        "--seconds", type=_seconds, default=_DEFAULT_SECONDS, help="for each target (%(default)s)"
    )
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument(
        "--findings",
        type=Path,
        default=_KEPT / "findings",
        metavar="FOLDER",
        help="where inputs that break a promise are put (%(default)s)",
    )
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="only try this input; needs --target"
    )
    arguments = parser.parse_args()
    if arguments.replay is not None and arguments.target is None:
        parser.error("--replay needs --target")
    return arguments


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return int(text)


def _replay(target: str, path: Path) -> int:
    with TARGETS[target]() as try_it:
        try:
            try_it(path.read_bytes())
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            traceback.print_exc()
            return 1
    print("no promise was broken")
    return 0


def _fuzz_guided(target: str, seconds: int, findings: Path) -> list[Path]:
    """Run a target with atheris; return the inputs that it failed for.

    Inputs that reach what none before has reached are kept, and are where the next run goes on.
    """
    kept = _KEPT / "corpus" / target
    kept.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    with tempfile.TemporaryDirectory(prefix="pacsnode-fuzz-") as folder:
        command: list[str | Path] = [
            *(sys.executable, _CHECKOUT / "scripts/fuzz_atheris.py", target),
            f"-max_total_time={seconds}",
            f"-timeout={_INPUT_SECONDS}",
            f"-max_len={_LONGEST_INPUT_BYTES}",
            f"-artifact_prefix={findings / target}-",
            *(kept, corpus_folder(target)),
        ]
        status, output = _run(command, Path(folder), seconds + _GRACE_SECONDS)
    figures = _FIGURES.search(output)
    if status == 0 and figures is not None:
        inputs, branches, kept_inputs = figures.groups()
        print(f"{target}: {inputs} inputs, {branches} branches reached, {kept_inputs} inputs kept")
        return []
    print(f"{target}: FAILED\n{_TRACEBACK.sub('', output)}")
    # Without an input, it is the fuzzer itself that fails.
    return sorted(set(findings.iterdir()) - before) or [findings]


def _run(command: Sequence[str | Path], folder: Path, seconds: float) -> tuple[int, str]:
    """Run a command with a folder for what it leaves behind; return its exit code and output."""
    with chdir(folder):
        environment = {**os.environ, "TMPDIR": str(folder)}
        try:
            completed = subprocess.run(
                command,
                check=False,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            output = (error.stdout or b"").decode(errors="replace")
            return 1, f"{output}\nit did not end within {seconds:.0f} s"
    return completed.returncode, completed.stdout.decode(errors="replace")


def _fuzz_at_random(target: str, seconds: int, findings: Path) -> list[Path]:
    """Run a target with Hypothesis; return the input that it failed for, if there is one."""
    seeds = [path.read_bytes() for path in corpus(target)]
    with TARGETS[target]() as try_it:
        content = find_failing_input(try_it, seeds, seconds)
    if content is None:
        print(f"{target}: nothing found in {seconds} s")
        return []
    path = findings / f"{target}-crash-{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"
    path.write_bytes(content)
    print(f"{target}: FAILED")
    _replay(target, path)
    return [path]


if __name__ == "__main__":
    sys.exit(main())
