"""One request as a function sees it: its caller, its body, its deadline, and access to Gemini."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar, overload

from starlette.requests import Request

from shared.auth.credentials import (
    client_address,
    has_admin_key,
    has_wrong_admin_key,
    key_in,
    network_of,
    require_admin,
)
from shared.bounds.byte_budget import Bucket
from shared.bounds.large_work import LARGE_BYTES
from shared.errors import BadRequest, GatewayError
from shared.gemini import wire
from shared.gemini.answer_text import answer_text
from shared.gemini.models import Purpose, model_for
from shared.generation import Caller, Ending, JsonObject, Priority, Reply, Timeline
from shared.http.event_stream import MIN_SILENCE_S, OWN_FRAMING, SILENCE_S, Events, EventStream, Framing
from shared.http.patience import HEADER, SDK_HEADERS, Patience, patience_of
from shared.http.request_body import (
    budgeted_bytes,
    may_be_json,
    parse_object,
    read_body,
    receive_chunks,
    require_json,
)
from shared.http.response import generation_answer
from shared.settings.settings import Settings
from shared.telemetry.record import RequestRecord, told

if TYPE_CHECKING:
    from pydantic import BaseModel

    from shared.bootstrap import Services
    from shared.gateway.generator import Generator
    from shared.gateway.stream_reply import StreamReply

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_BODILESS = frozenset({"GET", "HEAD", "DELETE"})
_SINGLE = frozenset(
    {"authorization", "admin-api-key", "x-goog-api-key", "x-request-id", "x-priority", HEADER, *SDK_HEADERS}
)
"""Headers whose value has no comma of its own."""
_NOT_YET_KNOWN = Caller("public", "anonymous")
Result = TypeVar("Result")
Model = TypeVar("Model", bound="BaseModel")


class Call:
    """One request. Each method that reads from it raises a GatewayError that says what to send instead."""

    def __init__(self, request: Request, services: Services, received_s: float, function: str = "") -> None:
        """`function`: the name under which errors are logged."""
        self.request = request
        self.services = services
        self.settings: Settings = services.settings
        self.method: str = request.method
        self.path: str = request.scope["path"]
        self.route = ""
        """The pattern of endpoint.json that the path matched, like `/things/{id}`."""
        self.path_parameters: Mapping[str, str] = {}
        """The values in a path that matched a template: for `/things/{id}` in endpoint.json, `path_parameters["id"]`,
        percent-decoded. Empty for other paths, and where a function's own URL is called with the path `/`."""
        self.headers = headers_of(request)
        self.request_id = request_id(self.headers)
        self.received_s = received_s
        self.function = function
        self.caller = _NOT_YET_KNOWN
        """Set by the edge after authentication; a public function has no authenticated caller."""
        self.claim = services.byte_budget.claim(Bucket("", known=False))
        """The request's part of the process's byte budget; the edge releases it at the end."""
        self.timeline = Timeline()
        self.unreadable: str | None = None
        """Why a body that is not empty could not be searched for a credential, as a sentence; None if it could."""
        self._body: bytes | None = None
        self._object: JsonObject | None = None
        self._not_json: BadRequest | None = None

    @cached_property
    def address(self) -> str:
        """The caller's IP address."""
        peer = self.request.scope.get("client")
        forwarded = self.request.headers.getlist("x-forwarded-for")
        from_end = self.settings.client_address_from_end if self.settings.deployed else None
        return client_address(forwarded, peer[0] if peer else "unknown", from_end)

    @cached_property
    def base_url(self) -> str:
        """This server's address, for links: PUBLIC_BASE_URL; else the address that the request was sent to, or "" if its
        Host header is not valid."""
        if self.settings.images.public_base_url is not None:
            return self.settings.images.public_base_url
        host = self.request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            return ""
        scheme = self.request.url.scheme
        # Only Google's front end is trusted to report how it was reached; elsewhere anybody may send that header.
        if self.settings.deployed and self.request.headers.get("x-forwarded-proto") in ("http", "https"):
            scheme = self.request.headers["x-forwarded-proto"]
        return f"{scheme}://{host}"

    def known_as(self, caller: Caller) -> None:
        """Charges the bytes held so far to `caller`. Raises QueueFull if that caller already holds too many."""
        self.caller = caller
        self.claim.move(Bucket(caller.id, caller.kind == "admin"))

    @cached_property
    def holders(self) -> tuple[str, ...]:
        """The ids whose rate limits this request counts against. Anybody can invent keys, so until Gemini has accepted a
        caller's key, its network is limited too. Raises InvalidGeminiKey for a key that Gemini rejected recently."""
        if self.caller.kind != "caller_key" or self.services.gateway.accepted(self.caller):
            return (self.caller.id,)
        return (self.caller.id, network_of(self.address))

    @property
    def is_stranger(self) -> bool:
        """Whether the caller is unknown: it has no credential, or a key that Gemini has not accepted yet."""
        return self.caller.kind == "anonymous" or len(self.holders) > 1

    async def body(self) -> bytes:
        """The whole body, at most `settings.max_body_bytes`. Raises QueueFull if the process holds too many bytes."""
        if self._body is None:
            if self.caller is _NOT_YET_KNOWN:
                self.claim.move(Bucket(network_of(self.address), known=False))
            limit_bytes, timeout_s = self.settings.max_body_bytes, self.settings.request_timeout_s
            self._body = await read_body(self.headers, self.request.receive, limit_bytes, timeout_s, self.claim)
        return self._body

    async def receive(self, max_bytes: int, take: Callable[[bytes], Awaitable[None]]) -> int:
        """Hands the body to `take` as it arrives, instead of `body`, and returns its size. Raises PayloadTooLarge, BadRequest and
        CallerGone."""
        size_bytes = await receive_chunks(self.request.receive, max_bytes, self.settings.request_timeout_s, take)
        self.forget_body()
        return size_bytes

    @property
    def body_may_be_json(self) -> bool:
        return self.method not in _BODILESS and may_be_json(self.headers)

    async def json(self) -> JsonObject:
        """The body as a JSON object. Its `credentials`, if any, have been checked to be an object."""
        require_json(self.headers)
        values = await self._parsed()
        key_in(values)
        return values

    async def json_if_any(self) -> JsonObject | None:
        """The body if it is a JSON object, else None without an error: the caller is authenticated before the body is judged."""
        if not self.body_may_be_json:
            return None
        body = await self.body()
        try:
            return await self._parsed()
        except BadRequest as error:
            self.unreadable = error.message if body and not body.isspace() else None
            return None

    async def _parsed(self) -> JsonObject:
        if self._not_json is not None:
            raise self._not_json
        if self._object is None:
            body = await self.body() if self._body is None else self._body
            if len(body) >= LARGE_BYTES:
                self.claim.cover(await self.work(partial(budgeted_bytes, body)))
            try:
                self._object = await self.work(partial(parse_object, body))
            except BadRequest as error:
                self._not_json = BadRequest(error.message, details=error.details)
                raise
        return self._object

    async def refuse_guesses(self) -> None:
        """Counts a wrong admin key. Raises RateLimited where the caller's network has sent too many."""
        if has_wrong_admin_key(self.headers, self.settings):
            await self.services.admin_guesses.wrong_key(self.address)

    async def require_admin(self) -> None:
        """Protects single paths of a public function, which are for the admin only. Raises Unauthorized, RateLimited."""
        await self.refuse_guesses()
        self.caller = require_admin(self.headers, self.settings)

    async def refresh(self) -> None:
        """Takes the settings of a newer stored configuration, if there is one."""
        await self.services.refresh()
        self.settings = self.services.settings

    async def health(self) -> JsonObject:
        """The body of GET /health: with the admin key also the caller's address, so that CLIENT_ADDRESS_FROM_END can be
        checked. Raises RateLimited where the caller's network has sent too many wrong admin keys."""
        await self.refuse_guesses()
        report = await self.services.health()
        if has_admin_key(self.headers, self.settings):
            return {**report, "client_address": self.address}
        return report

    @overload
    async def read(self, model: type[Model]) -> Model: ...

    @overload
    async def read(self, model: type[Model], then: Callable[[Model], Result]) -> Result: ...

    async def read(self, model: type[Model], then: Callable[[Model], Result] | None = None) -> Model | Result:
        """The JSON body as `model`, or the result of `then` for it; the body is forgotten. `then` must not need the event
        loop: for a large body it runs in a thread. Raises BadRequest, and what `then` raises."""
        # Functions that read no body never load pydantic.
        from shared.http.bodies import read

        job = partial(read, model, await self.json())
        # While the request waits for its turn, its parsed body would take as much memory again.
        self.forget_body()
        return await self.work(job if then is None else lambda: then(job()))

    async def work(self, job: Callable[[], Result], size_bytes: int = 0) -> Result:
        """Returns or raises what `job` does. If this request's body is large, or the `size_bytes` that `job` works on are,
        it does not delay other requests."""
        if self.claim.held_bytes < LARGE_BYTES and size_bytes < LARGE_BYTES:
            return job()
        return await self.services.large_work.run(job, first=self.claim.bucket.known)

    def forget_body(self) -> None:
        """Frees the body once it is read, so that a large one is not kept while Gemini works."""
        self._body, self._object = b"", None

    @property
    def body_consumed(self) -> bool:
        return self._body is not None or self.method in _BODILESS

    @cached_property
    def patience(self) -> Patience:
        return patience_of(self.headers, self.settings.request_timeout_s)

    @property
    def deadline_s(self) -> float:
        """When the caller's patience ends (`clock.elapsed_s()`)."""
        return self.received_s + self.patience.timeout_s

    @property
    def priority(self) -> Priority:
        text = self.headers.get("x-priority", "interactive").lower()
        if text == "interactive":
            return "interactive"
        if text == "batch":
            return "batch"
        raise BadRequest("x-priority must be interactive or batch.", field="x-priority")

    def model_for(self, requested: str | None, purpose: Purpose) -> str:
        """The model that serves a request for `requested`, or the default for `purpose` if that is None. Raises BadRequest."""
        settings = self.settings
        return model_for(requested, purpose, settings.tier, settings.model_override, settings.models)

    @property
    def generator(self) -> Generator:
        """Generations for this caller by this request's deadline: what use cases take instead of the call."""
        return self._generator(self.deadline_s)

    def _generator(self, deadline_s: float) -> Generator:
        patient = self.patience.stated and not self.settings.queue_timeout_given
        return self.services.gateway.bind(
            self.caller,
            deadline_s,
            self.priority,
            self.timeline,
            claim=self.claim,
            patient_until_s=self.deadline_s if patient else None,
        )

    async def generate(self, model: str, body: JsonObject) -> Reply:
        """Gemini's answer to a native body. Raises GatewayError."""
        return await self.generator.generate(model, body)

    async def answer_text(self, requested: str | None, body: JsonObject, purpose: Purpose = "chat") -> JsonObject:
        """The response of an endpoint that returns text: Gemini's answer to a native body, from the model that the caller
        requested, or from the default for `purpose` if `requested` is None. Raises GatewayError."""
        reply = await self.generate(self.model_for(requested, purpose), body)
        ending = Ending(reply.model_used, wire.finish_reason(reply.body), reply.usage)
        return generation_answer({"text": answer_text(reply.body)}, ending, self.request_id)

    def stream(self, model: str, body: JsonObject, shape: Callable[[StreamReply], Events]) -> EventStream:
        """An answer while it is generated; `shape` turns Gemini's frames into the events to send."""
        return self.event_stream(lambda generator: self._events(generator, model, body, shape))

    def event_stream(self, events: Callable[[Generator], Events], framing: Framing = OWN_FRAMING) -> EventStream:
        """A response of the events that are made with a generator for this caller."""
        deadline_s, silence_s = self.deadline_s, SILENCE_S
        if self.patience.of_silence:
            # The client's timeout applies to the time between two bytes: it gets a byte in time, up to the longest deadline.
            deadline_s = self.received_s + self.settings.request_timeout_s
            silence_s = min(silence_s, max(MIN_SILENCE_S, self.patience.timeout_s / 2))
        timeline = self.timeline
        return EventStream(
            events(self._generator(deadline_s)),
            deadline_s,
            dispatched_s=lambda: timeline.dispatched_s,
            silence_s=silence_s,
            framing=framing,
            claim=self.services.byte_budget.claim(self.claim.bucket),
        )

    async def _events(
        self, generator: Generator, model: str, body: JsonObject, shape: Callable[[StreamReply], Events]
    ) -> Events:
        async with generator.stream(model, body) as reply, aclosing(shape(reply)) as events:
            async for event in events:
                yield event

    def public_error(self, error: Exception) -> GatewayError:
        """The error that the caller gets. An internal error is logged, and replaced by one without its message."""
        return told(error, RequestRecord(self.function, self.method, self.request_id, self.received_s))


def headers_of(request: Request) -> Mapping[str, str]:
    """Names in lower case. The first of several headers with one name counts; a later one cannot replace it. A header
    that takes one value, and has it twice (`Headers.append` in a browser joins them), counts once."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}
    for name in _SINGLE & headers.keys():
        value = headers[name]
        if "," in value and len(parts := {part.strip() for part in value.split(",")}) == 1:
            headers[name] = parts.pop()
    return headers


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's own `x-request-id` if it is safe in a header and a log, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{os.urandom(12).hex()}"
