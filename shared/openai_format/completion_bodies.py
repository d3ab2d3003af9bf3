"""A chat completion and its chunks, as the specification describes them. Pure."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from shared.http.bodies import AnswerBody
from shared.openai_format.finish import FinishReason

_USAGE: dict[str, Any] = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
_COMMON: dict[str, Any] = {
    "id": "chatcmpl-0123456789abcdef01234567",
    "created": 1796049600,
    "model": "gemini-3.8-flash",
}
_COMPLETION: dict[str, Any] = {
    **_COMMON,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello! Bonjour! Hola!", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}
_CHUNK: dict[str, Any] = {
    **_COMMON,
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"content": "Bonjour! "}, "logprobs": None, "finish_reason": None}],
}


class CalledFunction(AnswerBody):
    name: str
    arguments: str = Field(description="JSON.")


class CompletionToolCall(AnswerBody):
    id: str = Field(description="Send it back with the call's result: the model's thought signature is kept under it.")
    type: Literal["function"]
    function: CalledFunction


class CompletionImageUrl(AnswerBody):
    url: str


class CompletionImage(AnswerBody):
    type: Literal["image_url"]
    image_url: CompletionImageUrl


class CompletionMessage(AnswerBody):
    role: Literal["assistant"]
    content: str | None = Field(description="An image in it is a link in Markdown.")
    refusal: str | None = Field(description="Why Gemini withheld the answer or its rest, with Gemini's finish reason.")
    tool_calls: list[CompletionToolCall] = Field([], description="Absent if the model called no tool.")
    reasoning_content: str = Field("", description="The model's thoughts, if google.thinking_config asks for them.")
    images: list[CompletionImage] = Field([], description="Absent if the answer has none. They are stored here.")


class CompletionChoice(AnswerBody):
    index: int
    message: CompletionMessage
    logprobs: None
    finish_reason: FinishReason


class CachedTokens(AnswerBody):
    cached_tokens: int | None


class ReasoningTokens(AnswerBody):
    reasoning_tokens: int | None


class CompletionUsage(AnswerBody):
    """Token counts as Gemini reported them, of all choices together; null where it reported none, which is not zero."""

    prompt_tokens: int | None
    completion_tokens: int | None = Field(description="The model's thinking counts.")
    total_tokens: int | None
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class FailedChoice(AnswerBody):
    index: int
    code: str
    message: str


class _Common(AnswerBody):
    id: str
    created: int = Field(description="Unix time in seconds.")
    model: str = Field(description="The model that responded.")


class ChatCompletion(_Common):
    model_config = ConfigDict(json_schema_extra={"examples": [_COMPLETION]})

    object: Literal["chat.completion"]
    choices: list[CompletionChoice]
    usage: CompletionUsage
    errors: list[FailedChoice] = Field([], description="Of n choices, those that could not be generated.")


class DeltaToolCall(CompletionToolCall):
    index: int


class CompletionDelta(AnswerBody):
    """Some of the fields of a message; a text continues the text before it."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[DeltaToolCall] = Field([])
    reasoning_content: str = ""
    images: list[CompletionImage] = Field([])


class ChunkChoice(AnswerBody):
    index: int
    delta: CompletionDelta
    logprobs: None
    finish_reason: FinishReason | None = Field(description="In the last chunk of a choice.")


class ChatCompletionChunk(_Common):
    """An event while an answer is generated. The last one has the usage and no choices, if stream_options asks for it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CHUNK]})

    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]
    usage: CompletionUsage | None = None
