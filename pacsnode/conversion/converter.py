"""A stored data set in another Transfer Syntax.

Native data sets are re-encoded, encapsulated pixels are decoded; nothing is ever compressed. What
can fail fails before there is a result, so that nothing fails after its first byte was sent.

Source: PS3.5 A; rules E-33 to E-36.
"""

import os
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, Self

from pacsnode.conversion.assembly import Assembly
from pacsnode.conversion.byte_source import (
    ByteSource,
    FileSource,
    Scratch,
    WatchedSource,
    always_space,
)
from pacsnode.conversion.codecs import NATIVE_TRANSFER_SYNTAXES, why_not_convertible
from pacsnode.conversion.decoder import Decoder
from pacsnode.conversion.decompression import Decompression
from pacsnode.conversion.element_reader import ElementReader, walk_over
from pacsnode.conversion.errors import ConversionError, ConversionGivenUpError
from pacsnode.conversion.recoder import Recoder
from pacsnode.dicom.deflate import DEFLATED_STEP_LENGTH, DeflateError, inflated_parts
from pacsnode.dicom.transfer_syntax import Encoding, encoding_of

_FRAME_SECONDS: Final = 60  # the largest frames take some ten seconds on a slow processor
_COMPRESSION_LEVEL: Final = 1  # it is made for one sending
ODD_LENGTH: Final = "its data set has an odd length, which no message may have"


class ConvertedDataSet:
    """A data set in its new Transfer Syntax, until the end of the `with` block.

    Attributes:
        length_bytes: of the whole data set; even.
    """

    def __init__(self, assembly: Assembly, resources: ExitStack) -> None:
        self.length_bytes = assembly.length
        self._assembly = assembly
        self._resources = resources

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def pieces(self) -> Iterator[bytes]:
        """Yield the whole data set in pieces of at most 256 KiB; none of it is kept.

        Raises:
            ConversionError: somebody shortened the stored file meanwhile.
            OSError: the stored file cannot be read.
        """
        return self._assembly.pieces()


class Converter:
    """Converts data sets; used by one thread, but for `cancel`.

    Keeps the process that decodes until it is closed.
    """

    def __init__(
        self,
        scratch_folder: Path,
        decoder: Decoder | None = None,
        frame_seconds: int = _FRAME_SECONDS,
        why_no_space: Callable[[], str] = always_space,
    ) -> None:
        """Start nothing yet.

        Args:
            scratch_folder: for what is too large for memory; nothing stays there.
            decoder: of frames; None: the one of this room.
            frame_seconds: how long decoding one frame may take, at least 1.
            why_no_space: asked by the thread that converts before the scratch folder is used, and
                before each further 64 MiB; says why no more may be used, or nothing.
        """
        self._scratch_folder = scratch_folder
        self._decoder = decoder or Decoder()
        self._frame_seconds = frame_seconds
        self._why_no_space = why_no_space
        self._is_given_up = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def cancel(self) -> None:
        """Have the conversion at work given up, and each one after it; any thread may ask.

        It ends within a second, and the process that decodes for it. A result that is there
        already can still be read.
        """
        self._is_given_up.set()

    def convert(
        self,
        path: Path,
        data_set_offset: int,
        source_transfer_syntax_uid: str,
        target_transfer_syntax_uid: str,
    ) -> ConvertedDataSet:
        """Return a stored data set in another Transfer Syntax.

        In the same one, if it is native: then only values of odd length are padded.

        Args:
            path: of the file.
            data_set_offset: where its data set starts, in bytes.
            source_transfer_syntax_uid: of the stored data set.
            target_transfer_syntax_uid: of the result; a native one.

        Raises:
            ConversionGivenUpError: `cancel` was called.
            ConversionError: it cannot be converted.
            OSError: the file cannot be read.

        Source: rules E-33 to E-36.
        """
        self._check_not_given_up()
        reason = why_not_convertible(source_transfer_syntax_uid, target_transfer_syntax_uid)
        if reason:
            raise ConversionError(reason)
        with ExitStack() as resources:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            resources.callback(os.close, descriptor)
            source = FileSource(descriptor, data_set_offset)
            new_scratch = partial(self._new_scratch, resources)
            decompression = None
            if source_transfer_syntax_uid not in NATIVE_TRANSFER_SYNTAXES:
                decompression = Decompression(
                    source_transfer_syntax_uid,
                    self._decoder,
                    new_scratch(),
                    self._frame_seconds,
                    self._check_not_given_up,
                )
            encodings = (
                encoding_of(source_transfer_syntax_uid),
                encoding_of(target_transfer_syntax_uid),
            )
            assembly = self._recoded(source, encodings, new_scratch, decompression)
            if assembly.length % 2:
                raise ConversionError(ODD_LENGTH)
            return ConvertedDataSet(assembly, resources.pop_all())

    def _recoded(
        self,
        source: ByteSource,
        encodings: tuple[Encoding, Encoding],
        new_scratch: Callable[[], Scratch],
        decompression: Decompression | None,
    ) -> Assembly:
        """Return a data set of the first encoding in the second one."""
        old, new = encodings
        if old.is_deflated:
            source = _inflated(self._watched(source), new_scratch())
        # What the result is read from later on is not watched: it outlives the conversion.
        reader = ElementReader(self._watched(source), old)
        assembly = Assembly(new_scratch())
        is_even = new.is_deflated or source.length % 2 == 0
        if decompression is None and _element_headers(old) == _element_headers(new) and is_even:
            # Only deflated or inflated. The walk sees whether it is whole.
            walk_over(reader)
            assembly.copy(source, 0, source.length)
        else:
            Recoder(reader, source, new, assembly, decompression).write()
        return _deflated(assembly, new_scratch) if new.is_deflated else assembly

    def _watched(self, source: ByteSource) -> WatchedSource:
        return WatchedSource(source, self._check_not_given_up)

    def _new_scratch(self, resources: ExitStack) -> Scratch:
        scratch = Scratch(
            self._scratch_folder, why_no_space=self._why_no_space, check=self._check_not_given_up
        )
        resources.callback(scratch.close)
        return scratch

    def _check_not_given_up(self) -> None:
        if self._is_given_up.is_set():
            raise ConversionGivenUpError


def _element_headers(encoding: Encoding) -> tuple[bool, bool]:
    return encoding.is_implicit_vr, encoding.is_little_endian


def _inflated(source: ByteSource, scratch: Scratch) -> Scratch:
    """Return a deflated data set as it was before, put aside."""
    positions = range(0, source.length, DEFLATED_STEP_LENGTH)
    pieces = (source.read(position, DEFLATED_STEP_LENGTH) for position in positions)
    try:
        for inflated in inflated_parts(pieces):
            scratch.write(inflated)
    except DeflateError as error:
        raise ConversionError(str(error)) from error
    return scratch


def _deflated(assembly: Assembly, new_scratch: Callable[[], Scratch]) -> Assembly:
    """Return a data set deflated and put aside, padded to an even length.

    Source: PS3.5 A.5.
    """
    stream = zlib.compressobj(_COMPRESSION_LEVEL, wbits=-zlib.MAX_WBITS)
    scratch = new_scratch()
    for piece in assembly.pieces():
        scratch.write(stream.compress(piece))
    scratch.write(stream.flush())
    if scratch.length % 2:
        scratch.write(b"\0")
    deflated = Assembly(new_scratch())
    deflated.copy(scratch, 0, scratch.length)
    return deflated
