"""What files of the store are called: while they come in, and where they last.

Nothing but UIDs, numbers and digests becomes part of a name (rule F-23).
"""

import re
import secrets
from dataclasses import dataclass
from typing import Final

from pacsnode.dicom.uid import is_valid_uid

STUDIES: Final = "studies"
_SUFFIX: Final = ".dcm"
_ENDING: Final = re.compile(r"\.[0-9a-f]{8}\Z")  # of a name beside one that is taken
_LEVELS: Final = 3  # study, series, instance
_DIGEST_LENGTH: Final = 16  # hexadecimal digits: they tell damage, not intent


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Where an instance's file belongs: its three UIDs.

    Raises:
        ValueError: one of them is not a valid UID. Nothing else ever becomes a file's name.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str

    def __post_init__(self) -> None:
        uids = (self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)
        if not all(is_valid_uid(uid) for uid in uids):
            raise ValueError("a file's place needs valid UIDs")


def lasting_path(place: FilePlace) -> str:
    """Return where a file is kept, relative to the storage folder, unless that name is taken."""
    folder = f"{STUDIES}/{place.study_instance_uid}/{place.series_instance_uid}"
    return f"{folder}/{place.sop_instance_uid}{_SUFFIX}"


def path_beside(lasting: str) -> str:
    """Return a lasting path for a file whose own is taken; another one each time."""
    return f"{lasting.removesuffix(_SUFFIX)}.{secrets.token_hex(4)}{_SUFFIX}"


def places_of(lasting: str) -> tuple[FilePlace, ...]:
    """Return the places that a lasting path may be of: none, one, or two.

    Two, because the random ending of a name could be the end of a UID as well.
    """
    match lasting.split("/"):
        case [folder, study, series, name] if folder == STUDIES and name.endswith(_SUFFIX):
            stem = name.removesuffix(_SUFFIX)
            all_uids = {(study, series, uid) for uid in (stem, _ENDING.sub("", stem))}
            return tuple(FilePlace(*uids) for uids in all_uids if all(map(is_valid_uid, uids)))
        case _:
            return ()


def quarantine_name(place: FilePlace, data_set_sha256: bytes) -> str:
    """Return the name in quarantine: one content of a UID has one name."""
    return f"{place.sop_instance_uid}.{short_digest(data_set_sha256)}{_SUFFIX}"


def name_with_place(name: str, place: FilePlace, data_set_sha256: bytes) -> str:
    """Return the name in `incoming` of a file that is about to be kept.

    By it recovery finds the lasting name, and can tell whether the content is whole. A name may
    have 255 characters; this one has 212 and those of the number before it.
    """
    uids = (place.study_instance_uid, place.series_instance_uid, place.sop_instance_uid)
    return ",".join((name, *uids, short_digest(data_set_sha256)))


def place_and_digest_of(name: str) -> tuple[FilePlace, str] | None:
    """Return what a name in `incoming` tells; None if its file was never about to be kept."""
    match name.split(","):
        case [_, *uids, digest] if len(uids) == _LEVELS and all(map(is_valid_uid, uids)):
            return FilePlace(*uids), digest
        case _:
            return None


def short_digest(sha256: bytes) -> str:
    """Return as much of a digest as is put into names."""
    return sha256.hex()[:_DIGEST_LENGTH]
