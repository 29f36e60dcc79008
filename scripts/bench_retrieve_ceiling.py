"""What a receiver takes at most: from a sender that has all in memory and does nothing else.

That is about the most that a server can reach by C-MOVE on this machine, over one association and
with one C-STORE after the other.

Source: PS3.7 9.3.1; PS3.8 9.3.5.
"""

import statistics
import struct
import time
from collections.abc import Iterator

from bench_figures import Figure
from bench_objects import CT, SMALL, ObjectKind, Template
from bench_peers import LOOPBACK
from bench_requestor import Association, associate_rq, command_set
from bench_retrieve_rates import DEFAULT_LENGTH_BYTES, LARGEST_LENGTH_BYTES
from bench_retrieve_receiver import Receiver, new_receiver, running_receivers
from bench_workspace import NODELAY, Workspace
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

_C_STORE_RQ, _MEDIUM, _HAS_DATA_SET = 0x0001, 0x0000, 0x0000
_COMMAND, _LAST = 0x01, 0x02
_FIRST_CONTEXT_ID = 1
_PDV_HEADER_LENGTH = 6
_LEAST_INSTANCES = 50


def measure_ceiling(workspace: Workspace) -> list[Figure]:
    """Measure how many instances a second storescp takes."""
    receivers = [new_receiver(length) for length in (DEFAULT_LENGTH_BYTES, LARGEST_LENGTH_BYTES)]
    with running_receivers(receivers, NODELAY.variables()):
        return [
            _ceiling(workspace, kind, receiver) for kind in (CT, SMALL) for receiver in receivers
        ]


def _ceiling(workspace: Workspace, kind: ObjectKind, receiver: Receiver) -> Figure:
    workspace.progress(f"ceiling: {kind.name}, {receiver.pdus}")
    message = b"".join(_store_rq(workspace, kind, receiver.maximum_length_bytes))
    rates = [_rate(workspace, message, receiver) for _ in range(workspace.runs)]
    return Figure(
        f"ceiling of C-MOVE, {kind.name}, {receiver.pdus}",
        statistics.median(rates),
        "instances/s",
        remark="the same C-STORE-RQ again and again, from the memory of this process, in one call "
        "each, over one association to the same storescp",
    )


def _rate(workspace: Workspace, message: bytes, receiver: Receiver) -> float:
    """Send for as long as a measurement should last; return the instances a second."""
    request = associate_rq(receiver.ae_title, [CTImageStorage], [ExplicitVRLittleEndian])
    with Association((LOOPBACK, receiver.port), request) as association:
        instances, started_at, seconds = 0, time.perf_counter(), 0.0
        while seconds < workspace.run_seconds or instances < _LEAST_INSTANCES:
            association.exchange(message)
            instances += 1
            seconds = time.perf_counter() - started_at
    return instances / seconds


def _store_rq(workspace: Workspace, kind: ObjectKind, length: int) -> Iterator[bytes]:
    """Yield the PDUs of one C-STORE-RQ, none longer than the receiver takes."""
    folder = workspace.folders.objects / "ceiling"
    [path] = Template(kind).write_series(folder, 0, 1)
    file_meta = dcmread(path, stop_before_pixels=True).file_meta
    # PS3.10 7.1: preamble and prefix, and the group length that stands first, with its own element.
    data_set = path.read_bytes()[132 + 12 + file_meta.FileMetaInformationGroupLength :]
    path.unlink()
    sop_instance_uid = file_meta.MediaStorageSOPInstanceUID.encode("ascii")
    command = command_set(
        {
            0x0002: CTImageStorage.encode("ascii") + b"\0",
            0x0100: struct.pack("<H", _C_STORE_RQ),
            0x0110: struct.pack("<H", 1),
            0x0700: struct.pack("<H", _MEDIUM),
            0x0800: struct.pack("<H", _HAS_DATA_SET),
            0x1000: sop_instance_uid + b"\0" * (len(sop_instance_uid) % 2),
        }
    )
    yield _pdu(_COMMAND | _LAST, command)
    fragment_length = length - _PDV_HEADER_LENGTH
    for start in range(0, len(data_set), fragment_length):
        fragment = data_set[start : start + fragment_length]
        yield _pdu(_LAST if start + fragment_length >= len(data_set) else 0, fragment)


def _pdu(control: int, fragment: bytes) -> bytes:
    pdv = struct.pack(">LBB", len(fragment) + 2, _FIRST_CONTEXT_ID, control) + fragment
    return struct.pack(">BxL", 0x04, len(pdv)) + pdv
