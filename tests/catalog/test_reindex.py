"""Catalogued with other keys, and catalogued again."""

from collections.abc import Callable, Iterator

import pytest

from pacsnode.catalog import Catalog
from pacsnode.catalog.records import KeptFile, NewInstance
from pacsnode.dicom.attributes import BY_KEYWORD, STANDARD_KEYS, Attribute, Keys, extra_key
from pacsnode.dicom.information_model import Level
from pacsnode.dicom.instance import InstanceReader
from pacsnode.dicom.values import Value
from tests.catalog.rows import EXPLICIT_VR_LITTLE_ENDIAN, data_set_of, found, new_instance

_KVP = extra_key(Level.IMAGE, tag=0x00180060)
_PROTOCOL = extra_key(Level.STUDY, tag=0x0019100C, vr="LO", private_creator="EXAMPLE")
_EXTENDED = Keys((_KVP, _PROTOCOL))
_SERIES = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.3.1"}

Open = Callable[[Keys], Catalog]


@pytest.fixture
def open_catalog(url: str) -> Iterator[Open]:
    """Opens the catalog of the URL with some keys; the one before is closed."""
    opened: list[Catalog] = []

    def opener(keys: Keys) -> Catalog:
        for catalog in opened:
            catalog.close()
        opened.append(Catalog(url, keys))
        return opened[-1]

    yield opener
    opened[-1].close()


class _Files:
    """The files of instances, as far as the catalog is concerned."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Attribute, Value]] = {}

    def add(self, catalog: Catalog, number: int, **values: str) -> None:
        """Add an instance; KVP and the private protocol name are values like others."""
        extra = {a: values.pop(name) for name, a in _NAMES.items() if name in values}
        uid = f"1.4.{number}"
        known = {"SOPInstanceUID": uid, **_SERIES, **values}
        instance = new_instance(keys=catalog.keys, extra=extra, **known)
        catalog.add(instance)
        ids = {"PatientID": "EX1", "SOPClassUID": instance.header.sop_class_uid}
        self._values[instance.file.path] = {
            **{BY_KEYWORD[keyword]: value for keyword, value in (ids | known).items()},
            **extra,
        }

    def reindex(self, catalog: Catalog, *, limit: int = 2) -> list[bool]:
        """Reindex all that is to be, a few at a time; return whether each is done."""
        reader, done, above = InstanceReader(catalog.keys), list[bool](), 0
        while batch := catalog.pending_instances(above, limit):
            above = batch[-1].key
            done += catalog.reindex(
                [
                    (
                        each,
                        reader.read(
                            data_set_of(self._values[each.file.path]), EXPLICIT_VR_LITTLE_ENDIAN
                        ),
                    )
                    for each in batch
                ]
            )
        return done


_NAMES = {"KVP": _KVP, "protocol": _PROTOCOL}


def _contents(catalog: Catalog) -> list[list[tuple[object, ...]]]:
    """Return what the catalog holds that follows from files and keys, table by table."""
    database = catalog._database
    queries = (
        "SELECT * FROM patient",
        "SELECT * FROM study",
        "SELECT * FROM series",
        "SELECT further, instance_number, key_set, stated_patient_id FROM instance",
        "SELECT * FROM inconsistency",
    )
    with database.reading():
        return [
            list(map(tuple, database.peewee.execute_sql(query).fetchall())) for query in queries
        ]


def _add_some(files: _Files, catalog: Catalog) -> None:
    files.add(catalog, 1, KVP="120")
    files.add(catalog, 2, KVP="100", protocol="HEAD", StudyDescription="A")
    files.add(catalog, 3, protocol="NECK", StudyDescription="B")
    files.add(catalog, 4, protocol="NECK", SeriesInstanceUID="1.3.2", PatientID="EX2")


def test_reindexing_comes_to_what_adding_with_the_keys_would_have(
    open_catalog: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Values of all levels, which one answers, and what contradicts it."""
    files = _Files()
    _add_some(files, open_catalog(STANDARD_KEYS))
    extended = open_catalog(_EXTENDED)
    assert (extended.reindex_state().pending, extended.reindex_state().total) == (4, 4)
    assert files.reindex(extended) == [True] * 4
    url = f"sqlite:///{tmp_path_factory.mktemp('other')}/catalog.sqlite"
    Catalog(url, STANDARD_KEYS).close()  # so that the sets of keys have the same numbers
    at_once = Catalog(url, _EXTENDED)
    _add_some(_Files(), at_once)
    assert _contents(extended) == _contents(at_once)
    assert [(i.attribute, i.answer, i.other) for i in at_once.inconsistencies()] == [
        ("PatientID", "EX1", "EX2"),
        ("StudyDescription", "A", "B"),
        (_PROTOCOL.keyword, "HEAD", "NECK"),
    ]
    at_once.close()


def test_reindexing_twice_changes_nothing(open_catalog: Open) -> None:
    """What is as the keys ask for is not pending; what is pending again comes to the same."""
    files = _Files()
    _add_some(files, open_catalog(_EXTENDED))
    catalog = open_catalog(_EXTENDED)
    before = _contents(catalog)
    assert files.reindex(catalog) == []
    with catalog._database.writing():
        catalog._database.writer.execute_sql("UPDATE instance SET key_set = 0")
    assert files.reindex(catalog) == [True] * 4
    assert _contents(catalog) == before


