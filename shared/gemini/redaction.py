"""Removes from a text what must not be shown: keys, the project that Google names, credentials in URLs. Pure."""

from __future__ import annotations

import re

MAX_MESSAGE_CHARS = 2_000

_URL = re.compile(r"(https?://)(?:[^\s/@'\"<>]*@)?([^\s?#'\"<>]*)(\?[^\s'\"<>]*)?", re.IGNORECASE)
_NAMED_SECRET = re.compile(r"((?:\bapi_key:|[?&\s]key=|\bbearer\s+|x-goog-api-key:\s*))[^\s'\"<>,;&]+", re.IGNORECASE)
_KEY_PREFIX = re.compile(r"(?:\bAIza|\bAQ\.|\bya29\.|\bsk-)[\w.-]{6,}")
_KEY_SHAPED = re.compile(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{24,}|(?<![\w-])[0-9a-f]{32,}")
_PROJECT = re.compile(
    r"(\bproject_number:|\bprojects/|\bused in project |\bon resource project |\bproject:? ?#?(?=\d{4}))[\w:-]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """`text` without anything that looks like a key, without the Google project's name and URL queries; bounded."""
    text = text[: 2 * MAX_MESSAGE_CHARS]
    text = _URL.sub(lambda m: f"{m[1]}{m[2]}", text)
    text = _NAMED_SECRET.sub(r"\1***", text)
    text = _KEY_PREFIX.sub("***", text)
    text = _PROJECT.sub(r"\1***", text)
    return _KEY_SHAPED.sub("***", text)[:MAX_MESSAGE_CHARS]
