"""Set and read values in rows of JSON and XML responses, by paths such as ``publisher/inBytes``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from tests.platforms.row_documents import Row

Path = tuple[str | int, ...]


def with_values(row: Row, values: Mapping[str, Any]) -> Row:
    """Return a row with values replaced; None removes an element of XML and is null in JSON.

    Values whose parent is missing are skipped.
    """
    row = copy.deepcopy(row)
    for path, value in values.items():
        *way, name = path.split("/")
        holder = _holder(row, way)
        if isinstance(holder, ElementTree.Element):
            _set_element(holder, name, value)
        elif isinstance(holder, dict):
            holder[name] = value
    return row


def read_value(row: Row, path: str) -> Any:
    """Return the value at a path; None if there is none."""
    *way, name = path.split("/")
    holder = _holder(row, way)
    if isinstance(holder, ElementTree.Element):
        return holder.get(name[1:]) if name.startswith("@") else holder.findtext(name)
    return holder.get(name) if isinstance(holder, dict) else None


def _holder(row: Row, way: list[str]) -> Any:
    holder = row
    for name in way:
        if isinstance(holder, ElementTree.Element):
            holder = holder.find(name)
        else:
            holder = holder.get(name) if isinstance(holder, dict) else None
    return holder


def _set_element(holder: ElementTree.Element, name: str, value: Any) -> None:
    if name.startswith("@"):
        holder.set(name[1:], "" if value is None else str(value))
        return
    child = holder.find(name)
    if value is None:
        if child is not None:
            holder.remove(child)
        return
    if child is None:
        child = ElementTree.SubElement(holder, name)
    child.text = str(value)
