"""Command sets: read by hand, answered by hand, and passed on to pynetdicom's messages."""

import struct
import warnings
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.tag import Tag
from pynetdicom import dimse_messages
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_MOVE, C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA

from pacsnode.network.command_set import (
    CommandSet,
    CommandSetError,
    encode_find_response,
    encode_response,
    encode_store_response,
    read_command_set,
    request_of,
)
from pacsnode.network.toolkit import configure_pynetdicom

_CT = "1.2.840.10008.5.1.4.1.1.2"
_NUMBERS = st.integers(0, 0xFFFF)
# Of the elements that messages have, and of some that they do not.
_ELEMENTS = [
    *(0x0000, 0x0002, 0x0003, 0x0100, 0x0110, 0x0120, 0x0600, 0x0700, 0x0800, 0x0900),
    *(0x0901, 0x0902, 0x1000, 0x1001, 0x1002, 0x1005, 0x1008, 0x1020, 0x1030, 0x1031, 0x4242),
]


@pytest.fixture(autouse=True)
def _configured() -> None:
    configure_pynetdicom()


def _us(number: int) -> bytes:
    return struct.pack("<H", number)


def _element(number: int, value: bytes, *, group: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<HHL", group, number, len(value) if length is None else length) + value


def _encoded(values: dict[int, bytes]) -> bytes:
    return b"".join(_element(number, value) for number, value in values.items())


def _store(**more: bytes) -> dict[int, bytes]:
    """Return the values of a C-STORE request; `more` by element number, as in e0110."""
    values = {
        0x0002: _CT.encode() + b"\0",
        0x0100: _us(0x0001),
        0x0110: _us(7),
        0x0700: _us(0),
        0x0800: _us(0x0001),
        0x1000: b"1.2.3\0",
    }
    return values | {int(name[1:], 16): value for name, value in more.items()}


def _without(values: dict[int, bytes], *elements: int) -> dict[int, bytes]:
    return {number: value for number, value in values.items() if number not in elements}


def _read(values: dict[int, bytes]) -> CommandSet:
    return read_command_set(_encoded(values))


def _decoded(command_set: bytes, data_set: bytes | None = None) -> Any:  # noqa: ANN401
    """Return a message as pynetdicom reads it."""
    fragments: list[Any] = [[1, b"\x03" + command_set]]
    if data_set is not None:
        fragments.append([1, b"\x02" + data_set])
    data = P_DATA()
    data.presentation_data_value_list = fragments
    message = DIMSEMessage()
    assert message.decode_msg(data)
    assert message.command_set.CommandGroupLength == len(command_set) - 12
    return message.message_to_primitive()


# --- reading


def test_a_store_request_is_read() -> None:
    """Numbers and UIDs are those of its elements, the UIDs without padding (PS3.7 9.3.1.1)."""
    command_set = _read(_store())
    assert (command_set.command_field, command_set.message_id) == (0x0001, 7)
    assert command_set.affected_sop_class_uid == _CT
    assert command_set.affected_sop_instance_uid == "1.2.3"
    assert command_set.has_data_set
    assert not command_set.is_response


def test_a_response_is_told_from_a_request() -> None:
    """Bit 15 of the Command Field makes a response (PS3.7 E.1)."""
    values = {0x0100: _us(0x8020), 0x0120: _us(9), 0x0800: _us(0x0101)}
    assert _read(values).is_response
    assert _read(values).message_id_being_responded_to == 9


@pytest.mark.parametrize(
    ("kind", "has_data_set"), [(0x0101, False), (0x0001, True), (0, True), (0xFEFE, True)]
)
def test_only_one_value_says_that_there_is_no_data_set(kind: int, *, has_data_set: bool) -> None:
    """Anything but 0101 announces a data set (PS3.7 E.1)."""
    assert _read(_store(e0800=_us(kind))).has_data_set is has_data_set


@pytest.mark.parametrize("group_length", [b"", _us(0), struct.pack("<L", 0), b"\xff" * 4])
def test_the_group_length_is_not_believed(group_length: bytes) -> None:
    """Where the elements end the command set ends, whatever is said."""
    assert _read({0: group_length} | _store()).message_id == 7


def test_elements_may_stand_in_any_order() -> None:
    """A sender that does not sort them is understood."""
    assert _read(dict(reversed(_store().items()))) == _read(_store())


@pytest.mark.parametrize("value", [b"1.2.3", b"1.2.3\0", b"1.2.3 ", b" 1.2.3\0\0"])
def test_uids_are_read_in_their_normal_form(value: bytes) -> None:
    """Padding of any kind goes (I-1)."""
    assert _read(_store(e1000=value)).affected_sop_instance_uid == "1.2.3"


def test_a_missing_uid_is_empty() -> None:
    """Which the service refuses."""
    command_set = _read(_without(_store(), 0x0002, 0x1000))
    assert command_set.affected_sop_class_uid == command_set.affected_sop_instance_uid == ""


def test_a_uid_may_be_any_bytes() -> None:
    """What is not ASCII is no reason to give up the association (F-3)."""
    assert _read(_store(e1000=b"M\xfcller")).affected_sop_instance_uid == "M\u00fcller"


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "the command set has no Command Field"),
        (b"\0", "the command set ends within an element's header"),
        (_encoded(_store()) + bytes(7), "the command set ends within an element's header"),
        (_encoded(_store())[:-1], "an element runs over the end of the command set"),
        (
            _encoded(_store()) + _element(0x1030, b"A", length=0xFFFFFFFF),
            "an element runs over the end of the command set",
        ),
        (
            _encoded(_store()) + _element(0x0010, b"Name", group=0x0010),
            "the command set has an element that has no place in it",
        ),
        (
            _encoded(_store()) + _element(0x0110, _us(8)),
            "the command set has an element that has no place in it",
        ),
        (_encoded(_without(_store(), 0x0100)), "the command set has no Command Field"),
        (_encoded(_without(_store(), 0x0800)), "the command set has no Command Data Set Type"),
        (_encoded(_store(e0100=b"")), "the command set has no Command Field"),
        (_encoded(_store(e0100=b"\1")), "the command set has no Command Field"),
        (_encoded(_store(e0800=bytes(4))), "the command set has no Command Data Set Type"),
    ],
)
def test_a_command_set_that_breaks_the_encoding_says_how(encoded: bytes, reason: str) -> None:
    """The message names the rule, and no value of the sender's (PS3.7 6.3.1)."""
    with pytest.raises(CommandSetError) as error:
        read_command_set(encoded)
    assert str(error.value) == reason


