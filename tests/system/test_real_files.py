"""The DICOM files inside the pydicom package, each sent exactly as it is.

CT, MR, US, RT, SR, waveforms, segmentations, every kind of compression, odd character sets, and
files damaged on purpose. A file is either stored, then found at IMAGE level and delivered byte for
byte, or refused with the status that `_NOT_STORED` gives. Files that share a SOP Instance UID are
sent to archives of their own, for the second one would be a duplicate.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pydicom.data
import pytest
from pydicom import Dataset, dcmread

from tests.support.dcmtk import Receiver, storescp
from tests.support.instances import Instance, encoded_data_set_of, read_part10
from tests.support.node import Node, free_port, running_node
from tests.support.wire import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Association,
    ProposedContext,
    identifier_of,
    query_contexts,
)

pytestmark = pytest.mark.system

_ROOT = Path(pydicom.data.__file__).parent
_NOT_DICOM = {
    ".py": "source code",
    ".pyc": "source code",
    ".json": "list of files",
    ".txt": "readme",
    ".md": "readme",
    ".icc": "colour profile",
    ".dump": "text of a dump",
    ".gz": "compressed as a whole",
}
# Files without a File Meta Information that names it: how their Data Set is encoded.
_TRANSFER_SYNTAXES = {
    "test_files/ExplVR_BigEndNoMeta.dcm": "1.2.840.10008.1.2.2",
    "test_files/ExplVR_LitEndNoMeta.dcm": "1.2.840.10008.1.2.1",
    "test_files/rtstruct.dcm": "1.2.840.10008.1.2",
}
_REFUSED_CONTEXT = "result 3"
_DEFLATED = "1.2.840.10008.1.2.1.99"

# No SOP Class UID anywhere, so there is nothing to propose.
_NOT_SENDABLE = {
    "test_files/dicomdirtests/TINY_ALPHA/README": "text",
    "test_files/empty_charset_LEI.dcm": "a Data Set of one element",
    "test_files/meta_missing_tsyntax.dcm": "made to lack File Meta Information",
    "test_files/nested_priv_SQ.dcm": "private sequences only",
    "test_files/no_meta.dcm": "neither preamble nor SOP Class UID",
}
_NOT_STORED: dict[str, tuple[int | str, str]] = {
    **{
        f"palettes/{name}.dcm": (_REFUSED_CONTEXT, "Color Palette: no patient, no study (H-34)")
        for name in (
            *("fall", "hotiron", "hotmetalblue", "pet"),
            *("pet20step", "spring", "summer", "winter"),
        )
    },
    **{
        f"test_files/dicomdirtests/{name}": (_REFUSED_CONTEXT, "a DICOMDIR is not for storage")
        for name in (
            *("DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-empty.dcm", "DICOMDIR-implicit"),
            *("DICOMDIR-nooffset", "DICOMDIR-nopatient", "DICOMDIR-reordered"),
            "TINY_ALPHA/DICOMDIR",
        )
    },
    "charset_files/chrSQEncoding.dcm": (0xC001, "no UIDs at all"),
    "charset_files/chrSQEncoding1.dcm": (0xC001, "no UIDs at all"),
    "test_files/JPEGLSNearLossless_08.dcm": (0xC001, "no Study Instance UID"),
    "test_files/JPEGLSNearLossless_16.dcm": (0xC001, "no Study Instance UID"),
    "test_files/SC_rgb_jls_lossy_line.dcm": (0xC001, "no Study Instance UID"),
    "test_files/SC_rgb_jls_lossy_sample.dcm": (0xC001, "no Study Instance UID"),
    "test_files/UN_sequence.dcm": (0xC001, "no UIDs at all"),
    "test_files/no_meta_group_length.dcm": (0xC001, "no UIDs at all"),
    "test_files/priv_SQ.dcm": (0xC001, "no UIDs at all"),
    "test_files/SC_rgb_jpeg.dcm": (0xC000, "Implicit VR under a syntax of Explicit VR"),
    "test_files/MR_truncated.dcm": (0xC000, "ends inside the pixel data"),
    "test_files/rtplan_truncated.dcm": (0xC000, "ends inside a sequence"),
}


@dataclass(frozen=True)
class RealFile:
    """One file: its name below the package's data, and the instance it is sent as."""

    name: str
    instance: Instance


@dataclass(frozen=True)
class Outcome:
    """What became of a file: status or refused context, and what was delivered afterwards."""

    answer: int | str
    error_comment: str = ""
    is_found: bool = False
    delivered: bytes | None = None


def _names() -> list[str]:
    return sorted(
        str(path.relative_to(_ROOT))
        for path in _ROOT.rglob("*")
        if path.is_file() and path.suffix not in _NOT_DICOM
    )


def _real_file(name: str) -> RealFile | None:
    """Return the file as it is sent, None if it cannot be: without a SOP Class UID."""
    path = _ROOT / name
    meta, encoded_data_set = read_part10(path)
    with warnings.catch_warnings():
        # pydicom has much to say of its own odd files; only five UIDs are wanted here.
        warnings.simplefilter("ignore")
        data_set = dcmread(path, force=True, stop_before_pixels=True)
        sop_class = _uid(data_set, "SOPClassUID") or _text(meta.get(0x0002))
        sop_instance = _uid(data_set, "SOPInstanceUID") or _text(meta.get(0x0003))
        study, series = _uid(data_set, "StudyInstanceUID"), _uid(data_set, "SeriesInstanceUID")
    if not sop_class:
        return None
    transfer_syntax = _TRANSFER_SYNTAXES.get(name) or _text(meta[0x0010])
    if transfer_syntax == _DEFLATED and len(encoded_data_set) % 2:
        encoded_data_set += b"\0"  # PS3.5 A.5: the file lacks it, but a fragment must be even
    return RealFile(
        name,
        Instance(sop_class, sop_instance, transfer_syntax, encoded_data_set, study, series),
    )


