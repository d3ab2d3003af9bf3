"""The value types of one generation: who requests what, at what cost, and what came back. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from shared.bounds.byte_budget import Claim
from shared.bounds.pace import PacedRequest
from shared.secret import Secret

JsonObject = dict[str, Any]
Priority = Literal["interactive", "batch"]
Verb = Literal["generateContent", "embedContent", "batchEmbedContents"]
"""The method of the native API that answers a generation."""


class Cost(NamedTuple):
    """What one dispatch takes from a minute's limits. Sums of costs, and corrections (differences), have this type too."""

    requests: int = 0
    input_tokens: int = 0
    images: int = 0
    batches: int = 0
    """Calls of `:batchEmbedContents`: a quota of its own, which all models of a project share."""

    def plus(self, other: Cost) -> Cost:
        return Cost(self[0] + other[0], self[1] + other[1], self[2] + other[2], self[3] + other[3])

    def minus(self, other: Cost) -> Cost:
        return Cost(self[0] - other[0], self[1] - other[1], self[2] - other[2], self[3] - other[3])

    def times(self, count: int) -> Cost:
        return Cost(self[0] * count, self[1] * count, self[2] * count, self[3] * count)


NO_COST = Cost()
DIMENSIONS = len(Cost._fields)
BATCHES_AT = 3
"""The index of `Cost.batches`, the only dimension that the models of a project share."""


class Usage(NamedTuple):
    """Tokens as Gemini counted them (`usageMetadata`). None is unknown: Gemini sent no count, or one that cannot be read.
    Unknown is never zero, and a sum with it is unknown. `total = prompt + output + thinking` where all are known."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    total_tokens: int | None = None

    def plus(self, other: Usage) -> Usage:
        return Usage(*(None if a is None or b is None else a + b for a, b in zip(self, other, strict=True)))


UNKNOWN_USAGE = Usage()


class RateLimit(NamedTuple):
    """A limit per minute: how much of it this process may still use, and the seconds until it is whole again."""

    limit: int
    remaining: int
    reset_s: float

    def tightest(self, other: RateLimit | None) -> RateLimit:
        """The one with less remaining."""
        return self if other is None else min(self, other, key=lambda one: (one.remaining, one.limit, -one.reset_s))


class RateStatus(NamedTuple):
    """The rate limits of the model and project that served a request, after it was dispatched. None: unlimited."""

    requests: RateLimit | None = None
    input_tokens: RateLimit | None = None

    def tightest(self, other: RateStatus) -> RateStatus:
        """The limits that bind a caller that depends on both."""
        return RateStatus(*(b if a is None else a.tightest(b) for a, b in zip(self, other, strict=True)))


UNLIMITED_RATE = RateStatus()


class Ending(NamedTuple):
    """What an answer has besides its content: the model that responded, Gemini's finish reason, and the tokens used."""

    model: str
    finish_reason: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. Fairness and rate limits use `id`, which is safe to log; `caller_key` is the Gemini key that the
    caller sent, if any."""

    id: str
    kind: Literal["admin", "caller_key", "anonymous"]
    caller_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that a caller stored here, as the gateway uploads it to Gemini. `key` is unique for the file and its owner, `name`
    is the file's id for the caller, `read(start, end)` returns the bytes from `start` to `end` (exclusive)."""

    key: str
    name: str
    mime_type: str
    size_bytes: int
    read: Callable[[int, int], Awaitable[bytes]] = field(repr=False, compare=False)


class FileUri(str):
    """The `fileUri` of a stored file in a native body. The gateway replaces it with the file's URI in the Google project that it
    has chosen for the request. Only this type names a stored file: the same text from a caller's JSON is no `FileUri`."""

    __slots__ = ("source",)
    source: FileSource

    def __new__(cls, source: FileSource) -> FileUri:
        uri = super().__new__(cls, f"stored:{source.name}")
        uri.source = source
        return uri


@dataclass(slots=True, eq=False)
class TimeSpan:
    """Part of a request's time, in elapsed seconds (`clock.elapsed_s()`). `ended_s` is the last measurement so far."""

    began_s: float
    ended_s: float


@dataclass(slots=True, eq=False)
class Attempt(TimeSpan):
    """One exchange with Gemini."""

    account_id: str
    model_used: str | None = None
    usage: Usage | None = None
    """None until Gemini has answered."""
    failure: str | None = None
    """An `UpstreamFailure`'s kind, or `cancelled`: the gateway ended the exchange."""


@dataclass(slots=True, eq=False)
class Timeline:
    """What one request has spent so far. The gateway writes it during the request, so that a failed request has one too;
    several generations of one request (a repair turn, several images) add up."""

    model: str | None = None
    """The model that Gemini is sent: never a caller's text that matches no known model."""
    waits: list[TimeSpan] = field(default_factory=list)
    """Times spent waiting for a permit. Empty if the request asked for no generation."""
    attempts: list[Attempt] = field(default_factory=list)
    dispatched_s: float | None = None
    """Elapsed time of the current exchange's dispatch; None if no exchange is open."""
    models: tuple[str, str] | None = None
    """The model that the caller requested and the one that Gemini used, of the latest answer; None before the first one."""
    rate: RateStatus = UNLIMITED_RATE
    """The tightest limits over all answers."""

    signatures_replaced: bool = False
    """Whether an answer was generated with a placeholder in place of thought signatures."""

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

    def answered(self, reply: Reply) -> None:
        """Records what a response's headers report of an answer."""
        self.models = (reply.model_requested, reply.model_used)
        self.signatures_replaced = self.signatures_replaced or reply.signatures_replaced
        self.rate = reply.rate if self.rate is UNLIMITED_RATE else self.rate.tightest(reply.rate)


def _took_s(spans: Sequence[TimeSpan]) -> float:
    """The time that the spans cover. Time in which several of them overlap counts once."""
    if len(spans) == 1:
        return spans[0].ended_s - spans[0].began_s
    took_s, until_s = 0.0, -math.inf
    for span in sorted(spans, key=lambda span: span.began_s):
        took_s += max(0.0, span.ended_s - max(span.began_s, until_s))
        until_s = max(until_s, span.ended_s)
    return took_s


@dataclass(frozen=True, slots=True)
class EncodedBody:
    """A native body, the JSON that is sent for it, and its estimated input tokens. Several generations may share one."""

    body: Mapping[str, Any] = field(repr=False)
    data: bytes = field(repr=False)
    input_tokens: int


@dataclass(frozen=True, slots=True)
class Generation:
    """One request for the gateway. `body` is a native body of `verb` (camelCase); `model` as the caller wrote it. The
    other fields are those of `gateway.generator.Generator`."""

    model: str
    body: Mapping[str, Any]
    caller: Caller
    deadline_s: float
    priority: Priority = "interactive"
    timeline: Timeline = field(default_factory=Timeline)
    encoded: EncodedBody | None = None
    """`body`, if it is encoded already."""
    claim: Claim | None = None
    patient_until_s: float | None = None
    pace: PacedRequest | None = None
    verb: Verb = "generateContent"


@dataclass(slots=True)
class Reply:
    """Gemini's answer (`body`, native JSON), and how the gateway got it."""

    body: JsonObject
    model_requested: str
    model_used: str
    account_id: str
    usage: Usage
    rate: RateStatus = UNLIMITED_RATE
    signatures_replaced: bool = False
    """Whether Gemini got a placeholder in place of thought signatures of another backend."""
