"""The HTTP edge of a function: request id, route, credential, errors, CORS, one log record.

@endpoint()
async def chat(call: Call) -> JsonObject:
    asked = read(await call.json())
    reply = await call.generate(asked.model, asked.body)
    return answer(reply)
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FunctionType
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from shared import telemetry
from shared.auth import authenticate, client_address, key_in
from shared.call import Call, Services, headers_of, request_id
from shared.clock import elapsed_s
from shared.disconnect import DisconnectWatch
from shared.errors import GatewayError, MethodNotAllowed, NotFound, Unavailable
from shared.event_stream import EventStream
from shared.generation import Caller, JsonObject
from shared.http_answer import (
    ErrorBody,
    JsonAnswer,
    RawHeaders,
    allow,
    cors_headers,
    error_answer,
    own_error_body,
    preflight,
    server_timing,
)
from shared.manifest import Manifest
from shared.settings import SettingsError

__all__ = ["Call", "Edge", "endpoint"]

Handler = Callable[[Call], Awaitable[Response | JsonObject]]
Function = Callable[[Request], Awaitable[Response]]

_HEALTH = "/health"
_TRACE = re.compile(r"[0-9a-f]{32}")


def endpoint(
    *, error_body: ErrorBody = own_error_body, bearer_is_credential: bool = False
) -> Callable[[Handler], Function]:
    """Makes `handler` the function that functions-framework serves under the handler's name, as endpoint.json beside
    it says. A compatible API gives its own `error_body`, and takes the admin key as its clients send it."""

    def decorate(handler: Handler) -> Function:
        from functions_framework import aio

        handler_function = cast(FunctionType, handler)
        manifest = Manifest.load(Path(handler_function.__code__.co_filename).parent)
        edge = Edge(handler, manifest, error_body=error_body, bearer_is_credential=bearer_is_credential)

        async def function(request: Request) -> Response:
            return await edge.answer(request)

        # The framework finds a function by its name, and insists on a plain one.
        function.__name__ = handler_function.__name__
        function.__doc__ = handler_function.__doc__
        return cast(Function, aio.http(function))

    return decorate


def process_services() -> Services:
    """This process's services, made at the first request: in the worker, on its loop, never at import."""
    from shared.bootstrap import services

    return services()


