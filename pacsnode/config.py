"""Configuration: a YAML file and environment variables become frozen Settings.

How it works: the YAML text is read as a tree of nodes, not as plain values, so that a fault can
quote what the administrator wrote and a key given twice is seen. Variables of the environment are
put over the file, pydantic checks the whole, and what it finds is said in the administrator's
words. Every fault is collected, so that one run shows them all.
"""

import dataclasses
import difflib
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, core_schema

from pacsnode.dicom.ae import RemoteAE, check_ae_title
from pacsnode.dicom.uid import is_valid_uid

_PREFIX = "PACSNODE_"
_NOT_A_SETTING = "PACSNODE_CONFIG"  # names the file; read by the command line
_SQLITE_SCHEME = "sqlite:///"
_MOST_AUTOMATIC_WORKERS = 4
_MOST_WORKERS = 64
_LONGEST_VALUE_SHOWN = 60

_TAG = "tag:yaml.org,2002:"
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_READ_AS = {
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "timestamp": "a date",
    "null": "nothing",
}

_ALLOWED = {
    "bool_type": "true or false",
    "tuple_type": "a list, such as [A, B]",
}

_Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in the configuration.

    Attributes:
        path: where: a YAML path such as `remote_aes[1].port`, the name of a variable of the
            environment, or the name of the file if the fault is in the file as a whole.
        value: what stands there, as it is written; at most 60 characters, printable.
        allowed: what is allowed there.
    """

    path: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.path}: {self.value}: {self.allowed}"


class ConfigError(Exception):
    """The configuration cannot be used; its text has one line for each fault.

    Attributes:
        faults: every fault found, at least one.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class _Mark(Protocol):
    """A place in a YAML text, counted from 0."""

    line: int
    column: int


class _NotTextError(ValueError):
    """A text was wanted; YAML may have read one as something else."""


class _NotWholeError(ValueError):
    """A whole number was wanted."""


@dataclass(slots=True)
class _Reading:
    """What the checks of one reading share: where paths start, and what was seen before."""

    source: Path | None
    folder: Path
    storage_folder: Path | None = None
    seen: set[tuple[str, str]] = dataclasses.field(default_factory=set)

    @classmethod
    def of(cls, validation: ValidationInfo) -> "_Reading":
        """Return the reading under way; a model made without one starts in the current folder."""
        context: object = validation.context
        return context if isinstance(context, _Reading) else cls(None, Path.cwd())


def _whole_number(lowest: int, highest: int) -> BeforeValidator:
    def check(value: object) -> object:
        if type(value) is not int or not lowest <= value <= highest:
            raise _NotWholeError(f"a whole number from {lowest} to {highest}")
        return value

    return BeforeValidator(check)


def _text(check: Callable[[str], str], allowed: str) -> BeforeValidator:
    def check_type_first(value: object) -> str:
        if not isinstance(value, str):
            raise _NotTextError(allowed)
        return check(value)

    return BeforeValidator(check_type_first)


def _only_once(allowed: str) -> AfterValidator:
    def check(value: str, validation: ValidationInfo) -> str:
        seen = _Reading.of(validation).seen
        if (allowed, value) in seen:
            raise ValueError(allowed)
        seen.add((allowed, value))
        return value

    return AfterValidator(check)


def _check_uid(uid: str) -> str:
    if not is_valid_uid(uid):
        raise ValueError(_UID)
    return uid


def _check_address(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        raise ValueError(_ADDRESS) from None


def _check_host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        labels = host.removesuffix(".").split(".")
        is_name = all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels)
        if not is_name or len(host) > 253 or labels[-1].isdecimal():  # noqa: PLR2004 - RFC 1035
            raise ValueError(_HOST) from None
        return host


def _check_folder(value: object, validation: ValidationInfo) -> Path:
    if not isinstance(value, str | Path):
        raise _NotTextError(_FOLDER)
    if not str(value) or "\0" in str(value) or str(value).startswith("~"):
        raise ValueError(_FOLDER)
    reading = _Reading.of(validation)
    reading.storage_folder = reading.folder / value
    return reading.storage_folder


