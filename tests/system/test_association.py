"""Association negotiation: which contexts are accepted, who is rejected and how."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom import AllStoragePresentationContexts

from tests.support.instances import ct_data_set, encoded, new_uid
from tests.support.node import Node, running_node
from tests.support.waiting import wait_until
from tests.support.wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Association,
    AssociationRejectedError,
    ProposedContext,
    Requestor,
    find,
    identifier_of,
    storage_contexts,
    store_all,
)

pytestmark = pytest.mark.system

_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
_RLE = "1.2.840.10008.1.2.5"
_STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"
_ALLOWED_PRIVATE_CLASS = "1.2.826.0.1.3680043.8.498.3.1"
_CONTEXTS_AT_MOST = 128

# Classes without patient, study and series (H-34), of those that pynetdicom lists as storage.
_NON_PATIENT_CLASSES = {
    "1.2.840.10008.5.1.4.38.1",
    "1.2.840.10008.5.1.4.39.1",
    "1.2.840.10008.5.1.4.43.1",
    "1.2.840.10008.5.1.4.44.1",
    "1.2.840.10008.5.1.4.45.1",
    "1.2.840.10008.5.1.4.1.1.200.1",
    "1.2.840.10008.5.1.4.1.1.200.3",
    "1.2.840.10008.5.1.4.1.1.200.7",
    "1.2.840.10008.5.1.4.1.1.201.1",
}
# Under the root of the storage classes, but services of their own (H-33).
_NOT_STORAGE = [
    "1.2.840.10008.5.1.4.1.1.200.4",
    "1.2.840.10008.5.1.4.1.1.200.5",
    "1.2.840.10008.5.1.4.1.1.200.6",
    "1.2.840.10008.5.1.4.1.1.201.2",
    "1.2.840.10008.5.1.4.1.1.201.5",
]
_STORAGE_TRANSFER_SYNTAXES = [
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.1.99",
    _BIG_ENDIAN,
    _JPEG_BASELINE,
    *(f"1.2.840.10008.1.2.4.{number}" for number in (51, 57, 70, 80, 81, 90, 91, 92, 93)),
    *(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109)),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)),
    _RLE,
]


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node with two titles and one private class on its allow list."""
    with running_node(
        module_folder,
        ae_titles=["PACSNODE", "SECOND"],
        storage={"additional_sop_classes": [_ALLOWED_PRIVATE_CLASS]},
    ) as running:
        yield running


def _results(node: Node, proposed: list[ProposedContext], **declared: object) -> list[int]:
    """Return the result of each proposed context, in their order."""
    with Association(node.address, proposed, Requestor(**declared)) as association:  # type: ignore[arg-type]
        return [association.contexts[key].result for key in sorted(association.contexts)]


def _rejection(node: Node, requestor: Requestor) -> tuple[int, int, int]:
    """Return result, source and reason of the rejection that has to come."""
    with (
        pytest.raises(AssociationRejectedError) as caught,
        Association(node.address, [ProposedContext(VERIFICATION)], requestor),
    ):
        pass
    return caught.value.triple


def test_all_known_storage_classes_are_accepted(node: Node) -> None:
    """Every storage class that pynetdicom lists, but those without a patient (H-31, H-34)."""
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    refused = set()
    for start in range(0, len(classes), _CONTEXTS_AT_MOST):
        batch = classes[start : start + _CONTEXTS_AT_MOST]
        results = _results(node, [ProposedContext(uid) for uid in batch])
        refused |= {uid for uid, result in zip(batch, results, strict=True) if result != 0}

    assert refused == _NON_PATIENT_CLASSES & set(classes)


@pytest.mark.parametrize("uid", [*_NOT_STORAGE, "1.2.840.10008.1.3.10", "1.2.3.4"])
def test_what_is_not_storage_is_refused(node: Node, uid: str) -> None:
    """Result 3, abstract syntax not supported, also for an unknown private class (H-31, H-33)."""
    assert _results(node, [ProposedContext(uid)]) == [3]


@pytest.mark.parametrize("syntax", _STORAGE_TRANSFER_SYNTAXES)
def test_a_storage_transfer_syntax_is_accepted(node: Node, syntax: str) -> None:
    """Each Transfer Syntax of H-16, alone in its context."""
    assert _results(node, [ProposedContext(CTImageStorage, (syntax,))]) == [0]


