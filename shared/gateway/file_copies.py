"""Gemini's copies of stored files: at most one for each file and Google project, used until shortly before Google deletes it.

Decision: one entry of the store for each file, with its copies in all projects, so that one batched read finds everything that a
request needs to choose its project. An entry for each copy would need the list of projects before the read.

In one process, requests at once for the same copy share one upload. Two processes may both upload it, each once: the later
record stays, and Google deletes the other copy after its 48 hours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

import orjson

from shared.accounts.account import Account
from shared.bounds.byte_budget import Bucket, ByteBudget
from shared.clock import elapsed_s, unix_s
from shared.errors import LedgerUnavailable, RejectedByGemini, UpstreamTimeout
from shared.gemini.errors import UpstreamFailure
from shared.gemini.file_uploads import MAX_FAILURES, PIECE_BYTES, FileUploads, RemoteFile
from shared.generation import Caller, FileSource
from shared.secret import Secret
from shared.stores.port import KEYS_PER_READ, Change, Put, Store, StoreError, transact_repeated

log = logging.getLogger(__name__)

LIFETIME_MS = 48 * 3_600_000
MARGIN_MS = 3_600_000
"""A copy is not used in its last hour: a request may wait for minutes before Gemini reads the file."""
MAX_COPIES = 50
"""Projects of one file; the copies that expire last are kept."""
MAX_UPLOADS, MAX_OF_CALLER, MAX_OF_STRANGERS = 4, 2, 2
"""Uploads at once: of all callers, of one, and of all without an admin key together. Each holds one piece of its file (8 MiB)."""
MIN_POLL_S, MAX_POLL_S = 0.5, 5.0


class Copy(NamedTuple):
    """A stored file at Gemini. `active`: Gemini has processed it, which takes time for a video."""

    name: str
    uri: str
    expires_ms: int
    active: bool = True


@dataclass(slots=True, eq=False)
class _Upload:
    """One upload, and the number of requests that wait for it."""

    task: asyncio.Task[Copy]
    waiting: int = 0


class FileCopies:
    """Of one process, bound to its event loop."""

    def __init__(
        self, store: Store, byte_budget: ByteBudget, uploads: Callable[[], FileUploads], longest_s: float
    ) -> None:
        """`uploads` returns the client of the Files API. `longest_s`: maximum time for one upload and its processing."""
        self._store, self._byte_budget, self._uploads, self._longest_s = store, byte_budget, uploads, longest_s
        self._running: dict[tuple[str, str], _Upload] = {}
        self._at_once, self._of_strangers = asyncio.Semaphore(MAX_UPLOADS), asyncio.Semaphore(MAX_OF_STRANGERS)
        self._of_caller: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def find(self, sources: Sequence[FileSource], timeout_s: float = 5.0) -> dict[str, dict[str, Copy]]:
        """The usable copies by the file's key and the project's ledger, read KEYS_PER_READ at once. Raises LedgerUnavailable."""
        keys = {source.key: _key(source.key) for source in sources}
        asked = list(keys.values())
        batches = [asked[at : at + KEYS_PER_READ] for at in range(0, len(asked), KEYS_PER_READ)]

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[dict[str, dict[str, Copy]]]:
            return Change({key: usable(unpack(value), now_ms) for key, value in values.items()})

        found: dict[str, dict[str, Copy]] = {}
        try:
            reads = (self._store.transact(batch, step, timeout_s=timeout_s) for batch in batches)
            for outcome in await asyncio.gather(*reads):
                found.update(outcome.result)
        except StoreError:
            raise _unavailable() from None
        return {name: found[key] for name, key in keys.items()}

    async def ensure(self, source: FileSource, account: Account, project: str, caller: Caller, until_s: float) -> Copy:
        """The file's copy in `project`, uploaded with `account` if there is none, once Gemini can use it. Raises UpstreamFailure,
        UpstreamTimeout, RejectedByGemini, QueueFull, LedgerUnavailable, and what `source.read` raises."""
        at = (source.key, project)
        upload = self._running.get(at)
        if upload is None:
            task = asyncio.create_task(self._make(source, account, project, caller))
            # If every request has stopped waiting, no one else reads the error of a failed task, and asyncio would log it.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            upload = self._running[at] = _Upload(task)
        upload.waiting += 1
        try:
            done, _ = await asyncio.wait([upload.task], timeout=max(0.0, until_s - elapsed_s()))
            if not done:
                raise UpstreamTimeout(
                    f"{source.name} could not be uploaded to Gemini before the deadline. Retry, allow more time, or store a "
                    "smaller file."
                )
            return upload.task.result()
        finally:
            upload.waiting -= 1
            if not upload.waiting:
                upload.task.cancel()
                if self._running.get(at) is upload:
                    del self._running[at]

    async def drop(self, file_key: str, name: str) -> None:
        """Forgets a copy that Gemini does not have any more, by its name there: its project's ledger may have been merged into
        another one since it was recorded. Raises LedgerUnavailable."""

        def without(copies: Mapping[str, Copy]) -> dict[str, Copy]:
            return {project: copy for project, copy in copies.items() if copy.name != name}

        await self._change(file_key, without)

    async def forget(self, file_key: str) -> dict[str, Copy]:
        """Removes the record of all copies, and returns them by the project's ledger. Raises LedgerUnavailable."""
        return await self._change(file_key, lambda copies: {})

    async def delete(self, account: Account, copy: Copy, until_s: float) -> None:
        """Deletes a copy at Gemini. Raises UpstreamFailure."""
        await self._uploads().delete(account.credential, copy.name, until_s)

    # -- one upload ------------------------------------------------------------------------------------------------------

    async def _make(self, source: FileSource, account: Account, project: str, caller: Caller) -> Copy:
        until_s = elapsed_s() + self._longest_s
        # Another request may have uploaded the file since this one looked.
        found = (await self.find([source]))[source.key].get(project)
        if found is not None:
            try:
                return await self._when_active(source, account, project, found, until_s)
            except UpstreamFailure as failure:
                if failure.kind not in ("permission", "not_found"):
                    raise
                await self.drop(source.key, found.name)
        copy = _copy_of(await self._upload(source, account, caller, until_s))
        await self._record(source, project, copy)
        return await self._when_active(source, account, project, copy, until_s)

    async def _upload(self, source: FileSource, account: Account, caller: Caller, until_s: float) -> RemoteFile:
        of_caller = self._of_caller.get(caller.id) or asyncio.Semaphore(MAX_OF_CALLER)
        self._of_caller[caller.id] = of_caller
        known = caller.kind == "admin"
        async with of_caller, nullcontext() if known else self._of_strangers, self._at_once:
            claim = self._byte_budget.claim(Bucket(caller.id, known))
            claim.grow(min(source.size_bytes, PIECE_BYTES))
            try:
                return await self._uploads().upload(account.credential, source, until_s)
            finally:
                claim.release()

    async def _when_active(
        self, source: FileSource, account: Account, project: str, copy: Copy, until_s: float
    ) -> Copy:
        wait_s, failures = MIN_POLL_S, 0
        while not copy.active:
            try:
                file = await self._uploads().describe(account.credential, copy.name, until_s)
            except UpstreamFailure as failure:
                failures += 1
                if failure.remedy != "same_account" or failures > MAX_FAILURES or elapsed_s() >= until_s:
                    raise
                file = RemoteFile(copy.name, copy.uri, "PROCESSING", None)
            if file.state == "ACTIVE":
                copy = copy._replace(active=True)
                await self._record(source, project, copy)
                break
            if file.state != "PROCESSING":
                await self.drop(source.key, copy.name)
                raise RejectedByGemini(
                    f"Gemini could not process {source.name} ({source.mime_type}). Store it in another format.",
                    details={"file_id": source.name},
                )
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_POLL_S)
        return copy

    async def _record(self, source: FileSource, project: str, copy: Copy) -> None:
        """A copy that cannot be recorded serves the requests that wait for it: the upload is done."""
        try:
            await self._change(source.key, lambda copies: {**copies, project: copy})
        except LedgerUnavailable:
            log.warning("A file's copy at Gemini could not be recorded, so a later request uploads the file again.")

    async def _change(self, file_key: str, to: Callable[[Mapping[str, Copy]], dict[str, Copy]]) -> dict[str, Copy]:
        """Replaces the record of a file's copies by what `to` returns. Returns the copies before."""
        key = _key(file_key)

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[dict[str, Copy]]:
            before = unpack(values[key])
            live = {project: copy for project, copy in to(before).items() if copy.expires_ms > now_ms}
            kept = dict(sorted(live.items(), key=lambda entry: -entry[1].expires_ms)[:MAX_COPIES])
            if kept == before:
                return Change(before)
            ends_ms = max((copy.expires_ms for copy in kept.values()), default=0)
            return Change(before, {key: Put(pack(kept), ends_ms) if kept else None})

        try:
            return (await transact_repeated(self._store, [key], step, tries=3)).result
        except StoreError:
            raise _unavailable() from None


def usable(copies: Mapping[str, Copy], now_ms: float) -> dict[str, Copy]:
    return {project: copy for project, copy in copies.items() if copy.expires_ms - MARGIN_MS > now_ms}


def pack(copies: Mapping[str, Copy]) -> bytes:
    return orjson.dumps({project: list(copy) for project, copy in copies.items()})


def unpack(value: bytes | None) -> dict[str, Copy]:
    return {} if value is None else {project: Copy(*copy) for project, copy in orjson.loads(value).items()}


def _copy_of(file: RemoteFile) -> Copy:
    latest_ms = int(unix_s() * 1000) + LIFETIME_MS
    expires_ms = latest_ms if file.expires_ms is None else min(file.expires_ms, latest_ms)
    return Copy(file.name, file.uri, expires_ms, file.state == "ACTIVE")


def _key(file_key: str) -> str:
    return f"bindings/{Secret(file_key).fingerprint('copies')}"


def _unavailable() -> LedgerUnavailable:
    return LedgerUnavailable(
        "The record of files at Gemini cannot be read or written, so the request was not sent. Retry later.",
        retry_after_s=5,
    )
