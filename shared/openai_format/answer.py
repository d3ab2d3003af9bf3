"""A native answer as a chat completion. Pure.

    contents_of    what candidate 0 has, of a whole answer or of one frame of a stream: text, thoughts, images, tool calls
    message_body   the same as OpenAI's message, when the images have links and the calls have ids
    completion     the message of each choice, in one body

Types: ChatCompletion and ChatCompletionMessage of openai-python. `images` and `reasoning_content` are not OpenAI's; other
gateways have them under these names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from shared.errors import GatewayError, UpstreamFailed
from shared.gemini import wire
from shared.generation import JsonObject
from shared.openai_format.finish import Finish


class Blob(NamedTuple):
    """An image or another file in an answer, as Gemini sent it."""

    mime_type: str
    data: str
    """Base64."""


class ToolCall(NamedTuple):
    name: str
    arguments: str
    """JSON, as the model wrote it."""
    signature: str | None
    """The thought signature of the call. Of parallel calls only the first has one."""


class Contents(NamedTuple):
    pieces: list[str | Blob]
    """Texts and files, in their order."""
    thoughts: str
    calls: list[ToolCall]

    @property
    def text(self) -> str:
        return "".join(piece for piece in self.pieces if isinstance(piece, str))

    @property
    def blobs(self) -> list[Blob]:
        return [piece for piece in self.pieces if isinstance(piece, Blob)]

    @property
    def has_content(self) -> bool:
        return bool(self.pieces)

    @property
    def has_only_text(self) -> bool:
        return not self.calls and all(isinstance(piece, str) for piece in self.pieces)


class Head(NamedTuple):
    """What a completion and all its chunks have in common."""

    id: str
    created_s: int
    """Unix time."""
    model: str
    """The model that responded."""


class Link(NamedTuple):
    """Where an answer's file is."""

    url: str
    mime_type: str


def contents_of(body: JsonObject) -> Contents:
    """Raises UpstreamFailed for a tool call whose arguments cannot be written as JSON."""
    contents = Contents([], "", [])
    pieces, calls = contents.pieces, contents.calls
    thoughts: list[str] = []
    for part in wire.all_parts(body):
        text = part.get("text")
        if type(text) is str and text:
            if part.get("thought"):
                thoughts.append(text)
            elif pieces and isinstance(pieces[-1], str):
                pieces[-1] += text
            else:
                pieces.append(text)
        elif (called := part.get("functionCall")) is not None and type(called) is dict:
            calls.append(_tool_call(called, part.get("thoughtSignature")))
        elif (blob := part.get("inlineData")) is not None and type(blob) is dict and not part.get("thought"):
            data, mime_type = blob.get("data"), blob.get("mimeType")
            if type(data) is str and data:
                pieces.append(Blob(mime_type if type(mime_type) is str and mime_type else _UNKNOWN_TYPE, data))
    return contents._replace(thoughts="".join(thoughts)) if thoughts else contents


_UNKNOWN_TYPE = "application/octet-stream"


def _tool_call(called: Mapping[str, Any], signature: Any) -> ToolCall:
    name, arguments = called.get("name"), called.get("args")
    return ToolCall(
        name if type(name) is str else "",
        "{}" if arguments in (None, "") else arguments if type(arguments) is str else _json(arguments),
        signature if type(signature) is str and signature else None,
    )


def _json(arguments: Any) -> str:
    """Arguments that are not an object are returned as Gemini sent them. Numbers keep the digits that Gemini sent: it holds
    arguments as doubles (google.protobuf.Struct), and integers of 64 bits stay integers."""
    try:
        return orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError:  # orjson parses deeper nesting than it writes.
        pass
    try:
        return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise UpstreamFailed("Gemini's tool call is nested too deeply; simplify the tool's parameters.") from None


def tool_call_body(call: ToolCall, call_id: str) -> JsonObject:
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def markdown(link: Link) -> str:
    """The link as a part of `content`."""
    kind = link.mime_type.partition("/")[0]
    return f"![image]({link.url})" if kind == "image" else f"[{kind}]({link.url})"


def image_body(link: Link) -> JsonObject:
    return {"type": "image_url", "image_url": {"url": link.url}}


def message_body(
    contents: Contents,
    finish: Finish,
    call_ids: Sequence[str],
    links: Sequence[Link],
    annotations: Sequence[JsonObject] = (),
    *,
    reasoning: bool,
) -> JsonObject:
    """`call_ids` has one for each call, `links` one for each blob. `content` is null where there are only tool calls or a
    refusal."""
    of_blobs = iter(links)
    text = "".join(piece if isinstance(piece, str) else markdown(next(of_blobs)) for piece in contents.pieces)
    without_text = bool(contents.calls or finish.refusal) and not text
    message: JsonObject = {"role": "assistant", "content": None if without_text else text, "refusal": finish.refusal}
    if contents.calls:
        message["tool_calls"] = [tool_call_body(*one) for one in zip(contents.calls, call_ids, strict=True)]
    if reasoning and contents.thoughts:
        message["reasoning_content"] = contents.thoughts
    if annotations:
        message["annotations"] = annotations
    if links:
        message["images"] = [image_body(link) for link in links]
    return message


def choice_body(index: int, message: JsonObject, finish: Finish) -> JsonObject:
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish.reason}


def completion(
    head: Head,
    choices: Sequence[JsonObject],
    usage: JsonObject,
    failures: Sequence[tuple[int, GatewayError]] = (),
) -> JsonObject:
    """`failures`: the choices that could not be generated, as (index, error); they are listed in an additional field."""
    body: JsonObject = {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created_s,
        "model": head.model,
        "choices": choices,
        "usage": usage,
    }
    if failures:
        body["errors"] = [{"index": index, "code": error.code, "message": error.message} for index, error in failures]
    return body
