"""From a query to its matches: one for each entity of the level, however many instances it has.

How it works. The keys of matching entities are read in chunks: a small one first, so that the first
answer does not wait for the last, then large ones. A chunk continues where the one before has
ended, by the values that the order goes by; so no statement is left open between two of them. The
rows of the keys follow page by page (pages.py). Between two pages nothing is held, neither a
connection nor a snapshot: a slow peer holds up nobody, and however many matches there are, memory
has one chunk of keys and one page.

How a statement is kept from reading the whole archive. Either its order is that of an index, and it
is walked until the chunk is full; or what it selects by is looked up first, and sorted. Conditions
on upper entities are looked up as a set of their keys, once; but where a UID names what is looked
for, from there upwards.

Source: PS3.4 C.4.1.3.1; rules B-3, B-7, D-9.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peewee import SQL, Column, Function, NodeList, Ordering, Select, fn

from pacsnode.catalog.computed import count_below, distinct_below
from pacsnode.catalog.conditions import condition
from pacsnode.catalog.database import CatalogDatabase
from pacsnode.catalog.ingest import STORED_INSTANCE_COLUMNS, stored_instance_of
from pacsnode.catalog.models import INSTANCE, PARENT_KEY, PATIENT, SERIES, STUDY, TABLE
from pacsnode.catalog.pages import PageReader
from pacsnode.catalog.records import Match, StoredInstance, StudySummary
from pacsnode.catalog.statements import PAGE_LENGTH, joined
from pacsnode.catalog.value_conditions import Condition, is_one_of
from pacsnode.dicom.attributes import UNIQUE_KEY, Attribute, Origin
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.matching import Interval, UidList
from pacsnode.dicom.query import CombinedKey, MatchingKey, Query, Retrieval
from pacsnode.dicom.text_values import normalise_text

_FIRST_PAGE_LENGTH: Final = 20
_FIRST_CHUNK_LENGTH: Final = 1_000
_CHUNK_LENGTH: Final = 50_000


@dataclass(frozen=True, slots=True)
class _Term:
    """One of the values that an order goes by.

    Attributes:
        value: of the row.
        is_descending: the largest comes first; then rows without a value come last, else first.
    """

    value: Column | Function
    is_descending: bool = False

    def ordering(self, *, is_walked: bool) -> Ordering:
        """Return it for ORDER BY.

        Args:
            is_walked: an index in this order may be used; else SQLite is told not to, by a plus
                sign: it would find what is looked for by walking along all there is.
        """
        value = self.value if is_walked else NodeList((SQL("+"), self.value), glue="")
        return Ordering(value, "DESC" if self.is_descending else "ASC")

    def follows(self, value: object) -> Condition:
        """Return the condition that a row comes behind those with a value."""
        if self.is_descending:
            if value is None:
                return SQL("1 = 0")
            return (self.value < value) | self.value.is_null()
        if value is None:
            return self.value.is_null(is_null=False)
        return self.value > value

    def equals(self, value: object) -> Condition:
        """Return the condition that a row has a value, or none."""
        return self.value.is_null() if value is None else self.value == value


# Rule D-9: stable, each tells any two entities apart, and for the first two there is an index.
_PATIENTS: Final = (
    _Term(PATIENT.patient_id_match),
    _Term(fn.COALESCE(PATIENT.issuer_of_patient_id_match, SQL("''"))),
)
_NEWEST_STUDIES: Final = (
    _Term(STUDY.study_date_day, is_descending=True),
    _Term(STUDY.study_instance_uid),
)
_SERIES_OF_A_STUDY: Final = (_Term(SERIES.series_number_number), _Term(SERIES.series_instance_uid))
_IMAGES_OF_A_SERIES: Final = (
    _Term(INSTANCE.instance_number_number),
    _Term(INSTANCE.sop_instance_uid),
)
_AS_ARRIVED: Final = {level: (_Term(TABLE[level].key),) for level in Level}
_UIDS: Final = frozenset(UNIQUE_KEY[level] for level in Level if level is not Level.PATIENT)


def find(
    database: CatalogDatabase, query: Query, *, match_unknown: bool
) -> Iterator[Sequence[Match]]:
    """Yield the matches of a query, page by page; a page may be empty.

    Args:
        database: where to look.
        query: what is asked.
        match_unknown: an entity without a value matches any key on it (rule C-5).

    Raises:
        CatalogError: the database fails.
    """
    reader = PageReader(database, query)
    length = _FIRST_PAGE_LENGTH
    for keys in _chunks(database, _KeySearch(query, match_unknown=match_unknown)):
        start = 0
        while start < len(keys):
            yield reader.read(keys[start : start + length])
            start, length = start + length, PAGE_LENGTH


def locate(database: CatalogDatabase, retrieval: Retrieval) -> list[StoredInstance]:
    """Return all instances that a retrieval asks for, series by series.

    Raises:
        CatalogError: the database fails.

    Source: PS3.4 C.4.2.2.1; rules E-2, E-21.
    """
    with database.reading():
        return list(_located(database, retrieval))


def level_of(database: CatalogDatabase, uid: str) -> Level | None:
    """Return the level of what has a UID; None if the catalog has no such entity.

    Raises:
        CatalogError: the database fails.
    """
    with database.reading():
        for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
            column = getattr(TABLE[level], UNIQUE_KEY[level].column)
            query = TABLE[level].select(TABLE[level].key).where(column == uid).limit(1)
            if list(query.tuples().execute(database.peewee)):
                return level
    return None


def studies(database: CatalogDatabase) -> Iterator[StudySummary]:
    """Yield a line for each study, the newest first.

    Raises:
        CatalogError: the database fails.
    """
    columns = (
        STUDY.key,
        STUDY.study_instance_uid,
        PATIENT.patient_id,
        PATIENT.patient_name,
        STUDY.study_date,
        STUDY.study_description,
    )
    with database.reading():
        selection = joined(Level.STUDY, columns).order_by(
            *(term.ordering(is_walked=True) for term in _NEWEST_STUDIES)
        )
        rows = list(selection.tuples().execute(database.peewee))
    for start in range(0, len(rows), PAGE_LENGTH):
        page = rows[start : start + PAGE_LENGTH]
        keys = [row[0] for row in page]
        with database.reading():
            modality = Level.SERIES, SERIES.modality.name
            modalities = distinct_below(database, modality, Level.STUDY, keys)
            series = count_below(database, Level.SERIES, Level.STUDY, keys)
            instances = count_below(database, Level.IMAGE, Level.STUDY, keys)
        for key, uid, patient_id, patient_name, study_date, description in page:
            yield StudySummary(
                study_instance_uid=uid,
                patient_id=patient_id or "",
                patient_name=patient_name or "",
                study_date=study_date or "",
                study_description=description or "",
                modalities=modalities[key],
                series=series[key],
                instances=instances[key],
            )


def _located(database: CatalogDatabase, retrieval: Retrieval) -> Iterator[StoredInstance]:
    """Yield the instances below the entities of a retrieval."""
    selection = joined(Level.IMAGE, STORED_INSTANCE_COLUMNS)
    for level, values in retrieval.unique_keys.items():
        if level is Level.PATIENT:
            wanted = [normalise_text(value, UNIQUE_KEY[level].vr) for value in values]
            selection = selection.where(PATIENT.patient_id_match.in_(wanted))
        else:
            column = getattr(TABLE[level], UNIQUE_KEY[level].column)
            selection = selection.where(is_one_of(column, values))
    selection = selection.order_by(
        SERIES.study_key, INSTANCE.series_key, INSTANCE.instance_number_number, INSTANCE.key
    )
    for row in selection.tuples().execute(database.peewee):
        yield stored_instance_of(row)


def _chunks(database: CatalogDatabase, search: "_KeySearch") -> Iterator["array[int]"]:
    """Yield the keys of all matches, in their order, some at a time."""
    length, last = _FIRST_CHUNK_LENGTH, None
    while True:
        keys = array("q")
        with database.reading():
            for row in search.selection(length, last).tuples().execute(database.peewee):
                keys.append(row[0])
                last = row[1:]
        yield keys
        if len(keys) < length:
            return
        length = _CHUNK_LENGTH


class _KeySearch:
    """The statement that looks up the keys of a query's matches, before it is told where to go on.

    Source: PS3.4 C.4.1.3.1; rules A-14, B-3, B-4, B-7.
    """

    def __init__(self, query: Query, *, match_unknown: bool) -> None:
        self._level = query.level
        self._terms = _order(query)
        self._conditions: defaultdict[Level, list[Condition]] = defaultdict(list)
        keys: Sequence[MatchingKey | CombinedKey] = (*query.matching_keys, *query.combined_keys)
        for key in keys:
            expression = condition(key, match_unknown=match_unknown)
            self._conditions[_level_of(key)].append(expression)
        if query.level is Level.PATIENT:
            # Rule A-14: what has no unique key is no entity of this level.
            has_id = PATIENT.patient_id_match.is_null(is_null=False)
            self._conditions[Level.PATIENT].append(has_id)
        is_as_arrived = self._terms is _AS_ARRIVED[query.level]
        self._is_walked = is_as_arrived or all(map(_is_in_index, keys))
        self._has_uid = any(key.attribute in _UIDS for key in query.matching_keys)

    def selection(self, length: int, last: Sequence[Any] | None) -> Select:
        """Return the statement for one chunk: rows of a key and the values of the order.

        Args:
            length: the most rows that it returns.
            last: the values of the order of the last row that is known; None for the start.
        """
        columns = (TABLE[self._level].key, *(term.value for term in self._terms))
        if self._has_uid:
            top = min([self._level, *self._conditions])
            selection = joined(self._level, columns, top=top)
            conditions = [each for listed in self._conditions.values() for each in listed]
        else:
            selection = TABLE[self._level].select(*columns)
            conditions = self._within(self._level)
        if last is not None:
            conditions.append(_behind(self._terms, last))
        if conditions:
            selection = selection.where(*conditions)
        orderings = (term.ordering(is_walked=self._is_walked) for term in self._terms)
        return selection.order_by(*orderings).limit(length)

    def _within(self, level: Level) -> list[Condition]:
        """Return the conditions on the rows of a level, and as sets of keys those above it."""
        conditions = list(self._conditions.get(level, ()))
        if any(upper < level for upper in self._conditions):
            upper = Level(level - 1)
            keys = TABLE[upper].select(TABLE[upper].key).where(*self._within(upper))
            conditions.append(PARENT_KEY[level].in_(keys))
        return conditions


def _is_in_index(key: MatchingKey | CombinedKey) -> bool:
    """Tell whether what a key selects is found by walking along the index of the order."""
    if isinstance(key, CombinedKey):
        return False
    if key.attribute.keyword == "StudyDate":
        return isinstance(key.matching, Interval)
    # Of a study that is met on the way, what is computed is looked up by its key.
    return key.attribute.origin is Origin.COMPUTED


def _level_of(key: MatchingKey | CombinedKey) -> Level:
    return key.date.level if isinstance(key, CombinedKey) else key.attribute.level


def _order(query: Query) -> tuple[_Term, ...]:
    """Return what the matches of a query are in the order of.

    Series of several studies and images of several series come as they have arrived (rule B-7): to
    sort all there are by their numbers would help nobody.
    """
    match query.level:
        case Level.PATIENT:
            return _PATIENTS
        case Level.STUDY:
            return _NEWEST_STUDIES
        case Level.SERIES if _names_one(query, UNIQUE_KEY[Level.STUDY]):
            return _SERIES_OF_A_STUDY
        case Level.IMAGE if _names_one(query, UNIQUE_KEY[Level.SERIES]):
            return _IMAGES_OF_A_SERIES
        case _:
            return _AS_ARRIVED[query.level]


def _names_one(query: Query, unique_key: Attribute) -> bool:
    """Tell whether a query names one entity by its UID."""
    return any(
        key.attribute is unique_key
        and isinstance(key.matching, UidList)
        and len(key.matching.uids) == 1
        for key in query.matching_keys
    )


def _behind(terms: Sequence[_Term], values: Sequence[Any]) -> Condition:
    """Return the condition that a row comes behind one with these values."""
    *upper, (term, value) = zip(terms, values, strict=True)
    expression = term.follows(value)
    for term, value in reversed(upper):
        expression = term.follows(value) | (term.equals(value) & expression)
    return expression
