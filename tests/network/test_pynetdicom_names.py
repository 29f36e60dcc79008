"""The inner names of pynetdicom that pacsnode/network uses or overrides are still there.

The release is pinned to 3.0; a later one that moves one of these fails here, and not in a hospital.
Associations use its messages and primitives, and nothing below them.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pynetdicom import _config, dimse_messages, sop_class
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_GET, C_MOVE, C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA

import pacsnode.network

# Attributes with a leading underscore that belong to pynetdicom, and are looked for below.
_ATTRIBUTES: set[str] = set()
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


@pytest.mark.parametrize("primitive", [C_ECHO, C_STORE, C_FIND, C_GET, C_MOVE])
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
