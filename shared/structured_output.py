"""An object instead of a text: what Gemini answers is parsed and checked, and a wrong answer goes back to it once.

What is checked is the endpoint's: a caller's JSON Schema, or models of its own with rules between their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from shared.call import Call
from shared.chat import answer_text, native_body, turn
from shared.errors import BadRequest, NonconformingAnswer
from shared.gemini import wire
from shared.generation import JsonObject, Reply
from shared.json_schema import Problem

MOST_TOLD = 20
"""Problems that a repair turn and an error name; the rest is counted."""
_FENCE = "```"
_OURS = {"responseMimeType", "responseSchema", "responseJsonSchema"}


Check = Callable[[Any], Sequence[Problem]]


def object_body(
    user_content: str, system_prompt: str, schema: JsonObject, config: JsonObject | None = None
) -> JsonObject:
    """A generateContent body whose answer is JSON by `schema` (JSON Schema, passed on untouched). Raises BadRequest."""
    for name in _OURS & (config or {}).keys():
        raise BadRequest(
            f"generation_config.{name} is set by this endpoint; leave it out.", field=f"generation_config.{name}"
        )
    asked = {**(config or {}), "responseMimeType": "application/json", "responseJsonSchema": schema}
    return native_body([turn("user", user_content)], system_prompt, asked)


async def generate_object(call: Call, model: str, body: JsonObject, check: Check) -> JsonObject:
    """`{"data", "model", "finish_reason", "usage", "request_id"}`; usage adds up both turns if there were two.

    Raises what `Call.generate` does, PromptBlocked, ResponseBlocked, EmptyResponse, and NonconformingAnswer when the
    answer is wrong after its repair too."""
    reply = await call.generate(model, body)
    spent = reply.usage
    text, data, problems = _read(reply, check)
    if problems:
        _refuse_cut(reply, text, problems)
        reply = await call.generate(model, _repair_body(body, reply, text, problems))
        spent = spent.plus(reply.usage)
        text, data, problems = _read(reply, check)
        if problems:
            _refuse_cut(reply, text, problems)
            raise _nonconforming("Gemini's answer does not conform, and neither did its repair", text, problems)
    return {
        "data": data,
        "model": reply.model_used,
        "finish_reason": wire.finish_reason(reply.body),
        "usage": spent._asdict(),
        "request_id": call.request_id,
    }


def _read(reply: Reply, check: Check) -> tuple[str, Any, Sequence[Problem]]:
    text = answer_text(reply.body)
    try:
        data = orjson.loads(_unfenced(text))
    except orjson.JSONDecodeError as error:
        return text, None, [Problem("", f"is not JSON: {error}")]
    return text, data, check(data)


def _unfenced(text: str) -> str:
    """Models put JSON between fences now and then, even where it was asked for bare."""
    stripped = text.strip()
    if stripped.startswith(_FENCE) and stripped.endswith(_FENCE) and "\n" in stripped:
        return stripped[stripped.index("\n") : -len(_FENCE)]
    return stripped


def _repair_body(body: JsonObject, reply: Reply, text: str, problems: Sequence[Problem]) -> JsonObject:
    """The same request, with the wrong answer and what is wrong with it."""
    content = wire.candidates(reply.body)[0].get("content") or turn("model", text)
    told = "\n".join(f"- {sentence(problem)}" for problem in problems[:MOST_TOLD])
    asked = turn(
        "user",
        f"That JSON does not conform to the schema:\n{told}\n"
        "Answer with the whole JSON again, corrected, and nothing else. Keep what was right.",
    )
    return {**body, "contents": [*body["contents"], {**content, "role": "model"}, asked]}


def sentence(problem: Problem) -> str:
    return f"{problem.path or 'the whole'}: {problem.message}"


def _refuse_cut(reply: Reply, text: str, problems: Sequence[Problem]) -> None:
    """What was cut off would be cut off again: no repair is paid for."""
    if wire.finish_reason(reply.body) == "MAX_TOKENS":
        raise _nonconforming(
            "Gemini reached the limit of tokens (MAX_TOKENS) before the JSON was complete; raise "
            "generation_config.max_output_tokens (thinking counts against it), or ask for less",
            text,
            problems,
        )


def _nonconforming(why: str, text: str, problems: Sequence[Problem]) -> NonconformingAnswer:
    errors = [problem._asdict() for problem in problems[:MOST_TOLD]]
    return NonconformingAnswer(
        f"{why} ({len(problems)} {'error' if len(problems) == 1 else 'errors'}; the first: {sentence(problems[0])}).",
        details={"errors": errors, "text": text},
    )
