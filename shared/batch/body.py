"""An item as a native generateContent body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from shared.batch.item import Item, Medium
from shared.gemini.native_body import native_body
from shared.generation import JsonObject

LoadPart = Callable[[Medium], Awaitable[JsonObject]]
"""The native part of a medium. Raises GatewayError that names its field."""
Loading = Callable[[Item], AbstractAsyncContextManager[LoadPart]]
"""Loads the media of one item; the memory that they take is held until the context ends."""


async def native(item: Item, load: LoadPart) -> JsonObject:
    """Raises what `load` raises."""
    parts = [{"text": part} if isinstance(part, str) else await load(part) for part in item.parts]
    config = dict(item.config or {})
    if item.schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": item.schema}
    return {**native_body([{"role": "user", "parts": parts}], item.system_prompt, config), **item.body}
