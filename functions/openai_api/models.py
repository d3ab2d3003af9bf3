"""The bodies of /v1: what each path of OpenAI's API takes and returns."""

from __future__ import annotations

from dataclasses import replace

from shared.generation import JsonObject
from shared.openai_format.model_bodies import Model, ModelList
from shared.openai_format.status_body import Status
from shared.openapi.operation import Operation

_ID: JsonObject = {
    "description": "A model's id, or an alias of one.",
    "schema": {"type": "string", "example": "gemini-3.8-flash"},
}
_MODEL = Operation(
    Model, summary="One model, with the limits that apply and what of them is used.", path_parameters={"id": _ID}
)

OPERATIONS: dict[str, Operation] = {
    "GET /v1/models": Operation(ModelList, summary="The models, with the limits that apply and what of them is used."),
    "GET /v1/models/{id}": _MODEL,
    "GET /v1/models/models/{id}": replace(_MODEL, summary="The same, by the name of Gemini's API: models/ and the id."),
    "GET /v1/status": Operation(Status, summary="The accounts by state, the use of each model, and the queue."),
}
