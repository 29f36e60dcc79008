"""The schema: made, upgraded and refused; and the same as the tables that the code uses."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pacsnode.catalog import Catalog, migrations
from pacsnode.catalog.columns import columns_at
from pacsnode.catalog.database import CatalogDatabase, execute
from pacsnode.catalog.models import (
    FAILURE,
    FAILURE_REASON,
    INCONSISTENCY,
    KEY_SET,
    SCHEMA_VERSION,
    STRUCTURE,
    TABLE_NAME,
)
from pacsnode.catalog.records import CatalogError
from pacsnode.dicom.information_model import Level
from tests.catalog.rows import add, unique_keys

# The first schema as it was released, with one instance in it: never to be changed.
_SCHEMA_1 = Path(__file__).parent / "data" / "schema_1.sql"
# The second one, with two instances that contradict each other: likewise.
_SCHEMA_2 = Path(__file__).parent / "data" / "schema_2.sql"

Columns = dict[str, dict[str, str]]


def _columns(path: Path) -> Columns:
    """Return the SQL type of each column of each table."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {
            name: {
                column: sql_type
                for _, column, sql_type, *_ in connection.execute(f"PRAGMA table_info({name})")
            }
            for (name,) in names.fetchall()
        }


def _schema(path: Path) -> set[str]:
    """Return the statements that make the schema, without their layout."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return {re.sub(r"\s+", " ", sql) for (sql,) in rows.fetchall()}


def _restore(dump: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database of the URL is."""
    return tmp_path / "catalog.sqlite"


@pytest.mark.parametrize("level", Level)
def test_the_schema_has_the_columns_that_the_code_uses(
    catalog: Catalog, path: Path, level: Level
) -> None:
    """After the last step each table has exactly the columns of models.py, with their types.

    An Attribute that is added without a step fails here.
    """
    assert catalog
    used = {"key": "INTEGER"} | dict((*STRUCTURE[level], *columns_at(level)))
    assert _columns(path)[TABLE_NAME[level]] == used


def test_the_schema_has_no_other_tables(catalog: Catalog, path: Path) -> None:
    """Beside the entity tree there are those of models.py, with their columns, and no others."""
    assert catalog
    tables = (SCHEMA_VERSION, KEY_SET, INCONSISTENCY, FAILURE, FAILURE_REASON)
    others = {str(table.__name__): {*table._columns} for table in tables}
    columns = _columns(path)
    assert {*columns} == {*TABLE_NAME.values(), *others}
    assert {name: {*columns[name]} for name in others} == others


@pytest.mark.parametrize(("number", "dump"), [(1, _SCHEMA_1), (2, _SCHEMA_2)])
def test_a_released_schema_is_frozen(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch, number: int, dump: Path
) -> None:
    """The steps up to it still make what they made when it was released."""
    frozen = path.with_name("frozen.sqlite")
    _restore(dump, frozen)
    monkeypatch.setattr(migrations, "_STEPS", migrations._STEPS[:number])
    monkeypatch.setattr(migrations, "NEWEST", number)
    assert Catalog.upgrade(url) == (0, number)
    assert _schema(path) == _schema(frozen)


def test_a_catalog_of_the_first_schema_is_upgraded_with_its_rows(url: str, path: Path) -> None:
    """What was in a catalog of schema 1 is found after the upgrade."""
    _restore(_SCHEMA_1, path)
    assert Catalog.upgrade(url) == (1, migrations.NEWEST)
    catalog = Catalog(url)
    assert unique_keys(catalog, Level.STUDY, PatientName="example*") == ["1.2.1"]
    assert add(catalog, PatientID="EX1", StudyInstanceUID="1.2.1").has_other_patient is False
    catalog.close()


def test_what_had_columns_of_its_own_keeps_its_values(url: str, path: Path) -> None:
    """Texts of columns that are dropped are among the further values, ready to be matched."""
    _restore(_SCHEMA_1, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE patient SET other_patient_names = 'A^B\\C'")
        connection.execute(
            "UPDATE study SET other_study_numbers = '07\\8', admitting_diagnoses_description = 'D',"
            " name_of_physicians_reading_study = ''"
        )
    Catalog.upgrade(url)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT patient.further, study.further FROM patient, study"
        ).fetchall()
    names = [["A^B", "a^b", "a^b", "", ""], ["C", "c", "c", "", ""]]
    assert [tuple(map(json.loads, row)) for row in rows] == [
        ({"00101001": names}, {"00081080": ["D"], "00201070": [["07", 7], ["8", 8]]})
    ]


