"""Transfer Syntaxes: which we keep, and how each encodes Data Elements.

Source: PS3.5 10, Annex A; PS3.6 A.
"""

from dataclasses import dataclass
from typing import Final

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"  # retired, still sent

# PS3.4 C.4: identifiers are small and have no pixels; compressed syntaxes make no sense for them.
IDENTIFIER_TRANSFER_SYNTAXES: Final = frozenset(
    {IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN}
)

# Rule H-16. Left out: JPIP, whose pixels stay elsewhere and could not be kept (G-9), SMPTE ST 2110
# (a video stream, not a file), and encapsulations that encode no data set (RFC 2557, XML).
STORAGE_TRANSFER_SYNTAXES: Final = frozenset(
    {
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        "1.2.840.10008.1.2.1.98",  # Encapsulated Uncompressed Explicit VR Little Endian
        "1.2.840.10008.1.2.4.50",  # JPEG Baseline
        "1.2.840.10008.1.2.4.51",  # JPEG Extended
        "1.2.840.10008.1.2.4.57",  # JPEG Lossless, process 14
        "1.2.840.10008.1.2.4.70",  # JPEG Lossless, process 14, selection value 1
        "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
        "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless only
        "1.2.840.10008.1.2.4.91",  # JPEG 2000
        "1.2.840.10008.1.2.4.92",  # JPEG 2000 part 2 multi-component, lossless only
        "1.2.840.10008.1.2.4.93",  # JPEG 2000 part 2 multi-component
        "1.2.840.10008.1.2.4.100",  # MPEG2 main profile, main level
        "1.2.840.10008.1.2.4.100.1",  # the same, fragmentable
        "1.2.840.10008.1.2.4.101",  # MPEG2 main profile, high level
        "1.2.840.10008.1.2.4.101.1",
        "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC/H.264 high profile, level 4.1
        "1.2.840.10008.1.2.4.102.1",
        "1.2.840.10008.1.2.4.103",  # the same, BD-compatible
        "1.2.840.10008.1.2.4.103.1",
        "1.2.840.10008.1.2.4.104",  # H.264 level 4.2 for 2D video
        "1.2.840.10008.1.2.4.104.1",
        "1.2.840.10008.1.2.4.105",  # H.264 level 4.2 for 3D video
        "1.2.840.10008.1.2.4.105.1",
        "1.2.840.10008.1.2.4.106",  # H.264 stereo high profile
        "1.2.840.10008.1.2.4.106.1",
        "1.2.840.10008.1.2.4.107",  # HEVC/H.265 main profile
        "1.2.840.10008.1.2.4.108",  # HEVC/H.265 main 10 profile
        "1.2.840.10008.1.2.4.110",  # JPEG XL lossless
        "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG recompression
        "1.2.840.10008.1.2.4.112",  # JPEG XL
        "1.2.840.10008.1.2.4.201",  # HTJ2K lossless only
        "1.2.840.10008.1.2.4.202",  # HTJ2K RPCL, lossless only
        "1.2.840.10008.1.2.4.203",  # HTJ2K
        "1.2.840.10008.1.2.5",  # RLE lossless
        "1.2.840.10008.1.2.8.1",  # Deflated Image Frame Compression
    }
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a Transfer Syntax encodes Data Elements.

    Attributes:
        is_implicit_vr: Data Elements carry no VR.
        is_little_endian: byte order of tags, lengths and binary values.
        is_deflated: the whole data set is one raw deflate stream (RFC 1951).
    """

    is_implicit_vr: bool
    is_little_endian: bool
    is_deflated: bool


_EXPLICIT_LITTLE = Encoding(is_implicit_vr=False, is_little_endian=True, is_deflated=False)
_OTHERS = {
    IMPLICIT_VR_LITTLE_ENDIAN: Encoding(
        is_implicit_vr=True, is_little_endian=True, is_deflated=False
    ),
    EXPLICIT_VR_BIG_ENDIAN: Encoding(
        is_implicit_vr=False, is_little_endian=False, is_deflated=False
    ),
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Encoding(
        is_implicit_vr=False, is_little_endian=True, is_deflated=True
    ),
}


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """Return how a Transfer Syntax encodes Data Elements.

    Every syntax that is not one of the four native ones is Explicit VR Little Endian around its
    encapsulated pixels.

    Source: PS3.5 A.4.
    """
    return _OTHERS.get(transfer_syntax_uid, _EXPLICIT_LITTLE)
