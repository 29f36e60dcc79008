"""A number of things, in words for the log."""


def counted(count: int, noun: str) -> str:
    """Return the number with the noun, as in "1 association" and "2 associations".

    Args:
        count: Not negative.
        noun: In the singular; the plural has an s behind it.
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
