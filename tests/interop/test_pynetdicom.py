"""pynetdicom's own SCU against the node: what is negotiated for queries, and what it changes.

The archive under test holds three studies of two made-up patients:

    N1  Adler^Anna   study A: series CT and SR, 20200101 at 0900; study B: series CT, no Study ID
    N2  Adler^Anton  study C: series MR, 20200102 at 1230
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from tests.support.instances import ct_data_set, encoded, sr_data_set
from tests.support.node import Node, running_node
from tests.support.scu import application_information, associated
from tests.support.wire import store_all

pytestmark = pytest.mark.interop

_ROOT = "1.2.826.0.1.3680043.8.498.79"
A, B, C = (f"{_ROOT}.{number}" for number in range(1, 4))
A_CT, A_SR, B_CT, C_MR = f"{A}.1", f"{A}.2", f"{B}.1", f"{C}.1"
_STUDY_FIND = StudyRootQueryRetrieveInformationModelFind
_PATIENT_FIND = PatientRootQueryRetrieveInformationModelFind
_RETIRED_FIND = PatientStudyOnlyQueryRetrieveInformationModelFind

RELATIONAL = b"\1"
COMBINED = b"\0\1"
EMPTY_VALUE = b"\0\0\0\0\0\1"
MULTIPLE_VALUES = b"\0\0\0\0\0\0\1"


def _data_sets() -> Iterator[Dataset]:
    anna = {"PatientID": "N1", "PatientName": "Adler^Anna"}
    study_a = {"StudyInstanceUID": A, "StudyDate": "20200101", "StudyTime": "0900"}
    study_b = {"StudyInstanceUID": B, "StudyDate": "20200102", "StudyTime": "0900"}
    study_c = {"StudyInstanceUID": C, "StudyDate": "20200102", "StudyTime": "1230"}
    yield ct_data_set(**anna, **study_a, SeriesInstanceUID=A_CT, StudyID="ONE")
    yield sr_data_set(**anna, **study_a, SeriesInstanceUID=A_SR, StudyID="ONE")
    yield ct_data_set(**anna, **study_b, SeriesInstanceUID=B_CT, StudyID="")
    yield ct_data_set(
        **study_c,
        PatientID="N2",
        PatientName="Adler^Anton",
        SeriesInstanceUID=C_MR,
        StudyID="TWO",
        Modality="MR",
    )


@pytest.fixture(scope="module")
def node(module_folder: Path) -> Iterator[Node]:
    """A node with the archive and the settings of the default."""
    with running_node(module_folder / "node") as running:
        store_all(running.address, [encoded(data_set) for data_set in _data_sets()])
        yield running


@pytest.fixture(scope="module")
def lenient_node(module_folder: Path) -> Iterator[Node]:
    """A node that is lenient in everything that a setting can make it."""
    names = {"family_name_alone": True, "ignores_accents": True, "any_group": False}
    query = {"relational_lenient": True, "offer_patient_study_only": True, "names": names}
    with running_node(module_folder / "lenient", query=query) as running:
        store_all(running.address, [encoded(data_set) for data_set in _data_sets()])
        yield running


def _identifier(level: str, **keys: str | list[str]) -> Dataset:
    """Return an Identifier as pynetdicom's users make one: keyword and value of each key."""
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _ask(
    association: Association, identifier: Dataset, model: str = _STUDY_FIND
) -> tuple[str, list[Dataset]]:
    """Return the final status and the identifiers of the answers."""
    answers: list[Dataset] = []
    status = Dataset()
    for status, answer in association.send_c_find(identifier, model):  # noqa: B007 - the last one
        if answer is not None:
            answers.append(answer)
    return f"{status.Status:04X}", answers


def _find(
    node: Node, identifier: Dataset, options: bytes = b"", model: str = _STUDY_FIND
) -> tuple[str, list[Dataset]]:
    """Ask on an association on which some options were asked for, and agreed upon as asked."""
    items = [application_information(model, options)] if options else []
    with associated(node.address, [build_context(model)], items) as association:
        assert association.acceptor.sop_class_extended == ({model: options} if options else {})
        return _ask(association, identifier, model)


