"""One request as a function sees it: who asks, what the body says, how long there is, and the way to Gemini."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from starlette.requests import Request

from shared.auth.credentials import client_address, has_wrong_admin_key, key_in, network_of, require_admin
from shared.bounds.byte_budget import Bucket, ByteBudget
from shared.bounds.large_work import LARGE_BYTES, LargeWork
from shared.errors import BadRequest
from shared.generation import Caller, Encoded, Generation, Journal, JsonObject, Reply, Usage
from shared.http.event_stream import MIN_SILENCE_S, SILENCE_S, Events, EventStream
from shared.http.patience import HEADER, SDK_HEADERS, Patience, patience_of
from shared.http.request_body import may_be_json, parse_object, read_body, require_json, weighed
from shared.settings.settings import Settings

if TYPE_CHECKING:
    from shared.auth.admin_guesses import AdminGuesses
    from shared.auth.caller_rate import CallerRate
    from shared.media.look_ups import LookUps
    from shared.media.media import MediaStore
    from shared.telemetry.record import RequestRecord

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_BODILESS = frozenset({"GET", "HEAD", "DELETE"})
_SINGLE = frozenset(
    {"authorization", "admin-api-key", "x-goog-api-key", "x-request-id", "x-priority", HEADER, *SDK_HEADERS}
)
"""Headers whose value has no comma of its own."""
_NOT_YET_KNOWN = Caller("public", "anonymous")
Result = TypeVar("Result")


class StreamReply(Protocol):
    """An answer that is still coming: native frames as Gemini sends them."""

    @property
    def head(self) -> Reply: ...

    @property
    def usage(self) -> Usage:
        """Known after the last frame."""
        ...

    def __aiter__(self) -> AsyncIterator[JsonObject]: ...


class Gateway(Protocol):
    async def generate(self, generation: Generation) -> Reply: ...

    def accepted(self, caller: Caller) -> bool:
        """Whether Gemini has accepted the caller's own key, as far as this process knows; True for callers without one.
        Raises InvalidGeminiKey for a key that Gemini refused lately."""
        ...

    def stream(self, generation: Generation) -> AbstractAsyncContextManager[StreamReply]:
        """Entering it waits for a 200 from Gemini and its first frame; errors until then are raised there."""
        ...


class Services(Protocol):
    """What the edge and the functions use of a process's services."""

    @property
    def settings(self) -> Settings: ...

    @property
    def gateway(self) -> Gateway: ...

    @property
    def tracer(self) -> Tracer | None: ...

    @property
    def media(self) -> MediaStore:
        """Raises StorageUnavailable where none is configured."""
        ...

    @property
    def caller_rate(self) -> CallerRate: ...

    @property
    def fetch_rate(self) -> CallerRate: ...

    @property
    def look_ups(self) -> LookUps: ...

    @property
    def admin_guesses(self) -> AdminGuesses: ...

    @property
    def byte_budget(self) -> ByteBudget: ...

    @property
    def large_work(self) -> LargeWork: ...

    async def health(self) -> JsonObject: ...

    def ledger_writes(self) -> int:
        """Commits to the ledger by this process since this was last asked."""
        ...


class Tracer(Protocol):
    def spans(self, record: RequestRecord) -> Sequence[Any]:
        """Of the request that the record is of, whose trace this sets; none if it is not sampled."""
        ...

    async def export(self, spans: Sequence[Any]) -> None:
        """Returns when they are sent or given up."""
        ...


