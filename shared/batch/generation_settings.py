"""generation_config of an item, in snake_case or camelCase, as Gemini takes it. Pure.

A value is rejected where it is certainly wrong; Gemini judges the rest. Names and ranges:
ai.google.dev/api/generate-content#generationconfig.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from shared.errors import BadRequest
from shared.generation import JsonObject

_INT32 = 2**31 - 1
_RANGES: Mapping[str, tuple[type | tuple[type, ...], float, float]] = {
    "temperature": ((int, float), 0, 2),
    "topP": ((int, float), 0, 1),
    "topK": (int, 1, _INT32),
    "candidateCount": (int, 1, 1),
    "maxOutputTokens": (int, 1, _INT32),
    "presencePenalty": ((int, float), -2, 2),
    "frequencyPenalty": ((int, float), -2, 2),
    "seed": (int, -_INT32 - 1, _INT32),
}
SETTINGS = frozenset({
    *_RANGES, "stopSequences", "thinkingConfig", "responseMimeType", "responseModalities", "responseSchema",
    "responseJsonSchema", "safetySettings", "tools", "toolConfig", "systemInstruction", "mediaResolution",
})  # fmt: skip
"""Names that are settings wherever they stand."""
_OF_A_CLIENT = frozenset({"httpOptions", "automaticFunctionCalling", "shouldReturnHttpResponse"})
"""What google-genai's own client reads."""
MAX_DEPTH = 60
_AS_THEY_ARE = frozenset({"responseSchema", "responseJsonSchema"})
"""Their keys are a caller's own names."""
_OF_THE_BODY = frozenset({"safetySettings", "tools", "toolConfig", "cachedContent"})
"""What google-genai's GenerateContentConfig has beside the settings of generation."""
_SNAKE = re.compile(r"_([a-z0-9])")


class Settings(NamedTuple):
    config: JsonObject | None
    body: JsonObject
    """Fields beside generationConfig."""
    system_prompt: str | None


def read_settings(given: Any, where: str = "generation_config") -> Settings:
    """Raises BadRequest that names the field."""
    if given is None:
        return Settings(None, {}, None)
    given = _plain(given)
    if not isinstance(given, Mapping):
        raise BadRequest(f"{where} must be an object of settings, like {{'temperature': 0.2}}.", field=where)
    config = {name: value for name, value in _camel(given, where).items() if value is not None}
    if found := sorted(_OF_A_CLIENT & config.keys()):
        raise BadRequest(f"{where}.{found[0]} is for google-genai's client; leave it out.", field=f"{where}.{found[0]}")
    system = config.pop("systemInstruction", None)
    if system is not None and not isinstance(system, str):
        raise BadRequest(f"{where}.system_instruction must be a text.", field=f"{where}.system_instruction")
    body = {name: config.pop(name) for name in sorted(_OF_THE_BODY & config.keys())}
    for name, (kinds, minimum, maximum) in _RANGES.items():
        value = config.get(name)
        if value is None:
            continue
        number: Any = value
        if isinstance(value, bool) or not isinstance(value, kinds) or not minimum <= number <= maximum:
            kind = "a whole number" if kinds is int else "a number"
            allowed = f"{minimum:g}" if minimum == maximum else f"{kind} from {minimum} to {maximum}"
            raise BadRequest(f"{where}.{name} must be {allowed}.", field=f"{where}.{name}")
    config.pop("candidateCount", None)
    return Settings(config or None, body, system)


def _plain(given: Any) -> Any:
    """Objects of google-genai as what they hold; a class of pydantic as its JSON Schema."""
    if isinstance(given, type) and hasattr(given, "model_json_schema"):
        return given.model_json_schema()
    fields = getattr(type(given), "model_fields", None)
    if fields is not None:
        found = {name: getattr(given, name) for name in fields}
        if isinstance(found.get("response_schema"), type):
            found["response_json_schema"] = found.pop("response_schema")
        return {name: value for name, value in found.items() if value is not None}
    return getattr(given, "value", given) if isinstance(given, Enum) else given


def _camel(given: Mapping[Any, Any], where: str, depth: int = 0) -> JsonObject:
    if depth > MAX_DEPTH:
        raise BadRequest(f"{where[:60]} is nested more than {MAX_DEPTH} deep; simplify it.", field=where[:60])
    found: JsonObject = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise BadRequest(f"{where} has a name that is no text.", field=where)
        camel = to_camel(name)
        if camel in found:
            raise BadRequest(f"{where} has {camel} twice, in two spellings; send one.", field=f"{where}.{camel}")
        if camel == "tools" and isinstance(value, list | tuple):
            found[camel] = [_first_names(_plain(tool)) for tool in value]
        elif camel in _AS_THEY_ARE:
            found[camel] = _plain(value)
        else:
            found[camel] = _inner(_plain(value), f"{where}.{camel}", depth + 1)
    return found


def _first_names(tool: Any) -> Any:
    """A tool with its own name in camelCase; what is in it has names that a caller chose."""
    if not isinstance(tool, Mapping):
        return tool
    return {_camel_name(name): _dumped(value) for name, value in tool.items() if value is not None}


def _dumped(value: Any) -> Any:
    """Objects of google-genai within a tool."""
    if isinstance(value, list | tuple):
        return [_dumped(one) for one in value]
    return value.model_dump(exclude_none=True, mode="json") if hasattr(value, "model_dump") else value


def _camel_name(name: Any) -> Any:
    return to_camel(name) if isinstance(name, str) else name


def to_camel(name: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), name)


def _inner(value: Any, where: str, depth: int) -> Any:
    if isinstance(value, Mapping):
        return _camel(value, where, depth)
    if isinstance(value, list | tuple):
        if depth > MAX_DEPTH:
            raise BadRequest(f"{where[:60]} is nested more than {MAX_DEPTH} deep; simplify it.", field=where[:60])
        return [_inner(_plain(item), where, depth + 1) for item in value]
    return value
