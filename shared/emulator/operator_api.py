"""The emulator's own routes: statistics, and faults that a test or operator orders.

GET /stats[?arrivals=1] · POST /stats/reset[?limits=1] · GET, POST, DELETE /emulator/faults
"""

from __future__ import annotations

import orjson
from aiohttp import web

from . import errors, replies
from .faults import BadDirective, Faults
from .server import Request
from .stats import Stats


async def answer(request: Request, stats: Stats, faults: Faults) -> web.Response | None:
    """The response; None for a path that is not one of these."""
    route = (request.method, request.path)
    if route == ("GET", "/"):
        return replies.document(request, {"service": "offline Gemini", "stats": "/stats"})
    if route == ("GET", "/stats"):
        return replies.document(request, stats.snapshot(arrivals=request.query.get("arrivals") == "1"))
    if route == ("POST", "/stats/reset"):
        stats.reset(limits=request.query.get("limits") == "1")
        return replies.document(request, {})
    if request.path != "/emulator/faults" or request.method not in ("GET", "POST", "DELETE"):
        return None
    try:
        await _change(request, faults)
    except BadDirective as error:
        return replies.rejection(request, errors.invalid(str(error)), sse=False)
    return replies.document(request, {"faults": faults.pending()})


async def _change(request: Request, faults: Faults) -> None:
    """POST {"fault": "503", "count": 10, "key": .., "model": ..}; DELETE forgets all orders and `xN` counts."""
    if request.method == "DELETE":
        faults.clear()
    elif request.method == "POST":
        try:
            order = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            order = None
        if not isinstance(order, dict):
            raise BadDirective(
                'A fault order is a JSON object: {"fault": "503", "count": 1, "key": ..., "model": ...}.'
            )
        fault, count = order.get("fault"), order.get("count", 1)
        key, model = order.get("key"), order.get("model")
        if not isinstance(count, int) or not isinstance(fault, str | int):
            raise BadDirective("fault must name one, count must be a whole number.")
        if not isinstance(key, str | None) or not isinstance(model, str | None):
            raise BadDirective("key and model must be texts.")
        faults.order(str(fault), count, key, model)