@pytest.mark.parametrize("value", [None, b"", b"\7", bytes(4)])
def test_a_missing_message_id_is_told_when_it_is_needed(value: bytes | None) -> None:
    """A cancel has none of one kind, a request none of the other."""
    values = _without(_store(), 0x0110)
    more = {} if value is None else {0x0110: value, 0x0120: value}
    command_set = _read(values | more)
    with pytest.raises(CommandSetError, match="no Message ID"):
        _ = command_set.message_id
    with pytest.raises(CommandSetError, match="no Message ID responded to"):
        _ = command_set.message_id_being_responded_to


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(content: bytes) -> None:
    """Whatever comes is read, or is a CommandSetError."""
    for each in (content, _encoded(_store()) + content):
        try:
            read_command_set(each)
        except CommandSetError:
            continue


_WHOLE = _encoded(_store(e0000=bytes(4), e1030=b"TITLE ", e1031=_us(3)))


@given(
    st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(_WHOLE)),
)
def test_mutated_command_sets_raise_nothing_else(
    changes: list[tuple[int, int]], length_bytes: int
) -> None:
    """One with some bytes changed, or cut off, is read or is a CommandSetError."""
    content = bytearray(_WHOLE)
    for position, value in changes:
        content[position] = value
    for each in (bytes(content), bytes(content[:length_bytes])):
        try:
            command_set = read_command_set(each)
        except CommandSetError:
            continue
        assert sum(map(len, command_set.values.values())) <= len(each)


