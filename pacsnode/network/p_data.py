"""P-DATA-TF PDUs as they are sent: one fragment of a command set or data set in each.

Source: PS3.8 9.3.5, E.2; rule H-6.
"""

import struct
from collections.abc import Iterator
from typing import Final

from pacsnode.network.pdu import P_DATA_TF

IS_COMMAND: Final = 1
IS_LAST: Final = 2

_P_DATA_WITH_ONE_PDV: Final = struct.Struct(">BxLLBB")
_PDV_OVERHEAD_BYTES: Final = 6  # a P-DATA-TF with one fragment is longer than it by so much
_CONTEXT_AND_CONTROL_BYTES: Final = 2


def fragment_length(peer_maximum_length_bytes: int, longest_bytes: int) -> int:
    """Return how long the fragments are that a peer is sent: an even number of bytes.

    Whoever takes less than the shortest fragment that there can be is sent that.

    Args:
        peer_maximum_length_bytes: of the P-DATA-TF that the peer takes; 0 is no limit.
        longest_bytes: of a P-DATA-TF that we send.

    Source: PS3.8 D.1, E.2.
    """
    maximum = min(peer_maximum_length_bytes or longest_bytes, longest_bytes)
    return max(2, (maximum - _PDV_OVERHEAD_BYTES) & ~1)


def fragments(
    context_id: int, control: int, content: bytes | memoryview, step: int, *, is_end: bool = True
) -> Iterator[bytes | memoryview]:
    """Yield header and fragment in turn, for all of a content; at least one of each.

    Args:
        context_id: of the presentation context.
        control: whether it is of a command set.
        content: the next part of a command set or data set; fragments are parts of it, not copies.
        step: the length of a fragment, in bytes.
        is_end: it is the last part, too.
    """
    length = len(content)
    for start in range(0, length or 1, step):
        fragment = content[start : start + step]
        is_last = IS_LAST if is_end and start + step >= length else 0
        yield _P_DATA_WITH_ONE_PDV.pack(
            P_DATA_TF,
            len(fragment) + _PDV_OVERHEAD_BYTES,
            len(fragment) + _CONTEXT_AND_CONTROL_BYTES,
            context_id,
            control | is_last,
        )
        yield fragment
