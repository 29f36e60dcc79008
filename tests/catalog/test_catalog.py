"""The catalog as a whole: opened, used by threads, closed; what fails says so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pacsnode.catalog import Catalog
from pacsnode.catalog.database import execute
from pacsnode.catalog.records import CatalogError
from pacsnode.dicom.information_model import Level
from tests.catalog.rows import add, new_instance, query, unique_keys


def test_what_was_added_is_there_after_a_restart(url: str) -> None:
    """A catalog that is closed and opened again has what it had."""
    first = Catalog(url)
    add(first, StudyInstanceUID="1.2.1")
    first.close()
    second = Catalog(url)
    assert unique_keys(second, Level.STUDY) == ["1.2.1"]
    second.close()


def test_what_was_added_is_seen_by_another_process_at_once(url: str) -> None:
    """Two catalogs on one database see each other's commits, as two workers do."""
    one, other = Catalog(url), Catalog(url)
    add(one, StudyInstanceUID="1.2.1")
    assert unique_keys(other, Level.STUDY) == ["1.2.1"]
    one.close()
    other.close()


def test_unknown_values_match_only_if_the_catalog_is_told_so(url: str) -> None:
    """match_unknown decides whether an empty Accession Number is found by any key (C-5)."""
    strict = Catalog(url)
    add(strict, StudyInstanceUID="1.2.1", AccessionNumber=None)
    by_letter = Catalog(url, match_unknown=True)
    assert unique_keys(strict, Level.STUDY, AccessionNumber="ACC1") == []
    assert unique_keys(by_letter, Level.STUDY, AccessionNumber="ACC1") == ["1.2.1"]
    strict.close()
    by_letter.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A catalog file with other content cannot be opened, and is left as it is."""
    path = tmp_path / "catalog.sqlite"
    path.write_text("this is no database" * 100)
    with pytest.raises(CatalogError, match="not a database"):
        Catalog(f"sqlite:///{path}")
    assert path.read_text() == "this is no database" * 100


@pytest.mark.parametrize("opener", [Catalog, Catalog.upgrade], ids=["open", "upgrade"])
def test_a_catalog_that_cannot_be_opened_leaves_nothing_open(
    tmp_path: Path, opener: Callable[[str], object]
) -> None:
    """Neither the lock beside it nor a connection."""
    path = tmp_path / "catalog.sqlite"
    path.write_text("this is no database" * 100)
    with pytest.raises(CatalogError):
        opener(f"sqlite:///{path}")
    targets = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [target for target in targets if target.is_relative_to(tmp_path)] == []


def test_an_addition_that_fails_leaves_nothing(catalog: Catalog) -> None:
    """If a row cannot be written, none of the instance's rows is there (F-2)."""
    instance = new_instance(StudyInstanceUID="1.2.1")
    broken = type(instance)(instance.header, instance.file, None)  # type: ignore[arg-type]
    with pytest.raises(CatalogError):
        catalog.add(broken)
    assert unique_keys(catalog, Level.STUDY) == []


def test_a_failure_while_matches_are_read_is_a_catalog_error(
    catalog: Catalog, tmp_path: Path
) -> None:
    """A table that has gone while a query runs is reported as the catalog's failure (D-32)."""
    add(catalog)
    matches = catalog.find(query(Level.STUDY, StudyInstanceUID=""))
    with catalog._database.writing():
        execute(catalog._database.writer, "DROP TABLE instance")
        execute(catalog._database.writer, "DROP TABLE series")
        execute(catalog._database.writer, "DROP TABLE study")
    with pytest.raises(CatalogError, match=str(tmp_path)):
        next(matches)
