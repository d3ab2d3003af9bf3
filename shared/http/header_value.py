"""Encodes a text as the value of an HTTP header. Pure.

A field value consists of visible ASCII characters (RFC 9110, 5.5); other characters are obsolete or forbidden, and a line
break would begin another header. Every text from upstream or from a caller is encoded here before it becomes a header.
"""

from __future__ import annotations

import re
from urllib.parse import quote

MAX_HEADER_CHARS = 1024
_VALID = re.compile(r"[!-~](?:[ -~]{0,1022}[!-~])?")
_VISIBLE = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""The visible ASCII characters that `quote` must leave alone: all except the percent sign (letters and digits always are)."""


def header_value(text: str) -> str:
    """`text` unchanged if it is a valid value. Otherwise its first MAX_HEADER_CHARS characters, in which the percent sign and
    every character that is not visible ASCII are percent-encoded as UTF-8 (RFC 3986)."""
    if _VALID.fullmatch(text):
        return text
    return quote(text[:MAX_HEADER_CHARS], safe=_VISIBLE, errors="replace")
