"""Application Entity titles and the remote Application Entities we know.

Source: PS3.5 6.2 (VR AE), PS3.8 9.3.2.
"""

from dataclasses import dataclass

_MAXIMUM_LENGTH = 16


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
    if len(normal) > _MAXIMUM_LENGTH:
        raise ValueError(f"an AE title has at most {_MAXIMUM_LENGTH} characters")
    if not (normal.isascii() and normal.isprintable()) or "\\" in normal:
        raise ValueError("an AE title has printable ASCII characters only, and no backslash")
    return normal


@dataclass(frozen=True, slots=True)
class RemoteAE:
    """An Application Entity elsewhere: where to reach it and under which title.

    Attributes:
        ae_title: in its normal form.
        host: a host name, an IPv4 or an IPv6 address.
        port: 1 to 65535.
    """

    ae_title: str
    host: str
    port: int
