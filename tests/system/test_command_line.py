"""The pacsnode command: what it does, what it says, and the exit codes scripts rely on."""

import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.dcmtk import storescp
from tests.support.instances import (
    Instance,
    ct_data_set,
    encoded,
    encoded_data_set_of,
    many_instances,
    sr_data_set,
    write_instance,
)
from tests.support.node import Node, free_port, new_node, run_command, running_node
from tests.support.wire import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Association,
    ProposedContext,
    find,
    identifier_of,
    move,
    store_all,
)

pytestmark = pytest.mark.system

OK, NEGATIVE, USAGE = 0, 1, 2
CANNOT_LISTEN, STORAGE_UNUSABLE, CATALOG_UNUSABLE, CONFIGURATION = 69, 73, 74, 78


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node that is configured but does not run."""
    made = new_node(tmp_path / "node")
    made.write_config()
    return made


@pytest.fixture(scope="module")
def archive(module_folder: Path) -> Iterator[Node]:
    """A running node that knows storescp (STORESCP) and a peer that is down (DOWN)."""
    port = free_port()
    remote_aes = [
        {"ae_title": "STORESCP", "host": "127.0.0.1", "port": port},
        {"ae_title": "DOWN", "host": "127.0.0.1", "port": free_port()},
    ]
    with (
        storescp(module_folder / "received", "STORESCP", port),
        running_node(module_folder / "node", remote_aes=remote_aes) as running,
    ):
        yield running


def _check_failure(done: CompletedProcess[str], exit_code: int, *words: str) -> None:
    """Assert that a command failed with this code and one clear line on standard error."""
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == exit_code, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert any(all(word in line for word in words) for line in lines), done.stderr


def _held(node: Node, instances: list[Instance]) -> set[str]:
    """Return which of these instances of one series are found at IMAGE level."""
    identifier = identifier_of(
        "IMAGE",
        StudyInstanceUID=str(instances[0].study_instance_uid),
        SeriesInstanceUID=str(instances[0].series_instance_uid),
        SOPInstanceUID="",
    )
    answers, _ = find(node.address, STUDY_ROOT_FIND, identifier)
    return {answer.SOPInstanceUID for answer in answers}


def test_check_config_accepts_the_configuration_of_the_tests(node: Node) -> None:
    """A valid file: exit code 0."""
    assert node.run("check-config").returncode == OK


def test_check_config_accepts_the_embedded_defaults(tmp_path: Path) -> None:
    """Without a file the defaults hold, and they are valid."""
    assert run_command("check-config", folder=tmp_path).returncode == OK


def test_check_config_reports_all_faults_at_once(node: Node) -> None:
    """Each fault on a line of its own with path and value; exit code 78, no traceback."""
    node.settings.update(
        port=70000,
        ae_titles=["FAR_TOO_LONG_A_TITLE"],
        storge={"folder": "x"},
        remote_aes=[{"ae_title": "A", "host": "h", "port": "many"}],
        processes={"workers": -1},
        log={"level": "loud"},
    )
    node.write_config()

    done = node.run("check-config")

    assert done.returncode == CONFIGURATION
    assert "Traceback" not in done.stdout + done.stderr
    for path, value in (
        ("port", "70000"),
        ("ae_titles", "FAR_TOO_LONG_A_TITLE"),
        ("storge", "unknown"),
        ("remote_aes", "many"),
        ("workers", "-1"),
        ("level", "loud"),
    ):
        lines = [line for line in done.stderr.splitlines() if path in line and value in line]
        assert len(lines) == 1, done.stderr


@pytest.mark.parametrize("text", ["port: [", "- just a list", "port: 104\nport: 105\n"])
def test_a_file_that_is_not_a_mapping_is_a_configuration_fault(node: Node, text: str) -> None:
    """Broken YAML, a list, a key given twice: exit code 78 and one clear line."""
    node.config_file.write_text(text, encoding="utf-8")

    _check_failure(node.run("check-config"), CONFIGURATION)


@pytest.mark.parametrize("command", ["serve", "check-config", "studies", "upgrade-catalog"])
def test_a_missing_configuration_file_is_a_configuration_fault(
    tmp_path: Path, command: str
) -> None:
    """Exit code 78 and a line that names the file."""
    done = run_command(command, "--config", "nowhere.yaml", folder=tmp_path)

    _check_failure(done, CONFIGURATION, "nowhere.yaml")


def test_the_environment_names_the_file_and_overrides_its_values(node: Node) -> None:
    """PACSNODE_CONFIG and PACSNODE_<KEY>, nested with two underscores."""
    environment = {"PACSNODE_CONFIG": str(node.config_file), "PACSNODE_LOG__LEVEL": "loud"}

    done = run_command("check-config", folder=node.folder, environment=environment)

    _check_failure(done, CONFIGURATION, "PACSNODE_LOG__LEVEL", "loud")


@pytest.mark.parametrize("arguments", [("no-such-command",), ("serve", "--no-such-option")])
def test_a_wrong_command_line_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2."""
    assert run_command(*arguments, folder=tmp_path).returncode == USAGE


