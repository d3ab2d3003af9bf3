"""Images and files in a folder of this machine, which its processes share.

obstore stores no attributes in a folder, so each image has a second file for them. It is written before the image and deleted
after it, so that an image that is listed is complete."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from pathlib import Path

import obstore
import orjson
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from shared.errors import NotFound
from shared.media import obstore_calls
from shared.media.names import is_name
from shared.media.obstore_calls import reason, storage_errors
from shared.media.port import FILES, IMAGES, Found, Write, no_image, unavailable

_ATTRIBUTES = {IMAGES: "about", FILES: "about-files"}
"""Folder -> the folder of the attributes, one JSON object for each image or file."""
_MAX_SWEPT = 1000
_ABANDONED_S = 3600
"""A file of attributes without an image is older than this only if the process that wrote it was killed."""


class Folder:
    """The objects in one folder below `root`; port.Objects describes the methods."""

    def __init__(self, store: LocalStore, root: Path, folder: str) -> None:
        self._store = store
        self._root = root
        self._folder, self._attributes = folder, _ATTRIBUTES[folder]

    async def put(self, name: str, data: bytes, attributes: Mapping[str, str]) -> None:
        async with storage_errors():
            self.make()
            await self._put_attributes(name, attributes)
            await self._put(f"{self._folder}/{name}", data)

    @contextlib.asynccontextmanager
    async def writing(self, name: str, attributes: Mapping[str, str]) -> AsyncIterator[Write]:
        path = f"{self._folder}/{name}"
        async with storage_errors():
            self.make()
        async with obstore_calls.writing(self._store, path) as write:
            yield write
            async with storage_errors():
                await self._put_attributes(name, attributes)
        async with storage_errors():
            self._protect(path)

    async def _put_attributes(self, name: str, attributes: Mapping[str, str]) -> None:
        await self._put(self._attributes_path(name), orjson.dumps(dict(attributes)))

    async def _put(self, path: str, data: bytes) -> None:
        await obstore.put_async(self._store, path, data, use_multipart=False)
        self._protect(path)

    def _protect(self, path: str) -> None:
        """obstore creates files with the process's umask; until this line only the folder's mode protects the file."""
        (self._root / path).chmod(0o600)

    async def get(self, name: str, part: tuple[int, int] | None = None) -> Found:
        return await self._with_attributes(name, await obstore_calls.read(self._store, f"{self._folder}/{name}", part))

    async def head(self, name: str) -> Found:
        return await self._with_attributes(name, await obstore_calls.head(self._store, f"{self._folder}/{name}"))

    async def names(self, after: str | None, limit: int) -> list[str]:
        """Reads all names, because a folder is not sorted."""
        async with storage_errors():
            found = await obstore.list(self._store, self._folder).collect_async()
        names = (entry["path"].rpartition("/")[2] for entry in found)
        return heapq.nsmallest(limit, (name for name in names if is_name(name) and name > (after or "")))

    async def delete(self, name: str) -> None:
        await obstore_calls.delete(self._store, f"{self._folder}/{name}")
        with contextlib.suppress(NotFound):
            await obstore_calls.delete(self._store, self._attributes_path(name))

    async def rename(self, name: str, new_name: str) -> None:
        # They are missing where an earlier call was killed after this line.
        with contextlib.suppress(NotFound):
            await obstore_calls.rename(self._store, self._attributes_path(name), self._attributes_path(new_name))
        await obstore_calls.rename(self._store, f"{self._folder}/{name}", f"{self._folder}/{new_name}")

    async def upload_url(self, name: str, size_bytes: int, expires_s: int, origin: str) -> str | None:
        return None

    async def signed_url(self, name: str, expires_s: int) -> str:
        """Raises RuntimeError: nothing serves a folder but the gateway, and the settings reject IMAGE_URLS=signed for it."""
        raise RuntimeError("a folder has no signed URLs")

    async def sweep(self, expired_after: str) -> bool:
        """Deletes at most 1000 files of each kind per call, to bound the delay of the write that triggers it."""
        try:
            return await asyncio.to_thread(self._sweep, expired_after)
        except OSError:
            # An image was just stored; its caller must not see an error of the clean-up.
            return False

    def _sweep(self, expired_after: str) -> bool:
        images, attributes = self._root / self._folder, self._root / self._attributes
        expired = _first_names(
            images, lambda file: file.name > expired_after if is_name(file.name) else _is_abandoned(file)
        )
        for name in expired:
            _remove(images / name)
            _remove(attributes / f"{name}.json")
        orphans = _first_names(
            attributes, lambda file: not (images / Path(file.name).stem).exists() and _is_abandoned(file)
        )
        for name in orphans:
            _remove(attributes / name)
        return max(len(expired), len(orphans)) < _MAX_SWEPT

    def make(self) -> None:
        """Creates the folders with mode 0700: an image's name is its only credential, so only this user may list them. The
        mode of an existing root is not changed, because STORAGE_URL may name a folder that has other uses."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (self._folder, self._attributes):
            folder = self._root / name
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.stat()
            # Only the owner can change a mode, so a folder of another user (a mounted volume) keeps its mode.
            if status.st_mode & 0o077 and status.st_uid == os.geteuid():
                folder.chmod(0o700)

    def _attributes_path(self, name: str) -> str:
        return f"{self._attributes}/{name}.json"

    async def _with_attributes(self, name: str, found: Found) -> Found:
        attributes = await obstore_calls.read(self._store, self._attributes_path(name))
        try:
            return found._replace(attributes=orjson.loads(attributes.data))
        except orjson.JSONDecodeError:
            # The machine lost power before the file was on the disk.
            raise no_image() from None


def open_folder(root: Path, folder: str) -> Folder:
    """Creates the folder if it is missing. Raises StorageUnavailable."""
    try:
        # obstore opens only a folder that exists.
        root.resolve().mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Folder(LocalStore(root.resolve()), root.resolve(), folder)
        made.make()
    except (BaseError, OSError) as error:
        raise unavailable(reason(error)) from None
    return made


def _first_names(folder: Path, chosen: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    if not folder.exists():
        return []
    with os.scandir(folder) as files:
        return list(islice((file.name for file in files if chosen(file)), _MAX_SWEPT))


def _is_abandoned(file: os.DirEntry[str]) -> bool:
    """Whether a file is neither an image nor being written. False if another process deletes it meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_mtime < time.time() - _ABANDONED_S
    return False


def _remove(file: Path) -> None:
    # An error here must not fail the write that triggered the clean-up; the next one tries again.
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
