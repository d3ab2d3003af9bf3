"""The messages of a chat completion as the contents of a native request. Pure.

    system, developer   those at the beginning are the systemInstruction; a later one is a user turn in its place, because
                        Gemini has one instruction, and its place in the conversation is part of what it means
    assistant           a model turn; several in a row are one, since Gemini wants function calls after a user's turn
    tool                the results that follow a model turn are one user turn, in the order of its calls

The ids of calls are numbered anew: those of clients are long, are cut, or repeat, and Gemini compares them within the request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from shared.bounds.json_structure import MAX_VALUES, TooManyValues, ValueCounter
from shared.errors import BadRequest, json_type
from shared.gemini.native_body import turn
from shared.gemini.references import PLACEHOLDER
from shared.generation import JsonObject
from shared.openai_format.messages import Message, ToolCall
from shared.openai_format.parts import Media, native_part

_LONG_NUMBER = re.compile(r"[0-9]{16}")
"""Google reads a number in a function's response as a double, which has 15 digits."""

MAX_DEPTH = 200
"""Maximum levels of JSON in a text. The body around it has a few more, and orjson, which parses 1024, writes 254."""


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
    instruction = [
        part for at in range(start) for part in _native_parts(messages[at], media, at) if part["text"].strip()
    ]
    writer = _Writer(media, signatures, with_call_ids)
    at = start
    while at < len(messages):
        at = writer.add(messages, at)
    if not writer.contents:
        raise BadRequest("messages have no content; send at least one message with a text.", field="messages")
    return Conversation(instruction, writer.contents)


class _Call(NamedTuple):
    id: str
    """As the client wrote it."""
    where: str
    """Its path in the body, for errors."""
    name: str
    arguments: JsonObject
    signature: str | None
    new_id: str | None
    """As it is sent; None for a model that takes no ids."""


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
            return self._add_model_turn(messages, at)
        if message.role == "tool":
            raise BadRequest(
                f"messages[{at}] is a tool message, and the message before it has no tool_calls. Send it right after the "
                "assistant message with the call that it answers.",
                field=f"messages[{at}].role",
            )
        self.contents.append(_user(message, self._media, at))
        return at + 1

    def _add_model_turn(self, messages: Sequence[Message], at: int) -> int:
        """Adds the assistant messages from `at` on, and the results of their calls. Some clients send each of several parallel
        calls in a message of its own."""
        parts: list[JsonObject] = []
        asked: list[tuple[str, ToolCall]] = []
        while at < len(messages) and messages[at].role == "assistant":
            message = messages[at]
            said = _native_parts(message, self._media, at)
            parts += said if said or not message.refusal else [{"text": message.refusal}]
            asked += (
                (f"messages[{at}].tool_calls[{number}]", call) for number, call in enumerate(message.tool_calls or ())
            )
            at += 1
        calls = self._calls_of(asked)
        if parts or calls:
            self.contents.append({"role": "model", "parts": [*parts, *(_call_part(call) for call in calls)]})
        if not calls:
            return at
        end = at
        while end < len(messages) and messages[end].role == "tool":
            end += 1
        self.contents.append({"role": "user", "parts": self._results(messages, at, end, calls)})
        return end

    def _calls_of(self, asked: Sequence[tuple[str, ToolCall]]) -> list[_Call]:
        """The calls of a turn as Gemini made them. `asked`: with their paths in the body. Of parallel calls Gemini signs the
        first, so a signed one comes first, whatever the client did to their order."""
        signed = [(where, call, call.signature or self._signatures.get(call.id)) for where, call in asked]
        signed.sort(key=lambda one: one[2] is None)
        calls: list[_Call] = []
        for where, call, signature in signed:
            arguments = self._reader.arguments(call.function.arguments, f"{where}.function.arguments")
            self._calls += 1
            new_id = f"call_{self._calls}" if self._with_call_ids else None
            # Gemini rejects a turn of calls whose first one is not signed.
            if not calls and signature is None:
                signature = PLACEHOLDER
            calls.append(_Call(call.id, where, call.function.name, arguments, signature, new_id))
        return calls

    def _results(self, messages: Sequence[Message], at: int, end: int, calls: Sequence[_Call]) -> list[JsonObject]:
        """The results of the calls in `messages[at:end]`, in the order of the calls."""
        places = _places_by_call(messages, at, end, calls)
        parts = []
        for call in calls:
            place = places.get(call.id)
            if place is None:
                raise BadRequest(
                    f"{call.where} has no result. After an assistant message with tool_calls, send one tool message for each "
                    f"call; none has the tool_call_id {_shown(call.id)}.",
                    field=f"{call.where}.id",
                )
            native: JsonObject = {"name": call.name, **self._response(messages[place], place)}
            if call.new_id is not None:
                native["id"] = call.new_id
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


