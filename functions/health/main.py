"""GET / and GET /health: whether the gateway can serve, its version, and its configuration without secrets."""

from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint


@endpoint()
async def health(call: Call) -> JsonObject:
    return await call.health()
