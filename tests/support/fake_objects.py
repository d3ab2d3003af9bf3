"""An object store in memory (shared/media/port.py). A test sets which calls fail and which ones wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from shared.media.port import Found, Write, no_image


class FakeObjects:
    """Keeps objects by name. `fails` is raised by the next put; `hold`, if set, is waited for in it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.fails: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.began = asyncio.Event()
        self.deleted: list[str] = []
        self.url = ""
        """Where its upload URLs lead; "" if it has none."""
        self.asked_urls: list[tuple[str, int, int, str]] = []

    async def put(self, name: str, data: bytes, attributes: Mapping[str, str]) -> None:
        self.began.set()
        if self.fails is not None:
            raise self.fails
        self.kept[name] = data
        if self.hold is not None:
            await self.hold.wait()

    @asynccontextmanager
    async def writing(self, name: str, attributes: Mapping[str, str]) -> AsyncIterator[Write]:
        pieces = bytearray()

        async def write(piece: bytes) -> None:
            pieces.extend(piece)

        yield write
        await self.put(name, bytes(pieces), attributes)

    async def get(self, name: str, part: tuple[int, int] | None = None) -> Found:
        if name not in self.kept:
            raise no_image()
        data = self.kept[name]
        return Found({}, len(data), data if part is None else data[slice(*part)])

    async def head(self, name: str) -> Found:
        return (await self.get(name))._replace(data=b"")

    async def rename(self, name: str, new_name: str) -> None:
        if name not in self.kept:
            raise no_image()
        self.kept[new_name] = self.kept.pop(name)

    async def upload_url(self, name: str, size_bytes: int, expires_s: int, origin: str) -> str | None:
        self.asked_urls.append((name, size_bytes, expires_s, origin))
        return f"{self.url}/{name}" if self.url else None

    async def names(self, after: str | None, limit: int) -> list[str]:
        return sorted(name for name in self.kept if name > (after or ""))[:limit]

    async def delete(self, name: str) -> None:
        self.deleted.append(name)
        if self.kept.pop(name, None) is None:
            raise no_image()

    async def sweep(self, expired_after: str) -> bool:
        return True
