"""Generates the offline Gemini's answers: deterministic text, JSON or a function call for a request, with its token counts.

The text is for a person who runs the product without a key: it shows what the request contained, and that no model was used.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from . import tokens
from .errors import invalid
from .faults import without_directives
from .models import Model
from .schema_answers import TooComplex, from_openapi, value_for
from .schema_merging import Unsatisfiable
from .signatures import Backend, signed

_EXCERPT = 90
_MAX_CALLS = 8
# Thinking tokens per level, before the request's own spread.
_THOUGHTS = {"MINIMAL": 0, "LOW": 32, "MEDIUM": 96, "HIGH": 192, "XHIGH": 384}
_CLOSINGS = (
    "No model was asked; set a Gemini API key and the answer will come from Google.",
    "This is a rehearsal: the same request with a Gemini API key gets a real answer.",
    "Everything between you and me works as it will with Google; only the wit is missing.",
    "I repeat this for the same question, which makes me dull and testable.",
)
_FILLER = ("and", "so", "the", "offline", "model", "goes", "on", "at", "length", "for", "as", "long", "as", "asked")
_TOO_MANY_STATES = (
    "The specified schema produces a constraint that has too many states for serving.  Typical causes of this error are "
    "schemas with lots of text (for example, very long property or enum names), schemas with long array length limits "
    "(especially when nested), or schemas using complex value matchers (for example, integers or numbers with "
    "minimum/maximum bounds or strings with complex formats like date-time)"
)


@dataclass(frozen=True, slots=True)
class Image:
    """`base64url`: it is sent in the URL-safe alphabet without padding, as some proxies do."""

    data: bytes
    mime_type: str
    tokens: int
    base64url: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """`thought` is a summary to show, `text` the answer, `calls` function calls, `image` a file. `tokens` counts everything
    except the thought."""

    finish_reason: str
    text: str = ""
    thought: str = ""
    calls: tuple[dict[str, Any], ...] = ()
    tokens: int = 0
    signature: str = ""
    blocked: bool = False
    image: Image | None = None
    finish_message: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """All candidates and the token counts. No candidates and a `block_reason`: the prompt was blocked."""

    prompt_tokens: Mapping[str, int]
    candidates: Sequence[Candidate] = ()
    thought_tokens: int = 0
    block_reason: str = ""
    frames: int | None = None
    """The frames of a stream; None: as many as its text needs."""
    traffic_type: str = ""
    """Vertex AI names it in the usage, and counts only in a stream's last frame."""


def prompt_of(request: Mapping[str, Any]) -> str:
    """The text of the last content: directives are read from it, and answers are about it."""
    return "\n".join(part["text"] for part in request["contents"][-1]["parts"] if part.get("text"))


def blocked(prompt_tokens: Mapping[str, int]) -> Answer:
    return Answer(prompt_tokens, block_reason="SAFETY")


def unsafe(prompt_tokens: Mapping[str, int]) -> Answer:
    return Answer(prompt_tokens, [Candidate("SAFETY", blocked=True)])


def out_of_tokens(prompt_tokens: Mapping[str, int], request: Mapping[str, Any]) -> Answer:
    """A candidate without text, because thinking used all output tokens."""
    cap = request.get("generationConfig", {}).get("maxOutputTokens", 64)
    return Answer(prompt_tokens, [Candidate("MAX_TOKENS")], thought_tokens=cap)


def answer(
    request: Mapping[str, Any],
    model: Model,
    prompt_tokens: Mapping[str, int],
    words: int | None,
    backend: Backend = "gemini",
) -> Answer:
    """The answer to a validated request; `words` sets the length of a text; `backend` signs. Raises GoogleError 400 for a schema
    to which no value conforms."""
    config = request.get("generationConfig", {})
    prompt = prompt_of(request)
    seed = zlib.crc32(prompt.encode(), config.get("seed", 0) & 0xFFFFFFFF)
    thoughts = _thought_tokens(config.get("thinkingConfig", {}), model, seed)
    cap = min(config.get("maxOutputTokens", model.output_limit), model.output_limit)
    thoughts = min(thoughts, cap)
    show = config.get("thinkingConfig", {}).get("includeThoughts", False) and thoughts > 0
    thought = f"**Reading the request**\n\nIt begins with “{_excerpt(prompt)}”. I will say so.\n\n" if show else ""
    signature = signed(seed, backend) if thoughts else ""
    candidates = []
    for index in range(config.get("candidateCount", 1)):
        calls = _calls(request, prompt, seed)
        if calls and cap > thoughts:
            size = min(tokens.count_text(orjson.dumps(calls).decode()), cap - thoughts)
            # A function call always carries a signature, whatever the thinking level.
            candidates.append(Candidate("STOP", "", thought, calls, size, signed(seed, backend)))
            continue
        text = _text(request, config, model, prompt, seed + index, words)
        candidates.append(_fitted(text, config.get("stopSequences", ()), cap - thoughts, thought, signature))
    return Answer(prompt_tokens, candidates, thoughts)


def broken(answer: Answer, kind: str) -> Answer:
    """An answer that violates a schema with one type: `wrong_json` has another type, `not_json` has prose around the JSON."""
    return replace(
        answer, candidates=[replace(candidate, text=_broken(candidate.text, kind)) for candidate in answer.candidates]
    )


def _broken(text: str, kind: str) -> str:
    if kind == "not_json":
        return f"Certainly! Here it is: {text}"
    return f'{{"wrapped": {text}}}' if text.startswith("[") else f"[{text}]"


