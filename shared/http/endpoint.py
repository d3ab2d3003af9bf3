"""What every function does around its handler: request id, route, credential, errors, CORS, one log record.

@endpoint()
async def chat(call: Call) -> JsonObject:
    asked = await call.read(Request, Request.native)
    return await call.answer_text(asked.model, asked.body)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

from shared.auth.credentials import authenticate, has_admin_key, key_in, refuse_credential_in_query
from shared.clock import elapsed_s
from shared.errors import GatewayError, MethodNotAllowed, NotFound, Unauthorized, Unavailable
from shared.generation import Caller, JsonObject, Timeline
from shared.http.api_format import OWN, ApiFormat
from shared.http.browser_origin import anonymous_fault
from shared.http.call import Call, headers_of, request_id
from shared.http.disconnect import DisconnectWatch
from shared.http.event_stream import EventStream
from shared.http.manifest import Manifest
from shared.http.response import (
    JsonResponse,
    RawHeaders,
    allow,
    cors_headers,
    error_response,
    generation_headers,
    own_error_body,
    preflight,
    server_timing,
)
from shared.http.routes import Routes, comparable, is_literal, is_wildcard
from shared.settings.settings import SettingsError
from shared.telemetry.record import RequestRecord, log_failure, log_problem, log_request, told, trace_of

if TYPE_CHECKING:
    from shared.bootstrap import Services

__all__ = ["EVERYBODY", "Call", "EndpointApp", "endpoint"]

Handler = Callable[[Call], Awaitable[Response | JsonObject]]
Function = Callable[[Request], Awaitable[Response]]
OpenedBy = Callable[[Call, JsonObject | None], str | None]
"""(call, its body if it is a JSON object) -> the name in ALLOW_ANONYMOUS that lets this request do without a credential;
EVERYBODY if it always may, for example with a ticket; None if it needs one."""
EVERYBODY = "*"
Advice = Callable[[Call], str]
"""A sentence for a request without a valid credential: what else its caller can do; "" for none."""

_HEALTH = "/health"
_VERSION = "/v1"
"""The start of OpenAI's paths. Some clients expect it in the base URL, others add it."""
_MAX_LISTED_PATHS = 4


def endpoint(
    *,
    api: ApiFormat = OWN,
    bearer_is_credential: bool = False,
    opened_by: OpenedBy | None = None,
    advice: Advice = lambda call: "",
) -> Callable[[Handler], Function]:
    """Turns a handler into the function that functions-framework serves under the handler's name, with the endpoint.json
    of the handler's folder. A compatible API passes its own format as `api`; with `bearer_is_credential` the admin key may
    come as a bearer token, as OpenAI's clients send it. `opened_by`: a function whose requests differ in whether they need a
    credential; `advice` ends the message of a 401."""

    def decorate(handler: Handler) -> Function:
        from functions_framework import aio

        from shared.http import framework_server

        framework_server.configure()
        handler_function = cast(FunctionType, handler)
        manifest = Manifest.load(Path(handler_function.__code__.co_filename).parent)
        edge = EndpointApp(
            handler,
            manifest,
            api=api,
            bearer_is_credential=bearer_is_credential,
            opened_by=opened_by,
            advice=advice,
        )

        async def function(request: Request) -> Response:
            return await edge.answer(request)

        # The framework finds a function by its name, and accepts only plain functions.
        function.__name__ = handler_function.__name__
        function.__doc__ = handler_function.__doc__
        return cast(Function, aio.http(function))

    return decorate


def process_services() -> Services:
    """This process's services, created by the first request: in the worker and on its loop, never at import."""
    from shared.bootstrap import services

    return services()


