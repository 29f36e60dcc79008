"""Tests of pacsnode.config and of config/pacsnode.yaml."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from pacsnode.config import ConfigError, Fault, NameSettings, Settings, load_settings
from pacsnode.config_remote_aes import RemoteAESection, TlsSection
from pacsnode.dicom.ae import RemoteAE, TlsFiles
from pacsnode.dicom.attributes import Keys
from pacsnode.dicom.information_model import Level
from tests.support.certificates import PASSPHRASE, make_certificate

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "config" / "pacsnode.yaml"
BAD_CONFIGS = sorted((ROOT / "tests" / "data" / "bad_configs").glob("*.yaml"))

UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})

Leaf = tuple[str, ...]


def _write(folder: Path, text: str) -> Path:
    path = folder / "pacsnode.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _faults(path: Path | None, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environment or {})
    return str(caught.value).splitlines()


def _variable(leaf: Leaf) -> str:
    return "PACSNODE_" + "__".join(leaf).upper()


def _model_defaults(model: type[BaseModel], section: Leaf = ()) -> Iterator[tuple[Leaf, object]]:
    """Yield every key of a model and of its sections, with the default written in the code."""
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _model_defaults(annotation, (*section, name))
        else:
            default = list(info.default) if isinstance(info.default, tuple) else info.default
            yield (*section, name), str(default) if isinstance(default, Path) else default


def _shipped_values(section: dict[str, object], path: Leaf = ()) -> Iterator[tuple[Leaf, object]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _shipped_values(value, (*path, name))
        else:
            yield (*path, name), value


def _shipped_comments() -> dict[Leaf, str]:
    """Return the comment above each key of the shipped file, as one line."""
    comments: dict[Leaf, str] = {}
    path: Leaf = ()
    comment = ""
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            comment += line.lstrip().removeprefix("#")
        elif match := re.match(r"( *)(\w+):(.*)", line):
            indentation, name, value = match.groups()
            path = (*path[: len(indentation) // 2], name)
            if value:
                comments[path] = comment.strip()
            comment = ""
        else:
            comment = ""
    return comments


DEFAULTS = dict(_model_defaults(Settings))
COMMENTS = _shipped_comments()
RANGES = {
    leaf: (int(found[1]), int(found[2]))
    for leaf, comment in COMMENTS.items()
    if leaf != ("remote_aes",) and (found := re.search(r"Range: (\d+) to (\d+)", comment))
}
CHOICES = {
    leaf: found[1].split(", ")
    for leaf, comment in COMMENTS.items()
    if (found := re.search(r"One of: ([a-z_, ]+)\.", comment))
}


def _value(settings: Settings, leaf: Leaf) -> object:
    value: object = settings
    for name in leaf:
        value = getattr(value, name)
    return value


# The shipped file


def test_the_shipped_file_is_valid() -> None:
    """The file loads as shipped, and says where it came from."""
    assert load_settings(SHIPPED, {}).source == SHIPPED


def test_the_shipped_file_has_every_key_with_its_default() -> None:
    """The keys and values of the file are those of the models, in their order."""
    document = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert list(_shipped_values(document)) == list(DEFAULTS.items())


def test_the_shipped_file_explains_every_key() -> None:
    """Above every key stands a comment that ends with its default."""
    stated = {leaf: comment.rpartition("Default: ")[2] for leaf, comment in COMMENTS.items()}
    assert {leaf: yaml.safe_load(text) for leaf, text in stated.items()} == DEFAULTS


def test_every_number_has_a_documented_range() -> None:
    """Each key with a number as default, and `workers`, has a range in the file."""
    numbers = {leaf for leaf, default in DEFAULTS.items() if type(default) is int}
    assert set(RANGES) == numbers | {("processes", "workers")}


def test_every_choice_is_documented() -> None:
    """Each key with a word or a flag as default has its choices in the file."""
    words = {
        leaf
        for leaf, default in DEFAULTS.items()
        if type(default) is bool or default in ("known", "any", "keep_first", "info", "full")
    }
    assert set(CHOICES) == words


def test_a_key_with_a_unit_says_which() -> None:
    """The unit in a key's name is the unit in its comment."""
    for leaf, comment in COMMENTS.items():
        for unit in ("seconds", "bytes"):
            assert leaf[-1].endswith(f"_{unit}") == (f"Unit: {unit}." in comment), leaf


