"""`pacsnode peer` and `pacsnode send`: what they print, what they send, and their exit codes."""

import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import CTImageStorage, RLELossless, SecondaryCaptureImageStorage

from pacsnode.exit_codes import ExitCode
from tests.support.certificates import make_certificate
from tests.support.command_line import Run, command_line, on_terminal
from tests.support.destination import Conversation, Destination, ReceivedStore, Script, destination
from tests.support.instances import Instance, ct_data_set, encoded, sr_data_set, write_instance
from tests.support.node import free_port
from tests.support.pixel_objects import image, write_image
from tests.support.waiting import wait_until
from tests.support.wire import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

STUDY = "1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
MPEG4 = "1.2.840.10008.1.2.4.102"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command in an empty folder."""
    with command_line(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def instances(run: Run, tmp_path: Path) -> list[Instance]:
    """Three images and a report of one study, stored."""
    made = [
        encoded(
            ct_data_set(
                StudyInstanceUID=STUDY, SeriesInstanceUID="1.3.1", SOPInstanceUID=f"1.4.{number}"
            )
        )
        for number in (1, 2, 3)
    ]
    made.append(
        encoded(
            sr_data_set(StudyInstanceUID=STUDY, SeriesInstanceUID="1.3.2", SOPInstanceUID="1.4.4")
        )
    )
    for number, instance in enumerate(made):
        write_instance(instance, tmp_path / "files" / f"{number}.dcm")
    assert run("import", "files").exit_code == ExitCode.OK
    return made


def _know(monkeypatch: pytest.MonkeyPatch, *entries: str) -> None:
    """Have remote_aes with these entries."""
    monkeypatch.setenv("PACSNODE_REMOTE_AES", f"[{', '.join(entries)}]")


def _entry(port: int, more: str = "", ae_title: str = "DEST") -> str:
    return f"{{ae_title: {ae_title}, host: 127.0.0.1, port: {port}{more}}}"


@pytest.fixture
def dest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Destination]:
    """A destination that takes CT images and answers echoes, and is known as DEST."""
    with destination(sop_class_uids=(CTImageStorage, VERIFICATION)) as running:
        _know(monkeypatch, _entry(running.port))
        yield running


def _cells(line: str) -> list[str]:
    return re.split(r"  +", line.strip())


def test_every_setting_of_a_destination_is_listed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is in force where an entry says nothing."""
    files = make_certificate(tmp_path / "tls", "ours")
    more = (
        ", calling_ae_title: PACSNODE, transfer_syntaxes: uncompressed, associations: 4,"
        " connect_timeout_seconds: 1, negotiation_timeout_seconds: 2, dimse_timeout_seconds: 3,"
        " tls: {ca_file: tls/ours.pem, certificate_file: tls/ours.pem, key_file: tls/ours-key.pem,"
        " checks_host_name: false}"
    )
    _know(monkeypatch, _entry(104, more), "{ae_title: B, host: b.example.org, port: 11112}")
    result = run("peer", "list")
    assert result.exit_code == ExitCode.OK
    assert [_cells(line) for line in result.stdout.splitlines()[1:]] == [
        [
            *("DEST", "127.0.0.1", "104", "PACSNODE", "uncompressed", "4", "1 s", "2 s", "3 s"),
            f"yes, believes {files.certificate}, shows {files.certificate}, host name not checked",
        ],
        ["B", "b.example.org", "11112", "as called", "any", "1", "10 s", "30 s", "60 s", "no"],
    ]


def test_a_list_of_no_destinations_says_so(run: Run) -> None:
    """Instead of a heading alone; exit code 0."""
    result = run("peer", "list")
    assert (result.exit_code, result.output) == (ExitCode.OK, "remote_aes has no entry\n")


