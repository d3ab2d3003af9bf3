"""generation_config in either spelling becomes Gemini's."""

from __future__ import annotations

from typing import Any

import pytest

from shared.chat.generation_config import generation_config, safety_settings
from shared.errors import BadRequest


def wrong_field(config: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(BadRequest) as caught:
        generation_config(config)
    assert caught.value.details is not None
    return caught.value.details["field"], caught.value.message


@pytest.mark.parametrize("empty", [None, {}])
def test_nothing_given_is_nothing_sent(empty: dict[str, Any] | None) -> None:
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


def test_a_whole_number_may_be_written_with_a_point() -> None:
    made = generation_config({"top_k": 40.0})
    assert made == {"topK": 40}
    assert isinstance(made["topK"], int)


@pytest.mark.parametrize("name", ["response_schema", "responseJsonSchema"])
def test_a_schema_is_the_callers_own_and_stays_as_it_is(name: str) -> None:
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
def test_what_is_wrong_is_named(config: dict[str, Any], field: str) -> None:
    assert wrong_field(config)[0] == f"generation_config.{field}"


def test_images_are_shown_the_way_and_typing_errors_the_name() -> None:
    assert "/generate" in wrong_field({"response_modalities": ["IMAGE"]})[1]
    assert "did you mean temperature" in wrong_field({"temprature": 1})[1]


def test_one_candidate_and_text_only_may_be_said_although_they_are_the_rule() -> None:
    assert generation_config({"candidate_count": 1, "response_modalities": ["TEXT"]}) == {
        "responseModalities": ["TEXT"]
    }


def test_safety_settings_are_passed_on() -> None:
    given = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]
    assert safety_settings(given) == given
    assert safety_settings([]) is None
