"""The handlers of a function that answers several paths: a table of names, each imported by the first request for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any

from starlette.responses import Response

from shared.generation import JsonObject
from shared.http.call import Call

Handler = Callable[[Call], Awaitable[Response | JsonObject]]


class Handlers:
    """`table`: (method, pattern of endpoint.json) -> "module:handler", where the module is one of `package` or has its whole
    name."""

    def __init__(self, package: str, table: Mapping[tuple[str, str], str]) -> None:
        self._package, self._table = package, table

    async def answer(self, call: Call) -> Response | JsonObject:
        """What the handler of the call's path answers; HEAD is answered by the handler of GET."""
        module, name = self._table["GET" if call.method == "HEAD" else call.method, call.route].split(":")
        found: Any = getattr(import_module(module if "." in module else f"{self._package}.{module}"), name)
        handler: Handler = found
        return await handler(call)
