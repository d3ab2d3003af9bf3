"""Answers prompts through a gateway's POST /batch.

Prompts are sent in two groups of at most half of max_workers each. A group is a batch of the gateway with an id of its own, so a
connection that breaks is continued, and nothing is generated twice. Files of this machine are sent as bytes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from shared.batch.backend import BatchOptions, Deliver
from shared.batch.item import Task
from shared.batch.outcomes import MAX_WAIT_S, at
from shared.batch.result import Result, Stop
from shared.batch.runner import run
from shared.clock import elapsed_s, unix_s
from shared.errors import BadRequest, GatewayError, Unauthorized, Unavailable
from shared.gemini.models import TABLE
from shared.generation import Usage
from shared.media.base64_text import decode

from .groups import Group, grouped
from .local_files import read_whole

if TYPE_CHECKING:
    from .key_manager import AdvancedApiKeyManager

MAX_ITEM_BYTES = 20 * 1024 * 1024
"""Of an item's JSON. A gateway takes 32 MB a request."""
MAX_GROUP, MAX_GROUP_BYTES = 64, 8 * 1024 * 1024
"""Items of one request, and their JSON together; a larger item goes alone."""
MAX_INTERVAL_S = 60.0
"""The longest `api_call_interval` of a batch."""
MAX_FAILURES, MAX_SILENCE_S = 8, 1_800.0
"""Connections in a row that break without a result, and the longest time without a result, while a gateway asks for patience."""
MAX_PAUSE_S = 30.0
SILENCE_S = 60.0
"""A gateway sends an empty line at least every 15 s."""
EXHAUSTED = "All keys exhausted"
STOPS = frozenset({"daily_quota_exhausted", "no_quota", "no_server_key"})
WAITED_FOR = frozenset({"batch_busy"}) | STOPS
TRANSIENT = frozenset(
    {"upstream_failed", "upstream_timeout", "rate_limited", "queue_timeout", "queue_full", "unavailable"}
)
MAYBE_GENERATED = frozenset({"upstream_failed", "upstream_timeout"})
KINDS = ("audio", "video", "image", "pdf")