def _uids(answers: Sequence[Dataset], keyword: str) -> list[str]:
    return sorted(str(answer[keyword].value) for answer in answers)


# --- relational queries


def test_a_relational_query_crosses_studies(node: Node) -> None:
    """Series of all studies with a Modality; each answer names its study (B-7)."""
    identifier = _identifier("SERIES", SeriesInstanceUID="", Modality="CT")
    status, answers = _find(node, identifier, RELATIONAL)
    assert status == "0000"
    assert {(each.StudyInstanceUID, each.SeriesInstanceUID) for each in answers} == {
        (A, A_CT),
        (B, B_CT),
    }


def test_a_relational_query_may_name_any_level(node: Node) -> None:
    """Instances by the patient's name alone; the keys above come with each answer (B-7)."""
    identifier = _identifier("IMAGE", PatientName="adler^anna", SOPInstanceUID="")
    status, answers = _find(node, identifier, RELATIONAL, _PATIENT_FIND)
    assert status == "0000"
    assert sorted((each.PatientID, each.SeriesInstanceUID) for each in answers) == [
        ("N1", A_CT),
        ("N1", A_SR),
        ("N1", B_CT),
    ]


def test_what_was_not_negotiated_is_refused(node: Node) -> None:
    """Without the option, a series needs its study; nothing is answered (B-1, B-6)."""
    identifier = _identifier("SERIES", SeriesInstanceUID="", Modality="CT")
    for options in (b"", b"\0", COMBINED):
        assert _find(node, identifier, options) == ("A900", [])


def test_options_hold_for_their_sop_class_only(node: Node) -> None:
    """Relational queries were agreed upon in the Study Root: not in the Patient Root (B-11)."""
    contexts = [build_context(_STUDY_FIND), build_context(_PATIENT_FIND)]
    items = [application_information(_STUDY_FIND, RELATIONAL)]
    series = _identifier("SERIES", SeriesInstanceUID="", PatientID="N1", Modality="CT")
    with associated(node.address, contexts, items) as association:
        status, answers = _ask(association, series, _STUDY_FIND)
        assert (status, _uids(answers, "SeriesInstanceUID")) == ("0000", [A_CT, B_CT])
        assert _ask(association, series, _PATIENT_FIND) == ("A900", [])


def test_options_end_with_their_association(node: Node) -> None:
    """The next association has agreed upon nothing (B-11)."""
    identifier = _identifier("SERIES", SeriesInstanceUID="", Modality="MR")
    assert _find(node, identifier, RELATIONAL)[0] == "0000"
    assert _find(node, identifier)[0] == "A900"


def test_a_lenient_node_takes_a_relational_query_from_anybody(lenient_node: Node) -> None:
    """query.relational_lenient: as if it had been negotiated (B-6)."""
    identifier = _identifier("SERIES", SeriesInstanceUID="", Modality="CT")
    status, answers = _find(lenient_node, identifier)
    assert (status, _uids(answers, "SeriesInstanceUID")) == ("0000", [A_CT, B_CT])


# --- the other options


def test_dates_and_times_are_combined_where_negotiated(node: Node) -> None:
    """From the 1st at 12:00 to the 2nd at 13:00 is one span, without the option two (B-12)."""
    identifier = _identifier(
        "STUDY",
        StudyInstanceUID="",
        StudyDate="20200101-20200102",
        StudyTime="1200-1300",
    )
    status, answers = _find(node, identifier, COMBINED)
    assert (status, _uids(answers, "StudyInstanceUID")) == ("0000", [B, C])
    status, answers = _find(node, identifier)
    assert (status, _uids(answers, "StudyInstanceUID")) == ("0000", [C])


