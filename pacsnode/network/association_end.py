"""How an association ends, as what serves it is told.

Source: PS3.8 7.2 to 7.4, 9.3.8.
"""

from enum import Enum


class Abort(Enum):
    """Source and reason of an A-ABORT. Source: PS3.8 table 9-26."""

    BY_USER = (0, 0)
    UNRECOGNISED_PDU = (2, 1)
    UNEXPECTED_PDU = (2, 2)
    INVALID_PARAMETER = (2, 6)


class AssociationEnd(Exception):  # noqa: N818 - most ends are no errors
    """The association, or the connection before it, is over.

    Attributes:
        reason: for the administrator; empty after a release.
        is_released: the peer has asked for the release; it is to be answered.
        abort: the A-ABORT that is to be sent; None if there is nobody to send it to.
    """

    def __init__(
        self, reason: str, *, abort: Abort | None = None, is_released: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.abort = abort
        self.is_released = is_released
