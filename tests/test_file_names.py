"""What files are called, and what their names tell."""

import pytest

from pacsnode.file_names import (
    FilePlace,
    lasting_path,
    name_with_place,
    path_beside,
    place_and_digest_of,
    places_of,
)

_PLACE = FilePlace("1.2", "1.2.3", "1.2.3.4")
_SHA256 = bytes(range(32))


def test_a_lasting_path_tells_its_place() -> None:
    """One place for a name without an ending."""
    assert lasting_path(_PLACE) == "studies/1.2/1.2.3/1.2.3.4.dcm"
    assert places_of(lasting_path(_PLACE)) == (_PLACE,)


def test_a_path_beside_another_tells_the_place_of_both() -> None:
    """The random ending may look like a component of a UID: then both are possible."""
    assert _PLACE in places_of(path_beside(lasting_path(_PLACE)))
    assert set(places_of("studies/1.2/1.2.3/1.2.3.4.12345678.dcm")) == {
        _PLACE,
        FilePlace("1.2", "1.2.3", "1.2.3.4.12345678"),
    }


@pytest.mark.parametrize(
    "path",
    [
        "quarantine/1.2.3.4.0123456789abcdef.dcm",
        "studies/1.2/1.2.3/notes.txt",
        "studies/1.2/1.2.3/.dcm",
        "studies/1.2/1.2.3.4.dcm",
        "studies/a/1.2.3/1.2.3.4.dcm",
        "",
    ],
)
def test_another_path_tells_no_place(path: str) -> None:
    """Whoever put it there, it was not the store."""
    assert places_of(path) == ()


def test_an_incoming_name_tells_where_its_file_is_about_to_be_kept() -> None:
    """The place and the digest, as far as it is in the name."""
    name = name_with_place("17", _PLACE, _SHA256)
    assert place_and_digest_of(name) == (_PLACE, "0001020304050607")


def test_the_longest_incoming_name_fits_a_file_system() -> None:
    """Three UIDs of 64 characters, and a number that no process reaches."""
    longest = FilePlace(*("1" * 64,) * 3)
    assert len(name_with_place("9" * 20, longest, _SHA256)) <= 255


@pytest.mark.parametrize(
    "name", ["17", "17,1.2,1.2.3,1.2.3.4", "17,1.2,..,1.2.3.4,00", "a,b,c,d,e"]
)
def test_another_incoming_name_tells_nothing(name: str) -> None:
    """Its file was not about to be kept."""
    assert place_and_digest_of(name) is None