@pytest.mark.parametrize("leaf", RANGES, ids=".".join)
def test_the_documented_range_is_the_enforced_one(leaf: Leaf) -> None:
    """The ends of a range are accepted; one less and one more are refused, saying the range."""
    lowest, highest = RANGES[leaf]
    for value in (lowest, highest):
        assert _value(load_settings(None, {_variable(leaf): str(value)}), leaf) == value
    for value in (lowest - 1, highest + 1):
        (fault,) = _faults(None, {_variable(leaf): str(value)})
        assert fault.endswith(f"a whole number from {lowest} to {highest}")


@pytest.mark.parametrize("leaf", CHOICES, ids=".".join)
def test_the_documented_choices_are_the_accepted_ones(leaf: Leaf) -> None:
    """Each documented choice is accepted, and a wrong one is answered with all of them."""
    for choice in CHOICES[leaf]:
        load_settings(None, {_variable(leaf): choice})
    (fault,) = _faults(None, {_variable(leaf): "neither"})
    assert re.split(r", | or ", fault.rpartition(": ")[2]) == CHOICES[leaf]


def _with_entry(more: str) -> dict[str, str]:
    """Return the variable that gives an entry of remote_aes further keys."""
    return {"PACSNODE_REMOTE_AES": f"[{{ae_title: A, host: h, port: 104, {more}}}]"}


def _remote_ae(more: str) -> RemoteAE:
    (remote,) = load_settings(None, _with_entry(more)).remote_aes
    return remote


def _with_example(tmp_path: Path, key: str) -> Path:
    """The shipped file with the example of a list, uncommented, in the place that it names."""
    text = SHIPPED.read_text(encoding="utf-8")
    example = re.search(rf"( *)# {key}:\n(?: *#   .*\n)+", text)
    assert example
    text = text.replace(example[0], re.sub(rf"(?m)^{example[1]}# ", example[1], example[0]))
    return _write(tmp_path, text.replace(f"{example[1]}{key}: []\n", ""))


def _remote_aes_of_the_example(folder: Path) -> tuple[RemoteAE, ...]:
    files = make_certificate(folder / "tls", "pacsnode")
    (folder / "tls" / "authorities.pem").write_bytes(files.certificate.read_bytes())
    return load_settings(_with_example(folder, "remote_aes"), {}).remote_aes


