"""Control characters in received text: what matching leaves out (PS3.5 6.1.3)."""

_KEPT = "\t\n\f\r\x1b"
_DROPPED = {code: None for code in range(0x20) if chr(code) not in _KEPT}


def without_control_characters(value: str) -> str:
    r"""Return the text that takes part in matching: up to the first NUL, without stray controls.

    Kept are TAB, LF, FF, CR and ESC, which PS3.5 allows in text, and everything from the space on.

    Source: PS3.5 6.1.3; rules I-9, I-10.
    """
    if value.isprintable():
        return value
    return value.partition("\0")[0].translate(_DROPPED)
