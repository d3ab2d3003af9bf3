"""The messages of a chat completion as the contents of a native request. Pure.

    system, developer   those at the beginning are the systemInstruction; a later one is a user turn in its place, because
                        Gemini has one instruction, and its place in the conversation is part of what it means
    assistant           a model turn; several in a row are one, since Gemini wants a function call after a user's turn
    tool                the results that follow an assistant message are one user turn, in the order of its calls

The ids of calls are numbered anew: those of clients are long, are cut, or repeat, and Gemini compares them within the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import ConfigDict, Field, model_validator

from shared.bounds.json_structure import MAX_VALUES, TooManyValues, ValueCounter
from shared.errors import BadRequest, json_type
from shared.gemini.native_body import turn
from shared.gemini.references import PLACEHOLDER
from shared.generation import JsonObject
from shared.http.bodies import Absent, Body, OrText, Rule, wrong
from shared.openai_format.parts import Media, Part, native_part

_CALLS_ONLY = Rule("is not supported; send tool_calls, and messages of the role tool")
_NOT_SPOKEN = Rule("must be null: this server makes no speech, so no message can refer to one")
_LONG_NUMBER = re.compile(r"[0-9]{16}")
"""Google reads a number in a function's response as a double, which has 15 digits."""


class CalledFunction(Body):
    name: str = Field(min_length=1)
    arguments: str = Field(description="A JSON object, as text.", examples=['{"city": "Paris"}'])
    provider_specific_fields: Any = Field(None, description="Ignored.")
    parsed_arguments: Any = Field(None, description="Ignored; OpenAI's SDK adds it to the calls that it parsed.")


class GoogleSigned(Body):
    model_config = ConfigDict(extra="ignore")

    thought_signature: str | None = None


class ExtraContent(Body):
    """Where Google's own OpenAI endpoint puts a call's thought signature."""

    model_config = ConfigDict(extra="ignore")

    google: GoogleSigned | None = None


class ToolCall(Body):
    id: str = Field(min_length=1)
    type: Annotated[Literal["function"], Rule("must be function; other kinds of tools are not supported")] = "function"
    function: CalledFunction
    extra_content: ExtraContent | None = Field(None, description="The call's thought signature, if the client kept it.")
    custom: Annotated[Absent, Rule("is not supported; send function")] = None
    index: Any = Field(None, description="Ignored; it is part of a stream's calls.")
    provider_specific_fields: Any = Field(None, description="Ignored.")

    @property
    def signature(self) -> str | None:
        google = self.extra_content.google if self.extra_content is not None else None
        return (google.thought_signature or None) if google is not None else None


