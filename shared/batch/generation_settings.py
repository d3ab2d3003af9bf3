"""generation_config of an item, in snake_case or camelCase, as Gemini takes it. Pure.

A value is rejected where it is certainly wrong; Gemini judges the rest. Names and ranges:
ai.google.dev/api/generate-content#generationconfig.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    if hasattr(given, "model_dump"):  # An object of google-genai.
        given = given.model_dump(exclude_none=True, mode="json")
    if not isinstance(given, Mapping):
        raise BadRequest(f"{where} must be an object of settings, like {{'temperature': 0.2}}.", field=where)
    config = _camel(given, where)
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
            allowed = f"{minimum:g}" if minimum == maximum else f"{kind} from {minimum:g} to {maximum:g}"
            raise BadRequest(f"{where}.{name} must be {allowed}.", field=f"{where}.{name}")
    config.pop("candidateCount", None)
    return Settings({k: v for k, v in config.items() if v is not None} or None, body, system)


def _camel(given: Mapping[Any, Any], where: str) -> JsonObject:
    found: JsonObject = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise BadRequest(f"{where} has a name that is no text.", field=where)
        camel = _camel_name(name)
        if camel in found:
            raise BadRequest(f"{where} has {camel} twice, in two spellings; send one.", field=f"{where}.{camel}")
        if camel == "tools" and isinstance(value, list | tuple):
            found[camel] = [_first_names(tool) for tool in value]
        else:
            found[camel] = value if camel in _AS_THEY_ARE else _inner(value, f"{where}.{camel}")
    return found


def _first_names(tool: Any) -> Any:
    """A tool with its own name in camelCase; what is in it has names that a caller chose."""
    return {_camel_name(name): value for name, value in tool.items()} if isinstance(tool, Mapping) else tool


def _camel_name(name: Any) -> Any:
    return _SNAKE.sub(lambda match: match[1].upper(), name) if isinstance(name, str) else name


def _inner(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return _camel(value, where)
    if isinstance(value, list | tuple):
        return [_inner(item, where) for item in value]
    return value
