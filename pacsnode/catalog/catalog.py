"""The catalog: what the node knows of the instances it keeps."""

from collections.abc import Iterator, Sequence

from pacsnode.catalog import failures, inconsistencies, ingest, migrations, reindex, search
from pacsnode.catalog.database import CatalogDatabase
from pacsnode.catalog.ingest import Ingest
from pacsnode.catalog.key_sets import number_of_key_set, reindex_state
from pacsnode.catalog.records import (
    Addition,
    FailedSubOperation,
    Inconsistency,
    KeptFailure,
    KeptFile,
    Match,
    NewInstance,
    PendingInstance,
    ReindexState,
    StoredInstance,
    StudySummary,
)
from pacsnode.dicom.attributes import STANDARD_KEYS, Keys
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import InstanceHeader
from pacsnode.dicom.query import Query, Retrieval


class Catalog:
    """The catalog of one store, as one process uses it; every method may be called by any thread.

    Open it after a fork, never before. Every method raises CatalogError when the database fails;
    nothing was changed then.
    """

    def __init__(
        self,
        url: str,
        keys: Keys = STANDARD_KEYS,
        *,
        busy_timeout_seconds: float = 60,
        match_unknown: bool = False,
        is_durable: bool = True,
    ) -> None:
        """Open the catalog; an empty database is given the newest schema.

        Args:
            url: `sqlite:///` and a path.
            keys: what is catalogued, matched and returned.
            busy_timeout_seconds: how long to wait for another program that holds the database.
            match_unknown: rule C-5.
            is_durable: what is added is on the disk when the call returns; else a power cut may
                take the last rows, and never more than that.

        Raises:
            CatalogError: the database cannot be opened, or its schema is not the newest.
        """
        self._database = CatalogDatabase(
            url, busy_timeout_seconds=busy_timeout_seconds, is_durable=is_durable
        )
        self._match_unknown = match_unknown
        self._keys = keys
        try:
            self._database.use_write_ahead_log()
            migrations.prepare(self._database)
            self._key_set = number_of_key_set(self._database, keys)
        except BaseException:
            self._database.close()
            raise
        self._ingest = Ingest(self._database.writer, keys, self._key_set)
        self._reindexing = reindex.Reindexing(self._database.writer, self._ingest)

    @staticmethod
    def upgrade(url: str, *, busy_timeout_seconds: float = 60) -> tuple[int, int]:
        """Bring the schema of a catalog to the newest version.

        Returns:
            The version before (0 for an empty database) and after.

        Raises:
            CatalogError: the schema is newer than this program, or the database fails.
        """
        database = CatalogDatabase(url, busy_timeout_seconds=busy_timeout_seconds)
        try:
            database.use_write_ahead_log()
            return migrations.upgrade(database)
        finally:
            database.close()

    @property
    def keys(self) -> Keys:
        """What is catalogued, matched and returned."""
        return self._keys

    def add(self, instance: NewInstance) -> Addition:
        """Add an instance; see add_all."""
        return self.add_all((instance,))[0]

    def add_all(self, instances: Sequence[NewInstance]) -> list[Addition]:
        """Add instances in one transaction, all or none; on the disk when this returns.

        Of several with one SOP Instance UID, in this call or in others at the same time or later,
        the first is added and the others are told of it.

        Returns:
            What became of each, in their order.
        """
        with self._database.writing():
            return self._ingest.add_all(instances)

    def replace(self, instance: NewInstance, file: KeptFile) -> Addition:
        """Put an instance in the place of the one with its UID; on the disk when this returns.

        If that one has another file than the caller has seen, nothing is changed: somebody was
        faster.
        """
        with self._database.writing():
            return self._ingest.replace(instance, file)

    def stored_instance(self, sop_instance_uid: str) -> StoredInstance | None:
        """Return an instance; None if the catalog has none of that UID."""
        with self._database.reading():
            return ingest.stored_instance(self._database.peewee, sop_instance_uid)

    @property
    def match_unknown(self) -> bool:
        """Whether an entity without a value matches any key on it (rule C-5)."""
        return self._match_unknown

    def find(self, query: Query) -> Iterator[Sequence[Match]]:
        """Yield the matches of a query, page by page; nothing is held between two pages."""
        return search.find(self._database, query, match_unknown=self._match_unknown)

    def locate(self, retrieval: Retrieval) -> list[StoredInstance]:
        """Return the instances that a retrieval asks for, series by series, each once."""
        return search.locate(self._database, retrieval)

    def studies(self) -> Iterator[StudySummary]:
        """Yield a line for each study, the newest first."""
        return search.studies(self._database)

    def reindex_state(self) -> ReindexState:
        """Return how many instances are to be reindexed for the keys of this catalog."""
        return reindex_state(self._database, self._keys, self._key_set)

    def pending_instances(self, above: int, limit: int) -> list[PendingInstance]:
        """Return the next instances that are to be reindexed, in the order of their keys.

        Args:
            above: only those whose key is higher; 0 for the first ones.
            limit: how many at most.
        """
        return reindex.pending_instances(self._database, self._key_set, above, limit)

    def reindex(self, headers: Sequence[tuple[PendingInstance, InstanceHeader]]) -> list[bool]:
        """Catalogue instances anew, in one transaction, all or none.

        One that is gone by now, or has another file, is left alone.

        Args:
            headers: of some instances, in the order of their keys: what their files hold.

        Returns:
            Whether each is as its keys ask for; not, if something in it could not be decoded.
        """
        with self._database.writing():
            return self._reindexing.write(headers)

    def inconsistencies(self) -> Iterator[Inconsistency]:
        """Yield what instances state otherwise than what answers, level by level."""
        return inconsistencies.find(self._database, self._keys)

    def add_failures(self, failed: Sequence[FailedSubOperation]) -> None:
        """Keep what could not be sent, for 30 days; on the disk when this returns.

        Many are written in several transactions: where the database fails in between, the first
        ones are kept.
        """
        failures.add(self._database, failed)

    def failures(self, uid_or_ae_title: str) -> Iterator[KeptFailure]:
        """Yield what could not be sent in the last 30 days, the newest first.

        Args:
            uid_or_ae_title: a SOP Instance, Series or Study Instance UID, or the AE title of a
                destination or of a requestor.
        """
        return failures.find(self._database, uid_or_ae_title)

    def level_of(self, uid: str) -> Level | None:
        """Return the level of what has a UID; None if the catalog has no such entity."""
        return search.level_of(self._database, uid)

    def close(self) -> None:
        """Close the connections; the catalog cannot be used any more."""
        self._database.close()