class EndpointApp:
    """One function: handles every request before and after its handler."""

    def __init__(
        self,
        handler: Handler,
        manifest: Manifest,
        *,
        services: Callable[[], Services] = process_services,
        api: ApiFormat = OWN,
        bearer_is_credential: bool = False,
        opened_by: OpenedBy | None = None,
        advice: Advice = lambda call: "",
    ) -> None:
        self.manifest = manifest
        self._opened_by, self._advice = opened_by or self._by_manifest, advice
        self._methods = manifest.patterns
        self._routes = Routes(self._methods)
        only = next(iter(manifest.paths.items()))
        self._only = only if len(manifest.paths) == 1 and is_literal(only[0]) else None
        self._handler = handler
        self._services = services
        self._api = api
        self._headers = _HEADERS if api.headers is None else (*_HEADERS[:-1], partial(_api_headers, api.headers))
        self._bearer_is_credential = bearer_is_credential

    async def answer(self, request: Request) -> Response:
        received_s = elapsed_s()
        try:
            services = self._services()
        except Exception as error:  # noqa: BLE001 - logged, and returned to the caller
            return self._not_started(request, received_s, error)
        call = Call(request, services, received_s, self.manifest.name)
        record = RequestRecord(
            self.manifest.name,
            call.method,
            call.request_id,
            received_s,
            user_agent=call.headers.get("user-agent"),
            timeline=call.timeline,
        )
        response: Response | None = None
        try:
            response = await self._respond(call, record)
            response.raw_headers.extend([header for build in self._headers for header in build(call)])
        except asyncio.CancelledError:
            self._failed(Unavailable("This instance is shutting down."), record)
            await self._finish(call, record)
            raise
        except Exception as error:  # noqa: BLE001 - logged by `_failed`, and returned to the caller
            if isinstance(response, EventStream):
                await response.aclose()
            response = self._error_response(error, call, record)
        if not isinstance(response, EventStream):
            record.answered(response)
            await self._finish(call, record)
        return response

    async def _respond(self, call: Call, record: RequestRecord) -> Response:
        route, methods = self._route(call)
        record.route = call.route = route
        if route != _HEALTH:
            # GET /health refreshes while it reads the ledger, and has a bound of its own for both.
            await call.refresh()
        if call.method == "OPTIONS":
            return preflight(methods, call.headers)
        if call.settings.deployed:
            refuse_credential_in_query(call.request.scope["query_string"])
        if call.method not in methods and not (call.method == "HEAD" and "GET" in methods):
            allowed = allow(methods)
            raise MethodNotAllowed(f"{route} supports only {_listed(allowed)}.", headers={"allow": allowed})
        if route == _HEALTH and route not in self._methods:
            return JsonResponse(await call.health())
        if self.manifest.access_of(route) != "public":
            # Before the body is read, so that guessing the key costs the server no more than a request head.
            await call.refuse_guesses()
            call.known_as(await self._authenticate(call))
            record.asked_by(call.caller)
            if call.caller.kind == "anonymous":
                _reject_foreign_page(call)
            if call.caller.kind == "anonymous" or self.manifest.rated == "everybody":
                await call.services.caller_rate.admit(call.holders)
            if call.body_may_be_json:
                await call.body()
        if not call.body_consumed:
            return await self._handle(call, record)
        with DisconnectWatch(call.request.receive):
            return await self._handle(call, record)

    async def _handle(self, call: Call, record: RequestRecord) -> Response:
        result = await self._handler(call)
        if isinstance(result, EventStream) and call.method == "HEAD":
            result = await result.head()
        if isinstance(result, EventStream):
            await result.begin(
                lambda error: self._error_event(error, call, record),
                lambda: self._finish(call, record),
            )
            record.status = result.status_code
        return result if isinstance(result, Response) else JsonResponse(result)

    def _route(self, call: Call) -> tuple[str, tuple[str, ...]]:
        """The matching pattern and its methods. Sets the call's canonical path and its path parameters."""
        raw_path = call.request.scope.get("raw_path") or b""
        found = self._routes.match(call.path, raw_path)
        if found is not None:
            call.path, call.path_parameters = found.path, found.parameters
            return found.pattern, self._methods[found.pattern]
        path = comparable(call.path, raw_path)
        if path == "/" and self._only is not None:
            # A deployed function has a URL of its own, where its only path may arrive as `/`.
            call.path = path
            return self._only
        if path == _HEALTH:
            return _HEALTH, ("GET",)
        with_version = self._routes.match(_VERSION + path)
        if with_version is not None and not is_wildcard(with_version.pattern):
            raise NotFound(
                f"Not found. This path is {with_version.pattern} here: add {_VERSION} to the client's base URL."
            )
        if len(self._methods) > _MAX_LISTED_PATHS:
            raise NotFound("Not found. GET /openapi.json lists the available paths.")
        raise NotFound(f"Not found. {self.manifest.name} has {', '.join(self._methods)}.")

    async def _authenticate(self, call: Call) -> Caller:
        settings = call.settings
        body: JsonObject | None = None
        admin = has_admin_key(call.headers, settings, bearer_is_credential=self._bearer_is_credential)
        if not admin or (self._bearer_is_credential and "x-caller-id" not in call.headers):
            # The body may contain a key, or the caller's name in addition to an admin key.
            body = await call.json_if_any()
        name = self._opened_by(call, body)
        anonymous = name == EVERYBODY or name in settings.allow_anonymous
        user = body.get("user") if body is not None and self._bearer_is_credential else None
        try:
            return authenticate(
                call.headers,
                key_in(body),
                settings,
                call.address if anonymous else "",
                bearer_is_credential=self._bearer_is_credential,
                anonymous_allowed=anonymous,
                user=user if isinstance(user, str) else None,
            )
        except Unauthorized as error:
            # The body may contain a key, but could not be parsed.
            unread = "" if call.unreadable is None else f"None was found in the body. {call.unreadable}"
            message = " ".join(filter(None, (error.message, unread, self._advice(call))))
            raise Unauthorized(message, headers=error.headers) from None

    def _by_manifest(self, call: Call, body: JsonObject | None) -> str | None:
        return self.manifest.name if self.manifest.access == "anonymous" else None

    def _not_started(self, request: Request, received_s: float, error: Exception) -> Response:
        headers = headers_of(request)
        record = RequestRecord(self.manifest.name, request.method, request_id(headers), received_s)
        if isinstance(error, SettingsError):
            log_problem(str(error))
            error = Unavailable("The server is not configured correctly. Its log names the invalid variable.")
        response = self._rendered(self._failed(error, record), record.request_id)
        record.answered(response)
        record.trace, record.ended_s = trace_of(headers), elapsed_s()
        response.headers["x-request-id"] = record.request_id
        response.headers["server-timing"] = server_timing(record.timeline, record.ended_s - received_s).decode()
        log_request(record, "INFO")
        return response

    def _failed(self, error: Exception, record: RequestRecord) -> GatewayError:
        """The error that is returned to the caller, also set in the record."""
        public = self._api.public_error(told(error, record))
        record.failed(public)
        return public

    def _rendered(self, error: GatewayError, request_id: str) -> Response:
        return error_response(error, request_id, self._api.error_body, self._api.error_headers(error))

    def _error_response(self, error: Exception, call: Call, record: RequestRecord) -> Response:
        """The error in the format of the called API. If that format or a header cannot be built, the failure is logged, and
        the response is sent without it."""
        try:
            response = self._rendered(self._failed(error, record), call.request_id)
        except Exception as defect:  # noqa: BLE001 - logged by `_failed`
            response = error_response(self._failed(defect, record), call.request_id, own_error_body)
        for build in self._headers:
            try:
                response.raw_headers.extend(build(call))
            except Exception as defect:  # noqa: BLE001 - logged here; the error itself is in the response and in the record
                log_failure(defect, record)
        return response

    def _error_event(self, error: Exception, call: Call, record: RequestRecord) -> JsonObject:
        """The data of a stream's last event; always serializable as JSON."""
        try:
            body = self._api.error_body(self._failed(error, record), call.request_id)
            orjson.dumps(body)
        except Exception as defect:  # noqa: BLE001 - logged by `_failed`
            return own_error_body(self._failed(defect, record), call.request_id)
        return body

    async def _finish(self, call: Call, record: RequestRecord) -> None:
        """Runs before the last byte of the response, after which the platform may stop the CPU."""
        call.claim.release()
        record.ended_s = elapsed_s()
        record.trace = trace_of(call.headers)
        tracer = call.services.tracer
        spans: Sequence[Any] = ()
        try:
            spans = tracer.spans(record) if tracer is not None else ()
        except Exception as defect:  # noqa: BLE001 - logged here; tracing must not cost the response or its record
            log_failure(defect, record)
        log_request(record, call.settings.log_level, call.settings.project, call.services.ledger_writes)
        if tracer is not None and spans:
            try:
                await tracer.export(spans)
            except Exception as defect:  # noqa: BLE001 - as above
                log_failure(defect, record)


