"""From the values of a match to the Response Identifier that states them.

An archive is listed with a hundred thousand answers that differ in their values only. So everything
that the query decides is made once for it: which elements there are, in which order, and the
headers of each. For a match whose text is plain ASCII, as nearly all are, what is left is to put
text and lengths between the headers. Text in other characters, sequences and numbers in binary take
the longer way; both ways give the same bytes.

Source: PS3.4 C.4.1.1.3.2; PS3.5 7.1; rules C-26, D-3 to D-8, D-11, D-18.
"""

import struct
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

from pacsnode.dicom.attributes import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    SPECIFIC_CHARACTER_SET,
)
from pacsnode.dicom.character_sets import (
    AFFECTED_VRS,
    DEFAULT_CHARACTER_SETS,
    choose_character_sets,
)
from pacsnode.dicom.data_elements import DataElement, encode_elements
from pacsnode.dicom.date_time import normalise_date, normalise_time
from pacsnode.dicom.matching import matching_items
from pacsnode.dicom.query import ItemRequest, Query, ReturnKey
from pacsnode.dicom.transfer_syntax import Encoding
from pacsnode.dicom.values import TEXT_VRS, Item, ItemElement, Value, encode_value

ONLINE: Final = "ONLINE"
UNAVAILABLE: Final = "UNAVAILABLE"

# The length field of an element whose text has so many characters, as Latin-1 text: made for short
# ones only, as a description may be.
_LONGEST_PLAIN_TEXT: Final = 1024
_SHORT_LENGTHS: Final = tuple(
    struct.pack("<H", length + length % 2).decode("latin-1")
    for length in range(_LONGEST_PLAIN_TEXT + 1)
)
_LONG_LENGTHS: Final = tuple(
    struct.pack("<L", length + length % 2).decode("latin-1")
    for length in range(_LONGEST_PLAIN_TEXT + 1)
)
_SHORT_HEADER_LENGTH: Final = 8  # tag, VR, and 16 bits for the length
_ESC: Final = "\x1b"

# Of an element of the short way: all that stands before its length, the length fields by the number
# of characters, and the padding.
_Frame = tuple[str, tuple[str, ...], str]


