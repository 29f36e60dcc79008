"""What is said between a process and the one that decodes for it: a head as JSON, then bytes.

Each message starts with the lengths of the two, 4 and 8 bytes in little endian. A request has an
encoded frame as its bytes. An answer has the native frame; or none, and its head says why.

Source: PS3.5 8.1.
"""

import json
import struct
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from pacsnode.conversion.image_pixels import ImagePixels

LENGTHS: Final = struct.Struct("<LQ")


class Failure(StrEnum):
    """Why a frame could not be decoded; follows "frame 1: "."""

    NOT_DECODABLE = "the codec cannot decode it"
    NOT_AS_ANNOUNCED = "it is not as large as the data set says"
    NO_CODEC = "its codec cannot be loaded"
    NO_MEMORY = "decoding it takes too much memory"


class UndecodableError(Exception):
    """A frame cannot be decoded; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """How one frame is to be decoded.

    Attributes:
        transfer_syntax_uid: of the encoded frame.
        pixels: what the data set says of it.
        bits_before: of images of single bits, what the frame before left of a byte: up to seven
            bits, the lowest first. Such frames follow each other without a gap (PS3.5 8.1.1).
        time_limit_seconds: at least 1.
    """

    transfer_syntax_uid: str
    pixels: ImagePixels
    bits_before: str
    time_limit_seconds: int


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """What a decoded frame is.

    Attributes:
        photometric_interpretation: of the native frame.
        planar_configuration: of the native frame.
        bits_left: as `bits_before`, for the next frame.
        failure: None if it was decoded; all else is empty or 0 if not.
    """

    photometric_interpretation: str = ""
    planar_configuration: int = 0
    bits_left: str = ""
    failure: Failure | None = None


def encode_message(head: FrameRequest | FrameAnswer, length: int) -> bytes:
    """Return a message up to where its bytes start.

    Args:
        head: of the message.
        length: of its bytes.
    """
    encoded = json.dumps(asdict(head)).encode()
    return LENGTHS.pack(len(encoded), length) + encoded


def decode_request(head: bytes) -> FrameRequest:
    """Return the head of a request."""
    fields = json.loads(head)
    return FrameRequest(**{**fields, "pixels": ImagePixels(**fields["pixels"])})


def decode_answer(head: bytes) -> FrameAnswer:
    """Return the head of an answer.

    Raises:
        ValueError: it is none.
    """
    fields = json.loads(head)
    failure = fields.pop("failure")
    return FrameAnswer(**fields, failure=None if failure is None else Failure(failure))
