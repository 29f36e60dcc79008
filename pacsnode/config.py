"""Configuration: a YAML file and environment variables become frozen Settings.

How it works: config_document.py reads the file and puts the variables of the environment over it,
pydantic checks the whole, and what it finds is said in the administrator's words. Every fault is
collected, so that one run shows them all.
"""

import dataclasses
import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

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
from pydantic_core import core_schema
from pydicom.datadict import tag_for_keyword

from pacsnode.config_document import (
    Document,
    Fault,
    NotTextError,
    NotWholeError,
    leaves_of,
    show_path,
)
from pacsnode.dicom.ae import RemoteAE, check_ae_title
from pacsnode.dicom.attributes import MATCHED_VRS, Attribute, ExtraKeyError, extra_key
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.uid import is_valid_uid

_SQLITE_SCHEME = "sqlite:///"
_MOST_AUTOMATIC_WORKERS = 4
_MOST_WORKERS = 64


class ConfigError(Exception):
    """The configuration cannot be used; its text has one line for each fault.

    Attributes:
        faults: every fault found, at least one.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


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
            raise NotWholeError(f"a whole number from {lowest} to {highest}")
        return value

    return BeforeValidator(check)


def _text(check: Callable[[str], str], allowed: str) -> BeforeValidator:
    def check_type_first(value: object) -> str:
        if not isinstance(value, str):
            raise NotTextError(allowed)
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


def _check_vr(vr: str) -> str:
    if vr and vr not in MATCHED_VRS:
        raise ValueError(_VR)
    return vr


def _check_private_creator(name: str) -> str:
    if len(name) > 64 or "\\" in name or name != name.strip() or not name.isprintable():  # noqa: PLR2004 - VR LO
        raise ValueError(_PRIVATE_CREATOR)
    return name


def _check_tag(text: str) -> str:
    if text and _tag_of(text) is None:
        raise ValueError(_TAG)
    return text


def _tag_of(text: str) -> int | None:
    """Return the number of a tag, of a private one with block 00; None if it is none."""
    match = re.fullmatch(r"\(?([0-9A-F]{4}),?([0-9A-F]{2}|XX)([0-9A-F]{2})\)?", text.upper())
    if match is None:
        return None
    group, block, element = match.groups()
    is_private = int(group, 16) % 2 == 1
    if is_private and block < "10":  # PS3.5 7.8.1: no block of private Attributes
        return None
    if is_private:
        block = "00"
    return None if block == "XX" else int(group + block + element, 16)


def _check_keyword(keyword: str) -> str:
    if keyword and tag_for_keyword(keyword) is None:
        raise ValueError(_KEYWORD)
    return keyword


def _check_tag_as_key(tag: str, validation: ValidationInfo) -> str:
    if tag:
        _check_extra_key({**validation.data, "tag": tag, "keyword": ""}, validation)
    return tag


def _check_as_key(keyword: str, validation: ValidationInfo) -> str:
    tag = validation.data.get("tag")
    if tag is None:  # it is at fault itself
        return keyword
    if bool(keyword) == bool(tag):
        raise ValueError("one of the two, tag or keyword")
    if keyword:
        _check_extra_key({**validation.data, "keyword": keyword}, validation)
    return keyword


def _check_extra_key(entry: Mapping[str, str], validation: ValidationInfo) -> None:
    """Refuse an entry of `catalog.extra_keys` that is none, or is listed twice."""
    if not {"level", "vr", "private_creator"} <= entry.keys():
        return  # they are at fault themselves
    name = _extra_key(entry).name
    seen = _Reading.of(validation).seen
    if ("extra key", name) in seen:
        raise ValueError("an Attribute that is not listed twice")
    seen.add(("extra key", name))


def _extra_key(entry: Mapping[str, str]) -> Attribute:
    """Return the Attribute of an entry of `catalog.extra_keys` whose fields are sound.

    Raises:
        ExtraKeyError: it can be no key.
    """
    tag = tag_for_keyword(entry["keyword"]) if entry["keyword"] else _tag_of(entry["tag"])
    if tag is None:
        raise ExtraKeyError(_TAG)
    return extra_key(
        Level[entry["level"]],
        tag=tag,
        vr=entry["vr"] or None,
        private_creator=entry["private_creator"],
    )


def _show_extra_key(attribute: Attribute) -> dict[str, str]:
    """Return an extra key as an entry of `catalog.extra_keys`."""
    if not attribute.private_creator:
        return {"keyword": attribute.keyword, "level": attribute.level.name}
    return {
        "tag": attribute.keyword.partition(" ")[0],
        "private_creator": attribute.private_creator,
        "vr": attribute.vr,
        "level": attribute.level.name,
    }


def _check_folder(value: object, validation: ValidationInfo) -> Path:
    if not isinstance(value, str | Path):
        raise NotTextError(_FOLDER)
    if not str(value) or "\0" in str(value) or str(value).startswith("~"):
        raise ValueError(_FOLDER)
    reading = _Reading.of(validation)
    reading.storage_folder = reading.folder / value
    return reading.storage_folder


def _check_catalog_url(value: object, validation: ValidationInfo) -> str:
    if not isinstance(value, str):
        raise NotTextError(_CATALOG_URL)
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
    raise NotWholeError(f"auto, or a whole number from 1 to {_MOST_WORKERS}")


_AE_TITLE = "an AE title: 1 to 16 printable ASCII characters, no backslash"
_ADDRESS = "an IPv4 or IPv6 address, such as 0.0.0.0 or ::"
_HOST = "a host name, an IPv4 or an IPv6 address, without a port"
_UID = "a UID: digits and single dots between them, at most 64 characters"
_FOLDER = "a folder, absolute or relative; ~ is not replaced"
_CATALOG_URL = (
    "sqlite:///FILE with a relative or absolute (four slashes) file name, without ? and #"
)

_VR = "a VR whose values can be matched: " + " ".join(sorted(MATCHED_VRS))
_PRIVATE_CREATOR = (
    "1 to 64 printable characters without backslash, and without spaces at the start and the end"
)
_TAG = 'a tag, such as "(0018,0022)" or "(0019,xx0C)" for a private one'
_KEYWORD = "a keyword of the data dictionary (PS3.6), such as KVP"

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
    maximum_instance_bytes: Annotated[int, _whole_number(0, 2**50)] = 17_179_869_184
    on_duplicate: Literal["keep_first", "reject"] = "keep_first"
    additional_sop_classes: tuple[Annotated[str, _text(_check_uid, _UID)], ...] = ()


class _ExtraKeySection(_Section):
    """One entry of `catalog.extra_keys`: first what the check of its tag or keyword needs."""

    level: Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]
    vr: Annotated[str, _text(_check_vr, _VR)] = ""
    private_creator: Annotated[str, _text(_check_private_creator, _PRIVATE_CREATOR)] = ""
    tag: Annotated[str, _text(_check_tag, _TAG), AfterValidator(_check_tag_as_key)] = ""
    keyword: Annotated[str, _text(_check_keyword, _KEYWORD), AfterValidator(_check_as_key)] = ""

    def as_attribute(self) -> Attribute:
        return _extra_key(self.model_dump())


_ExtraKey = Annotated[
    Attribute,
    GetPydanticSchema(
        lambda _source, handler: core_schema.no_info_after_validator_function(
            _ExtraKeySection.as_attribute,
            handler(_ExtraKeySection),
            serialization=core_schema.plain_serializer_function_ser_schema(_show_extra_key),
        )
    ),
]


class CatalogSettings(_Section):
    """Where the catalog is kept. The URL holds an absolute file name, not percent-encoded."""

    url: Annotated[str, BeforeValidator(_check_catalog_url)] = (
        "sqlite:///pacsnode-data/catalog.sqlite"
    )
    busy_timeout_seconds: _Seconds = 60
    extra_keys: tuple[_ExtraKey, ...] = ()


class NameSettings(_Section):
    """What person names are matched by."""

    family_name_alone: bool = False
    ignores_accents: bool = False
    any_group: bool = True


class QuerySettings(_Section):
    """How queries are answered."""

    match_unknown: bool = False
    result_limit: Annotated[int, _whole_number(0, 1_000_000_000)] = 0
    relational_lenient: bool = False
    offer_patient_study_only: bool = False
    names: NameSettings = Field(default_factory=NameSettings)


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
    durability: Literal["full", "file", "none"] = "full"
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
        return [f"{show_path(leaf)}: {self._show_value(leaf)}" for leaf in leaves_of(Settings)]

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
    document = Document(
        Settings,
        {("remote_aes",): _RemoteAESection, ("catalog", "extra_keys"): _ExtraKeySection},
    )
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