class Edge:
    """What happens to every request of one function, before and after its handler."""

    def __init__(
        self,
        handler: Handler,
        manifest: Manifest,
        *,
        services: Callable[[], Services] = process_services,
        error_body: ErrorBody = own_error_body,
        bearer_is_credential: bool = False,
    ) -> None:
        self.manifest = manifest
        self._handler = handler
        self._services = services
        self._error_body = error_body
        self._bearer_is_credential = bearer_is_credential

    async def answer(self, request: Request) -> Response:
        received_s = elapsed_s()
        try:
            services = self._services()
        except Exception as error:  # noqa: BLE001 - logged, and told to the caller
            return self._not_started(request, error)
        call = Call(request, services, received_s)
        record = telemetry.RequestRecord(self.manifest.name, call.method, "(none)", call.request_id)
        try:
            response = await self._respond(call, record)
        except Exception as error:  # noqa: BLE001 - logged by `_failed`, and told to the caller
            response = error_answer(self._failed(error, record), call.request_id, self._error_body)
        response.raw_headers.extend(self._common_headers(call))
        if not isinstance(response, EventStream):
            self._log(call, record, response.status_code)
        return response

    async def _respond(self, call: Call, record: telemetry.RequestRecord) -> Response:
        route, methods = self._route(call.path)
        record.route = route
        if call.method == "OPTIONS":
            return preflight(methods)
        if call.method not in methods and not (call.method == "HEAD" and "GET" in methods):
            allowed = allow(methods)
            raise MethodNotAllowed(f"{route} answers to {allowed}.", headers={"allow": allowed})
        if route == _HEALTH and route not in self.manifest.paths:
            return JsonAnswer(await call.services.health())
        if self.manifest.access != "public":
            call.caller = await self._authenticate(call)
            record.caller = call.caller.id
        if not call.body_consumed:
            return await self._handle(call, record)
        with DisconnectWatch(call.request.receive):
            return await self._handle(call, record)

    async def _handle(self, call: Call, record: telemetry.RequestRecord) -> Response:
        result = await self._handler(call)
        if isinstance(result, EventStream):
            await result.begin(
                lambda error: self._error_body(self._failed(error, record), call.request_id),
                lambda: self._log(call, record, result.status_code),
            )
        return result if isinstance(result, Response) else JsonAnswer(result)

    def _route(self, path: str) -> tuple[str, tuple[str, ...]]:
        paths = self.manifest.paths
        pattern = self.manifest.match(path)
        if pattern is None and path == "/" and len(paths) == 1:
            # A deployed function has a URL of its own, where its only path may arrive as `/`.
            pattern = next(iter(paths))
        if pattern is not None:
            return pattern, paths[pattern]
        if path.rstrip("/") == _HEALTH:
            return _HEALTH, ("GET",)
        raise NotFound(f"Nothing is served at this path; {self.manifest.name} has {', '.join(paths)}.")

    async def _authenticate(self, call: Call) -> Caller:
        settings = call.settings
        body = await call.json_if_any()
        anonymous = self.manifest.access == "anonymous" and self.manifest.name in settings.allow_anonymous
        user = body.get("user") if body is not None and self._bearer_is_credential else None
        return authenticate(
            call.headers,
            key_in(body),
            settings,
            _address(call) if anonymous else "",
            bearer_is_credential=self._bearer_is_credential,
            anonymous_allowed=anonymous,
            user=user if isinstance(user, str) else None,
        )

    def _not_started(self, request: Request, error: Exception) -> Response:
        identity = request_id(headers_of(request))
        if isinstance(error, SettingsError):
            telemetry.log_problem(str(error))
            wrong: GatewayError = Unavailable("The server is not configured; its log says which variable is wrong.")
        else:
            wrong = self._failed(error, telemetry.RequestRecord(self.manifest.name, "", "(none)", identity))
        response = error_answer(wrong, identity, self._error_body)
        response.headers["x-request-id"] = identity
        return response

    def _failed(self, error: Exception, record: telemetry.RequestRecord) -> GatewayError:
        """What the caller is told. An error that is not ours to tell is logged, and hides behind the request's id."""
        if not isinstance(error, GatewayError):
            telemetry.log_failure(error, record.request_id)
            error = GatewayError("The gateway failed. Its log has the details under this request id.")
        record.outcome = error.code
        return error

    def _common_headers(self, call: Call) -> RawHeaders:
        reply = call.reply
        headers = [
            (b"x-request-id", call.request_id.encode()),
            (b"server-timing", server_timing(reply.timing if reply else None, elapsed_s() - call.received_s)),
            *cors_headers(call.settings.cors_origins, call.headers.get("origin", "")),
        ]
        if reply is not None:
            headers.extend((name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items())
        return headers

    def _log(self, call: Call, record: telemetry.RequestRecord, status: int) -> None:
        record.status = status
        record.total_s = elapsed_s() - call.received_s
        record.model = call.model
        if call.reply is not None:
            record.timing, record.account = call.reply.timing, call.reply.account_id
        trace = call.headers.get("x-cloud-trace-context", "").partition("/")[0]
        if call.settings.project is not None and _TRACE.fullmatch(trace):
            record.trace = f"projects/{call.settings.project}/traces/{trace}"
        telemetry.log_request(record, call.settings.log_level)


def _address(call: Call) -> str:
    peer = call.request.scope.get("client")
    forwarded = call.request.headers.getlist("x-forwarded-for")
    return client_address(forwarded, peer[0] if peer else "unknown", call.settings.deployed)