def test_the_commented_example_is_valid(tmp_path: Path) -> None:
    """The example of remote AEs loads, with the files that it names."""
    tls = tmp_path / "tls"
    assert _remote_aes_of_the_example(tmp_path) == (
        RemoteAE(
            "VIEWER",
            "viewer.example.org",
            104,
            calling_ae_title="PACSNODE",
            transfer_syntaxes=frozenset(
                {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70"}
            ),
            associations=2,
            connect_timeout_seconds=5,
            negotiation_timeout_seconds=20,
            dimse_timeout_seconds=120,
            tls=TlsFiles(tls / "authorities.pem", tls / "pacsnode.pem", tls / "pacsnode-key.pem"),
        ),
        RemoteAE("123", "2001:db8::17", 11112, transfer_syntaxes=UNCOMPRESSED),
    )


def _keys_of_the_example() -> dict[str, str]:
    """Return the keys of the first entry in the commented example, each with its comment."""
    keys: dict[str, str] = {}
    comment = ""
    for line in SHIPPED.read_text(encoding="utf-8").partition("# remote_aes:\n")[2].splitlines():
        if line.startswith("#   - ") and keys:
            return keys
        if match := re.match(r"#(?:   -|    ) +# (.*)", line):
            comment += match[1] + " "
        elif match := re.match(r"# +(?:- )?(\w+):", line):
            keys[match[1]] = comment.strip()
            comment = ""
    raise AssertionError("the example has one entry only")


def test_the_commented_example_has_every_key_of_an_entry() -> None:
    """The keys of its first entry are those of the models, in their order."""
    *keys, tls = RemoteAESection.model_fields
    assert tls == "tls"
    assert list(_keys_of_the_example()) == [*keys, tls, *TlsSection.model_fields]


def test_the_commented_example_explains_every_key_that_can_be_left_out() -> None:
    """Each has a comment that ends with its default, those with a unit say which."""
    comments = _keys_of_the_example()
    for key in ("ae_title", "host", "port"):
        assert comments.pop(key) == ""
    for key, comment in comments.items():
        assert re.search(r"Default: [^.]+(\.\w+)?$", comment), key
        assert key.endswith("_seconds") == ("Unit: seconds." in comment), key


@pytest.mark.parametrize(
    "key",
    [
        "associations",
        "connect_timeout_seconds",
        "negotiation_timeout_seconds",
        "dimse_timeout_seconds",
    ],
)
def test_the_documented_range_of_a_destination_is_the_enforced_one(key: str) -> None:
    """The ends of a range are accepted; one less and one more are refused, saying the range."""
    found = re.search(r"Range: (\d+) to (\d+)", _keys_of_the_example()[key])
    assert found
    lowest, highest = int(found[1]), int(found[2])
    for value in (lowest, highest):
        assert getattr(_remote_ae(f"{key}: {value}"), key) == value
    for value in (lowest - 1, highest + 1):
        (fault,) = _faults(None, _with_entry(f"{key}: {value}"))
        assert fault.endswith(f"a whole number from {lowest} to {highest}")


def test_the_commented_example_of_extra_keys_is_valid(tmp_path: Path) -> None:
    """It has a key by its keyword, one by its tag, and a private one."""
    keys = load_settings(_with_example(tmp_path, "extra_keys"), {}).catalog.extra_keys
    assert [(key.keyword, key.level, key.vr) for key in keys] == [
        ("KVP", Level.IMAGE, "DS"),
        ("ScanOptions", Level.SERIES, "CS"),
        ("(0019,xx0C) SIEMENS MR HEADER", Level.IMAGE, "IS"),
    ]


# Faults


@pytest.mark.parametrize("path", BAD_CONFIGS, ids=lambda path: path.stem)
def test_a_fault_is_reported_with_path_value_and_what_is_allowed(path: Path) -> None:
    """A faulty file gives exactly the message beside it."""
    expected = path.with_suffix(".expected").read_text(encoding="utf-8")
    assert _faults(path) == expected.replace("{file}", str(path)).splitlines()


def test_a_file_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    """The missing file is named; the defaults are not used instead."""
    path = tmp_path / "none.yaml"
    assert _faults(path) == [f"{path}: No such file or directory: a file that can be read"]


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """A folder given as file is named."""
    assert _faults(tmp_path) == [f"{tmp_path}: Is a directory: a file that can be read"]


def test_faults_are_records(tmp_path: Path) -> None:
    """The error has a record for each fault, in the order of its text."""
    with pytest.raises(ConfigError) as caught:
        load_settings(_write(tmp_path, "port: a\nlog: {level: b}\n"), {})
    assert caught.value.faults == (
        Fault("port", "a", "a whole number from 0 to 65535"),
        Fault("log.level", "b", "debug, info, warning or error"),
    )


def test_a_broken_file_does_not_hide_faults_of_variables(tmp_path: Path) -> None:
    """With a syntax error in the file, a faulty variable is reported, too."""
    faults = _faults(_write(tmp_path, "["), {"PACSNODE_PORT": "x"})
    assert [fault.partition(":")[0] for fault in faults] == [
        str(tmp_path / "pacsnode.yaml"),
        "PACSNODE_PORT",
    ]


# Variables of the environment


def test_a_variable_goes_before_the_file(tmp_path: Path) -> None:
    """What a variable sets replaces what the file sets, and only that."""
    path = _write(tmp_path, "port: 104\nlog:\n  level: debug\n")
    settings = load_settings(path, {"PACSNODE_PORT": "105", "HOME": "/", "PACSNODES": "x"})
    assert (settings.port, settings.log.level) == (105, "debug")


def test_a_nested_variable_leaves_its_section_alone(tmp_path: Path) -> None:
    """A variable of one key keeps the other keys that the file sets in that section."""
    path = _write(tmp_path, "query:\n  result_limit: 5\n")
    query = load_settings(path, {"PACSNODE_QUERY__MATCH_UNKNOWN": "true"}).query
    assert (query.match_unknown, query.result_limit) == (True, 5)


def test_a_variable_reaches_a_section_within_a_section(tmp_path: Path) -> None:
    """It keeps the keys that the file sets beside it, in the inner section and around it."""
    text = "query:\n  result_limit: 5\n  names:\n    ignores_accents: true\n"
    variables = {"PACSNODE_QUERY__NAMES__ANY_GROUP": "false"}
    query = load_settings(_write(tmp_path, text), variables).query
    assert query.result_limit == 5
    assert query.names == NameSettings(ignores_accents=True, any_group=False)
    assert load_settings(None, variables).query.names == NameSettings(any_group=False)


def test_a_section_within_a_section_may_be_empty(tmp_path: Path) -> None:
    """Where all its keys are commented out, its defaults are in force."""
    assert load_settings(_write(tmp_path, "query:\n  names:\n"), {}).query.names == NameSettings()


def test_a_variable_replaces_a_whole_list(tmp_path: Path) -> None:
    """A list in a variable is not joined with that of the file."""
    path = _write(tmp_path, "remote_aes: [{ae_title: A, host: a, port: 1}]\n")
    variables = {"PACSNODE_REMOTE_AES": "[{ae_title: B, host: b, port: 2}]"}
    assert load_settings(path, variables).remote_aes == (RemoteAE("B", "b", 2),)


def test_the_name_of_the_file_is_no_setting() -> None:
    """PACSNODE_CONFIG is let through."""
    load_settings(None, {"PACSNODE_CONFIG": "elsewhere.yaml"})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "PACSNODE_PROT",
            "104",
            "PACSNODE_PROT: 104: unknown variable; did you mean PACSNODE_PORT?",
        ),
        (
            "PACSNODE_QQQQ",
            "1",
            (
                "PACSNODE_QQQQ: 1: unknown variable; PACSNODE_ starts the names of settings, "
                "such as PACSNODE_PORT"
            ),
        ),
        (
            "PACSNODE_LOG_LEVEL",
            "debug",
            "PACSNODE_LOG_LEVEL: debug: unknown variable; did you mean PACSNODE_LOG__LEVEL?",
        ),
        ("PACSNODE_PORT", "x", "PACSNODE_PORT: x: a whole number from 0 to 65535"),
        ("PACSNODE_PORT", "", "PACSNODE_PORT: nothing: a whole number from 0 to 65535"),
        (
            "PACSNODE_LOG__LEVEL",
            "loud",
            "PACSNODE_LOG__LEVEL: loud: debug, info, warning or error",
        ),
        (
            "PACSNODE_REMOTE_AES",
            "[{ae_title: A, host: h, port: x}]",
            "PACSNODE_REMOTE_AES[0].port: x: a whole number from 1 to 65535",
        ),
        (
            "PACSNODE_REMOTE_AES",
            "[{ae_title: A",
            (
                "PACSNODE_REMOTE_AES: line 1, column 14: readable YAML "
                "(expected ',' or '}', but got '<stream end>')"
            ),
        ),
    ],
)
def test_a_fault_in_a_variable_names_the_variable(name: str, value: str, expected: str) -> None:
    """The path of a fault that a variable caused starts with its name."""
    assert _faults(None, {name: value}) == [expected]


