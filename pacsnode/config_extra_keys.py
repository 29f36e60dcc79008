"""The entries of `catalog.extra_keys`: Attributes that are catalogued besides the others.

Source: rule D-5.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, GetPydanticSchema, ValidationInfo
from pydantic_core import core_schema
from pydicom.datadict import tag_for_keyword

from pacsnode.config_checks import Reading, Section, text
from pacsnode.dicom.attributes import MATCHED_VRS, Attribute, ExtraKeyError, extra_key
from pacsnode.dicom.information_model import Level

_VR: Final = "a VR whose values can be matched: " + " ".join(sorted(MATCHED_VRS))
_PRIVATE_CREATOR: Final = (
    "1 to 64 printable characters without backslash, and without spaces at the start and the end"
)
_TAG: Final = 'a tag, such as "(0018,0022)" or "(0019,xx0C)" for a private one'
_KEYWORD: Final = "a keyword of the data dictionary (PS3.6), such as KVP"


def _check_vr(vr: str) -> str:
    if vr and vr not in MATCHED_VRS:
        raise ValueError(_VR)
    return vr


def _check_private_creator(name: str) -> str:
    if len(name) > 64 or "\\" in name or name != name.strip() or not name.isprintable():  # noqa: PLR2004 - VR LO
        raise ValueError(_PRIVATE_CREATOR)
    return name


def _check_tag(text: str) -> str:
    if text and _tag_of(text) is None:
        raise ValueError(_TAG)
    return text


def _tag_of(text: str) -> int | None:
    """Return the number of a tag, of a private one with block 00; None if it is none."""
    match = re.fullmatch(r"\(?([0-9A-F]{4}),?([0-9A-F]{2}|XX)([0-9A-F]{2})\)?", text.upper())
    if match is None:
        return None
    group, block, element = match.groups()
    is_private = int(group, 16) % 2 == 1
    if is_private and block < "10":  # PS3.5 7.8.1: no block of private Attributes
        return None
    if is_private:
        block = "00"
    return None if block == "XX" else int(group + block + element, 16)


def _check_keyword(keyword: str) -> str:
    if keyword and tag_for_keyword(keyword) is None:
        raise ValueError(_KEYWORD)
    return keyword


def _check_tag_as_key(tag: str, validation: ValidationInfo) -> str:
    if tag:
        _check_extra_key({**validation.data, "tag": tag, "keyword": ""}, validation)
    return tag


def _check_as_key(keyword: str, validation: ValidationInfo) -> str:
    tag = validation.data.get("tag")
    if tag is None:  # it is at fault itself
        return keyword
    if bool(keyword) == bool(tag):
        raise ValueError("one of the two, tag or keyword")
    if keyword:
        _check_extra_key({**validation.data, "keyword": keyword}, validation)
    return keyword


def _check_extra_key(entry: Mapping[str, str], validation: ValidationInfo) -> None:
    """Refuse an entry of `catalog.extra_keys` that is none, or is listed twice."""
    if not {"level", "vr", "private_creator"} <= entry.keys():
        return  # they are at fault themselves
    name = _extra_key(entry).name
    seen = Reading.of(validation).seen
    if ("extra key", name) in seen:
        raise ValueError("an Attribute that is not listed twice")
    seen.add(("extra key", name))


def _extra_key(entry: Mapping[str, str]) -> Attribute:
    """Return the Attribute of an entry of `catalog.extra_keys` whose fields are sound.

    Raises:
        ExtraKeyError: it can be no key.
    """
    tag = tag_for_keyword(entry["keyword"]) if entry["keyword"] else _tag_of(entry["tag"])
    if tag is None:
        raise ExtraKeyError(_TAG)
    return extra_key(
        Level[entry["level"]],
        tag=tag,
        vr=entry["vr"] or None,
        private_creator=entry["private_creator"],
    )


def _show_extra_key(attribute: Attribute) -> dict[str, str]:
    """Return an extra key as an entry of `catalog.extra_keys`."""
    if not attribute.private_creator:
        return {"keyword": attribute.keyword, "level": attribute.level.name}
    return {
        "tag": attribute.keyword.partition(" ")[0],
        "private_creator": attribute.private_creator,
        "vr": attribute.vr,
        "level": attribute.level.name,
    }


class ExtraKeySection(Section):
    """One entry of `catalog.extra_keys`: first what the check of its tag or keyword needs."""

    level: Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]
    vr: Annotated[str, text(_check_vr, _VR)] = ""
    private_creator: Annotated[str, text(_check_private_creator, _PRIVATE_CREATOR)] = ""
    tag: Annotated[str, text(_check_tag, _TAG), AfterValidator(_check_tag_as_key)] = ""
    keyword: Annotated[str, text(_check_keyword, _KEYWORD), AfterValidator(_check_as_key)] = ""

    def as_attribute(self) -> Attribute:
        """Return the entry as it is used."""
        return _extra_key(self.model_dump())


ExtraKey = Annotated[
    Attribute,
    GetPydanticSchema(
        lambda _source, handler: core_schema.no_info_after_validator_function(
            ExtraKeySection.as_attribute,
            handler(ExtraKeySection),
            serialization=core_schema.plain_serializer_function_ser_schema(_show_extra_key),
        )
    ),
]
