"""Gemini's Files API in place of `FileUploads`: it takes a while, remembers what it has, and fails as a test requires."""

from __future__ import annotations

import asyncio
from itertools import count

from shared.clock import unix_s
from shared.gateway.file_copies import LIFETIME_MS
from shared.gemini.errors import UpstreamFailure
from shared.gemini.file_uploads import RemoteFile
from shared.generation import FileSource
from shared.secret import Secret


class ScriptedFiles:
    """`took_s`: time for one upload; `processing`: how many look-ups find a new file PROCESSING; `fails`: key -> its failure."""

    def __init__(self, took_s: float = 2.0) -> None:
        self.took_s, self.processing, self.end_state = took_s, 0, "ACTIVE"
        self.fails: dict[str, UpstreamFailure] = {}
        self.uploaded: list[tuple[str, str]] = []
        """The key and the file's name of every upload that ended."""
        self.kept: dict[str, str] = {}
        """By name at Gemini, the key of its project."""
        self.described = 0
        self.running = self.most = 0
        self._numbers = count(1)

    async def upload(self, key: Secret, source: FileSource, deadline_s: float) -> RemoteFile:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await source.read(0, source.size_bytes)
            self._check(key)
            await asyncio.sleep(self.took_s)
        finally:
            self.running -= 1
        name = f"files/{next(self._numbers)}"
        self.kept[name] = key.reveal()
        self.uploaded.append((key.reveal(), source.name))
        return self._file(name, "PROCESSING" if self.processing else "ACTIVE")

    async def describe(self, key: Secret, name: str, deadline_s: float) -> RemoteFile:
        self._check(key)
        self.described += 1
        if self.kept.get(name) != key.reveal():
            raise UpstreamFailure("permission", "You do not have permission to access the File or it may not exist.")
        self.processing -= 1
        return self._file(name, "PROCESSING" if self.processing > 0 else self.end_state)

    async def delete(self, key: Secret, name: str, deadline_s: float) -> None:
        self._check(key)
        assert self.kept.pop(name) == key.reveal()

    def _check(self, key: Secret) -> None:
        if key.reveal() in self.fails:
            raise self.fails[key.reveal()]

    @staticmethod
    def _file(name: str, state: str) -> RemoteFile:
        uri = f"https://generativelanguage.googleapis.com/v1beta/{name}"
        return RemoteFile(name, uri, state, int(unix_s() * 1000) + LIFETIME_MS)


def source_of(name: str = "file-1", size_bytes: int = 1000, mime_type: str = "text/plain") -> FileSource:
    async def read(start: int, end: int) -> bytes:
        return b"x" * (end - start)

    return FileSource(f"owner.{name}", name, mime_type, size_bytes, read)
