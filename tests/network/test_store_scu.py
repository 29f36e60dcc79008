"""What an outgoing association proposes, and in which groups instances are sent."""

import queue

import pytest

from pacsnode.catalog.records import KeptFile, StoredInstance
from pacsnode.dicom.ae import RemoteAE
from pacsnode.network.store_scu import (
    StoreAssociation,
    StoreAssociationError,
    _ResponseQueue,
    batches,
    proposed_contexts,
)
from pacsnode.network.toolkit import configure_pynetdicom
from tests.support.destination import destination
from tests.support.node import free_port
from tests.support.server import LIMITS

IMPLICIT, EXPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"


def _stored(sop_class: str, syntax: str = EXPLICIT, number: int = 1) -> StoredInstance:
    return StoredInstance(sop_class, f"{sop_class}.{number}", KeptFile("", syntax, b"", 0))


def test_a_context_is_proposed_for_each_stored_syntax() -> None:
    """One syntax stands in one context, and Implicit VR with each class (E-30, E-31)."""
    instances = [_stored("1.1", JPEG), _stored("1.1", EXPLICIT), _stored("1.2", IMPLICIT)]
    contexts = proposed_contexts([*instances, *instances])
    assert [(c.abstract_syntax, c.transfer_syntax) for c in contexts] == [
        ("1.1", [JPEG]),
        ("1.1", [EXPLICIT]),
        ("1.1", [IMPLICIT]),
        ("1.2", [IMPLICIT]),
    ]


@pytest.mark.parametrize(
    ("classes", "lengths"), [(0, []), (1, [1]), (64, [64]), (65, [64, 1]), (200, [64, 64, 64, 8])]
)
def test_batches_fit_into_an_association(classes: int, lengths: list[int]) -> None:
    """With two contexts for each class, sixty-four classes fill an association (E-32)."""
    made = batches(_stored(f"1.{number}") for number in range(classes))
    assert [len(batch) for batch in made] == lengths
    assert all(len(proposed_contexts(batch)) <= 128 for batch in made)


def test_a_class_is_never_split() -> None:
    """All instances of a class go in one batch, wherever they stood (E-32)."""
    classes = [f"1.{number}" for number in range(100)]
    instances = [_stored(uid, number=n) for n in range(2) for uid in classes]
    made = batches(instances)
    for uid in classes:
        assert sum(uid in {each.sop_class_uid for each in batch} for batch in made) == 1
    assert sum(map(len, made)) == 200


def _why_not(port: int) -> str:
    configure_pynetdicom()
    remote = RemoteAE("DEST", "127.0.0.1", port)
    with pytest.raises(StoreAssociationError) as refused:
        StoreAssociation(
            remote,
            [_stored("1.2.3")],
            calling_ae_title="PACSNODE",
            limits=LIMITS,
            while_waiting=lambda: None,
        )
    return str(refused.value)


# pynetdicom leaves the socket of a connection that was refused to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_association_that_does_not_come_about_says_why() -> None:
    """Rejected, without context, not there: an administrator can tell them apart."""
    with destination(rejects=True) as rejecting, destination() as without_context:
        reasons = [_why_not(port) for port in (rejecting.port, without_context.port, free_port())]
    assert reasons[0] == "association rejected: Calling AE title not recognised"
    assert reasons[1] == "it accepts none of the presentation contexts"
    assert reasons[2].startswith("no association")


def test_pynetdicom_does_not_take_our_responses() -> None:
    """Its loop, which looks for requests, finds nothing where the responses are."""
    responses = _ResponseQueue()
    responses.put((1, "response"))
    with pytest.raises(queue.Empty):
        responses.get(block=False)
    assert responses.take(0) == (1, "response")
