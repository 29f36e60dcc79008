"""Certificates for tests of TLS, made anew by openssl: nothing secret lies in the repository."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
PASSPHRASE = "open sesame"  # noqa: S105 - of a key that lives as long as a test


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate that vouches for itself, and its private key, in PEM."""

    certificate: Path
    key: Path


def make_certificate(
    folder: Path, name: str, *, host: str = "localhost", passphrase: str = ""
) -> CertificateFiles:
    """Make a certificate for a host name and 127.0.0.1.

    Args:
        folder: where the files are put; made if it does not exist.
        name: which the names of the files start with.
        host: that it is for; nothing but this name if it is not localhost.
        passphrase: of the key; empty for none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = CertificateFiles(folder / f"{name}.pem", folder / f"{name}-key.pem")
    hosts = f"DNS:{host}" + (",IP:127.0.0.1" if host == "localhost" else "")
    protection = ("-passout", f"pass:{passphrase}") if passphrase else ("-nodes",)
    subprocess.run(
        [
            *("openssl", "req", "-x509", *_KEY, *protection),
            *("-keyout", str(files.key), "-out", str(files.certificate)),
            *("-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName={hosts}"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return files
