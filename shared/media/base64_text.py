"""Strict decoding of the base64 that clients and proxies write: the encoded bytes, or an error. Pure.

Accepted: the standard and the URL-safe alphabet (RFC 4648, sections 4 and 5), with or without padding, wrapped into lines
(RFC 2045) and as a data URL (RFC 2397). Rejected: every other character, a space within a line (a form decoder
may have replaced a `+`), both alphabets in one text, padding that is incomplete or not at the end, and unused bits that are
not zero, which only a truncated or altered text has.
"""

from __future__ import annotations

import binascii
import re

_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_UNUSED_BITS = {2: 0b1111, 3: 0b11}
"""Characters in the last group of four -> the unused bits of its last character."""
_DATA_URL = "data:"
_ESCAPED = {
    "%2B": "+",
    "%2b": "+",
    "%2F": "/",
    "%2f": "/",
    "%3D": "=",
    "%3d": "=",
    "%0A": "",
    "%0a": "",
    "%0D": "",
    "%0d": "",
}
"""The percent-encoded characters of base64 in a URL. Any other escaped character is not base64."""
_BLANK_WITHIN_A_LINE = re.compile(rb"[^ \t\r\n][ \t]+[^ \t\r\n]")


def decode(text: str) -> bytes:
    """The bytes; b"" for an empty text. Raises ValueError whose message continues a sentence: "image `must be ...`"."""
    text = text.strip()
    if text[: len(_DATA_URL)].lower() == _DATA_URL:
        text = _content(text)
    try:
        encoded = text.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError("must be base64, which has only ASCII characters") from None
    if b"\n" in encoded or b"\r" in encoded:
        if blank := _BLANK_WITHIN_A_LINE.search(encoded):
            raise ValueError(f"must be base64: {chr(blank[0][1])!r} within a line is not a base64 character")
        encoded = encoded.translate(None, b" \t\r\n")
    digits = encoded.rstrip(b"=")
    padding, tail = len(encoded) - len(digits), len(digits) % 4
    del encoded  # Each is a copy of up to 27 MB.
    if b"-" in digits or b"_" in digits:
        if b"+" in digits or b"/" in digits:
            raise ValueError("must use one base64 alphabet, not both (+ and /, or - and _)")
        digits = digits.translate(_TO_STANDARD)
    if strange := digits.translate(None, _STANDARD):
        raise ValueError(f"must be base64: {chr(strange[0])!r} is not a base64 character")
    if tail == 1 or padding not in (0, -tail % 4):
        raise ValueError("must be complete base64: its length is wrong, so part of it is missing")
    if tail and _STANDARD.index(digits[-1]) & _UNUSED_BITS[tail]:
        raise ValueError("must be complete base64: its last character does not end a byte, so part of it is missing")
    if tail:
        digits += b"=" * (-tail % 4)
    return binascii.a2b_base64(digits)


def _content(url: str) -> str:
    """The part of a data URL after its comma. Raises ValueError."""
    head, comma, content = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ValueError("is a data URL, which must be in base64: data:image/png;base64,<data>")
    if "%" in content:
        for escaped, char in _ESCAPED.items():
            content = content.replace(escaped, char)
    return content
