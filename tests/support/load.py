"""Callers in a closed loop: each sends its next request as soon as it is answered. Every outcome is recorded."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, takewhile
from uuid import uuid4

import aiohttp

from tests.support.processes import ADMIN

NOT_ANSWERED = 0
"""The status of a request without a response: the connection broke, or the response did not come in time."""

_ID = re.compile(r"id-[0-9a-f]{8}-\d+")
_QUEUED = re.compile(r"queue;dur=([\d.]+)")


@dataclass(frozen=True, slots=True)
class CallerBehaviour:
    """How callers send requests and react to responses. Both functions get a request's number."""

    patience_s: float | None = None
    """Sent as x-request-timeout; None: the server's own deadline applies."""
    obeys_retry_after: bool = False
    max_pause_s: float = float("inf")
    """Maximum pause of an obedient caller before its next request."""
    directive: Callable[[int], str] = lambda _: ""
    """The directive to the offline Gemini in the prompt."""
    leaves_after_s: Callable[[int], float | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Sent:
    """One request. Times are CLOCK_MONOTONIC (s), which every process of a machine shares."""

    caller: int
    server: int
    model: str
    start_s: float
    end_s: float
    status: int
    told: str
    """The error in a few words; empty if the request was answered."""
    own: bool
    """Whether the answer names the id of this prompt, and no other."""
    queued_s: float | None
    """How long the request waited for a permit, as the server reports."""
    prompt_id: str = ""
    retry_after_s: float | None = None
    left: bool = False
    """Whether the caller disconnected before it was answered."""

    @property
    def answered(self) -> bool:
        return self.status == 200


@dataclass(slots=True)
class Load:
    """The requests so far, in the order in which they ended. A caller whose connection broke sends no further request."""

    servers: Sequence[str]
    callers: int
    models: Sequence[str]
    timeout_s: float
    path: str = "/chat"
    behaviour: CallerBehaviour = CallerBehaviour()
    """May be replaced while it runs."""
    sent: list[Sent] = field(default_factory=list)
    started_s: float = 0.0
    stopped_s: float = 0.0
    """When callers were stopped; requests that were under way are still answered."""
    _name: str = field(default_factory=lambda: uuid4().hex[:8])
    _serial: int = 0
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Runs until `stop` is called and the last answer has come."""
        self.started_s = time.monotonic()
        # A server may close an idle connection at the moment at which the next request is sent (a resumed one does):
        # that request would be lost without a fault of the gateway.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, headers=ADMIN) as session,
            asyncio.TaskGroup() as tasks,
        ):
            for caller in range(self.callers):
                tasks.create_task(self._caller(session, caller))

    def stop(self) -> None:
        self.stopped_s = self.stopped_s or time.monotonic()
        self._stopping.set()

    async def _caller(self, session: aiohttp.ClientSession, caller: int) -> None:
        server = caller % len(self.servers)
        model = self.models[caller // len(self.servers) % len(self.models)]
        while not self.stopped_s:
            sent = await self._ask(session, caller, server, model)
            self.sent.append(sent)
            if sent.status == NOT_ANSWERED and not sent.left:
                return
            if not sent.answered:
                # A short pause, so that a server that rejects requests is not flooded.
                wait_s = sent.retry_after_s if self.behaviour.obeys_retry_after else None
                await self._pause(min(wait_s or 0.1, self.behaviour.max_pause_s))

    async def _pause(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def _ask(self, session: aiohttp.ClientSession, caller: int, server: int, model: str) -> Sent:
        self._serial += 1
        number, behaviour = self._serial, self.behaviour
        own = f"id-{self._name}-{number}"
        body = {"prompt": f"{own} is my number. {behaviour.directive(number)}".strip(), "model": model}
        url, headers = self.servers[server] + self.path, {"x-caller-id": f"caller-{caller}"}
        if behaviour.patience_s is not None:
            headers["x-request-timeout"] = str(behaviour.patience_s)
        start_s = time.monotonic()
        told, text, status, left = "", "", NOT_ANSWERED, False
        heard: Mapping[str, str] = {}
        try:
            async with (
                asyncio.timeout(behaviour.leaves_after_s(number)) as patience,
                session.post(url, json=body, headers=headers) as response,
            ):
                answer = await response.json()
                status, heard = response.status, response.headers
            text = answer.get("text", "")
            if status != 200:
                told = f"{status} {answer['error']['code']}: {answer['error']['message']}"
        except (aiohttp.ClientError, TimeoutError) as error:
            left = patience.expired()
            told = f"{type(error).__name__}: {error}"
        retry_after = heard.get("retry-after")
        return Sent(
            caller,
            server,
            model,
            start_s,
            time.monotonic(),
            status,
            told,
            set(_ID.findall(text)) == {own},
            _queued_s(heard),
            own,
            None if retry_after is None else float(retry_after),
            left,
        )


@asynccontextmanager
async def closed_loop(
    servers: Sequence[str],
    *,
    callers: int,
    models: Sequence[str],
    timeout_s: float = 60.0,
    behaviour: CallerBehaviour = CallerBehaviour(),
) -> AsyncIterator[Load]:
    """`callers` callers spread evenly over the servers and models. Leaving the block waits for what is under way."""
    load = Load(servers, callers, models, timeout_s, behaviour=behaviour)
    running = asyncio.create_task(load.run())
    try:
        yield load
        load.stop()
        await running
    finally:
        running.cancel()
        await asyncio.wait({running})


def mean_served(sent: Iterable[Sent], from_s: float, until_s: float) -> float:
    """How many of the answered requests were past the queue at once, on average. On a busy machine, on which everything takes
    longer, it is not lower; where slots lie idle, requests wait and it is."""
    served_s = (
        min(one.end_s, until_s) - max(one.start_s + one.queued_s, from_s)
        for one in sent
        if one.answered and one.queued_s is not None
    )
    return sum(max(0.0, one_s) for one_s in served_s) / (until_s - from_s)


def first_span_s(holds: Callable[[float, float], bool], since_s: float, until_s: float, over_s: float) -> float | None:
    """When the first span of `over_s` in [since_s, until_s] began of which `holds(begin, end)` is true, to 0.1 s; None if there
    is none."""
    starts_s = (since_s + 0.1 * at for at in count())
    spans = takewhile(lambda span: span[1] <= until_s, ((at_s, at_s + over_s) for at_s in starts_s))
    return next((begin_s for begin_s, end_s in spans if holds(begin_s, end_s)), None)


def reaches(times_s: Iterable[float], wanted_per_s: float, since_s: float, over_s: float) -> float | None:
    """When, from `since_s` on, the rate of these events was first `wanted_per_s` for `over_s` in a row; None if it never was."""
    later = sorted(at_s for at_s in times_s if at_s >= since_s)
    wanted = round(wanted_per_s * over_s)
    if not wanted:
        return since_s
    return next(
        (first for first, last in zip(later, later[wanted - 1 :], strict=False) if last - first <= over_s), None
    )


def _queued_s(headers: Mapping[str, str]) -> float | None:
    match = _QUEUED.search(headers.get("server-timing", ""))
    return float(match[1]) / 1000 if match else None
