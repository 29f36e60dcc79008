"""What we answer to an association request: which titles, how many, which presentation contexts.

Source: PS3.8 7.1, 9.3.3, 9.3.4; PS3.7 D.3.3; rules E-39 to E-41, H-1 to H-16.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from pacsnode.dicom.information_model import (
    FIND_MODELS,
    GET_MODELS,
    MOVE_MODELS,
    PATIENT_ROOT,
    STUDY_ROOT,
    VERIFICATION_UID,
    InformationModel,
)
from pacsnode.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IDENTIFIER_TRANSFER_SYNTAXES,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_TRANSFER_SYNTAXES,
)
from pacsnode.network.associate import (
    DEFAULT_ROLES,
    ONLY_SCP,
    AssociateRequest,
    DeclaredSopClass,
    PresentationContext,
    ProposedContext,
)
from pacsnode.network.storage_sop_classes import STORAGE_SOP_CLASSES, is_storage, may_be_storage

APPLICATION_CONTEXT_NAME: Final = "1.2.840.10008.3.1.1.1"

_QUERY_RETRIEVE_MODELS: Final = FIND_MODELS | MOVE_MODELS | GET_MODELS
SERVICES_WITHOUT_PIXELS: Final = frozenset({VERIFICATION_UID, *_QUERY_RETRIEVE_MODELS})

# Rule F-9: level 2 (full), bit-preserving signatures (level 3), no coercion; answered if asked.
STORAGE_APPLICATION_INFORMATION: Final = b"\x02\x00\x03\x00\x00\x00"
# Rule B-11: what we do of the options of queries and of retrievals; answered as far as asked for.
FIND_APPLICATION_INFORMATION: Final = b"\x01\x01\x00\x00\x00\x01\x01"
RETRIEVE_APPLICATION_INFORMATION: Final = b"\x01\x00"

# Rule E-40: what all that we keep can be converted to, the most faithful first.
_PREFERRED_FOR_SENDING: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)


class QueryOption(IntEnum):
    """Where an option that we support stands in the application information of FIND, MOVE and GET.

    Source: PS3.4 C.5.1.1, C.5.2.1; rule B-9.
    """

    RELATIONAL = 0  # queries; retrieval in the same place
    COMBINED_DATE_TIME = 1
    EMPTY_VALUE = 5
    MULTIPLE_VALUES = 6


class AETitlePolicy(StrEnum):
    """Which AE titles are let in."""

    KNOWN = "known"
    ANY = "any"


class ContextResult(IntEnum):
    """The result of a presentation context. Source: PS3.8 table 9-18."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an association is rejected, for the wire and for the administrator.

    Attributes:
        rejection: result, source and reason of the A-ASSOCIATE-RJ.
        reason: in words.

    Source: PS3.8 table 9-21; rule H-1.
    """

    rejection: tuple[int, int, int]
    reason: str


PROTOCOL_VERSION_NOT_SUPPORTED: Final = Refusal(
    (1, 2, 2), "its protocol version is not that of DICOM"
)
NO_CONTEXT_PROPOSED: Final = Refusal((1, 1, 1), "it proposes no presentation context")
APPLICATION_CONTEXT_NOT_SUPPORTED: Final = Refusal(
    (1, 1, 2), "its application context is not that of DICOM"
)
CALLED_AE_TITLE_UNKNOWN: Final = Refusal((1, 1, 7), "called AE title is not one of ours")
CALLING_AE_TITLE_UNKNOWN: Final = Refusal((1, 1, 3), "calling AE title is not in remote_aes")
SHUTTING_DOWN: Final = Refusal((2, 3, 1), "the node is stopping")
TOO_MANY_ASSOCIATIONS: Final = Refusal((2, 3, 2), "association.maximum_associations is reached")


@dataclass(frozen=True, slots=True)
class AssociationPolicy:
    """Who may associate, and for what.

    Attributes:
        ae_titles: ours.
        remote_ae_titles: of those we know.
        called: whether the called title must be ours.
        calling: whether the calling title must be known.
        additional_sop_classes: kept although nobody says that they are storage (rule H-31).
        models: the Query/Retrieve information models that are offered.
    """

    ae_titles: frozenset[str]
    remote_ae_titles: frozenset[str]
    called: AETitlePolicy
    calling: AETitlePolicy
    additional_sop_classes: frozenset[str]
    models: Collection[InformationModel] = (PATIENT_ROOT, STUDY_ROOT)

    def refusal(self, request: AssociateRequest) -> Refusal | None:
        """Return why an association is refused; None if it is let in.

        Source: PS3.8 9.3.2, 9.3.4; rules H-1 to H-3.
        """
        if not request.protocol_version & 1:
            return PROTOCOL_VERSION_NOT_SUPPORTED
        if request.application_context_name != APPLICATION_CONTEXT_NAME:
            return APPLICATION_CONTEXT_NOT_SUPPORTED
        if self.called is AETitlePolicy.KNOWN and request.called_ae_title not in self.ae_titles:
            return CALLED_AE_TITLE_UNKNOWN
        is_known = request.calling_ae_title in self.remote_ae_titles
        if self.calling is AETitlePolicy.KNOWN and not is_known:
            return CALLING_AE_TITLE_UNKNOWN
        return None if request.contexts else NO_CONTEXT_PROPOSED

    def negotiate(self, request: AssociateRequest) -> list[PresentationContext]:
        """Return the answer to each proposed presentation context, in the same order.

        The requestor's first Transfer Syntax that we can keep is taken, so that it need not convert
        what it has. Where it wants to be sent instances, also if it wants to send some in the same
        context, it is one that we can send everything in.

        Source: PS3.8 9.3.3.2; PS3.7 D.3.3.4, D.3.3.5; rules B-10, E-39, E-40, H-4, H-8, H-15, H-31.
        """
        return [self._answer(context, request) for context in request.contexts]

    def _answer(self, context: ProposedContext, request: AssociateRequest) -> PresentationContext:
        sop_class_uid = context.abstract_syntax
        supported = self._transfer_syntaxes(sop_class_uid, request.declared)
        roles = request.roles.get(sop_class_uid, DEFAULT_ROLES)
        # Storage is the one service that we are a user of.
        is_requestor_scp = roles.is_scp and sop_class_uid not in SERVICES_WITHOUT_PIXELS
        if not supported and is_requestor_scp and may_be_storage(sop_class_uid):
            # Perhaps such instances came on an association that said what they are.
            supported, roles = STORAGE_TRANSFER_SYNTAXES, ONLY_SCP
        wanted = context.transfer_syntaxes
        chosen = _first_of(_in_order_for_sending(wanted) if is_requestor_scp else wanted, supported)
        result = _result(supported, chosen, has_a_role=roles.is_scu or is_requestor_scp)
        asked = b""
        if result is ContextResult.ACCEPTANCE:
            asked = request.extended.get(sop_class_uid, b"")
        # PS3.8 9.3.3.2: an answer has one Transfer Syntax, which means nothing in a refused one.
        first = next(iter(wanted), IMPLICIT_VR_LITTLE_ENDIAN)
        return PresentationContext(
            context_id=context.context_id,
            abstract_syntax=sop_class_uid,
            transfer_syntax=chosen or first,
            result=result,
            application_information=_agreed(sop_class_uid, asked),
            is_requestor_scu=roles.is_scu,
            is_requestor_scp=is_requestor_scp,
        )

    def _transfer_syntaxes(
        self, sop_class_uid: str, declared: Mapping[str, DeclaredSopClass]
    ) -> Collection[str]:
        """Return the Transfer Syntaxes that a SOP class is served in; none if it is not."""
        if sop_class_uid in SERVICES_WITHOUT_PIXELS:
            model = _QUERY_RETRIEVE_MODELS.get(sop_class_uid)
            is_offered = model is None or model in self.models
            return IDENTIFIER_TRANSFER_SYNTAXES if is_offered else ()
        if is_storage(sop_class_uid, declared, self.additional_sop_classes):
            return STORAGE_TRANSFER_SYNTAXES
        return ()


def _result(supported: Collection[str], chosen: str | None, *, has_a_role: bool) -> ContextResult:
    if not supported:
        return ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    if not has_a_role:
        return ContextResult.USER_REJECTION  # nobody could ask for anything (rule H-8)
    if chosen is None:
        return ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    return ContextResult.ACCEPTANCE


def _first_of(wanted: Iterable[str], supported: Collection[str]) -> str | None:
    return next((uid for uid in wanted if uid in supported), None)


def _in_order_for_sending(wanted: Sequence[str]) -> list[str]:
    """Return Transfer Syntaxes in the order in which we can send most in them (rule E-40)."""
    return [uid for uid in _PREFERRED_FOR_SENDING if uid in wanted] + [*wanted]


def _agreed(sop_class_uid: str, asked: bytes) -> bytes:
    """Return the application information that answers what was asked; empty is no answer.

    Of queries and retrievals, no byte is sent that was not asked for: old requestors do not expect
    it. Source: PS3.4 B.3.1, C.5.1.1, C.5.2.1; rules B-10, B-11, F-9.
    """
    if not asked:
        return b""
    if sop_class_uid in STORAGE_SOP_CLASSES:
        return STORAGE_APPLICATION_INFORMATION
    supported = b""
    if sop_class_uid in FIND_MODELS:
        supported = FIND_APPLICATION_INFORMATION
    elif sop_class_uid in MOVE_MODELS or sop_class_uid in GET_MODELS:
        supported = RETRIEVE_APPLICATION_INFORMATION
    return bytes(int(one == ours == 1) for one, ours in zip(asked, supported, strict=False))