def test_a_variable_does_not_hide_a_section_that_is_none(tmp_path: Path) -> None:
    """A file whose section is a list is at fault, though a variable sets a key of it."""
    path = _write(tmp_path, "log: []\n")
    assert _faults(path, {"PACSNODE_LOG__LEVEL": "info"}) == [
        "log: an empty list: keys with their values; the keys are level"
    ]


@pytest.mark.parametrize("text", ["query: 1\n", "query:\n  names: 1\n"])
def test_a_variable_does_not_hide_an_inner_section_that_is_none(tmp_path: Path, text: str) -> None:
    """The same within a section: one fault, where the file has it."""
    faults = _faults(_write(tmp_path, text), {"PACSNODE_QUERY__NAMES__ANY_GROUP": "false"})
    assert [fault.partition(": keys with their values")[0] for fault in faults] == [
        "query: 1" if text == "query: 1\n" else "query.names: 1"
    ]


# Settings


def test_without_file_and_variables_the_defaults_are_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded defaults lie in the current folder."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {})
    assert settings.source is None
    assert settings.storage.folder == tmp_path / "pacsnode-data/storage"
    assert settings.catalog.url == f"sqlite:///{tmp_path}/pacsnode-data/catalog.sqlite"


def test_relative_paths_start_in_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of the file, of variables and of defaults start where the file is, not where we are."""
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "etc", "storage:\n  folder: here\n")
    settings = load_settings(Path("etc/pacsnode.yaml"), {})
    assert settings.source == tmp_path / "etc/pacsnode.yaml"
    assert settings.storage.folder == tmp_path / "etc/here"
    assert settings.catalog.url == f"sqlite:///{tmp_path}/etc/pacsnode-data/catalog.sqlite"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    """An absolute folder and a URL with four slashes are taken as they are."""
    text = "storage:\n  folder: /srv/dicom\ncatalog:\n  url: sqlite:////srv/catalog.sqlite\n"
    settings = load_settings(_write(tmp_path, text), {})
    assert settings.storage.folder == Path("/srv/dicom")
    assert settings.catalog.url == "sqlite:////srv/catalog.sqlite"


def test_a_section_whose_keys_are_commented_out_keeps_its_defaults(tmp_path: Path) -> None:
    """A section with nothing in it is no fault."""
    path = _write(tmp_path, "log:\n  # level: debug\nport: 104\n")
    assert load_settings(path, {}).log.level == "info"


def test_titles_and_addresses_are_in_their_normal_form(tmp_path: Path) -> None:
    """Padding of a title is dropped and an IPv6 address is shortened (rule H-2)."""
    path = _write(tmp_path, 'ae_titles: [" A "]\nbind_addresses: ["0:0:0::1"]\n')
    settings = load_settings(path, {})
    assert (settings.ae_titles, settings.bind_addresses) == (("A",), ("::1",))


@pytest.mark.parametrize(
    "host", ["h", "a-b_c.example.org", "example.org.", "10.0.0.1", "fe80::1%eth0"]
)
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    """Names, IPv4 addresses and IPv6 addresses with a zone are accepted as hosts."""
    variables = {"PACSNODE_REMOTE_AES": f'[{{ae_title: A, host: "{host}", port: 104}}]'}
    assert load_settings(None, variables).remote_aes[0].host == host


def test_a_file_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    """A file saved as UTF-8 with a byte order mark is read."""
    path = tmp_path / "pacsnode.yaml"
    path.write_bytes(b"\xef\xbb\xbfport: 104\r\n")
    assert load_settings(path, {}).port == 104


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (3, 3), (4, 4), (64, 4)])
def test_auto_is_one_worker_for_each_core_and_at_most_four(
    monkeypatch: pytest.MonkeyPatch, cores: int, expected: int
) -> None:
    """`auto` counts the cores that this process may use, up to 4."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(cores)))
    assert load_settings(None, {}).worker_count == expected


