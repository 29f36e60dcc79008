"""One frame to native pixels, as the process that decodes does it."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import HTJ2KLossless, JPEGBaseline8Bit

from pacsnode.conversion.codecs import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED, is_lossy
from pacsnode.conversion.decoder_messages import (
    LENGTHS,
    Failure,
    FrameAnswer,
    FrameRequest,
    UndecodableError,
    decode_answer,
    decode_request,
    encode_message,
)
from pacsnode.conversion.frame_decoding import decode_frame, join_single_bits
from pacsnode.conversion.image_pixels import ImagePixels
from tests.support import htj2k

_PIXELS = ImagePixels(
    rows=16,
    columns=16,
    samples_per_pixel=1,
    bits_allocated=8,
    bits_stored=8,
    pixel_representation=0,
    planar_configuration=0,
    photometric_interpretation="MONOCHROME2",
    number_of_frames=1,
)
_BITS = replace(_PIXELS, rows=1, columns=5, bits_allocated=1, bits_stored=1)


def test_a_codestream() -> None:
    """A codec's frame comes with its Photometric Interpretation, colour by pixel."""
    frame = decode_frame(_request(HTJ2KLossless), htj2k.CODESTREAMS["grey 8"])
    assert bytes(frame.pixels) == htj2k.GREY_8.tobytes()
    assert (frame.photometric_interpretation, frame.planar_configuration) == ("MONOCHROME2", 0)


def test_numbers_of_8_bits_in_16() -> None:
    """Values of fewer bits than Bits Allocated are widened to it: nothing else is to change."""
    pixels = replace(_PIXELS, bits_allocated=16)
    frame = decode_frame(_request(HTJ2KLossless, pixels), htj2k.CODESTREAMS["grey 8"])
    assert bytes(frame.pixels) == htj2k.GREY_8.astype("u2").tobytes()


@pytest.mark.parametrize(
    ("uid", "encoded", "failure"),
    [
        (HTJ2KLossless, b"no codestream", Failure.NOT_DECODABLE),
        (JPEGBaseline8Bit, b"\xff\xd8\xff\xda no end", Failure.NOT_DECODABLE),
        (JPEGBaseline8Bit, b"\xff\xd8\xff\xda\xff\xd9", Failure.NOT_DECODABLE),
        (DEFLATED_IMAGE_FRAME, b"no stream", Failure.NOT_DECODABLE),
        (DEFLATED_IMAGE_FRAME, zlib.compress(bytes(100), wbits=-15), Failure.NOT_AS_ANNOUNCED),
        (ENCAPSULATED_UNCOMPRESSED, bytes(255), Failure.NOT_AS_ANNOUNCED),
    ],
)
def test_what_cannot_be_decoded(uid: str, encoded: bytes, failure: Failure) -> None:
    """What is no frame of the size that was announced says why."""
    with pytest.raises(UndecodableError) as caught:
        decode_frame(_request(uid), encoded)
    assert caught.value.failure is failure


def test_padding_of_a_frame_is_no_pixel() -> None:
    """A fragment of even length holds a frame of odd length and one byte more."""
    pixels = replace(_PIXELS, rows=3, columns=3)
    frame = decode_frame(_request(ENCAPSULATED_UNCOMPRESSED, pixels), bytes(range(10)))
    assert bytes(frame.pixels) == bytes(range(9))


@pytest.mark.parametrize(
    ("bits_before", "frame", "whole", "bits_left"),
    [
        ("", 0b10101, b"", "10101"),
        ("11", 0b10101, b"", "1110101"),
        ("111", 0b10100, b"\xa7", ""),
        ("0001110", 0b11001, b"\xb8", "0011"),
        ("", 0b11110000, b"", "00001"),
    ],
)
def test_single_bits_are_joined(bits_before: str, frame: int, whole: bytes, bits_left: str) -> None:
    """Bits left of one frame come before those of the next, the lowest bit first."""
    request = replace(_request(ENCAPSULATED_UNCOMPRESSED, _BITS), bits_before=bits_before)
    assert join_single_bits(request, bytes([frame])) == (whole, bits_left)


def test_single_bits_as_numpy_packs_them() -> None:
    """Many frames of an odd number of bits are packed as their bits in one row."""
    bits = np.random.default_rng(1).integers(0, 2, (50, 5), dtype="u1")
    joined, left = b"", ""
    for frame in bits:
        request = replace(_request(ENCAPSULATED_UNCOMPRESSED, _BITS), bits_before=left)
        whole, left = join_single_bits(request, np.packbits(frame, bitorder="little").tobytes())
        joined += whole
    assert joined == np.packbits(bits, bitorder="little").tobytes()[: len(joined)]
    assert (len(joined), len(left)) == (31, 2)


def test_messages_come_back() -> None:
    """A request and an answer are the same after they were sent."""
    request = _request(HTJ2KLossless)
    answer = FrameAnswer("RGB", 1, "010")
    assert decode_request(encode_message(request, 7)[LENGTHS.size :]) == request
    assert decode_answer(encode_message(answer, 7)[LENGTHS.size :]) == answer
    failed = FrameAnswer(failure=Failure.NO_MEMORY)
    assert decode_answer(encode_message(failed, 0)[LENGTHS.size :]) == failed


@pytest.mark.parametrize(
    ("number", "stated", "expected"),
    [
        ("50", "00", True),
        ("51", "", True),
        ("57", "", False),
        ("70", "01", False),
        ("80", "", False),
        ("81", "00", False),
        ("81", "", True),
        ("90", "", False),
        ("91", "00", False),
        ("91", "", True),
        ("201", "", False),
        ("203", "01", True),
        ("203", "00", False),
    ],
)
def test_what_is_lossy(number: str, stated: str, expected: bool) -> None:  # noqa: FBT001
    """Transfer Syntaxes that may be lossy are, unless the data set denies it (rule E-34)."""
    assert is_lossy(f"1.2.840.10008.1.2.4.{number}", stated) is expected


def _request(uid: str, pixels: ImagePixels = _PIXELS) -> FrameRequest:
    return FrameRequest(uid, pixels, bits_before="", time_limit_seconds=60)
