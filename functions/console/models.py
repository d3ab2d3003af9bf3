"""The console's operations: the specification and the page that shows it."""

from __future__ import annotations

from functions.console.assets import NAMES
from shared.openapi.operation import Operation

_TEXT = {"schema": {"type": "string"}}
_NOT_MODIFIED = {"304": {"description": "Not modified: If-None-Match names the current version."}}

OPERATIONS = {
    "GET /openapi.json": Operation(
        summary="This specification.",
        media={"application/json": {"schema": {"type": "object", "required": ["openapi", "info", "paths"]}}},
        responses=_NOT_MODIFIED,
    ),
    "GET /docs": Operation(
        summary="This specification as a page to read and try.", media={"text/html": _TEXT}, responses=_NOT_MODIFIED
    ),
    "GET /docs/*": Operation(
        summary="The page's scripts and styles.",
        media={"text/javascript": _TEXT, "text/css": _TEXT},
        below=NAMES,
        responses=_NOT_MODIFIED,
    ),
}
