"""The PDUs of association establishment, with pynetdicom's as the other reading of PS3.8."""

import itertools
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from pacsnode.dicom.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacsnode.network.associate import (
    AssociateRequest,
    DeclaredSopClass,
    PresentationContext,
    ProposedContext,
    Roles,
    encode_associate_accept,
    encode_associate_reject,
    read_associate_request,
)
from pacsnode.network.associate_items import AssociateError
from tests.support.hostile import (
    application_context,
    associate_rq,
    item,
    presentation_context,
    user_information,
)

_APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"
_VERIFICATION, _CT = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2"
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

_TITLES = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"),
    min_size=1,
    max_size=16,
)
# pynetdicom writes no item that proposes nothing.
_ROLES = st.sampled_from([(False, True), (True, False), (True, True)])
_UIDS = st.lists(st.integers(0, 99_999), min_size=2, max_size=8).map(
    lambda components: ".".join(map(str, ["1", *components]))
)


def _content(*items: bytes, **more: bytes) -> bytes:
    """Return an A-ASSOCIATE-RQ without its header."""
    return associate_rq(*items, **more)[6:]  # type: ignore[arg-type]


def _read(*items: bytes) -> AssociateRequest:
    return read_associate_request(_content(*items))


# --- reading


def test_a_request_is_read() -> None:
    """Titles, version, context name, contexts and maximum length are those of the fields."""
    request = _read(application_context(), presentation_context(1), user_information())
    assert request.protocol_version == 1
    assert (request.called_ae_title, request.calling_ae_title) == ("PACSNODE", "HOSTILE")
    assert request.application_context_name == _APPLICATION_CONTEXT_NAME
    assert request.contexts == (ProposedContext(1, _VERIFICATION, (_IMPLICIT,)),)
    assert request.maximum_length_bytes == 131_072
    assert (request.extended, request.declared, request.roles) == ({}, {}, {})


@pytest.mark.parametrize(
    ("title", "normal"),
    [
        (b"  A B  ", "A B"),
        (b"A".ljust(16, b"\0"), "A"),
        (bytes(16), ""),
        (b"M\xfcller", "M\u00fcller"),
        (b"lower", "lower"),
    ],
)
def test_titles_are_read_in_their_normal_form(title: bytes, normal: str) -> None:
    """Padding goes, case stays, and what is not ASCII is taken for Latin-1 (H-2)."""
    request = read_associate_request(_content(called=title, calling=title))
    assert (request.called_ae_title, request.calling_ae_title) == (normal, normal)


def test_the_order_of_transfer_syntaxes_is_kept() -> None:
    """The requestor's preference is what the answer goes by (H-15)."""
    syntaxes = item(0x40, _EXPLICIT.encode()) + item(0x40, _IMPLICIT.encode() + b"\0")
    content = b"\3\0\0\0" + item(0x30, _CT.encode()) + syntaxes
    request = _read(application_context(), item(0x20, content))
    assert request.contexts == (ProposedContext(3, _CT, (_EXPLICIT, _IMPLICIT)),)


def test_a_context_without_syntaxes_is_read() -> None:
    """A damaged context is left to the policy (H-4)."""
    request = _read(application_context(), item(0x20, b"\1\0\0\0"))
    assert request.contexts == (ProposedContext(1, "", ()),)


def test_what_is_missing_is_read_as_nothing() -> None:
    """Without items there is no context name, no context, and the usual maximum length."""
    request = read_associate_request(_content()[:68])
    assert (request.application_context_name, request.contexts) == ("", ())
    assert request.maximum_length_bytes == 16_384


def test_items_of_unknown_types_are_passed_over() -> None:
    """They are not tested by whoever does not know them (PS3.8 9.3.1)."""
    unknown = item(0x99, b"what")
    context = item(0x20, b"\1\0\0\0" + unknown + item(0x30, _CT.encode()) + unknown)
    request = _read(unknown, application_context(), context, unknown, user_information(unknown))
    assert request.contexts == (ProposedContext(1, _CT, ()),)
    assert request.maximum_length_bytes == 131_072


def _counted(uid: str) -> bytes:
    return struct.pack(">H", len(uid)) + uid.encode()


def test_application_information_is_read() -> None:
    """Its bytes stand by SOP Class UID (PS3.7 D.3.3.5)."""
    request = _read(user_information(item(0x56, _counted(_CT) + b"\2\0\3")))
    assert request.extended == {_CT: b"\2\0\3"}