class Call:
    """Every reader raises a GatewayError that says what to send instead."""

    def __init__(self, request: Request, services: Services, received_s: float) -> None:
        self.request = request
        self.services = services
        self.settings: Settings = services.settings
        self.method: str = request.method
        self.path: str = request.scope["path"]
        self.headers = headers_of(request)
        self.request_id = request_id(self.headers)
        self.received_s = received_s
        self.caller = _NOT_YET_KNOWN
        """Who asks, once the edge has found out. A public function is not told."""
        self.claim = services.byte_budget.claim(Bucket("", known=False))
        """What this request holds of the process's bytes, until the edge has finished it."""
        self.journal = Journal()
        self.reply: Reply | None = None
        """What the gateway answered: its headers go into the response."""
        self.unreadable: str | None = None
        """Why no credential could be looked for in a body that has something in it: a sentence."""
        self._body: bytes | None = None
        self._object: JsonObject | None = None
        self._not_json: BadRequest | None = None

    @cached_property
    def address(self) -> str:
        """Of the client."""
        peer = self.request.scope.get("client")
        forwarded = self.request.headers.getlist("x-forwarded-for")
        return client_address(forwarded, peer[0] if peer else "unknown", self.settings.deployed)

    def known_as(self, caller: Caller) -> None:
        """The bytes held so far are that caller's from now on. Raises QueueFull where it holds too many already."""
        self.caller = caller
        self.claim.move(Bucket(caller.id, caller.kind == "admin"))

    @cached_property
    def holders(self) -> tuple[str, ...]:
        """The ids in whose rates this request counts. Anybody can make up keys: until Gemini has accepted a caller's key, its
        network is limited too. Raises InvalidGeminiKey for a key that Gemini refused lately."""
        if self.caller.kind != "own_key" or self.services.gateway.accepted(self.caller):
            return (self.caller.id,)
        return (self.caller.id, network_of(self.address))

    @property
    def is_stranger(self) -> bool:
        """Whether nobody has accepted the caller yet: it has no credential, or a key that Gemini has not seen."""
        return self.caller.kind == "anonymous" or len(self.holders) > 1

    async def body(self) -> bytes:
        """The whole body, at most `settings.max_body_bytes`. Raises QueueFull where the process holds too many bytes."""
        if self._body is None:
            if self.caller is _NOT_YET_KNOWN:
                self.claim.move(Bucket(network_of(self.address), known=False))
            limit_bytes, timeout_s = self.settings.max_body_bytes, self.settings.request_timeout_s
            self._body = await read_body(self.headers, self.request.receive, limit_bytes, timeout_s, self.claim)
        return self._body

    @property
    def body_may_be_json(self) -> bool:
        return self.method not in _BODILESS and may_be_json(self.headers)

    async def json(self) -> JsonObject:
        """The body as a JSON object, whose `credentials` are an object if there are any."""
        require_json(self.headers)
        values = await self._parsed()
        key_in(values)
        return values

    async def json_if_any(self) -> JsonObject | None:
        """The body if it is a JSON object, else None: who asks is found out before anything is said of the body."""
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
            body = await self.body()
            if len(body) >= LARGE_BYTES:
                self.claim.cover(await self.work(partial(weighed, body)))
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
        """For paths that are the admin's alone in a function that is public otherwise. Raises Unauthorized, RateLimited."""
        await self.refuse_guesses()
        self.caller = require_admin(self.headers, self.settings)

    async def read(self, reader: Callable[[JsonObject], Result]) -> Result:
        """What `reader` makes of the JSON object, after which the body is forgotten. `reader` must not need the event
        loop: for a large body it runs in a thread. Raises what `reader` raises."""
        job = partial(reader, await self.json())
        # Not while it waits for its turn either: what was parsed takes as much again.
        self.forget_body()
        return await self.work(job)

    async def work(self, job: Callable[[], Result], size_bytes: int = 0) -> Result:
        """What `job` returns or raises, without holding up other requests where this one's body is large, or the
        `size_bytes` are that it works on."""
        if self.claim.held_bytes < LARGE_BYTES and size_bytes < LARGE_BYTES:
            return job()
        return await self.services.large_work.run(job, first=self.claim.bucket.known)

    def forget_body(self) -> None:
        """It is read and done with: a large one is not kept while Gemini works."""
        self._body, self._object = b"", None

    @property
    def body_consumed(self) -> bool:
        return self._body is not None or self.method in _BODILESS

    @cached_property
    def patience(self) -> Patience:
        return patience_of(self.headers, self.settings.request_timeout_s)

    @property
    def deadline_s(self) -> float:
        """On `clock.elapsed_s()`: when the caller's patience ends."""
        return self.received_s + self.patience.timeout_s

    @property
    def priority(self) -> Literal["interactive", "batch"]:
        text = self.headers.get("x-priority", "interactive").lower()
        if text == "interactive":
            return "interactive"
        if text == "batch":
            return "batch"
        raise BadRequest("x-priority must be interactive or batch.", field="x-priority")

    async def generate(self, model: str, body: JsonObject, encoded: Encoded | None = None) -> Reply:
        """One answer from Gemini, for this caller, by this call's deadline. `encoded` is of `body`, where it is asked
        several times. Raises GatewayError."""
        self.reply = await self.services.gateway.generate(self._generation(model, body, encoded))
        return self.reply

    def stream(self, model: str, body: JsonObject, shape: Callable[[StreamReply], Events]) -> EventStream:
        """An answer as it comes; `shape` turns Gemini's frames into the events to send."""
        generation, silence_s = self._generation(model, body), SILENCE_S
        if self.patience.of_silence:
            # The client waits for each byte and not for the last one: it gets one in time.
            generation = replace(generation, deadline_s=self.received_s + self.settings.request_timeout_s)
            silence_s = min(silence_s, max(MIN_SILENCE_S, self.patience.timeout_s / 2))
        journal = generation.journal
        return EventStream(
            self._events(generation, shape),
            generation.deadline_s,
            dispatched_s=lambda: journal.dispatched_s,
            silence_s=silence_s,
        )

    async def _events(self, generation: Generation, shape: Callable[[StreamReply], Events]) -> Events:
        async with self.services.gateway.stream(generation) as reply:
            self.reply = reply.head
            async with aclosing(shape(reply)) as events:
                async for event in events:
                    yield event

    def _generation(self, model: str, body: JsonObject, encoded: Encoded | None = None) -> Generation:
        patient = self.patience.stated and not self.settings.queue_timeout_given
        return Generation(
            model,
            body,
            self.caller,
            self.deadline_s,
            self.priority,
            self.journal,
            encoded,
            claim=self.claim,
            patient_until_s=self.deadline_s if patient else None,
        )


def headers_of(request: Request) -> Mapping[str, str]:
    """Names in lower case. The first of several headers with one name counts; a later one cannot replace it. A value that
    was joined with itself (`Headers.append` in a browser) is one, where a header has one value."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}
    for name in _SINGLE & headers.keys():
        value = headers[name]
        if "," in value and len(parts := {part.strip() for part in value.split(",")}) == 1:
            headers[name] = parts.pop()
    return headers


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's own `x-request-id` if it is fit for a header and a log, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{os.urandom(12).hex()}"
