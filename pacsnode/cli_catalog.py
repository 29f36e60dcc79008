"""The commands that look after the catalog: its schema, its keys, and what is wrong in it."""

from collections.abc import Iterator
from contextlib import closing
from typing import Final

import typer

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import CatalogError, ReindexState
from pacsnode.command import (
    ERRORS,
    OUTPUT,
    ConfigOption,
    catalog_of,
    fail,
    file_store_of,
    print_table,
    progress_bar,
    settings_of,
    using_catalog,
    words_of,
)
from pacsnode.daemon.counted import counted
from pacsnode.dicom.attributes import Attribute, Keys, Origin, tag_text
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.matching_kinds import kinds_of_matching
from pacsnode.exit_codes import ExitCode
from pacsnode.services.reindex import Failure
from pacsnode.services.reindex import reindex as reindex_instances

_LONGEST_SHOWN_VALUE: Final = 100

app = typer.Typer()


@app.command()
def upgrade_catalog(config: ConfigOption = None) -> None:
    """Bring the catalog's schema to this program's version; stop the node and copy it first."""
    settings = settings_of(config)
    try:
        before, after = Catalog.upgrade(
            settings.catalog.url, busy_timeout_seconds=settings.catalog.busy_timeout_seconds
        )
    except CatalogError as error:
        fail(ExitCode.CATALOG_UNUSABLE, words_of(error))
    if before == after:
        OUTPUT.print(f"the catalog has schema {after} already")
    else:
        OUTPUT.print(f"the catalog has been upgraded from schema {before} to {after}")


@app.command()
def keys(config: ConfigOption = None) -> None:
    """Print every key of queries: its level, how it is matched, and whether it is catalogued."""
    with using_catalog(settings_of(config)) as catalog:
        state = catalog.reindex_state()
    columns = ("Tag", "Attribute", "Level", "VR", "Type", "Matching", "State")
    print_table(columns, _rows_of_keys(catalog.keys, state))


@app.command()
def reindex(config: ConfigOption = None) -> None:
    """Catalogue what is stored with the keys of today; the node may serve, and it can be stopped.

    Files are read, not changed. Stopped at any moment, it goes on where it was.
    """
    settings = settings_of(config)
    catalog = catalog_of(settings)
    failures: list[Failure] = []
    done = 0
    try:
        with closing(file_store_of(settings)) as file_store, progress_bar() as progress:
            task = progress.add_task("reindexing", total=catalog.reindex_state().pending)
            for batch in reindex_instances(file_store, catalog):
                failures += batch.failures
                done += batch.count
                progress.advance(task, batch.count)
    except CatalogError as error:
        seen = counted(done, "instance")
        fail(ExitCode.CATALOG_UNUSABLE, f"{error}; {seen} had been looked at")
    finally:
        catalog.close()
    for failure in failures:
        ERRORS.print(f"not reindexed: {failure.path}: {failure.reason}")
    OUTPUT.print(f"{counted(done - len(failures), 'instance')} reindexed, {len(failures)} not")
    raise typer.Exit(ExitCode.NEGATIVE if failures else ExitCode.OK)


@app.command()
def inconsistencies(config: ConfigOption = None) -> None:
    """Print what instances state of their patient, study or series against what answers."""
    columns = ("Level", "Entity", "Attribute", "Answers", "Other", "Instances", "First of them")
    with using_catalog(settings_of(config)) as catalog:
        rows = [
            (
                found.level.name,
                found.entity,
                found.attribute,
                _shortened(found.answer),
                _shortened(found.other),
                str(found.instances),
                found.sop_instance_uid,
            )
            for found in catalog.inconsistencies()
        ]
    print_table(columns, rows)


def _rows_of_keys(keys: Keys, state: ReindexState) -> Iterator[tuple[str, ...]]:
    """Yield a row for each key, level by level."""
    for level in Level:
        for attribute in keys.attributes:
            if attribute.level is level:
                yield (
                    _tag(attribute),
                    attribute.private_creator or attribute.keyword,
                    level.name,
                    attribute.vr,
                    attribute.key_type.value,
                    kinds_of_matching(attribute),
                    _state(attribute, state),
                )


def _tag(attribute: Attribute) -> str:
    """Return the tag of an Attribute; of a private one, with any number of its block."""
    text = tag_text(attribute.tag)
    return f"{text[:6]}xx{text[8:]}" if attribute.private_creator else text


def _state(attribute: Attribute, state: ReindexState) -> str:
    """Return whether the catalog has the values of an Attribute."""
    if attribute.origin is Origin.COMPUTED:
        return "computed"
    lacking = state.lacking.get(attribute.name, 0)
    if not lacking:
        return "catalogued"
    return f"{lacking} of {counted(state.total, 'instance')} still to be reindexed"


def _shortened(text: str) -> str:
    """Return a value as far as there is room for it in a table."""
    is_short = len(text) <= _LONGEST_SHOWN_VALUE
    return text if is_short else f"{text[:_LONGEST_SHOWN_VALUE]}..."
