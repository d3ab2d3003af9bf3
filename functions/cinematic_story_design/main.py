"""POST /cinematic-story-design: content and an instruction -> a story to illustrate, narrate and publish."""

from functions.cinematic_story_design.models import Request
from functions.cinematic_story_design.story import instruction, story_schema
from functions.cinematic_story_design.story_check import StoryCheck
from shared.chat.generation_config import native_config
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.http.response import generation_answer
from shared.structured.output import generate_object, object_body


@endpoint()
async def cinematic_story_design(call: Call) -> JsonObject:
    asked = await call.read(Request)
    body = object_body(
        asked.user_content,
        instruction(asked.system_prompt),
        story_schema(),
        native_config(asked.generation_config),
    )
    model = call.model_for(asked.model, "cinematic_story_design")
    data, ending = await generate_object(call.generator, model, body, StoryCheck())
    return generation_answer({"data": data}, ending, call.request_id)
