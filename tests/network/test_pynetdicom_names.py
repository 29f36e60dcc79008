"""The inner names of pynetdicom that pacsnode/network uses or overrides are still there.

The release is pinned to 3.0; a later one that moves one of these fails here, and not in a hospital.
Accepted associations use its messages and primitives; those we request use its whole Association.
"""

import ast
import inspect
import queue
import socket
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pynetdicom import AE, _config, dimse_messages, sop_class
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_MOVE, C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import build_context
from pynetdicom.transport import AssociationSocket

import pacsnode.network

# Attributes with a leading underscore that belong to pynetdicom, and are looked for below.
_ATTRIBUTES = {"_dataset_path"}
# Those of a NamedTuple, which are no inner names: the underscore keeps them apart from its fields.
_ATTRIBUTES_OF_TUPLES = {"_asdict", "_fields", "_make", "_replace"}
# Names and modules with a leading underscore that are imported from pynetdicom or pydicom.
_IMPORTS = {"pynetdicom._config", "pynetdicom.sop_class._STORAGE_CLASSES", "pydicom._uid_dict"}

_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (DIMSEMessage, []),
        (DIMSEMessage.decode_msg, ["self", "primitive"]),
        (DIMSEMessage.message_to_primitive, ["self"]),
        (DIMSEMessage.primitive_to_message, ["self", "primitive"]),
        (P_DATA, []),
        (encode, ["ds", "is_implicit_vr", "is_little_endian"]),
        (build_context, ["abstract_syntax", "transfer_syntax"]),
        (AE.associate, ["self", "addr", "port", "contexts", "ae_title"]),
        (Association.abort, ["self"]),
        (Association.release, ["self"]),
        (Association.send_c_echo, ["self"]),
        (ACSE.is_aborted, ["self"]),
        (DULServiceProvider.is_alive, ["self"]),
        (DIMSEServiceProvider.send_msg, ["self", "primitive", "context_id"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_what_we_call_takes_what_it_took(
    function: Callable[..., object], parameters: list[str]
) -> None:
    """Our arguments have their names and places, and everything else has a default."""
    found = inspect.signature(function).parameters
    assert [*found][: len(parameters)] == parameters
    assert all(found[name].kind is _POSITIONAL for name in parameters)
    further = [each for name, each in found.items() if name not in parameters]
    assert all(
        each.default is not each.empty or each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        for each in further
    )


# --- messages and primitives: command_set.py


def _fragments(*fragments: tuple[int, bytes]) -> P_DATA:
    data = P_DATA()
    items: list[Any] = [list(fragment) for fragment in fragments]
    data.presentation_data_value_list = items
    return data


_FIND_RQ = (
    b"\x00\x00\x02\x00\x06\x00\x00\x001.2.3\x00"
    b"\x00\x00\x00\x01\x02\x00\x00\x00\x20\x00"
    b"\x00\x00\x10\x01\x02\x00\x00\x00\x07\x00"
    b"\x00\x00\x00\x07\x02\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x00"
)


def test_a_message_is_decoded_from_fragments() -> None:
    """Command set and data set go in as fragments with their control bytes, as one P-DATA."""
    message = DIMSEMessage()
    is_whole = message.decode_msg(_fragments((5, b"\x03" + _FIND_RQ), (5, b"\x02identifier")))
    request: Any = message.message_to_primitive()
    assert is_whole
    assert isinstance(request, C_FIND)
    assert (request.MessageID, request.Priority) == (7, 0)
    assert request.AffectedSOPClassUID == "1.2.3"
    assert request.Identifier is not None
    assert request.Identifier.getvalue() == b"identifier"


@pytest.mark.parametrize("primitive", [C_ECHO, C_STORE, C_FIND, C_MOVE])
def test_a_response_has_a_message_class_of_its_name(primitive: type[Any]) -> None:
    """The class is found by the primitive's name and _RSP, and takes what the primitive has."""
    response = primitive()
    response.MessageIDBeingRespondedTo, response.Status = 7, 0xC000
    message = getattr(dimse_messages, f"{primitive.__name__}_RSP")()
    assert isinstance(message, DIMSEMessage)
    message.primitive_to_message(response)
    assert isinstance(message.command_set, Dataset)
    assert message.command_set.CommandField & 0x8000
    assert (message.command_set.MessageIDBeingRespondedTo, message.command_set.Status) == (7, 49152)
    assert "AffectedSOPClassUID" not in message.command_set
    assert message.data_set is None or not message.data_set.getvalue()


def test_a_response_with_an_identifier_has_it_as_its_data_set() -> None:
    """The identifier of a C-FIND response is the data set, which the command set announces."""
    response = C_FIND()
    response.MessageIDBeingRespondedTo, response.Status = 7, 0xFF00
    response.Identifier = BytesIO(b"identifier")
    message = dimse_messages.C_FIND_RSP()
    message.primitive_to_message(response)
    assert message.data_set is not None
    assert message.data_set.getvalue() == b"identifier"
    assert message.command_set.CommandDataSetType == 0x0001


def test_a_command_set_is_encoded_in_implicit_vr() -> None:
    """`encode` gives the bytes of a data set; None, and no exception, where it cannot."""
    data_set = Dataset()
    data_set.MessageID = 7
    assert encode(data_set, is_implicit_vr=True, is_little_endian=True) == (
        b"\x00\x00\x10\x01\x02\x00\x00\x00\x07\x00"
    )
    data_set["MessageID"]._value = "seven"
    assert encode(data_set, is_implicit_vr=True, is_little_endian=True) is None


# --- associations that we request: echo_scu.py, store_scu.py


@pytest.fixture
def association() -> Association:
    """An association that is not at work."""
    return Association(AE(), "requestor")


@pytest.mark.parametrize(
    "name",
    [
        *("acse", "dimse", "dul", "acceptor", "network_timeout", "accepted_contexts"),
        *("is_established", "is_rejected", "is_aborted"),
    ],
)
def test_an_association_has(association: Association, name: str) -> None:
    """The state of an association that we read or set has this name."""
    assert hasattr(association, name)


def test_the_answer_to_a_request_is_kept(association: Association) -> None:
    """What the acceptor answered stands with it, and is None before that."""
    assert association.acceptor.primitive is None


def test_the_socket_lies_below_the_upper_layer(association: Association) -> None:
    """The connection is dul.socket.socket."""
    with socket.socket() as connection:
        association.set_socket(AssociationSocket(association, client_socket=connection))
        assert association.dul.socket is not None
        assert association.dul.socket.socket is connection


def test_what_is_to_be_sent_waits_in_a_queue(association: Association) -> None:
    """The length of the queue tells whether something was sent meanwhile."""
    assert isinstance(association.dul.to_provider_queue, queue.Queue)
    association.dimse.send_msg(_echo(), 1)
    assert association.dul.to_provider_queue.qsize() == 1


def _echo() -> C_ECHO:
    request = C_ECHO()
    request.MessageID = 1
    return request


def test_responses_are_put_into_the_queue_of_messages(association: Association) -> None:
    """What has arrived is put, with its context, into a queue that can be replaced."""
    association.dimse.msg_queue = queue.Queue()
    association.dimse.receive_primitive(_fragments((5, b"\x03" + _ECHO_RSP)))
    response: Any
    context_id, response = association.dimse.msg_queue.get(block=False)
    assert (context_id, response.MessageIDBeingRespondedTo, response.Status) == (5, 7, 0)
    assert response.is_valid_response


_ECHO_RSP = (
    b"\x00\x00\x02\x00\x06\x00\x00\x001.2.3\x00"
    b"\x00\x00\x00\x01\x02\x00\x00\x00\x30\x80"
    b"\x00\x00\x20\x01\x02\x00\x00\x00\x07\x00"
    b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01"
    b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"
)


def test_a_data_set_is_sent_from_a_file(tmp_path: Path) -> None:
    """A C-STORE takes its data set from a file, from an offset on, if it is told its path."""
    request = C_STORE()
    assert request._dataset_path is None
    (tmp_path / "file").write_bytes(b"meta" + b"data set")
    request._dataset_path = (tmp_path / "file", 4)
    message = dimse_messages.C_STORE_RQ()
    message.primitive_to_message(request)
    *_, last = message.encode_msg(1, 16_384)
    assert [*last.presentation_data_value_list] == [(1, b"\x02data set")]


# --- tables and switches


@pytest.mark.parametrize(
    "name",
    [
        *("LOG_HANDLER_LEVEL", "LOG_REQUEST_IDENTIFIERS", "LOG_RESPONSE_IDENTIFIERS"),
        *("CODECS", "VALIDATORS"),
    ],
)
def test_a_switch_is_there(name: str) -> None:
    """Each switch that toolkit.py sets exists: a misspelt one would do nothing."""
    assert hasattr(_config, name)


def test_the_storage_classes_are_listed() -> None:
    """The table of storage classes is a dictionary of UIDs by keyword."""
    assert sop_class._STORAGE_CLASSES["CTImageStorage"] == "1.2.840.10008.5.1.4.1.1.2"


def test_the_uid_dictionary_tells_name_and_kind() -> None:
    """The dictionary of pydicom has name and kind of each UID in its first two places."""
    assert UID_dictionary["1.2.840.10008.5.1.4.1.1.2"][:2] == ("CT Image Storage", "SOP Class")


# --- nothing else


def _trees() -> Iterator[ast.Module]:
    for path in Path(pacsnode.network.__file__).parent.glob("*.py"):
        yield ast.parse(path.read_text(encoding="utf-8"))


def _is_inner(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_exactly_these_inner_attributes_are_used() -> None:
    """The attributes with a leading underscore that network/ takes of others are those above."""
    used = {
        node.attr
        for tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and _is_inner(node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }
    assert used - _ATTRIBUTES_OF_TUPLES == _ATTRIBUTES


def test_exactly_these_inner_names_are_imported() -> None:
    """The names and modules with a leading underscore that network/ imports are those above."""
    toolkits = (pydicom.__name__, "pynetdicom")
    imported = {
        f"{node.module}.{alias.name}"
        for tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(toolkits)
        for alias in node.names
    }
    inner = {name for name in imported if any(map(_is_inner, name.split(".")))}
    modules = {name.rpartition(".")[0] for name in inner if not _is_inner(name.split(".")[-1])}
    assert {name for name in inner if _is_inner(name.split(".")[-1])} | modules == _IMPORTS
