"""GET / and GET /health: health, version and non-secret configuration of the gateway."""

from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint


@endpoint()
async def health(call: Call) -> JsonObject:
    return await call.health()
