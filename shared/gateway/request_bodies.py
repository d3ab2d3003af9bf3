"""The bodies of requests to Gemini: encoded once, and counted in the process's byte budget while they are held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from shared.bounds.byte_budget import Bucket, ByteBudget
from shared.bounds.large_work import LARGE_BYTES, LargeWork
from shared.gemini.encoding import encode
from shared.generation import Encoded, Generation


class RequestBodies:
    def __init__(self, byte_budget: ByteBudget, large_work: LargeWork) -> None:
        self.byte_budget, self.large_work = byte_budget, large_work

    async def encoded(self, generation: Generation) -> Encoded:
        """The body as JSON, with its estimated tokens. A large one does not hold up other requests. Raises BadRequest."""
        claim, encoded = generation.claim, generation.encoded
        if encoded is not None and encoded.input_tokens is not None:
            return encoded
        job = partial(encode, generation.body, encoded)
        if claim is None or claim.held_bytes < LARGE_BYTES:
            return job()
        return await self.large_work.run(job, first=generation.caller.kind == "admin")

    @contextmanager
    def held(self, generation: Generation, encoded: Encoded) -> Iterator[None]:
        """The body's bytes are held by the request that it came with, else by the gateway. Raises QueueFull."""
        if generation.claim is not None:
            generation.claim.cover(len(encoded.data))
            yield
            return
        claim = self.byte_budget.claim(Bucket(generation.caller.id, generation.caller.kind == "admin"))
        claim.grow(len(encoded.data) // encoded.requests)
        try:
            yield
        finally:
            claim.release()
