"""POST /v1/chat/completions: what the body refers to is fetched, the body becomes Gemini's, and its answers become choices.

references -> resolved -> translate -> ChatJob -> answers (choices.py), or a stream of chunks (chunk_streams.py)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from functools import partial

import orjson
from starlette.responses import Response

from shared.errors import GatewayError
from shared.gemini import models
from shared.generation import Usage
from shared.http.call import Call
from shared.http.event_stream import Framing, data_event
from shared.http.large_response import MAX_IMAGE_BYTES, in_chunks
from shared.http.response import JsonResponse
from shared.openai_api.choices import ChatJob, Choice, answered
from shared.openai_api.chunk_streams import chunk_events
from shared.openai_api.resolving import resolved
from shared.openai_format.answer import choice_body, completion, message_body
from shared.openai_format.chat_body import ChatBody
from shared.openai_format.chunks import DONE
from shared.openai_format.translation import references, translate
from shared.openai_format.usage import sum_or_unknown, usage_body
from shared.structured.output import unchecked_header

_FRAMING = Framing(data_event, DONE)


async def chat_completions(call: Call) -> Response:
    job = await _job(call)
    if not job.asked.stream:
        return await _completion(job)
    response = call.event_stream(partial(chunk_events, job), _FRAMING)
    response.headers.update(job.headers)
    return response


async def _job(call: Call) -> ChatJob:
    body, names = await call.read(ChatBody, lambda body: (body, references(body)))
    model = _model_for(call, body.model)
    found = await resolved(call, names)
    asked = await call.work(partial(translate, body, found, models.info_of(model, call.settings.models)))
    headers = {} if asked.schema is None else unchecked_header(asked.schema)
    return ChatJob(call, model, asked, headers)


def _model_for(call: Call, requested: str | None) -> str:
    """An image model may answer too: its images are stored. Raises BadRequest."""
    info = None if requested is None else models.info_of(requested, call.settings.models)
    return call.model_for(requested, "image" if info is not None and info.image_output else "chat")


async def _completion(job: ChatJob) -> Response:
    choices, failures = await _choices(job)
    body = completion(
        job.head(choices[0][1].model),
        [
            choice_body(
                index,
                message_body(
                    one.contents,
                    one.finish,
                    one.call_ids,
                    one.links,
                    one.annotations,
                    reasoning=job.asked.reasoning,
                ),
                one.finish,
            )
            for index, one in choices
        ],
        usage_body(*total_usage([one for _, one in choices])),
        failures,
    )
    size_bytes = sum(len(link.url) for _, one in choices for link in one.links)
    data = await job.call.work(partial(orjson.dumps, body), size_bytes)
    response = in_chunks(data) if len(data) > MAX_IMAGE_BYTES else JsonResponse(orjson.Fragment(data))
    response.headers.update(job.headers)
    return response


async def _choices(job: ChatJob) -> tuple[list[tuple[int, Choice]], list[tuple[int, GatewayError]]]:
    """At least one choice, and the errors of those that failed, each with its index. Raises the first error if all fail."""
    generator = job.call.generator
    if job.asked.n == 1:
        return [(0, await answered(job, generator, job.asked.body))], []
    encoded = await generator.encode(lambda: job.asked.body)
    outcomes = await asyncio.gather(
        *(answered(job, generator, encoded) for _ in range(job.asked.n)), return_exceptions=True
    )
    choices: list[tuple[int, Choice]] = []
    failures: list[tuple[int, GatewayError]] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, Choice):
            choices.append((index, outcome))
        elif isinstance(outcome, Exception):
            failures.append((index, job.call.public_error(outcome)))
        else:
            raise outcome
    if not choices:
        raise failures[0][1]
    return choices, failures


def total_usage(choices: Sequence[Choice]) -> tuple[Usage, int | None]:
    """What all choices took, and how much of it came from a cache."""
    return (
        functools.reduce(Usage.plus, [one.usage for one in choices]),
        functools.reduce(sum_or_unknown, [one.cached_tokens for one in choices]),
    )