@pytest.mark.parametrize(
    "syntaxes",
    [
        (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
        (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN),
        (_JPEG_2000_LOSSLESS, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
        (_RLE, _JPEG_BASELINE),
        (_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
        ("1.2.3.4.5", _RLE, IMPLICIT_VR_LITTLE_ENDIAN),
    ],
)
def test_the_first_usable_transfer_syntax_of_the_requestor_is_chosen(
    node: Node, syntaxes: tuple[str, ...]
) -> None:
    """The requestor's order decides, so that it need not transcode (H-15)."""
    with Association(node.address, [ProposedContext(CTImageStorage, syntaxes)]) as association:
        context = association.contexts[1]

    expected = next(uid for uid in syntaxes if uid != "1.2.3.4.5")
    assert (context.result, context.transfer_syntax) == (0, expected)


def test_unknown_transfer_syntaxes_alone_are_refused(node: Node) -> None:
    """Result 4, transfer syntaxes not supported (H-15)."""
    assert _results(node, [ProposedContext(CTImageStorage, ("1.2.3.4.5",))]) == [4]


@pytest.mark.parametrize("syntax", [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN])
def test_verification_and_query_retrieve_are_accepted(node: Node, syntax: str) -> None:
    """Verification, FIND and MOVE in both roots (A-2, H-5)."""
    uids = (VERIFICATION, PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, STUDY_ROOT_FIND, STUDY_ROOT_MOVE)

    assert _results(node, [ProposedContext(uid, (syntax,)) for uid in uids]) == [0] * 5


@pytest.mark.parametrize(
    ("uid", "declared", "result"),
    [
        ("1.2.826.0.1.3680043.8.498.3.9", {}, 3),
        (
            "1.2.826.0.1.3680043.8.498.3.9",
            {"1.2.826.0.1.3680043.8.498.3.9": _STORAGE_SERVICE_CLASS},
            0,
        ),
        (
            "1.2.826.0.1.3680043.8.498.3.9",
            {"1.2.826.0.1.3680043.8.498.3.8": _STORAGE_SERVICE_CLASS},
            3,
        ),
        (
            "1.2.826.0.1.3680043.8.498.3.9",
            {"1.2.826.0.1.3680043.8.498.3.9": "1.2.840.10008.4.1"},
            3,
        ),
        (_ALLOWED_PRIVATE_CLASS, {}, 0),
    ],
    ids=["undeclared", "declared storage", "another declared", "declared other", "allow list"],
)
def test_an_unknown_class_needs_a_declaration_or_an_allowance(
    node: Node, uid: str, declared: dict[str, str], result: int
) -> None:
    """SOP Class Common Extended Negotiation as Storage, or the allow list (H-30, H-31)."""
    assert _results(node, [ProposedContext(uid)], common_extended=declared) == [result]


def test_a_declaration_holds_for_its_own_association_only(node: Node) -> None:
    """What one requestor declares does not open the node to the next one (H-31)."""
    uid = new_uid()
    proposed = [ProposedContext(uid)]

    declared = _results(node, proposed, common_extended={uid: _STORAGE_SERVICE_CLASS})

    assert declared == [0]
    # Several times, because associations are spread over the workers.
    assert [_results(node, proposed) for _ in range(6)] == [[3]] * 6


@pytest.mark.parametrize("uid", [_ALLOWED_PRIVATE_CLASS, "1.2.826.0.1.3680043.8.498.3.2"])
def test_an_object_of_a_private_class_is_kept_like_any_other(node: Node, uid: str) -> None:
    """Stored with Success and found with its SOP Class UID (H-31, F-15)."""
    instance = encoded(ct_data_set(SOPClassUID=uid))
    requestor = Requestor(common_extended={uid: _STORAGE_SERVICE_CLASS})
    with Association(node.address, storage_contexts([instance]), requestor) as association:
        assert f"{association.c_store(instance).status:04X}" == "0000"

    identifier = identifier_of(
        "IMAGE",
        StudyInstanceUID=str(instance.study_instance_uid),
        SeriesInstanceUID=str(instance.series_instance_uid),
        SOPInstanceUID=instance.sop_instance_uid,
        SOPClassUID="",
    )
    answers, _ = find(node.address, STUDY_ROOT_FIND, identifier)
    assert [answer.SOPClassUID for answer in answers] == [uid]


@pytest.mark.parametrize("title", [b"NOBODY", b"pacsnode", b"PACSNODE2", b""])
def test_an_unknown_called_title_is_rejected(node: Node, title: bytes) -> None:
    """Permanent, (1, 1, 7); titles are case-sensitive (H-1, H-2)."""
    assert _rejection(node, Requestor(called_ae_title=title)) == (1, 1, 7)


def test_a_foreign_application_context_is_rejected(node: Node) -> None:
    """(1, 1, 2), application context name not supported (H-1)."""
    assert _rejection(node, Requestor(application_context=b"1.2.3")) == (1, 1, 2)


def test_a_foreign_protocol_version_is_rejected(node: Node) -> None:
    """(1, 2, 2), protocol version not supported (H-1)."""
    assert _rejection(node, Requestor(protocol_version=2)) == (1, 2, 2)


@pytest.mark.parametrize(
    ("called", "calling"),
    [
        (b"PACSNODE\0\0\0\0\0\0\0\0", b"MODALITY\0\0\0\0\0\0\0\0"),
        (b"PACSNODE\0       ", b"\0" * 16),
        (b"PACSNODE", b" " * 16),
        (b"  PACSNODE", b"  MODALITY"),
        (b"PACSNODE", b"EXACTLY-16-BYTES"),
        (b"PACSNODE", b"M\xfcnchen"),
        (b"SECOND", b"MODALITY"),
    ],
)
def test_oddly_padded_titles_are_served(node: Node, called: bytes, calling: bytes) -> None:
    """Padding by NUL or blanks, a blank or non-ASCII calling title: no abort, a C-ECHO (H-2)."""
    requestor = Requestor(called_ae_title=called, calling_ae_title=calling)
    with Association(node.address, [ProposedContext(VERIFICATION)], requestor) as association:
        assert association.c_echo() == 0x0000


def test_the_announced_maximum_length_is_generous(node: Node) -> None:
    """The node is ready to receive PDUs of 65536 bytes or more (H-6)."""
    with Association(node.address, [ProposedContext(VERIFICATION)]) as association:
        assert association.maximum_pdu_length == 131072


def test_one_hundred_and_twenty_eight_contexts_are_negotiated(node: Node) -> None:
    """The most that an association can have (E-30)."""
    assert _results(node, [ProposedContext(CTImageStorage)] * 128) == [0] * 128


def test_presentation_data_values_of_one_byte_make_a_whole(node: Node) -> None:
    """A sender that cuts command and Data Set into single bytes is understood (H-6)."""
    instance = encoded(ct_data_set())
    with Association(node.address, storage_contexts([instance])) as association:
        association.maximum_pdu_length = 7
        assert f"{association.c_store(instance).status:04X}" == "0000"


def test_command_and_data_set_may_share_a_pdu(node: Node) -> None:
    """A P-DATA-TF PDU with the whole C-STORE in it is understood (H-6)."""
    instance = encoded(ct_data_set())
    with Association(node.address, storage_contexts([instance])) as association:
        with association.in_one_pdu():
            association.send_store_request(
                1, CTImageStorage.encode(), instance.sop_instance_uid.encode()
            )
            association.send_data_set(1, instance.encoded_data_set)
        assert f"{association.receive().status:04X}" == "0000"


def test_any_called_title_is_served_where_the_configuration_says_so(tmp_path: Path) -> None:
    """called_ae_title: any."""
    with running_node(tmp_path, association={"called_ae_title": "any"}) as node:
        requestor = Requestor(called_ae_title=b"WHATEVER")
        with Association(node.address, [ProposedContext(VERIFICATION)], requestor) as association:
            assert association.c_echo() == 0x0000


def test_only_listed_callers_are_served_where_the_configuration_says_so(tmp_path: Path) -> None:
    """calling_ae_title: known rejects others with (1, 1, 3), whatever the padding (H-1, H-2)."""
    remote_aes = [
        {"ae_title": "WIRE", "host": "127.0.0.1", "port": 104},
        {"ae_title": "MODALITY", "host": "127.0.0.1", "port": 104},
    ]
    association = {"calling_ae_title": "known"}
    with running_node(tmp_path, remote_aes=remote_aes, association=association) as node:
        requestor = Requestor(calling_ae_title=b"STRANGER")
        assert _rejection(node, requestor) == (1, 1, 3)
        padded = Requestor(calling_ae_title=b"MODALITY\0\0\0\0\0\0\0\0")
        with Association(node.address, [ProposedContext(VERIFICATION)], padded) as opened:
            assert opened.c_echo() == 0x0000


def test_one_association_too_many_is_rejected_as_transient(tmp_path: Path) -> None:
    """(2, 3, 2) beyond maximum_associations of the whole node; later there is room (H-1, H-3)."""
    with running_node(tmp_path, association={"maximum_associations": 3}) as node:
        opened = [wait_until(partial(_try_to_open, node), "room") for _ in range(3)]

        rejection = _rejection(node, Requestor())

        assert rejection[0] == 2
        assert rejection[1:] in {(3, 1), (3, 2)}
        opened[0].release()
        wait_until(partial(_try_to_open, node), "room for another association").release()
        for association in opened[1:]:
            association.release()


def _try_to_open(node: Node) -> Association | None:
    """Return a new association, None if it is rejected: one just released may still count."""
    try:
        return Association(node.address, [ProposedContext(VERIFICATION)])
    except AssociationRejectedError:
        return None


@pytest.mark.parametrize("addresses", [["127.0.0.1", "::1"], ["0.0.0.0", "::"]])  # noqa: S104
def test_both_versions_of_the_internet_protocol_are_served(
    tmp_path: Path, addresses: list[str]
) -> None:
    """Every bind address accepts associations, IPv4 and IPv6 on the same port."""
    with running_node(tmp_path, bind_addresses=addresses) as node:
        for host in ("127.0.0.1", "::1"):
            proposed = [ProposedContext(VERIFICATION)]
            with Association((host, node.port), proposed) as association:
                assert association.c_echo() == 0x0000


def test_each_title_answers_under_its_own_name(node: Node) -> None:
    """Retrieve AE Title is the title the query was sent to (D-6)."""
    instance = encoded(ct_data_set())
    store_all(node.address, [instance])
    identifier = identifier_of("STUDY", StudyInstanceUID=str(instance.study_instance_uid))
    titles = []
    for called in (b"PACSNODE", b"SECOND"):
        proposed = [ProposedContext(STUDY_ROOT_FIND)]
        with Association(node.address, proposed, Requestor(called_ae_title=called)) as association:
            first = association.c_find(STUDY_ROOT_FIND, identifier)[0]
            titles.append(first.identifier.RetrieveAETitle)

    assert titles == ["PACSNODE", "SECOND"]
