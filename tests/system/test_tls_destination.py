"""A destination that is called over TLS: trusted or not, with and without a certificate of ours.

The peer is DCMTK's storescp. Source: PS3.15 B.12, B.13; rule H-40.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import CertificateFiles, make_certificate
from tests.support.dcmtk import Receiver, storescp
from tests.support.node import Node, new_node

pytestmark = pytest.mark.system

OK, NEGATIVE = 0, 1


@pytest.fixture(scope="module")
def theirs(module_folder: Path) -> CertificateFiles:
    """The certificate of the peer, which vouches for itself."""
    return make_certificate(module_folder / "tls", "theirs")


@pytest.fixture(scope="module")
def ours(module_folder: Path) -> CertificateFiles:
    """A certificate for us."""
    return make_certificate(module_folder / "tls", "ours")


@contextmanager
def _peer(folder: Path, files: CertificateFiles, *options: str) -> Iterator[Receiver]:
    tls = ("+tls", str(files.key), str(files.certificate), *(options or ("-ic",)))
    with storescp(folder / "received", "SECURE", None, *tls) as receiver:
        yield receiver


def _entry(port: int, host: str = "localhost", **tls: object) -> dict[str, object]:
    return {"ae_title": "SECURE", "host": host, "port": port, "tls": tls}


def _caller(folder: Path, entry: dict[str, object]) -> Node:
    node = new_node(folder / "node", remote_aes=[entry])
    node.write_config()
    return node


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_peer_with_a_certificate_that_we_believe_is_called(
    tmp_path: Path, theirs: CertificateFiles, host: str
) -> None:
    """By name and by address: the C-ECHO is answered."""
    with _peer(tmp_path, theirs) as peer:
        entry = _entry(peer.port, host, ca_file=str(theirs.certificate))
        done = _caller(tmp_path, entry).run("peer", "check", "SECURE")
    assert done.returncode == OK, done.stdout


def test_a_peer_with_a_certificate_that_we_do_not_believe_is_not_called(
    tmp_path: Path, theirs: CertificateFiles
) -> None:
    """The authorities of this machine do not know it: exit code 1, and the reason."""
    with _peer(tmp_path, theirs) as peer:
        done = _caller(tmp_path, _entry(peer.port)).run("peer", "check", "SECURE")
    assert done.returncode == NEGATIVE
    assert "association: failed: TLS: its certificate is not accepted: self" in done.stdout


@pytest.mark.parametrize(("checks", "code"), [(True, NEGATIVE), (False, OK)])
def test_a_certificate_of_another_host_is_believed_only_if_that_is_not_checked(
    tmp_path: Path, *, checks: bool, code: int
) -> None:
    """checks_host_name decides."""
    other = make_certificate(tmp_path / "tls", "other", host="other.example.org")
    with _peer(tmp_path, other) as peer:
        entry = _entry(peer.port, ca_file=str(other.certificate), checks_host_name=checks)
        done = _caller(tmp_path, entry).run("peer", "check", "SECURE")
    assert done.returncode == code, done.stdout
    assert ("its certificate is not accepted: Hostname mismatch" in done.stdout) == checks


def test_a_peer_that_wants_to_know_us_is_shown_our_certificate(
    tmp_path: Path, theirs: CertificateFiles, ours: CertificateFiles
) -> None:
    """With it the C-ECHO is answered, without it we are not let in."""
    with _peer(tmp_path, theirs, "-rc", "+cf", str(ours.certificate)) as peer:
        believed = {"ca_file": str(theirs.certificate)}
        shown = {"certificate_file": str(ours.certificate), "key_file": str(ours.key)}
        known = _caller(tmp_path / "known", _entry(peer.port, **believed, **shown))
        unknown = _caller(tmp_path / "unknown", _entry(peer.port, **believed))
        assert known.run("peer", "check", "SECURE").returncode == OK
        assert unknown.run("peer", "check", "SECURE").returncode == NEGATIVE
