"""What the sub-operations of a retrieval need: kept files, a catalog, and somebody who asks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import FailedSubOperation, KeptFile, StoredInstance
from pacsnode.dicom.ae import RemoteAE
from pacsnode.file_store import FileStore
from pacsnode.network.command_set import MoveOriginator, StoreOptions
from pacsnode.network.failure_record import FailureRecord
from pacsnode.network.retrieval import RetrievalContext, SubOperations
from pacsnode.network.sub_operations import move
from tests.support.instances import Instance, ct_data_set, encoded, new_uid, write_instance
from tests.support.server import LIMITS

Counts = tuple[int, int, int, int]


@dataclass
class Place:
    """A file store with files written as the node would, and who asks for them.

    Attributes:
        pending: the counters of the Pending responses sent so far.
        is_cancelled: tells whether the requestor has cancelled.
        is_interrupted: tells whether it has to end at once.
        on_pending: called after each Pending response.
    """

    file_store: FileStore
    catalog: Catalog
    pending: list[Counts] = field(default_factory=list)
    is_cancelled: Callable[[], bool] = lambda: False
    is_interrupted: Callable[[], bool] = lambda: False
    on_pending: Callable[[], None] = lambda: None
    priority: int = 0

    def keep(self, *instances: Instance) -> list[StoredInstance]:
        """Write the files and return what the catalog would say of them."""
        return [self._keep(instance) for instance in instances]

    def keep_images(self, count: int) -> list[StoredInstance]:
        """Keep so many CT images, alike but for their UIDs."""
        image = encoded(ct_data_set())
        return [self._keep(image, new_uid()) for _ in range(count)]

    def _keep(self, instance: Instance, uid: str = "") -> StoredInstance:
        uid = uid or instance.sop_instance_uid
        path = f"studies/{uid}.dcm"
        write_instance(instance, self.file_store.path(path))
        length = len(instance.encoded_data_set)
        file = KeptFile(path, instance.transfer_syntax_uid, bytes(32), length)
        return StoredInstance(instance.sop_class_uid, uid, file)

    def move(
        self, destination: RemoteAE | int, instances: Sequence[StoredInstance]
    ) -> SubOperations:
        """Move these instances to the destination, or to that on a port."""
        if isinstance(destination, int):
            destination = RemoteAE("DEST", "127.0.0.1", destination)
        with self.record() as record:
            return move(instances, destination, "PACSNODE", self.context(record))

    def record(self) -> FailureRecord:
        """Return a record of failures."""
        return FailureRecord(
            self.catalog,
            service="C-MOVE",
            requestor_ae_title="WORKSTATION",
            destination_ae_title="DEST",
        )

    def context(self, record: FailureRecord) -> RetrievalContext:
        """Return what a retrieval needs from the outside."""
        return RetrievalContext(
            file_store=self.file_store,
            limits=LIMITS,
            options=StoreOptions(self.priority, MoveOriginator("WORKSTATION", 77)),
            record=record,
            is_cancelled=self.is_cancelled,
            is_interrupted=self.is_interrupted,
            report=self._report,
        )

    def failures(self) -> list[FailedSubOperation]:
        """Return what the catalog has kept of failures, in the order of SOP Instance UIDs."""
        kept = [each.failure for each in self.catalog.failures("DEST")]
        return sorted(kept, key=lambda failure: failure.sop_instance_uid)

    def _report(self, state: SubOperations) -> None:
        self.pending.append(state.counts)
        self.on_pending()


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """An empty place in a folder."""
    catalog = Catalog(f"sqlite:///{folder}/catalog.sqlite")
    file_store = FileStore(folder / "storage", reserve_bytes=0)
    try:
        yield Place(file_store, catalog)
    finally:
        file_store.close()
        catalog.close()