def test_a_number_of_workers_is_taken_as_it_is() -> None:
    """A number set is not limited by the cores."""
    assert load_settings(None, {"PACSNODE_PROCESSES__WORKERS": "64"}).worker_count == 64


def test_settings_cannot_be_changed() -> None:
    """A setting in force is not assigned to."""
    settings = load_settings(None, {})
    with pytest.raises(ValidationError):
        settings.log.level = "debug"


def test_the_description_has_a_line_for_each_setting(tmp_path: Path) -> None:
    """Each key has one line with the value in force, in the order of the file."""
    path = _write(tmp_path, "remote_aes: [{ae_title: A, host: h, port: 104}]\n")
    lines = load_settings(path, {}).describe()
    assert [line.partition(": ")[0] for line in lines] == [".".join(leaf) for leaf in DEFAULTS]
    assert lines[:4] == [
        'ae_titles: ["PACSNODE"]',
        'bind_addresses: ["0.0.0.0", "::"]',
        "port: 11112",
        'remote_aes: [{"ae_title": "A", "host": "h", "port": 104}]',
    ]
    assert f"storage.folder: {tmp_path}/pacsnode-data/storage" in lines
    assert "query.match_unknown: false" in lines


@pytest.mark.parametrize(
    "tag", ["(0019,xx0C)", "(0019,XX0c)", "0019xx0C", "0019,100C", "(0019,FF0C)", "0019100c"]
)
def test_a_private_key_may_be_written_with_any_block(tag: str) -> None:
    """The creator says which block it is in an instance (PS3.5 7.8.1)."""
    entry = f'{{tag: "{tag}", private_creator: MADE UP, vr: IS, level: SERIES}}'
    settings = load_settings(None, {"PACSNODE_CATALOG__EXTRA_KEYS": f"[{entry}]"})
    (key,) = settings.catalog.extra_keys
    assert (key.tag, key.private_creator, key.vr) == (0x0019000C, "MADE UP", "IS")
    assert key.level is Level.SERIES
    assert Keys(settings.catalog.extra_keys).find(0x0019420C, "MADE UP") is key


