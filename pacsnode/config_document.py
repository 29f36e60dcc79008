"""Reads configuration: a YAML file, variables of the environment, and what to say of faults.

How it works: the YAML text is read as a tree of nodes, not as plain values, so that a fault can
quote what the administrator wrote and a key given twice is seen. Which keys there are, the models
of config.py say.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pacsnode.config_checks import NotTextError, NotWholeError

_PREFIX = "PACSNODE_"
_NOT_A_SETTING = "PACSNODE_CONFIG"  # names the file; read by the command line
_LONGEST_VALUE_SHOWN = 60

_TAG = "tag:yaml.org,2002:"
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_READ_AS = {
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "timestamp": "a date",
    "null": "nothing",
}

_ALLOWED = {
    "bool_type": "true or false",
    "tuple_type": "a list, such as [A, B]",
}

_Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in the configuration.

    Attributes:
        path: where: a YAML path such as `remote_aes[1].port`, the name of a variable of the
            environment, or the name of the file if the fault is in the file as a whole.
        value: what stands there, as it is written; at most 60 characters, printable.
        allowed: what is allowed there.
    """

    path: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.path}: {self.value}: {self.allowed}"


class _Mark(Protocol):
    """A place in a YAML text, counted from 0."""

    line: int
    column: int


class Document:
    """What was read so far: the values, how each of them is written, and the faults found.

    Attributes:
        values: nested by section and key; None for a section of which nothing was read.
        faults: in the order in which they were found.
    """

    def __init__(
        self,
        settings: type[BaseModel],
        list_entries: Mapping[tuple[str, ...], type[BaseModel]],
    ) -> None:
        """Start with nothing read.

        Args:
            settings: the whole of the keys; a field that is a model is a section.
            list_entries: the keys of an entry, for the lists whose entries have keys; and of the
                sections in such an entry, by the path without the place in the list.
        """
        self._settings = settings
        self._list_entries = list_entries
        # Every section is there, so that its defaults, too, are checked in this reading.
        self.values: dict[str, object] = {leaf[0]: None for leaf in leaves_of(settings) if leaf[1:]}
        self.faults: list[Fault] = []
        self._nodes: dict[_Location, yaml.Node] = {}
        self._variables: dict[_Location, str] = {}  # the settings that come from a variable

    def add_file(self, path: Path) -> None:
        """Read the file's settings."""
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            self._add(str(path), error.strerror or "unreadable", "a file that can be read")
            return
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._add(str(path), f"line {line}", "text in UTF-8")
            return
        node = self._compose(text, str(path))
        if isinstance(node, yaml.MappingNode):
            self.values |= self._read_mapping(node, ())
        elif node:
            self._add(str(path), _show_node(node), "settings, each as `key: value`")

    def add_environment(self, environment: Mapping[str, str]) -> None:
        """Put the variables of the environment over what was read."""
        leaves = {_PREFIX + "__".join(leaf).upper(): leaf for leaf in leaves_of(self._settings)}
        for name in sorted(environment):
            if name not in leaves:
                if name.startswith(_PREFIX) and name != _NOT_A_SETTING:
                    self._add(name, environment[name], _suggest_variable(name, leaves))
                continue
            node = self._compose(environment[name], name)
            if node:
                self._variables[leaves[name]] = name
                self._put(leaves[name], self._read(node, leaves[name]))

    def add_errors(self, errors: list[ErrorDetails]) -> None:
        """Add what pydantic found."""
        for error in errors:
            location = error["loc"]
            node = None if error["type"] == "missing" else self._nodes.get(location)
            self._add(self._show_location(location), _show_node(node), self._allowed(error, node))

    def _add(self, path: str, value: str, allowed: str) -> None:
        shown = _printable(value)
        if len(shown) > _LONGEST_VALUE_SHOWN:
            shown = shown[: _LONGEST_VALUE_SHOWN - 3] + "..."
        self.faults.append(Fault(_printable(path), shown, allowed))

    def _compose(self, text: str, source: str) -> yaml.Node | None:
        """Return the tree of a YAML text; None if it is faulty, which is then noted."""
        try:
            events = yaml.parse(text, Loader=yaml.SafeLoader)
            alias = next((event for event in events if isinstance(event, yaml.AliasEvent)), None)
            if alias:  # no setting needs them, and nested ones grow beyond any size
                problem = "found an alias; a text that starts with * is put in quotes"
                self._add(source, _show_mark(alias.start_mark), f"readable YAML ({problem})")
                return None
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            self._add(source, f"character {error.position + 1}", "no control characters")
            return None
        except yaml.MarkedYAMLError as error:
            problem = error.problem or "cannot be understood"
            if "'\\t'" in problem:
                problem = "found a tab; YAML is indented with spaces"
            self._add(source, _show_mark(error.problem_mark), f"readable YAML ({problem})")
            return None
        return node or yaml.ScalarNode(f"{_TAG}null", "")

    def _read(self, node: yaml.Node, location: _Location) -> object:
        self._nodes[location] = node
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._read(item, (*location, i)) for i, item in enumerate(node.value))
        return _read_scalar(node)

    def _read_mapping(self, mapping: yaml.MappingNode, location: _Location) -> dict[str, object]:
        values: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key_node, node in mapping.value:
            key, line = _show_node(key_node), key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else key
            path = (*location, key)
            if key in values:
                twice = f"in line {lines[key]} and again in line {line}"
                self._add(self._show_location(path), twice, "each key once")
                continue
            values[key], lines[key] = self._read(node, path), line
        return values

    def _put(self, leaf: _Location, value: object) -> None:
        section = self.values
        for name in leaf[:-1]:
            inner = section.get(str(name))
            inner = {} if inner is None else inner
            if not isinstance(inner, dict):
                return  # the file is at fault there, and is told so
            section[str(name)] = inner
            section = inner
        section[str(leaf[-1])] = value

    def _show_location(self, location: _Location) -> str:
        for leaf, variable in self._variables.items():
            if location[: len(leaf)] == leaf:
                return variable + show_path(location[len(leaf) :])
        return show_path(location)

    def _allowed(self, error: ErrorDetails, node: yaml.Node | None) -> str:
        """Say in the administrator's words what is allowed where pydantic found an error."""
        location, context = error["loc"], error.get("ctx", {})
        match error["type"]:
            case "value_error":
                reason: object = context["error"]
                allowed = f"{reason}{_hint(reason, node)}"
            case "extra_forbidden":
                allowed = self._suggest_key(location)
            case "missing":
                allowed = self._say_keys(location[:-1])
            case "model_type":
                allowed = self._say_keys(location)
            case "literal_error":
                allowed = str(context["expected"]).replace("'", "")
            case other:
                allowed = _ALLOWED.get(other, error["msg"])
        return allowed

    def _say_keys(self, section: _Location) -> str:
        return "keys with their values; the keys are " + ", ".join(
            self._section_at(section).model_fields
        )

    def _suggest_key(self, location: _Location) -> str:
        key, known = str(location[-1]), list(self._section_at(location[:-1]).model_fields)
        elsewhere = [show_path(leaf) for leaf in leaves_of(self._settings) if leaf[-1] == key]
        if near := difflib.get_close_matches(key.lower(), known, n=1) or elsewhere:
            return f"unknown key; did you mean {near[0]}?"
        return "unknown key; known here: " + ", ".join(known)

    def _section_at(self, location: _Location) -> type[BaseModel]:
        """Return the section at a location: the whole, a section within, or a list's entry."""
        section = self._settings
        path: tuple[str, ...] = ()
        for step in location:
            if isinstance(step, int):
                continue
            annotation = section.model_fields[step].annotation
            path = (*path, step)
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
            else:
                section = self._list_entries[path]
        return section


