"""The value types that everyone shares: what is asked, by whom, at what cost, and what came back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from shared.secret import Secret

JsonObject = dict[str, Any]


class Cost(NamedTuple):
    """What one dispatch takes from a minute's limits. Also a sum of such costs, and (as a correction) a difference."""

    requests: int = 0
    input_tokens: int = 0
    images: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(self[0] + other[0], self[1] + other[1], self[2] + other[2])

    def minus(self, other: Cost) -> Cost:
        return Cost(self[0] - other[0], self[1] - other[1], self[2] - other[2])


NO_COST = Cost()


class Usage(NamedTuple):
    """Tokens as Gemini counted them (`usageMetadata`). `total = prompt + output + thinking`."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `id` is for fairness and rates and is safe to log; `own_key` is set when the caller brought a key."""

    id: str
    kind: Literal["admin", "own_key", "anonymous"]
    own_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One request for the gateway. `body` is a native generateContent body (camelCase); `model` as the caller wrote it."""

    model: str
    body: Mapping[str, Any]
    caller: Caller
    deadline_s: float
    """The caller's patience, on `clock.elapsed_s()`: queue and upstream together."""
    priority: Literal["interactive", "batch"] = "interactive"


@dataclass(slots=True)
class Timing:
    """Seconds spent per stage; `server-timing` is written from it."""

    queue_s: float = 0.0
    upstream_s: float = 0.0


@dataclass(slots=True)
class Reply:
    """What Gemini answered (`body`, native JSON) and what the gateway did for it."""

    body: JsonObject
    model_requested: str
    model_used: str
    account_id: str
    usage: Usage
    timing: Timing
    headers: dict[str, str] = field(default_factory=dict)
    """x-ratelimit-*, x-model-requested, x-model-used: what every generation answer carries."""
