"""The text layer of HLS playlists: limits, decoding, numbers, attribute lists and variables.

Source: RFC 8216 section 4.2 (attribute lists), draft-pantos-hls-rfc8216bis section 4.3 (variable substitution).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import msgspec

MAX_PLAYLIST_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a playlist, in bytes."""
MAX_LINE_CHARACTERS: Final = 16_384
"""Maximum length of a line: a longer tag is dropped, a longer URI fails the playlist."""
MAX_SEQUENCE: Final = 2**64 - 1
"""Maximum media sequence number (RFC 8216, decimal-integer)."""
MAX_SECONDS: Final = 366 * 86_400.0
"""Maximum of any duration, in seconds; a longer one is unreadable."""
MAX_PARSED_BYTES: Final = 256 * 1024
"""Maximum number of bytes that are parsed line by line, which takes about 0.1 s at most."""
_MAX_ATTRIBUTES = 200
"""Maximum number of attributes that are read in one tag."""
_MAX_VARIABLES = 100
_MAX_VARIABLE_CHARACTERS = 4_096
_MAX_SUBSTITUTED_CHARACTERS = 1024 * 1024
"""Maximum of text that variables add to one playlist."""
_KEPT_BYTES = re.compile("[\udc80-\udcff]+")
"""Bytes that ``surrogateescape`` has kept because they are not UTF-8."""
_VARIABLE = re.compile(r"\{\$([A-Za-z0-9_-]{1,128})\}")
_RESOLUTION = re.compile(r"\s*([0-9]{1,6})\s*[xX]\s*([0-9]{1,6})\s*")


class PlaylistError(ValueError):
    """The document is not a usable HLS playlist. The text never quotes the document, because URLs hold tokens."""


class ByteRange(msgspec.Struct, frozen=True, gc=False):
    """Part of a resource."""

    start_bytes: int | None
    """Offset of the first byte; None if unknown, and then the range must not be fetched."""
    length_bytes: int
    """0 if unknown."""


class InitSection(msgspec.Struct, frozen=True, gc=False):
    """Initialization section of the segments that follow (EXT-X-MAP)."""

    uri: str
    byte_range: ByteRange | None = None


def decode_playlist(data: bytes) -> str:
    """Decode UTF-8, with or without byte order mark, and make all line ends ``\\n``.

    Bytes that are not UTF-8 are read as Latin-1, which some old packagers write.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = _KEPT_BYTES.sub(_decode_latin_1, data.decode(errors="surrogateescape"))
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.removeprefix("\ufeff")


def _decode_latin_1(kept: re.Match[str]) -> str:
    """Return kept bytes as Latin-1."""
    return kept[0].encode(errors="surrogateescape").decode("latin-1")


def to_integer(text: str) -> int:
    """Read a decimal integer from 0 to 2^64-1. Raises ValueError."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError("not a decimal integer")
    value = int(text)
    if value > MAX_SEQUENCE:
        raise ValueError("integer out of range")
    return value


def to_seconds(text: str) -> float:
    """Read a duration in seconds, from 0 to a year. Raises ValueError."""
    value = float(text)
    if not 0 <= value <= MAX_SECONDS:
        raise ValueError("duration out of range")
    return value


def to_bytes_per_second(text: str) -> float:
    """Read a positive bitrate in bits per second, also with a fraction, as bytes per second. Raises ValueError."""
    value = float(text)
    if not 0 < value <= 1e12:
        raise ValueError("bitrate out of range")
    return value / 8


def to_resolution(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT in pixels. Raises ValueError."""
    match = _RESOLUTION.fullmatch(text)
    if match is None:
        raise ValueError("not a resolution")
    return int(match[1]), int(match[2])


def to_byte_range(text: str) -> ByteRange:
    """Read LENGTH[@OFFSET]; without offset, the start is unknown. Raises ValueError."""
    length, at, start = text.partition("@")
    return ByteRange(to_integer(start) if at else None, to_integer(length))


def parse_attributes(text: str) -> dict[str, str]:
    """Parse an attribute list into names and unquoted values.

    Spaces around names and values are accepted, and text that is no attribute is skipped.
    """
    attributes: dict[str, str] = {}
    position, end = 0, len(text)
    for _ in range(_MAX_ATTRIBUTES):
        if position >= end:
            break
        equals = text.find("=", position)
        if equals < 0:
            break
        name = text[position:equals].rpartition(",")[2].strip()
        start = equals + 1
        while start < end and text[start] in " \t":
            start += 1
        quoted = start < end and text[start] == '"'
        start += quoted
        stop = text.find('"' if quoted else ",", start)
        if stop < 0:
            if quoted:  # cut in the middle of a value
                break
            stop = end
        attributes[name] = text[start:stop] if quoted else text[start:stop].rstrip()
        position = stop + 1
    return attributes


def get_required(attributes: Mapping[str, str], name: str) -> str:
    """Return an attribute. Raises ValueError if it is missing or empty."""
    value = attributes.get(name)
    if not value:
        raise ValueError("missing attribute")
    return value


class Variables:
    """Variables of one playlist (EXT-X-DEFINE), and a budget for the text that they add."""

    __slots__ = ("_budget_characters", "_imported", "_parameters", "_query", "values")

    def __init__(self, query: str, imported: Mapping[str, str]) -> None:
        self.values: dict[str, str] = {}
        self._query = query
        self._parameters: dict[str, str] | None = None
        """Parameters of the query, once they are needed."""
        self._imported = imported
        self._budget_characters = _MAX_SUBSTITUTED_CHARACTERS

    def define(self, text: str) -> None:
        """Add the variable of an EXT-X-DEFINE tag. Raises ValueError if it has no usable name and value."""
        attributes = parse_attributes(text)
        if "QUERYPARAM" in attributes:
            name = attributes["QUERYPARAM"]
            value = self._query_parameters().get(name)
        elif "IMPORT" in attributes:
            name = attributes["IMPORT"]
            value = self._imported.get(name)
        else:
            name, value = attributes.get("NAME", ""), attributes.get("VALUE")
        if not name or value is None or len(value) > _MAX_VARIABLE_CHARACTERS or len(self.values) >= _MAX_VARIABLES:
            raise ValueError("unusable variable")
        if any(character in value for character in '"\n\r'):
            raise ValueError("variable would break the line")
        self.values[name] = value

    def _query_parameters(self) -> dict[str, str]:
        """Return the parameters of the query. Raises ValueError if there are too many."""
        if self._parameters is None:
            self._parameters = {}
            self._parameters = dict(parse_qsl(self._query[:MAX_LINE_CHARACTERS], max_num_fields=1_000))
        return self._parameters

    def substitute(self, line: str) -> str:
        """Replace references once, without looking for references in values.

        Raises ValueError for an unknown variable, or when the result or the whole playlist becomes too long.
        """
        matches = list(_VARIABLE.finditer(line))
        if any(match[1] not in self.values for match in matches):
            raise ValueError("undefined variable")
        added = sum(len(self.values[match[1]]) for match in matches)
        self._budget_characters -= added
        if self._budget_characters < 0 or len(line) + added > MAX_LINE_CHARACTERS:
            raise ValueError("variables add too much text")
        return _VARIABLE.sub(lambda match: self.values[match[1]], line)
