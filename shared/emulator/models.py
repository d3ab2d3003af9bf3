"""Which model ids exist, what each can do, and which id answers for which: the offline Gemini's own table.

Source: Google's models page, changelog and a live list of October and November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TEXT, IMAGE, EMBEDDING, SPEECH = "text", "image", "embedding", "speech"

_TEXT_METHODS = ("generateContent", "countTokens", "createCachedContent", "batchGenerateContent")
_METHODS = {
    TEXT: _TEXT_METHODS,
    IMAGE: ("generateContent", "countTokens", "batchGenerateContent"),
    EMBEDDING: ("embedContent", "countTextTokens", "countTokens", "asyncBatchEmbedContent"),
    SPEECH: ("countTokens", "generateContent"),
}

_LOW_UP = ("LOW", "MEDIUM", "HIGH")
_MINIMAL_UP = ("MINIMAL", *_LOW_UP)


@dataclass(frozen=True, slots=True)
class Model:
    """`levels` are the supported thinking levels (none: the field is rejected); `level` is the default.

    `budget_min` is the lowest thinkingBudget; None: every budget is rejected. Limits are in tokens.
    """

    id: str
    display: str
    kind: str = TEXT
    input_limit: int = 1_048_576
    output_limit: int = 65_536
    levels: tuple[str, ...] = ()
    level: str = "MINIMAL"
    budget_min: int | None = 0

    def entry(self) -> dict[str, Any]:
        """The model as GET /models shows it."""
        entry: dict[str, Any] = {
            "name": f"models/{self.id}",
            "version": self.id.removeprefix("gemini-").removeprefix("gemma-"),
            "displayName": self.display,
            "description": f"{self.display}, answered by the offline Gemini.",
            "inputTokenLimit": self.input_limit,
            "outputTokenLimit": self.output_limit,
            "supportedGenerationMethods": list(_METHODS[self.kind]),
        }
        if self.kind != EMBEDDING:
            entry |= {"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2}
        if self.levels:
            entry["thinking"] = True
        return entry


_MODELS = (
    Model("gemini-4-argon", "Gemini 4 Argon", levels=_LOW_UP, level="MEDIUM", budget_min=None),
    Model("gemini-4-neon", "Gemini 4 Neon", levels=("LOW", "MEDIUM", "HIGH", "XHIGH"), level="HIGH", budget_min=None),
    Model("gemini-4-carbon", "Gemini 4 Carbon", levels=_LOW_UP, level="MEDIUM", budget_min=None),
    Model("gemini-4-hydrogen", "Gemini 4 Hydrogen", levels=_LOW_UP, level="MEDIUM", budget_min=None),
    Model("gemini-3.1-pro-preview", "Gemini 3.1 Pro Preview", levels=_LOW_UP, level="HIGH", budget_min=1),
    Model(
        "gemini-3.1-pro-preview-customtools", "Gemini 3.1 Pro Custom Tools", levels=_LOW_UP, level="HIGH", budget_min=1
    ),
    Model("gemini-3.8-flash", "Gemini 3.8 Flash", levels=_LOW_UP, level="MEDIUM", budget_min=1),
    Model("gemini-3.6-flash", "Gemini 3.6 Flash", levels=_MINIMAL_UP, level="MEDIUM", budget_min=1),
    Model("gemini-3-flash-preview", "Gemini 3 Flash Preview", levels=_MINIMAL_UP, level="HIGH", budget_min=1),
    Model("gemini-3.5-flash-lite", "Gemini 3.5 Flash-Lite", levels=_MINIMAL_UP, budget_min=1),
    Model("gemini-3.1-flash-lite", "Gemini 3.1 Flash-Lite", levels=_MINIMAL_UP, budget_min=1),
    Model("gemini-2.5-flash-lite", "Gemini 2.5 Flash-Lite"),
    Model("gemma-4-26b-a4b-it", "Gemma 4 26B A4B IT", input_limit=262_144, output_limit=32_768),
    Model("gemma-4-31b-it", "Gemma 4 31B IT", input_limit=262_144, output_limit=32_768),
    Model("gemini-nano-banana-2.1", "Nano Banana 2.1", IMAGE, input_limit=65_536),
    Model("gemini-3.1-flash-image", "Gemini 3.1 Flash Image", IMAGE, input_limit=65_536),
    Model("gemini-3.1-flash-lite-image", "Gemini 3.1 Flash-Lite Image", IMAGE, input_limit=65_536),
    Model("gemini-3-pro-image", "Gemini 3 Pro Image", IMAGE, input_limit=131_072, output_limit=32_768),
    Model("gemini-2.5-flash-image", "Gemini 2.5 Flash Image", IMAGE, input_limit=32_768, output_limit=32_768),
    Model("gemini-embedding-2", "Gemini Embedding 2", EMBEDDING, input_limit=8_192, output_limit=1),
    Model("gemini-embedding-001", "Gemini Embedding 001", EMBEDDING, input_limit=2_048, output_limit=1),
    Model("gemini-3.8-flash-tts", "Gemini 3.8 Flash TTS", SPEECH, input_limit=8_192, output_limit=16_384),
)
_BY_ID = {model.id: model for model in _MODELS}

# Deprecated ids that Google serves with a successor, on both API versions.
_ROUTED = {
    "gemini-3.7-flash": "gemini-3.8-flash",
    "gemini-3.5-flash": "gemini-3.6-flash",
    "gemini-3-pro-image-preview": "gemini-3-pro-image",
    "nano-banana-pro-preview": "gemini-3-pro-image",
}
_LATEST = {
    "gemini-flash-latest": "gemini-3.8-flash",
    "gemini-flash-lite-latest": "gemini-3.5-flash-lite",
    "gemini-pro-latest": "gemini-3.1-pro-preview",
}
# Closed to new users but still listed; each names the id that the rejection recommends.
CLOSED = {
    "gemini-2.5-pro": "gemini-3.8-flash",
    "gemini-2.5-flash": "gemini-3.8-flash",
}


def resolve(version: str, model_id: str, aliases: Mapping[str, str] = _ROUTED) -> Model | None:
    """The model that answers for an id on an API version (`v1` | `v1beta`), or None. `aliases` are further ids, each with the
    id that it stands for."""
    target = aliases.get(model_id, model_id)
    target = _ROUTED.get(target, target)
    if version == "v1beta":
        target = _LATEST.get(target, target)
    return _BY_ID.get(target)


def find(version: str, model_id: str) -> dict[str, Any] | None:
    """The entry of GET /models/{id}: an alias is shown under its own name."""
    model = resolve(version, model_id) or (_closed(model_id) if model_id in CLOSED else None)
    return None if model is None else {**model.entry(), "name": f"models/{model_id}"}


def entries(version: str) -> list[dict[str, Any]]:
    """Every entry of GET /models on an API version; Google's list holds closed and deprecated ids too."""
    aliases = [*_ROUTED, *(_LATEST if version == "v1beta" else ())]
    listed = [model.entry() for model in _MODELS] + [_closed(model_id).entry() for model_id in CLOSED]
    return listed + [entry for alias in aliases if (entry := find(version, alias)) is not None]


def _closed(model_id: str) -> Model:
    words = model_id.removeprefix("gemini-").split("-")
    return Model(model_id, "Gemini " + " ".join(word.capitalize() for word in words))