def _uid(data_set: Dataset, keyword: str) -> str:
    return str(data_set.get(keyword) or "")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("ascii").rstrip("\0 ")


_NAMES = _names()
_FILES = {file.name: file for name in _NAMES if (file := _real_file(name)) is not None}


def _batches() -> list[list[RealFile]]:
    """Return the files in as few batches as have no SOP Instance UID twice."""
    batches: list[dict[str, RealFile]] = []
    for file in _FILES.values():
        uid = file.instance.sop_instance_uid
        batch = next((each for each in batches if uid not in each), None)
        if batch is None:
            batches.append(batch := {})
        batch[uid] = file
    return [list(batch.values()) for batch in batches]


@pytest.fixture(scope="module")
def outcomes(module_folder: Path) -> dict[str, Outcome]:
    """What became of each file, by its name."""
    found: dict[str, Outcome] = {}
    port = free_port()
    remote_aes = [{"ae_title": "STORESCP", "host": "127.0.0.1", "port": port}]
    with storescp(module_folder / "received", "STORESCP", port) as receiver:
        for number, batch in enumerate(_batches()):
            with running_node(
                module_folder / f"node{number}",
                remote_aes=remote_aes,
                processes={"workers": 1},
            ) as node:
                found.update(_sent_and_fetched(node, receiver, batch))
    return found


def _sent_and_fetched(
    node: Node, receiver: Receiver, batch: list[RealFile]
) -> Iterator[tuple[str, Outcome]]:
    """Send the files, then look each of them up and have the archive delivered."""
    pairs = dict.fromkeys(
        (file.instance.sop_class_uid, file.instance.transfer_syntax_uid) for file in batch
    )
    proposed = [ProposedContext(sop_class, (syntax,)) for sop_class, syntax in pairs]
    with Association(node.address, proposed) as association:
        answers = {file.name: _answer(association, file.instance) for file in batch}
    with ExitStack() as stack:
        query = stack.enter_context(Association(node.address, query_contexts()))
        responses = query.c_find(STUDY_ROOT_FIND, identifier_of("STUDY", StudyInstanceUID=""))
        studies = [response.identifier.StudyInstanceUID for response in responses[:-1]]
        query.c_move(
            STUDY_ROOT_MOVE,
            receiver.ae_title,
            identifier_of("STUDY", StudyInstanceUID="\\".join(studies)),
        )
        for file in batch:
            answer, comment = answers[file.name]
            yield (
                file.name,
                Outcome(
                    answer,
                    comment,
                    _is_found(query, file.instance),
                    _delivered(receiver, file.instance.sop_instance_uid),
                ),
            )


def _answer(association: Association, instance: Instance) -> tuple[int | str, str]:
    if association.accepted(instance.sop_class_uid, instance.transfer_syntax_uid) is None:
        results = [
            context.result
            for context in association.contexts.values()
            if context.abstract_syntax == instance.sop_class_uid and context.result != 0
        ]
        return f"result {results[0]}", ""
    response = association.c_store(instance)
    return response.status, response.error_comment


def _is_found(query: Association, instance: Instance) -> bool:
    if not (instance.study_instance_uid and instance.series_instance_uid):
        return False
    identifier = identifier_of(
        "IMAGE",
        StudyInstanceUID=instance.study_instance_uid,
        SeriesInstanceUID=instance.series_instance_uid,
        SOPInstanceUID=instance.sop_instance_uid,
    )
    responses = query.c_find(STUDY_ROOT_FIND, identifier)
    assert responses[-1].status == 0x0000
    return len(responses) == 2


def _delivered(receiver: Receiver, sop_instance_uid: str) -> bytes | None:
    """Return the Data Set that storescp has written under this UID, and take the file away."""
    for path in receiver.files():
        if path.name.partition(".")[2] == sop_instance_uid:
            encoded_data_set = encoded_data_set_of(path)
            path.unlink()
            return encoded_data_set
    return None


def test_the_files_that_cannot_be_sent_are_the_ones_listed() -> None:
    """All others have a SOP Class UID that can be proposed."""
    assert set(_NAMES) - set(_FILES) == set(_NOT_SENDABLE)
    assert set(_NOT_STORED) <= set(_FILES)


@pytest.mark.parametrize("name", [name for name in _FILES if name not in _NOT_STORED])
def test_a_real_file_is_stored_found_and_delivered(outcomes: dict[str, Outcome], name: str) -> None:
    """0000; found at IMAGE level; delivered with every byte of its Data Set (F-2, F-7, F-10)."""
    outcome = outcomes[name]

    assert (outcome.answer, outcome.error_comment) == (0x0000, "")
    assert outcome.is_found
    assert outcome.delivered == _FILES[name].instance.encoded_data_set


@pytest.mark.parametrize("name", _NOT_STORED)
def test_a_real_file_is_refused_for_a_reason(outcomes: dict[str, Outcome], name: str) -> None:
    """The status that the table gives, with an Error Comment; neither found nor delivered."""
    answer, why = _NOT_STORED[name]
    outcome = outcomes[name]

    assert outcome.answer == answer, f"expected because: {why}"
    assert outcome.error_comment or answer == _REFUSED_CONTEXT
    assert not outcome.is_found
    assert outcome.delivered is None
