"""Stored files: each belongs to one owner, has an unguessable id, is listed only when it is whole, and expires.

The bytes are written before the entry in the store, and deleted before it. A process that is killed in between leaves bytes
without an entry, which nobody can read; they are deleted when the file would have expired.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from shared.clock import elapsed_s
from shared.errors import GatewayError, LedgerUnavailable, NotFound, StorageUnavailable
from shared.files.record import Naming, StoredFile, digits_of, is_id
from shared.generation import FileSource
from shared.media.names import made_until
from shared.media.port import Objects, Write
from shared.media.uninterrupted import uninterrupted
from shared.secret import Secret
from shared.stores.port import Change, Put, Store, StoreError, read_all, transact_repeated

MAX_LISTED = 10_000
"""Files of one owner that a listing looks at; the newest ones."""
SWEEP_EVERY_S = 3600.0
MAX_SWEPT = 32
ATTRIBUTES = {"Content-Type": "application/octet-stream"}
"""Of all bytes: their type is in the entry."""
_AT_ONCE = 16
_RETRY_AFTER_S = 5.0


class Page(NamedTuple):
    files: list[StoredFile]
    has_more: bool


class Files:
    """Every method raises StorageUnavailable and LedgerUnavailable. Methods that take an id raise NotFound, with the same error
    for invalid ids, expired and missing files, and files of another owner."""

    def __init__(self, store: Store, objects: Objects, *, now_s: Callable[[], float] = time.time) -> None:
        self.store = store
        self.objects = objects
        self._now_s = now_s
        self._swept_s: float | None = None

    async def put(
        self, owner: str, data: bytes, *, filename: str, purpose: str, mime_type: str, ttl_s: int
    ) -> StoredFile:
        async def store(object_name: str) -> None:
            # A write that is cancelled could still be applied after the clean-up has looked for it.
            await uninterrupted(self.objects.put(object_name, data, ATTRIBUTES))

        async with self.unlisted(store, ttl_s) as stored:
            return await stored.list_as(
                owner, filename=filename, purpose=purpose, mime_type=mime_type, size_bytes=len(data)
            )

    @asynccontextmanager
    async def receiving(self, receive: Callable[[Write], Awaitable[None]], ttl_s: int) -> AsyncIterator[Unlisted]:
        """The file whose bytes `receive` writes, without holding it in memory. A block that fails leaves nothing."""

        async def store(object_name: str) -> None:
            async with self.objects.writing(object_name, ATTRIBUTES) as write:
                await receive(write)

        async with self.unlisted(store, ttl_s) as stored:
            yield stored

    @asynccontextmanager
    async def unlisted(self, store: Callable[[str], Awaitable[None]], ttl_s: int) -> AsyncIterator[Unlisted]:
        """The file whose bytes `store` stores under the name that it gets. Nobody can read it until the block lists it; a
        block that fails leaves nothing."""
        file = Unlisted(self, Naming.of(self._now_s(), secrets.token_hex(16), ttl_s))
        async with self.discarded_on_failure(file):
            await store(file.naming.object_name)
            yield file

    @asynccontextmanager
    async def discarded_on_failure(self, file: Unlisted) -> AsyncIterator[None]:
        """Removes the file where the block fails: its caller has gone or gets an error, and nothing may be listed that it does
        not know of. If that fails too, the bytes stay until they expire: an entry without bytes would be worse."""
        try:
            yield
        except StorageUnavailable:
            raise
        except BaseException:
            with suppress(GatewayError):
                if file.key is not None:
                    await self.write({file.key: None})
                await self.objects.delete(file.naming.object_name)
            raise

    async def describe(self, owner: str, file_id: str) -> StoredFile:
        found = await self.describe_all(owner, [file_id])
        if not found:
            raise no_file()
        return found[file_id]

    async def describe_all(self, owner: str, file_ids: Sequence[str]) -> dict[str, StoredFile]:
        """Those of the files that exist, by id, read in batches."""
        keys = {_key_of(owner, file_id): file_id for file_id in file_ids if is_id(file_id)}
        values = await self.values(list(keys))
        return {keys[key]: StoredFile.unpack(value) for key, value in values.items() if value is not None}

    def source(self, owner: str, file: StoredFile, mime_type: str) -> FileSource:
        """The file as the gateway uploads it to Gemini, as `mime_type`."""

        async def read_part(start: int, end: int) -> bytes:
            return await self.read(file, (start, end))

        return FileSource(_key_of(owner, file.id), file.id, mime_type, file.size_bytes, read_part)

    async def has_bytes(self, file: StoredFile) -> bool:
        """Whether its bytes are there: somebody may have deleted them from the storage, or it may be another one now."""
        try:
            await self.objects.head(file.object_name)
        except NotFound:
            return False
        return True

    async def read(self, file: StoredFile, part: tuple[int, int] | None = None) -> bytes:
        """Its bytes, or those from `part[0]` to `part[1]` (exclusive), which must be within it."""
        return await self.read_object(file.object_name, part)

    async def read_object(self, object_name: str, part: tuple[int, int] | None = None) -> bytes:
        try:
            return (await self.objects.get(object_name, part)).data
        except NotFound:
            raise no_file() from None

    async def delete(self, owner: str, file_id: str) -> StoredFile:
        """The bytes first: if the rest fails, a second call completes it. Returns what was known about the file."""
        file = await self.describe(owner, file_id)
        with suppress(NotFound):
            await self.objects.delete(file.object_name)
        await self.write({_key_of(owner, file_id): None})
        return file

    async def page(self, owner: str, *, after: str | None, limit: int, newest_first: bool, purpose: str | None) -> Page:
        """At most `limit` files that follow the file `after`, which may be deleted meanwhile. Reads one entry for each file up
        to the end of the page."""
        try:
            keys = await self.store.list(_prefix_of(owner), limit=MAX_LISTED)
        except StoreError:
            raise _unavailable() from None
        if not newest_first:
            keys.reverse()
        if after is not None:
            place = _key_of(owner, after)
            keys = [key for key in keys if (key > place if newest_first else key < place)]
        found: list[StoredFile] = []
        step = min(_AT_ONCE, limit + 1)
        for at in range(0, len(keys), step):
            values = await self.values(keys[at : at + step])
            files = (StoredFile.unpack(value) for value in values.values() if value is not None)
            found += [file for file in files if purpose is None or file.purpose == purpose]
            if len(found) > limit:
                break
        return Page(found[:limit], len(found) > limit)

    async def values(self, keys: Sequence[str]) -> Mapping[str, bytes | None]:
        """Of entries in the store."""
        try:
            return await read_all(self.store, keys)
        except StoreError:
            raise _unavailable() from None

    async def list_file(self, key: str, file: StoredFile, more: Mapping[str, Put | None]) -> None:
        """Writes the entry, and `more` entries of whoever stored the bytes, in one commit."""
        await uninterrupted(self.write({key: Put(file.pack(), file.expires_s * 1000), **more}))
        await self._sweep_if_due()

    async def write(self, puts: Mapping[str, Put | None]) -> None:
        """A commit with an unknown outcome is repeated: the same entry is written again."""

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[None]:
            return Change(None, puts)

        try:
            await transact_repeated(self.store, list(puts), step, tries=3)
        except StoreError:
            raise _unavailable() from None

    async def _sweep_if_due(self) -> None:
        """Deletes bytes whose time of expiry has passed, in the hour's first upload of this process."""
        now_s = elapsed_s()
        if self._swept_s is not None and now_s - self._swept_s < SWEEP_EVERY_S:
            return
        self._swept_s = now_s
        expired_after = made_until(int(self._now_s() * 1000))
        try:
            done = await self.objects.sweep(expired_after)
            names = await self.objects.names(expired_after, MAX_SWEPT)
            await asyncio.gather(*map(self.objects.delete, names))
        except (StorageUnavailable, NotFound):
            # A file was just stored; its caller must not see an error of the clean-up. The next upload tries again.
            done, names = False, []
        if not done or len(names) == MAX_SWEPT:
            self._swept_s = None


