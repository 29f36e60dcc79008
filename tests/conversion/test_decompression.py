"""Compressed pixels as native ones: compared value by value with what was compressed."""

import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import openjpeg
import pytest
from pydicom import Dataset, FileMetaDataset, dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pacsnode.conversion.codecs import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED
from pacsnode.conversion.converter import Converter
from pacsnode.conversion.decoder import Decoder
from tests.support import htj2k
from tests.support.dcmtk import run_tool
from tests.support.instances import encoded_data_set_of
from tests.support.pixel_objects import (
    Pixels,
    as_file,
    convert_and_read,
    convert_file,
    encode_with_dcmtk,
    gradient,
    image,
    native_pixels,
    write_encapsulated,
    write_image,
)

_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
_GREY_8 = gradient((1, 37, 53))
_GREY_16 = gradient((1, 37, 53), "u2", 0, 65535)
_GREY_12 = gradient((1, 37, 53), "u2", 0, 4095)
_SIGNED_16 = gradient((1, 37, 53), "i2", -32768, 32767)
_SIGNED_12 = gradient((1, 37, 53), "i2", -2048, 2047)
_COLOUR = gradient((1, 38, 54, 3))
_FRAMES = gradient((3, 37, 53))

_JPEG_57 = ("dcmcjpeg", "+el", "+sv", "4")
_JPEG_70 = ("dcmcjpeg", "+e1")
_JPEG_LS = ("dcmcjpls", "+el")
_RLE = ("dcmcrle",)
_LOSSLESS_TOOLS = (_JPEG_57, _JPEG_70, _JPEG_LS, _RLE)


def _name(command: tuple[str, ...]) -> str:
    return "".join(command)


@pytest.mark.parametrize("command", _LOSSLESS_TOOLS, ids=_name)
@pytest.mark.parametrize(
    ("pixels", "bits_stored"),
    [
        (_GREY_8, 8),
        (_GREY_16, 16),
        (_GREY_12, 12),
        (_SIGNED_16, 16),
        (_SIGNED_12, 12),
        (_FRAMES, 8),
    ],
    ids=["8", "16", "12 in 16", "signed 16", "signed 12 in 16", "3 frames"],
)
def test_lossless_grey(
    tmp_path: Path, command: tuple[str, ...], pixels: Pixels, bits_stored: int
) -> None:
    """What DCMTK compressed without loss comes out with each pixel as it was."""
    native = write_image(image(pixels, "MONOCHROME2", BitsStored=bits_stored), tmp_path / "native")
    path = encode_with_dcmtk(native, tmp_path / "compressed", *command)
    data_set = convert_and_read(path)
    assert (native_pixels(data_set) == pixels).all()
    assert (data_set.BitsStored, data_set.PhotometricInterpretation) == (bits_stored, "MONOCHROME2")