class RemoteBackend:
    """Implements batch.backend.Backend. Bound to the loop that uses it first."""

    def __init__(self, manager: AdvancedApiKeyManager) -> None:
        self._manager = manager
        self.url = str(manager.gateway).rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def run(self, tasks: AsyncIterator[Task], options: BatchOptions, deliver: Deliver) -> None:
        # With an interval, one group after the other: each request to the gateway keeps an interval of its own.
        groups = 1 if options.interval_s or options.max_workers == 1 else max(2, -(-options.max_workers // MAX_GROUP))
        size = max(1, min(options.max_workers // groups, MAX_GROUP))
        if options.interval_s > MAX_INTERVAL_S:
            size = 1
        run_id = secrets.token_hex(8)

        async def work(group: Group) -> None:
            await self._answer(group, options, size, deliver, run_id)
            await asyncio.sleep(options.interval_s)

        async def done(_: None) -> None:
            return None

        await run(grouped(tasks, size), work, done, workers=groups)

    async def states(self) -> dict[str, dict[str, Any]]:
        """The gateway's keys are its operator's: their states are those of its health. Raises GatewayError."""
        try:
            async with self.client().get(f"{self.url}/health") as response:
                health = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"{self.url} does not answer: {error!r}") from None
        healthy = response.status == 200 and health.get("status") == "healthy"
        entry: dict[str, Any] = {
            "status": "AVAILABLE" if healthy else "FAILED_INIT",
            "exhausted_count": 0,
            "since": None,
            "until": None,
            "why": "" if healthy else str(health.get("message", response.status)),
            "models": {},
        }
        return {self.url: entry}

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def client(self) -> aiohttp.ClientSession:
        if self._session is None:
            manager = self._manager
            if manager.admin_key is not None:
                headers = {"Admin-API-Key": manager.admin_key.reveal()}
            else:
                headers = {"x-goog-api-key": next(iter(manager.keys.found.values())).secret.reveal()}
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=SILENCE_S)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=True)
        return self._session

    async def _answer(self, group: Group, options: BatchOptions, workers: int, deliver: Deliver, run_id: str) -> None:
        """Delivers a result for each task of the group. Raises GatewayError."""
        items: list[tuple[Task, bytes]] = []
        size_bytes = 0
        for task in group:
            try:
                item = await item_json(task)
            except BadRequest as error:
                await deliver(_failed(task, error))
                continue
            if items and size_bytes + len(item) > MAX_GROUP_BYTES:
                await self._send(items, options, workers, deliver, run_id)
                items, size_bytes = [], 0
            items.append((task, item))
            size_bytes += len(item)
        if items:
            await self._send(items, options, workers, deliver, run_id)

    async def _send(
        self, items: list[tuple[Task, bytes]], options: BatchOptions, workers: int, deliver: Deliver, run_id: str
    ) -> None:
        wanted = {
            "model": TABLE.resolve(options.model).canonical,
            "max_workers": workers,
            "api_call_interval": min(options.interval_s, MAX_INTERVAL_S),
        }
        # Of this run alone: the same prompts again are another batch, which is generated again.
        named = [run_id.encode(), str(items[0][0].index).encode(), orjson.dumps(wanted), *(item for _, item in items)]
        batch_id = hashlib.blake2b(b"\n".join(named), digest_size=16).hexdigest()
        asked = orjson.dumps({**wanted, "batch_id": batch_id})
        body = asked[:-1] + b',"items":[' + b",".join(item for _, item in items) + b"]}"
        await _Following(self, batch_id, body, [task for task, _ in items], deliver).follow()


class _Following:
    """One batch of the gateway, until every task has a result."""

    def __init__(self, backend: RemoteBackend, batch_id: str, body: bytes, tasks: list[Task], deliver: Deliver) -> None:
        self._backend, self._batch_id, self._body, self._deliver = backend, batch_id, body, deliver
        self._left = dict(enumerate(tasks))
        self._after, self._created = 0, False
        self._problem, self._failures = "", 0
        """What was wrong last, and how many connections in a row broke without a result."""

    async def follow(self) -> None:
        """Raises GatewayError."""
        result_s = elapsed_s()
        while self._left:
            before = self._after
            try:
                pause_s = await self._ask()
                self._failures = 0
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._problem, pause_s = repr(error), 0.0
                self._failures += 1
            if self._after > before:
                result_s, self._failures = elapsed_s(), 0
            if self._failures > MAX_FAILURES or elapsed_s() - result_s > MAX_SILENCE_S:
                raise Unavailable(f"{self._backend.url} brought no more results; the last problem: {self._problem}")
            if self._left:
                backoff_s = min(MAX_PAUSE_S, 0.25 * 2**self._failures) if self._failures else 0.0
                await asyncio.sleep(max(pause_s, backoff_s))

    async def _ask(self) -> float:
        """One request; how long to wait before the next one."""
        url = self._backend.url + (f"/batch/{self._batch_id}?after={self._after}" if self._created else "/batch")
        body, headers = b"" if self._created else self._body, {"content-type": "application/json"}
        pause_s = 0.0
        async with self._backend.client().post(url, data=body, headers=headers) as response:
            if response.status != 200:
                error, retry_s = await _refused(response)
                return await self._stopped(error, retry_s)
            self._created = True
            async for line in _lines(response):
                if line["type"] == "result":
                    self._after += 1
                    task = self._left.pop(int(line["index"]), None)
                    if task is not None:
                        await self._deliver(_result(task, line))
                elif line.get("error") is not None:
                    pause_s = await self._stopped(line["error"], line.get("retry_after"))
        return pause_s

    async def _stopped(self, error: Mapping[str, Any], retry_s: float | None) -> float:
        """The gateway cannot go on now. A stop that lasts is the result of every task that is left."""
        self._problem = str(error.get("message"))
        if error.get("code") not in STOPS and (retry_s is None or retry_s <= MAX_WAIT_S):
            return min(MAX_PAUSE_S, 1.0 if retry_s is None else retry_s)
        for index in list(self._left):
            await self._deliver(_stop(self._left.pop(index), error, retry_s))
        return 0.0


async def item_json(task: Task) -> bytes:
    """The item as the gateway takes it. Raises BadRequest."""
    if task.item is None:
        assert task.problem is not None, "a task has an item or a problem"
        raise task.problem
    data = dict(task.data or {})
    for kind in KINDS:
        paths = [medium for medium in task.item.media if medium.kind == kind and medium.origin == "path"]
        given = data.pop(f"{kind}_bytes", None)
        data.pop(f"{kind}_path", None)
        listed = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
        sent = [*[await read_whole(medium, MAX_ITEM_BYTES) for medium in paths], *map(_bytes, listed)]
        if sent:
            data[f"{kind}_bytes"] = [base64.b64encode(one).decode() for one in sent]
    data.pop("id", None)
    data.pop("metadata", None)
    if task.item.schema is not None:
        data["response_schema"] = task.item.schema
    try:
        encoded = orjson.dumps(data)
    except TypeError as error:
        raise BadRequest(f"The item cannot be sent as JSON: {error}.") from None
    if len(encoded) > MAX_ITEM_BYTES:
        raise BadRequest(
            f"The item has more than {MAX_ITEM_BYTES >> 20} MB, too many for a gateway; send its files as URLs."
        )
    return encoded


def _bytes(given: Any) -> bytes:
    return decode(given) if isinstance(given, str) else bytes(given)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield orjson.loads(line)


async def _refused(response: aiohttp.ClientResponse) -> tuple[Mapping[str, Any], float | None]:
    """The error of a response, and its Retry-After. Raises GatewayError where waiting is of no use."""
    text = (await response.content.read(65_536)).decode("utf-8", "replace")
    try:
        error = dict(orjson.loads(text)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        error = {"code": None, "message": f"The gateway answered {response.status}."}
    if response.status in (401, 403):
        raise Unauthorized(f"The gateway refuses the key: {error.get('message')}")
    if error.get("code") not in WAITED_FOR and response.status < 500 and response.status != 429:
        raise BadRequest(f"The gateway refuses the prompts: {error.get('message')}")
    try:
        retry_s: float | None = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        retry_s = None
    return error, retry_s


def _result(task: Task, line: Mapping[str, Any]) -> Result:
    error = line["error"]
    return Result(
        index=task.index,
        response=line["response"],
        error=None if error is None else error["message"],
        metadata=task.metadata,
        id=task.id,
        code=None if error is None else error["code"],
        retryable=error is not None and error["code"] in TRANSIENT,
        model=line["model"],
        finish_reason=line["finish_reason"],
        warnings=tuple(line["warnings"]),
        usage=Usage(**line["usage"]),
        attempts=1,
        lost=int(line["usage"]["prompt_tokens"] is None and (error is None or error["code"] in MAYBE_GENERATED)),
    )


def _failed(task: Task, error: GatewayError) -> Result:
    return Result(task.index, None, error.message, task.metadata, task.id, error.code)


def _stop(task: Task, error: Mapping[str, Any], retry_s: float | None) -> Result:
    stops: Stop = "unreachable" if error.get("code") == "ledger_unavailable" else "exhausted"
    retry_at_s = None if retry_s is None else unix_s() + retry_s
    message = str(error.get("message"))
    if stops == "exhausted" and not message.startswith(EXHAUSTED):
        message = f"{EXHAUSTED}{'' if retry_at_s is None else f' until {at(retry_at_s)}'}: {message}"
    return Result(
        index=task.index,
        response=None,
        error=message,
        metadata=task.metadata,
        id=task.id,
        code=error.get("code"),
        retryable=True,
        retry_at_s=retry_at_s,
        stops=stops,
    )
