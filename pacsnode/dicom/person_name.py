"""Person Names: the folded form that is compared, and the patterns of a key (PS3.5 6.2.1)."""

import re
import unicodedata
from functools import lru_cache

from pacsnode.dicom.control_characters import without_control_characters

# Characters that compatibility decomposition would turn into a delimiter or wild card: only the
# ASCII characters themselves have these meanings, so these are kept as they are.
_KEPT = re.compile(
    "([\u2047-\u2049\u207c\u208c\u2a74-\u2a76\ufe16\ufe56\ufe61\ufe66\ufe68\uff0a\uff1d\uff1f\uff3c\uff3e])"
)
_MAXIMUM_PADDING = 4  # of a name with one component to five
_COMPONENT_GROUPS = 3
# The blocks of marks that any letter may carry. What other scripts have of their own, such as the
# voicing of kana, makes another letter.
_ACCENTS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")


@lru_cache(maxsize=4096)
def fold_component_groups(value: str) -> tuple[str, str, str]:
    """Return the folded alphabetic, ideographic and phonetic group of one value; '' if absent.

    Two names are the same to us if their folded groups are: differences in case, width and
    composition of characters, in blanks around and between words, and in trailing empty components
    do not count; accents do. Surplus groups stay in the last one.

    Args:
        value: one decoded value of VR PN, or of a key; `*` and `?` are kept.

    Source: PS3.5 6.2.1.1, PS3.4 C.2.2.2.1; rules C-30, C-31, I-4.
    """
    groups = [_fold_group(group) for group in without_control_characters(value).split("=")]
    alphabetic, ideographic, *rest = [*groups, "", ""][: max(len(groups), _COMPONENT_GROUPS)]
    return alphabetic, ideographic, "=".join(rest).rstrip("=")


def fold(value: str) -> str:
    """Return the folded groups of one value joined by `=`; '' if the name is empty.

    Source: PS3.5 6.2.1.1; rules C-30, C-31.
    """
    return "=".join(fold_component_groups(value)).rstrip("=")


@lru_cache(maxsize=4096)
def without_accents(folded: str) -> str:
    """Return folded text without the accents of its letters: `m\u00fcller` becomes `muller`.

    A letter that is no composed one stays: `\u00f8` is not `o`, and `ue` is not `\u00fc`.
    """
    if folded.isascii():
        return folded
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", folded))
    return unicodedata.normalize("NFC", bare)


def groups_without_accents(groups: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return folded component groups, each without the accents of its letters."""
    alphabetic, ideographic, phonetic = groups
    return without_accents(alphabetic), without_accents(ideographic), without_accents(phonetic)


def is_universal(folded: str) -> bool:
    """Whether a folded key or key group asks for no name in particular (rule C-32)."""
    return not folded.strip("*^=")


def pattern_alternatives(folded: str) -> tuple[str, ...]:
    """Return the patterns of which one matches a folded group exactly if the key group does.

    A group is stored without its trailing empty components, yet `Smith^*` is meant to find `Smith`.
    So a key group is tried on the group as stored and with up to four more `^` behind it. What such
    padding can match is cut off the pattern instead: `smith^*` gives `smith` and `smith^*`. `?`
    stands for a character that is there, never for padding.

    Args:
        folded: a key group that is not universal, folded.

    Returns:
        One to five patterns with `*` and `?`, without repeated `*`; equality if there is neither.
        None of them matches the empty string.

    Source: PS3.5 6.2.1.1; rules C-31, C-33.
    """
    pattern = re.sub(r"\*+", "*", folded)
    end = len(pattern.rstrip("^*"))
    cuts = [i for i in range(end, len(pattern)) if pattern[i] == "^"][-_MAXIMUM_PADDING:]
    alternatives = []
    for cut in cuts:
        alternatives.append(pattern[:cut])
        if pattern[:cut].endswith("*"):
            return tuple(alternatives)  # it matches whatever the longer ones would
    return (*alternatives, pattern)


def _fold_group(group: str) -> str:
    """One component group folded, without its trailing empty components."""
    if group.isascii():
        folded = group.casefold()
    else:
        pieces = _KEPT.split(group)
        folded = "".join(piece if i % 2 else _fold_text(piece) for i, piece in enumerate(pieces))
    return "^".join(" ".join(part.split()) for part in folded.split("^")).rstrip("^")


def _fold_text(text: str) -> str:
    """Text without differences in case, width and composition."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # A few characters (iota subscript and its like) need a second round.
    return folded if folded == text else _fold_text(folded)