@st.composite
def _requests(draw: st.DrawFn) -> Any:  # noqa: ANN401
    """A request as pynetdicom makes it."""
    request: Any = draw(st.sampled_from([C_ECHO, C_STORE, C_FIND, C_MOVE]))()
    request.MessageID = draw(_NUMBERS)
    request.AffectedSOPClassUID = draw(st.sampled_from([_CT, "1.2.3", "1.2.34"]))
    if not isinstance(request, C_ECHO):
        request.Priority = draw(st.integers(0, 2))
        keyword = "DataSet" if isinstance(request, C_STORE) else "Identifier"
        setattr(request, keyword, BytesIO(draw(st.binary(min_size=1, max_size=20))))
    if isinstance(request, C_STORE):
        request.AffectedSOPInstanceUID = draw(st.sampled_from(["1.2.3", "1.2.34"]))
    if isinstance(request, C_MOVE):
        request.MoveDestination = draw(st.sampled_from(["A", "AB", "A TITLE OF 16 CH"]))
    return request


def _written(request: Any) -> bytes:  # noqa: ANN401
    """Return the command set of a request as pynetdicom writes it."""
    message = getattr(dimse_messages, f"{type(request).__name__}_RQ")()
    message.primitive_to_message(request)
    encoded = encode(message.command_set, is_implicit_vr=True, is_little_endian=True)
    assert encoded is not None
    return encoded


@settings(deadline=None, max_examples=60)
@given(_requests())
def test_what_pynetdicom_writes_is_read(request_: Any) -> None:  # noqa: ANN401
    """Every field that we read means what it means to pynetdicom."""
    command_set = read_command_set(_written(request_))
    assert command_set.message_id == request_.MessageID
    assert command_set.affected_sop_class_uid == request_.AffectedSOPClassUID
    assert command_set.has_data_set != isinstance(request_, C_ECHO)
    if isinstance(request_, C_STORE):
        assert command_set.affected_sop_instance_uid == request_.AffectedSOPInstanceUID


# --- the response to a C-STORE


@settings(deadline=None)
@given(
    message_id=_NUMBERS,
    status=st.sampled_from([0x0000, 0xA700, 0xA900, 0xB000, 0xC001]),
    uid=st.sampled_from(["1.2.3", "1.2.34"]),
    comment=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=64),
    offending=st.lists(st.integers(0, 0xFFFFFFFF), max_size=3),
)
def test_pynetdicom_reads_our_store_response(
    message_id: int, status: int, uid: str, comment: str, offending: list[int]
) -> None:
    """All fields arrive as they were meant, and the group length is right (PS3.7 9.3.1.2)."""
    comment = comment.replace("\\", "/")
    request = _read(_store(e0110=_us(message_id), e1000=uid.encode()))
    response: Any = _decoded(encode_store_response(request, status, comment, offending))
    assert isinstance(response, C_STORE)
    assert (response.MessageIDBeingRespondedTo, response.Status) == (message_id, status)
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == (_CT, uid)
    assert response.ErrorComment == (comment or None)
    found: Any = response.OffendingElement
    tags = [] if found is None else [found] if isinstance(found, int) else [*found]
    assert tags == [Tag(each) for each in offending]


def test_a_store_response_is_what_pynetdicom_would_write() -> None:
    """With both UIDs it is the same, byte for byte."""
    response: Any = C_STORE()
    response.MessageIDBeingRespondedTo, response.Status = 7, 0xA900
    response.AffectedSOPClassUID, response.AffectedSOPInstanceUID = _CT, "1.2.3"
    response.ErrorComment, response.OffendingElement = "comment", [Tag(0x00080018)]
    encoded = encode_store_response(_read(_store()), 0xA900, "comment", (0x00080018,))
    assert (encoded, None) == encode_response(response)


