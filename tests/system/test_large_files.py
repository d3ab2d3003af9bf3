"""What uploads of large files to Gemini's Files API hold in memory, with a real socket."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.emulator import running
from shared.gateway.file_copies import MAX_UPLOADS
from shared.gemini.file_uploads import PIECE_BYTES, FileUploads
from shared.generation import FileSource
from shared.secret import Secret

pytestmark = pytest.mark.heavy

SIZE_BYTES = 25 * PIECE_BYTES


async def test_an_upload_holds_a_piece_and_not_the_file() -> None:
    """The offline Gemini, in the same process, holds each piece twice."""

    async def read(start: int, end: int) -> bytes:
        return bytes(end - start)

    async with running() as gemini:
        uploads = FileUploads(gemini.url, LargeWork(), lambda url: None)
        sources = [FileSource(f"o.{n}", f"file-{n}", "application/pdf", SIZE_BYTES, read) for n in range(MAX_UPLOADS)]
        tracemalloc.start()
        try:
            until_s = elapsed_s() + 600
            files = await asyncio.gather(*(uploads.upload(Secret("AQ.k"), one, until_s) for one in sources))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            await uploads.aclose()
        assert [file.state for file in files] == ["ACTIVE"] * MAX_UPLOADS
    assert peak_bytes < 4 * MAX_UPLOADS * PIECE_BYTES
    assert peak_bytes < MAX_UPLOADS * SIZE_BYTES / 4
