"""What goes wrong while decoding: one conversion fails with its reason, the next does not."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from pacsnode.conversion import byte_source, codecs
from pacsnode.conversion.codecs import why_not_convertible
from pacsnode.conversion.converter import Converter
from pacsnode.conversion.decoder import DECODING_COMMAND, Decoder
from pacsnode.conversion.decoder_messages import FrameRequest, encode_message
from pacsnode.conversion.errors import ConversionError
from pacsnode.conversion.image_pixels import ImagePixels
from tests.support.instances import encoded_data_set_of
from tests.support.pixel_objects import (
    DECODING_MODULE,
    HANG_WITH_INTERPRETER_LOCK,
    convert_file,
    decoding_process_that,
    encode_with_dcmtk,
    gradient,
    image,
    is_running,
    write_image,
)
from tests.support.waiting import wait_until

_PIXELS = gradient((2, 40, 50), "u2", 0, 65535)
_LARGE_PIXELS = gradient((1, 2000, 2000), "u2", 0, 65535)
_TAKES_A_LONG_TIME = "time.sleep(1000)"
_EATS_MEMORY = "return bytearray(1 << 34)"
_CRASHES = "os.kill(os.getpid(), 11)"


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    """A compressed image of two frames."""
    return write_image(image(_PIXELS, "MONOCHROME2"), tmp_path / "compressed", JPEGLSLossless)


@pytest.fixture(scope="module")
def large(module_folder: Path) -> Path:
    """A compressed image whose pixels are too large for memory."""
    return write_image(image(_LARGE_PIXELS, "MONOCHROME2"), module_folder / "large", RLELossless)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """A decoder whose first process can be made to fail by `command`."""
    with Decoder() as decoder:
        yield decoder


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (_CRASHES, "frame 1: the codec broke down"),
        (_TAKES_A_LONG_TIME, "frame 1: the codec broke down"),
        (HANG_WITH_INTERPRETER_LOCK, "frame 1: the codec broke down"),
        (_EATS_MEMORY, "frame 1: decoding it takes too much memory"),
    ],
    ids=["crashes", "sleeps", "hangs", "eats memory"],
)
def test_a_codec_that_misbehaves(tmp_path: Path, compressed: Path, does: str, reason: str) -> None:
    """It fails its conversion, within its time limit, and nothing of it is left."""
    with (
        Decoder(decoding_process_that(does)) as decoder,
        Converter(tmp_path, decoder, frame_seconds=1) as converter,
    ):
        assert _reason(compressed, converter) == reason
        began = time.monotonic()
        assert _reason(compressed, converter) == reason
        assert time.monotonic() - began < 10


def test_a_process_that_does_not_read(tmp_path: Path, compressed: Path) -> None:
    """A process that never answers is ended a second after its time limit."""
    with (
        Decoder((sys.executable, "-c", "import time; time.sleep(1000)")) as decoder,
        Converter(tmp_path, decoder, frame_seconds=1) as converter,
    ):
        assert _reason(compressed, converter) == "frame 1: the codec took too long"
        assert decoder.process_id is None


@pytest.mark.parametrize(
    "program",
    [
        "print('x' * 1000)",
        "import sys; sys.stdout.buffer.write(bytes(12))",
        "import sys; sys.stdout.buffer.write(b'\\xff' * 12)",
        "",
    ],
    ids=["text", "no head", "long head", "nothing"],
)
def test_a_process_that_answers_nonsense(tmp_path: Path, compressed: Path, program: str) -> None:
    """What is no answer fails the conversion."""
    with (
        Decoder((sys.executable, "-c", program)) as decoder,
        Converter(tmp_path, decoder) as converter,
    ):
        assert _reason(compressed, converter) == "frame 1: the codec broke down"


def test_a_program_that_is_not_there(tmp_path: Path, compressed: Path) -> None:
    """A process that cannot be started fails the conversion."""
    with (
        Decoder((str(tmp_path / "nothing"),)) as decoder,
        Converter(tmp_path, decoder) as converter,
    ):
        expected = "frame 1: the codec cannot be started: No such file or directory"
        assert _reason(compressed, converter) == expected


def test_the_next_conversion_gets_a_new_process(
    tmp_path: Path, compressed: Path, decoder: Decoder
) -> None:
    """After its process was killed, the converter converts with another one."""
    with Converter(tmp_path, decoder) as converter:
        expected = convert_file(compressed, ExplicitVRLittleEndian, converter)
        first = decoder.process_id
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not is_running(first), "the process to end")
        assert convert_file(compressed, ExplicitVRLittleEndian, converter) == expected
        assert decoder.process_id != first


def test_a_damaged_frame_leaves_the_process_alone(
    tmp_path: Path, compressed: Path, decoder: Decoder
) -> None:
    """What a codec refuses properly costs no new process."""
    with Converter(tmp_path, decoder) as converter:
        convert_file(compressed, ExplicitVRLittleEndian, converter)
        first = decoder.process_id
        damaged = write_image(image(_PIXELS, "MONOCHROME2"), tmp_path / "damaged", JPEGLSLossless)
        damaged.write_bytes(damaged.read_bytes().replace(b"\xff\xd8\xff\xf7", b"\xff\xd8\xff\xf8"))
        assert _reason(damaged, converter) == "frame 1: the codec cannot decode it"
        assert decoder.process_id == first


def test_a_codec_that_hangs_ends_without_its_parent() -> None:
    """A process whose parent is gone does not outlive its time limit, even holding the lock."""
    pixels = ImagePixels(8, 8, 1, 8, 8, 0, 0, "MONOCHROME2", 1)
    request = encode_message(FrameRequest(JPEGLSLossless, pixels, "", 1), 4)
    with subprocess.Popen(
        decoding_process_that(HANG_WITH_INTERPRETER_LOCK),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.communicate(request + b"1234", timeout=30)
        assert process.returncode == -signal.SIGALRM


def test_no_process_is_left_when_the_parent_is_killed(tmp_path: Path, compressed: Path) -> None:
    """The process that decodes ends when the one that it decodes for is killed."""
    program = f"""
