"""Which models there are, what each can do, and which one serves a name. Pure data and look-ups.

As of November 2026. An operator's change is a new table (`changed`), never an edit of this one at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from shared.errors import BadRequest
from shared.gemini import wire

Kind = Literal[
    "pro", "flash", "flash_lite", "image", "embedding", "speech", "transcription", "live", "video", "music", "open"
]
Purpose = Literal["chat", "generate_text", "stream", "batch", "structured_output", "cinematic_story_design", "image"]

_NO_TEXT: dict[Kind, str] = {
    "image": "images",
    "embedding": "vectors",
    "speech": "speech",
    "live": "a live session",
    "video": "videos",
    "music": "music",
}
ID_PATTERN = r"[a-z0-9._-]{1,100}"
_ID = re.compile(ID_PATTERN)
_MAX_HOPS = 8
_SHARED_TOKENS, _OUTPUT_TOKENS = 1_048_576, 65_536
"""The window of Gemini's models, which some share between input and output, and the longest output."""
_OPEN_INPUT_TOKENS = 262_144
OVERRIDDEN: frozenset[Purpose] = frozenset({"chat", "generate_text", "stream", "batch"})
"""What GEMINI_MODEL_TYPE chooses the model for: endpoints that answer with plain text."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the gateway knows of one model."""

    id: str
    kind: Kind
    thinking_levels: tuple[str, ...] = ("low", "medium", "high")
    """The values of `thinkingLevel` that it accepts; empty for a model that does not think or that takes a budget."""
    free_tier: bool = True
    """False: the free tier's quota for it is 0."""

    @property
    def image_output(self) -> bool:
        return self.kind == "image"

    @property
    def answers_with(self) -> str:
        """text, images, vectors, speech, a live session, videos or music."""
        return _NO_TEXT.get(self.kind, "text")


@dataclass(frozen=True, slots=True)
class Resolved:
    """`requested` is what the caller wrote without `models/`; `canonical` is the id that is sent, answered and metered.
    `known`: the table has it. An unknown id that is well formed passes: a table always lags behind Google's."""

    requested: str
    canonical: str
    known: bool


_ALL_LEVELS = ("minimal", "low", "medium", "high")
_TO_XHIGH = ("low", "medium", "high", "xhigh")


def _other(model_id: str, kind: Kind, free_tier: bool = False) -> ModelInfo:
    """A model without thinking levels."""
    return ModelInfo(model_id, kind, thinking_levels=(), free_tier=free_tier)


_MODELS = (
    ModelInfo("gemini-4-argon", "pro", free_tier=False),
    ModelInfo("gemini-4-neon", "pro", thinking_levels=_TO_XHIGH, free_tier=False),
    ModelInfo("gemini-4-carbon", "pro", free_tier=False),
    ModelInfo("gemini-4-hydrogen", "pro", free_tier=False),
    ModelInfo("gemini-3.1-pro-preview", "pro", free_tier=False),
    ModelInfo("gemini-3.1-pro-preview-customtools", "pro", free_tier=False),
    ModelInfo("gemini-3.8-flash", "flash"),
    ModelInfo("gemini-3.6-flash", "flash", thinking_levels=_ALL_LEVELS),
    ModelInfo("gemini-3-flash-preview", "flash", thinking_levels=_ALL_LEVELS),
    ModelInfo("gemini-3.5-flash-lite", "flash_lite", thinking_levels=_ALL_LEVELS),
    ModelInfo("gemini-3.1-flash-lite", "flash_lite", thinking_levels=_ALL_LEVELS),
    ModelInfo("gemini-2.5-flash-lite", "flash_lite", thinking_levels=()),
    _other("gemini-3-pro-image", "image"),
    _other("gemini-nano-banana-2.1", "image"),
    _other("gemini-3.1-flash-image", "image"),
    _other("gemini-3.1-flash-lite-image", "image"),
    _other("gemini-2.5-flash-image", "image"),
    _other("gemini-embedding-2", "embedding", free_tier=True),
    _other("gemini-embedding-001", "embedding", free_tier=True),
    _other("gemini-3.8-flash-tts", "speech", free_tier=True),
    _other("gemini-3.8-flash-lite-tts", "speech", free_tier=True),
    _other("gemini-3.1-flash-tts-preview", "speech", free_tier=True),
    _other("gemini-2.5-flash-preview-tts", "speech", free_tier=True),
    _other("gemini-2.5-pro-preview-tts", "speech"),
    _other("gemini-3.5-transcribe", "transcription", free_tier=True),
    _other("gemini-3.5-transcribe-live", "live"),
    _other("gemini-3.8-live", "live"),
    _other("gemini-3.8-live-extended-thinking", "live"),
    _other("gemini-2.5-flash-native-audio-latest", "live"),
    _other("gemini-omni-1.1-flash", "video"),
    _other("lyria-3.5", "music"),
    _other("gemma-4-26b-a4b-it", "open", free_tier=True),
    _other("gemma-4-31b-it", "open", free_tier=True),
)

