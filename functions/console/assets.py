"""The page that shows the specification. All its files are in viewer/; it loads nothing from other hosts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from shared.errors import NotFound
from shared.http.content import IMMUTABLE, REVALIDATE, Content

FOLDER = Path(__file__).resolve().parent / "viewer"
PAGE = "index.html"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
NAMES = sorted(
    file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*") if file.is_file() and file.suffix in MEDIA_TYPES
)
"""The only valid names below /docs/, so a path cannot leave the folder."""
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


@cache
def page() -> Content:
    headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "referrer-policy": "no-referrer"}
    return Content((FOLDER / PAGE).read_bytes(), "text/html", REVALIDATE, headers)


def asset(name: str) -> Content:
    """Raises NotFound."""
    if name not in NAMES:
        raise NotFound("Not found. Open GET /docs, which links the existing files.")
    return _asset(name)


@cache
def _asset(name: str) -> Content:
    file = FOLDER / name
    # A file in a folder with a version in its name never changes.
    return Content(file.read_bytes(), MEDIA_TYPES[file.suffix], IMMUTABLE if "/" in name else REVALIDATE)
