"""Tries out a remote Application Entity without sending it anything: is it there, what would fail?

What is negotiated is what a retrieval of the same instances would negotiate, batch by batch, and
how each instance would go is chosen by the same rules. What only sending can show is left open:
whether the peer keeps it, and whether a data set that could be decompressed in principle can be.

Source: PS3.4 A.4, B.3.1; PS3.8 7.1; rules E-30 to E-34, E-37.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pacsnode.catalog.records import FailureCause, StoredInstance
from pacsnode.conversion.codecs import NATIVE_TRANSFER_SYNTAXES
from pacsnode.conversion.converter import ODD_LENGTH
from pacsnode.dicom.ae import RemoteAE
from pacsnode.dicom.part10 import Part10Error
from pacsnode.file_store import FileStore
from pacsnode.network.associate import PresentationContext
from pacsnode.network.association_end import AssociationEnd
from pacsnode.network.connecting import RequestError
from pacsnode.network.data_set_readers import StoredDataSet
from pacsnode.network.echo_scu import VERIFICATION_CONTEXT, echo_on
from pacsnode.network.proposal import Batch, SendingContexts, batches
from pacsnode.network.requested_association import RequestedAssociation
from pacsnode.network.store_scu import Failure, choose, file_failure
from pacsnode.network.toolkit import AssociationLimits


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a check.

    Attributes:
        name: what was tried.
        seconds: how long it took.
        failure: why it failed; empty if it did not.
    """

    name: str
    seconds: float
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would become of an instance.

    Attributes:
        instance: which one.
        transfer_syntax_uid: that it would be sent in; empty if it would not be.
        failure: why it would fail; None if nothing speaks against it.
        is_reencoded: it would be sent in the transfer syntax that it is stored in, but not byte for
            byte: it is of odd length, which no message may be.
    """

    instance: StoredInstance
    transfer_syntax_uid: str = ""
    failure: Failure | None = None
    is_reencoded: bool = False

    @property
    def is_decompressed(self) -> bool:
        """Whether its pixels have to be decoded to send it."""
        is_native = self.transfer_syntax_uid in NATIVE_TRANSFER_SYNTAXES
        return is_native and self.instance.file.transfer_syntax_uid not in NATIVE_TRANSFER_SYNTAXES


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """What came of negotiating for a batch of instances.

    Attributes:
        step: the association.
        proposed: how many presentation contexts were.
        accepted: how many of them were; 0 if there was no association.
        prospects: of each instance of the batch.
    """

    step: Step
    proposed: int
    accepted: int
    prospects: tuple[Prospect, ...]


class PeerCheck:
    """A check of one remote Application Entity."""

    def __init__(
        self, remote: RemoteAE, *, calling_ae_title: str, limits: AssociationLimits
    ) -> None:
        """Prepare a check.

        Args:
            remote: whom to check.
            calling_ae_title: the title of ours to use, if it asks for no other.
            limits: of time and size.
        """
        self._remote = remote
        self._calling_ae_title = calling_ae_title
        self._limits = limits

    def echo(self) -> Iterator[Step]:
        """Yield the steps of a C-ECHO: the association, and if that came about the request.

        Source: PS3.7 9.1.5.
        """
        clock = _Clock("association")
        try:
            association = self._associate(Batch((), (VERIFICATION_CONTEXT,)))
        except RequestError as error:
            yield clock.step(str(error))
            return
        yield clock.step()
        clock = _Clock("C-ECHO")
        try:
            with association:
                failure = echo_on(association, _do_nothing)
        except AssociationEnd as end:
            failure = end.reason or "it has released the association"
        yield clock.step(failure)

    def instances(
        self, instances: Sequence[StoredInstance], file_store: FileStore
    ) -> Iterator[CheckedBatch]:
        """Yield what would become of instances, batch by batch.

        Args:
            instances: what would be sent.
            file_store: where their files are; they are opened, and not read.
        """
        for batch in batches(instances, self._remote):
            clock = _Clock("association")
            try:
                with self._associate(batch) as association:
                    contexts = association.contexts
            except RequestError as error:
                failure = Failure(FailureCause.NO_ASSOCIATION, str(error))
                prospects = tuple(Prospect(each, failure=failure) for each in batch.instances)
                yield CheckedBatch(clock.step(str(error)), len(batch.contexts), 0, prospects)
                continue
            step = clock.step()
            accepted = sum(context.is_accepted for context in contexts)
            prospects = tuple(self._prospects(batch, contexts, file_store))
            yield CheckedBatch(step, len(batch.contexts), accepted, prospects)

    def _associate(self, batch: Batch) -> RequestedAssociation:
        return RequestedAssociation(
            self._remote,
            batch.contexts,
            calling_ae_title=self._calling_ae_title,
            limits=self._limits,
            while_waiting=_do_nothing,
        )

    def _prospects(
        self, batch: Batch, contexts: Sequence[PresentationContext], file_store: FileStore
    ) -> Iterator[Prospect]:
        usable = SendingContexts(contexts, self._remote.transfer_syntaxes)
        for instance in batch.instances:
            choice = choose(instance, usable)
            if isinstance(choice, Failure):
                yield Prospect(instance, failure=self._explained(instance, choice))
            else:
                yield _prospect(instance, choice.transfer_syntax_uid, file_store)

    def _explained(self, instance: StoredInstance, failure: Failure) -> Failure:
        """Return a failure that says so where it is our own configuration that forbids."""
        allowed, stored = self._remote.transfer_syntaxes, instance.file.transfer_syntax_uid
        if allowed is None or stored in allowed:
            return failure
        reason = f"its transfer syntax {stored} is not in transfer_syntaxes; {failure.reason}"
        return Failure(failure.cause, reason)


class _Clock:
    """Takes the time of one step."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started_at = time.monotonic()

    def step(self, failure: str = "") -> Step:
        return Step(self._name, time.monotonic() - self._started_at, failure)


def _prospect(
    instance: StoredInstance, transfer_syntax_uid: str, file_store: FileStore
) -> Prospect:
    """Return what would become of an instance that a transfer syntax is there for."""
    try:
        with StoredDataSet(file_store.path(instance.file.path), instance.file) as data_set:
            is_message = data_set.is_message
    except (OSError, Part10Error) as error:
        return Prospect(instance, failure=file_failure(error))
    if is_message or transfer_syntax_uid != instance.file.transfer_syntax_uid:
        return Prospect(instance, transfer_syntax_uid)
    if transfer_syntax_uid not in NATIVE_TRANSFER_SYNTAXES:
        return Prospect(instance, failure=Failure(FailureCause.CONVERSION, ODD_LENGTH))
    return Prospect(instance, transfer_syntax_uid, is_reencoded=True)


def _do_nothing() -> None:
    """Wait; nobody waits for us."""