def test_what_was_there_before_the_upgrade_is_to_be_reindexed(url: str, path: Path) -> None:
    """Rows of schema 1 were made with other keys than there are now."""
    _restore(_SCHEMA_1, path)
    Catalog.upgrade(url)
    catalog = Catalog(url)
    add(catalog, SOPInstanceUID="1.4.99")
    assert (catalog.reindex_state().pending, catalog.reindex_state().total) == (1, 2)
    assert [pending.file.path for pending in catalog.pending_instances(0, 9)] == ["studies/1.4.1"]
    catalog.close()


def test_a_catalog_of_the_second_schema_is_upgraded_with_its_rows(url: str, path: Path) -> None:
    """What was in it is found, with what it noted; failures can be kept; nothing is reindexed."""
    _restore(_SCHEMA_2, path)
    assert Catalog.upgrade(url) == (2, migrations.NEWEST)
    with closing(Catalog(url)) as catalog:
        assert unique_keys(catalog, Level.STUDY, PatientName="example^one") == ["1.2.1"]
        (noted,) = catalog.inconsistencies()
        assert (noted.attribute, noted.other) == ("PatientName", "Example^Two")
        assert catalog.reindex_state().pending == 0
        assert [*catalog.failures("1.2.1")] == []


@pytest.mark.parametrize(("number", "dump"), [(1, _SCHEMA_1), (2, _SCHEMA_2)])
def test_an_older_schema_is_not_upgraded_on_the_way(
    url: str, path: Path, number: int, dump: Path
) -> None:
    """The message says which schema it is, and which command helps; nothing is changed."""
    _restore(dump, path)
    before = _schema(path)
    with pytest.raises(CatalogError) as caught:
        Catalog(url)
    assert str(caught.value) == (
        f"the catalog has schema {number}, this program needs {migrations.NEWEST}:"
        " make a copy of it, then run `pacsnode upgrade-catalog`"
    )
    assert _schema(path) == before


@pytest.mark.parametrize("dump", [_SCHEMA_1, _SCHEMA_2])
def test_an_upgraded_schema_is_that_of_a_new_catalog(
    url: str, path: Path, tmp_path: Path, dump: Path
) -> None:
    """A catalog upgraded from an older schema has the same columns as one made new."""
    _restore(dump, path)
    Catalog.upgrade(url)
    Catalog(f"sqlite:///{tmp_path}/new.sqlite").close()
    assert _columns(path) == _columns(tmp_path / "new.sqlite")


def test_an_upgrade_of_an_empty_database_makes_the_schema(url: str) -> None:
    """An upgrade of nothing goes from version 0 to the newest; a second one does nothing."""
    assert Catalog.upgrade(url) == (0, migrations.NEWEST)
    assert Catalog.upgrade(url) == (migrations.NEWEST, migrations.NEWEST)


def test_a_newer_schema_is_refused(url: str, path: Path) -> None:
    """A catalog of a newer program is neither opened nor changed."""
    Catalog(url).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 999")
    before = _schema(path)
    for use in (Catalog, Catalog.upgrade):
        with pytest.raises(CatalogError, match=r"schema 999, .* newer pacsnode"):
            use(url)
    assert _schema(path) == before


def test_an_older_schema_is_refused_with_the_command_that_helps(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalog is not upgraded on the way: the message names upgrade-catalog."""
    Catalog(url).close()
    _add_step(monkeypatch, "CREATE TABLE later (key INTEGER)")
    with pytest.raises(CatalogError, match="`pacsnode upgrade-catalog`"):
        Catalog(url)
    assert Catalog.upgrade(url) == (migrations.NEWEST - 1, migrations.NEWEST)
    Catalog(url).close()


def test_an_upgrade_is_made_whole_or_not_at_all(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the second of two statements fails, the first is undone and the version stays."""
    Catalog(url).close()
    before = _schema(path)
    _add_step(monkeypatch, "CREATE TABLE later (key INTEGER)", "CREATE TABLE patient (key INTEGER)")
    with pytest.raises(CatalogError, match="already exists"):
        Catalog.upgrade(url)
    assert _schema(path) == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [
            (migrations.NEWEST - 1,)
        ]


def test_a_schema_whose_making_failed_leaves_an_empty_database(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first start that fails half way can be tried again."""
    with monkeypatch.context() as patch:
        _add_step(patch, "CREATE TABLE patient (key INTEGER)")
        with pytest.raises(CatalogError):
            Catalog(url)
    assert _schema(path) == set()
    Catalog(url).close()


def _add_step(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    def step(database: CatalogDatabase) -> None:
        for statement in statements:
            execute(database.writer, statement)

    monkeypatch.setattr(migrations, "_STEPS", (*migrations._STEPS, step))
    monkeypatch.setattr(migrations, "NEWEST", migrations.NEWEST + 1)