def test_an_empty_value_is_looked_for_where_negotiated(node: Node) -> None:
    """`""` finds what has no value; without the option it is two quotation marks (B-17)."""
    identifier = _identifier("STUDY", StudyInstanceUID="", StudyID='""')
    status, answers = _find(node, identifier, EMPTY_VALUE)
    assert (status, _uids(answers, "StudyInstanceUID")) == ("0000", [B])
    assert _find(node, identifier) == ("0000", [])


def test_every_value_has_to_match_where_negotiated(node: Node) -> None:
    """CT and SR in one study; without the option one of them is enough (B-16, C-24)."""
    identifier = _identifier("STUDY", StudyInstanceUID="", ModalitiesInStudy=["CT", "SR"])
    status, answers = _find(node, identifier, MULTIPLE_VALUES)
    assert (status, _uids(answers, "StudyInstanceUID")) == ("0000", [A])
    status, answers = _find(node, identifier)
    assert (status, _uids(answers, "StudyInstanceUID")) == ("0000", [A, B])


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("01010101010101", "01010000000101"), ("0101010101010101", "01010000000101"), ("00", "00")],
)
def test_what_is_not_supported_is_not_agreed_upon(node: Node, asked: str, answered: str) -> None:
    """No fuzzy matching of names, no time zone adjustment, no view (B-10, B-11)."""
    items = [application_information(_STUDY_FIND, bytes.fromhex(asked))]
    with associated(node.address, [build_context(_STUDY_FIND)], items) as association:
        agreed = association.acceptor.sop_class_extended[_STUDY_FIND]
    assert agreed.hex() == answered


def test_a_view_is_refused(node: Node) -> None:
    """It cannot be negotiated here; the default view would be another answer (B-14)."""
    identifier = _identifier("STUDY", StudyInstanceUID="", QueryRetrieveView="CLASSIC")
    assert _find(node, identifier, b"\1\1") == ("A900", [])


# --- relational retrieval


def test_a_relational_retrieval_needs_no_keys_above(node: Node) -> None:
    """One series by its UID alone; A801, not A900: the identifier was understood (B-9, E-4)."""
    model = StudyRootQueryRetrieveInformationModelMove
    identifier = _identifier("SERIES", SeriesInstanceUID=A_CT)
    answers = []
    for items in ([application_information(model, b"\1")], []):
        with associated(node.address, [build_context(model)], items) as association:
            ((status, _),) = association.send_c_move(identifier, "NOWHERE", model)
            answers.append(f"{status.Status:04X}")
    assert answers == ["A801", "A900"]


# --- names, and the retired model


@pytest.mark.parametrize(
    ("key", "strict", "lenient"),
    [("Adler", [], ["N1", "N2"]), ("Ádler^Anna", [], ["N1"]), ("Adler^Anton", ["N2"], ["N2"])],
)
def test_names_are_matched_as_the_settings_say(
    node: Node, lenient_node: Node, key: str, strict: list[str], lenient: list[str]
) -> None:
    """query.names: a family name alone, and accents (C-30, C-33)."""
    identifier = _identifier("PATIENT", PatientID="", PatientName=key)
    for peer, expected in ((node, strict), (lenient_node, lenient)):
        status, answers = _find(peer, identifier, model=_PATIENT_FIND)
        assert (status, _uids(answers, "PatientID")) == ("0000", expected)


def test_the_retired_model_is_there_if_it_is_asked_for(node: Node, lenient_node: Node) -> None:
    """query.offer_patient_study_only: refused by default, served where set (A-2)."""
    contexts = [build_context(_RETIRED_FIND), build_context(_STUDY_FIND)]
    with associated(node.address, contexts) as association:
        assert [each.abstract_syntax for each in association.accepted_contexts] == [_STUDY_FIND]
    identifier = _identifier("STUDY", PatientID="N1", StudyInstanceUID="")
    status, answers = _find(lenient_node, identifier, model=_RETIRED_FIND)
    assert (status, _uids(answers, "StudyInstanceUID")) == ("0000", [A, B])
