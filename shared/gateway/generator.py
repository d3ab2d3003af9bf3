"""Generates for one caller until one deadline. This is all that a use case needs from the gateway."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.bounds.byte_budget import Claim
from shared.bounds.pace import PacedRequest
from shared.generation import Caller, EncodedBody, Generation, JsonObject, Priority, Reply, Timeline, Verb

if TYPE_CHECKING:
    from shared.gateway.gateway import Gateway
    from shared.gateway.stream_reply import StreamReply


@dataclass(frozen=True, slots=True)
class Generator:
    """Made by `Gateway.bind`. Several generations, one after the other or side by side, share the deadline and the
    timeline."""

    gateway: Gateway
    caller: Caller
    deadline_s: float
    """Elapsed time (`clock.elapsed_s()`) at which the caller stops waiting: queue and upstream together."""
    priority: Priority
    timeline: Timeline
    claim: Claim | None = None
    """The bytes that the caller's request already holds. None: the gateway itself claims a body's bytes while it works."""
    patient_until_s: float | None = None
    """Until when the caller waits for the answer (of a stream: for its first byte), in elapsed time, as the caller stated. It
    replaces the queue's own limit. None: that limit applies."""
    pace: PacedRequest | None = None
    """Keeps a minimum time between this request's dispatches and others that share the pace."""

    async def generate(self, model: str, body: JsonObject | EncodedBody) -> Reply:
        """One answer to a native generateContent body (camelCase). Raises GatewayError."""
        return await self.gateway.generate(self._generation(model, body))

    async def count(self, model: str, body: JsonObject) -> int | None:
        """Gemini's count of the input tokens of a native body without files; None if it cannot be had now. Raises
        GatewayError."""
        return await self.gateway.count(self._generation(model, body))

    async def embed(self, model: str, body: JsonObject | EncodedBody) -> Reply:
        """The vectors for a native body of embedContent, or of batchEmbedContents (it has `requests`), which costs as many
        requests as it has. Raises GatewayError."""
        native = body.body if isinstance(body, EncodedBody) else body
        verb: Verb = "batchEmbedContents" if "requests" in native else "embedContent"
        return await self.gateway.generate(replace(self._generation(model, body), verb=verb))

    def stream(self, model: str, body: JsonObject | EncodedBody) -> AbstractAsyncContextManager[StreamReply]:
        """Entering waits for the first frame; an error before it is raised there. Raises GatewayError."""
        return self.gateway.stream(self._generation(model, body))

    async def encode(self, builder: Callable[[], JsonObject], size_bytes: int = 0) -> EncodedBody:
        """The body that `builder` returns, encoded once for several generations. `builder` may run in a thread; `size_bytes`
        is the size of what it works on. Raises BadRequest."""
        return await self.gateway.bodies.build(builder, size_bytes, self.caller, self.claim)

    def _generation(self, model: str, body: JsonObject | EncodedBody) -> Generation:
        encoded = body if isinstance(body, EncodedBody) else None
        return Generation(
            model,
            body.body if isinstance(body, EncodedBody) else body,
            self.caller,
            self.deadline_s,
            self.priority,
            self.timeline,
            encoded,
            self.claim,
            self.patient_until_s,
            self.pace,
        )
