"""Which presentation contexts are proposed for some instances, and which one each is sent in.

Each Transfer Syntax stands in a context of its own: the acceptor then says of each whether it takes
it, and cannot choose one that we would have to convert to. What an instance is stored in goes
before all others, so that its bytes go out as they are; next come the native syntaxes, to which
everything that can be decoded can be converted without loss. Nothing is ever compressed for a
receiver.

Source: PS3.5 10.1; PS3.4 B.3.1, C.5.2, C.5.3; PS3.8 9.3.2.2; rules E-30 to E-34.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID

from pacsnode.catalog.records import StoredInstance
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from pacsnode.network.associate import PresentationContext, ProposedContext

_MOST_CONTEXTS: Final = 128  # PS3.8 9.3.2.2: odd identifiers from 1 to 255
# What can be converted to, the most faithful first: Implicit VR drops the VRs of private elements.
_NATIVE: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
_FALL_BACKS: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True, slots=True)
class Batch:
    """Instances that one association is enough for.

    Attributes:
        instances: those of a SOP class stay together.
        contexts: to be proposed for them, at most 128, each with one Transfer Syntax.
    """

    instances: tuple[StoredInstance, ...]
    contexts: tuple[ProposedContext, ...]


def batches(instances: Iterable[StoredInstance], remote: RemoteAE) -> list[Batch]:
    """Return the instances in batches that each need no more contexts than an association has.

    Args:
        instances: what is to be sent; within a batch they keep their order but for their classes.
        remote: whereto; Transfer Syntaxes that it is not to be sent are not proposed, but for
            Implicit VR Little Endian, which the Standard asks for with every SOP class.

    Source: PS3.5 10.1; PS3.8 9.3.2.2; rules E-30 to E-32.
    """
    by_class: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        by_class.setdefault(instance.sop_class_uid, []).append(instance)
    groups: list[list[tuple[str, str]]] = []
    members: list[list[StoredInstance]] = []
    for sop_class_uid, of_class in by_class.items():
        pairs = [(sop_class_uid, uid) for uid in _transfer_syntaxes(of_class, remote)]
        if not groups or len(groups[-1]) + len(pairs) > _MOST_CONTEXTS:
            groups.append([])
            members.append([])
        groups[-1] += pairs
        members[-1] += of_class
    return [
        Batch(tuple(of_group), _contexts(pairs))
        for pairs, of_group in zip(groups, members, strict=True)
    ]


def _transfer_syntaxes(instances: Sequence[StoredInstance], remote: RemoteAE) -> list[str]:
    """Return what is proposed for the instances of a SOP class."""
    stored = dict.fromkeys(instance.file.transfer_syntax_uid for instance in instances)
    wanted = list(stored | dict.fromkeys(_FALL_BACKS))
    allowed = remote.transfer_syntaxes
    if allowed is None:
        return wanted
    # A list may name a native syntax that nothing is stored in: what else there is for it?
    wanted += (uid for uid in _NATIVE if uid in allowed and uid not in wanted)
    return [uid for uid in wanted if uid in allowed or uid == IMPLICIT_VR_LITTLE_ENDIAN]


def _contexts(pairs: Iterable[tuple[str, str]]) -> tuple[ProposedContext, ...]:
    return tuple(
        ProposedContext(2 * place + 1, sop_class_uid, (transfer_syntax_uid,))
        for place, (sop_class_uid, transfer_syntax_uid) in enumerate(pairs)
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """In which context an instance is sent, and in which Transfer Syntax."""

    context_id: int
    transfer_syntax_uid: str


class SendingContexts:
    """The contexts that we may send instances in."""

    def __init__(
        self,
        contexts: Iterable[PresentationContext],
        transfer_syntaxes: frozenset[str] | None = None,
        *,
        to_requestor: bool = False,
    ) -> None:
        """Look through the answers to what was proposed.

        Args:
            contexts: all of an association; those that were refused are passed over.
            transfer_syntaxes: others are not to be used; None: all are.
            to_requestor: they are sent to who requested the association; only in contexts in which
                it is an SCP (rule E-39).
        """
        self._by_class: dict[str, dict[str, Choice]] = {}
        self._why_not: dict[str, str] = {}
        for context in contexts:
            uid = context.transfer_syntax
            if not context.is_accepted:
                continue
            if to_requestor and not context.is_requestor_scp:
                reason = "the requestor does not propose to be an SCP of it"
            elif transfer_syntaxes is not None and uid not in transfer_syntaxes:
                reason = "only transfer syntaxes are accepted that are not in transfer_syntaxes"
            else:
                of_class = self._by_class.setdefault(context.abstract_syntax, {})
                of_class.setdefault(uid, Choice(context.context_id, uid))
                continue
            self._why_not[context.abstract_syntax] = reason

    def why_not(self, sop_class_uid: str, stored_transfer_syntax_uid: str) -> str:
        """Return why there is no choice for an instance."""
        if sop_class_uid in self._by_class:
            reason = "no uncompressed transfer syntax is accepted"
            if stored_transfer_syntax_uid not in _NATIVE:
                reason = f"{UID(stored_transfer_syntax_uid).name} is not accepted, and {reason}"
        else:
            reason = self._why_not.get(sop_class_uid, "no context is accepted")
        return f"SOP class {UID(sop_class_uid).name}: {reason}"

    def choices(self, sop_class_uid: str, stored_transfer_syntax_uid: str) -> list[Choice]:
        """Return the contexts that an instance may be sent in, the best one first.

        That is the one it is stored in; else the native ones, which it is converted to. An instance
        is never compressed, nor put from one compression into another.

        Source: rules E-33, E-34.
        """
        of_class = self._by_class.get(sop_class_uid, {})
        wanted = dict.fromkeys((stored_transfer_syntax_uid, *_NATIVE))
        return [of_class[uid] for uid in wanted if uid in of_class]
