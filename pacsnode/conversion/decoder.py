"""Frames decoded in a process of their own (decoding_process.py).

The process is started when the first frame is asked for and serves many conversions. If it ends, or
takes too long, or says what it should not, that one conversion fails, and the next gets a new
process.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import IO, Final, Self

from pacsnode.conversion.byte_source import Scratch, always_go_on
from pacsnode.conversion.decoder_messages import (
    LENGTHS,
    FrameAnswer,
    FrameRequest,
    decode_answer,
    encode_message,
)
from pacsnode.conversion.errors import ConversionError

DECODING_COMMAND: Final = (sys.executable, "-P", "-m", "pacsnode.conversion.decoding_process")
_PIECE_LENGTH: Final = 64 * 1024
_LONGEST_HEAD: Final = 4096
_END_TIMEOUT_SECONDS: Final = 5
_LOOK_SECONDS: Final = 0.1  # how soon a wait notices that it is to be given up
# Threads of a numerical library, which nobody uses here, would reserve memory for each core.
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Decoder:
    """Decodes frames; used by one thread at a time."""

    def __init__(self, command: Sequence[str] = DECODING_COMMAND) -> None:
        """Start nothing yet.

        Args:
            command: what is started.
        """
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline = 0.0
        self._check: Callable[[], None] = always_go_on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """Of the process that decodes; None if there is none."""
        return None if self._process is None else self._process.pid

    def decode(
        self,
        request: FrameRequest,
        encoded: Iterable[bytes],
        length: int,
        pixels: Scratch,
        check: Callable[[], None] = always_go_on,
    ) -> FrameAnswer:
        """Decode a frame.

        Args:
            request: how.
            encoded: the frame, in pieces.
            length: of the frame, in bytes.
            pixels: the native frame is added to it.
            check: called some ten times a second; what it raises ends the decoding and the process.

        Raises:
            ConversionError: it cannot be decoded, or put aside.
            OSError: the file of the frame cannot be read.
        """
        check()
        self._check = check
        # A little later than the process itself gives up.
        self._deadline = time.monotonic() + request.time_limit_seconds + 1
        is_answered = False
        try:
            process = self._started()
            self._send(process.stdin, encode_message(request, length))
            for piece in encoded:
                self._send(process.stdin, piece)
            answer = self._receive(process.stdout, pixels)
            is_answered = True
        except (EOFError, BrokenPipeError, ValueError) as error:
            raise ConversionError("the codec broke down") from error
        except TimeoutError as error:
            raise ConversionError("the codec took too long") from error
        finally:
            if not is_answered:
                self._kill()
        if answer.failure is not None:
            raise ConversionError(str(answer.failure))
        return answer

    def close(self) -> None:
        """End the process if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_END_TIMEOUT_SECONDS)
        _end(process)

    def _started(self) -> subprocess.Popen[bytes]:
        """Return the process; a new one if there is none that lives."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,  # Ctrl-C is for the node, which ends us when it is done
            )
        except OSError as error:
            raise ConversionError(f"the codec cannot be started: {error.strerror}") from error
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        return self._process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _send(self, pipe: IO[bytes] | None, data: bytes) -> None:
        """Write all of some bytes."""
        if pipe is None:
            raise EOFError
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                self._wait(pipe, select.POLLOUT)
                with suppress(BlockingIOError):
                    sent += os.write(pipe.fileno(), view[sent : sent + _PIECE_LENGTH])

    def _receive(self, pipe: IO[bytes] | None, pixels: Scratch) -> FrameAnswer:
        """Read an answer, and put its bytes aside."""
        if pipe is None:
            raise EOFError
        head_length, length = LENGTHS.unpack(self._receive_exactly(pipe, LENGTHS.size))
        if head_length > _LONGEST_HEAD:
            raise ValueError
        answer = decode_answer(self._receive_exactly(pipe, head_length))
        while length:
            piece = self._receive_some(pipe, min(length, _PIECE_LENGTH))
            pixels.write(piece)
            length -= len(piece)
        return answer

    def _receive_exactly(self, pipe: IO[bytes], length: int) -> bytes:
        received = b""
        while len(received) < length:
            received += self._receive_some(pipe, length - len(received))
        return received

    def _receive_some(self, pipe: IO[bytes], length: int) -> bytes:
        self._wait(pipe, select.POLLIN)
        received = os.read(pipe.fileno(), length)
        if not received:
            raise EOFError
        return received

    def _wait(self, pipe: IO[bytes], event: int) -> None:
        """Wait until something can be written or read, or the other end is gone."""
        poll = select.poll()
        poll.register(pipe, event)
        while True:
            # Here, by the thread that owns the process: nobody else ends it, so none is missed.
            self._check()
            seconds_left = max(self._deadline - time.monotonic(), 0)
            if poll.poll(min(seconds_left, _LOOK_SECONDS) * 1000):
                return
            if time.monotonic() >= self._deadline:
                raise TimeoutError


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that may be hanging, and leave nothing of it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
