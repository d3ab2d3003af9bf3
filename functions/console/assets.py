"""The page that shows the specification. All its files lie in viewer/: it loads nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from functions.console.content import ASK_AGAIN, FOR_GOOD, Content
from shared.errors import NotFound

FOLDER = Path(__file__).resolve().parent / "viewer"
PAGE = "index.html"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
NAMES = sorted(
    file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*") if file.is_file() and file.suffix in MEDIA_TYPES
)
"""What may be asked for below /docs/: a name that is not here leads nowhere, so no path can lead out of the folder."""
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
    return Content((FOLDER / PAGE).read_bytes(), "text/html", ASK_AGAIN, headers)


def asset(name: str) -> Content:
    """Raises NotFound."""
    if name not in NAMES:
        raise NotFound("There is no such file; GET /docs is the page that uses those that there are.")
    return _asset(name)


@cache
def _asset(name: str) -> Content:
    file = FOLDER / name
    # A folder that has a version in its name never changes.
    return Content(file.read_bytes(), MEDIA_TYPES[file.suffix], FOR_GOOD if "/" in name else ASK_AGAIN)