def _call_part(call: _Call) -> JsonObject:
    native: JsonObject = {"name": call.name, "args": call.arguments}
    if call.new_id is not None:
        native["id"] = call.new_id
    part: JsonObject = {"functionCall": native}
    if call.signature is not None:
        part["thoughtSignature"] = call.signature
    return part


def _places_by_call(messages: Sequence[Message], at: int, end: int, calls: Sequence[_Call]) -> dict[str, int]:
    """The id of each call -> the place of its result in `messages[at:end]`. Raises BadRequest for an id that is there twice,
    and for the result of another call."""
    known = set()
    for call in calls:
        if call.id in known:
            field = f"{call.where}.id"
            raise BadRequest(f"{field} is {_shown(call.id)} a second time; each call needs its own id.", field=field)
        known.add(call.id)
    places: dict[str, int] = {}
    for place in range(at, end):
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
        self._counter = ValueCounter(MAX_VALUES)

    def arguments(self, text: str, where: str) -> JsonObject:
        """Raises BadRequest for what is not an object."""
        if not text or text.isspace():
            return {}
        try:
            value = self._parsed(text)
        except TooManyValues as error:
            raise BadRequest(f"The JSON in {where} has {error}; send fewer in one request.", field=where) from None
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"{where} is not JSON: {error.msg}; send an object, like {{}}.", field=where) from None
        except _TooDeep:
            raise BadRequest(
                f"{where} is nested too deeply; send JSON of at most {MAX_DEPTH} levels.", field=where
            ) from None
        if not isinstance(value, dict):
            raise BadRequest(f"{where} is {json_type(value)} in JSON; send an object, like {{}}.", field=where)
        return value

    def response(self, text: str) -> JsonObject:
        """A function's response: the object that the text is, or an object that has the text. A function may return any text, so
        what cannot be sent as an object is sent as text."""
        if text.lstrip()[:1] == "{" and not _LONG_NUMBER.search(text):
            try:
                value = self._parsed(text)
            except (TooManyValues, orjson.JSONDecodeError, _TooDeep):
                value = None
            if isinstance(value, dict):
                return value
        return {"result": text}

    def _parsed(self, text: str) -> Any:
        """Raises TooManyValues, JSONDecodeError, _TooDeep."""
        # A short text cannot have many values, and is not scanned.
        if len(text) <= self._unread:
            self._unread -= len(text)
        else:
            self._counter.feed(text.encode())
        value = orjson.loads(text)
        # A text with few brackets cannot be deep, and its values are not walked through.
        if text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(value):
            raise _TooDeep
        return value


class _TooDeep(Exception):
    pass


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _user(message: Message, media: Media, at: int) -> JsonObject:
    if isinstance(message.content, str):
        return turn("user", message.content)
    return {"role": "user", "parts": _native_parts(message, media, at) or [{"text": ""}]}


def _native_parts(message: Message, media: Media, at: int) -> list[JsonObject]:
    """The parts without empty texts, which Vertex AI rejects."""
    content = message.content or ()
    if isinstance(content, str):
        return [{"text": content}]
    return [
        native_part(part, media, f"messages[{at}].content[{number}]")
        for number, part in enumerate(content)
        if part.written != ""
    ]


def _shown(call_id: str) -> str:
    return call_id if len(call_id) <= 100 else f"{call_id[:99]}…"
