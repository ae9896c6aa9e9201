"""YAML text as plain data, with the place of every key and value.

Read as the YAML 1.2 core schema: only ``true`` and ``false`` are truth values, ``14:00`` is text, keys are text always.
Built from the parser's events rather than by its constructor, to keep the places, to report every repeated key at
once, and to bound nesting and aliases. Error texts never quote what stands in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_CHARACTERS = 16 * 2**20
MAX_DEPTH = 32
MAX_VALUES, MAX_GROWTH = 100_000, 10
"""Values after aliases are expanded: so many, or so many times those that are written, whichever is more."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "<<"
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_NULL = ("", "~", "null", "Null", "NULL")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,20}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")

_ONE_QUOTED = len("','")
"""Single characters are the parser's own; more may be the file's text."""

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, from 1."""


class DocumentError(Exception):
    """Text that is not one YAML mapping. ``found`` and ``allowed`` never quote it."""

    def __init__(self, place: Place, found: str, allowed: str) -> None:
        super().__init__(f"found {found}, allowed {allowed}")
        self.place = place
        self.found = found
        self.allowed = allowed


@dataclass
class Document:
    """What a text says, and where."""

    data: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    repeated: list[tuple[Path, Place]] = field(default_factory=list)
    """Keys that stand again in their mapping; the first one counts."""


@dataclass(eq=False)
class _Node:
    place: Place
    kind: str
    scalar: Any = None
    items: list[_Node] = field(default_factory=list)
    pairs: list[tuple[_Node, _Node]] = field(default_factory=list)


def read(text: str) -> Document:
    """The text's data and places. Raises ``DocumentError``."""
    if len(text) > MAX_CHARACTERS:
        raise DocumentError((1, 1), f"{len(text)} characters", f"at most {MAX_CHARACTERS}")
    try:
        composer = _Composer(text)
        root = composer.compose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise DocumentError(place, f"a YAML error ({_problem(error)})", "YAML") from None
    except (yaml.YAMLError, ValueError):
        raise DocumentError(_first_bad_place(text), "a character that YAML does not allow", "YAML") from None
    document = Document()
    document.data = (
        _Expander(document, max(MAX_VALUES, MAX_GROWTH * composer.nodes)).expand(root, (), 0) if root else None
    )
    return document


def _problem(error: yaml.MarkedYAMLError) -> str:
    """The parser's words without what they quote: a secret that begins with ``*`` or ``!`` is an alias or tag to it."""
    words = ", ".join(part for part in (error.context, error.problem) if part)
    return " ".join(_QUOTED.sub(lambda quoted: quoted[0] if len(quoted[0]) <= _ONE_QUOTED else "…", words).split())


def _first_bad_place(text: str) -> Place:
    for number, line in enumerate(text.split("\n"), 1):
        for column, character in enumerate(line, 1):
            if not (character.isprintable() or character in "\t\r"):
                return number, column
    return 1, 1


class _Composer:
    """Events to nodes; an alias is the very node of its anchor."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._anchors: dict[str, _Node] = {}
        self.nodes = 0

    def compose(self) -> _Node | None:
        events = iter(yaml.parse(self._text, Loader=_LOADER))
        root: _Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise DocumentError(_place(event), "a second document", "one YAML document")
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 0)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> _Node:
        place = _place(event)
        if depth > MAX_DEPTH:
            raise DocumentError(place, f"more than {MAX_DEPTH} levels", "less nesting")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise DocumentError(place, "an alias (*) without its anchor (&)", "text in quotes, or a known anchor")
            return self._anchors[event.anchor]
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            raise DocumentError(place, "a YAML tag (!)", "text in quotes, or a value without a tag")
        self.nodes += 1
        node = _Node(place, "scalar")
        if event.anchor:
            self._anchors[event.anchor] = node
        if isinstance(event, yaml.ScalarEvent):
            plain = event.tag is None and event.implicit[0]
            node.scalar = _resolve(event.value) if plain else event.value
            node.kind = "merge" if plain and event.value == _MERGE else "scalar"
            node.items = [_Node(place, "text", event.value)]
        elif isinstance(event, yaml.SequenceStartEvent):
            node.kind = "list"
            node.items = list(self._until(yaml.SequenceEndEvent, events, depth))
        else:
            node.kind = "mapping"
            parts = list(self._until(yaml.MappingEndEvent, events, depth))
            node.pairs = list(zip(parts[::2], parts[1::2], strict=True))
        return node

    def _until(self, end: type, events: Iterator[Any], depth: int) -> Iterator[_Node]:
        for event in events:
            if isinstance(event, end):
                return
            yield self._node(event, events, depth + 1)


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _resolve(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL_FLOAT.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


class _Expander:
    """Nodes to data, aliases and merges followed."""

    def __init__(self, document: Document, max_values: int) -> None:
        self._document = document
        self._left = max_values

    def expand(self, node: _Node, path: Path, depth: int) -> Any:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise DocumentError(node.place, "aliases (*) that expand without end or to too much", "fewer aliases")
        self._document.values[path] = node.place
        if node.kind == "list":
            return [self.expand(item, (*path, index), depth + 1) for index, item in enumerate(node.items)]
        if node.kind == "mapping":
            return self._mapping(node, path, depth)
        return node.scalar

    def _mapping(self, node: _Node, path: Path, depth: int) -> dict[str, Any]:
        chosen: dict[str, tuple[_Node, _Node]] = {}
        merges: list[_Node] = []
        for key, value in node.pairs:
            if key.kind not in ("scalar", "merge"):
                raise DocumentError(key.place, "a key that is a list or a mapping", "keys that are text")
            name = key.items[0].scalar
            if name in chosen or (key.kind == "merge" and merges):
                self._document.repeated.append(((*path, name), key.place))
            elif key.kind == "merge":
                merges.append(value)
            else:
                chosen[name] = key, value
        for merge in merges:
            self._merge(merge, chosen)
        for name, (key, _) in chosen.items():
            self._document.keys[*path, name] = key.place
        return {name: self.expand(value, (*path, name), depth + 1) for name, (_, value) in chosen.items()}

    def _merge(self, merged: _Node, chosen: dict[str, tuple[_Node, _Node]], depth: int = 0) -> None:
        """Add the pairs of what ``<<`` names, where the mapping has no such key of its own."""
        sources = merged.items if merged.kind == "list" else [merged]
        for source in sources:
            self._left -= 1 + len(source.pairs)
            if source.kind != "mapping" or depth > MAX_DEPTH or self._left < 0:
                raise DocumentError(merged.place, "something else after <<", "a mapping, or a list of mappings")
            for key, value in source.pairs:
                if key.kind == "merge":
                    self._merge(value, chosen, depth + 1)
                elif key.kind == "scalar":
                    chosen.setdefault(key.items[0].scalar, (key, value))
