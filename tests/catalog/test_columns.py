"""From the text of Attributes to the columns that are returned and matched."""

import pytest

from pacsnode.catalog.columns import (
    COLUMN_ATTRIBUTES,
    ColumnValue,
    columns_at,
    row_values,
    values_of_columns,
)
from pacsnode.dicom.attributes import BY_KEYWORD, STORED_ATTRIBUTES
from pacsnode.dicom.information_model import Level


def _row(level: Level, **values: str) -> dict[str, ColumnValue]:
    """The values of a level's columns by their names."""
    names = [name for name, _ in columns_at(level)]
    return dict(zip(names, row_values(level, values), strict=True))


@pytest.mark.parametrize(
    ("keyword", "text", "columns"),
    [
        ("Modality", "CT", ["CT"]),
        ("StudyDescription", "e\u0301", ["e\u0301", "\u00e9"]),
        ("StudyDescription", "\x01", ["\x01", None]),
        ("PatientName", "A^B=C", ["A^B=C", "a^b=c", "a^b", "c", None]),
        ("PatientName", "^^", ["^^", None, None, None, None]),
        ("StudyDate", "2020.01.15", ["2020.01.15", 20200115]),
        ("StudyDate", "20201332", ["20201332", None]),
        ("StudyTime", "1015", ["1015", 36_900_000_000, 36_959_999_999]),
        ("StudyTime", "2400", ["2400", None, None]),
        ("SeriesNumber", "007", ["007", 7.0]),
        ("SeriesNumber", "7th", ["7th", None]),
        ("PatientWeight", "1e1", ["1e1", 10.0]),
    ],
)
def test_a_value_is_kept_beside_what_is_matched(
    keyword: str, text: str, columns: list[ColumnValue]
) -> None:
    """The first column is the text as received, the others what it means (D-8, I-3 to I-7)."""
    attribute = BY_KEYWORD[keyword]
    row = _row(attribute.level, **{keyword: text})
    assert [row[name] for name in row if name.startswith(attribute.column)] == columns


@pytest.mark.parametrize("text", ["C\x01T", "CT\x00 rest"])
def test_a_code_is_kept_without_what_its_vr_forbids(text: str) -> None:
    """Of a code the column has no control character, for it is compared as it is (I-9, I-10)."""
    assert _row(Level.SERIES, Modality=text)["modality"] == "CT"


@pytest.mark.parametrize("level", Level)
def test_a_row_without_values_has_every_column_empty(level: Level) -> None:
    """Absent values are NULL in all of an Attribute's columns (I-14)."""
    row = _row(level)
    assert set(row.values()) == {None}


@pytest.mark.parametrize("level", Level)
def test_the_values_of_one_attribute_are_those_of_its_row(level: Level) -> None:
    """What is filled in later is what the first instance would have written."""
    for attribute in COLUMN_ATTRIBUTES[level]:
        row = _row(level, **{attribute.keyword: "20200115"})
        values = values_of_columns(attribute, "20200115")
        assert values == {name: row[name] for name in values}
        assert {name for name in row if row[name] is not None} <= {*values}


def test_every_attribute_that_may_have_columns_has_its_own() -> None:
    """No two Attributes share a column, whatever the level; the others are not in columns."""
    names = [name for level in Level for name, _ in columns_at(level)]
    assert len(names) == len(set(names))
    assert {attribute.column for attribute in STORED_ATTRIBUTES if attribute.column} <= {*names}


@pytest.mark.parametrize("level", Level)
def test_what_has_columns_has_one_text_value_and_can_be_matched(level: Level) -> None:
    """An Attribute with several values, items or binary numbers is kept otherwise."""
    for attribute in COLUMN_ATTRIBUTES[level]:
        assert attribute.is_matched
        assert not attribute.is_multiple
        assert attribute.vr not in {"SQ", "US", "UL"}
