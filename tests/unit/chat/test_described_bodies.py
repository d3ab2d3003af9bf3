"""Bodies that are read without pydantic are described with it: description and reader take the same bodies."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from shared.auth.credentials import key_in
from shared.chat import chat
from shared.chat.generation_config import NAMES, camel_case
from shared.errors import BadRequest

READERS: dict[str, Callable[[dict[str, Any]], Any]] = {"chat": chat.read_chat, "generate_text": chat.read_prompt}
MODELS: dict[str, type[BaseModel]] = {
    name: importlib.import_module(f"functions.{name}.models").Request for name in READERS
}
SCHEMAS = {name: model.model_json_schema() for name, model in MODELS.items()}
VALIDATORS = {name: jsonschema.Draft202012Validator(schema) for name, schema in SCHEMAS.items()}

PROMPT = {"prompt": "Hello"}
TURN = {"role": "user", "content": "Hello"}
SAFETY = {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}
CONFIG: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 1,
    "top_k": 40,
    "candidate_count": 1,
    "max_output_tokens": 100,
    "stop_sequences": ["END"],
    "presence_penalty": -2,
    "frequency_penalty": 2.0,
    "seed": -(2**31),
    "response_mime_type": "application/json",
    "response_schema": {"type": "OBJECT"},
    "response_json_schema": {"type": "object"},
    "thinking_config": {"include_thoughts": True, "thinking_budget": -1, "thinking_level": "low"},
    "media_resolution": "MEDIA_RESOLUTION_LOW",
    "response_modalities": ["text"],
}
CHAT: list[dict[str, Any]] = [
    PROMPT,
    {"prompt": " \n"},
    {"prompt": "\x1f\x85 "},
    {"prompt": "", "contents": [{}]},
    {"prompt": None},
    {},
    {"prompt": 1},
    {"contents": [{}]},
    {"contents": []},
    {"contents": None},
    {"contents": ["x"]},
    {"contents": [{}], "prompt": None, "history": None},
    {"contents": [{}], "prompt": "Hello"},
    {"contents": [{}], "history": []},
    {**PROMPT, "contents": None},
    {"history": [TURN]},
    {**PROMPT, "history": []},
    {**PROMPT, "history": [TURN, {"role": "model", "text": "x"}, {"role": "assistant", "parts": [{}]}]},
    *(
        {**PROMPT, "history": [turn]}
        for turn in (
            None,
            [],
            {},
            {"role": "user"},
            {"role": "system", "content": "x"},
            {"role": "User", "content": "x"},
            {"role": None, "content": "x"},
            {"content": "x"},
            {**TURN, "text": "x"},
            {**TURN, "text": None, "parts": None},
            {**TURN, "name": "x"},
            {"role": "user", "content": " "},
            {"role": "user", "content": ["x"]},
            {"role": "user", "parts": []},
            {"role": "user", "parts": ["x"]},
            {"role": "user", "parts": {}},
        )
    ),
    *({**PROMPT, "stream": value} for value in (True, False, None, "true", 1)),
    *({**PROMPT, "message": value} for value in (None, "", "x")),
    *({**PROMPT, "session_id": value} for value in (None, "x")),
    *({**PROMPT, "safety_settings": value} for value in (None, [], [SAFETY], {}, [None], [{}], [SAFETY, {**SAFETY}])),
    *({**PROMPT, "safety_settings": [value]} for value in ({**SAFETY, "method": 1}, {**SAFETY, "x": 1})),
    *({**PROMPT, "safety_settings": [{**SAFETY, "threshold": value}]} for value in (None, "", 1)),
    *({**PROMPT, name: 1} for name in ("temperature", "generationConfig", "user", "messages")),
]
CONFIGS: list[Any] = [
    None,
    {},
    [],
    CONFIG,
    {camel_case(name): value for name, value in CONFIG.items()},
    *({name: None} for name in sorted(NAMES)),
    *({name: True} for name in sorted(NAMES)),
    *({name: []} for name in sorted(NAMES)),
    *({name: {}} for name in sorted(NAMES)),
    *({name: value} for name in ("temperature", "topP", "presence_penalty") for value in (0, -1, 1.5, 2.5, "1", 1e30)),
    *({name: value} for name in ("topK", "seed", "max_output_tokens") for value in (0, 1, -5, 5.0, 1.5, 2**31, 2**80)),
    *({"candidate_count": value} for value in (0, 1, 2, 9, 1.5)),
    *({"stop_sequences": value} for value in ([""], [1], ["x"] * 5, ["x"] * 6, "x", [" "])),
    *({"response_modalities": value} for value in (["TEXT"], ["Text"], ["IMAGE"], ["TEXT", "TEXT"], [1], "TEXT")),
    {"top_p": 0.5, "topP": 0.6},
    {"top_p": None, "topP": 0.6},
    {"candidate_count": 1, "candidateCount": 1},
    {"max_outputTokens": 5},
    {"Temperature": 1},
    *({"thinking_config": value} for value in ({}, [], {"budget": 1}, {"thinkingBudget": -2}, {"thinkingLevel": 1})),
    {"thinking_config": {"thinkingBudget": 1, "thinking_budget": 1}},
    {"thinkingConfig": {"includeThoughts": "yes"}},
]
BODIES = {
    "chat": [*CHAT, *({**PROMPT, "generation_config": config} for config in CONFIGS)],
    "generate_text": [
        PROMPT,
        {},
        *({"prompt": value} for value in (None, "", " \t", "\x1c", 1, ["x"])),
        *({**PROMPT, "system_prompt": value} for value in (None, "", "x", 1)),
        *({**PROMPT, name: "x"} for name in ("stream", "history", "promt")),
    ],
}
for name in BODIES:
    BODIES[name] += [{**PROMPT, "model": value} for value in (None, "", "gemini-3.8-flash", 1, [])]
    BODIES[name] += [
        {**PROMPT, "credentials": value}
        for value in (
            None,
            {},
            {"gemini_api_key": None},
            {"gemini_api_key": "AQ.k"},
            {"other": 1},
            {"gemini_api_key": 1},
        )
    ]
    BODIES[name] += [{**PROMPT, "credentials": value} for value in ([], "AQ.key", 1)]


def read(name: str, body: dict[str, Any]) -> str | None:
    """Why the function refuses the body; None if it takes it."""
    try:
        key_in(body)
        READERS[name](body)
    except BadRequest as error:
        return error.message
    return None


def validated(name: str, body: dict[str, Any]) -> str | None:
    try:
        MODELS[name].model_validate(body)
    except ValidationError as error:
        return str(error)
    return None


def in_one_spelling(body: dict[str, Any]) -> bool:
    """Whether generation_config is spelled as the description shows it."""
    config = body.get("generation_config")
    inner = config.get("thinking_config") if isinstance(config, dict) else None
    return not any(name != name.lower() for part in (config, inner) if isinstance(part, dict) for name in part)


def has_null_that_is_not_described(body: dict[str, Any]) -> bool:
    config = body.get("generation_config")
    names = {*body, *(config if isinstance(config, dict) else ())}
    return bool(names & {"message", "session_id", "image_config", "speech_config"})


def agree(name: str, body: dict[str, Any]) -> None:
    reader, model = read(name, body), validated(name, body)
    assert (reader is None) == (model is None), f"{body!r}: the reader says {reader}, the model says {model}"
    if in_one_spelling(body) and not has_null_that_is_not_described(body):
        schema = VALIDATORS[name].is_valid(body)
        assert (reader is None) == schema, f"{body!r}: the reader says {reader}, the JSON Schema {schema}"


@pytest.mark.parametrize(("name", "body"), [(name, body) for name in BODIES for body in BODIES[name]])
def test_the_description_takes_what_the_reader_takes(name: str, body: dict[str, Any]) -> None:
    agree(name, body)


@pytest.mark.parametrize("name", BODIES)
def test_the_table_has_bodies_of_both_kinds(name: str) -> None:
    taken = [read(name, body) is None for body in BODIES[name]]
    assert taken.count(True) >= 5
    assert taken.count(False) >= 5


def test_every_setting_that_is_read_is_described_and_no_other() -> None:
    described = MODELS["chat"].model_fields["generation_config"].annotation.__args__[0].model_fields  # type: ignore[union-attr]
    assert {*described, *(camel_case(name) for name in described)} == NAMES


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANYTHING = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


def by(schema: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the schema allows, as far as each part by itself can say: rules between fields are not looked at."""
    if "$ref" in schema:
        return by(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return st.one_of([by(choice, definitions) for choice in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    match schema.get("type"):
        case "object" if "properties" in schema:
            fields = {name: by(field, definitions) for name, field in schema["properties"].items()}
            required = {name: fields.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=fields)
        case "object":
            return st.dictionaries(st.text(), ANYTHING, max_size=3)
        case "array":
            return st.lists(by(schema["items"], definitions), min_size=schema.get("minItems", 0), max_size=6)
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"]) | st.text(max_size=3)
        case "string":
            return st.text()
        case "integer":
            return st.integers(low, high)
        case "number":
            return st.floats(low, high, allow_nan=False) | st.integers(int(low), int(high))
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case _:
            return ANYTHING


def _bodies(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies by the description, and bodies that differ from a right one in a single place."""
    names = st.sampled_from([*SCHEMAS[name]["properties"], "message", *sorted(NAMES)]) | st.text()
    described = by(SCHEMAS[name], SCHEMAS[name].get("$defs", {}))
    taken = st.sampled_from([body for body in BODIES[name] if read(name, body) is None])
    changed = st.builds(lambda body, field, value: {**body, field: value}, taken, names, ANYTHING)
    mixed = st.builds(lambda first, second: {**first, **second}, taken, described)
    if name != "chat":
        return st.one_of(described, changed, mixed)
    config = st.builds(lambda field, value: {**CONFIG, field: value}, names, ANYTHING)
    configured = st.builds(lambda given: {**PROMPT, "generation_config": given}, config)
    return st.one_of(described, changed, mixed, configured)


@pytest.mark.parametrize("name", BODIES)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_they_agree_on_any_body(name: str, data: st.DataObject) -> None:
    agree(name, data.draw(_bodies(name)))