@pytest.mark.parametrize(
    "command", ["serve", "check-config", "import", "studies", "echo", "upgrade-catalog"]
)
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    """--help: exit code 0, and the option for the configuration is named."""
    done = run_command(command, "--help", folder=tmp_path)

    assert done.returncode == OK
    assert "--config" in done.stdout


def test_serve_says_when_its_port_is_taken(node: Node) -> None:
    """Exit code 69 and a line with the port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(node.address)
        other.listen()

        _check_failure(node.run("serve"), CANNOT_LISTEN, str(node.port))


def test_serve_says_when_its_storage_folder_cannot_be_used(node: Node) -> None:
    """A file in place of the folder: exit code 73 and a line with the path."""
    node.storage_folder.parent.mkdir(parents=True, exist_ok=True)
    node.storage_folder.write_text("not a folder", encoding="utf-8")

    _check_failure(node.run("serve"), STORAGE_UNUSABLE, str(node.storage_folder))


def test_serve_says_when_its_catalog_is_none(node: Node) -> None:
    """A file that is not a database: exit code 74 and a line with the path."""
    catalog = node.folder / "catalog.sqlite"
    catalog.write_text("this is no database" * 100, encoding="utf-8")

    _check_failure(node.run("serve"), CATALOG_UNUSABLE, str(catalog))


@pytest.mark.parametrize("command", ["serve", "studies", "upgrade-catalog"])
def test_a_newer_catalog_is_left_alone(node: Node, command: str) -> None:
    """A schema from a later version: exit code 74, and the version in it is unchanged."""
    assert node.run("upgrade-catalog").returncode == OK
    catalog = node.folder / "catalog.sqlite"
    with sqlite3.connect(catalog) as connection:
        connection.execute("UPDATE schema_version SET version = version + 1000")
        expected = connection.execute("SELECT version FROM schema_version").fetchall()
    connection.close()

    _check_failure(node.run(command), CATALOG_UNUSABLE)

    connection = sqlite3.connect(catalog)
    assert connection.execute("SELECT version FROM schema_version").fetchall() == expected
    connection.close()


def test_upgrade_catalog_makes_a_catalog_and_can_be_run_again(node: Node) -> None:
    """Exit code 0 both times, and the node starts on the result."""
    assert [node.run("upgrade-catalog").returncode for _ in range(2)] == [OK, OK]
    assert (node.folder / "catalog.sqlite").exists()
    try:
        node.start()
    finally:
        node.kill()


@pytest.mark.parametrize("option", ["--copy", "--link"])
def test_import_makes_existing_files_part_of_the_archive(
    archive: Node, tmp_path: Path, option: str
) -> None:
    """Files of a folder tree are counted, found and delivered; they stay where they are."""
    instances = list(many_instances(5))
    paths = [
        write_instance(each, tmp_path / f"disc/{number % 2}/IM{number}")
        for number, each in enumerate(instances)
    ]
    before = [path.read_bytes() for path in paths]

    done = archive.run("import", option, str(tmp_path / "disc"))

    assert done.returncode == OK, done.stderr
    assert "5" in done.stdout
    assert [path.read_bytes() for path in paths] == before
    assert _held(archive, instances) == {each.sop_instance_uid for each in instances}
    shared = [
        path for path in paths if any(path.samefile(stored) for stored in archive.stored_files())
    ]
    assert len(shared) == (5 if option == "--link" else 0)
    _check_delivery(archive, instances)


def _check_delivery(archive: Node, instances: list[Instance]) -> None:
    """Assert that the study is delivered to storescp byte for byte."""
    received = archive.folder.parent / "received"
    study = str(instances[0].study_instance_uid)
    identifier = identifier_of("STUDY", StudyInstanceUID=study)
    final = move(archive.address, STUDY_ROOT_MOVE, "STORESCP", identifier)
    assert final.counters == (None, len(instances), 0, 0)
    for instance in instances:
        (path,) = received.glob(f"*.{instance.sop_instance_uid}")
        assert encoded_data_set_of(path) == instance.encoded_data_set


def test_an_import_can_be_run_again(archive: Node, tmp_path: Path) -> None:
    """The second run adds nothing, says so, and succeeds."""
    instances = list(many_instances(3))
    for number, instance in enumerate(instances):
        write_instance(instance, tmp_path / f"{number}.dcm")
    assert archive.run("import", str(tmp_path)).returncode == OK
    files = archive.stored_files()

    again = archive.run("import", str(tmp_path))

    assert again.returncode == OK, again.stderr
    assert archive.stored_files() == files
    assert _held(archive, instances) == {each.sop_instance_uid for each in instances}


def test_import_lists_the_files_it_refused_and_why(archive: Node, tmp_path: Path) -> None:
    """The good one is in, the others are named with a reason; exit code 1, no traceback."""
    good = encoded(ct_data_set())
    write_instance(good, tmp_path / "good.dcm")
    write_instance(encoded(sr_data_set(StudyInstanceUID=None)), tmp_path / "no-study.dcm")
    (tmp_path / "holiday.txt").write_text("not DICOM at all", encoding="utf-8")
    (tmp_path / "empty.dcm").touch()
    whole = (tmp_path / "good.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:700])

    done = archive.run("import", str(tmp_path))

    output = done.stdout + done.stderr
    assert done.returncode == NEGATIVE, output
    assert "Traceback" not in output
    for name in ("no-study.dcm", "holiday.txt", "empty.dcm", "cut.dcm"):
        (line,) = [line for line in output.splitlines() if name in line]
        assert len(line.partition(name)[2].strip(" :│|")) > 5, "no reason is given"
    assert "good.dcm" not in output
    assert _held(archive, [good]) == {good.sop_instance_uid}


def test_import_of_another_object_under_a_known_uid_keeps_the_first(
    archive: Node, tmp_path: Path
) -> None:
    """The duplicate is reported as refused, and the archive delivers what it had (F-20)."""
    first = ct_data_set()
    store_all(archive.address, [encoded(first)])
    uids = {
        keyword: first[keyword].value
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    }
    write_instance(encoded(ct_data_set(**uids, StudyID="OTHER")), tmp_path / "other.dcm")

    done = archive.run("import", str(tmp_path))

    assert done.returncode == NEGATIVE
    assert "other.dcm" in done.stdout + done.stderr
    _check_delivery(archive, [encoded(first)])


def test_import_says_when_there_is_nothing_at_a_path(archive: Node, tmp_path: Path) -> None:
    """A path that does not exist: not a success, and the path is named."""
    done = archive.run("import", str(tmp_path / "nowhere"))

    assert done.returncode in {NEGATIVE, USAGE}
    assert "Traceback" not in done.stderr
    assert "nowhere" in done.stdout + done.stderr


def test_import_works_while_no_node_runs(node: Node, tmp_path: Path) -> None:
    """The catalog is made where there is none; the node that starts later has the instances."""
    instances = list(many_instances(2))
    for number, instance in enumerate(instances):
        write_instance(instance, tmp_path / "files" / f"{number}.dcm")

    assert node.run("import", str(tmp_path / "files")).returncode == OK

    try:
        node.start()
        assert len(_held(node, instances)) == 2
    finally:
        node.kill()


def test_studies_prints_a_table(archive: Node) -> None:
    """One line for a study, with Patient ID, Study Date, modalities and number of instances."""
    study = ct_data_set(PatientID="TABLE-1", AccessionNumber="ACC-77", StudyDate="20200229")
    uids = {"StudyInstanceUID": study.StudyInstanceUID, "PatientID": "TABLE-1"}
    report = sr_data_set(**uids, AccessionNumber="ACC-77", StudyDate="20200229")
    store_all(archive.address, [encoded(study), encoded(report)])

    done = archive.run("studies")

    assert done.returncode == OK, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "TABLE-1" in line]
    assert "20200229" in line.replace("-", "")
    assert "CT" in line
    assert "SR" in line
    assert "2" in line.replace("20200229", "").replace("2020-02-29", "")


def test_studies_of_an_empty_archive_is_no_error(node: Node) -> None:
    """Exit code 0, whether or not there is a catalog yet."""
    done = node.run("studies")

    assert done.returncode == OK, done.stderr
    assert "Traceback" not in done.stderr


def test_echo_tells_that_a_peer_answers(archive: Node) -> None:
    """A C-ECHO to DCMTK's storescp succeeds: exit code 0."""
    done = archive.run("echo", "STORESCP")

    assert done.returncode == OK, done.stderr
    assert "STORESCP" in done.stdout


