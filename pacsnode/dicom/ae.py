"""Application Entity titles and the remote Application Entities we know.

Source: PS3.5 6.2 (VR AE), PS3.8 9.3.2.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MAXIMUM_AE_TITLE_LENGTH = 16
USUAL_LIKENESS = 0.6  # of two titles of which one may be a slip for the other


def normalise_ae_title(ae_title: str) -> str:
    """Return the significant part of an AE title: without NUL and spaces at either end.

    Case is kept: AE titles are case-sensitive. Titles are compared in this form, so that senders
    that pad with NUL or not at all are known by their title.

    Source: PS3.5 6.2; rule H-2.
    """
    return ae_title.strip("\0 ")


def check_ae_title(ae_title: str) -> str:
    """Return the title in its normal form if it is one that we may use or configure.

    Raises:
        ValueError: it is empty, longer than 16 characters, or has a character outside of the
            printable default repertoire or a backslash.

    Source: PS3.5 6.2.
    """
    normal = normalise_ae_title(ae_title)
    if not normal:
        raise ValueError("an AE title has at least one character that is not a space")
    if len(normal) > MAXIMUM_AE_TITLE_LENGTH:
        raise ValueError(f"an AE title has at most {MAXIMUM_AE_TITLE_LENGTH} characters")
    if not (normal.isascii() and normal.isprintable()) or "\\" in normal:
        raise ValueError("an AE title has printable ASCII characters only, and no backslash")
    return normal


def nearest_ae_title(
    ae_title: str, known: Iterable[str], likeness: float = USUAL_LIKENESS
) -> str | None:
    """Return the known AE title that is most like another one; None if none is like it.

    Upper and lower case count as alike here, though they are different titles: mixing them up is
    the most frequent mistake.

    Args:
        ae_title: as it was written; it may be any text.
        known: in their normal form.
        likeness: at least, from 0 (any) to 1 (alike).
    """
    by_fold = {title.casefold(): title for title in sorted(known, reverse=True)}
    folded = normalise_ae_title(ae_title).casefold()
    near = difflib.get_close_matches(folded, by_fold, n=1, cutoff=likeness)
    return by_fold[near[0]] if near else None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """How a remote Application Entity is called over TLS.

    Attributes:
        ca_file: certificates of the authorities that it is believed by; None: those of the system.
        certificate_file: ours, with its chain; None: we show none.
        key_file: the private key of our certificate; None: it is in the certificate's file.
        checks_host_name: whether its certificate must be one of the host that is called.

    Source: PS3.15 B.12, B.13; rule H-40.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    checks_host_name: bool = True


@dataclass(frozen=True, slots=True)
class RemoteAE:
    """An Application Entity elsewhere: where to reach it, under which title, and how.

    Attributes:
        ae_title: in its normal form.
        host: a host name, an IPv4 or an IPv6 address.
        port: 1 to 65535.
        calling_ae_title: of ours, to call it with; empty: the title that we were called by.
        transfer_syntaxes: it is sent instances in no others; None: in all that it accepts.
        associations: how many of a retrieval send to it at the same time, at least 1.
        connect_timeout_seconds: for the TCP connection; None: as for everybody.
        negotiation_timeout_seconds: for its answer to an association request; None likewise.
        dimse_timeout_seconds: for its answer to a request, and for taking some of what is sent;
            None likewise.
        tls: None: without TLS.
    """

    ae_title: str
    host: str
    port: int
    calling_ae_title: str = ""
    transfer_syntaxes: frozenset[str] | None = None
    associations: int = 1
    connect_timeout_seconds: float | None = None
    negotiation_timeout_seconds: float | None = None
    dimse_timeout_seconds: float | None = None
    tls: TlsFiles | None = None
