"""Code extension: text in which escape sequences change the Character Set (PS3.5 6.1.2.4, 6.1.2.5).

How it works: bytes 20H to 7FH mean the set that is active as G0, bytes 80H to FFH the one active
as G1. An escape sequence puts another set into G0 or G1. The sets of value 1 of Specific Character
Set are active again after every delimiter and control character: each piece of text stands alone.
All multi-byte sets are read through the EUC codecs of the Standard Library, in which the bytes of
one set differ from those of another by a prefix only.
"""

import re
from dataclasses import dataclass

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ESCAPE = 0x1B
_LOWEST_G1_BYTE_OF_WIDTH = {1: 0x80, 2: 0xA1}


@dataclass(frozen=True, slots=True)
class CodeElement:
    """One registered Character Set that can be active as G0 or G1.

    Attributes:
        escape: the escape sequence that makes it active.
        codec: the codec of the Standard Library that knows its characters.
        width: bytes of one character.
        is_g1: it is active as G1, that is with bytes from 80H on.
        prefix: what the codec wants to see before each character.
        is_encodable: we also write it.
    """

    escape: bytes
    codec: str
    width: int = 1
    is_g1: bool = True
    prefix: bytes = b""
    is_encodable: bool = True

    def decode(self, run: bytes) -> str:
        """Return the text of a run of bytes of this set; U+FFFD for what is no character of it."""
        raised = run if self.is_g1 else bytes(byte | 0x80 for byte in run)
        characters = [raised[i : i + self.width] for i in range(0, len(raised), self.width)]
        try:
            return b"".join(self.prefix + character for character in characters).decode(self.codec)
        except UnicodeDecodeError:
            return "".join(map(self._decode_character, characters))

    def encode(self, character: str) -> bytes | None:
        """Return the bytes of one character, or None if the set has no such character."""
        if not self.is_encodable:
            return None
        try:
            encoded = character.encode(self.codec)
        except UnicodeEncodeError:
            return None
        code = encoded.removeprefix(self.prefix)
        if len(code) != self.width or len(encoded) != self.width + len(self.prefix):
            return None
        if min(code) < _LOWEST_G1_BYTE_OF_WIDTH[self.width]:
            return None
        return code if self.is_g1 else bytes(byte & 0x7F for byte in code)

    def _decode_character(self, code: bytes) -> str:
        """Decode one character of a run that is damaged somewhere."""
        try:
            text = (self.prefix + code).decode(self.codec)
        except UnicodeDecodeError:
            return _REPLACEMENT
        return text if len(code) == self.width else _REPLACEMENT


# In both single-byte G0 sets 5CH and 7EH are read as backslash and tilde: ISO-IR 14 shows them as
# yen and overline, but 5CH delimits in it, and senders mean the ASCII characters (PS3.5 6.1.2.3).
ISO_646 = CodeElement(b"\x1b(B", "ascii", is_g1=False)
ISO_IR_14 = CodeElement(b"\x1b(J", "ascii", is_g1=False)
ISO_IR_13 = CodeElement(b"\x1b)I", "euc_jp", prefix=b"\x8e")
JIS_X_0208 = CodeElement(b"\x1b$B", "euc_jp", width=2, is_g1=False)
JIS_X_0212 = CodeElement(b"\x1b$(D", "euc_jp", width=2, is_g1=False, prefix=b"\x8f")
KS_X_1001 = CodeElement(b"\x1b$)C", "euc_kr", width=2)
# Few readers know IR 58, and ISO_IR 192 carries the same text: read it, never write it (rule D-21).
GB_2312 = CodeElement(b"\x1b$)A", "gb2312", width=2, is_encodable=False)

# Number in the Defined Term -> sets that it makes active as G0 and G1 when it is value 1.
SINGLE_BYTE_SETS: dict[str, tuple[CodeElement, CodeElement | None]] = {
    "6": (ISO_646, None),
    "13": (ISO_IR_14, ISO_IR_13),
    "100": (ISO_646, CodeElement(b"\x1b-A", "iso8859_1")),
    "101": (ISO_646, CodeElement(b"\x1b-B", "iso8859_2")),
    "109": (ISO_646, CodeElement(b"\x1b-C", "iso8859_3")),
    "110": (ISO_646, CodeElement(b"\x1b-D", "iso8859_4")),
    "126": (ISO_646, CodeElement(b"\x1b-F", "iso8859_7")),
    "127": (ISO_646, CodeElement(b"\x1b-G", "iso8859_6")),
    "138": (ISO_646, CodeElement(b"\x1b-H", "iso8859_8")),
    "144": (ISO_646, CodeElement(b"\x1b-L", "iso8859_5")),
    "148": (ISO_646, CodeElement(b"\x1b-M", "iso8859_9")),
    "166": (ISO_646, CodeElement(b"\x1b-T", "iso8859_11")),
    "203": (ISO_646, CodeElement(b"\x1b-b", "iso8859_15")),
}
MULTI_BYTE_SETS = {"87": JIS_X_0208, "159": JIS_X_0212, "149": KS_X_1001, "58": GB_2312}

_BY_ESCAPE = {
    element.escape: element
    for element in (
        *(element for pair in SINGLE_BYTE_SETS.values() for element in pair if element),
        *MULTI_BYTE_SETS.values(),
    )
}
_RUN = re.compile(rb"[\x00-\x1a\x1c-\x20\x7f]+|[\x21-\x7e]+|[\x80-\xff]+")


