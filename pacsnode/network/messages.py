"""DIMSE messages on an association: fragments become command sets and data sets.

What both an association that we have accepted and one that we have requested need.

Source: PS3.7 6.3, 9.3; PS3.8 9.3.5, E.
"""

import time
from typing import Final

from pacsnode.network.association_end import Abort, AssociationEnd
from pacsnode.network.command_set import CommandSet, CommandSetError, read_command_set
from pacsnode.network.upper_layer import Fragment, UpperLayer

# Real command sets have some 200 bytes.
_LONGEST_COMMAND_SET_BYTES: Final = 64 * 1024
_LOOK_SECONDS: Final = 0.5


def receive_command_set(
    upper_layer: UpperLayer, *, is_within_message: bool, timeout_seconds: float
) -> tuple[int, CommandSet]:
    """Return the presentation context of the next message, and its command set.

    Args:
        upper_layer: of the association.
        is_within_message: of another one; so the peer may not be silent for long.
        timeout_seconds: within which all of it has to come, once it has begun.

    Raises:
        AssociationEnd: the association is over, or the peer breaks its rules.
    """
    fragment = upper_layer.receive_fragment(is_within_message=is_within_message)
    context_id = fragment.context_id
    command_set = bytearray()
    deadline = time.monotonic() + timeout_seconds
    while True:
        if not fragment.is_command or fragment.context_id != context_id:
            raise AssociationEnd("a fragment is out of place", abort=Abort.BY_USER)
        command_set += fragment.content
        if len(command_set) > _LONGEST_COMMAND_SET_BYTES:
            raise AssociationEnd("a command set is too long", abort=Abort.BY_USER)
        if fragment.is_last:
            break
        if time.monotonic() > deadline:
            reason = "a command set took longer than association.dimse_timeout_seconds"
            raise AssociationEnd(reason, abort=Abort.BY_USER)
        fragment = upper_layer.receive_fragment(is_within_message=True)
    try:
        return context_id, read_command_set(bytes(command_set))
    except CommandSetError as error:
        raise AssociationEnd(str(error), abort=Abort.BY_USER) from error


def receive_data_fragment(upper_layer: UpperLayer, context_id: int) -> Fragment:
    """Return the next fragment of a message's data set.

    Raises:
        AssociationEnd: as for the command set.
    """
    fragment = upper_layer.receive_fragment(is_within_message=True)
    if fragment.is_command or fragment.context_id != context_id:
        raise AssociationEnd("a fragment is out of place", abort=Abort.BY_USER)
    return fragment


def drop_data_set(
    upper_layer: UpperLayer, context_id: int, command_set: CommandSet, timeout_seconds: float
) -> None:
    """Read the data set of a message, if it has one, that nobody needs.

    Args:
        upper_layer: of the association.
        context_id: of the message.
        command_set: of the message.
        timeout_seconds: within which all of it has to come.

    Raises:
        AssociationEnd: as for the command set.
    """
    is_last = not command_set.has_data_set
    deadline = time.monotonic() + timeout_seconds
    while not is_last:
        is_last = receive_data_fragment(upper_layer, context_id).is_last
        upper_layer.rewind()
        if not is_last and time.monotonic() > deadline:
            reason = "it sends a data set that does not end"
            raise AssociationEnd(reason, abort=Abort.BY_USER)


class NoResponse(AssociationEnd):
    """The peer has not answered a request in time."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(f"no response in {timeout_seconds:g} s", abort=Abort.BY_USER)


class ResponseDeadline:
    """Until when the response to a request has to come.

    The time starts anew as long as the peer takes something of the request: a large object on a
    slow line is not a silent peer.
    """

    def __init__(self, upper_layer: UpperLayer, timeout_seconds: float) -> None:
        self._upper_layer = upper_layer
        self._timeout_seconds = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._unacknowledged_bytes: int | None = None  # nobody has looked yet

    @property
    def look_until(self) -> float:
        """Until when to wait at once."""
        return min(self._deadline, time.monotonic() + _LOOK_SECONDS)

    def check(self) -> None:
        """Take note that nothing has come until now.

        Raises:
            NoResponse: the time is over.
        """
        left = self._upper_layer.unacknowledged_bytes()
        if self._unacknowledged_bytes is None or left < self._unacknowledged_bytes:
            self._unacknowledged_bytes = left
            if left:
                self._deadline = time.monotonic() + self._timeout_seconds
        if time.monotonic() > self._deadline:
            raise NoResponse(self._timeout_seconds)


def check_response(command_set: CommandSet, message_id: int, *, is_in_context: bool) -> None:
    """Make sure that a command set is the response to a request of ours.

    Args:
        command_set: what has come.
        message_id: of the request.
        is_in_context: it came in the presentation context of the request.

    Raises:
        AssociationEnd: it is none, or answers another one.
    """
    try:
        is_response = command_set.is_response and is_in_context
        if is_response and command_set.message_id_being_responded_to == message_id:
            _ = command_set.status
            return
    except CommandSetError as error:
        raise AssociationEnd(str(error), abort=Abort.BY_USER) from error
    raise AssociationEnd("it sent something else than the response", abort=Abort.BY_USER)