@pytest.mark.parametrize(
    "entry", ["keyword: KVP", 'tag: "(0018,0060)"', 'tag: "00180060"', "keyword: KVP, vr: DS"]
)
def test_an_extra_key_is_named_by_its_keyword_or_its_tag(entry: str) -> None:
    """A VR is not needed where the data dictionary has it."""
    entries = f"[{{{entry}, level: IMAGE}}]"
    (key,) = load_settings(None, {"PACSNODE_CATALOG__EXTRA_KEYS": entries}).catalog.extra_keys
    assert (key.keyword, key.tag, key.vr) == ("KVP", 0x00180060, "DS")
    assert key.is_extra


def test_extra_keys_are_described_as_they_are_written() -> None:
    """Each says what it is named by."""
    private = '{"tag": "(0019,xx0C)", "private_creator": "MADE UP", "vr": "IS", "level": "IMAGE"}'
    entries = f'[{{"keyword": "KVP", "level": "SERIES"}}, {private}]'
    lines = load_settings(None, {"PACSNODE_CATALOG__EXTRA_KEYS": entries}).describe()
    assert f"catalog.extra_keys: {entries}" in lines


def test_a_fault_of_an_extra_key_in_a_variable_names_the_variable() -> None:
    """As with other lists."""
    assert _faults(None, {"PACSNODE_CATALOG__EXTRA_KEYS": "[{keyword: KVP, level: x}]"}) == [
        "PACSNODE_CATALOG__EXTRA_KEYS[0].level: x: PATIENT, STUDY, SERIES or IMAGE"
    ]


# Remote Application Entities


def test_a_destination_has_the_defaults_of_all(tmp_path: Path) -> None:
    """Where nothing else is said: any transfer syntax, one association, no TLS, times of all."""
    path = _write(tmp_path, "remote_aes: [{ae_title: A, host: h, port: 104}]\n")
    assert load_settings(path, {}).remote_aes == (RemoteAE("A", "h", 104),)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("any", None),
        ("uncompressed", UNCOMPRESSED),
        ("[1.2.840.10008.1.2.5]", frozenset({"1.2.840.10008.1.2.5"})),
    ],
)
def test_transfer_syntaxes_are_words_or_a_list(
    written: str, expected: frozenset[str] | None
) -> None:
    """A word stands for many, a list for what it says."""
    assert _remote_ae(f"transfer_syntaxes: {written}").transfer_syntaxes == expected


