"""The bodies of /v1: what each path of OpenAI's API takes and returns."""

from __future__ import annotations

from dataclasses import replace

from shared.generation import JsonObject
from shared.openai_api.api import OPENAI
from shared.openai_format.chat_body import ChatBody
from shared.openai_format.completion_bodies import ChatCompletion, ChatCompletionChunk
from shared.openai_format.embeddings import EmbeddingsAnswer, EmbeddingsBody
from shared.openai_format.file_bodies import LIST_PARAMETERS, FileDeleted, FileForm, FileList, FileObject
from shared.openai_format.image_bodies import EditsBody, GenerationsBody, ImagesAnswer
from shared.openai_format.model_bodies import Model, ModelList
from shared.openai_format.status_body import Status
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
_FILE_CONTENT: JsonObject = {"*/*": {}}
_ID: JsonObject = {
    "description": "A model's id, or an alias of one.",
    "schema": {"type": "string", "example": "gemini-3.8-flash"},
}
_MODEL = Operation(
    Model, summary="One model, with the limits that apply and what of them is used.", path_parameters={"id": _ID}
)
OPERATIONS: dict[str, Operation] = {
    "POST /v1/chat/completions": Operation(
        ChatCompletion, ChatBody, events=(ChatCompletionChunk,), summary="Answers a conversation, whole or as a stream."
    ),
    "GET /v1/models": Operation(ModelList, summary="The models, with the limits that apply and what of them is used."),
    "GET /v1/models/{id}": _MODEL,
    "GET /v1/models/models/{id}": replace(_MODEL, summary="The same, by the name of Gemini's API: models/ and the id."),
    "GET /v1/status": Operation(Status, summary="The accounts by state, the use of each model, and the queue."),
    "POST /v1/files": Operation(FileObject, FileForm, form=True, summary="Stores a file for later requests."),
    "GET /v1/files": Operation(FileList, summary="The caller's files.", query=LIST_PARAMETERS),
    "GET /v1/files/{id}": Operation(FileObject, summary="What is known about a file."),
    "DELETE /v1/files/{id}": Operation(FileDeleted, summary="Deletes a file."),
    "GET /v1/files/{id}/content": Operation(
        media=_FILE_CONTENT,
        summary="The bytes of a file, with the type that its content shows.",
        responses={
            "206": {"description": "The bytes requested by Range.", "content": _FILE_CONTENT},
            "304": {"description": "The version in If-None-Match is current."},
        },
    ),
    "POST /v1/embeddings": Operation(
        EmbeddingsAnswer, EmbeddingsBody, embeds=True, summary="The embeddings of one text or of many, as vectors."
    ),
    "POST /v1/images/generations": Operation(
        ImagesAnswer, GenerationsBody, summary="Generates images, which are stored and linked to."
    ),
    "POST /v1/images/edits": Operation(
        ImagesAnswer, EditsBody, form=True, summary="Generates images from others, to edit or to follow."
    ),
    **{f"{method} /v1/*": _NOT_BUILT for method in ("GET", "POST", "DELETE")},
}
