"""Targets of the fuzzer that need no connection: the readers of what a peer has encoded.

Each takes any bytes. What it may raise for them is caught here; all else is a finding.
"""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Final

from pacsnode.dicom.answer import AnswerEncoder
from pacsnode.dicom.attributes import Keys, extra_key
from pacsnode.dicom.character_sets import DEFAULT_CHARACTER_SETS, UTF_8
from pacsnode.dicom.data_elements import DataSetError, read_elements
from pacsnode.dicom.identifier import parse_query, parse_retrieval
from pacsnode.dicom.information_model import (
    FIND_MODELS,
    GET_MODELS,
    MOVE_MODELS,
    PATIENT_ROOT,
    STUDY_ROOT,
    VERIFICATION_UID,
    InformationModel,
    Level,
)
from pacsnode.dicom.instance import InstanceReader
from pacsnode.dicom.status import DimseFailure
from pacsnode.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IDENTIFIER_TRANSFER_SYNTAXES,
    IMPLICIT_VR_LITTLE_ENDIAN,
    encoding_of,
)
from pacsnode.dicom.uid import is_valid_uid
from pacsnode.dicom.values import Item, Value, decode_items, encode_value
from pacsnode.network.associate import (
    DEFAULT_ROLES,
    ProposedContext,
    encode_associate_accept,
    read_associate_request,
)
from pacsnode.network.associate_items import AssociateError
from pacsnode.network.associate_request import read_associate_accept, read_associate_reject
from pacsnode.network.command_set import (
    C_STORE_RQ,
    CommandSetError,
    encode_store_response,
    read_command_set,
    request_of,
)
from pacsnode.network.negotiation import (
    APPLICATION_CONTEXT_NAME,
    AETitlePolicy,
    AssociationPolicy,
)
from scripts.fuzz_promise import demand

_OPTIONS: Final = frozenset({*FIND_MODELS, *MOVE_MODELS, *GET_MODELS})
POLICY: Final = AssociationPolicy(
    ae_titles=frozenset({"PACSNODE"}),
    remote_ae_titles=frozenset(),
    called=AETitlePolicy.ANY,
    calling=AETitlePolicy.ANY,
    additional_sop_classes=frozenset(),
)
# An Attribute of the dictionary, and private ones of two creators.
_KEYS: Final = Keys(
    [
        extra_key(Level.IMAGE, tag=0x00180060),
        extra_key(Level.SERIES, tag=0x00191001, vr="US", private_creator="MADE UP"),
        extra_key(Level.SERIES, tag=0x00191001, vr="SQ", private_creator="OTHER"),
    ]
)
_READER: Final = InstanceReader(_KEYS)
# What the seeds of an answer answer: Verification, and CT images in two Transfer Syntaxes.
PROPOSED: Final = (
    ProposedContext(1, VERIFICATION_UID, (IMPLICIT_VR_LITTLE_ENDIAN,)),
    ProposedContext(3, "1.2.840.10008.5.1.4.1.1.2", (EXPLICIT_VR_LITTLE_ENDIAN,)),
    ProposedContext(5, "1.2.840.10008.5.1.4.1.1.2", (IMPLICIT_VR_LITTLE_ENDIAN,)),
)
_PDU_HEADER_BYTES: Final = 6
_MAXIMUM_LENGTH_BYTES: Final = 131_072
_CONTEXT_ID: Final = 1
_STATUS: Final = 0xC000
_COMMENT: Final = "cannot understand"
_OFFENDING_ELEMENT: Final = 0x00080018
# The last is deflated here: a fuzzer cannot write a deflated stream that says much.
_ENCODINGS: Final = (
    (IMPLICIT_VR_LITTLE_ENDIAN, False),
    (EXPLICIT_VR_LITTLE_ENDIAN, False),
    (EXPLICIT_VR_BIG_ENDIAN, False),
    (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, False),
    (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, True),
)


def fuzz_associate_request(content: bytes) -> None:
    """Read an A-ASSOCIATE-RQ without its header, and answer it.

    Source: rules H-1 to H-4.
    """
    try:
        request = read_associate_request(content)
    except AssociateError:
        return
    POLICY.refusal(request)
    contexts = POLICY.negotiate(request)
    ids = [context.context_id for context in request.contexts]
    demand([context.context_id for context in contexts] == ids, "each context is answered")
    for context in contexts:
        offered = request.roles.get(context.abstract_syntax, DEFAULT_ROLES)
        demand(
            context.is_requestor_scu <= offered.is_scu
            and context.is_requestor_scp <= offered.is_scp,
            "no role is agreed upon that was not offered",
        )
        if context.abstract_syntax in _OPTIONS:
            asked = request.extended.get(context.abstract_syntax, b"")
            agreed = context.application_information
            demand(len(agreed) <= len(asked), "no option is answered that was not asked for")
            demand(
                all(one <= two for one, two in zip(agreed, asked, strict=False)), "nor more of it"
            )
    accepted = encode_associate_accept(
        request, APPLICATION_CONTEXT_NAME, contexts, _MAXIMUM_LENGTH_BYTES
    )
    length = int.from_bytes(accepted[2:_PDU_HEADER_BYTES], "big")
    demand(length == len(accepted) - _PDU_HEADER_BYTES, "the length of the answer is right")