DEFAULT_EMBEDDING = "gemini-embedding-2"
BATCHES_PER_MINUTE = 150
"""How many calls of `:batchEmbedContents` a project may send per minute, with all embedding models together."""
MAX_BATCH_INPUTS = 100
"""Gemini's maximum for one of them."""

_SUCCESSORS = {
    # Names that move; Google answers them only under v1beta.
    "gemini-flash-latest": "gemini-3.8-flash",
    "gemini-flash-lite-latest": "gemini-3.5-flash-lite",
    "gemini-pro-latest": "gemini-4-argon",
    # Deprecated, routed by Google itself (the last two since 2026-12-01; before, they were closed to new projects).
    "gemini-3.7-flash": "gemini-3.8-flash",
    "gemini-3.5-flash": "gemini-3.6-flash",
    "gemini-2.5-pro": "gemini-3.8-flash",
    "gemini-2.5-flash": "gemini-3.5-flash-lite",
}

RETIRED: Mapping[str, str] = {
    # An embedding model has no successor: its vectors compare with no other model's.
    "gemini-1.5-flash": "gemini-3.8-flash",
    "gemini-1.5-flash-latest": "gemini-3.8-flash",
    "gemini-1.5-flash-8b": "gemini-3.5-flash-lite",
    "gemini-1.5-pro": "gemini-4-argon",
    "gemini-1.5-pro-latest": "gemini-4-argon",
    "gemini-2.0-flash": "gemini-3.5-flash-lite",
    "gemini-2.0-flash-001": "gemini-3.5-flash-lite",
    "gemini-2.0-flash-lite": "gemini-3.5-flash-lite",
    "gemini-2.0-flash-lite-001": "gemini-3.5-flash-lite",
    "gemini-2.5-flash-preview-04-17": "gemini-3.8-flash",
    "gemini-3-pro-preview": "gemini-4-argon",
    "gemini-3-pro-image-preview": "gemini-3-pro-image",
    "nano-banana-pro-preview": "gemini-3-pro-image",
    "gemini-2.5-flash-image-preview": "gemini-2.5-flash-image",
}
"""Models that Google has shut down (404), and the model that serves their names here."""

_STAND_INS: dict[str, Purpose] = {"gemini-enterprise": "chat", "gemini-enterprise-2": "chat"}
"""Names of an account kind rather than of a model: served by a purpose's default when no such account exists."""

_DEFAULTS: dict[Purpose, str] = {
    "chat": "gemini-3.8-flash",
    "generate_text": "gemini-3.8-flash",
    "stream": "gemini-3.8-flash",
    "batch": "gemini-3.8-flash",
    "structured_output": "gemini-4-argon",
    "cinematic_story_design": "gemini-4-argon",
    "image": "gemini-3-pro-image",
}


@dataclass(frozen=True)
class ModelTable:
    """Every successor and default ends at a model of the table; a table for which that fails raises ValueError."""

    models: Mapping[str, ModelInfo]
    successors: Mapping[str, str]
    defaults: Mapping[Purpose, str]
    stand_ins: Mapping[str, Purpose] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for purpose in get_args(Purpose):
            if purpose not in self.defaults:
                raise ValueError(f"the model table has no default for {purpose}")
        for name in (*self.successors, *self.defaults.values(), *self.models):
            if self._canonical(name) not in self.models:
                raise ValueError(f"the model table leads {name!r} to no known model")

    def resolve(self, model: str) -> Resolved:
        """The model that serves `model`. Raises BadRequest naming the field `model` when it cannot be a model's id."""
        if (known := self._canonical_models.get(model)) is not None:
            return known
        requested = model.removeprefix("models/")
        if not _ID.fullmatch(requested):
            raise BadRequest(
                "model must be a Gemini model id of at most 100 characters a-z, 0-9, '.', '_' and '-', "
                "such as gemini-3.8-flash.",
                field="model",
            )
        canonical = self._canonical(requested)
        return Resolved(requested, canonical, canonical in self.models)

    @cached_property
    def _canonical_models(self) -> Mapping[str, Resolved]:
        """Most requests name a model by its own id: for these, nothing has to be looked up."""
        return {name: Resolved(name, name, True) for name in self.models if self._canonical(name) == name}

    def default_model(self, purpose: Purpose, tier: str) -> str:
        """The canonical id for a purpose. On the free tier, where a pro model's quota is 0, chat's flash stands in."""
        model = self._canonical(self.defaults[purpose])
        info = self.models[model]
        if tier == "free" and info.kind == "pro" and not info.free_tier:
            return self._canonical(self.defaults["chat"])
        return model

    def changed(
        self,
        *,
        models: Iterable[ModelInfo] = (),
        successors: Mapping[str, str] | None = None,
        defaults: Mapping[Purpose, str] | None = None,
    ) -> ModelTable:
        """This table with an operator's entries over it. An added model is no longer led elsewhere. Raises ValueError."""
        added = {info.id: info for info in models}
        kept = {name: target for name, target in self.successors.items() if name not in added}
        return ModelTable(
            {**self.models, **added},
            {**kept, **(successors or {})},
            {**self.defaults, **(defaults or {})},
            self.stand_ins,
        )

    def _canonical(self, name: str) -> str:
        purpose = self.stand_ins.get(name)
        if purpose is not None and name not in self.successors:
            name = self.defaults[purpose]
        for _ in range(_MAX_HOPS):
            successor = self.successors.get(name)
            if successor is None:
                return name
            name = successor
        raise ValueError(f"the model table leads {name!r} in a circle")


