"""The bodies of /batch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from shared.generation import JsonObject
from shared.http.bodies import AnswerBody, Between, GenerationBody, UsageBody
from shared.openapi.operation import Operation

MAX_ITEMS = 10_000
MAX_WORKERS, DEFAULT_WORKERS = 64, 16
ID_PATTERN = r"[A-Za-z0-9_-]{1,64}"


class Request(GenerationBody):
    items: list[Any] = Field(
        min_length=1,
        max_length=MAX_ITEMS,
        description="Objects with a `prompt`, and if wanted `id`, `metadata`, `generation_config`, `system_prompt`, "
        "`response_schema`, and files: `audio_bytes` (base64), `audio_url`, `audio_mime_type`, the same for `video`, `image` and "
        "`pdf`, each one or a list, and `video_metadata`. `<audio>` and `<video>` in the prompt are places for files. An item "
        "that is wrong gets a result with an error. `metadata` is any value of at most 1 MB, and comes back with the result.",
        examples=[[{"id": "a", "prompt": "Say hello."}]],
    )
    max_workers: Annotated[int, Between(1, MAX_WORKERS)] = Field(DEFAULT_WORKERS, description="Items at once.")
    api_call_interval: Annotated[float, Between(0, 60)] = Field(
        0.0, description="Minimum seconds between two requests to Gemini."
    )
    response_schema: dict[str, Any] | None = Field(None, description="The JSON Schema of answers to items without one.")
    system_prompt: str | None = Field(None, description="For items without one.")
    batch_id: Annotated[str, Field(pattern=f"^{ID_PATTERN}(?![\\s\\S])")] | None = Field(
        None,
        description="A name for the batch, so that the same request can be repeated: it carries the batch on. Without it one is "
        "made up.",
        examples=["evening-1"],
    )


class State(AnswerBody):
    batch_id: str = Field(examples=["evening-1"])
    state: Literal["open", "running", "done"] = Field(
        description="`open`: a POST carries it on. `running`: a request does. `done`: every item has a result."
    )
    total: int
    done: int = Field(description="Items with a result, failures included.")
    failed: int
    created_at: str = Field(examples=["2026-12-01T09:00:00Z"])
    expires_at: str = Field(examples=["2026-12-08T09:00:00Z"])
    url: str = Field(description="POST it to carry the batch on.", examples=["/batch/evening-1?after=0"])


class LineError(BaseModel):
    code: str
    message: str


class FirstLine(BaseModel):
    """The first line."""

    type: Literal["batch"]
    batch_id: str
    total: int
    done: int


class ResultLine(BaseModel):
    """One for each item, in the order in which they finish."""

    type: Literal["result"]
    index: int = Field(description="The item's place in `items`, from 0.")
    id: str | None
    metadata: Any
    response: str | None = Field(description="The text of the answer; null if there is an error.")
    error: LineError | None
    model: str | None
    finish_reason: str | None
    warnings: list[str] = Field(description="What was ignored or removed in the item.")
    usage: UsageBody


class ContinueLine(BaseModel):
    """The last line of a response that does not have all results: POST `url` for the others. With `error`, when all keys are
    exhausted or the ledger cannot be reached."""

    type: Literal["continue"]
    url: str
    done: int
    total: int
    error: LineError | None = None
    retry_after: float | None = Field(None, description="Seconds.")


class DoneLine(BaseModel):
    """The last line, when every item has a result."""

    type: Literal["done"]
    total: int
    failed: int


class ErrorLine(BaseModel):
    """The last line of a response that broke: POST the batch again."""

    type: Literal["error"]
    error: dict[str, Any] = Field(description="As the `error` of other responses.")


_LINES = (FirstLine, ResultLine, ContinueLine, DoneLine, ErrorLine)
_AFTER: dict[str, JsonObject] = {
    "after": {
        "description": "How many results the client has; those that were stored after them follow.",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_ITEMS, "default": 0},
    }
}
_ID: dict[str, JsonObject] = {
    "id": {"description": "The batch's id.", "schema": {"type": "string", "pattern": f"^{ID_PATTERN}$"}}
}
OPERATIONS: dict[str, Operation] = {
    "POST /batch": Operation(
        request=Request,
        lines=_LINES,
        summary="Answers many prompts: a JSON line for each result, as it finishes.",
    ),
    "POST /batch/{id}": Operation(
        lines=_LINES,
        query=_AFTER,
        path_parameters=_ID,
        summary="Carries a batch on, and returns the results that the client does not have.",
    ),
    "GET /batch/{id}": Operation(State, path_parameters=_ID, summary="How far a batch is. Generates nothing."),
}