def fuzz_associate_answer(content: bytes) -> None:
    """Read an answer to an A-ASSOCIATE-RQ of ours, without its header.

    Source: rules H-1, H-4.
    """
    reason = read_associate_reject(content)
    demand(reason.isascii() and reason.isprintable(), "a rejection is told in one line")
    try:
        answer = read_associate_accept(content, PROPOSED)
    except AssociateError:
        return
    demand(
        [context.context_id for context in answer.contexts] == [1, 3, 5], "each context is answered"
    )
    for context, proposed in zip(answer.contexts, PROPOSED, strict=True):
        demand(
            not context.is_accepted or context.transfer_syntax in proposed.transfer_syntaxes,
            "what is accepted was proposed",
        )


def fuzz_command_set(content: bytes) -> None:
    """Read a command set, make the request of it, and respond to a C-STORE.

    Source: rule F-4.
    """
    try:
        command_set = read_command_set(content)
        request_of(command_set, _CONTEXT_ID, b"\0" * 8)
        message_id = command_set.message_id
    except CommandSetError:
        return
    if command_set.command_field == C_STORE_RQ:
        encoded = encode_store_response(command_set, _STATUS, _COMMENT, [_OFFENDING_ELEMENT])
        response = read_command_set(encoded)
        demand(response.message_id_being_responded_to == message_id, "the Message ID comes back")
        demand(
            (response.affected_sop_class_uid, response.affected_sop_instance_uid)
            == (command_set.affected_sop_class_uid, command_set.affected_sop_instance_uid),
            "both UIDs come back",
        )


def fuzz_data_set(content: bytes) -> None:
    """Read a data set: as an instance, a query, a retrieval or items; the first byte chooses."""
    if not content:
        return
    kind, choice = divmod(content[0], len(_ENCODINGS))
    transfer_syntax_uid, is_to_be_deflated = _ENCODINGS[choice]
    data_set = content[1:]
    if is_to_be_deflated:
        compressor = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        data_set = compressor.compress(data_set) + compressor.flush()
    try:
        _READERS[kind % len(_READERS)](data_set, transfer_syntax_uid)
    except DimseFailure as failure:
        demand(failure.comment.isascii(), "a comment is ASCII")


def _read_instance(data_set: bytes, transfer_syntax_uid: str) -> None:
    header = _READER.read(data_set, transfer_syntax_uid)
    uids = (
        header.sop_class_uid,
        header.sop_instance_uid,
        header.study_instance_uid,
        header.series_instance_uid,
    )
    demand(all(map(is_valid_uid, uids)), "the identifying UIDs are valid")
    for level in Level:
        for value in header.values(level).values():
            demand(bool(value), "what has no value is left out")
            _check_value(value)
    again = _READER.read(data_set, transfer_syntax_uid)
    demand(again.statement == header.statement, "the same bytes make the same statement")


def _check_value(value: Value) -> None:
    if isinstance(value, str):
        value.encode()  # what is no Unicode text would fail in the catalog
    elif isinstance(value, tuple):
        for item in value:
            demand(list(item) == sorted(item), "an item is in the order of its tags")
            for element in item.values():
                _check_value(element.value)


def _read_items(value: bytes, transfer_syntax_uid: str) -> None:
    """Read the items of a sequence, and encode them as answers do."""
    try:
        items = decode_items(value, encoding_of(transfer_syntax_uid), DEFAULT_CHARACTER_SETS)
    except DataSetError:
        return
    _check_value(items)
    for uid in IDENTIFIER_TRANSFER_SYNTAXES:
        # The first time round, odd bytes are padded, and VRs may become those of the dictionary.
        once = _there_and_back(items, uid)
        demand(_there_and_back(once, uid) == once, "items come back as they were sent")


def _there_and_back(items: tuple[Item, ...], transfer_syntax_uid: str) -> tuple[Item, ...]:
    encoding = encoding_of(transfer_syntax_uid)
    return decode_items(encode_value(items, "SQ", UTF_8, encoding), encoding, UTF_8)


def _read_query(model: InformationModel, identifier: bytes, transfer_syntax_uid: str) -> None:
    encoding = encoding_of(transfer_syntax_uid)
    query = parse_query(model, identifier, encoding, keys=_KEYS)
    if transfer_syntax_uid in IDENTIFIER_TRANSFER_SYNTAXES:
        answer = AnswerEncoder(query, "PACSNODE", encoding).encode([None] * len(query.return_keys))
        read_elements(answer, encoding)


def _read_retrieval(model: InformationModel, identifier: bytes, transfer_syntax_uid: str) -> None:
    retrieval = parse_retrieval(model, identifier, encoding_of(transfer_syntax_uid))
    demand(bool(retrieval.unique_keys[retrieval.level]), "a retrieval names what it wants")


_READERS: Final[tuple[Callable[[bytes, str], None], ...]] = (
    _read_instance,
    partial(_read_query, PATIENT_ROOT),
    partial(_read_query, STUDY_ROOT),
    partial(_read_retrieval, PATIENT_ROOT),
    partial(_read_retrieval, STUDY_ROOT),
    _read_items,
)
