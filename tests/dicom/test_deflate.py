"""Deflated streams, beyond what the reading of their elements shows."""

import random
import tracemalloc
import zlib

import pytest

from pacsnode.dicom import deflate
from pacsnode.dicom.deflate import DeflateError, inflate

_KEPT = 4096
_NOISE = random.Random(1).randbytes(8 * 1024 * 1024)  # noqa: S311 - made up, and the same each time


def _deflated(content: bytes) -> bytes:
    stream = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
    return stream.compress(content) + stream.flush()


@pytest.mark.parametrize("length", [0, 1, 65_536, 1_048_576, 3_000_001])
@pytest.mark.parametrize("fill", ["zeros", "noise"])
def test_a_stream_comes_out_whole(length: int, fill: str) -> None:
    """Whether it shrinks to next to nothing or not at all (PS3.5 A.5)."""
    content = bytes(length) if fill == "zeros" else _NOISE[:length]
    assert inflate(_deflated(content)) == (content, True)


@pytest.mark.parametrize("fill", [bytes(8 * 1024 * 1024), _NOISE], ids=["zeros", "noise"])
def test_a_long_stream_is_inflated_in_little_memory(
    fill: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the stream nor what is in it is copied as a whole; its beginning is returned."""
    monkeypatch.setattr(deflate, "_KEPT_LENGTH", _KEPT)
    stream = _deflated(fill)
    tracemalloc.start()
    try:
        beginning, is_whole = inflate(stream)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not is_whole
    assert len(beginning) >= _KEPT
    assert fill[: len(beginning)] == beginning
    assert peak_bytes < 5 * 1024 * 1024


@pytest.mark.parametrize("stream", [b"", _deflated(_NOISE[:200_000])[:-1], _deflated(b"")[:-1]])
def test_a_stream_that_does_not_end_is_refused(stream: bytes) -> None:
    """The end is in the stream, not where its bytes end (RFC 1951)."""
    with pytest.raises(DeflateError, match="cut off"):
        inflate(stream)


def test_a_stream_that_inflates_to_more_than_any_object_has_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A few megabytes would else take a processor for hours."""
    stream = _deflated(bytes(2_000_001))
    monkeypatch.setattr(deflate, "_LONGEST_LENGTH", 2_000_001)
    inflate(stream)
    monkeypatch.setattr(deflate, "_LONGEST_LENGTH", 2_000_000)
    with pytest.raises(DeflateError, match="inflates to more"):
        inflate(stream)


def test_a_data_set_with_the_longest_value_is_not_too_long() -> None:
    """4 GiB less two bytes, and all the other elements (PS3.5 7.1.1)."""
    assert deflate._LONGEST_LENGTH > 2**32 + deflate._KEPT_LENGTH
