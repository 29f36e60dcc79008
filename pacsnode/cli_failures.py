"""The command that says why something did not arrive, and how failures are shown.

A study that nothing of was taken fails as often as it has instances: what failed for one reason in
one retrieval is one line.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import FailedSubOperation, KeptFailure
from pacsnode.command import (
    OUTPUT,
    ConfigOption,
    fail,
    print_table,
    settings_of,
    unknown_ae_title,
    using_catalog,
)
from pacsnode.config import Settings
from pacsnode.dicom.ae import normalise_ae_title
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.uid import is_valid_uid
from pacsnode.exit_codes import ExitCode

# Two failures that are further apart are not taken for those of one retrieval.
_LONGEST_PAUSE: Final = timedelta(minutes=10)
_KIND: Final = {Level.STUDY: "study", Level.SERIES: "series", Level.IMAGE: "instance"}
_NONE_KEPT: Final = "no failure of the last 30 days is kept"

app = typer.Typer()


@dataclass(slots=True)
class FailureGroup:
    """Failures for one reason in one retrieval.

    Attributes:
        failure: the last of them.
        first_failed_at: when the first of them was.
        sop_instance_uids: of all of them.
        study_instance_uids: of their studies; an empty one for instances that the catalog lacks.
    """

    failure: FailedSubOperation
    first_failed_at: datetime
    sop_instance_uids: set[str] = field(default_factory=set)
    study_instance_uids: set[str] = field(default_factory=set)

    def takes(self, failure: FailedSubOperation) -> bool:
        """Tell whether a failure of the same kind, not later than these, is one of them."""
        is_near = self.first_failed_at - failure.failed_at <= _LONGEST_PAUSE
        # An instance fails once in a retrieval: when it comes again, that is another one.
        return is_near and failure.sop_instance_uid not in self.sop_instance_uids

    def add(self, kept: KeptFailure) -> None:
        """Add a failure, not later than these."""
        self.first_failed_at = kept.failure.failed_at
        self.sop_instance_uids.add(kept.failure.sop_instance_uid)
        self.study_instance_uids.add(kept.study_instance_uid)


@app.command()
def why(
    name: Annotated[
        str,
        typer.Argument(
            metavar="UID|AE",
            help="A Study, Series or SOP Instance UID, or the AE title of a destination or of who"
            " asked for it.",
        ),
    ],
    *,
    each: Annotated[
        bool, typer.Option("--all", help="A line for each instance, not for each reason.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Say why something did not arrive: what could not be sent in the last 30 days."""
    name = normalise_ae_title(name)
    if not name:
        fail(ExitCode.USAGE, "the UID or AE title is empty")
    settings = settings_of(config)
    with using_catalog(settings, must_exist=True) as catalog:
        found = catalog.failures(name)
        rows = list(_rows(found) if each else _rows_of_groups(grouped(found)))
        if not rows:
            _say_that_there_is_none(name, settings, catalog)
            return
    print_table(_columns("Instances" if not each else "SOP Instance UID"), rows)


def grouped(failures: Iterable[KeptFailure]) -> list[FailureGroup]:
    """Return failures in groups, each of one reason and one retrieval.

    Args:
        failures: the newest first.

    Returns:
        That with the newest failure first.
    """
    groups: list[FailureGroup] = []
    open_groups: dict[tuple[object, ...], FailureGroup] = {}
    for kept in failures:
        failure = kept.failure
        kind = (
            failure.service,
            failure.requestor_ae_title,
            failure.destination_ae_title,
            failure.cause,
            failure.status,
            failure.reason,
        )
        group = open_groups.get(kind)
        if group is None or not group.takes(failure):
            group = open_groups[kind] = FailureGroup(failure, failure.failed_at)
            groups.append(group)
        group.add(kept)
    return groups


def _columns(what: str) -> tuple[str, ...]:
    return ("When", "Service", "From", "To", "Study", what, "Cause", "Reason")


def _rows_of_groups(groups: Iterable[FailureGroup]) -> Iterator[tuple[str, ...]]:
    for group in groups:
        instances = str(len(group.sop_instance_uids))
        yield _row(group.failure, _show_studies(group.study_instance_uids), instances)


def _rows(failures: Iterable[KeptFailure]) -> Iterator[tuple[str, ...]]:
    for kept in failures:
        study = _show_studies({kept.study_instance_uid})
        yield _row(kept.failure, study, kept.failure.sop_instance_uid)


def _row(failure: FailedSubOperation, study: str, what: str) -> tuple[str, ...]:
    return (
        failure.failed_at.astimezone().isoformat(" ", "seconds"),
        failure.service,
        failure.requestor_ae_title or "command line",
        failure.destination_ae_title,
        study,
        what,
        failure.cause.value,
        failure.reason,  # of a refusal with its status
    )


def _show_studies(uids: set[str]) -> str:
    if len(uids) > 1:
        return f"{len(uids)} studies"
    return next(iter(uids)) or "not in the catalog"


def _say_that_there_is_none(name: str, settings: Settings, catalog: Catalog) -> None:
    """Say what is known of a UID or an AE title that no failure is kept of."""
    known = [remote.ae_title for remote in settings.remote_aes]
    if name in known:
        line = f"{name} is in remote_aes; {_NONE_KEPT} of it"
    elif level := catalog.level_of(name):
        line = f"{_KIND[level]} {name} is in the catalog; {_NONE_KEPT} of it"
    elif is_valid_uid(name) and "." in name:
        fail(ExitCode.NEGATIVE, f"{name} is not in the catalog, and {_NONE_KEPT} of it")
    else:
        fail(ExitCode.USAGE, f"{_NONE_KEPT} of {name}; {unknown_ae_title(name, known)}")
    OUTPUT.print(line)
