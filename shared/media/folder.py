"""Images in a folder of this machine, which its processes share. A folder keeps no attributes, so that each image has
a file beside it that does: written first and deleted last, so that an image that can be seen is complete."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import obstore
import orjson
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from shared.errors import NotFound
from shared.media.bucket import FOLDER, Bucket, answering, reason
from shared.media.names import is_name
from shared.media.port import Found, no_image, unavailable

_ABOUT = "about"
"""The folder of the attributes, one JSON object for each image."""
_SWEPT_AT_ONCE = 1000
_ABANDONED_S = 3600
"""A file of attributes without an image is being written, or was left by a process that was killed before this."""


class Folder(Bucket):
    def __init__(self, store: LocalStore, root: Path) -> None:
        super().__init__(store)
        self._root = root

    async def put(self, name: str, data: bytes, attributes: Mapping[str, str]) -> None:
        async with answering():
            _make_private(self._root)
            await self._write(_about(name), orjson.dumps(dict(attributes)))
            await self._write(f"{FOLDER}/{name}", data)

    async def _write(self, path: str, data: bytes) -> None:
        await obstore.put_async(self._store, path, data, use_multipart=False)
        # obstore creates files with the process's umask. Until this line the mode of the folder keeps others out.
        (self._root / path).chmod(0o600)

    async def get(self, name: str, part: tuple[int, int] | None = None) -> Found:
        return await self._with_attributes(name, await super().get(name, part))

    async def head(self, name: str) -> Found:
        return await self._with_attributes(name, await super().head(name))

    async def names(self, after: str | None, limit: int) -> list[str]:
        """A folder has no order of its own: all names are looked at."""
        async with answering():
            found = await obstore.list(self._store, FOLDER).collect_async()
        names = (entry["path"].rpartition("/")[2] for entry in found)
        return heapq.nsmallest(limit, (name for name in names if is_name(name) and name > (after or "")))

    async def delete(self, name: str) -> None:
        await super().delete(name)
        with contextlib.suppress(NotFound):
            async with answering(missing=True):
                await obstore.delete_async(self._store, _about(name))

    async def sweep(self, expired_after: str) -> bool:
        """At most 1000 of each kind at once, so that no write waits long for it."""
        try:
            return await asyncio.to_thread(self._sweep, expired_after)
        except OSError:
            # An image was just stored: that must not fail for an old one's sake.
            return False

    def _sweep(self, expired_after: str) -> bool:
        images, about = self._root / FOLDER, self._root / _ABOUT
        past = _some(images, lambda file: file.name > expired_after if is_name(file.name) else _abandoned(file))
        for name in past:
            _remove(images / name)
            _remove(about / f"{name}.json")
        alone = _some(about, lambda file: not (images / Path(file.name).stem).exists() and _abandoned(file))
        for name in alone:
            _remove(about / name)
        return max(len(past), len(alone)) < _SWEPT_AT_ONCE

    async def _with_attributes(self, name: str, found: Found) -> Found:
        async with answering(missing=True):
            result = await obstore.get_async(self._store, _about(name))
            text = bytes(await result.bytes_async())
        try:
            return found._replace(attributes=orjson.loads(text))
        except orjson.JSONDecodeError:
            # The machine stopped before it had written the file out.
            raise no_image() from None


def open_folder(root: Path) -> Folder:
    """The folder is made if it is not there. Raises StorageUnavailable."""
    try:
        _make_private(root.resolve())
        return Folder(LocalStore(root.resolve()), root.resolve())
    except (BaseError, OSError) as error:
        raise unavailable(reason(error)) from None


def _make_private(root: Path) -> None:
    """An image's name is the only credential it needs, so that only this user may list the folders (mode 0700). The mode
    of a root that exists is left alone, since STORAGE_URL may name a folder that has other uses."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (FOLDER, _ABOUT):
        folder = root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        # Only the owner may change a mode. A folder of another user (a mounted volume) keeps what its owner chose.
        if status.st_mode & 0o077 and status.st_uid == os.geteuid():
            folder.chmod(0o700)


def _about(name: str) -> str:
    return f"{_ABOUT}/{name}.json"


def _some(folder: Path, chosen: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    if not folder.exists():
        return []
    with os.scandir(folder) as files:
        return list(islice((file.name for file in files if chosen(file)), _SWEPT_AT_ONCE))


def _abandoned(file: os.DirEntry[str]) -> bool:
    """Neither an image nor being written: another process may have deleted it in this moment, too."""
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_mtime < time.time() - _ABANDONED_S
    return False


def _remove(file: Path) -> None:
    # One that cannot be deleted must not keep an image from being stored; the next sweep tries again.
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