def test_a_list_is_whole_on_a_narrow_terminal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal wraps its rows; no host, time or transfer syntax is cut."""
    _know(
        monkeypatch,
        "{ae_title: DEST, host: a-very-long-host-name.radiology.hospital.example.org, port: 104}",
    )
    output = on_terminal(tmp_path, "peer", "list")
    assert output == run("peer", "list").stdout
    assert len(output.splitlines()) == 2
    assert max(map(len, output.splitlines())) > 80


@pytest.mark.parametrize(
    "command",
    [
        ["peer", "check", "DEST", "--study"],
        ["send", "DEST", "--study"],
        ["send", "DEST", "--series"],
        ["send", "DEST", "--instance"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("value", "words"),
    [("", "the value is empty"), (" ", "the value is empty"), ("abc", "abc is not a UID")],
)
def test_what_is_no_uid_is_told(
    run: Run, dest: Destination, command: list[str], value: str, words: str
) -> None:
    """Exit code 2, and nobody is called (PS3.5 9.1)."""
    result = run(*command, value)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == f"pacsnode: {command[-1]}: {words}\n"
    assert dest.proposed == []


def test_a_uid_may_have_the_padding_that_it_was_copied_with(
    run: Run, dest: Destination, instances: list[Instance]
) -> None:
    """Spaces at its ends are none of it."""
    assert instances
    assert run("send", "--instance", " 1.4.1 ", "DEST").exit_code == ExitCode.OK
    assert dest.received_uids == ["1.4.1"]


@pytest.mark.parametrize("command", [["peer", "check"], ["send", "--study", STUDY], ["echo"]])
def test_an_empty_ae_title_is_told(run: Run, command: list[str]) -> None:
    """Exit code 2, as for every wrong command line."""
    result = run(*command, "")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == "pacsnode: the AE title is empty\n"


@pytest.mark.parametrize(
    "command", [["peer", "check"], ["send", "--study", STUDY], ["echo"]], ids=lambda c: c[0]
)
def test_an_unknown_ae_title_is_answered_with_the_nearest(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Exit code 2, and the title that was probably meant; if none is near, all of them."""
    _know(monkeypatch, _entry(104), _entry(104, ae_title="WORKSTATION"))
    for title, more in (("dset", "; did you mean DEST?"), ("X", " (known: DEST, WORKSTATION)")):
        result = run(*command, title)
        assert result.exit_code == ExitCode.USAGE
        assert result.stderr == f"pacsnode: {title} is not in remote_aes{more}\n"


def test_a_check_says_how_long_each_step_took(run: Run, dest: Destination) -> None:
    """The association and the C-ECHO; exit code 0."""
    result = run("peer", "check", "DEST")
    assert result.exit_code == ExitCode.OK
    first, *steps = result.stdout.splitlines()
    assert first == f"DEST at 127.0.0.1 port {dest.port}"
    assert [re.sub(r"\d+\.\d{3}", "0.000", step) for step in steps] == [
        "association: ok (0.000 s)",
        "C-ECHO: ok (0.000 s)",
    ]
    assert dest.proposed == [
        [(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN))]
    ]


def test_a_check_uses_the_title_that_the_entry_asks_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, instances: list[Instance]
) -> None:
    """Also to send; else it is the first of ours."""
    assert instances
    monkeypatch.setenv("PACSNODE_AE_TITLES", "[ONE, TWO]")
    for more, title in ((", calling_ae_title: TWO", "TWO"), ("", "ONE")):
        with destination() as running:
            _know(monkeypatch, _entry(running.port, more))
            run("send", "--instance", "1.4.1", "DEST")
        assert [store.calling_ae_title for store in running.received] == [title]