import sys, time
from pathlib import Path
from pacsnode.conversion.converter import Converter
from pacsnode.conversion.decoder import Decoder
from tests.support.pixel_objects import convert_file
with Decoder() as decoder, Converter(Path({str(tmp_path)!r}), decoder) as converter:
    convert_file(Path({str(compressed)!r}), "{ExplicitVRLittleEndian}", converter)
    print(decoder.process_id, flush=True)
    time.sleep(1000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    wait_until(lambda: not is_running(child), "the process that decodes to end")


def test_ctrl_c_is_not_for_the_process_that_decodes(
    tmp_path: Path, compressed: Path, decoder: Decoder
) -> None:
    """SIGINT and SIGTERM leave it alone: whoever started it ends it when it is done."""
    with Converter(tmp_path, decoder) as converter:
        convert_file(compressed, ExplicitVRLittleEndian, converter)
        first = decoder.process_id
        assert first is not None
        os.kill(first, signal.SIGINT)
        os.kill(first, signal.SIGTERM)
        convert_file(compressed, ExplicitVRLittleEndian, converter)
        assert decoder.process_id == first


@pytest.mark.parametrize(
    "command", [("dcmcjpeg", "+e1"), ("dcmcjpeg", "+eb"), ("dcmcjpls",), ("dcmcrle",)]
)
def test_a_codestream_that_is_cut_off(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Half a frame is no frame."""
    native = write_image(image(gradient((1, 64, 64)), "MONOCHROME2"), tmp_path / "native")
    path = encode_with_dcmtk(native, tmp_path / "compressed", *command)
    _cut_pixels_in_half(path)
    assert _reason(path).startswith("frame 1: ")


def test_a_jpeg_2000_codestream_that_is_cut_off(tmp_path: Path) -> None:
    """Half a frame is no frame, though the codec could show something of it."""
    native = image(gradient((1, 64, 64)), "MONOCHROME2")
    path = write_image(native, tmp_path / "compressed", JPEG2000Lossless)
    _cut_pixels_in_half(path)
    assert _reason(path).startswith("frame 1: ")


@pytest.mark.parametrize("uid", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_a_codestream_of_another_size(tmp_path: Path, uid: str) -> None:
    """Frames that are not of the size that the data set says are refused."""
    path = write_image(image(_PIXELS, "MONOCHROME2"), tmp_path / "compressed", uid)
    data_set = dcmread(path)
    data_set.Rows += 1
    data_set.save_as(path)
    assert _reason(path) == "frame 1: the codec cannot decode it"


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("BitsAllocated", None, "Bits Allocated is missing"),
        ("Rows", 0, "what the data set says of its pixels makes no sense"),
        ("SamplesPerPixel", 2, "what the data set says of its pixels makes no sense"),
        ("NumberOfFrames", "many", "Number of Frames is no positive number"),
        ("PhotometricInterpretation", "SECRET", "frame 1: the codec cannot decode it"),
        ("NumberOfFrames", "2000000", "the pixels are too many for a native data set"),
    ],
)
def test_a_data_set_that_describes_its_pixels_badly(
    tmp_path: Path, keyword: str, value: object, reason: str
) -> None:
    """Its pixels are not decoded, and no value of it is in the reason."""
    data_set = image(_PIXELS, "MONOCHROME2")
    path = write_image(data_set, tmp_path / "compressed", RLELossless)
    stored = dcmread(path)
    if value is None:
        del stored[keyword]
    elif isinstance(value, str):
        stored[keyword]._value = value
    else:
        setattr(stored, keyword, value)
    stored.save_as(path)
    assert _reason(path) == reason


def test_native_pixels_in_a_compressed_transfer_syntax(tmp_path: Path) -> None:
    """Pixels that are not encapsulated, though their Transfer Syntax is, are refused."""
    path = write_image(image(_PIXELS, "MONOCHROME2"), tmp_path / "native")
    offset = path.stat().st_size - len(encoded_data_set_of(path))
    with Converter(tmp_path) as converter, pytest.raises(ConversionError, match="not encapsulated"):
        converter.convert(path, offset, RLELossless, ExplicitVRLittleEndian)


def test_the_scratch_folder_is_missing(tmp_path: Path, large: Path) -> None:
    """A result that is too large for memory needs the scratch folder."""
    with Converter(tmp_path / "nothing") as converter:
        expected = "frame 1: the scratch folder: No such file or directory"
        assert _reason(large, converter) == expected


def test_the_disk_is_full(tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk fails the conversion; the next one works when there is room again."""
    with Converter(tmp_path) as converter:
        with monkeypatch.context() as full:
            full.setattr(byte_source.os, "pwrite", _full_disk)
            expected = "frame 1: the scratch folder: No space left on device"
            assert _reason(large, converter) == expected
        assert convert_file(large, ExplicitVRLittleEndian, converter)


def test_the_disk_is_nearly_full(tmp_path: Path, large: Path, compressed: Path) -> None:
    """A result for the disk is refused while somebody says no; one for memory is not asked for."""
    reasons = ["the disk is nearly full"]
    with Converter(tmp_path, why_no_space=lambda: reasons[0]) as converter:
        expected = "frame 1: the scratch folder: the disk is nearly full"
        assert _reason(large, converter) == expected
        assert convert_file(compressed, ExplicitVRLittleEndian, converter)
        reasons[0] = ""
        assert convert_file(large, ExplicitVRLittleEndian, converter).endswith(
            _LARGE_PIXELS.tobytes()
        )


def test_nothing_stays_in_the_scratch_folder(tmp_path: Path, large: Path) -> None:
    """The file that a result is put aside in has no name, and holds all of it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    with Converter(folder) as converter:
        data_set = convert_file(large, ExplicitVRLittleEndian, converter)
        assert not [*folder.iterdir()]
    assert data_set.endswith(_LARGE_PIXELS.tobytes())


def test_no_codec_in_the_process(tmp_path: Path, compressed: Path) -> None:
    """A codec that cannot be loaded fails the conversion."""
    program = f"import sys; sys.modules['numpy'] = None\nimport {DECODING_MODULE} as p; p.main()"
    with (
        Decoder((sys.executable, "-c", program)) as decoder,
        Converter(tmp_path, decoder) as converter,
    ):
        assert _reason(compressed, converter) == "frame 1: its codec cannot be loaded"


def test_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra it is said what to install; native data sets need nothing."""
    monkeypatch.setattr(
        codecs, "find_spec", lambda name: None if name == "libjpeg" else find_spec(name)
    )
    codecs._is_installed.cache_clear()
    try:
        reason = why_not_convertible("1.2.840.10008.1.2.4.70", ExplicitVRLittleEndian)
        assert reason == "no codec is installed (libjpeg): install pacsnode[codecs]"
        assert not why_not_convertible(JPEGLSLossless, ExplicitVRLittleEndian)
        assert not why_not_convertible(ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    finally:
        codecs._is_installed.cache_clear()


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (MPEG2MPML, ExplicitVRLittleEndian, f"there is no decoder for Transfer Syntax {MPEG2MPML}"),
        (ExplicitVRLittleEndian, JPEGLSLossless, "nothing is compressed for sending"),
        (RLELossless, JPEGLSLossless, "nothing is compressed for sending"),
    ],
)
def test_what_is_never_converted(tmp_path: Path, source: str, target: str, reason: str) -> None:
    """Video is not decoded, and nothing is ever compressed (rule E-34)."""
    assert why_not_convertible(source, target) == reason
    with Converter(tmp_path) as converter, pytest.raises(ConversionError, match=reason):
        converter.convert(tmp_path / "any", 0, source, target)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be read is an OSError, as for any reader."""
    with Converter(tmp_path) as converter, pytest.raises(FileNotFoundError):
        converter.convert(tmp_path / "x", 0, ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    """A file that is cut off while it is sent is noticed, and kills nobody."""
    path = write_image(image(_LARGE_PIXELS, "MONOCHROME2"), tmp_path / "native")
    size = path.stat().st_size
    offset = size - len(encoded_data_set_of(path))
    with (
        Converter(tmp_path) as converter,
        converter.convert(
            path, offset, ExplicitVRLittleEndian, ImplicitVRLittleEndian
        ) as converted,
    ):
        os.truncate(path, size - _LARGE_PIXELS.nbytes // 2)
        with pytest.raises(ConversionError, match="became shorter"):
            b"".join(converted.pieces())


def test_decoding_command_trusts_no_working_folder() -> None:
    """Python is told not to import from the folder that the node was started in."""
    assert DECODING_COMMAND[1:] == ("-P", "-m", DECODING_MODULE)


def _reason(
    path: Path, converter: Converter | None = None, target: str = ExplicitVRLittleEndian
) -> str:
    with pytest.raises(ConversionError) as caught:
        convert_file(path, target, converter)
    return str(caught.value)


def _cut_pixels_in_half(path: Path) -> None:
    """Cut the one fragment of a file in half, and leave all around it sound."""
    data_set = dcmread(path)
    frame = next(generate_frames(data_set.PixelData, number_of_frames=1))
    half = frame[: len(frame) // 4 * 2]
    data_set.PixelData = encapsulate([half], has_bot=False)
    data_set["PixelData"].is_undefined_length = True
    data_set.save_as(path)


def _full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
