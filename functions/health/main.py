"""GET / and GET /health: whether the gateway can serve, its version, and its configuration without secrets."""

from shared.endpoint import Call, endpoint
from shared.generation import JsonObject


@endpoint()
async def health(call: Call) -> JsonObject:
    return await call.services.health()
