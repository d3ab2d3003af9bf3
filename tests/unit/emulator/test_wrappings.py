"""How the offline Gemini wraps an answer when it is told to."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import brotli
import pytest

from shared.emulator.faults import BadDirective, parse_fault
from shared.emulator.wrappings import MAX_CHAIN, NAMES, chain_of, wrap

from .conftest import Asker

STREAM = "streamGenerateContent?alt=sse"
COUNTS = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")


async def sent(ask: Asker, fault: str, method: str = "generateContent") -> tuple[dict[str, str], bytes]:
    """Headers and body as they were sent."""
    async with ask.session.post(f"{ask.emulator.url}/emulator/faults", json={"fault": fault}) as response:
        assert response.status == 200
        assert (await response.json())["faults"] == [{"fault": fault, "count": 1, "model": None}]
    url = f"{ask.emulator.url}/v1beta/models/gemini-3.8-flash:{method}"
    document = {"contents": [{"parts": [{"text": "Hello"}]}]}
    async with ask.session.post(url, json=document, headers={"x-goog-api-key": "k"}, auto_decompress=False) as response:
        assert response.status == 200
        return dict(response.headers), await response.read()


@pytest.mark.parametrize("method", ["generateContent", STREAM])
@pytest.mark.parametrize(
    "name", sorted(NAMES - {"no-final-blank-line", "done-marker", "empty-data", "comments", "words"})
)
async def test_each_changes_what_is_sent(ask: Asker, name: str, method: str) -> None:
    plain = (await sent(ask, "sse" if method == STREAM else "object", method))[1]
    headers, body = await sent(ask, name, method)
    same_by_design = {"object", "usage-late"} if method == "generateContent" else {"sse"}
    only_a_header = {"gzip-mislabelled", "unknown-coding"}
    assert (strip(body) != strip(plain)) or name in same_by_design | only_a_header
    assert ("Content-Encoding" in headers) == (name in {"gzip", "deflate", "raw-deflate", "brotli"} | only_a_header)


def strip(body: bytes) -> bytes:
    """Without what is another in every answer."""
    return re.sub(rb'"responseId": ?"[^"]*"', b"", body)


@pytest.mark.parametrize(
    ("fault", "method", "content_type", "start", "end"),
    [
        ("sse", "generateContent", "text/event-stream", b"data: {", b"}\r\n\r\n"),
        ("array", STREAM, "application/json", b"[{", b"}\n]\n"),
        ("object", STREAM, "application/json", b"{", b"}"),
        ("lines", STREAM, "application/json", b"{", b"}\n"),
        ("done-marker", STREAM, "text/event-stream", b"data: {", b"}\r\n\r\ndata: [DONE]\n\n"),
        ("no-final-blank-line", STREAM, "text/event-stream", b"data: {", b"}"),
        ("empty-data", STREAM, "text/event-stream", b"data:\n\ndata: \r\n\r\ndata: {", b"}\r\n\r\n"),
        ("bom+guard", "generateContent", "application/json", b"\xef\xbb\xbf)]}'\n{", b"}"),
        ("stray-tail", "generateContent", "application/json", b"{", b"-->\0"),
        ("utf16", "generateContent", "application/json", b"\xff\xfe{\0", b"}\0"),
    ],
)
async def test_framing(ask: Asker, fault: str, method: str, content_type: str, start: bytes, end: bytes) -> None:
    headers, body = await sent(ask, fault, method)
    assert headers["Content-Type"].startswith(content_type)
    assert body.startswith(start)
    assert body.endswith(end)


async def test_codings_can_be_chained(ask: Asker) -> None:
    headers, body = await sent(ask, "nulls+gzip+brotli")
    assert headers["Content-Encoding"] == "gzip, br"
    document = json.loads(gzip.decompress(brotli.decompress(body)))
    assert document["candidates"][0]["index"] is None
    assert document["promptFeedback"] is None


async def test_a_chain_is_counted_by_prompt(ask: Asker) -> None:
    async def types() -> list[str]:
        async with ask.post("again [[fault:sse+bomx1]]") as response:
            return [response.content_type]

    assert [*await types(), *await types()] == ["text/event-stream", "application/json"]
    assert ask.emulator.stats()["faults"] == {"sse+bom": 1}


@pytest.mark.parametrize("text", ["bom+teapot", "bom+503", "bom+", "+bom", "+".join(["bom"] * (MAX_CHAIN + 1))])
def test_a_chain_of_unknown_names_is_rejected(text: str) -> None:
    with pytest.raises(BadDirective):
        parse_fault(text)


def test_other_fault_is_not_a_chain() -> None:
    assert chain_of("503") == ()
    assert parse_fault("bom+gzip@0.5x2").wrappings == ("bom", "gzip")


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("usage-missing", "absent"),
        ("usage-null", None),
        ("usage-empty", {"trafficType": "ON_DEMAND"}),
        ("usage-total", {"totalTokenCount": 10}),
        ("usage-text", dict(zip(COUNTS, ("7", "3", "0", "10"), strict=True))),
        ("usage-zero", dict.fromkeys(COUNTS, 0)),
        ("usage-negative", dict(zip(COUNTS, (-7, -3, -1, -10), strict=True))),
    ],
)
def test_forms_of_unknown_usage(name: str, usage: Any) -> None:
    counts = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}
    document: dict[str, Any] = {"candidates": [], "usageMetadata": counts}
    (chunk,) = wrap(document, [], [name], stream=False).chunks
    assert json.loads(chunk).get("usageMetadata", "absent") == usage
