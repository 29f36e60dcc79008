"""Query/Retrieve FIND as an SCP: an identifier becomes a query, its matches become identifiers.

Source: PS3.4 C.4.1; rules D-1 to D-34.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pacsnode.catalog.catalog import Catalog
from pacsnode.catalog.records import CatalogError, Match
from pacsnode.dicom.answer import ONLINE, UNAVAILABLE, AnswerEncoder
from pacsnode.dicom.identifier import parse_query
from pacsnode.dicom.information_model import InformationModel
from pacsnode.dicom.query import Query, QueryOptions
from pacsnode.dicom.status import DimseFailure, Status
from pacsnode.dicom.transfer_syntax import Encoding
from pacsnode.file_store import FileStore


@dataclass(frozen=True, slots=True)
class FindRequest:
    """A C-FIND request.

    Attributes:
        model: of the presentation context.
        identifier: as it was received.
        encoding: of the presentation context; answers use it, too.
        retrieve_ae_title: the title we were called by, where the matches can be had.
        options: how it is understood: what was negotiated, and the settings of the node.
    """

    model: InformationModel
    identifier: bytes
    encoding: Encoding
    retrieve_ae_title: str
    options: QueryOptions = QueryOptions()  # noqa: RUF009 - immutable


@dataclass(frozen=True, slots=True)
class Found:
    """The answers to a C-FIND request.

    Attributes:
        query: what was understood.
        pages: the Response Identifiers, encoded, one for each match; some at a time, as they are
            there. Reading them raises DimseFailure: 0xC002, the catalog failed; 0xA700, there are
            more than the limit.
    """

    query: Query
    pages: Iterator[Sequence[bytes]]


def find(
    request: FindRequest, catalog: Catalog, file_store: FileStore, *, result_limit: int = 0
) -> Found:
    """Return the answers to a request; the catalog is read as they are asked for.

    Args:
        request: what is asked.
        catalog: where matches are looked up.
        file_store: tells whether the file of an instance is there.
        result_limit: no more answers than this are given; 0 is no limit.

    Raises:
        DimseFailure: 0xC001 or 0xA900, the identifier breaks the rules.

    Source: PS3.4 C.4.1.3.1; rules D-1, D-34.
    """
    query = parse_query(
        request.model,
        request.identifier,
        request.encoding,
        keys=catalog.keys,
        options=request.options,
    )
    encoder = AnswerEncoder(
        query,
        request.retrieve_ae_title,
        request.encoding,
        match_unknown=catalog.match_unknown,
        offset_minutes=request.options.offset_minutes,
    )

    def pages() -> Iterator[Sequence[bytes]]:
        left = result_limit or None
        for page in _pages(catalog, query):
            given = page[:left]
            yield [encoder.encode(each.values, _availability(file_store, each)) for each in given]
            if len(given) < len(page):
                raise DimseFailure(Status.OUT_OF_RESOURCES, f"limit of {result_limit} reached")
            if left is not None:
                left -= len(given)

    return Found(query, pages())


def _pages(catalog: Catalog, query: Query) -> Iterator[Sequence[Match]]:
    try:
        yield from catalog.find(query)
    except CatalogError as error:
        raise DimseFailure(Status.CATALOG_FAILED, "the catalog failed") from error


def _availability(file_store: FileStore, match: Match) -> str:
    """Return the value of Instance Availability (rule D-7)."""
    is_there = match.path is None or file_store.has(match.path)
    return ONLINE if is_there else UNAVAILABLE
