"""Encapsulated pixels to native ones, and what must be said of them then.

All that a data set says of other things stays as it is, its SOP Instance UID too.

Source: PS3.5 8.1, 8.2, A.4; PS3.3 C.7.6.1.1.5, C.7.6.3; rules E-33 to E-35.
"""

from collections.abc import Callable
from typing import Final

from pacsnode.conversion.byte_source import Scratch, Section
from pacsnode.conversion.codecs import is_lossy
from pacsnode.conversion.decoder import Decoder
from pacsnode.conversion.decoder_messages import FrameAnswer, FrameRequest
from pacsnode.conversion.encapsulated_frames import EncapsulatedFrame, encapsulated_frames
from pacsnode.conversion.errors import ConversionError, ConversionGivenUpError
from pacsnode.conversion.image_pixels import ImagePixels, read_image_pixels
from pacsnode.conversion.recoder import Substitute, Substitutes
from pacsnode.conversion.span import (
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    LOSSY_IMAGE_COMPRESSION,
    PHOTOMETRIC_INTERPRETATION,
    PIXEL_DATA,
    PLANAR_CONFIGURATION,
    Span,
)
from pacsnode.dicom.data_elements import UNDEFINED_LENGTH

_PIECE_LENGTH: Final = 256 * 1024
_BITS_OF_A_BYTE: Final = 8
_MOST_BYTES: Final = UNDEFINED_LENGTH - 1
# No codec makes a frame larger by more than a little; colour profiles may stand with it.
_MOST_BYTES_PER_DECODED: Final = 4
_SPARE_BYTES: Final = 16 * 1024 * 1024


class Decompression:
    """Decodes the encapsulated pixels of one data set and of its items (icons have some)."""

    def __init__(
        self,
        transfer_syntax_uid: str,
        decoder: Decoder,
        scratch: Scratch,
        frame_seconds: int,
        check: Callable[[], None],
    ) -> None:
        """Prepare to decode.

        Args:
            transfer_syntax_uid: of the data set.
            decoder: of its frames.
            scratch: takes what is decoded: one for all, as items with pixels may be many.
            frame_seconds: how long a frame may take.
            check: called now and then; raises what ends the decoding.
        """
        self._transfer_syntax_uid = transfer_syntax_uid
        self._decoder = decoder
        self._scratch = scratch
        self._frame_seconds = frame_seconds
        self._check = check

    def substitutes(self, span: Span) -> Substitutes:
        """Return what is changed in a data set or item: nothing if it has no encapsulated pixels.

        Raises:
            ConversionError: the pixels cannot be decoded.
            OSError: the file cannot be read.

        Source: PS3.5 8.2; PS3.3 C.7.6.1.1.5, C.7.6.3.1; rule E-35.
        """
        header = span.header(PIXEL_DATA)
        if header is None or header.length != UNDEFINED_LENGTH:
            if header is not None and header.length and span.is_whole:
                raise ConversionError("the pixels are not encapsulated")
            return {}
        pixels = read_image_pixels(span)
        if pixels.number_of_frames * pixels.frame_bits > _MOST_BYTES * _BITS_OF_A_BYTE:
            raise ConversionError("the pixels are too many for a native data set")
        native, answer = self._decode_frames(span, pixels)
        vr = b"OB" if pixels.bits_allocated <= _BITS_OF_A_BYTE else b"OW"
        substitutes: dict[int, Substitute | None] = {
            EXTENDED_OFFSET_TABLE: None,
            EXTENDED_OFFSET_TABLE_LENGTHS: None,
            PIXEL_DATA: Substitute(vr, native),
        }
        if answer.photometric_interpretation != pixels.photometric_interpretation:
            interpretation = answer.photometric_interpretation.encode()
            substitutes[PHOTOMETRIC_INTERPRETATION] = self._short(b"CS", interpretation)
        if pixels.samples_per_pixel > 1:
            configuration = answer.planar_configuration.to_bytes(2, "little")
            substitutes[PLANAR_CONFIGURATION] = self._short(b"US", configuration)
        lossy = span.value(LOSSY_IMAGE_COMPRESSION).decode("ascii", "replace").strip(" \0")
        if span.is_whole and lossy != "01" and is_lossy(self._transfer_syntax_uid, lossy):
            substitutes[LOSSY_IMAGE_COMPRESSION] = self._short(b"CS", b"01")
        return substitutes

    def _decode_frames(self, span: Span, pixels: ImagePixels) -> tuple[Section, FrameAnswer]:
        """Return the native frames, of even length, and what is to be said of all of them."""
        start = self._scratch.length
        said: set[tuple[str, int]] = set()
        answer = FrameAnswer()
        frames = encapsulated_frames(span, pixels.number_of_frames)
        for number, frame in enumerate(frames, start=1):
            answer = self._decode_frame(frame, pixels, number, answer.bits_left)
            said.add((answer.photometric_interpretation, answer.planar_configuration))
        if len(said) != 1:
            raise ConversionError("the frames are encoded in different ways")
        if answer.bits_left:
            self._scratch.write(bytes([int(answer.bits_left[::-1], 2)]))
        if (self._scratch.length - start) % 2:
            self._scratch.write(b"\0")
        return self._since(start), answer

    def _decode_frame(
        self,
        frame: EncapsulatedFrame,
        pixels: ImagePixels,
        number: int,
        bits_before: str,
    ) -> FrameAnswer:
        """Decode one frame and add it to the native ones."""
        request = FrameRequest(self._transfer_syntax_uid, pixels, bits_before, self._frame_seconds)
        if frame.length > _SPARE_BYTES + _MOST_BYTES_PER_DECODED * pixels.frame_bytes_decoded:
            # The process that decodes holds all of it.
            raise ConversionError(f"frame {number}: it is larger than any of its size can be")
        start = self._scratch.length
        encoded = frame.pieces(_PIECE_LENGTH)
        try:
            answer = self._decoder.decode(
                request, encoded, frame.length, self._scratch, self._check
            )
        except ConversionGivenUpError:
            raise
        except ConversionError as error:
            raise ConversionError(f"frame {number}: {error}") from error
        bits = len(bits_before) + pixels.frame_bits
        if self._scratch.length - start != bits // _BITS_OF_A_BYTE:
            raise ConversionError(f"frame {number}: it is not as large as the data set says")
        return answer

    def _short(self, vr: bytes, value: bytes) -> Substitute:
        start = self._scratch.write(value + b" " * (len(value) % 2))
        return Substitute(vr, self._since(start))

    def _since(self, start: int) -> Section:
        """Return what was put aside from a position on."""
        return Section(self._scratch, start, self._scratch.length - start)
