"""Paths of OpenAI's API that this gateway does not have."""

from __future__ import annotations

from starlette.responses import Response

from shared.errors import NotFound
from shared.http.call import Call

_MAX_SHOWN = 100


async def not_built(call: Call) -> Response:
    raise NotFound(
        f"{call.method} {call.path[:_MAX_SHOWN]} is not part of this server's API. GET /openapi.json lists what it has."
    )
