"""The Storage SOP Classes we know, and the rule for those we do not.

Source: PS3.4 B.5, B.6, GG.3; rules H-31 to H-34.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pynetdicom.sop_class import _STORAGE_CLASSES

from pacsnode.dicom.information_model import STORAGE_SERVICE_CLASS_UID
from pacsnode.network.associate import DeclaredSopClass

# PS3.4 GG: objects without patient, study and series; the catalog has no place for them (H-34).
_NON_PATIENT_OBJECTS: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
        "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
        "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
    }
)
# Named "Storage", but objects of other services: media directories, commitment, stored print.
_STORAGE_ROOTS: Final = (
    "1.2.840.10008.5.1.4.",
    "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image, retired
    "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image, retired
)


def _known_storage_sop_classes() -> frozenset[str]:
    """Return what pynetdicom and the UID dictionary of pydicom know, retired ones included."""
    named = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and uid.startswith(_STORAGE_ROOTS)
    }
    return frozenset(named | set(_STORAGE_CLASSES.values())) - _NON_PATIENT_OBJECTS


STORAGE_SOP_CLASSES: Final = _known_storage_sop_classes()


def may_be_storage(sop_class_uid: str) -> bool:
    """Tell whether instances of a SOP class can be what we send: it is known as nothing else.

    Source: rules E-39, E-40.
    """
    return sop_class_uid in STORAGE_SOP_CLASSES or sop_class_uid not in UID_dictionary


def is_storage(
    sop_class_uid: str,
    declared: Mapping[str, DeclaredSopClass],
    additional: Iterable[str],
) -> bool:
    """Tell whether a SOP class is kept: we know it, it is declared as storage, or it is allowed.

    Args:
        sop_class_uid: as it was proposed.
        declared: what the requestor says of its classes (SOP Class Common Extended Negotiation).
        additional: the administrator's allow list.

    Source: PS3.7 D.3.3.6; rules H-30, H-31.
    """
    if sop_class_uid in STORAGE_SOP_CLASSES:
        return True
    if sop_class_uid in _NON_PATIENT_OBJECTS:
        return False
    item = declared.get(sop_class_uid)
    if item is not None:
        if item.service_class_uid == STORAGE_SERVICE_CLASS_UID:
            return True
        if any(uid in STORAGE_SOP_CLASSES for uid in item.related_general_sop_classes):
            return True
    return sop_class_uid in additional
