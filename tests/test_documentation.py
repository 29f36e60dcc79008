"""The documents say what the program does: what follows from the code is compared with it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer import Typer

from pacsnode.cli import app
from pacsnode.config import load_settings
from pacsnode.dicom.status import Status
from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacsnode.exit_codes import ExitCode
from pacsnode.network import negotiation
from pacsnode.services.keep import Outcome

_REPOSITORY = Path(__file__).parent.parent
_CONFORMANCE = (_REPOSITORY / "docs/conformance.md").read_text(encoding="utf-8")
_OPERATIONS = (_REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")
_TABLE = re.compile(r"<!-- table: \S+ -->.*?<!-- end of table -->", re.DOTALL)
_LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_CONVERSION = re.compile(r"%[-0-9.]*[a-zA-Z]")


def test_the_documents_are_complete() -> None:
    """No place holder waits for its text."""
    documents = [_REPOSITORY / "README.md", *(_REPOSITORY / "docs").rglob("*.md")]
    assert [path.name for path in documents if "@@" in path.read_text(encoding="utf-8")] == []


def test_the_tables_of_the_conformance_statement_are_those_of_the_code() -> None:
    """What scripts/conformance_tables prints stands in the document, table by table, no other."""
    printed = subprocess.run(
        [sys.executable, _REPOSITORY / "scripts/conformance_tables"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert _TABLE.findall(_CONFORMANCE)
    assert sorted(_TABLE.findall(_CONFORMANCE)) == sorted(_TABLE.findall(printed))


@pytest.mark.parametrize("status", sorted({int(status) for status in Status}))
def test_the_conformance_statement_has_every_status(status: int) -> None:
    """An integrator finds each status that a response may carry, in a row of a table."""
    assert f"\n| 0x{status:04X} |" in _CONFORMANCE


def test_the_conformance_statement_identifies_the_implementation() -> None:
    """Implementation Class UID and Version Name are those of associations (rule H-14)."""
    assert f"| {IMPLEMENTATION_CLASS_UID} |" in _CONFORMANCE
    assert f"| {IMPLEMENTATION_VERSION_NAME} |" in _CONFORMANCE


def test_the_conformance_statement_says_how_storage_is_negotiated() -> None:
    """The answer to Storage extended negotiation is stated, byte by byte (rule F-9)."""
    answer = ",".join(map(str, negotiation.STORAGE_APPLICATION_INFORMATION))
    assert f"`{answer}`" in _CONFORMANCE


@pytest.mark.parametrize(
    "answer",
    [negotiation.FIND_APPLICATION_INFORMATION, negotiation.RETRIEVE_APPLICATION_INFORMATION],
    ids=["FIND", "MOVE"],
)
def test_the_conformance_statement_says_which_options_of_queries_are_supported(
    answer: bytes,
) -> None:
    """The answer to Query/Retrieve extended negotiation is stated, byte by byte (rule B-11)."""
    assert f"| `{','.join(map(str, answer))}`, as far as asked for |" in _CONFORMANCE


def _refusals() -> list[negotiation.Refusal]:
    values = vars(negotiation).values()
    return [value for value in values if isinstance(value, negotiation.Refusal)]


@pytest.mark.parametrize("refusal", _refusals(), ids=lambda refusal: refusal.reason)
def test_every_rejection_is_documented(refusal: negotiation.Refusal) -> None:
    """The conformance statement has its result, source, reason; operations.md has its words."""
    result, source, reason = refusal.rejection
    row = rf"\n\| {result} \w+ \| {source} [^|]+ \| {reason} \|"
    assert re.search(row, _CONFORMANCE)
    assert f"\n| {refusal.reason} |" in _OPERATIONS


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_every_exit_code_is_documented(code: ExitCode) -> None:
    """Number and name stand in one row."""
    assert f"\n| {int(code)} | {code.name} |" in _OPERATIONS


def _configuration_keys() -> list[str]:
    return [line.partition(":")[0] for line in load_settings(None, {}).describe()]


@pytest.mark.parametrize("key", _configuration_keys())
def test_every_configuration_key_is_documented(key: str) -> None:
    """A row says what a key is for and when it takes effect."""
    assert re.search(rf"\n\| `{re.escape(key)}` \| [^|]+ \| (reload|restart|stop, ) ?", _OPERATIONS)


def test_no_configuration_key_is_documented_that_does_not_exist() -> None:
    """A row of a key that has gone would mislead."""
    table = _OPERATIONS.partition("| Key |")[2].partition("\n\n")[0]
    assert set(re.findall(r"\n\| `([a-z_.]+)` \|", table)) == set(_configuration_keys())


def _commands(part: Typer = app, prefix: str = "") -> list[str]:
    """Return the commands of a part of the program, with the words that they are called by."""
    names = [
        prefix + (command.name or _name_of(command.callback))
        for command in part.registered_commands
    ]
    for group in part.registered_groups:
        assert group.typer_instance
        word = f"{prefix}{group.name} " if isinstance(group.name, str) else prefix
        names += _commands(group.typer_instance, word)
    return sorted(names)


def _name_of(callback: object) -> str:
    return str(getattr(callback, "__name__", "")).replace("_", "-")


def test_every_command_is_documented() -> None:
    """The table of commands has those of the program, and no others."""
    documented = re.findall(r"\n\| `pacsnode ((?:peer )?[a-z-]+)[^`]*` \|", _OPERATIONS)
    assert sorted(documented) == _commands()


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.name)
def test_every_outcome_of_a_c_store_is_documented(outcome: Outcome) -> None:
    """What the line of a C-STORE says became of the instance is explained."""
    if outcome is Outcome.REJECTED:  # answered with a failure: it has no such line
        assert f"0x{Status.DUPLICATE_REFUSED:04X}" in _OPERATIONS
    else:
        assert f"`{outcome.value}`" in _OPERATIONS


def _log_formats(path: Path) -> Iterator[str]:
    """Yield what the log calls of a module say, as far as it is written there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name() | ast.Attribute(), attr=method),
                args=[ast.Constant(value=str(text)), *_],
            ) if method in _LOG_METHODS and "log" in ast.unparse(node.func).lower():
                if _CONVERSION.sub("", text).strip():  # `%s`: its text is made elsewhere
                    yield text