def leaves_of(section: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key that is not a section, in the order of the file."""
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from ((name, *leaf) for leaf in leaves_of(info.annotation))
        else:
            yield (name,)


def show_path(location: _Location) -> str:
    """Return a location as the administrator writes it, such as `remote_aes[1].port`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def _read_scalar(node: yaml.Node) -> object:
    """Return the value that YAML means, or an object that no setting accepts.

    Numbers are taken only as they are said: YAML reads 0104 as 68 and 10:30 as 630.
    """
    match node.tag.removeprefix(_TAG):
        case "str":
            return node.value
        case "null":
            return None
        case "bool":
            return yaml.SafeLoader.bool_values.get(node.value.lower())
        case "int" if _PLAIN_NUMBER.fullmatch(node.value):
            return int(node.value)
        case _:
            return object()


def _hint(reason: object, node: yaml.Node | None) -> str:
    """Say how to write what was probably meant, where YAML reads it as something else."""
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        return ""
    read_as = _READ_AS.get(node.tag.removeprefix(_TAG))
    if isinstance(reason, NotTextError) and read_as:
        return f"; YAML reads this as {read_as}: put it in quotes"
    if isinstance(reason, NotWholeError) and node.style and _PLAIN_NUMBER.fullmatch(node.value):
        return ", without quotes"
    if isinstance(reason, NotWholeError) and read_as == _READ_AS["int"]:
        return "" if _PLAIN_NUMBER.fullmatch(node.value) else ", in digits, without leading zero"
    return ""


def _suggest_variable(name: str, known: Iterable[str]) -> str:
    keys = [each.removeprefix(_PREFIX) for each in known]  # the prefix is like enough to anything
    if near := difflib.get_close_matches(name.removeprefix(_PREFIX).upper(), keys, n=1):
        return f"unknown variable; did you mean {_PREFIX}{near[0]}?"
    return f"unknown variable; {_PREFIX} starts the names of settings, such as {_PREFIX}PORT"


def _show_mark(mark: _Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"


def _show_node(node: yaml.Node | None) -> str:
    """Return a scalar as it is written, or say what there is instead."""
    if node is None:
        return "missing"
    if not isinstance(node, yaml.ScalarNode):
        kind = "list" if isinstance(node, yaml.SequenceNode) else "mapping"
        return f"a {kind}" if node.value else f"an empty {kind}"
    return f'"{node.value}"' if node.style else node.value or "nothing"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
