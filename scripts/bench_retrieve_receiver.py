"""Where a C-MOVE sends to: DCMTK's storescp, which throws away what it receives."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench_peers import KnownAE, free_port
from bench_programs import running_program, wait_for_listener

_BYTES_PER_KIB = 1024


@dataclass(frozen=True, slots=True)
class Receiver:
    """A destination of C-MOVE, and what a requestor of C-GET does likewise.

    Attributes:
        ae_title: by which the servers know it.
        port: of loopback, where it listens.
        maximum_length_bytes: of the PDUs that it takes.
    """

    ae_title: str
    port: int
    maximum_length_bytes: int

    @property
    def known(self) -> KnownAE:
        """What a server has to know of it."""
        return KnownAE(self.ae_title, self.port)

    @property
    def pdus(self) -> str:
        """The length of its PDUs for the tables."""
        return f"{self.maximum_length_bytes // _BYTES_PER_KIB} KiB"


def new_receiver(maximum_length_bytes: int) -> Receiver:
    """Return a receiver on a port that is free; it does not run yet."""
    title = f"RECEIVER-{maximum_length_bytes // _BYTES_PER_KIB}K"
    return Receiver(title, free_port(), maximum_length_bytes)


@contextmanager
def running_receivers(
    receivers: Sequence[Receiver], variables: Mapping[str, str]
) -> Iterator[None]:
    """Run receivers during the block.

    Raises:
        MeasureError: one does not listen.
    """
    with ExitStack() as stack:
        for receiver in receivers:
            command = [
                *("storescp", "--fork", "--ignore", "--disable-host-lookup"),
                *("--max-pdu", str(receiver.maximum_length_bytes)),
                str(receiver.port),
            ]
            stack.enter_context(running_program(command, variables))
            wait_for_listener(receiver.port)
        yield