def _fitted(text: str, stops: Sequence[str], room: int, thought: str, signature: str) -> Candidate:
    """The text up to the first stop sequence, within the tokens that thinking left."""
    if room <= 0:
        return Candidate("MAX_TOKENS")
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    if ends:
        text = text[: min(ends)]
    size = tokens.count_text(text)
    if size > room:
        return Candidate("MAX_TOKENS", tokens.longest_prefix(text, room), thought, tokens=room)
    return Candidate("STOP", text, thought, tokens=size, signature=signature)


def _thought_tokens(thinking: Mapping[str, Any], model: Model, seed: int) -> int:
    budget = thinking.get("thinkingBudget")
    level = thinking.get("thinkingLevel", "THINKING_LEVEL_UNSPECIFIED")
    if level == "THINKING_LEVEL_UNSPECIFIED":
        level = model.level if budget is None else "HIGH"
    count = _THOUGHTS[level] * (80 + seed % 41) // 100
    return count if budget in (None, -1) else min(count, budget)


def _excerpt(text: str, length: int = _EXCERPT) -> str:
    line = " ".join(without_directives(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _text(
    request: Mapping[str, Any], config: Mapping[str, Any], model: Model, prompt: str, seed: int, words: int | None
) -> str:
    mime_type = config.get("responseMimeType", "text/plain")
    if mime_type == "text/x.enum":
        options = config["responseSchema"]["enum"]
        return str(options[seed % len(options)])
    if mime_type == "application/json":
        return _json(config, prompt, seed)
    text = _prose(request, model, prompt, seed)
    if words is None:
        return text
    have = text.split()
    if words <= len(have):
        return " ".join(have[:words])
    more = (_FILLER[(seed + number) % len(_FILLER)] for number in range(words - len(have)))
    return " ".join((text, *more))


def _json(config: Mapping[str, Any], prompt: str, seed: int) -> str:
    if "responseSchema" in config:
        schema: Any = from_openapi(config["responseSchema"])
    else:
        schema = config.get("responseJsonSchema", {"type": "object", "properties": {"answer": {"type": "string"}}})
    try:
        return orjson.dumps(value_for(schema, seed, _excerpt(prompt, 30)), option=orjson.OPT_INDENT_2).decode()
    except TooComplex:
        raise invalid(_TOO_MANY_STATES) from None
    except (Unsatisfiable, TypeError, AttributeError, OverflowError):
        # Google too rejects a schema with keywords of wrong types without details.
        raise invalid() from None


def _prose(request: Mapping[str, Any], model: Model, prompt: str, seed: int) -> str:
    contents = request["contents"]
    said = [f"This is the offline Gemini, standing in for {model.id}."]
    if excerpt := _excerpt(prompt):
        said.append(f"You wrote: “{excerpt}” ({len(without_directives(prompt).split())} words).")
    said += [_attachment(part) for part in contents[-1]["parts"] if not part.get("text")]
    if len(contents) > 1:
        first = _excerpt(prompt_of({"contents": contents[:1]}), 40)
        said.append(f"{len(contents) - 1} messages came before it; the first began with “{first}”.")
    if system := request.get("systemInstruction"):
        said.append(f"My instruction is: “{_excerpt(prompt_of({'contents': [{'parts': system.get('parts', ())}]}))}”.")
    said.append(_CLOSINGS[seed % len(_CLOSINGS)])
    return " ".join(line for line in said if line)


def _attachment(part: Mapping[str, Any]) -> str:
    if blob := part.get("inlineData"):
        return f"With it came {blob['mimeType']} of {len(blob.get('data', '')) * 3 // 4} bytes."
    if file := part.get("fileData"):
        return f"With it came a file of type {file.get('mimeType', 'unknown')}."
    if response := part.get("functionResponse"):
        told = orjson.dumps(response.get("response", {})).decode()
        return f"The function {response.get('name', '')} answered {_excerpt(told)}."
    return ""


def _calls(request: Mapping[str, Any], prompt: str, seed: int) -> tuple[dict[str, Any], ...]:
    """The function calls to return. In mode AUTO: every function that the prompt names, and none if the last content has function
    responses. In mode ANY: those that the prompt names, else those that the last content answered, else the first."""
    calling = request.get("toolConfig", {}).get("functionCallingConfig", {})
    mode = calling.get("mode", "AUTO")
    allowed = calling.get("allowedFunctionNames")
    declared = [
        function
        for tool in request.get("tools", ())
        for function in tool.get("functionDeclarations", ())
        if not allowed or function["name"] in allowed
    ]
    if mode == "NONE" or not declared:
        return ()
    named = [function for function in declared if function["name"].lower() in prompt.lower()]
    answered = {
        part["functionResponse"].get("name") for part in request["contents"][-1]["parts"] if "functionResponse" in part
    }
    if mode != "ANY" and (answered or not named):
        return ()
    chosen = named or [function for function in declared if function["name"] in answered] or declared[:1]
    return tuple(_call(function, prompt, seed + number) for number, function in enumerate(chosen[:_MAX_CALLS]))


def _call(function: Mapping[str, Any], prompt: str, seed: int) -> dict[str, Any]:
    if "parameters" in function:
        schema: Any = from_openapi(function["parameters"])
    else:
        schema = function.get("parametersJsonSchema", {"type": "object"})
    try:
        args = value_for(schema, seed, _excerpt(prompt, 30))
    except (TooComplex, Unsatisfiable, TypeError, AttributeError, OverflowError):
        raise invalid() from None
    return {"id": f"call_{seed:08x}", "name": function["name"], "args": args if isinstance(args, dict) else {}}
