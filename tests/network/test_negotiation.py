"""What is answered to association requests: rejections, and each proposed context."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from pacsnode.dicom.information_model import (
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STORAGE_SERVICE_CLASS_UID,
    STUDY_ROOT,
    InformationModel,
)
from pacsnode.dicom.transfer_syntax import STORAGE_TRANSFER_SYNTAXES
from pacsnode.network.associate import (
    AssociateRequest,
    DeclaredSopClass,
    PresentationContext,
    ProposedContext,
    Roles,
)
from pacsnode.network.negotiation import (
    APPLICATION_CONTEXT_NAME,
    AETitlePolicy,
    AssociationPolicy,
    ContextResult,
    QueryOption,
)
from pacsnode.network.storage_sop_classes import STORAGE_SOP_CLASSES

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
JPEG, JPEG_2000, JPIP = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 90, 94))
FIND_UIDS = [PATIENT_ROOT.find_uid, STUDY_ROOT.find_uid]
MOVE_UIDS = [PATIENT_ROOT.move_uid, STUDY_ROOT.move_uid]
GET_UIDS = [PATIENT_ROOT.get_uid, STUDY_ROOT.get_uid]
RETIRED_UIDS = [
    PATIENT_STUDY_ONLY.find_uid,
    PATIENT_STUDY_ONLY.move_uid,
    PATIENT_STUDY_ONLY.get_uid,
]
PRIVATE = "1.2.826.0.1.3680043.8.498.99.1"


def _policy(
    called: AETitlePolicy = AETitlePolicy.KNOWN,
    calling: AETitlePolicy = AETitlePolicy.ANY,
    additional: frozenset[str] = frozenset(),
    models: tuple[InformationModel, ...] = (PATIENT_ROOT, STUDY_ROOT),
) -> AssociationPolicy:
    return AssociationPolicy(
        frozenset({"PACSNODE", "ARCHIVE"}),
        frozenset({"WORKSTATION"}),
        called,
        calling,
        additional,
        models,
    )


def _answer(
    abstract_syntax: str,
    *transfer_syntaxes: str,
    policy: AssociationPolicy | None = None,
    declared: DeclaredSopClass | None = None,
) -> tuple[int, str]:
    """Return result and Transfer Syntax of the answer to one context."""
    proposed = ProposedContext(1, abstract_syntax, transfer_syntaxes or (IMPLICIT,))
    items = {} if declared is None else {abstract_syntax: declared}
    (answer,) = _negotiated(proposed, policy=policy, declared=items)
    return answer.result, answer.transfer_syntax


def _negotiated(
    *proposed: ProposedContext,
    policy: AssociationPolicy | None = None,
    declared: Mapping[str, DeclaredSopClass] = MappingProxyType({}),
    extended: Mapping[str, bytes] = MappingProxyType({}),
    roles: Mapping[str, Roles] = MappingProxyType({}),
) -> list[PresentationContext]:
    """Return the answers to these contexts."""
    request = replace(
        _request(), contexts=proposed, declared=declared, extended=extended, roles=roles
    )
    return (policy or _policy()).negotiate(request)


def _request(
    *,
    called: str = "PACSNODE",
    calling: str = "WORKSTATION",
    application_context: str = APPLICATION_CONTEXT_NAME,
    protocol_version: int = 1,
    contexts: int = 1,
) -> AssociateRequest:
    return AssociateRequest(
        fixed_fields=b"",
        protocol_version=protocol_version,
        called_ae_title=called,
        calling_ae_title=calling,
        application_context_name=application_context,
        contexts=(ProposedContext(1, VERIFICATION, (IMPLICIT,)),) * contexts,
        maximum_length_bytes=0,
        extended={},
        declared={},
        roles={},
    )


@pytest.mark.parametrize(
    ("request_", "rejection"),
    [
        (_request(), None),
        (_request(called="ARCHIVE"), None),
        (_request(protocol_version=3), None),
        (_request(protocol_version=2), (1, 2, 2)),
        (_request(protocol_version=0), (1, 2, 2)),
        (_request(called="pacsnode"), (1, 1, 7)),
        (_request(called=""), (1, 1, 7)),
        (_request(calling="STRANGER"), (1, 1, 3)),
        (_request(calling="workstation"), (1, 1, 3)),
        (_request(application_context=""), (1, 1, 2)),
        (_request(contexts=0), (1, 1, 1)),
        (_request(protocol_version=2, application_context="1.2.3"), (1, 2, 2)),
        (_request(application_context="1.2.3", called="NOBODY"), (1, 1, 2)),
        (_request(calling="STRANGER", called="NOBODY"), (1, 1, 7)),
        (_request(calling="STRANGER", contexts=0), (1, 1, 3)),
    ],
)
def test_a_request_is_rejected_with_the_first_reason(
    request_: AssociateRequest, rejection: tuple[int, int, int] | None
) -> None:
    """Version, context name, called, calling title, contexts decide in this order (H-1 to H-3)."""
    refusal = _policy(calling=AETitlePolicy.KNOWN).refusal(request_)
    assert (refusal.rejection if refusal else None) == rejection


def test_any_title_is_let_in_where_the_policy_says_so() -> None:
    """With both policies `any`, unknown titles are no reason to reject (H-1)."""
    policy = _policy(AETitlePolicy.ANY, AETitlePolicy.ANY)
    assert policy.refusal(_request(calling="STRANGER", called="NOBODY")) is None


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ((JPEG_2000, EXPLICIT, IMPLICIT), JPEG_2000),
        ((IMPLICIT, EXPLICIT, JPEG_2000), IMPLICIT),
        ((JPIP, PRIVATE, JPEG), JPEG),
    ],
)
def test_the_requestors_order_decides(proposed: tuple[str, ...], chosen: str) -> None:
    """The first Transfer Syntax of the requestor that we keep is taken (H-15)."""
    assert _answer(CT, *proposed) == (0, chosen)


def test_each_context_is_answered_for_itself() -> None:
    """One SOP class in several contexts gets an answer for each, ids and order kept (H-15)."""
    proposed = [
        ProposedContext(1, CT, (JPEG,)),
        ProposedContext(5, CT, (JPIP, PRIVATE)),
        ProposedContext(3, CT, (EXPLICIT,)),
    ]
    assert _negotiated(*proposed) == [
        PresentationContext(1, CT, JPEG, 0),
        PresentationContext(5, CT, JPIP, 4),
        PresentationContext(3, CT, EXPLICIT, 0),
    ]


@pytest.mark.parametrize("syntax", sorted(STORAGE_TRANSFER_SYNTAXES))
def test_every_storage_class_is_kept_in_this_syntax(syntax: str) -> None:
    """All storage SOP classes are accepted in each syntax of the list (H-16)."""
    contexts = [ProposedContext(1, uid, (syntax,)) for uid in sorted(STORAGE_SOP_CLASSES)]
    answers = _negotiated(*contexts)
    assert {(answer.result, answer.transfer_syntax) for answer in answers} == {(0, syntax)}
    assert len(answers) > 170


@pytest.mark.parametrize("syntax", [JPIP, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.6.1"])
def test_a_syntax_without_its_pixels_is_refused(syntax: str) -> None:
    """JPIP and encodings of no data set have result 4 (H-16, G-9)."""
    assert _answer(CT, syntax)[0] == 4


@pytest.mark.parametrize("uid", [VERIFICATION, STUDY_ROOT_FIND, *GET_UIDS])
def test_identifiers_are_not_compressed(uid: str) -> None:
    """Verification, query and retrieval take native syntaxes only; others have result 4 (H-5)."""
    assert _answer(uid, JPEG, EXPLICIT) == (0, EXPLICIT)
    assert _answer(uid, JPEG)[0] == 4


@pytest.mark.parametrize(
    "uid",
    [
        PRIVATE,
        "1.2.840.10008.1.20.1",  # Storage Commitment
        "1.2.840.10008.5.1.4.31",  # Modality Worklist
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.5.1.4.1.1.200.4",  # Protocol Approval FIND
        "1.2.840.10008.5.1.4.1.1.201.2",  # Inventory FIND
        "1.2.840.10008.5.1.4.1.1.201.5",  # Inventory Creation
    ],
)
def test_a_class_that_is_no_storage_is_refused(uid: str) -> None:
    """Unknown classes, and services that only look like storage, have result 3 (H-31, H-33)."""
    assert _answer(uid)[0] == 3


@pytest.mark.parametrize(
    ("service_class", "related", "result"),
    [
        (STORAGE_SERVICE_CLASS_UID, (), 0),
        ("1.2.3", (CT,), 0),
        ("1.2.3", ("1.2.4", CT), 0),
        ("1.2.3", (), 3),
        ("1.2.3", (VERIFICATION,), 3),
    ],
)
def test_an_unknown_class_is_kept_if_declared_as_storage(
    service_class: str, related: tuple[str, ...], result: int
) -> None:
    """A class is kept if it is declared of Storage, or to specialise one we keep (H-30, H-31)."""
    declared = DeclaredSopClass(service_class, related)
    assert _answer(PRIVATE, declared=declared)[0] == result


def test_an_unknown_class_is_kept_if_the_administrator_says_so() -> None:
    """The allow list makes a class storage, in all its syntaxes (H-31)."""
    policy = _policy(additional=frozenset({PRIVATE}))
    assert _answer(PRIVATE, JPEG, policy=policy) == (0, JPEG)
    assert _answer(f"{PRIVATE}.1", policy=policy)[0] == 3


@pytest.mark.parametrize(
    "uid",
    ["1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1", "1.2.840.10008.5.1.4.1.1.200.1"],
)
def test_an_object_without_patient_is_refused_whatever_is_declared(uid: str) -> None:
    """Non-patient objects have no place in the catalog, even declared or allowed (H-34)."""
    declared = DeclaredSopClass(STORAGE_SERVICE_CLASS_UID, (CT,))
    policy = _policy(additional=frozenset({uid}))
    assert _answer(uid, declared=declared, policy=policy)[0] == 3


def test_a_context_without_transfer_syntax_is_refused() -> None:
    """A damaged context is refused for its syntaxes, and its answer has one even so (H-4)."""
    (answer,) = _negotiated(ProposedContext(1, CT, ()))
    assert answer == PresentationContext(1, CT, IMPLICIT, 4)
    assert not answer.is_accepted


def test_128_contexts_are_answered() -> None:
    """As many contexts as an association can have are all answered (E-30)."""
    contexts = [ProposedContext(number, CT, (JPEG,)) for number in range(1, 256, 2)]
    assert [answer.result for answer in _negotiated(*contexts)] == [0] * 128


# --- SOP Class Extended Negotiation


def _agreed(
    sop_class_uid: str,
    asked: bytes | None,
    *transfer_syntaxes: str,
    models: tuple[InformationModel, ...] = (PATIENT_ROOT, STUDY_ROOT),
) -> bytes:
    """Return what is answered to the application information of one SOP class."""
    proposed = ProposedContext(1, sop_class_uid, transfer_syntaxes or (IMPLICIT,))
    extended = {} if asked is None else {sop_class_uid: asked}
    (answer,) = _negotiated(proposed, policy=_policy(models=models), extended=extended)
    return answer.application_information


@pytest.mark.parametrize("sop_class_uid", FIND_UIDS)
@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (None, ""),
        ("", ""),
        ("01", "01"),
        ("00", "00"),
        ("0101", "0101"),
        ("0001", "0001"),
        ("010101", "010100"),
        ("01010101", "01010000"),
        ("0101010101", "0101000000"),
        ("010101010101", "010100000001"),
        ("01010101010101", "01010000000101"),
        ("00000000000000", "00000000000000"),
        ("00000000000001", "00000000000001"),
        ("0101010101010101", "01010000000101"),
        ("02ff0101010103", "00000000000100"),
    ],
)
def test_options_of_a_query_are_agreed_upon_as_far_as_asked_for(
    sop_class_uid: str, asked: str | None, answered: str
) -> None:
    """1,1,0,0,0,1,1, no byte more than was sent, and no 1 where none was (B-10, B-11)."""
    information = None if asked is None else bytes.fromhex(asked)
    assert _agreed(sop_class_uid, information).hex() == answered


@pytest.mark.parametrize("sop_class_uid", MOVE_UIDS + GET_UIDS)
@pytest.mark.parametrize(
    ("asked", "answered"),
    [(None, ""), ("", ""), ("01", "01"), ("00", "00"), ("0101", "0100"), ("010101", "0100")],
)
def test_options_of_a_retrieval_are_agreed_upon_as_far_as_asked_for(
    sop_class_uid: str, asked: str | None, answered: str
) -> None:
    """1,0: relational retrieval, no conversion of multi-frame images (B-10, B-11)."""
    information = None if asked is None else bytes.fromhex(asked)
    assert _agreed(sop_class_uid, information).hex() == answered


def test_options_of_storage_are_answered_in_full() -> None:
    """Level 2, bit-preserving, no coercion, if anything was asked (F-9)."""
    assert _agreed(CT, bytes(6)) == b"\2\0\3\0\0\0"
    assert _agreed(CT, None) == b""


def test_a_class_without_options_is_not_answered() -> None:
    """Verification has none (B-10)."""
    assert _agreed(VERIFICATION, b"\1") == b""


def test_options_of_a_class_that_is_refused_are_not_answered() -> None:
    """There is nothing to be agreed upon (B-10)."""
    assert _agreed(STUDY_ROOT_FIND, b"\1\1", JPEG) == b""
    assert _agreed(PATIENT_STUDY_ONLY.find_uid, b"\1\1") == b""


def test_options_are_agreed_upon_for_each_class_by_itself() -> None:
    """Every context of a class has what was agreed upon for it, and no other has (B-11)."""
    uids = [PATIENT_ROOT.find_uid, STUDY_ROOT.find_uid, STUDY_ROOT.find_uid, STUDY_ROOT.move_uid]
    proposed = [ProposedContext(2 * n + 1, uid, (IMPLICIT,)) for n, uid in enumerate(uids)]
    extended = {STUDY_ROOT.find_uid: b"\1\0\0\0\0\1", STUDY_ROOT.move_uid: b"\1"}
    answers = _negotiated(*proposed, extended=extended)
    assert [
        [option.name for option in QueryOption if answer.has_agreed(option)] for answer in answers
    ] == [
        [],
        ["RELATIONAL", "EMPTY_VALUE"],
        ["RELATIONAL", "EMPTY_VALUE"],
        ["RELATIONAL"],
    ]


# --- role selection


def _roles(scu: int, scp: int) -> Roles:
    return Roles(is_scu=bool(scu), is_scp=bool(scp))


def _agreed_roles(
    sop_class_uid: str, roles: Roles, *transfer_syntaxes: str
) -> tuple[int, int, int]:
    """Return the result of a context, and whether the requestor may be SCU and SCP in it."""
    proposed = ProposedContext(1, sop_class_uid, transfer_syntaxes or (IMPLICIT,))
    (answer,) = _negotiated(proposed, roles={sop_class_uid: roles})
    return answer.result, answer.is_requestor_scu, answer.is_requestor_scp


@pytest.mark.parametrize("proposed", [(0, 1), (1, 1), (1, 0)])
def test_both_roles_of_storage_are_agreed_upon_as_proposed(proposed: tuple[int, int]) -> None:
    """We send instances as well as we take them: 1 where 1 was offered, 0 where 0 (E-39, H-8)."""
    assert _agreed_roles(CT, _roles(*proposed)) == (0, *proposed)


@pytest.mark.parametrize("uid", [VERIFICATION, *FIND_UIDS, *MOVE_UIDS, *GET_UIDS])
def test_of_other_services_we_are_no_user(uid: str) -> None:
    """The requestor is never agreed upon as their provider (H-8)."""
    assert _agreed_roles(uid, _roles(1, 1)) == (0, 1, 0)
    assert _agreed_roles(uid, _roles(1, 0)) == (0, 1, 0)


def test_the_default_roles_hold_where_none_are_proposed() -> None:
    """The requestor is the user, also if it proposes roles for another class (H-8)."""
    contexts = [ProposedContext(1, CT, (IMPLICIT,)), ProposedContext(3, VERIFICATION, (IMPLICIT,))]
    answers = _negotiated(*contexts, roles={VERIFICATION: _roles(1, 1), PRIVATE: _roles(0, 1)})
    assert [(cx.is_requestor_scu, cx.is_requestor_scp) for cx in answers] == [(True, False)] * 2


@pytest.mark.parametrize(
    ("uid", "proposed"),
    [
        (CT, (0, 0)),
        (VERIFICATION, (0, 1)),
        (PATIENT_ROOT.get_uid, (0, 1)),
        (PATIENT_ROOT.find_uid, (0, 0)),
    ],
)
def test_a_context_without_any_role_is_rejected(uid: str, proposed: tuple[int, int]) -> None:
    """Nobody could ask for anything in it: result 1, and no role (H-8)."""
    result, *_ = _agreed_roles(uid, _roles(*proposed))
    assert result == ContextResult.USER_REJECTION


def test_an_unknown_class_is_refused_as_such_whatever_its_roles() -> None:
    """That the abstract syntax is not supported goes before roles (H-4)."""
    assert _agreed_roles(PRIVATE, _roles(0, 0))[0] == 3


@pytest.mark.parametrize("roles", [(0, 1), (1, 1)])
@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ((JPEG_2000, IMPLICIT, EXPLICIT), EXPLICIT),
        ((JPEG_2000, IMPLICIT), IMPLICIT),
        ((JPEG_2000, DEFLATED), DEFLATED),
        ((BIG_ENDIAN, JPEG_2000, DEFLATED), DEFLATED),
        ((JPEG_2000, BIG_ENDIAN), BIG_ENDIAN),
        ((JPEG_2000, JPEG), JPEG_2000),
        ((JPIP, PRIVATE, JPEG), JPEG),
    ],
)
def test_what_everything_can_be_sent_in_is_preferred(
    proposed: tuple[str, ...], chosen: str, roles: tuple[int, int]
) -> None:
    """In a context to send in, native goes before compressed, also if it is for both (E-40)."""
    context = ProposedContext(1, CT, proposed)
    (answer,) = _negotiated(context, roles={CT: _roles(*roles)})
    assert (answer.result, answer.transfer_syntax) == (0, chosen)


def test_the_requestors_order_decides_where_it_only_sends() -> None:
    """Roles that are the default ones change nothing (H-15)."""
    context = ProposedContext(1, CT, (JPEG_2000, EXPLICIT))
    (answer,) = _negotiated(context, roles={CT: _roles(1, 0)})
    assert answer.transfer_syntax == JPEG_2000


def test_every_context_to_send_in_is_accepted() -> None:
    """Each stored syntax has one of its own, and is not dropped for another (E-40)."""
    contexts = [
        ProposedContext(2 * n + 1, CT, (uid,)) for n, uid in enumerate(STORAGE_TRANSFER_SYNTAXES)
    ]
    answers = _negotiated(*contexts, roles={CT: _roles(0, 1)})
    assert [(cx.result, cx.transfer_syntax, cx.is_requestor_scp) for cx in answers] == [
        (0, uid, True) for uid in STORAGE_TRANSFER_SYNTAXES
    ]


def test_a_context_to_send_in_without_a_known_syntax_is_refused() -> None:
    """Result 4, as for any other (H-4)."""
    assert _agreed_roles(CT, _roles(0, 1), JPIP, PRIVATE)[0] == 4


def test_a_class_declared_as_storage_can_be_sent() -> None:
    """What we keep we can give back, private classes included (E-39, H-31)."""
    (answer,) = _negotiated(
        ProposedContext(1, PRIVATE, (EXPLICIT,)),
        declared={PRIVATE: DeclaredSopClass(STORAGE_SERVICE_CLASS_UID, ())},
        roles={PRIVATE: _roles(0, 1)},
    )
    assert (answer.result, answer.is_requestor_scp) == (0, True)


# --- the retired information model


@pytest.mark.parametrize("uid", RETIRED_UIDS)
def test_the_retired_model_is_refused_by_default(uid: str) -> None:
    """Nobody is told that it is there, nor that it is storage (A-2)."""
    assert _answer(uid) == (3, IMPLICIT)
    storage = DeclaredSopClass(STORAGE_SERVICE_CLASS_UID, ())
    assert _answer(uid, declared=storage) == (3, IMPLICIT)
    assert _answer(uid, policy=_policy(additional=frozenset({uid}))) == (3, IMPLICIT)


@pytest.mark.parametrize("uid", RETIRED_UIDS)
def test_the_retired_model_is_accepted_where_it_is_offered(uid: str) -> None:
    """With the setting, it is negotiated as the others, options included (A-2, B-11)."""
    models = (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)
    assert _answer(uid, EXPLICIT, policy=_policy(models=models)) == (0, EXPLICIT)
    assert _agreed(uid, b"\1", models=models) == b"\1"
