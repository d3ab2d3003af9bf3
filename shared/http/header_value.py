"""Makes a text fit to be the value of an HTTP header. Pure.

RFC 9110, section 5.5, has a field value of visible ASCII characters; everything beyond them is obsolete or forbidden, and
a line break would begin another header. A text from upstream or from a caller passes through here before it becomes one.
"""

from __future__ import annotations

import re
from urllib.parse import quote

MAX_HEADER_CHARS = 1024
_FIT = re.compile(r"[!-~](?:[ -~]{0,1022}[!-~])?")
_VISIBLE = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""Every visible ASCII character but letters and digits, which `quote` never encodes, and the percent sign."""


def header_value(text: str) -> str:
    """`text` itself if it is fit; else with every character but visible ASCII, and the percent sign, percent-encoded as
    UTF-8 (RFC 3986). At most MAX_HEADER_CHARS characters of `text` count."""
    if _FIT.fullmatch(text):
        return text
    return quote(text[:MAX_HEADER_CHARS], safe=_VISIBLE, errors="replace")
