"""Gemini's Files API where it is not hot: the markers that show which keys belong to one project, for a command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType

from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.gemini.errors import UpstreamFailure
from shared.gemini.file_uploads import FileUploads
from shared.gemini.side_requests import ProxyFor
from shared.generation import FileSource
from shared.secret import Secret

CONTENT = b"This file shows which keys belong to one Google project. It may be deleted."
MAX_PAGES = 100
TIMEOUT_S = 30.0


class FilesApi:
    """`base_url` is the upstream's origin, with or without a path prefix. Use it as an async context manager."""

    failed: type[Exception] = UpstreamFailure

    def __init__(self, base_url: str, proxy_for: ProxyFor) -> None:
        self._large_work = LargeWork()
        self._files = FileUploads(base_url, self._large_work, proxy_for)

    async def __aenter__(self) -> FilesApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._files.aclose()
        self._large_work.close()

    async def upload(self, key: Secret, name: str) -> None:
        """Stores a short text under `name` (`files/...`)."""
        source = FileSource(name, name, "text/plain", len(CONTENT), _read)
        await self._files.upload(key, source, elapsed_s() + TIMEOUT_S, name=name)

    async def names(self, key: Secret) -> AsyncIterator[str]:
        """The names of the project's files."""
        token = ""
        for _ in range(MAX_PAGES):
            names, token = await self._files.page(key, token, elapsed_s() + TIMEOUT_S)
            for name in names:
                yield name
            if not token:
                return

    async def delete(self, key: Secret, name: str) -> None:
        await self._files.delete(key, name, elapsed_s() + TIMEOUT_S)


async def _read(start: int, end: int) -> bytes:
    return CONTENT[start:end]
