"""Transfer Syntaxes."""

import pytest
from pydicom.uid import UID

from pacsnode.dicom.transfer_syntax import (
    IDENTIFIER_TRANSFER_SYNTAXES,
    STORAGE_TRANSFER_SYNTAXES,
    Encoding,
    encoding_of,
)


@pytest.mark.parametrize(
    ("uid", "order", "vr", "stream"),
    [
        ("1.2.840.10008.1.2", "little", "implicit", "plain"),
        ("1.2.840.10008.1.2.1", "little", "explicit", "plain"),
        ("1.2.840.10008.1.2.2", "big", "explicit", "plain"),
        ("1.2.840.10008.1.2.1.99", "little", "explicit", "deflated"),
        ("1.2.840.10008.1.2.4.50", "little", "explicit", "plain"),
        ("1.2.840.10008.1.2.8.1", "little", "explicit", "plain"),
        ("1.2.3.4", "little", "explicit", "plain"),
    ],
)
def test_a_transfer_syntax_says_how_elements_are_encoded(
    uid: str, order: str, vr: str, stream: str
) -> None:
    """All but three are Explicit VR Little Endian around their pixels (PS3.5 A)."""
    assert encoding_of(uid) == Encoding(
        is_implicit_vr=vr == "implicit",
        is_little_endian=order == "little",
        is_deflated=stream == "deflated",
    )


@pytest.mark.parametrize("uid", sorted(STORAGE_TRANSFER_SYNTAXES))
def test_an_encoding_agrees_with_that_of_pydicom(uid: str) -> None:
    """Another reading of the Standard comes to the same encoding."""
    other, ours = UID(uid), encoding_of(uid)
    if other.is_transfer_syntax:
        assert ours.is_implicit_vr == other.is_implicit_VR
        assert ours.is_little_endian == other.is_little_endian
        assert ours.is_deflated == other.is_deflated


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.2.4.94",  # JPIP Referenced
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.204",  # JPIP HTJ2K Referenced
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    ],
)
def test_pixels_that_stay_elsewhere_are_not_accepted(uid: str) -> None:
    """A link to pixel data could not be kept (H-16, G-9)."""
    assert uid not in STORAGE_TRANSFER_SYNTAXES


def test_identifiers_are_never_compressed() -> None:
    """Only Implicit and Explicit VR Little Endian are accepted for queries."""
    assert {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"} == IDENTIFIER_TRANSFER_SYNTAXES
