"""GEMINI_BASE_URL: the address of Gemini. An address that contains a part of the API's own path is rejected."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from shared.settings.environment import Environment

GOOGLE_ORIGIN = "https://generativelanguage.googleapis.com"

_VERSION = re.compile(r"v\d+(alpha|beta)?\d*", re.IGNORECASE)
_API_SEGMENTS = frozenset({"models", "tunedmodels", "openai", "completions", "interactions"})
"""Segments of the API's own paths, and of its OpenAI-compatible ones."""


def read_base_url(read: Environment) -> str:
    """Gemini's origin, with or without a path prefix, without a trailing slash. Raises SettingsError."""
    name = "GEMINI_BASE_URL"
    text = read.text(name)
    if text is None:
        return GOOGLE_ORIGIN
    allowed = f"an origin like {GOOGLE_ORIGIN}, without credentials, a query or the API's version"
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # The port is not a number, or an IPv6 address lacks its bracket.
        valid = False
    if not valid or any(mark in text for mark in "@?#") or re.search(r"\s", text):
        raise read.invalid(name, allowed, shown="@" not in text and "?" not in text)
    prefix = _prefix_before_api(parts.path, parts.hostname or "")
    if prefix is not None:
        origin = f"{parts.scheme}://{parts.netloc}{prefix}"
        raise read.invalid(name, f"without the API's version and path: set {origin}")
    return text.rstrip("/")


def _prefix_before_api(path: str, host: str) -> str | None:
    """The part of `path` before a version or a path of the API; None if `path` has neither.

    A version such as /v1 that another path follows belongs to a gateway in between (Cloudflare's is
    /v1/<account>/<gateway>/google-ai-studio) and stays, except on Google's own hosts."""
    segments = [segment for segment in path.split("/") if segment]
    google = host.endswith(".googleapis.com")
    for at, segment in enumerate(segments):
        following = segments[at + 1 :]
        version = _VERSION.fullmatch(segment)
        if version is not None:
            is_api = google or version[1] is not None or not following or _of_api(following[0])
        else:
            is_api = _of_api(segment)
        if is_api:
            return "".join(f"/{before}" for before in segments[:at])
    return None


def _of_api(segment: str) -> bool:
    return segment.lower() in _API_SEGMENTS or ":" in segment
