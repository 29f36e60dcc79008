"""The entries of `remote_aes`: Application Entities elsewhere, and how each of them is called.

Files of TLS are read here already: a file that cannot be used is a fault of the configuration,
which is found before the first retrieval is.
"""

import dataclasses
import ipaddress
import re
import ssl
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    ValidationInfo,
)
from pydantic_core import core_schema

from pacsnode.config_checks import (
    AE_TITLE,
    NotTextError,
    Reading,
    Section,
    only_once,
    text,
    whole_number,
)
from pacsnode.dicom.ae import RemoteAE, TlsFiles, check_ae_title
from pacsnode.dicom.transfer_syntax import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_TRANSFER_SYNTAXES,
)

_MOST_ASSOCIATIONS: Final = 16
_UNCOMPRESSED: Final = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)

_HOST: Final = "a host name, an IPv4 or an IPv6 address, without a port"
_TRANSFER_SYNTAXES: Final = "any, uncompressed, or a list with at least one UID"
_TRANSFER_SYNTAX: Final = (
    "the UID of a transfer syntax that is kept, such as 1.2.840.10008.1.2.4.70;"
    " docs/conformance.md lists them"
)
_FILE: Final = "a file, absolute or relative; ~ is not replaced"
_CERTIFICATES: Final = "a file with certificates in PEM"
_PRIVATE_KEY: Final = "the private key of certificate_file in PEM, without a passphrase"


class _ProtectedKeyError(Exception):
    """A private key can be read with a passphrase only."""


def _check_host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        labels = host.removesuffix(".").split(".")
        is_name = all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels)
        if not is_name or len(host) > 253 or labels[-1].isdecimal():  # noqa: PLR2004 - RFC 1035
            raise ValueError(_HOST) from None
        return host


def _check_ours(ae_title: str, validation: ValidationInfo) -> str:
    ours = Reading.of(validation).ae_titles
    if ours is not None and ae_title not in ours:
        raise ValueError(f"one of ae_titles: {', '.join(ours)}")
    return ae_title


def _check_transfer_syntaxes(value: object) -> object:
    if value == "any":
        return None
    if value == "uncompressed":
        return _UNCOMPRESSED
    if not isinstance(value, tuple) or not value:
        raise ValueError(_TRANSFER_SYNTAXES)
    return value


def _check_transfer_syntax(uid: str) -> str:
    if uid not in STORAGE_TRANSFER_SYNTAXES:
        raise ValueError(_TRANSFER_SYNTAX)
    return uid


def _check_file(value: object, validation: ValidationInfo) -> Path:
    """Return an absolute path to a file that can be read."""
    if not isinstance(value, str):
        raise NotTextError(_FILE)
    if not value or "\0" in value or value.startswith("~"):
        raise ValueError(_FILE)
    path = Reading.of(validation).folder / value
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from None
    return path


def _check_certificates(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise ValueError(_CERTIFICATES) from None
    return path


def _check_key(path: Path | None, validation: ValidationInfo) -> Path | None:
    """Refuse a private key, or the lack of one, that does not go with the certificate."""
    if "certificate_file" not in validation.data:  # it is at fault itself
        return path
    certificate = validation.data["certificate_file"]
    if certificate is None:
        if path:
            raise ValueError("a private key only where there is a certificate_file")
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, path, _no_passphrase)
    except _ProtectedKeyError:
        raise ValueError(f"{_PRIVATE_KEY}; this one has one") from None
    except (ssl.SSLError, OSError) as error:
        is_another = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        more = "; this is that of another" if is_another else ""
        raise ValueError(f"{_PRIVATE_KEY}{more}") from None
    return path


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask for it on the terminal.
    raise _ProtectedKeyError