class Message(Body):
    """One message. What other clients and servers add to an assistant's message is ignored."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool"],
        Rule("must be one of system, developer, user, assistant, tool"),
    ]
    content: Annotated[str | list[Part] | None, OrText("a list of parts")] = None
    tool_calls: list[ToolCall] | None = Field(None, fail_fast=True, description="Of an assistant message.")
    tool_call_id: str | None = Field(None, min_length=1, description="The call that a tool message answers.")
    refusal: str | None = Field(None, description="Of an assistant message; sent as its text where it has no content.")
    name: str | None = Field(None, description="Ignored: Gemini's turns have no name.")
    function_call: Annotated[Absent, _CALLS_ONLY] = None
    audio: Annotated[Absent, _NOT_SPOKEN] = None
    annotations: Any = Field(None, description="Ignored.")
    images: Any = Field(None, description="Ignored: the links are in the content.")
    parsed: Any = Field(None, description="Ignored; OpenAI's SDK adds it to answers that it parsed.")
    reasoning: Any = Field(None, description="Ignored.")
    reasoning_content: Any = Field(None, description="Ignored: Gemini does not take its thoughts back.")
    reasoning_details: Any = Field(None, description="Ignored.")
    thinking_blocks: Any = Field(None, description="Ignored.")
    provider_specific_fields: Any = Field(None, description="Ignored.")
    extra_content: Any = Field(None, description="Ignored.")
    cache_control: Any = Field(None, description="Ignored: Gemini caches prompts by itself.")

    @model_validator(mode="after")
    def _of_its_role(self) -> Message:
        role = self.role
        if role == "tool":
            if self.tool_call_id is None:
                raise wrong("tool_call_id", "is required in a tool message")
        elif role != "assistant":
            if not self.content and self.content != "":
                raise wrong("content", f"is required in a {role} message")
            if role != "user" and not isinstance(self.content, str) and any(p.written is None for p in self.content):
                raise wrong("content", f"must be text in a {role} message")
        if self.tool_calls and role != "assistant":
            raise wrong("tool_calls", f"is only for assistant messages, not for {role}")
        return self


class Conversation(NamedTuple):
    instruction: list[JsonObject]
    """The parts of the systemInstruction; empty if there is none."""
    contents: list[JsonObject]


def conversation(
    messages: Sequence[Message], media: Media, signatures: Mapping[str, str], *, with_call_ids: bool
) -> Conversation:
    """Raises BadRequest that names the message. `signatures`: call id -> thought signature. `with_call_ids`: whether the model
    takes the ids of function calls."""
    start = next((at for at, one in enumerate(messages) if one.role not in ("system", "developer")), len(messages))
    if start == len(messages):
        # Gemini answers a user's turn. OpenAI takes instructions alone.
        return Conversation([], [_user(one, media, at) for at, one in enumerate(messages)])
    instruction = [part for at in range(start) for part in _native_parts(messages[at], media, at)]
    writer = _Writer(media, signatures, with_call_ids)
    at = start
    while at < len(messages):
        at = writer.add(messages, at)
    return Conversation(instruction, writer.contents)


class _Writer:
    """Builds the contents message by message."""

    def __init__(self, media: Media, signatures: Mapping[str, str], with_call_ids: bool) -> None:
        self.contents: list[JsonObject] = []
        self._media = media
        self._signatures = signatures
        self._with_call_ids = with_call_ids
        self._calls = 0
        self._reader = _JsonReader()

    def add(self, messages: Sequence[Message], at: int) -> int:
        """Adds the message at `at`, with the results of its calls. Returns the place of the next one."""
        message = messages[at]
        if message.role == "assistant":
            return self._add_assistant(messages, at)
        if message.role == "tool":
            raise BadRequest(
                f"messages[{at}] is a tool message, and the message before it has no tool_calls. Send it right after the "
                "assistant message with the call that it answers.",
                field=f"messages[{at}].role",
            )
        self.contents.append(_user(message, self._media, at))
        return at + 1

    def _add_assistant(self, messages: Sequence[Message], at: int) -> int:
        message = messages[at]
        parts = _native_parts(message, self._media, at) if message.content else []
        if not parts and message.refusal:
            parts = [{"text": message.refusal}]
        calls = message.tool_calls or []
        ids = self._new_ids(len(calls))
        if calls:
            parts += self._call_parts(calls, ids, at)
        if parts:
            self._append_to_model_turn(parts)
        if not calls:
            return at + 1
        end = at + 1
        while end < len(messages) and messages[end].role == "tool":
            end += 1
        self.contents.append({"role": "user", "parts": self._results(messages, at, end, ids)})
        return end

    def _new_ids(self, count: int) -> Sequence[str | None]:
        first = self._calls + 1
        self._calls += count
        return [f"call_{number}" if self._with_call_ids else None for number in range(first, first + count)]

    def _append_to_model_turn(self, parts: list[JsonObject]) -> None:
        if self.contents and self.contents[-1]["role"] == "model":
            self.contents[-1]["parts"] += parts
        else:
            self.contents.append({"role": "model", "parts": parts})

    def _call_parts(self, calls: Sequence[ToolCall], ids: Sequence[str | None], at: int) -> list[JsonObject]:
        parts: list[JsonObject] = []
        for number, (call, call_id) in enumerate(zip(calls, ids, strict=True)):
            where = f"messages[{at}].tool_calls[{number}].function.arguments"
            native: JsonObject = {
                "name": call.function.name,
                "args": self._reader.arguments(call.function.arguments, where),
            }
            if call_id is not None:
                native["id"] = call_id
            parts.append({"functionCall": native})
        # Gemini signs the first of parallel calls, and validates that one.
        parts[0]["thoughtSignature"] = calls[0].signature or self._signatures.get(calls[0].id) or PLACEHOLDER
        return parts

    def _results(self, messages: Sequence[Message], at: int, end: int, ids: Sequence[str | None]) -> list[JsonObject]:
        """The results in `messages[at + 1 : end]` of the calls in `messages[at]`, in the order of the calls."""
        calls = messages[at].tool_calls or []
        results = _by_call(messages, at, end)
        parts = []
        for number, (call, call_id) in enumerate(zip(calls, ids, strict=True)):
            place = results.get(call.id)
            if place is None:
                raise BadRequest(
                    f"messages[{at}].tool_calls[{number}] has no result. After an assistant message with tool_calls, send one "
                    f"tool message for each call; none has the tool_call_id {_shown(call.id)}.",
                    field=f"messages[{at}].tool_calls[{number}].id",
                )
            native: JsonObject = {"name": call.function.name, **self._response(messages[place], place)}
            if call_id is not None:
                native["id"] = call_id
            parts.append({"functionResponse": native})
        return parts

    def _response(self, message: Message, at: int) -> JsonObject:
        content = message.content
        if not isinstance(content, list):
            return {"response": self._reader.response(content or "")}
        text = "\n".join(part.written for part in content if part.written is not None)
        media = [
            native_part(part, self._media, f"messages[{at}].content[{number}]")
            for number, part in enumerate(content)
            if part.written is None
        ]
        response = {"response": self._reader.response(text)}
        return {**response, "parts": media} if media else response


def _by_call(messages: Sequence[Message], at: int, end: int) -> dict[str, int]:
    """The id of each call in `messages[at]` -> the place of its result in `messages[at + 1 : end]`."""
    known = set()
    for number, call in enumerate(messages[at].tool_calls or ()):
        if call.id in known:
            field = f"messages[{at}].tool_calls[{number}].id"
            raise BadRequest(f"{field} is {_shown(call.id)} a second time; each call needs its own id.", field=field)
        known.add(call.id)
    places: dict[str, int] = {}
    for place in range(at + 1, end):
        call_id = messages[place].tool_call_id or ""
        field = f"messages[{place}].tool_call_id"
        if call_id not in known:
            raise BadRequest(
                f"{field} is {_shown(call_id)}, which no call of the assistant message before it has. Send the id of a call.",
                field=field,
            )
        if call_id in places:
            raise BadRequest(f"{field} is {_shown(call_id)} a second time; send one result for each call.", field=field)
        places[call_id] = place
    return places


class _JsonReader:
    """Parses the JSON in texts, with one bound on the values of all of them: `MAX_VALUES` of the body does not count them."""

    def __init__(self) -> None:
        self._unread = MAX_VALUES
        self._counter = ValueCounter()

    def arguments(self, text: str, where: str) -> JsonObject:
        """Raises BadRequest for what is not an object."""
        if not text or text.isspace():
            return {}
        self._count(text, where)
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"{where} is not JSON: {error.msg}; send an object, like {{}}.", field=where) from None
        if not isinstance(value, dict):
            raise BadRequest(f"{where} is {json_type(value)} in JSON; send an object, like {{}}.", field=where)
        return value

    def response(self, text: str) -> JsonObject:
        """A function's response: the object that the text is, or an object that has the text."""
        if text.lstrip()[:1] == "{" and not _LONG_NUMBER.search(text):
            self._count(text, "messages")
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                value = None
            if isinstance(value, dict):
                return value
        return {"result": text}

    def _count(self, text: str, where: str) -> None:
        # A short text cannot have many values, and is not scanned.
        if len(text) <= self._unread:
            self._unread -= len(text)
            return
        try:
            self._counter.feed(text.encode())
        except TooManyValues as error:
            raise BadRequest(f"The JSON in {where} has {error}; send fewer in one request.", field=where) from None


def _user(message: Message, media: Media, at: int) -> JsonObject:
    if isinstance(message.content, str):
        return turn("user", message.content)
    return {"role": "user", "parts": _native_parts(message, media, at)}


def _native_parts(message: Message, media: Media, at: int) -> list[JsonObject]:
    content = message.content
    if isinstance(content, str):
        return [{"text": content}]
    return [native_part(part, media, f"messages[{at}].content[{number}]") for number, part in enumerate(content or ())]


def _shown(call_id: str) -> str:
    return call_id if len(call_id) <= 100 else f"{call_id[:99]}…"