def _check_catalog_url(value: object, validation: ValidationInfo) -> str:
    if not isinstance(value, str):
        raise _NotTextError(_CATALOG_URL)
    name = value.removeprefix(_SQLITE_SCHEME)
    if name == value or not name or name.endswith("/") or re.search(r"[?#\0]|^[:~]", name):
        raise ValueError(_CATALOG_URL)
    reading = _Reading.of(validation)
    catalog, storage = reading.folder / name, reading.storage_folder
    if storage and _is_one_inside_the_other(catalog, storage):
        # Whoever tidies, copies or counts the stored files must not meet the catalog among them.
        raise ValueError("a file outside of storage.folder")
    return f"{_SQLITE_SCHEME}{catalog}"


def _is_one_inside_the_other(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one.is_relative_to(other) or other.is_relative_to(one)


def _check_not_empty(value: object) -> object:
    # Not pydantic's min_length: that counts the valid entries only.
    if value == ():
        raise ValueError("a list with at least one entry")
    return value


def _check_workers(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= _MOST_WORKERS):
        return value
    raise _NotWholeError(f"auto, or a whole number from 1 to {_MOST_WORKERS}")


_AE_TITLE = "an AE title: 1 to 16 printable ASCII characters, no backslash"
_ADDRESS = "an IPv4 or IPv6 address, such as 0.0.0.0 or ::"
_HOST = "a host name, an IPv4 or an IPv6 address, without a port"
_UID = "a UID: digits and single dots between them, at most 64 characters"
_FOLDER = "a folder, absolute or relative; ~ is not replaced"
_CATALOG_URL = (
    "sqlite:///FILE with a relative or absolute (four slashes) file name, without ? and #"
)

_BindAddress = Annotated[
    str, _text(_check_address, _ADDRESS), _only_once("an address that is not listed twice")
]
_BindAddresses = Annotated[tuple[_BindAddress, ...], BeforeValidator(_check_not_empty)]
_LocalTitle = Annotated[
    str, _text(check_ae_title, _AE_TITLE), _only_once("an AE title that is not listed twice")
]
_LocalTitles = Annotated[tuple[_LocalTitle, ...], BeforeValidator(_check_not_empty)]
_RemoteTitle = Annotated[
    str, _text(check_ae_title, _AE_TITLE), _only_once("an AE title that no other remote AE has")
]
_Seconds = Annotated[int, _whole_number(1, 86_400)]


class _Section(BaseModel):
    """Keys and their values: unknown keys are refused, types are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _accept_nothing(cls, value: object) -> object:
        """Take a section whose keys are all commented out as one that keeps its defaults."""
        return {} if value is None else value


class _RemoteAESection(_Section):
    """One entry of `remote_aes`."""

    ae_title: _RemoteTitle
    host: Annotated[str, _text(_check_host, _HOST)]
    port: Annotated[int, _whole_number(1, 65_535)]

    def as_remote_ae(self) -> RemoteAE:
        return RemoteAE(self.ae_title, self.host, self.port)


_RemoteAE = Annotated[
    RemoteAE,
    GetPydanticSchema(
        lambda _source, handler: core_schema.no_info_after_validator_function(
            _RemoteAESection.as_remote_ae,
            handler(_RemoteAESection),
            serialization=core_schema.plain_serializer_function_ser_schema(dataclasses.asdict),
        )
    ),
]


class AssociationSettings(_Section):
    """Whom we talk to, and the limits of an association."""

    called_ae_title: Literal["known", "any"] = "known"
    calling_ae_title: Literal["any", "known"] = "any"
    maximum_associations: Annotated[int, _whole_number(1, 10_000)] = 100
    maximum_pdu_length_bytes: Annotated[int, _whole_number(4_096, 1_048_576)] = 131_072
    negotiation_timeout_seconds: _Seconds = 30
    dimse_timeout_seconds: _Seconds = 60
    idle_timeout_seconds: _Seconds = 300
    connect_timeout_seconds: _Seconds = 10


class StorageSettings(_Section):
    """Where SOP Instances are kept, and which are accepted. The folder is absolute."""

    folder: Annotated[Path, BeforeValidator(_check_folder)] = Path("pacsnode-data/storage")
    reserve_bytes: Annotated[int, _whole_number(0, 1_099_511_627_776)] = 268_435_456
    on_duplicate: Literal["keep_first", "reject"] = "keep_first"
    additional_sop_classes: tuple[Annotated[str, _text(_check_uid, _UID)], ...] = ()


class CatalogSettings(_Section):
    """Where the catalog is kept. The URL holds an absolute file name, not percent-encoded."""

    url: Annotated[str, BeforeValidator(_check_catalog_url)] = (
        "sqlite:///pacsnode-data/catalog.sqlite"
    )
    busy_timeout_seconds: _Seconds = 60


class QuerySettings(_Section):
    """How queries are answered."""

    match_unknown: bool = False
    result_limit: Annotated[int, _whole_number(0, 1_000_000_000)] = 0


class ProcessesSettings(_Section):
    """The worker processes and how long they may take."""

    workers: Annotated[int | Literal["auto"], BeforeValidator(_check_workers)] = "auto"
    start_timeout_seconds: _Seconds = 30
    drain_timeout_seconds: Annotated[int, _whole_number(0, 86_400)] = 30
    heartbeat_timeout_seconds: Annotated[int, _whole_number(5, 86_400)] = 60


class LogSettings(_Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(_Section):
    """The configuration in force; made by `load_settings`. `config/pacsnode.yaml` describes it.

    AE titles are in their normal form, addresses in their shortest, and all paths are absolute.
    """

    ae_titles: _LocalTitles = ("PACSNODE",)
    bind_addresses: _BindAddresses = ("0.0.0.0", "::")  # noqa: S104 - an archive is to be reached
    port: Annotated[int, _whole_number(0, 65_535)] = 11_112
    remote_aes: tuple[_RemoteAE, ...] = ()
    association: AssociationSettings = Field(default_factory=AssociationSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)  # before catalog: see there
    catalog: CatalogSettings = Field(default_factory=CatalogSettings)
    query: QuerySettings = Field(default_factory=QuerySettings)
    processes: ProcessesSettings = Field(default_factory=ProcessesSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    _source: Path | None = PrivateAttr(default=None)

    def model_post_init(self, context: object, /) -> None:
        """Remember which file the settings came from."""
        if isinstance(context, _Reading):
            self._source = context.source

    @property
    def source(self) -> Path | None:
        """The file that was read, as an absolute path; None if there was none."""
        return self._source

    @property
    def worker_count(self) -> int:
        """How many worker processes to run: as set, or one for each usable core, at most 4."""
        if self.processes.workers == "auto":
            return min(_MOST_AUTOMATIC_WORKERS, len(os.sched_getaffinity(0)))
        return self.processes.workers

    def describe(self) -> list[str]:
        """Return one line `path: value` for each setting in force, in the order of the file."""
        return [f"{_show_path(leaf)}: {self._show_value(leaf)}" for leaf in _leaves(Settings)]

    def _show_value(self, leaf: tuple[str, ...]) -> str:
        """Return a value as YAML on one line; a text as it is."""
        value: object = self.model_dump(mode="json")
        for key in leaf:
            value = value[key] if isinstance(value, dict) else value
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Return the settings of a YAML file, with the environment's variables over them.

    Relative paths, those in variables too, start in the folder of the file; without a file, in
    the current folder.

    Args:
        path: the file; None for the defaults.
        environment: variables such as PACSNODE_PORT and PACSNODE_STORAGE__FOLDER; their values
            are read as YAML. Every other variable whose name starts with PACSNODE_ is a fault,
            but PACSNODE_CONFIG.

    Raises:
        ConfigError: something is wrong; it lists every fault.
    """
    source = path.absolute() if path else None
    document = _Document()
    if source:
        document.add_file(source)
    document.add_environment(environment)
    reading = _Reading(source, source.parent if source else Path.cwd())
    try:
        settings = Settings.model_validate(document.values, context=reading)
    except ValidationError as error:
        document.add_errors(error.errors(include_url=False))
    else:
        if not document.faults:
            return settings
    raise ConfigError(tuple(document.faults))


class _Document:
    """The values read so far, how each of them is written, and the faults found."""

    def __init__(self) -> None:
        # Every section is there, so that its defaults, too, are checked in this reading.
        self.values: dict[str, object] = {leaf[0]: None for leaf in _leaves(Settings) if leaf[1:]}
        self.faults: list[Fault] = []
        self._nodes: dict[_Location, yaml.Node] = {}
        self._variables: dict[_Location, str] = {}  # the settings that come from a variable

    def add_file(self, path: Path) -> None:
        """Read the file's settings."""
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            self._add(str(path), error.strerror or "unreadable", "a file that can be read")
            return
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._add(str(path), f"line {line}", "text in UTF-8")
            return
        node = self._compose(text, str(path))
        if isinstance(node, yaml.MappingNode):
            self.values |= self._read_mapping(node, ())
        elif node:
            self._add(str(path), _show_node(node), "settings, each as `key: value`")

    def add_environment(self, environment: Mapping[str, str]) -> None:
        """Put the variables of the environment over what was read."""
        leaves = {_PREFIX + "__".join(leaf).upper(): leaf for leaf in _leaves(Settings)}
        for name in sorted(environment):
            if name not in leaves:
                if name.startswith(_PREFIX) and name != _NOT_A_SETTING:
                    self._add(name, environment[name], _suggest_variable(name, leaves))
                continue
            node = self._compose(environment[name], name)
            if node:
                self._variables[leaves[name]] = name
                self._put(leaves[name], self._read(node, leaves[name]))

    def add_errors(self, errors: list[ErrorDetails]) -> None:
        """Add what pydantic found."""
        for error in errors:
            location = error["loc"]
            node = None if error["type"] == "missing" else self._nodes.get(location)
            self._add(self._show_location(location), _show_node(node), _allowed(error, node))

    def _add(self, path: str, value: str, allowed: str) -> None:
        shown = _printable(value)
        if len(shown) > _LONGEST_VALUE_SHOWN:
            shown = shown[: _LONGEST_VALUE_SHOWN - 3] + "..."
        self.faults.append(Fault(_printable(path), shown, allowed))

    def _compose(self, text: str, source: str) -> yaml.Node | None:
        """Return the tree of a YAML text; None if it is faulty, which is then noted."""
        try:
            events = yaml.parse(text, Loader=yaml.SafeLoader)
            alias = next((event for event in events if isinstance(event, yaml.AliasEvent)), None)
            if alias:  # no setting needs them, and nested ones grow beyond any size
                problem = "found an alias; a text that starts with * is put in quotes"
                self._add(source, _show_mark(alias.start_mark), f"readable YAML ({problem})")
                return None
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            self._add(source, f"character {error.position + 1}", "no control characters")
            return None
        except yaml.MarkedYAMLError as error:
            problem = error.problem or "cannot be understood"
            if "'\\t'" in problem:
                problem = "found a tab; YAML is indented with spaces"
            self._add(source, _show_mark(error.problem_mark), f"readable YAML ({problem})")
            return None
        return node or yaml.ScalarNode(f"{_TAG}null", "")

    def _read(self, node: yaml.Node, location: _Location) -> object:
        self._nodes[location] = node
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._read(item, (*location, i)) for i, item in enumerate(node.value))
        return _read_scalar(node)

    def _read_mapping(self, mapping: yaml.MappingNode, location: _Location) -> dict[str, object]:
        values: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key_node, node in mapping.value:
            key, line = _show_node(key_node), key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else key
            path = (*location, key)
            if key in values:
                twice = f"in line {lines[key]} and again in line {line}"
                self._add(self._show_location(path), twice, "each key once")
                continue
            values[key], lines[key] = self._read(node, path), line
        return values

    def _put(self, leaf: _Location, value: object) -> None:
        section: object = self.values
        for name in leaf[:-1]:
            if self.values[str(name)] is None:
                self.values[str(name)] = {}
            section = self.values[str(name)]
        if isinstance(section, dict):  # else the file is at fault there, and is told so
            section[leaf[-1]] = value

    def _show_location(self, location: _Location) -> str:
        for leaf, variable in self._variables.items():
            if location[: len(leaf)] == leaf:
                return variable + _show_path(location[len(leaf) :])
        return _show_path(location)


