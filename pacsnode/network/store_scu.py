"""Storage as an SCU: one instance after the other, on whatever association it is to go.

The stored bytes go out as they are wherever the receiver takes them; else they are converted, and
what cannot be is not sent.

Source: PS3.4 B.2.2, C.4.2.2.2, C.4.3.2.2; PS3.7 9.1.1, 9.3.1; rules E-13 to E-16, E-33 to E-37.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, Self

from pacsnode.catalog.records import FailureCause, StoredInstance
from pacsnode.conversion.codecs import NATIVE_TRANSFER_SYNTAXES, why_not_convertible
from pacsnode.conversion.converter import ODD_LENGTH, ConvertedDataSet, Converter
from pacsnode.conversion.errors import ConversionError
from pacsnode.dicom.part10 import Part10Error
from pacsnode.dicom.status import Status, is_warning
from pacsnode.file_store import FileStore
from pacsnode.network import activity_log
from pacsnode.network.command_set import CommandSet, StoreOptions, encode_store_request
from pacsnode.network.data_set_readers import ConvertedReader, StoredDataSet
from pacsnode.network.message_sender import DataSetReader
from pacsnode.network.proposal import Choice, SendingContexts

_LOOK_SECONDS: Final = 0.5
_LAST_MESSAGE_ID: Final = 0xFFFF


class StoreChannel(Protocol):
    """An association on which we are the SCU of Storage: one that we requested, or that of a C-GET.

    Source: rule E-7.
    """

    def send_instance(self, context_id: int, command_set: bytes, data_set: DataSetReader) -> None:
        """Send a C-STORE request.

        Raises:
            AssociationEnd: the association is over.
            OSError: the data set cannot be read; the association has to be aborted.
            ConversionError: it cannot be converted any more; likewise.
        """

    def receive_response(self, message_id: int, while_waiting: Callable[[], None]) -> CommandSet:
        """Return the command set of the response to a request.

        Args:
            message_id: of the request.
            while_waiting: called now and then until it comes.

        Raises:
            AssociationEnd: the association is over, or no response has come in time.
        """


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an instance did not arrive.

    Attributes:
        cause: of what kind.
        reason: in words, on one line.
        status: of the response; None if there was none.
    """

    cause: FailureCause
    reason: str
    status: int | None = None


