"""Find and change the rows of JSON and XML responses; each row is the record of one stream.

Paths lead from the response to its rows: ``data/streams`` in JSON, ``rtmp/server/application/live/stream`` in XML,
``.`` if the response itself is the list or a single stream. Lists along the path are followed.
"""

from __future__ import annotations

import copy
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.etree import ElementTree

from exporter.platforms.testing import RecordedResponse

ITSELF = "."
HUGE_DIGITS = 400
"""Number of digits of a number beyond the range of float."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Row = Any
"""A dict in JSON, an element in XML."""
Change = Callable[[Row], list[Row]]
"""Returns the rows in place of one."""


class Document(ABC):
    """A decoded response; the methods about a single row return a changed copy."""

    @abstractmethod
    def rows(self, path: str) -> list[Row]:
        """Return the rows at a path."""

    @abstractmethod
    def change_rows(self, path: str, change: Change) -> None:
        """Replace each row at a path by the rows that ``change`` returns; for a single stream, by the last of them."""

    def replace_row(self, path: str, row: Row, rows: list[Row]) -> None:
        """Replace one row at a path by others."""
        self.change_rows(path, lambda other: rows if other is row else [other])

    def count_rows(self, path: str, count: str) -> None:
        """Update the number of rows at the path ``count``, if the list has one."""
        assert not count

    @abstractmethod
    def body(self) -> bytes:
        """Return the current body."""

    @abstractmethod
    def without_list(self, path: str) -> list[bytes]:
        """Return bodies without the list at a path, in each way that the format allows."""

    @abstractmethod
    def read(self, row: Row, field: str) -> str:
        """Return a field's text."""

    @abstractmethod
    def with_texts(self, row: Row, texts: Mapping[str, str]) -> Row:
        """Return the row with other texts, without characters that the format does not allow."""

    @abstractmethod
    def renamed(self, row: Row) -> Row:
        """Return the row with all fields renamed."""

    @abstractmethod
    def emptied(self, row: Row, keep: Iterable[str]) -> Row:
        """Return the row without values, except in the fields ``keep``."""

    @abstractmethod
    def with_huge_numbers(self, row: Row) -> Row:
        """Return the row with numbers beyond the range of float."""

    @abstractmethod
    def without_numbers(self) -> bytes:
        """Return the whole response with NaN and Infinity instead of numbers."""

    @abstractmethod
    def is_alone(self, path: str) -> bool:
        """Whether the response is a single stream."""


class JsonDocument(Document):
    """Rows are objects; their values may be objects and lists."""

    def __init__(self, body: bytes) -> None:
        self._data: Any = json.loads(body)

    def rows(self, path: str) -> list[Row]:
        return [row for holder in self._holders(path) for row in holder]

    def change_rows(self, path: str, change: Change) -> None:
        if self.is_alone(path):
            self._data = change(self._data)[-1]
            return
        for rows in self._holders(path):
            rows[:] = [changed for row in rows for changed in change(row)]

    def _holders(self, path: str) -> list[list[Row]]:
        """Return the lists of rows; a single row is wrapped in a list."""
        found = [self._data]
        for name in [] if path == ITSELF else path.split("/"):
            inner = [item for value in found for item in (value if isinstance(value, list) else [value])]
            found = [value[name] for value in inner if isinstance(value, dict) and name in value]
        return [value if isinstance(value, list) else [value] for value in found]

    def is_alone(self, path: str) -> bool:
        return path == ITSELF and isinstance(self._data, dict)

    def count_rows(self, path: str, count: str) -> None:
        *parents, name = count.split("/")
        holder = self._data
        for parent in parents:
            holder = holder[parent]
        if count:
            holder[name] = len(self.rows(path))

    def body(self) -> bytes:
        # json can't write such a float
        return json.dumps(self._data).replace(f'"{_HUGE_FLOAT}"', "1e999").encode()

    def without_list(self, path: str) -> list[bytes]:
        names = [] if path == ITSELF else path.split("/")
        bodies = [b"{}"]
        for depth in range(1, len(names) + 1):
            nested: Any
            for nested in (None, {}) if depth < len(names) else (None,):
                for name in reversed(names[:depth]):
                    nested = {name: nested}
                bodies.append(json.dumps(nested).encode())
        return bodies

    def read(self, row: Row, field: str) -> str:
        return str(row.get(field))

    def with_texts(self, row: Row, texts: Mapping[str, str]) -> Row:
        return {**row, **texts}

    def renamed(self, row: Row) -> Row:
        return {f"new_{name}": value for name, value in row.items()}

    def emptied(self, row: Row, keep: Iterable[str]) -> Row:
        return {name: value if name in keep else None for name, value in row.items()}

    def with_huge_numbers(self, row: Row) -> Row:
        return _json_numbers(row, lambda value: 10**HUGE_DIGITS if isinstance(value, int) else _HUGE_FLOAT)

    def without_numbers(self) -> bytes:
        changed = _json_numbers(self._data, lambda value: float("nan") if isinstance(value, int) else float("inf"))
        return json.dumps(changed).encode()


