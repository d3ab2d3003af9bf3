"""The bodies of requests to Gemini: encoded once, and counted in the process's byte budget while a request holds them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from shared.bounds.byte_budget import Bucket, ByteBudget, Claim
from shared.bounds.large_work import LARGE_BYTES, LargeWork
from shared.gemini.encoding import encode
from shared.generation import Caller, EncodedBody, Generation, JsonObject

_NOTHING_TO_RELEASE = nullcontext()


class RequestBodies:
    def __init__(self, byte_budget: ByteBudget, large_work: LargeWork) -> None:
        self.byte_budget, self.large_work = byte_budget, large_work

    async def encoded(self, generation: Generation) -> EncodedBody:
        """The request's body as JSON. Encoding a large body does not delay other requests. Raises BadRequest."""
        if generation.encoded is not None:
            return generation.encoded
        claim = generation.claim
        job = partial(encode, generation.body)
        if claim is None or claim.held_bytes < LARGE_BYTES:
            return job()
        return await self.large_work.run(job, first=generation.caller.kind == "admin")

    async def build(
        self, builder: Callable[[], JsonObject], size_bytes: int, caller: Caller, claim: Claim | None
    ) -> EncodedBody:
        """The body that `builder` returns, encoded once for several requests. Building and encoding do not delay other
        requests where the caller's body, or the `size_bytes` that go into it, are large. Raises BadRequest."""
        held_bytes = claim.held_bytes if claim is not None else 0
        if max(size_bytes, held_bytes) < LARGE_BYTES:
            return encode(builder())
        return await self.large_work.run(lambda: encode(builder()), first=caller.kind == "admin")

    def held(self, generation: Generation, encoded: EncodedBody) -> AbstractContextManager[object]:
        """Counts the body's bytes in the request's claim; without one, in a claim of its own until the context ends. Raises
        QueueFull."""
        if generation.claim is not None:
            generation.claim.cover(len(encoded.data))
            return _NOTHING_TO_RELEASE
        claim = self.byte_budget.claim(Bucket(generation.caller.id, generation.caller.kind == "admin"))
        claim.grow(len(encoded.data))
        return claim
