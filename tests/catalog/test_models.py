"""The tables of the entity tree follow from the table of Attributes."""

import pytest

from pacsnode.catalog.columns import columns_at
from pacsnode.catalog.models import PARENT_KEY, STRUCTURE, TABLE, TABLE_NAME
from pacsnode.dicom.information_model import Level


@pytest.mark.parametrize("level", Level)
def test_a_table_has_a_column_for_each_attribute_of_its_level(level: Level) -> None:
    """Every column of the Attributes and of the structure is one of the level's table."""
    names = [name for name, _ in (*STRUCTURE[level], *columns_at(level))]
    assert [getattr(TABLE[level], name).name for name in names] == names
    assert len(names) == len(set(names))


def test_each_level_but_the_first_names_the_one_above() -> None:
    """A study has a patient, a series a study, an instance a series."""
    assert {level: column.name for level, column in PARENT_KEY.items()} == {
        Level.STUDY: "patient_key",
        Level.SERIES: "study_key",
        Level.IMAGE: "series_key",
    }
    assert TABLE_NAME[Level.IMAGE] == "instance"
