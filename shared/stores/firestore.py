"""A store in Firestore with optimistic transactions: each commit names the version of every document that it depends on.

It holds no locks, so a frozen process cannot block another one. In the database, exempt the fields `s` and `expires_at` of
every collection from indexing, and put a TTL policy on `expires_at`, which only collects garbage, up to a day late.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
from google.auth.exceptions import GoogleAuthError
from grpc import aio

from shared.clock import elapsed_s
from shared.stores.document_cache import DocumentCache, Snapshot
from shared.stores.firestore_rpc import Connection, Named, default_credentials
from shared.stores.port import (
    Change,
    CommitUnknown,
    Outcome,
    Reading,
    Step,
    StoreContended,
    StoreUnavailable,
    TimeSample,
)
from shared.stores.retry_budget import RetryBudget
from shared.stores.rules import check_change, check_keys, is_id, prefix_end, split_key, split_prefix

T = TypeVar("T")

_FIRST_PAUSE_S = 0.2
_MAX_PAUSE_S = 8.0
_PAUSE_PER_WRITER_S, _MIN_MAX_PAUSE_S = 0.08, 1.0
"""The longest pause is this long for each process that writes the entry, within these bounds."""
_FIRST_READ_PAUSE_S, _MAX_READ_PAUSE_S = 0.02, 1.0
_MAX_CONTENDED = 1_000
_PAUSE_KEPT = 0.5
"""After an accepted commit, the next pause's bound is this part of the bound that the call had reached."""
_MAX_TRIES = 30
_MAX_READ_TRIES = 3
_LIST_TIMEOUT_S = 10.0
_PAGE = 300

_CONFLICT = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ABORTED,
    }
)
"""A commit was rejected because a document had changed. Google's emulator (June 2025) returns ALREADY_EXISTS for a document
that should be absent, and FAILED_PRECONDITION for a different version or a missing document; production may return NOT_FOUND
and ABORTED as well."""
_REJECTED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
"""The commit was not applied, and a retry would fail too. After a code in neither set the outcome is unknown."""
_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)