def test_application_information_may_be_empty() -> None:
    """A sub-item that asks for nothing is no fault (B-10)."""
    request = _read(user_information(item(0x56, _counted(_CT))))
    assert request.extended == {_CT: b""}


def test_of_application_information_sent_twice_the_last_counts() -> None:
    """A SOP class has one sub-item (PS3.7 D.3.3.5); one that repeats it corrects itself."""
    sub_items = item(0x56, _counted(_CT) + b"\1\1") + item(0x56, _counted(_CT) + b"\0")
    assert _read(user_information(sub_items)).extended == {_CT: b"\0"}


def _role_item(uid: str, *roles: int) -> bytes:
    return item(0x54, _counted(uid) + bytes(roles))


@pytest.mark.parametrize(
    ("scu", "scp", "roles"),
    [
        (0, 1, Roles(is_scu=False, is_scp=True)),
        (1, 1, Roles(is_scu=True, is_scp=True)),
        (1, 0, Roles(is_scu=True, is_scp=False)),
        (0, 0, Roles(is_scu=False, is_scp=False)),
        (2, 0xFF, Roles(is_scu=False, is_scp=False)),
    ],
)
def test_proposed_roles_are_read(scu: int, scp: int, roles: Roles) -> None:
    """SCU-role, then SCP-role; 1 alone proposes a role (PS3.7 table D.3-9, H-8)."""
    request = _read(user_information(_role_item(_CT, scu, scp) + _role_item("1.2.3", 1, 0)))
    assert request.roles == {_CT: roles, "1.2.3": Roles(is_scu=True, is_scp=False)}


def test_of_roles_proposed_twice_the_last_count() -> None:
    """A SOP class has one sub-item (PS3.7 D.3.3.4); one that repeats it corrects itself (H-8)."""
    sub_items = _role_item(_CT, 1, 0) + _role_item(f"{_CT}\0", 0, 1)
    roles = _read(user_information(sub_items)).roles
    assert roles == {_CT: Roles(is_scu=False, is_scp=True)}


def test_declared_classes_are_read() -> None:
    """Service class and general classes stand by SOP Class UID (PS3.7 D.3.3.6, H-30)."""
    related = _counted("1.2.4") + _counted("1.2.5")
    content = _counted("1.2.3") + _counted("1.2") + struct.pack(">H", len(related)) + related
    alone = _counted("1.2.6") + _counted("1.2") + b"\0\0"
    request = _read(user_information(item(0x57, content) + item(0x57, alone)))
    assert request.declared == {
        "1.2.3": DeclaredSopClass("1.2", ("1.2.4", "1.2.5")),
        "1.2.6": DeclaredSopClass("1.2", ()),
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it ends within its fixed fields"),
        (_content()[:67], "it ends within its fixed fields"),
        (_content(b"\x10\0\0"), "it ends within an item's header"),
        (_content(item(0x10, b"1.2", length=4)), "an item of type 10H runs over the end"),
        (_content(item(0x99, length=0xFFFF)), "an item of type 99H runs over the end"),
        (_content(item(0x20, b"\1\0\0")), "a presentation context has no identifier"),
        (_content(presentation_context(2)), "a presentation context identifier is even, or used"),
        (_content(presentation_context(0)), "a presentation context identifier is even, or used"),
        (
            _content(presentation_context(1), presentation_context(1)),
            "a presentation context identifier is even, or used twice",
        ),
        (
            _content(item(0x20, b"\1\0\0\0" + item(0x30, b"1.2", length=9))),
            "an item of type 30H runs over the end",
        ),
        (_content(item(0x50, b"\x51")), "it ends within an item's header"),
        (_content(item(0x50, item(0x51, b"\0\0\1"))), "the maximum length has no four bytes"),
        (
            _content(user_information(item(0x56, b"\0"))),
            "a sub-item ends within the length of a UID",
        ),
        (
            _content(user_information(item(0x56))),
            "a sub-item ends within the length of a UID",
        ),
        (
            _content(user_information(item(0x56, b"\0\5" + b"1.2"))),
            "a UID runs over the end of its sub-item",
        ),
        (
            _content(user_information(item(0x56, _counted(_CT) + b"\1", length=99))),
            "an item of type 56H runs over the end",
        ),
        (
            _content(user_information(item(0x54, b"\0"))),
            "a sub-item ends within the length of a UID",
        ),
        (
            _content(user_information(item(0x54, b"\0\x04" + b"1.2"))),
            "a UID runs over the end of its sub-item",
        ),
        (_content(user_information(_role_item(_CT))), "a role selection has no two roles"),
        (_content(user_information(_role_item(_CT, 1))), "a role selection has no two roles"),
        (_content(user_information(_role_item(_CT, 0, 0, 1))), "a role selection has no two roles"),
        (
            _content(user_information(item(0x57, _counted("1.2")))),
            "a sub-item ends within the length of a UID",
        ),
        (
            _content(user_information(item(0x57, _counted("1") + _counted("2") + b"\0\2\0"))),
            "a sub-item ends within the length of a UID",
        ),
    ],
)
def test_a_request_that_breaks_the_encoding_says_how(content: bytes, reason: str) -> None:
    """The message names the rule and no value of the sender's."""
    with pytest.raises(AssociateError) as error:
        read_associate_request(content)
    assert str(error.value).startswith(reason)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(content: bytes) -> None:
    """Whatever comes behind the fixed fields is read or is an AssociateError."""
    for each in (content, bytes(68) + content):
        try:
            read_associate_request(each)
        except AssociateError:
            continue