def _listed(allowed: str) -> str:
    """`allowed` as part of a sentence: "GET, HEAD, OPTIONS" -> "GET, HEAD and OPTIONS"."""
    return " and ".join(allowed.rsplit(", ", 1))


def _request_id_header(call: Call) -> RawHeaders:
    return [(b"x-request-id", call.request_id.encode())]


def _timing_header(call: Call) -> RawHeaders:
    return [(b"server-timing", server_timing(call.timeline, elapsed_s() - call.received_s))]


def _cors_headers(call: Call) -> RawHeaders:
    return cors_headers(call.settings.cors_origins, call.headers.get("origin", ""))


def _generation_headers(call: Call) -> RawHeaders:
    return generation_headers(call.timeline)


def _api_headers(build: Callable[[Timeline, float], RawHeaders], call: Call) -> RawHeaders:
    return build(call.timeline, elapsed_s() - call.received_s)


_HEADERS = (_request_id_header, _timing_header, _cors_headers, _generation_headers)
"""Headers that every response has in addition to its own. An API with headers of its own has them in place of the last."""


def _reject_foreign_page(call: Call) -> None:
    server = call.request.scope.get("server")
    fault = anonymous_fault(call.method, call.headers, call.settings, server[0] if server else None)
    if fault is not None:
        raise fault
