"""A caller's generation_config and safety_settings, made native: either spelling in, camelCase out. Pure.

Values are checked as far as a mistake is certain (a wrong type, a number that no model takes); the rest is Gemini's to say.
Names and ranges: ai.google.dev/api/generate-content#generationconfig.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from shared.generation import JsonObject
from shared.http.fields import Fields

_UNDERSCORE = re.compile(r"_([a-z0-9])")
_CAPITAL = re.compile(r"[A-Z]")
_MAX_STOP_SEQUENCES = 5
_INT32 = 2**31 - 1


def camel_case(name: str) -> str:
    return _UNDERSCORE.sub(lambda match: match[1].upper(), name)


def snake_case(name: str) -> str:
    return _CAPITAL.sub(lambda match: "_" + match[0].lower(), name)


def generation_config(given: JsonObject | None, path: str = "generation_config") -> JsonObject | None:
    """None when nothing is given. Raises BadRequest."""
    return _native(given, path, _READERS) if given else None


def safety_settings(given: list[JsonObject] | None, path: str = "safety_settings") -> list[JsonObject] | None:
    """`[{"category": "HARM_CATEGORY_...", "threshold": "BLOCK_..."}]`, passed on as it is. Raises BadRequest."""
    for index, setting in enumerate(given or ()):
        fields = Fields(setting, f"{path}[{index}]")
        fields.required_text("category")
        fields.required_text("threshold")
        fields.finish("method")
    return given or None


def _native(given: JsonObject, path: str, readers: dict[str, Callable[[Fields, str], Any]]) -> JsonObject:
    fields = Fields(given, path)
    result: JsonObject = {}
    seen: set[str] = set()
    for name in given:
        native = camel_case(name)
        if native not in readers or name not in (native, snake_case(native)):
            continue
        if native in seen:
            raise fields.refuse(name, "is given twice, in both spellings")
        seen.add(native)
        value = readers[native](fields, name)
        if value is not None:
            result[native] = value
    fields.finish(*readers)
    return result


def _number(minimum: float, maximum: float) -> Callable[[Fields, str], Any]:
    return lambda fields, name: fields.number(name, minimum, maximum)


def _integer(minimum: int, maximum: int) -> Callable[[Fields, str], Any]:
    return lambda fields, name: fields.integer(name, minimum, maximum)


def _one_candidate(fields: Fields, name: str) -> int | None:
    if fields.integer(name, 1, 8) not in (None, 1):
        raise fields.refuse(name, "must be 1: an answer has one text")
    return None


def _stop_sequences(fields: Fields, name: str) -> list[Any] | None:
    sequences = fields.array(name)
    for index, sequence in enumerate(sequences or ()):
        if not isinstance(sequence, str) or not sequence:
            raise fields.refuse(f"{name}[{index}]", "must be a string that is not empty")
    if sequences is not None and len(sequences) > _MAX_STOP_SEQUENCES:
        raise fields.refuse(name, f"must have at most {_MAX_STOP_SEQUENCES} entries")
    return sequences


def _text_only(fields: Fields, name: str) -> list[Any] | None:
    modalities = fields.array(name)
    if modalities is not None and [str(modality).upper() for modality in modalities] != ["TEXT"]:
        raise fields.refuse(name, 'must be ["TEXT"]: this endpoint answers with text; POST /generate makes images')
    return modalities


def _thinking_config(fields: Fields, name: str) -> JsonObject | None:
    given = fields.mapping(name)
    return None if given is None else _native(given, fields.path(name), _THINKING)


def _level(fields: Fields, name: str) -> str | None:
    level = fields.text(name)
    return level.upper() if level else None


def _not_text(fields: Fields, name: str) -> None:
    if fields.given(name):
        raise fields.refuse(name, "is not for an answer of text")


_THINKING: dict[str, Callable[[Fields, str], Any]] = {
    "includeThoughts": Fields.flag,
    "thinkingBudget": _integer(-1, _INT32),
    "thinkingLevel": _level,
}
_READERS: dict[str, Callable[[Fields, str], Any]] = {
    "temperature": _number(0, 2),
    "topP": _number(0, 1),
    "topK": _integer(1, _INT32),
    "candidateCount": _one_candidate,
    "maxOutputTokens": _integer(1, _INT32),
    "stopSequences": _stop_sequences,
    "presencePenalty": _number(-2, 2),
    "frequencyPenalty": _number(-2, 2),
    "seed": _integer(-_INT32 - 1, _INT32),
    "responseMimeType": Fields.text,
    "responseSchema": Fields.mapping,
    "responseJsonSchema": Fields.mapping,
    "thinkingConfig": _thinking_config,
    "mediaResolution": Fields.text,
    "responseModalities": _text_only,
    "imageConfig": _not_text,
    "speechConfig": _not_text,
}
NAMES = frozenset(_READERS) | {snake_case(name) for name in _READERS}
"""Every name in both spellings."""