class SendingBrokenOff(Exception):  # noqa: N818 - a state of the association
    """A file failed in the middle of its message: the association can only be aborted."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Sender(Protocol):
    """Whoever has instances sent."""

    def wait(self) -> None:
        """Do what is to be done meanwhile; called now and then while something is waited for.

        What it raises ends the association.
        """

    def is_stopped(self) -> bool:
        """Tell whether an instance that is not on its way need not be sent any more."""


class NotBegun(Exception):  # noqa: N818 - nothing is wrong
    """An instance was not sent: everything was stopped while it was converted."""


class StoreScu:
    """Sends instances on one association; one thread uses it.

    A context manager: at the end no file is open.
    """

    def __init__(
        self,
        channel: StoreChannel,
        contexts: SendingContexts,
        *,
        file_store: FileStore,
        converter: Converter,
        options: StoreOptions,
        sender: Sender,
    ) -> None:
        """Send on an association.

        Args:
            channel: the association.
            contexts: those of it that may be used.
            file_store: where the files are.
            converter: for what is not taken as it is stored.
            options: of all requests.
            sender: whoever has it sent.
        """
        self._channel = channel
        self._contexts = contexts
        self._file_store = file_store
        self._converter = converter
        self._options = options
        self._sender = sender
        self._message_id = 0
        self._root = str(file_store.folder)
        self._ahead: tuple[StoredInstance, StoredDataSet] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_ahead()

    def send(
        self, instance: StoredInstance, upcoming: StoredInstance | None = None
    ) -> int | Failure:
        """Send an instance and wait for the response.

        Args:
            instance: what is sent.
            upcoming: what is probably sent next: its file is opened while the response is on its
                way.

        Returns:
            The status, success or a warning, of an instance that has arrived; else why it has not.

        Raises:
            AssociationEnd: the association is lost; whether the instance arrived is unknown.
            SendingBrokenOff: its file failed while it was sent.
            NotBegun: everything was stopped before it was on its way.

        Source: rules E-11, E-16, E-33.
        """
        choice = choose(instance, self._contexts)
        if isinstance(choice, Failure):
            return choice
        try:
            with self._opened(instance) as data_set:
                is_stored_one = choice.transfer_syntax_uid == instance.file.transfer_syntax_uid
                if is_stored_one and data_set.is_message:
                    return self._store(instance, choice, data_set, upcoming)
                if is_stored_one and choice.transfer_syntax_uid not in NATIVE_TRANSFER_SYNTAXES:
                    return Failure(FailureCause.CONVERSION, ODD_LENGTH)
                offset = data_set.offset
            with self._converted(instance, offset, choice.transfer_syntax_uid) as converted:
                return self._store(instance, choice, ConvertedReader(converted), None)
        except ConversionError as error:
            return Failure(FailureCause.CONVERSION, str(error))
        except (OSError, Part10Error) as error:
            return file_failure(error)

    def _opened(self, instance: StoredInstance) -> StoredDataSet:
        """Return the stored data set of an instance."""
        if self._ahead is not None and self._ahead[0] is instance:
            (_, data_set), self._ahead = self._ahead, None
            return data_set
        self._close_ahead()
        return StoredDataSet(f"{self._root}/{instance.file.path}", instance.file)

    def _open_ahead(self, upcoming: StoredInstance) -> None:
        with suppress(OSError, Part10Error):  # when it is its turn, it will be told
            data_set = StoredDataSet(f"{self._root}/{upcoming.file.path}", upcoming.file)
            self._ahead = upcoming, data_set

    def _close_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead[1].close()

    def _converted(
        self, instance: StoredInstance, offset: int, transfer_syntax_uid: str
    ) -> ConvertedDataSet:
        """Convert a data set; decoding may take long, and whoever waits is told so."""
        with ThreadPoolExecutor(max_workers=1) as executor:
            converted = executor.submit(
                self._converter.convert,
                self._file_store.path(instance.file.path),
                offset,
                instance.file.transfer_syntax_uid,
                transfer_syntax_uid,
            )
            try:
                self._wait_for(converted)
            except BaseException:
                self._converter.cancel()
                with suppress(ConversionError, OSError), converted.result():
                    pass  # what it had made in the same moment is closed
                raise
        return converted.result()

    def _wait_for(self, converted: Future[ConvertedDataSet]) -> None:
        while not wait([converted], timeout=_LOOK_SECONDS).done:
            self._sender.wait()
            if self._sender.is_stopped():
                raise NotBegun

    def _store(
        self,
        instance: StoredInstance,
        choice: Choice,
        data_set: DataSetReader,
        upcoming: StoredInstance | None,
    ) -> int | Failure:
        """Send a C-STORE request, and return what is answered."""
        self._message_id = self._next_message_id()
        command_set = encode_store_request(
            instance.sop_class_uid, instance.sop_instance_uid, self._message_id, self._options
        )
        try:
            self._channel.send_instance(choice.context_id, command_set, data_set)
        except ConversionError as error:
            failure = Failure(FailureCause.CONVERSION, str(error))
            raise SendingBrokenOff(failure) from error
        except OSError as error:
            raise SendingBrokenOff(file_failure(error)) from error
        if upcoming is not None:
            self._open_ahead(upcoming)
        response = self._channel.receive_response(self._message_id, self._sender.wait)
        return _outcome(instance, response)

    def _next_message_id(self) -> int:
        """Return one that no request has that is not answered yet (rule E-15)."""
        following = self._message_id % _LAST_MESSAGE_ID + 1
        if following != self._options.outstanding_message_id:
            return following
        return following % _LAST_MESSAGE_ID + 1


def choose(instance: StoredInstance, contexts: SendingContexts) -> Choice | Failure:
    """Return how an instance is sent, or why it cannot be.

    Source: rules E-33, E-34.
    """
    stored = instance.file.transfer_syntax_uid
    reason = ""
    for choice in contexts.choices(instance.sop_class_uid, stored):
        if choice.transfer_syntax_uid == stored:
            return choice
        reason = why_not_convertible(stored, choice.transfer_syntax_uid)
        if not reason:
            return choice
    if reason:
        return Failure(FailureCause.CONVERSION, reason)
    return Failure(FailureCause.NO_CONTEXT, contexts.why_not(instance.sop_class_uid, stored))


def file_failure(error: OSError | Part10Error) -> Failure:
    """Return what it means for an instance that its file has failed."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return Failure(FailureCause.FILE, f"its file cannot be read: {reason}")


def _outcome(instance: StoredInstance, response: CommandSet) -> int | Failure:
    """Return what a response says (rule E-16)."""
    status = response.status
    if status == Status.SUCCESS:
        return status
    comment = response.error_comment
    reason = f"status 0x{status:04X}" + (f" {comment}" if comment else "")
    if is_warning(status):
        activity_log.sub_operation_warned(instance.sop_instance_uid, reason)
        return status
    return Failure(FailureCause.REFUSED, reason, status)
