"""Unique identifiers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.dicom.uid import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    is_valid_uid,
    normalise_uid,
)


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008.1.2", "1.2.03", "0.0", "9" * 64])
def test_digits_with_single_dots_between_them_are_a_uid(uid: str) -> None:
    """A component may even start with a zero: refusing it would help nobody (I-1)."""
    assert is_valid_uid(uid)


@pytest.mark.parametrize(
    "uid",
    [
        "",
        ".",
        "..",
        "1.",
        ".1",
        "1..2",
        "9" * 65,
        "1.2.A",
        "1/2",
        "../1",
        "1.2 ",
        "1.2\0",
        "1.2\n",
        "1.2\\1.3",
        "1.2*",
        "-1",
        "\u0661.\u0662",
    ],
)
def test_anything_else_is_no_uid(uid: str) -> None:
    """Other characters, empty components and 65 characters are refused (I-1, I-2, F-23)."""
    assert not is_valid_uid(uid)


@given(st.text(max_size=70))
def test_no_valid_uid_leads_out_of_its_folder(text: str) -> None:
    """Whatever is a valid UID has no separator, no NUL, and is not a parent folder (F-23)."""
    if is_valid_uid(text):
        assert set(text) <= set("0123456789.")
        assert text.strip(".") == text


@pytest.mark.parametrize("received", ["1.2", "1.2\0", "1.2 ", " 1.2", "\0 1.2 \0"])
def test_padding_of_a_uid_does_not_count(received: str) -> None:
    """NUL, and spaces from sloppy senders, are cut at both ends (I-1)."""
    assert normalise_uid(received) == "1.2"


def test_leading_zeros_of_a_component_are_kept() -> None:
    """Dropping them would make another identity (I-1)."""
    assert normalise_uid("1.2.03") == "1.2.03"


def test_our_implementation_is_named_within_the_limits() -> None:
    """The class UID is valid, the version name has 1 to 16 characters (F-13)."""
    assert is_valid_uid(IMPLEMENTATION_CLASS_UID)
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16