@pytest.mark.parametrize(
    ("status", "identifier"),
    [(0xFF00, b"\1\2"), (0xFF01, b"\1\2"), (0x0000, None), (0xFE00, None)],
)
@pytest.mark.parametrize("sop_class_uid", ["1.2.3", "1.2.34"])
def test_a_find_response_is_what_pynetdicom_would_write(
    sop_class_uid: str, status: int, identifier: bytes | None
) -> None:
    """With an identifier and without, it is the same, byte for byte (PS3.7 9.3.2.2)."""
    response: Any = C_FIND()
    response.MessageIDBeingRespondedTo, response.Status = 7, status
    response.AffectedSOPClassUID = sop_class_uid
    response.Identifier = None if identifier is None else BytesIO(identifier)
    encoded = encode_find_response(sop_class_uid, 7, status, has_identifier=identifier is not None)
    assert (encoded, identifier) == encode_response(response)


@pytest.mark.parametrize("uid", [b"no uid", b"1.2.3 ", b"1..2\xff\xfe", b"1" * 200])
def test_a_store_response_repeats_uids_byte_for_byte(uid: bytes) -> None:
    """Also those that are none, and however they were padded (F-4)."""
    response = read_command_set(encode_store_response(_read(_store(e1000=uid, e0002=uid)), 0x0117))
    assert (response.values[0x1000], response.values[0x0002]) == (uid, uid)


def test_a_store_response_makes_uids_even() -> None:
    """An odd one, which no sender should send, is padded by one NUL."""
    response = read_command_set(encode_store_response(_read(_store(e1000=b"1.2.3")), 0))
    assert response.values[0x1000] == b"1.2.3\0"


@pytest.mark.parametrize(
    "values", [_without(_store(), 0x0002, 0x1000), _store(e0002=b"", e1000=b"")]
)
def test_a_store_response_leaves_out_what_the_request_has_not(values: dict[int, bytes]) -> None:
    """Both UIDs are optional; nothing is made up, and nothing stands empty (F-4)."""
    response = read_command_set(encode_store_response(_read(values), 0))
    assert [*response.values] == [0x0000, 0x0100, 0x0120, 0x0800, 0x0900]


def test_a_store_request_without_message_id_cannot_be_answered() -> None:
    """There is nothing to name in the response."""
    with pytest.raises(CommandSetError, match="no Message ID"):
        encode_store_response(_read(_without(_store(), 0x0110)), 0)


# --- all other messages


def test_a_request_is_handed_on_with_its_identifier() -> None:
    """The primitive has the fields of the command set, and the bytes of the data set."""
    values = _without(_store(e0100=_us(0x0021), e0600=b"DEST"), 0x1000)
    request = request_of(_read(values), 5, b"identifier")
    assert isinstance(request, C_MOVE)
    assert (request.MessageID, request.Priority) == (7, 0)
    assert (request.MoveDestination, request.AffectedSOPClassUID) == ("DEST", _CT)
    assert request.Identifier is not None
    assert request.Identifier.getvalue() == b"identifier"


@pytest.mark.parametrize("title", [b"", b"  ", bytes(16), b" \0"])
def test_a_title_that_says_nothing_is_none(title: bytes) -> None:
    """A C-MOVE to nobody is a request, and is answered (E-4)."""
    values = _store(e0100=_us(0x0021), e0600=title)
    assert request_of(_read(values), 1, b"identifier").MoveDestination is None


@pytest.mark.parametrize("title", [b"ONE\\TWO ", b"\\", b"ONE\\"])
def test_several_titles_are_none(title: bytes) -> None:
    """AE has no backslash: the first of them was not asked for (E-4)."""
    values = _store(e0100=_us(0x0021), e0600=title)
    assert request_of(_read(values), 1, b"identifier").MoveDestination is None


