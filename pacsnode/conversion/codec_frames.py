"""Frames decoded by the codecs that pydicom knows. Imported by the decoding process only.

Source: PS3.5 8.2, A.4; rules E-34, E-35.
"""

import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

from pacsnode.conversion.codecs import JPEG, plugin_of
from pacsnode.conversion.decoder_messages import Failure, FrameRequest, UndecodableError

_START_OF_SCAN = b"\xff\xda"
_END_OF_IMAGE = b"\xff\xd9"
_SUBSAMPLED = "YBR_FULL_422"
_FULLY_SAMPLED = "YBR_FULL"


def decode_with_codec(request: FrameRequest, encoded: bytes) -> tuple[memoryview, str]:
    """Return the native pixels of a frame, colour by pixel, and their Photometric Interpretation.

    They are what the codec yields: no colours are converted that the codestream does not convert.
    Numbers have as many bits as Bits Allocated says, signed ones with their sign in all of them.

    Raises:
        UndecodableError: it cannot be decoded.
        MemoryError: that takes more memory than there is.

    Source: PS3.5 8.2; PS3.3 C.7.6.3.1.2; rule E-35.
    """
    if request.transfer_syntax_uid in JPEG and not _has_end(encoded):
        raise UndecodableError(Failure.NOT_DECODABLE)
    try:
        options: dict[str, Any] = {
            **asdict(request.pixels),
            "number_of_frames": 1,
            "correct_unused_bits": _sign_is_cut_off(request, encoded),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array, properties = get_decoder(request.transfer_syntax_uid).as_array(
                encapsulate([encoded], has_bot=False),
                raw=True,
                index=0,
                decoding_plugin=plugin_of(request.transfer_syntax_uid),
                **options,
            )
    except MemoryError:
        raise
    except Exception as error:  # whatever a codec raises
        raise UndecodableError(Failure.NOT_DECODABLE) from error
    if request.pixels.bits_allocated == 1:
        array = np.packbits(array, bitorder="little")
    pixels = np.ascontiguousarray(array).data.cast("B")
    interpretation = str(properties["photometric_interpretation"])
    return pixels, _FULLY_SAMPLED if interpretation == _SUBSAMPLED else interpretation


def _has_end(encoded: bytes) -> bool:
    """Tell whether a JPEG codestream comes to its end; the codec would fill in what is missing.

    Source: ITU-T T.81 B.1.1.3: neither marker can occur among compressed pixels.
    """
    return encoded.rfind(_END_OF_IMAGE) > encoded.find(_START_OF_SCAN) >= 0


def _sign_is_cut_off(request: FrameRequest, encoded: bytes) -> bool:
    """Tell whether a JPEG codestream has signed numbers of fewer bits than the native frame.

    JPEG knows no sign. RLE encodes all bits allocated; some hold overlays in the upper ones.
    """
    pixels = request.pixels
    if request.transfer_syntax_uid not in JPEG or not pixels.pixel_representation:
        return False
    # Here: the other codecs do without it.
    from libjpeg.utils import get_parameters  # noqa: PLC0415

    precision: int = get_parameters(encoded)["precision"]
    return precision <= pixels.bits_stored
