"""An object instead of a text: Gemini's answer is parsed and checked, and a wrong answer goes back to it once.

The check is the endpoint's: a caller's JSON Schema, or models of its own with rules between their parts. The data of an
answer is the model's own JSON text, embedded as it is: numbers keep their digits, entries their order.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Protocol, TypeVar

import orjson

from shared.bounds.json_structure import TooManyValues, check_values
from shared.chat.chat import answer_text, native_body, turn
from shared.errors import BadRequest, NonconformingAnswer
from shared.gemini import wire
from shared.generation import JsonObject, Reply
from shared.http.call import Call
from shared.structured.json_schema import Problem, Schema

UNCHECKED = "x-schema-unchecked"
MOST_TOLD = 20
"""Problems that a repair turn and an error name; the rest is counted."""
MAX_TEXT_ON_LOOP = 64 * 1024
"""Characters of an answer that is read and checked on the event loop: within about 60 ms. A longer one, or one whose check
takes longer, is checked in a thread."""
_FENCE = "```"
_OPENING_FENCE = re.compile(r'```[\w+-]*(?=[\s{\["])')
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|(\\.)", re.DOTALL
)
_OURS = {"responseMimeType", "responseSchema", "responseJsonSchema"}


class Check(Protocol):
    """What an answer must conform to. Both return [] for one that does; they may be called in any thread."""

    def problems(self, value: Any, /) -> Sequence[Problem]: ...

    def quick_problems(self, value: Any, /) -> Sequence[Problem] | None:
        """None where the check would hold up an event loop."""


_Found = TypeVar("_Found")


def object_body(
    user_content: str, system_prompt: str, schema: JsonObject, config: JsonObject | None = None
) -> JsonObject:
    """A generateContent body whose answer is JSON by `schema` (JSON Schema, passed on as it is). Raises BadRequest."""
    for name in _OURS & (config or {}).keys():
        raise BadRequest(
            f"generation_config.{name} is set by this endpoint; leave it out.", field=f"generation_config.{name}"
        )
    asked = {**(config or {}), "responseMimeType": "application/json", "responseJsonSchema": schema}
    return native_body([turn("user", user_content)], system_prompt, asked)


async def generate_object(
    call: Call, model: str, body: JsonObject, check: Check, headers: Mapping[str, str] | None = None
) -> JsonObject:
    """`{"data", "model", "finish_reason", "usage", "request_id"}`; usage adds up both turns if there were two. `data` is an
    orjson.Fragment.

    Raises what `Call.generate` does, PromptBlocked, ResponseBlocked, EmptyResponse, and NonconformingAnswer, with these
    headers, when the answer is wrong after its repair too."""
    reply = await call.generate(model, body)
    spent = reply.usage
    text, data, problems = await _read(reply, check)
    if problems:
        _refuse_cut(reply, text, problems, headers)
        reply = await call.generate(model, _repair_body(body, reply, text, problems))
        spent = spent.plus(reply.usage)
        text, data, problems = await _read(reply, check)
        if problems:
            _refuse_cut(reply, text, problems, headers)
            raise _nonconforming(
                "Gemini's answer does not conform, and neither did its repair", text, problems, headers
            )
    return {
        "data": data,
        "model": reply.model_used,
        "finish_reason": wire.finish_reason(reply.body),
        "usage": spent._asdict(),
        "request_id": call.request_id,
    }


def unchecked_header(schema: Schema) -> dict[str, str]:
    """The keywords of a schema that no answer is checked against: {} if there are none."""
    if not schema.unchecked:
        return {}
    from shared.structured.json_schema.unchecked import fragments

    return {UNCHECKED: fragments(schema.unchecked)}


async def _read(reply: Reply, check: Check) -> tuple[str, orjson.Fragment, Sequence[Problem]]:
    """The text of an answer, the JSON in it, and its problems: with none, it is valid JSON in UTF-8. No answer goes
    unchecked, but one whose check would take more than a second does not conform."""
    text = answer_text(reply.body)
    if len(text) <= MAX_TEXT_ON_LOOP:
        well_formed, data, problems = _checked(text, check.quick_problems)
        if problems is not None:
            return well_formed, data, problems
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_checker(), _checked, text, check.problems)


def _checked(
    text: str, problems_of: Callable[[Any], _Found]
) -> tuple[str, orjson.Fragment, _Found | Sequence[Problem]]:
    from shared.structured.json_schema.numbers import loads

    text = _well_formed(text)
    bare = _bare(text)
    try:
        check_values(bare.encode())
        value = loads(bare)
    except TooManyValues as error:
        return text, orjson.Fragment(bare), [Problem("", f"has {error}, too many to check: ask for less")]
    except ValueError as error:
        return text, orjson.Fragment(bare), [Problem("", f"is not JSON: {error}")]
    return text, orjson.Fragment(bare), problems_of(value)


@cache
def _checker() -> ThreadPoolExecutor:
    """One thread: costly checks wait for each other, and share the interpreter with the event loop as one."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="check")


def _bare(text: str) -> str:
    """Without fences, which models put around JSON now and then, and without a byte order mark."""
    text = _stripped(text)
    opening = _OPENING_FENCE.match(text) if text.endswith(_FENCE) else None
    return text if opening is None else _stripped(text[opening.end() : -len(_FENCE)])


def _stripped(text: str) -> str:
    return text.strip().strip("\ufeff").strip()


def _well_formed(text: str) -> str:
    """Half of a surrogate pair, as a character or as an escape, becomes U+FFFD: no reader of UTF-8 takes it, and one
    character does not cost the answer. Two halves that meet are one character."""
    if _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPE.sub(lambda escape: escape[0] if escape[1] or escape[2] else "\\ufffd", text)
    return text


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


def _refuse_cut(reply: Reply, text: str, problems: Sequence[Problem], headers: Mapping[str, str] | None) -> None:
    """Raises NonconformingAnswer for an answer that was cut off: its repair would be cut off too, and be paid for."""
    if wire.finish_reason(reply.body) == "MAX_TOKENS":
        raise _nonconforming(
            "Gemini reached the limit of tokens (MAX_TOKENS) before the JSON was complete; raise "
            "generation_config.max_output_tokens (thinking counts against it), or ask for less",
            text,
            problems,
            headers,
        )


def _nonconforming(
    why: str, text: str, problems: Sequence[Problem], headers: Mapping[str, str] | None
) -> NonconformingAnswer:
    errors = [problem._asdict() for problem in problems[:MOST_TOLD]]
    return NonconformingAnswer(
        f"{why} ({len(problems)} {'error' if len(problems) == 1 else 'errors'}; the first: {sentence(problems[0])}).",
        details={"errors": errors, "text": text},
        headers=headers,
    )
