"""Files of this machine that items name. A file that changes while it is used is an error, never a mixture of two contents."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shared.batch.item import Medium
from shared.batch.media_parts import Content
from shared.errors import BadRequest

MAX_DIGESTS = 10_000
_PIECE_BYTES = 1024 * 1024
# Opening a named pipe waits for a writer otherwise, and a terminal could become the program's own.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


class Identity(NamedTuple):
    """What changes when a file does."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class LocalFiles:
    """Remembers the digests of files, so that one that many items name is read once for its digest."""

    def __init__(self) -> None:
        self._digests: OrderedDict[tuple[str, Identity], str] = OrderedDict()

    async def open(self, medium: Medium) -> Content:
        """Relative paths are relative to the working directory; `~` is the user's home. Raises BadRequest that names the field
        and the path."""
        path = _whole_path(medium)
        identity = await asyncio.to_thread(_identity, medium, path)

        async def read(start: int, end: int) -> bytes:
            return await asyncio.to_thread(_read, medium, path, identity, start, end)

        async def digest() -> str:
            known = self._digests.get((path, identity))
            if known is None:
                known = await asyncio.to_thread(_digest, medium, path, identity)
                self._digests[path, identity] = known
                if len(self._digests) > MAX_DIGESTS:
                    self._digests.popitem(last=False)
            return known

        return Content(identity.size_bytes, read, digest)


def _whole_path(medium: Medium) -> str:
    try:
        return str(Path(str(medium.source)).expanduser().absolute())
    except RuntimeError as error:
        raise _wrong(medium, str(medium.source), f"cannot be found ({error})") from None


async def read_whole(medium: Medium, max_bytes: int) -> bytes:
    """The bytes of a file that is sent inside a request. Raises BadRequest."""
    content = await LocalFiles().open(medium)
    if content.size_bytes > max_bytes:
        raise BadRequest(f"{medium.where} has more than {max_bytes >> 20} MB; send a URL of it.", field=medium.where)
    return await content.read(0, content.size_bytes)


def _open(medium: Medium, path: str) -> tuple[int, Identity]:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise _wrong(medium, path, f"cannot be read ({error.strerror})") from None
    except ValueError as error:  # A NUL, or half of a surrogate pair.
        raise _wrong(medium, path, f"is no path ({type(error).__name__})") from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size:
        return descriptor, Identity.of(found)
    os.close(descriptor)
    if stat.S_ISDIR(found.st_mode):
        raise _wrong(medium, path, "is a directory; name a file")
    if not stat.S_ISREG(found.st_mode):
        raise _wrong(medium, path, "is not a file")
    raise _wrong(medium, path, "is empty (0 bytes)")


def _identity(medium: Medium, path: str) -> Identity:
    descriptor, identity = _open(medium, path)
    os.close(descriptor)
    return identity


def _read(medium: Medium, path: str, identity: Identity, start: int, end: int) -> bytes:
    descriptor, now = _open(medium, path)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if now != identity:
            raise _changed(medium, path)
        data = bytearray()
        with suppress(EOFError):
            file.seek(start)
            while len(data) < end - start:
                piece = file.read(min(_PIECE_BYTES, end - start - len(data)))
                if not piece:
                    break
                data += piece
        if len(data) != end - start or Identity.of(os.fstat(file.fileno())) != identity:
            raise _changed(medium, path)
    return bytes(data)


def _digest(medium: Medium, path: str, identity: Identity) -> str:
    descriptor, now = _open(medium, path)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if now != identity:
            raise _changed(medium, path)
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if Identity.of(os.fstat(file.fileno())) != identity:
            raise _changed(medium, path)
    return found


def _changed(medium: Medium, path: str) -> BadRequest:
    return _wrong(medium, path, "changed while it was read; run this prompt again when it is complete")


def _wrong(medium: Medium, path: str, what: str) -> BadRequest:
    shown = path.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return BadRequest(f"{medium.where}: {shown} {what}.", field=medium.where)
