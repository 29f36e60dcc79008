"""Deflated data sets: one raw deflate stream each.

Source: PS3.5 A.5; RFC 1951.
"""

import zlib
from collections.abc import Iterator
from typing import Final

# How much of an inflated data set is kept: all that stands before the pixels fits in easily.
_KEPT_LENGTH: Final = 16 * 1024 * 1024
# The longest value that an element can have (2**32 - 2 bytes), and 256 MiB of others.
_LONGEST_LENGTH: Final = 2**32 + 2**28
_INFLATED_STEP_LENGTH: Final = 1024 * 1024
_DEFLATED_STEP_LENGTH: Final = 64 * 1024


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
    is_whole, length = True, 0
    # Released on the way out, also by an error: a map of a file could not be closed else.
    with memoryview(data_set) as view:
        for inflated in _inflated_parts(view):
            length += len(inflated)
            if length > _LONGEST_LENGTH:
                raise DeflateError("the deflated data set inflates to more than 4.25 GiB")
            if len(header) < _KEPT_LENGTH:
                header += inflated
            else:
                is_whole = False
    return header, is_whole


def _inflated_parts(deflated: memoryview) -> Iterator[bytes]:
    """Yield an inflated stream in parts, none of them empty or long.

    It is fed in short pieces: what the stream has not yet consumed is copied at each step.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, len(deflated), _DEFLATED_STEP_LENGTH):
        pending = bytes(deflated[start : start + _DEFLATED_STEP_LENGTH])
        while inflated := _step(stream, pending):
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
