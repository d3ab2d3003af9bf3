"""The bodies of /v1: what each path of OpenAI's API takes and returns."""

from __future__ import annotations

from shared.generation import JsonObject
from shared.openai_api.api import OPENAI
from shared.openai_format.image_bodies import EditsBody, GenerationsBody, ImagesAnswer
from shared.openapi.operation import ErrorFormat, Operation

_TEXT: JsonObject = {"type": "string"}
_TEXT_OR_NULL: JsonObject = {"type": ["string", "null"]}
ERRORS = ErrorFormat(
    "OpenaiError",
    {
        "title": "OpenaiError",
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {**_TEXT, "description": "What is wrong and what to do, for people."},
                    "type": _TEXT,
                    "param": {**_TEXT_OR_NULL, "description": "The path of the invalid field."},
                    "code": {**_TEXT_OR_NULL, "description": "Stable, for programs."},
                },
            }
        },
    },
    OPENAI,
    headers=("openai-processing-ms",),
    retry_headers=("retry-after-ms",),
)
_NOT_BUILT = Operation(status=404, summary="Every other path of OpenAI's API is not built, and answers 404.")
OPERATIONS: dict[str, Operation] = {
    "POST /v1/images/generations": Operation(
        ImagesAnswer, GenerationsBody, summary="Generates images, which are stored and linked to."
    ),
    "POST /v1/images/edits": Operation(
        ImagesAnswer, EditsBody, form=True, summary="Generates images from others, to edit or to follow."
    ),
    **{f"{method} /v1/*": _NOT_BUILT for method in ("GET", "POST", "DELETE")},
}