@pytest.mark.parametrize(
    ("rejection", "words"),
    [
        ((1, 1, 7), "called AE title not recogni"),
        ((1, 1, 3), "calling AE title not recogni"),
        ((2, 3, 2), "local limit exceeded"),
    ],
)
def test_a_check_says_why_an_association_is_rejected(
    run: Run, monkeypatch: pytest.MonkeyPatch, rejection: tuple[int, int, int], words: str
) -> None:
    """In words; exit code 1 (PS3.8 9.3.4)."""
    with destination(script=Script(rejects=rejection)) as running:
        _know(monkeypatch, _entry(running.port))
        result = run("peer", "check", "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    assert result.stdout.splitlines()[1].startswith("association: failed: ")
    assert words in result.stdout


def test_a_check_says_that_nobody_listens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connection refused."""
    _know(monkeypatch, _entry(free_port()))
    result = run("peer", "check", "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    assert "association: failed: not reachable: connection refused (0." in result.stdout


def test_a_check_says_that_the_host_has_no_address(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is reserved never to exist (RFC 6761)."""
    _know(monkeypatch, "{ae_title: DEST, host: nowhere.invalid, port: 104}")
    result = run("peer", "check", "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    assert "association: failed: host name: " in result.stdout


def test_a_check_says_that_there_was_no_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the association request, within the time of this destination."""
    with destination(script=Script(on_connection=Conversation.ignore)) as running:
        _know(monkeypatch, _entry(running.port, ", negotiation_timeout_seconds: 1"))
        result = run("peer", "check", "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    assert re.search(r"association: failed: .*(time|answer).* \(1\.\d{3} s\)", result.stdout)


def test_a_check_says_that_tls_is_not_spoken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a peer that expects an association request on the plain connection."""
    with destination() as running:
        _know(
            monkeypatch,
            _entry(
                running.port,
                ", connect_timeout_seconds: 1, negotiation_timeout_seconds: 1, tls: {}",
            ),
        )
        result = run("peer", "check", "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    assert "association: failed: TLS: " in result.stdout


def test_a_check_says_that_an_echo_is_not_accepted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a peer that is there and does not support Verification: exit code 1."""
    with destination(sop_class_uids=(CTImageStorage,)) as running:
        _know(monkeypatch, _entry(running.port))
        result = run("peer", "check", "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    assert "association: ok" in result.stdout
    assert "C-ECHO: failed: it does not accept Verification (" in result.stdout


def test_a_check_of_a_study_says_what_would_fail_and_sends_nothing(
    run: Run, dest: Destination, instances: list[Instance]
) -> None:
    """The report has no context and comes first, images go as they are: exit code 1 (E-31)."""
    result = run("peer", "check", "DEST", "--study", STUDY)
    assert result.exit_code == ExitCode.NEGATIVE
    report = str(instances[3].sop_class_uid)
    _, _, _, step, _, first, second, summary = result.stdout.splitlines()
    assert step.startswith(
        "association 1 for 4 instances, 2 of 4 presentation contexts accepted: ok ("
    )
    *failing, why = _cells(first)
    assert failing == ["1", "Basic Text SR Storage", "Explicit VR Little Endian"]
    assert why.startswith("fails: no presentation context: ")
    assert _cells(second) == [
        *("3", "CT Image Storage", "Explicit VR Little Endian", "goes out as it is stored")
    ]
    assert summary == "3 of 4 instances would be sent, 1 would fail"
    assert result.stderr == "would fail: 1.4.4\n"
    assert dest.received == []
    assert dest.proposed[1] == [
        (str(sop_class), (uid,))
        for sop_class in (CTImageStorage, report)
        for uid in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
    ]


def test_a_check_is_right_about_what_is_sent(
    run: Run, dest: Destination, instances: list[Instance]
) -> None:
    """What it said would be sent is, and no more."""
    assert instances
    run("peer", "check", "DEST", "--study", STUDY)
    run("send", "--study", STUDY, "DEST")
    assert sorted(dest.received_uids) == ["1.4.1", "1.4.2", "1.4.3"]


def test_a_check_says_what_would_be_converted(
    run: Run, monkeypatch: pytest.MonkeyPatch, instances: list[Instance]
) -> None:
    """And to what; nothing fails, so the exit code is 0, though nobody answers an echo (E-33)."""
    classes = (CTImageStorage, str(instances[3].sop_class_uid))
    with destination(
        sop_class_uids=classes, transfer_syntax_uids=(IMPLICIT_VR_LITTLE_ENDIAN,)
    ) as running:
        _know(monkeypatch, _entry(running.port))
        result = run("peer", "check", "DEST", "--study", STUDY)
    assert result.exit_code == ExitCode.OK
    assert result.stdout.count("is converted to Implicit VR Little Endian") == 2
    assert "4 of 4 instances would be sent, 0 would fail" in result.stdout


def test_a_check_of_one_instance_counts_in_the_singular(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One instance, and one presentation context where nothing else is stored or allowed."""
    one = encoded(ct_data_set(StudyInstanceUID=STUDY), IMPLICIT_VR_LITTLE_ENDIAN)
    write_instance(one, tmp_path / "one.dcm")
    assert run("import", "one.dcm").exit_code == ExitCode.OK
    with destination() as running:
        _know(
            monkeypatch,
            _entry(running.port, f", transfer_syntaxes: ['{IMPLICIT_VR_LITTLE_ENDIAN}']"),
        )
        lines = run("peer", "check", "DEST", "--study", STUDY).stdout.splitlines()
    assert lines[3].startswith(
        "association 1 for 1 instance, 1 of 1 presentation context accepted: ok ("
    )
    assert lines[-1] == "1 of 1 instance would be sent, 0 would fail"


@pytest.mark.parametrize(("count", "words"), [(1, "1 of them has to"), (2, "2 of them have to")])
def test_a_check_says_what_would_be_decompressed(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int, words: str
) -> None:
    """Only sending can show whether it can be: exit code 0, and a line that says so."""
    for number in range(3):
        pixels = np.zeros((1, 8, 8), np.uint8)
        made = image(pixels, "MONOCHROME2", StudyInstanceUID=STUDY, SOPInstanceUID=f"1.4.{number}")
        is_compressed = number < count
        write_image(made, tmp_path / f"{number}.dcm", RLELossless if is_compressed else "")
    assert run("import", *(f"{number}.dcm" for number in range(3))).exit_code == ExitCode.OK
    with destination(sop_class_uids=(SecondaryCaptureImageStorage,)) as running:
        _know(monkeypatch, _entry(running.port))
        result = run("peer", "check", "DEST", "--study", STUDY)
    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines()[-2:] == [
        "3 of 3 instances would be sent, 0 would fail",
        f"{words} be decompressed first: one that is damaged would fail",
    ]


def test_a_check_says_what_would_be_encoded_again(
    run: Run, dest: Destination, tmp_path: Path
) -> None:
    """A native data set of odd length, which no message may have (E-37)."""
    assert dest
    even = encoded(ct_data_set(StudyInstanceUID=STUDY))
    odd = even.encoded_data_set.replace(b"CS\2\0CT", b"CS\3\0CT ")
    assert len(odd) % 2
    write_instance(replace(even, encoded_data_set=odd), tmp_path / "odd.dcm")
    assert run("import", "odd.dcm").exit_code == ExitCode.OK
    result = run("peer", "check", "DEST", "--study", STUDY)
    assert result.exit_code == ExitCode.OK
    assert _cells(result.stdout.splitlines()[5])[-1] == "is re-encoded: its length is odd"


def test_a_check_says_that_the_configuration_forbids_a_transfer_syntax(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video, which there is no way to convert, to a destination of uncompressed ones alone."""
    video = encoded(ct_data_set(StudyInstanceUID="1.2.9"))
    write_instance(
        Instance(
            **{
                name: getattr(video, name)
                for name in video.__dataclass_fields__
                if name != "transfer_syntax_uid"
            },
            transfer_syntax_uid=MPEG4,
        ),
        tmp_path / "video.dcm",
    )
    assert run("import", "video.dcm").exit_code == ExitCode.OK
    with destination(transfer_syntax_uids=(MPEG4, EXPLICIT_VR_LITTLE_ENDIAN)) as running:
        _know(monkeypatch, _entry(running.port, ", transfer_syntaxes: uncompressed"))
        result = run("peer", "check", "DEST", "--study", "1.2.9")
        assert result.exit_code == ExitCode.NEGATIVE
        assert f"its transfer syntax {MPEG4} is not in transfer_syntaxes; " in result.stdout
        _know(monkeypatch, _entry(running.port))
        assert run("peer", "check", "DEST", "--study", "1.2.9").exit_code == ExitCode.OK


def test_a_check_says_that_a_file_is_missing(
    run: Run, dest: Destination, instances: list[Instance], tmp_path: Path
) -> None:
    """The instance is one of those that would fail."""
    assert dest
    assert instances
    (lost,) = tmp_path.glob("pacsnode-data/**/1.4.2.dcm")
    lost.unlink()
    result = run("peer", "check", "DEST", "--study", STUDY)
    assert result.exit_code == ExitCode.NEGATIVE
    assert (
        "fails: file missing or unreadable: its file cannot be read: No such file or directory"
        in result.stdout
    )
    assert "would fail: 1.4.2" in result.stderr


def test_a_check_of_a_study_by_a_peer_that_is_down_fails_all_of_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, instances: list[Instance]
) -> None:
    """For the reason that the association has failed for, which is said once."""
    assert instances
    _know(monkeypatch, _entry(free_port()))
    result = run("peer", "check", "DEST", "--study", STUDY)
    assert result.exit_code == ExitCode.NEGATIVE
    _, step, *others = result.stdout.splitlines()
    assert step.startswith("association: failed: not reachable: connection refused (")
    assert others == ["4 instances would fail: not reachable: connection refused"]
    assert result.stderr == ""


def test_a_check_does_not_call_twice_who_does_not_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch, instances: list[Instance]
) -> None:
    """To wait again for the same would only take the same time again."""
    assert instances
    calls = []

    def ignore(talk: Conversation) -> None:
        calls.append(talk)
        talk.ignore()

    with destination(script=Script(on_connection=ignore)) as running:
        _know(monkeypatch, _entry(running.port, ", negotiation_timeout_seconds: 1"))
        result = run("peer", "check", "DEST", "--study", STUDY)
    assert result.exit_code == ExitCode.NEGATIVE
    assert result.stdout.splitlines()[-1].startswith("4 instances would fail: ")
    assert len(calls) == 1


def test_a_check_of_a_study_by_a_peer_that_rejects_us_fails_all_of_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, instances: list[Instance]
) -> None:
    """After one attempt; with --all each instance is named all the same."""
    assert instances
    calls: list[Conversation] = []
    script = Script(rejects=(1, 1, 3), on_connection=calls.append)
    with destination(script=script) as running:
        _know(monkeypatch, _entry(running.port))
        result = run("peer", "check", "DEST", "--study", STUDY, "--all")
    assert result.exit_code == ExitCode.NEGATIVE
    assert "4 instances would fail: association rejected: calling AE title" in result.stdout
    assert len(calls) == 1
    assert result.stderr.splitlines() == [f"would fail: 1.4.{number}" for number in (1, 2, 3, 4)]


def test_many_instances_that_would_fail_are_named_if_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first twenty of them, and how many more there are; with --all each (E-11)."""
    for number in range(23):
        uids = {
            "StudyInstanceUID": STUDY,
            "SeriesInstanceUID": "1.3",
            "SOPInstanceUID": f"1.4.{number}",
        }
        write_instance(encoded(ct_data_set(**uids)), tmp_path / "files" / f"{number}.dcm")
    run("import", "files")
    with destination(sop_class_uids=(VERIFICATION,)) as running:
        _know(monkeypatch, _entry(running.port))
        some = run("peer", "check", "DEST", "--study", STUDY).stderr.splitlines()
        each = run("peer", "check", "DEST", "--study", STUDY, "--all").stderr.splitlines()
    assert len(some) == 21
    assert some[-1] == "would fail: 3 more; --all names each"
    assert len(each) == 23


@pytest.mark.parametrize(
    "command",
    [
        ["peer", "check", "--study", "1.2.99"],
        ["send", "--study", "1.2.99"],
        ["send", "--series", "1.2.99"],
        ["send", "--instance", "1.2.99"],
    ],
    ids=" ".join,
)
def test_a_uid_that_is_not_in_the_catalog_is_told(
    run: Run, dest: Destination, command: list[str]
) -> None:
    """Exit code 1, and nobody is called."""
    run("upgrade-catalog")
    result = run(*command, "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    kind = command[-2].removeprefix("--")
    assert result.stderr == f"pacsnode: no {kind} 1.2.99 is in the catalog\n"
    assert dest.proposed == []


@pytest.mark.parametrize(
    ("option", "uid", "expected"),
    [
        ("--study", STUDY, ["1.4.1", "1.4.2", "1.4.3"]),
        ("--series", "1.3.1", ["1.4.1", "1.4.2", "1.4.3"]),
        ("--instance", "1.4.2", ["1.4.2"]),
    ],
)
def test_an_entity_is_sent_byte_for_byte(
    run: Run,
    dest: Destination,
    instances: list[Instance],
    option: str,
    uid: str,
    expected: list[str],
) -> None:
    """A study, a series or an instance; without a Move Originator (E-14), at medium priority."""
    run("send", option, uid, "DEST")
    assert sorted(dest.received_uids) == expected
    stored = {str(each.sop_instance_uid): each.encoded_data_set for each in instances}
    for store in dest.received:
        assert store.encoded_data_set == stored[store.sop_instance_uid]
        assert (store.move_originator_ae_title, store.priority) == (None, 0)
    wait_until(lambda: dest.endings, "the destination to notice the end")
    assert dest.endings == ["released"]


def test_what_was_sent_is_counted(run: Run, dest: Destination, instances: list[Instance]) -> None:
    """One line with the numbers; exit code 0 if nothing failed."""
    assert instances
    result = run("send", "--series", "1.3.1", "DEST")
    assert result.exit_code == ExitCode.OK
    assert result.stdout == (
        f"DEST at 127.0.0.1 port {dest.port}: 3 completed, 0 failed, 0 warning, 0 not started\n"
    )


def test_what_failed_is_told_with_its_reason_and_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch, instances: list[Instance]
) -> None:
    """A line for each reason; `why` finds it by study; exit code 1."""
    classes = (CTImageStorage, str(instances[3].sop_class_uid))

    def answer(talk: Conversation, store: ReceivedStore) -> None:
        is_report = store.sop_instance_uid == "1.4.4"
        talk.answer(*((0xC123, "cannot read this") if is_report else (0xA700, "disk full")))

    with destination(sop_class_uids=classes, script=Script(on_store=answer)) as running:
        _know(monkeypatch, _entry(running.port))
        result = run("send", "--study", STUDY, "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    _, *rows, summary = result.stdout.splitlines()
    assert [_cells(row) for row in rows] == [
        ["3", "refused", "status 0xA700 disk full"],
        ["1", "refused", "status 0xC123 cannot read this"],
    ]
    assert "0 completed, 4 failed, 0 warning, 0 not started" in summary
    assert "C-STORE sub-operation" not in result.stderr
    kept = [_cells(line)[1:] for line in run("why", STUDY).stdout.splitlines()[1:]]
    assert sorted(row[4:] for row in kept) == [
        ["1", "refused", "status 0xC123 cannot read this"],
        ["3", "refused", "status 0xA700 disk full"],
    ]
    assert {tuple(row[:4]) for row in kept} == {("send", "command line", "DEST", STUDY)}


def test_a_destination_that_is_down_fails_all_instances_for_one_reason(
    run: Run, monkeypatch: pytest.MonkeyPatch, instances: list[Instance]
) -> None:
    """One line, with the number of instances and why (E-5)."""
    assert instances
    _know(monkeypatch, _entry(free_port()))
    result = run("send", "--study", STUDY, "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    _, row, _ = result.stdout.splitlines()
    assert _cells(row) == ["4", "no association", "not reachable: connection refused"]


def test_what_failed_before_is_not_told_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, dest: Destination, instances: list[Instance]
) -> None:
    """Only what this run has sent; `why` has both."""
    _know(monkeypatch, _entry(free_port()))
    run("send", "--study", STUDY, "DEST")
    _know(monkeypatch, _entry(dest.port))
    assert str(instances[3].sop_instance_uid) == "1.4.4"
    result = run("send", "--study", STUDY, "DEST")
    _, row, _ = result.stdout.splitlines()
    assert _cells(row)[:2] == ["1", "no presentation context"]
    assert len(run("why", "DEST").stdout.splitlines()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_after_the_instance_that_is_on_its_way(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    instances: list[Instance],
    number: signal.Signals,
) -> None:
    """The first one is counted, the association released, the others are told as not started."""
    assert instances
    before = signal.getsignal(number)

    def interrupt(talk: Conversation, _: ReceivedStore) -> None:
        os.kill(os.getpid(), number)
        talk.answer(0x0000)

    with destination(script=Script(on_store=interrupt)) as running:
        _know(monkeypatch, _entry(running.port))
        result = run("send", "--series", "1.3.1", "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    assert result.stdout.endswith("1 completed, 0 failed, 0 warning, 2 not started; cancelled\n")
    assert len(running.received) == 1
    assert running.endings == ["released"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("associations", [1, 3])
def test_a_second_signal_stops_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, instances: list[Instance], associations: int
) -> None:
    """What is on its way has failed then, on each association, and is kept as such."""
    assert instances
    are_there = threading.Barrier(associations)

    def interrupt_twice(talk: Conversation, _: ReceivedStore) -> None:
        if are_there.wait(20) == 0:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)  # two that come at once count as one
        talk.ignore()

    started_at = time.monotonic()
    with destination(script=Script(on_store=interrupt_twice)) as running:
        _know(monkeypatch, _entry(running.port, f", associations: {associations}"))
        result = run("send", "--series", "1.3.1", "DEST")
    assert result.exit_code == ExitCode.NEGATIVE
    left = 3 - associations
    counts = f"0 completed, {associations} failed, 0 warning, {left} not started; cancelled\n"
    assert result.stdout.endswith(counts)
    assert "association lost  interrupted" in result.stdout
    assert "interrupted" in run("why", "DEST").stdout
    assert time.monotonic() - started_at < 20


def test_what_cannot_be_kept_is_told_all_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instances: list[Instance]
) -> None:
    """Somebody else keeps the catalog: the reasons are here, and `why` will not have them."""
    assert instances
    _know(monkeypatch, _entry(free_port()))
    monkeypatch.setenv("PACSNODE_CATALOG__BUSY_TIMEOUT_SECONDS", "1")
    catalog = tmp_path / "pacsnode-data" / "catalog.sqlite"
    with closing(sqlite3.connect(catalog, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        result = run("send", "--study", STUDY, "DEST")
    _, row, _ = result.stdout.splitlines()
    assert _cells(row) == ["4", "no association", "not reachable: connection refused"]
    assert "not kept for `pacsnode why`: " in result.stderr


@pytest.mark.parametrize("more", [[], ["--study", "1", "--series", "2"]])
def test_what_to_send_is_said_once(run: Run, dest: Destination, more: list[str]) -> None:
    """Exit code 2 for nothing, and for two things."""
    result = run("send", *more, "DEST")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == (
        "pacsnode: exactly one of --study, --series and --instance is needed\n"
    )
    assert dest.proposed == []


def test_the_help_says_what_is_needed(run: Run) -> None:
    """Each of the options looks as if it could be left out."""
    words = " ".join(run("send", "--help").stdout.replace("│", " ").split())
    assert "Exactly one of --study, --series and --instance is needed." in words
