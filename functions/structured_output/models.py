"""What POST /structured-output takes and answers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from shared.chat.generation_config import ObjectConfig
from shared.http.bodies import GenerationAnswer, GenerationBody, Text


class Request(GenerationBody):
    user_content: Text = Field(
        description="What the object is to be made of.", examples=["Ada Lovelace, born in 1815."]
    )
    system_prompt: Text = Field(description="How to make it.", examples=["Extract the person."])
    json_schema: dict[str, Any] = Field(
        description="JSON Schema (draft 2020-12) of the answer. References stay within it.",
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
        description="Whether the answer is checked against `format`: date, date-time, time, duration, email, idn-email, "
        "ipv4, ipv6, uuid, regex. Otherwise formats only tell Gemini what is wanted.",
    )
    generation_config: ObjectConfig | None = None


class Answer(GenerationAnswer):
    data: Any = Field(
        description="Conforms to json_schema, except for keywords that the response header x-schema-unchecked lists: the "
        "server could not check those. It is the model's own JSON: numbers keep their digits.",
        examples=[{"name": "Ada Lovelace", "born": 1815}],
    )