def test_it_can_be_stopped_and_goes_on(open_catalog: Open) -> None:
    """What was done stays done, and is not offered again."""
    files = _Files()
    _add_some(files, open_catalog(STANDARD_KEYS))
    catalog = open_catalog(_EXTENDED)
    (first,) = catalog.pending_instances(0, 1)
    reader = InstanceReader(_EXTENDED)
    data_set = data_set_of(files._values[first.file.path])
    catalog.reindex([(first, reader.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN))])
    again = open_catalog(_EXTENDED)
    assert again.reindex_state().pending == 3
    assert [each.sop_instance_uid for each in again.pending_instances(0, 9)] == [
        "1.4.2",
        "1.4.3",
        "1.4.4",
    ]


def test_a_value_that_is_no_key_any_more_goes(open_catalog: Open) -> None:
    """Without the extra key an instance's row has its value no longer."""
    files = _Files()
    _add_some(files, open_catalog(_EXTENDED))
    catalog = open_catalog(STANDARD_KEYS)
    files.reindex(catalog)
    assert [row[0] for row in _contents(catalog)[3]] == [None] * 4


def test_a_key_whose_vr_was_corrected_is_written_anew(open_catalog: Open) -> None:
    """The same text is another value then, in rows of all levels."""
    files = _Files()
    wrong, right = (
        extra_key(Level.STUDY, tag=0x0019100C, vr=vr, private_creator="EXAMPLE")
        for vr in ("LO", "IS")
    )
    files.add(open_catalog(Keys((wrong,))), 1, protocol="7")
    catalog = open_catalog(Keys((right,)))
    files.reindex(catalog)
    study = _contents(catalog)[1][0]
    assert '{"0019000C EXAMPLE":[["7",7.0]]}' in study


def test_what_was_replaced_meanwhile_is_left_alone(open_catalog: Open) -> None:
    """Whoever read the old file does not write over the row of the new one."""
    files = _Files()
    files.add(open_catalog(STANDARD_KEYS), 1, KVP="120")
    catalog = open_catalog(_EXTENDED)
    (pending,) = catalog.pending_instances(0, 1)
    newcomer = new_instance(keys=_EXTENDED, extra={_KVP: "80"}, SOPInstanceUID="1.4.1", **_SERIES)
    file = KeptFile("studies/new", EXPLICIT_VR_LITTLE_ENDIAN, bytes(32), 1)
    catalog.replace(NewInstance(newcomer.header, file, ""), pending.file)
    data_set = data_set_of(files._values[pending.file.path])
    header = InstanceReader(_EXTENDED).read(data_set, EXPLICIT_VR_LITTLE_ENDIAN)
    assert catalog.reindex([(pending, header)]) == [True]
    assert [row[0] for row in _contents(catalog)[3]] == ['{"00180060":[["80",80.0]]}']


def test_what_cannot_be_decoded_is_to_be_reindexed(open_catalog: Open) -> None:
    """A sequence that is damaged keeps nobody from storing, and the row says so (F-25)."""
    catalog = open_catalog(STANDARD_KEYS)
    values = {
        "StudyInstanceUID": "1.2.1",
        "SeriesInstanceUID": "1.3.1",
        "SOPInstanceUID": "1.4.1",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    }
    data_set = data_set_of({BY_KEYWORD[keyword]: value for keyword, value in values.items()})
    damaged = b"\x40\x00\x43\xa0SQ\0\0\x08\0\0\0notitems"  # Concept Name Code Sequence
    header = InstanceReader().read(data_set + damaged, EXPLICIT_VR_LITTLE_ENDIAN)
    file = KeptFile("studies/1", EXPLICIT_VR_LITTLE_ENDIAN, bytes(32), 1)
    catalog.add(NewInstance(header, file, ""))
    assert found(catalog, Level.IMAGE, SOPInstanceUID="1.4.1")
    (pending,) = catalog.pending_instances(0, 9)
    again = InstanceReader().read(data_set + damaged, EXPLICIT_VR_LITTLE_ENDIAN)
    assert catalog.reindex([(pending, again)]) == [False]
    assert catalog.reindex_state().pending == 1
    sound = InstanceReader().read(data_set, EXPLICIT_VR_LITTLE_ENDIAN)
    assert catalog.reindex([(pending, sound)]) == [True]
    assert catalog.reindex_state().pending == 0


def test_each_key_knows_what_was_catalogued_without_it(open_catalog: Open) -> None:
    """A key that was there before is complete while another one is not."""
    _add_some(_Files(), open_catalog(STANDARD_KEYS))
    _Files().add(open_catalog(Keys((_KVP,))), 5, KVP="120")
    lacking = open_catalog(_EXTENDED).reindex_state().lacking
    assert (lacking[_KVP.name], lacking[_PROTOCOL.name], lacking["00080008"]) == (4, 5, 0)


def test_a_set_of_keys_is_the_same_in_any_order(open_catalog: Open) -> None:
    """The order of the configuration makes no other set."""
    _add_some(_Files(), open_catalog(_EXTENDED))
    assert open_catalog(Keys((_PROTOCOL, _KVP))).reindex_state().pending == 0