_HUGE_FLOAT = "a float of 400 digits"


def _json_numbers(data: Any, change: Callable[[float], Any]) -> Any:
    if isinstance(data, dict):
        return {name: _json_numbers(value, change) for name, value in data.items()}
    if isinstance(data, list):
        return [_json_numbers(value, change) for value in data]
    return change(data) if isinstance(data, int | float) and not isinstance(data, bool) else data


class XmlDocument(Document):
    """Rows are elements. ``@name`` is an attribute of a row; any other field is a child element."""

    def __init__(self, body: bytes) -> None:
        self._root = ElementTree.fromstring(body)

    def rows(self, path: str) -> list[Row]:
        root, _, below = path.partition("/")
        if path != ITSELF and root != self._root.tag:
            return []
        return self._root.findall(below) if below else [self._root]

    def change_rows(self, path: str, change: Change) -> None:
        if self.is_alone(path):
            self._root = change(self._root)[-1]
            return
        rows = self.rows(path)
        for holder in list(self._root.iter()):
            if any(child in rows for child in holder):
                holder[:] = [new for child in holder for new in (change(child) if child in rows else [child])]

    def is_alone(self, path: str) -> bool:
        return self.rows(path) == [self._root]

    def body(self) -> bytes:
        return _xml(self._root)

    def without_list(self, path: str) -> list[bytes]:
        # an XML list without elements is empty, so only another document has no list
        return [b"<html><body/></html>", b'<?xml version="1.0"?><other/>']

    def read(self, row: Row, field: str) -> str:
        if field.startswith("@"):
            return str(row.get(field[1:]))
        return str(row.findtext(field))

    def with_texts(self, row: Row, texts: Mapping[str, str]) -> Row:
        row = copy.deepcopy(row)
        for field, text in texts.items():
            clean = _NOT_IN_XML.sub("", text)
            if field.startswith("@"):
                row.set(field[1:], clean)
            elif (child := row.find(field)) is not None:
                child.text = clean
        return row

    def renamed(self, row: Row) -> Row:
        row = copy.deepcopy(row)
        for child in row:
            child.tag = f"new_{child.tag}"
        row.attrib = {f"new_{name}": value for name, value in row.attrib.items()}
        return row

    def emptied(self, row: Row, keep: Iterable[str]) -> Row:
        row = copy.deepcopy(row)
        for child in row:
            if child.tag not in keep:
                child[:], child.text, child.attrib = [], None, {}
        row.attrib = {name: value if f"@{name}" in keep else "" for name, value in row.attrib.items()}
        return row

    def with_huge_numbers(self, row: Row) -> Row:
        return _xml_numbers(row, "1" + "0" * HUGE_DIGITS)

    def without_numbers(self) -> bytes:
        return _xml(_xml_numbers(self._root, "NaN"))


def _xml(element: ElementTree.Element) -> bytes:
    text: bytes = ElementTree.tostring(element, encoding="utf-8", xml_declaration=True)
    return text


def _xml_numbers(row: Row, text: str) -> Row:
    row = copy.deepcopy(row)
    for element in row.iter():
        if element.text and _NUMBER.fullmatch(element.text.strip()):
            element.text = text
        element.attrib = {
            name: text if _NUMBER.fullmatch(value.strip()) else value for name, value in element.attrib.items()
        }
    return row


def without_numbers(response: RecordedResponse) -> bytes:
    """Return a body with NaN and Infinity instead of numbers; HTML is not changed."""
    if response.content_type == "text/plain":
        return _NUMBER.sub("NaN", response.body.decode()).encode()
    if response.content_type == "text/html":
        return response.body
    return document_of(response).without_numbers()


def document_of(response: RecordedResponse) -> Document:
    """Decode a response. Raises ``ValueError`` if it can have no rows, such as lines of text."""
    if response.content_type == "application/json":
        return JsonDocument(response.body)
    if response.content_type == "text/xml":
        return XmlDocument(response.body)
    raise ValueError(f"a response of type {response.content_type} has no rows")
