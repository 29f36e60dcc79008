"""One encoded frame to native pixels.

Source: PS3.5 8.1.1, 8.2, A.4; rules E-34, E-35.
"""

import zlib
from dataclasses import dataclass
from typing import Final

from pacsnode.conversion.codecs import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED
from pacsnode.conversion.decoder_messages import Failure, FrameRequest, UndecodableError

Buffer = bytes | bytearray | memoryview
_BITS_OF_A_BYTE: Final = 8


@dataclass(frozen=True, slots=True)
class NativeFrame:
    """A decoded frame: its native pixels, and what must be said of them from now on."""

    pixels: Buffer
    photometric_interpretation: str
    planar_configuration: int


def decode_frame(request: FrameRequest, encoded: bytes) -> NativeFrame:
    """Return a frame as native pixels in little endian, from the start of a byte.

    Raises:
        UndecodableError: it cannot be decoded.
        MemoryError: that takes more memory than there is.

    Source: PS3.5 A.4.
    """
    pixels = request.pixels
    length = -(-pixels.frame_bits // _BITS_OF_A_BYTE)
    if request.transfer_syntax_uid == ENCAPSULATED_UNCOMPRESSED:
        native: Buffer = encoded
    elif request.transfer_syntax_uid == DEFLATED_IMAGE_FRAME:
        native = _inflated(encoded, length)
    else:
        return _decode_with_codec(request, encoded)
    if len(native) < length:
        raise UndecodableError(Failure.NOT_AS_ANNOUNCED)
    return NativeFrame(
        native[:length], pixels.photometric_interpretation, pixels.planar_configuration
    )


def join_single_bits(request: FrameRequest, frame: Buffer) -> tuple[bytes, str]:
    """Return the whole bytes of what the frame before left and a frame, and the bits left of it.

    Source: PS3.5 8.1.1, Annex D: the first pixel is the lowest bit.
    """
    count = request.pixels.frame_bits
    before = request.bits_before
    bits = int.from_bytes(frame, "little") & ((1 << count) - 1)
    bits = bits << len(before) | int(before[::-1] or "0", 2)
    count += len(before)
    whole = bits.to_bytes(-(-count // _BITS_OF_A_BYTE), "little")
    left = count % _BITS_OF_A_BYTE
    if not left:
        return whole, ""
    return whole[:-1], f"{whole[-1]:0{left}b}"[::-1]


def _decode_with_codec(request: FrameRequest, encoded: bytes) -> NativeFrame:
    try:
        # Here: it takes half a second, and the other two Transfer Syntaxes do without.
        from pacsnode.conversion.codec_frames import decode_with_codec  # noqa: PLC0415
    except ImportError as error:
        raise UndecodableError(Failure.NO_CODEC) from error
    pixels, photometric_interpretation = decode_with_codec(request, encoded)
    return NativeFrame(pixels, photometric_interpretation, planar_configuration=0)


def _inflated(encoded: bytes, length: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, length)
    except zlib.error as error:
        raise UndecodableError(Failure.NOT_DECODABLE) from error
