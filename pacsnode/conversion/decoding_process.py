"""The process that decodes frames, so that a codec that crashes or hangs takes nobody with it.

How it works: it reads one request after the other from its standard input and writes one answer
each to its standard output (decoder_messages.py), until its input ends. A frame that takes longer
than its limit ends it, by a signal that the system itself acts upon: a codec that hangs keeps the
interpreter from doing anything. So it outlives whoever started it by one time limit at most.

It alone imports numpy, pydicom's pixel decoders and the codecs.
"""

import os
import resource
import signal
import sys
from pathlib import Path
from typing import BinaryIO, Final

from pacsnode.conversion.decoder_messages import (
    LENGTHS,
    Failure,
    FrameAnswer,
    FrameRequest,
    UndecodableError,
    decode_request,
    encode_message,
)
from pacsnode.conversion.frame_decoding import Buffer, decode_frame, join_single_bits
from pacsnode.conversion.image_pixels import ImagePixels

_SPARE_MEMORY_BYTES: Final = (
    768 * 1024 * 1024
)  # address space: libraries reserve more than they use
# Codecs take 32 bits for a sample of 8, and make some copies.
_MEMORY_BYTES_PER_DECODED: Final = 24
_MEMORY_BYTES_PER_ENCODED: Final = 4


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a codec prints is no answer
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the node, which then ends our input
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    requests = sys.stdin.buffer
    while len(lengths := requests.read(LENGTHS.size)) == LENGTHS.size:
        head_length, length = LENGTHS.unpack(lengths)
        head, encoded = requests.read(head_length), requests.read(length)
        if len(encoded) < length:
            return
        request = decode_request(head)
        signal.alarm(request.time_limit_seconds)
        _write_answer(answers, *_answer(request, encoded))
        signal.alarm(0)


def _answer(request: FrameRequest, encoded: bytes) -> tuple[FrameAnswer, Buffer]:
    try:
        _limit_memory(request.pixels, len(encoded))
        frame = decode_frame(request, encoded)
        pixels, bits_left = frame.pixels, ""
        if request.pixels.bits_allocated == 1:
            pixels, bits_left = join_single_bits(request, pixels)
    except UndecodableError as error:
        return FrameAnswer(failure=error.failure), b""
    except MemoryError:
        return FrameAnswer(failure=Failure.NO_MEMORY), b""
    answer = FrameAnswer(frame.photometric_interpretation, frame.planar_configuration, bits_left)
    return answer, pixels


def _write_answer(answers: BinaryIO, answer: FrameAnswer, pixels: Buffer) -> None:
    answers.write(encode_message(answer, len(pixels)))
    answers.write(pixels)
    answers.flush()


def _limit_memory(pixels: ImagePixels, encoded_length: int) -> None:
    """Let a frame take as much memory as one of its size may need: a codestream may ask for more.

    What is there already does not count.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = (
        pages * resource.getpagesize()
        + _SPARE_MEMORY_BYTES
        + _MEMORY_BYTES_PER_DECODED * pixels.frame_bytes_decoded
        + _MEMORY_BYTES_PER_ENCODED * encoded_length
    )
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    if hard_limit == resource.RLIM_INFINITY or limit <= hard_limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard_limit))


if __name__ == "__main__":
    main()
