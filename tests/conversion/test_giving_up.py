"""Conversions that are given up from another thread."""

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pacsnode.conversion import decoder as decoder_module
from pacsnode.conversion.byte_source import FileSource
from pacsnode.conversion.converter import Converter
from pacsnode.conversion.decoder import Decoder
from pacsnode.conversion.errors import ConversionGivenUpError
from tests.support.pixel_objects import (
    HANG_WITH_INTERPRETER_LOCK,
    convert_bytes,
    convert_file,
    decoding_process_that,
    gradient,
    image,
    write_encapsulated,
    write_image,
)
from tests.support.waiting import wait_until

_MOST_SECONDS = 1.0
_FRAMES = 20_000
_ELEMENT = b"\x09\0\2\x10LO\4\0abcd"


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    """A compressed image of one frame."""
    return write_image(
        image(gradient((1, 64, 64)), "MONOCHROME2"), tmp_path / "compressed", RLELossless
    )


@pytest.fixture
def many_frames(tmp_path: Path) -> Path:
    """A compressed image whose frames take many seconds to decode, but each only a moment."""
    data_set = image(np.zeros((1, 64, 64), "u1"), "MONOCHROME2", NumberOfFrames=_FRAMES)
    segment = b"\x81\0" * (64 * 64 // 128)
    frame = b"\1\0\0\0\x40\0\0\0" + bytes(56) + segment
    return write_encapsulated(data_set, [frame] * _FRAMES, tmp_path / "frames", RLELossless)


@pytest.mark.parametrize("does", ["time.sleep(1000)", HANG_WITH_INTERPRETER_LOCK])
def test_a_codec_that_hangs(tmp_path: Path, compressed: Path, does: str) -> None:
    """Whatever the process that decodes does, it is ended, and nothing of it is left."""
    with Decoder(decoding_process_that(does)) as decoder, _leaving_nothing_open():
        converter = Converter(tmp_path, decoder)
        process_id = _given_up(converter, compressed, lambda: decoder.process_id)
        assert decoder.process_id is None
        _assert_reaped(process_id)


def test_a_process_that_reads_nothing(tmp_path: Path) -> None:
    """A frame that nobody takes is not waited for."""
    path = write_image(
        image(gradient((1, 1000, 1000), "u2", 0, 65535), "MONOCHROME2"), tmp_path / "x", RLELossless
    )
    with Decoder(("sleep", "1000")) as decoder, _leaving_nothing_open():
        process_id = _given_up(Converter(tmp_path, decoder), path, lambda: decoder.process_id)
        _assert_reaped(process_id)


def test_an_object_of_many_frames(tmp_path: Path, many_frames: Path) -> None:
    """The frames that are left are not decoded."""
    with Decoder() as decoder, _leaving_nothing_open():
        converter = Converter(tmp_path, decoder)
        process_id = _given_up(converter, many_frames, lambda: decoder.process_id)
        decoder.close()
        _assert_reaped(process_id)


def test_a_process_that_was_about_to_start(
    tmp_path: Path, compressed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that starts while its conversion is given up does not go on."""
    started = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401
        converter.cancel()
        started.append(subprocess.Popen(*arguments, **options))
        return started[0]

    class Starter:
        PIPE, DEVNULL, Popen = subprocess.PIPE, subprocess.DEVNULL, staticmethod(start)
        TimeoutExpired = subprocess.TimeoutExpired

    monkeypatch.setattr(decoder_module, "subprocess", Starter)
    command = decoding_process_that("time.sleep(1000)")
    with Decoder(command) as decoder, _leaving_nothing_open():
        converter = Converter(tmp_path, decoder)
        with pytest.raises(ConversionGivenUpError):
            convert_file(compressed, ExplicitVRLittleEndian, converter)
        assert [process.returncode for process in started] == [-9]


def test_a_conversion_after_it(tmp_path: Path, compressed: Path) -> None:
    """A converter that was told to give up starts nothing any more."""
    with Decoder() as decoder, Converter(tmp_path, decoder) as converter:
        converter.cancel()
        with pytest.raises(ConversionGivenUpError):
            convert_file(compressed, ExplicitVRLittleEndian, converter)
        assert decoder.process_id is None


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ExplicitVRBigEndian),
        (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian),
        (DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian),
        (DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian),
    ],
)
def test_a_native_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    """Data sets without frames are given up as well, at whichever piece their conversion is."""
    data_set = _ELEMENT * 40_000
    if source == DeflatedExplicitVRLittleEndian:
        data_set = convert_bytes(data_set, tmp_path, [ExplicitVRLittleEndian, source])
    path = tmp_path / "native"
    path.write_bytes(data_set)
    reads = _reads_until_given_up(path, source, target, monkeypatch, None)
    for number in range(reads):
        done = _reads_until_given_up(path, source, target, monkeypatch, number)
        assert done <= number + 2


def test_inflating_is_given_up(tmp_path: Path) -> None:
    """What inflates to much more than it is ends while it is put aside."""
    uids = [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
    path = tmp_path / "deflated"
    value = b"\x09\0\2\x10OB\0\0" + (2**25).to_bytes(4, "little") + bytes(2**25)
    path.write_bytes(convert_bytes(value, tmp_path, uids))
    asked = count()

    def cancel() -> str:
        next(asked)
        converter.cancel()
        return ""

    with (
        Converter(tmp_path, why_no_space=cancel) as converter,
        _leaving_nothing_open(),
        pytest.raises(ConversionGivenUpError),
    ):
        converter.convert(path, 0, uids[1], uids[0])
    assert next(asked) == 1


def test_a_result_that_is_there_already(tmp_path: Path) -> None:
    """Whoever sends a result can go on to its end."""
    path = tmp_path / "native"
    value = b"\x09\0\2\x10OB\0\0" + (2**20).to_bytes(4, "little") + bytes(2**20)
    path.write_bytes(value)
    with (
        Converter(tmp_path) as converter,
        converter.convert(path, 0, ExplicitVRLittleEndian, ExplicitVRBigEndian) as converted,
    ):
        converter.cancel()
        assert sum(map(len, converted.pieces())) == len(value)


def _given_up(converter: Converter, path: Path, process_id: Callable[[], int | None]) -> int:
    """Give a conversion up when a process is at work; return the number of that process."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        conversion = executor.submit(convert_file, path, ExplicitVRLittleEndian, converter)
        found = wait_until(process_id, "a process that decodes")
        began = time.monotonic()
        converter.cancel()
        error = conversion.exception(timeout=30)
        seconds = time.monotonic() - began
    assert isinstance(error, ConversionGivenUpError)
    assert str(error) == "given up"
    assert seconds < _MOST_SECONDS
    return found


def _reads_until_given_up(
    path: Path,
    source: str,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
    give_up_at: int | None,
) -> int:
    """Give a conversion up at one of its reads of the file; return how many it made."""
    reads = 0
    read = FileSource.read

    def reading(file: FileSource, position: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads - 1 == give_up_at:
            converter.cancel()
        return read(file, position, length)

    with Converter(path.parent) as converter, monkeypatch.context() as patched:
        patched.setattr(FileSource, "read", reading)
        try:
            with converter.convert(path, 0, source, target):
                assert give_up_at is None
        except ConversionGivenUpError:
            assert give_up_at is not None
    return reads


@contextmanager
def _leaving_nothing_open() -> Iterator[None]:
    """See that no more files and threads are there afterwards."""
    before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    yield
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before  # noqa: PTH208


def _assert_reaped(process_id: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number tells
        os.waitpid(process_id, os.WNOHANG)
    assert caught.value.errno == errno.ECHILD
