"""A made-up archive of any size: the same one in every run, and never a real person in it.

Ten instances to a study, in two series of five; seven patients to ten studies; ten years of studies
that arrive in no order; names from lists, so that some are frequent and some are not. What the
instances say is made once, and given to a catalog as headers or to a server as data sets.

Source: PS3.3 A.3, C.7, C.12.1.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydicom.uid import (
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ImplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    UltrasoundImageStorage,
)

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import KeptFile, NewInstance
from pacsnode.dicom.attributes import BY_KEYWORD, Attribute
from pacsnode.dicom.data_elements import DataElement, encode_elements
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import InstanceHeader
from pacsnode.dicom.transfer_syntax import encoding_of

INSTANCES_OF_A_STUDY: Final = 10
SERIES_OF_A_STUDY: Final = 2
_INSTANCES_OF_A_SERIES: Final = INSTANCES_OF_A_STUDY // SERIES_OF_A_STUDY
_PATIENTS, _STUDIES = 7, 10  # so many patients have so many studies
FIRST_DAY: Final = date(2016, 1, 1)
DAYS: Final = 3653
_STUDIES_ADDED_TOGETHER: Final = 2000
_ROOT: Final = "1.2.826.0.1.3680043.8.498.77"
_ENCODING: Final = encoding_of(ImplicitVRLittleEndian)

SOP_CLASSES: Final = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "US": UltrasoundImageStorage,
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "PT": PositronEmissionTomographyImageStorage,
    "SR": BasicTextSRStorage,
}
_MODALITIES: Final = ("CT CT", "CT SR", "CT PT", "MR MR", "MR SR", "US US", "CR CR", "DX SR")
_FAMILY_NAMES: Final = """
    Adams Allen Anderson Bailey Baker Barnes Bell Bennett Brooks Brown Butler Campbell Carter
    Clark Collins Cook Cooper Cox Cruz Davis Diaz Edwards Evans Fisher Flores Foster Garcia Gomez
    Gray Green Hall Harris Hernandez Hill Howard Hughes Jackson James Jenkins Johnson Jones Kelly
    King Lee Lewis Long Lopez Martin Martinez Meyer Miller Mitchell Moore Morgan Morris Müller
    Murphy Nguyen Novak Ortiz Parker Perez Peterson Phillips Powell Price Reed Reyes Richardson
    Rivera Roberts Robinson Rogers Ross Russell Sanchez Sanders Schmidt Scott Smith Stewart
    Sullivan Taylor Thomas Thompson Torres Turner Walker Ward Watson White Williams Wilson Wood
"""
_GIVEN_NAMES: Final = """
    Ada Alan Anna Ben Carla Chen Dana David Elena Emil Eva Felix Grace Hana Hugo Ida Ines Ivan
    Jana Jonas Karl Lea Leo Lin Lucas Maria Mark Mia Nina Noah Olga Otto Paul Petra Rosa Sam Sara
    Tim Tom Vera
