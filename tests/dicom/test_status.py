"""Statuses, and the failure that carries one."""

import pytest

from pacsnode.dicom.status import DimseFailure, Status, error_comment, is_warning


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0xB123, 0xBFFF, 0x0001, 0x0107, 0x0116])
def test_a_warning_is_the_class_bxxx_or_one_of_three(status: int) -> None:
    """Also a Bxxx that nobody knows was stored (E-16)."""
    assert is_warning(status)


@pytest.mark.parametrize(
    "status", [0x0000, 0xA700, 0xAFFF, 0xC000, 0xFE00, 0xFF00, 0xFF01, 0x0117, 0x0122, 0x0002]
)
def test_no_other_status_is_a_warning(status: int) -> None:
    """Success, failures, cancel and pending are none (E-16)."""
    assert not is_warning(status)


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("plain", "plain"),
        ("x" * 65, "x" * 64),
        ("a\\b", "a?b"),
        ("M\u00fcller", "M?ller"),
        ("two\nlines", "two?lines"),
        ("\N{PILE OF POO}" * 70, "?" * 64),
    ],
)
def test_an_error_comment_fits_its_attribute(text: str, comment: str) -> None:
    """ASCII without backslash and controls, at most 64 characters (D-33)."""
    assert error_comment(text) == comment


def test_a_failure_carries_status_comment_and_elements() -> None:
    """What is raised deep below is what the response will say."""
    failure = DimseFailure(Status.CANNOT_UNDERSTAND, "no\\good" + "!" * 100, 0x00080016, 0x00080018)
    assert failure.status == 0xC000
    assert failure.comment == "no?good" + "!" * 57
    assert failure.offending_elements == (0x00080016, 0x00080018)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.OUT_OF_RESOURCES, 0xA700),
        (Status.DATA_SET_DOES_NOT_MATCH, 0xA900),
        (Status.CANNOT_UNDERSTAND, 0xC000),
        (Status.MISSING_UID, 0xC001),
        (Status.INVALID_SOP_INSTANCE, 0x0117),
        (Status.SOP_CLASS_NOT_SUPPORTED, 0x0122),
        (Status.IDENTIFIER_UNDECODABLE, 0xC001),
        (Status.MOVE_DESTINATION_UNKNOWN, 0xA801),
        (Status.CANCEL, 0xFE00),
    ],
)
def test_a_status_has_the_code_of_the_plan(status: Status, code: int) -> None:
    """The numbers are those of rules F-3, D-31, D-32 and E-4."""
    assert status == code
