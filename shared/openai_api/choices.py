"""One choice of a chat completion: an answer of Gemini's that is whole, checked, and whose images and signatures are stored."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.bounds.large_work import LARGE_BYTES
from shared.clock import unix_s
from shared.errors import UpstreamFailed
from shared.gemini import wire
from shared.generation import EncodedBody, JsonObject, Reply, Usage
from shared.http.call import Call
from shared.openai_api.signatures import record_signatures
from shared.openai_format.answer import Blob, Contents, Head, Link, ToolCall, contents_of
from shared.openai_format.call_ids import RANDOM_BYTES, new_call_id
from shared.openai_format.citations import citations
from shared.openai_format.finish import Finish, finish_of
from shared.openai_format.translation import Translated
from shared.openai_format.usage import sum_or_unknown
from shared.structured.json_schema import Problem
from shared.structured.output import Check, conforming

if TYPE_CHECKING:
    from shared.gateway.generator import Generator

_AT_END = {"x-should-retry": "false"}
"""An answer that does not conform was repaired once already: OpenAI's SDKs would pay for two more of each."""


class _AnyObject:
    """The check of response_format json_object."""

    def problems(self, value: Any, /) -> Sequence[Problem]:
        return [] if isinstance(value, dict) else [Problem("", "must be an object")]

    quick_problems = problems


@dataclass(frozen=True)
class ChatJob:
    """One request, as all its choices need it."""

    call: Call
    model: str
    asked: Translated
    headers: Mapping[str, str]
    """Additional headers of the response."""

    @property
    def check(self) -> Check | None:
        """What an answer without tool calls must conform to."""
        return self.asked.schema or (_AnyObject() if self.asked.json_only else None)

    @cached_property
    def repairs(self) -> AbstractAsyncContextManager[Any]:
        """A repair sends the whole body again, in an encoding of its own, and the claim has room for one: those of a large body
        follow each other."""
        is_large = self.call.claim.held_bytes >= LARGE_BYTES
        return asyncio.Lock() if is_large else contextlib.nullcontext()

    @cached_property
    def searches(self) -> bool:
        """Whether the model may search the web, and so cite pages."""
        return any("googleSearch" in tool for tool in self.asked.body.get("tools", ()))

    @cached_property
    def _identity(self) -> tuple[str, int]:
        return f"chatcmpl-{os.urandom(12).hex()}", int(unix_s())

    def head(self, model: str) -> Head:
        """`model`: the one that responded."""
        return Head(*self._identity, model)


class Choice(NamedTuple):
    """`call_ids` has an id for each tool call, `links` one link for each blob of the contents. `annotations`: the web pages that
    the text cites."""

    contents: Contents
    finish: Finish
    call_ids: Sequence[str]
    links: Sequence[Link]
    annotations: Sequence[JsonObject]
    model: str
    usage: Usage
    cached_tokens: int | None


async def answered(job: ChatJob, generator: Generator, body: JsonObject | EncodedBody) -> Choice:
    """Raises GatewayError."""
    reply = await generator.generate(job.model, body)
    contents, finish = _read(job, reply)
    cached_tokens = wire.cached_tokens(reply.body)
    # An answer that was cut off or withheld cannot conform; its reason says why.
    if job.check is not None and finish.reason == "stop":
        headers = {**_AT_END, **job.headers}
        async with job.repairs:
            text, last = await conforming(generator, job.model, job.asked.body, reply, job.check, headers)
        if last is not reply:
            cached_tokens = sum_or_unknown(cached_tokens, wire.cached_tokens(last.body))
            reply = last
            contents, finish = _read(job, reply)
        contents = contents._replace(pieces=[text])
    links = await stored(job, contents.blobs)
    call_ids = await identified(job, contents.calls)
    annotations = citations(reply.body, contents.text) if job.searches else []
    return Choice(contents, finish, call_ids, links, annotations, reply.model_used, reply.usage, cached_tokens)


def _read(job: ChatJob, reply: Reply) -> tuple[Contents, Finish]:
    contents = contents_of(reply.body)
    finish = finish_of(reply.body, has_content=contents.has_content, has_calls=bool(contents.calls))
    if not job.asked.parallel_calls:
        del contents.calls[1:]
    return contents, finish


async def identified(job: ChatJob, calls: Sequence[ToolCall]) -> list[str]:
    """New ids for tool calls. Their signatures are written before the caller gets them, since its next turn may follow at
    once."""
    call_ids = [new_call_id(one.signature, os.urandom(RANDOM_BYTES).hex()) for one in calls]
    signed = {call_id: one.signature for call_id, one in zip(call_ids, calls, strict=True) if one.signature is not None}
    if signed:
        await record_signatures(job.call, signed)
    return call_ids


async def stored(job: ChatJob, blobs: Sequence[Blob]) -> list[Link]:
    """A link for each file of an answer, which is paid for: what is not a complete image, or cannot be stored, is in the link
    itself, as a data URL."""
    if not blobs:
        return []
    # Only answers with images load this.
    from shared.media.uninterrupted import uninterrupted

    return await uninterrupted(_stored(job, blobs))


async def _stored(job: ChatJob, blobs: Sequence[Blob]) -> list[Link]:
    from shared.images.links import image_url
    from shared.images.storing import read_image, store_image

    metadata = {"model": job.model, "request-id": job.call.request_id}
    links = []
    for blob in blobs:
        link: Link | None = None
        with contextlib.suppress(UpstreamFailed):
            image = await job.call.work(partial(read_image, blob.data, blob.mime_type), LARGE_BYTES)
            kept = await store_image(lambda: job.call.services.media, image, metadata, job.call.public_error)
            if not isinstance(kept, str):
                link = Link(image_url(kept.name, job.call.base_url), image.kind.mime_type)
        links.append(link or Link(f"data:{blob.mime_type};base64,{blob.data}", blob.mime_type))
    return links
