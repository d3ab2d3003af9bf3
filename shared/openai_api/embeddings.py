"""POST /v1/embeddings: vectors of texts, of many in batches that run side by side.

Each batch is a request of its own at the gateway, with its own wait, retries and settlement. If one fails for good, the others
are cancelled and the request fails: its error names the inputs. What the other batches made is lost then, since OpenAI's
answer has no place for a part of the vectors."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import orjson
from starlette.responses import Response

from shared.errors import CostExceedsLimit, GatewayError
from shared.gateway.embedding import Capacity, capacity_of
from shared.gemini.models import embedding_model_for
from shared.http.call import Call
from shared.http.large_response import in_chunks
from shared.http.response import JsonResponse
from shared.openai_format.embeddings import EmbeddingsBody, Part, answer_of, native_body, parts_of, vectors_of
from shared.openai_format.usage import sum_or_unknown
from shared.settings.settings import PLATFORM_BODY_BYTES

PART_OF_MINUTE = 10
"""A batch has at most one in so many of the requests and tokens per minute. A larger one waits long until so much is free at
once, and meanwhile capacity stays unused. Simulated (60 requests per window, lists and single texts): with lists of 6, all of the
limit is used by 1, 3 and 8 instances; with lists of 20 it is 96, 75 and 60 %, and hardly any list is served."""

Vectors = list[str | orjson.Fragment]
Result = TypeVar("Result")


async def create(call: Call) -> Response:
    body = await call.read(EmbeddingsBody)
    body.check_size()
    model = embedding_model_for(body.model, call.settings.models)
    capacity = capacity_of(call.services.gateway, call.caller, model)
    check_count(model, len(body.input), capacity)
    most = capacity.inputs // PART_OF_MINUTE, capacity.tokens / PART_OF_MINUTE
    parts = await call.work(partial(parts_of, body.input, *most))
    # The vectors are larger than the texts: a request that has no room for them is not sent.
    call.claim.cover(body.answer_bytes)
    made = await side_by_side([partial(_embed, call, model, body, part) for part in parts])
    vectors = [vector for part, _, _ in made for vector in part]
    prompt_tokens = functools.reduce(sum_or_unknown, [tokens for _, _, tokens in made])
    answer = answer_of(made[0][1], vectors, prompt_tokens)
    data = await call.work(partial(orjson.dumps, answer), body.answer_bytes)
    return in_chunks(data) if len(data) > PLATFORM_BODY_BYTES else JsonResponse(orjson.Fragment(data))


def check_count(model: str, count: int, capacity: Capacity) -> None:
    """Raises CostExceedsLimit for a list that cannot be served within one minute (or day), whatever its parts are."""
    most = capacity.total
    if most and count > most:
        raise CostExceedsLimit(
            f"input has {count} entries, each of which counts as one request, and the limit of {model} is {most} requests per "
            f"{capacity.period}. Send lists of at most {most} entries, one after the other.",
            field="input",
            details={"model": model},
        )


async def _embed(call: Call, model: str, body: EmbeddingsBody, part: Part) -> tuple[Vectors, str, int | None]:
    """The vectors of a part, the model that made them, and the input tokens that Gemini counted."""
    texts = body.input[part.first : part.last]
    try:
        reply = await call.generator.embed(model, native_body(model, texts, body.dimensions))
        vectors = await call.work(partial(vectors_of, reply.body, len(texts), base64=body.base64), body.answer_bytes)
    except GatewayError as error:
        if len(texts) < len(body.input):
            error.message = f"{part} of {len(body.input)} failed, so no vector is returned. {error.message}"
        raise
    return vectors, reply.model_used, reply.usage.prompt_tokens


async def side_by_side(jobs: Sequence[Callable[[], Coroutine[Any, Any, Result]]]) -> list[Result]:
    """The results in the jobs' order. The first failure cancels the other jobs and is raised."""
    if len(jobs) == 1:
        return [await jobs[0]()]
    tasks = [asyncio.create_task(job()) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done and (error := task.exception()) is not None:
                raise error
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
