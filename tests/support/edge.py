"""One request through a function's edge, in process: without a socket, and with a gateway whose answers a test sets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

from shared.accounts.account import Account, Kind
from shared.accounts.pool import Pool
from shared.auth.admin_guesses import AdminGuesses
from shared.auth.caller_rate import CallerRate
from shared.bounds.byte_budget import ByteBudget
from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.gateway.generator import Generator
from shared.gateway.request_bodies import RequestBodies
from shared.generation import (
    Attempt,
    Caller,
    Generation,
    JsonObject,
    Priority,
    RateLimit,
    RateStatus,
    Reply,
    Timeline,
    TimeSpan,
    Usage,
)
from shared.ledger.limits import Limits
from shared.media.look_ups import LookUps
from shared.secret import Secret
from shared.settings.settings import Settings
from shared.settings.shares import UPLOAD_WINDOW_S, fetch_limit, upload_limit
from shared.stores.memory import MemoryStore
from tests.support.processes import ADMIN_KEY

ENVIRONMENT = {"ADMIN_API_KEY": ADMIN_KEY, "LEDGER_URL": "memory://"}
ADMIN = {"admin-api-key": ADMIN_KEY}


def account(name: str = "account-1", kind: Kind = "api_key") -> Account:
    return Account(name, name, Secret(name), 1, Limits(), kind=kind)


def native(text: str, finish_reason: str = "STOP") -> JsonObject:
    """An answer (or a frame) of generateContent."""
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish_reason}]}


class FakeGateway:
    """Answers with `says` (a text, a native body, a list of frames, or an error to raise); records the requests.

    If `hold` is given, it waits for it first; `cancelled` is whether that wait was cancelled.
    """

    def __init__(self, says: Any = "Hello", hold: asyncio.Event | None = None) -> None:
        self.says = says
        self.hold = hold
        self.asked: list[Generation] = []
        self.began = asyncio.Event()
        self.cancelled = False
        self.closed = 0
        self.max_input_tokens = 1_000_000
        self.tokens: Callable[[JsonObject], int | None] = lambda body: None
        """How many tokens Gemini counts in a body."""
        self.counted: list[Generation] = []
        self.unaccepted: set[str] = set()
        """Ids of callers whose keys Gemini has not accepted."""
        self.rates: list[RateStatus] = []
        """The limits that the first replies report, in turn."""
        self.deleted: list[str] = []
        """Keys of stored files whose copies at Gemini were deleted."""
        self._began_s = elapsed_s()
        self.bodies = RequestBodies(ByteBudget(1 << 30), LargeWork())

    def bind(self, caller: Caller, deadline_s: float, priority: Priority, timeline: Timeline, **rest: Any) -> Generator:
        return Generator(self, caller, deadline_s, priority, timeline, **rest)  # type: ignore[arg-type]

    def accepted(self, caller: Caller) -> bool:
        return caller.id not in self.unaccepted

    def input_limit(self, caller: Caller, model: str) -> int:
        return self.max_input_tokens

    async def count(self, generation: Generation) -> int | None:
        self.counted.append(generation)
        return self.tokens(dict(generation.body))

    async def generate(self, generation: Generation) -> Reply:
        await self._take(generation)
        return self._reply(generation, native(self.says) if isinstance(self.says, str) else self.says)

    @asynccontextmanager
    async def stream(self, generation: Generation) -> AsyncIterator[FakeStream]:
        await self._take(generation)
        try:
            yield FakeStream(self._reply(generation, {}), self.says, self)
        finally:
            self.closed += 1

    async def delete_copies(self, caller: Caller, file_key: str) -> None:
        self.deleted.append(file_key)

    async def _take(self, generation: Generation) -> None:
        """Each generation waits 250 ms and takes 500 ms upstream, whatever its outcome: each at a time of its own."""
        self.asked.append(generation)
        self.began.set()
        timeline = generation.timeline
        timeline.model = generation.model
        now_s = self._began_s - 0.75 * len(self.asked)
        timeline.waits.append(TimeSpan(now_s - 0.75, now_s - 0.5))
        attempt = Attempt(now_s - 0.5, now_s, "account-1")
        timeline.attempts.append(attempt)
        if self.hold is not None:
            await self.wait(self.hold)
        if isinstance(self.says, Exception):
            attempt.failure = "server"
            raise self.says
        attempt.usage, attempt.model_used = Usage(3, 2, 1, 6), generation.model

    async def wait(self, event: asyncio.Event) -> None:
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def _reply(self, generation: Generation, body: JsonObject) -> Reply:
        rate = self.rates.pop(0) if self.rates else RateStatus(RateLimit(300, 299, 60.0))
        reply = Reply(body, generation.model, generation.model, "account-1", Usage(3, 2, 1, 6), rate)
        generation.timeline.answered(reply)
        return reply


class FakeStream:
    """Yields the frames in turn; waits for an Event among them, and raises an exception."""

    def __init__(self, head: Reply, frames: list[Any], gateway: FakeGateway) -> None:
        self.head = head
        self.usage = head.usage
        self._frames = iter(frames)
        self._gateway = gateway

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> JsonObject:
        for frame in self._frames:
            if isinstance(frame, asyncio.Event):
                await self._gateway.wait(frame)
            elif isinstance(frame, Exception):
                raise frame
            else:
                return cast(JsonObject, frame)
        raise StopAsyncIteration


class FakeStored(NamedTuple):
    name: str
    size_bytes: int
    sha256: str


class FakeMedia:
    """Keeps images by their names; `error`, if set, is raised instead of storing."""

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}
        self.error: Exception | None = None

    async def put_image(self, data: bytes, mime_type: str, *, metadata: Mapping[str, str]) -> FakeStored:
        if self.error is not None:
            raise self.error
        name = f"{len(self.images):044x}.{mime_type.rpartition('/')[2]}"
        self.images[name] = data
        return FakeStored(name, len(data), hashlib.sha256(data).hexdigest())


@dataclass(eq=False)
class FakeServices:
    gateway: FakeGateway = field(default_factory=FakeGateway)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = Settings.from_environment({**ENVIRONMENT, **self.environment})
        self.tracer: Any = None
        self.store = store = MemoryStore()
        self.caller_rate = CallerRate(store, self.settings.rate_limit)
        self.fetch_rate = CallerRate(store, fetch_limit(self.settings), counted="fetched addresses")
        self.upload_rate = CallerRate(store, upload_limit(self.settings), UPLOAD_WINDOW_S, counted="uploaded megabytes")
        self.look_ups = LookUps()
        self.admin_guesses = AdminGuesses()
        self.byte_budget = ByteBudget(self.settings.queue_max_bytes or 128 << 20)
        self.large_work = LargeWork()
        self.pool = Pool([account()], caller_limits=Limits(), caller_concurrency=1)
        self.stored = FakeMedia()
        self.written = 0
        self.at_close: list[Callable[[], Awaitable[None]]] = []

    @property
    def media(self) -> Any:
        return self.stored

    def ledger_writes(self) -> int:
        written, self.written = self.written, 0
        return written

    async def refresh(self) -> None: ...

    async def health(self) -> JsonObject:
        return {"status": "healthy"}


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with every chunk."""

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> JsonObject:
        return cast(JsonObject, self.json()["error"])

    def events(self) -> list[tuple[str, JsonObject]]:
        """Server-sent events as (name, data); the default name is `message`. Comments are left out."""
        result = []
        for block in self.body.decode().split("\n\n")[:-1]:
            if block.startswith(":"):
                continue
            lines = dict(line.split(": ", 1) for line in block.split("\n"))
            result.append((lines.get("event", "message"), orjson.loads(lines["data"])))
        return result


