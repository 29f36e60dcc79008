"""Configuration: a YAML file and environment variables become frozen Settings.

How it works: config_document.py reads the file and puts the variables of the environment over it,
pydantic checks the whole, and what it finds is said in the administrator's words. Every fault is
collected, so that one run shows them all.
"""

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
)

from pacsnode.config_checks import (
    AE_TITLE,
    NotTextError,
    NotWholeError,
    Reading,
    Seconds,
    Section,
    Uid,
    check_not_empty,
    only_once,
    text,
    whole_number,
)
from pacsnode.config_document import Document, Fault, leaves_of, show_path
from pacsnode.config_extra_keys import ExtraKey, ExtraKeySection
from pacsnode.config_remote_aes import RemoteAEEntry, RemoteAESection, TlsSection
from pacsnode.dicom.ae import check_ae_title

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


def _check_address(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        raise ValueError(_ADDRESS) from None


def _note_ae_titles(titles: tuple[str, ...], validation: ValidationInfo) -> tuple[str, ...]:
    Reading.of(validation).ae_titles = titles
    return titles


def _check_folder(value: object, validation: ValidationInfo) -> Path:
    if not isinstance(value, str | Path):
        raise NotTextError(_FOLDER)
    if not str(value) or "\0" in str(value) or str(value).startswith("~"):
        raise ValueError(_FOLDER)
    reading = Reading.of(validation)
    reading.storage_folder = reading.folder / value
    return reading.storage_folder


def _check_catalog_url(value: object, validation: ValidationInfo) -> str:
    if not isinstance(value, str):
        raise NotTextError(_CATALOG_URL)
    name = value.removeprefix(_SQLITE_SCHEME)
    if name == value or not name or name.endswith("/") or re.search(r"[?#\0]|^[:~]", name):
        raise ValueError(_CATALOG_URL)
    reading = Reading.of(validation)
    catalog, storage = reading.folder / name, reading.storage_folder
    if storage and _is_one_inside_the_other(catalog, storage):
        # Whoever tidies, copies or counts the stored files must not meet the catalog among them.
        raise ValueError("a file outside of storage.folder")
    return f"{_SQLITE_SCHEME}{catalog}"


def _is_one_inside_the_other(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one.is_relative_to(other) or other.is_relative_to(one)


def _check_workers(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= _MOST_WORKERS):
        return value
    raise NotWholeError(f"auto, or a whole number from 1 to {_MOST_WORKERS}")


_ADDRESS = "an IPv4 or IPv6 address, such as 0.0.0.0 or ::"
_FOLDER = "a folder, absolute or relative; ~ is not replaced"
_CATALOG_URL = (
    "sqlite:///FILE with a relative or absolute (four slashes) file name, without ? and #"
)

_BindAddress = Annotated[
    str, text(_check_address, _ADDRESS), only_once("an address that is not listed twice")
]
_BindAddresses = Annotated[tuple[_BindAddress, ...], BeforeValidator(check_not_empty)]
_LocalTitle = Annotated[
    str, text(check_ae_title, AE_TITLE), only_once("an AE title that is not listed twice")
]
_LocalTitles = Annotated[
    tuple[_LocalTitle, ...], BeforeValidator(check_not_empty), AfterValidator(_note_ae_titles)
]


class AssociationSettings(Section):
    """Whom we talk to, and the limits of an association."""

    called_ae_title: Literal["known", "any"] = "known"
    calling_ae_title: Literal["any", "known"] = "any"
    maximum_associations: Annotated[int, whole_number(1, 10_000)] = 100
    maximum_pdu_length_bytes: Annotated[int, whole_number(4_096, 1_048_576)] = 131_072
    negotiation_timeout_seconds: Seconds = 30
    dimse_timeout_seconds: Seconds = 60
    idle_timeout_seconds: Seconds = 300
    connect_timeout_seconds: Seconds = 10


class StorageSettings(Section):
    """Where SOP Instances are kept, and which are accepted. The folder is absolute."""

    folder: Annotated[Path, BeforeValidator(_check_folder)] = Path("pacsnode-data/storage")
    reserve_bytes: Annotated[int, whole_number(0, 1_099_511_627_776)] = 268_435_456
    maximum_instance_bytes: Annotated[int, whole_number(0, 2**50)] = 17_179_869_184
    on_duplicate: Literal["keep_first", "reject"] = "keep_first"
    additional_sop_classes: tuple[Uid, ...] = ()


class CatalogSettings(Section):
    """Where the catalog is kept. The URL holds an absolute file name, not percent-encoded."""

    url: Annotated[str, BeforeValidator(_check_catalog_url)] = (
        "sqlite:///pacsnode-data/catalog.sqlite"
    )
    busy_timeout_seconds: Seconds = 60
    extra_keys: tuple[ExtraKey, ...] = ()


class NameSettings(Section):
    """What person names are matched by."""

    family_name_alone: bool = False
    ignores_accents: bool = False
    any_group: bool = True


class QuerySettings(Section):
    """How queries are answered."""

    match_unknown: bool = False
    result_limit: Annotated[int, whole_number(0, 1_000_000_000)] = 0
    relational_lenient: bool = False
    offer_patient_study_only: bool = False
    names: NameSettings = Field(default_factory=NameSettings)


class ProcessesSettings(Section):
    """The worker processes and how long they may take."""

    workers: Annotated[int | Literal["auto"], BeforeValidator(_check_workers)] = "auto"
    start_timeout_seconds: Seconds = 30
    drain_timeout_seconds: Annotated[int, whole_number(0, 86_400)] = 30
    heartbeat_timeout_seconds: Annotated[int, whole_number(5, 86_400)] = 60


class LogSettings(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """The configuration in force; made by `load_settings`. `config/pacsnode.yaml` describes it.

    AE titles are in their normal form, addresses in their shortest, and all paths are absolute.
    """

    ae_titles: _LocalTitles = ("PACSNODE",)
    bind_addresses: _BindAddresses = ("0.0.0.0", "::")  # noqa: S104 - an archive is to be reached
    port: Annotated[int, whole_number(0, 65_535)] = 11_112
    remote_aes: tuple[RemoteAEEntry, ...] = ()
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
        if isinstance(context, Reading):
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


# The keys of what has keys in the entries of lists.
_ENTRIES: dict[tuple[str, ...], type[BaseModel]] = {
    ("remote_aes",): RemoteAESection,
    ("remote_aes", "tls"): TlsSection,
    ("catalog", "extra_keys"): ExtraKeySection,
}


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
    document = Document(Settings, _ENTRIES)
    if source:
        document.add_file(source)
    document.add_environment(environment)
    reading = Reading(source, source.parent if source else Path.cwd())
    try:
        settings = Settings.model_validate(document.values, context=reading)
    except ValidationError as error:
        document.add_errors(error.errors(include_url=False))
    else:
        if not document.faults:
            return settings
    raise ConfigError(tuple(document.faults))