class AnswerEncoder:
    """Encodes the matches of one query."""

    def __init__(
        self,
        query: Query,
        retrieve_ae_title: str,
        encoding: Encoding,
        *,
        match_unknown: bool = False,
        offset_minutes: int = 0,
    ) -> None:
        """Make what all answers to a query have in common.

        Args:
            query: what was asked.
            retrieve_ae_title: where the instances can be had: our title.
            encoding: of the presentation context; little endian and not deflated.
            match_unknown: of items, what the query was matched with (rule C-5).
            offset_minutes: likewise (rule C-20).
        """
        self._match_unknown = match_unknown
        self._offset_minutes = offset_minutes
        self._query = query
        self._encoding = encoding
        places = sorted(range(len(query.return_keys)), key=lambda at: query.return_keys[at].tag)
        self._keys = tuple(query.return_keys[at] for at in places)
        # In the order of tags; itemgetter returns a tuple for two places or more only.
        self._in_order = itemgetter(*places, 0, 0) if places else None
        self._control = (
            DataElement(QUERY_RETRIEVE_LEVEL, "CS", query.level.name.encode()),
            DataElement(RETRIEVE_AE_TITLE, "AE", retrieve_ae_title.encode()),
        )
        self._dates = _places_of(self._keys, "DA")
        self._times = _places_of(self._keys, "TM")
        self._not_text = tuple(
            at for at, key in enumerate(self._keys) if key.attribute.vr not in TEXT_VRS
        )
        self._frames = {
            availability: self._framed(availability) for availability in (ONLINE, UNAVAILABLE)
        }
        self._has_plain_creators = all(_is_plain(name) for _, name in query.private_creators)

    def encode(self, values: Sequence[Value | None], availability: str = ONLINE) -> bytes:
        """Return the Response Identifier of a match.

        Args:
            values: of query.return_keys, in their order; an Attribute without a value (None or
                empty) is returned with zero length.
            availability: of the match: ONLINE or UNAVAILABLE (rule D-7).
        """
        in_order: Sequence[Value | None] = ()
        if self._in_order is not None:
            in_order = self._in_order(values)[:-2]
        texts = self._plain_texts(in_order)
        answer = None if texts is None else self._put_together(texts, availability)
        return self._encode_any(in_order, availability) if answer is None else answer

    def _plain_texts(self, in_order: Sequence[Value | None]) -> list[str] | None:
        """Return values as they are answered; None if not all are text in plain characters."""
        for at in self._not_text:
            if in_order[at]:
                return None
        texts: list[str] = [text or "" for text in in_order]  # type: ignore[misc]  # see above
        for at in self._dates:
            if "." in texts[at]:
                texts[at] = normalise_date(texts[at])
        for at in self._times:
            if ":" in texts[at]:
                texts[at] = normalise_time(texts[at])
        return texts if self._has_plain_creators and _is_plain("".join(texts)) else None

    def _put_together(self, texts: Sequence[str], availability: str) -> bytes | None:
        """Return the answer with these texts; None if one is too long for that."""
        frames, end = self._frames[availability]
        parts: list[str] = []
        try:
            for (start, lengths, padding), text in zip(frames, texts, strict=True):
                length = len(text)
                if length & 1:
                    parts += (start, lengths[length], text, padding)
                else:
                    parts += (start, lengths[length], text)
        except IndexError:
            return None
        parts.append(end)
        # Headers have bytes of any value; each was made a character of the same number.
        return "".join(parts).encode("latin-1")

    def _framed(self, availability: str) -> tuple[tuple[_Frame, ...], str]:
        """Return the frames of the keys, in the order of tags, and what follows the last one."""
        fixed = [*self._fixed(availability), *self._creators()]
        elements = {element.tag: element for element in fixed}
        frames, start = [], b""
        for tag, key in sorted(
            [*((tag, None) for tag in elements), *((key.tag, key) for key in self._keys)],
            key=itemgetter(0),
        ):
            if key is None:
                start += encode_elements([elements[tag]], self._encoding)
                continue
            vr = key.attribute.vr
            # Without a value: what stands before the length, and a length of 0.
            head = encode_elements([DataElement(tag, vr, b"")], self._encoding)
            is_short = len(head) == _SHORT_HEADER_LENGTH and not self._encoding.is_implicit_vr
            length_size = 2 if is_short else 4
            frames.append(
                (
                    (start + head[:-length_size]).decode("latin-1"),
                    _SHORT_LENGTHS if is_short else _LONG_LENGTHS,
                    "\0" if vr == "UI" else " ",
                )
            )
            start = b""
        return tuple(frames), start.decode("latin-1")

    def _fixed(self, availability: str) -> Iterator[DataElement]:
        """Yield the elements that no key asks for."""
        yield from self._control
        yield DataElement(INSTANCE_AVAILABILITY, "CS", availability.encode())

    def _creators(self) -> Iterator[DataElement]:
        """Yield the private creators, where the default repertoire carries them."""
        for tag, name in self._query.private_creators:
            if _is_plain(name):
                yield DataElement(tag, "LO", name.encode("ascii"))

    def _encode_any(self, in_order: Sequence[Value | None], availability: str) -> bytes:
        """Encode values of any kind; they are in the order of tags."""
        values = [
            (key.tag, key.attribute.vr, self._returned(key, value or ""))
            for key, value in zip(self._keys, in_order, strict=True)
        ]
        values += [(tag, "LO", name) for tag, name in self._query.private_creators]
        texts = [text for _, vr, value in values for text in _affected_texts(vr, value)]
        character_sets = choose_character_sets(
            (text for vr, text in texts if vr != "PN"),
            self._query.character_sets,
            person_names=[text for vr, text in texts if vr == "PN"],
        )
        elements = list(self._fixed(availability))
        if character_sets is not None:
            terms = "\\".join(character_sets.terms)
            elements.append(DataElement(SPECIFIC_CHARACTER_SET, "CS", terms.encode()))
        used = character_sets or DEFAULT_CHARACTER_SETS
        for tag, vr, value in values:
            encoded = encode_value(value, vr, used, self._encoding)
            elements.append(DataElement(tag, vr, encoded))
        elements.sort(key=lambda element: element.tag)
        return encode_elements(elements, self._encoding)

    def _returned(self, key: ReturnKey, value: Value) -> Value:
        """Return a value as it is answered: of a sequence, only what was asked for (rule C-26)."""
        if not isinstance(value, tuple):
            return _in_modern_form(key.attribute.vr, value)
        if key.matching is not None:
            value = matching_items(
                key.matching,
                value,
                match_unknown=self._match_unknown,
                offset_minutes=self._offset_minutes,
            )
        return _items_asked_for(value, key.items)


def _places_of(keys: Sequence[ReturnKey], vr: str) -> tuple[int, ...]:
    return tuple(at for at, key in enumerate(keys) if key.attribute.vr == vr)


def _is_plain(text: str) -> bool:
    """Whether the default repertoire carries a text (rule D-18)."""
    return text.isascii() and _ESC not in text


def _items_asked_for(items: Sequence[Item], request: ItemRequest | None) -> tuple[Item, ...]:
    """Return items with the elements that a request names; with all of them if it names none.

    An element that an item does not have is returned without a value (rule D-5).
    """
    if request is None:
        return tuple(items)
    wanted = sorted(request.elements.items())
    return tuple(
        {tag: _element_asked_for(item.get(tag), vr, nested) for tag, (vr, nested) in wanted}
        for item in items
    )


def _element_asked_for(
    element: ItemElement | None, vr: str, request: ItemRequest | None
) -> ItemElement:
    if element is None:
        return ItemElement(vr, "")
    if isinstance(element.value, tuple):
        return ItemElement(element.vr, _items_asked_for(element.value, request))
    return ItemElement(element.vr, _in_modern_form(element.vr, element.value))


def _in_modern_form(vr: str, value: Value) -> Value:
    """Return a value as stored, but dates and times in today's form (rule D-8)."""
    if vr == "DA" and isinstance(value, str):
        return normalise_date(value)
    if vr == "TM" and isinstance(value, str):
        return normalise_time(value)
    return value


def _affected_texts(vr: str, value: Value) -> Iterator[tuple[str, str]]:
    """Yield VR and text of what a character set affects, also in items (rules D-16, D-18)."""
    if isinstance(value, tuple):
        for item in value:
            for element in item.values():
                yield from _affected_texts(*element)
    elif isinstance(value, str) and vr in AFFECTED_VRS:
        yield vr, value
