"""A streamed chat completion: Gemini's frames as chunks, while they arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from shared.gemini import wire
from shared.generation import EncodedBody, JsonObject, Usage
from shared.openai_api.choices import ChatJob, answered, identified, stored
from shared.openai_api.interleaving import interleaved
from shared.openai_format.answer import Head, contents_of
from shared.openai_format.chunks import Chunks, usage_chunk
from shared.openai_format.citations import citations
from shared.openai_format.finish import finish_of
from shared.openai_format.usage import sum_or_unknown, usage_body

if TYPE_CHECKING:
    from shared.gateway.generator import Generator

Pieces = AsyncGenerator[bytes | None, None]
"""Events as bytes; None is progress that is not forwarded."""


async def chunk_events(job: ChatJob, generator: Generator) -> Pieces:
    """The chunks of all choices, then the usage if it was asked for. Raises GatewayError."""
    totals = _Totals()
    if job.asked.n == 1:
        pieces = _choice(job, generator, job.asked.body, 0, totals)
    else:
        encoded = await generator.encode(lambda: job.asked.body)
        choices = [_choice(job, generator, encoded, index, totals) for index in range(job.asked.n)]
        pieces = interleaved(choices, job.call.public_error)
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece
    if job.asked.include_usage and totals.head is not None and totals.usage is not None:
        yield usage_chunk(totals.head, usage_body(totals.usage, totals.cached_tokens))


class _Totals:
    """What all choices took."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.usage: Usage | None = None
        self.cached_tokens: int | None = 0

    def add(self, head: Head, usage: Usage, cached_tokens: int | None) -> None:
        self.head = self.head or head
        self.usage = usage if self.usage is None else self.usage.plus(usage)
        self.cached_tokens = sum_or_unknown(self.cached_tokens, cached_tokens)


def _choice(job: ChatJob, generator: Generator, body: JsonObject | EncodedBody, index: int, totals: _Totals) -> Pieces:
    if job.check is not None:
        return _checked_choice(job, generator, body, index, totals)
    return _streamed_choice(job, generator, body, index, totals)


async def _streamed_choice(
    job: ChatJob, generator: Generator, body: JsonObject | EncodedBody, index: int, totals: _Totals
) -> Pieces:
    async with generator.stream(job.model, body) as reply:
        head = job.head(reply.head.model_used)
        chunks = _chunks(job, head, index)
        ending: JsonObject = {}
        text = ""
        annotations: list[JsonObject] = []
        cached_tokens: int | None = None
        async for frame in reply:
            if wire.finish_reason(frame) is not None or ("promptFeedback" in frame and wire.block_reason(frame)):
                ending = frame
            if job.asked.include_usage:
                cached_tokens = _newer(cached_tokens, wire.cached_tokens(frame))
            contents = contents_of(frame)
            if job.searches:
                text += contents.text
                annotations = citations(frame, text) or annotations
            if not job.asked.parallel_calls:
                del contents.calls[max(0, 1 - chunks.calls) :]
            if not contents.has_only_text:
                links, call_ids = await stored(job, contents.blobs), await identified(job, contents.calls)
                yield chunks.of_contents(contents, call_ids, links)
            elif piece := chunks.of_contents(contents):
                yield piece
            elif contents.thoughts:
                # A frame without contents does not begin the response: what it reports may be an error, which keeps its status.
                yield None
        finish = finish_of(ending, has_content=chunks.has_content, has_calls=chunks.calls > 0)
        yield chunks.of_end(finish, annotations)
        totals.add(head, reply.usage, cached_tokens)


async def _checked_choice(
    job: ChatJob, generator: Generator, body: JsonObject | EncodedBody, index: int, totals: _Totals
) -> Pieces:
    # Generated whole: what is sent cannot be repaired.
    one = await answered(job, generator, body)
    head = job.head(one.model)
    chunks = _chunks(job, head, index)
    yield chunks.of_contents(one.contents, one.call_ids, one.links) + chunks.of_end(one.finish, one.annotations)
    totals.add(head, one.usage, one.cached_tokens)


def _newer(before: int | None, of_frame: int | None) -> int | None:
    """The count of a stream after one more frame: a frame that leaves it out, or has it as zero, does not change it."""
    return of_frame or (of_frame if before is None else before)


def _chunks(job: ChatJob, head: Head, index: int) -> Chunks:
    return Chunks(head, index, usage=job.asked.include_usage, reasoning=job.asked.reasoning)