def _read_scalar(node: yaml.Node) -> object:
    """Return the value that YAML means, or an object that no setting accepts.

    Numbers are taken only as they are said: YAML reads 0104 as 68 and 10:30 as 630.
    """
    match node.tag.removeprefix(_TAG):
        case "str":
            return node.value
        case "null":
            return None
        case "bool":
            return yaml.SafeLoader.bool_values.get(node.value.lower())
        case "int" if _PLAIN_NUMBER.fullmatch(node.value):
            return int(node.value)
        case _:
            return object()


def _allowed(error: ErrorDetails, node: yaml.Node | None) -> str:
    """Say in the administrator's words what is allowed where pydantic found an error."""
    location, context = error["loc"], error.get("ctx", {})
    match error["type"]:
        case "value_error":
            reason: object = context["error"]
            allowed = f"{reason}{_hint(reason, node)}"
        case "extra_forbidden":
            allowed = _suggest_key(location)
        case "missing":
            allowed = _say_keys(location[:-1])
        case "model_type":
            allowed = _say_keys(location)
        case "literal_error":
            allowed = str(context["expected"]).replace("'", "")
        case other:
            allowed = _ALLOWED.get(other, error["msg"])
    return allowed


def _say_keys(section: _Location) -> str:
    return "keys with their values; the keys are " + ", ".join(_section_at(section).model_fields)


