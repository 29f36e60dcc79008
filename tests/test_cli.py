"""The command line: what each command prints, and its exit code."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pacsnode import __version__
from pacsnode.catalog import migrations
from pacsnode.dicom.attributes import ATTRIBUTES
from pacsnode.exit_codes import ExitCode
from tests.support.command_line import Run, command_line, on_terminal, run_without_override
from tests.support.instances import ct_data_set, encoded, write_instance
from tests.support.server import running_server


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command in an empty folder."""
    with command_line(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with two instances of one study and a file that is none."""
    folder = tmp_path / "files"
    for number in (1, 2):
        instance = encoded(
            ct_data_set(
                StudyInstanceUID="1.2.1", SOPInstanceUID=f"1.4.{number}", SeriesInstanceUID="1.3"
            )
        )
        write_instance(instance, folder / f"{number}.dcm")
    (folder / "notes.txt").write_text("no DICOM")
    return folder


def test_the_version_is_printed(run: Run) -> None:
    """--version prints it and ends with 0."""
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"pacsnode {__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        "serve",
        "check-config",
        "import",
        "studies",
        "echo",
        "upgrade-catalog",
        "keys",
        "reindex",
        "inconsistencies",
        "why",
        "send",
    ],
)
def test_every_command_of_the_contract_is_there(run: Run, command: str) -> None:
    """Each command explains itself, and takes --config."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--config" in result.output


def test_a_wrong_command_line_is_told_apart(run: Run) -> None:
    """An unknown command ends with 2."""
    assert run("no-such-command").exit_code == ExitCode.USAGE


def test_the_settings_in_force_are_printed(run: Run, tmp_path: Path) -> None:
    """check-config prints one line for each setting."""
    config = tmp_path / "pacsnode.yaml"
    config.write_text("port: 104\n")
    result = run("check-config", "--config", str(config))
    assert result.exit_code == 0
    assert "port: 104" in result.output.splitlines()


def test_a_fault_of_the_configuration_is_one_line(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each fault is printed, and the exit code is 78, for every command."""
    config = tmp_path / "pacsnode.yaml"
    config.write_text("port: 0\nprot: 1\n")
    for command in (["check-config"], ["studies"], ["echo", "X"], ["import", "."]):
        assert run(*command, "--config", str(config)).exit_code == ExitCode.CONFIGURATION
    assert capfd.readouterr().out == ""


def test_files_are_imported_and_listed(run: Run, files: Path) -> None:
    """Two instances are added, the other file is refused; the study is in the table then."""
    result = run("import", str(files))
    assert result.exit_code == ExitCode.NEGATIVE
    assert result.stdout.splitlines() == ["2 added", "1 refused"]
    result = run("studies")
    assert result.exit_code == 0
    row = result.stdout.splitlines()[1]
    assert row.split()[:2] == ["20200115", "EX1"]
    assert row.split()[-3:] == ["1", "2", "1.2.1"]


def test_an_import_can_be_run_again(run: Run, files: Path) -> None:
    """What is kept already is left alone."""
    (files / "notes.txt").unlink()
    assert run("import", str(files)).exit_code == 0
    result = run("import", str(files))
    assert (result.exit_code, result.stdout.splitlines()) == (0, ["2 already kept", "0 refused"])


def test_a_file_that_is_not_there_is_refused(run: Run) -> None:
    """A path that does not exist is told, and the exit code is 1."""
    result = run("import", "nowhere.dcm")
    assert result.exit_code == ExitCode.NEGATIVE
    assert "1 refused" in result.output


def test_a_linked_file_is_the_same_file(run: Run, files: Path, tmp_path: Path) -> None:
    """With --link the store has another name of the file, and no copy."""
    (files / "notes.txt").unlink()
    assert run("import", "--link", str(files)).exit_code == 0
    inodes = {path.stat().st_ino for path in files.iterdir()}
    kept = {path.stat().st_ino for path in tmp_path.glob("pacsnode-data/**/*.dcm")}
    assert kept == inodes


def test_without_a_study_the_table_is_empty(run: Run) -> None:
    """An empty catalog is made and listed, with exit code 0."""
    result = run("studies")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["why", "1.2.3"],
        ["send", "--study", "1.2.3", "DEST"],
        ["peer", "check", "--study", "1.2.3", "DEST"],
    ],
    ids=" ".join,
)
def test_what_asks_after_instances_makes_no_catalog(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Exit code 74, and what is probably wrong; an empty catalog would reassure."""
    monkeypatch.setenv("PACSNODE_REMOTE_AES", "[{ae_title: DEST, host: 127.0.0.1, port: 1}]")
    result = run(*command)
    assert (result.exit_code, result.stdout) == (ExitCode.CATALOG_UNUSABLE, "")
    assert result.stderr == (
        f"pacsnode: there is no catalog at {tmp_path}/pacsnode-data/catalog.sqlite yet: the node"
        " has not run with this configuration, or --config or catalog.url is wrong\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_sends_makes_no_storage_folder(
    run: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 73: the catalog is there, the files are elsewhere."""
    assert run("import", str(files)).exit_code == ExitCode.NEGATIVE
    monkeypatch.setenv("PACSNODE_REMOTE_AES", "[{ae_title: DEST, host: 127.0.0.1, port: 1}]")
    monkeypatch.setenv("PACSNODE_STORAGE__FOLDER", "elsewhere")
    result = run("send", "--study", "1.2.1", "DEST")
    assert result.exit_code == ExitCode.STORAGE_UNUSABLE
    assert result.stderr == (
        f"pacsnode: there is no storage folder at {tmp_path}/elsewhere:"
        " --config or storage.folder is wrong\n"
    )
    assert not (tmp_path / "elsewhere").exists()


def test_who_may_not_write_is_told_who_may(run: Run, files: Path, tmp_path: Path) -> None:
    """A catalog that can be read, by somebody else than its owner: exit code 74."""
    run("import", str(files))
    for path in (tmp_path / "pacsnode-data").glob("catalog.sqlite*"):
        path.chmod(0o440)
    done = run_without_override(tmp_path, "studies")
    assert done.returncode == ExitCode.CATALOG_UNUSABLE
    assert done.stderr == (
        f"pacsnode: catalog {tmp_path}/pacsnode-data/catalog.sqlite: Permission denied;"
        " the command has to write there: run it as the user of the service\n"
    )


def test_who_may_not_write_the_folder_is_told_the_same(
    run: Run, files: Path, tmp_path: Path
) -> None:
    """The lock may be written, the folder may not; SQLite has other words for it then."""
    run("import", str(files))
    (tmp_path / "pacsnode-data").chmod(0o550)
    done = run_without_override(tmp_path, "studies")
    (tmp_path / "pacsnode-data").chmod(0o750)
    assert done.returncode == ExitCode.CATALOG_UNUSABLE
    assert done.stderr.endswith("write there: run it as the user of the service\n")


def test_a_catalog_that_may_not_be_looked_at_is_not_missing(
    run: Run, files: Path, tmp_path: Path
) -> None:
    """Its folder is closed to us: it says so, and not that there is none."""
    run("import", str(files))
    (tmp_path / "pacsnode-data").chmod(0o000)
    done = run_without_override(tmp_path, "studies")
    (tmp_path / "pacsnode-data").chmod(0o700)
    assert done.returncode == ExitCode.CATALOG_UNUSABLE
    assert "catalog.sqlite: Permission denied; the command has to write there" in done.stderr


def test_a_table_is_whole_on_a_narrow_terminal(run: Run, tmp_path: Path) -> None:
    """The terminal wraps a row that is too long; no UID, name or time in it is cut or folded."""
    study_instance_uid = f"1.2.{'3' * 60}"
    for number, name in enumerate(("Example^Emma", "例子^艾玛")):
        data_set = ct_data_set(
            StudyInstanceUID=f"{study_instance_uid}"[:-1] + str(number),
            SpecificCharacterSet="ISO_IR 192",
            PatientID=f"EX{number}",
            PatientName=name,
            StudyDescription="of the whole body, with and without contrast medium :x: [b]",
        )
        write_instance(encoded(data_set), tmp_path / f"{number}.dcm")
    assert run("import", "0.dcm", "1.dcm").exit_code == 0
    output = on_terminal(tmp_path, "studies")
    assert output == run("studies").stdout
    heading, *rows = output.splitlines()
    assert len(rows) == 2
    for row in rows:
        assert "of the whole body, with and without contrast medium :x: [b]" in row
        assert row.split()[-1][:-1] == study_instance_uid[:-1]
    latin, wide = sorted(rows, key=str.isascii, reverse=True)
    assert latin.index("CT") == heading.index("Modalities")
    assert wide.index("CT") == heading.index("Modalities") - 4  # four characters of two columns


def test_a_value_cannot_command_the_terminal(run: Run, tmp_path: Path) -> None:
    """Control characters and markup in a description are printed as what they are."""
    instance = encoded(ct_data_set(StudyDescription="[red]\x1b[31mX"))
    write_instance(instance, tmp_path / "one.dcm")
    assert run("import", "one.dcm").exit_code == 0
    output = run("studies").stdout
    assert "\x1b" not in output
    assert "[red]?[31mX" in output


def test_a_catalog_of_a_newer_program_is_refused(run: Run, tmp_path: Path) -> None:
    """The exit code is 74 for each command that needs the catalog."""
    assert run("upgrade-catalog").exit_code == 0
    with closing(sqlite3.connect(tmp_path / "pacsnode-data" / "catalog.sqlite")) as connection:
        connection.execute("UPDATE schema_version SET version = 999")
        connection.commit()
    others = (["keys"], ["reindex"], ["inconsistencies"])
    for command in (["studies"], ["upgrade-catalog"], ["import", "x.dcm"], *others):
        assert run(*command).exit_code == ExitCode.CATALOG_UNUSABLE


def test_an_upgrade_tells_what_it_did(run: Run) -> None:
    """The first run makes the schema, the second finds nothing to do."""
    assert f"from schema 0 to {migrations.NEWEST}" in run("upgrade-catalog").output
    assert f"has schema {migrations.NEWEST} already" in run("upgrade-catalog").output


_EXTRA_KEYS = """
    [{keyword: KVP, level: IMAGE},
     {tag: "(0019,xx0C)", private_creator: EXAMPLE, vr: IS, level: SERIES}]
"""


def _row(output: str, *words: str) -> list[str]:
    """Return the cells of the only row of a table that has these words."""
    (line,) = (line for line in output.splitlines() if {*words} <= {*line.split()})
    return re.split(r"  +", line.strip())


def test_every_key_is_listed_with_how_it_is_matched(run: Run) -> None:
    """Tag, keyword, level, VR, type, kinds of matching, and whether it is catalogued."""
    run("upgrade-catalog")
    output = run("keys").stdout
    patient_id, modalities, sequence, related = (
        _row(output, word)
        for word in (
            "PatientID",
            "ModalitiesInStudy",
            "ProcedureCodeSequence",
            "NumberOfStudyRelatedInstances",
        )
    )
    assert patient_id[:3] == ["(0010,0020)", "PatientID", "PATIENT"]
    assert patient_id[3:] == ["LO", "U", "single value, wild card", "catalogued"]
    assert modalities[3:] == ["CS", "O", "single value, wild card, multiple values", "computed"]
    assert sequence[2:] == ["STUDY", "SQ", "O", "sequence", "catalogued"]
    assert related[2:] == ["STUDY", "IS", "O", "universal only", "computed"]
    assert len(output.splitlines()) == 1 + len(ATTRIBUTES)


def test_an_extra_key_is_listed_with_what_is_left_to_do(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named by tag and creator; until reindex has run, two of two instances are without."""
    assert run("import", str(files)).exit_code == ExitCode.NEGATIVE
    monkeypatch.setenv("PACSNODE_CATALOG__EXTRA_KEYS", _EXTRA_KEYS)
    output = run("keys").stdout
    assert _row(output, "EXAMPLE") == [
        "(0019,xx0C)",
        "EXAMPLE",
        "SERIES",
        "IS",
        "O",
        "single value (as a number)",
        "2 of 2 instances still to be reindexed",
    ]
    assert _row(output, "KVP")[-1] == "2 of 2 instances still to be reindexed"
    assert _row(output, "ImageType")[-1] == "catalogued"
    result = run("reindex")
    assert (result.exit_code, result.stdout) == (0, "2 instances reindexed, 0 not\n")
    assert _row(run("keys").stdout, "KVP")[-1] == "catalogued"
    assert run("reindex").stdout == "0 instances reindexed, 0 not\n"


def test_a_file_that_cannot_be_reindexed_is_told(
    run: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is done, the exit code is 1, and the path stands in a line."""
    run("import", str(files))
    lost, _ = sorted(tmp_path.glob("pacsnode-data/**/*.dcm"))
    lost.unlink()
    monkeypatch.setenv("PACSNODE_CATALOG__EXTRA_KEYS", _EXTRA_KEYS)
    result = run("reindex")
    assert result.exit_code == ExitCode.NEGATIVE
    assert result.stdout == "1 instance reindexed, 1 not\n"
    assert f"{lost.name}: " in result.stderr
    assert _row(run("keys").stdout, "KVP")[-1] == "1 of 2 instances still to be reindexed"


def test_inconsistencies_are_listed(run: Run, tmp_path: Path) -> None:
    """One row for each entity, Attribute and value; without any there is the head alone."""
    run("upgrade-catalog")
    assert len(run("inconsistencies").stdout.splitlines()) == 1
    for number, description in enumerate(("Head", "Neck", "Neck")):
        data_set = ct_data_set(
            StudyInstanceUID="1.2.1",
            SOPInstanceUID=f"1.4.{number}",
            StudyDescription=description,
            PatientName=f"Example^{description}",
            PatientComments=description * 100,
        )
        write_instance(encoded(data_set), tmp_path / f"{number}.dcm")
    run("import", *(f"{number}.dcm" for number in range(3)))
    result = run("inconsistencies")
    assert result.exit_code == 0
    assert [re.split(r"  +", line.strip()) for line in result.stdout.splitlines()[1:]] == [
        ["PATIENT", "EX1", "PatientName", "Example^Head", "Example^Neck", "2", "1.4.1"],
        [
            "PATIENT",
            "EX1",
            "PatientComments",
            "Head" * 25 + "...",
            "Neck" * 25 + "...",
            "2",
            "1.4.1",
        ],
        ["STUDY", "1.2.1", "StudyDescription", "Head", "Neck", "2", "1.4.1"],
    ]


def test_a_storage_folder_that_cannot_be_made_is_told_apart(run: Run, tmp_path: Path) -> None:
    """A file in the place of the storage folder gives exit code 73."""
    (tmp_path / "pacsnode-data").mkdir()
    (tmp_path / "pacsnode-data" / "storage").write_text("in the way")
    assert run("import", "x.dcm").exit_code == ExitCode.STORAGE_UNUSABLE


def test_a_peer_is_asked_for_an_echo(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that answers gives 0, one that rejects 1, one that is not configured 2."""
    node = tmp_path / "node"
    node.mkdir()
    with running_server(node) as running:
        port = running.address[1]
        monkeypatch.setenv(
            "PACSNODE_REMOTE_AES",
            f"[{{ae_title: PACSNODE, host: 127.0.0.1, port: {port}}},"
            f" {{ae_title: WRONG, host: 127.0.0.1, port: {port}}}]",
        )
        answered, rejected, unknown = (run("echo", title) for title in ("PACSNODE", "WRONG", "X"))
    assert (answered.exit_code, rejected.exit_code, unknown.exit_code) == (0, 1, 2)
    assert answered.output == f"PACSNODE at 127.0.0.1 port {port} answers\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["1"], "1 instance in 1 study"),
        (["3", "--studies", "1"], "3 instances in 1 study"),
        (["2"], "2 instances in 2 studies"),
    ],
)
def test_made_instances_are_counted(tmp_path: Path, arguments: list[str], line: str) -> None:
    """scripts/make_instances says how many there are, of one in the singular."""
    script = Path(__file__).parent.parent / "scripts/make_instances"
    count, *more = arguments
    done = subprocess.run(
        [sys.executable, script, count, tmp_path, *more],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{line} in {tmp_path}\n"
