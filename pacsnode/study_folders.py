"""The folders of a store in which files last: linked into them, and made durable together.

A link, not a rename: a link never replaces a file (rule F-21).
"""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from pacsnode.file_names import STUDIES, FilePlace, lasting_path, path_beside
from pacsnode.folders import FOLDER_MODE, sync

_QUARANTINE: Final = "quarantine"
_REMEMBERED_FOLDERS: Final = 10_000
_MOST_TRIES: Final = 10  # to link into a folder that others remove


class StudyFolders:
    """The names below a storage folder; any thread may use it. Every method may raise OSError."""

    def __init__(self, root: Path, *, is_durable: bool) -> None:
        """Name the storage folder; nothing is done with it yet.

        Args:
            root: the storage folder.
            is_durable: else nothing is synced.
        """
        self._root = str(root)
        self._is_durable = is_durable
        self._durable_folders: set[str] = set()

    def link(self, path: str, place: FilePlace) -> str:
        """Give a file its lasting name, beside one of the same UID if there is one.

        Returns:
            The lasting path, relative to the storage folder; durable after sync().
        """
        lasting = own = lasting_path(place)
        for _ in range(_MOST_TRIES):
            try:
                self._link(path, lasting)
            except FileExistsError:
                lasting = path_beside(own)
            except FileNotFoundError:
                # A new series; or a person has removed its folder, or a writer that took the last
                # file in it back. That of the study may go the same way meanwhile.
                with suppress(FileNotFoundError):
                    self._make_series_folder(own.rpartition("/")[0])
            else:
                return lasting
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def sync(self, relative_paths: Iterable[str]) -> dict[str, OSError]:
        """Make lasting names durable: the folder of each series is synced once.

        A folder that cannot be synced concerns those whose names rest on it.

        That a folder exists does not say that it would survive a power cut: another writer may have
        made it just now, its sync still to come. So each writer syncs the folders above a series
        itself, once.

        Returns:
            The names that are not durable, each with the error of its folder.
        """
        if not self._is_durable:
            return {}
        series_of = {path: path.rpartition("/")[0] for path in relative_paths}
        all_series = set(series_of.values())
        new_series = all_series - self._durable_folders
        folders = all_series | {series.rpartition("/")[0] for series in new_series}
        if new_series:
            folders.add(STUDIES)
        errors = self._sync_each(folders)
        if errors:
            for series in all_series:
                above = (series.rpartition("/")[0], STUDIES) if series in new_series else ()
                error = next((errors[one] for one in (series, *above) if one in errors), None)
                if error is not None:
                    errors[series] = error
        if len(self._durable_folders) >= _REMEMBERED_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders |= new_series - errors.keys()
        return {path: errors[series] for path, series in series_of.items() if series in errors}

    def _sync_each(self, folders: Iterable[str]) -> dict[str, OSError]:
        """Sync folders, and return those that cannot be, each with its error."""
        errors: dict[str, OSError] = {}
        for folder in folders:
            try:
                sync(f"{self._root}/{folder}")
            except OSError as error:
                errors[folder] = error
        return errors

    def sync_path(self, path: str) -> None:
        """Bring a file's content, or a folder's names, to the disk."""
        if self._is_durable:
            sync(path)

    def link_aside(self, path: str, name: str) -> str:
        """Give a file a name in quarantine, durably; or leave no such name.

        Returns:
            The path, relative to the storage folder.
        """
        folder, aside = f"{self._root}/{_QUARANTINE}", f"{_QUARANTINE}/{name}"
        Path(folder).mkdir(mode=FOLDER_MODE, exist_ok=True)
        self.sync_path(self._root)
        self.sync_path(path)
        try:
            self._link(path, aside)
        except FileExistsError:
            self.sync_path(folder)  # whoever put it there may not have done so yet
            return aside
        try:
            self.sync_path(folder)
        except OSError:
            self.remove(aside)
            raise
        return aside

    def remove(self, relative_path: str) -> None:
        """Remove a name, if it is there, and with the last one the folders of series and study."""
        unlink(f"{self._root}/{relative_path}")
        match relative_path.split("/"):
            case [studies, study, series, _] if studies == STUDIES:
                self._remove_if_empty(f"{STUDIES}/{study}/{series}")
                self._remove_if_empty(f"{STUDIES}/{study}")

    def _remove_if_empty(self, folder: str) -> None:
        """Remove a folder that nothing is in; whoever was about to use it makes it again."""
        with suppress(OSError):
            with os.scandir(f"{self._root}/{folder}") as entries:
                if next(entries, None) is not None:
                    return
            # Forgotten before it goes: whoever makes it again finds it to be synced.
            self._durable_folders.discard(folder)
            os.rmdir(f"{self._root}/{folder}")  # noqa: PTH106 - unless it is in use again

    def _link(self, path: str, relative_path: str) -> None:
        os.link(path, f"{self._root}/{relative_path}")

    def _make_series_folder(self, series: str) -> None:
        # Forgotten before it is made: whoever links into it then finds it to be synced.
        self._durable_folders.discard(series)
        folder = Path(self._root, series)
        folder.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def unlink(path: str) -> None:
    """Remove a name, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - for each instance that comes