def _all_log_formats() -> list[str]:
    folders = (_REPOSITORY / "pacsnode" / name for name in ("daemon", "network"))
    modules = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return [text for path in modules for text in _log_formats(path)]


def test_the_log_calls_are_found() -> None:
    """The test below would pass if it looked at nothing."""
    assert "C-ECHO answered" in _all_log_formats()
    assert "reload refused: %s" in _all_log_formats()


@pytest.mark.parametrize("text", _all_log_formats())
def test_every_log_line_is_documented(text: str) -> None:
    """An administrator who looks a line up finds it in a row, with its level before it."""
    # A row says 0xSTATUS and N s where the format has 0x%04X and %.1f s.
    fragments = [re.escape(fragment) for fragment in _CONVERSION.split(text)]
    line = r"[^|\n]+?".join(fragments)
    assert re.search(rf"\n\| (debug|info|warning|error|critical) \| {line}", _OPERATIONS)


@pytest.mark.parametrize("name", ["conformance.md", "operations.md"])
def test_files_that_a_document_names_exist(name: str) -> None:
    """A link, or a file of the repository in code quotes, leads somewhere."""
    text = (_REPOSITORY / "docs" / name).read_text(encoding="utf-8")
    links = {_REPOSITORY / "docs" / link for link in re.findall(r"\]\(([^)#:]+)\)", text)}
    quoted = re.findall(r"`(?:sudo )?((?:scripts|config|docs)/[\w./-]+)", text)
    missing = [path for path in links | {_REPOSITORY / p for p in quoted} if not path.exists()]
    assert not missing
