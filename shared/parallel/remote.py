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
from shared.batch.result import Result
from shared.batch.runner import run
from shared.clock import unix_s
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
MAX_TRIES = 8
"""Attempts in a row that bring no result."""
MAX_PAUSE_S = 30.0
SILENCE_S = 60.0
"""A gateway sends an empty line at least every 15 s."""
KINDS = ("audio", "video", "image", "pdf")


class RemoteBackend:
    """Implements batch.backend.Backend. Bound to the loop that uses it first."""

    def __init__(self, manager: AdvancedApiKeyManager) -> None:
        self._manager = manager
        self._url = str(manager.gateway).rstrip("/")
        self._run_id = secrets.token_hex(8)
        self._session: aiohttp.ClientSession | None = None

    async def run(self, tasks: AsyncIterator[Task], options: BatchOptions, deliver: Deliver) -> None:
        groups = 1 if options.max_workers == 1 else 2
        size = max(1, options.max_workers // groups)

        async def work(group: Group) -> None:
            await self._answer(group, options, size, deliver)

        async def done(_: None) -> None:
            return None

        await run(grouped(tasks, size), work, done, workers=groups)

    async def states(self) -> dict[str, dict[str, Any]]:
        """The gateway's keys are its operator's: their states are those of its health. Raises GatewayError."""
        try:
            async with self._client().get(f"{self._url}/health") as response:
                health = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"{self._url} does not answer: {error!r}") from None
        healthy = response.status == 200 and health.get("status") == "healthy"
        entry: dict[str, Any] = {
            "status": "AVAILABLE" if healthy else "FAILED_INIT",
            "exhausted_count": 0,
            "since": None,
            "until": None,
            "why": "" if healthy else str(health.get("message", response.status)),
            "models": {},
        }
        return {self._url: entry}

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            manager = self._manager
            if manager.admin_key is not None:
                headers = {"Admin-API-Key": manager.admin_key.reveal()}
            else:
                headers = {"x-goog-api-key": next(iter(manager.keys.found.values())).secret.reveal()}
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=SILENCE_S)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=True)
        return self._session

    async def _answer(self, group: Group, options: BatchOptions, workers: int, deliver: Deliver) -> None:
        """Delivers a result for each task of the group. Raises GatewayError."""
        items: list[bytes] = []
        tasks: list[Task] = []
        for task in group:
            try:
                items.append(await item_json(task))
                tasks.append(task)
            except BadRequest as error:
                await deliver(_failed(task, error))
        if not tasks:
            return
        wanted = {
            "model": TABLE.resolve(options.model).canonical,
            "max_workers": min(workers, 64),
            "api_call_interval": min(options.interval_s, 60.0),
        }
        digest = hashlib.blake2b(b"\n".join([self._run_id.encode(), *items]), digest_size=16).hexdigest()
        asked = orjson.dumps({**wanted, "batch_id": digest})
        body = asked[:-1] + b',"items":[' + b",".join(items) + b"]}"
        await self._follow(digest, body, tasks, deliver)

    async def _follow(self, batch_id: str, body: bytes, tasks: list[Task], deliver: Deliver) -> None:
        """Carries the batch on until every task has a result."""
        after, failures, created = 0, 0, False
        left = dict(enumerate(tasks))
        while left:
            url = f"{self._url}/batch/{batch_id}?after={after}" if created else f"{self._url}/batch"
            pause_s, problem, before = 0.0, "the response ended early", after
            try:
                async with self._client().post(
                    url, data=b"" if created else body, headers={"content-type": "application/json"}
                ) as response:
                    if response.status != 200:
                        pause_s, problem = await _refused(response)
                    else:
                        created = True
                        async for line in _lines(response):
                            if line["type"] == "result":
                                after += 1
                                task = left.pop(int(line["index"]), None)
                                if task is not None:
                                    await deliver(_result(task, line))
                            elif line.get("error") is not None:
                                pause_s, problem = await self._stopped(line, left, deliver)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                problem = repr(error)
            failures = 0 if after > before else failures + 1
            if failures > MAX_TRIES:
                raise Unavailable(f"{self._url} brought no result in {failures} attempts; the last problem: {problem}")
            if left:
                await asyncio.sleep(max(pause_s, min(MAX_PAUSE_S, 0.25 * 2**failures) if failures else 0.0))

    async def _stopped(self, line: Mapping[str, Any], left: dict[int, Task], deliver: Deliver) -> tuple[float, str]:
        """The gateway cannot go on now. A long wait is told as the result of every task that is left."""
        error, retry_s = line["error"], line.get("retry_after")
        if line["type"] == "error" or (retry_s is not None and retry_s <= MAX_PAUSE_S):
            return float(retry_s or 1.0), str(error.get("message"))
        for index in list(left):
            task = left.pop(index)
            await deliver(_stop(task, error, None if retry_s is None else unix_s() + retry_s))
        return 0.0, ""


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


async def _refused(response: aiohttp.ClientResponse) -> tuple[float, str]:
    """How long to wait, and why. Raises GatewayError where waiting is of no use."""
    text = (await response.content.read(65_536)).decode("utf-8", "replace")
    try:
        message = str(orjson.loads(text)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = f"status {response.status}"
    if response.status in (401, 403):
        raise Unauthorized(f"The gateway refuses the key: {message}")
    if response.status in (409, 429) or response.status >= 500:
        try:
            return min(MAX_PAUSE_S, float(response.headers.get("retry-after", 1.0))), message
        except ValueError:
            return 1.0, message
    raise BadRequest(f"The gateway refuses the prompts: {message}")


def _result(task: Task, line: Mapping[str, Any]) -> Result:
    error = line["error"]
    return Result(
        index=task.index,
        response=line["response"],
        error=None if error is None else error["message"],
        metadata=task.metadata,
        id=task.id,
        code=None if error is None else error["code"],
        model=line["model"],
        finish_reason=line["finish_reason"],
        warnings=tuple(line["warnings"]),
        usage=Usage(**line["usage"]),
        attempts=1,
    )


def _failed(task: Task, error: GatewayError) -> Result:
    return Result(task.index, None, error.message, task.metadata, task.id, error.code)


def _stop(task: Task, error: Mapping[str, Any], retry_at_s: float | None) -> Result:
    stops: Any = "unreachable" if error.get("code") == "ledger_unavailable" else "exhausted"
    return Result(
        index=task.index,
        response=None,
        error=str(error.get("message")),
        metadata=task.metadata,
        id=task.id,
        code=error.get("code"),
        retryable=True,
        retry_at_s=retry_at_s,
        stops=stops,
    )
