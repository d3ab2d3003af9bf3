"""POST /batch: many prompts -> a JSON line for each result, as it finishes."""

from starlette.responses import Response

from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.http.handlers import Handlers

HANDLERS = Handlers(
    __package__ or "functions.batch",
    {
        ("POST", "/batch"): "handlers:create",
        ("POST", "/batch/{id}"): "handlers:carry_on",
        ("GET", "/batch/{id}"): "handlers:describe",
    },
)


@endpoint()
async def batch(call: Call) -> Response | JsonObject:
    return await HANDLERS.answer(call)
