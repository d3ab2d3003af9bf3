"""Chat completions as the gateway sends them on: read, translated, and judged by the offline Gemini's own rules."""

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

MODEL = "gemini-3.8-flash"
NOTHING = Resolved()
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
