"""Gemini's models as OpenAI's API lists them, with what it has no field for: limits, use, context window. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time

from shared.errors import BadRequest, ModelNotFound
from shared.gemini.models import TABLE, Kind, ModelTable
from shared.generation import JsonObject

_RELEASED = {
    "gemini-4-neon": date(2026, 11, 18),
    "gemini-4-carbon": date(2026, 11, 10),
    "gemini-4-argon": date(2026, 10, 13),
    "gemini-3.8-flash": date(2026, 9, 2),
    "gemini-embedding-2": date(2026, 4, 22),
}
"""Google's changelog (ai.google.dev/gemini-api/docs/changelog)."""
_LISTED = date(2026, 11, 1)
"""OpenAI's `created` is never null. A model whose release date is not known has that of Google's list."""

_CONTEXT: Mapping[Kind, int] = {"pro": 1_048_576, "flash": 1_048_576, "flash_lite": 1_048_576, "open": 262_144}
_OTHER_CONTEXT = {
    "gemini-3-pro-image": 131_072,
    "gemini-nano-banana-2.1": 65_536,
    "gemini-3.1-flash-image": 65_536,
    "gemini-3.1-flash-lite-image": 65_536,
    "gemini-2.5-flash-image": 32_768,
    "gemini-embedding-2": 8_192,
    "gemini-embedding-001": 2_048,
    "gemini-3.8-flash-tts": 8_192,
}
"""`inputTokenLimit` of Google's list, in tokens."""


def model_ids(table: ModelTable, named: Iterable[str] = ()) -> list[str]:
    """The ids to list: the table's models, those that the operator named limits for, and the operator's own aliases. `named`
    are the former."""
    aliases = (name for name, target in table.successors.items() if TABLE.successors.get(name) != target)
    return sorted({*table.models, *named, *aliases})


def canonical_id(requested: str, table: ModelTable, named: Iterable[str] = ()) -> str:
    """The id of the model that serves `requested`. Raises ModelNotFound: a chat may name a model that the table does not know,
    but nothing can be told of it."""
    try:
        resolved = table.resolve(requested)
    except BadRequest:
        resolved = None
    if resolved is None or not (resolved.known or resolved.canonical in named):
        raise ModelNotFound(f"The model {requested[:100]} is not known here. GET /v1/models lists the known models.")
    return resolved.canonical


def model_object(model_id: str, table: ModelTable, use: JsonObject) -> JsonObject:
    """`use` has `limits` and `used`."""
    canonical = table.resolve(model_id).canonical
    info = table.models.get(canonical)
    window = None if info is None else _OTHER_CONTEXT.get(canonical, _CONTEXT.get(info.kind))
    released = datetime.combine(_RELEASED.get(canonical, _LISTED), time(), UTC)
    return {
        "id": model_id,
        "object": "model",
        "created": int(released.timestamp()),
        "owned_by": "google",
        "served_by": canonical,
        "context_window": window,
        **use,
    }