class Unlisted:
    """A file whose bytes are stored whole, and which nobody can read."""

    def __init__(self, files: Files, naming: Naming) -> None:
        self._files = files
        self.naming = naming
        self.key: str | None = None
        """Of its entry, once that may be written."""

    async def read(self, part: tuple[int, int] | None = None) -> bytes:
        """Its bytes, or those from `part[0]` to `part[1]` (exclusive), which must be within it."""
        return await self._files.read_object(self.naming.object_name, part)

    async def list_as(
        self,
        owner: str,
        *,
        filename: str,
        purpose: str,
        mime_type: str,
        size_bytes: int,
        more: Mapping[str, Put | None] | None = None,
    ) -> StoredFile:
        """Makes it a file of `owner`. `more`: entries that are written in the same commit."""
        names = self.naming
        file = StoredFile(
            names.file_id,
            names.object_name,
            filename,
            purpose,
            mime_type,
            size_bytes,
            names.created_s,
            names.expires_s,
        )
        self.key = _key_of(owner, file.id)
        await self._files.list_file(self.key, file, more or {})
        return file


def _prefix_of(owner: str) -> str:
    """The start of the keys of all files of `owner`, who is named by a fingerprint only."""
    return f"files/{Secret(owner).fingerprint('files')}."


def _key_of(owner: str, file_id: str) -> str:
    """A look-up by another caller finds what a look-up of an unknown id finds: nothing."""
    return _prefix_of(owner) + digits_of(file_id)


def no_file() -> NotFound:
    return NotFound("No file has this id; it may have been deleted or have expired, or it belongs to another key.")


def _unavailable() -> LedgerUnavailable:
    return LedgerUnavailable("The list of stored files cannot be reached. Retry later.", retry_after_s=_RETRY_AFTER_S)
