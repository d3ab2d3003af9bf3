"""The services of one process with stored files in a folder, and functions that are called over HTTP with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from starlette.requests import Request
from starlette.responses import Response

from shared.files.files import Files
from shared.media.port import FILES
from shared.media.url import open_objects
from tests.support.edge import Answer, FakeServices, ask

MULTIPART = "multipart/form-data; boundary=b"


class FolderServices(FakeServices):
    """With files in a folder, as Services has them."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(environment={"STORAGE_URL": f"file://{folder}", **environment})
        self.folder = folder
        self.files = Files(self.store, open_objects(f"file://{folder}", FILES))

    @property
    def kept(self) -> list[Path]:
        return files_in(self.folder)

    async def asked(
        self,
        function: Callable[[Request], Awaitable[Response]],
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | list[bytes],
        **rest: Any,
    ) -> Answer:
        """The function's answer; afterwards the request holds no bytes of the budget."""
        with patch("shared.bootstrap.services", lambda: self):
            answer = await ask(function, method, path, content=content, headers=headers, **rest)
        assert self.byte_budget.used_bytes == 0
        return answer


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def form(data: bytes, filename: str = "a.txt", content_type: str = "text/plain", **fields: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: {content_type}\r\n\r\n'
    return "".join([*parts, head]).encode() + data + b"\r\n--b--\r\n"
