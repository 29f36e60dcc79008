"""Which contexts are proposed for some instances, and which one each is sent in."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsnode.catalog.records import KeptFile, StoredInstance
from pacsnode.dicom.ae import RemoteAE
from pacsnode.network.associate import PresentationContext
from pacsnode.network.proposal import Batch, Choice, SendingContexts, batches

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
JPEG, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
SYNTAXES = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, JPEG, RLE)


def _stored(sop_class: str, syntax: str = EXPLICIT, number: int = 1) -> StoredInstance:
    return StoredInstance(sop_class, f"{sop_class}.{number}", KeptFile("", syntax, b"", 0))


def _remote(transfer_syntaxes: frozenset[str] | None = None) -> RemoteAE:
    return RemoteAE("DEST", "127.0.0.1", 104, transfer_syntaxes=transfer_syntaxes)


def _proposed(
    instances: Sequence[StoredInstance], transfer_syntaxes: frozenset[str] | None = None
) -> list[tuple[str, tuple[str, ...]]]:
    (batch,) = batches(instances, _remote(transfer_syntaxes))
    return [(cx.abstract_syntax, cx.transfer_syntaxes) for cx in batch.contexts]


def test_each_stored_syntax_has_a_context_of_its_own() -> None:
    """Before the native ones, so that the acceptor cannot choose a conversion (E-30, E-31)."""
    instances = [_stored("1.1", JPEG), _stored("1.1", RLE), _stored("1.2", IMPLICIT)]
    assert _proposed([*instances, *instances]) == [
        ("1.1", (JPEG,)),
        ("1.1", (RLE,)),
        ("1.1", (EXPLICIT,)),
        ("1.1", (IMPLICIT,)),
        ("1.2", (IMPLICIT,)),
        ("1.2", (EXPLICIT,)),
    ]


@pytest.mark.parametrize(
    ("stored", "allowed", "expected"),
    [
        (JPEG, {EXPLICIT}, [EXPLICIT, IMPLICIT]),
        (JPEG, {IMPLICIT}, [IMPLICIT]),
        (JPEG, {JPEG}, [JPEG, IMPLICIT]),
        (RLE, {JPEG}, [IMPLICIT]),
        (EXPLICIT, {BIG_ENDIAN}, [IMPLICIT, BIG_ENDIAN]),
        (JPEG, {DEFLATED, EXPLICIT}, [EXPLICIT, IMPLICIT, DEFLATED]),
    ],
)
def test_syntaxes_that_are_not_allowed_are_not_proposed(
    stored: str, allowed: set[str], expected: list[str]
) -> None:
    """But for Implicit VR Little Endian, which has to be; further native ones are (E-30)."""
    found = _proposed([_stored("1.1", stored)], frozenset(allowed))
    assert [syntaxes[0] for _, syntaxes in found] == expected


@pytest.mark.parametrize(
    ("classes", "lengths"), [(0, []), (1, [1]), (64, [64]), (65, [64, 1]), (200, [64, 64, 64, 8])]
)
def test_batches_fit_into_an_association(classes: int, lengths: list[int]) -> None:
    """With two contexts for each class, sixty-four classes fill an association (E-32)."""
    made = batches([_stored(f"1.{number}") for number in range(classes)], _remote())
    assert [len(batch.instances) for batch in made] == lengths


_INSTANCES = st.lists(
    st.builds(
        _stored,
        st.integers(1, 150).map("1.{}".format),
        st.sampled_from(SYNTAXES),
        st.integers(1, 5),
    ),
    max_size=400,
)
_ALLOWED = st.none() | st.frozensets(st.sampled_from(SYNTAXES))


@given(_INSTANCES, _ALLOWED)
def test_batches_hold_what_they_were_given(
    instances: list[StoredInstance], allowed: frozenset[str] | None
) -> None:
    """None is lost or doubled, a class is in one batch, none has too many contexts (E-30, E-32)."""
    made = batches(instances, _remote(allowed))
    sent = [instance for batch in made for instance in batch.instances]
    assert sorted(map(repr, sent)) == sorted(map(repr, instances))
    classes = [each for batch in made for each in {one.sop_class_uid for one in batch.instances}]
    assert len(classes) == len(set(classes))
    for batch in made:
        _check_contexts(batch, allowed)


def _check_contexts(batch: Batch, allowed: frozenset[str] | None) -> None:
    assert 1 <= len(batch.contexts) <= 128
    assert [cx.context_id for cx in batch.contexts] == [*range(1, 2 * len(batch.contexts), 2)]
    pairs = [(cx.abstract_syntax, *cx.transfer_syntaxes) for cx in batch.contexts]
    assert len(pairs) == len(set(pairs))
    assert all(len(pair) == 2 for pair in pairs)
    for instance in batch.instances:
        assert (instance.sop_class_uid, IMPLICIT) in pairs
        stored = instance.file.transfer_syntax_uid
        if allowed is None or stored in allowed:
            assert (instance.sop_class_uid, stored) in pairs


def _accepted(*syntaxes: str, sop_class: str = "1.1") -> list[PresentationContext]:
    return [
        PresentationContext(2 * place + 1, sop_class, syntax, 0)
        for place, syntax in enumerate(syntaxes)
    ]


def test_what_it_is_stored_in_goes_first() -> None:
    """Then the native syntaxes, the most faithful before the others (E-33)."""
    contexts = SendingContexts(_accepted(BIG_ENDIAN, IMPLICIT, EXPLICIT, JPEG))
    assert [each.transfer_syntax_uid for each in contexts.choices("1.1", JPEG)] == [
        JPEG,
        EXPLICIT,
        IMPLICIT,
        BIG_ENDIAN,
    ]
    assert contexts.choices("1.1", IMPLICIT)[0] == Choice(3, IMPLICIT)


def test_nothing_is_compressed() -> None:
    """A compressed syntax is only for what is stored in it (E-34)."""
    contexts = SendingContexts(_accepted(JPEG, RLE))
    assert contexts.choices("1.1", EXPLICIT) == []
    assert contexts.choices("1.1", RLE) == [Choice(3, RLE)]


def test_what_was_refused_or_is_not_wanted_is_not_used() -> None:
    """A refused context, another class, a syntax that the configuration leaves out (E-31)."""
    refused = PresentationContext(1, "1.1", EXPLICIT, 4)
    contexts = SendingContexts([refused, *_accepted(IMPLICIT, sop_class="1.2")])
    assert contexts.choices("1.1", EXPLICIT) == []
    allowed = SendingContexts(_accepted(IMPLICIT, EXPLICIT), frozenset({EXPLICIT}))
    assert allowed.choices("1.1", IMPLICIT) == [Choice(3, EXPLICIT)]


@pytest.mark.parametrize(
    ("contexts", "stored", "reason"),
    [
        (SendingContexts([]), EXPLICIT, "no context is accepted"),
        (
            SendingContexts([PresentationContext(1, "1.1", EXPLICIT, 4)]),
            EXPLICIT,
            "no context is accepted",
        ),
        (
            SendingContexts(_accepted(JPEG)),
            RLE,
            "RLE Lossless is not accepted, and no uncompressed transfer syntax is accepted",
        ),
        (SendingContexts(_accepted(JPEG)), EXPLICIT, "no uncompressed transfer syntax is accepted"),
        (
            SendingContexts(_accepted(IMPLICIT), frozenset({JPEG})),
            EXPLICIT,
            "only transfer syntaxes are accepted that are not in transfer_syntaxes",
        ),
        (
            SendingContexts(_accepted(EXPLICIT), to_requestor=True),
            EXPLICIT,
            "the requestor does not propose to be an SCP of it",
        ),
    ],
)
def test_why_there_is_no_choice(contexts: SendingContexts, stored: str, reason: str) -> None:
    """In words that tell whose setting it is (E-11, E-31, E-39)."""
    assert contexts.choices("1.1", stored) == []
    assert contexts.why_not("1.1", stored) == f"SOP class 1.1: {reason}"


def test_of_two_contexts_alike_the_first_is_used() -> None:
    """The same pair may be accepted twice, by the requestor of a C-GET."""
    contexts = SendingContexts(_accepted(EXPLICIT, EXPLICIT))
    assert contexts.choices("1.1", EXPLICIT) == [Choice(1, EXPLICIT)]