_RemoteTitle = Annotated[
    str, text(check_ae_title, AE_TITLE), only_once("an AE title that no other remote AE has")
]
_OurTitle = Annotated[str, text(check_ae_title, AE_TITLE), AfterValidator(_check_ours)]
_TransferSyntax = Annotated[str, text(_check_transfer_syntax, _TRANSFER_SYNTAX)]
# Of the next ones None is the lack of the key: written as nothing it is a fault like any other.
_TransferSyntaxes = Annotated[
    tuple[_TransferSyntax, ...] | None,
    BeforeValidator(_check_transfer_syntaxes),
    Field(validate_default=False),
]
_Seconds = Annotated[int | None, whole_number(1, 86_400), Field(validate_default=False)]
_Certificates = Annotated[
    Path | None,
    AfterValidator(_check_certificates),
    BeforeValidator(_check_file),
    Field(validate_default=False),
]


def _check_key_file(value: object, validation: ValidationInfo) -> Path | None:
    return _check_key(None if value is None else _check_file(value, validation), validation)


class TlsSection(Section):
    """The section `tls` of an entry: certificates first, then what the check of a key needs."""

    ca_file: _Certificates = None
    certificate_file: _Certificates = None
    key_file: Annotated[Path | None, BeforeValidator(_check_key_file)] = None
    checks_host_name: bool = True

    def as_tls_files(self) -> TlsFiles:
        """Return the section as it is used."""
        return TlsFiles(self.ca_file, self.certificate_file, self.key_file, self.checks_host_name)


def _take_nothing_as_section(value: object) -> object:
    """Take `tls:` with all its keys commented out as TLS with their defaults, not as none."""
    return {} if value is None else value


_Tls = Annotated[
    TlsSection | None,
    BeforeValidator(_take_nothing_as_section),
    Field(validate_default=False),
]


class RemoteAESection(Section):
    """One entry of `remote_aes`."""

    ae_title: _RemoteTitle
    host: Annotated[str, text(_check_host, _HOST)]
    port: Annotated[int, whole_number(1, 65_535)]
    calling_ae_title: Annotated[_OurTitle, Field(validate_default=False)] = ""
    transfer_syntaxes: _TransferSyntaxes = None
    associations: Annotated[int, whole_number(1, _MOST_ASSOCIATIONS)] = 1
    connect_timeout_seconds: _Seconds = None
    negotiation_timeout_seconds: _Seconds = None
    dimse_timeout_seconds: _Seconds = None
    tls: _Tls = None

    def as_remote_ae(self) -> RemoteAE:
        """Return the entry as it is used."""
        uids = self.transfer_syntaxes
        return RemoteAE(
            ae_title=self.ae_title,
            host=self.host,
            port=self.port,
            calling_ae_title=self.calling_ae_title,
            transfer_syntaxes=None if uids is None else frozenset(uids),
            associations=self.associations,
            connect_timeout_seconds=self.connect_timeout_seconds,
            negotiation_timeout_seconds=self.negotiation_timeout_seconds,
            dimse_timeout_seconds=self.dimse_timeout_seconds,
            tls=self.tls.as_tls_files() if self.tls else None,
        )


def show_transfer_syntaxes(uids: frozenset[str] | None) -> str | list[str]:
    """Return the transfer syntaxes of a remote AE as they are written in its entry."""
    if uids is None:
        return "any"
    return "uncompressed" if uids == {*_UNCOMPRESSED} else sorted(uids)


def show_remote_ae(remote: RemoteAE) -> dict[str, object]:
    """Return a remote AE as an entry of `remote_aes`, without the keys that keep their default."""
    shown = {
        field.name: value
        for field in dataclasses.fields(remote)
        if (value := getattr(remote, field.name)) != field.default
    }
    if remote.transfer_syntaxes is not None:
        shown["transfer_syntaxes"] = show_transfer_syntaxes(remote.transfer_syntaxes)
    if remote.tls is not None:
        shown["tls"] = {
            field.name: str(value) if isinstance(value, Path) else value
            for field in dataclasses.fields(remote.tls)
            if (value := getattr(remote.tls, field.name)) != field.default
        }
    return shown


RemoteAEEntry = Annotated[
    RemoteAE,
    GetPydanticSchema(
        lambda _source, handler: core_schema.no_info_after_validator_function(
            RemoteAESection.as_remote_ae,
            handler(RemoteAESection),
            serialization=core_schema.plain_serializer_function_ser_schema(show_remote_ae),
        )
    ),
]
