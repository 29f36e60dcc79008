"""Exit codes: scripts and the unit file know them by number."""

from pacsnode.exit_codes import ExitCode


def test_exit_codes_have_the_numbers_that_are_documented() -> None:
    """A number that changes breaks whoever looks at it."""
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "NEGATIVE": 1,
        "USAGE": 2,
        "CANNOT_LISTEN": 69,
        "WORKER_FAILED": 70,
        "STORAGE_UNUSABLE": 73,
        "CATALOG_UNUSABLE": 74,
        "CONFIGURATION": 78,
    }