@pytest.mark.parametrize("field", [0x0010, 0x0020, 0x0021])
@pytest.mark.parametrize(
    ("given_priority", "priority"),
    [(None, 0), (_us(0), 0), (_us(1), 1), (_us(2), 2), (_us(5), 0), (b"", 0), (b"\1\2\3", 0)],
)
def test_a_priority_that_is_missing_or_unknown_is_medium(
    field: int, given_priority: bytes | None, priority: int
) -> None:
    """What was asked for is done all the same (E-13; PS3.7 9.1.2 to 9.1.4)."""
    values = {number: value for number, value in _store().items() if number != 0x0700}
    values |= {0x0100: _us(field), 0x0600: b"VIEWER"}
    if given_priority is not None:
        values[0x0700] = given_priority
    assert request_of(_read(values), 1, b"identifier").Priority == priority


@pytest.mark.parametrize("element", [0x0000, 0x1031])
def test_a_number_of_the_wrong_length_is_an_error(element: int) -> None:
    """It is a fault of the sender, and not one of this program."""
    values = _store(e0100=_us(0x0020)) | {element: b"\1\2\3"}
    with pytest.raises(CommandSetError, match="its values are not taken: BytesLengthException"):
        request_of(_read(values), 1, b"identifier")


@pytest.mark.parametrize("field", [0x0002, 0x0040, 0x7FFF])
def test_an_unknown_message_is_an_error(field: int) -> None:
    """What pynetdicom does not know cannot be answered."""
    with pytest.raises(CommandSetError, match="its values are not taken: "):
        request_of(_read(_store(e0100=_us(field))), 1, b"")


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which the log leaves out
@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(
        [0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140]
    ),
    st.dictionaries(
        st.sampled_from(_ELEMENTS), st.binary(max_size=10) | _NUMBERS.map(_us), max_size=8
    ),
    st.binary(max_size=4),
)
def test_whatever_its_values_a_request_is_answered_or_is_an_error(
    field: int, values: dict[int, bytes], data_set: bytes
) -> None:
    """Bad values are a CommandSetError or are taken, and then there is a response to them."""
    command_set = _read({0x0110: _us(7)} | values | {0x0100: _us(field), 0x0800: _us(1)})
    try:
        _ = command_set.message_id
        request = request_of(command_set, 1, data_set)
    except CommandSetError:
        return
    response = type(request)()
    response.MessageIDBeingRespondedTo, response.Status = request.MessageID, 0xC000
    for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
        value = getattr(request, keyword, None)
        if value is not None:
            setattr(response, keyword, value)
    encoded, _data_set = encode_response(response)
    assert read_command_set(encoded).message_id_being_responded_to == command_set.message_id


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from([C_ECHO, C_STORE, C_FIND, C_MOVE]),
    message_id=_NUMBERS,
    status=st.sampled_from([0x0000, 0xFF00, 0xFE00, 0xC000]),
    identifier=st.none() | st.binary(min_size=1, max_size=20),
)
def test_a_response_is_read_by_pynetdicom(
    kind: type[Any], message_id: int, status: int, identifier: bytes | None
) -> None:
    """Whether a data set follows is announced and true."""
    response = kind()
    response.MessageIDBeingRespondedTo, response.Status = message_id, status
    expected = identifier if kind in (C_FIND, C_MOVE) else None
    if expected is not None:
        response.Identifier = BytesIO(expected)
    command_set, data_set = encode_response(response)
    assert data_set == expected
    assert read_command_set(command_set).has_data_set == (expected is not None)
    decoded = _decoded(command_set, data_set)
    assert type(decoded) is kind
    assert (decoded.MessageIDBeingRespondedTo, decoded.Status) == (message_id, status)


def test_odd_values_of_a_request_raise_no_warning() -> None:
    """Values that break the rules of their VR are nothing to write about on standard error."""
    values = _store(e0100=_us(0x0021), e0002=b"no uid", e0600=b"A TITLE OF MORE THAN 16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        request_of(_read(values), 1, b"identifier")
