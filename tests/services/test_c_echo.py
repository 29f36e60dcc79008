"""Verification."""

from pacsnode.services.c_echo import echo


def test_an_echo_is_answered_with_success() -> None:
    """0000, without any condition (H-5)."""
    assert echo() == 0x0000
