"""What instances state of the patient, study and series above them: filled in, and noted.

The rule: for each Attribute of an entity, the first instance that has a value answers. What the
entity lacks is filled in by the next instance that has it; what an instance says otherwise is
noted with it, as an inconsistency. Values are compared by what they mean: padding, the case of a
name, or how precisely a time is written make no difference.

Patient ID and its issuer are never filled in: they tell patients apart. Of an instance that states
another patient than its study is filed under, nothing is filled in for the patient (rule F-22).

Most instances state what the one before did. A digest of what agreed last is kept with the series,
so that they need no look at any of this; see ingest.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from peewee import Database, Select

from pacsnode.catalog.columns import COLUMN_ATTRIBUTES, values_of_columns
from pacsnode.catalog.database import execute
from pacsnode.catalog.further import meaning_of, merged, shown, values_for
from pacsnode.catalog.models import INCONSISTENCY, TABLE
from pacsnode.catalog.statements import sql
from pacsnode.dicom.attributes import BY_KEYWORD, UNIQUE_KEY, Attribute, Keys, Origin
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import InstanceHeader
from pacsnode.dicom.text_values import normalise_text
from pacsnode.dicom.values import Value

LEVELS_ABOVE: Final = (Level.PATIENT, Level.STUDY, Level.SERIES)
_IDENTIFYING: Final = (BY_KEYWORD["PatientID"], BY_KEYWORD["IssuerOfPatientID"])
_LONGEST_NOTED_VALUE: Final = 1000  # enough to see what it is; a comment may have a million
_ANY: Final = "any"  # stands for a value while a statement is built
_NOTED: Final = (
    INCONSISTENCY.instance_key,
    INCONSISTENCY.level,
    INCONSISTENCY.name,
    INCONSISTENCY.entity_key,
    INCONSISTENCY.value,
)
# They say which entity it is: an instance with others belongs to another one.
_NEVER_COMPARED: Final = frozenset({UNIQUE_KEY[Level.STUDY], UNIQUE_KEY[Level.SERIES]})


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing an instance with the entities above it.

    Attributes:
        agrees: it says nothing that they do not.
        has_other_patient: its study is filed under another patient than it states.
    """

    agrees: bool
    has_other_patient: bool


class EntitiesAbove:
    """Compares instances with the entities above them, within the caller's writing transaction."""

    def __init__(self, database: Database, keys: Keys) -> None:
        """Prepare to compare.

        Args:
            database: what is written on; nothing is asked of it yet.
            keys: what is catalogued.
        """
        self._database = database
        self._attributes = {
            level: {
                a.keyword: a
                for a in keys.attributes
                if a.level is level and a.origin is Origin.STORED and a not in _NEVER_COMPARED
            }
            for level in LEVELS_ABOVE
        }
        self._further = {
            level: {a.name: a for a in attributes.values() if not a.column}
            for level, attributes in self._attributes.items()
        }
        self._select = {level: sql(_selection(level)) for level in LEVELS_ABOVE}
        self._insert = sql(INCONSISTENCY.insert([(_ANY,) * len(_NOTED)], columns=_NOTED))
        self._delete = sql(INCONSISTENCY.delete().where(INCONSISTENCY.instance_key == _ANY))

    def compare(
        self, header: InstanceHeader, instance_key: int, entities: Mapping[Level, int]
    ) -> Comparison:
        """Fill in what entities above an instance lack, and note what it says otherwise.

        Args:
            header: of the instance.
            instance_key: of its row.
            entities: keys of the rows that are compared, by their level.
        """
        agrees, has_other_patient = True, False
        for level, key in entities.items():
            attributes = self._attributes[level]
            stated = {
                attributes[keyword]: value
                for keyword, value in header.values(level).items()
                if keyword in attributes
            }
            known = self._known(level, key)
            is_other = level is Level.PATIENT and not _is_same_patient(stated, known)
            if is_other:
                has_other_patient = True
                stated = dict.fromkeys(_IDENTIFYING, "") | stated
            missing, other = _compared(stated, known)
            if missing and not is_other:
                self._fill_in(level, key, missing)
            if other:
                agrees = False
                self._note(instance_key, level, key, other)
        return Comparison(agrees, has_other_patient)

    def forget(self, instance_key: int) -> None:
        """Remove what was noted of an instance."""
        execute(self._database, self._delete, (instance_key,))

    def _known(self, level: Level, key: int) -> dict[Attribute, Value]:
        """Return what the catalog has of an entity."""
        row = execute(self._database, self._select[level], (key,)).fetchone()
        if row is None:
            raise LookupError("an entity is gone while it is compared")
        columns = zip(COLUMN_ATTRIBUTES[level], row[1:], strict=True)
        return {
            **{attribute: text for attribute, text in columns if text is not None},
            **values_for(row[0], self._further[level]),
        }

    def _fill_in(self, level: Level, key: int, values: Mapping[Attribute, Value]) -> None:
        table = TABLE[level]
        columns: dict[str, Any] = {}
        further: dict[Attribute, Value] = {}
        for attribute, value in values.items():
            if attribute.column and isinstance(value, str):
                columns |= values_of_columns(attribute, value)
            else:
                further[attribute] = value
        if further:
            query = table.select(table.further).where(table.key == key)
            ((text,),) = query.tuples().execute(self._database)
            columns["further"] = merged(text, further)
        row = {getattr(table, name): value for name, value in columns.items()}
        table.update(row).where(table.key == key).execute(self._database)

    def _note(
        self, instance_key: int, level: Level, key: int, values: Mapping[Attribute, Value]
    ) -> None:
        for attribute, value in values.items():
            noted = shown(value)[:_LONGEST_NOTED_VALUE]
            row = (instance_key, level.value, attribute.name, key, noted)
            execute(self._database, self._insert, row)


def _selection(level: Level) -> Select:
    """Return the selection of what a row of a level has, the further values first."""
    table = TABLE[level]
    texts = (getattr(table, attribute.column) for attribute in COLUMN_ATTRIBUTES[level])
    return table.select(table.further, *texts).where(table.key == _ANY)


def identity_of(values: Mapping[Attribute, Value]) -> tuple[str | None, str]:
    """Return what tells a patient from others: its ID, None without one, and that ID's issuer.

    Source: rules A-14, A-15.
    """
    patient_id, issuer = (
        normalise_text(str(values.get(attribute, "")), attribute.vr) for attribute in _IDENTIFYING
    )
    return patient_id or None, issuer


def _is_same_patient(stated: Mapping[Attribute, Value], known: Mapping[Attribute, Value]) -> bool:
    """Tell whether two patients have the same identity, or no Patient ID both."""
    one, other = identity_of(stated), identity_of(known)
    return one == other or one[0] is other[0] is None


def _compared(
    stated: Mapping[Attribute, Value], known: Mapping[Attribute, Value]
) -> tuple[dict[Attribute, Value], dict[Attribute, Value]]:
    """Return what is stated and not known, and what is stated otherwise."""
    missing: dict[Attribute, Value] = {}
    other: dict[Attribute, Value] = {}
    for attribute, value in stated.items():
        known_value = known.get(attribute)
        if value == known_value:
            continue
        if known_value is None and attribute not in _IDENTIFYING:
            missing[attribute] = value
        elif meaning_of(attribute.vr, value) != meaning_of(attribute.vr, known_value or ""):
            other[attribute] = value
    return missing, other
