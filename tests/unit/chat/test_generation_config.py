"""generation_config in either spelling becomes Gemini's."""

from __future__ import annotations

from typing import Any

import pytest

from shared.chat.generation_config import GenerationConfig, ObjectConfig, native_config
from shared.errors import BadRequest
from shared.http.bodies import Body, read


class Holder(Body):
    generation_config: GenerationConfig | None = None


class ObjectHolder(Body):
    generation_config: ObjectConfig | None = None


def generation_config(config: dict[str, Any] | None) -> dict[str, Any] | None:
    return native_config(read(Holder, {"generation_config": config}).generation_config)


def wrong_field(config: dict[str, Any], holder: type[Body] = Holder) -> tuple[str, str]:
    with pytest.raises(BadRequest) as caught:
        read(holder, {"generation_config": config})
    assert caught.value.details is not None
    return caught.value.details["field"], caught.value.message


@pytest.mark.parametrize("empty", [None, {}])
def test_empty_is_none(empty: dict[str, Any] | None) -> None:
    assert generation_config(empty) is None


def test_both_spellings_become_camel_case() -> None:
    given = {
        "temperature": 0.5,
        "top_p": 1,
        "topK": 40,
        "max_output_tokens": 100,
        "stop_sequences": ["END"],
        "responseMimeType": "application/json",
        "thinking_config": {"include_thoughts": True, "thinkingBudget": -1, "thinking_level": "low"},
    }
    assert generation_config(given) == {
        "temperature": 0.5,
        "topP": 1,
        "topK": 40,
        "maxOutputTokens": 100,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": -1, "thinkingLevel": "LOW"},
    }


def test_whole_number_may_have_a_point() -> None:
    made = generation_config({"top_k": 40.0})
    assert made == {"topK": 40}
    assert isinstance(made["topK"], int)


@pytest.mark.parametrize("name", ["response_schema", "responseJsonSchema"])
def test_schema_is_unchanged(name: str) -> None:
    schema = {"type": "object", "properties": {"snake_case": {"any_of": [{"max_items": 1}]}}}
    made = generation_config({name: schema})
    assert made is not None
    assert list(made.values()) == [schema]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"topK": 0}, "topK"),
        ({"top_k": 1.5}, "top_k"),
        ({"candidate_count": 2}, "candidate_count"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": ["END", ""]}, "stop_sequences[1]"),
        ({"stop_sequences": list("abcdef")}, "stop_sequences"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"seed": 2**31}, "seed"),
        ({"response_schema": []}, "response_schema"),
        ({"response_mime_type": 1}, "response_mime_type"),
        ({"thinking_config": {"thinking_budget": "much"}}, "thinking_config.thinking_budget"),
        ({"thinking_config": {"budget": 1}}, "thinking_config.budget"),
        ({"response_modalities": ["TEXT", "IMAGE"]}, "response_modalities"),
        ({"image_config": {}}, "image_config"),
        ({"top_p": 0.5, "topP": 0.6}, "topP"),
        ({"top_p": None, "topP": 0.6}, "topP"),
        ({"candidate_count": 1, "candidateCount": 1}, "candidateCount"),
        ({"max_outputTokens": 5}, "max_outputTokens"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_wrong_field_is_named(config: dict[str, Any], field: str) -> None:
    assert wrong_field(config)[0] == f"generation_config.{field}"


def test_message_names_the_way_out() -> None:
    assert "/generate" in wrong_field({"response_modalities": ["IMAGE"]})[1]
    assert "Did you mean temperature?" in wrong_field({"temprature": 1})[1]
    assert "remove it" in wrong_field({"image_config": {}})[1]


def test_message_names_the_bounds() -> None:
    assert wrong_field({"temperature": 3})[1] == "generation_config.temperature must be a number from 0 to 2."
    assert wrong_field({"topK": 1.5})[1] == "generation_config.topK must be a whole number from 1 to 2147483647."
    assert (
        wrong_field({"candidate_count": 2})[1]
        == "generation_config.candidate_count must be 1: a response has one text."
    )


def test_two_spellings_of_one_field() -> None:
    expected = "generation_config.topP and top_p are two spellings of one field; send only one of them."
    assert wrong_field({"topP": 0.6, "top_p": 0.5})[1] == expected


def test_one_candidate_and_text_only_are_accepted() -> None:
    assert generation_config({"candidate_count": 1, "response_modalities": ["TEXT"]}) == {
        "responseModalities": ["TEXT"]
    }


def test_empty_thinking_level_is_left_out() -> None:
    assert generation_config({"thinking_config": {"thinking_level": ""}}) == {"thinkingConfig": {}}


@pytest.mark.parametrize("name", ["response_mime_type", "responseSchema", "responseJsonSchema"])
def test_object_config_rejects_the_format(name: str) -> None:
    """An endpoint that returns objects sets the response's format itself."""
    field, message = wrong_field({name: {}}, ObjectHolder)
    assert (field, message) == (f"generation_config.{name}", f"{field} is set by this endpoint; remove it.")


def test_schema_has_one_spelling_and_the_bounds() -> None:
    schema = GenerationConfig.model_json_schema()["properties"]
    assert not [name for name in schema if name != name.lower()]
    assert schema["top_k"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
    assert not {"image_config", "speech_config"} & schema.keys()
