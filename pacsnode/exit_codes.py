"""What the exit code of a pacsnode command means, for scripts and for systemd."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended.

    The numbers from 64 on follow sysexits.h, so that a service manager can tell a fault that a
    restart may cure from one that needs a person.
    """

    OK = 0
    NEGATIVE = 1  # did what was asked; the answer is no (echo failed, some files refused)
    USAGE = 2  # wrong command line
    CANNOT_LISTEN = 69  # an address is in use, not ours, or needs a privilege
    WORKER_FAILED = 70  # a worker process could not start for a reason of its own
    STORAGE_UNUSABLE = 73  # the storage folder cannot be made or written
    CATALOG_UNUSABLE = 74  # the catalog cannot be opened, or its schema does not fit
    CONFIGURATION = 78  # faults in the configuration; restarting does not help
