"""One prompt of a batch with its media, in the order in which Gemini gets them; `reading.py` makes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import BadRequest
from shared.generation import JsonObject

MediaKind = Literal["video", "audio", "image", "pdf"]
Origin = Literal["path", "bytes", "url"]


@dataclass(frozen=True, slots=True)
class Medium:
    """One file of an item."""

    kind: MediaKind
    origin: Origin
    source: str | bytes = field(repr=False)
    """A path, the bytes, or a URL, by `origin`."""
    mime_type: str
    where: str
    """The field that names it, for errors: `audio_path[1]`."""
    video_metadata: JsonObject | None = None
    """`startOffset`, `endOffset`, `fps`, in Gemini's spelling."""


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt that was read without errors."""

    parts: tuple[str | Medium, ...]
    config: JsonObject | None = None
    """A native generationConfig."""
    schema: JsonObject | None = None
    """The JSON Schema of the answer."""
    system_prompt: str | None = None
    body: JsonObject = field(default_factory=dict)
    """Fields of the native body beside these, such as `safetySettings`."""
    warnings: tuple[str, ...] = ()

    @property
    def media(self) -> tuple[Medium, ...]:
        return tuple(part for part in self.parts if isinstance(part, Medium))


@dataclass(frozen=True, slots=True)
class Task:
    """An item in its place in the input. `item` is None where the input was wrong, as `problem` says."""

    index: int
    item: Item | None
    metadata: Any = field(default_factory=dict)
    """Returned as it came."""
    id: str | None = None
    problem: BadRequest | None = None
    data: Mapping[str, Any] | None = field(default=None, repr=False)
    """What the item was read from."""