def test_echo_tells_that_a_peer_is_down(archive: Node) -> None:
    """Nobody listens: exit code 1 and one clear line with its title."""
    _check_failure(archive.run("echo", "DOWN"), NEGATIVE, "DOWN")


def test_echo_tells_that_a_peer_is_unknown(archive: Node) -> None:
    """A title that is not configured: not a success, and the title is named."""
    done = archive.run("echo", "STRANGER")

    assert done.returncode in {NEGATIVE, USAGE}
    assert "Traceback" not in done.stderr
    assert "STRANGER" in done.stderr


def test_echo_tells_that_the_peer_refuses_us(archive: Node, tmp_path: Path) -> None:
    """A node that does not know the title it is called by rejects: exit code 1, with the reason."""
    remote_aes = [{"ae_title": "WRONG", "host": "127.0.0.1", "port": archive.port}]
    caller = new_node(tmp_path, remote_aes=remote_aes)
    caller.write_config()

    _check_failure(caller.run("echo", "WRONG"), NEGATIVE, "WRONG")


def test_serve_writes_its_settings_and_readiness_to_the_log(archive: Node) -> None:
    """An operator sees that the node is ready, and where it listens."""
    assert str(archive.port) in archive.log
    with Association(archive.address, [ProposedContext("1.2.840.10008.1.1")]) as association:
        assert association.c_echo() == 0x0000
