"""The parts of Google's XML API that fake-gcs-server lacks and obstore uses: uploads in parts, and copies.

Source: cloud.google.com/storage/docs/xml-api (multipart uploads, `x-goog-copy-source`). Parts are kept here, and the whole
object is given to the fake; a copy is its own API's `rewriteTo`.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

_SEGMENT = re.compile(r"/?([^/]+)/(.*)")


@dataclass
class Upload:
    """An upload that is neither complete nor aborted. A lifecycle rule aborts it at Google's."""

    path: str
    headers: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


class GoogleXml:
    def __init__(self, target: str, session: aiohttp.ClientSession, put_query: str) -> None:
        self._target, self._session, self._put_query = target, session, put_query
        self.uploads: dict[str, Upload] = {}

    async def answer(self, request: web.Request, body: bytes) -> web.Response | None:
        """None for a request that the fake answers itself."""
        query, upload_id = request.query, request.query.get("uploadId", "")
        if request.method == "POST" and "uploads" in query:
            upload_id = secrets.token_hex(8)
            kept = {
                name: value
                for name, value in request.headers.items()
                if name.lower().startswith(("content-type", "x-"))
            }
            self.uploads[upload_id] = Upload(request.raw_path.partition("?")[0], kept)
            return _xml("InitiateMultipartUploadResult", UploadId=upload_id, Bucket="b", Key="k")
        if upload_id and request.method == "PUT":
            self.uploads[upload_id].parts[int(query["partNumber"])] = body
            return web.Response(headers={"etag": f'"part-{query["partNumber"]}"'})
        if upload_id and request.method == "POST":
            return await self._complete(self.uploads.pop(upload_id))
        if request.method == "PUT" and (source := request.headers.get("x-goog-copy-source")):
            return await self._copy(source, request.path)
        return None

    async def _complete(self, upload: Upload) -> web.Response:
        data = b"".join(upload.parts[number] for number in sorted(upload.parts))
        url = URL(f"{self._target}{upload.path}?{self._put_query}", encoded=True)
        async with self._session.put(url, data=data, headers=upload.headers) as answer:
            assert answer.status == 200, await answer.text()
        return _xml("CompleteMultipartUploadResult", Location="l", Bucket="b", Key="k", ETag='"whole"')

    async def _copy(self, source: str, path: str) -> web.Response:
        places = []
        for text in (URL(f"/{source.lstrip('/')}", encoded=True).path, path):
            found = _SEGMENT.fullmatch(text)
            assert found is not None, text
            places.append(f"b/{found[1]}/o/{quote(found[2], safe='')}")
        url = URL(f"{self._target}/storage/v1/{places[0]}/rewriteTo/{places[1]}", encoded=True)
        async with self._session.post(url) as answer:
            if answer.status != 200:
                return web.Response(status=answer.status)
        return _xml("CopyObjectResult", ETag='"copy"')


def _xml(root: str, **values: str) -> web.Response:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    return web.Response(
        text=f"<?xml version='1.0' encoding='UTF-8'?><{root}>{inner}</{root}>",
        content_type="application/xml",
        headers={"etag": values.get("ETag", '"none"')},
    )
