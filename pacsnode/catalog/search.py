"""From a query to its matches: one for each entity of the level, however many instances it has.

The keys of the matching entities are read first, in one statement and so from one snapshot; their
rows follow page by page. Between two pages nothing is held: a slow peer holds up nobody.

Source: PS3.4 C.4.1.3.1; rules B-3, D-9.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from peewee import Column, Function, Select, fn

from pacsnode.catalog.conditions import condition, is_one_of
from pacsnode.catalog.database import CatalogDatabase
from pacsnode.catalog.ingest import STORED_INSTANCE_COLUMNS, stored_instance_of
from pacsnode.catalog.models import INSTANCE, PARENT_KEY, PATIENT, SERIES, STUDY, TABLE
from pacsnode.catalog.records import Match, StoredInstance, StudySummary
from pacsnode.dicom.attributes import UNIQUE_KEY, Attribute, Origin
from pacsnode.dicom.identifier import Query, Retrieval
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.text_values import normalise_text

_PAGE_LENGTH: Final = 200

# Rule D-9: a stable order; the newest studies first.
_ORDER: Final = {
    Level.PATIENT: (PATIENT.patient_id, PATIENT.key),
    Level.STUDY: (STUDY.study_date_day.desc(), STUDY.study_instance_uid),
    Level.SERIES: (SERIES.series_number_number, SERIES.series_instance_uid),
    Level.IMAGE: (INSTANCE.instance_number_number, INSTANCE.sop_instance_uid),
}


def find(database: CatalogDatabase, query: Query, *, match_unknown: bool) -> Iterator[Match]:
    """Yield the matches of a query.

    Args:
        database: where to look.
        query: what is asked.
        match_unknown: an entity without a value matches any key on it (rule C-5).

    Raises:
        CatalogError: the database fails.
    """
    level = query.level
    conditions = [condition(key, match_unknown=match_unknown) for key in query.matching_keys]
    if level is Level.PATIENT:
        # Rule A-14: what has no unique key is no entity of this level.
        conditions.append(PATIENT.patient_id_match.is_null(is_null=False))
    selection = _joined(level, (TABLE[level].key,)).order_by(*_ORDER[level])
    for expression in conditions:
        selection = selection.where(expression)
    with database.reading():
        keys = array("q", (row[0] for row in selection.tuples().execute(database.peewee)))
    for start in range(0, len(keys), _PAGE_LENGTH):
        with database.reading():
            page = _page(database, query, keys[start : start + _PAGE_LENGTH])
        yield from page


def locate(database: CatalogDatabase, retrieval: Retrieval) -> list[StoredInstance]:
    """Return all instances that a retrieval asks for, series by series.

    Raises:
        CatalogError: the database fails.

    Source: PS3.4 C.4.2.2.1; rules E-2, E-21.
    """
    with database.reading():
        return list(_located(database, retrieval))


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
        selection = _joined(Level.STUDY, columns).order_by(*_ORDER[Level.STUDY])
        rows = list(selection.tuples().execute(database.peewee))
    for start in range(0, len(rows), _PAGE_LENGTH):
        page = rows[start : start + _PAGE_LENGTH]
        keys = [row[0] for row in page]
        with database.reading():
            modalities = distinct_below(database, SERIES.modality, Level.STUDY, keys)
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


def _joined(level: Level, columns: Iterable[Column | Function]) -> Select:
    """Return a selection of columns from a level's table and those of all levels above it."""
    selection = TABLE[level].select(*columns)
    while level > Level.PATIENT:
        upper = Level(level - 1)
        selection = selection.join(TABLE[upper], on=(PARENT_KEY[level] == TABLE[upper].key))
        level = upper
    return selection


def _located(database: CatalogDatabase, retrieval: Retrieval) -> Iterator[StoredInstance]:
    """Yield the instances below the entities of a retrieval."""
    selection = _joined(Level.IMAGE, STORED_INSTANCE_COLUMNS)
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


