"""What the gateway is compared with: the least that a function can do. It checks nothing, limits nothing, logs nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import aiohttp
import functions_framework.aio
import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

_MODELS = f"{os.environ.get('GEMINI_BASE_URL', '')}/v1beta/models"
_HEADERS = {"x-goog-api-key": os.environ.get("GEMINI_API_KEY", ""), "content-type": "application/json"}
_sessions: list[aiohttp.ClientSession] = []


@functions_framework.aio.http
async def passthrough(request: Request) -> Response:
    asked = orjson.loads(await request.body())
    native = orjson.dumps({"contents": [{"role": "user", "parts": [{"text": asked["prompt"]}]}]})
    if asked.get("stream"):
        return StreamingResponse(_events(asked["model"], native), media_type="text/event-stream")
    async with _session().post(f"{_MODELS}/{asked['model']}:generateContent", data=native, headers=_HEADERS) as answer:
        body = orjson.loads(await answer.read())
    return Response(orjson.dumps({"text": _text(body)}), answer.status, media_type="application/json")


async def _events(model: str, native: bytes) -> AsyncIterator[bytes]:
    url = f"{_MODELS}/{model}:streamGenerateContent?alt=sse"
    async with _session().post(url, data=native, headers=_HEADERS) as answer:
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield b"data: " + orjson.dumps({"text": _text(orjson.loads(line[6:]))}) + b"\n\n"


def _text(body: dict[str, list[dict[str, dict[str, list[dict[str, str]]]]]]) -> str:
    return "".join(part["text"] for part in body["candidates"][0]["content"]["parts"])


def _session() -> aiohttp.ClientSession:
    if not _sessions:
        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    return _sessions[0]
