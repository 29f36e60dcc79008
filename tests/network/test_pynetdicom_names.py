"""The inner names of pynetdicom that pacsnode/network overrides or uses are still there.

The release is pinned to 3.0; a later one that moves one of these fails here, and not in a hospital.
"""

import ast
import inspect
from pathlib import Path

import pytest
from pynetdicom import AE, _config, dul, sop_class
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.presentation import PresentationContext
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

import pacsnode.network

# The names with a leading underscore that belong to pynetdicom, and where each is looked for below.
_NAMES = {
    "_PDU_TYPES",
    "_abstract_syntax",
    "_accepted_cx",
    "_ae_title",
    "_as_scp",
    "_as_scu",
    "_dataset_path",
    "_idle_timer",
    "_is_paused",
    "_negotiate_as_acceptor",
    "_rejected_cx",
    "_run_loop_delay",
    "_serve_request",
    "_server",
    "_transfer_syntax",
}


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (Association, "_serve_request", ["self", "msg", "context_id"]),
        (Association, "run", ["self"]),
        (Association, "run_reactor", ["self"]),
        (Association, "__init__", ["self", "ae", "mode"]),
        (Association, "abort", ["self", "block"]),
        (Association, "kill", ["self"]),
        (Association, "set_socket", ["self", "socket"]),
        (ACSE, "_negotiate_as_acceptor", ["self"]),
        (ACSE, "__init__", ["self", "assoc"]),
        (ACSE, "send_accept", ["self"]),
        (ACSE, "send_reject", ["self", "result", "source", "diagnostic"]),
        (ACSE, "is_aborted", ["self", "abort_type"]),
        (AssociationSocket, "close", ["self"]),
        (AssociationSocket, "recv", ["self", "nr_bytes"]),
        (AssociationSocket, "__init__", ["self", "assoc", "client_socket", "address"]),
        (DIMSEServiceProvider, "send_msg", ["self", "primitive", "context_id"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_method_has_its_parameters(owner: type, name: str, parameters: list[str]) -> None:
    """What we override or call takes what it took."""
    found = list(inspect.signature(getattr(owner, name)).parameters)
    assert [*found[: len(parameters)]] == parameters[: len(found)]
    assert [p for p in parameters if p not in found and p not in ("args", "kwargs")] == []


@pytest.fixture
def association() -> Association:
    """An association that is not at work."""
    return Association(AE(), "acceptor")


@pytest.mark.parametrize(
    "name",
    [
        *("_accepted_cx", "_rejected_cx", "_is_paused", "_server"),
        *("acse", "dimse", "dul", "acceptor", "requestor", "network_timeout", "acse_timeout"),
        *("is_established", "is_released", "is_rejected", "is_aborted", "accepted_contexts"),
    ],
)
def test_an_association_has(association: Association, name: str) -> None:
    """The state of an association that we read or set has this name."""
    assert hasattr(association, name)


def test_an_association_is_served_by_its_own_method(association: Association) -> None:
    """The loop calls _serve_request, and closes through _server.shutdown_request."""
    source = inspect.getsource(type(association))
    assert "self._serve_request(msg," in source
    assert "self._server.shutdown_request(" in source


def test_the_upper_layer_has_its_queues_and_timer(association: Association) -> None:
    """The idle timer tells the time that remains; what is to be sent waits in a queue."""
    timer = association.dul._idle_timer
    assert isinstance(timer, Timer)
    assert timer.remaining > 0
    timer.restart()
    assert association.dul.to_provider_queue.qsize() == 0
    assert "time.sleep(self._run_loop_delay)" in inspect.getsource(
        type(association.dul).run_reactor
    )


def test_messages_and_cancels_are_kept_apart(association: Association) -> None:
    """Cancels lie in a dictionary by Message ID, which receive_primitive fills (D-30)."""
    assert association.dimse.cancel_req == {}
    assert association.dimse.msg_queue.qsize() == 0
    source = inspect.getsource(DIMSEServiceProvider.receive_primitive)
    assert "self.cancel_req[msg_id] = d_primitive" in source
    assert "self.msg_queue.put((context_id," in source


def test_primitives_and_contexts_have_their_fields() -> None:
    """A C-STORE takes its data set from a file; a context has both roles."""
    assert C_STORE()._dataset_path is None
    context = PresentationContext()
    assert {"_abstract_syntax", "_transfer_syntax", "_as_scu", "_as_scp"} <= {*vars(context)}


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


def test_an_association_request_is_decoded_by_a_class_that_can_be_replaced() -> None:
    """The class of each PDU and its event stand in a table, the titles behind setters (H-2)."""
    kind, event = dul._PDU_TYPES[b"\x01"]
    assert issubclass(kind, A_ASSOCIATE_RQ)
    assert event == "Evt6"
    for name in ("called_ae_title", "calling_ae_title"):
        assert getattr(A_ASSOCIATE_RQ, name).fset is not None


def test_no_other_inner_name_is_used() -> None:
    """Every attribute with a leading underscore that network/ takes of others is listed above."""
    used = set()
    for path in Path(pacsnode.network.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        } | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        used |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and not (isinstance(node.value, ast.Name) and node.value.id == "self")
            and node.attr not in own - _NAMES
        }
    assert used <= _NAMES
