"""Which SOP classes are storage."""

import pytest
from pynetdicom.sop_class import _STORAGE_CLASSES

from pacsnode.network.storage_sop_classes import STORAGE_SOP_CLASSES, is_storage

_WITHOUT_PATIENT = {"1.2.840.10008.5.1.4.1.1.200.1", "1.2.840.10008.5.1.4.1.1.200.3"}


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("CT Image", "1.2.840.10008.5.1.4.1.1.2"),
        ("Enhanced CT Image", "1.2.840.10008.5.1.4.1.1.2.1"),
        ("Secondary Capture", "1.2.840.10008.5.1.4.1.1.7"),
        ("Basic Text SR", "1.2.840.10008.5.1.4.1.1.88.11"),
        ("Key Object Selection", "1.2.840.10008.5.1.4.1.1.88.59"),
        ("Grayscale Softcopy Presentation State", "1.2.840.10008.5.1.4.1.1.11.1"),
        ("RT Structure Set", "1.2.840.10008.5.1.4.1.1.481.3"),
        ("Encapsulated PDF", "1.2.840.10008.5.1.4.1.1.104.1"),
        ("Raw Data", "1.2.840.10008.5.1.4.1.1.66"),
        ("12-lead ECG", "1.2.840.10008.5.1.4.1.1.9.1.1"),
        ("Ultrasound Image (retired)", "1.2.840.10008.5.1.4.1.1.6"),
        ("Nuclear Medicine Image (retired)", "1.2.840.10008.5.1.4.1.1.5"),
    ],
)
def test_a_class_of_the_standard_is_storage(name: str, uid: str) -> None:
    """Image, document, plan, waveform: all are kept, retired ones, too (A-3, H-31)."""
    assert is_storage(uid, {}, ()), name


def test_what_the_toolkit_knows_is_storage() -> None:
    """Every storage class of pynetdicom is kept, unless it has no patient (H-34)."""
    known = {str(uid) for uid in _STORAGE_CLASSES.values()}
    assert {uid for uid in known if uid not in STORAGE_SOP_CLASSES} <= {
        *_WITHOUT_PATIENT,
        "1.2.840.10008.5.1.4.1.1.200.7",
        "1.2.840.10008.5.1.4.1.1.201.1",
    }


@pytest.mark.parametrize("uid", ["", "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2.999"])
def test_what_nobody_knows_is_not(uid: str) -> None:
    """A UID that only begins like a storage class is none (H-32)."""
    assert not is_storage(uid, {}, ())
