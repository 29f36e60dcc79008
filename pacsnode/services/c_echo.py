"""Verification as an SCP.

Source: PS3.4 A.4; rule H-5.
"""

from pacsnode.dicom.status import Status


def echo() -> Status:
    """Answer a C-ECHO: whoever reaches this has shown that we can be reached."""
    return Status.SUCCESS