_MISSING = re.compile(
    r"models/[a-z0-9._-]{1,100} is not found for api version \w+|"
    r"this model models/[a-z0-9._-]{1,100} is no longer available|model is not found: models/|"
    r"model id:? [a-z0-9._-]{1,100} is invalid|"
    r"publisher model `projects/[^`\s]{1,300}` (?:was )?not found",
    re.IGNORECASE,
)


def says_missing(message: str) -> bool:
    """Whether the text of a 404 is about the model, in Google's words of November 2026; another one is about a file or a
    cache. Only its beginning is believed: what follows may quote the caller."""
    return _MISSING.match(message) is not None


def model_id(name: str | None) -> str | None:
    """The id in a name that Gemini answered (`modelVersion`, a quota's dimension); None where it is no model's id."""
    found = (name or "").removeprefix("models/")
    return found if found in MODELS or _ID.fullmatch(found) else None


TABLE = ModelTable({info.id: info for info in _MODELS}, {**_SUCCESSORS, **RETIRED}, _DEFAULTS, _STAND_INS)
MODELS: Mapping[str, ModelInfo] = TABLE.models


def resolve(model: str) -> Resolved:
    """`ModelTable.resolve` on the built-in table."""
    return TABLE.resolve(model)


def info_of(model: str, table: ModelTable = TABLE) -> ModelInfo | None:
    """What the table has of `model` or of what stands in for it; None where it is not known. Raises BadRequest for what is
    no model's id."""
    return table.models.get(table.resolve(model).canonical)


def max_input_tokens(model: str, table: ModelTable = TABLE) -> int:
    """How much input a model that answers with text takes for certain."""
    info = table.models.get(model)
    return _OPEN_INPUT_TOKENS if info is not None and info.kind == "open" else _SHARED_TOKENS - _OUTPUT_TOKENS


def makes_image(model: str, body: Mapping[str, Any], table: ModelTable = TABLE) -> bool:
    """Whether a native request (camelCase) may be answered with an image: because of its model, or, if the table does not know
    the model, because of what the request asks for."""
    info = table.models.get(model)
    makes = info.image_output if info is not None else wire.asks_for_image(body)
    return makes and not wire.asks_for_text_only(body)


def embedding_model_for(requested: str | None, table: ModelTable = TABLE) -> str:
    """The model that makes a caller's embeddings. Raises BadRequest for one that is known to make none, or is no model's id."""
    model = DEFAULT_EMBEDDING if requested is None else requested
    info = info_of(model, table)
    if info is not None and info.kind != "embedding":
        raise BadRequest(
            f"model {info.id} returns {info.answers_with}, not vectors; use {DEFAULT_EMBEDDING}.", field="model"
        )
    return model


def embedding_ids(table: ModelTable = TABLE) -> list[str]:
    """The models that make embeddings."""
    return [info.id for info in table.models.values() if info.kind == "embedding"]


def is_stand_in(model: str) -> bool:
    """Whether the id names no model, but the assistant of Gemini Enterprise with a model of its own choice."""
    return model in TABLE.stand_ins and model not in TABLE.successors


def default_model(purpose: Purpose, tier: str) -> str:
    """`ModelTable.default_model` on the built-in table."""
    return TABLE.default_model(purpose, tier)


def model_for(
    requested: str | None, purpose: Purpose, tier: str, override: str | None, table: ModelTable = TABLE
) -> str:
    """The model that the caller requested; else `override` (GEMINI_MODEL_TYPE) where it applies; else the default.

    For a text purpose, raises BadRequest if the id is malformed, or if the model is known not to return text: Gemini
    would charge for its answer, and the response could not contain it."""
    if purpose not in OVERRIDDEN:
        override = None
    model = requested if requested is not None else override or table.default_model(purpose, tier)
    if purpose == "image":
        return model
    info = info_of(model, table)
    if info is not None and info.answers_with != "text":
        default = table.default_model(purpose, tier)
        remedy = "use POST /generate for images" if info.image_output else f"leave model out for {default}"
        raise BadRequest(f"model {info.id} returns {info.answers_with}, not text; {remedy}.", field="model")
    return model
