"""Repair the invalid JSON that Icecast's ``status-json.xsl`` sends.

Its stylesheets turn text into JSON without knowing types. Two defects are repaired, and nothing else:

- Text that XPath takes for a number becomes a bare value, although JSON has no such number: ``"title":5.``, ``.5``,
  ``-``, ``5e`` or ``-007``. It is quoted.
- The stylesheet of upstream's 2.4 leaves out the last element of a source without a user agent (a relay), together with
  the source's closing brace: ``"listeners":0,,{`` or ``"listeners":0,]``. The comma becomes the brace.

Raw control characters in strings need no repair, because the decoder accepts them. A response while the server starts
(``{"icestats":"server_start":…``) is not repaired.

Sources: Icecast 2.4.4 and Debian's 2.4.4-4, ``web/xml2json.xslt`` and ``web/status-json.xsl``; xiph/Icecast-Server
issues 12, 34, 38, 43 and 74.
"""

from __future__ import annotations

import re

_PIECE = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"?'  # a string, or an unterminated one up to the end
    rb"|,(?=[ \t\r\n]*+[,\]}])"
    rb"|[-+.0-9A-Za-z_]++",
    re.DOTALL,
)
"""Parts of a document; every byte belongs to at most one of them, so that matching takes linear time."""
_VALUE = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+")
_NUMBER_LIKE = re.compile(rb"[-+.0-9eE]++")


def repair_json(body: bytes) -> bytes:
    """Return the body with both defects repaired; strings and valid documents are never changed."""
    return _PIECE.sub(_repaired, body)


def _repaired(match: re.Match[bytes]) -> bytes:
    piece = match[0]
    if piece == b",":
        return b"}"
    if _NUMBER_LIKE.fullmatch(piece) and not _VALUE.fullmatch(piece):
        return b'"%b"' % piece
    return piece
