"""Structured output: Gemini's answer is parsed and checked, and an answer that does not conform is repaired once.

The endpoint supplies the check: a caller's JSON Schema, or models of its own with rules between their parts. The result embeds
the model's own JSON text unchanged: numbers keep their digits, entries their order.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import orjson

from shared.bounds.json_structure import TooManyValues, check_values
from shared.errors import NonconformingAnswer
from shared.gemini import wire
from shared.gemini.answer_text import answer_text
from shared.gemini.native_body import native_body, turn
from shared.generation import Ending, JsonObject, Reply
from shared.structured.json_schema import Problem, Schema

if TYPE_CHECKING:
    from shared.gateway.generator import Generator

UNCHECKED = "x-schema-unchecked"
MAX_LISTED = 20
"""Maximum problems that a repair turn and an error list; the rest is counted."""
MAX_TEXT_ON_LOOP = 64 * 1024
"""Maximum characters of an answer that is parsed and checked on the event loop, in about 60 ms. A longer answer, or one whose
check takes longer, is checked in a thread."""
_FENCE = "```"
_OPENING_FENCE = re.compile(r'```[\w+-]*(?=[\s{\["])')
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|(\\.)", re.DOTALL
)


class Check(Protocol):
    """Both methods return [] for a value that conforms; they may be called in any thread."""

    def problems(self, value: Any, /) -> Sequence[Problem]: ...

    def quick_problems(self, value: Any, /) -> Sequence[Problem] | None:
        """None if the check would block the event loop for too long."""


_Problems = TypeVar("_Problems")


def object_body(
    user_content: str, system_prompt: str, schema: JsonObject, config: JsonObject | None = None
) -> JsonObject:
    """A generateContent body whose answer is JSON by `schema` (JSON Schema, passed on as it is). `config` has no response
    format: `ObjectConfig` rejects one."""
    config = {**(config or {}), "responseMimeType": "application/json", "responseJsonSchema": schema}
    return native_body([turn("user", user_content)], system_prompt, config)


class ObjectReply(NamedTuple):
    """`data` is the JSON of the answer. The usage adds up both turns if there was a repair."""

    data: orjson.Fragment
    ending: Ending


class ConformingReply(NamedTuple):
    """An answer that conforms: its JSON without a fence, and the reply that has it, with the usage of both turns if there was a
    repair."""

    text: str
    reply: Reply


async def generate_object(
    generator: Generator, model: str, body: JsonObject, check: Check, headers: Mapping[str, str] | None = None
) -> ObjectReply:
    """Raises what `Generator.generate` and `conforming` do."""
    text, reply = await conforming(generator, model, body, await generator.generate(model, body), check, headers)
    return ObjectReply(orjson.Fragment(text), Ending(reply.model_used, wire.finish_reason(reply.body), reply.usage))


async def conforming(
    generator: Generator,
    model: str,
    body: JsonObject,
    reply: Reply,
    check: Check,
    headers: Mapping[str, str] | None = None,
) -> ConformingReply:
    """`reply`, the answer to `body`, if it conforms, else its repair. Raises what `Generator.generate` does, PromptBlocked,
    ResponseBlocked, EmptyResponse, and, if the repair does not conform either, NonconformingAnswer with these headers."""
    text, bare, problems = await _read(reply, check)
    if not problems:
        return ConformingReply(bare, reply)
    _reject_truncated(reply, text, problems, headers)
    repaired = await generator.generate(model, _repair_body(body, reply, text, problems))
    text, bare, problems = await _read(repaired, check)
    if problems:
        _reject_truncated(repaired, text, problems, headers)
        raise _nonconforming("Gemini's answer does not conform, and neither does its repair", text, problems, headers)
    return ConformingReply(bare, replace(repaired, usage=reply.usage.plus(repaired.usage)))


def unchecked_header(schema: Schema) -> dict[str, str]:
    """The header that lists the schema's keywords that answers are not checked against; {} if there are none."""
    if not schema.unchecked:
        return {}
    from shared.structured.json_schema.unchecked import fragments

    return {UNCHECKED: fragments(schema.unchecked)}


async def _read(reply: Reply, check: Check) -> tuple[str, str, Sequence[Problem]]:
    """The text of an answer, the JSON in it, and its problems: if there are none, it is valid JSON in UTF-8. Every answer is
    checked; an answer whose check would take more than a second does not conform."""
    text = answer_text(reply.body)
    if len(text) <= MAX_TEXT_ON_LOOP:
        well_formed, bare, problems = _checked(text, check.quick_problems)
        if problems is not None:
            return well_formed, bare, problems
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_checker(), _checked, text, check.problems)


def _checked(text: str, problems_of: Callable[[Any], _Problems]) -> tuple[str, str, _Problems | Sequence[Problem]]:
    from shared.structured.json_schema.numbers import loads

    text = _well_formed(text)
    bare = _bare(text)
    try:
        check_values(bare.encode())
        value = loads(bare)
    except TooManyValues as error:
        return text, bare, [Problem("", f"has {error}, too many to check: ask for less")]
    except ValueError as error:
        return text, bare, [Problem("", f"is not JSON: {error}")]
    return text, bare, problems_of(value)


@cache
def _checker() -> ThreadPoolExecutor:
    """One thread: costly checks wait for each other, and take the interpreter from the event loop as one thread."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="check")


def _bare(text: str) -> str:
    """Without a Markdown fence, which models sometimes add, and without a byte order mark."""
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
    """The same request, followed by the answer and by what is wrong with it."""
    content = wire.candidates(reply.body)[0].get("content") or turn("model", text)
    listed = "\n".join(f"- {sentence(problem)}" for problem in problems[:MAX_LISTED])
    instruction = turn(
        "user",
        f"That JSON does not conform to the schema:\n{listed}\n"
        "Answer with the whole JSON again, corrected, and nothing else. Keep what was right.",
    )
    return {**body, "contents": [*body["contents"], {**content, "role": "model"}, instruction]}


def sentence(problem: Problem) -> str:
    return f"{problem.path or 'the whole'}: {problem.message}"


def _reject_truncated(reply: Reply, text: str, problems: Sequence[Problem], headers: Mapping[str, str] | None) -> None:
    """Raises NonconformingAnswer for an answer that was cut off: its repair would be cut off as well, and cost tokens."""
    if wire.finish_reason(reply.body) == "MAX_TOKENS":
        raise _nonconforming(
            "Gemini reached the token limit (MAX_TOKENS) before the JSON was complete; raise "
            "generation_config.max_output_tokens (thinking tokens count as output), or ask for less",
            text,
            problems,
            headers,
        )


def _nonconforming(
    why: str, text: str, problems: Sequence[Problem], headers: Mapping[str, str] | None
) -> NonconformingAnswer:
    errors = [problem._asdict() for problem in problems[:MAX_LISTED]]
    return NonconformingAnswer(
        f"{why} ({len(problems)} {'error' if len(problems) == 1 else 'errors'}; the first: {sentence(problems[0])}).",
        details={"errors": errors, "text": text},
        headers=headers,
    )
