"""DICOM files: preamble, prefix and File Meta Information around an encoded data set.

Source: PS3.10 7.1.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, Final

from pacsnode.dicom.data_elements import (
    DataElement,
    DataSetError,
    encode_elements,
    length_of_group,
    read_elements,
)
from pacsnode.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, encoding_of
from pacsnode.dicom.uid import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    is_valid_uid,
    normalise_uid,
)

_PREAMBLE: Final = bytes(128)
_PREFIX: Final = b"DICM"
_GROUP_LENGTH: Final = 0x00020000
_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
_MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x00020003
_TRANSFER_SYNTAX_UID: Final = 0x00020010
_GROUP_LENGTH_ELEMENT: Final = struct.Struct("<HH2sHL")
_USUAL_META_LENGTH: Final = 4096  # real ones have some hundred bytes
_MAXIMUM_META_LENGTH: Final = 1024 * 1024
_META_GROUP: Final = 0x0002
# PS3.10 7.1: File Meta Information is Explicit VR Little Endian whatever the data set is.
_ENCODING = encoding_of(EXPLICIT_VR_LITTLE_ENDIAN)


class Part10Error(ValueError):
    """A file is not a DICOM file, or its File Meta Information lacks what is needed."""


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What File Meta Information says of the data set behind it.

    Attributes:
        sop_class_uid: Media Storage SOP Class UID.
        sop_instance_uid: Media Storage SOP Instance UID.
        transfer_syntax_uid: of the data set.
        data_set_offset: where the data set starts, in bytes from the start of the file.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_offset: int


@dataclass(frozen=True, slots=True)
class Received:
    """What is known of a received data set without looking into it.

    Attributes:
        sop_class_uid: Affected SOP Class UID of the command.
        sop_instance_uid: Affected SOP Instance UID of the command.
        transfer_syntax_uid: of the accepted presentation context.
        calling_ae_title: of the sender.
        called_ae_title: the title we were called by.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    called_ae_title: str


def file_header(received: Received) -> bytes:
    """Return preamble, prefix and File Meta Information for a received data set.

    Source: PS3.10 7.1, table 7.1-1; rule F-11.
    """
    uid = DataElement(_MEDIA_STORAGE_SOP_INSTANCE_UID, "UI", received.sop_instance_uid.encode())
    before, behind = _repeated_elements(
        received.sop_class_uid,
        received.transfer_syntax_uid,
        received.calling_ae_title,
        received.called_ae_title,
    )
    encoded = b"".join((before, encode_elements([uid], _ENCODING), behind))
    group_length = _GROUP_LENGTH_ELEMENT.pack(0x0002, 0x0000, b"UL", 4, len(encoded))
    return b"".join((_PREAMBLE, _PREFIX, group_length, encoded))


@lru_cache(maxsize=256)
def _repeated_elements(
    sop_class_uid: str, transfer_syntax_uid: str, calling_ae_title: str, called_ae_title: str
) -> tuple[bytes, bytes]:
    """Return the encoded elements before and behind Media Storage SOP Instance UID.

    They are the same for most instances of an association.
    """
    calling = calling_ae_title.encode("ascii", "replace")
    called = called_ae_title.encode("ascii", "replace")
    before = [
        DataElement(0x00020001, "OB", b"\x00\x01"),
        DataElement(_MEDIA_STORAGE_SOP_CLASS_UID, "UI", sop_class_uid.encode()),
    ]
    behind = [
        DataElement(_TRANSFER_SYNTAX_UID, "UI", transfer_syntax_uid.encode()),
        DataElement(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()),
        DataElement(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode()),
        # Type 3: a title that is all spaces says nothing, and an empty AE value is none.
        *([DataElement(0x00020016, "AE", calling)] if calling else []),
        *([DataElement(0x00020017, "AE", calling)] if calling else []),
        *([DataElement(0x00020018, "AE", called)] if called else []),
    ]
    return encode_elements(before, _ENCODING), encode_elements(behind, _ENCODING)


def read_file_meta(file: BinaryIO) -> FileMeta:
    """Read the File Meta Information at the start of a file.

    The true end of group 0002 counts, not its group length, which some writers get wrong.

    Args:
        file: open for reading, at its start; left somewhere behind the File Meta Information.

    Raises:
        Part10Error: no prefix, or the Transfer Syntax UID is missing or not valid, or it cannot be
            read.

    Source: PS3.10 7.1.
    """
    start = file.read(len(_PREAMBLE) + len(_PREFIX))
    if start[len(_PREAMBLE) :] != _PREFIX:
        raise Part10Error("not a DICOM file: the prefix DICM is missing")
    try:
        encoded, length = _read_group(file)
        # Group 0002 is walked like a data set of its own: it has no place in any other.
        elements = read_elements(encoded[:length], _ENCODING, takes_low_groups=True)
    except DataSetError as error:
        raise Part10Error(f"File Meta Information is damaged: {error}") from error

    def uid(tag: int) -> str:
        element = elements.get(tag)
        return "" if element is None else normalise_uid(element.value.decode("ascii", "replace"))

    if not is_valid_uid(uid(_TRANSFER_SYNTAX_UID)):
        raise Part10Error("File Meta Information lacks a valid Transfer Syntax UID")
    return FileMeta(
        sop_class_uid=uid(_MEDIA_STORAGE_SOP_CLASS_UID),
        sop_instance_uid=uid(_MEDIA_STORAGE_SOP_INSTANCE_UID),
        transfer_syntax_uid=uid(_TRANSFER_SYNTAX_UID),
        data_set_offset=len(start) + length,
    )


def _read_group(file: BinaryIO) -> tuple[bytes, int]:
    """Return the bytes from where group 0002 starts, and how many belong to it.

    Each instance that is sent comes this way: no more of its file is read than is needed.
    """
    encoded = file.read(_USUAL_META_LENGTH)
    try:
        length = length_of_group(encoded, _ENCODING, _META_GROUP)
    except DataSetError:
        length = len(encoded)
    if length + len(b"\x02\x00") <= len(encoded):  # the group of what follows can be seen
        return encoded, length
    encoded += file.read(_MAXIMUM_META_LENGTH - len(encoded))
    return encoded, length_of_group(encoded, _ENCODING, _META_GROUP)