def _page(database: CatalogDatabase, query: Query, keys: Sequence[int]) -> list[Match]:
    """Return the matches of some entities, in the order of their keys."""
    stored = [a for a in query.return_attributes if a.origin is Origin.STORED]
    is_image = query.level is Level.IMAGE
    columns = [getattr(TABLE[a.level], a.column) for a in stored]
    key_columns = [TABLE[level].key for level in Level if level <= query.level]
    path = [INSTANCE.path] if is_image else []
    selection = _joined(query.level, [*key_columns, *path, *columns])
    selection = selection.where(TABLE[query.level].key.in_(list(keys)))
    rows = {row[len(key_columns) - 1]: row for row in selection.tuples().execute(database.peewee)}
    keywords = [a.keyword for a in stored]
    computed = {
        attribute.keyword: (
            attribute.level,
            _computed(database, attribute, [row[attribute.level] for row in rows.values()]),
        )
        for attribute in query.return_attributes
        if attribute.origin is Origin.COMPUTED
    }
    matches = []
    for key in keys:
        row = rows.get(key)
        if row is None:
            continue  # replaced by another instance since its key was read
        values = dict(zip(keywords, row[len(key_columns) + len(path) :], strict=True))
        for keyword, (level, texts) in computed.items():
            values[keyword] = texts[row[level]]
        matches.append(
            Match(
                values={keyword: text for keyword, text in values.items() if text},
                path=row[len(key_columns)] if is_image else None,
            )
        )
    return matches


def _computed(
    database: CatalogDatabase, attribute: Attribute, keys: Sequence[int]
) -> Mapping[int, str]:
    """Return the text of a computed Attribute for some entities of its level, by their key.

    Source: rules A-10, A-11.
    """
    level = attribute.level
    match attribute.keyword:
        case "ModalitiesInStudy":
            distinct = distinct_below(database, SERIES.modality, level, keys)
        case "SOPClassesInStudy":
            distinct = distinct_below(database, INSTANCE.sop_class_uid, level, keys)
        case "AvailableTransferSyntaxUID":
            distinct = distinct_below(database, INSTANCE.transfer_syntax_uid, level, keys)
        case _:
            counts = count_below(database, _COUNTED[attribute.keyword], level, keys)
            return {key: str(counts[key]) for key in keys}
    return {key: "\\".join(distinct[key]) for key in keys}


_COUNTED: Final = {
    "NumberOfPatientRelatedStudies": Level.STUDY,
    "NumberOfPatientRelatedSeries": Level.SERIES,
    "NumberOfPatientRelatedInstances": Level.IMAGE,
    "NumberOfStudyRelatedSeries": Level.SERIES,
    "NumberOfStudyRelatedInstances": Level.IMAGE,
    "NumberOfSeriesRelatedInstances": Level.IMAGE,
}


def _below(
    columns: Iterable[Column | Function], lower: Level, upper: Level, keys: Sequence[int]
) -> Select:
    """Return a selection from a lower level's rows under some entities of an upper level."""
    selection = TABLE[lower].select(*columns)
    for level in sorted((lv for lv in Level if upper < lv < lower), reverse=True):
        child = Level(level + 1)
        selection = selection.join(TABLE[level], on=(PARENT_KEY[child] == TABLE[level].key))
    return selection.where(_upper_key(lower, upper).in_(list(keys)))


def _upper_key(lower: Level, upper: Level) -> Column:
    """Return the column, in the joined rows of a lower level, that names the upper entity."""
    return TABLE[lower].key if lower is upper else PARENT_KEY[Level(upper + 1)]


def distinct_below(
    database: CatalogDatabase, column: Column, upper: Level, keys: Sequence[int]
) -> Mapping[int, tuple[str, ...]]:
    """Return the distinct values of a column under each of some entities, sorted, without empties.

    Args:
        database: to read from, within reading().
        column: of SERIES or INSTANCE.
        upper: the level of the entities.
        keys: of the entities.
    """
    lower = Level.SERIES if column.source is SERIES else Level.IMAGE
    owner = _upper_key(lower, upper)
    selection = _below((owner, column), lower, upper, keys).distinct()
    values: defaultdict[int, set[str]] = defaultdict(set)
    for key, value in selection.tuples().execute(database.peewee):
        if value:
            values[key].add(value)
    return {key: tuple(sorted(values[key])) for key in keys}


def count_below(
    database: CatalogDatabase, lower: Level, upper: Level, keys: Sequence[int]
) -> Mapping[int, int]:
    """Return how many rows of a lower level each of some entities has (rule A-10)."""
    owner = _upper_key(lower, upper)
    selection = _below((owner, fn.COUNT(TABLE[lower].key)), lower, upper, keys).group_by(owner)
    counts = dict(selection.tuples().execute(database.peewee))
    return {key: counts.get(key, 0) for key in keys}
