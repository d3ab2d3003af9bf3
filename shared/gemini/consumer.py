"""The Google project that an error names as the consumer: `projects/N`, `project_number:N` or `projects/name`. Pure.

It shows which keys belong to one project. It is read before the message is redacted, and is never shown to callers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.gemini.error_body import JsonObject, is_type

_CONSUMER = re.compile(r"(?:projects/|project_number:|project:)([A-Za-z0-9][A-Za-z0-9:._-]{0,99})")
_NUMBER = re.compile(r"\d{4,20}")
_MESSAGE = re.compile(
    r"(?:for consumer '(?:projects/|project_number:|project:)"
    r"|has not been used in project |on resource project |for project:? (?:projects/)?(?=\d)"
    r"|was denied for (?:projects/)?|billing on project #)([A-Za-z0-9][A-Za-z0-9:._-]{0,99})"
)
_CODES = frozenset({403, 429, 503})


def consumer_of(code: int, details: Sequence[JsonObject], message: str) -> str | None:
    """The project's number or id; None if the error names none. The number and the id of a project are not matched."""
    for detail in details:
        metadata = detail.get("metadata")
        if is_type(detail, "ErrorInfo", "metadata") and isinstance(metadata, dict):
            named = _CONSUMER.fullmatch(str(metadata.get("consumer", "")))
            if named is not None:
                return named[1]
            container = str(metadata.get("containerInfo", ""))
            if _NUMBER.fullmatch(container):
                return container
        entries = detail.get("violations")
        for entry in entries[:32] if isinstance(entries, list) else ():
            subject = _CONSUMER.fullmatch(str(entry.get("subject", ""))) if isinstance(entry, dict) else None
            if subject is not None:
                return subject[1]
    found = _MESSAGE.search(message) if code in _CODES else None
    return found[1].rstrip(".:") if found is not None else None
