"""The value types that everyone shares: what is asked, by whom, at what cost, and what came back. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from shared.bounds.byte_budget import Claim
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
    """Tokens as Gemini counted them (`usageMetadata`). None is unknown: Gemini did not count, or not in a way that can be
    read. It is never zero, and a sum with it is unknown. `total = prompt + output + thinking` where all are known."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    total_tokens: int | None = None

    def plus(self, other: Usage) -> Usage:
        return Usage(*(None if a is None or b is None else a + b for a, b in zip(self, other, strict=True)))


UNKNOWN_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `id` is for fairness and rates and is safe to log; `own_key` is set when the caller brought a key."""

    id: str
    kind: Literal["admin", "own_key", "anonymous"]
    own_key: Secret | None = None


@dataclass(slots=True, eq=False)
class Stage:
    """Part of a request's time, on `clock.elapsed_s()`. Until it is over, `ended_s` is when it was last looked at."""

    began_s: float
    ended_s: float


@dataclass(slots=True, eq=False)
class Attempt(Stage):
    """One exchange with Gemini."""

    account_id: str
    model_used: str | None = None
    usage: Usage | None = None
    """None as long as there is no answer, and so nothing to count."""
    failure: str | None = None
    """An `UpstreamFailure`'s kind, or `cancelled`: the gateway ended it."""


@dataclass(slots=True, eq=False)
class Journal:
    """What one request spent so far. The gateway writes it as it goes, so that a request that fails tells it too; several
    generations of one request (a repair turn) add up."""

    model: str | None = None
    """What Gemini is asked for: never what a caller wrote and nobody knows."""
    waits: list[Stage] = field(default_factory=list)
    """For a permit, in the queue. Empty if no generation was asked for."""
    attempts: list[Attempt] = field(default_factory=list)
    dispatched_s: float | None = None
    """When the exchange that is under way was dispatched, on `clock.elapsed_s()`; None if none is."""

    @property
    def queue_s(self) -> float:
        return _took_s(self.waits)

    @property
    def upstream_s(self) -> float:
        return _took_s(self.attempts)

    @property
    def usage(self) -> Usage | None:
        """The sum over all answers; None if there was none."""
        answers = [attempt.usage for attempt in self.attempts if attempt.usage is not None]
        return functools.reduce(Usage.plus, answers) if answers else None


def _took_s(stages: Sequence[Stage]) -> float:
    """Where they overlap, as those of generations side by side do, time is counted once."""
    if len(stages) == 1:
        return stages[0].ended_s - stages[0].began_s
    took_s, until_s = 0.0, -math.inf
    for stage in sorted(stages, key=lambda stage: stage.began_s):
        took_s += max(0.0, stage.ended_s - max(stage.began_s, until_s))
        until_s = max(until_s, stage.ended_s)
    return took_s


@dataclass(frozen=True, slots=True)
class Encoded:
    """A body as JSON, made once for `requests` requests that send it, and hold its bytes together."""

    data: bytes = field(repr=False)
    requests: int
    input_tokens: int | None = None
    """As estimated; None: not yet."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One request for the gateway. `body` is a native generateContent body (camelCase); `model` as the caller wrote it."""

    model: str
    body: Mapping[str, Any]
    caller: Caller
    deadline_s: float
    """The caller's patience, on `clock.elapsed_s()`: queue and upstream together."""
    priority: Literal["interactive", "batch"] = "interactive"
    journal: Journal = field(default_factory=Journal)
    encoded: Encoded | None = None
    """Of `body`, where several requests have it."""
    claim: Claim | None = None
    """The bytes that the request holds already; None: it holds none, and the gateway claims them while it works."""
    patient_until_s: float | None = None
    """On `clock.elapsed_s()`: how long the caller said that it waits for the answer (of a stream, for its first byte), in
    place of the queue's own limit. None: that limit holds."""


@dataclass(slots=True)
class Reply:
    """What Gemini answered (`body`, native JSON) and what the gateway did for it."""

    body: JsonObject
    model_requested: str
    model_used: str
    account_id: str
    usage: Usage
    headers: dict[str, str] = field(default_factory=dict)
    """x-ratelimit-*, x-model-requested, x-model-used: what every generation answer carries."""