async def ask(
    answer: Callable[[Request], Awaitable[Response]],
    method: str = "POST",
    path: str = "/chat",
    *,
    json: Any = None,
    content: bytes | list[bytes] = b"",
    headers: Mapping[str, str] | None = None,
    client: tuple[str, int] = ("192.0.2.1", 5000),
    hang_up: asyncio.Event | None = None,
    into: Answer | None = None,
    seen: Callable[[Any], None] = lambda _: None,
    raw_path: str | None = None,
) -> Answer:
    """Sends one request to `answer` as a server would. `hang_up` is the moment at which the client disconnects; `seen` is
    called with each ASGI message of the answer, before anything is done with it."""
    result = into or Answer()
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if json is not None:
        content = orjson.dumps(json)
        given.setdefault("content-type", "application/json")
    parts = content if isinstance(content, list) else [content]
    messages = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1} for index, part in enumerate(parts)
    ]
    gone = hang_up or asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        seen(message)
        if message["type"] == "http.response.start":
            result.status = message["status"]
            result.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif not gone.is_set():
            if message["body"]:
                result.chunks.append(bytes(message["body"]))
            result.complete = not message.get("more_body", False)
            result.arrived.set()

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": (path if raw_path is None else raw_path).encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": client,
        "state": {},
    }
    request = Request(scope, receive, send)
    await (await answer(request))(scope, receive, send)
    return result
