"""generation_config of an item."""

from __future__ import annotations

from typing import Any

import pytest

from shared.batch.generation_settings import read_settings
from shared.errors import BadRequest


@pytest.mark.parametrize(
    ("given", "config"),
    [
        (None, None),
        ({}, None),
        ({"max_output_tokens": 5, "topP": 0.5, "seed": None}, {"maxOutputTokens": 5, "topP": 0.5}),
        ({"thinking_config": {"thinking_level": "low"}}, {"thinkingConfig": {"thinkingLevel": "low"}}),
        ({"stop_sequences": ["a_b"]}, {"stopSequences": ["a_b"]}),
        ({"candidate_count": 1}, None),
        ({"tools": None, "safety_settings": None}, None),
        (
            {"response_json_schema": {"properties": {"my_name": {}}}},
            {"responseJsonSchema": {"properties": {"my_name": {}}}},
        ),
        ({"something_new": {"inner_name": 1}}, {"somethingNew": {"innerName": 1}}),
    ],
)
def test_both_spellings_become_geminis(given: Any, config: Any) -> None:
    assert read_settings(given).config == config


def test_what_belongs_beside_the_settings_is_put_there() -> None:
    """google-genai's GenerateContentConfig has all of these in one object."""
    read = read_settings(
        {
            "system_instruction": "Be brief.",
            "safety_settings": [{"category": "X", "threshold": "Y"}],
            "tools": [{"google_search": {}}, {"function_declarations": [{"name": "f", "parameters": {"a_b": 1}}]}],
        }
    )
    assert read.config is None and read.system_prompt == "Be brief."
    assert read.body == {
        "safetySettings": [{"category": "X", "threshold": "Y"}],
        "tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f", "parameters": {"a_b": 1}}]}],
    }


def test_an_object_of_google_genai_is_taken() -> None:
    from google.genai import types

    config = types.GenerateContentConfig(temperature=0.5, max_output_tokens=9, system_instruction="Hi")
    read = read_settings(config)
    assert (read.config, read.system_prompt) == ({"temperature": 0.5, "maxOutputTokens": 9}, "Hi")


def test_a_class_of_pydantic_is_a_schema() -> None:
    from google.genai import types
    from pydantic import BaseModel

    class River(BaseModel):
        length_km: int

    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=River)
    sent = read_settings(config).config
    assert sent is not None and sent["responseMimeType"] == "application/json"
    assert "length_km" in sent["responseJsonSchema"]["properties"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "generation_config must be an object"),
        ({"temperature": "hot"}, "generation_config.temperature must be a number from 0 to 2."),
        ({"top_k": 1.5}, "generation_config.topK must be a whole number from 1"),
        ({"seed": True}, "generation_config.seed must be a whole number"),
        ({"candidate_count": 2}, "generation_config.candidateCount must be 1."),
        ({"topP": 1, "top_p": 1}, "generation_config has topP twice, in two spellings; send one."),
        ({"http_options": {"timeout": 1}}, "generation_config.httpOptions is for google-genai's client; leave it out."),
        ({3: 1}, "has a name that is no text"),
        ({"system_instruction": 3}, "generation_config.system_instruction must be a text."),
    ],
)
def test_what_is_certainly_wrong_is_named(given: Any, said: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read_settings(given)
    assert said in raised.value.message
