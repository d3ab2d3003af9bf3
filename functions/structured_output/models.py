"""The bodies of POST /structured-output."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from shared.chat.generation_config import ObjectConfig
from shared.http.bodies import GenerationAnswer, GenerationBody, Text


class Request(GenerationBody):
    user_content: Text = Field(
        description="The content to extract or generate from.", examples=["Ada Lovelace, born in 1815."]
    )
    system_prompt: Text = Field(description="Instructions for the model.", examples=["Extract the person."])
    json_schema: dict[str, Any] = Field(
        description="JSON Schema (draft 2020-12) of the response's `data`. References must stay within it.",
        examples=[
            {
                "type": "object",
                "properties": {"name": {"type": "string"}, "born": {"type": "integer"}},
                "required": ["name", "born"],
                "additionalProperties": False,
            }
        ],
    )
    assert_formats: bool | None = Field(
        None,
        description="Whether the response is checked against `format`: date, date-time, time, duration, email, idn-email, "
        "ipv4, ipv6, uuid, regex. Otherwise formats are only instructions for Gemini.",
    )
    generation_config: ObjectConfig | None = None


class Answer(GenerationAnswer):
    data: Any = Field(
        description="Conforms to json_schema, except for the keywords listed in the response header x-schema-unchecked, which "
        "the server could not check. Numbers keep the digits that the model wrote.",
        examples=[{"name": "Ada Lovelace", "born": 1815}],
    )