@dataclass(frozen=True, slots=True)
class CodeExtension:
    """The Character Sets of one Specific Character Set: those of value 1 and the further ones.

    Attributes:
        g0: the single-byte set that value 1 makes active as G0.
        g1: the set that value 1 makes active as G1; None for none.
        extensions: the sets of the further values, in their order.
    """

    g0: CodeElement
    g1: CodeElement | None
    extensions: tuple[CodeElement, ...]

    def decode(self, value: bytes, delimiters: str) -> str:
        """Return the text of a Value Field without its escape sequences; U+FFFD for damage.

        Known escape sequences are obeyed even if their set was not declared.

        Args:
            value: the Value Field.
            delimiters: the characters after which value 1 is active again.

        Source: PS3.5 6.1.2.5.3.
        """
        text = []
        g0, g1 = self.g0, self._g1_for_reading
        position = 0
        while position < len(value):
            if value[position] == _ESCAPE:
                element = _element_at(value, position)
                if element is None:
                    text.append(_REPLACEMENT)
                    position += 1
                    continue
                g0, g1 = (g0, element) if element.is_g1 else (element, g1)
                position += len(element.escape)
                continue
            run = _run_at(value, position)
            position += len(run)
            piece = _decode_run(run, g0, g1)
            text.append(piece)
            if run[0] < 0x80 and _is_back_to_value_1(piece, delimiters):  # noqa: PLR2004
                g0, g1 = self.g0, self._g1_for_reading
        return "".join(text)

    def encode(self, text: str, delimiters: str, *, is_person_name: bool = False) -> bytes | None:
        """Return the Value Field for a text, or None if the sets cannot carry it.

        Args:
            text: the whole Value Field with its delimiters.
            delimiters: the characters before which value 1 has to be active again.
            is_person_name: the first component group of each value is written without escape
                sequences, so it has to fit into value 1.

        Source: PS3.5 6.1.2.5.3, 6.2.1.2.
        """
        writer = _Writer(self)
        is_alphabetic = is_person_name
        for character in text:
            if character.isascii():
                if character < " " or character in delimiters:
                    writer.switch_back()
                if is_person_name and character in "\\=":
                    is_alphabetic = character == "\\"
                writer.add_ascii(character)
            elif not writer.add(character, may_escape=not is_alphabetic):
                return None
        writer.switch_back()
        encoded = bytes(writer.encoded)
        # Some characters have two codes or combine with their neighbours: what cannot be read back
        # as it was is not carried.
        return encoded if self.decode(encoded, delimiters) == text else None

    @property
    def _g1_for_reading(self) -> CodeElement | None:
        """The G1 of value 1; without one, that of the senders that forget to escape."""
        return self.g1 or next((element for element in self.extensions if element.is_g1), None)


class _Writer:
    """The bytes written so far, and the sets that are active behind them."""

    def __init__(self, code_extension: CodeExtension) -> None:
        self.encoded = bytearray()
        self._value_1 = code_extension
        self._g0 = code_extension.g0
        self._g1 = code_extension.g1

    def add_ascii(self, character: str) -> None:
        """Add a character that every single-byte G0 set has."""
        if self._g0.width > 1:
            self._activate(self._value_1.g0)
        self.encoded += character.encode("ascii")

    def add(self, character: str, *, may_escape: bool) -> bool:
        """Add a character of the active sets or, where allowed, of another; False if none can."""
        active = [element for element in (self._g0, self._g1) if element]
        for element in (*active, *self._value_1_elements(), *self._value_1.extensions):
            is_active = element in active
            code = element.encode(character) if is_active or may_escape else None
            if code is None:
                continue
            if not is_active:
                self._activate(element)
            self.encoded += code
            return True
        return False

    def switch_back(self) -> None:
        """Make the sets of value 1 active; only those it has need an escape sequence."""
        for element in self._value_1_elements():
            if element not in (self._g0, self._g1):
                self._activate(element)
        self._g1 = self._value_1.g1

    def _value_1_elements(self) -> list[CodeElement]:
        return [element for element in (self._value_1.g0, self._value_1.g1) if element]

    def _activate(self, element: CodeElement) -> None:
        self.encoded += element.escape
        if element.is_g1:
            self._g1 = element
        else:
            self._g0 = element


def _element_at(value: bytes, position: int) -> CodeElement | None:
    """The set whose escape sequence stands at a position."""
    for length in (3, 4):
        element = _BY_ESCAPE.get(value[position : position + length])
        if element:
            return element
    return None


def _run_at(value: bytes, position: int) -> bytes:
    """The bytes from a position on that are of one kind: controls and spaces, G0, or G1."""
    match = _RUN.match(value, position)
    return match.group() if match else value[position : position + 1]


def _decode_run(run: bytes, g0: CodeElement, g1: CodeElement | None) -> str:
    """The text of a run of one kind under the active sets."""
    if run[0] >= 0x80:  # noqa: PLR2004
        return g1.decode(run) if g1 else _REPLACEMENT * len(run)
    if g0.width == 1 or run[0] in b" \x7f" or run[0] < 0x20:  # noqa: PLR2004
        return run.decode("ascii")
    return g0.decode(run)


def _is_back_to_value_1(piece: str, delimiters: str) -> bool:
    """Whether a piece of text holds a control character or a delimiter."""
    if not piece.isascii():
        return False  # a run of two-byte characters; the ideographic space is not printable
    return not piece.isprintable() or any(delimiter in piece for delimiter in delimiters)