class FirestoreStore:
    """Implements port.Store. `emulator_host` (host:port), else FIRESTORE_EMULATOR_HOST, names an emulator to use instead.

    The variable is read here and not in the settings, because it belongs to Google's libraries and tools."""

    kind = "firestore"

    def __init__(self, project: str, database: str = "(default)", *, emulator_host: str | None = None) -> None:
        self._database = f"projects/{project}/databases/{database}"
        self._emulator_host = emulator_host or os.environ.get("FIRESTORE_EMULATOR_HOST") or None
        self._connection: Connection | None = None
        self._bound_to: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False
        self._cache = DocumentCache()
        self._contended: OrderedDict[str, float] = OrderedDict()
        """By first key, of entries that others write often: the bound of the pause after a call's first rejected commit. If all
        retried soon, most of their commits would be rejected again."""

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        keys = check_keys(keys)
        budget = RetryBudget(
            timeout_s,
            first_pause_s=self._contended.get(keys[0], _FIRST_PAUSE_S),
            max_pause_s=_MAX_PAUSE_S,
            tries=_MAX_TRIES,
        )
        samples: list[TimeSample] = []
        reads = writes = 0
        snapshot = self._cache.get(keys) if cached else None
        is_cached = snapshot is not None
        while True:
            if snapshot is None:
                snapshot, is_cached = await self._read(keys, budget), False
                samples.append(snapshot.sample)
                reads += 1
            change: Change[T] = step(snapshot.values(), int(snapshot.sample.server_ms))
            check_change(keys, change)
            if change.writes:
                after = await self._commit(snapshot, change, budget)
                if after is not None:
                    self._remember(keys[0], _PAUSE_KEPT * budget.bound_s)
                    return Outcome(change.result, (*samples, after), writes, reads, writes + 1)
                writes += 1
            elif not is_cached:
                return Outcome(change.result, tuple(samples), writes, reads, writes)
            # The commit was rejected, or the step wrote nothing because of cached values, which no commit has verified.
            if not is_cached and not await budget.pause(_longest_pause_s(change.writers)):
                self._remember(keys[0], budget.bound_s)
                name = f" {keys[0][:100]}"
                message = f"Firestore: the entry{name} had {writes} conflicts in a row."
                raise StoreContended(message, name, writes=writes)
            snapshot = None

    def _remember(self, key: str, bound_s: float) -> None:
        self._contended.pop(key, None)
        if bound_s > _FIRST_PAUSE_S:
            self._contended[key] = bound_s
        if len(self._contended) > _MAX_CONTENDED:
            self._contended.popitem(last=False)

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        split_key(key)
        snapshot = await self._read((key,), _read_budget(timeout_s))
        return Reading(snapshot.values()[key], snapshot.sample)

    async def list(self, prefix: str, *, limit: int = 1000) -> list[str]:
        """Firestore bills one read per entry, including expired ones. Takes at most 10 s."""
        collection, start = split_prefix(prefix, limit)
        budget = _read_budget(_LIST_TIMEOUT_S)
        # A bound must be a valid id; without it, the comparison with `start` below filters.
        wanted = {"GREATER_THAN_OR_EQUAL": start, "LESS_THAN": prefix_end(start) if start else ""}
        bounds = {operator: name for operator, name in wanted.items() if is_id(name)}
        found: list[str] = []
        while True:
            page = await self._page(collection, bounds, budget)
            found += [
                f"{collection}/{entry.name}" for entry in page if entry.name.startswith(start) and _is_live(entry)
            ]
            if len(page) < _PAGE or len(found) >= limit:
                return found[:limit]
            bounds.pop("GREATER_THAN_OR_EQUAL", None)
            bounds["GREATER_THAN"] = page[-1].name

    async def aclose(self) -> None:
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None and self._bound_to == _here():
            await connection.close()

    async def _read(self, keys: tuple[str, ...], budget: RetryBudget) -> Snapshot:
        async def call(connection: Connection) -> Snapshot:
            sent_s = elapsed_s()
            docs, read_ms = await connection.read(keys, budget.left_s())
            return Snapshot({key: docs[key] for key in keys}, TimeSample(read_ms, sent_s, elapsed_s()))

        snapshot = await self._retry_read(call, budget)
        self._cache.put(snapshot)
        return snapshot

    async def _page(self, collection: str, bounds: dict[str, str], budget: RetryBudget) -> Sequence[Named]:
        async def call(connection: Connection) -> Sequence[Named]:
            return [entry async for entry in connection.names(collection, bounds, _PAGE, budget.left_s())]

        return await self._retry_read(call, budget)

    async def _retry_read(self, call: Callable[[Connection], Awaitable[T]], budget: RetryBudget) -> T:
        """Makes a call that changes nothing, and retries it after transient errors."""
        tries_left = _MAX_READ_TRIES
        while True:
            connection = await self._connected(budget)
            try:
                return await call(connection)
            except aio.AioRpcError as error:
                tries_left -= 1
                if error.code() not in _TRANSIENT or not tries_left or not await budget.pause():
                    raise StoreUnavailable(*_error_texts(error)) from None
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                raise StoreUnavailable("This store was closed during a read.") from None

    async def _commit(self, snapshot: Snapshot, change: Change[T], budget: RetryBudget) -> TimeSample | None:
        """Returns None if the commit was rejected because a document had changed."""
        connection = await self._connected(budget)
        left_s = budget.left_s()
        if left_s <= 0:
            raise StoreUnavailable("Firestore: the timeout expired before the commit.")
        # Until the commit is confirmed, the cached versions may be out of date.
        self._cache.discard(snapshot.docs)
        sent_s = elapsed_s()
        try:
            docs, commit_ms = await connection.commit(snapshot.docs, change.writes, left_s)
        except aio.AioRpcError as error:
            if error.code() in _CONFLICT:
                return None
            if error.code() in _REJECTED:
                raise StoreUnavailable(*_error_texts(error)) from None
            message, details = _error_texts(error)
            raise CommitUnknown(f"{message} The commit may have been applied.", details) from None
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise CommitUnknown("This store was closed during a commit, which may have been applied.") from None
        sample = TimeSample(commit_ms, sent_s, elapsed_s())
        self._cache.put(Snapshot(docs, sample))
        return sample

    async def _connected(self, budget: RetryBudget) -> Connection:
        here = _here()
        if self._connection is not None and self._bound_to != here:
            self._drop_connection_of_ended_loop()
        if self._connection is None and not self._closed:
            credentials = await self._credentials(budget) if self._emulator_host is None else None
            # Another call may have connected meanwhile, or the store may have been closed.
            if self._connection is None and not self._closed:
                self._connection, self._bound_to = Connection(self._database, self._emulator_host, credentials), here
        if self._closed or self._connection is None:
            raise StoreUnavailable("This store was closed.")
        return self._connection

    def _drop_connection_of_ended_loop(self) -> None:
        Connection.reject_after_fork()
        if self._bound_to is not None and not self._bound_to[1].is_closed():
            raise RuntimeError("A store is bound to the event loop of its first call, and that loop is still open.")
        self._connection = None

    async def _credentials(self, budget: RetryBudget) -> object:
        try:
            # The search blocks: it reads files and may call the metadata server.
            async with asyncio.timeout(budget.left_s()):
                return await asyncio.to_thread(default_credentials)
        except TimeoutError:
            raise StoreUnavailable("Firestore: Google credentials were not found in time.") from None
        except GoogleAuthError as error:
            details = f": {str(error)[:200]}"
            raise StoreUnavailable(f"Firestore: no usable Google credentials{details}", details) from None


def _longest_pause_s(writers: int) -> float:
    if not writers:
        return _MAX_PAUSE_S
    return min(max(_PAUSE_PER_WRITER_S * writers, _MIN_MAX_PAUSE_S), _MAX_PAUSE_S)


def _read_budget(timeout_s: float) -> RetryBudget:
    return RetryBudget(
        timeout_s, first_pause_s=_FIRST_READ_PAUSE_S, max_pause_s=_MAX_READ_PAUSE_S, tries=_MAX_READ_TRIES
    )


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    return os.getpid(), asyncio.get_running_loop()


def _is_cancelled() -> bool:
    """Whether this task is being cancelled; a call whose channel is closed raises CancelledError as well."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_live(entry: Named) -> bool:
    return entry.expires_at_ms is None or entry.expires_at_ms > entry.read_ms


def _error_texts(error: aio.AioRpcError) -> tuple[str, str]:
    """The message, and the part of it that only the operator may see: details name projects and documents."""
    details = ": " + " ".join((error.details() or "").split())[:200]
    return f"Firestore answered {error.code().name}{details}.", details