def _hint(reason: object, node: yaml.Node | None) -> str:
    """Say how to write what was probably meant, where YAML reads it as something else."""
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        return ""
    read_as = _READ_AS.get(node.tag.removeprefix(_TAG))
    if isinstance(reason, _NotTextError) and read_as:
        return f"; YAML reads this as {read_as}: put it in quotes"
    if isinstance(reason, _NotWholeError) and node.style and _PLAIN_NUMBER.fullmatch(node.value):
        return ", without quotes"
    if isinstance(reason, _NotWholeError) and read_as == _READ_AS["int"]:
        return "" if _PLAIN_NUMBER.fullmatch(node.value) else ", in digits, without leading zero"
    return ""


def _suggest_key(location: _Location) -> str:
    key, known = str(location[-1]), list(_section_at(location[:-1]).model_fields)
    elsewhere = [_show_path(leaf) for leaf in _leaves(Settings) if leaf[-1] == key]
    if near := difflib.get_close_matches(key.lower(), known, n=1) or elsewhere:
        return f"unknown key; did you mean {near[0]}?"
    return "unknown key; known here: " + ", ".join(known)


def _suggest_variable(name: str, known: Iterable[str]) -> str:
    keys = [each.removeprefix(_PREFIX) for each in known]  # the prefix is like enough to anything
    if near := difflib.get_close_matches(name.removeprefix(_PREFIX).upper(), keys, n=1):
        return f"unknown variable; did you mean {_PREFIX}{near[0]}?"
    return f"unknown variable; {_PREFIX} starts the names of settings, such as {_PREFIX}PORT"


def _leaves(section: type[_Section]) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key that is not a section, in the order of the file."""
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, _Section):
            yield from ((name, *leaf) for leaf in _leaves(info.annotation))
        else:
            yield (name,)


def _section_at(location: _Location) -> type[_Section]:
    """Return the section at a location: the whole, one of its sections, or a list's entry."""
    if not location:
        return Settings
    annotation = Settings.model_fields[str(location[0])].annotation
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        return annotation
    return _RemoteAESection  # the one list whose entries have keys


def _show_path(location: _Location) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def _show_mark(mark: _Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"


def _show_node(node: yaml.Node | None) -> str:
    """Return a scalar as it is written, or say what there is instead."""
    if node is None:
        return "missing"
    if not isinstance(node, yaml.ScalarNode):
        kind = "list" if isinstance(node, yaml.SequenceNode) else "mapping"
        return f"a {kind}" if node.value else f"an empty {kind}"
    return f'"{node.value}"' if node.style else node.value or "nothing"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