@pytest.mark.parametrize("command", _LOSSLESS_TOOLS, ids=_name)
def test_lossless_rgb(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Colours that were compressed without loss come out as they were, and as RGB."""
    native = write_image(image(_COLOUR, "RGB"), tmp_path / "native")
    path = encode_with_dcmtk(native, tmp_path / "compressed", *command)
    data_set = convert_and_read(path)
    assert (native_pixels(data_set) == _COLOUR).all()
    assert data_set.PhotometricInterpretation == "RGB"


@pytest.mark.parametrize("command", _LOSSLESS_TOOLS, ids=_name)
def test_lossless_palette(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The indexes into a palette come out as they were, and the palette stays."""
    palette = image(_GREY_8, "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(palette, f"{colour}PaletteColorLookupTableData", bytes(range(256)) * 2)
    native = write_image(palette, tmp_path / "native")
    path = encode_with_dcmtk(native, tmp_path / "compressed", *command)
    data_set = convert_and_read(path)
    assert (native_pixels(data_set) == _GREY_8).all()
    assert data_set.PhotometricInterpretation == "PALETTE COLOR"
    assert data_set.RedPaletteColorLookupTableData == bytes(range(256)) * 2


@pytest.mark.parametrize("uid", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize(
    ("pixels", "interpretation"),
    [
        (_GREY_8, "MONOCHROME1"),
        (_GREY_16, "MONOCHROME2"),
        (_SIGNED_16, "MONOCHROME2"),
        (_COLOUR, "RGB"),
        (_COLOUR, "YBR_FULL"),
    ],
    ids=["8", "16", "signed 16", "RGB", "YBR"],
)
def test_lossless_by_other_encoders(
    tmp_path: Path, uid: str, pixels: Pixels, interpretation: str
) -> None:
    """What other encoders compressed without loss comes out with each pixel as it was."""
    path = write_image(image(pixels, interpretation), tmp_path / "compressed", uid)
    data_set = convert_and_read(path)
    assert (native_pixels(data_set) == pixels).all()
    assert data_set.PhotometricInterpretation == interpretation


@pytest.mark.parametrize(
    ("name", "pixels"), [("grey 8", htj2k.GREY_8), ("grey 16", htj2k.GREY_16), ("RGB", htj2k.RGB)]
)
def test_htj2k_lossless(tmp_path: Path, name: str, pixels: Pixels) -> None:
    """HTJ2K without loss comes out as it was, with its colour transform undone."""
    interpretation = "YBR_RCT" if name == "RGB" else "MONOCHROME2"
    data_set = image(pixels, interpretation)
    path = write_encapsulated(
        data_set, [htj2k.CODESTREAMS[name]], tmp_path / "htj2k", HTJ2KLossless
    )
    converted = convert_and_read(path)
    assert (native_pixels(converted) == pixels).all()
    assert converted.PhotometricInterpretation == interpretation.replace("YBR_RCT", "RGB")


def test_htj2k_lossy(tmp_path: Path) -> None:
    """HTJ2K with loss is as far from the original as its encoder's own decoder says, and lossy."""
    data_set = image(htj2k.GREY_8, "MONOCHROME2")
    path = write_encapsulated(data_set, [htj2k.CODESTREAMS["lossy"]], tmp_path / "htj2k", HTJ2K)
    converted = convert_and_read(path)
    assert _distance(native_pixels(converted), htj2k.GREY_8) == htj2k.LOSSY_DISTANCE
    assert converted.LossyImageCompression == "01"


@pytest.mark.parametrize(
    ("command", "pixels", "interpretation"),
    [
        (("dcmcjpeg", "+eb"), _GREY_8, "MONOCHROME2"),
        (("dcmcjpeg", "+eb"), _FRAMES, "MONOCHROME1"),
        (("dcmcjpeg", "+eb", "+cr"), _COLOUR, "RGB"),
        (("dcmcjpeg", "+eb", "+cy", "+s4"), _COLOUR, "YBR_FULL"),
        (("dcmcjpeg", "+eb", "+cy", "+s2"), _COLOUR, "YBR_FULL"),
        (("dcmcjpeg", "+ee", "+bt"), _GREY_12, "MONOCHROME2"),
        (("dcmcjpeg", "+ee", "+be"), _GREY_8, "MONOCHROME2"),
    ],
    ids=["grey", "frames", "RGB", "YBR", "YBR 4:2:2", "12 bit", "extended 8 bit"],
)
def test_jpeg_with_loss(
    tmp_path: Path, command: tuple[str, ...], pixels: Pixels, interpretation: str
) -> None:
    """Each value is at most 2 from what DCMTK decodes without converting colours (4:2:2: 12).

    Decoders may differ in rounding, and in how they fill in the colours left out. What must be said
    of the pixels is said: a full rate, and the loss.
    """
    bits = 12 if "+bt" in command else 8
    native = image(pixels, "RGB" if pixels.ndim == 4 else interpretation, BitsStored=bits)
    path = encode_with_dcmtk(
        write_image(native, tmp_path / "native"), tmp_path / "compressed", *command
    )
    reference = tmp_path / "reference"
    assert run_tool("dcmdjpeg", "+cn", str(path), str(reference)).exit_code == 0
    converted = convert_and_read(path)
    tolerance = 12 if "+s2" in command else 2
    distance = _distance(native_pixels(converted), native_pixels(dcmread(reference)))
    assert distance <= tolerance
    assert converted.PhotometricInterpretation == interpretation
    assert converted.LossyImageCompression == "01"


@pytest.mark.parametrize(
    ("pixels", "bits_stored"),
    [(_GREY_8, 8), (_GREY_12, 12), (_COLOUR, 8), (_FRAMES, 8)],
    ids=["8", "12 in 16", "RGB", "3 frames"],
)
def test_jpeg_ls_with_loss(tmp_path: Path, pixels: Pixels, bits_stored: int) -> None:
    """Each value is at most as far from the original as the encoder was told: 3."""
    interpretation = "RGB" if pixels.ndim == 4 else "MONOCHROME2"
    native = write_image(image(pixels, interpretation, BitsStored=bits_stored), tmp_path / "native")
    path = encode_with_dcmtk(native, tmp_path / "compressed", "dcmcjpls", "+en", "+md", "3")
    converted = convert_and_read(path)
    assert 0 < _distance(native_pixels(converted), pixels) <= 3
    assert converted.LossyImageCompression == "01"


@pytest.mark.parametrize("pixels", [_GREY_8, _COLOUR], ids=["grey", "RGB"])
def test_jpeg_2000_with_loss(tmp_path: Path, pixels: Pixels) -> None:
    """Compressed to a fifth, a smooth image is at most 8 from the original, and lossy."""
    native = image(pixels, "RGB" if pixels.ndim == 4 else "MONOCHROME2")
    native.file_meta = FileMetaDataset()
    native.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    native.compress(JPEG2000, j2k_cr=[5], generate_instance_uid=False)
    path = tmp_path / "compressed"
    dcmwrite(path, native, enforce_file_format=True)
    converted = convert_and_read(path)
    assert _distance(native_pixels(converted), pixels) <= 8
    assert converted.LossyImageCompression == "01"


def test_signed_numbers_in_an_unsigned_jpeg_2000() -> None:
    """Numbers of a signed CT whose codestream says unsigned get the sign of their 13th bit."""
    path = Path(get_testdata_file("J2K_pixelrep_mismatch.dcm"))
    codestream = next(generate_frames(dcmread(path).PixelData, number_of_frames=1))
    unsigned = openjpeg.decode(codestream).astype(int)
    assert (_converted_pixels(path)[0] == (unsigned ^ 0x1000) - 0x1000).all()
    assert unsigned.max() > 0x1000


@pytest.mark.parametrize(
    ("compressed", "native"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm"),
        ("rtdose_rle.dcm", "rtdose.dcm"),
    ],
)
def test_compressed_files_that_have_a_sibling(compressed: str, native: str) -> None:
    """Files of other makers, compressed without loss, have the pixels of their native siblings."""
    ours = _converted_pixels(Path(get_testdata_file(compressed)))
    theirs = _converted_pixels(Path(get_testdata_file(native)))
    assert (ours == theirs).all()


@pytest.mark.parametrize("target", _NATIVE)
@pytest.mark.parametrize(
    "pixels", [_GREY_16, _GREY_8, _FRAMES, _COLOUR], ids=["16", "8", "3 frames", "RGB"]
)
def test_every_native_target(tmp_path: Path, target: str, pixels: Pixels) -> None:
    """DCMTK reads the result in each native Transfer Syntax, and the pixels are the same."""
    interpretation = "RGB" if pixels.ndim == 4 else "MONOCHROME2"
    path = write_image(image(pixels, interpretation), tmp_path / "compressed", RLELossless)
    converted = as_file(convert_file(path, target), target, tmp_path / "converted")
    again = tmp_path / "again"
    assert run_tool("dcmconv", "+te", str(converted), str(again)).exit_code == 0
    assert (native_pixels(dcmread(again)) == pixels).all()


def test_only_what_must_change_changes(tmp_path: Path) -> None:
    """All elements but those of the pixels are in the result as they were stored, to the byte."""
    data_set = image(_COLOUR, "RGB", WindowCenter="40", PixelAspectRatio=["1", "1"])
    data_set.ReferencedImageSequence = [Dataset()]
    data_set.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    data_set.add_new(0x00091001, "UN", b"odd!")
    path = write_image(data_set, tmp_path / "compressed", RLELossless)
    stored = encoded_data_set_of(path)
    converted = convert_file(path, ExplicitVRLittleEndian)
    end = stored.index(b"\xe0\x7f\x10\x00")
    assert converted[:end] == stored[:end]
    assert (
        converted[end:]
        == b"\xe0\x7f\x10\x00OB\0\0" + (38 * 54 * 3).to_bytes(4, "little") + _COLOUR.tobytes()
    )


def test_colour_by_plane_becomes_colour_by_pixel(tmp_path: Path) -> None:
    """A Planar Configuration of 1 in the stored data set does not outlive decoding."""
    data_set = image(_COLOUR, "RGB")
    data_set.PlanarConfiguration = 1
    data_set.PixelData = _COLOUR.transpose(0, 3, 1, 2).tobytes()
    native = write_image(data_set, tmp_path / "native")
    path = encode_with_dcmtk(native, tmp_path / "compressed", "dcmcrle")
    assert dcmread(path).PlanarConfiguration == 1
    converted = convert_and_read(path)
    assert converted.PlanarConfiguration == 0
    assert (native_pixels(converted) == _COLOUR).all()


def test_an_overlay_in_unused_bits_stays(tmp_path: Path) -> None:
    """RLE encodes all bits allocated; those above Bits Stored come out as they were."""
    pixels = _GREY_12 | np.uint16(0x8000)
    path = write_image(
        image(pixels, "MONOCHROME2", BitsStored=12), tmp_path / "compressed", RLELossless
    )
    assert (native_pixels(convert_and_read(path)) == pixels).all()


@pytest.mark.parametrize(
    ("stated", "uid", "expected"),
    [
        (None, JPEGLSNearLossless, "01"),
        ("", JPEGLSNearLossless, "01"),
        ("00", JPEGLSNearLossless, "00"),
        ("01", JPEGLSNearLossless, "01"),
        (None, JPEGLSLossless, None),
        ("01", JPEGLSLossless, "01"),
    ],
)
def test_lossy_image_compression(
    tmp_path: Path, stated: str | None, uid: str, expected: str | None
) -> None:
    """Nothing lossy is ever said to be lossless, nor the other way round (rule E-34)."""
    path = write_image(image(_GREY_8, "MONOCHROME2"), tmp_path / "compressed", JPEGLSLossless)
    data_set = dcmread(path)
    data_set.file_meta.TransferSyntaxUID = uid
    if stated is not None:
        data_set.LossyImageCompression = stated
    data_set.LossyImageCompressionRatio = "4"
    data_set.save_as(path)
    converted = convert_and_read(path)
    assert converted.get("LossyImageCompression") == expected
    assert converted.LossyImageCompressionRatio == 4


def test_jpeg_baseline_is_lossy_whatever_it_says(tmp_path: Path) -> None:
    """JPEG Baseline has no lossless form: "00" is not believed."""
    native = write_image(image(_GREY_8, "MONOCHROME2"), tmp_path / "native")
    path = encode_with_dcmtk(native, tmp_path / "compressed", "dcmcjpeg", "+eb")
    data_set = dcmread(path)
    data_set.LossyImageCompression = "00"
    data_set.save_as(path)
    assert convert_and_read(path).LossyImageCompression == "01"


@pytest.mark.parametrize("uid", [ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME])
@pytest.mark.parametrize("columns", [8, 5], ids=["whole bytes", "odd bits"])
def test_single_bits(tmp_path: Path, uid: str, columns: int) -> None:
    """Frames of single bits follow each other without a gap, as native ones do."""
    bits = np.arange(3 * 3 * columns).reshape(3, 3, columns) % 3 == 0
    frames = [np.packbits(frame, bitorder="little").tobytes() for frame in bits]
    if uid == DEFLATED_IMAGE_FRAME:
        frames = [zlib.compress(frame, wbits=-15) for frame in frames]
    data_set = image(bits.astype("u1"), "MONOCHROME2")
    data_set.BitsAllocated = data_set.BitsStored = 1
    data_set.HighBit = 0
    path = write_encapsulated(data_set, frames, tmp_path / "bits", uid)
    native = convert_and_read(path).PixelData
    unpacked = np.unpackbits(np.frombuffer(native, "u1"), bitorder="little")
    assert (unpacked[: bits.size] == bits.ravel()).all()
    assert len(native) == -(-bits.size // 16) * 2


def test_single_bits_of_jpeg_2000(tmp_path: Path) -> None:
    """A codec that yields a byte for each bit gives packed bits, too."""
    bits = gradient((2, 37, 53), "u1", 0, 1)
    data_set = image(bits, "MONOCHROME2", BitsStored=1)
    path = write_image(data_set, tmp_path / "bits", JPEG2000Lossless)
    compressed = dcmread(path)
    compressed.BitsAllocated = 1
    compressed.save_as(path)
    native = np.frombuffer(convert_and_read(path).PixelData, "u1")
    assert (np.unpackbits(native, bitorder="little")[: bits.size] == bits.ravel()).all()


def test_a_compressed_icon(tmp_path: Path) -> None:
    """The encapsulated pixels of an Icon Image Sequence become native as well."""
    icon = image(_GREY_8, "MONOCHROME2")
    compressed_icon = dcmread(write_image(icon, tmp_path / "icon", JPEGLSLossless))
    data_set = image(_GREY_16, "MONOCHROME2")
    path = write_image(data_set, tmp_path / "compressed", JPEGLSLossless)
    whole = dcmread(path)
    whole.IconImageSequence = [Dataset(compressed_icon)]
    whole.save_as(path)
    converted = convert_and_read(path)
    converted_icon = converted.IconImageSequence[0]
    assert converted_icon.PixelData == _GREY_8.tobytes() + b"\0"
    assert not converted_icon["PixelData"].is_undefined_length
    assert (native_pixels(converted) == _GREY_16).all()


def test_one_process_decodes_many_files(tmp_path: Path) -> None:
    """A converter keeps the process that it has started."""
    path = write_image(image(_GREY_8, "MONOCHROME2"), tmp_path / "compressed", RLELossless)
    with Decoder() as decoder, Converter(tmp_path, decoder) as converter:
        convert_file(path, ExplicitVRLittleEndian, converter)
        first = decoder.process_id
        convert_file(path, ImplicitVRLittleEndian, converter)
        assert first is not None
        assert decoder.process_id == first
    assert decoder.process_id is None


def test_native_data_sets_start_no_process(tmp_path: Path) -> None:
    """The process that decodes is started only when there is something to decode."""
    path = write_image(image(_GREY_8, "MONOCHROME2"), tmp_path / "native")
    with Decoder() as decoder:
        convert_file(path, ImplicitVRLittleEndian, Converter(tmp_path, decoder))
        assert decoder.process_id is None


def _distance(pixels: Pixels, others: Pixels) -> int:
    """Return how far the most distant values are apart."""
    assert pixels.shape == others.shape
    return int(abs(pixels.astype(int) - others.astype(int)).max())


def _converted_pixels(path: Path) -> Pixels:
    """Return the pixels of a file that is not to be written beside."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        target = ExplicitVRLittleEndian
        if dcmread(copy, stop_before_pixels=True).file_meta.TransferSyntaxUID == target:
            target = ImplicitVRLittleEndian
        return native_pixels(convert_and_read(copy, target))