def test_a_calling_title_is_compared_in_its_normal_form() -> None:
    """Padding of our title does not count, and each of our titles is one (rule H-2)."""
    variables = {"PACSNODE_AE_TITLES": "[ONE, TWO]", **_with_entry('calling_ae_title: " TWO "')}
    assert load_settings(None, variables).remote_aes[0].calling_ae_title == "TWO"


def test_a_fault_within_an_entry_in_a_variable_names_the_variable() -> None:
    """As deep as it is."""
    assert _faults(None, _with_entry("tls: {ca: x}")) == [
        (
            "PACSNODE_REMOTE_AES[0].tls.ca: x: unknown key;"
            " known here: ca_file, certificate_file, key_file, checks_host_name"
        )
    ]


@pytest.mark.parametrize("tls", ["{}", ""])
def test_an_empty_section_of_tls_is_tls(tls: str) -> None:
    """Whoever writes `tls:` and nothing in it is not called in the clear (H-40)."""
    assert _remote_ae(f"tls: {tls}").tls == TlsFiles()


def test_files_of_tls_start_in_the_folder_of_the_file(tmp_path: Path) -> None:
    """Relative names do; a certificate may have its key in the same file."""
    files = make_certificate(tmp_path / "tls", "ours")
    both = files.certificate.read_text() + files.key.read_text()
    (tmp_path / "both.pem").write_text(both)
    text = "remote_aes: [{ae_title: A, host: h, port: 1, tls: {certificate_file: both.pem}}]\n"
    (remote,) = load_settings(_write(tmp_path, text), {}).remote_aes
    assert remote.tls == TlsFiles(certificate_file=tmp_path / "both.pem")


@pytest.mark.parametrize(
    ("key_file", "value", "reason"),
    [
        ("key_file: other-key.pem, ", "other-key.pem", "; this is that of another"),
        ("key_file: protected-key.pem, ", "protected-key.pem", "; this one has one"),
        ("key_file: other.pem, ", "other.pem", ""),
        ("", "missing", ""),
    ],
    ids=["of another", "protected", "no key", "missing"],
)
def test_a_key_that_is_not_that_of_the_certificate_is_a_fault(
    tmp_path: Path, key_file: str, value: str, reason: str
) -> None:
    """One of another certificate, one with a passphrase, something else, and none at all."""
    make_certificate(tmp_path, "ours")
    make_certificate(tmp_path, "other")
    make_certificate(tmp_path, "protected", passphrase=PASSPHRASE)
    certificate = "protected.pem" if "protected" in key_file else "ours.pem"
    tls = f"{{{key_file}certificate_file: {certificate}}}"
    path = _write(tmp_path, f"remote_aes: [{{ae_title: A, host: h, port: 1, tls: {tls}}}]\n")
    assert _faults(path) == [
        (
            f"remote_aes[0].tls.key_file: {value}: the private key of certificate_file in PEM,"
            f" without a passphrase{reason}"
        )
    ]


@pytest.mark.parametrize("key", ["ca_file", "certificate_file"])
def test_a_file_of_tls_that_cannot_be_read_is_a_fault(tmp_path: Path, key: str) -> None:
    """A folder cannot; the reason is the system's."""
    path = _write(tmp_path, f"remote_aes: [{{ae_title: A, host: h, port: 1, tls: {{{key}: .}}}}]\n")
    assert _faults(path) == [
        f"remote_aes[0].tls.{key}: .: a file that can be read (Is a directory)"
    ]


def test_destinations_are_described_as_they_are_written(tmp_path: Path) -> None:
    """What keeps its default is left out; paths are absolute."""
    files = make_certificate(tmp_path, "ours")
    more = (
        '"associations": 3, "dimse_timeout_seconds": 7, "transfer_syntaxes": "uncompressed", '
        f'"tls": {{"ca_file": "{files.certificate}", "checks_host_name": false}}'
    )
    lines = load_settings(None, _with_entry(more)).describe()
    (line,) = (line for line in lines if line.startswith("remote_aes: "))
    (shown,) = yaml.safe_load(line.removeprefix("remote_aes: "))
    assert shown == {"ae_title": "A", "host": "h", "port": 104, **yaml.safe_load(f"{{{more}}}")}