_WHOLE = _content(
    application_context(),
    presentation_context(1),
    presentation_context(3, _CT),
    user_information(
        item(0x56, _counted(_CT) + bytes(6))
        + _role_item(_CT, 0, 1)
        + item(0x57, _counted("1.2.3") + _counted("1.2") + b"\0\5" + _counted("1.4"))
    ),
)


@given(
    st.lists(st.tuples(st.integers(68, len(_WHOLE) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(_WHOLE)),
)
def test_mutated_requests_raise_nothing_else(
    changes: list[tuple[int, int]], length_bytes: int
) -> None:
    """A request with some bytes changed, or cut off, is read or is an AssociateError."""
    content = bytearray(_WHOLE)
    for position, value in changes:
        content[position] = value
    for each in (bytes(content), bytes(content[:length_bytes])):
        try:
            request = read_associate_request(each)
        except AssociateError:
            continue
        assert len({context.context_id for context in request.contexts}) <= 128
        # What can be read can be answered.
        answers = [PresentationContext(c.context_id, "", _IMPLICIT, 3) for c in request.contexts]
        encode_associate_accept(request, _APPLICATION_CONTEXT_NAME, answers, 0)


@st.composite
def _requests(draw: st.DrawFn) -> A_ASSOCIATE:
    """An association request as pynetdicom writes it."""
    request = A_ASSOCIATE()
    request.application_context_name = UID(_APPLICATION_CONTEXT_NAME)
    request.calling_ae_title, request.called_ae_title = draw(_TITLES), draw(_TITLES)
    contexts = []
    for number in range(draw(st.integers(1, 128))):
        syntaxes = draw(st.lists(_UIDS, min_size=1, max_size=3, unique=True))
        contexts.append(build_context(draw(_UIDS), syntaxes))
        contexts[-1].context_id = 2 * number + 1
    request.presentation_context_definition_list = contexts
    maximum = MaximumLengthNotification()
    maximum.maximum_length_received = draw(st.integers(0, 0xFFFFFFFF))
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID("1.2.3")
    request.user_information = [maximum, implementation, *draw(_negotiations())]
    return request


@st.composite
def _negotiations(draw: st.DrawFn) -> list[Any]:
    """Further sub-items, known and unknown to us."""
    made: list[Any] = []
    for uid in draw(st.lists(_UIDS, max_size=3, unique=True)):
        extended = SOPClassExtendedNegotiation()
        extended.sop_class_uid = UID(uid)
        extended.service_class_application_information = draw(st.binary(min_size=1, max_size=6))
        common = SOPClassCommonExtendedNegotiation()
        common.sop_class_uid, common.service_class_uid = UID(uid), UID(draw(_UIDS))
        related = draw(st.lists(_UIDS, max_size=3))
        common.related_general_sop_class_identification = [UID(each) for each in related]
        made += [extended, common]
    if draw(st.booleans()):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = UID(draw(_UIDS))
        role.scu_role, role.scp_role = draw(_ROLES)
        window = AsynchronousOperationsWindowNegotiation()
        window.maximum_number_operations_invoked = 5
        identity = UserIdentityNegotiation()
        identity.user_identity_type, identity.primary_field = 1, b"user"
        made += [role, window, identity]
    return made


@settings(deadline=None, max_examples=50)
@given(_requests())
def test_what_pynetdicom_writes_is_read(made: A_ASSOCIATE) -> None:
    """Every field of a request means what it means to pynetdicom."""
    request = read_associate_request(A_ASSOCIATE_RQ(made).encode()[6:])
    assert (request.called_ae_title, request.calling_ae_title) == (
        made.called_ae_title.strip(),
        made.calling_ae_title.strip(),
    )
    assert request.application_context_name == made.application_context_name
    assert [
        (c.context_id, c.abstract_syntax, [*c.transfer_syntaxes]) for c in request.contexts
    ] == [
        (c.context_id, c.abstract_syntax, c.transfer_syntax)
        for c in made.presentation_context_definition_list
    ]
    items: list[Any] = [*made.user_information]
    assert request.maximum_length_bytes == items[0].maximum_length_received
    assert request.extended == {
        each.sop_class_uid: each.service_class_application_information
        for each in items
        if isinstance(each, SOPClassExtendedNegotiation)
    }
    assert request.roles == {
        each.sop_class_uid: Roles(is_scu=each.scu_role, is_scp=each.scp_role)
        for each in items
        if isinstance(each, SCP_SCU_RoleSelectionNegotiation)
    }
    assert request.declared == {
        each.sop_class_uid: DeclaredSopClass(
            str(each.service_class_uid), (*each.related_general_sop_class_identification,)
        )
        for each in items
        if isinstance(each, SOPClassCommonExtendedNegotiation)
    }


# --- writing


@settings(deadline=None, max_examples=50)
@given(
    contexts=st.dictionaries(
        st.integers(0, 127).map(lambda number: 2 * number + 1),
        st.tuples(_UIDS, st.sampled_from([0, 3, 4])),
        max_size=128,
    ),
    maximum_length_bytes=st.integers(0, 0xFFFFFFFF),
    options=st.dictionaries(_UIDS, st.binary(max_size=7), min_size=1, max_size=5),
)
def test_pynetdicom_reads_our_answer(
    contexts: dict[int, tuple[str, int]], maximum_length_bytes: int, options: dict[str, bytes]
) -> None:
    """Contexts, maximum length, implementation and options arrive as they were meant (H-14).

    Of each SOP class that is accepted the options are answered once, in however many contexts it
    stands (B-10).
    """
    classes = dict(zip(contexts, itertools.cycle(options.items()), strict=False))
    encoded = encode_associate_accept(
        read_associate_request(_WHOLE),
        _APPLICATION_CONTEXT_NAME,
        [
            PresentationContext(number, uid, *contexts[number], information)
            for number, (uid, information) in classes.items()
        ],
        maximum_length_bytes,
    )
    pdu = A_ASSOCIATE_AC()
    pdu.decode(encoded)
    assert pdu.encode() == encoded
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    assert pdu.protocol_version == 1
    assert pdu.application_context_name == _APPLICATION_CONTEXT_NAME
    assert {
        c.presentation_context_id: (c.transfer_syntax, c.result) for c in pdu.presentation_context
    } == contexts
    information = pdu.user_information
    assert information is not None
    assert information.maximum_length == maximum_length_bytes
    assert information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert information.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    assert {
        each.sop_class_uid: each.service_class_application_information
        for each in information.ext_neg or []
    } == {
        uid: information
        for number, (uid, information) in classes.items()
        if information and contexts[number][1] == 0
    }
    sub_items = [each.sop_class_uid for each in information.ext_neg or []]
    assert len(sub_items) == len({*sub_items})


def _roles_answered(
    *contexts: tuple[str, int, Roles], proposed: bytes
) -> dict[str, tuple[bool, bool]]:
    """Return the SCU and SCP role that pynetdicom reads for each SOP class of our answer."""
    encoded = encode_associate_accept(
        _read(user_information(proposed)),
        _APPLICATION_CONTEXT_NAME,
        [
            PresentationContext(2 * n + 1, uid, _IMPLICIT, result, b"", roles.is_scu, roles.is_scp)
            for n, (uid, result, roles) in enumerate(contexts)
        ],
        0,
    )
    pdu = A_ASSOCIATE_AC()
    pdu.decode(encoded)
    assert pdu.encode() == encoded
    assert pdu.user_information is not None
    items = pdu.user_information.role_selection
    sub_items = pdu.user_information.user_data
    assert len(items) == sum(type(each).__name__.startswith("SCP_SCU") for each in sub_items)
    return {str(uid): (bool(each.scu_role), bool(each.scp_role)) for uid, each in items.items()}


def test_roles_are_answered_once_for_each_class_that_some_were_proposed_for() -> None:
    """However many contexts it has; a class without proposal has no item (E-39, E-41, H-8)."""
    to_us, to_it = Roles(is_scu=True, is_scp=False), Roles(is_scu=False, is_scp=True)
    answered = _roles_answered(
        (_CT, 0, to_it),
        (_CT, 0, to_it),
        (_VERIFICATION, 0, to_us),
        ("1.2.3", 0, to_us),
        proposed=_role_item(_CT, 0, 1) + _role_item(_VERIFICATION, 1, 1),
    )
    assert answered == {_CT: (False, True), _VERIFICATION: (True, False)}


def test_roles_of_a_class_that_is_refused_are_not_answered() -> None:
    """There is nothing to be agreed upon; a context that is accepted is enough (H-8)."""
    both = Roles(is_scu=True, is_scp=True)
    proposed = _role_item(_CT, 1, 1) + _role_item(_VERIFICATION, 1, 1) + _role_item("1.2.9", 1, 1)
    answered = _roles_answered(
        (_VERIFICATION, 4, both), (_CT, 0, both), (_CT, 4, both), proposed=proposed
    )
    assert answered == {_CT: (True, True)}


def test_the_bytes_of_answered_roles() -> None:
    """Length of the UID, UID, SCU-role, SCP-role (PS3.7 table D.3-10)."""
    request = _read(user_information(_role_item("1.2.3", 1, 1)))
    context = PresentationContext(1, "1.2.3", _IMPLICIT, 0, b"", False, True)  # noqa: FBT003
    encoded = encode_associate_accept(request, _APPLICATION_CONTEXT_NAME, [context], 0)
    assert encoded.endswith(b"\x54\0\0\x09\0\5" + b"1.2.3" + b"\0\1")


def test_the_answer_repeats_both_titles() -> None:
    """The reserved fields of an answer are the bytes of the request (PS3.8 table 9-17)."""
    request = read_associate_request(_content(called=b"\0 odd", calling=b"M\xfcller"))
    encoded = encode_associate_accept(request, _APPLICATION_CONTEXT_NAME, [], 0)
    assert encoded[10:42] == b"\0 odd".ljust(16) + b"M\xfcller".ljust(16)


def test_the_answer_has_our_version_whatever_else_was_asked_for() -> None:
    """Of several versions that are asked for, ours is the one that is answered (PS3.8 9.3.3)."""
    request = read_associate_request(_content(protocol_version=0xFFFF))  # type: ignore[arg-type]
    encoded = encode_associate_accept(request, _APPLICATION_CONTEXT_NAME, [], 0)
    assert encoded[6:8] == b"\0\1"


@pytest.mark.parametrize(
    ("syntax", "answered"),
    [(b"1.2.3\xff", b"1.2.3?"), (b"x" * 65_523, b"x" * 65_523), (b"", b"")],
    ids=["not ASCII", "longest", "empty"],
)
def test_a_refused_context_with_an_odd_syntax_is_answered(syntax: bytes, answered: bytes) -> None:
    """Whatever the requestor called a syntax, the lengths of the answer are right (H-4)."""
    context = item(0x20, b"\1\0\0\0" + item(0x40, syntax))
    (proposed,) = _read(context).contexts
    answer = PresentationContext(1, "", proposed.transfer_syntaxes[0], 4)
    encoded = encode_associate_accept(_read(context), _APPLICATION_CONTEXT_NAME, [answer], 0)
    assert item(0x21, b"\1\0\4\0" + item(0x40, answered)) in encoded


@pytest.mark.parametrize("triple", [(1, 1, 7), (1, 2, 2), (2, 3, 1), (2, 3, 2)])
def test_pynetdicom_reads_our_rejection(triple: tuple[int, int, int]) -> None:
    """Result, source and reason stand in their places (PS3.8 table 9-21)."""
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(encode_associate_reject(*triple))
    assert (pdu.result, pdu.source, pdu.reason_diagnostic) == triple