"""
_PARTS: Final = """
    Abdomen Ankle Brain Chest Head Heart Hip Knee Neck Pelvis Shoulder Spine
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive of so many studies; a smaller one is the beginning of a larger one.

    Attributes:
        studies: their number.
    """

    studies: int

    @property
    def instances(self) -> int:
        """The number of its instances."""
        return self.studies * INSTANCES_OF_A_STUDY

    def study(self, number: int) -> Mapping[str, str]:
        """Return what all instances of a study say, by keyword."""
        chance = random.Random(f"study {number}")  # noqa: S311 - nothing is kept secret by it
        patient = number * _PATIENTS // _STUDIES
        part = chance.choice(_PARTS.split())
        return {
            **_patient(patient),
            "StudyInstanceUID": f"{_ROOT}.{chance.randrange(10**15, 10**16)}.{number}",
            "StudyDate": self._day(chance.randrange(DAYS)),
            "StudyTime": f"{chance.randrange(7, 20):02}{chance.randrange(60):02}00",
            "AccessionNumber": f"ACC{number:07}",
            "StudyID": str(number),
            "StudyDescription": f"{part} {chance.choice(('routine', 'urgent', 'follow-up'))}",
            "ReferringPhysicianName": f"Doctor^{chance.choice(_GIVEN_NAMES.split())}",
            "BodyPartExamined": part.upper(),
            "Modality": chance.choice(_MODALITIES),  # of both series
        }

    def series(self, number: int) -> list[Mapping[str, str]]:
        """Return what all instances of each series of a study say, by keyword."""
        study = dict(self.study(number))
        modalities = study.pop("Modality").split()
        return [
            {
                **study,
                "SeriesInstanceUID": f"{study['StudyInstanceUID']}.{place}",
                "Modality": modality,
                "SeriesNumber": str(place),
                "SeriesDescription": f"{modality} {place}",
                "SeriesDate": study["StudyDate"],
                "SeriesTime": study["StudyTime"],
                "Manufacturer": "Example",
                "InstitutionName": "Example Hospital",
                "StationName": f"{modality}1",
                "SOPClassUID": str(SOP_CLASSES[modality]),
            }
            for place, modality in enumerate(modalities, 1)
        ]

    def instances_of(self, number: int) -> Iterator[Mapping[str, str]]:
        """Yield what each instance of a study says, by keyword."""
        for series in self.series(number):
            for place in range(1, _INSTANCES_OF_A_SERIES + 1):
                yield {
                    **series,
                    "SOPInstanceUID": f"{series['SeriesInstanceUID']}.{place}",
                    "InstanceNumber": str(place),
                    "ContentDate": series["StudyDate"],
                    "ContentTime": series["StudyTime"],
                }

    def days_of(self, studies: int) -> str:
        """Return a range of Study Dates that has about so many studies."""
        days = max(round(DAYS * studies / self.studies), 1)
        first = (DAYS - days) // 2
        return f"{self._day(first)}-{self._day(first + days - 1)}"

    def _day(self, number: int) -> str:
        return (FIRST_DAY + timedelta(days=number)).strftime("%Y%m%d")


def fill_catalog(path: Path, archive: Archive) -> Iterator[int]:
    """Put an archive into a new catalog; yield, again and again, how many instances it has."""
    catalog = Catalog(f"sqlite:///{path}", is_durable=False)
    try:
        for start in range(0, archive.studies, _STUDIES_ADDED_TOGETHER):
            numbers = range(start, min(start + _STUDIES_ADDED_TOGETHER, archive.studies))
            catalog.add_all(
                [_new_instance(each) for number in numbers for each in archive.instances_of(number)]
            )
            yield (numbers[-1] + 1) * INSTANCES_OF_A_STUDY
    finally:
        catalog.close()


def data_set_of(instance: Mapping[str, str]) -> bytes:
    """Return an instance as it is sent: Implicit VR Little Endian, and without pixels."""
    elements = [DataElement(0x00080005, "CS", b"ISO_IR 192")]
    elements += [
        DataElement(attribute.tag, attribute.vr, value)
        for attribute, value in _elements_of(instance)
    ]
    return encode_elements(sorted(elements, key=lambda element: element.tag), _ENCODING)


@lru_cache(maxsize=16)  # the studies of a patient come one after the other
def _patient(number: int) -> Mapping[str, str]:
    chance = random.Random(f"patient {number}")  # noqa: S311 - as above
    family_name = chance.choice(_FAMILY_NAMES.split())
    if chance.random() < 0.5:  # noqa: PLR2004 - half of them
        family_name = f"Van {family_name}"
    return {
        "PatientID": f"PAT{number:07}",
        "PatientName": f"{family_name}^{chance.choice(_GIVEN_NAMES.split())}",
        "PatientBirthDate": f"{chance.randrange(1930, 2015)}{chance.randrange(1, 13):02}15",
        "PatientSex": chance.choice("FM"),
    }


def _new_instance(instance: Mapping[str, str]) -> NewInstance:
    contents: dict[Level, dict[Attribute, tuple[str, bytes]]] = {lv: {} for lv in Level}
    for attribute, value in _elements_of(instance):
        contents[attribute.level][attribute] = attribute.vr, value
    header = InstanceHeader(contents, _ENCODING, b"ISO_IR 192")
    path = f"studies/{instance['StudyDate']}/{instance['SOPInstanceUID']}"
    file = KeptFile(path, str(ImplicitVRLittleEndian), bytes(32), 1000)
    return NewInstance(header, file, "BENCH")


def _elements_of(instance: Mapping[str, str]) -> Sequence[tuple[Attribute, bytes]]:
    return [(BY_KEYWORD[keyword], text.encode()) for keyword, text in instance.items()]
