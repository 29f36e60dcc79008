"""Deflated data sets: one raw deflate stream each.

Source: PS3.5 A.5; RFC 1951.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

# How much of an inflated data set is kept: all that stands before the pixels fits in easily.
_KEPT_LENGTH: Final = 16 * 1024 * 1024
# The longest value that an element can have (2**32 - 2 bytes), and 256 MiB of others.
_LONGEST_LENGTH: Final = 2**32 + 2**28
_INFLATED_STEP_LENGTH: Final = 1024 * 1024
DEFLATED_STEP_LENGTH: Final = 64 * 1024


class DeflateError(ValueError):
    """A deflated stream is damaged, does not end, or is longer than any object is."""


def inflate(data_set: bytes | bytearray | memoryview) -> tuple[bytearray, bool]:
    """Return the first part of an inflated data set, and whether that is all of it.

    The rest is inflated as well, to see that the stream is sound, but not kept. What follows the
    end of the stream does not count.

    A few megabytes may inflate to many gigabytes, which would take a processor for hours. More than
    4.25 GiB, which takes some ten seconds, is refused: one element can have up to 4 GiB, and an
    object has one with pixels.

    Raises:
        DeflateError: the stream is damaged, cut off, or inflates to more than 4.25 GiB.

    Source: PS3.5 A.5.
    """
    header = bytearray()
    is_whole = True
    # Released on the way out, also by an error: a map of a file could not be closed else.
    with memoryview(data_set) as view:
        starts = range(0, len(view), DEFLATED_STEP_LENGTH)
        for inflated in inflated_parts(
            bytes(view[start : start + DEFLATED_STEP_LENGTH]) for start in starts
        ):
            if len(header) < _KEPT_LENGTH:
                header += inflated
            else:
                is_whole = False
    return header, is_whole


def inflated_parts(deflated: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an inflated stream in parts, none of them empty or of more than 1 MiB.

    Args:
        deflated: the stream in pieces of DEFLATED_STEP_LENGTH: what the stream has not yet consumed
            of a piece is copied at each step.

    Raises:
        DeflateError: as `inflate` does.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    length = 0
    for piece in deflated:
        pending = piece
        while inflated := _step(stream, pending):
            length += len(inflated)
            if length > _LONGEST_LENGTH:
                raise DeflateError("the deflated data set inflates to more than 4.25 GiB")
            yield inflated
            pending = stream.unconsumed_tail
        if stream.eof:
            return
    raise DeflateError("the deflated data set is cut off")


def _step(stream: "zlib._Decompress", pending: bytes) -> bytes:
    try:
        return stream.decompress(pending, _INFLATED_STEP_LENGTH)
    except zlib.error as error:
        raise DeflateError("the deflated data set is damaged") from error
