"""The bodies of POST /cinematic-story-design."""

from __future__ import annotations

from pydantic import Field

from functions.cinematic_story_design.story import Story
from shared.chat.generation_config import ObjectConfig
from shared.http.bodies import GenerationAnswer, GenerationBody, Text


class Request(GenerationBody):
    user_content: Text = Field(
        description="What the story is about.",
        examples=["A lighthouse keeper finds a whale that is afraid of the dark."],
    )
    system_prompt: Text = Field(
        description="How to tell it, such as audience, tone, length, language and look.",
        examples=["You write bedtime stories for children of five: two chapters, four scenes, watercolours."],
    )
    generation_config: ObjectConfig | None = None


class Answer(GenerationAnswer):
    data: Story
