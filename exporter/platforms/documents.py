"""Decode XML and lines of text to the same data structures as JSON, and check that a response is a list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from exporter.http.errors import UpstreamError
from exporter.model import Reason

MAX_XML_DEPTH = 64
"""Maximum nesting depth of XML elements."""
XML_SLICE_CHARACTERS = 65_536
"""Length of the slices in which XML is parsed; other threads can run between two slices."""
_XML_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
    "|&#(?:x0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]|[fF]{3}[eEfF])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]|6553[45]));"
)
"""Characters that XML forbids, and references to them."""
_XML_ENCODINGS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1"})


def decode_xml(text: str, endpoint: str) -> dict[str, Any]:
    """Return an XML document as data for ``Record``, with the root element's name as the only key.

    An element without children and attributes becomes its text; any other becomes a dict of its children by name.
    Several children with the same name become a list. Attributes have the key ``@name``, text next to children has the
    key ``#text``. Control characters that XML forbids become spaces, because some servers send them. Raises
    ``UpstreamError`` (``bad_response``) if the text is not XML, or has a DOCTYPE, entities, or an encoding other than
    UTF-8, ASCII and Latin-1.
    """
    # imported only where it is needed, to save memory
    from xml.parsers import expat

    tree = _XmlTree(endpoint)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.characters
    parser.StartDoctypeDeclHandler = tree.refuse_doctype
    parser.XmlDeclHandler = tree.declaration
    try:
        text = _XML_FORBIDDEN.sub(" ", text)
        for start in range(0, len(text), XML_SLICE_CHARACTERS):
            parser.Parse(text[start : start + XML_SLICE_CHARACTERS].encode("utf-8", "replace"), False)
        parser.Parse(b"", True)
    except expat.ExpatError:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: not XML") from None
    return tree.content


class _XmlTree:
    """Builds the data of a document from the parser's events."""

    def __init__(self, endpoint: str) -> None:
        self.content: dict[str, Any] = {}
        self._endpoint = endpoint
        self._open: list[tuple[str, dict[str, Any], list[str]]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) == MAX_XML_DEPTH:
            raise UpstreamError(
                Reason.BAD_RESPONSE, f"{self._endpoint}: XML nested deeper than {MAX_XML_DEPTH} elements"
            )
        self._open.append((name, {f"@{key}": value for key, value in attributes.items()}, []))

    def end(self, _name: str) -> None:
        name, content, texts = self._open.pop()
        text = "".join(texts).strip()
        if content and text:
            content["#text"] = text
        parent = self._open[-1][1] if self._open else self.content
        value = content or text
        if name not in parent:
            parent[name] = value
        elif isinstance(parent[name], list):
            parent[name].append(value)
        else:
            parent[name] = [parent[name], value]

    def characters(self, text: str) -> None:
        self._open[-1][2].append(text)

    def declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _XML_ENCODINGS:
            raise UpstreamError(
                Reason.BAD_RESPONSE, f"{self._endpoint}: XML encoding is not supported (only UTF-8, ASCII and Latin-1)"
            )

    def refuse_doctype(self, *_: object) -> None:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{self._endpoint}: XML with a DOCTYPE is not supported")


def decode_lines(lines: Iterable[str], separator: str = ":") -> dict[str, Any]:
    """Return lines such as ``name: value`` as data for ``Record``; skip lines without the separator."""
    data: dict[str, Any] = {}
    for line in lines:
        name, found, value = line.partition(separator)
        if found:
            data.setdefault(name.strip(), value.strip())
    return data


def require_list(data: object, endpoint: str) -> list[Any]:
    """Return the response's data if it is a list. Raises ``UpstreamError`` (``bad_response``) otherwise."""
    if not isinstance(data, list):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the response is not a list")
    return data
