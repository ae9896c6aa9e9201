"""Parse YAML to plain data, with the position of every key and value.

Scalars follow the YAML 1.2 core schema: only ``true`` and ``false`` are booleans, ``14:00`` is text, keys are always
text. Nodes are expanded here rather than by PyYAML's constructor, to keep positions, to report all duplicate keys at
once, and to limit aliases. Error messages never quote the file, because it may contain secrets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_CHARACTERS = 16 * 2**20
MAX_DEPTH = 32
MAX_VALUES, MAX_GROWTH = 100_000, 10
"""Maximum number of values after expanding aliases: the larger of this number and this multiple of the nodes."""

_TAG = "tag:yaml.org,2002:"
_MERGE_TAG = f"{_TAG}merge"
_TEXT_TAG = f"{_TAG}str"
_CORE_SCHEMA: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", lambda _: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]{1,20}", int),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        lambda text: float(re.sub(r"\.(?=[iInN])", "", text)),
    ),
    "merge": ("<<", str),
}
"""Pattern and conversion of unquoted scalars, by tag; everything else is text."""
_CONVERSIONS = {_TAG + name: convert for name, (_, convert) in _CORE_SCHEMA.items()}

_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_MAX_QUOTED = len("','")
"""Maximum length of a quotation kept in an error message; anything longer may come from the file."""

_TOO_MANY_VALUES = "aliases (*) expand without end or to too many values; use fewer of them"

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, from 1."""


class DocumentError(Exception):
    """Text that is not one YAML document. The message never quotes it."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass
class Document:
    """Parsed data, and the positions of its keys and values."""

    data: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    repeated: list[tuple[Path, Place]] = field(default_factory=list)
    """Duplicate keys; the first one in each mapping is used."""


def read(text: str) -> Document:
    """Parse a YAML text. Raises ``DocumentError``."""
    if len(text) > MAX_CHARACTERS:
        raise DocumentError((1, 1), f"the text is too long: {len(text)} characters, maximum {MAX_CHARACTERS}")
    try:
        composer = _LOADER(text)
        root = composer.get_single_node()
    except yaml.composer.ComposerError as error:
        # the only remaining case, because _Composer handles unknown and repeated anchors
        message = "a second YAML document starts here; only one is allowed"
        raise DocumentError(_place_of_mark(error.problem_mark), message) from None
    except yaml.MarkedYAMLError as error:
        place = _place_of_mark(error.problem_mark or error.context_mark)
        raise DocumentError(place, f"invalid YAML: {_describe_problem(error)}") from None
    except (yaml.YAMLError, ValueError):
        raise DocumentError(_first_bad_place(text), "invalid YAML: character that YAML does not allow") from None
    document = Document()
    if root is not None:
        document.data = _Expander(document, max(MAX_VALUES, MAX_GROWTH * composer.nodes)).expand(root, (), 0)
    return document


class _Composer(yaml.composer.Composer):
    """PyYAML's composer without tags and with limited nesting. (The C extension's composer cannot be subclassed.)"""

    anchors: dict[str, Any]
    peek_event: Callable[[], Any]

    def get_single_node(self) -> Any:
        self.anchors = {}
        self.nodes = self._depth = 0
        return super().get_single_node()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if self._depth > MAX_DEPTH:
            raise DocumentError(_place(event), f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise DocumentError(_place(event), "alias (*) without an anchor (&); quote text that starts with *")
            return super().compose_node(parent, index)
        if event.tag not in (None, "!", _TEXT_TAG):
            raise DocumentError(_place(event), "YAML tags (!) are not supported; quote text that starts with !")
        if event.tag == "!":
            # PyYAML ignores this tag, which makes any scalar text
            event.tag = _TEXT_TAG
        # YAML allows redefining an anchor, PyYAML does not
        self.anchors.pop(event.anchor, None)
        self.nodes += 1
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _core_loader(parser: Any) -> Any:
    """Return a composer class for this parser that resolves scalars by the core schema."""
    members = {"__init__": parser.__init__, "yaml_implicit_resolvers": {}}
    loader: Any = type("CoreLoader", (_Composer, parser), members)
    for name, (pattern, _) in _CORE_SCHEMA.items():
        loader.add_implicit_resolver(_TAG + name, re.compile(rf"(?:{pattern})\Z"), None)
    return loader


_LOADER = _core_loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _describe_problem(error: yaml.MarkedYAMLError) -> str:
    """Return the parser's message without quotations: an unquoted secret with ``*`` or ``!`` looks like a name."""
    words = ", ".join(part for part in (error.context, error.problem) if part)
    return " ".join(_QUOTED.sub(lambda quoted: quoted[0] if len(quoted[0]) <= _MAX_QUOTED else "…", words).split())


def _first_bad_place(text: str) -> Place:
    for number, line in enumerate(text.split("\n"), 1):
        for column, character in enumerate(line, 1):
            if not (character.isprintable() or character in "\t\r"):
                return number, column
    return 1, 1


def _place(item: Any) -> Place:
    """Return where an event or node starts."""
    return _place_of_mark(item.start_mark)


def _place_of_mark(mark: Any) -> Place:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


class _Expander:
    """Converts nodes to data and resolves aliases and merges."""

    def __init__(self, document: Document, max_values: int) -> None:
        self._document = document
        self._left = max_values

    def expand(self, node: Any, path: Path, depth: int) -> Any:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise DocumentError(_place(node), _TOO_MANY_VALUES)
        self._document.values[path] = _place(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.expand(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._expand_mapping(node, path, depth)
        return _CONVERSIONS.get(node.tag, str)(node.value)

    def _expand_mapping(self, node: Any, path: Path, depth: int) -> dict[str, Any]:
        chosen: dict[str, tuple[Any, Any]] = {}
        merges: list[Any] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise DocumentError(_place(key), "a key must be text, not a list or mapping")
            is_merge = key.tag == _MERGE_TAG
            if key.value in chosen or (is_merge and merges):
                self._document.repeated.append(((*path, key.value), _place(key)))
            elif is_merge:
                merges.append(value)
            else:
                chosen[key.value] = key, value
        for merge in merges:
            self._merge(merge, chosen)
        for name, (key, _) in chosen.items():
            self._document.keys[*path, name] = _place(key)
        return {name: self.expand(value, (*path, name), depth + 1) for name, (_, value) in chosen.items()}

    def _merge(self, merged: Any, chosen: dict[str, tuple[Any, Any]], depth: int = 0) -> None:
        """Add the entries of the mappings that ``<<`` names; the mapping's own keys take precedence."""
        sources = merged.value if isinstance(merged, yaml.SequenceNode) else [merged]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise DocumentError(_place(merged), "the value of << must be a mapping or a list of mappings")
            self._left -= 1 + len(source.value)
            if depth > MAX_DEPTH or self._left < 0:
                raise DocumentError(_place(merged), _TOO_MANY_VALUES)
            for key, value in source.value:
                if key.tag == _MERGE_TAG:
                    self._merge(value, chosen, depth + 1)
                elif isinstance(key, yaml.ScalarNode):
                    chosen.setdefault(key.value, (key, value))
