"""The statuses of DIMSE responses we send or read, by name, and the failure that carries one.

Source: PS3.7 Annex C; PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5.
"""

from enum import IntEnum

_MAXIMUM_COMMENT_LENGTH = 64  # PS3.7 C: Error Comment (0000,0902) is LO


class Status(IntEnum):
    """A status we send, with when we send it. Nothing else in pacsnode spells a status."""

    # --- any service
    SUCCESS = 0x0000
    CANCEL = 0xFE00  # a C-CANCEL ended a C-FIND or C-MOVE
    INVALID_SOP_INSTANCE = 0x0117  # C-STORE: SOP Instance UID too long or with foreign characters
    SOP_CLASS_NOT_SUPPORTED = 0x0122  # the command's class is not its context's abstract syntax
    UNRECOGNISED_OPERATION = 0x0211  # a DIMSE operation that the context's service has not

    # --- C-STORE (PS3.4 B.2.3)
    OUT_OF_RESOURCES = 0xA700  # no space, or file or catalog could not be written
    DATA_SET_DOES_NOT_MATCH = 0xA900  # UIDs of command and data set differ
    CANNOT_UNDERSTAND = 0xC000  # the data set cannot be decoded
    MISSING_UID = 0xC001  # the data set lacks a UID that identifies it, or has an invalid one
    DUPLICATE_REFUSED = 0xC002  # same SOP Instance UID, other content; by setting on_duplicate
    DUPLICATE_IN_QUARANTINE = 0xB000  # the same by default: the newcomer is kept, but aside

    # --- C-FIND and C-MOVE (PS3.4 C.4)
    PENDING = 0xFF00  # a match; every optional key was supported
    PENDING_WITH_UNSUPPORTED_KEYS = 0xFF01  # a match; some optional key was not
    IDENTIFIER_DOES_NOT_MATCH = 0xA900  # the requestor's identifier breaks the rules
    IDENTIFIER_UNDECODABLE = 0xC001
    CATALOG_FAILED = 0xC002
    UNABLE_TO_PROCESS = 0xC010  # our own fault
    CANNOT_COUNT_MATCHES = 0xA701  # C-MOVE: the catalog failed, nothing was tried
    SUB_OPERATIONS_FAILED = 0xA702  # C-MOVE: every sub-operation failed
    MOVE_DESTINATION_UNKNOWN = 0xA801
    SUB_OPERATIONS_COMPLETE_WITH_FAILURES = 0xB000  # C-MOVE: one or more failed or warned


# PS3.7 C.3; no C-STORE SCP should send these, but they mean "stored" (rule E-16).
_GENERAL_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})


def is_warning(status: int) -> bool:
    """Tell whether a status reports an operation that was done with a reservation.

    Source: PS3.7 C.3; rule E-16.
    """
    return 0xB000 <= status <= 0xBFFF or status in _GENERAL_WARNINGS  # noqa: PLR2004 - the Bxxx class


class DimseFailure(Exception):  # noqa: N818 - a failure is what the Standard calls it
    """A request is refused; says with which status and why.

    Any depth below the network may raise it; the network turns it into the response.

    Attributes:
        status: the status of the response.
        comment: for Error Comment (0000,0902): ASCII, at most 64 characters, without patient data.
        offending_elements: tags for Offending Element (0000,0901); empty where none is at fault.

    Source: PS3.7 C.
    """

    def __init__(self, status: Status, comment: str, *offending_elements: int) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = error_comment(comment)
        self.offending_elements = offending_elements


def error_comment(text: str) -> str:
    """Return text made fit for Error Comment (0000,0902): ASCII, no backslash, 64 characters.

    Source: PS3.7 C; rule D-33.
    """
    fitting = "".join(c if c.isascii() and c.isprintable() and c != "\\" else "?" for c in text)
    return fitting[:_MAXIMUM_COMMENT_LENGTH]
