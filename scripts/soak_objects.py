"""What the soak sends: studies of nobody, any instance of which can be made again.

One object of a kind is encoded by pydicom; the others are made from its bytes by putting in values
of the same length. A study is told by its number, so that nothing has to be remembered to send it
again.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pydicom import Dataset

from tests.support.instances import Instance, ct_data_set, encoded, new_uid, sr_data_set

_FIRST_NUMBER = 1_000_000  # all numbers have as many digits
_UID_ROOT_LENGTH = 40
_SERIES_LENGTH = 30
_HEADER_LENGTH = 4096  # no value that is replaced lies behind it


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of study.

    Attributes:
        name: for the figures.
        instances: in each study; at most nine series.
        make_data_set: makes an object, given its Attributes.
        share: how many of all studies are of this kind, as a weight.
    """

    name: str
    instances: int
    make_data_set: Callable[..., Dataset]
    share: int


KINDS = (
    Kind("CT", 20, partial(ct_data_set, rows=512, columns=512), share=25),
    Kind("small", 60, partial(ct_data_set, rows=64, columns=64), share=60),
    Kind("report", 10, sr_data_set, share=12),
    Kind("large", 1, partial(ct_data_set, rows=2048, columns=2048), share=3),
)
SMALL = KINDS[1]


@dataclass(frozen=True, slots=True)
class Study:
    """One study: its number, from 1, and its kind."""

    number: int
    kind: Kind

    @property
    def patient_id(self) -> str:
        """Each study has a patient of its own."""
        return f"SOAK{_FIRST_NUMBER + self.number}"


class Objects:
    """Makes the instances of studies."""

    def __init__(self) -> None:
        """Encode one of each kind, with UIDs that were never used before."""
        self._root = new_uid()[:_UID_ROOT_LENGTH].rstrip(".")
        self._templates = {kind: self._template(kind) for kind in KINDS}

    def instances(self, study: Study) -> list[Instance]:
        """Return all instances of a study, in the order of its series."""
        return [self.instance(study, number) for number in range(study.kind.instances)]

    def instance(self, study: Study, number: int) -> Instance:
        """Return one instance of a study: the same bytes each time."""
        template = self._templates[study.kind]
        patient_id, *uids = self._names(study, number)
        header = template.encoded_data_set[:_HEADER_LENGTH]
        # The longest UID first: it begins with the others.
        for old, new in zip(self._names(Study(0, study.kind), 0), (patient_id, *uids), strict=True):
            header = header.replace(old.encode(), new.encode())
        header = header.replace(b"%d " % _FIRST_NUMBER, b"%d " % (_FIRST_NUMBER + number), 1)
        sop_instance_uid, series_instance_uid, study_instance_uid = uids
        return replace(
            template,
            sop_instance_uid=sop_instance_uid,
            series_instance_uid=series_instance_uid,
            study_instance_uid=study_instance_uid,
            patient_id=patient_id,
            encoded_data_set=header + template.encoded_data_set[_HEADER_LENGTH:],
        )

    def _names(self, study: Study, number: int) -> tuple[str, str, str, str]:
        """Return Patient ID, SOP Instance, Series Instance and Study Instance UID."""
        study_instance_uid = f"{self._root}.{_FIRST_NUMBER + study.number}"
        series_instance_uid = f"{study_instance_uid}.{1 + number // _SERIES_LENGTH}"
        sop_instance_uid = f"{series_instance_uid}.{_FIRST_NUMBER + number}"
        return study.patient_id, sop_instance_uid, series_instance_uid, study_instance_uid

    def _template(self, kind: Kind) -> Instance:
        patient_id, sop_instance_uid, series_instance_uid, study_instance_uid = self._names(
            Study(0, kind), 0
        )
        return encoded(
            kind.make_data_set(
                PatientID=patient_id,
                StudyInstanceUID=study_instance_uid,
                SeriesInstanceUID=series_instance_uid,
                SOPInstanceUID=sop_instance_uid,
                InstanceNumber=_FIRST_NUMBER,
            )
        )


def with_other_content(instance: Instance) -> Instance:
    """Return an instance that has the same UIDs, and pixels that differ."""
    return replace(instance, encoded_data_set=instance.encoded_data_set[:-2] + b"\x55\x05")


def digest_of(encoded_data_set: bytes) -> bytes:
    """Return what tells an encoded data set from every other."""
    return hashlib.sha256(encoded_data_set).digest()
