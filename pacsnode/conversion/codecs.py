"""Which compressed Transfer Syntaxes can be decoded, and what has to be installed for each.

Source: PS3.5 A.4; PS3.6 A.
"""

from functools import cache
from importlib.util import find_spec
from typing import Final

from pacsnode.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

NATIVE_TRANSFER_SYNTAXES: Final = frozenset(
    {
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    }
)
ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
DEFLATED_IMAGE_FRAME: Final = "1.2.840.10008.1.2.8.1"
RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"
JPEG: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
_JPEG_LS: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
_JPEG_2000: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
_ALWAYS_LOSSY: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51))
_PERHAPS_LOSSY: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (81, 91, 203))

# The modules that each needs, numpy and pydicom not counted, and pydicom's name of the decoder.
_PYLIBJPEG: Final = "pylibjpeg"
_MODULES: Final = {
    **dict.fromkeys(JPEG, (_PYLIBJPEG, "libjpeg")),
    **dict.fromkeys(_JPEG_LS, ("jpeg_ls",)),
    **dict.fromkeys(_JPEG_2000, (_PYLIBJPEG, "openjpeg")),
    RLE_LOSSLESS: (_PYLIBJPEG, "rle"),
}
_WITHOUT_CODEC: Final = frozenset({ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME})


def plugin_of(transfer_syntax_uid: str) -> str:
    """Return pydicom's name of the decoder for a Transfer Syntax that needs one."""
    return "pyjpegls" if transfer_syntax_uid in _JPEG_LS else _PYLIBJPEG


def is_lossy(transfer_syntax_uid: str, lossy_image_compression: str) -> bool:
    """Tell whether encapsulated pixels are to be taken as compressed with loss.

    Args:
        transfer_syntax_uid: of the data set.
        lossy_image_compression: value of (0028,2110); empty if there is none.

    Source: PS3.3 C.7.6.1.1.5; rule E-34.
    """
    if transfer_syntax_uid in _PERHAPS_LOSSY:
        return lossy_image_compression != "00"
    return transfer_syntax_uid in _ALWAYS_LOSSY


def why_not_convertible(source_transfer_syntax_uid: str, target_transfer_syntax_uid: str) -> str:
    """Return why no data set can be converted between two Transfer Syntaxes; empty if it can be.

    Whether a certain one can is only known when it was tried.

    Source: rules E-33, E-34, E-35.
    """
    if target_transfer_syntax_uid not in NATIVE_TRANSFER_SYNTAXES:
        return "nothing is compressed for sending"
    if source_transfer_syntax_uid in NATIVE_TRANSFER_SYNTAXES | _WITHOUT_CODEC:
        return ""
    modules = _MODULES.get(source_transfer_syntax_uid)
    if modules is None:
        return f"there is no decoder for Transfer Syntax {source_transfer_syntax_uid}"
    missing = [name for name in ("numpy", *modules) if not _is_installed(name)]
    if missing:
        return f"no codec is installed ({', '.join(missing)}): install pacsnode[codecs]"
    return ""


@cache
def _is_installed(module: str) -> bool:
    return find_spec(module) is not None
