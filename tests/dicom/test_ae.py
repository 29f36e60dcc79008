"""Application Entity titles."""

import pytest

from pacsnode.dicom.ae import check_ae_title, nearest_ae_title, normalise_ae_title


@pytest.mark.parametrize("received", ["PACS", "PACS    ", "  PACS", "PACS\0\0", " PACS \0"])
def test_padding_of_an_ae_title_does_not_count(received: str) -> None:
    """Spaces and NUL at either end are no part of the title (H-2)."""
    assert normalise_ae_title(received) == "PACS"


def test_the_case_of_an_ae_title_counts() -> None:
    """Titles are case-sensitive: none is changed to the other case (H-2)."""
    assert normalise_ae_title("Pacs") == "Pacs"


def test_a_space_within_an_ae_title_counts() -> None:
    """Only padding is cut, not what stands between other characters (H-2)."""
    assert normalise_ae_title(" CT  1 ") == "CT  1"


@pytest.mark.parametrize("title", ["A", "SIXTEEN_LETTERS_", "CT 1", "a.b-c*~", "  PADDED  "])
def test_a_title_that_may_be_configured_is_returned_in_its_normal_form(title: str) -> None:
    """One to sixteen printable ASCII characters are a title, and are returned without padding."""
    assert check_ae_title(title) == title.strip()


@pytest.mark.parametrize(
    "title",
    ["", "   ", "\0", "SEVENTEEN_LETTERS", "A\\B", "A\nB", "A\x7fB", "M\u00dcLLER", "A\0B"],
)
def test_a_title_that_the_standard_does_not_allow_is_refused(title: str) -> None:
    """Empty, too long, a backslash, a control or a foreign character: no title (H-2)."""
    with pytest.raises(ValueError, match="an AE title has"):
        check_ae_title(title)


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        ("VIEWR", "VIEWER"),
        ("viewer", "VIEWER"),
        (" VIEWER1 ", "VIEWER"),
        ("ARCHIV", "Archive"),
        ("CT99", None),
        ("", None),
    ],
)
def test_the_nearest_known_title_is_found(written: str, nearest: str | None) -> None:
    """A letter left out, the wrong case, one too many; what is like no other has none (E-4)."""
    assert nearest_ae_title(written, ["PRINTER", "VIEWER", "Archive"]) == nearest


def test_without_a_known_title_none_is_near() -> None:
    """An empty configuration has no suggestion."""
    assert nearest_ae_title("VIEWER", []) is None
