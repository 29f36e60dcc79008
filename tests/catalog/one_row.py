"""A catalog of one patient, one study, one series and one instance, whose values a test chooses."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pacsnode.catalog import Catalog
from pacsnode.catalog.columns import columns_at, row_values
from pacsnode.catalog.conditions import condition
from pacsnode.catalog.database import CatalogDatabase
from pacsnode.catalog.further import further_text
from pacsnode.catalog.models import PARENT_KEY, TABLE
from pacsnode.dicom.attributes import UNIQUE_KEY, Attribute
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.query import CombinedKey, MatchingKey
from pacsnode.dicom.text_values import split_values, trim
from pacsnode.dicom.values import Value

Values = Mapping[Attribute, Value]


class OneRow:
    """The tables of the catalog, with one entity of each level but for what a test adds."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/catalog.sqlite"
        Catalog(self.url).close()
        self.database = CatalogDatabase(self.url, busy_timeout_seconds=60, is_durable=False)

    @contextmanager
    def holding(self, values: Values, *series: Values) -> Iterator[None]:
        """Hold entities with these values for the length of the block, and nothing else.

        Args:
            values: of the patient, the study, and the first series and its instance.
            series: of further series of the study, and the instance of each.
        """
        with self.database.writing():
            for level in reversed(TABLE):
                TABLE[level].delete().execute(self.database.writer)
            for level in Level:
                self._insert(level, 1, values)
            for number, others in enumerate(series, start=2):
                self._insert(Level.SERIES, number, others)
                self._insert(Level.IMAGE, number, others)
        yield

    def is_matched(
        self,
        *keys: MatchingKey | CombinedKey,
        match_unknown: bool = False,
    ) -> bool:
        """Tell whether SQL finds the entity of the lowest level that the keys name."""
        level = max(
            (key.date if isinstance(key, CombinedKey) else key.attribute).level for key in keys
        )
        selection = TABLE[level].select(TABLE[level].key)
        for lower in sorted((lv for lv in Level if Level.PATIENT < lv <= level), reverse=True):
            upper = TABLE[Level(lower - 1)]
            selection = selection.join(upper, on=(PARENT_KEY[lower] == upper.key))
        for key in keys:
            selection = selection.where(condition(key, match_unknown=match_unknown))
        with self.database.reading():
            return len(list(selection.execute(self.database.peewee))) == 1

    def _insert(self, level: Level, number: int, values: Values) -> None:
        at_level = {a: value for a, value in values.items() if a.level is level and value}
        by_keyword = {a.keyword: value for a, value in at_level.items() if a.column}
        row = dict(
            zip((name for name, _ in columns_at(level)), row_values(level, by_keyword), strict=True)
        )
        further = {a: value for a, value in at_level.items() if not a.column}
        row |= {"key": number, "further": further_text(further)}
        if level is not Level.PATIENT:
            row[PARENT_KEY[level].name] = number if level is Level.IMAGE else 1
            unique_key = UNIQUE_KEY[level].column
            row[unique_key] = row[unique_key] or f"1.{level}.{number}"
        if level is Level.IMAGE:
            row["sop_class_uid"] = row["sop_class_uid"] or "1.2.840.10008.5.1.4.1.1.2"
            row |= dict.fromkeys(("transfer_syntax_uid", "path", "source_ae_title"), "")
            row |= {"data_set_sha256": b"", "data_set_length_bytes": 0, "received_at": ""}
        TABLE[level].insert(row).execute(self.database.writer)


def as_read(stored: str, vr: str) -> str:
    """Return the text that reading a data set leaves of the text of a Value Field."""
    values = [trim(value, vr) for value in split_values(stored, vr)]
    return "\\".join(values) if any(values) else ""


def has_one_value(stored: str, vr: str) -> bool:
    """Whether a text is no list."""
    values: Sequence[str] = split_values(stored, vr)
    return len(values) <= 1
