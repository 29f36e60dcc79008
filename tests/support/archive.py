"""Puts instances into a store as C-STORE does, and shows what is there."""

import hashlib
from pathlib import Path

from pacsnode.dicom.data_elements import Buffer
from pacsnode.dicom.part10 import Received
from pacsnode.services.c_store import Reception, StoreRequest, StoreResponse
from pacsnode.services.keep import Keeper
from tests.support.instances import Instance


def store_request(instance: Instance) -> StoreRequest:
    """Return the C-STORE request that a well-behaved sender makes of an instance."""
    received = Received(
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        calling_ae_title="MODALITY",
        called_ae_title="PACS",
    )
    return StoreRequest(received, instance.sop_class_uid)


def store(request: StoreRequest, data_set: Buffer, keeper: Keeper) -> StoreResponse:
    """Store a data set that arrives in one piece."""
    return Reception(request, keeper).finish([data_set])


def send(instance: Instance, keeper: Keeper) -> StoreResponse:
    """Store an instance."""
    return store(store_request(instance), instance.encoded_data_set, keeper)


def data_set_digest(data_set: Buffer) -> bytes:
    """Return the digest by which the catalog knows a data set."""
    return hashlib.sha256(data_set).digest()


def files_below(folder: Path) -> list[str]:
    """Return every file below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
