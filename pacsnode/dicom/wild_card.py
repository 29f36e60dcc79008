"""Wild card patterns: `*` for any run of characters, `?` for exactly one (PS3.4 C.2.2.2.4)."""


def has_wild_card(text: str) -> bool:
    """Whether a key text has a wild card character."""
    return "*" in text or "?" in text


def matches_wild_card(pattern: str, text: str) -> bool:
    """Whether the whole text fits the pattern; in time of at most their lengths multiplied.

    Source: PS3.4 C.2.2.2.4; rules C-12, C-13.
    """
    i = j = 0
    star = -1  # place of the last `*` met; its run ends before `resume` and grows when stuck
    resume = 0
    while i < len(text):
        if j < len(pattern) and pattern[j] == "*":
            star, resume = j, i
            j += 1
        elif j < len(pattern) and pattern[j] in ("?", text[i]):
            i += 1
            j += 1
        elif star >= 0:
            resume += 1
            i, j = resume, star + 1
        else:
            return False
    return not pattern[j:].strip("*")
