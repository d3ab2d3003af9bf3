"""The Files API of the offline Gemini: upload, get, list and delete, for each project its own files. Contents are not kept.

POST /upload/{v1,v1beta}/files (resumable: start, then `upload` and `finalize`, or `query` for the bytes received so far, at the
URL that the start returns, without a key)
GET /{v}/files[?pageSize] · GET, DELETE /{v}/files/{id}

A video is PROCESSING for PROCESSING_S before it is ACTIVE and can be used.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from . import replies
from .errors import GoogleError, invalid
from .server import Request

PATH = re.compile(r"/(upload/)?(v1|v1beta)/files(?:/([^/:]+))?")
LIFETIME_S = 48 * 3600.0
PROCESSING_S = 1.0
_MAX_FILES = 10_000
_MAX_UPLOADS = 1_000
_PAGE_SIZE = 100
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(slots=True)
class _Upload:
    """One resumable upload: what its start said, and the bytes so far."""

    project: str
    version: str
    name: str
    display_name: str
    mime_type: str
    size_bytes: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class Files:
    """All files by (project, name)."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._files: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self._expiry_s: dict[tuple[str, str], float] = {}
        self._active_s: dict[tuple[str, str], float] = {}
        """Until when files are PROCESSING that were so at first."""
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()

    def of(self, project: str) -> OfProject:
        return OfProject(self, project)

    def names(self, project: str) -> Iterator[str]:
        """The project's files, oldest first."""
        now_s = self._wall_clock()
        return (name for owner, name in self._files if owner == project and self._expiry_s[owner, name] > now_s)

    def find(self, project: str, name: str) -> dict[str, Any] | None:
        key, now_s = (project, name), self._wall_clock()
        if self._expiry_s.get(key, 0.0) <= now_s:
            return None
        if self._active_s.get(key, now_s) <= now_s:
            self._files[key]["state"] = "ACTIVE"
        return self._files[key]

    def upload_of(self, upload_id: str) -> str | None:
        """The project of an upload that has begun: its URL needs no key."""
        upload = self._uploads.get(upload_id)
        return upload.project if upload is not None else None

    async def answer(self, request: Request, project: str, version: str, file_id: str | None) -> web.Response:
        """The response to a request for `project`'s files. Raises GoogleError."""
        if request.path.startswith("/upload/"):
            return await self._upload(request, project, version)
        if file_id is None:
            return self._list(request, project)
        name = f"files/{file_id}"
        file = self.find(project, name)
        if file is None:
            raise GoogleError(403, f"You do not have permission to access the File {file_id} or it may not exist.")
        if request.method == "DELETE":
            del self._files[project, name], self._expiry_s[project, name]
            self._active_s.pop((project, name), None)
            return replies.document(request, {})
        return replies.document(request, file)

    def _list(self, request: Request, project: str) -> web.Response:
        size = request.query.get("pageSize", "10")
        token = request.query.get("pageToken", "0")
        if not size.isdecimal() or not token.isdecimal():
            raise invalid()
        start = int(token)
        end = start + min(int(size) or 10, _PAGE_SIZE)
        names = list(self.names(project))
        page: dict[str, Any] = {"files": [self._files[project, name] for name in names[start:end]]} if names else {}
        if end < len(names):
            page["nextPageToken"] = str(end)
        return replies.document(request, page)

    async def _upload(self, request: Request, project: str, version: str) -> web.Response:
        command = request.headers.get("X-Goog-Upload-Command", "")
        if command == "start":
            return await self._start(request, project, version)
        upload_id = request.query.get("upload_id", "")
        upload = self._uploads.get(upload_id)
        if upload is not None and command == "query":
            response = replies.document(request, {})
            response.headers["X-Goog-Upload-Status"] = "active"
            response.headers["X-Goog-Upload-Size-Received"] = str(upload.size_bytes)
            return response
        if upload is None or not {part.strip() for part in command.split(",")} <= {"upload", "finalize"}:
            raise invalid()
        if request.headers.get("X-Goog-Upload-Offset", "0") != str(upload.size_bytes):
            raise invalid("The upload's offset is not the number of bytes received so far.")
        data = await request.read()
        upload.size_bytes += len(data)
        upload.digest.update(data)
        if "finalize" not in command:
            response = replies.document(request, {})
            response.headers["X-Goog-Upload-Status"] = "active"
            return response
        del self._uploads[upload_id]
        response = replies.document(request, {"file": self._keep(upload, f"{request.scheme}://{request.host}")})
        response.headers["X-Goog-Upload-Status"] = "final"
        return response

    async def _start(self, request: Request, project: str, version: str) -> web.Response:
        try:
            body = orjson.loads(await request.read() or b"{}")
            described = body.get("file", {})
        except (orjson.JSONDecodeError, AttributeError):
            raise invalid() from None
        name = _text(described, "name") or f"files/{secrets.token_hex(6)}"
        if not name.startswith("files/") or not _ID.fullmatch(name.removeprefix("files/")):
            raise invalid(
                "* CreateFileRequest.file.name: file name must be files/ and up to 40 characters a-z, 0-9 or -.\n"
            )
        if self.find(project, name) is not None:
            raise GoogleError(409, f"Resource {name} already exists.", status="ALREADY_EXISTS")
        upload_id = base64.urlsafe_b64encode(secrets.token_bytes(24)).decode()
        mime_type = _text(described, "mimeType", "mime_type") or request.headers.get(
            "X-Goog-Upload-Header-Content-Type", ""
        )
        self._uploads[upload_id] = _Upload(
            project, version, name, _text(described, "displayName", "display_name"), mime_type
        )
        if len(self._uploads) > _MAX_UPLOADS:
            self._uploads.popitem(last=False)
        response = replies.document(request, {})
        where = (
            f"{request.scheme}://{request.host}/upload/{version}/files?upload_id={upload_id}&upload_protocol=resumable"
        )
        response.headers.update({"X-Goog-Upload-Status": "active", "X-Goog-Upload-URL": where})
        return response

    def _keep(self, upload: _Upload, origin: str) -> dict[str, Any]:
        now_s = self._wall_clock()
        digest = base64.b64encode(upload.digest.hexdigest().encode()).decode()
        file = {
            "name": upload.name,
            "displayName": upload.display_name,
            "mimeType": upload.mime_type or "application/octet-stream",
            "sizeBytes": str(upload.size_bytes),
            "createTime": _time(now_s),
            "updateTime": _time(now_s),
            "expirationTime": _time(now_s + LIFETIME_S),
            "sha256Hash": digest,
            "uri": f"{origin}/{upload.version}/{upload.name}",
            "state": "ACTIVE",
            "source": "UPLOADED",
        }
        key = (upload.project, upload.name)
        if file["mimeType"].startswith("video/"):
            file["state"], self._active_s[key] = "PROCESSING", now_s + PROCESSING_S
        self._files[key] = {name: value for name, value in file.items() if value}
        self._expiry_s[key] = now_s + LIFETIME_S
        if len(self._files) > _MAX_FILES:
            oldest, _ = self._files.popitem(last=False)
            del self._expiry_s[oldest]
            self._active_s.pop(oldest, None)
        return self._files[key]


@dataclass(frozen=True, slots=True)
class OfProject:
    """The files of one project."""

    files: Files
    project: str

    def state(self, name: str) -> str | None:
        """None if there is no such file."""
        file = self.files.find(self.project, name)
        return None if file is None else str(file["state"])


def method_of(request: Request, file_id: str | None) -> str:
    """The method's name, for the statistics; "" for a method that the path does not have."""
    uploads = request.path.startswith("/upload/")
    methods = {"POST": "UploadFile"} if uploads else {"GET": "GetFile", "DELETE": "DeleteFile"}
    if not uploads and file_id is None:
        methods = {"GET": "ListFiles"}
    return methods.get(request.method, "") if not (uploads and file_id) else ""


def _text(described: Mapping[str, Any], *fields: str) -> str:
    return next((described[one] for one in fields if isinstance(described.get(one), str)), "")


def _time(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s)) + f".{int(unix_s % 1 * 1e6):06d}Z"
