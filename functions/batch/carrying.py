"""One request that carries a batch on: it streams the stored results, then answers items and stores their results.

results are sent only after they are stored, in the order in which they are stored
a task stores them, a segment of results and the record at most once a second, however slowly the client reads
after TAKE of LINK_S no item is begun; after LINK_S, or MAX_SENT_BYTES, the last line links to the rest, and what is in flight is
finished and stored
a caller who leaves: the same, for at most LEFT_S
a segment that cannot be stored is tried again for at most LEFT_S, always with the same results, and no item is begun meanwhile
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from functools import partial
from weakref import WeakKeyDictionary

from functions.batch.lines import StoredItems, continue_line, done_line, first_line, result_line
from shared.batch.answering import Answering
from shared.batch.item import Task
from shared.batch.media_parts import MediaParts
from shared.batch.record import BatchRecord
from shared.batch.result import Result
from shared.batch.runner import run
from shared.batch.stored import BUSY, RETRY_AFTER_S, LeaseLost, StoredBatches
from shared.bounds.byte_room import ByteRoom
from shared.bounds.large_work import LARGE_BYTES
from shared.bounds.pace import Pace
from shared.clock import elapsed_s, unix_s
from shared.errors import BatchBusy, GatewayError
from shared.generation import Timeline
from shared.http.call import Call
from shared.http.event_stream import Events
from shared.media.fetch import Fetcher
from shared.media.look_ups import Asker

WRITE_S, MIN_LOOK_S = 1.0, 0.1
"""The least time between two writes; and how often it is looked for results that come after a longer pause."""
RENEW_S = 4.0
LINK_S = 97.0
"""Seconds after the request came: a response must be over, or have its link, before 100 s. A caller may state less."""
TAKE = 0.8
"""The part of this time in which items are begun."""
LEFT_S = 20.0
LAST_WRITE_S = 10.0
"""For the last segment, after what was in flight is cancelled."""
MAX_SENT_BYTES = 8 * 1024 * 1024
"""The platform ends a streamed response at 10 MB."""
MAX_PENDING_BYTES = 4 * 1024 * 1024
"""Results that are not stored, or not sent yet; then workers wait."""
ROOM_BYTES = 48 * 1024 * 1024


_rooms: WeakKeyDictionary[object, ByteRoom] = WeakKeyDictionary()


def _room_of(services: object) -> ByteRoom:
    """The memory for files that all batches of a process share."""
    return _rooms.setdefault(services, ByteRoom(ROOM_BYTES))


def url_of(batch_id: str, after: int) -> str:
    return f"/batch/{batch_id}?after={after}"


class Carrying:
    """`record` has this request's lease, unless every item has a result."""

    def __init__(
        self, call: Call, batches: StoredBatches, owner: str, batch_id: str, record: BatchRecord, after: int
    ) -> None:
        self._call, self._batches, self._at = call, batches, (owner, batch_id)
        patience = call.patience
        self._link_s = min(LINK_S, patience.timeout_s) if patience.stated and not patience.of_silence else LINK_S
        self._record, self._sent = record, min(after, record.done_count)
        """`sent`: results that the client has."""
        self._batch_id = batch_id
        self._sent_bytes = 0
        self._begun = self._linked = False
        """Whether the first line, and the link, are among the lines so far."""
        self._stopping = False
        self._stop: Result | None = None
        self._pending: list[tuple[Result, bytes]] = []
        self._segment: list[tuple[Result, bytes]] = []
        """Results that are being stored. Whether a failed write was applied is unknown, so it is repeated as it was."""
        self._ready: deque[bytes] = deque()
        """Stored results that are not sent yet."""
        self._held_bytes = 0
        """Of these three."""
        self._is_read = True
        self._room, self._news = asyncio.Event(), asyncio.Event()
        self._written_s = elapsed_s()

    async def lines(self) -> Events:
        """Without any result, an error that concerns every item is raised, so that it is the response. Raises GatewayError."""
        record = self._record
        has_lease = record.done_count < record.total
        try:
            async for line in self._stored():
                yield self._headed(line)
            if self._is_full():
                yield self._link()
            elif has_lease:
                # Closed before the lease is released.
                async with aclosing(self._answered()) as answered:
                    async for line in answered:
                        yield self._headed(line)
            if not self._begun and self._stop is not None and self._stop.failure is not None:
                raise self._stop.failure
            if not self._linked:
                yield self._headed(self._end())
        except LeaseLost:
            raise BatchBusy(BUSY, retry_after_s=RETRY_AFTER_S) from None
        finally:
            if has_lease:
                # A lease that cannot be released expires by itself.
                with suppress(GatewayError):
                    await self._batches.release(*self._at, self._record)

    async def _stored(self) -> AsyncIterator[bytes]:
        """The stored results that the client does not have, as far as the response may be long."""
        before = 0
        for number, (_, count) in enumerate(self._record.segments):
            if before + count > self._sent and not self._is_full():
                lines = (await self._batches.segment(self._record, number)).splitlines(keepends=True)
                for line in lines[max(0, self._sent - before) :]:
                    if self._is_full():
                        return
                    self._count(line)
                    yield line
            before += count

    async def _answered(self) -> AsyncGenerator[bytes, None]:
        self._call.claim.cover(self._record.items_bytes)
        # A client that read the stored results slowly may have lost the lease: then nothing is generated.
        await self._renew()
        items = await self._batches.items(self._record)
        workers = int(self._record.options.get("max_workers", 1))
        running = asyncio.create_task(run(self._tasks(items), self._answering().answer, self._deliver, workers=workers))
        storing = asyncio.create_task(self._keep_storing(running))
        storing.add_done_callback(lambda _: self._news.set())
        try:
            while not storing.done():
                await self._wait_for_news()
                while self._ready and not self._linked:
                    line = self._ready.popleft()
                    self._release(len(line))
                    self._count(line)
                    yield line
                    if self._is_full():
                        yield self._link()
                if not self._linked and self._age_s() >= self._link_s:
                    yield self._link()
                if self._linked:
                    self._read_no_more()
            storing.result()
        finally:
            self._stopping = True
            self._read_no_more()
            await self._finish(running, storing)

    async def _wait_for_news(self) -> None:
        """Returns when a result is stored, when none is to come, or when it is time for the link."""
        left_s = None if self._linked else max(0.0, self._link_s - self._age_s())
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._news.wait()
        self._news.clear()

    def _read_no_more(self) -> None:
        """The stored results that are not sent are for the next request."""
        self._is_read = False
        self._release(sum(map(len, self._ready)))
        self._ready.clear()

    def _release(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        self._room.set()

    async def _finish(self, running: asyncio.Task[None], storing: asyncio.Task[None]) -> None:
        """Lets what is in flight finish, and stores its results: they are paid for."""
        try:
            await asyncio.wait([storing], timeout=LEFT_S)
        finally:
            running.cancel()
            try:
                await asyncio.wait([storing], timeout=LAST_WRITE_S)
            finally:
                storing.cancel()
                await asyncio.gather(running, storing, return_exceptions=True)

    async def _keep_storing(self, running: asyncio.Task[None]) -> None:
        """Stores results and renews the lease until `running` has ended and all is stored. Raises LeaseLost, GatewayError."""
        failing_since_s: float | None = None
        while not running.done() or self._pending or self._segment:
            await asyncio.wait([running], timeout=max(MIN_LOOK_S, self._written_s + WRITE_S - elapsed_s()))
            try:
                await self._write()
                failing_since_s = None
            except GatewayError:
                self._stopping = True
                failing_since_s = failing_since_s or elapsed_s()
                if elapsed_s() - failing_since_s >= LEFT_S:
                    raise
                await asyncio.sleep(WRITE_S)
        if not running.cancelled():
            running.result()

    async def _tasks(self, items: bytes) -> AsyncIterator[Task]:
        stored = StoredItems(items)
        for line, index in stored.left(self._record.done_indexes()):
            if self._stopping or self._age_s() >= TAKE * self._link_s:
                return
            if len(line) < LARGE_BYTES:
                yield stored.task_of(line, index)
            else:
                large_work = self._call.services.large_work
                yield await large_work.run(partial(stored.task_of, line, index), first=self._call.claim.bucket.known)

    async def _deliver(self, result: Result) -> None:
        if result.stops == "later":
            return
        if result.stops is not None:
            self._stop, self._stopping = self._stop or result, True
            return
        line = result_line(result)
        while self._held_bytes >= MAX_PENDING_BYTES:
            self._room.clear()
            await self._room.wait()
        self._pending.append((result, line))
        self._held_bytes += len(line)

    async def _write(self) -> None:
        """Stores the results that wait; without results it renews the lease in time. Raises LeaseLost, GatewayError."""
        if not self._segment:
            self._segment, self._pending = self._pending, []
        if not self._segment:
            await self._renew()
            return
        lines = [line for _, line in self._segment]
        indexes = [one.index for one, _ in self._segment]
        failed = sum(one.error is not None for one, _ in self._segment)
        self._record = await self._batches.add(*self._at, self._record, b"".join(lines), indexes, failed)
        self._segment, self._written_s = [], elapsed_s()
        self._ready.extend(lines)
        if not self._is_read:
            self._read_no_more()
        self._news.set()

    async def _renew(self) -> None:
        """Raises LeaseLost, GatewayError."""
        if elapsed_s() - self._written_s >= RENEW_S:
            self._record = await self._batches.renew(*self._at, self._record)
            self._written_s = elapsed_s()

    def _answering(self) -> Answering:
        call, options = self._call, self._record.options
        interval_s = float(options.get("api_call_interval", 0.0))
        return Answering(
            call.services.gateway,
            call.caller,
            MediaParts(self._fetch, room=_room_of(call.services)).loading,
            str(options["model"]),
            call.settings.request_timeout_s,
            Pace(interval_s) if interval_s else None,
            until_s=call.received_s + TAKE * self._link_s,
            report=self._record_times,
        )

    async def _fetch(self, url: str, where: str, max_bytes: int) -> bytes:
        """Counted for callers without an admin key, whose items wait for their rate. Raises BadRequest, RateLimited."""
        call = self._call
        if call.caller.kind != "admin":
            await call.services.fetch_rate.admit(call.holders)
        resolve = partial(call.services.look_ups.resolve, Asker(call.holders[-1], call.is_stranger))
        return await Fetcher(resolve, accept="*/*").fetch(url, where, max_bytes)

    def _record_times(self, task: Task, timeline: Timeline, result: Result) -> None:
        """For the request's log record."""
        of_call = self._call.timeline
        of_call.waits += timeline.waits
        of_call.attempts += timeline.attempts
        of_call.model = timeline.model or of_call.model

    def _headed(self, line: bytes) -> bytes:
        if self._begun:
            return line
        self._begun = True
        return first_line(self._batch_id, self._record.total, self._record.done_count) + line

    def _count(self, line: bytes) -> None:
        self._sent += 1
        self._sent_bytes += len(line)

    def _is_full(self) -> bool:
        return self._sent_bytes >= MAX_SENT_BYTES

    def _age_s(self) -> float:
        return elapsed_s() - self._call.received_s

    def _link(self) -> bytes:
        self._linked = self._stopping = True
        done, total = self._record.done_count, self._record.total
        return continue_line(url_of(self._batch_id, self._sent), done, total, self._stop, unix_s())

    def _end(self) -> bytes:
        if self._record.done_count < self._record.total or self._sent < self._record.done_count:
            return self._link()
        return done_line(self._record.total, self._record.failed)
