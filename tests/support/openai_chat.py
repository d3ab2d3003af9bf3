"""Chat completions as the gateway sends them on, judged by the offline Gemini's own rules; and what a client gets of a stream."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.emulator.models import resolve
from shared.emulator.transcode import read_message
from shared.emulator.validate import check_generate
from shared.errors import BadRequest
from shared.gemini.models import info_of
from shared.generation import JsonObject
from shared.http.bodies import read
from shared.openai_format.chat_body import ChatBody
from shared.openai_format.translation import Resolved, Translated, references, translate
from tests.support.edge import Answer

MODEL = "gemini-3.8-flash"
NOTHING = Resolved()
DONE = "[DONE]"
HELLO: JsonObject = {"role": "user", "content": "Hello"}


def sent(values: JsonObject, resolved: Resolved = NOTHING) -> Translated:
    """The translation of a body; one without messages has HELLO. The offline Gemini must accept it."""
    model = values.get("model", MODEL)
    body = read(ChatBody, {"messages": [HELLO], **values} if "prompts" not in values else values)
    translated = translate(body, resolved, info_of(model))
    judge = resolve("v1beta", model)
    assert judge is not None
    message = read_message(orjson.dumps(translated.body), "GenerateContentRequest", "v1beta")
    check_generate(message, judge, signatures=True)
    return translated


def contents(*messages: JsonObject, resolved: Resolved = NOTHING) -> list[Any]:
    """The contents of a conversation, which the offline Gemini accepts."""
    found: list[Any] = sent({"messages": list(messages)}, resolved).body["contents"]
    return found


def settings(**values: Any) -> JsonObject:
    """The generationConfig of a request."""
    found: JsonObject = sent(values).body.get("generationConfig", {})
    return found


def refused(values: JsonObject) -> tuple[str | None, str]:
    """The field that the error names, and its message."""
    with pytest.raises(BadRequest) as caught:
        body = read(ChatBody, {"messages": [HELLO], **values} if "prompts" not in values else values)
        references(body)
        translate(body, NOTHING, info_of(values.get("model") or MODEL))
    details = caught.value.details or {}
    return details.get("field"), caught.value.message


def events(answer: Answer) -> list[Any]:
    """The data of the events; the end marker is a text."""
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), answer.body
    blocks = [block for block in answer.body.decode().split("\n\n")[:-1] if not block.startswith(":")]
    data = [block.removeprefix("data: ") for block in blocks]
    return [one if one == DONE else orjson.loads(one) for one in data]


def text(chunks: list[Any], index: int = 0) -> str:
    """The text of a choice."""
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        if chunk != DONE and "choices" in chunk
        for choice in chunk["choices"]
        if choice["index"] == index
    )
